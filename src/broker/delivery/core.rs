//! The delivery state of one shard: topics, queues, subscriptions, timers. Guarded by one mutex, held for microseconds;
//! nothing here waits. Records go into the unit that the caller appends under the same lock, so that the order of decisions
//! is the order of the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::broker::delivery::ack_memory::AckMemory;
use crate::broker::delivery::fifo::Ordering;
use crate::broker::delivery::lease::Grant;
use crate::broker::delivery::lite::LiteTopics;
use crate::broker::delivery::shards::ShardOrder;
use crate::broker::delivery::subscription::{Missing, QueueState, Subscription};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::timers::Timers;
use crate::broker::delivery::transactions::{CheckPolicy, Transactions};
use crate::broker::delivery::verdicts::{Judges, Ruling};
use crate::broker::delivery::wait_list::{WaitList, WaiterId};
use crate::model::filter::Filter;
use crate::model::group::Group;
use crate::model::position::{GrantId, GroupId, LogPosition, QueueId, QueueOffset, RecordAt, TopicId};
use crate::model::properties::Properties;
use crate::model::time::Timestamp;
use crate::model::topic::{Growth, Topic};
use crate::store::QueueEntry;
use crate::store::record::MessageHead;

/// Timers in memory unless the options say otherwise.
const DELAYS_IN_MEMORY: usize = 65_536;

/// One topic.
#[derive(Debug)]
pub struct TopicState {
    /// Its settings.
    pub topic: Arc<Topic>,
    /// By queue id.
    pub tails: Vec<QueueTail>,
    /// Lite topics below it.
    pub lite: LiteTopics,
    /// By group.
    pub subscriptions: BTreeMap<GroupId, Subscription>,
    /// Pulls that wait at the end of a queue; no entry is empty.
    pub(super) pulls: BTreeMap<(QueueId, GroupId), WaitList>,
    /// Of a dead-letter topic: letters behind its first that were sent back or dropped.
    pub left: BTreeSet<QueueOffset>,
    /// How it got its queues, as far as messages from before are there.
    pub growths: Vec<Growth>,
    /// On which shards it lives and lived.
    pub shards: ShardOrder,
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
    pub missing: Option<(QueueId, Missing)>,
    /// Messages that expressions must be asked about.
    pub unjudged: Vec<(QueueId, QueueEntry)>,
    /// The expressions that members use.
    pub judges: Judges,
    /// Nothing was granted, but there is more to look at.
    pub more: bool,
}

/// Grants remembered as handed out again. What comes back of one does so within the life of a call.
const REPEATED_MAX: usize = 4_096;

