//! What an ordered group is answered over the wire: nothing overtakes, an ack behind an unacknowledged message is kept, and
//! what comes again comes with everything behind it.

use std::time::Duration;

use anyhow::{Result, ensure};
use bolide::wire::rocketmq as v2;

use crate::harness::{Ask, OK, Verdict, Wire, queue};
use crate::history::client::{duration, resource};
use crate::send::{FIFO, message, send};

const GROUP: &str = "limits-ordered";
const CLIENT: &str = "limits@ordered";
const INVALID: i32 = 40_013;
const EMPTY: i32 = 40_401;

/// Id, attempt and handle of each message.
type Got = Vec<(String, i32, String)>;

fn grouped(message_group: &str, id: &str) -> v2::Message {
    let mut message = message(FIFO);
    if let Some(system) = &mut message.system_properties {
        system.message_group = Some(message_group.to_owned());
        system.message_id = id.to_owned();
        system.message_type = v2::MessageType::Fifo as i32;
    }
    message
}

async fn receive(wire: &Wire, batch: i32) -> Result<Got> {
    let ask = Ask::Receive(v2::ReceiveMessageRequest {
        group: Some(resource(GROUP)),
        message_queue: Some(queue(FIFO)),
        batch_size: batch,
        invisible_duration: Some(duration(Duration::from_secs(600))),
        ..Default::default()
    });
    let verdict = wire.ask(CLIENT, ask).await?;
    ensure!(verdict.code == if verdict.messages.is_empty() { EMPTY } else { OK }, "{} {}", verdict.code, verdict.text);
    let got = |message: v2::Message| {
        let system = message.system_properties.unwrap_or_default();
        (system.message_id, system.delivery_attempt.unwrap_or_default(), system.receipt_handle.unwrap_or_default())
    };
    Ok(verdict.messages.into_iter().map(got).collect())
}

async fn ack(wire: &Wire, handles: &[&str]) -> Result<Verdict> {
    let entry = |handle: &&str| v2::AckMessageEntry {
        receipt_handle: (*handle).to_owned(),
        message_id: "01LIMITS".to_owned(),
        ..Default::default()
    };
    let entries = handles.iter().map(entry).collect();
    wire.ask(
        CLIENT,
        Ask::Ack(v2::AckMessageRequest { group: Some(resource(GROUP)), topic: Some(resource(FIFO)), entries }),
    )
    .await
}

async fn give_back(wire: &Wire, handle: &str) -> Result<Verdict> {
    let ask = Ask::Change(v2::ChangeInvisibleDurationRequest {
        group: Some(resource(GROUP)),
        topic: Some(resource(FIFO)),
        receipt_handle: handle.to_owned(),
        invisible_duration: Some(duration(Duration::ZERO)),
        ..Default::default()
    });
    wire.ask(CLIENT, ask).await
}

fn seen(got: &Got) -> Vec<(&str, i32)> {
    got.iter().map(|(id, attempt, _)| (id.as_str(), *attempt)).collect()
}

/// One walk; every step builds on the one before, so the first that is wrong ends it.
pub async fn check(wire: &Wire) -> Result<()> {
    for id in ["a0", "a1", "a2", "a3"] {
        let sent = wire.ask(CLIENT, send(vec![grouped("a", id)])).await?;
        ensure!(sent.code == OK, "send: {} {}", sent.code, sent.text);
    }
    let first = receive(wire, 3).await?;
    ensure!(seen(&first) == [("a0", 1), ("a1", 1), ("a2", 1)], "a batch in order: {first:?}");
    let kept = ack(wire, &[&first[2].2, &first[1].2]).await?;
    ensure!(kept.code == OK && kept.entries == [OK, OK], "acks behind an unacknowledged message: {kept:?}");
    ensure!(receive(wire, 32).await?.is_empty(), "a3 must wait for a0");
    let repeated = ack(wire, &[&first[1].2]).await?;
    ensure!(repeated.code == OK, "a repeated ack of what is kept: {repeated:?}");

    let other = wire.ask(CLIENT, send(vec![grouped("b", "b0")])).await?;
    let neighbour = receive(wire, 32).await?;
    ensure!(other.code == OK && seen(&neighbour) == [("b0", 1)], "another group flows: {neighbour:?}");
    ensure!(ack(wire, &[&neighbour[0].2]).await?.code == OK, "and ends");

    let back = give_back(wire, &first[0].2).await?;
    ensure!(back.code == OK, "the front is given back: {back:?}");
    let again = receive(wire, 32).await?;
    ensure!(seen(&again) == [("a0", 2), ("a1", 2), ("a2", 2), ("a3", 1)], "all again, and then the next: {again:?}");
    for (id, _, handle) in &first {
        let stale = ack(wire, &[handle]).await?;
        ensure!(stale.code == INVALID, "the handle of the earlier delivery of {id}: {stale:?}");
        let stale = give_back(wire, handle).await?;
        ensure!(stale.code == INVALID, "a change by the handle of the earlier delivery of {id}: {stale:?}");
    }
    let done = ack(wire, &[&again[0].2, &first[1].2, &again[1].2, &again[2].2, &again[3].2]).await?;
    ensure!(done.entries == [OK, INVALID, OK, OK, OK], "the current handles among a stale one: {done:?}");
    ensure!(receive(wire, 32).await?.is_empty(), "everything is done");

    // After the first of a batch alone, the rest comes again and then the next.
    for id in ["a4", "a5", "a6", "a7"] {
        wire.ask(CLIENT, send(vec![grouped("a", id)])).await?;
    }
    let batch = receive(wire, 3).await?;
    ensure!(seen(&batch) == [("a4", 1), ("a5", 1), ("a6", 1)], "the next batch: {batch:?}");
    ensure!(ack(wire, &[&batch[0].2]).await?.code == OK, "the first");
    give_back(wire, &batch[2].2).await?;
    ensure!(receive(wire, 32).await?.is_empty(), "a5 is still out");
    give_back(wire, &batch[1].2).await?;
    let rest = receive(wire, 32).await?;
    ensure!(seen(&rest) == [("a5", 2), ("a6", 2), ("a7", 1)], "the rest and the next: {rest:?}");
    Ok(())
}
