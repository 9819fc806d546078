//! A send request as messages of the house: checked in the order of the protocol's rules, then encoded once, in the form in
//! which every later delivery copies it.

use std::time::Duration;

use bytes::BytesMut;
use prost::encoding;
use sha1::{Digest, Sha1};

use crate::broker::api::Publish;
use crate::model::limits::{BODY_BYTES_MAX, SEND_BATCH_BYTES_MAX, SEND_BATCH_MAX};
use crate::model::message::{MessageType, NewMessage};
use crate::model::name::TopicName;
use crate::model::time::Timestamp;
use crate::proxy::caller::Caller;
use crate::proxy::convert::fields::{self, put_bytes, put_digest, put_int, put_pair, put_text};
use crate::proxy::convert::{names, properties, time};
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

/// Longest time before an undecided transaction is asked about.
const ORPHAN_SECONDS_MAX: u64 = 3600;
/// Room for the encoded system properties beyond their texts: digest, times, numbers, tags.
const SYSTEM_BYTES_EXTRA: usize = 128;
/// Bytes beside the texts of a message that a request is counted with.
const MESSAGE_BYTES_EXTRA: usize = 512;

/// What the checks and the stored form depend on besides the request.
#[derive(Clone, Copy, Debug)]
pub struct SendRules {
    /// Server time.
    pub now: Timestamp,
    /// How far ahead a delivery time may lie.
    pub delivery_horizon: Duration,
}

/// Bytes that a request occupies while it is in flight.
pub fn request_bytes(request: &v2::SendMessageRequest) -> usize {
    request.messages.iter().map(|message| message.body.len() + MESSAGE_BYTES_EXTRA).sum()
}

/// The topic that all messages of a request name.
///
/// # Errors
/// `MESSAGE_CORRUPTED` for a request without messages, `ILLEGAL_TOPIC` for a bad name.
pub fn topic(caller: &Caller, request: &v2::SendMessageRequest) -> Result<TopicName, Refusal> {
    let first = request.messages.first().ok_or_else(|| Refusal::new(Code::MessageCorrupted, "no message to send"))?;
    names::topic(caller, first.topic.as_ref())
}

/// Checks every message and encodes it.
///
/// # Errors
/// The first rule that a message breaks, in request order and in the order of the rules.
pub fn publish(
    caller: &Caller,
    topic: TopicName,
    request: &v2::SendMessageRequest,
    rules: SendRules,
) -> Result<Publish, Refusal> {
    let first = request.messages.first().and_then(|message| message.topic.as_ref());
    let absent = v2::SystemProperties::default();
    for message in &request.messages {
        if message.topic.as_ref() != first {
            return Err(Refusal::new(Code::MessageCorrupted, "the messages of one request name different topics"));
        }
        check(message, message.system_properties.as_ref().unwrap_or(&absent), rules)?;
    }
    if request.messages.len() > SEND_BATCH_MAX || request_bytes(request) > SEND_BATCH_BYTES_MAX {
        return Err(Refusal::new(Code::PayloadTooLarge, "more than 1024 messages or 16 MiB in one request"));
    }
    let messages = request
        .messages
        .iter()
        .map(|message| encode(caller, message, message.system_properties.as_ref().unwrap_or(&absent), rules.now))
        .collect();
    Ok(Publish { topic, messages })
}

/// Rows 4 to 14 of the order of checks.
fn check(message: &v2::Message, system: &v2::SystemProperties, rules: SendRules) -> Result<(), Refusal> {
    if message.body.is_empty() {
        return Err(Refusal::new(Code::MessageBodyEmpty, "the message body is empty"));
    }
    if message.body.len() > BODY_BYTES_MAX {
        let text = format!("{} bytes of body are more than the maximum of {BODY_BYTES_MAX}", message.body.len());
        return Err(Refusal::new(Code::MessageBodyTooLarge, text));
    }
    properties::check_properties(message, system)?;
    properties::check_message_id(&system.message_id)?;
    if let (v2::MessageType::Transaction, Some(orphan)) =
        (system.message_type(), &system.orphaned_transaction_recovery_duration)
    {
        let longest = Duration::from_secs(ORPHAN_SECONDS_MAX);
        if time::duration(orphan).is_none_or(|orphan| orphan > longest) {
            return Err(Refusal::new(
                Code::BadRequest,
                "the recovery duration of the transaction is not between 0 and 3600 s",
            ));
        }
    }
    if let Some(due) = &system.delivery_timestamp
        && time::timestamp(due) > rules.now.plus(rules.delivery_horizon)
    {
        let text = format!("the delivery time lies more than {} s ahead", rules.delivery_horizon.as_secs());
        return Err(Refusal::new(Code::IllegalDeliveryTime, text));
    }
    properties::check_message_group(system.message_group())?;
    properties::check_lite_topic(system.lite_topic())?;
    if system.priority.is_some_and(|priority| priority < 0) {
        return Err(Refusal::new(Code::BadRequest, "the priority is negative"));
    }
    Ok(())
}

/// What a message is, by its properties and not by its word (rule C18).
fn message_type(system: &v2::SystemProperties) -> MessageType {
    if system.message_type() == v2::MessageType::Transaction {
        MessageType::Transaction
    } else if system.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if !system.message_group().is_empty() {
        MessageType::Fifo
    } else if system.priority.is_some() {
        MessageType::Priority
    } else if !system.lite_topic().is_empty() {
        MessageType::Lite
    } else {
        MessageType::Normal
    }
}