/// The state.
#[derive(Debug)]
pub struct Core {
    pub(super) topics: BTreeMap<TopicId, TopicState>,
    pub(super) timer: BTreeSet<(Timestamp, TopicId, GroupId, QueueId)>,
    pub(super) condemned: VecDeque<Condemned>,
    pub(super) recent_order: VecDeque<(TopicId, QueueId)>,
    recent_max: usize,
    /// Lite topics of all topics.
    pub(super) lite_topics: usize,
    /// Highest queue that a lite topic had below a parent that was deleted: one of the same name must not use it again.
    pub(super) lite_retired: QueueId,
    pub(super) acks: AckMemory,
    /// Half messages.
    pub transactions: Transactions,
    /// Messages that are held back until their time.
    pub delays: Timers,
    /// Grants that were handed out again to the same attempt: whoever carried them the first time gives nothing of them back.
    pub(super) repeated: VecDeque<GrantId>,
    next_waiter: u64,
    /// Told when the earliest due instant moved forward.
    timer_changed: Arc<Notify>,
    /// Told when something was condemned.
    pub(super) condemned_added: Arc<Notify>,
    /// Told when a look may have met lanes that wait for another shard.
    pub far_wanted: Arc<Notify>,
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
            lite_topics: 0,
            lite_retired: QueueId(0),
            acks: AckMemory::default(),
            transactions: Transactions::new(CheckPolicy::default()),
            delays: Timers::new(DELAYS_IN_MEMORY),
            repeated: VecDeque::new(),
            next_waiter: 0,
            timer_changed,
            condemned_added,
            far_wanted: Arc::new(Notify::new()),
        }
    }

    /// Puts a topic in, or changes its settings; more queues widen it and every subscription.
    pub fn put_topic(&mut self, topic: Arc<Topic>, known: Option<Vec<QueueTail>>) {
        let count = topic.queues as usize;
        let retired = self.lite_retired;
        let state = self.topics.entry(topic.id).or_insert_with(|| TopicState {
            topic: topic.clone(),
            tails: known.unwrap_or_default(),
            lite: LiteTopics::behind(retired),
            subscriptions: BTreeMap::new(),
            pulls: BTreeMap::new(),
            left: BTreeSet::new(),
            growths: Vec::new(),
            shards: ShardOrder::default(),
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

    /// What the queues of a topic hold now, for the record of its growth: the next offset of each.
    #[must_use]
    pub fn fences(&self, topic: TopicId) -> Growth {
        let tails = self.topics.get(&topic).map_or(&[][..], |state| &state.tails);
        Growth { fences: tails.iter().map(QueueTail::accepted).collect() }
    }

    /// A topic has more queues from here on, or had at an earlier time.
    pub fn add_growth(&mut self, topic: TopicId, growth: Growth) {
        if let Some(state) = self.topics.get_mut(&topic) {
            state.growths.push(growth);
        }
    }

    /// Takes a topic out. Its waiting receives are woken, to find it gone.
    pub fn remove_topic(&mut self, topic: TopicId) {
        self.transactions.remove_topic(topic);
        if let Some(mut state) = self.topics.remove(&topic) {
            self.lite_topics -= state.lite.len();
            self.lite_retired = self.lite_retired.max(state.lite.highest().unwrap_or_default());
            for subscription in state.subscriptions.values_mut() {
                subscription.wake_all();
            }
            state.pulls.values_mut().for_each(WaitList::wake_all);
        }
    }

    /// A group's settings changed.
    pub fn put_group(&mut self, group: &Arc<Group>) {
        for state in self.topics.values_mut() {
            if let Some(subscription) = state.subscriptions.get_mut(&group.id) {
                subscription.group = group.clone();
                subscription.wake_all();
            }
            state.wake_pulls_of(group.id);
        }
    }

    /// A group is gone.
    pub fn remove_group(&mut self, group: GroupId) {
        for state in self.topics.values_mut() {
            if let Some(mut subscription) = state.subscriptions.remove(&group) {
                subscription.wake_all();
            }
            state.wake_pulls_of(group);
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
        Some(self.topics.get(&topic)?.tail(queue)?.accepted())
    }

    /// `count` offsets of a queue were given out; called only after the unit that carries them was taken by the log.
    pub fn accept(&mut self, topic: TopicId, queue: QueueId, count: u64) {
        if let Some(tail) = self.topics.get_mut(&topic).and_then(|state| state.tail_mut(queue)) {
            tail.accept(count);
        }
    }

    /// A message reached the rung that makes it visible: it enters its queue and wakes one waiting receive per group.
    pub fn show(&mut self, head: &MessageHead, at: RecordAt) {
        if head.queue.is_lite() {
            return self.show_lite(head, at);
        }
        let Some(state) = self.topics.get_mut(&head.topic) else { return };
        let Some(tail) = state.tails.get_mut(head.queue.get() as usize) else { return };
        if !tail.show(QueueEntry::of(head, at)) {
            return;
        }
        self.recent_order.push_back((head.topic, head.queue));
        for subscription in state.subscriptions.values_mut() {
            if !subscription.waiters.is_empty() {
                subscription.waiters.wake_for(head.tag_hash);
            }
        }
        let here = (head.queue, GroupId(0))..=(head.queue, GroupId(u32::MAX));
        for (_, pulls) in state.pulls.range_mut(here) {
            pulls.wake_every_for(head.tag_hash);
        }
    }

    /// Forgets the oldest entries beyond the bound. I-5: those above `folded` cannot be found elsewhere yet and stay.
    pub fn forget_recent(&mut self, folded: LogPosition) {
        while self.recent_order.len() > self.recent_max {
            let Some(&(topic, queue)) = self.recent_order.front() else { return };
            if let Some(tail) = self.topics.get_mut(&topic).and_then(|state| state.tail_mut(queue)) {
                match tail.oldest_recent() {
                    Some(entry) if entry.at.position >= folded => return,
                    Some(_) => tail.forget_oldest(),
                    None => {}
                }
            }
            self.recent_order.pop_front();
        }
    }

    /// Messages that an attempt id got before and still holds.
    #[must_use]
    pub fn repeat_attempt(
        &mut self,
        topic: TopicId,
        group: GroupId,
        key: u64,
        now: Timestamp,
    ) -> Vec<(QueueId, Grant)> {
        let grants =
            self.subscription(topic, group).map_or_else(Vec::new, |subscription| subscription.repeat_attempt(key, now));
        for (_, grant) in &grants {
            if self.repeated.len() >= REPEATED_MAX {
                self.repeated.pop_front();
            }
            if self.repeated.back() != Some(&grant.terms.grant) {
                self.repeated.push_back(grant.terms.grant);
            }
        }
        grants
    }

    /// Entries read from disk for a queue of a subscription.
    pub fn read_ahead(&mut self, topic: TopicId, group: GroupId, queue: QueueId, entries: Vec<QueueEntry>) {
        if let Some(subscription) = self.subscription_mut(topic, group) {
            subscription.read_ahead(queue, entries);
        }
    }

    /// Entries of one lane of a subscription, read from disk; they are all between `from` and `complete`.
    pub fn read_back(
        &mut self,
        (topic, group, queue): (TopicId, GroupId, QueueId),
        (order_key, from): (u64, QueueOffset),
        entries: &[QueueEntry],
        complete: QueueOffset,
    ) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let index = queue.get() as usize;
        let Some(tail) = state.tails.get(index) else { return };
        if let Some(own) = state.subscriptions.get_mut(&group).and_then(|known| known.queues.get_mut(index)) {
            own.leases.read_back(order_key, from, entries, complete, tail);
        }
    }

    /// Takes what expressions said about messages of a subscription.
    pub fn judged(&mut self, topic: TopicId, group: GroupId, judges: &Judges, rulings: &[Ruling]) {
        if let Some(subscription) = self.subscription_mut(topic, group) {
            subscription.judged(judges, rulings);
        }
    }

    /// Judges a message anew, from the properties themselves. Whether any member may want it.
    pub fn judge_again(
        &mut self,
        (topic, group, queue): (TopicId, GroupId, QueueId),
        entry: &QueueEntry,
        properties: &Properties<'_>,
        steady: Timestamp,
    ) -> bool {
        let subscription = self.subscription_mut(topic, group);
        subscription.is_some_and(|subscription| subscription.judge_again(queue, entry, properties, steady))
    }

    /// Makes a waiter id.
    pub fn new_waiter(&mut self) -> WaiterId {
        self.next_waiter += 1;
        WaiterId(self.next_waiter)
    }

    /// Number of receives of a group that wait on a topic.
    #[must_use]
    pub fn waiting(&self, topic: TopicId, group: GroupId) -> usize {
        self.subscription(topic, group).map_or(0, Subscription::waiting)
    }

    /// Enters a receive into the wait list, or marks it as waiting again.
    pub fn wait(&mut self, topic: TopicId, group: GroupId, id: WaiterId, filter: &Filter, notify: &Arc<Notify>) {
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
        let was_woken = subscription.leave(id);
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
        self.subscription_mut(topic, group)?.queue_mut(queue)
    }
}

impl TopicState {
    fn wake_pulls_of(&mut self, group: GroupId) {
        let of_group = self.pulls.iter_mut().filter(|((_, own), _)| *own == group);
        of_group.for_each(|(_, pulls)| pulls.wake_all());
    }
}

/// What a group is delivered in order on a topic (rule C13).
#[must_use]
pub fn ordering(group: &Group, topic: &Topic) -> Ordering {
    if group.is_ordered(topic.topic_type) { Ordering::PerGroup } else { Ordering::Free }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
