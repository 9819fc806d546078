//! A broker of a cluster follows the route service: topics and groups change there, and come here as a [`View`]. What differs
//! is written to the log together with the revision, so that each change is made exactly once, whatever crashes between.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::broker::api::{ApplyError, CatalogError, ClusterSetup, Setup};
use crate::broker::delivery::core::Core;
use crate::broker::delivery::shards::ShardOrder;
use crate::broker::handles::Handles;
use crate::broker::verbs::Broker;
use crate::model::cluster::{Placement, Revision, View};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{TopicId, UnitSeq};
use crate::model::topic::Topic;
use crate::store::AppendError;
use crate::store::record::{Record, Unit};

/// How long a call may wait for a revision that its caller knows already.
const REACHED_WITHIN: Duration = Duration::from_secs(2);
/// Changes beyond so many bytes go into another unit: one unit must fit into a frame, however much has changed.
const UNIT_BYTES: usize = 64 * 1024;

/// What a broker of a cluster knows of it.
#[derive(Debug)]
pub(super) struct Membership {
    pub setup: ClusterSetup,
    /// The catalogue is of this revision.
    applied: watch::Sender<Revision>,
    /// Whether the log knows of a revision at all: if not, whatever it holds came from elsewhere.
    is_begun: AtomicBool,
    /// Whether what is not in the log, such as keys, was taken from a view since the start.
    is_taken: AtomicBool,
    /// What the route service has forgotten, once that was seen.
    forgotten: OnceLock<String>,
    /// Told when a view was taken over, for those who report what followed from it.
    pub changed: Notify,
}

impl Membership {
    /// The keys to begin with, and the membership, if any. `applied`: what the log says.
    pub fn of(setup: Setup, applied: Option<Revision>) -> (Handles, Option<Self>) {
        match setup {
            Setup::Alone { receipt_key } => (Handles::new(&receipt_key), None),
            Setup::Cluster(setup) => {
                let handles = Handles::ring(&setup.receipt_keys);
                let applied_now = watch::Sender::new(applied.unwrap_or_default());
                let (is_begun, is_taken) = (AtomicBool::new(applied.is_some()), AtomicBool::new(false));
                let (changed, forgotten) = (Notify::new(), OnceLock::new());
                (handles, Some(Self { setup, applied: applied_now, is_begun, is_taken, forgotten, changed }))
            }
        }
    }
}

/// One difference between the catalogue and a view.
#[derive(Debug)]
enum Change {
    TopicGone(Arc<Topic>),
    /// New, or with other settings; more queues begin under the lock under which this is written.
    Topic(Arc<Topic>),
    GroupGone(Arc<Group>),
    Group(Arc<Group>),
    /// On other shards, or about to be: what this shard gives up is sealed under the lock under which this is written.
    Placed(TopicId, Arc<Placement>),
}

impl Broker {
    /// Takes over what the route service knows at `view.revision`. An older view than the last one changes nothing.
    ///
    /// # Errors
    /// See [`ApplyError`]; to be tried again, with this view or a newer one.
    pub async fn apply(&self, view: &View) -> Result<(), ApplyError> {
        if self.inner.cluster.is_none() {
            return Err(ApplyError::Alone);
        }
        // On a task of its own: a caller that goes away must not leave log and memory with different catalogues.
        let (broker, view) = (self.clone(), view.clone());
        let applied = self.inner.tasks.spawn_background(async move { broker.apply_now(&view).await });
        applied.await.unwrap_or(Err(ApplyError::ShardFailed))
    }

