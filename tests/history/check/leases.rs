//! Who has a message, and how often it was tried.

use super::Violation;
use super::settles::ROUNDING_US;
use super::view::{Delivered, Kind, View};

/// Pairs of deliveries of one copy to one group in one process life, the first certainly granted before the second.
fn pairs<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = (&'v Delivered<'a>, &'v Delivered<'a>)> {
    view.by_copy.values().flat_map(move |indexes| {
        indexes.iter().enumerate().flat_map(move |(place, &later)| {
            indexes[..place].iter().filter_map(move |&earlier| {
                let (first, second) = (&view.deliveries[earlier], &view.deliveries[later]);
                let ordered = first.latest() < second.earliest();
                let one_life = view.life(first.earliest()) == view.life(second.latest());
                (ordered && one_life).then_some((first, second))
            })
        })
    })
}

/// A message is not delivered while an earlier delivery of it is certainly still somebody's.
pub fn no_two_live_leases_of_one_message(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "no two live leases of one message at once";
    for (first, second) in pairs(view) {
        if second.is_repeat_of(first) {
            continue;
        }
        let Some(end_us) = earliest_end_us(view, first, second.earliest(), second.latest()) else { continue };
        if second.latest() < end_us {
            let id = first.got.id.as_str();
            let finding = format!(
                "{id}: attempt {} is valid until {} ms at least, and attempt {} came at {} ms",
                first.got.attempt,
                end_us / 1000,
                second.got.attempt,
                second.got.at_us / 1000,
            );
            return Err(Violation::new(PROMISE, finding, &[id, &first.got.handle, &second.got.handle]));
        }
    }
    Ok(())
}

/// Earliest instant at which the lease of `held` can have ended, as seen by a delivery granted between the two
/// instants; `None` when something may have ended it.
fn earliest_end_us(view: &View<'_>, held: &Delivered<'_>, from_us: u64, to_us: u64) -> Option<u64> {
    let mut begin_us = held.earliest();
    let mut lease_us = view.lease_us(held.receive.lease);
    for settle in held.settles.iter().filter(|settle| settle.maybe() && settle.call.begin_us < to_us) {
        match settle.kind {
            Kind::Change { invisible_us } if settle.ok() && settle.call.end_us.is_some_and(|end| end < from_us) => {
                if settle.call.begin_us < begin_us {
                    continue;
                }
                (begin_us, lease_us) = (settle.call.begin_us, invisible_us);
            }
            _ => return None,
        }
    }
    // Two changes under way at once may have been taken in either order.
    let changes: Vec<_> = held.settles.iter().filter(|settle| settle.maybe() && settle.call.begin_us < to_us).collect();
    for (place, one) in changes.iter().enumerate() {
        let overlaps = |other: &&&super::view::Settle<'_>| other.call.begin_us < one.call.end_us.unwrap_or(u64::MAX);
        if changes[place + 1..].iter().any(|other| overlaps(&other)) {
            return None;
        }
    }
    let client_left = held.receive.lease == super::super::Lease::AutoRenew
        && view.terminated(&held.call.client, held.earliest(), to_us);
    if client_left {
        return None;
    }
    Some((begin_us + lease_us).saturating_sub(view.gained(begin_us, to_us) + ROUNDING_US))
}

/// Within one process life each new delivery of a message has a higher attempt number than the one before.
pub fn attempts_never_decrease_within_a_process_life(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "attempts never decrease within a process life";
    for (first, second) in pairs(view) {
        if second.is_repeat_of(first) {
            continue;
        }
        if second.got.attempt <= first.got.attempt {
            let id = first.got.id.as_str();
            let finding = format!(
                "{id} came as attempt {} at {} ms and as attempt {} at {} ms",
                first.got.attempt,
                first.got.at_us / 1000,
                second.got.attempt,
                second.got.at_us / 1000,
            );
            return Err(Violation::new(PROMISE, finding, &[id, &first.got.handle, &second.got.handle]));
        }
    }
    Ok(())
}
