//! What the roles of a cluster know of each other: shards, where topics live, by which keys receipt handles are made. A
//! [`View`] is an immutable snapshot of it; the route service makes the next one, everyone else follows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, QueueOffset, ShardId, TopicId};
use crate::model::topic::Topic;

/// Orders of shards that a topic may have had and whose messages somebody may still be reading.
pub const PAST_ORDERS_MAX: usize = 16;

/// Names one cluster, so that data and processes of two never mix. Given at the first start of its route service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How far somebody has followed the route service. One that does not know this any more was put back to an older copy of its
/// data, whatever numbers it gives out now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Starts of the service until then.
    pub start: u64,
    /// Drawn at that start: the same start of two copies has two of them.
    pub life: u64,
    /// Changes that were written down since.
    pub changes: u64,
}

/// Names one data directory of a broker, so that two of them are never taken for each other. Drawn at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub u128);

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Number of a state of the route service; grows with every change. Its upper 32 bits are the starts of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Starts of the route service until then.
    #[must_use]
    pub const fn term(self) -> u64 {
        self.0 >> 32
    }
}

impl fmt::Display for Revision {
    /// `starts.changes`, as people can compare it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.term() {
            0 => self.0.fmt(f),
            term => write!(f, "{term}.{}", self.0 & u64::from(u32::MAX)),
        }
    }
}

/// One log, the broker that serves it, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number, allotted once and for ever to the name.
    pub id: ShardId,
    /// Name of its broker.
    pub name: Arc<str>,
    /// `host:port` of its internal port; changes when the broker comes back elsewhere.
    pub address: Arc<str>,
    /// Version of the broker's program.
    pub version: Arc<str>,
    /// Its lease has not ended. A hint: a shard whose broker lost the route service serves all the same.
    pub alive: bool,
    /// New messages without a message group go elsewhere, and topics move away.
    pub draining: bool,
    /// The data directory that holds it. `None`: its broker never told, or an operator gave up what was there.
    pub holder: Option<HolderId>,
}

/// On which shards a topic lives. Each has all the topic's queues; a queue is named by shard and number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Grows with every change of order.
    pub generation: u32,
    /// Shards that take its messages, ascending.
    pub shards: Vec<ShardId>,
    /// The order that is to come: while it is set, the present shards seal what moves.
    pub moving: Option<Vec<ShardId>>,
    /// Orders before this one, the oldest first, until every group is done with what they left.
    pub past: Vec<PastPlacement>,
}

/// An order of shards that was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastPlacement {
    /// Generation under which its shards sealed.
    pub generation: u32,
    /// Shards that took messages then, ascending.
    pub shards: Vec<ShardId>,
}

/// What a shard held when it gave up an order of shards: whatever of a message group that belongs elsewhere now lies below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// Generation under which it sealed.
    pub generation: u32,
    /// Next offset of each queue at that instant.
    pub fences: Vec<QueueOffset>,
}

impl Placement {
    /// On these shards, for the first time.
    #[must_use]
    pub fn first(mut shards: Vec<ShardId>) -> Self {
        shards.sort_unstable();
        shards.dedup();
        Self { shards, ..Self::default() }
    }

    /// Every shard that may hold messages of the topic, ascending.
    #[must_use]
    pub fn holders(&self) -> Vec<ShardId> {
        let past = self.past.iter().flat_map(|past| &past.shards);
        let mut all: Vec<ShardId> =
            self.shards.iter().chain(self.moving.iter().flatten()).chain(past).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A key by which receipt handles are made. Older ones stay for opening what was made with them.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiptKey {
    /// Stands in the handle.
    pub id: u8,
    /// The secret.
    pub key: [u8; 32],
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key must not reach a log.
        write!(f, "ReceiptKey({})", self.id)
    }
}

/// What the route service knows, at one revision.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// State.
    pub revision: Revision,
    /// Topics.
    pub topics: HashMap<TopicName, Arc<Topic>>,
    /// Groups.
    pub groups: HashMap<GroupName, Arc<Group>>,
    /// Where topics live.
    pub placements: HashMap<TopicId, Arc<Placement>>,
    /// Brokers.
    pub shards: BTreeMap<ShardId, Arc<Shard>>,
    /// Keys of receipt handles; the first makes new ones.
    pub receipt_keys: Vec<ReceiptKey>,
    /// The number that the next topic gets: every lower one was given out. 0: not told.
    pub next_topic: TopicId,
    /// The same of groups.
    pub next_group: GroupId,
    /// How far this is in the history of the route service; `None`: not told, as by one that is a minor version older.
    pub lineage: Option<Lineage>,
}

impl View {
    /// Where a topic lives; nowhere when it is not known.
    #[must_use]
    pub fn placement(&self, topic: TopicId) -> Option<&Arc<Placement>> {
        self.placements.get(&topic)
    }

    /// The shard of a broker's name.
    #[must_use]
    pub fn shard_named(&self, name: &str) -> Option<&Arc<Shard>> {
        self.shards.values().find(|shard| &*shard.name == name)
    }
}

/// The shard to which `key` (of a message group, a transaction) belongs among `shards`: the same on every node. A shard more
/// takes its share from the others and moves nothing else; a shard less gives away its own alone (rendezvous hashing).
#[must_use]
pub fn owner(key: u64, shards: &[ShardId]) -> Option<ShardId> {
    shards.iter().copied().max_by_key(|shard| (weight(key, *shard), *shard))
}

fn weight(key: u64, shard: ShardId) -> u64 {
    let mut mixed = key ^ u64::from(shard.get()).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::order::order_key;

    fn shards(count: u32) -> Vec<ShardId> {
        (0..count).map(ShardId).collect()
    }

    #[test]
    fn a_shard_more_takes_its_share_and_moves_nothing_between_the_others() {
        let mut moved = 0;
        for number in 0..10_000u32 {
            let key = order_key(&format!("order-{number}"));
            let (before, after) = (owner(key, &shards(4)), owner(key, &shards(5)));
            if before != after {
                assert_eq!(after, Some(ShardId(4)));
                moved += 1;
            }
        }
        assert!((1_700..2_300).contains(&moved), "{moved}");
    }

    #[test]
    fn keys_spread_evenly_and_the_order_of_the_list_does_not_matter() {
        let mut counts = [0u32; 3];
        let (forth, back) = (shards(3), shards(3).into_iter().rev().collect::<Vec<_>>());
        for number in 0..9_000u32 {
            let key = order_key(&format!("g{number}"));
            let chosen = owner(key, &forth).unwrap();
            assert_eq!(Some(chosen), owner(key, &back));
            counts[chosen.get() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (2_700..3_300).contains(count)), "{counts:?}");
        assert_eq!(owner(1, &[]), None);
    }

    #[test]
    fn a_topic_is_looked_for_wherever_it_may_have_left_something() {
        let placement = Placement {
            shards: shards(2),
            moving: Some(vec![ShardId(1), ShardId(4)]),
            past: vec![PastPlacement { generation: 1, shards: vec![ShardId(3)] }],
            generation: 3,
        };
        assert_eq!(placement.holders(), [0, 1, 3, 4].map(ShardId).to_vec());
    }
}
