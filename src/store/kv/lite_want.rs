//! Lite topics that do not exist yet and that groups wait for. A row lives until the lite topic comes into being, the group asks
//! for it no longer, or the group or the parent is deleted.
//!
//! ```text
//! topic u32 | group u32 | name text → nothing
//! ```

use crate::model::position::{GroupId, TopicId};
use crate::store::codec::RecordError;
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};

const PREFIX_BYTES: usize = 8;

fn prefix(topic: TopicId, group: GroupId) -> [u8; PREFIX_BYTES] {
    let mut key = [0; PREFIX_BYTES];
    key[..4].copy_from_slice(&topic.get().to_be_bytes());
    key[4..].copy_from_slice(&group.get().to_be_bytes());
    key
}

fn encode_key(topic: TopicId, group: GroupId, name: &str) -> Vec<u8> {
    [prefix(topic, group).as_slice(), name.as_bytes()].concat()
}

fn decode_key(key: &[u8]) -> Result<(TopicId, GroupId, String), RecordError> {
    let (head, name) = key.split_at(key.len().min(PREFIX_BYTES));
    let mut head = KeyReader::new(head, PREFIX_BYTES)?;
    let (topic, group) = (TopicId(head.u32()), GroupId(head.u32()));
    let name = std::str::from_utf8(name).map_err(|_| RecordError::Field("name of a lite topic"))?;
    Ok((topic, group, name.to_owned()))
}

/// A group waits for a lite topic.
pub fn put(rows: &mut impl Rows, topic: TopicId, group: GroupId, name: &str) {
    rows.put(Family::LiteWant, &encode_key(topic, group, name), &[]);
}

/// It does not any more.
pub fn delete(rows: &mut impl Rows, topic: TopicId, group: GroupId, name: &str) {
    rows.delete(Family::LiteWant, &encode_key(topic, group, name));
}

/// Removes all that groups wait for below a parent.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::LiteWant, &prefix, &key::after(&prefix));
}

/// Removes all that a group waits for below a parent.
pub fn delete_group(rows: &mut impl Rows, topic: TopicId, group: GroupId) {
    let prefix = prefix(topic, group);
    rows.delete_range(Family::LiteWant, &prefix, &key::after(&prefix));
}

/// Everything that groups wait for, by parent and group.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<(TopicId, GroupId, String)>, FoldError> {
    let mut wants = Vec::new();
    kv.scan(Family::LiteWant, &[], None, |key, _| {
        wants.push(decode_key(key)?);
        Ok(true)
    })?;
    Ok(wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_what_nobody_wrote_is_an_error() {
        let key = encode_key(TopicId(7), GroupId(9), "session-1");
        assert_eq!(decode_key(&key).unwrap(), (TopicId(7), GroupId(9), "session-1".to_owned()));
        assert!(decode_key(&key[..7]).is_err());
        assert!(decode_key(&[&prefix(TopicId(1), GroupId(1))[..], &[0xff]].concat()).is_err());
        let prefix = prefix(TopicId(7), GroupId(9));
        assert!(prefix.as_slice() < key.as_slice() && key < key::after(&prefix));
    }
}
