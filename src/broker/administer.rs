//! Changes of the catalogue. One at a time; each is durable before it shows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::broker::api::{CatalogError, GroupSpec, ReceiveError, TopicSpec};
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::UnitSeq;
use crate::model::settings::{changed_group, changed_topic, group_differences, new_topic, topic_differences};
use crate::model::topic::{Promise, Topic};
use crate::store::AppendError;
use crate::store::record::{Record, Unit};

impl Broker {
    /// Creates a topic. Creating what exists with the same settings is fine.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn create_topic(&self, name: TopicName, spec: TopicSpec) -> Result<Arc<Topic>, CatalogError> {
        self.check_own_catalogue()?;
        let mut ids = self.inner.catalog_change.lock().await;
        if let Some(topic) = self.topic(&name) {
            let differing = topic_differences(&topic, &spec);
            if differing.is_empty() {
                return Ok(topic);
            }
            return Err(CatalogError::Differs { name: name.to_string(), differing });
        }
        if self.topics().len() >= self.inner.options.topics_max {
            return Err(CatalogError::TooMany(format!("there are {} topics already", self.inner.options.topics_max)));
        }
        self.check_retention(&spec)?;
        let topic = Arc::new(new_topic(ids.topic, name, &spec)?);
        self.write(&Record::TopicPut(Topic::clone(&topic))).await?;
        ids.topic = ids.topic.next();
        self.show_topic(&topic);
        Ok(topic)
    }

    /// Changes settings of a topic.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn update_topic(&self, name: &TopicName, spec: TopicSpec) -> Result<Arc<Topic>, CatalogError> {
        self.check_own_catalogue()?;
        // On a task of its own: a caller that goes away must not leave log and memory with different settings.
        let (broker, name) = (self.clone(), name.clone());
        let updated = self.inner.tasks.spawn_background(async move { broker.update_topic_now(&name, spec).await });
        updated.await.unwrap_or(Err(CatalogError::ShardFailed))
    }

    async fn update_topic_now(&self, name: &TopicName, spec: TopicSpec) -> Result<Arc<Topic>, CatalogError> {
        let _ids = self.inner.catalog_change.lock().await;
        let topic = self.topic(name).ok_or_else(|| CatalogError::NotFound(format!("topic {name}")))?;
        self.check_retention(&spec)?;
        let changed = Arc::new(changed_topic(&topic, &spec, true)?);
        if changed.queues > topic.queues {
            let seq = self.grow_topic(&changed)?;
            self.inner.durable(seq).await.map_err(|_| CatalogError::ShardFailed)?;
            self.show_topic(&changed);
        } else if changed != topic {
            self.write(&Record::TopicPut(Topic::clone(&changed))).await?;
            self.show_topic(&changed);
        }
        Ok(changed)
    }

    /// Under one lock: what is accepted before goes to the old queues and lies below the fences, what is accepted after does not.
    fn grow_topic(&self, topic: &Arc<Topic>) -> Result<UnitSeq, CatalogError> {
        let mut core = self.inner.core.lock();
        let growth = core.fences(topic.id);
        let mut unit = Unit::state();
        unit.push(&Record::TopicPut(Topic::clone(topic)));
        unit.push(&Record::QueuesAdded { topic: topic.id, growth: growth.clone() });
        let seq = self.inner.store.append(unit).map_err(|error| refused(&error))?;
        core.put_topic(topic.clone(), None);
        core.add_growth(topic.id, growth);
        Ok(seq)
    }

    /// Deletes a topic with its messages and every group's state on it.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), CatalogError> {
        self.check_own_catalogue()?;
        let _ids = self.inner.catalog_change.lock().await;
        let topic = self.topic(name).ok_or_else(|| CatalogError::NotFound(format!("topic {name}")))?;
        let seq = {
            // Under one lock: what is accepted before is deleted with it, and nothing is accepted after.
            let mut core = self.inner.core.lock();
            let seq = self.append(&Record::TopicDeleted(topic.id))?;
            core.remove_topic(topic.id);
            self.inner.catalog.remove_topic(name);
            seq
        };
        self.inner.durable(seq).await.map_err(|_| CatalogError::ShardFailed)
    }

    /// Creates a group. Creating what exists with the same settings is fine.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn create_group(&self, name: GroupName, spec: GroupSpec) -> Result<Arc<Group>, CatalogError> {
        self.check_own_catalogue()?;
        let mut ids = self.inner.catalog_change.lock().await;
        if let Some(group) = self.group(&name) {
            let differing = group_differences(&group, &spec);
            if differing.is_empty() {
                return Ok(group);
            }
            return Err(CatalogError::Differs { name: name.to_string(), differing });
        }
        if self.groups().len() >= self.inner.options.groups_max {
            return Err(CatalogError::TooMany(format!("there are {} groups already", self.inner.options.groups_max)));
        }
        let plain = Group::with_defaults(ids.group, name);
        let group = Arc::new(changed_group(&plain, &spec, false)?);
        self.write(&Record::GroupPut(Group::clone(&group))).await?;
        ids.group = ids.group.next();
        self.inner.catalog.put_group(&group);
        Ok(group)
    }

    /// Changes settings of a group.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn update_group(&self, name: &GroupName, spec: GroupSpec) -> Result<Arc<Group>, CatalogError> {
        self.check_own_catalogue()?;
        // On a task of its own: a caller that goes away must not leave log and memory with different settings.
        let (broker, name) = (self.clone(), name.clone());
        let updated = self.inner.tasks.spawn_background(async move { broker.update_group_now(&name, spec).await });
        updated.await.unwrap_or(Err(CatalogError::ShardFailed))
    }

    async fn update_group_now(&self, name: &GroupName, spec: GroupSpec) -> Result<Arc<Group>, CatalogError> {
        let _ids = self.inner.catalog_change.lock().await;
        let group = self.group(name).ok_or_else(|| CatalogError::NotFound(format!("consumer group {name}")))?;
        let changed = Arc::new(changed_group(&group, &spec, true)?);
        if changed != group {
            self.write(&Record::GroupPut(Group::clone(&changed))).await?;
            self.inner.catalog.put_group(&changed);
            self.inner.core.lock().put_group(&changed);
        }
        Ok(changed)
    }

    /// Deletes a group and its state. Its dead-letter topic stays.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn delete_group(&self, name: &GroupName) -> Result<(), CatalogError> {
        self.check_own_catalogue()?;
        let _ids = self.inner.catalog_change.lock().await;
        let group = self.group(name).ok_or_else(|| CatalogError::NotFound(format!("consumer group {name}")))?;
        let seq = {
            let mut core = self.inner.core.lock();
            let seq = self.append(&Record::GroupDeleted(group.id))?;
            core.remove_group(group.id);
            self.inner.catalog.remove_group(name);
            seq
        };
        self.inner.durable(seq).await.map_err(|_| CatalogError::ShardFailed)
    }

    /// The group that a receive names for the first time.
    pub(super) async fn group_at_first_use(&self, name: &GroupName) -> Result<Arc<Group>, ReceiveError> {
        if !self.inner.options.auto_create_groups {
            return Err(ReceiveError::GroupNotFound(name.clone()));
        }
        let group = match &self.inner.cluster {
            Some(cluster) => self.group_by_authority(cluster, name).await,
            None => self.create_group(name.clone(), GroupSpec::default()).await.map(Some),
        };
        match group {
            Ok(Some(group)) => Ok(group),
            Ok(None) | Err(CatalogError::TooMany(_) | CatalogError::Overloaded) => Err(ReceiveError::Overloaded),
            Err(other) => Err(ReceiveError::ShardFailed(other.to_string())),
        }
    }

    /// Whole segments leave the log by the broker's age, so a topic can shorten it and never lengthen it.
    fn check_retention(&self, spec: &TopicSpec) -> Result<(), CatalogError> {
        let bound = self.inner.store.retention_age();
        match spec.retention.flatten() {
            Some(wish) if wish > bound => Err(CatalogError::Invalid(format!(
                "a retention of {} s is longer than storage.retention_age of the broker, {} s: raise that one first",
                wish.as_secs(),
                bound.as_secs()
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn show_topic(&self, topic: &Arc<Topic>) {
        if topic.promise == Promise::Written {
            self.inner.any_written.store(true, Ordering::Relaxed);
        }
        self.inner.core.lock().put_topic(topic.clone(), None);
        self.inner.catalog.put_topic(topic);
    }

    async fn write(&self, record: &Record) -> Result<(), CatalogError> {
        let seq = self.append(record)?;
        self.inner.durable(seq).await.map_err(|_| CatalogError::ShardFailed)
    }

    fn append(&self, record: &Record) -> Result<UnitSeq, CatalogError> {
        let mut unit = Unit::state();
        unit.push(record);
        self.inner.store.append(unit).map_err(|error| refused(&error))
    }
}

fn refused(error: &AppendError) -> CatalogError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => CatalogError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => CatalogError::ShardFailed,
    }
}
