//! Which message of a PRIORITY topic comes next. Each queue holds one level; of all queues the one whose first deliverable message
//! ranks first is served, message by message, so that also inside one batch nothing overtakes what is more urgent. The rank lets
//! waiting make up for the level, so no level starves. Pure: the second way to select of [`Core`], under the same lock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::broker::delivery::core::{Core, Selection};
use crate::broker::delivery::filters::Asker;
use crate::broker::delivery::lease::{Offered, QueueLeases, State};
use crate::broker::delivery::ordered::Want;
use crate::broker::delivery::select::{JUDGED_MAX, record_look};
use crate::broker::delivery::subscription::{
    JUDGED_AHEAD, Look, Missing, Moves, SCAN_MAX, SET_ASIDE_MAX, Subscription, Wish,
};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::verdicts::FilterIndex;
use crate::model::position::{QueueId, QueueOffset};
use crate::model::priority::{level_of_queue, rank};
use crate::model::time::Timestamp;
use crate::store::QueueEntry;
use crate::store::record::Unit;

/// The first message of a queue that this receive could get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// There is none.
    Nothing,
    /// It waits since then.
    Since(Timestamp),
    /// It must be read from disk before anyone knows.
    Unread(QueueOffset),
    /// An expression must look at it before anyone knows.
    Unjudged,
}

