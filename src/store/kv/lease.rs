//! Outstanding messages of each group: handed to a client, or waiting to be handed out again. A row lives from the first
//! delivery (or from being set aside) until the message is settled, out of retention, or its group or topic is deleted.
//!
//! ```text
//! topic u32 | queue u32 | group u32 | offset u64 → attempt u32 | lease state as `record` writes it (34 bytes)
//! ```

use bytes::{BufMut, BytesMut};

use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};
use crate::store::record::{LEASE_STATE_BYTES, LeaseState, decode_lease_state, encode_lease_state};

const KEY_BYTES: usize = 20;

/// Which message of which group. Sorts as its key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseKey {
    /// Topic.
    pub topic: TopicId,
    /// Queue.
    pub queue: QueueId,
    /// Group.
    pub group: GroupId,
    /// Message.
    pub offset: QueueOffset,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseValue {
    /// Attempts so far; 0 for one that was set aside without a delivery.
    pub attempt: u32,
    /// With whom, or from when on deliverable.
    pub lease: LeaseState,
}

fn encode_key(key: &LeaseKey) -> [u8; KEY_BYTES] {
    key::with_offset(&key::place(key.topic, key.queue, key.group), key.offset)
}

fn decode_key(key: &[u8]) -> Result<LeaseKey, RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    let (topic, queue, group) = (TopicId(key.u32()), QueueId(key.u32()), GroupId(key.u32()));
    Ok(LeaseKey { topic, queue, group, offset: QueueOffset(key.u64()) })
}

fn decode(value: &[u8]) -> Result<LeaseValue, RecordError> {
    let mut reader = Reader::new(value, 0);
    let attempt = reader.u32()?;
    Ok(LeaseValue { attempt, lease: decode_lease_state(reader.rest())? })
}

/// Sets a row. `scratch` is emptied and used for the value, so that a batch of rows allocates once.
pub fn put(rows: &mut impl Rows, key: &LeaseKey, value: &LeaseValue, scratch: &mut BytesMut) {
    scratch.clear();
    scratch.reserve(4 + LEASE_STATE_BYTES);
    scratch.put_u32_le(value.attempt);
    encode_lease_state(&value.lease, scratch);
    rows.put(Family::Lease, &encode_key(key), scratch);
}

/// Removes a row.
pub fn delete(rows: &mut impl Rows, key: &LeaseKey) {
    rows.delete(Family::Lease, &encode_key(key));
}

/// Removes the rows of a group on a queue, below `end` or all.
pub fn delete_place(rows: &mut impl Rows, topic: TopicId, queue: QueueId, group: GroupId, end: Option<QueueOffset>) {
    let prefix = key::place(topic, queue, group);
    let end = match end {
        Some(offset) => encode_key(&LeaseKey { topic, queue, group, offset }).to_vec(),
        None => key::after(&prefix),
    };
    rows.delete_range(Family::Lease, &prefix, &end);
}

/// Removes the rows of every group on a topic.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::Lease, &prefix, &key::after(&prefix));
}

/// Every row, by topic, queue, group and offset.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<(LeaseKey, LeaseValue)>, FoldError> {
    let mut leases = Vec::new();
    kv.scan(Family::Lease, &[], None, |key, value| {
        leases.push((decode_key(key)?, decode(value)?));
        Ok(true)
    })?;
    Ok(leases)
}

/// The last row of each group on each queue that has any.
///
/// # Errors
/// The fold cannot be read.
pub fn last_of_each_place(kv: &Kv) -> Result<Vec<LeaseKey>, FoldError> {
    let mut last = Vec::new();
    let mut from = Vec::new();
    while let Some(first) = kv.first_from(Family::Lease, &from, |key, _| decode_key(key))? {
        let end = key::after(&key::place(first.topic, first.queue, first.group));
        let found = kv.last_before(Family::Lease, &end, |key, _| decode_key(key))?;
        last.push(found.unwrap_or(first));
        from = end;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_read_back_and_sort_like_their_fields(a in any::<(u32, u32, u32, u64)>(), b in any::<(u32, u32, u32, u64)>()) {
            let key = |n: (u32, u32, u32, u64)| LeaseKey {
                topic: TopicId(n.0), queue: QueueId(n.1), group: GroupId(n.2), offset: QueueOffset(n.3),
            };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(decode_key(&encode_key(&a)).unwrap(), a);
            prop_assert_eq!(a.cmp(&b), encode_key(&a).cmp(&encode_key(&b)));
        }

        #[test]
        fn values_read_back(attempt in any::<u32>(), at in any::<u64>()) {
            #[derive(Default)]
            struct One(Vec<u8>);
            impl Rows for One {
                fn put(&mut self, _: Family, _: &[u8], value: &[u8]) { self.0 = value.to_vec(); }
                fn delete(&mut self, _: Family, _: &[u8]) {}
                fn delete_range(&mut self, _: Family, _: &[u8], _: &[u8]) {}
            }
            let key = LeaseKey { topic: TopicId(1), queue: QueueId(2), group: GroupId(3), offset: QueueOffset(4) };
            let value = LeaseValue { attempt, lease: LeaseState::Waiting { visible_at: Timestamp(at) } };
            let mut row = One::default();
            put(&mut row, &key, &value, &mut BytesMut::new());
            prop_assert_eq!(row.0.len(), 4 + LEASE_STATE_BYTES);
            prop_assert_eq!(decode(&row.0).unwrap(), value);
            prop_assert!(decode(&row.0[..row.0.len() - 1]).is_err());
        }
    }
}
