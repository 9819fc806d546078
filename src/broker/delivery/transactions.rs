//! Half messages that wait for the end of their transaction, and when their producers are asked about them. Pure: takes `now`,
//! says what is due, and is told what became of it.
//!
//! - **T-1** A pending half is either in `due` of its topic or in `last`, never in both.
//! - **T-2** Only a check that was handed to a client counts; one that was taken and not delivered comes due again soon.
//! - **T-3** A half that ended is not pending, so no check of it can be taken or counted any more.
//! - **T-4** An end is remembered here until the folded state knows it; so memory and fold together know every end.
//! - **T-5** `senders` counts the pending halves of each sender on each topic.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::model::position::{LogPosition, RecordAt, TopicId, UnitSeq};
use crate::model::time::Timestamp;
use crate::store::record::HalfOutcome;

/// After so long a check that was taken, and of which nothing was heard, is due again.
const TAKEN_FOR: Duration = Duration::from_secs(5);
/// After so long a check that could not be delivered is due again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// From where one look at the senders begins to where the next one does: an odd number near 2^64 divided by the golden ratio. So every
/// few looks are spread evenly over the circle of hashes, and so are every second one and every third, if several take turns.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// When producers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPolicy {
    /// Pause after the first check; it doubles with each.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// Delivered checks after which, and after one more pause, a half is given up.
    pub times: u32,
    /// Most pending halves.
    pub pending_max: usize,
    /// Ends remembered in memory.
    pub ends_max: usize,
}

impl Default for CheckPolicy {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(30),
            pause_max: Duration::from_secs(600),
            times: 15,
            pending_max: 100_000,
            ends_max: 65_536,
        }
    }
}

/// Which half message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HalfKey {
    /// Topic.
    pub topic: TopicId,
    /// Message id.
    pub id: Arc<str>,
}

impl HalfKey {
    /// The key of a message id on a topic.
    #[must_use]
    pub fn new(topic: TopicId, id: &str) -> Self {
        Self { topic, id: id.into() }
    }
}

/// A half message on its way in.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When it was stored.
    pub stored_at: Timestamp,
    /// How long after that its producer is left alone.
    pub first_check_after: Duration,
    /// Client that sent it.
    pub producer: Arc<str>,
    /// Unit that stores it; 0 for one of an earlier process.
    pub seq: UnitSeq,
}

/// What is known of a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It waits for the end of its transaction.
    Pending {
        /// Where it lies, once that is durable.
        at: Option<RecordAt>,
        /// Unit that stores it.
        seq: UnitSeq,
        /// Whether its producer was ever asked.
        was_checked: bool,
    },
    /// It ended.
    Ended {
        /// How.
        outcome: HalfOutcome,
        /// Unit that says so; 0 for one of an earlier process.
        seq: UnitSeq,
    },
}

/// A check that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Of which half.
    pub key: HalfKey,
    /// Where it lies.
    pub at: RecordAt,
    /// Client that sent it.
    pub producer: Arc<str>,
    /// Checks delivered so far.
    pub checks: u32,
    /// Names this taking; a later one supersedes it.
    pub ticket: u64,
}

#[derive(Debug)]
struct Pending {
    at: Option<RecordAt>,
    seq: UnitSeq,
    producer: Arc<str>,
    checks: u32,
    next: Timestamp,
    ticket: u64,
}

#[derive(Debug)]
struct End {
    outcome: HalfOutcome,
    seq: UnitSeq,
    /// Position of the record that says so, once that is durable.
    position: Option<LogPosition>,
    /// Number of this end in `end_order`.
    number: u64,
}

/// The pending halves and the latest ends.
#[derive(Debug)]
pub struct Transactions {
    policy: CheckPolicy,
    pending: HashMap<HalfKey, Pending>,
    due: BTreeMap<TopicId, BTreeSet<(Timestamp, Arc<str>)>>,
    /// Pending halves of each sender, in the order of a hash: in that of their names, many that differ little in the end would
    /// lie together, and a look that begins anywhere would mostly meet the same ones.
    senders: BTreeMap<(TopicId, u64, Arc<str>), usize>,
    /// Where the next look at the senders begins.
    senders_from: u64,
    /// Those that will not be asked about again.
    last: BTreeSet<(Timestamp, HalfKey)>,
    ends: HashMap<HalfKey, End>,
    end_order: VecDeque<(u64, HalfKey)>,
    next_number: u64,
}

