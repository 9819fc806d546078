//! The messages of one message group in a queue, so that those which were passed over are found again without a walk through
//! the queue. A row lives as long as the queue entry it copies, and up to [`SPAN`] offsets longer.
//!
//! ```text
//! topic u32 | queue u32 | span u64 | order_key u64 | offset u64 → queue entry as `queue_entry` writes it
//! ```
//! `span` is the offset divided by [`SPAN`]: rows of one group lie together inside a span, and what is out of retention
//! leaves in whole spans, by one range, although nobody remembers which groups it belonged to.

use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::store::codec::RecordError;
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::queue_entry::{self, QueueEntry};
use crate::store::kv::{Family, Rows};

/// Offsets of a queue that share a span; few under test, so that short queues have several.
const SPAN: u64 = if cfg!(test) { 4 } else { 65_536 };

const KEY_BYTES: usize = 32;

fn span_prefix(topic: TopicId, queue: QueueId, span: u64) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&key::queue(topic, queue));
    prefix[8..].copy_from_slice(&span.to_be_bytes());
    prefix
}

fn key_of(topic: TopicId, queue: QueueId, order_key: u64, offset: QueueOffset) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(&span_prefix(topic, queue, offset.get() / SPAN));
    key[16..24].copy_from_slice(&order_key.to_be_bytes());
    key[24..].copy_from_slice(&offset.get().to_be_bytes());
    key
}

fn decode_offset(key: &[u8]) -> Result<QueueOffset, RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    for _ in 0..3 {
        key.u64();
    }
    Ok(QueueOffset(key.u64()))
}

/// Adds a message that has a message group.
pub fn put(rows: &mut impl Rows, topic: TopicId, queue: QueueId, entry: &QueueEntry) {
    let key = key_of(topic, queue, entry.order_key, entry.offset);
    rows.put(Family::LaneEntry, &key, &queue_entry::encode(entry));
}

/// Removes the spans of a queue that lie before `first` as a whole.
pub fn delete_before(rows: &mut impl Rows, topic: TopicId, queue: QueueId, first: QueueOffset) {
    let from = span_prefix(topic, queue, 0);
    rows.delete_range(Family::LaneEntry, &from, &span_prefix(topic, queue, first.get() / SPAN));
}

/// Removes every message of a queue.
pub fn delete_queue(rows: &mut impl Rows, topic: TopicId, queue: QueueId) {
    let prefix = key::queue(topic, queue);
    rows.delete_range(Family::LaneEntry, &prefix, &key::after(&prefix));
}

/// Removes every message of a topic.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::LaneEntry, &prefix, &key::after(&prefix));
}

/// At most `max` messages of a message group from `from` on and below `end`, in order.
///
/// # Errors
/// The fold cannot be read.
pub fn from(
    kv: &Kv,
    (topic, queue, order_key): (TopicId, QueueId, u64),
    from: QueueOffset,
    end: QueueOffset,
    max: usize,
) -> Result<Vec<QueueEntry>, FoldError> {
    let mut entries = Vec::with_capacity(max.min(1024));
    let mut at = from;
    while at < end && entries.len() < max {
        let next_span = QueueOffset((at.get() / SPAN + 1).saturating_mul(SPAN));
        let stop = end.min(next_span);
        // Every key of this group in this span below `stop`: the offset in the key is compared, not the span.
        let (low, mut high) = (key_of(topic, queue, order_key, at), key_of(topic, queue, order_key, at));
        high[24..].copy_from_slice(&stop.get().to_be_bytes());
        kv.scan(Family::LaneEntry, &low, Some(&high), |key, value| {
            entries.push(queue_entry::decode(decode_offset(key)?, value)?);
            Ok(entries.len() < max)
        })?;
        at = stop;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_of_a_group_sort_by_offset_and_stay_in_their_span(key in any::<u64>(), a in 0..u64::MAX / 2, b in 0..u64::MAX / 2) {
            let (topic, queue) = (TopicId(1), QueueId(2));
            let of = |offset| key_of(topic, queue, key, QueueOffset(offset));
            prop_assert_eq!(decode_offset(&of(a)).unwrap(), QueueOffset(a));
            prop_assert_eq!(a.cmp(&b), of(a).cmp(&of(b)));
            let trimmed = span_prefix(topic, queue, b / SPAN);
            prop_assert_eq!(of(a).as_slice() < trimmed.as_slice(), a / SPAN < b / SPAN);
        }

        #[test]
        fn other_lengths_are_refused(key in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(decode_offset(&key).is_ok(), key.len() == KEY_BYTES);
        }
    }
}
