//! Deliberate lies: each turns a true history into one that a faulty server could have caused. The checker must
//! see every one of them, or its silence means nothing.

use std::collections::BTreeSet;

use super::{
    Answer, Call, DEAD_LETTER_PREFIX, Delivery, History, INVALID_RECEIPT_HANDLE, OK, Receipt, ReceiveRequest, Request,
};

/// A lie: its name, the promise that must be named for it, and the change. `false`: this history gives no occasion.
pub struct Mutant {
    pub name: &'static str,
    pub promise: &'static str,
    pub apply: fn(&mut History) -> bool,
}

pub const MUTANTS: [Mutant; 12] = [
    Mutant { name: "an acknowledged send is dropped", promise: "no acknowledged send is missing", apply: drop_a_send },
    Mutant {
        name: "an acked message comes back",
        promise: "an acked message does not come back",
        apply: redeliver_an_acked,
    },
    Mutant {
        name: "a stale handle is answered OK",
        promise: "an expired or superseded handle is refused",
        apply: accept_a_stale_handle,
    },
    Mutant {
        name: "a message is overlooked",
        promise: "an empty receive means that nothing was deliverable",
        apply: overlook_a_message,
    },
    Mutant {
        name: "two sends get one offset",
        promise: "queue offsets of acknowledged sends are unique",
        apply: share_an_offset,
    },
    Mutant {
        name: "two offsets are exchanged",
        promise: "queue offsets follow the order of acknowledged sends",
        apply: exchange_offsets,
    },
    Mutant {
        name: "an attempt is not counted",
        promise: "attempts never decrease within a process life",
        apply: forget_an_attempt,
    },
    Mutant {
        name: "a body is changed",
        promise: "every delivered message was sent and has its bytes",
        apply: change_a_body,
    },
    Mutant {
        name: "a message is given to two at once",
        promise: "no two live leases of one message at once",
        apply: lease_twice,
    },
    Mutant {
        name: "a dead letter is written twice",
        promise: "a dead letter is stored exactly once",
        apply: bury_twice,
    },
    Mutant {
        name: "a message is buried too early",
        promise: "a dead letter comes only after the last attempt or a forward",
        apply: bury_early,
    },
    Mutant { name: "a stranger's ack is taken", promise: "a foreign handle is refused", apply: accept_a_stranger },
];

pub fn is_dead(topic: &str) -> bool {
    topic.starts_with(DEAD_LETTER_PREFIX)
}

/// Deliveries to checked groups, with the index of their call.
pub fn deliveries(history: &History) -> Vec<(usize, ReceiveRequest, Delivery)> {
    let mut found = Vec::new();
    for (index, call) in history.calls.iter().enumerate() {
        let Request::Receive(receive) = &call.request else { continue };
        if history.terms.groups.contains_key(&receive.group) {
            found.extend(call.deliveries().iter().map(|got| (index, receive.clone(), got.clone())));
        }
    }
    found
}

pub fn messages_of(call: &mut Call) -> Option<&mut Vec<Delivery>> {
    match &mut call.answer {
        Answer::Received { messages, .. } => Some(messages),
        _ => None,
    }
}

/// Handles that some answer accepted for good, with the end of the call.
pub fn acked(history: &History) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for call in &history.calls {
        if let (Request::Ack { handles, .. }, Answer::Acked(codes)) = (&call.request, &call.answer) {
            let ok = handles.iter().zip(codes).filter(|(_, code)| **code == OK);
            found.extend(ok.map(|(handle, _)| (handle.clone(), call.end_us.unwrap_or(u64::MAX))));
        }
    }
    found
}

pub fn ids_sent_once(history: &History) -> BTreeSet<String> {
    let mut once = BTreeSet::new();
    let mut more = BTreeSet::new();
    for call in &history.calls {
        if let Request::Send { messages, .. } = &call.request {
            for message in messages {
                if !once.insert(message.id.clone()) {
                    more.insert(message.id.clone());
                }
            }
        }
    }
    &once - &more
}

