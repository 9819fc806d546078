//! First and next offset of each queue. A row lives from the first message of the queue until its topic is deleted.
//!
//! ```text
//! topic u32 | queue u32 → first u64 | next u64
//! ```

use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};

const KEY_BYTES: usize = 8;

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueBounds {
    /// First message that is still there; equal to `next` when none is.
    pub first: QueueOffset,
    /// Offset of the next message.
    pub next: QueueOffset,
}

fn decode(value: &[u8]) -> Result<QueueBounds, RecordError> {
    let mut reader = Reader::new(value, 0);
    let bounds = QueueBounds { first: QueueOffset(reader.u64()?), next: QueueOffset(reader.u64()?) };
    reader.end()?;
    Ok(bounds)
}

fn decode_key(key: &[u8]) -> Result<(TopicId, QueueId), RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    Ok((TopicId(key.u32()), QueueId(key.u32())))
}

fn encode(bounds: QueueBounds) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&bounds.first.get().to_le_bytes());
    value[8..].copy_from_slice(&bounds.next.get().to_le_bytes());
    value
}

/// Sets the bounds of a queue.
pub fn put(rows: &mut impl Rows, topic: TopicId, queue: QueueId, bounds: QueueBounds) {
    rows.put(Family::QueueTail, &key::queue(topic, queue), &encode(bounds));
}

/// Forgets a queue.
pub fn delete(rows: &mut impl Rows, topic: TopicId, queue: QueueId) {
    rows.delete(Family::QueueTail, &key::queue(topic, queue));
}

/// Forgets every queue of a topic.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::QueueTail, &prefix, &key::after(&prefix));
}

/// The bounds of a queue; zero for one that never held a message.
///
/// # Errors
/// The fold cannot be read.
pub fn get(kv: &Kv, topic: TopicId, queue: QueueId) -> Result<QueueBounds, FoldError> {
    Ok(kv.get(Family::QueueTail, &key::queue(topic, queue), decode)?.unwrap_or_default())
}

/// Every queue that ever held a message, of one topic or of all, in order.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv, topic: Option<TopicId>) -> Result<Vec<(TopicId, QueueId, QueueBounds)>, FoldError> {
    let (from, end) = match topic {
        Some(topic) => (topic.get().to_be_bytes().to_vec(), Some(key::after(&topic.get().to_be_bytes()))),
        None => (Vec::new(), None),
    };
    let mut tails = Vec::new();
    kv.scan(Family::QueueTail, &from, end.as_deref(), |key, value| {
        let (topic, queue) = decode_key(key)?;
        tails.push((topic, queue, decode(value)?));
        Ok(true)
    })?;
    Ok(tails)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back(topic in any::<u32>(), queue in any::<u32>(), first in any::<u64>(), next in any::<u64>()) {
            let bounds = QueueBounds { first: QueueOffset(first), next: QueueOffset(next) };
            prop_assert_eq!(decode(&encode(bounds)).unwrap(), bounds);
            let place = (TopicId(topic), QueueId(queue));
            prop_assert_eq!(decode_key(&key::queue(place.0, place.1)).unwrap(), place);
        }
    }
}
