//! Who gets what from a lite topic.

use super::super::{Answer, Call, OK, Request};
use super::Violation;
use super::view::View;

/// A message of a lite topic is given to a client that has named that lite topic, and to no other.
pub fn a_lite_message_goes_to_subscribers_only(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "a lite message goes to subscribers only";
    for delivered in &view.deliveries {
        let Some(lite_topic) = &delivered.got.lite_topic else { continue };
        if View::dead_letter_group(&delivered.receive.topic).is_some() {
            continue;
        }
        let (client, group) = (&delivered.call.client, &delivered.receive.group);
        let mut subscribed = false;
        let mut asked = view.history.calls.iter().filter(|call| call.client == *client).filter(|call| is_kept(call));
        let mut last_end_us = 0;
        for call in asked.by_ref() {
            let Request::Subscribe { group: named, topic, lite_topics, whole } = &call.request else { continue };
            if named != group || *topic != delivered.receive.topic || call.begin_us > delivered.got.at_us {
                continue;
            }
            let names_it = lite_topics.contains(lite_topic);
            // Without it, a whole set takes it away once it was certainly taken, if nothing else was under way.
            let certainly = matches!(call.answer, Answer::Subscribed(OK))
                && call.end_us.is_some_and(|end_us| end_us < delivered.earliest())
                && call.begin_us > last_end_us;
            subscribed = names_it || subscribed && !(*whole && certainly);
            last_end_us = last_end_us.max(call.end_us.unwrap_or(u64::MAX));
        }
        if !subscribed {
            let id = delivered.got.id.as_str();
            let finding = format!("{client} of group {group} got {id} of {lite_topic}, which it had not named");
            return Err(Violation::new(PROMISE, finding, &[id, lite_topic]));
        }
    }
    Ok(())
}

/// Whether a call may have changed anything.
fn is_kept(call: &Call) -> bool {
    match &call.answer {
        Answer::Subscribed(code) => *code == OK,
        Answer::Refused(_) => false,
        _ => true,
    }
}
