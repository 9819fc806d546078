//! One look on behalf of a receive, and what the log is told of it.

use crate::broker::delivery::core::{Core, Selection, ordering};
use crate::broker::delivery::subscription::{Look, Missing, Moves, QueueState, Wish};
use crate::model::position::{GroupId, QueueId, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::TopicType;
use crate::store::record::{LeaseState, Record, SettleReason, Unit};

/// Messages judged by expressions between two looks.
pub(super) const JUDGED_MAX: usize = 1024;
/// Skipped entries after which the position is recorded although nothing was granted; losing less only costs a second look.
const ADVANCE_RECORD_EVERY: u64 = 1024;

impl Core {
    /// Looks for messages. Grants and positions go into `unit`.
    pub fn select(&mut self, wish: &Wish<'_>, now: Timestamp, unit: &mut Unit) -> Selection {
        let mut selection = Selection::default();
        let Some(state) = self.topics.get_mut(&wish.topic) else { return selection };
        let Some(subscription) = state.subscriptions.get_mut(&wish.group) else { return selection };
        // Settings of topic or group may have changed since the last look.
        let settled = subscription.set_ordering(ordering(&subscription.group, &state.topic));
        Self::record_settled(wish.topic, wish.group, SettleReason::Acked, settled, unit);
        // What is left from a time of order must be given in order, whatever its level.
        if state.topic.topic_type == TopicType::Priority && subscription.is_free() {
            return self.select_by_level(wish, now, unit);
        }
        let own = subscription.note_filter(wish.filter, wish.steady);
        let (mut missing, mut unjudged) = (None, Vec::new());
        let mut touched = Vec::new();
        let moves = Moves { growths: &state.growths, shards: &state.shards };
        for index in subscription.order() {
            let Some(tail) = state.tails.get(index) else { continue };
            let left = wish.max - selection.grants.len();
            if left == 0 {
                break;
            }
            let queue = QueueId(u32::try_from(index).unwrap_or(u32::MAX));
            let look = subscription.look(index, tail, moves, wish, (own, left));
            if missing.is_none() {
                missing = look.missing.map(|missing| (queue, missing));
            }
            selection.more |= look.more;
            selection.unjudged.extend(look.unjudged_back.iter().map(|entry| (queue, *entry)));
            unjudged.extend(look.unjudged.iter().map(|entry| (queue, *entry)));
            let is_lane_missing = matches!(look.missing, Some(Missing::Lane(..)));
            if look.for_others {
                // Those it was set aside for may have looked just before, and found nothing.
                subscription.waiters.wake_one_per_filter();
            }
            if !look.grants.is_empty() || !look.set_aside.is_empty() {
                touched.push(queue);
            }
            let place = (wish.group, wish.topic, queue);
            record_look(&mut subscription.queues[index], place, &look, wish.terms.state(), unit);
            selection.grants.extend(look.grants.into_iter().map(|grant| (queue, grant)));
            if is_lane_missing && selection.grants.is_empty() {
                // The other queues would have something to give each time, and this lane would never be read.
                selection.more = false;
                break;
            }
        }
        if moves.shards.has_past() {
            self.far_wanted.notify_one();
        }
        if selection.grants.is_empty() {
            selection.missing = missing;
            selection.unjudged.append(&mut unjudged);
        }
        if missing.is_some() || !selection.unjudged.is_empty() {
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

/// Writes what a look decided. I-4: whenever a slot comes into being, `next` is recorded in the same unit: a restart must never
/// find a slot at or above `next`, or it would offer that message a second time as a new one.
pub(super) fn record_look(
    state: &mut QueueState,
    (group, topic, queue): (GroupId, TopicId, QueueId),
    look: &Look,
    lease: LeaseState,
    unit: &mut Unit,
) {
    let next = state.leases.next();
    let Look { grants, set_aside, unwanted, unacked, moved_lanes, .. } = look;
    if !unwanted.is_empty() {
        let (reason, offsets) = (SettleReason::Skipped, unwanted.clone());
        unit.push(&Record::Settled { group, topic, queue, reason, offsets });
    }
    let untouched = set_aside.iter().map(|offset| (*offset, 0)).chain(unacked.iter().copied());
    for (offset, attempt) in untouched {
        let lease = LeaseState::Waiting { visible_at: Timestamp(0) };
        unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt, lease });
    }
    // With the position, never before or after it: what it passes and no lane knows of would be lost.
    for &(order_key, from) in moved_lanes {
        unit.push(&Record::LaneParked { group, topic, queue, order_key, from });
    }
    let skipped = next.get().saturating_sub(state.recorded_next.get());
    if !grants.is_empty() {
        let items = grants.iter().map(|grant| (grant.entry.offset, grant.attempt)).collect();
        unit.push(&Record::Granted { group, topic, queue, next, lease, items });
    } else if !set_aside.is_empty() || !moved_lanes.is_empty() || skipped >= ADVANCE_RECORD_EVERY {
        unit.push(&Record::Advanced { group, topic, queue, next });
    } else {
        return;
    }
    state.recorded_next = next;
}
