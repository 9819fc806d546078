//! What the queues of a topic held when queues were added. Message groups that moved to a new queue are delivered there only
//! when a group is done with what they left behind. A row lives until its topic is deleted.
//!
//! ```text
//! topic u32 | queues before u32 → next offset u64 of each of these queues
//! ```

use crate::model::position::{QueueOffset, TopicId};
use crate::model::topic::Growth;
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};

const KEY_BYTES: usize = 8;

fn encode_key(topic: TopicId, before: u32) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..4].copy_from_slice(&topic.get().to_be_bytes());
    key[4..].copy_from_slice(&before.to_be_bytes());
    key
}

fn decode_key(key: &[u8]) -> Result<(TopicId, u32), RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    Ok((TopicId(key.u32()), key.u32()))
}

fn decode(value: &[u8]) -> Result<Growth, RecordError> {
    let mut reader = Reader::new(value, 0);
    let mut fences = Vec::with_capacity(value.len() / 8);
    for _ in 0..value.len() / 8 {
        fences.push(QueueOffset(reader.u64()?));
    }
    reader.end()?;
    Ok(Growth { fences })
}

/// Adds a row.
pub fn put(rows: &mut impl Rows, topic: TopicId, growth: &Growth) {
    let value: Vec<u8> = growth.fences.iter().flat_map(|fence| fence.get().to_le_bytes()).collect();
    rows.put(Family::Growth, &encode_key(topic, growth.before()), &value);
}

/// Removes the rows of a topic.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::Growth, &prefix, &key::after(&prefix));
}

/// The rows of a topic, the oldest first.
///
/// # Errors
/// The fold cannot be read.
pub fn of_topic(kv: &Kv, topic: TopicId) -> Result<Vec<Growth>, FoldError> {
    let prefix = topic.get().to_be_bytes();
    let mut growths = Vec::new();
    kv.scan(Family::Growth, &prefix, Some(&key::after(&prefix)), |key, value| {
        decode_key(key)?;
        growths.push(decode(value)?);
        Ok(true)
    })?;
    Ok(growths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_topic_and_size_and_torn_values_are_refused() {
        assert!(encode_key(TopicId(1), 300) < encode_key(TopicId(2), 1));
        assert!(encode_key(TopicId(1), 255) < encode_key(TopicId(1), 256));
        assert_eq!(decode_key(&encode_key(TopicId(7), 9)).unwrap(), (TopicId(7), 9));
        assert_eq!(decode(&[0; 16]).unwrap().fences.len(), 2);
        assert!(decode(&[0; 15]).is_err());
    }
}
