//! Order of levels, where messages ask for one.

use super::super::{Answer, Call};
use super::Violation;
use super::deliveries::{END_MARGIN_US, LEASE_US_MAX, WAIT_US_MAX, first_taken, is_whole, receives};
use super::view::{Delivered, Outcome, SendAttempt, View};

/// Waiting that is worth a level.
const LEVEL_US: i128 = 10_000_000;
const LEVEL_MAX: i32 = 9;

fn level(send: &SendAttempt<'_>) -> Option<i128> {
    send.message.ask.priority.map(|priority| i128::from(priority.min(LEVEL_MAX)))
}

/// Among what a receive could get, nothing comes before a message of a higher level. Judged for messages of which it is certain
/// that the receive could get them: acknowledged before it began, and given to nobody until it was over or had got others.
pub fn no_message_comes_before_one_of_a_higher_level(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "no message comes before one of a higher level";
    if view.history.terms.forgets {
        return Ok(());
    }
    for (group, terms) in view.history.terms.groups.iter().filter(|(_, terms)| !terms.ordered) {
        let waiting: Vec<&SendAttempt<'_>> = view
            .sends
            .iter()
            .filter(|send| send.topic == terms.topic && level(send).is_some() && terms.takes(&send.message.tag))
            .filter(|send| matches!(send.outcome, Outcome::Stored(_)))
            .collect();
        if waiting.is_empty() {
            continue;
        }
        let first_taken = first_taken(view, group);
        let lost: Vec<u64> = view
            .history
            .calls
            .iter()
            .filter(|call| receives(call, group) && !is_whole(call))
            .map(|call| call.begin_us)
            .collect();
        for call in view.history.calls.iter().filter(|call| receives(call, group) && is_whole(call)) {
            let (Answer::Received { messages, .. }, Some(end_us)) = (&call.answer, call.end_us) else { continue };
            if messages.is_empty() || view.ends_within(call.begin_us.saturating_sub(END_MARGIN_US), end_us) {
                continue;
            }
            for delivered in view.deliveries.iter().filter(|delivered| std::ptr::eq(delivered.call, call)) {
                // One that is repeated for its attempt id was chosen at another time.
                if delivered.earliest() < call.begin_us {
                    continue;
                }
                let passed_over = waiting.iter().find(|send| {
                    let Outcome::Stored(offset) = send.outcome else { return false };
                    let from_us =
                        send.call.begin_us.saturating_sub(WAIT_US_MAX).max(call.begin_us.saturating_sub(LEASE_US_MAX));
                    let taken_us = first_taken.get(&(send.message.id.as_str(), offset)).copied().unwrap_or(u64::MAX);
                    send.call.end_us.is_some_and(|known_us| known_us < call.begin_us)
                        && (taken_us > end_us || comes_behind(call, delivered, send))
                        && !lost.iter().any(|at_us| (from_us..=end_us).contains(at_us))
                        && ranks_higher(view, send, delivered, end_us)
                });
                if let Some(send) = passed_over {
                    let (id, before) = (send.message.id.as_str(), delivered.got.id.as_str());
                    let finding = format!(
                        "group {group} got {before} at {} ms while {id} of priority {:?} was there from {} ms on",
                        delivered.latest() / 1000,
                        send.message.ask.priority,
                        send.call.end_us.unwrap_or(0) / 1000,
                    );
                    return Err(Violation::new(PROMISE, finding, &[id, before]));
                }
            }
        }
    }
    Ok(())
}

/// Whether the same answer has it for the first time, and later.
fn comes_behind(call: &Call, delivered: &Delivered<'_>, send: &SendAttempt<'_>) -> bool {
    let Outcome::Stored(offset) = send.outcome else { return false };
    let place = |wanted: &dyn Fn(&super::super::Delivery) -> bool| call.deliveries().iter().position(wanted);
    let own = place(&|got| std::ptr::eq(got, delivered.got));
    let other = place(&|got| got.id == send.message.id && got.offset == offset && got.attempt == 1);
    matches!((own, other), (Some(own), Some(other)) if own < other)
}

/// Whether a message certainly ranks above one that was delivered, whatever the clock did.
fn ranks_higher(view: &View<'_>, send: &SendAttempt<'_>, delivered: &Delivered<'_>, end_us: u64) -> bool {
    let sends = view.sends_of(&delivered.got.id).filter(|other| other.topic == send.topic);
    let Some((own_level, own_us)) = sends.filter_map(|other| Some((level(other)?, other.call.begin_us))).min() else {
        return false;
    };
    let (Some(level), Some(stored_us)) = (level(send), send.call.end_us) else { return false };
    let moved = view.gained(0, end_us) + view.lost(0, end_us);
    level > own_level && (level - own_level) * LEVEL_US > i128::from(stored_us) - i128::from(own_us) + i128::from(moved)
}
