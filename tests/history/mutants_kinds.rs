//! Deliberate lies about messages that are more than plain ones.

use std::collections::BTreeMap;

use super::mutants::{Mutant, acked, append, deliveries, ids_sent_once, is_dead, messages_of};
use super::{Answer, Check, Delivery, History, OK, PRECONDITION_FAILED, Receipt, ReceiveRequest, Request, Sent};

pub const MUTANTS_OF_KINDS: [Mutant; 20] = [
    Mutant {
        name: "two messages of a lane change places in an answer",
        promise: "no message overtakes an earlier one of its lane",
        apply: exchange_in_an_answer,
    },
    Mutant {
        name: "a later message of a lane is handed out first",
        promise: "no message overtakes an earlier one of its lane",
        apply: overtake,
    },
    Mutant {
        name: "an acked message of a lane comes back alone",
        promise: "an acked message does not come back",
        apply: return_alone,
    },
    Mutant {
        name: "a less urgent message comes first",
        promise: "no message comes before one of a higher level",
        apply: pass_over,
    },
    Mutant { name: "a delayed message is early", promise: "no message comes before its time", apply: be_early },
    Mutant {
        name: "a recalled message is delivered",
        promise: "a recalled message is delivered to nobody",
        apply: deliver_a_recalled,
    },
    Mutant {
        name: "a recall that came too late is told OK",
        promise: "a recalled message is delivered to nobody",
        apply: recall_too_late,
    },
    Mutant {
        name: "a recall is refused and the message is gone",
        promise: "no acknowledged send is missing",
        apply: lose_after_a_refused_recall,
    },
    Mutant { name: "a recall in time is refused", promise: "a recall tells the truth", apply: refuse_in_time },
    Mutant { name: "a repeated recall is refused", promise: "a recall tells the truth", apply: refuse_a_repeat },
    Mutant {
        name: "a half message is delivered",
        promise: "nothing is visible before its commit",
        apply: deliver_uncommitted,
    },
    Mutant {
        name: "a rolled back message is delivered",
        promise: "a rolled back message is delivered to nobody",
        apply: deliver_rolled_back,
    },
    Mutant { name: "a committed message is lost", promise: "no acknowledged send is missing", apply: lose_a_committed },
    Mutant { name: "a committed message is stored twice", promise: "one send stores one copy", apply: commit_twice },
    Mutant { name: "both ends are taken", promise: "a transaction has one end", apply: take_both_ends },
    Mutant {
        name: "a resolved transaction is asked about",
        promise: "a resolved transaction is not asked about",
        apply: ask_too_late,
    },
    Mutant {
        name: "a question carries other bytes",
        promise: "a question is complete and in time",
        apply: ask_with_other_bytes,
    },
    Mutant { name: "a question comes early", promise: "a question is complete and in time", apply: ask_too_early },
    Mutant { name: "a dead letter is lost", promise: "no acknowledged send is missing", apply: lose_a_dead_letter },
    Mutant {
        name: "a lite message goes to a stranger",
        promise: "a lite message goes to subscribers only",
        apply: deliver_to_a_stranger,
    },
];

fn sent_of(history: &History, id: &str) -> Option<(String, Sent)> {
    history.calls.iter().find_map(|call| match &call.request {
        Request::Send { topic, messages } => {
            messages.iter().find(|message| message.id == id).map(|message| (topic.clone(), message.clone()))
        }
        _ => None,
    })
}

/// Pairs of deliveries to an ordered group from one lane and queue, the first with the smaller offset and sent once.
fn pair_in_a_lane(history: &History, same_call: bool) -> Option<[(usize, ReceiveRequest, Delivery); 2]> {
    let all: Vec<_> = deliveries(history)
        .into_iter()
        .filter(|(_, receive, _)| history.terms.groups[&receive.group].ordered && !is_dead(&receive.topic))
        .collect();
    let mut lanes: BTreeMap<&str, &str> = BTreeMap::new();
    for call in &history.calls {
        if let Request::Send { messages, .. } = &call.request {
            lanes.extend(messages.iter().filter_map(|sent| Some((sent.id.as_str(), sent.ask.lane()?))));
        }
    }
    let lane = |got: &Delivery| lanes.get(got.id.as_str()).copied();
    // One that may be dead excuses everything.
    let letters: std::collections::BTreeSet<&str> = history
        .calls
        .iter()
        .filter(|call| matches!(&call.request, Request::Receive(receive) if is_dead(&receive.topic)))
        .flat_map(|call| call.deliveries().iter().map(|got| got.id.as_str()))
        .collect();
    all.iter().enumerate().find_map(|(place, first)| {
        // Nothing was done before the first attempt.
        let is_first = first.2.attempt == 1 && first.1.attempt_id.is_none();
        let lane_of_first = lane(&first.2).filter(|_| is_first && !letters.contains(first.2.id.as_str()))?;
        let second = all[place + 1..].iter().find(|second| {
            (second.0 == first.0) == same_call
                && second.1.group == first.1.group
                && second.2.queue == first.2.queue
                && second.2.offset > first.2.offset
                && lane(&second.2) == Some(lane_of_first)
        })?;
        Some([first.clone(), second.clone()])
    })
}

