//! Messages that were recalled, so that a client that lost the answer and asks again hears the same. A row lives from the recall
//! until the broker forgets it, a day after the message would have been due.
//!
//! ```text
//! due u64 | hold u64 → topic u32
//! ```

use crate::model::position::TopicId;
use crate::model::time::Timestamp;
use crate::store::codec::Reader;
use crate::store::kv::delay::{decode_key, encode_key};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::{Family, Rows};
use crate::store::record::HoldKey;

/// Remembers a recall.
pub fn put(rows: &mut impl Rows, key: HoldKey, topic: TopicId) {
    rows.put(Family::Recalled, &encode_key(key), &topic.get().to_le_bytes());
}

/// Forgets every recall up to `last`.
pub fn delete_up_to(rows: &mut impl Rows, last: HoldKey) {
    let mut end = encode_key(last).to_vec();
    // The least key above it.
    end.push(0);
    rows.delete_range(Family::Recalled, &[], &end);
}

/// Topic of a message that was recalled.
///
/// # Errors
/// The fold cannot be read.
pub fn get(kv: &Kv, key: HoldKey) -> Result<Option<TopicId>, FoldError> {
    kv.get(Family::Recalled, &encode_key(key), |value| Reader::new(value, 0).u32().map(TopicId))
}

/// When the first of them would have been due.
///
/// # Errors
/// The fold cannot be read.
pub fn first_due(kv: &Kv) -> Result<Option<Timestamp>, FoldError> {
    kv.first_from(Family::Recalled, &[], |key, _| Ok(decode_key(key)?.due))
}
