//! Where each message of a queue lies in the log, and what can be said without reading it. A row lives from the message's
//! frame being durable until the message is out of retention or its topic is deleted.
//!
//! ```text
//! topic u32 | queue u32 | offset u64 → position u64 | length u32 | tag_hash u32 | stored_at u64 | body_bytes u32
//!                                      | order_key u64
//! ```
//! Positions grow with offsets inside a queue, because the broker numbers messages in the order in which it appends them.

use crate::model::position::{LogPosition, QueueId, QueueOffset, RecordAt, TopicId};
use crate::model::time::Timestamp;
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};
use crate::store::record::MessageHead;

const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 36;

/// A message as its queue sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueEntry {
    /// Place in the queue.
    pub offset: QueueOffset,
    /// Where its record lies.
    pub at: RecordAt,
    /// Hash of its tag.
    pub tag_hash: u32,
    /// When the broker took it.
    pub stored_at: Timestamp,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Number of its message group; 0: none.
    pub order_key: u64,
}

impl QueueEntry {
    /// Of a message whose record lies at `at`.
    #[must_use]
    pub fn of(head: &MessageHead, at: RecordAt) -> Self {
        let MessageHead { offset, tag_hash, stored_at, body_bytes, order_key, .. } = *head;
        Self { offset, at, tag_hash, stored_at, body_bytes, order_key }
    }
}

fn key_of(topic: TopicId, queue: QueueId, offset: QueueOffset) -> [u8; KEY_BYTES] {
    key::with_offset(&key::queue(topic, queue), offset)
}

pub(super) fn encode(entry: &QueueEntry) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value[..8].copy_from_slice(&entry.at.position.get().to_le_bytes());
    value[8..12].copy_from_slice(&entry.at.length.to_le_bytes());
    value[12..16].copy_from_slice(&entry.tag_hash.to_le_bytes());
    value[16..24].copy_from_slice(&entry.stored_at.millis().to_le_bytes());
    value[24..28].copy_from_slice(&entry.body_bytes.to_le_bytes());
    value[28..].copy_from_slice(&entry.order_key.to_le_bytes());
    value
}

pub(super) fn decode(offset: QueueOffset, value: &[u8]) -> Result<QueueEntry, RecordError> {
    let mut reader = Reader::new(value, 0);
    let at = RecordAt { position: LogPosition(reader.u64()?), length: reader.u32()? };
    let tag_hash = reader.u32()?;
    let stored_at = Timestamp(reader.u64()?);
    let body_bytes = reader.u32()?;
    let order_key = reader.u64()?;
    reader.end()?;
    Ok(QueueEntry { offset, at, tag_hash, stored_at, body_bytes, order_key })
}

fn decode_offset(key: &[u8]) -> Result<QueueOffset, RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    key.u64();
    Ok(QueueOffset(key.u64()))
}

/// Adds a message to its queue.
pub fn put(rows: &mut impl Rows, topic: TopicId, queue: QueueId, entry: &QueueEntry) {
    rows.put(Family::QueueEntry, &key_of(topic, queue, entry.offset), &encode(entry));
}

/// Removes what lies before `first` in a queue.
pub fn delete_before(rows: &mut impl Rows, topic: TopicId, queue: QueueId, first: QueueOffset) {
    let from = key_of(topic, queue, QueueOffset(0));
    rows.delete_range(Family::QueueEntry, &from, &key_of(topic, queue, first));
}

/// Removes every message of a queue.
pub fn delete_queue(rows: &mut impl Rows, topic: TopicId, queue: QueueId) {
    let prefix = key::queue(topic, queue);
    rows.delete_range(Family::QueueEntry, &prefix, &key::after(&prefix));
}

/// Removes one message.
pub fn delete(rows: &mut impl Rows, topic: TopicId, queue: QueueId, offset: QueueOffset) {
    rows.delete(Family::QueueEntry, &key_of(topic, queue, offset));
}

/// Removes every message of a topic.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::QueueEntry, &prefix, &key::after(&prefix));
}

/// One message.
///
/// # Errors
/// The fold cannot be read.
pub fn get(kv: &Kv, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<Option<QueueEntry>, FoldError> {
    kv.get(Family::QueueEntry, &key_of(topic, queue, offset), |value| decode(offset, value))
}

/// At most `max` messages of a queue from `from` on, in order.
///
/// # Errors
/// The fold cannot be read.
pub fn from(
    kv: &Kv,
    topic: TopicId,
    queue: QueueId,
    from: QueueOffset,
    max: usize,
) -> Result<Vec<QueueEntry>, FoldError> {
    let mut entries = Vec::with_capacity(max.min(1024));
    if max == 0 {
        return Ok(entries);
    }
    let end = key::after(&key::queue(topic, queue));
    kv.scan(Family::QueueEntry, &key_of(topic, queue, from), Some(&end), |key, value| {
        entries.push(decode(decode_offset(key)?, value)?);
        Ok(entries.len() < max)
    })?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back_and_sort_by_offset(numbers in any::<(u64, u64, u32, u32, u64, u32, u64)>(), place in any::<(u32, u32)>()) {
            let (offset, position, length, tag_hash, stored_at, body_bytes, order_key) = numbers;
            let entry = QueueEntry {
                offset: QueueOffset(offset),
                at: RecordAt { position: LogPosition(position), length },
                tag_hash,
                stored_at: Timestamp(stored_at),
                body_bytes,
                order_key,
            };
            let (topic, queue) = (TopicId(place.0), QueueId(place.1));
            let key = key_of(topic, queue, entry.offset);
            prop_assert_eq!(decode(decode_offset(&key).unwrap(), &encode(&entry)).unwrap(), entry);
            let next = key_of(topic, queue, QueueOffset(offset.saturating_add(1)));
            prop_assert!(key < next || offset == u64::MAX);
        }

        #[test]
        fn other_lengths_are_refused(value in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(decode(QueueOffset(0), &value).is_ok(), value.len() == VALUE_BYTES);
            prop_assert_eq!(decode_offset(&value).is_ok(), value.len() == KEY_BYTES);
        }
    }
}
