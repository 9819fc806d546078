//! Rows of AckMessage, ChangeInvisibleDuration and ForwardMessageToDeadLetterQueue, with real handles.

use std::time::Duration;

use anyhow::{Result, ensure};
use bolide::wire::rocketmq as v2;

use crate::harness::{Ask, OK, Row, Verdict, Wire, queue, refused};
use crate::history::client::{duration, resource};
use crate::send::{message, send};

pub const TOPIC: &str = "limits-settle";
pub const GROUP: &str = "limits-settlers";
const STRANGER: &str = "limits-strangers";
const OTHER_TOPIC: &str = "limits-empty";
const CLIENT: &str = "limits@settle";
const HOURS_12: Duration = Duration::from_secs(12 * 60 * 60);
const INVALID: i32 = 40_013;

fn ack(topic: &str, group: &str, handles: &[&str]) -> Ask {
    let entry = |handle: &&str| v2::AckMessageEntry {
        receipt_handle: (*handle).to_owned(),
        message_id: "01LIMITS".to_owned(),
        ..Default::default()
    };
    Ask::Ack(v2::AckMessageRequest {
        group: Some(resource(group)),
        topic: Some(resource(topic)),
        entries: handles.iter().map(entry).collect(),
    })
}

fn change(topic: &str, group: &str, handle: &str, invisible: Option<prost_types::Duration>) -> Ask {
    Ask::Change(v2::ChangeInvisibleDurationRequest {
        group: Some(resource(group)),
        topic: Some(resource(topic)),
        receipt_handle: handle.to_owned(),
        invisible_duration: invisible,
        ..Default::default()
    })
}

fn forward(topic: &str, group: &str, handle: &str) -> Ask {
    Ask::Forward(v2::ForwardMessageToDeadLetterQueueRequest {
        group: Some(resource(group)),
        topic: Some(resource(topic)),
        receipt_handle: handle.to_owned(),
        message_id: "01LIMITS".to_owned(),
        ..Default::default()
    })
}

fn receive(group: &str, batch: i32) -> Ask {
    Ask::Receive(v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(queue(TOPIC)),
        batch_size: batch,
        invisible_duration: Some(duration(Duration::from_secs(600))),
        ..Default::default()
    })
}

/// Sends and receives so many messages; their handles.
async fn held(wire: &Wire, count: usize) -> Result<Vec<String>> {
    let sent = wire.ask(CLIENT, send(vec![message(TOPIC); count])).await?;
    ensure!(sent.code == OK, "send: {sent:?}");
    let mut handles = Vec::new();
    while handles.len() < count {
        let got = wire.ask(CLIENT, receive(GROUP, 32)).await?;
        ensure!(got.code == OK, "receive: {} {}", got.code, got.text);
        for message in got.messages {
            let system = message.system_properties.unwrap_or_default();
            handles.push(system.receipt_handle.unwrap_or_default());
        }
    }
    Ok(handles)
}

/// Refused rows around one live delivery of [`GROUP`], which must be none the worse for them.
fn rows(handle: &str) -> Vec<Row> {
    let seconds = |seconds: i64| Some(prost_types::Duration { seconds, nanos: 0 });
    let mut over = duration(HOURS_12);
    over.nanos = 1_000_000;
    // One bit of the text in the middle, where every bit counts.
    let mut forged: Vec<u8> = handle.as_bytes().to_vec();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8_lossy(&forged).into_owned();
    let mut rows = vec![
        refused("ack: no entry", ack(TOPIC, GROUP, &[]), 40000),
        refused("change: -1 s", change(TOPIC, GROUP, handle, seconds(-1)), 40011),
        refused("change: 12 h and 1 ms", change(TOPIC, GROUP, handle, Some(over)), 40011),
    ];
    type Maker = fn(&str, &str, &str) -> Ask;
    let kinds: [(&str, Maker); 3] = [
        ("ack", |topic, group, handle| ack(topic, group, &[handle])),
        ("change", |topic, group, handle| change(topic, group, handle, Some(duration(Duration::ZERO)))),
        ("forward", forward),
    ];
    for (kind, make) in kinds {
        let unknown = "limits-unknown";
        rows.extend([
            refused(format!("{kind}: blank topic"), make(" ", GROUP, handle), 40002),
            refused(format!("{kind}: system topic"), make("TBW102", GROUP, handle), 40002),
            refused(format!("{kind}: blank group"), make(TOPIC, "", handle), 40003),
            refused(format!("{kind}: reserved group"), make(TOPIC, "CID_RMQ_SYS_x", handle), 40003),
            refused(format!("{kind}: group of 121 characters"), make(TOPIC, &"g".repeat(121), handle), 40003),
            refused(format!("{kind}: unknown topic"), make(unknown, GROUP, handle), 40402),
            refused(format!("{kind}: empty handle"), make(TOPIC, GROUP, ""), INVALID),
            refused(format!("{kind}: no handle at all"), make(TOPIC, GROUP, "0 1 2 3 4 broker 0 0"), INVALID),
            refused(format!("{kind}: a handle of a megabyte"), make(TOPIC, GROUP, &"A".repeat(1 << 20)), INVALID),
            refused(format!("{kind}: forged handle"), make(TOPIC, GROUP, &forged), INVALID),
            refused(format!("{kind}: cut handle"), make(TOPIC, GROUP, &handle[..handle.len() - 1]), INVALID),
            refused(format!("{kind}: handle of another group"), make(TOPIC, STRANGER, handle), INVALID),
            refused(format!("{kind}: handle of another topic"), make(OTHER_TOPIC, GROUP, handle), INVALID),
        ]);
    }
    rows
}

