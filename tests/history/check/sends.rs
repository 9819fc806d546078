//! What an OK of a send promises.

use std::collections::BTreeMap;

use super::super::{GroupTerms, OK};
use super::Violation;
use super::view::{Kind, Outcome, SendAttempt, View};

const MISSING: &str = "no acknowledged send is missing";

/// Every acknowledged send reached every group that takes it: it was settled, it became a dead letter,
/// or the final drain got and acked it.
pub fn no_acknowledged_send_is_missing(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = MISSING;
    if !view.history.terms.drained || view.history.terms.forgets {
        return Ok(());
    }
    for (group, terms) in &view.history.terms.groups {
        let settled = settled_copies(view, group);
        let letters = view.dead_letters(group);
        for send in &view.sends {
            let Outcome::Stored(offset) = send.outcome else {
                let buried = letters.contains_key(send.message.id.as_str());
                if send.outcome == Outcome::Held && !buried {
                    a_held_message_came(view, send, group, terms, &settled)?;
                }
                continue;
            };
            let id = send.message.id.as_str();
            if send.topic != terms.topic || !terms.takes(&send.message.tag) {
                continue;
            }
            let fate = settled.get(&(id, offset));
            if fate == Some(&true) || letters.contains_key(id) {
                continue;
            }
            let seen = if fate.is_some() { "was delivered, never settled, and is gone" } else { "was never delivered" };
            let finding =
                format!("message {id}, acknowledged at offset {offset} of {}, {seen} for group {group}", send.topic);
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// A delayed message comes unless it may have been called back, and a transactional one if it was committed.
fn a_held_message_came(
    view: &View<'_>,
    send: &SendAttempt<'_>,
    group: &str,
    terms: &GroupTerms,
    settled: &BTreeMap<(&str, i64), bool>,
) -> Result<(), Violation> {
    let id = send.message.id.as_str();
    if send.topic != terms.topic || !terms.takes(&send.message.tag) {
        return Ok(());
    }
    let least = if send.message.ask.half {
        let committed = view.resolutions.get(&(send.topic, id)).into_iter().flatten().any(|one| one.commit && one.ok());
        usize::from(committed)
    } else {
        let stays = |send: &&SendAttempt<'_>| {
            let recalls = send.recall_handle().and_then(|handle| view.recalls.get(handle));
            let maybe = |(_, code): &(_, Option<i32>)| code.is_none_or(|code| code == OK);
            send.acknowledged() && !recalls.is_some_and(|recalls| recalls.iter().any(maybe))
        };
        view.sends_of(id).filter(stays).count()
    };
    let came = settled.iter().filter(|((other, _), done)| *other == id && **done).count();
    if came >= least {
        return Ok(());
    }
    let finding =
        format!("{id} was held back for {group} and should have come {least} times; it was settled {came} times");
    Err(Violation::new(MISSING, finding, &[id]))
}

/// Copies of a group by id and offset: whether something may have settled them.
fn settled_copies<'a>(view: &'a View<'_>, group: &str) -> BTreeMap<(&'a str, i64), bool> {
    let mut settled = BTreeMap::new();
    for delivered in view.deliveries.iter().filter(|delivered| delivered.receive.group == group) {
        let done = delivered
            .settles
            .iter()
            .any(|settle| settle.maybe() && settle.group == group && !matches!(settle.kind, Kind::Change { .. }));
        *settled.entry((delivered.got.id.as_str(), delivered.got.offset)).or_insert(false) |= done;
    }
    settled
}

/// The queue of every acknowledged send that some delivery tells. A retried id may have copies at the
/// same offset of two queues; such a send says nothing.
fn placed<'v, 'a>(view: &'v View<'a>) -> BTreeMap<(&'a str, i32), Vec<(i64, &'v SendAttempt<'a>)>> {
    let mut queues: BTreeMap<(&str, &str, i64), Vec<i32>> = BTreeMap::new();
    for delivered in &view.deliveries {
        let key = (delivered.receive.topic.as_str(), delivered.got.id.as_str(), delivered.got.offset);
        let known = queues.entry(key).or_default();
        if !known.contains(&delivered.got.queue) {
            known.push(delivered.got.queue);
        }
    }
    let mut placed: BTreeMap<(&str, i32), Vec<(i64, &SendAttempt<'a>)>> = BTreeMap::new();
    for send in &view.sends {
        let Outcome::Stored(offset) = send.outcome else { continue };
        if let Some([queue]) = queues.get(&(send.topic, send.message.id.as_str(), offset)).map(Vec::as_slice) {
            placed.entry((send.topic, *queue)).or_default().push((offset, send));
        }
    }
    for sends in placed.values_mut() {
        sends.sort_by_key(|(offset, send)| (*offset, send.call.begin_us));
    }
    placed
}

/// No two acknowledged sends have the same place.
pub fn offsets_of_acknowledged_sends_are_unique(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "queue offsets of acknowledged sends are unique";
    for ((topic, queue), sends) in placed(view) {
        for pair in sends.windows(2) {
            let ((one, first), (other, second)) = (pair[0], pair[1]);
            if one == other {
                let (first, second) = (first.message.id.as_str(), second.message.id.as_str());
                let finding =
                    format!("{first} and {second} were both acknowledged at offset {one} of {topic} queue {queue}");
                return Err(Violation::new(PROMISE, finding, &[first, second]));
            }
        }
    }
    Ok(())
}

/// In one queue, a send that began after another had ended has the larger offset; so has the later
/// message of one request.
pub fn a_later_send_has_the_larger_offset(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "queue offsets follow the order of acknowledged sends";
    for ((topic, queue), sends) in placed(view) {
        let mut latest: Option<(i64, &SendAttempt<'_>)> = None;
        let mut before: Option<(i64, &SendAttempt<'_>)> = None;
        for &(offset, send) in &sends {
            let end_us = send.call.end_us.unwrap_or(u64::MAX);
            let wrong = latest.filter(|(_, other)| end_us < other.call.begin_us).or_else(|| {
                before.filter(|(_, other)| std::ptr::eq(other.call, send.call) && other.place() > send.place())
            });
            if let Some((smaller, other)) = wrong {
                let (first, second) = (send.message.id.as_str(), other.message.id.as_str());
                let finding = format!(
                    "{first} was sent before {second}, but has offset {offset} and the other {smaller} in {topic} queue {queue}"
                );
                return Err(Violation::new(PROMISE, finding, &[first, second]));
            }
            if latest.is_none_or(|(_, other)| other.call.begin_us < send.call.begin_us) {
                latest = Some((offset, send));
            }
            before = Some((offset, send));
        }
    }
    Ok(())
}