pub fn append(history: &mut History, request: Request, answer: Answer, lasting_us: u64) {
    let last = history.calls.iter().filter_map(|call| call.end_us).max().unwrap_or(0);
    let call =
        Call { client: "liar".to_owned(), begin_us: last + 1, end_us: Some(last + 1 + lasting_us), request, answer };
    history.calls.push(call);
}

fn drop_a_send(history: &mut History) -> bool {
    let once = ids_sent_once(history);
    let taken = |history: &History, topic: &str, tag: &str| {
        history.terms.groups.values().any(|group| group.topic == topic && group.takes(tag))
    };
    let victim = history.calls.iter().find_map(|call| match (&call.request, &call.answer) {
        (Request::Send { topic, messages }, Answer::Sent(results)) => messages
            .iter()
            .zip(results)
            .find(|(message, result)| {
                result.is_ok()
                    && !message.ask.is_held()
                    && once.contains(&message.id)
                    && taken(history, topic, &message.tag)
            })
            .map(|(message, _)| message.id.clone()),
        _ => None,
    });
    let Some(victim) = victim else { return false };
    for call in &mut history.calls {
        if let Some(messages) = messages_of(call) {
            messages.retain(|got| got.id != victim);
        }
    }
    true
}

fn redeliver_an_acked(history: &mut History) -> bool {
    let acked = acked(history);
    let victim = deliveries(history).into_iter().find(|(_, receive, got)| {
        !history.terms.groups[&receive.group].ordered && acked.iter().any(|(handle, _)| *handle == got.handle)
    });
    let Some((_, receive, got)) = victim else { return false };
    let last = history.calls.iter().filter_map(|call| call.end_us).max().unwrap_or(0);
    let again = Delivery { at_us: last + 2, attempt: got.attempt + 1, handle: "again".to_owned(), ..got };
    let receive = ReceiveRequest { attempt_id: None, ..receive };
    append(history, Request::Receive(receive), Answer::Received { messages: vec![again], complete: true }, 10);
    true
}

/// An ack that was refused because its message had been given out anew: its call, its place there, and the delivery.
fn superseded_ack(history: &History) -> Option<(usize, usize, String, Delivery)> {
    let all = deliveries(history);
    for (index, call) in history.calls.iter().enumerate() {
        let (Request::Ack { group, handles, .. }, Answer::Acked(codes)) = (&call.request, &call.answer) else {
            continue;
        };
        for (place, handle) in handles.iter().enumerate() {
            let held = all.iter().find(|(_, receive, got)| got.handle == *handle && receive.group == *group);
            let Some((_, receive, got)) = held.filter(|_| codes[place] == INVALID_RECEIPT_HANDLE) else { continue };
            let newer = all.iter().any(|(other, wish, again)| {
                wish.group == receive.group
                    && wish.attempt_id.is_none()
                    && (&again.id, again.queue, again.offset) == (&got.id, got.queue, got.offset)
                    && history.calls[*other].begin_us > got.at_us
                    && again.at_us < call.begin_us
            });
            // Where the message is done by then, OK would be no lie.
            let mut texts: Vec<&String> = all
                .iter()
                .filter(|(_, wish, other)| wish.group == receive.group && other.id == got.id)
                .map(|(_, _, other)| &other.handle)
                .collect();
            for other in &history.calls {
                // A change answers with another text of the same delivery, and that may be the one that was acked.
                if let (Request::Change { handle, .. }, Answer::Changed { code: OK, handle: text }) =
                    (&other.request, &other.answer)
                    && texts.contains(&handle)
                {
                    texts.push(text);
                }
            }
            let done = history.calls.iter().filter(|other| other.begin_us < call.end_us.unwrap_or(u64::MAX)).any(
                |other| match (&other.request, &other.answer) {
                    (Request::Ack { handles, .. }, Answer::Acked(codes)) => handles
                        .iter()
                        .zip(codes)
                        .any(|(text, code)| texts.contains(&text) && *code != INVALID_RECEIPT_HANDLE),
                    (Request::Ack { handles, .. }, _) => handles.iter().any(|text| texts.contains(&text)),
                    (Request::Forward { handle, .. }, answer) => {
                        texts.contains(&handle) && !matches!(answer, Answer::Forwarded(INVALID_RECEIPT_HANDLE))
                    }
                    _ => false,
                },
            );
            let buried = history.calls.iter().any(|other| {
                matches!(&other.request, Request::Receive(wish) if wish.topic == format!("{DEAD_LETTER_PREFIX}{group}"))
                    && other.deliveries().iter().any(|letter| letter.id == got.id)
            });
            if newer && !done && !buried {
                return Some((index, place, group.clone(), got.clone()));
            }
        }
    }
    None
}

