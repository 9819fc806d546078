//! What the route service knows: a row for each fact. It lives until the service gives the fact up; no retention touches it.
//!
//! ```text
//! key → value      both in the words of the route service
//! ```

use bytes::Bytes;

use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::{Family, Rows};

/// Notes a fact, or changes it.
pub fn put(rows: &mut impl Rows, key: &[u8], value: &[u8]) {
    rows.put(Family::Route, key, value);
}

/// Gives a fact up.
pub fn delete(rows: &mut impl Rows, key: &[u8]) {
    rows.delete(Family::Route, key);
}

/// Every fact, by key.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<(Bytes, Bytes)>, FoldError> {
    let mut facts = Vec::new();
    kv.scan(Family::Route, &[], None, |key, value| {
        facts.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(true)
    })?;
    Ok(facts)
}
