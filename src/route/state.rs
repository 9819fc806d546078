//! The route service's state machine: commands in, changes out, nothing else. No clock and no disk: what it decides is written
//! by whoever asked, and counts for later decisions once it is applied.
//!
//! - **R-1** Numbers of topics, groups and shards are given out once and for ever.
//! - **R-2** A placement names shards that exist.
//! - **R-3** A move completes when every shard of the old order has sealed under its generation, and not before. Until then it
//!   can be given up, which is a generation of its own.
//! - **R-4** Once a broker has told its data directory, no other directory has its shard until an operator gives up what is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::cluster::{ClusterId, HolderId, ReceiptKey, Revision, Shard, View};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, ShardId, TopicId};
use crate::model::settings::{
    CatalogError, GroupSpec, TopicSpec, changed_group, changed_topic, group_differences, new_topic, topic_differences,
};
use crate::model::topic::{Topic, TopicType};
use crate::route::change::{Change, Numbers, Placed};
use crate::route::lineage;

/// Keys of receipt handles that are remembered: the one that makes new ones, and those before it.
pub const RECEIPT_KEYS_MAX: usize = 4;

/// Bounds of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most topics. Default 10 000.
    pub topics_max: usize,
    /// Most groups. Default 10 000.
    pub groups_max: usize,
    /// Longest retention a topic may ask for: what the brokers' logs keep. `None`: not checked here.
    pub retention_max: Option<std::time::Duration>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { topics_max: 10_000, groups_max: 10_000, retention_max: None }
    }
}

/// What may be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The first start of all: a name for the cluster and a first key.
    Found(ClusterId, [u8; 32]),
    /// Another start of the service: how many there were, and what tells this one from the same of another copy.
    Begin(u64, u64),
    /// A broker is there.
    Register {
        /// Its name, to which the shard belongs.
        name: String,
        /// `host:port` of its internal port.
        address: String,
        /// Of its program.
        version: String,
        /// Its data directory; `None`: a program that does not tell.
        holder: Option<HolderId>,
    },
    /// What lies on a broker is given up: another data directory may take its name.
    Forget(String),
    /// A shard's lease began or ended. A shard that is not known is not an error.
    Alive(ShardId, bool),
    /// A topic, which may exist with the same settings.
    CreateTopic(TopicName, TopicSpec),
    /// Other settings of a topic.
    UpdateTopic(TopicName, TopicSpec),
    /// A topic goes.
    DeleteTopic(TopicName),
    /// A group, which may exist with the same settings.
    CreateGroup(GroupName, GroupSpec),
    /// Other settings of a group.
    UpdateGroup(GroupName, GroupSpec),
    /// A group goes.
    DeleteGroup(GroupName),
    /// A topic moves to all active shards, or a move that is held up is given up.
    Rebalance(TopicName),
    /// A shard sealed.
    Sealed(TopicId, u32, ShardId),
    /// All groups of a shard are done with what lies below the fence of a generation.
    Drained(TopicId, u32, ShardId),
    /// A shard is to be emptied, or not any more.
    Drain(ShardId, bool),
    /// The next moves of shards that are being emptied.
    Continue,
    /// Another key for receipt handles.
    RotateKey([u8; 32]),
}

/// What was done, beside the changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    /// Nothing more to say.
    #[default]
    Done,
    /// The topic as it is now.
    Topic(Arc<Topic>),
    /// The group as it is now.
    Group(Arc<Group>),
    /// The shard of a broker.
    Registered(ShardId, ClusterId),
}

/// A decision. It counts when it has been applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// In order; empty when nothing is to be changed.
    pub changes: Vec<Change>,
    /// For the caller.
    pub outcome: Outcome,
}

/// All facts.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) bounds: Bounds,
    pub(super) numbers: Numbers,
    pub(super) topics: HashMap<TopicName, Arc<Topic>>,
    pub(super) by_id: BTreeMap<TopicId, Arc<Topic>>,
    pub(super) groups: HashMap<GroupName, Arc<Group>>,
    pub(super) placements: BTreeMap<TopicId, Arc<Placed>>,
    pub(super) shards: BTreeMap<ShardId, Arc<Shard>>,
    pub(super) keys: Arc<[ReceiptKey]>,
}

