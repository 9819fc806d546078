//! What the broker is asked and what it answers. Expected endings are outcomes; errors say what did not happen.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use crate::broker::delivery::reset::Seek;
use crate::model::filter::Filter;
mod cluster;
mod letters;
mod lite;

pub use crate::broker::delivery::lite::{LiteAction, LiteStart};
pub use crate::broker::positions::{OffsetError, Pull, Pulled, QueueBoundary, QueueSeek, SeekTarget};
use crate::model::message::{MessageType, NewMessage, StoredMessage};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset, TopicId};
pub use crate::model::settings::{CatalogError, GroupSpec, TopicSpec};
use crate::model::time::Timestamp;
use crate::model::topic::{Topic, TopicType};
pub use cluster::{ApplyError, Authority, ClusterSetup, NoPeers, Peers, Setup};
pub use letters::{Letter, LetterError, LetterFate, LetterOutcome, LetterPage, LettersSettled, Remedy, Which};
pub use lite::{LiteError, LiteEviction, LiteListing, LiteSync, LiteView};

/// A client, by the id it gave itself. Not unique over time: a restarted container may reuse it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub Arc<str>);

/// Messages to store, all of one topic, all or none.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Topic.
    pub topic: TopicName,
    /// At least one message, in request order.
    pub messages: Vec<NewMessage>,
}

/// Where a message was stored. Given only when the topic's promise has been kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Queue; of a message that is held back, the first.
    pub queue: QueueId,
    /// Place in it; 0 for a message that is held back.
    pub offset: QueueOffset,
    /// Text by which a delayed message can be recalled.
    pub recall_handle: Option<String>,
}

/// Why nothing was stored, or, for [`PublishError::ShardFailed`] alone, why that is unknown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// No such topic.
    #[error("topic {0} does not exist")]
    TopicNotFound(TopicName),
    /// The topic's permission forbids sending.
    #[error("no writable queue: topic {0} does not allow sending")]
    NotWritable(TopicName),
    /// A message is of a kind that the topic does not take.
    #[error("topic {topic} takes {expected:?} messages, message {index} is {found:?}")]
    TypeConflict {
        /// Topic.
        topic: TopicName,
        /// Its type.
        expected: TopicType,
        /// What the message is.
        found: MessageType,
        /// Place in the request.
        index: usize,
    },
    /// There are as many lite topics as there may be.
    #[error("there are {most} lite topics already; no new one can begin below {topic}")]
    LiteTopicQuota {
        /// Parent.
        topic: TopicName,
        /// How many there may be.
        most: usize,
    },
    /// Too much is in flight; try again later.
    #[error("too many bytes are waiting to be stored; try again later")]
    Overloaded,
    /// The disk is full; retryable, reads and acks go on.
    #[error("the disk of this broker is full; sending is refused until space returns")]
    DiskFull,
    /// The request is larger than one log frame.
    #[error("the request stores more bytes than fit at once")]
    TooLarge,
    /// The topic, or the message group, lives on another shard now.
    #[error("the message belongs to another broker now; try again")]
    Moved,
    /// The log failed; whether it was stored is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
    /// No broker that may store it can be reached; retryable.
    #[error("no broker that may take the message can be reached; it was not stored, try again later")]
    Unavailable,
}

/// How long a delivery is the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseWish {
    /// This long.
    Fixed(Duration),
    /// As long as the client lives, up to the group's consume timeout.
    AutoRenew,
}

/// What a receive may be answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// Messages.
    #[default]
    Messages,
    /// What an earlier receive with the same attempt id got, at once; nothing new. So a proxy asks brokers where an attempt may
    /// have been answered before, without getting two answers to one receive.
    RepeatOnly,
}

/// A wish for messages.
#[derive(Clone, Debug)]
pub struct Receive {
    /// Group; created when unknown, if the broker may.
    pub group: GroupName,
    /// Topic.
    pub topic: TopicName,
    /// Which messages.
    pub filter: Filter,
    /// Most messages, at least 1.
    pub batch: usize,
    /// How long they are the client's.
    pub lease: LeaseWish,
    /// How long to wait for the first.
    pub wait: Duration,
    /// Who asks.
    pub client: ClientId,
    /// Same id within its lease: the same messages again.
    pub attempt_id: Option<String>,
    /// With what it may be answered.
    pub ask: Ask,
}

