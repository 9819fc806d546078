//! Rows of RecallMessage with real handles.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bolide::wire::{admin, rocketmq as v2};

use crate::harness::{Ask, Expect, OK, Row, Wire, in_millis, refused, row};
use crate::history::client::resource;
use crate::send::{DELAY, MIXED, NORMAL, message, send};

/// A delay topic that stops taking messages after it has got some.
pub const CLOSING: &str = "limits-delay-closing";
/// So far ahead that it does not fall due here.
const FAR_MS: i64 = 60 * 60 * 1000;

fn recall(topic: &str, handle: &str) -> Ask {
    Ask::Recall(v2::RecallMessageRequest { topic: Some(resource(topic)), recall_handle: handle.to_owned() })
}

/// Sends a message for later; its recall handle.
async fn delayed(wire: &Wire, topic: &str, ahead_ms: i64) -> Result<String> {
    let mut one = message(topic);
    one.system_properties.get_or_insert_default().delivery_timestamp = Some(in_millis(ahead_ms));
    let mut sent = wire.ask("limits@1", send(vec![one])).await?;
    ensure!(sent.code == OK, "{sent:?}");
    sent.recall_handles.pop().filter(|handle| !handle.is_empty()).context("no recall handle")
}

/// The same with one character changed.
fn forged(handle: &str) -> String {
    let last = if handle.ends_with('A') { 'B' } else { 'A' };
    let mut forged = handle.to_owned();
    forged.pop();
    forged.push(last);
    forged
}

async fn too_late(wire: &Wire) -> Result<String> {
    let before = Wire::stored(&wire.holdings().await?);
    let handle = delayed(wire, DELAY, 300).await?;
    wire.until("the message is in its queue", |holdings| Wire::stored(holdings) > before).await?;
    Ok(handle)
}

/// What a receive hands out, in place of a recall handle.
async fn receipt(wire: &Wire) -> Result<String> {
    ensure!(wire.ask("limits@1", send(vec![message(NORMAL)])).await?.code == OK, "a send");
    let got = wire.ask("limits@1", crate::receive::one_of(NORMAL)).await?;
    let message = got.messages.into_iter().next().context("nothing received")?;
    message.system_properties.and_then(|system| system.receipt_handle).context("no handle")
}

pub async fn rows(wire: &Wire) -> Result<Vec<Row>> {
    let held = delayed(wire, DELAY, FAR_MS).await?;
    let of_mixed = delayed(wire, MIXED, FAR_MS).await?;
    let of_closing = delayed(wire, CLOSING, FAR_MS).await?;
    let late = too_late(wire).await?;
    let receipt = receipt(wire).await?;
    let permission = Some(admin::Permission::Read as i32);
    wire.update_topic(admin::UpdateTopicRequest { name: CLOSING.to_owned(), permission, ..Default::default() }).await?;
    Ok(vec![
        refused("recall: no handle", recall(DELAY, ""), 40000),
        refused("recall: a forged handle", recall(DELAY, &forged(&held)), 40000),
        refused("recall: half a handle", recall(DELAY, &held[..held.len() / 2]), 40000),
        refused("recall: a handle of a megabyte", recall(DELAY, &"A".repeat(1 << 20)), 40000),
        refused("recall: a receipt in its place", recall(DELAY, &receipt), 40000),
        refused("recall: a handle of another topic", recall(DELAY, &of_mixed), 40400),
        refused("recall: the other way round", recall(MIXED, &held), 40400),
        refused("recall: a topic of another type", recall(NORMAL, &held), 40014),
        refused("recall: a topic that is not written to any more", recall(CLOSING, &of_closing), 40300),
        refused("recall: too late", recall(DELAY, &late), 42800),
        refused("recall: too late, again", recall(DELAY, &late), 42800),
        row("recall: in time", recall(DELAY, &held), Expect::HeldBack),
        row("recall: the same again", recall(DELAY, &held), Expect::Code(OK)),
        row("recall: on a mixed topic", recall(MIXED, &of_mixed), Expect::HeldBack),
    ])
}

/// What was recalled does not come when its time does, and what could not be recalled does.
pub async fn comes_as_told(wire: &Wire) -> Result<()> {
    let before = Wire::stored(&wire.holdings().await?);
    wire.advance(Duration::from_millis(FAR_MS.unsigned_abs()) + Duration::from_secs(60)).await?;
    wire.until("the message that was not recalled", |holdings| Wire::stored(holdings) == before + 1).await?;
    Ok(())
}