fn changes(changes: Vec<Change>) -> Decision {
    Decision { changes, outcome: Outcome::Done }
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Whether the first start of all is still to come.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.numbers == Numbers::default()
    }

    /// Shards, by number.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.values()
    }

    /// The shard of a broker.
    #[must_use]
    pub fn shard_named(&self, name: &str) -> Option<&Arc<Shard>> {
        self.shards.values().find(|shard| &*shard.name == name)
    }

    /// All of it, as members see it.
    #[must_use]
    pub fn view(&self, revision: Revision) -> View {
        View {
            cluster: self.numbers.cluster,
            revision,
            topics: self.topics.clone(),
            groups: self.groups.clone(),
            placements: self.placements.iter().map(|(&topic, placed)| (topic, placed.placement.clone())).collect(),
            shards: self.shards.clone(),
            receipt_keys: self.keys.to_vec(),
            next_topic: self.numbers.topic,
            next_group: self.numbers.group,
            lineage: self.numbers.lives.last().copied(),
        }
    }

    /// Takes up what was decided, or read from the disk.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Numbers(numbers) => self.numbers = numbers.clone(),
                Change::TopicPut(topic) => {
                    self.topics.insert(topic.name.clone(), topic.clone());
                    self.by_id.insert(topic.id, topic.clone());
                }
                Change::TopicGone(id, name) => {
                    self.topics.remove(name);
                    self.by_id.remove(id);
                }
                Change::GroupPut(group) => drop(self.groups.insert(group.name.clone(), group.clone())),
                Change::GroupGone(_, name) => drop(self.groups.remove(name)),
                Change::Placed(topic, placed) => drop(self.placements.insert(*topic, placed.clone())),
                Change::PlacementGone(topic) => drop(self.placements.remove(topic)),
                Change::ShardPut(shard) | Change::ShardAlive(shard) => {
                    self.shards.insert(shard.id, shard.clone());
                }
                Change::Keys(keys) => self.keys = keys.clone(),
            }
        }
    }

    /// What a command changes; nothing is changed yet.
    ///
    /// # Errors
    /// Why nothing will be.
    pub fn decide(&self, command: Command) -> Result<Decision, CatalogError> {
        let mut decision = self.decided(command)?;
        lineage::count(&self.numbers, &mut decision.changes);
        Ok(decision)
    }

    fn decided(&self, command: Command) -> Result<Decision, CatalogError> {
        match command {
            Command::Found(cluster, key) => Ok(self.found(cluster, key)),
            Command::Begin(start, life) => {
                let lives = lineage::begun(&self.numbers.lives, start, life);
                Ok(changes(vec![Change::Numbers(Numbers { lives, ..self.numbers.clone() })]))
            }
            Command::Register { name, address, version, holder } => self.register(&name, &address, &version, holder),
            Command::Forget(name) => self.forget(&name).map(changes),
            Command::Alive(shard, alive) => Ok(changes(self.alive(shard, alive))),
            Command::CreateTopic(name, spec) => self.create_topic(name, spec),
            Command::UpdateTopic(name, spec) => self.update_topic(&name, &spec),
            Command::DeleteTopic(name) => {
                let topic = self.topic(&name)?;
                Ok(changes(vec![Change::PlacementGone(topic.id), Change::TopicGone(topic.id, name)]))
            }
            Command::CreateGroup(name, spec) => self.create_group(name, &spec),
            Command::UpdateGroup(name, spec) => {
                let group = self.group(&name)?;
                let changed = Arc::new(changed_group(group, &spec, true)?);
                let put = (changed != *group).then(|| Change::GroupPut(changed.clone()));
                Ok(Decision { changes: put.into_iter().collect(), outcome: Outcome::Group(changed) })
            }
            Command::DeleteGroup(name) => {
                let id = self.group(&name)?.id;
                Ok(changes(vec![Change::GroupGone(id, name)]))
            }
            Command::Rebalance(name) => self.rebalance(&name).map(changes),
            Command::Sealed(topic, generation, shard) => self.sealed(topic, generation, shard).map(changes),
            Command::Drained(topic, generation, shard) => Ok(changes(self.drained(topic, generation, shard))),
            Command::Drain(shard, draining) => self.drain(shard, draining).map(changes),
            Command::Continue => Ok(changes(self.next_moves())),
            Command::RotateKey(key) => Ok(changes(self.rotate(key))),
        }
    }

    fn found(&self, cluster: ClusterId, key: [u8; 32]) -> Decision {
        if !self.is_new() {
            return Decision::default();
        }
        let numbers = Numbers {
            cluster,
            topic: TopicId(1),
            group: GroupId(1),
            shard: ShardId(0),
            receipt_key: 2,
            ..Numbers::default()
        };
        changes(vec![Change::Numbers(numbers), Change::Keys(Arc::new([ReceiptKey { id: 1, key }]))])
    }

    fn alive(&self, shard: ShardId, alive: bool) -> Vec<Change> {
        let changed = self.shards.get(&shard).filter(|shard| shard.alive != alive);
        changed.map(|shard| Change::ShardAlive(Arc::new(Shard { alive, ..Shard::clone(shard) }))).into_iter().collect()
    }

    pub(super) fn topic(&self, name: &TopicName) -> Result<&Arc<Topic>, CatalogError> {
        self.topics.get(name).ok_or_else(|| CatalogError::NotFound(format!("topic {name}")))
    }

    fn group(&self, name: &GroupName) -> Result<&Arc<Group>, CatalogError> {
        self.groups.get(name).ok_or_else(|| CatalogError::NotFound(format!("consumer group {name}")))
    }

    fn create_topic(&self, name: TopicName, mut spec: TopicSpec) -> Result<Decision, CatalogError> {
        if let Some(topic) = self.topics.get(&name) {
            let differing = topic_differences(topic, &spec);
            if differing.is_empty() {
                return Ok(Decision { changes: Vec::new(), outcome: Outcome::Topic(topic.clone()) });
            }
            return Err(CatalogError::Differs { name: name.to_string(), differing });
        }
        if self.topics.len() >= self.bounds.topics_max {
            return Err(CatalogError::TooMany(format!("there are {} topics already", self.bounds.topics_max)));
        }
        if name.is_dead_letter() {
            spec.queues.get_or_insert(1);
        }
        self.check_retention(&spec)?;
        let topic = Arc::new(new_topic(self.numbers.topic, name, &spec)?);
        let placed = Arc::new(self.first_placement(&topic)?);
        let numbers = Numbers { topic: topic.id.next(), ..self.numbers.clone() };
        let made = vec![Change::Numbers(numbers), Change::TopicPut(topic.clone()), Change::Placed(topic.id, placed)];
        Ok(Decision { changes: made, outcome: Outcome::Topic(topic) })
    }

    fn update_topic(&self, name: &TopicName, spec: &TopicSpec) -> Result<Decision, CatalogError> {
        let topic = self.topic(name)?;
        self.check_retention(spec)?;
        let changed = Arc::new(changed_topic(topic, spec, true)?);
        let becomes_lite = changed.topic_type == TopicType::Lite && topic.topic_type != TopicType::Lite;
        let holders = self.placements.get(&topic.id).map_or(0, |placed| placed.placement.holders().len());
        if becomes_lite && holders > 1 {
            return Err(CatalogError::Invalid(format!(
                "a topic of type lite lives on one shard, and {name} is on {holders}: create another topic"
            )));
        }
        let put = (changed != *topic).then(|| Change::TopicPut(changed.clone()));
        Ok(Decision { changes: put.into_iter().collect(), outcome: Outcome::Topic(changed) })
    }

    fn create_group(&self, name: GroupName, spec: &GroupSpec) -> Result<Decision, CatalogError> {
        if let Some(group) = self.groups.get(&name) {
            let differing = group_differences(group, spec);
            if differing.is_empty() {
                return Ok(Decision { changes: Vec::new(), outcome: Outcome::Group(group.clone()) });
            }
            return Err(CatalogError::Differs { name: name.to_string(), differing });
        }
        if self.groups.len() >= self.bounds.groups_max {
            return Err(CatalogError::TooMany(format!("there are {} groups already", self.bounds.groups_max)));
        }
        let group = Arc::new(changed_group(&Group::with_defaults(self.numbers.group, name), spec, false)?);
        let numbers = Numbers { group: group.id.next(), ..self.numbers.clone() };
        let made = vec![Change::Numbers(numbers), Change::GroupPut(group.clone())];
        Ok(Decision { changes: made, outcome: Outcome::Group(group) })
    }

    fn check_retention(&self, spec: &TopicSpec) -> Result<(), CatalogError> {
        match (spec.retention.flatten(), self.bounds.retention_max) {
            (Some(wish), Some(bound)) if wish > bound => Err(CatalogError::Invalid(format!(
                "a retention of {} s is longer than storage.retention_age of the brokers, {} s: raise that one first",
                wish.as_secs(),
                bound.as_secs()
            ))),
            _ => Ok(()),
        }
    }

    fn rotate(&self, key: [u8; 32]) -> Vec<Change> {
        let in_use = |id: u8| self.keys.iter().any(|key| key.id == id);
        // One byte in a handle: numbers come round, never to one that is in use, and 0 is none of them.
        let id = (0..=u8::MAX)
            .map(|step| self.numbers.receipt_key.wrapping_add(step))
            .find(|&id| id != 0 && !in_use(id))
            .unwrap_or(1);
        let mut keys = vec![ReceiptKey { id, key }];
        keys.extend(self.keys.iter().take(RECEIPT_KEYS_MAX - 1).cloned());
        let numbers = Numbers { receipt_key: id.wrapping_add(1), ..self.numbers.clone() };
        vec![Change::Numbers(numbers), Change::Keys(keys.into())]
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
