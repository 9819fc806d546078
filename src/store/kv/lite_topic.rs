//! Names of lite topics. A row lives from the lite topic's first message until its time to live has passed or its parent is
//! deleted. What it holds is in the families of queues, under its queue id.
//!
//! ```text
//! topic u32 | queue u32 → name text
//! topic u32             → queue u32      the highest that was ever given out below this parent; topic 0: below those deleted
//! ```
//!
//! A dead letter names its lite topic by the queue, so none is given out twice, also not below another parent of the same name.

use bytes::BytesMut;

use crate::model::position::{QueueId, TopicId};
use crate::store::codec::{Reader, RecordError, put_text};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::{self, KeyReader};
use crate::store::kv::{Family, Rows};

const KEY_BYTES: usize = 8;
const HIGHEST_KEY_BYTES: usize = 4;

fn encode(name: &str) -> BytesMut {
    let mut value = BytesMut::with_capacity(2 + name.len());
    put_text(&mut value, name);
    value
}

fn decode(value: &[u8]) -> Result<String, RecordError> {
    let mut reader = Reader::new(value, 0);
    let name = reader.sized_text()?.to_owned();
    reader.end()?;
    Ok(name)
}

fn decode_key(key: &[u8]) -> Result<(TopicId, QueueId), RecordError> {
    let mut key = KeyReader::new(key, KEY_BYTES)?;
    Ok((TopicId(key.u32()), QueueId(key.u32())))
}

/// Adds a lite topic.
pub fn put(rows: &mut impl Rows, topic: TopicId, queue: QueueId, name: &str) {
    rows.put(Family::LiteTopic, &key::queue(topic, queue), &encode(name));
}

/// The highest queue that was ever given out below a parent; parent 0: below any that was deleted.
pub fn put_highest(rows: &mut impl Rows, topic: TopicId, queue: QueueId) {
    rows.put(Family::LiteTopic, &topic.get().to_be_bytes(), &queue.get().to_le_bytes());
}

/// Removes a lite topic.
pub fn delete(rows: &mut impl Rows, topic: TopicId, queue: QueueId) {
    rows.delete(Family::LiteTopic, &key::queue(topic, queue));
}

/// Removes every lite topic of a parent, and what its highest queue was.
pub fn delete_topic(rows: &mut impl Rows, topic: TopicId) {
    let prefix = topic.get().to_be_bytes();
    rows.delete_range(Family::LiteTopic, &prefix, &key::after(&prefix));
}

/// Every lite topic, by parent and queue.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<(TopicId, QueueId, String)>, FoldError> {
    let mut topics = Vec::new();
    kv.scan(Family::LiteTopic, &[], None, |key, value| {
        if key.len() != HIGHEST_KEY_BYTES {
            let (topic, queue) = decode_key(key)?;
            topics.push((topic, queue, decode(value)?));
        }
        Ok(true)
    })?;
    Ok(topics)
}

/// The highest queue that was ever given out, by parent; parent 0: below any that was deleted.
///
/// # Errors
/// The fold cannot be read.
pub fn highest(kv: &Kv) -> Result<Vec<(TopicId, QueueId)>, FoldError> {
    let mut highest = Vec::new();
    kv.scan(Family::LiteTopic, &[], None, |key, value| {
        if key.len() == HIGHEST_KEY_BYTES {
            let topic = TopicId(KeyReader::new(key, HIGHEST_KEY_BYTES)?.u32());
            highest.push((topic, QueueId(Reader::new(value, 0).u32()?)));
        }
        Ok(true)
    })?;
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back_and_what_nobody_wrote_is_an_error(
            topic in any::<u32>(), queue in any::<u32>(), name in "[a-zA-Z0-9_-]{1,64}", junk in prop::collection::vec(any::<u8>(), 0..9)
        ) {
            let place = (TopicId(topic), QueueId(queue));
            prop_assert_eq!(decode_key(&key::queue(place.0, place.1)).unwrap(), place);
            let value = encode(&name);
            prop_assert_eq!(decode(&value).unwrap(), name);
            prop_assert!(decode(&value[..value.len() - 1]).is_err());
            prop_assert_eq!(decode_key(&junk).is_ok(), junk.len() == KEY_BYTES);
        }
    }
}
