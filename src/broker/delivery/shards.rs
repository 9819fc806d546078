//! The order of a topic's shards, seen from one of them: which messages it takes, what it held when an order was given up, and
//! what a lane must wait for that its message group left on another shard. Pure.
//!
//! Orders follow one another. What this shard took under an order that ended while it was in it lies below the fences of that
//! order's seal; so a message needs to wait for another shard's share of a past order only when it lies above.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crate::broker::delivery::fifo::Gate;
use crate::model::cluster::{Placement, Seal, owner};
use crate::model::position::{QueueOffset, ShardId};

/// Lanes remembered as done elsewhere, of one group; of what is forgotten the other shard is asked again.
const DONE_MAX: usize = if cfg!(test) { 8 } else { 65_536 };

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ShardOrder {
    own: ShardId,
    placement: Option<Arc<Placement>>,
    /// By generation, only of orders that are remembered, and of the one that is about to end.
    seals: BTreeMap<u32, Vec<QueueOffset>>,
}

impl ShardOrder {
    /// As the shard `own` knows it. Seals of what is not remembered any more are let go of.
    #[must_use]
    pub fn new(own: ShardId, placement: Arc<Placement>, seals: impl IntoIterator<Item = Seal>) -> Self {
        let wanted = |generation: u32| {
            placement.past.iter().any(|past| past.generation == generation)
                || (placement.moving.is_some() && placement.generation == generation)
        };
        let kept = seals.into_iter().filter(|seal| wanted(seal.generation));
        let seals = kept.map(|seal| (seal.generation, seal.fences)).collect();
        Self { own, placement: Some(placement), seals }
    }

    /// The next one. What this shard has to seal with it, it seals at `fences`: the next offsets of the topic's queues.
    #[must_use]
    pub fn followed_by(&self, own: ShardId, placement: Arc<Placement>, fences: &[QueueOffset]) -> Self {
        let mut seals = self.seals();
        // The order that is about to end; and one that ended without this shard, which should not be.
        let ending = placement.moving.as_ref().map(|_| (placement.generation, &placement.shards));
        let past = placement.past.iter().map(|past| (past.generation, &past.shards));
        for (generation, shards) in past.chain(ending) {
            if shards.contains(&own) && !self.seals.contains_key(&generation) {
                seals.push(Seal { generation, fences: fences.to_vec() });
            }
        }
        Self::new(own, placement, seals)
    }

    /// Where the topic lives; `None`: nobody said so, it lives here.
    #[must_use]
    pub fn placement(&self) -> Option<&Arc<Placement>> {
        self.placement.as_ref()
    }

    /// What was sealed, the oldest first.
    #[must_use]
    pub fn seals(&self) -> Vec<Seal> {
        self.seals.iter().map(|(generation, fences)| Seal { generation: *generation, fences: fences.clone() }).collect()
    }

    /// The fences of a generation.
    #[must_use]
    pub fn fences(&self, generation: u32) -> Option<&[QueueOffset]> {
        self.seals.get(&generation).map(Vec::as_slice)
    }

    /// Whether a message of this message group may be taken here now; 0: one without.
    #[must_use]
    pub fn takes(&self, key: u64) -> bool {
        let Some(placement) = &self.placement else { return true };
        if key == 0 {
            return self.is_here();
        }
        // Sealed as soon as the move is known: what goes elsewhere then is refused from here on, and what comes from elsewhere
        // is taken only when everyone has sealed.
        let stays = placement.moving.as_ref().is_none_or(|target| owner(key, target) == Some(self.own));
        stays && owner(key, &placement.shards) == Some(self.own)
    }

    /// Whether the topic lives here, or will.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.placement.as_ref().is_none_or(|placement| {
            placement.shards.contains(&self.own)
                || placement.moving.as_ref().is_some_and(|target| target.contains(&self.own))
        })
    }

    /// Generations of past orders in which this shard was.
    pub fn left(&self) -> impl Iterator<Item = u32> + '_ {
        let past = self.placement.iter().flat_map(|placement| &placement.past);
        past.filter(|past| past.shards.contains(&self.own)).map(|past| past.generation)
    }

    /// Whether there were other orders.
    #[must_use]
    pub fn has_past(&self) -> bool {
        self.placement.as_ref().is_some_and(|placement| !placement.past.is_empty())
    }

    /// Whether the topic came to this shard by a move of which an order of before is remembered.
    #[must_use]
    pub fn is_newcomer(&self) -> bool {
        let oldest = self.placement.as_ref().and_then(|placement| placement.past.first());
        oldest.is_some_and(|past| !past.shards.contains(&self.own))
    }

    /// Whether an order that ended with this generation is remembered.
    #[must_use]
    pub fn remembers(&self, generation: u32) -> bool {
        self.placement.iter().flat_map(|placement| &placement.past).any(|past| past.generation == generation)
    }

    /// What the message at `offset` of `queue` must wait for on another shard.
    #[must_use]
    pub fn gate_of(&self, key: u64, queue: usize, offset: QueueOffset, done: &FarDone) -> Option<Gate> {
        for past in &self.placement.as_ref()?.past {
            let Some(shard) = owner(key, &past.shards).filter(|shard| *shard != self.own) else { continue };
            let sealed = self.seals.range(..=past.generation).next_back();
            let floor = sealed.and_then(|(_, fences)| fences.get(queue)).copied().unwrap_or_default();
            if offset >= floor && !done.has(past.generation, shard, key) {
                return Some(Gate::Shard { generation: past.generation, shard });
            }
        }
        None
    }
}

/// What other shards said a group is done with. A hint: whatever is forgotten is asked again.
#[derive(Debug, Default)]
pub struct FarDone {
    whole: BTreeSet<(u32, ShardId)>,
    lanes: HashSet<(u32, u64)>,
    order: VecDeque<(u32, u64)>,
}

impl FarDone {
    /// Whether the group is done with what a message group left on a shard. The generation and the message group say which
    /// shard that is.
    #[must_use]
    pub fn has(&self, generation: u32, shard: ShardId, key: u64) -> bool {
        self.whole.contains(&(generation, shard)) || self.lanes.contains(&(generation, key))
    }

    /// It is done with everything that was left there.
    pub fn add_whole(&mut self, generation: u32, shard: ShardId) {
        self.whole.insert((generation, shard));
    }

    /// It is done with one message group.
    pub fn add(&mut self, generation: u32, key: u64) {
        if self.lanes.insert((generation, key)) {
            self.order.push_back((generation, key));
        }
        if self.order.len() > DONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.lanes.remove(&oldest);
        }
    }

    /// Forgets what nobody will ask for again.
    pub fn retain(&mut self, order: &ShardOrder) {
        self.whole.retain(|(generation, _)| order.remembers(*generation));
        self.order.retain(|(generation, _)| order.remembers(*generation));
        self.lanes.retain(|(generation, _)| order.remembers(*generation));
    }
}

#[cfg(test)]
#[path = "shards_tests.rs"]
mod tests;
