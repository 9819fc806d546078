//! What an answer to an ack, a change or a forward promises.

use super::Violation;
use super::view::{Delivered, Kind, Settle, View};

/// The server counts in whole milliseconds; a bound of ours may be off by one of them on either side.
pub const ROUNDING_US: u64 = 2_000;

/// After an OK to an ack or a forward the message is not delivered again to that group, whatever happens. Where order is
/// kept, an acked one comes again after an earlier one of its lane has come again.
pub fn an_acked_message_does_not_come_back(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "an acked message does not come back";
    for ((group, _), indexes) in &view.by_copy {
        let deliveries: Vec<&Delivered<'_>> = indexes.iter().map(|&index| &view.deliveries[index]).collect();
        for done in &deliveries {
            for settle in done.settles.iter().filter(|settle| is_final_ok(settle, group)) {
                let acked_us = settle.call.end_us.unwrap_or(u64::MAX);
                let back = deliveries.iter().find(|again| again.call.begin_us > acked_us).filter(|again| {
                    let may_return = || super::order::may_have_returned(view, again, settle.call.begin_us);
                    // A forward of what was acked before says the same again, and moves nothing.
                    let acked_us = done.settles.iter().filter(|other| other.kind == Kind::Ack && other.maybe());
                    let is_ack =
                        acked_us.map(|ack| ack.call.begin_us).min().is_some_and(|us| us <= settle.call.begin_us);
                    !is_ack || !may_return()
                });
                if let Some(again) = back {
                    let id = done.got.id.as_str();
                    let finding = format!(
                        "{id}: {:?} of attempt {} answered OK to group {group} at {} ms, and attempt {} came at {} ms",
                        settle.kind,
                        done.got.attempt,
                        acked_us / 1000,
                        again.got.attempt,
                        again.got.at_us / 1000,
                    );
                    return Err(Violation::new(PROMISE, finding, &[id, &done.got.handle, &again.got.handle]));
                }
            }
        }
    }
    Ok(())
}

fn is_final_ok(settle: &Settle<'_>, group: &str) -> bool {
    settle.ok() && settle.group == group && !matches!(settle.kind, Kind::Change { .. })
}

/// A handle whose lease has certainly ended is never answered OK. One whose message has since been delivered anew is not
/// either, unless the message is done all the same (what OK promises is then true).
pub fn an_expired_or_superseded_handle_is_refused(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "an expired or superseded handle is refused";
    for indexes in view.by_copy.values() {
        let deliveries: Vec<&Delivered<'_>> = indexes.iter().map(|&index| &view.deliveries[index]).collect();
        for held in &deliveries {
            for settle in held.settles.iter().filter(|settle| settle.ok()) {
                let begin_us = settle.call.begin_us;
                let id = held.got.id.as_str();
                if latest_end_us(view, held, settle).is_some_and(|end| end < begin_us) {
                    let finding = format!(
                        "{id}: {:?} at {} ms was OK although attempt {} had expired",
                        settle.kind,
                        begin_us / 1000,
                        held.got.attempt
                    );
                    return Err(Violation::new(PROMISE, finding, &[id, &held.got.handle]));
                }
                let newer = deliveries.iter().find(|newer| {
                    newer.got.at_us < begin_us
                        && newer.earliest() > held.latest()
                        && !newer.is_repeat_of(held)
                        && newer.got.handle != held.got.handle
                });
                let Some(newer) = newer else { continue };
                let done = deliveries.iter().any(|other| {
                    other.settles.iter().any(|by| {
                        let ends = !matches!(by.kind, Kind::Change { .. }) && by.maybe();
                        ends && !std::ptr::eq(by.call, settle.call)
                            && by.call.begin_us < settle.call.end_us.unwrap_or(u64::MAX)
                    })
                });
                let buried = view.dead_letters(&held.receive.group).contains_key(id);
                let excused =
                    !matches!(settle.kind, Kind::Change { .. }) && (done || buried || view.history.terms.forgets);
                if !excused {
                    let finding = format!(
                        "{id}: {:?} at {} ms was OK for attempt {} although attempt {} had come at {} ms",
                        settle.kind,
                        begin_us / 1000,
                        held.got.attempt,
                        newer.got.attempt,
                        newer.got.at_us / 1000,
                    );
                    return Err(Violation::new(PROMISE, finding, &[id, &held.got.handle, &newer.got.handle]));
                }
            }
        }
    }
    Ok(())
}

/// Latest instant at which the lease can have ended for a call that uses its handle; `None` when nothing bounds it.
fn latest_end_us(view: &View<'_>, held: &Delivered<'_>, used: &Settle<'_>) -> Option<u64> {
    let now_us = used.call.begin_us;
    let super::super::Lease::Fixed { invisible_us } = held.receive.lease else { return None };
    let mut end_us = held.latest() + invisible_us;
    for settle in &held.settles {
        let Kind::Change { invisible_us } = settle.kind else { continue };
        if settle.maybe() && settle.call.begin_us < now_us {
            // One whose answer is unknown may take effect at any time.
            end_us = end_us.max(settle.call.end_us?.saturating_add(invisible_us));
        }
    }
    Some(end_us + view.lost(held.earliest(), used.call.end_us.unwrap_or(u64::MAX)) + ROUNDING_US)
}

/// A handle works for the group it was given to, and for no other.
pub fn a_foreign_handle_is_refused(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a foreign handle is refused";
    for delivered in &view.deliveries {
        for settle in &delivered.settles {
            if settle.ok() && settle.group != delivered.receive.group {
                let id = delivered.got.id.as_str();
                let finding = format!("{id} was given to {} and settled by {}", delivered.receive.group, settle.group);
                return Err(Violation::new(PROMISE, finding, &[id, &delivered.got.handle]));
            }
        }
    }
    Ok(())
}
