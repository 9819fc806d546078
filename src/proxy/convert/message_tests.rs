//! Fears: a rule in the wrong order or off by one, a field lost on its way to the disk.

use bytes::Bytes;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn rules() -> SendRules {
    SendRules { now: NOW, delivery_horizon: DAY }
}

fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.into() }
}

fn plain() -> v2::Message {
    v2::Message {
        topic: Some(resource("t")),
        user_properties: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        system_properties: Some(v2::SystemProperties { message_id: "01AB".into(), ..Default::default() }),
        body: Bytes::from_static(b"abc"),
    }
}

fn with(change: impl FnOnce(&mut v2::Message, &mut v2::SystemProperties)) -> v2::Message {
    let mut message = plain();
    let mut system = message.system_properties.take().unwrap();
    change(&mut message, &mut system);
    message.system_properties = Some(system);
    message
}

fn try_publish(messages: Vec<v2::Message>) -> Result<Publish, Refusal> {
    let caller = Caller::default();
    let request = v2::SendMessageRequest { messages };
    let topic = topic(&caller, &request)?;
    publish(&caller, topic, &request, rules())
}

fn code(messages: Vec<v2::Message>) -> i32 {
    try_publish(messages).err().map_or(20000, |refusal| refusal.code as i32)
}

fn at(ms: u64) -> Option<prost_types::Timestamp> {
    Some(time::wire_timestamp(Timestamp(ms)))
}

#[test]
fn each_rule_at_its_boundary() {
    let horizon = NOW.plus(DAY).millis();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let transaction = |seconds_of_orphan| {
        with(|_, system| {
            system.message_type = v2::MessageType::Transaction as i32;
            system.orphaned_transaction_recovery_duration = seconds(seconds_of_orphan);
        })
    };
    let cases = [
        ("no message", vec![], 40016),
        ("plain", vec![plain()], 20000),
        ("no topic", vec![with(|message, _| message.topic = None)], 40002),
        ("system topic", vec![with(|message, _| message.topic = Some(resource("TBW102")))], 40002),
        ("two topics", vec![plain(), with(|message, _| message.topic = Some(resource("u")))], 40016),
        ("empty body", vec![with(|message, _| message.body = Bytes::new())], 41302),
        ("body at the limit", vec![with(|message, _| message.body = vec![0; BODY_BYTES_MAX].into())], 20000),
        ("body over the limit", vec![with(|message, _| message.body = vec![0; BODY_BYTES_MAX + 1].into())], 41301),
        ("no id", vec![with(|_, system| system.message_id.clear())], 40009),
        ("no system properties", vec![with(|_, system| *system = Default::default())], 40009),
        ("orphan of an hour", vec![transaction(3600)], 20000),
        ("orphan of more", vec![transaction(3601)], 40000),
        (
            "orphan without transaction",
            vec![with(|_, system| system.orphaned_transaction_recovery_duration = seconds(9999))],
            20000,
        ),
        ("due long ago", vec![with(|_, system| system.delivery_timestamp = at(1))], 20000),
        ("due at the horizon", vec![with(|_, system| system.delivery_timestamp = at(horizon))], 20000),
        ("due beyond it", vec![with(|_, system| system.delivery_timestamp = at(horizon + 1))], 40012),
        ("priority", vec![with(|_, system| system.priority = Some(-1))], 40000),
        ("1024 messages", vec![plain(); 1024], 20000),
        ("1025 messages", vec![plain(); 1025], 41300),
    ];
    for (name, messages, expected) in cases {
        assert_eq!(code(messages), expected, "{name}");
    }
}

#[test]
fn the_earlier_rule_speaks_first() {
    let everything_wrong = |message: &mut v2::Message, system: &mut v2::SystemProperties| {
        message.body = Bytes::new();
        message.user_properties.insert("TAGS".into(), "x".into());
        system.tag = Some("|".into());
        system.keys = vec![" ".into()];
        system.message_id.clear();
        system.delivery_timestamp = at(u64::MAX / 2);
        system.message_group = Some(" ".into());
    };
    let mut message = with(everything_wrong);
    let mut seen = vec![code(vec![message.clone()])];
    let mut repair = |change: &dyn Fn(&mut v2::Message)| {
        change(&mut message);
        seen.push(code(vec![message.clone()]));
    };
    fn system(message: &mut v2::Message) -> &mut v2::SystemProperties {
        message.system_properties.as_mut().unwrap()
    }
    repair(&|message| message.body = Bytes::from_static(b"x"));
    repair(&|message| message.user_properties.clear());
    repair(&|message| system(message).tag = None);
    repair(&|message| system(message).keys.clear());
    repair(&|message| system(message).message_id = "id".into());
    repair(&|message| system(message).delivery_timestamp = None);
    repair(&|message| system(message).message_group = None);
    assert_eq!(seen, [41302, 40007, 40004, 40005, 40009, 40012, 40006, 20000]);
}

#[test]
fn a_message_is_what_its_properties_make_it() {
    type Change = fn(&mut v2::SystemProperties);
    let cases: [(Change, MessageType); 7] = [
        (|_| {}, MessageType::Normal),
        (|system| system.message_type = v2::MessageType::Fifo as i32, MessageType::Normal),
        (|system| system.lite_topic = Some("l".into()), MessageType::Lite),
        (|system| system.priority = Some(0), MessageType::Priority),
        (
            |system| {
                system.priority = Some(1);
                system.message_group = Some("g".into());
            },
            MessageType::Fifo,
        ),
        (
            |system| {
                system.message_group = Some("g".into());
                system.delivery_timestamp = at(5);
            },
            MessageType::Delay,
        ),
        (
            |system| {
                system.delivery_timestamp = at(5);
                system.message_type = v2::MessageType::Transaction as i32;
            },
            MessageType::Transaction,
        ),
    ];
    for (change, expected) in cases {
        let published = try_publish(vec![with(|_, system| change(system))]).unwrap();
        let message = &published.messages[0];
        assert_eq!(message.message_type, expected);
        let stored = decoded(&message.rest, &message.system_static).system_properties.unwrap();
        assert_eq!(stored.message_type(), wire_message_type(expected));
    }
}

