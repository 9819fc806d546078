//! The words of pulls, positions and resets; outsiders find them in [`api`](crate::broker::api).

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::broker::api::{ClientId, Delivered, ReceiveError};
use crate::broker::delivery::reset::Seek;
use crate::model::filter::Filter;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::time::Timestamp;

/// A wish for messages of one queue, without lease and ack.
#[derive(Clone, Debug)]
pub struct Pull {
    /// Group; created when unknown, if the broker may. Where it stands does not matter, and does not change.
    pub group: GroupName,
    /// Topic.
    pub topic: TopicName,
    /// Queue.
    pub queue: QueueId,
    /// First message.
    pub offset: QueueOffset,
    /// Which messages.
    pub filter: Filter,
    /// Most messages, at least 1.
    pub batch: usize,
    /// How long to wait for the first.
    pub wait: Duration,
    /// Who asks.
    pub client: ClientId,
}

/// Answer to a pull.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// In the order of the queue; without handles.
    pub messages: Vec<Delivered>,
    /// Where the next pull goes on.
    pub next: QueueOffset,
}

/// A place in a queue that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueBoundary {
    /// First retained message.
    Beginning,
    /// Where the next message will be.
    End,
    /// First message stored at or after this.
    At(Timestamp),
}

/// Where a group is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTarget {
    /// First retained message.
    Earliest,
    /// Behind the last visible message.
    Latest,
    /// First message stored at or after this.
    At(Timestamp),
    /// This place, which must exist.
    Offset(QueueOffset),
    /// This place, or the nearest that exists.
    Near(QueueOffset),
}

/// What a move of a group means in one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSeek {
    /// Queue.
    pub queue: QueueId,
    /// In messages.
    pub seek: Seek,
}

/// Why a pull brought nothing, a position was not told, or did not move.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OffsetError {
    /// No such topic.
    #[error("topic {0} does not exist")]
    TopicNotFound(TopicName),
    /// No such group, and none may be created.
    #[error("consumer group {0} does not exist")]
    GroupNotFound(GroupName),
    /// The topic's permission forbids receiving.
    #[error("no readable queue: topic {0} does not allow receiving")]
    NotReadable(TopicName),
    /// The group is switched off.
    #[error("consumer group {0} is disabled")]
    GroupDisabled(GroupName),
    /// The topic has fewer queues.
    #[error("topic {topic} has no queue {queue}: its queues are 0 to {last}", last = queues.saturating_sub(1))]
    UnknownQueue {
        /// Topic.
        topic: TopicName,
        /// Queue asked for.
        queue: QueueId,
        /// Queues it has.
        queues: u32,
    },
    /// The topic has no queues on a broker of this name, or it has some on several and none was named.
    #[error("topic {topic} has no queues on broker {broker:?}: its route names those that have some")]
    UnknownBroker {
        /// Topic.
        topic: TopicName,
        /// Broker asked for; empty when none was named.
        broker: Arc<str>,
    },
    /// The broker of the queue did not answer in time; the outcome is unknown.
    #[error("the broker of the queue cannot be reached; try again later")]
    Unavailable,
    /// An offset means nothing without a queue.
    #[error("topic {topic} has {queues} queues: an offset needs one of them")]
    WhichQueue {
        /// Topic.
        topic: TopicName,
        /// Queues it has.
        queues: u32,
    },
    /// The queue does not reach there.
    #[error("offset {offset} lies outside of queue {queue} of topic {topic}, which holds {first} to {next}")]
    OutOfRange {
        /// Topic.
        topic: TopicName,
        /// Queue.
        queue: QueueId,
        /// Offset asked for.
        offset: QueueOffset,
        /// First retained.
        first: QueueOffset,
        /// Where the next message will be; still inside.
        next: QueueOffset,
    },
    /// The group never received or committed anything there.
    #[error("consumer group {group} has no position in queue {queue} of topic {topic}")]
    NoPosition {
        /// Group.
        group: GroupName,
        /// Topic.
        topic: TopicName,
        /// Queue.
        queue: QueueId,
    },
    /// Too much is in flight.
    #[error("too much is waiting; try again later")]
    Overloaded,
    /// The log failed, or a message could not be read.
    #[error("the shard cannot answer: {0}")]
    ShardFailed(String),
}

impl From<ReceiveError> for OffsetError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TopicNotFound(topic) => Self::TopicNotFound(topic),
            ReceiveError::GroupNotFound(group) => Self::GroupNotFound(group),
            ReceiveError::NotReadable(topic) => Self::NotReadable(topic),
            ReceiveError::GroupDisabled(group) => Self::GroupDisabled(group),
            // A pull names a queue and asks for no lite topic.
            ReceiveError::LiteFilter => Self::ShardFailed(error.to_string()),
            ReceiveError::Overloaded => Self::Overloaded,
            ReceiveError::Unavailable => Self::Unavailable,
            ReceiveError::ShardFailed(cause) => Self::ShardFailed(cause),
        }
    }
}
