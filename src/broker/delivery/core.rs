//! The delivery state of one shard: topics, queues, subscriptions, timers. Guarded by one mutex, held for microseconds;
//! nothing here waits. Records go into the unit that the caller appends under the same lock, so that the order of decisions
//! is the order of the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::broker::delivery::ack_memory::AckMemory;
use crate::broker::delivery::lease::Grant;
use crate::broker::delivery::subscription::{QueueState, Subscription, Wish};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::wait_list::WaiterId;
use crate::model::group::Group;
use crate::model::position::{GroupId, LogPosition, QueueId, QueueOffset, RecordAt, TopicId};
use crate::model::tag::TagFilter;
use crate::model::time::Timestamp;
use crate::model::topic::{Topic, TopicType};
use crate::store::QueueEntry;
use crate::store::record::{LeaseState, MessageHead, Record, SettleReason, Unit};

/// Skipped entries after which the position is recorded although nothing was granted; losing less only costs a second look.
const ADVANCE_RECORD_EVERY: u64 = 1024;

/// One topic.
#[derive(Debug)]
pub struct TopicState {
    /// Its settings.
    pub topic: Arc<Topic>,
    /// By queue id.
    pub tails: Vec<QueueTail>,
    /// By group.
    pub subscriptions: BTreeMap<GroupId, Subscription>,
    /// Of a dead-letter topic: letters behind its first that were sent back or dropped.
    pub left: BTreeSet<QueueOffset>,
    turn: u32,
}

/// A message that has used up its attempts, to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Topic.
    pub topic: TopicId,
    /// Group.
    pub group: GroupId,
    /// Queue.
    pub queue: QueueId,
    /// Message.
    pub offset: QueueOffset,
}

/// What a receive got.
#[derive(Debug, Default)]
pub struct Selection {
    /// Messages, with their queues.
    pub grants: Vec<(QueueId, Grant)>,
    /// Set when nothing was granted because entries must be read from disk first.
    pub missing: Option<(QueueId, QueueOffset)>,
    /// Nothing was granted, but there is more to look at.
    pub more: bool,
}

/// The state.
#[derive(Debug)]
pub struct Core {
    pub(super) topics: BTreeMap<TopicId, TopicState>,
    pub(super) timer: BTreeSet<(Timestamp, TopicId, GroupId, QueueId)>,
    pub(super) condemned: VecDeque<Condemned>,
    recent_order: VecDeque<(TopicId, QueueId)>,
    recent_max: usize,
    pub(super) acks: AckMemory,
    next_waiter: u64,
    /// Told when the earliest due instant moved forward.
    timer_changed: Arc<Notify>,
    /// Told when something was condemned.
    pub(super) condemned_added: Arc<Notify>,
}

impl Core {
    /// Empty state that keeps at most `recent_max` queue entries in memory.
    #[must_use]
    pub fn new(recent_max: usize, timer_changed: Arc<Notify>, condemned_added: Arc<Notify>) -> Self {
        Self {
            topics: BTreeMap::new(),
            timer: BTreeSet::new(),
            condemned: VecDeque::new(),
            recent_order: VecDeque::new(),
            recent_max,
            acks: AckMemory::default(),
            next_waiter: 0,
            timer_changed,
            condemned_added,
        }
    }

    /// Puts a topic in, or changes its settings; more queues widen it and every subscription.
    pub fn put_topic(&mut self, topic: Arc<Topic>, known: Option<Vec<QueueTail>>) {
        let count = topic.queues as usize;
        let state = self.topics.entry(topic.id).or_insert_with(|| TopicState {
            topic: topic.clone(),
            tails: known.unwrap_or_default(),
            subscriptions: BTreeMap::new(),
            left: BTreeSet::new(),
            turn: 0,
        });
        state.topic = topic;
        while state.tails.len() < count {
            state.tails.push(QueueTail::default());
        }
        for subscription in state.subscriptions.values_mut() {
            while subscription.queues.len() < count {
                subscription.queues.push(QueueState::default());
            }
        }
    }

