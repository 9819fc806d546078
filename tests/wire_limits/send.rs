//! Rows of SendMessage: order of checks, boundaries, reserved keys, types.

use bolide::wire::rocketmq as v2;

use crate::harness::{Ask, Expect, Row, in_millis, refused, refused_saying, row};
use crate::history::client::resource;

pub const NORMAL: &str = "limits-normal";
pub const FIFO: &str = "limits-fifo";
pub const DELAY: &str = "limits-delay";
pub const TRANSACTION: &str = "limits-transaction";
pub const PRIORITY: &str = "limits-priority";
pub const LITE: &str = "limits-lite";
pub const MIXED: &str = "limits-mixed";
pub const READ_ONLY: &str = "limits-read-only";
pub const WRITE_ONLY: &str = "limits-write-only";

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Names that the reference system keeps for itself.
pub const SYSTEM_TOPICS: [&str; 11] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
    "rmq_sys_anything",
];

const RESERVED_KEYS: &str = "TRACE_ON MSG_REGION KEYS TAGS WAIT DELAY RETRY_TOPIC REAL_TOPIC REAL_QID TRAN_MSG PGROUP MIN_OFFSET \
    MAX_OFFSET BUYER_ID ORIGIN_MESSAGE_ID TRANSFER_FLAG CORRECTION_FLAG MQ2_FLAG RECONSUME_TIME UNIQ_KEY EXTEND_UNIQ_INFO \
    MAX_RECONSUME_TIMES CONSUME_START_TIME POP_CK POP_CK_OFFSET 1ST_POP_TIME TRAN_PREPARED_QUEUE_OFFSET DUP_INFO INSTANCE_ID \
    CORRELATION_ID REPLY_TO_CLIENT TTL ARRIVE_TIME PUSH_REPLY_TIME CLUSTER MSG_TYPE INNER_MULTI_QUEUE_OFFSET TIMER_DELAY_MS \
    TIMER_DELAY_SEC TIMER_DELIVER_MS TIMER_ENQUEUE_MS TIMER_DEQUEUE_MS TIMER_ROLL_TIMES TIMER_OUT_MS TIMER_DEL_UNIQKEY \
    TIMER_DELAY_LEVEL __BORNHOST BORN_TIMESTAMP DLQ_ORIGIN_TOPIC DLQ_ORIGIN_MESSAGE_ID __CRC32# \
    __SHARDINGKEY INNER_MULTI_DISPATCH CHECK_IMMUNITY_TIME_IN_SECONDS TRANSACTION_CHECK_TIMES __transactionId__ TRACE_CONTEXT REDIRECT";

pub fn message(topic: &str) -> v2::Message {
    let system_properties = v2::SystemProperties {
        message_id: "01LIMITS".to_owned(),
        body_encoding: v2::Encoding::Identity as i32,
        born_timestamp: Some(in_millis(0)),
        ..Default::default()
    };
    v2::Message {
        topic: Some(resource(topic)),
        system_properties: Some(system_properties),
        body: vec![7; 16].into(),
        ..Default::default()
    }
}

pub fn send(messages: Vec<v2::Message>) -> Ask {
    Ask::Send(v2::SendMessageRequest { messages })
}

/// A message to the normal topic with something changed.
fn with(change: impl FnOnce(&mut v2::Message, &mut v2::SystemProperties)) -> Ask {
    with_on(NORMAL, change)
}

fn with_on(topic: &str, change: impl FnOnce(&mut v2::Message, &mut v2::SystemProperties)) -> Ask {
    let mut message = message(topic);
    let mut system = message.system_properties.take().unwrap_or_default();
    change(&mut message, &mut system);
    message.system_properties = Some(system);
    send(vec![message])
}

fn property(key: &str, value: &str) -> Ask {
    with(|message, _| {
        message.user_properties.insert(key.to_owned(), value.to_owned());
    })
}

/// A message whose properties, tag and keys have so many bytes together.
fn weighing(bytes: usize) -> Ask {
    with(|message, system| {
        system.tag = Some("tag".to_owned());
        system.keys = vec!["key1".to_owned(), "key2".to_owned()];
        message.user_properties.insert("é".to_owned(), "v".repeat(bytes - 2 - 3 - 8));
    })
}