/// Why nothing is delivered, beyond there being nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReceiveError {
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
    /// A filter where there is none: what a lite topic holds is for every subscriber.
    #[error("lite topics are received without a filter: subscribe to those that are wanted")]
    LiteFilter,
    /// Too many receives wait.
    #[error("too many receives are waiting; try again later")]
    Overloaded,
    /// The log failed, or a message could not be read.
    #[error("the shard cannot deliver: {0}")]
    ShardFailed(String),
    /// No broker that holds messages of the topic could be reached all the time.
    #[error("no broker of the topic can be reached; try again later")]
    Unavailable,
}

/// One message on its way out.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Text that names this delivery.
    pub handle: String,
    /// From 1.
    pub attempt: u32,
    /// Queue.
    pub queue: QueueId,
    /// Place in it.
    pub offset: QueueOffset,
    /// How long it is the client's, from now.
    pub invisible: Duration,
    /// Kind.
    pub message_type: MessageType,
    /// Message group, or empty.
    pub message_group: String,
    /// Content.
    pub message: StoredMessage,
    /// Set on dead letters.
    pub origin: Option<Origin>,
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Origin topic.
    pub topic: TopicName,
    /// Deliveries that failed.
    pub attempts: u32,
    /// In words.
    pub reason: String,
}

/// What became of an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// The message will not come back.
    Done,
    /// The handle is malformed, foreign, superseded or expired.
    InvalidHandle,
}

/// What became of a change of the invisible duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// Changed; another text for the same delivery.
    Changed {
        /// New text; the old one keeps working.
        handle: String,
    },
    /// The handle is malformed, foreign, superseded or expired.
    InvalidHandle,
}

/// Why a settlement did not happen, or may not have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SettleError {
    /// No such topic.
    #[error("topic {0} does not exist")]
    TopicNotFound(TopicName),
    /// No such group.
    #[error("consumer group {0} does not exist")]
    GroupNotFound(GroupName),
    /// Too much is in flight.
    #[error("too much is waiting to be stored; try again later")]
    Overloaded,
    /// The log failed; the outcome is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
    /// The broker of the message did not answer in time; the outcome is unknown.
    #[error("the broker of the message cannot be reached; try again later")]
    Unavailable,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its message becomes visible.
    Commit,
    /// Its message will never be seen.
    Rollback,
}

/// Why a transaction did not end as wished, or may not have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TransactionError {
    /// No such topic.
    #[error("topic {0} does not exist")]
    TopicNotFound(TopicName),
    /// No transaction of this id on this topic, or none any more.
    #[error("no transaction of this id is known on this topic")]
    Unknown,
    /// It ended the other way.
    #[error("the transaction was {} before", if *committed { "committed" } else { "rolled back" })]
    Opposite {
        /// Which way.
        committed: bool,
    },
    /// It was given up after its last check; only an operator can settle it.
    #[error("the transaction was given up after its last check; an operator can still settle it by hand")]
    Discarded,
    /// Too much is in flight.
    #[error("too much is waiting to be stored; try again later")]
    Overloaded,
    /// The log failed, or the message could not be read; the outcome is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
    /// A broker that may know the transaction did not answer in time; the outcome is unknown.
    #[error("a broker that may know the transaction cannot be reached; try again later")]
    Unavailable,
}

