//! Message groups of which a consumer group was not given all that it has passed: the first of their messages in a queue that
//! was not considered yet. A row lives until the message group has caught up with the consumer group's position in the queue.
//!
//! ```text
//! topic u32 | queue u32 | group u32 | order_key u64 → from u64
//! ```

use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};

const KEY_BYTES: usize = 20;

/// Which message group, for which consumer group. Sorts as its key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// Topic.
    pub topic: TopicId,
    /// Queue.
    pub queue: QueueId,
    /// Consumer group.
    pub group: GroupId,
    /// Message group.
    pub order_key: u64,
}

fn encode_key(lane: &LaneKey) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..12].copy_from_slice(&key::place(lane.topic, lane.queue, lane.group));
    key[12..].copy_from_slice(&lane.order_key.to_be_bytes());
    key
}

fn decode_key(key: &[u8]) -> Result<LaneKey, RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    let (topic, queue, group) = (TopicId(key.u32()), QueueId(key.u32()), GroupId(key.u32()));
    Ok(LaneKey { topic, queue, group, order_key: key.u64() })
}

fn decode(value: &[u8]) -> Result<QueueOffset, RecordError> {
    let mut reader = Reader::new(value, 0);
    let from = QueueOffset(reader.u64()?);
    reader.end()?;
    Ok(from)
}

/// Sets a row.
pub fn put(rows: &mut impl Rows, lane: &LaneKey, from: QueueOffset) {
    rows.put(Family::Lane, &encode_key(lane), &from.get().to_le_bytes());
}

/// Removes a row.
pub fn delete(rows: &mut impl Rows, lane: &LaneKey) {
    rows.delete(Family::Lane, &encode_key(lane));
}

/// Every row, by topic, queue, group and message group.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<(LaneKey, QueueOffset)>, FoldError> {
    let mut lanes = Vec::new();
    kv.scan(Family::Lane, &[], None, |key, value| {
        lanes.push((decode_key(key)?, decode(value)?));
        Ok(true)
    })?;
    Ok(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_read_back_and_sort_like_their_fields(a in any::<(u32, u32, u32, u64)>(), b in any::<(u32, u32, u32, u64)>()) {
            let key = |n: (u32, u32, u32, u64)| LaneKey {
                topic: TopicId(n.0), queue: QueueId(n.1), group: GroupId(n.2), order_key: n.3,
            };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(decode_key(&encode_key(&a)).unwrap(), a);
            prop_assert_eq!(a.cmp(&b), encode_key(&a).cmp(&encode_key(&b)));
        }

        #[test]
        fn other_lengths_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode_key(&bytes).is_ok(), bytes.len() == KEY_BYTES);
            prop_assert_eq!(decode(&bytes).is_ok(), bytes.len() == 8);
        }
    }
}
