//! Between facts and bytes: of `bolide.route.v1` on the wire, and of the same messages, with a version, on the disk. Whatever
//! comes from there is checked.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use thiserror::Error;

use crate::model::cluster::{ClusterId, HolderId, Lineage, PastPlacement, Placement, ReceiptKey, Shard};
use crate::model::position::{GroupId, ShardId, TopicId};
use crate::route::change::{Change, Numbers, Placed};
use crate::wire::route as wire;

mod asking;
mod settings;

pub(super) use asking::{hello_of, members_in, read, request};
pub(super) use settings::{
    group_in, group_out, group_spec_in, group_spec_out, refusal_in, refusal_out, topic_in, topic_out, topic_spec_in,
    topic_spec_out,
};
use settings::{group_name, topic_name};

/// Version of rows on disk.
const ROW_VERSION: u32 = 1;
/// A part of a step is closed once it has so many bytes.
const PART_BYTES: usize = 256 * 1024;

/// What came was not understood.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} is missing or out of range")]
pub struct Unclear(pub &'static str);

type Clear<T> = Result<T, Unclear>;

pub(super) fn cluster_bytes(cluster: ClusterId) -> Vec<u8> {
    cluster.0.to_be_bytes().to_vec()
}

pub(super) fn cluster_id(bytes: &[u8]) -> Clear<ClusterId> {
    if bytes.is_empty() {
        return Ok(ClusterId::default());
    }
    bytes.try_into().map(|bytes| ClusterId(u128::from_be_bytes(bytes))).map_err(|_| Unclear("cluster"))
}

pub(super) fn holder_bytes(holder: Option<HolderId>) -> Vec<u8> {
    holder.map(|holder| holder.0.to_be_bytes().to_vec()).unwrap_or_default()
}

pub(super) fn holder_id(bytes: &[u8]) -> Clear<Option<HolderId>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(|bytes| Some(HolderId(u128::from_be_bytes(bytes)))).map_err(|_| Unclear("holder"))
}

fn ids(shards: &[ShardId]) -> Vec<u32> {
    shards.iter().map(|shard| shard.get()).collect()
}

fn shards(ids: Vec<u32>) -> Clear<Vec<ShardId>> {
    if ids.is_sorted_by(|a, b| a < b) { Ok(ids.into_iter().map(ShardId).collect()) } else { Err(Unclear("shards")) }
}

fn placement_out(topic: TopicId, placed: &Placed) -> wire::Placement {
    let placement = &placed.placement;
    let of = |generation| placed.drained.iter().filter(move |(of, _)| *of == generation);
    wire::Placement {
        topic: topic.get(),
        generation: placement.generation,
        shards: ids(&placement.shards),
        moving: placement.moving.as_ref().map(|target| wire::Shards { ids: ids(target) }),
        past: placement
            .past
            .iter()
            .map(|past| wire::PastPlacement {
                generation: past.generation,
                shards: ids(&past.shards),
                drained: of(past.generation).map(|(_, shard)| shard.get()).collect(),
            })
            .collect(),
        sealed: placed.sealed.iter().map(|shard| shard.get()).collect(),
    }
}

fn placement_in(placement: wire::Placement) -> Clear<(TopicId, Placed)> {
    let mut drained = BTreeSet::new();
    let mut past = Vec::with_capacity(placement.past.len());
    for order in placement.past {
        drained.extend(order.drained.into_iter().map(|shard| (order.generation, ShardId(shard))));
        past.push(PastPlacement { generation: order.generation, shards: shards(order.shards)? });
    }
    let sealed = placement.sealed.into_iter().map(ShardId).collect();
    let moving = placement.moving.map(|target| shards(target.ids)).transpose()?;
    let shards = shards(placement.shards)?;
    let plain = Placement { generation: placement.generation, shards, moving, past };
    Ok((TopicId(placement.topic), Placed { placement: Arc::new(plain), sealed, drained }))
}

fn shard_out(shard: &Shard) -> wire::Shard {
    wire::Shard {
        id: shard.id.get(),
        name: (*shard.name).to_owned(),
        address: (*shard.address).to_owned(),
        version: (*shard.version).to_owned(),
        alive: shard.alive,
        draining: shard.draining,
        holder: holder_bytes(shard.holder),
    }
}