fn exchange_in_an_answer(history: &mut History) -> bool {
    let Some([first, second]) = pair_in_a_lane(history, true) else { return false };
    // Where messages may leave, only a later delivery shows that this one had not.
    if history.terms.forgets {
        return false;
    }
    let Some(messages) = messages_of(&mut history.calls[first.0]) else { return false };
    let place = |got: &Delivery| messages.iter().position(|other| other.handle == got.handle);
    let (Some(one), Some(other)) = (place(&first.2), place(&second.2)) else { return false };
    let (one_us, other_us) = (messages[one].at_us, messages[other].at_us);
    messages.swap(one, other);
    (messages[one].at_us, messages[other].at_us) = (one_us, other_us);
    true
}

fn overtake(history: &mut History) -> bool {
    let Some([first, second]) = pair_in_a_lane(history, false) else { return false };
    let at_us = history.calls[first.0].begin_us.saturating_sub(3);
    let early = Delivery { at_us, handle: "overtaking".to_owned(), attempt: 1, ..second.2 };
    let receive = ReceiveRequest { attempt_id: None, ..first.1 };
    let call = super::Call {
        client: "liar".to_owned(),
        begin_us: at_us.saturating_sub(2),
        end_us: Some(at_us + 1),
        request: Request::Receive(receive),
        answer: Answer::Received { messages: vec![early], complete: true },
    };
    history.calls.push(call);
    true
}

fn pass_over(history: &mut History) -> bool {
    let mut sent: BTreeMap<&str, (i32, u64, u64)> = BTreeMap::new();
    let mut first: BTreeMap<&str, (u64, ReceiveRequest, Delivery)> = BTreeMap::new();
    let mut tries: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &history.calls {
        match (&call.request, &call.answer, call.end_us) {
            (Request::Send { messages, .. }, answer, end_us) => {
                for (place, one) in messages.iter().enumerate() {
                    *tries.entry(&one.id).or_default() += 1;
                    if let (Some(level), Answer::Sent(results), Some(end_us)) = (one.ask.priority, answer, end_us)
                        && matches!(results.get(place), Some(Ok(_)))
                    {
                        sent.insert(&one.id, (level.min(9), call.begin_us, end_us));
                    }
                }
            }
            (Request::Receive(receive), _, _) if is_dead(&receive.topic) => {}
            (Request::Receive(receive), Answer::Received { complete, .. }, _) => {
                // One whose answer was lost in part may have had anything.
                if !complete {
                    return false;
                }
                for got in call.deliveries() {
                    let known = first.entry(&got.id).or_insert_with(|| (call.begin_us, receive.clone(), got.clone()));
                    if call.begin_us < known.0 {
                        *known = (call.begin_us, receive.clone(), got.clone());
                    }
                }
            }
            (Request::Receive(_), _, _) => return false,
            _ => {}
        }
    }
    if history.terms.forgets || history.events.iter().any(|(_, event)| event.moved_ms() != 0) {
        return false;
    }
    let once = |id: &&str| tries.get(*id) == Some(&1);
    // Both were sent before the urgent one was received first, and the other one came later.
    let found = first.iter().filter(|(id, _)| once(id)).find_map(|(urgent, (at_us, receive, _))| {
        let (level, _, known_us) = *sent.get(urgent)?;
        if known_us + 10 >= *at_us || history.terms.groups.get(&receive.group).is_none_or(|terms| terms.ordered) {
            return None;
        }
        let other = first.iter().find(|(id, (later_us, other, _))| {
            let lower = sent.get(**id).is_some_and(|(lower, begin_us, end_us)| {
                *lower < level && known_us < begin_us + 9_000_000 && end_us + 10 < *at_us
            });
            once(id) && lower && later_us > at_us && other.group == receive.group
        })?;
        Some((*at_us, receive.clone(), other.1.2.clone()))
    });
    let Some((at_us, receive, got)) = found else { return false };
    let early = Delivery { at_us: at_us - 4, handle: "passing over".to_owned(), attempt: 1, ..got };
    history.calls.push(super::Call {
        client: "liar".to_owned(),
        begin_us: at_us - 6,
        end_us: Some(at_us - 3),
        request: Request::Receive(ReceiveRequest { attempt_id: None, ..receive }),
        answer: Answer::Received { messages: vec![early], complete: true },
    });
    true
}