/// The wire's number of a kind.
pub fn wire_message_type(kind: MessageType) -> v2::MessageType {
    match kind {
        MessageType::Normal => v2::MessageType::Normal,
        MessageType::Fifo => v2::MessageType::Fifo,
        MessageType::Delay => v2::MessageType::Delay,
        MessageType::Transaction => v2::MessageType::Transaction,
        MessageType::Priority => v2::MessageType::Priority,
        MessageType::Lite => v2::MessageType::Lite,
    }
}

fn encode(caller: &Caller, message: &v2::Message, system: &v2::SystemProperties, now: Timestamp) -> NewMessage {
    let kind = message_type(system);
    let mut out = BytesMut::with_capacity(capacity(message, system));
    encode_rest(message, &mut out);
    let rest = out.split().freeze();
    encode_system(caller, message, system, kind, now, &mut out);
    let producer = match caller.client() {
        Some(client) if kind == MessageType::Transaction => client.0.clone(),
        _ => "".into(),
    };
    NewMessage {
        producer,
        message_type: kind,
        message_id: system.message_id.clone(),
        tag: system.tag().to_owned(),
        message_group: system.message_group().to_owned(),
        lite_topic: system.lite_topic().to_owned(),
        due: system.delivery_timestamp.as_ref().map(time::not_before),
        orphan_after: system.orphaned_transaction_recovery_duration.as_ref().and_then(time::duration),
        priority: system.priority.and_then(|priority| u32::try_from(priority).ok()),
        rest,
        system_static: out.freeze(),
        body_bytes: u32::try_from(message.body.len()).unwrap_or(u32::MAX),
    }
}

/// Bytes for both parts, a little too many rather than too few.
fn capacity(message: &v2::Message, system: &v2::SystemProperties) -> usize {
    let properties: usize = message.user_properties.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
    let keys: usize = system.keys.iter().map(|key| key.len() + 4).sum();
    let texts = system.tag().len()
        + system.message_id.len()
        + system.born_host.len().max(48)
        + system.message_group().len()
        + system.trace_context().len()
        + system.lite_topic().len();
    message.body.len() + properties + keys + texts + SYSTEM_BYTES_EXTRA
}

fn encode_rest(message: &v2::Message, out: &mut BytesMut) {
    // In order of the keys: the same message has the same bytes in every process.
    let mut properties: Vec<(&String, &String)> = message.user_properties.iter().collect();
    properties.sort_unstable();
    for (key, value) in properties {
        put_pair(fields::message::USER_PROPERTIES, key, value, out);
    }
    put_bytes(fields::message::BODY, &message.body, out);
}

fn encode_system(
    caller: &Caller,
    message: &v2::Message,
    system: &v2::SystemProperties,
    kind: MessageType,
    now: Timestamp,
    out: &mut BytesMut,
) {
    use fields::system as field;

    put_text(field::TAG, system.tag(), out);
    for key in &system.keys {
        put_bytes(field::KEYS, key.as_bytes(), out);
    }
    put_text(field::MESSAGE_ID, &system.message_id, out);
    put_digest(field::BODY_DIGEST, v2::DigestType::Sha1 as i32, &upper_hex(Sha1::digest(&message.body).into()), out);
    // The bytes are opaque: a client's label is kept, its absence means "as they are", and 0 would lose the batch at Python's.
    let encoding =
        if system.body_encoding() == v2::Encoding::Gzip { v2::Encoding::Gzip } else { v2::Encoding::Identity };
    put_int(field::BODY_ENCODING, i64::from(encoding as i32), out);
    put_int(field::MESSAGE_TYPE, i64::from(wire_message_type(kind) as i32), out);
    match &system.born_timestamp {
        Some(born) => encoding::message::encode(field::BORN_TIMESTAMP, born, out),
        None => encoding::message::encode(field::BORN_TIMESTAMP, &time::wire_timestamp(now), out),
    }
    match caller.peer.peer {
        Some(peer) if system.born_host.is_empty() => {
            put_text(field::BORN_HOST, &peer.ip().to_canonical().to_string(), out)
        }
        _ => put_text(field::BORN_HOST, &system.born_host, out),
    }
    if let Some(due) = &system.delivery_timestamp {
        encoding::message::encode(field::DELIVERY_TIMESTAMP, due, out);
    }
    put_text(field::MESSAGE_GROUP, system.message_group(), out);
    put_text(field::TRACE_CONTEXT, system.trace_context(), out);
    if let Some(orphan) = &system.orphaned_transaction_recovery_duration {
        encoding::message::encode(field::ORPHANED_TRANSACTION_RECOVERY, orphan, out);
    }
    put_text(field::LITE_TOPIC, system.lite_topic(), out);
    if let Some(priority) = system.priority {
        put_int(field::PRIORITY, i64::from(priority), out);
    }
}

/// The only spelling that all clients accept.
fn upper_hex(digest: [u8; 20]) -> [u8; 40] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = [0; 40];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Decodes what [`encode`] wrote; for tests of both directions.
#[cfg(test)]
pub fn decoded(rest: &bytes::Bytes, system: &bytes::Bytes) -> v2::Message {
    use prost::Message;
    let mut message = v2::Message::decode(rest.clone()).unwrap();
    message.system_properties = Some(v2::SystemProperties::decode(system.clone()).unwrap());
    message
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
