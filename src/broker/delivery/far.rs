//! Message groups that moved between shards, both ends: what the new owner must ask, and what the old one answers. Part of
//! [`Core`], under the same lock.

use std::collections::BTreeMap;

use crate::broker::delivery::core::{Core, TopicState};
use crate::broker::delivery::fifo::{Gate, Ordering};
use crate::broker::delivery::shards::ShardOrder;
use crate::broker::delivery::subscription::{QueueState, Subscription};
use crate::model::order::queue_of;
use crate::model::position::{GroupId, QueueOffset, ShardId, TopicId};

/// Message groups in one question.
const KEYS_MAX: usize = if cfg!(test) { 2 } else { 1_024 };
/// Stands in a question for everything that was left; no message group has this number.
pub const WHOLE_SHARD: u64 = 0;

/// What a group waits for on another shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Topic.
    pub topic: TopicId,
    /// Group.
    pub group: GroupId,
    /// Generation under which that shard sealed.
    pub generation: u32,
    /// That shard.
    pub shard: ShardId,
    /// [`WHOLE_SHARD`], then message groups whose lanes wait here.
    pub keys: Vec<u64>,
}

impl Core {
    /// The order of a topic's shards is this from here on. Lanes that waited for what is not remembered any more go on.
    pub fn place(&mut self, topic: TopicId, order: ShardOrder) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        state.shards = order;
        for subscription in state.subscriptions.values_mut() {
            subscription.far.retain(&state.shards);
            for queue in &mut subscription.queues {
                let is_over =
                    |gate| matches!(gate, Gate::Shard { generation, .. } if !state.shards.remembers(generation));
                queue.leases.release_lanes(is_over);
            }
            subscription.wake_all();
        }
    }

    /// What lanes wait for on other shards.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let mut found = Vec::new();
        for state in self.topics.values().filter(|state| state.shards.has_past()) {
            for (&group, subscription) in &state.subscriptions {
                let mut keys: BTreeMap<(u32, ShardId), Vec<u64>> = BTreeMap::new();
                for (gate, held) in subscription.queues.iter().flat_map(|queue| queue.leases.lanes().held()) {
                    if let Gate::Shard { generation, shard } = gate {
                        keys.entry((generation, shard)).or_default().extend(held);
                    }
                }
                for ((generation, shard), mut keys) in keys {
                    keys.sort_unstable();
                    keys.dedup();
                    for some in keys.chunks(KEYS_MAX) {
                        let keys = std::iter::once(WHOLE_SHARD).chain(some.iter().copied()).collect();
                        found.push(Question { topic: state.topic.id, group, generation, shard, keys });
                    }
                }
            }
        }
        found
    }

    /// Another shard has answered. True when something can go on by it.
    pub fn answered(&mut self, question: &Question, done: &[bool]) -> bool {
        let Some(state) = self.topics.get_mut(&question.topic) else { return false };
        if !state.shards.remembers(question.generation) {
            return false;
        }
        let Some(subscription) = state.subscriptions.get_mut(&question.group) else { return false };
        let Question { generation, shard, .. } = *question;
        let gate = Gate::Shard { generation, shard };
        let mut lanes = Vec::new();
        for (&key, _) in question.keys.iter().zip(done).filter(|(_, done)| **done) {
            if key == WHOLE_SHARD {
                subscription.far.add_whole(generation, shard);
                subscription.queues.iter_mut().for_each(|queue| queue.leases.release_lanes(|at| at == gate));
            } else {
                subscription.far.add(generation, key);
                lanes.push(key);
            }
        }
        for queue in &mut subscription.queues {
            queue.leases.release_some_lanes(gate, &lanes);
        }
        let any = done.iter().any(|done| *done);
        if any {
            subscription.wake_all();
        }
        any
    }

    /// Whether a group is done with what message groups left here below the fences of a generation; one answer each.
    #[must_use]
    pub fn lanes_done(&self, topic: TopicId, group: GroupId, generation: u32, keys: &[u64]) -> Vec<bool> {
        let none = || vec![false; keys.len()];
        let Some(state) = self.topics.get(&topic) else { return none() };
        let Some(fences) = state.shards.fences(generation) else {
            // Not known here yet; or known and over: everyone was done before it was forgotten.
            let is_over = state.shards.placement().is_some_and(|placement| placement.generation >= generation);
            return vec![is_over; keys.len()];
        };
        let Some(subscription) = state.subscriptions.get(&group) else { return none() };
        keys.iter().map(|&key| is_done(state, subscription, fences, key)).collect()
    }

    /// Generations whose share of this shard nobody needs any more: every group is done with it. With no group at all it must be
    /// out of retention, for one may come and begin at the beginning.
    #[must_use]
    pub fn drained(&self, topic: TopicId) -> Vec<u32> {
        let Some(state) = self.topics.get(&topic) else { return Vec::new() };
        let stays = state.shards.is_here();
        let is_held = || {
            self.transactions.pending_by_topic().contains_key(&topic)
                || state.lite_queues_with_messages().next().is_some()
        };
        if !stays && is_held() {
            return Vec::new();
        }
        let all: Vec<QueueOffset> = state.tails.iter().map(|tail| tail.accepted()).collect();
        let is_drained = |generation: &u32| {
            let Some(fences) = state.shards.fences(*generation) else { return false };
            // Whoever leaves is not asked for messages again, so nothing may be left at all.
            let ends = if stays { fences } else { &all[..] };
            if state.subscriptions.is_empty() {
                return ends.iter().zip(&state.tails).all(|(end, tail)| tail.first() >= *end);
            }
            let subscriptions = state.subscriptions.values();
            subscriptions.into_iter().all(|subscription| is_done(state, subscription, ends, WHOLE_SHARD))
        };
        state.shards.left().filter(is_drained).collect()
    }
}

fn is_done(state: &TopicState, subscription: &Subscription, fences: &[QueueOffset], key: u64) -> bool {
    let lived_in = |queue: usize| {
        let sizes = state.growths.iter().map(|growth| growth.before()).chain([state.topic.queues]);
        key == WHOLE_SHARD || sizes.into_iter().any(|queues| queue_of(key, queues).get() as usize == queue)
    };
    let places = fences.iter().zip(&state.tails).zip(&subscription.queues).enumerate();
    places.filter(|(queue, _)| lived_in(*queue)).all(|(_, ((fence, tail), own))| {
        // What is not considered yet may hold anything.
        own.leases.next().max(tail.first()) >= *fence && !has_below(own, key, *fence)
    })
}

/// Whether something below `fence` is outstanding; of one message group if what is outstanding is kept by message group.
fn has_below(own: &QueueState, key: u64, fence: QueueOffset) -> bool {
    let lanes = own.leases.lanes();
    let lowest = if key == WHOLE_SHARD || lanes.ordering() != Ordering::PerGroup {
        own.leases.lowest_outstanding()
    } else {
        lanes.first(key)
    };
    lowest.is_some_and(|lowest| lowest < fence)
}

#[cfg(test)]
#[path = "far_tests.rs"]
mod tests;
