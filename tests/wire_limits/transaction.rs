//! Rows of EndTransaction.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bolide::wire::{admin, rocketmq as v2};

use crate::harness::{Ask, Expect, OK, Row, Wire, channel, refused, row};
use crate::history::client::{Client, resource};
use crate::history::{Recorder, Terms};
use crate::send::{MIXED, NORMAL, TRANSACTION, message, send};

const COMMIT: i32 = v2::TransactionResolution::Commit as i32;
const ROLLBACK: i32 = v2::TransactionResolution::Rollback as i32;
const UNDECIDED: i32 = v2::TransactionResolution::Unspecified as i32;
/// Half messages of [`TRANSACTION`]: to be committed, to be rolled back, to stay.
const HALVES: [&str; 3] = ["01COMMIT", "01ROLLBACK", "01OPEN"];

pub fn end(topic: &str, id: &str, resolution: i32) -> Ask {
    Ask::EndTransaction(v2::EndTransactionRequest {
        topic: Some(resource(topic)),
        message_id: id.to_owned(),
        transaction_id: id.to_owned(),
        resolution,
        ..Default::default()
    })
}

pub async fn prepare(wire: &Wire) -> Result<()> {
    let before = Wire::stored(&wire.holdings().await?);
    for id in HALVES {
        let sent = wire.ask("limits@1", send(vec![half(id)])).await?;
        ensure!(sent.code == OK && sent.entries == [OK], "{sent:?}");
    }
    ensure!(Wire::stored(&wire.holdings().await?) == before, "a half message is in a queue");
    Ok(())
}

/// An end that is taken; what it shows is checked by the broker's own tests.
fn taken(name: &str, ask: Ask) -> Row {
    row(name, ask, Expect::Code(OK))
}

fn half(id: &str) -> v2::Message {
    let mut half = message(TRANSACTION);
    let system = half.system_properties.get_or_insert_default();
    system.message_type = v2::MessageType::Transaction as i32;
    system.message_id = id.to_owned();
    half
}

/// Rows of a server that lets so many transactions be undecided.
pub fn at_most(pending_max: usize) -> Vec<Row> {
    let ids: Vec<String> = (0..pending_max).map(|number| format!("01PENDING{number}")).collect();
    let mut rows: Vec<Row> =
        ids.iter().map(|id| row(format!("pending: {id}"), send(vec![half(id)]), Expect::HeldBack)).collect();
    rows.extend([
        refused("pending: one too many", send(vec![half("01MORE")]), 42900),
        row("pending: one of them again", send(vec![half(&ids[0])]), Expect::Code(OK)),
        row("pending: the first ends", end(TRANSACTION, &ids[0], ROLLBACK), Expect::HeldBack),
        refused("pending: two where one has room", send(vec![half("01A"), half("01B")]), 42900),
        row("pending: one where one has room", send(vec![half("01A")]), Expect::HeldBack),
        refused("pending: and none after it", send(vec![half("01B")]), 42900),
        row("pending: others are not held up", send(vec![message(NORMAL)]), Expect::Stored(1)),
    ]);
    rows
}

/// Lets a transaction be given up: its producer is asked once and says nothing.
pub async fn give_up(wire: &Wire, id: &str) -> Result<()> {
    let channel = channel(wire.server.addresses().grpc).await?;
    let asked = Client::new("limits@producer", channel, &Recorder::new(Terms::default()), Duration::from_secs(20));
    let mut questions = asked.be_asked(&[TRANSACTION.to_owned()]).await.context("a telemetry stream")?;
    let sent = wire.ask("limits@producer", send(vec![half(id)])).await?;
    ensure!(sent.code == OK, "{sent:?}");
    wire.advance(Duration::from_secs(7)).await?;
    let question = tokio::time::timeout(Duration::from_secs(20), asked.next_question(&mut questions)).await?;
    ensure!(question.is_some_and(|question| question.transaction_id == id), "another question");
    // The pause after the only check; then it is over.
    wire.advance(Duration::from_secs(31)).await?;
    let key = format!("transaction {id} of {TRANSACTION}");
    let discarded = i64::from(admin::TransactionState::Discarded as i32);
    wire.until("given up", |holdings| holdings.get(&key) == Some(&vec![discarded])).await
}

pub fn after_it_was_given_up(id: &str) -> Vec<Row> {
    vec![
        refused("given up: commit", end(TRANSACTION, id, COMMIT), 42800),
        refused("given up: rollback", end(TRANSACTION, id, ROLLBACK), 42800),
        refused("given up: commit on another topic", end(MIXED, id, COMMIT), 40008),
    ]
}

pub fn rows() -> Vec<Row> {
    let [committed, rolled_back, open] = HALVES;
    vec![
        refused("end: blank topic", end(" ", open, COMMIT), 40002),
        refused("end: system topic", end("TBW102", open, COMMIT), 40002),
        refused("end: unknown topic", end("limits-unknown", open, COMMIT), 40402),
        refused("end: no id", end(TRANSACTION, "", COMMIT), 40008),
        refused("end: blank id", end(TRANSACTION, "  ", COMMIT), 40008),
        refused("end: unknown id", end(TRANSACTION, "01NOBODY", COMMIT), 40008),
        refused("end: unknown id, undecided", end(TRANSACTION, "01NOBODY", UNDECIDED), 40008),
        refused("end: an id of a megabyte", end(TRANSACTION, &"A".repeat(1 << 20), COMMIT), 40008),
        refused("end: id in other case", end(TRANSACTION, &open.to_lowercase(), COMMIT), 40008),
        refused("end: id of another topic", end(MIXED, open, COMMIT), 40008),
        refused("end: topic without transactions", end(NORMAL, open, ROLLBACK), 40008),
        refused("end: a resolution that does not exist", end(TRANSACTION, open, 3), 40000),
        refused("end: a negative resolution", end(TRANSACTION, open, -1), 40000),
        taken("end: undecided", end(TRANSACTION, open, UNDECIDED)),
        taken("end: commit", end(TRANSACTION, committed, COMMIT)),
        taken("end: commit again", end(TRANSACTION, committed, COMMIT)),
        refused("end: rollback after the commit", end(TRANSACTION, committed, ROLLBACK), 42800),
        taken("end: rollback", end(TRANSACTION, rolled_back, ROLLBACK)),
        taken("end: rollback again", end(TRANSACTION, rolled_back, ROLLBACK)),
        refused("end: commit after the rollback", end(TRANSACTION, rolled_back, COMMIT), 42800),
    ]
}
