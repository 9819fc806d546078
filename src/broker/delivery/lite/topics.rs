//! The lite topics of one parent.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::broker::delivery::tail::QueueTail;
use crate::model::position::QueueId;
use crate::model::time::Timestamp;

/// One lite topic.
#[derive(Debug)]
pub struct LiteTopic {
    /// Its name below the parent.
    pub name: Arc<str>,
    /// Its messages.
    pub tail: QueueTail,
    /// When a message was last stored or acknowledged here; 0 when that is not known since the process began.
    pub active_at: Timestamp,
}

/// All of one parent, by queue and by name.
#[derive(Debug)]
pub struct LiteTopics {
    by_queue: BTreeMap<QueueId, LiteTopic>,
    by_name: BTreeMap<Arc<str>, QueueId>,
    /// Above every queue that was ever given out, so that none is used twice: a dead letter knows its lite topic by it.
    next: u64,
}

impl Default for LiteTopics {
    fn default() -> Self {
        Self { by_queue: BTreeMap::new(), by_name: BTreeMap::new(), next: u64::from(QueueId::FIRST_LITE.get()) }
    }
}

impl LiteTopics {
    /// None yet, and none will have this queue or a lower one.
    #[must_use]
    pub fn behind(retired: QueueId) -> Self {
        let mut topics = Self::default();
        topics.given_out(retired);
        topics
    }

    /// Number of lite topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_queue.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_queue.is_empty()
    }

    /// The queue of a lite topic.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<QueueId> {
        self.by_name.get(name).copied()
    }

    /// A lite topic by its queue.
    #[must_use]
    pub fn get(&self, queue: QueueId) -> Option<&LiteTopic> {
        self.by_queue.get(&queue)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, queue: QueueId) -> Option<&mut LiteTopic> {
        self.by_queue.get_mut(&queue)
    }

    /// The queue for the lite topic that comes into being `ahead` places after the next; `None` when all numbers are used up.
    #[must_use]
    pub fn queue_ahead(&self, ahead: usize) -> Option<QueueId> {
        u32::try_from(self.next + ahead as u64).ok().map(QueueId)
    }

    /// Queues up to this one have been given out.
    pub fn given_out(&mut self, highest: QueueId) {
        self.next = self.next.max(u64::from(highest.get()) + 1);
    }

    /// The highest queue that was ever given out, if any was.
    #[must_use]
    pub fn highest(&self) -> Option<QueueId> {
        u32::try_from(self.next - 1).ok().map(QueueId).filter(|queue| queue.is_lite())
    }

    /// Adds a lite topic.
    pub fn insert(&mut self, queue: QueueId, topic: LiteTopic) {
        self.given_out(queue);
        self.by_name.insert(topic.name.clone(), queue);
        self.by_queue.insert(queue, topic);
    }

    /// Takes a lite topic out.
    pub fn remove(&mut self, queue: QueueId) -> Option<LiteTopic> {
        let topic = self.by_queue.remove(&queue)?;
        self.by_name.remove(&topic.name);
        Some(topic)
    }

    /// Lite topics from a queue on, in order of their queues.
    pub fn from(&self, queue: QueueId) -> impl Iterator<Item = (QueueId, &LiteTopic)> {
        self.by_queue.range(queue..).map(|(queue, topic)| (*queue, topic))
    }

    /// Lite topics by name, behind `after` if it is not empty, as long as their names begin with `prefix`.
    pub fn by_name<'a>(&'a self, prefix: &'a str, after: &'a str) -> impl Iterator<Item = (QueueId, &'a LiteTopic)> {
        let begin = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        self.by_name
            .range::<str, _>((begin, Bound::Unbounded))
            .take_while(move |(name, _)| name.starts_with(prefix))
            .filter_map(|(_, queue)| Some((*queue, self.by_queue.get(queue)?)))
    }
}
