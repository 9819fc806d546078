//! Topics and groups as bytes: the body of their records in the log and the value of their rows in the fold.
//!
//! ```text
//! topic = version u8 | id u32 | namespace text | name text | type u8 | queues u32 | permission u8 (1 read, 2 write)
//!       | promise u8 | retention_ms u64 (2^64-1: none)
//! group = version u8 | id u32 | namespace text | name text | ordered u8 (0 no, 1 yes, 2 by topic) | start u8 | start_at u64
//!       | max_attempts u32 | consume_timeout_ms u64 | enabled u8 | backoff u8 | table: count u32, ms u64 each
//!                                                                            | growth: initial_ms, max_ms u64, factor f32
//! text  = length u16 | UTF-8                                             little-endian
//! ```
//! Version 1 of both ends before what version 2 added; it is still read, and never written.
//!
//! ```text
//! topic 2 = topic 1 | lite_ttl_ms u64 (2^64-1: none)
//! group 2 = group 1 | lite_exclusive u8
//! ```

use std::time::Duration;

use bytes::BufMut;

use crate::model::group::{Backoff, Group, StartPosition};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::codec::{Reader, RecordError, length_u32, put_text};

const TOPIC_VERSION: u8 = 2;
const GROUP_VERSION: u8 = 2;
const NO_RETENTION: u64 = u64::MAX;

/// Shown as the kind of a row whose version is unknown.
const KIND_TOPIC: u8 = b'T';
const KIND_GROUP: u8 = b'G';

fn millis(duration: Duration) -> u64 {
    // The largest value is kept for "none".
    u64::try_from(duration.as_millis()).unwrap_or(NO_RETENTION).min(NO_RETENTION - 1)
}

/// Writes a topic.
pub fn encode_topic(topic: &Topic, out: &mut impl BufMut) {
    out.put_u8(TOPIC_VERSION);
    out.put_u32_le(topic.id.get());
    put_text(out, topic.name.namespace());
    put_text(out, topic.name.name());
    out.put_u8(match topic.topic_type {
        TopicType::Normal => 1,
        TopicType::Fifo => 2,
        TopicType::Delay => 3,
        TopicType::Transaction => 4,
        TopicType::Priority => 5,
        TopicType::Lite => 6,
        TopicType::Mixed => 7,
    });
    out.put_u32_le(topic.queues);
    out.put_u8(u8::from(topic.permission.readable) | (u8::from(topic.permission.writable) << 1));
    out.put_u8(u8::from(topic.promise == Promise::Durable));
    out.put_u64_le(topic.retention.map_or(NO_RETENTION, millis));
    out.put_u64_le(topic.lite_ttl.map_or(NO_RETENTION, millis));
}

/// Reads what [`encode_topic`] wrote.
///
/// # Errors
/// The bytes are not a topic, or one of a newer program.
pub fn decode_topic(bytes: &[u8]) -> Result<Topic, RecordError> {
    let mut reader = Reader::new(bytes, 0);
    let version = reader.u8()?;
    if !(1..=TOPIC_VERSION).contains(&version) {
        return Err(RecordError::Unknown { kind: KIND_TOPIC, version });
    }
    let id = TopicId(reader.u32()?);
    let namespace = reader.sized_text()?;
    let name = TopicName::trusted(namespace, reader.sized_text()?);
    let topic_type = match reader.u8()? {
        1 => TopicType::Normal,
        2 => TopicType::Fifo,
        3 => TopicType::Delay,
        4 => TopicType::Transaction,
        5 => TopicType::Priority,
        6 => TopicType::Lite,
        7 => TopicType::Mixed,
        _ => return Err(RecordError::Field("topic type")),
    };
    let queues = reader.u32()?;
    let permission = match reader.u8()? {
        bits @ 0..=3 => Permission { readable: bits & 1 != 0, writable: bits & 2 != 0 },
        _ => return Err(RecordError::Field("permission")),
    };
    let promise = if reader.flag("promise")? { Promise::Durable } else { Promise::Written };
    let retention = decode_optional(&mut reader)?;
    let lite_ttl = if version == 1 { None } else { decode_optional(&mut reader)? };
    reader.end()?;
    Ok(Topic { id, name, topic_type, queues, permission, promise, retention, lite_ttl })
}

