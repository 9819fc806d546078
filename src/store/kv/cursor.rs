//! How far each group has considered each queue. A row lives from the group's first receive on the queue until the group
//! or the topic is deleted.
//!
//! ```text
//! topic u32 | queue u32 | group u32 → next u64      first offset that the group has never considered
//! ```

use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};

const KEY_BYTES: usize = 12;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Group.
    pub group: GroupId,
    /// Topic.
    pub topic: TopicId,
    /// Queue.
    pub queue: QueueId,
    /// First offset that the group has never considered.
    pub next: QueueOffset,
}

fn decode(key: &[u8], value: &[u8]) -> Result<Cursor, RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    let (topic, queue, group) = (TopicId(key.u32()), QueueId(key.u32()), GroupId(key.u32()));
    let mut reader = Reader::new(value, 0);
    let next = QueueOffset(reader.u64()?);
    reader.end()?;
    Ok(Cursor { group, topic, queue, next })
}

/// Sets a cursor.
pub fn put(rows: &mut impl Rows, cursor: &Cursor) {
    let key = key::place(cursor.topic, cursor.queue, cursor.group);
    rows.put(Family::Cursor, &key, &cursor.next.get().to_le_bytes());
}

/// Removes the cursor of a group on a queue.
pub fn delete(rows: &mut impl Rows, topic: TopicId, queue: QueueId, group: GroupId) {
    rows.delete(Family::Cursor, &key::place(topic, queue, group));
}

/// Removes the cursors of every group on a topic.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::Cursor, &prefix, &key::after(&prefix));
}

/// Every cursor, by topic, queue and group.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<Cursor>, FoldError> {
    let mut cursors = Vec::new();
    kv.scan(Family::Cursor, &[], None, |key, value| {
        cursors.push(decode(key, value)?);
        Ok(true)
    })?;
    Ok(cursors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back(numbers in any::<(u32, u32, u32)>(), next in any::<u64>()) {
            let (group, topic, queue) = (GroupId(numbers.0), TopicId(numbers.1), QueueId(numbers.2));
            let cursor = Cursor { group, topic, queue, next: QueueOffset(next) };
            let key = key::place(topic, queue, group);
            prop_assert_eq!(decode(&key, &next.to_le_bytes()).unwrap(), cursor);
            prop_assert!(decode(&key[..11], &next.to_le_bytes()).is_err());
        }
    }
}
