//! How a topic lives on shards, as this broker last knew it, and what its queues held whenever an order of shards was given up.
//! A row lives until its topic is deleted; seals live in it as long as the orders that they ended are remembered.
//!
//! ```text
//! topic u32 → generation u32 | shards | is_moving u8 | moving shards | past count u32: generation u32, shards each
//!           | seal count u32: generation u32, fence count u32, next offset u64 each
//! shards    = count u32, id u32 each
//! ```

use bytes::BufMut;

use crate::model::cluster::{PastPlacement, Placement, Seal};
use crate::model::position::{QueueOffset, ShardId, TopicId};
use crate::store::codec::{Reader, RecordError, length_u32};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::key::KeyReader;
use crate::store::kv::{Family, Rows};

const KEY_BYTES: usize = 4;

fn put_shards(out: &mut impl BufMut, shards: &[ShardId]) {
    out.put_u32_le(length_u32(shards.len()));
    shards.iter().for_each(|shard| out.put_u32_le(shard.get()));
}

fn shards(reader: &mut Reader<'_>) -> Result<Vec<ShardId>, RecordError> {
    let count = reader.count(4)?;
    (0..count).map(|_| Ok(ShardId(reader.u32()?))).collect()
}

/// Writes a placement and its seals; also the body of their record, behind the topic.
pub fn encode(placement: &Placement, seals: &[Seal], out: &mut impl BufMut) {
    out.put_u32_le(placement.generation);
    put_shards(out, &placement.shards);
    out.put_u8(u8::from(placement.moving.is_some()));
    put_shards(out, placement.moving.as_deref().unwrap_or_default());
    out.put_u32_le(length_u32(placement.past.len()));
    for past in &placement.past {
        out.put_u32_le(past.generation);
        put_shards(out, &past.shards);
    }
    out.put_u32_le(length_u32(seals.len()));
    for seal in seals {
        out.put_u32_le(seal.generation);
        out.put_u32_le(length_u32(seal.fences.len()));
        seal.fences.iter().for_each(|fence| out.put_u64_le(fence.get()));
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The bytes are no placement.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<(Placement, Vec<Seal>), RecordError> {
    let (generation, now) = (reader.u32()?, shards(reader)?);
    let is_moving = reader.flag("moving")?;
    let target = shards(reader)?;
    if !is_moving && !target.is_empty() {
        return Err(RecordError::Field("moving"));
    }
    let count = reader.count(8)?;
    let past = (0..count).map(|_| Ok(PastPlacement { generation: reader.u32()?, shards: shards(reader)? }));
    let past = past.collect::<Result<Vec<_>, RecordError>>()?;
    let count = reader.count(8)?;
    let mut seals = Vec::with_capacity(count);
    for _ in 0..count {
        let generation = reader.u32()?;
        let count = reader.count(8)?;
        let fences = (0..count).map(|_| Ok(QueueOffset(reader.u64()?))).collect::<Result<Vec<_>, RecordError>>()?;
        seals.push(Seal { generation, fences });
    }
    Ok((Placement { generation, shards: now, moving: is_moving.then_some(target), past }, seals))
}

/// Sets the row of a topic.
pub fn put(rows: &mut impl Rows, topic: TopicId, placement: &Placement, seals: &[Seal]) {
    let mut value = Vec::new();
    encode(placement, seals, &mut value);
    rows.put(Family::Placement, &topic.get().to_be_bytes(), &value);
}

/// Removes the row of a topic.
pub fn delete(rows: &mut impl Rows, topic: TopicId) {
    rows.delete(Family::Placement, &topic.get().to_be_bytes());
}

/// Every row, by topic.
///
/// # Errors
/// The fold cannot be read.
pub fn all(kv: &Kv) -> Result<Vec<(TopicId, Placement, Vec<Seal>)>, FoldError> {
    let mut found = Vec::new();
    kv.scan(Family::Placement, &[], None, |key, value| {
        let topic = TopicId(KeyReader::new(key, KEY_BYTES)?.u32());
        let mut reader = Reader::new(value, 0);
        let (placement, seals) = decode(&mut reader)?;
        reader.end()?;
        found.push((topic, placement, seals));
        Ok(true)
    })?;
    Ok(found)
}