fn return_alone(history: &mut History) -> bool {
    let acked = acked(history);
    let all = deliveries(history);
    let lane = |got: &Delivery| got.lite_topic.clone().or_else(|| got.message_group.clone());
    let dead: std::collections::BTreeSet<String> = history
        .calls
        .iter()
        .filter(|call| matches!(&call.request, Request::Receive(receive) if is_dead(&receive.topic)))
        .flat_map(|call| call.deliveries().iter().filter_map(lane))
        .collect();
    // The last that its lane has seen: nothing before it came again since, or died.
    let victim = all.iter().find(|(_, receive, got)| {
        history.terms.groups[&receive.group].ordered
            && acked.iter().any(|(handle, _)| *handle == got.handle)
            && lane(got).is_some_and(|lane| !dead.contains(&lane))
            && !all.iter().any(|(_, other, again)| {
                other.group == receive.group && lane(again) == lane(got) && again.at_us > got.at_us
            })
    });
    let victim = victim.cloned();
    let Some((_, receive, got)) = victim else { return false };
    deliver_at_the_end(history, &receive, Delivery { attempt: got.attempt + 1, ..got });
    true
}

fn deliver_at_the_end(history: &mut History, receive: &ReceiveRequest, got: Delivery) {
    let last = history.calls.iter().filter_map(|call| call.end_us).max().unwrap_or(0);
    let again = Delivery { at_us: last + 2, handle: "at the end".to_owned(), ..got };
    let receive = ReceiveRequest { attempt_id: None, ..receive.clone() };
    append(history, Request::Receive(receive), Answer::Received { messages: vec![again], complete: true }, 10);
}

/// A delivery to a checked group that no history has made: of what was sent, at a place that nothing has.
fn invent(history: &mut History, id: &str) -> bool {
    let Some((topic, sent)) = sent_of(history, id) else { return false };
    let group = history.terms.groups.iter().find(|(_, terms)| terms.topic == topic && terms.takes(&sent.tag));
    let Some((group, _)) = group else { return false };
    let lease = super::Lease::Fixed { invisible_us: 1 };
    let receive = ReceiveRequest { group: group.clone(), topic, lease, attempt_id: None };
    let got = Delivery {
        at_us: 0,
        id: sent.id,
        handle: String::new(),
        attempt: 1,
        queue: 0,
        offset: 2_000_001,
        tag: sent.tag,
        body_hash: sent.body_hash,
        message_group: sent.ask.message_group,
        lite_topic: sent.ask.lite_topic,
        due_ms: sent.ask.due_ms,
    };
    deliver_at_the_end(history, &receive, got);
    true
}

fn be_early(history: &mut History) -> bool {
    let Some((_, _, got)) = deliveries(history).into_iter().find(|(_, _, got)| got.due_ms.is_some()) else {
        return false;
    };
    // It was due long after the end of the history.
    let late_ms = got.due_ms.map(|due_ms| due_ms + 3_600_000);
    for call in &mut history.calls {
        if let Request::Send { messages, .. } = &mut call.request {
            for message in messages.iter_mut().filter(|message| message.id == got.id) {
                message.ask.due_ms = late_ms;
            }
        }
        for other in messages_of(call).into_iter().flatten().filter(|other| other.id == got.id) {
            other.due_ms = late_ms;
        }
    }
    true
}

/// Recalls of messages that were sent once, with their answers: id, handle, code and end.
fn recalls(history: &History) -> Vec<(String, String, i32, u64)> {
    let once = ids_sent_once(history);
    let receipts = receipts(history);
    let mut found = Vec::new();
    for call in &history.calls {
        if let (Request::Recall { id, handle, genuine: true, .. }, Answer::Recalled { code, .. }) =
            (&call.request, &call.answer)
            && once.contains(id)
            && receipts.iter().any(|(_, other, receipt)| other.id == *id && receipt.recall_handle == *handle)
        {
            found.push((id.clone(), handle.clone(), *code, call.end_us.unwrap_or(0)));
        }
    }
    found
}

