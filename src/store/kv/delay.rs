//! Messages that are held back until their time. A row lives from the send until the message fires, is recalled, or is dropped
//! with its topic. A row of a deleted topic stays until it is due or its body would leave the log, whichever comes first.
//!
//! ```text
//! due u64 | hold u64 → topic u32 | position u64 | length u32      where the record lies whose body is the message
//! ```

use crate::model::position::{HoldId, LogPosition, RecordAt, TopicId};
use crate::model::time::Timestamp;
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::KeyReader;
use crate::store::kv::{Family, Rows};
use crate::store::record::HoldKey;

const KEY_BYTES: usize = 16;

/// A message that is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its topic.
    pub topic: TopicId,
    /// Where its body lies.
    pub at: RecordAt,
}

pub(super) fn encode_key(key: HoldKey) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..8].copy_from_slice(&key.due.millis().to_be_bytes());
    bytes[8..].copy_from_slice(&key.hold.get().to_be_bytes());
    bytes
}

pub(super) fn decode_key(key: &[u8]) -> Result<HoldKey, RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    Ok(HoldKey { due: Timestamp(key.u64()), hold: HoldId(key.u64()) })
}

fn encode(held: &Held) -> [u8; 16] {
    let mut value = [0; 16];
    value[..4].copy_from_slice(&held.topic.get().to_le_bytes());
    value[4..12].copy_from_slice(&held.at.position.get().to_le_bytes());
    value[12..].copy_from_slice(&held.at.length.to_le_bytes());
    value
}

fn decode(value: &[u8]) -> Result<Held, RecordError> {
    let mut reader = Reader::new(value, 0);
    let topic = TopicId(reader.u32()?);
    let held = Held { topic, at: RecordAt { position: LogPosition(reader.u64()?), length: reader.u32()? } };
    reader.end()?;
    Ok(held)
}

/// Holds a message back, or says where its body lies now.
pub fn put(rows: &mut impl Rows, key: HoldKey, held: &Held) {
    rows.put(Family::Delay, &encode_key(key), &encode(held));
}

/// Removes a row.
pub fn delete(rows: &mut impl Rows, key: HoldKey) {
    rows.delete(Family::Delay, &encode_key(key));
}

/// One message, while it is held back.
///
/// # Errors
/// The fold cannot be read.
pub fn get(kv: &Kv, key: HoldKey) -> Result<Option<Held>, FoldError> {
    kv.get(Family::Delay, &encode_key(key), decode)
}

/// At most `max` messages from `from` on, by their time.
///
/// # Errors
/// The fold cannot be read.
pub fn from(kv: &Kv, from: HoldKey, max: usize) -> Result<Vec<(HoldKey, Held)>, FoldError> {
    let mut found = Vec::new();
    kv.scan(Family::Delay, &encode_key(from), None, |key, value| {
        if found.len() == max {
            return Ok(false);
        }
        found.push((decode_key(key)?, decode(value)?));
        Ok(true)
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back_and_sort_by_time(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), value in any::<(u32, u64, u32)>()) {
            let key = |n: (u64, u64)| HoldKey { due: Timestamp(n.0), hold: HoldId(n.1) };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(decode_key(&encode_key(a)).unwrap(), a);
            prop_assert_eq!(a.cmp(&b), encode_key(a).cmp(&encode_key(b)));
            let at = RecordAt { position: LogPosition(value.1), length: value.2 };
            let held = Held { topic: TopicId(value.0), at };
            prop_assert_eq!(decode(&encode(&held)).unwrap(), held);
            prop_assert!(decode(&encode(&held)[1..]).is_err());
        }
    }
}
