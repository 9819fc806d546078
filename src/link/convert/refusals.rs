//! Why a call was refused, as the wire says it, and as each verb does.

use crate::broker::api::{
    LiteError, OffsetError, PublishError, RecallError, ReceiveError, SettleError, TransactionError,
};
use crate::link::convert::words::{group_in, group_out, topic_in, topic_out, topic_type_in, topic_type_out};
use crate::link::convert::words::{message_type_in, message_type_out};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::wire::broker as wire;
use crate::wire::broker::Reason;

/// A verb's own errors, as they travel. What another version said and this one does not know is `None`: then nothing is known
/// but that the call was refused.
pub trait Refused: Sized {
    /// On the wire.
    fn out(self) -> wire::Refusal;
    /// From the wire.
    fn back(refusal: wire::Refusal) -> Option<Self>;
    /// A topic or a group that is not there, or not yet.
    fn is_not_found(&self) -> bool;
    /// Too much is in flight.
    fn overloaded() -> Self;
}

fn plain(reason: Reason) -> wire::Refusal {
    wire::Refusal { reason: reason.into(), ..wire::Refusal::default() }
}

fn of_topic(reason: Reason, topic: &TopicName) -> wire::Refusal {
    wire::Refusal { topic: Some(topic_out(topic)), ..plain(reason) }
}

fn of_group(reason: Reason, group: &GroupName) -> wire::Refusal {
    wire::Refusal { group: Some(group_out(group)), ..plain(reason) }
}

fn worded(reason: Reason, text: String) -> wire::Refusal {
    wire::Refusal { text, ..plain(reason) }
}

/// Too much is in flight at the broker, whatever the verb.
#[must_use]
pub fn overloaded() -> wire::Refusal {
    plain(Reason::Overloaded)
}

/// A refusal that no verb has a word for.
#[must_use]
pub fn malformed(text: String) -> wire::Refusal {
    worded(Reason::Malformed, text)
}

/// Nothing was done: the caller is gone, or its time was over.
#[must_use]
pub fn not_done() -> wire::Refusal {
    plain(Reason::NotDone)
}

/// The parts of a refusal, each asked for by those who need it.
struct Parts {
    reason: Reason,
    topic: Option<wire::Name>,
    group: Option<wire::Name>,
    text: String,
    numbers: Vec<u64>,
}

impl Parts {
    fn of(refusal: wire::Refusal) -> Self {
        let wire::Refusal { reason, topic, group, text, numbers } = refusal;
        Self { reason: Reason::try_from(reason).unwrap_or_default(), topic, group, text, numbers }
    }

    fn topic(self) -> Option<TopicName> {
        topic_in(self.topic).ok()
    }

    fn group(self) -> Option<GroupName> {
        group_in(self.group).ok()
    }

    fn number(&self, index: usize) -> Option<u64> {
        self.numbers.get(index).copied()
    }

    fn small(&self, index: usize) -> Option<u32> {
        self.number(index).and_then(|number| u32::try_from(number).ok())
    }

    fn count(&self, index: usize) -> Option<usize> {
        self.number(index).and_then(|number| usize::try_from(number).ok())
    }
}

impl Refused for PublishError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::NotWritable(topic) => of_topic(Reason::NotWritable, &topic),
            Self::TypeConflict { topic, expected, found, index } => wire::Refusal {
                numbers: vec![
                    u64::from(topic_type_out(expected) as u32),
                    u64::from(message_type_out(found) as u32),
                    index as u64,
                ],
                ..of_topic(Reason::TypeConflict, &topic)
            },
            Self::LiteTopicQuota { topic, most } => {
                wire::Refusal { numbers: vec![most as u64], ..of_topic(Reason::LiteTopicQuota, &topic) }
            }
            Self::Overloaded => plain(Reason::Overloaded),
            Self::DiskFull => plain(Reason::DiskFull),
            Self::TooLarge => plain(Reason::TooLarge),
            Self::Moved => plain(Reason::Moved),
            Self::ShardFailed => plain(Reason::ShardFailed),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::Moved => Self::Moved,
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::NotWritable => Self::NotWritable(parts.topic()?),
            Reason::TypeConflict => Self::TypeConflict {
                expected: topic_type_in(i32::try_from(parts.number(0)?).ok()?).ok()?,
                found: message_type_in(i32::try_from(parts.number(1)?).ok()?).ok()?,
                index: parts.count(2)?,
                topic: parts.topic()?,
            },
            Reason::LiteTopicQuota => Self::LiteTopicQuota { most: parts.count(0)?, topic: parts.topic()? },
            Reason::Overloaded => Self::Overloaded,
            Reason::DiskFull => Self::DiskFull,
            Reason::TooLarge => Self::TooLarge,
            Reason::ShardFailed => Self::ShardFailed,
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        // A broker that is behind may not know yet that the message belongs to it.
        matches!(self, Self::TopicNotFound(_) | Self::Moved)
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