impl Transactions {
    /// Nothing pending.
    #[must_use]
    pub fn new(policy: CheckPolicy) -> Self {
        Self {
            policy,
            pending: HashMap::new(),
            due: BTreeMap::new(),
            senders: BTreeMap::new(),
            senders_from: 0,
            last: BTreeSet::new(),
            ends: HashMap::new(),
            end_order: VecDeque::new(),
            next_number: 1,
        }
    }

    /// Whether so many more may become pending.
    #[must_use]
    pub fn has_room(&self, more: usize) -> bool {
        self.pending.len().saturating_add(more) <= self.policy.pending_max
    }

    /// Number of pending halves.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Number of pending halves of each topic that has some.
    #[must_use]
    pub fn pending_by_topic(&self) -> BTreeMap<TopicId, usize> {
        let mut counts: BTreeMap<TopicId, usize> = self.due.iter().map(|(topic, due)| (*topic, due.len())).collect();
        for (_, key) in &self.last {
            *counts.entry(key.topic).or_default() += 1;
        }
        counts
    }

    /// What is known of a half message here; what is not may still be known to the folded state.
    #[must_use]
    pub fn known(&self, key: &HalfKey) -> Option<Known> {
        if let Some(pending) = self.pending.get(key) {
            return Some(Known::Pending { at: pending.at, seq: pending.seq, was_checked: pending.checks > 0 });
        }
        self.ends.get(key).map(|end| Known::Ended { outcome: end.outcome, seq: end.seq })
    }

    /// A half message was handed to the log; only for one that is not known.
    pub fn admit(&mut self, key: HalfKey, arrival: Arrival) {
        let next = arrival.stored_at.plus(arrival.first_check_after);
        let Arrival { producer, seq, .. } = arrival;
        self.insert(key, Pending { at: None, seq, producer, checks: 0, next, ticket: 0 });
    }

    /// A pending half message of an earlier process.
    pub fn restore(&mut self, key: HalfKey, arrival: Arrival, at: RecordAt, checks: Option<(u32, Timestamp)>) {
        let first = arrival.stored_at.plus(arrival.first_check_after);
        let (checks, next) = checks.unwrap_or((0, first));
        let Arrival { producer, seq, .. } = arrival;
        self.insert(key, Pending { at: Some(at), seq, producer, checks, next, ticket: 0 });
    }

    /// A half message is durable here, or was moved here.
    pub fn placed(&mut self, key: &HalfKey, at: RecordAt) {
        if let Some(pending) = self.pending.get_mut(key) {
            pending.at = Some(at);
        }
    }

    /// A half message ended in the unit `seq`.
    pub fn end(&mut self, key: HalfKey, outcome: HalfOutcome, seq: UnitSeq) {
        if let Some(pending) = self.pending.remove(&key) {
            self.unschedule(&key, pending.next);
            self.sender_has_less(key.topic, pending.producer);
        }
        self.remember(key, outcome, seq, None);
    }

    /// An end of an earlier process.
    pub fn restore_end(&mut self, key: HalfKey, outcome: HalfOutcome) {
        self.remember(key, outcome, UnitSeq(0), Some(LogPosition(0)));
    }

    /// The record that says how a half message ended lies here.
    pub fn end_placed(&mut self, key: &HalfKey, position: LogPosition) {
        if let Some(end) = self.ends.get_mut(key) {
            end.position = Some(position);
        }
    }

    /// Forgets the oldest ends beyond the bound. T-4: those that the folded state does not know yet stay.
    pub fn forget_ends(&mut self, folded: LogPosition) {
        while let Some((number, key)) = self.end_order.front() {
            if let Some(end) = self.ends.get(key).filter(|end| end.number == *number) {
                let is_folded = end.position.is_some_and(|position| position < folded);
                if self.ends.len() <= self.policy.ends_max || !is_folded {
                    return;
                }
                self.ends.remove(key);
            }
            self.end_order.pop_front();
        }
    }