fn accept_a_stale_handle(history: &mut History) -> bool {
    let Some((index, place, group, got)) = superseded_ack(history) else { return false };
    let acked_us = history.calls[index].begin_us;
    if let Answer::Acked(codes) = &mut history.calls[index].answer {
        codes[place] = OK;
    }
    // What came back afterwards would betray the lie under another name.
    for call in &mut history.calls {
        let mine = matches!(&call.request, Request::Receive(wish) if wish.group == group);
        if let Some(messages) = messages_of(call).filter(|_| mine) {
            let same = |other: &Delivery| (&other.id, other.queue, other.offset) == (&got.id, got.queue, got.offset);
            messages.retain(|other| !same(other) || other.at_us < acked_us);
        }
    }
    true
}

/// Sends of one message that were acknowledged, with where a delivery saw them.
fn placed_sends(history: &History) -> Vec<(usize, String, i32, i64)> {
    let once = ids_sent_once(history);
    let all = deliveries(history);
    let mut found = Vec::new();
    for (index, call) in history.calls.iter().enumerate() {
        let (Request::Send { topic, messages }, Answer::Sent(results)) = (&call.request, &call.answer) else {
            continue;
        };
        let ([message], [Ok(receipt)]) = (messages.as_slice(), results.as_slice()) else { continue };
        let offset = &receipt.offset;
        if !once.contains(&message.id) || message.ask.is_held() {
            continue;
        }
        if let Some((_, _, got)) = all.iter().find(|(_, receive, got)| got.id == message.id && receive.topic == *topic)
        {
            found.push((index, topic.clone(), got.queue, *offset));
        }
    }
    found
}

/// Moves a message to another place everywhere.
fn move_message(history: &mut History, index: usize, offset: i64) {
    let Request::Send { messages, .. } = &history.calls[index].request else { return };
    let id = messages[0].id.clone();
    history.calls[index].answer = Answer::Sent(vec![Ok(Receipt::at(offset))]);
    for call in &mut history.calls {
        if matches!(&call.request, Request::Receive(receive) if is_dead(&receive.topic)) {
            continue;
        }
        for got in messages_of(call).into_iter().flatten().filter(|got| got.id == id) {
            got.offset = offset;
        }
    }
}

fn share_an_offset(history: &mut History) -> bool {
    let placed = placed_sends(history);
    let pair = placed.iter().enumerate().find_map(|(place, one)| {
        placed[place + 1..]
            .iter()
            .find(|other| one.1 == other.1 && one.2 == other.2)
            .map(|other| (one.clone(), other.clone()))
    });
    let Some((one, other)) = pair else { return false };
    let Request::Send { messages, .. } = &history.calls[other.0].request else { return false };
    let id = messages[0].id.clone();
    history.calls[other.0].answer = Answer::Sent(vec![Ok(Receipt::at(one.3))]);
    // One consumer each, so that no delivery shows two messages at one place: only the answers lie.
    let mut kept = false;
    for call in &mut history.calls {
        for got in messages_of(call).into_iter().flatten().filter(|got| got.id == id) {
            got.offset = one.3;
            kept = true;
        }
    }
    kept
}