fn row(change: &Change) -> Option<wire::Row> {
    use wire::row::Fact;
    let fact = match change {
        Change::Numbers(numbers) => Fact::Numbers(numbers_out(numbers)),
        Change::TopicPut(topic) => Fact::Topic(topic_out(topic)),
        Change::GroupPut(group) => Fact::Group(group_out(group)),
        Change::Placed(topic, placed) => Fact::Placement(placement_out(*topic, placed)),
        Change::ShardPut(shard) | Change::ShardAlive(shard) => Fact::Shard(shard_out(shard)),
        Change::Keys(keys) => Fact::ReceiptKeys(wire::ReceiptKeys {
            keys: keys.iter().map(|key| wire::receipt_keys::Key { id: key.id.into(), key: key.key.to_vec() }).collect(),
        }),
        Change::TopicGone(..) | Change::GroupGone(..) | Change::PlacementGone(_) => return None,
    };
    Some(wire::Row { version: 0, fact: Some(fact) })
}

fn change(row: wire::Row) -> Clear<Change> {
    use wire::row::Fact;
    Ok(match row.fact.ok_or(Unclear("fact"))? {
        Fact::Topic(topic) => Change::TopicPut(Arc::new(topic_in(topic)?)),
        Fact::Group(group) => Change::GroupPut(Arc::new(group_in(group)?)),
        Fact::Placement(placement) => {
            let (topic, placed) = placement_in(placement)?;
            Change::Placed(topic, Arc::new(placed))
        }
        Fact::Shard(shard) => Change::ShardPut(Arc::new(Shard {
            id: ShardId(shard.id),
            name: shard.name.into(),
            address: shard.address.into(),
            version: shard.version.into(),
            alive: shard.alive,
            draining: shard.draining,
            holder: holder_id(&shard.holder)?,
        })),
        Fact::ReceiptKeys(keys) => {
            let keys = keys.keys.into_iter().map(|key| {
                let id = u8::try_from(key.id).map_err(|_| Unclear("id of a key"))?;
                Ok(ReceiptKey { id, key: key.key.try_into().map_err(|_| Unclear("key"))? })
            });
            Change::Keys(keys.collect::<Clear<Vec<_>>>()?.into())
        }
        Fact::Numbers(numbers) => Change::Numbers(numbers_in(&numbers)?),
    })
}

fn numbers_out(numbers: &Numbers) -> wire::Numbers {
    wire::Numbers {
        cluster: cluster_bytes(numbers.cluster),
        topic: numbers.topic.get(),
        group: numbers.group.get(),
        shard: numbers.shard.get(),
        receipt_key: numbers.receipt_key.into(),
        lives: numbers.lives.iter().copied().map(life_out).collect(),
    }
}

pub(super) fn life_out(Lineage { start, life, changes }: Lineage) -> wire::Life {
    wire::Life { start, life, changes }
}

pub(super) fn life_in(&wire::Life { start, life, changes }: &wire::Life) -> Lineage {
    Lineage { start, life, changes }
}

fn numbers_in(numbers: &wire::Numbers) -> Clear<Numbers> {
    Ok(Numbers {
        cluster: cluster_id(&numbers.cluster)?,
        topic: TopicId(numbers.topic),
        group: GroupId(numbers.group),
        shard: ShardId(numbers.shard),
        receipt_key: u8::try_from(numbers.receipt_key).map_err(|_| Unclear("next key"))?,
        lives: numbers.lives.iter().map(life_in).collect(),
    })
}

fn name_out(namespace: &str, name: &str, id: u32) -> wire::Name {
    wire::Name { namespace: namespace.to_owned(), name: name.to_owned(), id }
}

fn gone(change: &Change) -> Option<wire::Gone> {
    use wire::gone::Fact;
    let fact = match change {
        Change::TopicGone(id, name) => Fact::Topic(name_out(name.namespace(), name.name(), id.get())),
        Change::GroupGone(id, name) => Fact::Group(name_out(name.namespace(), name.name(), id.get())),
        Change::PlacementGone(topic) => Fact::Placement(topic.get()),
        _ => return None,
    };
    Some(wire::Gone { fact: Some(fact) })
}

