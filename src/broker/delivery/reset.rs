//! Moving a group to another position of a queue, forwards or back. Third part of [`Core`], under the same lock.
//!
//! A reset forgets everything that the group has outstanding in the queue: deliveries, retries that wait, what was set aside.
//! The handles of those deliveries name nothing any more. Below the new position the message is done, so an ack of such a
//! handle is still true within its own time (rule C29); at or above it the message is delivered again, under new handles, and
//! the old ones are stale.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::broker::delivery::core::Core;
use crate::broker::delivery::lease::{Grant, QueueLeases};
use crate::broker::delivery::subscription::QueueState;
use crate::broker::delivery::wait_list::WaiterId;
use crate::model::filter::Filter;
use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;

/// What a new position means for a group in one queue, counted in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seek {
    /// Lowest message that was not done.
    pub from: QueueOffset,
    /// First message that is delivered from now on.
    pub to: QueueOffset,
    /// Not done before, and never delivered now. Of messages that an ordered group had to pass over, those in memory count.
    pub skipped: u64,
    /// Done before, and delivered again now; with them those that an ordered group had to pass over and that left memory.
    pub rewound: u64,
    /// Deliveries with clients whose handles name nothing any more.
    pub in_flight: u64,
    /// Whether there is nothing to change.
    pub idle: bool,
}

impl Core {
    /// Lowest message of a queue that a group has not done; `None` when the group has no position there.
    #[must_use]
    pub fn position(&self, topic: TopicId, group: GroupId, queue: QueueId) -> Option<QueueOffset> {
        let state = self.topics.get(&topic)?;
        let tail = state.tail(queue)?;
        let own = state.subscriptions.get(&group)?.queue(queue)?;
        // A queue that was trimmed before the group saw it has no position of its own yet.
        Some(own.leases.lowest_outstanding().unwrap_or(own.leases.next()).max(tail.first()))
    }

    /// What [`Core::begin_at`] would do.
    #[must_use]
    pub fn seek(&self, topic: TopicId, group: GroupId, queue: QueueId, to: QueueOffset) -> Option<Seek> {
        let from = self.position(topic, group, queue)?;
        let first = self.topics.get(&topic)?.tail(queue)?.first();
        let own = self.subscription(topic, group)?.queue(queue)?;
        let next = own.leases.next().max(first);
        let (below, all) = (own.leases.outstanding_below(to), own.leases.outstanding_below(QueueOffset(u64::MAX)));
        Some(Seek {
            from,
            to,
            skipped: below + to.get().saturating_sub(next.get()),
            rewound: next.get().saturating_sub(to.get()).saturating_sub(all - below),
            in_flight: own.leases.counts().leased,
            idle: all == 0 && own.leases.lanes().count() == 0 && own.leases.next() == to && own.recorded_next == to,
        })
    }

    /// The group begins anew at `next`, which must lie within the queue; the caller has put the record into the log before.
    /// Waiting receives are woken, to look again.
    pub fn begin_at(&mut self, topic: TopicId, group: GroupId, queue: QueueId, next: QueueOffset) {
        let Some(state) = self.queue_mut(topic, group, queue) else { return };
        let scheduled = state.begin_at(next);
        if let Some(at) = scheduled {
            self.timer.remove(&(at, topic, group, queue));
        }
        self.lite_changed(topic, group, queue);
        if let Some(subscription) = self.subscription_mut(topic, group) {
            subscription.wake_all();
        }
    }

    /// Whether a grant still names the current delivery of its message, in time or not.
    #[must_use]
    pub fn holds(&self, topic: TopicId, group: GroupId, queue: QueueId, grant: &Grant) -> bool {
        self.subscription(topic, group)
            .and_then(|subscription| subscription.queue(queue))
            .is_some_and(|own| own.leases.repeat(grant.entry.offset, grant.terms.grant, Timestamp(0)).is_some())
    }

    /// Number of pulls of a group that wait at the end of a queue.
    #[must_use]
    pub fn pulls_waiting(&self, topic: TopicId, group: GroupId, queue: QueueId) -> usize {
        let pulls = self.topics.get(&topic).and_then(|state| state.pulls.get(&(queue, group)));
        pulls.map_or(0, super::wait_list::WaitList::len)
    }

    /// Enters a pull into the wait list of a queue, or marks it as waiting again.
    pub fn wait_to_pull(
        &mut self,
        (topic, group, queue): (TopicId, GroupId, QueueId),
        id: WaiterId,
        filter: &Filter,
        notify: &Arc<Notify>,
    ) {
        match self.topics.get_mut(&topic) {
            Some(state) => state.pulls.entry((queue, group)).or_default().enter(id, filter, notify),
            // Went away between two looks; the pull must look again and find out.
            None => notify.notify_one(),
        }
    }

    /// Takes a pull out of the wait list.
    pub fn leave_pulls(&mut self, topic: TopicId, group: GroupId, queue: QueueId, id: WaiterId) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(pulls) = state.pulls.get_mut(&(queue, group)) else { return };
        pulls.leave(id);
        if pulls.is_empty() {
            state.pulls.remove(&(queue, group));
        }
    }
}

impl QueueState {
    /// Forgets everything and begins at `next`. Returns the instant that the timer had been told for this queue.
    fn begin_at(&mut self, next: QueueOffset) -> Option<Timestamp> {
        let (scheduled, ordering) = (self.scheduled, self.leases.lanes().ordering());
        *self = Self::starting_at(next);
        // Nothing is outstanding that a change could settle.
        self.leases.set_ordering(ordering);
        scheduled
    }
}

impl QueueLeases {
    /// The lowest message below `next` that is not done.
    #[must_use]
    pub fn lowest_outstanding(&self) -> Option<QueueOffset> {
        let slot = self.slots.first_key_value().map(|(offset, _)| *offset);
        slot.into_iter().chain(self.lanes.lowest_parked()).min()
    }

    /// Messages below `end` that are not done; of those that were passed over, the ones in memory.
    #[must_use]
    pub fn outstanding_below(&self, end: QueueOffset) -> u64 {
        self.slots.range(..end).count() as u64 + self.lanes.parked_below(end)
    }
}

#[cfg(test)]
#[path = "reset_tests.rs"]
mod tests;