/// Every message that was acknowledged, with its topic.
fn receipts(history: &History) -> Vec<(String, Sent, Receipt)> {
    let mut found = Vec::new();
    for call in &history.calls {
        if let (Request::Send { topic, messages }, Answer::Sent(results)) = (&call.request, &call.answer) {
            for (message, result) in messages.iter().zip(results) {
                if let Ok(receipt) = result {
                    found.push((topic.clone(), message.clone(), receipt.clone()));
                }
            }
        }
    }
    found
}

fn deliver_a_recalled(history: &mut History) -> bool {
    let Some((id, ..)) = recalls(history).into_iter().find(|(_, _, code, _)| *code == OK) else { return false };
    invent(history, &id)
}

/// A delayed message that was delivered, acknowledged once and never called back: topic, id and handle.
fn delivered_and_never_recalled(history: &History) -> Option<(String, Sent, String)> {
    let once = ids_sent_once(history);
    let all = deliveries(history);
    let recalled = |id: &str| {
        history.calls.iter().any(|call| matches!(&call.request, Request::Recall { id: other, .. } if other == id))
    };
    receipts(history)
        .into_iter()
        .find(|(_, sent, receipt)| {
            once.contains(&sent.id)
                && !receipt.recall_handle.is_empty()
                && !recalled(&sent.id)
                && all.iter().any(|(_, _, got)| got.id == sent.id)
        })
        .map(|(topic, sent, receipt)| (topic, sent, receipt.recall_handle))
}

fn append_recall(history: &mut History, topic: String, id: String, handle: String, code: i32) {
    let request = Request::Recall { topic, id: id.clone(), handle, genuine: true };
    append(history, request, Answer::Recalled { code, id }, 10);
}

fn recall_too_late(history: &mut History) -> bool {
    let Some((topic, sent, handle)) = delivered_and_never_recalled(history) else { return false };
    append_recall(history, topic, sent.id, handle, OK);
    true
}

fn forget_deliveries(history: &mut History, id: &str) {
    for call in &mut history.calls {
        if let Some(messages) = messages_of(call) {
            messages.retain(|got| got.id != id);
        }
    }
}

fn lose_after_a_refused_recall(history: &mut History) -> bool {
    let Some((topic, sent, handle)) = delivered_and_never_recalled(history) else { return false };
    forget_deliveries(history, &sent.id);
    append_recall(history, topic, sent.id, handle, PRECONDITION_FAILED);
    true
}

fn refuse_in_time(history: &mut History) -> bool {
    let Some((id, ..)) = recalls(history).into_iter().find(|(_, _, code, _)| *code == OK) else { return false };
    for call in &mut history.calls {
        match (&mut call.request, &mut call.answer) {
            (Request::Recall { id: other, .. }, Answer::Recalled { code, .. }) if *other == id => {
                *code = PRECONDITION_FAILED;
            }
            (Request::Send { messages, .. }, _) => {
                for message in messages.iter_mut().filter(|message| message.id == id) {
                    message.ask.due_ms = message.ask.due_ms.map(|due_ms| due_ms + 3_600_000);
                }
            }
            _ => {}
        }
    }
    true
}

fn refuse_a_repeat(history: &mut History) -> bool {
    let Some((id, handle, ..)) = recalls(history).into_iter().find(|(_, _, code, _)| *code == OK) else { return false };
    let Some((topic, _)) = sent_of(history, &id) else { return false };
    append_recall(history, topic, id, handle, PRECONDITION_FAILED);
    true
}

/// A transaction that was ended so with OK: topic and id.
fn resolved(history: &History, wanted: bool) -> Option<(String, String)> {
    history.calls.iter().find_map(|call| match (&call.request, &call.answer) {
        (Request::Resolve { topic, id, commit, genuine: true }, Answer::Resolved(OK)) if *commit == wanted => {
            let acknowledged = receipts(history).iter().any(|(_, sent, _)| sent.id == *id);
            acknowledged.then(|| (topic.clone(), id.clone()))
        }
        _ => None,
    })
}

fn deliver_uncommitted(history: &mut History) -> bool {
    let all = deliveries(history);
    let victim = receipts(history)
        .into_iter()
        .find(|(_, sent, _)| sent.ask.half && all.iter().any(|(_, _, got)| got.id == sent.id));
    let Some((_, sent, _)) = victim else { return false };
    history.calls.retain(|call| !matches!(&call.request, Request::Resolve { id, .. } if *id == sent.id));
    true
}

fn deliver_rolled_back(history: &mut History) -> bool {
    resolved(history, false).is_some_and(|(_, id)| invent(history, &id))
}

