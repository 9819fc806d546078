//! Where in the log the bodies of held-back messages lie, in order of the log: what retention asks before segments leave. A row
//! is a hint: it stays when the message has ended or its body was stored again, and goes with the part of the log it points to.
//!
//! ```text
//! position u64 → due u64 | hold u64 as the key of the delay family
//! ```

use crate::model::position::LogPosition;
use crate::store::kv::delay::{decode_key, encode_key};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::KeyReader;
use crate::store::kv::{Family, Rows};
use crate::store::record::HoldKey;

const KEY_BYTES: usize = 8;

/// Says whose body lies at `position`.
pub fn put(rows: &mut impl Rows, position: LogPosition, key: HoldKey) {
    rows.put(Family::DelayPlace, &position.get().to_be_bytes(), &encode_key(key));
}

/// Forgets what lay before `start`.
pub fn delete_before(rows: &mut impl Rows, start: LogPosition) {
    rows.delete_range(Family::DelayPlace, &0u64.to_be_bytes(), &start.get().to_be_bytes());
}

/// At most `max` bodies that were stored at or behind `from` and before `end`, in order of the log.
///
/// # Errors
/// The fold cannot be read.
pub fn between(
    kv: &Kv,
    from: LogPosition,
    end: LogPosition,
    max: usize,
) -> Result<Vec<(LogPosition, HoldKey)>, FoldError> {
    let mut found = Vec::new();
    let bounds = (from.get().to_be_bytes(), end.get().to_be_bytes());
    kv.scan(Family::DelayPlace, &bounds.0, Some(&bounds.1), |key, value| {
        if found.len() == max {
            return Ok(false);
        }
        found.push((LogPosition(KeyReader::new(key, KEY_BYTES)?.u64()), decode_key(value)?));
        Ok(true)
    })?;
    Ok(found)
}
