//! What happens to a delivery after it was granted: acknowledged, kept longer, put back, condemned, expired. The second half
//! of [`Core`], under the same lock.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::delivery::core::{Condemned, Core};
use crate::broker::delivery::lease::{Changed, Due, Grant, LeaseTerms, Standing};
use crate::model::position::{GrantId, GroupId, HolderId, QueueId, QueueOffset, TopicId};
use crate::model::receipt::Receipt;
use crate::model::time::Timestamp;
use crate::model::topic::Growth;
use crate::store::QueueEntry;
use crate::store::record::{LeaseState, Record, SettleReason, Unit};

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

impl Core {
    /// Acknowledges one delivery.
    /// What it settles goes into `settled`; what must wait for an earlier message of its group, into `unit`.
    pub fn ack(
        &mut self,
        receipt: &Receipt,
        now: Timestamp,
        settled: &mut Vec<(QueueId, QueueOffset)>,
        unit: &mut Unit,
    ) -> Acked {
        let standing = self.standing(receipt, now);
        match standing {
            Standing::Current { terms, .. } => {
                let mut done = Vec::with_capacity(1);
                if let Some(state) = self.queue_mut(receipt.topic, receipt.group, receipt.queue)
                    && let Some((attempt, lease)) = state.leases.ack(receipt.offset, &mut done)
                {
                    unit.push(&lease_changed(receipt, attempt, lease));
                }
                self.lite_active(receipt.topic, receipt.queue, now);
                self.lite_changed(receipt.topic, receipt.group, receipt.queue);
                let by = Some((receipt.grant, terms.deadline));
                self.acks.remember(receipt.topic, receipt.group, receipt.queue, receipt.offset, by);
                settled.extend(done.into_iter().map(|offset| (receipt.queue, offset)));
                Acked::Now
            }
            Standing::Done if self.settled_by(receipt, now) => Acked::Before,
            Standing::Done | Standing::Stale => Acked::Stale,
        }
    }

    /// Whether a message that is done can have been settled by this very delivery, whose lease time has not passed (rule C29).
    #[must_use]
    pub fn settled_by(&self, receipt: &Receipt, now: Timestamp) -> bool {
        let Receipt { topic, group, queue, offset, grant, lease_end, .. } = *receipt;
        // After a restart nothing else may know that the lease was made longer after this text of its handle.
        let own = self.subscription(topic, group).and_then(|subscription| subscription.queue(queue));
        let kept = own.and_then(|state| state.leases.acked_until(offset, grant));
        let lease_end = kept.map_or(lease_end, |end| end.max(lease_end));
        self.acks.ack_counts_until(topic, group, queue, offset, grant, lease_end).is_some_and(|end| now < end)
    }

    /// What a receipt names.
    #[must_use]
    pub fn standing(&self, receipt: &Receipt, now: Timestamp) -> Standing {
        self.subscription(receipt.topic, receipt.group)
            .and_then(|subscription| subscription.queue(receipt.queue))
            .map_or(Standing::Stale, |state| match state.leases.standing(receipt.offset, receipt.grant, now) {
                // Before the position, but passed over: a delivery that the log forgot in a crash.
                Standing::Done if state.leases.is_parked(receipt.order_key, receipt.offset) => Standing::Stale,
                standing => standing,
            })
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
        let state = subscription.queue_mut(receipt.queue)?;
        let changed = state.leases.nack(receipt.offset, visible_at, now, max_attempts)?;
        unit.push(&lease_changed(receipt, attempt, LeaseState::Waiting { visible_at }));
        match changed {
            Changed::Ready(hash) => {
                subscription.waiters.wake_for(hash);
            }
            Changed::Dying => self.condemned_at(receipt.topic, receipt.group, receipt.queue, [receipt.offset]),
            Changed::Waiting | Changed::Extended => self.schedule(receipt.topic, receipt.group, receipt.queue),
        }
        self.lite_changed(receipt.topic, receipt.group, receipt.queue);
        Some(changed)
    }

