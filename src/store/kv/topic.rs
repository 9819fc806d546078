//! The catalogue's topics. A row lives from the topic's creation to its deletion.
//!
//! ```text
//! id u32 → topic as `catalog_codec` writes it
//! ```

use bytes::BytesMut;

use crate::model::position::TopicId;
use crate::model::topic::Topic;
use crate::store::catalog_codec::{decode_topic, encode_topic};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::{Family, Rows};

/// Creates or replaces a topic.
pub fn put(rows: &mut impl Rows, topic: &Topic) {
    let mut value = BytesMut::new();
    encode_topic(topic, &mut value);
    rows.put(Family::Topic, &topic.id.get().to_be_bytes(), &value);
}

/// Removes a topic.
pub fn delete(rows: &mut impl Rows, id: TopicId) {
    rows.delete(Family::Topic, &id.get().to_be_bytes());
}

/// One topic.
///
/// # Errors
/// The fold cannot be read.
pub fn get(kv: &Kv, id: TopicId) -> Result<Option<Topic>, FoldError> {
    kv.get(Family::Topic, &id.get().to_be_bytes(), decode_topic)
}

/// Every topic, by id.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<Topic>, FoldError> {
    let mut topics = Vec::new();
    kv.scan(Family::Topic, &[], None, |_, value| {
        topics.push(decode_topic(value)?);
        Ok(true)
    })?;
    Ok(topics)
}
