//! The delivery state of one shard: topics, queues, subscriptions, timers. Guarded by one mutex, held for microseconds;
//! nothing here waits. Records go into the unit that the caller appends under the same lock, so that the order of decisions
//! is the order of the log.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::broker::delivery::ack_memory::AckMemory;
use crate::broker::delivery::lease::{Changed, Due, Grant, LeaseTerms, Standing};
use crate::broker::delivery::subscription::{QueueState, Subscription};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::wait_list::WaiterId;
use crate::model::group::Group;
use crate::model::position::{GroupId, HolderId, LogPosition, QueueId, QueueOffset, RecordAt, TopicId};
use crate::model::receipt::Receipt;
use crate::model::tag::TagFilter;
use crate::model::time::Timestamp;
use crate::model::topic::Topic;
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

/// What a receive asks of the state.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Topic.
    pub topic: TopicId,
    /// Group.
    pub group: GroupId,
    /// Which messages.
    pub filter: &'a TagFilter,
    /// Most messages.
    pub max: usize,
    /// Most outstanding messages per queue.
    pub outstanding_max: usize,
    /// The lease to give.
    pub terms: LeaseTerms,
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

/// How an ack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// Settled now; durable with the unit.
    Now,
    /// Was settled by this very delivery before.
    Before,
    /// The handle is not that of a current delivery.
    Stale,
}

/// The state.
#[derive(Debug)]
pub struct Core {
    topics: BTreeMap<TopicId, TopicState>,
    timer: BinaryHeap<Reverse<(Timestamp, TopicId, GroupId, QueueId)>>,
    condemned: VecDeque<Condemned>,
    recent_order: VecDeque<(TopicId, QueueId)>,
    recent_max: usize,
    acks: AckMemory,
    next_waiter: u64,
    /// Told when the earliest due instant moved forward.
    timer_changed: Arc<Notify>,
    /// Told when something was condemned.
    condemned_added: Arc<Notify>,
}