    /// A delivery that could not be read for its client stands aside until `visible_at`, without a counted attempt.
    pub fn postpone(
        &mut self,
        topic: TopicId,
        group: GroupId,
        (queue, offset, grant): (QueueId, QueueOffset, GrantId),
        visible_at: Timestamp,
        unit: &mut Unit,
    ) {
        let Some(state) = self.queue_mut(topic, group, queue) else { return };
        let Some(attempt) = state.leases.postpone(offset, grant, visible_at) else { return };
        unit.push(&Record::LeaseChanged {
            group,
            topic,
            queue,
            offset,
            attempt,
            lease: LeaseState::Waiting { visible_at },
        });
        self.schedule(topic, group, queue);
        self.lite_changed(topic, group, queue);
    }

    /// Messages that never reached their client return at once, without a counted attempt.
    pub fn give_back(&mut self, topic: TopicId, group: GroupId, grants: &[(QueueId, Grant)], unit: &mut Unit) {
        let unseen = grants.iter().map(|(queue, grant)| (*queue, grant.entry.offset, grant.terms.grant));
        self.return_unseen(topic, group, &unseen.collect::<Vec<_>>(), unit);
    }

    /// The same of deliveries that are known by queue, message and granting.
    pub fn return_unseen(
        &mut self,
        topic: TopicId,
        group: GroupId,
        deliveries: &[(QueueId, QueueOffset, GrantId)],
        unit: &mut Unit,
    ) {
        // The attempt has come again, over another way, and its client has them by now.
        let is_with_client = |grant: &GrantId| self.repeated.contains(grant);
        let deliveries: Vec<_> = deliveries.iter().filter(|(.., grant)| !is_with_client(grant)).copied().collect();
        let Some(subscription) = self.subscription_mut(topic, group) else { return };
        for &(queue, offset, grant) in &deliveries {
            let Some(state) = subscription.queue_mut(queue) else { continue };
            if let Some((attempt, hash)) = state.leases.give_back(offset, grant) {
                let lease = LeaseState::Waiting { visible_at: Timestamp(0) };
                unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt, lease });
                subscription.waiters.wake_for(hash);
            }
        }
        for &(queue, ..) in &deliveries {
            self.lite_changed(topic, group, queue);
        }
    }

    /// A message is done without an ack, skipped or out of retention, if `grant` still holds it. Returns all that is done by it.
    pub fn settle_granted(
        &mut self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        offset: QueueOffset,
        grant: GrantId,
    ) -> Vec<(QueueId, QueueOffset)> {
        let mut settled = Vec::new();
        let Some(state) = self.queue_mut(topic, group, queue) else { return Vec::new() };
        if state.leases.repeat(offset, grant, Timestamp(0)).is_some() {
            state.leases.settle(offset, &mut settled);
        }
        self.lite_changed(topic, group, queue);
        settled.into_iter().map(|offset| (queue, offset)).collect()
    }

    /// What is done once a condemned message is moved: it, and those behind it that were acknowledged and waited for it.
    #[must_use]
    pub fn buried_with(&self, which: &Condemned) -> Vec<(QueueId, QueueOffset)> {
        let state = self.subscription(which.topic, which.group).and_then(|s| s.queue(which.queue));
        let done = state.map_or_else(Vec::new, |state| state.leases.settles_with(which.offset));
        done.into_iter().map(|offset| (which.queue, offset)).collect()
    }

    /// A message was moved to the dead letters, by the wish of a delivery or of none.
    pub fn bury(&mut self, which: &Condemned, by: Option<(GrantId, Timestamp)>) {
        if let Some(state) = self.queue_mut(which.topic, which.group, which.queue) {
            // Recorded by the caller, as `buried_with` said.
            state.leases.settle(which.offset, &mut Vec::new());
        }
        self.lite_changed(which.topic, which.group, which.queue);
        self.acks.remember(which.topic, which.group, which.queue, which.offset, by);
        self.wake_if_deliverable(which.topic, which.group);
    }

    /// A client forwards its delivery to the dead-letter topic.
    pub fn condemn(&mut self, topic: TopicId, group: GroupId, queue: QueueId, offset: QueueOffset) {
        if let Some(state) = self.queue_mut(topic, group, queue) {
            state.leases.condemn(offset);
        }
        self.lite_changed(topic, group, queue);
    }

    /// A condemned message, if it still is: its entry and its attempts.
    #[must_use]
    pub fn condemned_entry(&self, which: &Condemned) -> Option<(QueueEntry, u32)> {
        self.subscription(which.topic, which.group)?.queue(which.queue)?.leases.dying(which.offset)
    }

    /// A condemned message could not be moved now; it comes up again after the others.
    pub fn condemn_later(&mut self, which: Condemned) {
        self.condemned_at(which.topic, which.group, which.queue, [which.offset]);
    }

    /// Wakes waiting receives if there is something for them: room for more deliveries may have come up.
    pub fn wake_if_deliverable(&mut self, topic: TopicId, group: GroupId) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(subscription) = state.subscriptions.get_mut(&group) else { return };
        if !subscription.waiters.is_empty() && subscription.has_deliverable(&state.tails) {
            subscription.waiters.wake_one_per_filter();
        }
    }

    /// The next condemned message.
    pub fn pop_condemned(&mut self) -> Option<Condemned> {
        self.condemned.pop_front()
    }

    /// Moves everything whose time has come and wakes who waits for it. Returns the next instant to come back at.
    pub fn fall_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some((at, topic, group, queue)) = self.timer.first().copied() {
            if at > now {
                return Some(at);
            }
            self.timer.pop_first();
            let Some(subscription) = self.subscription_mut(topic, group) else { continue };
            let max_attempts = subscription.group.max_attempts;
            let Some(state) = subscription.queue_mut(queue) else { continue };
            if state.scheduled == Some(at) {
                state.scheduled = None;
            }
            let due = state.leases.fall_due(now, max_attempts);
            self.after_due(topic, group, queue, due);
            self.schedule(topic, group, queue);
        }
        None
    }

    /// Ends every auto-renewed lease of clients that are gone.
    pub fn release_holders(&mut self, gone: &BTreeSet<HolderId>, unit: &mut Unit) -> usize {
        let places: Vec<(TopicId, GroupId)> = self
            .topics
            .iter()
            .flat_map(|(topic, state)| state.subscriptions.keys().map(|group| (*topic, *group)))
            .collect();
        let mut count = 0;
        for (topic, group) in places {
            let Some(subscription) = self.subscription_mut(topic, group) else { continue };
            let max_attempts = subscription.group.max_attempts;
            let queues: Vec<QueueId> = subscription.queues_in_use().collect();
            for queue in queues {
                let Some(state) = self.queue_mut(topic, group, queue) else { continue };
                let (due, released) = state.leases.release_holders(gone, max_attempts);
                count += released.len();
                for (offset, attempt) in released {
                    // Ready is what waits for time zero; one without attempts left must die after a restart, too.
                    let visible_at = Timestamp(u64::from(due.dying.binary_search(&offset).is_ok()));
                    let lease = LeaseState::Waiting { visible_at };
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
            .flat_map(|subscription| subscription.queues_in_use().filter_map(|queue| subscription.queue(queue)))
            .flat_map(|queue| queue.leases.holders())
            .collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Messages of a queue below `first` are out of retention; what else is done by it goes into `unit`.
    pub fn trim(&mut self, topic: TopicId, queue: QueueId, first: QueueOffset, unit: &mut Unit) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        if let Some(tail) = state.tail_mut(queue) {
            // Forgotten entries leave their place in `recent_order`; it is skipped when its turn comes.
            tail.trim(first);
        }
        if queue == QueueId(0) && !state.left.is_empty() {
            state.left = state.left.split_off(&first);
        }
        let tails = &state.tails;
        let is_needed = |growth: &Growth| growth.fences.iter().zip(tails).any(|(fence, tail)| tail.first() < *fence);
        state.growths.retain(is_needed);
        for (&group, subscription) in &mut state.subscriptions {
            let Some(own) = subscription.queue_mut(queue) else { continue };
            let offsets = own.leases.trim(first);
            if !offsets.is_empty() {
                unit.push(&Record::Settled { group, topic, queue, reason: SettleReason::Acked, offsets });
            }
            if !queue.is_lite() && subscription.has_deliverable(&state.tails) {
                subscription.waiters.wake_one_per_filter();
            }
        }
        let groups: Vec<GroupId> =
            if queue.is_lite() { state.subscriptions.keys().copied().collect() } else { Vec::new() };
        for group in groups {
            self.lite_changed(topic, group, queue);
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
        self.lite_changed(topic, group, queue);
    }

    fn condemned_at(
        &mut self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        offsets: impl IntoIterator<Item = QueueOffset>,
    ) {
        self.condemned.extend(offsets.into_iter().map(|offset| Condemned { topic, group, queue, offset }));
        self.condemned_added.notify_one();
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