    /// Whether a view comes from the route service that this broker follows, and from one that has lost nothing. Otherwise
    /// nothing of it is to be taken over, keys included.
    ///
    /// # Errors
    /// [`ApplyError::Alone`], [`ApplyError::Foreign`] and [`ApplyError::Forgotten`].
    pub fn check_source(&self, view: &View) -> Result<(), ApplyError> {
        let cluster = self.inner.cluster.as_ref().ok_or(ApplyError::Alone)?;
        if view.cluster != cluster.setup.cluster {
            return Err(ApplyError::Foreign { own: cluster.setup.cluster, other: view.cluster });
        }
        // What no cluster gave it, it cannot have forgotten: that is refused in other words.
        let is_begun = cluster.is_begun.load(Ordering::Relaxed);
        if let Some(what) = forgotten(&self.topics(), &self.groups(), view).filter(|_| is_begun) {
            let _ = cluster.forgotten.set(what);
        }
        match cluster.forgotten.get() {
            Some(what) => Err(ApplyError::Forgotten(what.clone())),
            None => Ok(()),
        }
    }

    /// Why this broker does not follow the route service any more, if so.
    pub(super) fn no_longer_follows(&self) -> Option<String> {
        let forgotten = self.inner.cluster.as_ref()?.forgotten.get()?;
        Some(ApplyError::Forgotten(forgotten.clone()).to_string())
    }

    /// Revision of the cluster's catalogue that the topics and groups here are of; 0 outside of a cluster and before the first.
    #[must_use]
    pub fn applied(&self) -> Revision {
        self.inner.cluster.as_ref().map_or_else(Revision::default, |cluster| *cluster.applied.borrow())
    }

