//! Asking producers what became of their transactions, and showing operators which are open. Whoever is connected to producers
//! asks which topics have something due, takes some, and hands them over; only what was handed over counts.

use std::collections::HashSet;

use crate::broker::api::{
    Check, ClientId, OpenTransaction, TopicToCheck, TransactionError, TransactionFilter, TransactionPage,
};
use crate::broker::delivery::transactions::{Due, HalfKey, Known};
use crate::broker::members::holder_of;
use crate::broker::verbs::Broker;
use crate::model::name::TopicName;
use crate::model::position::TopicId;
use crate::model::time::Timestamp;
use crate::store::kv::half::HeldHalf;
use crate::store::record::{Record, Unit};

/// Rows that one look at the folded state reads.
const PAGE: usize = 1_024;
/// Most transactions of one answer, and rows read for it: a filter that matches little must not read everything at once.
const LISTED_MAX: usize = 1_000;
const PAGES_MAX: usize = 16;
/// Checks for which the sender itself is waited for while it lives.
const CHECKS_OF_SENDER: u32 = 2;
/// Most senders that are named at one look, of all topics together; of each topic at least one.
const SENDERS_NAMED: usize = 1_024;

impl Broker {
    /// Topics that have an undecided transaction whose producer is to be asked now, and who sent some: whoever is connected to a
    /// client may have seen none of its sends, and its settings need not say what it sends to.
    #[must_use]
    pub fn topics_to_check(&self) -> Vec<TopicToCheck> {
        let mut core = self.inner.core.lock();
        let due = core.transactions.topics_due(self.inner.clock.now());
        let each = (SENDERS_NAMED / due.len().max(1)).max(1);
        let named = due.into_iter().filter_map(|id| {
            let topic = core.topic(id)?.topic.clone();
            let senders = core.transactions.senders(id, each);
            Some(TopicToCheck { topic, senders: senders.into_iter().map(ClientId).collect() })
        });
        named.collect()
    }

    /// Takes at most `max` due checks of a topic, of messages of at most `bytes_max` bytes together as they are stored, unless
    /// one alone is larger: nothing beyond that is read. What is not handed over by [`Broker::hand_over_check`] comes again after
    /// 5 s.
    pub async fn due_checks(&self, topic: &TopicName, max: usize, bytes_max: usize) -> Vec<Check> {
        let Some(topic) = self.topic(topic) else { return Vec::new() };
        let due = self.inner.core.lock().transactions.take_due(topic.id, self.inner.clock.now(), max, bytes_max);
        let places: Vec<_> = due.iter().map(|due| due.at).collect();
        let read = self.inner.store.read_messages(&places).await;
        let mut checks = Vec::with_capacity(due.len());
        for (due, record) in due.into_iter().zip(read) {
            let Due { key, producer, checks: so_far, ticket, .. } = due;
            match record {
                Ok(record) => checks.push(Check {
                    topic: topic.name.clone(),
                    transaction_id: key.id,
                    producer,
                    checks: so_far,
                    message_group: record.message_group,
                    message: record.message,
                    topic_id: key.topic,
                    ticket,
                }),
                // It was moved on before retention took this place, or is looked at again.
                Err(error) => {
                    tracing::debug!(%error, topic = %topic.name, "a half message cannot be read for its check")
                }
            }
        }
        checks
    }

    /// Like [`Broker::due_checks`], for one of several who are connected to producers: without those that a live client sent
    /// which is not among `producers` and is to be asked first. They stay due, for whoever that client is connected to. Without
    /// `producers` all are given.
    pub async fn due_checks_of(
        &self,
        topic: &TopicName,
        producers: &HashSet<ClientId>,
        max: usize,
        bytes_max: usize,
    ) -> Vec<Check> {
        let mut given = self.due_checks(topic, max, bytes_max).await;
        let is_of_another = |check: &Check| {
            let sender = ClientId(check.producer.clone());
            check.checks < CHECKS_OF_SENDER
                && !producers.contains(&sender)
                && self.inner.members.knows(holder_of(&sender))
        };
        if !producers.is_empty() {
            let now = self.inner.clock.now();
            let of_others: Vec<Check> = given.extract_if(.., |check| is_of_another(check)).collect();
            let mut core = self.inner.core.lock();
            for check in of_others {
                let key = HalfKey { topic: check.topic_id, id: check.transaction_id };
                core.transactions.put_back(&key, check.ticket, now);
            }
        }
        given
    }

    /// Hands a check to a client, unless its transaction ended meanwhile. `hand_over` says whether the client took it; it is
    /// called under the lock, so that no check leaves after the end of its transaction was answered, and must not wait.
    pub fn hand_over_check(&self, check: &Check, hand_over: impl FnOnce() -> bool) -> bool {
        let key = HalfKey { topic: check.topic_id, id: check.transaction_id.clone() };
        let Ok(mut core) = self.inner.deciding() else { return false };
        if !core.transactions.may_deliver(&key, check.ticket) {
            return false;
        }
        let now = self.inner.clock.now();
        if !hand_over() {
            core.transactions.undelivered(&key, check.ticket, now);
            return false;
        }
        let counted = core.transactions.delivered(&key, check.ticket, now);
        self.record_check(key, counted);
        drop(core);
        self.inner.metrics.transaction_checked(check.topic.name());
        true
    }

    /// Counts a check as handed over, unless its transaction ended meanwhile: for one whose client is connected to another
    /// process, which sends it on at once or takes that back with [`Broker::unclaim_check`].
    pub fn claim_check(&self, check: &Check) -> bool {
        self.hand_over_check(check, || true)
    }

