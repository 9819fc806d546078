//! What the two halves of a transaction promise.

use super::super::Request;
use super::Violation;
use super::settles::ROUNDING_US;
use super::view::{Outcome, Resolution, View};

/// Longest time that a question may have been on its way to a client.
const ON_ITS_WAY_US: u64 = 5_000_000;
/// Questions after which a transaction may be given up by the server.
const QUESTIONS_MAX: usize = 10;

/// Nobody gets a transactional message before somebody began to commit it.
pub fn nothing_is_visible_before_its_commit(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "nothing is visible before its commit";
    for delivered in &view.deliveries {
        let id = delivered.got.id.as_str();
        let Some(half) = view.sends_of(id).find(|send| send.message.ask.half) else { continue };
        if !view.maybe_resolved(half.topic, id, true, delivered.got.at_us) {
            let finding = format!(
                "{id} was delivered to {} at {} ms and not committed by then",
                delivered.receive.group,
                delivered.got.at_us / 1000
            );
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// After a rollback with OK nobody has got the message or ever gets it.
pub fn a_rolled_back_message_is_delivered_to_nobody(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a rolled back message is delivered to nobody";
    for delivered in &view.deliveries {
        let id = delivered.got.id.as_str();
        let Some(half) = view.sends_of(id).find(|send| send.message.ask.half) else { continue };
        let ends = view.resolutions.get(&(half.topic, id)).into_iter().flatten();
        if ends.into_iter().any(|end| !end.commit && end.ok()) {
            let finding = format!("{id} was rolled back with OK and delivered to {}", delivered.receive.group);
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// A transaction is committed or rolled back, never both; the same end again is OK again; and one that is pending can be
/// ended either way.
pub fn a_transaction_has_one_end(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a transaction has one end";
    for call in &view.history.calls {
        let Request::Resolve { id, topic, genuine: false, .. } = &call.request else { continue };
        if matches!(call.answer, super::super::Answer::Resolved(super::super::OK)) {
            let finding = format!("{id} was ended with OK on {topic}, where nobody sent it");
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    for ((topic, id), ends) in &view.resolutions {
        let ok = |commit: bool| ends.iter().filter(move |end| end.commit == commit && end.ok());
        if ok(true).next().is_some() && ok(false).next().is_some() {
            return Err(Violation::new(PROMISE, format!("{id} was committed and rolled back with OK"), &[id]));
        }
        for end in ends.iter().filter(|end| end.code.is_some_and(is_final)) {
            let begin_us = end.call.begin_us;
            if ok(end.commit).any(|earlier| earlier.call.end_us < Some(begin_us)) {
                let finding = format!("{id} was ended with OK, and the same end again was refused with {:?}", end.code);
                return Err(Violation::new(PROMISE, finding, &[id]));
            }
            let known = view
                .sends_of(id)
                .any(|send| send.topic == *topic && send.acknowledged() && send.call.end_us < Some(begin_us));
            let otherwise = view.maybe_resolved(topic, id, !end.commit, end.call.end_us.unwrap_or(u64::MAX));
            let questions = view.history.checks.iter().filter(|check| check.id == **id).count();
            if known && !otherwise && questions < QUESTIONS_MAX {
                let finding = format!("{id} was pending, and its end was refused with {:?}", end.code);
                return Err(Violation::new(PROMISE, finding, &[id]));
            }
        }
    }
    Ok(())
}

/// Whether a refusal says something of the transaction and not of the moment.
fn is_final(code: i32) -> bool {
    code != super::super::OK && ((40_000..42_900).contains(&code) || code == super::super::PRECONDITION_FAILED)
}

/// After an end with OK nobody is asked any more.
pub fn a_resolved_transaction_is_not_asked_about(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a resolved transaction is not asked about";
    for check in &view.history.checks {
        let ends = view.resolutions.get(&(check.topic.as_str(), check.id.as_str())).into_iter().flatten();
        let ended_us = ends.into_iter().filter(|end| end.ok()).filter_map(|end: &Resolution<'_>| end.call.end_us).min();
        if let Some(ended_us) = ended_us.filter(|ended_us| ended_us + ON_ITS_WAY_US < check.at_us) {
            let id = check.id.as_str();
            let finding = format!(
                "{id} was ended with OK at {} ms, and {} was asked about it at {} ms",
                ended_us / 1000,
                check.client,
                check.at_us / 1000
            );
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}

/// A question carries the message as it was sent, and comes when the message is old enough, not earlier.
pub fn a_question_is_complete_and_in_time(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a question is complete and in time";
    for check in &view.history.checks {
        let id = check.id.as_str();
        let possible = |half: &&super::view::SendAttempt<'_>| {
            half.message.ask.half && half.topic == check.topic && half.outcome != Outcome::Refused
        };
        // A retry with the same id is the same message: the first one counts.
        let Some(half) = view.sends_of(id).find(possible) else {
            let finding = format!("{} was asked about {id:?} of {}, which nobody sent so", check.client, check.topic);
            return Err(Violation::new(PROMISE, finding, &[id]));
        };
        let sent = (half.message.id.as_str(), half.message.tag.as_str(), half.message.body_hash);
        let asked = (check.transaction_id.as_str(), check.tag.as_str(), check.body_hash);
        if sent != asked || half.message.ask.message_group != check.message_group {
            let finding = format!("sent {:?}, asked {check:?}", half.message);
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
        let begin_us = half.call.begin_us;
        let least_us = half.message.ask.orphan_us.unwrap_or(view.history.terms.first_check_us);
        let passed_us = check.at_us - begin_us.min(check.at_us) + view.gained(begin_us, check.at_us) + ROUNDING_US;
        if passed_us < least_us {
            let finding = format!(
                "{} was asked about {id} {} ms after it was sent; that is {} ms early",
                check.client,
                passed_us / 1000,
                (least_us - passed_us) / 1000
            );
            return Err(Violation::new(PROMISE, finding, &[id]));
        }
    }
    Ok(())
}