/// What is wrong with the settling calls, one line each.
pub async fn check(wire: &Wire) -> Result<Vec<String>> {
    // Both groups exist, so that a stranger is a known stranger.
    let empty = wire.ask(CLIENT, receive(STRANGER, 1)).await?;
    ensure!(empty.code == 40_401, "an empty topic: {} {}", empty.code, empty.text);
    let handles = held(wire, 6).await?;
    let mut wrong = Vec::new();
    for row in rows(&handles[0]) {
        if let Some(finding) = wire.run(&row).await? {
            wrong.push(format!("{}: {finding}", row.name));
        }
    }
    let mut claim = |holds: bool, name: &str, verdict: &Verdict| {
        if !holds {
            wrong.push(format!("{name}: {} {:?} {:?}", verdict.code, verdict.text, verdict.entries));
        }
    };

    let mixed = wire.ask(CLIENT, ack(TOPIC, GROUP, &[&handles[0], "bad", &handles[1]])).await?;
    claim(mixed.code == 30_000 && mixed.entries == [OK, INVALID, OK], "ack: good, bad, good", &mixed);
    claim(mixed.text == "MULTIPLE_RESULTS", "ack: the top says the name of its code", &mixed);
    let bad = wire.ask(CLIENT, ack(TOPIC, GROUP, &["bad", "worse"])).await?;
    claim(bad.code == INVALID && bad.entries == [INVALID, INVALID], "ack: all bad is no mixture", &bad);
    claim(bad.text == "INVALID_RECEIPT_HANDLE", "ack: the top says the name of its code", &bad);
    let again = wire.ask(CLIENT, ack(TOPIC, GROUP, &[&handles[0]])).await?;
    claim(again.code == OK && again.entries == [OK], "ack: again inside the lease", &again);
    let after_ack =
        wire.ask(CLIENT, change(TOPIC, GROUP, &handles[0], Some(duration(Duration::from_secs(30))))).await?;
    claim(after_ack.code == INVALID, "change: after the ack", &after_ack);
    claim(
        !after_ack.handle.is_empty() && after_ack.handle != handles[0],
        "change: another text also on failure",
        &after_ack,
    );

    let longest = wire.ask(CLIENT, change(TOPIC, GROUP, &handles[2], Some(duration(HOURS_12)))).await?;
    claim(longest.code == OK && longest.handle != handles[2] && !longest.handle.is_empty(), "change: 12 h", &longest);
    let old = wire.ask(CLIENT, ack(TOPIC, GROUP, &[&handles[2]])).await?;
    claim(old.code == OK, "ack: by the text from before the change", &old);
    let changed = wire.ask(CLIENT, change(TOPIC, GROUP, &handles[3], Some(duration(Duration::from_secs(30))))).await?;
    let new = wire.ask(CLIENT, ack(TOPIC, GROUP, &[&changed.handle])).await?;
    claim(changed.code == OK && new.code == OK, "ack: by the text of the change", &new);

    let back = wire.ask(CLIENT, change(TOPIC, GROUP, &handles[4], Some(duration(Duration::ZERO)))).await?;
    claim(back.code == OK, "change: 0 gives the message back", &back);
    let redelivered = wire.ask(CLIENT, receive(GROUP, 1)).await?;
    let attempt = redelivered.messages.first().and_then(|message| message.system_properties.as_ref()?.delivery_attempt);
    claim(attempt == Some(2), "receive: the message that was given back, attempt 2", &redelivered);
    let superseded = wire.ask(CLIENT, ack(TOPIC, GROUP, &[&handles[4]])).await?;
    claim(superseded.code == INVALID, "ack: superseded handle", &superseded);

    let before = wire.holdings().await?;
    let buried = wire.ask(CLIENT, forward(TOPIC, GROUP, &handles[5])).await?;
    let after = wire.holdings().await?;
    claim(buried.code == OK && Wire::stored(&after) == Wire::stored(&before) + 1, "forward: one dead letter", &buried);
    let gone = wire.ask(CLIENT, change(TOPIC, GROUP, &handles[5], Some(duration(Duration::ZERO)))).await?;
    claim(gone.code == INVALID, "change: after the forward", &gone);
    Ok(wrong)
}