    /// Takes a topic out. Its waiting receives are woken, to find it gone.
    pub fn remove_topic(&mut self, topic: TopicId) {
        if let Some(mut state) = self.topics.remove(&topic) {
            for subscription in state.subscriptions.values_mut() {
                subscription.waiters.wake_all();
            }
        }
    }

    /// A group's settings changed.
    pub fn put_group(&mut self, group: &Arc<Group>) {
        for state in self.topics.values_mut() {
            if let Some(subscription) = state.subscriptions.get_mut(&group.id) {
                subscription.group = group.clone();
                subscription.waiters.wake_all();
            }
        }
    }

    /// A group is gone.
    pub fn remove_group(&mut self, group: GroupId) {
        for state in self.topics.values_mut() {
            if let Some(mut subscription) = state.subscriptions.remove(&group) {
                subscription.waiters.wake_all();
            }
        }
    }

    /// Puts a subscription in, as the folded state or its first receive says.
    pub fn put_subscription(&mut self, topic: TopicId, subscription: Subscription) {
        let group = subscription.group.id;
        let queues = subscription.queues.len();
        if let Some(state) = self.topics.get_mut(&topic) {
            state.subscriptions.insert(group, subscription);
            for queue in 0..queues {
                self.schedule(topic, group, QueueId(u32::try_from(queue).unwrap_or(u32::MAX)));
            }
        }
    }

    /// Dead letters have left their topic.
    pub fn letters_left(&mut self, topic: TopicId, letters: impl IntoIterator<Item = QueueOffset>) {
        if let Some(state) = self.topics.get_mut(&topic) {
            state.left.extend(letters);
        }
    }

    /// One topic.
    #[must_use]
    pub fn topic(&self, topic: TopicId) -> Option<&TopicState> {
        self.topics.get(&topic)
    }

    /// All topics.
    pub fn topics(&self) -> impl Iterator<Item = &TopicState> {
        self.topics.values()
    }

    /// Whether a group has state on a topic.
    #[must_use]
    pub fn is_subscribed(&self, topic: TopicId, group: GroupId) -> bool {
        self.topics.get(&topic).is_some_and(|state| state.subscriptions.contains_key(&group))
    }

    /// The queue for the next request without a message group.
    pub fn next_queue(&mut self, topic: TopicId) -> Option<QueueId> {
        let state = self.topics.get_mut(&topic)?;
        state.turn = state.turn.wrapping_add(1);
        Some(QueueId(state.turn % u32::try_from(state.tails.len().max(1)).unwrap_or(1)))
    }

    /// The offset that the next accepted message of a queue gets.
    #[must_use]
    pub fn accepted(&self, topic: TopicId, queue: QueueId) -> Option<QueueOffset> {
        Some(self.topics.get(&topic)?.tails.get(queue.get() as usize)?.accepted())
    }

    /// `count` offsets of a queue were given out; called only after the unit that carries them was taken by the log.
    pub fn accept(&mut self, topic: TopicId, queue: QueueId, count: u64) {
        if let Some(tail) = self.topics.get_mut(&topic).and_then(|state| state.tails.get_mut(queue.get() as usize)) {
            tail.accept(count);
        }
    }

    /// A message reached the rung that makes it visible: it enters its queue and wakes one waiting receive per group.
    pub fn show(&mut self, head: &MessageHead, at: RecordAt) {
        let Some(state) = self.topics.get_mut(&head.topic) else { return };
        let Some(tail) = state.tails.get_mut(head.queue.get() as usize) else { return };
        let entry = QueueEntry {
            offset: head.offset,
            at,
            tag_hash: head.tag_hash,
            stored_at: head.stored_at,
            body_bytes: head.body_bytes,
        };
        if !tail.show(entry) {
            return;
        }
        self.recent_order.push_back((head.topic, head.queue));
        for subscription in state.subscriptions.values_mut() {
            if !subscription.waiters.is_empty() {
                subscription.waiters.wake_for(head.tag_hash);
            }
        }
    }

