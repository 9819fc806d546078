//! Which texts a message may carry: property keys that belong to the system, control characters, blank and over-long values.

use crate::model::limits::{
    LITE_TOPIC_CHARS_MAX, MESSAGE_GROUP_BYTES_LIMIT, MESSAGE_ID_BYTES_MAX, PROPERTIES_BYTES_MAX, USER_PROPERTIES_MAX,
};
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

/// User property under which a delivered message shows its message group (rule C17).
pub const SHARDING_KEY: &str = "__SHARDINGKEY";

/// User property under which a message of a transaction shows the transaction's id (rule C17).
pub const TRANSACTION_ID: &str = "__transactionId__";

/// Keys of the reference system's own properties, and those it forgot to reserve: a user who could set them
/// would forge what the server says. Sorted, for the search.
const RESERVED_KEYS: [&str; 58] = [
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REDIRECT",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_CONTEXT",
    "TRACE_ON",
    "TRANSACTION_CHECK_TIMES",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "__BORNHOST",
    "__CRC32#",
    SHARDING_KEY,
    TRANSACTION_ID,
];

fn is_reserved(key: &str) -> bool {
    RESERVED_KEYS.binary_search(&key).is_ok()
}

/// U+0000 to U+001F and U+007F to U+009F.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn is_blank(text: &str) -> bool {
    !text.is_empty() && text.trim().is_empty()
}

