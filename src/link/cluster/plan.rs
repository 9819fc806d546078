//! Which shard is asked: for a message, for a receive. Decisions only.

use std::collections::BTreeSet;

use crate::model::cluster::{Placement, View, owner};
use crate::model::message::{MessageType, NewMessage};
use crate::model::order::order_key;
use crate::model::position::ShardId;
use crate::model::topic::{Topic, TopicType};

/// Of so many receives of a group one begins at a shard that had nothing lately: it must not wait for the others to run dry.
const COLD_EVERY: u64 = 4;

/// Where a message may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// This shard and no other: its order or its transaction lives there.
    Owner(ShardId),
    /// Any shard that takes it.
    Any,
}

/// Messages of one request that go to one place, by their index in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where.
    pub place: Place,
    /// Which, ascending.
    pub indices: Vec<usize>,
}

/// The shard that is asked first about a transaction.
#[must_use]
pub fn transaction_owner(id: &str, placement: &Placement) -> Option<ShardId> {
    owner(order_key(id), &placement.shards)
}

/// Where a message may go; `None` when the topic lives nowhere.
#[must_use]
pub fn place(topic: &Topic, placement: &Placement, message: &NewMessage) -> Option<Place> {
    let shards = &placement.shards;
    let first = *shards.first()?;
    if matches!(topic.topic_type, TopicType::Priority | TopicType::Lite) || shards.len() == 1 {
        return Some(Place::Owner(first));
    }
    if !message.message_group.is_empty() {
        return owner(order_key(&message.message_group), shards).map(Place::Owner);
    }
    if message.message_type == MessageType::Transaction {
        return transaction_owner(&message.message_id, placement).map(Place::Owner);
    }
    Some(Place::Any)
}

/// Splits what is still to be stored. Messages for any shard go along with others: fewer parts, and together or not at all.
/// `None` when the topic lives nowhere.
#[must_use]
pub fn parts(topic: &Topic, placement: &Placement, messages: &[NewMessage], pending: &[usize]) -> Option<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for &index in pending {
        let place = place(topic, placement, &messages[index])?;
        match parts.iter_mut().find(|part| part.place == place) {
            Some(part) => part.indices.push(index),
            None => parts.push(Part { place, indices: vec![index] }),
        }
    }
    let any = parts.iter().position(|part| part.place == Place::Any);
    if let (Some(any), true) = (any, parts.len() > 1) {
        let free = parts.remove(any);
        parts[0].indices.extend(free.indices);
        parts[0].indices.sort_unstable();
    }
    Some(parts)
}

/// Shards for a message that may go anywhere, in the order in which they are tried: those that can be reached in turn, then the
/// others, since not to be connected is a hint only. Draining shards are left out while there are others.
#[must_use]
pub fn turns(placement: &Placement, view: &View, turn: u64, is_reachable: impl Fn(ShardId) -> bool) -> Vec<ShardId> {
    let is_draining = |shard: &ShardId| view.shards.get(shard).is_some_and(|shard| shard.draining);
    let mut shards: Vec<ShardId> = placement.shards.iter().copied().filter(|shard| !is_draining(shard)).collect();
    if shards.is_empty() {
        shards.clone_from(&placement.shards);
    }
    rotate(&mut shards, turn);
    let (mut near, far): (Vec<ShardId>, Vec<ShardId>) = shards.into_iter().partition(|shard| is_reachable(*shard));
    near.extend(far);
    near
}

fn rotate(shards: &mut [ShardId], turn: u64) {
    if let Ok(count) = u64::try_from(shards.len())
        && count > 0
    {
        shards.rotate_left(usize::try_from(turn % count).unwrap_or(0));
    }
}

/// What is remembered of the receives of a group from a topic: where they found something.
#[derive(Clone, Debug, Default)]
pub struct Warmth {
    turn: u64,
    warm: BTreeSet<ShardId>,
}

impl Warmth {
    /// Shards at which the next receive looks, one after the other, before it waits at all of them: mostly one of those that had
    /// something, in turn, and now and then another first.
    pub fn looks(&mut self, shards: &[ShardId]) -> Vec<ShardId> {
        self.warm.retain(|shard| shards.contains(shard));
        let turn = self.turn;
        self.turn += 1;
        let pick = |among: &[ShardId], turn: u64| {
            let count = u64::try_from(among.len()).unwrap_or(1).max(1);
            among.get(usize::try_from(turn % count).unwrap_or(0)).copied()
        };
        let warm: Vec<ShardId> = self.warm.iter().copied().collect();
        let cold: Vec<ShardId> = shards.iter().copied().filter(|shard| !self.warm.contains(shard)).collect();
        let first = pick(&warm, turn);
        // Numbered by themselves, or a rhythm of both counts could pass the same shard by for ever.
        let second =
            if turn.is_multiple_of(COLD_EVERY) || warm.is_empty() { pick(&cold, turn / COLD_EVERY) } else { None };
        second.into_iter().chain(first).collect()
    }

    /// What a receive found at a shard.
    pub fn found(&mut self, shard: ShardId, something: bool) {
        if something {
            self.warm.insert(shard);
        } else {
            self.warm.remove(&shard);
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
