//! Pull: messages of one queue from an offset on, in order, without lease and without ack. Where a puller stands is its own
//! business; it may tell by [`Broker::update_offset`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::api::{Delivered, OffsetError, Pull, Pulled};
use crate::broker::delivery::gather::{Gather, Stop};
use crate::broker::delivery::subscription::READ_AHEAD;
use crate::broker::delivery::verdicts::{Judges, Ruling};
use crate::broker::delivery::wait_list::WaiterId;
use crate::broker::judging::Case;
use crate::broker::members::holder_of;
use crate::broker::offsets::in_bounds;
use crate::broker::receive::{LOOKS_AT_LEAST, origin_of};
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::position::{GroupId, QueueId, QueueOffset, RecordAt, TopicId};
use crate::model::topic::Topic;
use crate::store::record::MessageRecord;
use crate::store::{QueueEntry, ReadError};

/// A pull in the wait list; leaves it when dropped.
struct Parked<'a> {
    broker: &'a Broker,
    place: (TopicId, GroupId, QueueId),
    id: WaiterId,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let (topic, group, queue) = self.place;
        self.broker.inner.core.lock().leave_pulls(topic, group, queue, self.id);
    }
}

impl Broker {
    /// Waits for messages up to `pull.wait`. No message means that none was wanted and there all that time, or that the broker
    /// is shutting down; `next` may have moved all the same, past messages that the filter does not want.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn pull(&self, pull: Pull) -> Result<Pulled, OffsetError> {
        let holder = holder_of(&pull.client);
        let live = self.inner.members.open(holder, self.inner.clock.steady());
        let pulled = self.pull_while_alive(&pull).await;
        drop(live);
        self.inner.members.seen(holder, false, self.inner.clock.steady());
        pulled
    }

    async fn pull_while_alive(&self, pull: &Pull) -> Result<Pulled, OffsetError> {
        let (topic, group) = self.check_pull(pull).await?;
        let _share = self.inner.pollers.try_take(1).ok_or(OffsetError::Overloaded)?;
        let place = (topic.id, group.id, pull.queue);
        let started = self.inner.clock.mark();
        let looks_for = pull.wait.max(LOOKS_AT_LEAST);
        let notify = Arc::new(Notify::new());
        let mut parked: Option<Parked<'_>> = None;
        let mut gather = Gather::new(&pull.filter, pull.batch.max(1), pull.offset);
        let mut may_wait = true;
        loop {
            self.check_still_there(&topic, &group)?;
            let stop = self.look(place, &mut gather, may_wait, &notify, &mut parked)?;
            let tired = started.elapsed() > looks_for || self.inner.shutdown.is_draining();
            match stop {
                // A long way through messages that nobody here wants must not outlast the client's patience.
                Stop::Disk(from) if !tired => {
                    self.offer_from_disk(&topic, pull.queue, from, &mut gather).await?;
                    continue;
                }
                Stop::More if !tired => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Stop::End if gather.found.is_empty() && may_wait => {
                    // One more look when the time is up: what does not match wakes nobody, but it need not be seen again.
                    may_wait = self.wait(pull.wait.saturating_sub(started.elapsed()), &notify).await;
                    continue;
                }
                Stop::Full | Stop::End | Stop::Disk(_) | Stop::More => {}
            }
            let found = !gather.found.is_empty();
            let pulled = self.read(&topic, &group, pull.queue, &gather).await?;
            if !pulled.messages.is_empty() || !found || !may_wait || tired {
                return Ok(pulled);
            }
            gather.clear();
        }
    }

    async fn check_pull(&self, pull: &Pull) -> Result<(Arc<Topic>, Arc<Group>), OffsetError> {
        let topic = self.topic_with(&pull.topic, pull.queue)?;
        if !topic.permission.readable {
            return Err(OffsetError::NotReadable(pull.topic.clone()));
        }
        in_bounds(&self.inner.core.lock(), &topic, pull.queue, pull.offset)?;
        let group = match self.group(&pull.group) {
            Some(group) => group,
            None => self.group_at_first_use(&pull.group).await?,
        };
        if group.enabled { Ok((topic, group)) } else { Err(OffsetError::GroupDisabled(pull.group.clone())) }
    }

    /// One look under the lock. When nothing is there, the pull is in the wait list before the lock is released, so that no
    /// arrival can be missed.
    fn look<'a>(
        &'a self,
        place: (TopicId, GroupId, QueueId),
        gather: &mut Gather<'_>,
        may_wait: bool,
        notify: &Arc<Notify>,
        parked: &mut Option<Parked<'a>>,
    ) -> Result<Stop, OffsetError> {
        let (topic, group, queue) = place;
        let mut core = self.inner.core.lock();
        let tail = core.topic(topic).and_then(|state| state.tails.get(queue.get() as usize));
        // Gone a moment ago: the next look at the catalogue finds out.
        let Some(tail) = tail else { return Ok(Stop::More) };
        let stop = gather.look(tail);
        if stop == Stop::End && gather.found.is_empty() && may_wait {
            let id = match parked {
                Some(parked) => parked.id,
                None if core.pulls_waiting(topic, group, queue) >= self.inner.options.pollers_per_group_max => {
                    return Err(OffsetError::Overloaded);
                }
                None => core.new_waiter(),
            };
            core.wait_to_pull(place, id, gather.filter(), notify);
            if parked.is_none() {
                *parked = Some(Parked { broker: self, place, id });
            }
        }
        Ok(stop)
    }

    async fn offer_from_disk(
        &self,
        topic: &Topic,
        queue: QueueId,
        from: QueueOffset,
        gather: &mut Gather<'_>,
    ) -> Result<(), OffsetError> {
        let (store, id) = (self.inner.store.clone(), topic.id);
        let entries = self.inner.tasks.blocking(move || store.entries(id, queue, from, READ_AHEAD)).await;
        let entries = entries.map_err(|error| OffsetError::ShardFailed(error.to_string()))?;
        if entries.first().is_none_or(|entry| entry.offset != from) {
            let core = self.inner.core.lock();
            let tail = core.topic(id).and_then(|state| state.tails.get(queue.get() as usize));
            if tail.is_some_and(|tail| tail.first() <= from) {
                // Neither in memory nor in the folded state, and not out of retention: a puller must not pass it silently.
                let text = format!("queue entry {from} of queue {queue} of topic {} is missing", topic.name);
                return Err(OffsetError::ShardFailed(text));
            }
            return Ok(());
        }
        entries.into_iter().for_each(|entry| gather.offer(entry));
        Ok(())
    }

    /// Those that the filter wants, as far as that can be said without their bodies.
    async fn chosen(&self, queue: QueueId, gather: &Gather<'_>) -> Vec<QueueEntry> {
        let Some(sql) = gather.filter().sql() else { return gather.found.clone() };
        let entries = gather.found.iter().map(|entry| (queue, *entry)).collect();
        let case = Case { judges: Judges::new(vec![(0, sql.clone())]), entries };
        let (_, rulings) = self.rulings(case).await;
        let wanted = |(_, (_, _, verdict)): &(&QueueEntry, Ruling)| verdict.wanted != 0;
        gather.found.iter().zip(rulings).filter(wanted).map(|(entry, _)| *entry).collect()
    }

    /// Reads the messages; one whose tag only looked right by its hash, or that is out of retention by now, is passed over.
    async fn read(
        &self,
        topic: &Topic,
        group: &Group,
        queue: QueueId,
        gather: &Gather<'_>,
    ) -> Result<Pulled, OffsetError> {
        let found = self.chosen(queue, gather).await;
        let places: Vec<RecordAt> = found.iter().map(|entry| entry.at).collect();
        let records = self.inner.store.read_messages(&places).await;
        let mut pulled = Pulled { messages: Vec::with_capacity(records.len()), next: gather.next };
        for (entry, record) in found.iter().zip(records) {
            match record {
                Ok(record) if gather.filter().confirms(&record.message.tag, &record.properties()) => {
                    let bytes = u64::from(record.body_bytes);
                    self.inner.metrics.messages_out(topic.name.name(), group.name.name(), false, 1, bytes);
                    pulled.messages.push(delivered(record));
                }
                Ok(_) | Err(ReadError::Gone { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, topic = %topic.name, %queue, offset = %entry.offset, "a message cannot be read");
                    if pulled.messages.is_empty() {
                        return Err(OffsetError::ShardFailed(error.to_string()));
                    }
                    // The next pull begins with it and hears of it.
                    pulled.next = entry.offset;
                    break;
                }
            }
        }
        Ok(pulled)
    }
}

/// Nobody's delivery: no handle, no lease, and always the first attempt.
fn delivered(record: MessageRecord) -> Delivered {
    Delivered {
        handle: String::new(),
        attempt: 1,
        queue: record.queue,
        offset: record.offset,
        invisible: Duration::ZERO,
        message_type: record.message_type,
        origin: origin_of(record.origin),
        message_group: record.message_group,
        message: record.message,
    }
}
