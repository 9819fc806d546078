//! A read-only look at what is stored, for the command line and for tests.

use crate::store::kv::{Family, FoldError, Kv};
use crate::store::message_store::Store;

/// One row of the fold, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRow {
    /// Name of its family.
    pub family: &'static str,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// Every row of a fold, in order of family and key.
///
/// # Errors
/// The fold cannot be read.
pub fn dump_fold(kv: &Kv) -> Result<Vec<RawRow>, FoldError> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        kv.scan(family, &[], None, |key, value| {
            rows.push(RawRow { family: family.name(), key: key.to_vec(), value: value.to_vec() });
            Ok(true)
        })?;
    }
    Ok(rows)
}

/// Every row of an open store's fold.
///
/// # Errors
/// The fold cannot be read.
pub fn dump_store(store: &Store) -> Result<Vec<RawRow>, FoldError> {
    dump_fold(store.fold_rows())
}