    /// Forgets the oldest entries beyond the bound. I-5: those above `folded` cannot be found elsewhere yet and stay.
    pub fn forget_recent(&mut self, folded: LogPosition) {
        while self.recent_order.len() > self.recent_max {
            let Some(&(topic, queue)) = self.recent_order.front() else { return };
            if let Some(tail) = self.topics.get_mut(&topic).and_then(|state| state.tails.get_mut(queue.get() as usize))
            {
                match tail.oldest_recent() {
                    Some(entry) if entry.at.position >= folded => return,
                    Some(_) => tail.forget_oldest(),
                    None => {}
                }
            }
            self.recent_order.pop_front();
        }
    }

    /// Looks for messages. Grants and positions go into `unit`.
    pub fn select(&mut self, wish: &Wish<'_>, now: Timestamp, unit: &mut Unit) -> Selection {
        let mut selection = Selection::default();
        let Some(state) = self.topics.get_mut(&wish.topic) else { return selection };
        if state.topic.topic_type == TopicType::Priority {
            return self.select_by_level(wish, now, unit);
        }
        let Some(subscription) = state.subscriptions.get_mut(&wish.group) else { return selection };
        subscription.note_filter(wish.filter, wish.steady);
        let mut missing = None;
        let mut touched = Vec::new();
        for index in subscription.order() {
            let Some(tail) = state.tails.get(index) else { continue };
            let left = wish.max - selection.grants.len();
            if left == 0 {
                break;
            }
            let queue = QueueId(u32::try_from(index).unwrap_or(u32::MAX));
            let look = subscription.look(index, tail, wish, left, wish.steady);
            if missing.is_none() {
                missing = look.missing.map(|offset| (queue, offset));
            }
            selection.more |= look.more;
            if !look.unwanted.is_empty() {
                let settled = look.unwanted.iter().map(|offset| (queue, *offset)).collect();
                Self::record_settled(wish.topic, wish.group, SettleReason::Skipped, settled, unit);
            }
            if !look.set_aside.is_empty() {
                // Those it was set aside for may have looked just before, and found nothing.
                subscription.waiters.wake_one_per_filter();
            }
            if !look.grants.is_empty() || !look.set_aside.is_empty() {
                touched.push(queue);
            }
            let place = (wish.group, wish.topic, queue);
            record_look(
                &mut subscription.queues[index],
                place,
                &look.grants,
                &look.set_aside,
                wish.terms.state(),
                unit,
            );
            selection.grants.extend(look.grants.into_iter().map(|grant| (queue, grant)));
        }
        if selection.grants.is_empty() {
            selection.missing = missing;
        } else {
            selection.more = false;
            if wish.terms.attempt_key != 0 {
                let given =
                    selection.grants.iter().map(|(queue, grant)| (*queue, grant.entry.offset, grant.terms.grant));
                subscription.note_attempt(wish.terms.attempt_key, given.collect(), now);
            }
        }
        for queue in touched {
            self.schedule(wish.topic, wish.group, queue);
        }
        selection
    }

    /// Messages that an attempt id got before and still holds.
    #[must_use]
    pub fn repeat_attempt(&self, topic: TopicId, group: GroupId, key: u64, now: Timestamp) -> Vec<(QueueId, Grant)> {
        self.subscription(topic, group).map_or_else(Vec::new, |subscription| subscription.repeat_attempt(key, now))
    }

    /// Entries read from disk for a queue of a subscription.
    pub fn read_ahead(&mut self, topic: TopicId, group: GroupId, queue: QueueId, entries: Vec<QueueEntry>) {
        if let Some(subscription) = self.subscription_mut(topic, group) {
            subscription.read_ahead(queue.get() as usize, entries);
        }
    }