/// Why a message was not recalled, or may not have been.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecallError {
    /// No such topic.
    #[error("topic {0} does not exist")]
    TopicNotFound(TopicName),
    /// The topic holds no delayed messages.
    #[error("topic {0} is of a type without delayed messages")]
    WrongType(TopicName),
    /// The topic's permission forbids sending, and so recalling.
    #[error("topic {0} does not allow sending, and so no recalling")]
    NotWritable(TopicName),
    /// Not a handle that this broker made.
    #[error("the recall handle is malformed")]
    BadHandle,
    /// The handle is of another topic, or of a message that is not known any more.
    #[error("the topic has no such delayed message")]
    NotFound,
    /// Its time has come: it is delivered.
    #[error("the delivery time of the message has come; it can be recalled no longer")]
    TooLate,
    /// The log failed; the outcome is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
    /// The broker of the message did not answer in time; the outcome is unknown.
    #[error("the broker of the message cannot be reached; try again later")]
    Unavailable,
}

/// A topic with undecided transactions whose producers are to be asked now.
#[derive(Clone, Debug)]
pub struct TopicToCheck {
    /// The topic.
    pub topic: Arc<Topic>,
    /// Clients that sent such transactions, whose checks may be due or not. When they are many, some of them, other ones each time.
    pub senders: Vec<ClientId>,
}

/// An undecided transaction whose producer is to be asked.
#[derive(Clone, Debug)]
pub struct Check {
    /// Topic.
    pub topic: TopicName,
    /// Message id, and so the transaction's.
    pub transaction_id: Arc<str>,
    /// Client that sent it, cut to 255 bytes.
    pub producer: Arc<str>,
    /// Checks that reached a client so far.
    pub checks: u32,
    /// Message group, or empty.
    pub message_group: String,
    /// Content.
    pub message: StoredMessage,
    /// The topic's id: of two topics of one name, one after the other, this one.
    pub topic_id: TopicId,
    /// Which taking of the check this is; an older one is void.
    pub ticket: u64,
}

/// Which transactions to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionFilter {
    /// Undecided, being checked.
    #[default]
    Pending,
    /// Given up, waiting for an operator.
    Discarded,
    /// Both.
    All,
}

/// A transaction that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Topic.
    pub topic: TopicName,
    /// Message id, and so the transaction's.
    pub id: String,
    /// When its message was stored.
    pub stored_at: Timestamp,
    /// Client that sent it.
    pub producer: String,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Checks that reached a client.
    pub checks: u32,
    /// When it is checked again, or given up; `None` once it was given up.
    pub next_check: Option<Timestamp>,
    /// When it was given up.
    pub discarded_at: Option<Timestamp>,
}

/// Some transactions, and where the next ones begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionPage {
    /// By topic in order of creation, then by id.
    pub transactions: Vec<OpenTransaction>,
    /// To be given with the next request; empty at the end.
    pub next: String,
}

/// Bounds of a queue: first retained offset, and the one the next message will get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpan {
    /// Queue.
    pub queue: QueueId,
    /// First retained.
    pub first: QueueOffset,
    /// One past the last visible.
    pub next: QueueOffset,
}

/// What a group still has to do in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLag {
    /// Topic.
    pub topic: TopicName,
    /// Bounds of the queue.
    pub span: QueueSpan,
    /// Next offset that was never considered for delivery.
    pub next: QueueOffset,
    /// Deliverable now: never delivered, or due again.
    pub ready: u64,
    /// With clients.
    pub in_flight: u64,
    /// Waiting for their next attempt.
    pub waiting_retry: u64,
    /// When the oldest message that is not done was stored.
    pub oldest: Option<Timestamp>,
}

impl QueueLag {
    /// Everything that is not done.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.ready + self.in_flight + self.waiting_retry
    }
}

/// State of the broker in numbers, for status page and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Whether clients should come here. True also on a full disk, where only sends are refused.
    pub ready: bool,
    /// Why not, or why sends are refused although ready, in words; empty when all is well.
    pub reason: String,
    /// Topics.
    pub topics: usize,
    /// Groups.
    pub groups: usize,
    /// Live clients.
    pub members: usize,
    /// Lite topics below all parents.
    pub lite_topics: usize,
    /// Lite topics that clients subscribe to, counted for each client.
    pub lite_subscriptions: usize,
    /// Receives that wait.
    pub pollers: usize,
    /// Deliveries with clients.
    pub in_flight: u64,
}