    /// Waits, for 2 s at most, until the catalogue is as it was at `revision` or later. True outside of a cluster.
    pub async fn reached(&self, revision: Revision) -> bool {
        let Some(cluster) = &self.inner.cluster else { return true };
        let mut applied = cluster.applied.subscribe();
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= revision) => reached.is_ok(),
            () = self.inner.shutdown.draining() => false,
            () = self.inner.clock.sleep(REACHED_WITHIN) => false,
        }
    }

    /// Refuses what only the route service may change.
    pub(super) fn check_own_catalogue(&self) -> Result<(), CatalogError> {
        match self.inner.cluster {
            None => Ok(()),
            Some(_) => Err(CatalogError::Invalid(
                "topics and groups of a cluster are changed through the route service".to_owned(),
            )),
        }
    }

    /// A group that this broker needs, made by the route service unless there is one; `None`: it did not come here in time.
    pub(super) async fn group_by_authority(
        &self,
        cluster: &Membership,
        name: &GroupName,
    ) -> Result<Option<Arc<Group>>, CatalogError> {
        let revision = cluster.setup.authority.create_group(name.clone()).await?;
        Ok(if self.reached(revision).await { self.group(name) } else { None })
    }

    /// The same of a dead-letter topic.
    pub(super) async fn dead_letter_topic_by_authority(
        &self,
        cluster: &Membership,
        name: &TopicName,
    ) -> Result<Option<Arc<Topic>>, CatalogError> {
        let revision = cluster.setup.authority.create_dead_letter_topic(name.clone()).await?;
        Ok(if self.reached(revision).await { self.topic(name) } else { None })
    }

    async fn apply_now(&self, view: &View) -> Result<(), ApplyError> {
        let Some(cluster) = &self.inner.cluster else { return Err(ApplyError::Alone) };
        let _one_at_a_time = self.inner.catalog_change.lock().await;
        self.check_source(view)?;
        let applied = self.applied();
        if view.revision < applied || view.revision == applied && cluster.is_taken.load(Ordering::Relaxed) {
            return Ok(());
        }
        let is_empty = self.topics().is_empty() && self.groups().is_empty();
        if !is_empty && !cluster.is_begun.load(Ordering::Relaxed) {
            return Err(ApplyError::NotEmpty);
        }
        let changes = self.differences(view);
        if view.revision > applied || !changes.is_empty() {
            let seq = self.write_changes(&changes, applied, view.revision)?;
            cluster.is_begun.store(true, Ordering::Relaxed);
            self.inner.durable(seq).await.map_err(|_| ApplyError::ShardFailed)?;
        }
        self.show(&changes);
        if !view.receipt_keys.is_empty() {
            self.inner.handles.store(Arc::new(Handles::ring(&view.receipt_keys)));
        }
        cluster.is_taken.store(true, Ordering::Relaxed);
        cluster.applied.send_replace(view.revision);
        cluster.changed.notify_waiters();
        Ok(())
    }

    /// What is to be done to get from the catalogue to the view. Deletions first, so that a name is free for what has it now.
    fn differences(&self, view: &View) -> Vec<Change> {
        let mut changes = Vec::new();
        let (topics, groups) = (self.topics(), self.groups());
        let ids: HashSet<TopicId> = view.topics.values().map(|topic| topic.id).collect();
        let gone = |topic: &&Arc<Topic>| view.topics.get(&topic.name).is_none_or(|now| now.id != topic.id);
        changes.extend(topics.iter().filter(gone).cloned().map(Change::TopicGone));
        let gone = |group: &&Arc<Group>| view.groups.get(&group.name).is_none_or(|now| now.id != group.id);
        changes.extend(groups.iter().filter(gone).cloned().map(Change::GroupGone));
        let known: HashMap<_, _> = topics.iter().map(|topic| (topic.id, topic)).collect();
        let mut put: Vec<_> = view.topics.values().filter(|topic| known.get(&topic.id) != Some(topic)).collect();
        put.sort_by_key(|topic| topic.id);
        changes.extend(put.into_iter().cloned().map(Change::Topic));
        let known: HashMap<_, _> = groups.iter().map(|group| (group.id, group)).collect();
        let mut put: Vec<_> = view.groups.values().filter(|group| known.get(&group.id) != Some(group)).collect();
        put.sort_by_key(|group| group.id);
        changes.extend(put.into_iter().cloned().map(Change::Group));
        let core = self.inner.core.lock();
        let known = |topic: &TopicId| core.topic(*topic)?.shards.placement();
        let is_new = |(topic, placed): &(&TopicId, &Arc<Placement>)| known(topic) != Some(*placed);
        let mut placed: Vec<_> = view.placements.iter().filter(is_new).collect();
        placed.retain(|(topic, _)| ids.contains(topic));
        placed.sort_by_key(|(topic, _)| **topic);
        changes.extend(placed.into_iter().map(|(topic, placed)| Change::Placed(*topic, placed.clone())));
        changes
    }

    /// Hands all changes to the log under one lock, the revision with the last of them. Deletions and new queues count from
    /// here: what is accepted before lies before them in the log.
    fn write_changes(&self, changes: &[Change], from: Revision, to: Revision) -> Result<UnitSeq, ApplyError> {
        let mut core = self.inner.core.lock();
        let mut rest = changes;
        loop {
            let mut unit = Unit::state();
            let mut count = 0;
            while count < rest.len() && unit.bytes().len() < UNIT_BYTES {
                self.push_change(&rest[count], &core, &mut unit);
                count += 1;
            }
            let (these, left) = rest.split_at(count);
            let revision = if left.is_empty() { to } else { from };
            unit.push(&Record::CatalogApplied { revision });
            let seq = self.inner.store.append(unit).map_err(|error| refused(&error))?;
            for change in these {
                self.follow(change, &mut core);
            }
            if left.is_empty() {
                return Ok(seq);
            }
            rest = left;
        }
    }

    /// The log has taken a change: what must not wait until it is durable.
    fn follow(&self, change: &Change, core: &mut Core) {
        match change {
            Change::TopicGone(topic) => {
                core.remove_topic(topic.id);
                self.inner.catalog.remove_topic(&topic.name);
            }
            Change::GroupGone(group) => {
                core.remove_group(group.id);
                self.inner.catalog.remove_group(&group.name);
            }
            Change::Topic(topic) if grows(topic, core) => {
                let growth = core.fences(topic.id);
                core.put_topic(topic.clone(), None);
                core.add_growth(topic.id, growth);
            }
            Change::Placed(topic, placement) => core.place(*topic, self.placed(*topic, placement, core)),
            Change::Topic(_) | Change::Group(_) => {}
        }
    }

    /// The order of a topic's shards once this placement is taken over, sealed with what its queues hold now. A topic that is
    /// new here holds nothing.
    fn placed(&self, topic: TopicId, placement: &Arc<Placement>, core: &Core) -> ShardOrder {
        let known = core.topic(topic).map(|state| state.shards.clone()).unwrap_or_default();
        known.followed_by(self.inner.shard, placement.clone(), &core.fences(topic).fences)
    }

    fn show(&self, changes: &[Change]) {
        {
            // A new topic is in its place before anyone can find it.
            let mut core = self.inner.core.lock();
            for change in changes {
                match change {
                    Change::Topic(topic) => core.put_topic(topic.clone(), None),
                    Change::Placed(topic, placement)
                        if core.topic(*topic).is_some_and(|state| state.shards.placement() != Some(placement)) =>
                    {
                        let order = self.placed(*topic, placement, &core);
                        core.place(*topic, order);
                    }
                    _ => {}
                }
            }
        }
        for change in changes {
            match change {
                Change::Topic(topic) => self.show_topic(topic),
                Change::Group(group) => {
                    self.inner.catalog.put_group(group);
                    self.inner.core.lock().put_group(group);
                }
                Change::TopicGone(_) | Change::GroupGone(_) | Change::Placed(..) => {}
            }
        }
    }

    fn push_change(&self, change: &Change, core: &Core, unit: &mut Unit) {
        match change {
            Change::TopicGone(topic) => unit.push(&Record::TopicDeleted(topic.id)),
            Change::Topic(topic) => {
                unit.push(&Record::TopicPut(Topic::clone(topic)));
                if grows(topic, core) {
                    unit.push(&Record::QueuesAdded { topic: topic.id, growth: core.fences(topic.id) });
                }
            }
            Change::GroupGone(group) => unit.push(&Record::GroupDeleted(group.id)),
            Change::Group(group) => unit.push(&Record::GroupPut(Group::clone(group))),
            Change::Placed(topic, placement) => {
                let seals = self.placed(*topic, placement, core).seals();
                unit.push(&Record::Placed { topic: *topic, placement: Placement::clone(placement), seals });
            }
        }
    }
}

