//! What an operator asks about dead letters, and what becomes of them.

use thiserror::Error;

use crate::broker::api::Origin;
use crate::model::message::{MessageType, StoredMessage};
use crate::model::name::TopicName;
use crate::model::position::QueueOffset;
use crate::model::time::Timestamp;

/// A dead letter, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Place in the dead-letter topic; names the letter.
    pub offset: QueueOffset,
    /// When it was moved there.
    pub moved_at: Timestamp,
    /// Kind.
    pub message_type: MessageType,
    /// Message group, or empty.
    pub message_group: String,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Where it came from; none when a client sent it to the dead-letter topic.
    pub origin: Option<Origin>,
    /// Content.
    pub message: StoredMessage,
}

/// Some dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// Oldest first.
    pub letters: Vec<Letter>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<QueueOffset>,
    /// Letters that are there altogether.
    pub waiting: u64,
}

/// What to do with dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Back to where they came from.
    Redrive,
    /// Away.
    Purge,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// At these places, as many as fit one unit; those without an outcome were not reached.
    These(Vec<QueueOffset>),
    /// From a place on, before another or before what comes later than now.
    Range {
        /// First.
        from: QueueOffset,
        /// One past the last.
        until: Option<QueueOffset>,
    },
}

/// What became of one dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterFate {
    /// It was sent back, or dropped.
    Done,
    /// It had left already, or never was there.
    Gone,
    /// It stays: a client sent it here, it came from nowhere else.
    NoOrigin,
    /// It stays: the topic it came from does not exist.
    OriginGone(TopicName),
    /// It stays: the lite topic it came from, below this topic, does not exist.
    LiteGone(TopicName),
    /// It stays: the topic it came from takes messages of another kind today.
    OtherKind(TopicName),
}

/// One dead letter and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterOutcome {
    /// Place in the dead-letter topic.
    pub offset: QueueOffset,
    /// Its message id; empty for one that was not read.
    pub message_id: String,
    /// What became of it.
    pub fate: LetterFate,
}

impl LetterOutcome {
    /// One that is not there.
    #[must_use]
    pub fn gone(offset: QueueOffset) -> Self {
        Self { offset, message_id: String::new(), fate: LetterFate::Gone }
    }
}

/// What became of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LettersSettled {
    /// One each.
    pub outcomes: Vec<LetterOutcome>,
    /// Of a range: where to go on; `None` when it is done.
    pub next: Option<QueueOffset>,
    /// Of a range: its end, also when the caller left it open.
    pub until: QueueOffset,
}

/// Why nothing was done about dead letters.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LetterError {
    /// No such group, and no dead letters of one.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The bound on single letters that have left is reached.
    #[error("{0} later letters have left already: settle the oldest ones first")]
    TooMany(usize),
    /// Too much is in flight.
    #[error("too much is waiting to be stored; try again later")]
    Overloaded,
    /// A letter cannot be read.
    #[error("a dead letter cannot be read: {0}")]
    Unreadable(String),
    /// The log failed; the outcome is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
}
