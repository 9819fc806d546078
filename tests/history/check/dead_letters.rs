//! When and how often a message becomes a dead letter.

use super::Violation;
use super::view::{Kind, Outcome, Settle, View};

/// A message that became a dead letter did so once per stored copy, and one that was forwarded with OK did.
pub fn dead_letters_are_stored_once(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a dead letter is stored exactly once";
    for group in view.history.terms.groups.keys() {
        let letters = view.dead_letters(group);
        for (id, copies) in &letters {
            let sends = view.sends_by_id.get(id).map_or(&[][..], Vec::as_slice);
            let possible = sends.iter().filter(|&&index| view.sends[index].outcome != Outcome::Refused).count();
            if copies.len() > possible {
                let finding = format!("{id} of group {group} lies {} times among the dead letters", copies.len());
                return Err(Violation::new(PROMISE, finding, &[id]));
            }
        }
        if !view.history.terms.drained || view.history.terms.forgets {
            continue;
        }
        for ((_, _), indexes) in view.by_copy.iter().filter(|((of, _), _)| of == group) {
            let deliveries = || indexes.iter().map(|&index| &view.deliveries[index]);
            let settles =
                || deliveries().flat_map(|delivered| &delivered.settles).filter(|settle| settle.group == *group);
            let Some(forwarded) = settles().find(|settle| settle.kind == Kind::Forward && settle.ok()) else {
                continue;
            };
            // One that was acked meanwhile is done, and a forward of it is told so.
            let acked = settles().any(|settle| settle.kind == Kind::Ack && settle.maybe());
            let Some(first) = deliveries().next().filter(|_| !acked) else { continue };
            let id = first.got.id.as_str();
            if !letters.contains_key(id) {
                let finding = format!("{id} was forwarded by group {group} with OK and is not among its dead letters");
                return Err(Violation::new(PROMISE, finding, &[id, forwarded.handle]));
            }
        }
    }
    Ok(())
}

/// A dead letter was forwarded by its group, or tried as often as the group allows; and was not acked before.
pub fn dead_letters_come_after_the_last_attempt_or_a_forward(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a dead letter comes only after the last attempt or a forward";
    for (group, terms) in &view.history.terms.groups {
        let lost = view.lost_receives(group);
        for id in view.dead_letters(group).keys() {
            let mut forwarded = false;
            let mut acked = false;
            let mut attempts = 0;
            let mut copies = std::collections::BTreeSet::new();
            for delivered in
                view.deliveries.iter().filter(|delivered| delivered.receive.group == *group && delivered.got.id == *id)
            {
                copies.insert((delivered.got.queue, delivered.got.offset));
                attempts = attempts.max(delivered.got.attempt);
                forwarded |= delivered.settles.iter().any(|settle| settle.kind == Kind::Forward && settle.maybe());
                let superseded = |at_us: u64| {
                    let copy = delivered.copy();
                    let again = view
                        .by_copy
                        .get(&(group.as_str(), copy))
                        .into_iter()
                        .flatten()
                        .map(|&index| &view.deliveries[index]);
                    again.filter(|again| again.got.at_us < at_us).any(|again| again.earliest() > delivered.latest())
                };
                // A delivery that its client had given back before is somebody else's, too.
                let given_back = |at_us: u64| {
                    let earlier = |settle: &&Settle<'_>| settle.call.begin_us < at_us && settle.maybe();
                    delivered.settles.iter().filter(earlier).any(|settle| matches!(settle.kind, Kind::Change { .. }))
                };
                // Where order is kept, an acked one may come again, and again.
                acked |= view.lane(delivered).is_none()
                    && delivered.settles.iter().any(|settle| {
                        let begin_us = settle.call.begin_us;
                        settle.kind == Kind::Ack && settle.ok() && !superseded(begin_us) && !given_back(begin_us)
                    });
            }
            if forwarded {
                continue;
            }
            // With several copies the acked one may be another.
            if acked && copies.len() <= 1 && view.sends_by_id.get(id).is_some_and(|sends| sends.len() == 1) {
                let finding = format!("{id} was acked by group {group} with OK and became a dead letter");
                return Err(Violation::new(PROMISE, finding, &[id]));
            }
            if attempts.saturating_add(lost) < terms.max_attempts {
                let finding = format!(
                    "{id} became a dead letter of {group} after attempt {attempts} of {}, and {lost} receives were lost",
                    terms.max_attempts
                );
                return Err(Violation::new(PROMISE, finding, &[id]));
            }
        }
    }
    Ok(())
}