impl Core {
    /// Empty state that keeps at most `recent_max` queue entries in memory.
    #[must_use]
    pub fn new(recent_max: usize, timer_changed: Arc<Notify>, condemned_added: Arc<Notify>) -> Self {
        Self {
            topics: BTreeMap::new(),
            timer: BinaryHeap::new(),
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

    /// Forgets the oldest entries beyond the bound; those above `folded` cannot be found elsewhere yet and stay.
    pub fn forget_recent(&mut self, folded: LogPosition) {
        while self.recent_order.len() > self.recent_max {
            let Some(&(topic, queue)) = self.recent_order.front() else { return };
            if let Some(tail) = self.topics.get_mut(&topic).and_then(|state| state.tails.get_mut(queue.get() as usize)) {
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
        let Some(subscription) = state.subscriptions.get_mut(&wish.group) else { return selection };
        subscription.note_filter(wish.filter, now);
        let mut missing = None;
        let mut touched = Vec::new();
        for index in subscription.order() {
            let Some(tail) = state.tails.get(index) else { continue };
            let left = wish.max - selection.grants.len();
            if left == 0 {
                break;
            }
            let queue = QueueId(u32::try_from(index).unwrap_or(u32::MAX));
            let look = subscription.look(index, tail, wish.filter, left, wish.outstanding_max, wish.terms, now);
            if missing.is_none() {
                missing = look.missing.map(|offset| (queue, offset));
            }
            selection.more |= look.more;
            if !look.grants.is_empty() || !look.set_aside.is_empty() {
                touched.push(queue);
            }
            let place = (wish.group, wish.topic, queue);
            record_look(&mut subscription.queues[index], place, &look.grants, &look.set_aside, wish.terms.state(), unit);
            selection.grants.extend(look.grants.into_iter().map(|grant| (queue, grant)));
        }
        if selection.grants.is_empty() {
            selection.missing = missing;
        } else {
            selection.more = false;
            if wish.terms.attempt_key != 0 {
                let given = selection.grants.iter().map(|(queue, grant)| (*queue, grant.entry.offset, grant.terms.grant));
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
            subscription.waiters.wake_one();
        }
    }

    /// Acknowledges one delivery.
    pub fn ack(&mut self, receipt: &Receipt, now: Timestamp, settled: &mut Vec<(QueueId, QueueOffset)>) -> Acked {
        let standing = self.standing(receipt, now);
        let place = (receipt.topic, receipt.group, receipt.queue, receipt.offset);
        match standing {
            Standing::Current { .. } => {
                if let Some(state) = self.queue_mut(receipt.topic, receipt.group, receipt.queue) {
                    state.leases.settle(receipt.offset);
                }
                self.acks.remember(place.0, place.1, place.2, place.3, receipt.grant);
                settled.push((receipt.queue, receipt.offset));
                Acked::Now
            }
            Standing::Done
                if now < receipt.lease_end
                    && self.acks.may_be_ack_of(place.0, place.1, place.2, place.3, receipt.grant) =>
            {
                Acked::Before
            }
            Standing::Done | Standing::Stale => Acked::Stale,
        }
    }

    /// What a receipt names.
    #[must_use]
    pub fn standing(&self, receipt: &Receipt, now: Timestamp) -> Standing {
        self.subscription(receipt.topic, receipt.group)
            .and_then(|subscription| subscription.queues.get(receipt.queue.get() as usize))
            .map_or(Standing::Stale, |state| state.leases.standing(receipt.offset, receipt.grant, now))
    }

    /// Writes what acks settled.
    pub fn record_settled(
        topic: TopicId,
        group: GroupId,
        reason: SettleReason,
        settled: Vec<(QueueId, QueueOffset)>,
        unit: &mut Unit,
    ) {
        let mut by_queue: BTreeMap<QueueId, Vec<QueueOffset>> = BTreeMap::new();
        for (queue, offset) in settled {
            by_queue.entry(queue).or_default().push(offset);
        }
        for (queue, offsets) in by_queue {
            unit.push(&Record::Settled { group, topic, queue, reason, offsets });
        }
    }

    /// Keeps a current delivery with its client until `deadline`.
    pub fn extend(&mut self, receipt: &Receipt, attempt: u32, terms: LeaseTerms, deadline: Timestamp, unit: &mut Unit) {
        let lease = LeaseTerms { deadline, ..terms }.state();
        if let Some(state) = self.queue_mut(receipt.topic, receipt.group, receipt.queue) {
            state.leases.extend(receipt.offset, deadline);
            unit.push(&lease_changed(receipt, attempt, lease));
            self.schedule(receipt.topic, receipt.group, receipt.queue);
        }
    }

    /// Puts a current delivery back until `visible_at`. `None` when it is not there any more.
    pub fn nack(
        &mut self,
        receipt: &Receipt,
        attempt: u32,
        visible_at: Timestamp,
        now: Timestamp,
        unit: &mut Unit,
    ) -> Option<Changed> {
        let subscription = self.subscription_mut(receipt.topic, receipt.group)?;
        let max_attempts = subscription.group.max_attempts;
        let state = subscription.queues.get_mut(receipt.queue.get() as usize)?;
        let changed = state.leases.nack(receipt.offset, visible_at, now, max_attempts)?;
        unit.push(&lease_changed(receipt, attempt, LeaseState::Waiting { visible_at }));
        match changed {
            Changed::Ready(hash) => {
                subscription.waiters.wake_for(hash);
            }
            Changed::Dying => self.condemned_at(receipt.topic, receipt.group, receipt.queue, [receipt.offset]),
            Changed::Waiting | Changed::Extended => self.schedule(receipt.topic, receipt.group, receipt.queue),
        }
        Some(changed)
    }

    /// Messages that never reached their client return at once, without a counted attempt.
    pub fn give_back(&mut self, topic: TopicId, group: GroupId, grants: &[(QueueId, Grant)], unit: &mut Unit) {
        let Some(subscription) = self.subscription_mut(topic, group) else { return };
        for (queue, grant) in grants {
            let Some(state) = subscription.queues.get_mut(queue.get() as usize) else { continue };
            let offset = grant.entry.offset;
            if let Some((attempt, hash)) = state.leases.give_back(offset, grant.terms.grant) {
                let lease = LeaseState::Waiting { visible_at: Timestamp(0) };
                unit.push(&Record::LeaseChanged { group, topic, queue: *queue, offset, attempt, lease });
                subscription.waiters.wake_for(hash);
            }
        }
    }

    /// A message is done without an ack: skipped, dead-lettered.
    pub fn settle(&mut self, topic: TopicId, group: GroupId, queue: QueueId, offset: QueueOffset) -> bool {
        self.queue_mut(topic, group, queue).is_some_and(|state| state.leases.settle(offset))
    }

    /// A client forwards its delivery to the dead-letter topic.
    pub fn condemn(&mut self, topic: TopicId, group: GroupId, queue: QueueId, offset: QueueOffset) {
        if let Some(state) = self.queue_mut(topic, group, queue) {
            state.leases.condemn(offset);
        }
    }

    /// A condemned message, if it still is: its entry and its attempts.
    #[must_use]
    pub fn condemned_entry(&self, which: &Condemned) -> Option<(QueueEntry, u32)> {
        self.subscription(which.topic, which.group)?
            .queues
            .get(which.queue.get() as usize)?
            .leases
            .dying(which.offset)
    }

    /// The next condemned message.
    pub fn pop_condemned(&mut self) -> Option<Condemned> {
        self.condemned.pop_front()
    }

    /// Moves everything whose time has come and wakes who waits for it. Returns the next instant to come back at.
    pub fn fall_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some(Reverse((at, topic, group, queue))) = self.timer.peek().copied() {
            if at > now {
                return Some(at);
            }
            self.timer.pop();
            let Some(subscription) = self.subscription_mut(topic, group) else { continue };
            let max_attempts = subscription.group.max_attempts;
            let Some(state) = subscription.queues.get_mut(queue.get() as usize) else { continue };
            if state.scheduled == Some(at) {
                state.scheduled = None;
            }
            let due = state.leases.fall_due(now, max_attempts);
            self.after_due(topic, group, queue, due);
            self.schedule(topic, group, queue);
        }
        None
    }

    /// Ends every auto-renewed lease of a client that is gone.
    pub fn release_holder(&mut self, holder: HolderId, unit: &mut Unit) -> usize {
        let places: Vec<(TopicId, GroupId)> = self
            .topics
            .iter()
            .flat_map(|(topic, state)| state.subscriptions.keys().map(|group| (*topic, *group)))
            .collect();
        let mut count = 0;
        for (topic, group) in places {
            let Some(subscription) = self.subscription_mut(topic, group) else { continue };
            let max_attempts = subscription.group.max_attempts;
            for index in 0..self.subscription(topic, group).map_or(0, |subscription| subscription.queues.len()) {
                let queue = QueueId(u32::try_from(index).unwrap_or(u32::MAX));
                let Some(state) = self.queue_mut(topic, group, queue) else { continue };
                let (due, released) = state.leases.release_holder(holder, max_attempts);
                count += released.len();
                for (offset, attempt) in released {
                    let lease = LeaseState::Waiting { visible_at: Timestamp(0) };
                    unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt, lease });
                }
                self.after_due(topic, group, queue, due);
            }
        }
        count
    }

    /// Every client that holds an auto-renewed lease.
    #[must_use]
    pub fn holders(&self) -> Vec<HolderId> {
        let mut holders: Vec<HolderId> = self
            .topics
            .values()
            .flat_map(|state| state.subscriptions.values())
            .flat_map(|subscription| subscription.queues.iter())
            .flat_map(|queue| queue.leases.holders())
            .collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Messages of a queue below `first` are out of retention.
    pub fn trim(&mut self, topic: TopicId, queue: QueueId, first: QueueOffset) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let index = queue.get() as usize;
        if let Some(tail) = state.tails.get_mut(index) {
            // Forgotten entries leave their place in `recent_order`; it is skipped when its turn comes.
            tail.trim(first);
        }
        for subscription in state.subscriptions.values_mut() {
            if let Some(queue) = subscription.queues.get_mut(index) {
                queue.leases.trim(first);
            }
        }
    }

    fn after_due(&mut self, topic: TopicId, group: GroupId, queue: QueueId, due: Due) {
        if let Some(subscription) = self.subscription_mut(topic, group) {
            for hash in due.ready {
                subscription.waiters.wake_for(hash);
            }
        }
        if !due.dying.is_empty() {
            self.condemned_at(topic, group, queue, due.dying);
        }
    }

    fn condemned_at(&mut self, topic: TopicId, group: GroupId, queue: QueueId, offsets: impl IntoIterator<Item = QueueOffset>) {
        self.condemned.extend(offsets.into_iter().map(|offset| Condemned { topic, group, queue, offset }));
        self.condemned_added.notify_one();
    }

    fn schedule(&mut self, topic: TopicId, group: GroupId, queue: QueueId) {
        let Some(state) = self.queue_mut(topic, group, queue) else { return };
        let Some(due) = state.leases.next_due() else { return };
        if state.scheduled.is_some_and(|scheduled| scheduled <= due) {
            return;
        }
        state.scheduled = Some(due);
        let is_earliest = self.timer.peek().is_none_or(|Reverse((at, ..))| due < *at);
        self.timer.push(Reverse((due, topic, group, queue)));
        if is_earliest {
            self.timer_changed.notify_one();
        }
    }

    fn subscription(&self, topic: TopicId, group: GroupId) -> Option<&Subscription> {
        self.topics.get(&topic)?.subscriptions.get(&group)
    }

    fn subscription_mut(&mut self, topic: TopicId, group: GroupId) -> Option<&mut Subscription> {
        self.topics.get_mut(&topic)?.subscriptions.get_mut(&group)
    }

    fn queue_mut(&mut self, topic: TopicId, group: GroupId, queue: QueueId) -> Option<&mut QueueState> {
        self.subscription_mut(topic, group)?.queues.get_mut(queue.get() as usize)
    }
}

fn lease_changed(receipt: &Receipt, attempt: u32, lease: LeaseState) -> Record {
    Record::LeaseChanged {
        group: receipt.group,
        topic: receipt.topic,
        queue: receipt.queue,
        offset: receipt.offset,
        attempt,
        lease,
    }
}

/// Writes what a look decided. Whenever a slot comes into being, `next` is recorded in the same unit: a restart must never
/// find a slot at or above `next`, or it would offer that message a second time as a new one.
fn record_look(
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