fn change_gone(gone: wire::Gone) -> Clear<Change> {
    use wire::gone::Fact;
    Ok(match gone.fact.ok_or(Unclear("what is gone"))? {
        Fact::Topic(name) => Change::TopicGone(TopicId(name.id), topic_name(&name.namespace, &name.name)?),
        Fact::Group(name) => Change::GroupGone(GroupId(name.id), group_name(&name.namespace, &name.name)?),
        Fact::Placement(topic) => Change::PlacementGone(TopicId(topic)),
    })
}

/// Changes as members are told, in parts; at least one. What is gone comes after what is put within a part, so a fact must not
/// be in both.
pub(super) fn parts(changes: &[Change]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut part = wire::Changes::default();
    let mut bytes = 0;
    for change in changes {
        if let Change::Numbers(numbers) = change {
            let mut told = wire::Numbers { shard: 0, receipt_key: 0, ..numbers_out(numbers) };
            told.lives.drain(..told.lives.len().saturating_sub(1));
            part.numbers = Some(told);
            // What is left of it for members is small, and not nothing.
            bytes += 64;
        } else if let Some(gone) = gone(change) {
            bytes += gone.encoded_len();
            part.gone.push(gone);
        } else if let Some(mut row) = row(change) {
            if let Some(wire::row::Fact::Placement(placement)) = &mut row.fact {
                placement.sealed.clear();
                placement.past.iter_mut().for_each(|past| past.drained.clear());
            }
            bytes += row.encoded_len();
            part.put.push(row);
        }
        if bytes >= PART_BYTES {
            parts.push(std::mem::take(&mut part).encode_to_vec().into());
            bytes = 0;
        }
    }
    if bytes > 0 || parts.is_empty() {
        parts.push(part.encode_to_vec().into());
    }
    parts
}

/// Reads a part.
pub(super) fn changes(part: &[u8]) -> Clear<Vec<Change>> {
    let part = wire::Changes::decode(part).map_err(|_| Unclear("changes"))?;
    let mut changes = Vec::with_capacity(part.put.len() + part.gone.len() + 1);
    if let Some(numbers) = &part.numbers {
        changes.push(Change::Numbers(numbers_in(numbers)?));
    }
    for row in part.put {
        match change(row)? {
            Change::Numbers(_) => return Err(Unclear("fact")),
            change => changes.push(change),
        }
    }
    for gone in part.gone {
        changes.push(change_gone(gone)?);
    }
    Ok(changes)
}

fn key(letter: u8, id: u32) -> Bytes {
    let mut key = vec![letter];
    key.extend(id.to_be_bytes());
    key.into()
}

/// A row of the disk: its key, and its value or `None` when it goes. `None`: the change is not for the disk.
pub(super) fn stored(change: &Change) -> Option<(Bytes, Option<Bytes>)> {
    let key = match change {
        Change::Numbers(_) => Bytes::from_static(b"numbers"),
        Change::Keys(_) => Bytes::from_static(b"keys"),
        Change::TopicPut(topic) => key(b't', topic.id.get()),
        Change::TopicGone(id, _) => key(b't', id.get()),
        Change::GroupPut(group) => key(b'g', group.id.get()),
        Change::GroupGone(id, _) => key(b'g', id.get()),
        Change::Placed(id, _) | Change::PlacementGone(id) => key(b'p', id.get()),
        Change::ShardPut(shard) => key(b's', shard.id.get()),
        Change::ShardAlive(_) => return None,
    };
    let value = row(change).map(|mut row| {
        row.version = ROW_VERSION;
        if let Some(wire::row::Fact::Shard(shard)) = &mut row.fact {
            shard.alive = false;
        }
        row.encode_to_vec().into()
    });
    Some((key, value))
}

/// Reads a row of the disk.
pub(super) fn restored(key: &[u8], value: &[u8]) -> Clear<Change> {
    let row = wire::Row::decode(value).map_err(|_| Unclear("row"))?;
    if row.version != ROW_VERSION {
        return Err(Unclear("version of a row, which a newer program wrote,"));
    }
    let change = change(row)?;
    match stored(&change) {
        Some((own, _)) if own == key => Ok(change),
        _ => Err(Unclear("key of a row")),
    }
}