    /// Forgets that a half message was given up: it was settled by hand, or its time is over.
    pub fn forget_end(&mut self, key: &HalfKey) {
        self.ends.remove(key);
    }

    /// Topics with a check that is due.
    #[must_use]
    pub fn topics_due(&self, now: Timestamp) -> Vec<TopicId> {
        let is_due = |due: &BTreeSet<(Timestamp, Arc<str>)>| due.first().is_some_and(|(at, _)| *at <= now);
        self.due.iter().filter(|(_, due)| is_due(due)).map(|(topic, _)| *topic).collect()
    }

    /// Clients that sent pending halves of a topic; at most `max`, other ones at each look, so that after a while all were named.
    pub fn senders(&mut self, topic: TopicId, max: usize) -> Vec<Arc<str>> {
        self.senders_from = self.senders_from.wrapping_add(STRIDE);
        let nobody: Arc<str> = Arc::from("");
        let (first, from) = ((topic, 0, nobody.clone()), (topic, self.senders_from, nobody.clone()));
        let ahead = self.senders.range(from.clone()..).take_while(|((of, ..), _)| *of == topic);
        let behind = self.senders.range(first..from);
        ahead.chain(behind).take(max).map(|((_, _, sender), _)| sender.clone()).collect()
    }

    /// Takes at most `max` due checks of a topic, those that wait longest first, and no more than fit `bytes_max` bytes of the
    /// log; one alone may be larger. Each is due again after a while, unless it is counted before: whoever took it may be gone.
    pub fn take_due(&mut self, topic: TopicId, now: Timestamp, max: usize, bytes_max: usize) -> Vec<Due> {
        let mut taken: Vec<Due> = Vec::new();
        let mut bytes = 0usize;
        while taken.len() < max {
            let Some(due) = self.due.get_mut(&topic) else { break };
            let Some((at, id)) = due.first().filter(|(at, _)| *at <= now).cloned() else { break };
            let key = HalfKey { topic, id };
            let length = self.pending.get(&key).and_then(|pending| pending.at).map_or(0, |at| at.length as usize);
            if !taken.is_empty() && bytes.saturating_add(length) > bytes_max {
                break;
            }
            bytes = bytes.saturating_add(length);
            self.next_number += 1;
            let ticket = self.next_number;
            let next = now.plus(TAKEN_FOR);
            self.reschedule(&key, at, next);
            let Some(pending) = self.pending.get_mut(&key) else { continue };
            pending.next = next;
            pending.ticket = ticket;
            // Not durable yet, so its sender is still waiting: nobody can have lost the transaction.
            let Some(at) = pending.at else { continue };
            taken.push(Due { key, at, producer: pending.producer.clone(), checks: pending.checks, ticket });
        }
        taken
    }

    /// Whether a taken check may still be delivered.
    #[must_use]
    pub fn may_deliver(&self, key: &HalfKey, ticket: u64) -> bool {
        self.pending.get(key).is_some_and(|pending| pending.ticket == ticket)
    }

    /// A taken check was handed to a client: how often by now, and when the next one is due.
    pub fn delivered(&mut self, key: &HalfKey, ticket: u64, now: Timestamp) -> Option<(u32, Timestamp)> {
        let pending = self.pending.get_mut(key).filter(|pending| pending.ticket == ticket)?;
        let before = pending.next;
        pending.ticket = 0;
        pending.checks = pending.checks.saturating_add(1);
        let checks = pending.checks;
        let next = now.plus(self.policy.pause_after(checks));
        pending.next = next;
        self.unschedule(key, before);
        self.schedule(key, next, checks);
        Some((checks, next))
    }

    /// A taken check could not be handed to a client.
    pub fn undelivered(&mut self, key: &HalfKey, ticket: u64, now: Timestamp) {
        self.put_back(key, ticket, now.plus(RETRY_AFTER));
    }

    /// A taken check was not for the one who took it, and is due again at `next`.
    pub fn put_back(&mut self, key: &HalfKey, ticket: u64, next: Timestamp) {
        let Some(pending) = self.pending.get_mut(key).filter(|pending| pending.ticket == ticket) else { return };
        let before = pending.next;
        pending.ticket = 0;
        pending.next = next;
        self.reschedule(key, before, next);
    }