impl Core {
    /// [`Core::select`] for a PRIORITY topic. As long as a front is unknown nothing is granted: it may be the most urgent.
    pub(super) fn select_by_level(&mut self, wish: &Wish<'_>, now: Timestamp, unit: &mut Unit) -> Selection {
        let mut selection = Selection::default();
        let Some(state) = self.topics.get_mut(&wish.topic) else { return selection };
        let Some(subscription) = state.subscriptions.get_mut(&wish.group) else { return selection };
        let own = subscription.note_filter(wish.filter, wish.steady);
        let count = state.tails.len().min(subscription.queues.len());
        subscription.turn = subscription.turn.wrapping_add(1);
        let turn = subscription.turn;
        let mut fronts = BinaryHeap::new();
        // Those of equal rank take turns.
        let key = |index: usize, since| {
            Reverse((rank(level_of_queue(queue_id(index)), since), index.wrapping_sub(turn) % count.max(1), index))
        };
        // What was found in each queue, to be recorded once.
        let mut found: Vec<Look> = (0..count).map(|_| Look::default()).collect();
        // A share each, so that many queues come to their fronts together.
        let judged_max = (JUDGED_MAX / count.max(1)).max(1);
        for (index, tail) in state.tails.iter().enumerate().take(count) {
            let here = &mut found[index];
            here.unwanted = subscription.drop_unwanted(index, own, wish.steady);
            let front = subscription.front(index, tail, wish, own, here);
            selection.more |= here.more;
            match front {
                Front::Nothing => {}
                Front::Since(since) => fronts.push(key(index, since)),
                Front::Unread(offset) => {
                    selection.missing.get_or_insert((queue_id(index), Missing::Queue(offset)));
                }
                Front::Unjudged => {
                    let unjudged = here.unjudged.iter().take(judged_max);
                    selection.unjudged.extend(unjudged.map(|entry| (queue_id(index), *entry)));
                }
            }
        }
        // A queue whose front lies behind very many that this receive does not want is looked through further first.
        let is_known = selection.missing.is_none() && selection.unjudged.is_empty() && !selection.more;
        while is_known && selection.grants.len() < wish.max {
            let Some(Reverse((_, _, index))) = fronts.pop() else { break };
            let Some(tail) = state.tails.get(index) else { break };
            let look = subscription.look(
                index,
                tail,
                Moves { growths: &state.growths, shards: &state.shards },
                wish,
                (own, 1),
            );
            selection.grants.extend(look.grants.iter().map(|grant| (queue_id(index), *grant)));
            let here = &mut found[index];
            here.grants.extend(look.grants);
            here.set_aside.extend(look.set_aside);
            here.unwanted.extend(look.unwanted);
            match subscription.front(index, tail, wish, own, here) {
                Front::Nothing if here.more => break,
                Front::Nothing => {}
                Front::Since(since) => fronts.push(key(index, since)),
                // The rest of this queue comes with the next receive, in its right place.
                Front::Unread(_) | Front::Unjudged => break,
            }
        }
        let mut touched = Vec::new();
        for (index, look) in found.iter().enumerate() {
            if !look.set_aside.is_empty() {
                // Those it was set aside for may have looked just before, and found nothing.
                subscription.waiters.wake_one_per_filter();
            }
            if !look.grants.is_empty() || !look.set_aside.is_empty() {
                touched.push(queue_id(index));
            }
            let place = (wish.group, wish.topic, queue_id(index));
            record_look(&mut subscription.queues[index], place, look, wish.terms.state(), unit);
        }
        if !selection.unjudged.is_empty() || selection.missing.is_some() {
            selection.unjudged.truncate(JUDGED_MAX);
            selection.judges = subscription.judges(wish.steady);
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
    /// The first message of a queue for this wish. Entries before it that it does not want are passed, and `passed` says so: set
    /// aside for others, or done.
    fn front(&mut self, queue: usize, tail: &QueueTail, wish: &Wish<'_>, own: FilterIndex, passed: &mut Look) -> Front {
        let now = wish.steady;
        let asker = Asker { own, expects_unknown: now < self.unknown_filters_until, now };
        let (filters, state) = (&self.filters, &mut self.queues[queue]);
        let wants = |entry: &QueueEntry| filters.wants(own, entry, &state.verdicts);
        if let Some((since, entry)) = state.leases.first_ready(|entry| wants(entry) != Some(false)) {
            if wants(&entry).is_some() {
                return Front::Since(since);
            }
            let unjudged = state.leases.ready_entries().filter(|entry| wants(entry).is_none());
            passed.unjudged = unjudged.take(JUDGED_AHEAD).collect();
            return Front::Unjudged;
        }
        state.leases.advance(tail.first());
        let mut out = Offered::default();
        let mut front = Front::Nothing;
        for considered in 0.. {
            let next = state.leases.next();
            let is_full =
                state.leases.outstanding() >= wish.outstanding_max || state.leases.set_aside() >= SET_ASIDE_MAX;
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
            match filters.want(&asker, &entry, &state.verdicts) {
                Want::Here => {
                    front = Front::Since(entry.stored_at);
                    break;
                }
                Want::Unjudged => {
                    passed.unjudged = state.unjudged(tail, &|entry| filters.want(&asker, entry, &state.verdicts));
                    front = Front::Unjudged;
                    break;
                }
                want => {
                    state.leases.offer(entry, want, wish.terms, &mut out);
                }
            }
        }
        passed.set_aside.extend(out.set_aside);
        front
    }

    /// What was set aside for others, whose filters may be out of use by now: nothing may wait for them for ever.
    fn drop_unwanted(&mut self, queue: usize, own: FilterIndex, now: Timestamp) -> Vec<QueueOffset> {
        let (filters, state) = (&self.filters, &mut self.queues[queue]);
        let verdicts = &state.verdicts;
        if now < self.unknown_filters_until
            || state.leases.first_ready(|entry| filters.wants(own, entry, verdicts) != Some(false)).is_some()
        {
            return Vec::new();
        }
        state.leases.drop_unwanted(|entry| filters.may_be_wanted(entry, verdicts, now))
    }
}

impl QueueLeases {
    /// Free messages that came back or were set aside, oldest first.
    fn ready_entries(&self) -> impl Iterator<Item = QueueEntry> + '_ {
        self.ready.iter().filter_map(|offset| Some(self.slots.get(offset)?.entry))
    }

    /// The first of them that is wanted, and since when it waits.
    fn first_ready(&self, mut wants: impl FnMut(&QueueEntry) -> bool) -> Option<(Timestamp, QueueEntry)> {
        self.ready.iter().find_map(|offset| {
            let slot = self.slots.get(offset)?;
            match slot.state {
                State::Ready { since } if wants(&slot.entry) => Some((since, slot.entry)),
                _ => None,
            }
        })
    }
}

fn queue_id(index: usize) -> QueueId {
    QueueId(u32::try_from(index).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;
