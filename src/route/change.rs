//! Facts and their changes: what the state machine decides, what goes to disk, and what members are told, is made of these.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::cluster::{ClusterId, Lineage, Placement, ReceiptKey, Shard, View};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, ShardId, TopicId};
use crate::model::topic::Topic;

/// What is given out next, so that no number is used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Next topic.
    pub topic: TopicId,
    /// Next group.
    pub group: GroupId,
    /// Next shard.
    pub shard: ShardId,
    /// Next key of receipt handles.
    pub receipt_key: u8,
    /// Starts of the service that are remembered, the oldest first. Members are told of the last one.
    pub lives: Arc<[Lineage]>,
}

/// Where a topic lives, and who has reported what about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// What members see.
    pub placement: Arc<Placement>,
    /// Shards that sealed for the order that is to come.
    pub sealed: BTreeSet<ShardId>,
    /// Of past orders, by generation: shards of which every group is done.
    pub drained: BTreeSet<(u32, ShardId)>,
}

/// One fact that is new, different or gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// What is given out next. Members are told of topics and groups.
    Numbers(Numbers),
    /// A topic as it is now.
    TopicPut(Arc<Topic>),
    /// A topic is gone.
    TopicGone(TopicId, TopicName),
    /// A group as it is now.
    GroupPut(Arc<Group>),
    /// A group is gone.
    GroupGone(GroupId, GroupName),
    /// Where a topic lives now.
    Placed(TopicId, Arc<Placed>),
    /// A topic that is gone lives nowhere.
    PlacementGone(TopicId),
    /// A shard as it is now.
    ShardPut(Arc<Shard>),
    /// A shard of which only `alive` is different; not on disk.
    ShardAlive(Arc<Shard>),
    /// All keys of receipt handles.
    Keys(Arc<[ReceiptKey]>),
}

/// Brings a view up to date. The revision is the caller's.
pub fn apply(view: &mut View, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Numbers(numbers) => {
                (view.cluster, view.next_topic, view.next_group) = (numbers.cluster, numbers.topic, numbers.group);
                view.lineage = numbers.lives.last().copied();
            }
            Change::TopicPut(topic) => drop(view.topics.insert(topic.name.clone(), topic.clone())),
            Change::TopicGone(_, name) => drop(view.topics.remove(name)),
            Change::GroupPut(group) => drop(view.groups.insert(group.name.clone(), group.clone())),
            Change::GroupGone(_, name) => drop(view.groups.remove(name)),
            Change::Placed(topic, placed) => drop(view.placements.insert(*topic, placed.placement.clone())),
            Change::PlacementGone(topic) => drop(view.placements.remove(topic)),
            Change::ShardPut(shard) | Change::ShardAlive(shard) => drop(view.shards.insert(shard.id, shard.clone())),
            Change::Keys(keys) => view.receipt_keys = keys.to_vec(),
        }
    }
}

/// What makes this view out of an empty one, cluster and revision aside.
#[must_use]
pub fn facts(view: &View) -> Vec<Change> {
    let placed = |placement: &Arc<Placement>| Arc::new(Placed { placement: placement.clone(), ..Placed::default() });
    // Shards first: who reads it in order never meets a placement on a shard it does not know.
    let numbers = Numbers {
        cluster: view.cluster,
        topic: view.next_topic,
        group: view.next_group,
        lives: view.lineage.into_iter().collect(),
        ..Numbers::default()
    };
    let numbers = std::iter::once(Change::Numbers(numbers));
    let shards = view.shards.values().map(|shard| Change::ShardPut(shard.clone()));
    let keys = (!view.receipt_keys.is_empty()).then(|| Change::Keys(view.receipt_keys.as_slice().into()));
    let topics = view.topics.values().map(|topic| Change::TopicPut(topic.clone()));
    let placements = view.placements.iter().map(|(&topic, placement)| Change::Placed(topic, placed(placement)));
    let groups = view.groups.values().map(|group| Change::GroupPut(group.clone()));
    numbers.chain(shards).chain(keys).chain(topics).chain(placements).chain(groups).collect()
}