    /// A check that counts reached nobody after all; `before` is the count before it. The count, and when the next is due; nothing
    /// when another check has counted since.
    pub fn taken_back(&mut self, key: &HalfKey, before: u32, now: Timestamp) -> Option<(u32, Timestamp)> {
        let counted = |pending: &&mut Pending| pending.ticket == 0 && pending.checks == before.saturating_add(1);
        let pending = self.pending.get_mut(key).filter(counted)?;
        let was_due = pending.next;
        let next = now.plus(RETRY_AFTER);
        pending.checks = before;
        pending.next = next;
        self.unschedule(key, was_due);
        self.schedule(key, next, before);
        Some((before, next))
    }

    /// Halves that are to be given up; at most `max`.
    #[must_use]
    pub fn overdue(&self, now: Timestamp, max: usize) -> Vec<HalfKey> {
        self.last.iter().take_while(|(at, _)| *at <= now).take(max).map(|(_, key)| key.clone()).collect()
    }

    /// When the next half is to be given up.
    #[must_use]
    pub fn next_overdue(&self) -> Option<Timestamp> {
        self.last.first().map(|(at, _)| *at)
    }

    /// A topic is gone, and everything about it.
    pub fn remove_topic(&mut self, topic: TopicId) {
        self.due.remove(&topic);
        self.senders.retain(|(of, ..), _| *of != topic);
        self.last.retain(|(_, key)| key.topic != topic);
        self.pending.retain(|key, _| key.topic != topic);
        self.ends.retain(|key, _| key.topic != topic);
    }

    fn insert(&mut self, key: HalfKey, pending: Pending) {
        if let Some(before) = self.pending.remove(&key) {
            self.unschedule(&key, before.next);
            self.sender_has_less(key.topic, before.producer);
        }
        // A trace of one with the same id is older: it ended before this one was stored.
        self.ends.remove(&key);
        self.schedule(&key, pending.next, pending.checks);
        *self.senders.entry(sender_key(key.topic, pending.producer.clone())).or_default() += 1;
        self.pending.insert(key, pending);
    }

    fn sender_has_less(&mut self, topic: TopicId, sender: Arc<str>) {
        let key = sender_key(topic, sender);
        if let Some(count) = self.senders.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&key);
            }
        }
    }

    fn remember(&mut self, key: HalfKey, outcome: HalfOutcome, seq: UnitSeq, position: Option<LogPosition>) {
        self.next_number += 1;
        let number = self.next_number;
        self.end_order.push_back((number, key.clone()));
        self.ends.insert(key, End { outcome, seq, position, number });
    }

    fn schedule(&mut self, key: &HalfKey, next: Timestamp, checks: u32) {
        if checks >= self.policy.times {
            self.last.insert((next, key.clone()));
        } else {
            self.due.entry(key.topic).or_default().insert((next, key.id.clone()));
        }
    }

    fn reschedule(&mut self, key: &HalfKey, before: Timestamp, next: Timestamp) {
        if let Some(due) = self.due.get_mut(&key.topic) {
            due.remove(&(before, key.id.clone()));
            due.insert((next, key.id.clone()));
        }
    }

    fn unschedule(&mut self, key: &HalfKey, at: Timestamp) {
        if let Some(due) = self.due.get_mut(&key.topic) {
            due.remove(&(at, key.id.clone()));
            if due.is_empty() {
                self.due.remove(&key.topic);
            }
        }
        if !self.last.is_empty() {
            self.last.remove(&(at, key.clone()));
        }
    }
}

fn sender_key(topic: TopicId, sender: Arc<str>) -> (TopicId, u64, Arc<str>) {
    let mut hasher = DefaultHasher::new();
    sender.hash(&mut hasher);
    (topic, hasher.finish(), sender)
}

impl CheckPolicy {
    /// Pause after the check that makes it `checks`.
    #[must_use]
    pub fn pause_after(&self, checks: u32) -> Duration {
        let factor = 1u32.checked_shl(checks.saturating_sub(1)).unwrap_or(u32::MAX);
        self.pause.saturating_mul(factor).min(self.pause_max)
    }
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;