fn exchange_offsets(history: &mut History) -> bool {
    let placed = placed_sends(history);
    let pair = placed.iter().enumerate().find_map(|(place, one)| {
        let later = placed[place + 1..].iter().find(|other| {
            one.1 == other.1
                && one.2 == other.2
                && history.calls[one.0].end_us.is_some_and(|end| end < history.calls[other.0].begin_us)
        });
        later.map(|other| (one.clone(), other.clone()))
    });
    let Some((one, other)) = pair else { return false };
    move_message(history, one.0, other.3);
    move_message(history, other.0, one.3);
    true
}

/// Two deliveries of one copy to one group, the second begun after the first arrived, without a process end between them.
fn redelivered(history: &History) -> Option<(usize, usize, Delivery, Delivery)> {
    let all = deliveries(history);
    for (place, (first_call, receive, first)) in all.iter().enumerate() {
        let again = all[place + 1..].iter().find(|(second_call, other, second)| {
            receive.group == other.group
                && receive.topic == other.topic
                && (first.queue, first.offset) == (second.queue, second.offset)
                && other.attempt_id.is_none()
                && receive.attempt_id.is_none()
                && history.calls[*second_call].begin_us > first.at_us
                && !history.events.iter().any(|(at, event)| {
                    matches!(event, super::Event::Ending(_) | super::Event::Ended)
                        && *at + 1_000_000 > history.calls[*first_call].begin_us
                        && *at < second.at_us
                })
        });
        if let Some((second_call, _, second)) = again {
            return Some((*first_call, *second_call, first.clone(), second.clone()));
        }
    }
    None
}

fn forget_an_attempt(history: &mut History) -> bool {
    let Some((_, second_call, first, second)) = redelivered(history) else { return false };
    for got in messages_of(&mut history.calls[second_call]).into_iter().flatten() {
        if got.handle == second.handle {
            got.attempt = first.attempt;
        }
    }
    true
}

fn change_a_body(history: &mut History) -> bool {
    let Some((index, _, got)) = deliveries(history).into_iter().next() else { return false };
    for message in messages_of(&mut history.calls[index]).into_iter().flatten() {
        if message.handle == got.handle {
            message.body_hash ^= 1;
        }
    }
    true
}

fn lease_twice(history: &mut History) -> bool {
    let held = deliveries(history).into_iter().find(|(_, receive, _)| {
        receive.attempt_id.is_none()
            && matches!(receive.lease, super::Lease::Fixed { invisible_us } if invisible_us > 100_000)
    });
    let Some((index, receive, got)) = held else { return false };
    // Nothing was done with the first handle, and right after it the message is somebody else's.
    for call in &mut history.calls {
        let touches = match &mut call.request {
            Request::Ack { handles, .. } => handles.contains(&got.handle),
            Request::Change { handle, .. } | Request::Forward { handle, .. } => *handle == got.handle,
            _ => false,
        };
        if touches {
            call.request = Request::Terminate { group: "nobody".to_owned() };
            call.answer = Answer::Terminated;
        }
        if let Some(messages) = messages_of(call) {
            messages.retain(|other| {
                (&other.id, other.queue, other.offset) != (&got.id, got.queue, got.offset) || other.handle == got.handle
            });
        }
    }
    history.events.clear();
    history.calls[index].begin_us = got.at_us.saturating_sub(10);
    let second =
        Delivery { at_us: got.at_us + 20, handle: "second".to_owned(), attempt: got.attempt + 1, ..got.clone() };
    let call = Call {
        client: "liar".to_owned(),
        begin_us: got.at_us + 1,
        end_us: Some(got.at_us + 30),
        request: Request::Receive(receive),
        answer: Answer::Received { messages: vec![second], complete: true },
    };
    history.calls.push(call);
    true
}

fn undertaker(group: &str) -> ReceiveRequest {
    ReceiveRequest {
        group: format!("{group}-undertaker"),
        topic: format!("{DEAD_LETTER_PREFIX}{group}"),
        lease: super::Lease::Fixed { invisible_us: 1 },
        attempt_id: None,
    }
}