fn decode_optional(reader: &mut Reader<'_>) -> Result<Option<Duration>, RecordError> {
    Ok(match reader.u64()? {
        NO_RETENTION => None,
        ms => Some(Duration::from_millis(ms)),
    })
}

/// Writes a group.
pub fn encode_group(group: &Group, out: &mut impl BufMut) {
    out.put_u8(GROUP_VERSION);
    out.put_u32_le(group.id.get());
    put_text(out, group.name.namespace());
    put_text(out, group.name.name());
    out.put_u8(match group.ordered {
        Some(false) => 0,
        Some(true) => 1,
        None => 2,
    });
    let (start, start_at) = match group.start {
        StartPosition::Earliest => (1, Timestamp(0)),
        StartPosition::Latest => (2, Timestamp(0)),
        StartPosition::At(instant) => (3, instant),
    };
    out.put_u8(start);
    out.put_u64_le(start_at.millis());
    out.put_u32_le(group.max_attempts);
    out.put_u64_le(millis(group.consume_timeout));
    out.put_u8(u8::from(group.enabled));
    match &group.backoff {
        Backoff::Customized(table) => {
            out.put_u8(1);
            out.put_u32_le(length_u32(table.len()));
            for &delay in table {
                out.put_u64_le(millis(delay));
            }
        }
        Backoff::Exponential { initial, max, multiplier } => {
            out.put_u8(2);
            out.put_u64_le(millis(*initial));
            out.put_u64_le(millis(*max));
            out.put_u32_le(multiplier.to_bits());
        }
    }
    out.put_u8(u8::from(group.lite_exclusive));
}

/// Reads what [`encode_group`] wrote.
///
/// # Errors
/// The bytes are not a group, or one of a newer program.
pub fn decode_group(bytes: &[u8]) -> Result<Group, RecordError> {
    let mut reader = Reader::new(bytes, 0);
    let version = reader.u8()?;
    if !(1..=GROUP_VERSION).contains(&version) {
        return Err(RecordError::Unknown { kind: KIND_GROUP, version });
    }
    let id = GroupId(reader.u32()?);
    let namespace = reader.sized_text()?;
    let name = GroupName::trusted(namespace, reader.sized_text()?);
    let ordered = match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        2 => None,
        _ => return Err(RecordError::Field("ordered")),
    };
    let (start, start_at) = (reader.u8()?, Timestamp(reader.u64()?));
    let start = match start {
        1 => StartPosition::Earliest,
        2 => StartPosition::Latest,
        3 => StartPosition::At(start_at),
        _ => return Err(RecordError::Field("start position")),
    };
    let max_attempts = reader.u32()?;
    let consume_timeout = Duration::from_millis(reader.u64()?);
    let enabled = reader.flag("enabled")?;
    let backoff = decode_backoff(&mut reader)?;
    let lite_exclusive = version != 1 && reader.flag("lite exclusive")?;
    reader.end()?;
    Ok(Group { id, name, ordered, start, max_attempts, backoff, consume_timeout, enabled, lite_exclusive })
}

fn decode_backoff(reader: &mut Reader<'_>) -> Result<Backoff, RecordError> {
    match reader.u8()? {
        1 => {
            let count = reader.count(8)?;
            let mut table = Vec::with_capacity(count);
            for _ in 0..count {
                table.push(Duration::from_millis(reader.u64()?));
            }
            Ok(Backoff::Customized(table))
        }
        2 => Ok(Backoff::Exponential {
            initial: Duration::from_millis(reader.u64()?),
            max: Duration::from_millis(reader.u64()?),
            multiplier: f32::from_bits(reader.u32()?),
        }),
        _ => Err(RecordError::Field("back-off")),
    }
}
