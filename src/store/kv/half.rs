//! Messages of transactions. A held one has a row from its send until its end; one that was given up stays held, with a row
//! that says so. Of one that was committed or rolled back a trace stays for a while, so that a repeated or an opposite answer
//! hears the truth. A class byte comes first, so that what is held is found without walking past the traces.
//!
//! ```text
//! 'h' | topic u32 | id         → position u64 | length u32 | stored_at u64 | first_check_ms u64 | body_bytes u32 | producer
//! 'c' | topic u32 | id         → checks u32 | next_check u64                  once a producer was asked
//! 'd' | topic u32 | id         → at u64                                       once it was given up
//! 'D' | at u64 | topic u32 | id →                                             the same by time
//! 'e' | topic u32 | id         → outcome u8 | at u64                          the trace
//! 'E' | at u64 | topic u32 | id →                                             the same by time
//! ```
//! The dispatcher never reads a row: each record alone says which rows change.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::model::position::{LogPosition, RecordAt, TopicId};
use crate::model::time::Timestamp;
use crate::store::codec::{Reader, RecordError, put_text};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key;
use crate::store::kv::{Family, Rows};
use crate::store::record::{HalfOutcome, HalfRecord};

const HELD: u8 = b'h';
const CHECKS: u8 = b'c';
const DISCARDED: u8 = b'd';
const DISCARDED_BY_TIME: u8 = b'D';
const ENDED: u8 = b'e';
const ENDED_BY_TIME: u8 = b'E';

/// A half message that can still be committed or rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldHalf {
    /// Topic.
    pub topic: TopicId,
    /// Message id.
    pub id: String,
    /// Where it lies.
    pub at: RecordAt,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// How long after that its producer is left alone.
    pub first_check_after: Duration,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Client that sent it.
    pub producer: String,
    /// How often its producer was asked, and when next; `None` before the first time.
    pub checks: Option<Checks>,
    /// When it was given up, if it was.
    pub discarded_at: Option<Timestamp>,
}

/// How often a producer was asked about a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// So often.
    pub count: u32,
    /// When it is asked again, or given up.
    pub next: Timestamp,
}

/// What is left of a half message that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// How it ended.
    pub outcome: HalfOutcome,
    /// When.
    pub at: Timestamp,
}

/// A half message whose end lies so far back that it may be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldEnd {
    /// Topic.
    pub topic: TopicId,
    /// Message id.
    pub id: String,
    /// When it ended.
    pub at: Timestamp,
}

fn by_id(class: u8, topic: TopicId, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + id.len());
    key.push(class);
    key.extend_from_slice(&topic.get().to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    key
}

fn by_time(class: u8, at: Timestamp, topic: TopicId, id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(13 + id.len());
    key.push(class);
    key.extend_from_slice(&at.millis().to_be_bytes());
    key.extend_from_slice(&topic.get().to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    key
}

fn number<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], RecordError> {
    let bytes = key.get(at..at + N).ok_or(RecordError::Short { wanted: at + N, found: key.len() })?;
    let mut number = [0; N];
    number.copy_from_slice(bytes);
    Ok(number)
}

fn text(bytes: &[u8]) -> Result<String, RecordError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| RecordError::Field("text"))
}

fn topic_and_id(key: &[u8], at: usize) -> Result<(TopicId, String), RecordError> {
    Ok((TopicId(u32::from_be_bytes(number(key, at)?)), text(&key[at + 4..])?))
}

fn decode_held(key: &[u8], value: &[u8]) -> Result<HeldHalf, RecordError> {
    let (topic, id) = topic_and_id(key, 1)?;
    let mut reader = Reader::new(value, 0);
    let held = HeldHalf {
        topic,
        id,
        at: RecordAt { position: LogPosition(reader.u64()?), length: reader.u32()? },
        stored_at: Timestamp(reader.u64()?),
        first_check_after: Duration::from_millis(reader.u64()?),
        body_bytes: reader.u32()?,
        producer: reader.sized_text()?.to_owned(),
        checks: None,
        discarded_at: None,
    };
    reader.end()?;
    Ok(held)
}

fn decode_checks(value: &[u8]) -> Result<Checks, RecordError> {
    let mut reader = Reader::new(value, 0);
    let checks = Checks { count: reader.u32()?, next: Timestamp(reader.u64()?) };
    reader.end()?;
    Ok(checks)
}

fn decode_instant(value: &[u8]) -> Result<Timestamp, RecordError> {
    let mut reader = Reader::new(value, 0);
    let at = Timestamp(reader.u64()?);
    reader.end()?;
    Ok(at)
}

fn decode_trace(value: &[u8]) -> Result<Trace, RecordError> {
    let mut reader = Reader::new(value, 0);
    let outcome = match reader.u8()? {
        1 => HalfOutcome::Committed,
        2 => HalfOutcome::RolledBack,
        _ => return Err(RecordError::Field("outcome of a half message")),
    };
    let at = Timestamp(reader.u64()?);
    reader.end()?;
    Ok(Trace { outcome, at })
}

/// A half message was stored at `at`, or stored there once more.
pub fn put(rows: &mut impl Rows, half: &HalfRecord, at: RecordAt) {
    let mut value = BytesMut::with_capacity(40 + half.producer.len());
    value.put_u64_le(at.position.get());
    value.put_u32_le(at.length);
    value.put_u64_le(half.message.message.stored_at.millis());
    value.put_u64_le(u64::try_from(half.first_check_after.as_millis()).unwrap_or(u64::MAX));
    value.put_u32_le(half.message.body_bytes);
    put_text(&mut value, &half.producer);
    rows.put(Family::Half, &by_id(HELD, half.message.topic, &half.message.message.message_id), &value);
}