fn bury(history: &mut History, group: &str, id: &str, offset: i64) {
    let sent = history.calls.iter().find_map(|call| match &call.request {
        Request::Send { messages, .. } => messages.iter().find(|message| message.id == id).cloned(),
        _ => None,
    });
    let Some(sent) = sent else { return };
    let last = history.calls.iter().filter_map(|call| call.end_us).max().unwrap_or(0);
    let letter = Delivery {
        at_us: last + 2,
        id: id.to_owned(),
        handle: format!("letter-{offset}"),
        attempt: 1,
        queue: 0,
        offset,
        tag: sent.tag,
        body_hash: sent.body_hash,
        message_group: sent.ask.message_group,
        lite_topic: sent.ask.lite_topic,
        due_ms: sent.ask.due_ms,
    };
    append(
        history,
        Request::Receive(undertaker(group)),
        Answer::Received { messages: vec![letter], complete: true },
        10,
    );
}

fn bury_twice(history: &mut History) -> bool {
    let once = ids_sent_once(history);
    let Some((_, receive, got)) = deliveries(history).into_iter().find(|(_, _, got)| once.contains(&got.id)) else {
        return false;
    };
    bury(history, &receive.group, &got.id, 1_000_001);
    bury(history, &receive.group, &got.id, 1_000_002);
    true
}

fn bury_early(history: &mut History) -> bool {
    let once = ids_sent_once(history);
    let acked = acked(history);
    let forwarded: BTreeSet<String> = history
        .calls
        .iter()
        .filter_map(|call| match &call.request {
            Request::Forward { handle, .. } => Some(handle.clone()),
            _ => None,
        })
        .collect();
    let all = deliveries(history);
    let victim = all.iter().find(|(_, receive, got)| {
        let same = |other: &&(usize, ReceiveRequest, Delivery)| other.1.group == receive.group && other.2.id == got.id;
        once.contains(&got.id)
            && !history.terms.groups[&receive.group].ordered
            && acked.iter().any(|(handle, _)| *handle == got.handle)
            && !all.iter().filter(same).any(|(_, _, other)| forwarded.contains(&other.handle))
    });
    let Some((_, receive, got)) = victim else { return false };
    let (group, id) = (receive.group.clone(), got.id.clone());
    bury(history, &group, &id, 1_000_003);
    true
}

fn accept_a_stranger(history: &mut History) -> bool {
    let all = deliveries(history);
    for call in &mut history.calls {
        let (Request::Ack { group, handles, .. }, Answer::Acked(codes)) = (&call.request, &mut call.answer) else {
            continue;
        };
        for (place, handle) in handles.iter().enumerate() {
            let foreign = all.iter().any(|(_, receive, got)| got.handle == *handle && receive.group != *group);
            if foreign && codes[place] == INVALID_RECEIPT_HANDLE {
                codes[place] = OK;
                return true;
            }
        }
    }
    false
}

/// An empty receive, just before the receive that got a message first.
fn overlook_a_message(history: &mut History) -> bool {
    let once = ids_sent_once(history);
    let sent = history.calls.iter().find_map(|call| match (&call.request, &call.answer) {
        (Request::Send { topic, messages }, Answer::Sent(results)) => {
            let first = messages.first().filter(|message| {
                once.contains(&message.id) && results[0].is_ok() && message.ask == super::Ask::default()
            })?;
            let group =
                history.terms.groups.iter().find(|(_, group)| group.topic == *topic && group.takes(&first.tag))?;
            Some((topic.clone(), group.0.clone(), call.end_us?))
        }
        _ => None,
    });
    let Some((topic, group, end_us)) = sent else { return false };
    history.events.clear();
    // All that the group did and might excuse the answer is made later.
    for call in &mut history.calls {
        if matches!(&call.request, Request::Receive(receive) if receive.group == group) {
            call.begin_us = call.begin_us.max(end_us + 20);
        }
    }
    let lease = super::Lease::Fixed { invisible_us: 1 };
    let request = Request::Receive(ReceiveRequest { group, topic, lease, attempt_id: None });
    let answer = Answer::Received { messages: Vec::new(), complete: true };
    history.calls.push(Call {
        client: "liar".to_owned(),
        begin_us: end_us + 2,
        end_us: Some(end_us + 10),
        request,
        answer,
    });
    true
}