fn counting(properties: usize) -> Ask {
    with(|message, _| message.user_properties = (0..properties).map(|n| (format!("p{n}"), "v".to_owned())).collect())
}

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(request_and_topic());
    rows.extend(body_and_properties());
    rows.extend(tag_keys_and_id());
    rows.extend(time_and_group());
    rows.extend(order_of_checks());
    rows.extend(types());
    rows
}

fn request_and_topic() -> Vec<Row> {
    let longest = "t".repeat(127);
    let unknown = |name: &str| format!("CODE: 17  DESC: No topic route info in name server for the topic: {name}");
    let mut other = message(NORMAL);
    other.topic = Some(resource(MIXED));
    let mut no_topic = message(NORMAL);
    no_topic.topic = None;
    let mut rows = vec![
        refused("send 1: no message", send(vec![]), 40016),
        refused("send 2: no topic", send(vec![no_topic]), 40002),
        refused("send 2: empty topic", send(vec![message("")]), 40002),
        refused("send 2: blank topic", send(vec![message("  ")]), 40002),
        refused("send 2: topic with a dot", send(vec![message("a.b")]), 40002),
        refused("send 2: topic with an umlaut", send(vec![message("täg")]), 40002),
        refused("send 2: topic of 128 characters", send(vec![message(&"t".repeat(128))]), 40002),
        refused_saying(
            "send 2: topic of 127 characters is legal",
            send(vec![message(&longest)]),
            40402,
            &unknown(&longest),
        ),
        refused_saying("send 16: unknown topic", send(vec![message("%a|B_9-")]), 40402, &unknown("%a|B_9-")),
        refused("send 16: topic without write permission", send(vec![message(READ_ONLY)]), 40300),
        refused("send 3: two topics in one request", send(vec![message(NORMAL), other]), 40016),
        row("send: one message", send(vec![message(NORMAL)]), Expect::Stored(1)),
        row("send: three messages, three entries", send(vec![message(NORMAL); 3]), Expect::Stored(3)),
        row("send: to a topic without read permission", send(vec![message(WRITE_ONLY)]), Expect::Stored(1)),
    ];
    for name in SYSTEM_TOPICS {
        rows.push(refused(format!("send 2: system topic {name}"), send(vec![message(name)]), 40002));
    }
    rows
}

fn body_and_properties() -> Vec<Row> {
    let body = |bytes: usize| with(|message, _| message.body = vec![1; bytes].into());
    let mut bad_second = vec![message(NORMAL); 3];
    bad_second[2].body = Default::default();
    let mut rows = vec![
        refused("send 4: empty body", body(0), 41302),
        row("send 5: body of 1 byte", body(1), Expect::Stored(1)),
        row("send 5: body of 4 MiB - 1", body(BODY_BYTES_MAX - 1), Expect::Stored(1)),
        row("send 5: body of 4 MiB", body(BODY_BYTES_MAX), Expect::Stored(1)),
        refused("send 5: body of 4 MiB + 1", body(BODY_BYTES_MAX + 1), 41301),
        refused("send 4: empty body in the third of three", send(bad_second), 41302),
        row("send 6: 128 properties", counting(128), Expect::Stored(1)),
        refused("send 6: 129 properties", counting(129), 43101),
        row("send 7: a property", property("color", "blue"), Expect::Stored(1)),
        row("send 7: a reserved key in other case", property("keys", "v"), Expect::Stored(1)),
        row("send 7: a space is no control character", property("a b", "c d"), Expect::Stored(1)),
        row("send 7: U+00A0 is no control character", property("k", "\u{a0}"), Expect::Stored(1)),
        refused("send 7: U+0000 in a value", property("k", "\0"), 40007),
        refused("send 7: U+001F in a key", property("k\u{1f}", "v"), 40007),
        refused("send 7: U+007F in a value", property("k", "v\u{7f}"), 40007),
        refused("send 7: U+009F in a value", property("k", "v\u{9f}"), 40007),
        row("send 10: 16383 bytes of properties", weighing(PROPERTIES_BYTES_MAX - 1), Expect::Stored(1)),
        row("send 10: 16384 bytes of properties", weighing(PROPERTIES_BYTES_MAX), Expect::Stored(1)),
        refused("send 10: 16385 bytes of properties", weighing(PROPERTIES_BYTES_MAX + 1), 43101),
    ];
    for key in RESERVED_KEYS.split_whitespace() {
        rows.push(refused(format!("send 7: reserved key {key}"), property(key, "v"), 40007));
    }
    rows
}