/// What the route service once made and knows nothing of: a number that it says nobody has yet, or one that it gave to another
/// name. What it deleted has a lower number, and nobody else has it.
fn forgotten(topics: &[Arc<Topic>], groups: &[Arc<Group>], view: &View) -> Option<String> {
    let names: HashMap<_, _> = view.topics.values().map(|topic| (topic.id, &topic.name)).collect();
    let is_lost = |topic: &&Arc<Topic>| {
        let is_to_come = view.next_topic.get() > 0 && topic.id >= view.next_topic;
        is_to_come || names.get(&topic.id).is_some_and(|name| **name != topic.name)
    };
    if let Some(topic) = topics.iter().find(is_lost) {
        return Some(format!("topic {}", topic.name));
    }
    let names: HashMap<_, _> = view.groups.values().map(|group| (group.id, &group.name)).collect();
    let is_lost = |group: &&Arc<Group>| {
        let is_to_come = view.next_group.get() > 0 && group.id >= view.next_group;
        is_to_come || names.get(&group.id).is_some_and(|name| **name != group.name)
    };
    groups.iter().find(is_lost).map(|group| format!("consumer group {}", group.name))
}

/// Whether a topic gets more queues than it has. Asked of the core: a try before, whose end was refused, may have widened it.
fn grows(topic: &Topic, core: &Core) -> bool {
    core.topic(topic.id).is_some_and(|state| state.topic.queues < topic.queues)
}

fn refused(error: &AppendError) -> ApplyError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => ApplyError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => ApplyError::ShardFailed,
    }
}