fn lose_a_committed(history: &mut History) -> bool {
    let Some((topic, id)) = resolved(history, true) else { return false };
    let Some((_, sent)) = sent_of(history, &id) else { return false };
    let taken = history.terms.groups.values().any(|terms| terms.topic == topic && terms.takes(&sent.tag));
    if !taken || history.terms.forgets {
        return false;
    }
    forget_deliveries(history, &id);
    true
}

fn commit_twice(history: &mut History) -> bool {
    let delivered = |id: &str| deliveries(history).iter().any(|(_, _, got)| got.id == id);
    match resolved(history, true).filter(|(_, id)| delivered(id)) {
        Some((_, id)) => invent(history, &id),
        None => false,
    }
}

fn take_both_ends(history: &mut History) -> bool {
    let Some((topic, id)) = resolved(history, true) else { return false };
    append(history, Request::Resolve { topic, id, commit: false, genuine: true }, Answer::Resolved(OK), 10);
    true
}

/// A question about a message as it would be true but for its time.
fn question(topic: String, sent: Sent, at_us: u64) -> Check {
    Check {
        client: "liar".to_owned(),
        at_us,
        topic,
        transaction_id: sent.id.clone(),
        id: sent.id,
        tag: sent.tag,
        body_hash: sent.body_hash,
        message_group: sent.ask.message_group,
    }
}

fn ask_too_late(history: &mut History) -> bool {
    let Some((topic, id)) = resolved(history, true) else { return false };
    let Some((_, sent)) = sent_of(history, &id) else { return false };
    let last = history.calls.iter().filter_map(|call| call.end_us).max().unwrap_or(0);
    history.checks.push(question(topic, sent, last + 60_000_000));
    true
}

fn ask_with_other_bytes(history: &mut History) -> bool {
    let Some((topic, sent, _)) = receipts(history).into_iter().find(|(_, sent, _)| sent.ask.half) else { return false };
    let last = history.calls.iter().filter_map(|call| call.end_us).max().unwrap_or(0);
    let mut check = question(topic, sent, last + 60_000_000);
    check.body_hash ^= 1;
    history.checks.push(check);
    true
}

fn ask_too_early(history: &mut History) -> bool {
    history.events.clear();
    let sent = history.calls.iter().find_map(|call| match (&call.request, &call.answer) {
        (Request::Send { topic, messages }, Answer::Sent(_)) => {
            let half = messages.iter().find(|sent| sent.ask.half)?;
            Some((topic.clone(), half.clone(), call.end_us?))
        }
        _ => None,
    });
    let Some((topic, sent, end_us)) = sent else { return false };
    history.checks.push(question(topic, sent, end_us + 1));
    true
}

/// A message whose group never settled it, and found it among its dead letters: it is not there.
fn lose_a_dead_letter(history: &mut History) -> bool {
    let once = ids_sent_once(history);
    let settled: std::collections::BTreeSet<String> = history
        .calls
        .iter()
        .flat_map(|call| match &call.request {
            Request::Ack { handles, .. } => handles.clone(),
            Request::Forward { handle, .. } | Request::Change { handle, .. } => vec![handle.clone()],
            _ => Vec::new(),
        })
        .collect();
    let all = deliveries(history);
    let letter = history.calls.iter().find_map(|call| {
        let Request::Receive(receive) = &call.request else { return None };
        let group = receive.topic.strip_prefix(super::DEAD_LETTER_PREFIX)?;
        let untouched = |id: &str| {
            let mut given = all.iter().filter(|(_, receive, got)| receive.group == group && got.id == id).peekable();
            given.peek().is_some() && given.all(|(_, _, got)| !settled.contains(&got.handle))
        };
        let found = call.deliveries().iter().find(|got| once.contains(&got.id) && untouched(&got.id))?;
        let acknowledged = receipts(history).iter().any(|(_, sent, _)| sent.id == found.id && !sent.ask.half);
        acknowledged.then(|| (receive.topic.clone(), found.id.clone()))
    });
    let Some((topic, id)) = letter.filter(|_| !history.terms.forgets) else { return false };
    for call in &mut history.calls {
        let is_of = matches!(&call.request, Request::Receive(receive) if receive.topic == topic);
        if let Some(messages) = messages_of(call).filter(|_| is_of) {
            messages.retain(|got| got.id != id);
        }
    }
    true
}

fn deliver_to_a_stranger(history: &mut History) -> bool {
    let victim = deliveries(history).into_iter().find(|(_, _, got)| got.lite_topic.is_some());
    let Some((call, ..)) = victim else { return false };
    history.calls[call].client = "stranger".to_owned();
    true
}
