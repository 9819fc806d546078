//! What a delivered message is.

use std::collections::BTreeMap;

use super::super::{Answer, Call, Event, Request, UNREAD};
use super::Violation;
use super::view::{Outcome, View};

/// Every delivered message was sent to that topic (a dead letter to a topic that its group reads), with these
/// bytes and this tag; and one place of a queue holds one message for ever.
pub fn every_delivered_message_was_sent_and_has_its_bytes(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "every delivered message was sent and has its bytes";
    let mut places: BTreeMap<(&str, i32, i64), &str> = BTreeMap::new();
    for delivered in &view.deliveries {
        let (id, topic) = (delivered.got.id.as_str(), delivered.receive.topic.as_str());
        let source = match View::dead_letter_group(topic).and_then(|group| view.group(group)) {
            Some(terms) => terms.topic.as_str(),
            None => topic,
        };
        let attempts = view.sends_by_id.get(id).map_or(&[][..], Vec::as_slice);
        let Some(sent) = attempts.iter().map(|&index| &view.sends[index]).find(|send| send.topic == source) else {
            let finding = format!("{id} was delivered from {topic}, but nobody sent it to {source}");
            return Err(Violation::new(PROMISE, finding, &[id]));
        };
        if sent.message.body_hash != delivered.got.body_hash || sent.message.tag != delivered.got.tag {
            let finding = format!(
                "{id} was delivered with other bytes or another tag: sent {:?}, got {:?}",
                sent.message, delivered.got
            );
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
        let (ask, got) = (&sent.message.ask, delivered.got);
        let asked = (&ask.message_group, &ask.lite_topic, ask.due_ms);
        if source == topic && asked != (&got.message_group, &got.lite_topic, got.due_ms) {
            let finding = format!("{id} was delivered as another kind: sent {ask:?}, got {got:?}");
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
        let place = (topic, delivered.got.queue, delivered.got.offset);
        let holder = *places.entry(place).or_insert(id);
        if holder != id {
            let finding = format!("offset {} of {topic} queue {} held {holder} and {id}", place.2, place.1);
            return Err(Violation::new(PROMISE, finding, &[holder, id]));
        }
    }
    Ok(())
}

/// A message whose sends were all refused is delivered to nobody.
pub fn a_refused_send_stored_nothing(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a refused send stored nothing";
    for delivered in &view.deliveries {
        let id = delivered.got.id.as_str();
        let attempts = view.sends_by_id.get(id).map_or(&[][..], Vec::as_slice);
        if attempts.iter().all(|&index| view.sends[index].outcome == Outcome::Refused) {
            return Err(Violation::new(PROMISE, format!("{id} was refused and delivered"), &[id]));
        }
    }
    Ok(())
}

/// Each try of a send stores at most one copy, and an acknowledged one exactly where it said.
pub fn one_send_stores_one_copy(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "one send stores one copy";
    for (id, places) in view.copies_of() {
        let attempts = view.sends_by_id.get(id).map_or(&[][..], Vec::as_slice);
        let mut possible = attempts.iter().filter(|&&index| view.sends[index].outcome != Outcome::Refused).count();
        if view.sends_of(id).any(|send| send.message.ask.half) {
            // A half message sent again while its transaction is known is the same one.
            possible = possible.min(1);
        }
        if places.len() > possible {
            let finding = format!("{id} was sent {possible} times at most and lies at {places:?}");
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
        let all_known =
            attempts.iter().all(|&index| !matches!(view.sends[index].outcome, Outcome::Unknown | Outcome::Held));
        let said = |offset: i64| attempts.iter().any(|&index| view.sends[index].outcome == Outcome::Stored(offset));
        if let Some(other) = places.iter().find(|(_, offset)| all_known && !said(*offset)) {
            let finding = format!("{id} lies at offset {} of queue {}, which no answer said", other.1, other.0);
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// A group sees only tags that its filter takes.
pub fn a_group_gets_only_what_its_filter_takes(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a group gets only what its filter takes";
    for delivered in &view.deliveries {
        let Some(terms) = view.group(&delivered.receive.group) else { continue };
        if !terms.takes(&delivered.got.tag) {
            let id = delivered.got.id.as_str();
            let finding =
                format!("group {} takes {:?} and got tag {:?}", delivered.receive.group, terms.tags, delivered.got.tag);
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// Around the end of a process a receive may end empty: it was told to go, or it met a process that was not there yet.
pub(super) const END_MARGIN_US: u64 = 2_000_000;
/// Longest time that a receive of these histories waits at the server, and longest that a lease of them lasts unseen.
pub(super) const WAIT_US_MAX: u64 = 5_000_000;
pub(super) const LEASE_US_MAX: u64 = 60_000_000;

/// After a disk was told not to give what is read, a message may stand aside: the time that the fault may wait for its read, the
/// pause of the broker, and a clock that is set back.
const UNREAD_US_MAX: u64 = 6_000_000;

/// "Nothing" means that nothing was deliverable to the group during the whole receive. Judged for messages of which it is
/// certain: acknowledged before the receive began, and taken by no receive that may have been there first.
pub fn an_empty_receive_means_that_nothing_was_deliverable(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "an empty receive means that nothing was deliverable";
    if view.history.terms.forgets {
        return Ok(());
    }
    for (group, terms) in &view.history.terms.groups {
        let first_taken = first_taken(view, group);
        let lost = view.history.calls.iter().filter(|call| receives(call, group) && !is_whole(call));
        let lost_us: Vec<u64> = lost.map(|call| call.begin_us).collect();
        let may_have_taken = |from_us: u64, to_us: u64| lost_us.iter().any(|at_us| (from_us..=to_us).contains(at_us));
        let unread = unread_us(view);
        for call in view.history.calls.iter().filter(|call| receives(call, group) && is_whole(call)) {
            let Some(end_us) = call.end_us.filter(|_| call.deliveries().is_empty()) else { continue };
            let from_us = call.begin_us.saturating_sub(END_MARGIN_US);
            let unread_from_us = call.begin_us.saturating_sub(UNREAD_US_MAX);
            if view.ends_within(from_us, end_us) || unread.iter().any(|at| (unread_from_us..=end_us).contains(at)) {
                continue;
            }
            let overlooked = view.sends.iter().find(|send| {
                let Outcome::Stored(offset) = send.outcome else { return false };
                let known_us = send.call.end_us.unwrap_or(u64::MAX);
                // A receive whose answer was lost may hold it, if it was there at the time and its lease may still last.
                let from_us =
                    send.call.begin_us.saturating_sub(WAIT_US_MAX).max(call.begin_us.saturating_sub(LEASE_US_MAX));
                let taken_us = first_taken.get(&(send.message.id.as_str(), offset)).copied().unwrap_or(u64::MAX);
                send.topic == terms.topic
                    && terms.takes(&send.message.tag)
                    && known_us < call.begin_us
                    && taken_us > end_us
                    && send.message.ask.lite_topic.is_none()
                    && !may_have_taken(from_us, end_us)
                    && !(terms.ordered && super::order::may_wait_for_another(view, group, send, call.begin_us))
            });
            if let Some(send) = overlooked {
                let id = send.message.id.as_str();
                let finding = format!(
                    "{id} was there from {} ms on, and group {group} got nothing from {} to {} ms",
                    send.call.end_us.unwrap_or(0) / 1000,
                    call.begin_us / 1000,
                    end_us / 1000,
                );
                return Err(Violation::new(PROMISE, finding, &[id]));
            }
        }
    }
    Ok(())
}

fn unread_us(view: &View<'_>) -> Vec<u64> {
    let notes = view.history.events.iter();
    notes.filter(|(_, event)| matches!(event, Event::Note(text) if text == UNREAD)).map(|(at_us, _)| *at_us).collect()
}

pub(super) fn receives(call: &Call, group: &str) -> bool {
    matches!(&call.request, Request::Receive(receive) if receive.group == group)
}

pub(super) fn is_whole(call: &Call) -> bool {
    matches!(call.answer, Answer::Received { complete: true, .. } | Answer::Refused(_))
}

/// Begin of the first receive of a group that got a copy, by id and offset.
pub(super) fn first_taken<'a>(view: &View<'a>, group: &str) -> BTreeMap<(&'a str, i64), u64> {
    let mut first: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for delivered in view.deliveries.iter().filter(|delivered| delivered.receive.group == group) {
        let begin_us = first.entry((&delivered.got.id, delivered.got.offset)).or_insert(u64::MAX);
        *begin_us = (*begin_us).min(delivered.call.begin_us);
    }
    first
}
