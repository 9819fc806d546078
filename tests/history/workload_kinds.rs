//! Random programs for what is more than a plain message: producers that delay and call back, producers of transactions that
//! commit, roll back, change their mind or vanish, and the clients that are asked about them.

use std::collections::BTreeMap;
use std::time::Duration;

use bolide::runtime::entropy::Entropy;

use super::client::{Client, Draft};
use super::workload::{Kind, Outlet, Stage, below, draft, micros};
use super::{Answer, Ask, Call, INVALID_TRANSACTION_ID, OK, PRECONDITION_FAILED, Request, hash_bytes};

/// Message groups of a topic.
const LANES: u64 = 6;
/// Lite topics of a parent.
const LITE_TOPICS: u64 = 5;
const PRIORITIES: u64 = 10;
/// Handles and transactions that a client remembers for later mischief.
const REMEMBERED: usize = 24;
/// How long a client listens for questions before it looks around.
const LISTEN: Duration = Duration::from_millis(700);

pub fn lite_topics() -> Vec<String> {
    (0..LITE_TOPICS).map(|number| format!("lite-{number}")).collect()
}

/// What a message of a kind asks for.
pub fn ask(stage: &Stage, kind: Kind, entropy: &Entropy) -> Ask {
    let plain = Ask::default();
    match kind {
        Kind::Normal => plain,
        Kind::Ordered => Ask { message_group: Some(format!("g{}", entropy.below(LANES))), ..plain },
        Kind::Delayed => Ask { due_ms: Some(due_ms(stage, entropy)), ..plain },
        Kind::Transactional => {
            let orphan_us = (entropy.below(2) == 0).then(|| 1_000_000 * (1 + entropy.below(3)));
            Ask { half: true, orphan_us, ..plain }
        }
        Kind::Priority => Ask { priority: Some(i32::try_from(entropy.below(PRIORITIES)).unwrap_or(0)), ..plain },
        Kind::Lite => Ask { lite_topic: Some(format!("lite-{}", entropy.below(LITE_TOPICS))), ..plain },
        Kind::Mixed => match entropy.below(4) {
            0 => ask(stage, Kind::Ordered, entropy),
            1 => ask(stage, Kind::Delayed, entropy),
            // The group is kept while it waits for its time.
            2 => Ask { due_ms: Some(due_ms(stage, entropy)), ..ask(stage, Kind::Ordered, entropy) },
            _ => plain,
        },
    }
}

/// Mostly ahead, sometimes already over.
fn due_ms(stage: &Stage, entropy: &Entropy) -> u64 {
    let now_ms = stage.recorder.server_ms();
    if entropy.below(8) == 0 {
        return now_ms - entropy.below(2_000);
    }
    now_ms + entropy.below(u64::try_from(stage.pace.delay.as_millis()).unwrap_or(1).max(1))
}

/// A delayed message that may be called back.
struct Promise {
    topic: String,
    id: String,
    handle: String,
}

/// Sends delayed messages, and calls some of them back: in time, too late, twice, and by handles that are none.
pub async fn planner(stage: Stage, name: String, outlets: Vec<Outlet>, entropy: Entropy) {
    let client = stage.client(&name);
    let mut number = 0;
    let mut promises: Vec<Promise> = Vec::new();
    while !stage.stopped() {
        let outlet = &outlets[below(&entropy, outlets.len())];
        let count = if entropy.below(5) == 0 { 2 } else { 1 };
        let mut drafts = Vec::new();
        for _ in 0..count {
            number += 1;
            drafts.push(Draft { ask: ask(&stage, Kind::Delayed, &entropy), ..draft(&stage, &name, number, &entropy) });
        }
        for _ in 0..1 + entropy.below(2) {
            let answer = client.send(&outlet.topic, &drafts).await;
            let Answer::Sent(results) = answer else {
                stage.think(&entropy).await;
                continue;
            };
            for (draft, result) in drafts.iter().zip(&results) {
                if let Ok(receipt) = result
                    && !receipt.recall_handle.is_empty()
                {
                    let (topic, id) = (outlet.topic.clone(), draft.id.clone());
                    promises.push(Promise { topic, id, handle: receipt.recall_handle.clone() });
                }
            }
            break;
        }
        let surplus = promises.len().saturating_sub(REMEMBERED);
        promises.drain(..surplus);
        if !promises.is_empty() && entropy.below(2) == 0 {
            recall_one(&client, &outlets, &mut promises, &entropy).await;
        }
        stage.think(&entropy).await;
    }
}

async fn recall_one(client: &Client, outlets: &[Outlet], promises: &mut Vec<Promise>, entropy: &Entropy) {
    let place = below(entropy, promises.len());
    let Promise { topic, id, handle } = &promises[place];
    match entropy.below(12) {
        0 => {
            let other = outlets.iter().find(|outlet| outlet.topic != *topic);
            if let Some(other) = other {
                client.recall(&other.topic, id, handle, false).await;
            }
        }
        1 => drop(client.recall(topic, id, "no handle at all", false).await),
        2 | 3 => {
            // Twice, as after a lost answer.
            for _ in 0..2 {
                client.recall(topic, id, handle, true).await;
            }
        }
        _ => drop(client.recall(topic, id, handle, true).await),
    }
    if entropy.below(2) == 0 {
        promises.swap_remove(place);
    }
}