impl Refused for ReceiveError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::GroupNotFound(group) => of_group(Reason::GroupNotFound, &group),
            Self::NotReadable(topic) => of_topic(Reason::NotReadable, &topic),
            Self::GroupDisabled(group) => of_group(Reason::GroupDisabled, &group),
            Self::LiteFilter => plain(Reason::LiteFilter),
            Self::Overloaded => plain(Reason::Overloaded),
            Self::ShardFailed(text) => worded(Reason::ShardFailed, text),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::GroupNotFound => Self::GroupNotFound(parts.group()?),
            Reason::NotReadable => Self::NotReadable(parts.topic()?),
            Reason::GroupDisabled => Self::GroupDisabled(parts.group()?),
            Reason::LiteFilter => Self::LiteFilter,
            Reason::Overloaded => Self::Overloaded,
            Reason::ShardFailed => Self::ShardFailed(parts.text),
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::TopicNotFound(_) | Self::GroupNotFound(_))
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

impl Refused for SettleError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::GroupNotFound(group) => of_group(Reason::GroupNotFound, &group),
            Self::Overloaded => plain(Reason::Overloaded),
            Self::ShardFailed => plain(Reason::ShardFailed),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::GroupNotFound => Self::GroupNotFound(parts.group()?),
            Reason::Overloaded => Self::Overloaded,
            Reason::ShardFailed => Self::ShardFailed,
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::TopicNotFound(_) | Self::GroupNotFound(_))
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

impl Refused for RecallError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::WrongType(topic) => of_topic(Reason::WrongType, &topic),
            Self::NotWritable(topic) => of_topic(Reason::NotWritable, &topic),
            Self::BadHandle => plain(Reason::BadHandle),
            Self::NotFound => plain(Reason::NotFound),
            Self::TooLate => plain(Reason::TooLate),
            Self::ShardFailed => plain(Reason::ShardFailed),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::WrongType => Self::WrongType(parts.topic()?),
            Reason::NotWritable => Self::NotWritable(parts.topic()?),
            Reason::BadHandle => Self::BadHandle,
            Reason::NotFound => Self::NotFound,
            Reason::TooLate => Self::TooLate,
            Reason::ShardFailed | Reason::Overloaded => Self::ShardFailed,
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::TopicNotFound(_))
    }

    /// Recalls have no word of their own for it; the outcome is the same: try again.
    fn overloaded() -> Self {
        Self::ShardFailed
    }
}

impl Refused for TransactionError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::Unknown => plain(Reason::UnknownTransaction),
            Self::Opposite { committed } => {
                wire::Refusal { numbers: vec![u64::from(committed)], ..plain(Reason::Opposite) }
            }
            Self::Discarded => plain(Reason::Discarded),
            Self::Overloaded => plain(Reason::Overloaded),
            Self::ShardFailed => plain(Reason::ShardFailed),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::UnknownTransaction => Self::Unknown,
            Reason::Opposite => Self::Opposite { committed: parts.number(0)? != 0 },
            Reason::Discarded => Self::Discarded,
            Reason::Overloaded => Self::Overloaded,
            Reason::ShardFailed => Self::ShardFailed,
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::TopicNotFound(_))
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