    /// Makes a waiter id.
    pub fn new_waiter(&mut self) -> WaiterId {
        self.next_waiter += 1;
        WaiterId(self.next_waiter)
    }

    /// Number of receives of a group that wait on a topic.
    #[must_use]
    pub fn waiting(&self, topic: TopicId, group: GroupId) -> usize {
        self.subscription(topic, group).map_or(0, |subscription| subscription.waiters.len())
    }

    /// Enters a receive into the wait list, or marks it as waiting again.
    pub fn wait(&mut self, topic: TopicId, group: GroupId, id: WaiterId, filter: &TagFilter, notify: &Arc<Notify>) {
        let Some(subscription) = self.subscription_mut(topic, group) else {
            // The topic or group went away between two looks; the receive must look again and find out.
            notify.notify_one();
            return;
        };
        subscription.waiters.enter(id, filter, notify);
    }

    /// Takes a receive out of the wait list; if more can be delivered, or it had been woken, the next is woken.
    pub fn leave(&mut self, topic: TopicId, group: GroupId, id: WaiterId) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(subscription) = state.subscriptions.get_mut(&group) else { return };
        let was_woken = subscription.waiters.leave(id);
        if !subscription.waiters.is_empty() && (was_woken || subscription.has_deliverable(&state.tails)) {
            subscription.waiters.wake_one_per_filter();
        }
    }

    pub(super) fn schedule(&mut self, topic: TopicId, group: GroupId, queue: QueueId) {
        let Some(state) = self.queue_mut(topic, group, queue) else { return };
        let Some(due) = state.leases.next_due() else { return };
        if state.scheduled.is_some_and(|scheduled| scheduled <= due) {
            return;
        }
        let before = state.scheduled.replace(due);
        if let Some(before) = before {
            self.timer.remove(&(before, topic, group, queue));
        }
        let is_earliest = self.timer.first().is_none_or(|(at, ..)| due < *at);
        self.timer.insert((due, topic, group, queue));
        if is_earliest {
            self.timer_changed.notify_one();
        }
    }

    pub(super) fn subscription(&self, topic: TopicId, group: GroupId) -> Option<&Subscription> {
        self.topics.get(&topic)?.subscriptions.get(&group)
    }

    pub(super) fn subscription_mut(&mut self, topic: TopicId, group: GroupId) -> Option<&mut Subscription> {
        self.topics.get_mut(&topic)?.subscriptions.get_mut(&group)
    }

    pub(super) fn queue_mut(&mut self, topic: TopicId, group: GroupId, queue: QueueId) -> Option<&mut QueueState> {
        self.subscription_mut(topic, group)?.queues.get_mut(queue.get() as usize)
    }
}

/// Writes what a look decided. I-4: whenever a slot comes into being, `next` is recorded in the same unit: a restart must never
/// find a slot at or above `next`, or it would offer that message a second time as a new one.
pub(super) fn record_look(
    state: &mut QueueState,
    (group, topic, queue): (GroupId, TopicId, QueueId),
    grants: &[Grant],
    set_aside: &[QueueOffset],
    lease: LeaseState,
    unit: &mut Unit,
) {
    let next = state.leases.next();
    for &offset in set_aside {
        let lease = LeaseState::Waiting { visible_at: Timestamp(0) };
        unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt: 0, lease });
    }
    if !grants.is_empty() {
        let items = grants.iter().map(|grant| (grant.entry.offset, grant.attempt)).collect();
        unit.push(&Record::Granted { group, topic, queue, next, lease, items });
    } else if !set_aside.is_empty() || next.get().saturating_sub(state.recorded_next.get()) >= ADVANCE_RECORD_EVERY {
        unit.push(&Record::Advanced { group, topic, queue, next });
    } else {
        return;
    }
    state.recorded_next = next;
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