/// A producer was asked.
pub fn put_checks(rows: &mut impl Rows, topic: TopicId, id: &str, checks: Checks) {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&checks.count.to_le_bytes());
    value[4..].copy_from_slice(&checks.next.millis().to_le_bytes());
    rows.put(Family::Half, &by_id(CHECKS, topic, id), &value);
}

/// A half message, or the trace of one, ended.
pub fn end(rows: &mut impl Rows, topic: TopicId, id: &str, outcome: HalfOutcome, at: Timestamp, was_checked: bool) {
    let mut delete = |key: Vec<u8>| rows.delete(Family::Half, &key);
    match outcome {
        HalfOutcome::Committed | HalfOutcome::RolledBack => {
            delete(by_id(HELD, topic, id));
            if was_checked {
                delete(by_id(CHECKS, topic, id));
            }
            let mut value = [if outcome == HalfOutcome::Committed { 1 } else { 2 }; 9];
            value[1..].copy_from_slice(&at.millis().to_le_bytes());
            rows.put(Family::Half, &by_id(ENDED, topic, id), &value);
            rows.put(Family::Half, &by_time(ENDED_BY_TIME, at, topic, id), &[]);
        }
        HalfOutcome::Discarded => {
            rows.put(Family::Half, &by_id(DISCARDED, topic, id), &at.millis().to_le_bytes());
            rows.put(Family::Half, &by_time(DISCARDED_BY_TIME, at, topic, id), &[]);
        }
        HalfOutcome::Forgotten => {
            delete(by_id(ENDED, topic, id));
            delete(by_time(ENDED_BY_TIME, at, topic, id));
            delete(by_time(DISCARDED_BY_TIME, at, topic, id));
        }
        HalfOutcome::Expired => {
            delete(by_id(HELD, topic, id));
            delete(by_id(CHECKS, topic, id));
            delete(by_id(DISCARDED, topic, id));
            delete(by_time(DISCARDED_BY_TIME, at, topic, id));
        }
    }
}

/// Removes what is known of a topic's half messages. What is sorted by time goes when its time comes.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    for class in [HELD, CHECKS, DISCARDED, ENDED] {
        let prefix = by_id(class, topic, "");
        rows.delete_range(Family::Half, &prefix, &key::after(&prefix));
    }
}

/// A held half message.
///
/// # Errors
/// The fold cannot be read.
pub fn held(kv: &Kv, topic: TopicId, id: &str) -> Result<Option<HeldHalf>, FoldError> {
    let key = by_id(HELD, topic, id);
    let found = kv.get(Family::Half, &key, |value| decode_held(&key, value))?;
    found.map(|found| completed(kv, found)).transpose()
}

/// What is left of one that ended.
///
/// # Errors
/// The fold cannot be read.
pub fn trace(kv: &Kv, topic: TopicId, id: &str) -> Result<Option<Trace>, FoldError> {
    kv.get(Family::Half, &by_id(ENDED, topic, id), decode_trace)
}

/// Held half messages behind `after`, by topic and id; at most `max`.
///
/// # Errors
/// The fold cannot be read.
pub fn held_after(kv: &Kv, after: Option<(TopicId, &str)>, max: usize) -> Result<Vec<HeldHalf>, FoldError> {
    let from = after.map_or_else(
        || vec![HELD],
        |(topic, id)| {
            let mut from = by_id(HELD, topic, id);
            // The least key behind its own.
            from.push(0);
            from
        },
    );
    let mut halves = Vec::new();
    kv.scan(Family::Half, &from, Some(&[HELD + 1]), |key, value| {
        if halves.len() == max {
            return Ok(false);
        }
        halves.push(decode_held(key, value)?);
        Ok(true)
    })?;
    halves.into_iter().map(|half| completed(kv, half)).collect()
}

fn completed(kv: &Kv, half: HeldHalf) -> Result<HeldHalf, FoldError> {
    let checks = kv.get(Family::Half, &by_id(CHECKS, half.topic, &half.id), decode_checks)?;
    let discarded_at = kv.get(Family::Half, &by_id(DISCARDED, half.topic, &half.id), decode_instant)?;
    Ok(HeldHalf { checks, discarded_at, ..half })
}

/// Ends from `from` on and before `before`, oldest first; at most `max`. `discarded`: of those that were given up.
///
/// # Errors
/// The fold cannot be read.
pub fn old_ends(
    kv: &Kv,
    discarded: bool,
    (from, before): (Timestamp, Timestamp),
    max: usize,
) -> Result<Vec<OldEnd>, FoldError> {
    let class = if discarded { DISCARDED_BY_TIME } else { ENDED_BY_TIME };
    let bound = |at: Timestamp| {
        let mut bound = vec![class];
        bound.extend_from_slice(&at.millis().to_be_bytes());
        bound
    };
    let mut ends = Vec::new();
    kv.scan(Family::Half, &bound(from), Some(&bound(before)), |key, _| {
        if ends.len() == max {
            return Ok(false);
        }
        let at = Timestamp(u64::from_be_bytes(number(key, 1)?));
        let (topic, id) = topic_and_id(key, 9)?;
        ends.push(OldEnd { topic, id, at });
        Ok(true)
    })?;
    Ok(ends)
}

#[cfg(test)]
#[path = "half_tests.rs"]
mod tests;
