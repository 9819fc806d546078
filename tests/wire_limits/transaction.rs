//! Rows of EndTransaction.

use anyhow::{Result, ensure};
use bolide::wire::rocketmq as v2;

use crate::harness::{Ask, Expect, OK, Row, Wire, refused, row};
use crate::history::client::resource;
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
        let mut half = message(TRANSACTION);
        if let Some(system) = &mut half.system_properties {
            system.message_type = v2::MessageType::Transaction as i32;
            system.message_id = id.to_owned();
        }
        let sent = wire.ask("limits@1", send(vec![half])).await?;
        ensure!(sent.code == OK && sent.entries == [OK], "{sent:?}");
    }
    ensure!(Wire::stored(&wire.holdings().await?) == before, "a half message is in a queue");
    Ok(())
}

/// An end that is taken; what it shows is checked by the broker's own tests.
fn taken(name: &str, ask: Ask) -> Row {
    row(name, ask, Expect::Code(OK))
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
