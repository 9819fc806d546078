//! The catalogue's consumer groups. A row lives from the group's creation to its deletion.
//!
//! ```text
//! id u32 → group as `catalog_codec` writes it
//! ```

use bytes::BytesMut;

use crate::model::group::Group;
use crate::model::position::GroupId;
use crate::store::catalog_codec::{decode_group, encode_group};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::{Family, Rows};

/// Creates or replaces a group.
pub fn put(rows: &mut impl Rows, group: &Group) {
    let mut value = BytesMut::new();
    encode_group(group, &mut value);
    rows.put(Family::Group, &group.id.get().to_be_bytes(), &value);
}

/// Removes a group.
pub fn delete(rows: &mut impl Rows, id: GroupId) {
    rows.delete(Family::Group, &id.get().to_be_bytes());
}

/// Every group, by id.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<Group>, FoldError> {
    let mut groups = Vec::new();
    kv.scan(Family::Group, &[], None, |_, value| {
        groups.push(decode_group(value)?);
        Ok(true)
    })?;
    Ok(groups)
}
