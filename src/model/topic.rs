//! What a topic is.

use std::time::Duration;

use crate::model::name::TopicName;
use crate::model::position::{QueueOffset, TopicId};
use crate::model::priority::LEVELS;

/// Kind of messages a topic takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TopicType {
    /// Plain messages.
    #[default]
    Normal,
    /// Messages with a message group, ordered inside it.
    Fifo,
    /// Messages with a delivery time.
    Delay,
    /// Half messages, committed or rolled back later.
    Transaction,
    /// Messages with a priority.
    Priority,
    /// Parent of lite topics.
    Lite,
    /// Normal, FIFO, delayed and transactional messages.
    Mixed,
}

/// What may be done with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    /// Consumers may receive.
    pub readable: bool,
    /// Producers may send.
    pub writable: bool,
}

impl Default for Permission {
    fn default() -> Self {
        Self { readable: true, writable: true }
    }
}

/// The rung of the ladder that a send waits for and that makes a message visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// In the page cache: a crash of the process loses nothing, a power cut may.
    Written,
    /// On stable storage.
    #[default]
    Durable,
}

/// One time at which a topic got more queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The next offset at that instant of each queue that it had before.
    pub fences: Vec<QueueOffset>,
}

impl Growth {
    /// Number of queues before.
    #[must_use]
    pub fn before(&self) -> u32 {
        u32::try_from(self.fences.len()).unwrap_or(u32::MAX)
    }
}

/// Settings of a topic, as the catalogue keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Internal id.
    pub id: TopicId,
    /// Name and namespace.
    pub name: TopicName,
    /// Kind of messages.
    pub topic_type: TopicType,
    /// Number of queues, at least 1; on a PRIORITY topic one per level and lane.
    pub queues: u32,
    /// Who may do what.
    pub permission: Permission,
    /// What an OK of a send means.
    pub promise: Promise,
    /// How long messages stay; `None`: as long as the log keeps them.
    pub retention: Option<Duration>,
    /// How long a lite topic of this parent may be without activity before it is removed; `None`: for ever. One that a group
    /// has not read to its end stays in any case.
    pub lite_ttl: Option<Duration>,
}

impl TopicType {
    /// Queues that stand for one queue of the topic's settings.
    #[must_use]
    pub const fn levels(self) -> u32 {
        match self {
            Self::Priority => LEVELS,
            Self::Normal | Self::Fifo | Self::Delay | Self::Transaction | Self::Lite | Self::Mixed => 1,
        }
    }
}

impl Topic {
    /// Queues as an operator counts them: those of one level.
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        let lanes = self.queues / self.topic_type.levels();
        if lanes == 0 { 1 } else { lanes }
    }
}