fn tag_keys_and_id() -> Vec<Row> {
    let tag = |tag: &str| with(|_, system| system.tag = Some(tag.to_owned()));
    let keys = |keys: &[&str]| with(|_, system| system.keys = keys.iter().map(|&key| key.to_owned()).collect());
    let id = |id: &str| with(|_, system| system.message_id = id.to_owned());
    vec![
        row("send 8: empty tag", tag(""), Expect::Stored(1)),
        row("send 8: tag", tag("A"), Expect::Stored(1)),
        row("send 8: tag with a space inside", tag("a b"), Expect::Stored(1)),
        refused("send 8: blank tag", tag(" "), 40004),
        refused("send 8: tag with a bar", tag("a|b"), 40004),
        refused("send 8: tag with a control character", tag("a\tb"), 40004),
        row("send 9: empty key", keys(&[""]), Expect::Stored(1)),
        row("send 9: key with a space inside", keys(&["a b", "c"]), Expect::Stored(1)),
        refused("send 9: blank key", keys(&["a", "  "]), 40005),
        refused("send 9: key with a control character", keys(&["a\n"]), 40005),
        refused("send 11: empty id", id(""), 40009),
        refused("send 11: blank id", id("  "), 40009),
        row("send 11: any other id", id("not like ours"), Expect::Stored(1)),
    ]
}

fn time_and_group() -> Vec<Row> {
    let orphan = |seconds: i64, nanos: i32| {
        with(|_, system| {
            system.message_type = v2::MessageType::Transaction as i32;
            system.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds, nanos });
        })
    };
    let due = |name: &str, topic: &str, ahead: i64, code: i32| {
        refused(name, send(vec![message(topic)]), code).due_in_ms(ahead)
    };
    let group = |group: &str| with(|_, system| system.message_group = Some(group.to_owned()));
    vec![
        refused("send 12: orphan duration of 3601 s", orphan(3601, 0), 40000),
        refused("send 12: a negative orphan duration", orphan(-1, 0), 40000),
        refused("send 12: an orphan duration just below 0", orphan(0, -1), 40000),
        refused("send 12: orphan duration of 3600 s passes, the type is refused", orphan(3600, 0), 40014),
        // 13 is checked before 15 and before "not implemented": the delay itself is judged first.
        due("send 13: a day and a second ahead, normal topic", NORMAL, DAY_MS + 1_000, 40012),
        due("send 13: a day and a second ahead, delay topic", DELAY, DAY_MS + 1_000, 40012),
        due("send 13: a day less a second passes, the type is refused", NORMAL, DAY_MS - 1_000, 40014),
        row("send 13: a day less a second passes on a delay topic", send(vec![message(DELAY)]), Expect::Code(20000))
            .due_in_ms(DAY_MS - 1_000),
        row("send 13: the past is delivered at once", send(vec![message(DELAY)]), Expect::Stored(1)).due_in_ms(-1_000),
        due("send 13: the past passes, the type is refused", NORMAL, -1_000, 40014),
        row("send 14: empty group is none", group(""), Expect::Stored(1)),
        refused("send 14: blank group", group(" "), 40006),
        refused("send 14: group of 64 bytes", group(&"g".repeat(64)), 40006),
        refused("send 14: group of 64 bytes in 32 characters", group(&"é".repeat(32)), 40006),
        refused("send 14: group with a control character", group("a\u{1}"), 40006),
        refused("send 14: group of 63 bytes passes, the type is refused", group(&"g".repeat(63)), 40014),
        row(
            "send 14: group of 63 bytes on a FIFO topic",
            with_on(FIFO, |_, system| system.message_group = Some("g".repeat(63))),
            Expect::Stored(1),
        ),
    ]
}

