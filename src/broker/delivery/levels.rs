//! Which message of a PRIORITY topic comes next. Each queue holds one level; of all queues the one whose first deliverable message
//! ranks first is served, message by message, so that also inside one batch nothing overtakes what is more urgent. The rank lets
//! waiting make up for the level, so no level starves. Pure: the second way to select of [`Core`], under the same lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::broker::delivery::core::{Core, Selection, record_look};
use crate::broker::delivery::lease::{Grant, Offered};
use crate::broker::delivery::subscription::{Look, SCAN_MAX, SET_ASIDE_MAX, Subscription, Wish};
use crate::broker::delivery::tail::QueueTail;
use crate::model::position::{QueueId, QueueOffset};
use crate::model::priority::{level_of_queue, rank};
use crate::model::time::Timestamp;
use crate::store::record::{SettleReason, Unit};

/// The first message of a queue that this receive could get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// There is none.
    Nothing,
    /// It waits since then.
    Since(Timestamp),
    /// It must be read from disk before anyone knows.
    Unread(QueueOffset),
}

/// What was found in one queue, to be recorded once.
#[derive(Debug, Default)]
struct Found {
    grants: Vec<Grant>,
    set_aside: Vec<QueueOffset>,
}

impl Core {
    /// [`Core::select`] for a PRIORITY topic. As long as a front is unknown nothing is granted: it may be the most urgent.
    pub(super) fn select_by_level(&mut self, wish: &Wish<'_>, now: Timestamp, unit: &mut Unit) -> Selection {
        let mut selection = Selection::default();
        let Some(state) = self.topics.get_mut(&wish.topic) else { return selection };
        let Some(subscription) = state.subscriptions.get_mut(&wish.group) else { return selection };
        subscription.note_filter(wish.filter, wish.steady);
        let count = state.tails.len().min(subscription.queues.len());
        subscription.turn = subscription.turn.wrapping_add(1);
        let turn = subscription.turn;
        let mut fronts = BinaryHeap::new();
        let mut found: BTreeMap<usize, Found> = BTreeMap::new();
        // Those of equal rank take turns.
        let key = |index: usize, since| {
            Reverse((rank(level_of_queue(queue_id(index)), since), index.wrapping_sub(turn) % count.max(1), index))
        };
        for (index, tail) in state.tails.iter().enumerate().take(count) {
            let unwanted = match subscription.queues[index].leases.first_ready(wish.filter) {
                Some(_) => Vec::new(),
                None => subscription.drop_unwanted(index, wish.steady),
            };
            if !unwanted.is_empty() {
                let settled = unwanted.into_iter().map(|offset| (queue_id(index), offset)).collect();
                Self::record_settled(wish.topic, wish.group, SettleReason::Skipped, settled, unit);
            }
            let (front, passed) = subscription.front(index, tail, wish);
            selection.more |= passed.more;
            found.entry(index).or_default().set_aside.extend(passed.set_aside);
            match front {
                Front::Nothing => {}
                Front::Since(since) => fronts.push(key(index, since)),
                Front::Unread(offset) => {
                    selection.missing.get_or_insert((queue_id(index), offset));
                }
            }
        }
        while selection.missing.is_none() && selection.grants.len() < wish.max {
            let Some(Reverse((_, _, index))) = fronts.pop() else { break };
            let Some(tail) = state.tails.get(index) else { break };
            let look = subscription.look(index, tail, wish, 1, wish.steady);
            let here = found.entry(index).or_default();
            here.grants.extend(&look.grants);
            here.set_aside.extend(look.set_aside);
            selection.grants.extend(look.grants.into_iter().map(|grant| (queue_id(index), grant)));
            let (front, passed) = subscription.front(index, tail, wish);
            here.set_aside.extend(passed.set_aside);
            match front {
                Front::Nothing => {}
                Front::Since(since) => fronts.push(key(index, since)),
                // The rest of this queue comes with the next receive, in its right place.
                Front::Unread(_) => break,
            }
        }
        let mut touched = Vec::new();
        for (index, found) in found {
            if !found.set_aside.is_empty() {
                // Those it was set aside for may have looked just before, and found nothing.
                subscription.waiters.wake_one_per_filter();
            }
            if !found.grants.is_empty() || !found.set_aside.is_empty() {
                touched.push(queue_id(index));
            }
            let place = (wish.group, wish.topic, queue_id(index));
            let queue = &mut subscription.queues[index];
            record_look(queue, place, &found.grants, &found.set_aside, wish.terms.state(), unit);
        }
        if !selection.grants.is_empty() {
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
}

impl Subscription {
    /// The first message of a queue for this wish. Entries before it that it does not want are passed: set aside for others, or
    /// done.
    fn front(&mut self, queue: usize, tail: &QueueTail, wish: &Wish<'_>) -> (Front, Look) {
        let mut passed = Look::default();
        if let Some(since) = self.queues[queue].leases.first_ready(wish.filter) {
            return (Front::Since(since), passed);
        }
        self.queues[queue].leases.advance(tail.first());
        let several_filters = self.has_several_filters(wish.filter, wish.steady);
        let mut offered = Offered::default();
        let mut front = Front::Nothing;
        for considered in 0.. {
            let state = &mut self.queues[queue];
            let next = state.leases.next();
            let is_full =
                state.leases.outstanding() >= wish.outstanding_max || state.leases.counts().ready >= SET_ASIDE_MAX;
            if next >= tail.visible() || is_full {
                break;
            }
            if considered == SCAN_MAX {
                passed.more = true;
                break;
            }
            let Some(entry) = state.entry_at_next(tail) else {
                front = Front::Unread(next);
                break;
            };
            if wish.filter.may_match(entry.tag_hash) {
                front = Front::Since(entry.stored_at);
                break;
            }
            let elsewhere = several_filters && self.wanted_elsewhere(wish.filter, entry.tag_hash, wish.steady);
            self.queues[queue].leases.offer(entry, false, elsewhere, wish.terms, &mut offered);
        }
        passed.set_aside = offered.set_aside;
        (front, passed)
    }
}

fn queue_id(index: usize) -> QueueId {
    QueueId(u32::try_from(index).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;
