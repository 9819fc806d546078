//! Lag and queue bounds, for people and for metrics.

use crate::broker::api::{CatalogError, QueueLag, QueueSpan};
use crate::broker::verbs::Broker;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;

/// Counts of one group on one topic, cheap enough for every scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCounts {
    /// Group.
    pub group: GroupName,
    /// Topic.
    pub topic: TopicName,
    /// Deliverable now.
    pub ready: u64,
    /// With clients.
    pub in_flight: u64,
    /// Waiting for their next attempt.
    pub waiting: u64,
    /// When the oldest message known in memory that is not done was stored.
    pub oldest: Option<Timestamp>,
}

impl Broker {
    /// Bounds of every queue of a topic.
    #[must_use]
    pub fn queue_spans(&self, name: &TopicName) -> Option<Vec<QueueSpan>> {
        let topic = self.topic(name)?;
        let core = self.inner.core.lock();
        let tails = &core.topic(topic.id)?.tails;
        let span = |(queue, tail): (u32, &crate::broker::delivery::tail::QueueTail)| QueueSpan {
            queue: QueueId(queue),
            first: tail.first(),
            next: tail.visible(),
        };
        Some((0..).zip(tails).map(span).collect())
    }

    /// What a group still has to do, per topic and queue, in a fixed order.
    ///
    /// # Errors
    /// No such group, or the folded state cannot be read.
    pub async fn lag(&self, name: &GroupName) -> Result<Vec<QueueLag>, CatalogError> {
        let group = self.group(name).ok_or_else(|| CatalogError::NotFound(format!("consumer group {name}")))?;
        let mut lags = Vec::new();
        let mut lookups: Vec<(usize, TopicId, QueueId, QueueOffset)> = Vec::new();
        {
            let core = self.inner.core.lock();
            for state in core.topics() {
                let Some(subscription) = state.subscriptions.get(&group.id) else { continue };
                if let Some(lite) = &subscription.lite {
                    // All lite topics in one row: there may be a hundred thousand.
                    let totals = lite.totals();
                    let none = QueueOffset(0);
                    lags.push(QueueLag {
                        topic: state.topic.name.clone(),
                        span: QueueSpan { queue: QueueId::FIRST_LITE, first: none, next: none },
                        next: none,
                        ready: totals.ready,
                        in_flight: totals.leased,
                        waiting_retry: totals.waiting,
                        oldest: None,
                    });
                }
                for ((queue, tail), own) in (0..).zip(&state.tails).zip(&subscription.queues) {
                    let counts = own.leases.counts();
                    let next = own.leases.next();
                    let unseen = tail.visible().get().saturating_sub(next.get());
                    let mut oldest = own.leases.oldest_outstanding();
                    if oldest.is_none() && unseen > 0 {
                        oldest = tail.recent(next).map(|entry| entry.stored_at);
                        if oldest.is_none() {
                            lookups.push((lags.len(), state.topic.id, QueueId(queue), next));
                        }
                    }
                    lags.push(QueueLag {
                        topic: state.topic.name.clone(),
                        span: QueueSpan { queue: QueueId(queue), first: tail.first(), next: tail.visible() },
                        next,
                        ready: counts.ready + unseen,
                        in_flight: counts.leased,
                        waiting_retry: counts.waiting,
                        oldest,
                    });
                }
            }
        }
        let store = self.inner.store.clone();
        let found = self.inner.tasks.blocking(move || {
            let read = |(index, topic, queue, offset)| Ok((index, store.entry(topic, queue, offset)?));
            lookups.into_iter().map(read).collect::<Result<Vec<_>, crate::store::FoldError>>()
        });
        for (index, entry) in found.await.map_err(|error| CatalogError::Invalid(error.to_string()))? {
            lags[index].oldest = entry.map(|entry| entry.stored_at);
        }
        lags.sort_by(|a, b| (&a.topic, a.span.queue).cmp(&(&b.topic, b.span.queue)));
        Ok(lags)
    }

    /// About how many messages are held back until their time, and how many of their timers are in memory.
    #[must_use]
    pub fn delays(&self) -> (u64, usize) {
        (self.inner.store.delays_about(), self.inner.core.lock().delays.counts().0)
    }

    /// Counts of every group on every topic it reads.
    #[must_use]
    pub fn group_counts(&self) -> Vec<GroupCounts> {
        let core = self.inner.core.lock();
        let mut all = Vec::new();
        for state in core.topics() {
            for subscription in state.subscriptions.values() {
                let mut counts = GroupCounts {
                    group: subscription.group.name.clone(),
                    topic: state.topic.name.clone(),
                    ready: 0,
                    in_flight: 0,
                    waiting: 0,
                    oldest: None,
                };
                if let Some(lite) = &subscription.lite {
                    let totals = lite.totals();
                    counts.ready += totals.ready;
                    counts.in_flight += totals.leased;
                    counts.waiting += totals.waiting;
                }
                for (tail, own) in state.tails.iter().zip(&subscription.queues) {
                    let queue = own.leases.counts();
                    let next = own.leases.next();
                    counts.ready += queue.ready + tail.visible().get().saturating_sub(next.get());
                    counts.in_flight += queue.leased;
                    counts.waiting += queue.waiting;
                    let oldest =
                        own.leases.oldest_outstanding().or_else(|| tail.recent(next).map(|entry| entry.stored_at));
                    counts.oldest = match (counts.oldest, oldest) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                all.push(counts);
            }
        }
        all
    }
}