#[test]
fn nothing_a_client_sent_is_lost_and_the_server_adds_digest_and_encoding() {
    let sent = with(|_, system| {
        system.tag = Some("blue".into());
        system.keys = vec!["k 1".into(), String::new(), "k2".into()];
        system.body_encoding = v2::Encoding::Gzip as i32;
        system.born_timestamp = Some(prost_types::Timestamp { seconds: -7, nanos: 3 });
        system.born_host = "laptop".into();
        system.delivery_timestamp = at(77);
        system.message_group = Some("g".into());
        system.trace_context = Some("00-trace".into());
        system.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds: 6, nanos: 1 });
        system.lite_topic = Some("lite".into());
        system.priority = Some(3);
        // Words about the delivery are the server's.
        system.receipt_handle = Some("forged".into());
        system.delivery_attempt = Some(9);
        system.queue_id = 5;
    });
    let published = try_publish(vec![sent.clone()]).unwrap();
    let message = &published.messages[0];
    let stored = decoded(&message.rest, &message.system_static);
    assert_eq!(stored.user_properties, sent.user_properties);
    assert_eq!(stored.body, sent.body);
    assert_eq!(stored.topic, None, "the topic is added at delivery");
    let mut expected = sent.system_properties.unwrap();
    expected.receipt_handle = None;
    expected.delivery_attempt = None;
    expected.queue_id = 0;
    expected.message_type = v2::MessageType::Delay as i32;
    expected.body_digest = Some(v2::Digest {
        r#type: v2::DigestType::Sha1 as i32,
        checksum: "A9993E364706816ABA3E25717850C26C9CD0D89D".into(),
    });
    assert_eq!(stored.system_properties, Some(expected));
    assert_eq!((message.tag.as_str(), message.message_group.as_str(), message.body_bytes), ("blue", "g", 3));
}

#[test]
fn absent_birth_data_come_from_the_server() {
    let mut caller = Caller::default();
    caller.peer.peer = Some("[::ffff:10.0.0.7]:5000".parse().unwrap());
    let request = v2::SendMessageRequest { messages: vec![plain()] };
    let published = publish(&caller, TopicName::trusted("", "t"), &request, rules()).unwrap();
    let message = &published.messages[0];
    let system = decoded(&message.rest, &message.system_static).system_properties.unwrap();
    assert_eq!(system.born_host, "10.0.0.7");
    assert_eq!(system.born_timestamp, at(NOW.millis()));
    assert_eq!(system.body_encoding(), v2::Encoding::Identity);
}

#[test]
fn the_room_asked_for_is_enough_so_that_nothing_is_copied_twice() {
    let message = with(|message, system| {
        message.body = vec![7; 70_000].into();
        system.keys = (0..20).map(|index| format!("key-{index}")).collect();
        system.trace_context = Some("t".repeat(55));
    });
    let system = message.system_properties.clone().unwrap();
    let room = capacity(&message, &system);
    let encoded = encode(&Caller::default(), &message, &system, NOW);
    assert!(encoded.rest.len() + encoded.system_static.len() <= room);
}

#[test]
fn filters_find_in_a_stored_message_what_its_client_put_in() {
    use crate::model::properties::Properties;

    let message = with(|_, system| {
        system.tag = Some("blue".into());
        system.keys = vec!["k1".into(), "k2".into()];
        system.message_type = v2::MessageType::Transaction as i32;
        system.born_timestamp = at(1_700_000_000_123);
        system.born_host = "host".into();
        system.message_group = Some("group".into());
        system.trace_context = Some("trace".into());
        system.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds: 9, nanos: 0 });
        system.delivery_timestamp = at(NOW.millis() + 5);
        system.lite_topic = Some("lite".into());
        system.priority = Some(7);
    });
    let stored = try_publish(vec![message]).unwrap().messages.remove(0);
    let properties = Properties { rest: &stored.rest, system: &stored.system_static };
    let mut pairs: Vec<(String, String)> =
        properties.pairs(|_| true).map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
    pairs.sort_unstable();
    let due = (NOW.millis() + 5).to_string();
    let expected = [
        ("BORN_TIMESTAMP", "1700000000123"),
        ("CHECK_IMMUNITY_TIME_IN_SECONDS", "9"),
        ("KEYS", "k1 k2"),
        ("TAGS", "blue"),
        ("TIMER_DELIVER_MS", due.as_str()),
        ("TRACE_CONTEXT", "trace"),
        ("TRAN_MSG", "true"),
        ("UNIQ_KEY", "01AB"),
        ("_SYS_MSG_PRIORITY_", "7"),
        ("__BORNHOST", "host"),
        ("__LITE_TOPIC", "lite"),
        ("__SHARDINGKEY", "group"),
        ("__transactionId__", "01AB"),
        ("a", "1"),
        ("b", "2"),
    ];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let plain = try_publish(vec![plain()]).unwrap().messages.remove(0);
    let properties = Properties { rest: &plain.rest, system: &plain.system_static };
    let names: Vec<&str> =
        properties.pairs(|name| name == "TRAN_MSG" || name == "KEYS").map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"], "what is not there is not made up");
}