impl Refused for OffsetError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::GroupNotFound(group) => of_group(Reason::GroupNotFound, &group),
            Self::NotReadable(topic) => of_topic(Reason::NotReadable, &topic),
            Self::GroupDisabled(group) => of_group(Reason::GroupDisabled, &group),
            Self::UnknownQueue { topic, queue, queues } => wire::Refusal {
                numbers: vec![queue.get().into(), queues.into()],
                ..of_topic(Reason::UnknownQueue, &topic)
            },
            Self::WhichQueue { topic, queues } => {
                wire::Refusal { numbers: vec![queues.into()], ..of_topic(Reason::WhichQueue, &topic) }
            }
            Self::OutOfRange { topic, queue, offset, first, next } => wire::Refusal {
                numbers: vec![queue.get().into(), offset.get(), first.get(), next.get()],
                ..of_topic(Reason::OutOfRange, &topic)
            },
            Self::UnknownBroker { .. } => malformed(self.to_string()),
            Self::NoPosition { group, topic, queue } => wire::Refusal {
                group: Some(group_out(&group)),
                numbers: vec![queue.get().into()],
                ..of_topic(Reason::NoPosition, &topic)
            },
            Self::Overloaded => plain(Reason::Overloaded),
            Self::ShardFailed(text) => worded(Reason::ShardFailed, text),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::GroupNotFound => Self::GroupNotFound(parts.group()?),
            Reason::NotReadable => Self::NotReadable(parts.topic()?),
            Reason::GroupDisabled => Self::GroupDisabled(parts.group()?),
            Reason::UnknownQueue => {
                Self::UnknownQueue { queue: QueueId(parts.small(0)?), queues: parts.small(1)?, topic: parts.topic()? }
            }
            Reason::WhichQueue => Self::WhichQueue { queues: parts.small(0)?, topic: parts.topic()? },
            Reason::OutOfRange => Self::OutOfRange {
                queue: QueueId(parts.small(0)?),
                offset: QueueOffset(parts.number(1)?),
                first: QueueOffset(parts.number(2)?),
                next: QueueOffset(parts.number(3)?),
                topic: parts.topic()?,
            },
            Reason::NoPosition => {
                let queue = QueueId(parts.small(0)?);
                let group = group_in(parts.group.clone()).ok()?;
                Self::NoPosition { group, queue, topic: parts.topic()? }
            }
            Reason::Overloaded => Self::Overloaded,
            Reason::ShardFailed => Self::ShardFailed(parts.text),
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::TopicNotFound(_) | Self::GroupNotFound(_))
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

impl Refused for LiteError {
    fn out(self) -> wire::Refusal {
        match self {
            Self::TopicNotFound(topic) => of_topic(Reason::TopicNotFound, &topic),
            Self::GroupNotFound(group) => of_group(Reason::GroupNotFound, &group),
            Self::NotLite(topic) => of_topic(Reason::WrongType, &topic),
            Self::NotReadable(topic) => of_topic(Reason::NotReadable, &topic),
            Self::GroupDisabled(group) => of_group(Reason::GroupDisabled, &group),
            Self::ClientQuota(most) => wire::Refusal { numbers: vec![most as u64], ..plain(Reason::ClientQuota) },
            Self::BrokerQuota => plain(Reason::BrokerQuota),
            Self::Stale => plain(Reason::Stale),
            Self::Overloaded => plain(Reason::Overloaded),
            Self::ShardFailed => plain(Reason::ShardFailed),
            // The caller's own word, no broker's.
            Self::Unavailable => not_done(),
        }
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        let parts = Parts::of(refusal);
        Some(match parts.reason {
            Reason::TopicNotFound => Self::TopicNotFound(parts.topic()?),
            Reason::GroupNotFound => Self::GroupNotFound(parts.group()?),
            Reason::WrongType => Self::NotLite(parts.topic()?),
            Reason::NotReadable => Self::NotReadable(parts.topic()?),
            Reason::GroupDisabled => Self::GroupDisabled(parts.group()?),
            Reason::ClientQuota => Self::ClientQuota(parts.count(0)?),
            Reason::BrokerQuota => Self::BrokerQuota,
            Reason::Stale => Self::Stale,
            Reason::Overloaded => Self::Overloaded,
            Reason::ShardFailed => Self::ShardFailed,
            _ => return None,
        })
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::TopicNotFound(_) | Self::GroupNotFound(_))
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

/// Of calls that nobody refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Never {
    /// Too much is in flight.
    #[error("too much is waiting; try again later")]
    Overloaded,
}

impl Refused for Never {
    fn out(self) -> wire::Refusal {
        plain(Reason::Overloaded)
    }

    fn back(refusal: wire::Refusal) -> Option<Self> {
        (Parts::of(refusal).reason == Reason::Overloaded).then_some(Self::Overloaded)
    }

    fn is_not_found(&self) -> bool {
        false
    }

    fn overloaded() -> Self {
        Self::Overloaded
    }
}

/// Whether nothing was done for want of time.
#[must_use]
pub fn is_not_done(refusal: &wire::Refusal) -> bool {
    refusal.reason == i32::from(Reason::NotDone)
}