    /// A check that was claimed reached nobody, and does not count; or it was taken and cannot be claimed.
    pub fn unclaim_check(&self, check: &Check) {
        let key = HalfKey { topic: check.topic_id, id: check.transaction_id.clone() };
        let Ok(mut core) = self.inner.deciding() else { return };
        let now = self.inner.clock.now();
        if core.transactions.may_deliver(&key, check.ticket) {
            core.transactions.undelivered(&key, check.ticket, now);
            return;
        }
        let counted = core.transactions.taken_back(&key, check.checks, now);
        self.record_check(key, counted);
    }

    /// To be called under the lock under which it was counted.
    fn record_check(&self, key: HalfKey, counted: Option<(u32, Timestamp)>) {
        let Some((checks, next_check)) = counted else { return };
        let mut unit = Unit::state();
        unit.push(&Record::HalfChecked { topic: key.topic, id: key.id.to_string(), checks, next_check });
        if let Err(error) = self.inner.append_state(unit) {
            // Costs one check more after a restart, and nothing else.
            tracing::debug!(%error, "a check is not recorded");
        }
    }

    /// Number of undecided transactions of each topic that has some.
    #[must_use]
    pub fn pending_transactions(&self) -> Vec<(TopicName, u64)> {
        let core = self.inner.core.lock();
        let counts = core.transactions.pending_by_topic();
        let named = |(topic, count): (TopicId, usize)| Some((core.topic(topic)?.topic.name.clone(), count as u64));
        counts.into_iter().filter_map(named).collect()
    }

    /// Open transactions behind `after`, the `next` of an earlier page or empty; at most `max`, and never more than 1 000. A
    /// page may be short although another follows.
    ///
    /// # Errors
    /// The topic does not exist, `after` is no such text ([`TransactionError::Unknown`]), or the folded state cannot be read.
    pub async fn open_transactions(
        &self,
        topic: Option<&TopicName>,
        filter: TransactionFilter,
        after: &str,
        max: usize,
    ) -> Result<TransactionPage, TransactionError> {
        let only = match topic {
            Some(name) => Some(self.topic(name).ok_or_else(|| TransactionError::TopicNotFound(name.clone()))?.id),
            None => None,
        };
        let max = max.clamp(1, LISTED_MAX);
        let mut after = read_place(after)?.or_else(|| only.map(|topic| (topic, String::new())));
        let mut page = TransactionPage::default();
        for _ in 0..PAGES_MAX {
            let rows = self.held_page(after.clone()).await?;
            let is_last = rows.len() < PAGE;
            for row in rows {
                if only.is_some_and(|only| row.topic != only) {
                    return Ok(page);
                }
                after = Some((row.topic, row.id.clone()));
                page.transactions.extend(self.open_transaction(row, filter));
                if page.transactions.len() == max {
                    page.next = after.as_ref().map(write_place).unwrap_or_default();
                    return Ok(page);
                }
            }
            if is_last {
                return Ok(page);
            }
        }
        page.next = after.as_ref().map(write_place).unwrap_or_default();
        Ok(page)
    }

    pub(super) async fn held_page(&self, after: Option<(TopicId, String)>) -> Result<Vec<HeldHalf>, TransactionError> {
        let store = self.inner.store.clone();
        let page = self
            .inner
            .tasks
            .blocking(move || store.halves_after(after.as_ref().map(|(topic, id)| (*topic, id.as_str())), PAGE));
        page.await.map_err(|error| {
            tracing::warn!(%error, "open transactions cannot be read");
            TransactionError::ShardFailed
        })
    }

    /// What a row of the folded state says, unless memory knows better.
    fn open_transaction(&self, row: HeldHalf, filter: TransactionFilter) -> Option<OpenTransaction> {
        let core = self.inner.core.lock();
        let is_pending = match core.transactions.known(&HalfKey::new(row.topic, &row.id)) {
            Some(Known::Pending { .. }) => true,
            None if row.discarded_at.is_some() => false,
            // It ended, and the folded state will say so in a moment.
            Some(Known::Ended { .. }) if row.discarded_at.is_none() => return None,
            Some(Known::Ended { outcome, .. }) if outcome != crate::store::record::HalfOutcome::Discarded => {
                return None;
            }
            Some(Known::Ended { .. }) => false,
            None => return None,
        };
        let wanted = match filter {
            TransactionFilter::Pending => is_pending,
            TransactionFilter::Discarded => !is_pending,
            TransactionFilter::All => true,
        };
        let topic = core.topic(row.topic).filter(|_| wanted)?.topic.name.clone();
        let first = row.stored_at.plus(row.first_check_after);
        Some(OpenTransaction {
            topic,
            id: row.id,
            stored_at: row.stored_at,
            producer: row.producer,
            body_bytes: row.body_bytes,
            checks: row.checks.map_or(0, |checks| checks.count),
            next_check: is_pending.then(|| row.checks.map_or(first, |checks| checks.next)),
            discarded_at: row.discarded_at.filter(|_| !is_pending),
        })
    }
}

fn write_place((topic, id): &(TopicId, String)) -> String {
    format!("{topic}:{id}")
}

fn read_place(text: &str) -> Result<Option<(TopicId, String)>, TransactionError> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text.split_once(':').and_then(|(topic, id)| Some((TopicId(topic.parse().ok()?), id.to_owned())));
    place.map(Some).ok_or(TransactionError::Unknown)
}
