//! Every kind of message on every type of topic, judged by its properties; and several messages in one send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bolide::wire::rocketmq as v2;

use crate::common::ServerOptions;
use crate::harness::{OK, Wire, code, id, ids, message, runtime, system};

const TYPES: [&str; 7] = ["normal", "fifo", "delay", "transaction", "priority", "lite", "mixed"];
/// Kinds that are visible at once when they are taken.
const AT_ONCE: [&str; 4] = ["normal", "fifo", "priority", "lite"];

fn in_a_minute() -> prost_types::Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    prost_types::Timestamp { seconds: i64::try_from(now.as_secs()).expect("a date") + 60, nanos: 0 }
}

/// A message of a kind, made one by its properties alone.
fn of_kind(kind: &str, topic: &str) -> v2::Message {
    let mut message = message(topic, &format!("{kind}-{topic}"));
    let system = system(&mut message);
    match kind {
        "fifo" => system.message_group = Some("group".to_owned()),
        "delay" => system.delivery_timestamp = Some(in_a_minute()),
        // The one flag there is for it.
        "transaction" => system.message_type = v2::MessageType::Transaction as i32,
        "priority" => system.priority = Some(5),
        "lite" => system.lite_topic = Some("lite".to_owned()),
        _ => {}
    }
    message
}

#[test]
fn a_topic_takes_its_own_kind_and_mixed_takes_all_and_what_is_refused_leaves_nothing() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(ServerOptions::default()).await?;
        for kind in TYPES {
            wire.admin(&["topic", "create", kind, "--type", kind])?;
        }
        let mut wrong = Vec::new();
        for topic in TYPES {
            for kind in &TYPES[..6] {
                let before = wire.stored(topic)?;
                let sent = wire.send(vec![of_kind(kind, topic)]).await?;
                let more = wire.stored(topic)? - before;
                let fits = *kind == topic || topic == "mixed";
                let (expected, stored) = match fits {
                    true => (OK, u64::from(AT_ONCE.contains(kind))),
                    false => (40_014, 0),
                };
                let code = code(sent.status.as_ref());
                // A lite message lies in its lite topic, wherever that keeps it.
                if code != expected || (*kind != "lite" && more != stored) {
                    wrong.push(format!("{kind} on {topic}: {code}, {more} more messages, {:?}", sent.status));
                }
            }
        }
        // The word of a message does not make it another kind.
        let mut word = message("normal", "word");
        system(&mut word).message_type = v2::MessageType::Priority as i32;
        wire.sent(vec![word.clone()]).await?;
        word.topic = Some(wire.resource("priority"));
        let refused = wire.send(vec![word]).await?;
        ensure!(code(refused.status.as_ref()) == 40_014, "a message without a priority is a normal one");
        // What is looked at first decides: a group and a priority make an ordered message.
        let mut both = of_kind("priority", "fifo");
        system(&mut both).message_group = Some("group".to_owned());
        wire.sent(vec![both]).await?;
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

fn syncs(http: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let line = page.lines().find(|line| line.starts_with("bolide_log_sync_duration_seconds_count"));
    let count = line.and_then(|line| line.rsplit_once(' ')).context("no count of syncs")?.1;
    Ok(count.parse()?)
}

#[test]
fn a_batch_has_one_entry_for_each_message_in_order_and_costs_one_sync() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(ServerOptions::default()).await?;
        wire.admin(&["topic", "create", "t", "--queues", "4"])?;
        let names: Vec<String> = (0..20).map(|index| format!("m{index}")).collect();
        let before = syncs(wire.server.addresses().http)?;
        let entries = wire.sent(names.iter().map(|name| message("t", name)).collect()).await?;
        ensure!(syncs(wire.server.addresses().http)? == before + 1.0, "one frame, one sync");
        for (entry, name) in entries.iter().zip(&names) {
            ensure!(code(entry.status.as_ref()) == OK && entry.message_id == *name && entry.transaction_id == *name);
        }
        let offsets: Vec<i64> = entries.iter().map(|entry| entry.offset).collect();
        ensure!(offsets == (0..20).collect::<Vec<i64>>(), "{offsets:?}");
        let got = wire.receive("t", "g").await?;
        for entry in &entries {
            let found = got.iter().find(|message| id(message) == entry.message_id).context("not delivered")?;
            let offset = found.system_properties.as_ref().and_then(|system| system.queue_offset);
            ensure!(offset == Some(entry.offset), "{}: {offset:?} and {}", entry.message_id, entry.offset);
        }
        // All or none, and each entry says which.
        let mut bad: Vec<v2::Message> = ["x", "y", "z"].map(|name| message("t", name)).into();
        system(&mut bad[1]).priority = Some(1);
        let refused = wire.send(bad).await?;
        ensure!(refused.entries.len() == 3 && wire.stored("t")? == 20, "{refused:?}");
        ensure!(refused.entries.iter().all(|entry| code(entry.status.as_ref()) == 40_014), "{refused:?}");
        Ok(())
    })
}

#[test]
fn the_messages_of_an_ordered_batch_keep_their_groups_and_their_order() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(ServerOptions::default()).await?;
        wire.admin(&["topic", "create", "t", "--type", "fifo", "--queues", "8"])?;
        // Of no order among its messages, so that all of them come at once.
        wire.admin(&["group", "create", "g", "--ordered=false"])?;
        let group_of = |index: usize| format!("group-{}", index % 5);
        let batch = (0..30).map(|index| {
            let mut message = message("t", &format!("m{index}"));
            system(&mut message).message_group = Some(group_of(index));
            message
        });
        let entries = wire.sent(batch.collect()).await?;
        ensure!(entries.iter().enumerate().all(|(index, entry)| entry.message_id == format!("m{index}")));
        let got = wire.receive("t", "g").await?;
        ensure!(got.len() == 30, "{:?}", ids(&got));
        for group in 0..5 {
            let mut places = Vec::new();
            for index in (group..30).step_by(5) {
                let found = got.iter().find(|message| id(message) == format!("m{index}")).context("not delivered")?;
                let system = found.system_properties.clone().unwrap_or_default();
                ensure!(system.message_group() == group_of(index), "{system:?}");
                ensure!(system.queue_offset == Some(entries[index].offset));
                places.push((system.queue_id, system.queue_offset));
            }
            ensure!(places.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1), "{places:?}");
        }
        Ok(())
    })
}