/// What is wrong in two ways gets the code of the earlier check.
fn order_of_checks() -> Vec<Row> {
    type Fault = (&'static str, i32, fn(&mut v2::Message, &mut v2::SystemProperties));
    let faults: [Fault; 10] = [
        ("empty body", 41302, |message, _| message.body = Default::default()),
        ("129 properties", 43101, |message, _| {
            message.user_properties = (0..129).map(|n| (format!("p{n}"), String::new())).collect()
        }),
        ("reserved key", 40007, |message, _| drop(message.user_properties.insert("TAGS".to_owned(), String::new()))),
        ("blank tag", 40004, |_, system| system.tag = Some(" ".to_owned())),
        ("blank key", 40005, |_, system| system.keys = vec![" ".to_owned()]),
        ("too many bytes", 43101, |message, _| {
            drop(message.user_properties.insert("w".to_owned(), "w".repeat(PROPERTIES_BYTES_MAX)))
        }),
        ("blank id", 40009, |_, system| system.message_id = String::new()),
        ("orphan duration", 40000, |_, system| {
            system.message_type = v2::MessageType::Transaction as i32;
            system.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds: 3601, nanos: 0 });
        }),
        ("delivery time", 40012, |_, system| system.delivery_timestamp = Some(in_millis(2 * DAY_MS))),
        ("blank group", 40006, |_, system| system.message_group = Some(" ".to_owned())),
    ];
    let mut rows = Vec::new();
    for (place, (name, code, fault)) in faults.iter().enumerate() {
        for (later, _, other) in &faults[place + 1..] {
            let ask = with(|message, system| {
                other(message, system);
                fault(message, system);
            });
            rows.push(refused(format!("send order: {name} comes before {later}"), ask, *code));
        }
        let unknown = with_on("limits-unknown", fault);
        rows.push(refused(format!("send order: {name} comes before the unknown topic"), unknown, *code));
    }
    rows
}

/// A message is judged by its properties, not by its word; a topic takes its own kind only.
fn types() -> Vec<Row> {
    type Kind = (&'static str, &'static str, fn(&mut v2::SystemProperties));
    let kinds: [Kind; 6] = [
        ("normal", NORMAL, |_| {}),
        ("grouped", FIFO, |system| system.message_group = Some("g".to_owned())),
        ("delayed", DELAY, |system| system.delivery_timestamp = Some(in_millis(60_000))),
        ("transactional", TRANSACTION, |system| system.message_type = v2::MessageType::Transaction as i32),
        ("prioritised", PRIORITY, |system| system.priority = Some(3)),
        ("lite", LITE, |system| system.lite_topic = Some("lite".to_owned())),
    ];
    let mut rows = Vec::new();
    for (kind, own, mark) in kinds {
        for topic in [NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY, LITE, MIXED] {
            let ask = with_on(topic, |_, system| mark(system));
            let name = format!("send 15: a {kind} message on {topic}");
            rows.push(match (topic == own || topic == MIXED, kind) {
                (false, _) => refused(name, ask, 40014),
                // Held back, so in no queue before its transaction ends, or its time comes.
                (true, "transactional" | "delayed") => row(name, ask, Expect::HeldBack),
                (true, _) => row(name, ask, Expect::Stored(1)),
            });
        }
    }
    let says = |kind: v2::MessageType| {
        move |_: &mut v2::Message, system: &mut v2::SystemProperties| system.message_type = kind as i32
    };
    for topic in [PRIORITY, MIXED, NORMAL] {
        for priority in [-1, i32::MIN] {
            let negative = with_on(topic, |_, system| system.priority = Some(priority));
            rows.push(refused(format!("send 15: a priority of {priority} on {topic}"), negative, 40000));
        }
    }
    let highest = with_on(PRIORITY, |_, system| system.priority = Some(i32::MAX));
    rows.push(row("send 15: a priority above the highest", highest, Expect::Stored(1)));
    rows.push(row("send 15: says FIFO and has no group", with(says(v2::MessageType::Fifo)), Expect::Stored(1)));
    rows.push(row("send 15: says DELAY and has no time", with(says(v2::MessageType::Delay)), Expect::Stored(1)));
    rows.push(refused(
        "send 15: says FIFO, has no group, FIFO topic",
        with_on(FIFO, says(v2::MessageType::Fifo)),
        40014,
    ));
    let both = with_on(FIFO, |_, system| {
        system.message_group = Some("g".to_owned());
        system.delivery_timestamp = Some(in_millis(60_000));
    });
    rows.push(refused("send 15: group and time is a delayed message", both, 40014));
    let mut mixed = vec![message(NORMAL); 2];
    if let Some(system) = &mut mixed[1].system_properties {
        system.message_group = Some("g".to_owned());
    }
    rows.push(refused("send 15: the second of two is of another kind", send(mixed), 40014));
    rows
}