/// Sends half messages and ends most of them: commits, rolls back, repeats itself, contradicts itself, or leaves them.
pub async fn dealer(stage: Stage, name: String, outlets: Vec<Outlet>, entropy: Entropy) {
    let client = stage.client(&name);
    let mut number = 0;
    let mut old: Vec<(String, String, bool)> = Vec::new();
    while !stage.stopped() {
        let outlet = &outlets[below(&entropy, outlets.len())];
        number += 1;
        let mut draft =
            Draft { ask: ask(&stage, Kind::Transactional, &entropy), ..draft(&stage, &name, number, &entropy) };
        if outlet.kind == Kind::Mixed && entropy.below(4) == 0 {
            // Committed, it waits for its time.
            draft.ask.due_ms = Some(due_ms(&stage, &entropy));
        }
        let drafts = [draft];
        for _ in 0..1 + entropy.below(3) {
            if matches!(client.send(&outlet.topic, &drafts).await, Answer::Sent(_)) {
                break;
            }
            stage.think(&entropy).await;
        }
        let id = drafts[0].id.clone();
        let commit = entropy.below(3) != 0;
        match entropy.below(10) {
            // Left to the questions.
            0 | 1 => {}
            2 => {
                resolve(&client, &outlet.topic, &id, commit).await;
                resolve(&client, &outlet.topic, &id, commit).await;
            }
            3 => {
                resolve(&client, &outlet.topic, &id, commit).await;
                resolve(&client, &outlet.topic, &id, !commit).await;
            }
            _ => resolve(&client, &outlet.topic, &id, commit).await,
        }
        old.push((outlet.topic.clone(), id, commit));
        let surplus = old.len().saturating_sub(REMEMBERED);
        old.drain(..surplus);
        if entropy.below(6) == 0 {
            let (topic, id, commit) = old.swap_remove(below(&entropy, old.len()));
            let other = outlets.iter().find(|outlet| outlet.topic != topic).filter(|_| entropy.below(4) == 0);
            match other {
                Some(other) => drop(client.resolve(&other.topic, &id, commit, false, false).await),
                None => drop(client.resolve(&topic, &id, entropy.below(2) == 0, false, true).await),
            }
        }
        stage.think(&entropy).await;
    }
}

/// Ends a transaction; a lost answer is mostly followed by the same again, as a careful client does.
async fn resolve(client: &Client, topic: &str, id: &str, commit: bool) {
    for _ in 0..2 {
        if !matches!(client.resolve(topic, id, commit, false, true).await, Answer::Unknown) {
            break;
        }
    }
}

/// A producer that is asked about transactions, and answers or does not.
pub async fn answerer(stage: Stage, name: String, outlets: Vec<Outlet>, entropy: Entropy) {
    let topics: Vec<String> = outlets.into_iter().map(|outlet| outlet.topic).collect();
    let mut incarnation = 0;
    while !stage.stopped() {
        incarnation += 1;
        let client = stage.client(&format!("{name}.{incarnation}"));
        let Some(mut questions) = client.be_asked(&topics).await else {
            stage.think(&entropy).await;
            continue;
        };
        while !stage.stopped() {
            match tokio::time::timeout(LISTEN, client.next_question(&mut questions)).await {
                Ok(Some(check)) => match entropy.below(8) {
                    0..=3 => drop(client.resolve(&check.topic, &check.id, true, true, true).await),
                    4 | 5 => drop(client.resolve(&check.topic, &check.id, false, true, true).await),
                    6 => {}
                    // It vanishes with the question unanswered.
                    _ => break,
                },
                Ok(None) => break,
                Err(_) => {}
            }
        }
        stage.think(&entropy).await;
    }
}

/// Ends every transaction whose end is not known, so that nothing stays pending.
pub async fn end_what_is_pending(stage: &Stage, failures_max: u32) -> Result<(), String> {
    let history = stage.recorder.snapshot();
    let mut pending: BTreeMap<(String, String), bool> = BTreeMap::new();
    for call in &history.calls {
        let Request::Send { topic, messages } = &call.request else { continue };
        for (place, message) in messages.iter().enumerate().filter(|(_, message)| message.ask.half) {
            let result = match &call.answer {
                Answer::Sent(results) => results.get(place).cloned(),
                Answer::Refused(code) => Some(Err(*code)),
                _ => None,
            };
            if !matches!(result, Some(Err(code)) if Call::is_definite_refusal(code)) {
                *pending.entry((topic.clone(), message.id.clone())).or_default() |= matches!(result, Some(Ok(_)));
            }
        }
    }
    for call in &history.calls {
        if let (Request::Resolve { topic, id, genuine: true, .. }, Answer::Resolved(OK)) = (&call.request, &call.answer)
        {
            pending.remove(&(topic.clone(), id.clone()));
        }
    }
    let client = stage.client("drain.transactions");
    for ((topic, id), was_acknowledged) in pending {
        end_one(&client, &topic, &id, was_acknowledged, failures_max).await?;
    }
    Ok(())
}

async fn end_one(client: &Client, topic: &str, id: &str, known: bool, failures_max: u32) -> Result<(), String> {
    let mut commit = hash_bytes(id.as_bytes()).is_multiple_of(2);
    let mut answer = Answer::Unknown;
    for _ in 0..failures_max {
        answer = client.resolve(topic, id, commit, false, true).await;
        match answer {
            Answer::Resolved(OK) => return Ok(()),
            // A resolution whose answer was lost was the other one.
            Answer::Resolved(PRECONDITION_FAILED) => commit = !commit,
            Answer::Resolved(INVALID_TRANSACTION_ID) if !known => return Ok(()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Err(format!("transaction {id} cannot be ended in {failures_max} tries: {answer:?}"))
}

/// Longest time that a client of these programs needs to see that it must stop, beside its calls.
pub fn attention_us() -> u64 {
    micros(LISTEN)
}
