//! Topics and groups by name. Readers take a snapshot without a lock; changes go one at a time, through the log, and show
//! only when they are durable.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, TopicId};
use crate::model::topic::Topic;

/// The names.
#[derive(Debug, Default)]
pub struct Catalog {
    topics: ArcSwap<HashMap<TopicName, Arc<Topic>>>,
    groups: ArcSwap<HashMap<GroupName, Arc<Group>>>,
}

impl Catalog {
    /// From what the folded state knows.
    #[must_use]
    pub fn new(topics: Vec<Topic>, groups: Vec<Group>) -> Self {
        let topics = topics.into_iter().map(|topic| (topic.name.clone(), Arc::new(topic))).collect();
        let groups = groups.into_iter().map(|group| (group.name.clone(), Arc::new(group))).collect();
        Self { topics: ArcSwap::from_pointee(topics), groups: ArcSwap::from_pointee(groups) }
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.load().get(name).cloned()
    }

    /// A group.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<Arc<Group>> {
        self.groups.load().get(name).cloned()
    }

    /// All topics, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.topics.load().values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// All groups, by name.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Group>> {
        let mut groups: Vec<_> = self.groups.load().values().cloned().collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    /// Shows a topic. Only under the change lock.
    pub fn put_topic(&self, topic: &Arc<Topic>) {
        self.topics.rcu(|topics| {
            let mut topics = HashMap::clone(topics);
            topics.insert(topic.name.clone(), topic.clone());
            topics
        });
    }

    /// Hides a topic. Only under the change lock.
    pub fn remove_topic(&self, name: &TopicName) {
        self.topics.rcu(|topics| {
            let mut topics = HashMap::clone(topics);
            topics.remove(name);
            topics
        });
    }

    /// Shows a group. Only under the change lock.
    pub fn put_group(&self, group: &Arc<Group>) {
        self.groups.rcu(|groups| {
            let mut groups = HashMap::clone(groups);
            groups.insert(group.name.clone(), group.clone());
            groups
        });
    }

    /// Hides a group. Only under the change lock.
    pub fn remove_group(&self, name: &GroupName) {
        self.groups.rcu(|groups| {
            let mut groups = HashMap::clone(groups);
            groups.remove(name);
            groups
        });
    }
}

/// Ids for what is created next.
#[derive(Debug)]
pub struct NextIds {
    /// Next topic.
    pub topic: TopicId,
    /// Next group.
    pub group: GroupId,
}