/// Rows 6 to 10 of the order of checks: properties, tag, keys, and their bytes together.
pub fn check_properties(message: &v2::Message, system: &v2::SystemProperties) -> Result<(), Refusal> {
    let too_large = |text: String| Refusal::new(Code::MessagePropertiesTooLarge, text);
    if message.user_properties.len() > USER_PROPERTIES_MAX {
        return Err(too_large(format!(
            "{} user properties are more than the maximum of {USER_PROPERTIES_MAX}",
            message.user_properties.len()
        )));
    }
    let mut bytes = 0;
    for (key, value) in &message.user_properties {
        if is_reserved(key) {
            let text = format!("the user property key {key} is reserved for the system");
            return Err(Refusal::new(Code::IllegalMessagePropertyKey, text));
        }
        if has_control(key) || has_control(value) {
            return Err(Refusal::new(Code::IllegalMessagePropertyKey, "a user property contains a control character"));
        }
        bytes += key.len() + value.len();
    }
    bytes += check_tag(system.tag())?;
    for key in &system.keys {
        bytes += check_key(key)?;
    }
    if bytes > PROPERTIES_BYTES_MAX {
        return Err(too_large(format!(
            "{bytes} bytes of properties are more than the maximum of {PROPERTIES_BYTES_MAX}"
        )));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<usize, Refusal> {
    let illegal = |text: &'static str| Err(Refusal::new(Code::IllegalMessageTag, text));
    if is_blank(tag) {
        return illegal("the tag is blank");
    }
    if tag.contains('|') {
        return illegal("the tag contains the separator |");
    }
    if has_control(tag) {
        return illegal("the tag contains a control character");
    }
    Ok(tag.len())
}

fn check_key(key: &str) -> Result<usize, Refusal> {
    let illegal = |text: &'static str| Err(Refusal::new(Code::IllegalMessageKey, text));
    if is_blank(key) {
        return illegal("a key is blank");
    }
    if has_control(key) {
        return illegal("a key contains a control character");
    }
    Ok(key.len())
}

/// Row 11. The reference checks no length; ours bounds what is indexed later.
pub fn check_message_id(id: &str) -> Result<(), Refusal> {
    let illegal = |text: &'static str| Err(Refusal::new(Code::IllegalMessageId, text));
    if id.trim().is_empty() {
        return illegal("the message id is blank");
    }
    if id.len() > MESSAGE_ID_BYTES_MAX {
        return illegal("the message id is longer than 512 bytes");
    }
    Ok(())
}

/// Row 14.
pub fn check_message_group(group: &str) -> Result<(), Refusal> {
    let illegal = |text: &'static str| Err(Refusal::new(Code::IllegalMessageGroup, text));
    if is_blank(group) {
        return illegal("the message group is blank");
    }
    if group.len() >= MESSAGE_GROUP_BYTES_LIMIT {
        return illegal("the message group has 64 bytes or more");
    }
    if has_control(group) {
        return illegal("the message group contains a control character");
    }
    Ok(())
}

/// A lite topic is named like a topic, only shorter and without the signs of system names; the empty name means "none".
pub fn check_lite_topic(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.chars().count() > LITE_TOPIC_CHARS_MAX || !name.chars().all(legal) {
        let text = "the lite topic is longer than 64 characters or contains others than [a-zA-Z0-9_-]";
        return Err(Refusal::new(Code::IllegalLiteTopic, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(properties: &[(&str, &str)]) -> v2::Message {
        v2::Message {
            user_properties: properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..Default::default()
        }
    }

    fn tagged(tag: &str) -> v2::SystemProperties {
        v2::SystemProperties { tag: Some(tag.into()), ..Default::default() }
    }

    fn keyed(key: &str) -> v2::SystemProperties {
        v2::SystemProperties { keys: vec!["ok".into(), key.into()], ..Default::default() }
    }

    fn code(outcome: Result<(), Refusal>) -> i32 {
        outcome.err().map_or(20000, |refusal| refusal.code as i32)
    }

    #[test]
    fn reserved_keys_are_sorted_or_the_search_misses_them() {
        assert!(RESERVED_KEYS.windows(2).all(|pair| pair[0] < pair[1]));
        for key in RESERVED_KEYS {
            assert_eq!(code(check_properties(&message(&[(key, "v")]), &Default::default())), 40007, "{key}");
        }
    }

    #[test]
    fn texts_at_their_limits() {
        let none = v2::SystemProperties::default();
        let cases = [
            ("plain", check_properties(&message(&[("a", "b")]), &none), 20000),
            ("lower case of a reserved key", check_properties(&message(&[("tags", "b")]), &none), 20000),
            ("control in key", check_properties(&message(&[("a\u{1}", "b")]), &none), 40007),
            ("control in value", check_properties(&message(&[("a", "\u{9f}")]), &none), 40007),
            ("no control just above", check_properties(&message(&[("a", "\u{a0}")]), &none), 20000),
            ("empty tag", check_properties(&message(&[]), &tagged("")), 20000),
            ("blank tag", check_properties(&message(&[]), &tagged("  ")), 40004),
            ("tag with separator", check_properties(&message(&[]), &tagged("a|b")), 40004),
            ("tag with tab", check_properties(&message(&[]), &tagged("a\tb")), 40004),
            ("empty key", check_properties(&message(&[]), &keyed("")), 20000),
            ("blank key", check_properties(&message(&[]), &keyed(" ")), 40005),
            ("key with space", check_properties(&message(&[]), &keyed("a b")), 20000),
            ("key with delete", check_properties(&message(&[]), &keyed("a\u{7f}")), 40005),
            ("blank id", check_message_id(" "), 40009),
            ("long id", check_message_id(&"i".repeat(513)), 40009),
            ("id at the limit", check_message_id(&"i".repeat(512)), 20000),
            ("no group", check_message_group(""), 20000),
            ("blank group", check_message_group(" "), 40006),
            ("group of 63", check_message_group(&"g".repeat(63)), 20000),
            ("group of 64", check_message_group(&"g".repeat(64)), 40006),
            ("group of 64 bytes in 32 characters", check_message_group(&"é".repeat(32)), 40006),
            ("group with control", check_message_group("a\u{0}"), 40006),
            ("lite topic of 64", check_lite_topic(&"l".repeat(64)), 20000),
            ("lite topic of 65", check_lite_topic(&"l".repeat(65)), 40020),
            ("lite topic with space", check_lite_topic("a b"), 40020),
            ("lite topic with a sign of topics", check_lite_topic("a%b"), 40020),
            ("lite topic of all signs", check_lite_topic("aZ09_-"), 20000),
        ];
        for (name, outcome, expected) in cases {
            assert_eq!(code(outcome), expected, "{name}");
        }
    }

    #[test]
    fn properties_are_counted_and_weighed() {
        let many = |count: usize| v2::Message {
            user_properties: (0..count).map(|index| (format!("k{index}"), String::new())).collect(),
            ..Default::default()
        };
        assert_eq!(code(check_properties(&many(128), &Default::default())), 20000);
        assert_eq!(code(check_properties(&many(129), &Default::default())), 43101);
        let weight = |value: usize| {
            let system = v2::SystemProperties { tag: Some("tt".into()), keys: vec!["kk".into()], ..Default::default() };
            code(check_properties(&message(&[("k", &"v".repeat(value))]), &system))
        };
        assert_eq!(weight(PROPERTIES_BYTES_MAX - 5), 20000);
        assert_eq!(weight(PROPERTIES_BYTES_MAX - 4), 43101);
    }
}
