//! Keys made of big-endian numbers.

use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::store::codec::RecordError;

/// Key of what belongs to a queue: topic u32 | queue u32.
pub(super) type QueueKey = [u8; 8];
/// Key of what belongs to a group on a queue: topic u32 | queue u32 | group u32.
pub(super) type PlaceKey = [u8; 12];

pub(super) fn queue(topic: TopicId, queue: QueueId) -> QueueKey {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&topic.get().to_be_bytes());
    key[4..].copy_from_slice(&queue.get().to_be_bytes());
    key
}

pub(super) fn place(topic: TopicId, queue_id: QueueId, group: GroupId) -> PlaceKey {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&queue(topic, queue_id));
    key[8..].copy_from_slice(&group.get().to_be_bytes());
    key
}

/// `prefix` followed by an offset; `N` is the length of both.
pub(super) fn with_offset<const N: usize>(prefix: &[u8], offset: QueueOffset) -> [u8; N] {
    let mut key = [0; N];
    key[..N - 8].copy_from_slice(prefix);
    key[N - 8..].copy_from_slice(&offset.get().to_be_bytes());
    key
}

/// The least key above every key that begins with `prefix`; for a prefix of only 0xff bytes, one that no key of ours reaches.
pub(super) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    for at in (0..end.len()).rev() {
        if end[at] < u8::MAX {
            end[at] += 1;
            end.truncate(at + 1);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 9]
}

/// Reads the big-endian numbers of a key.
pub(super) struct KeyReader<'a>(&'a [u8]);

impl<'a> KeyReader<'a> {
    /// # Errors
    /// The key does not have `bytes` bytes.
    pub(super) fn new(key: &'a [u8], bytes: usize) -> Result<Self, RecordError> {
        if key.len() == bytes { Ok(Self(key)) } else { Err(RecordError::Short { wanted: bytes, found: key.len() }) }
    }

    pub(super) fn u32(&mut self) -> u32 {
        let (head, rest) = self.0.split_at(4);
        self.0 = rest;
        head.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte))
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_above_all_its_keys_and_below_the_next_prefix() {
        assert_eq!(after(&[1, 2]), vec![1, 3]);
        assert_eq!(after(&[1, 0xff]), vec![2]);
        assert!(after(&[0xff; 4]).as_slice() > [0xff; 12].as_slice());
    }
}
