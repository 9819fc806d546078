//! What a delivery time and a recall promise.

use super::super::{OK, Request};
use super::Violation;
use super::settles::ROUNDING_US;
use super::view::{Outcome, View};

/// A message with a delivery time is given to nobody while the server's clock shows less.
pub fn no_message_comes_before_its_time(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "no message comes before its time";
    for delivered in &view.deliveries {
        let id = delivered.got.id.as_str();
        let Some(due_ms) = view.sends_of(id).find_map(|send| send.message.ask.due_ms) else { continue };
        let clock_us = view.server_clock_at_most_us(delivered.got.at_us) + ROUNDING_US;
        if clock_us < due_ms * 1000 {
            let early_ms = due_ms - clock_us / 1000;
            let finding =
                format!("{id} is due at {due_ms} and came {early_ms} ms early to {}", delivered.receive.group);
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// A message that was called back with OK is delivered to nobody, neither before nor after.
pub fn a_recalled_message_is_delivered_to_nobody(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a recalled message is delivered to nobody";
    for (id, places) in view.copies_of() {
        let recalled = |handle: &str| {
            view.recalls.get(handle).is_some_and(|recalls| recalls.iter().any(|(_, code)| *code == Some(OK)))
        };
        let left = view
            .sends_of(id)
            .filter(|send| send.outcome != Outcome::Refused && !send.recall_handle().is_some_and(recalled));
        let left = left.count();
        let all = view.sends_of(id).filter(|send| send.outcome != Outcome::Refused).count();
        if left < all && places.len() > left {
            let finding = format!(
                "{id} was stored {all} times at most and called back {} times, and lies at {places:?}",
                all - left
            );
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// Every recall of one message gets the same answer; one that is in time succeeds; a handle that belongs to another topic, or
/// to nothing, does not.
pub fn a_recall_tells_the_truth(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a recall tells the truth";
    for call in &view.history.calls {
        let Request::Recall { id, handle, genuine: false, .. } = &call.request else { continue };
        if matches!(&call.answer, super::super::Answer::Recalled { code: OK, .. }) {
            let finding = format!("a recall of {id} by {handle:?}, which is no handle of that topic, was OK");
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    for (handle, recalls) in &view.recalls {
        for (place, (call, code)) in recalls.iter().enumerate() {
            let Request::Recall { id, .. } = &call.request else { continue };
            let about = [id.as_str(), handle];
            if let (Some(OK), super::super::Answer::Recalled { id: told, .. }) = (code, &call.answer)
                && told != id
            {
                return Err(Violation::new(PROMISE, format!("the recall of {id} said that it was of {told}"), &about));
            }
            let Some(code) = code.filter(|&code| code == OK || is_final(code)) else { continue };
            for (other, other_code) in &recalls[place + 1..] {
                let Some(other_code) = other_code.filter(|&code| code == OK || is_final(code)) else { continue };
                if (code == OK) == (other_code == OK) {
                    continue;
                }
                // Of two at once the one that came too late may have ended first; of two in a row never.
                let (ok, refused) = if code == OK { (*call, *other) } else { (*other, *call) };
                let both = format!("a recall of {id} was OK and another one was refused for good");
                if ok.end_us < Some(refused.begin_us) || refused.end_us < Some(ok.begin_us) {
                    return Err(Violation::new(PROMISE, both, &about));
                }
            }
            let due_ms = view.sends_of(id).find_map(|send| send.message.ask.due_ms);
            let latest_us = view.server_clock_at_most_us(call.end_us.unwrap_or(u64::MAX)) + ROUNDING_US;
            if code != OK && due_ms.is_some_and(|due_ms| latest_us < due_ms * 1000) {
                let finding = format!("a recall of {id} was refused with {code} before {due_ms:?}, when it was due");
                return Err(Violation::new(PROMISE, finding, &about));
            }
        }
    }
    Ok(())
}

/// Whether a refusal says something of the message and not of the moment.
fn is_final(code: i32) -> bool {
    (40_000..42_900).contains(&code) || code == super::super::PRECONDITION_FAILED
}
