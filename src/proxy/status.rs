//! Every refusal and every broker error as a status code of the protocol (rules C3, C4, C9, C26). No wildcard arm: a new
//! error has to be given its code here.

use std::borrow::Cow;

use crate::broker::api::{
    LiteError, OffsetError, PublishError, RecallError, ReceiveError, SettleError, TransactionError,
};
use crate::model::name::{NameError, TopicName};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

/// Message of every OK status.
const OK_TEXT: &str = "OK";

/// Why a request was not done: code, and words for the user of the client. Carries no internals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client's program sees.
    pub code: Code,
    /// What its user sees.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal in words.
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into() }
    }

    /// Same words whichever RPC meets an unknown topic (rule C4): existing tools look for them.
    pub fn unknown_topic(topic: &TopicName) -> Self {
        let text = format!("CODE: 17  DESC: No topic route info in name server for the topic: {topic}");
        Self::new(Code::TopicNotFound, text)
    }

    /// A topic name broke a rule.
    pub fn illegal_topic(error: &NameError) -> Self {
        Self::new(Code::IllegalTopic, error.to_string())
    }

    /// A group name broke a rule.
    pub fn illegal_group(error: &NameError) -> Self {
        Self::new(Code::IllegalConsumerGroup, error.to_string())
    }

    /// Something that this version does not do yet.
    pub fn not_implemented(what: &'static str) -> Self {
        Self::new(Code::NotImplemented, format!("{what} is not implemented yet"))
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            PublishError::NotWritable(_) => Code::Forbidden,
            PublishError::TypeConflict { .. } => Code::MessagePropertyConflictWithType,
            PublishError::LiteTopicQuota { .. } => Code::LiteTopicQuotaExceeded,
            // Surely not stored, and sent again it finds its place.
            PublishError::Overloaded | PublishError::Moved => Code::TooManyRequests,
            // Retryable, and on another broker: what the family says when a broker cannot take messages for now.
            PublishError::DiskFull | PublishError::Unavailable => Code::HaNotAvailable,
            PublishError::TooLarge => Code::PayloadTooLarge,
            // The one code that says "it may have been stored".
            PublishError::ShardFailed => Code::MasterPersistenceTimeout,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReceiveError> for Refusal {
    fn from(error: ReceiveError) -> Self {
        let code = match &error {
            ReceiveError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            ReceiveError::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            ReceiveError::NotReadable(_) | ReceiveError::GroupDisabled(_) => Code::Forbidden,
            ReceiveError::LiteFilter => Code::IllegalFilterExpression,
            ReceiveError::Overloaded => Code::TooManyRequests,
            ReceiveError::Unavailable => Code::HaNotAvailable,
            ReceiveError::ShardFailed(cause) => {
                tracing::warn!(%cause, "a receive failed");
                return Self::new(Code::InternalServerError, "the shard cannot deliver; its log says why");
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<LiteError> for Refusal {
    fn from(error: LiteError) -> Self {
        let code = match &error {
            LiteError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            LiteError::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            LiteError::NotLite(_) => Code::MessagePropertyConflictWithType,
            LiteError::NotReadable(_) | LiteError::GroupDisabled(_) => Code::Forbidden,
            LiteError::ClientQuota(_) | LiteError::BrokerQuota => Code::LiteSubscriptionQuotaExceeded,
            LiteError::Stale => Code::PreconditionFailed,
            LiteError::Overloaded => Code::TooManyRequests,
            LiteError::ShardFailed => Code::InternalServerError,
            LiteError::Unavailable => Code::HaNotAvailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SettleError> for Refusal {
    fn from(error: SettleError) -> Self {
        let code = match &error {
            SettleError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            SettleError::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            SettleError::Overloaded => Code::TooManyRequests,
            SettleError::ShardFailed => Code::InternalServerError,
            // Not the code of a bad handle: clients would take the message for lost, where this one makes them ask again.
            SettleError::Unavailable => Code::HaNotAvailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TransactionError> for Refusal {
    fn from(error: TransactionError) -> Self {
        let code = match &error {
            TransactionError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            TransactionError::Unknown => Code::InvalidTransactionId,
            TransactionError::Opposite { .. } | TransactionError::Discarded => Code::PreconditionFailed,
            TransactionError::Overloaded => Code::TooManyRequests,
            TransactionError::ShardFailed => Code::InternalServerError,
            TransactionError::Unavailable => Code::HaNotAvailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<RecallError> for Refusal {
    fn from(error: RecallError) -> Self {
        let code = match &error {
            RecallError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            RecallError::WrongType(_) => Code::MessagePropertyConflictWithType,
            RecallError::NotWritable(_) => Code::Forbidden,
            RecallError::BadHandle => Code::BadRequest,
            RecallError::NotFound => Code::NotFound,
            RecallError::TooLate => Code::PreconditionFailed,
            RecallError::ShardFailed => Code::InternalServerError,
            RecallError::Unavailable => Code::HaNotAvailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<OffsetError> for Refusal {
    fn from(error: OffsetError) -> Self {
        let code = match &error {
            OffsetError::TopicNotFound(topic) => return Self::unknown_topic(topic),
            OffsetError::GroupNotFound(_) => Code::ConsumerGroupNotFound,
            OffsetError::NotReadable(_) | OffsetError::GroupDisabled(_) => Code::Forbidden,
            OffsetError::UnknownQueue { .. } | OffsetError::WhichQueue { .. } | OffsetError::UnknownBroker { .. } => {
                Code::BadRequest
            }
            OffsetError::OutOfRange { .. } => Code::IllegalOffset,
            OffsetError::NoPosition { .. } => Code::OffsetNotFound,
            OffsetError::Overloaded => Code::TooManyRequests,
            OffsetError::Unavailable => Code::HaNotAvailable,
            OffsetError::ShardFailed(cause) => {
                tracing::warn!(%cause, "a request about offsets failed");
                return Self::new(Code::InternalServerError, "the shard cannot answer; its log says why");
            }
        };
        Self::new(code, error.to_string())
    }
}
/// A status of the protocol. `old_codes_only` is set for clients that die of codes younger than 2023 (rule C26).
pub fn status(code: Code, text: impl Into<String>, old_codes_only: bool) -> v2::Status {
    let code = if old_codes_only { nearest_old_code(code) } else { code };
    v2::Status { code: code as i32, message: text.into() }
}

/// The OK of every response.
pub fn ok() -> v2::Status {
    v2::Status { code: Code::Ok as i32, message: OK_TEXT.to_owned() }
}

fn nearest_old_code(code: Code) -> Code {
    match code {
        Code::IllegalOffset | Code::IllegalLiteTopic | Code::InvalidClientProperties => Code::BadRequest,
        Code::OffsetNotFound => Code::NotFound,
        Code::MessageBodyEmpty => Code::MessageBodyTooLarge,
        Code::LiteTopicQuotaExceeded | Code::LiteSubscriptionQuotaExceeded => Code::TooManyRequests,
        old => old,
    }
}

/// The code that all share, or `MULTIPLE_RESULTS`. `None` when there are none.
pub fn common_code(codes: impl IntoIterator<Item = Code>) -> Option<Code> {
    let mut codes = codes.into_iter();
    let first = codes.next()?;
    Some(if codes.all(|code| code == first) { first } else { Code::MultipleResults })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::MessageType;
    use crate::model::name::GroupName;
    use crate::model::position::{QueueId, QueueOffset};
    use crate::model::topic::TopicType;

    fn topic() -> TopicName {
        TopicName::trusted("", "orders")
    }

    #[test]
    fn an_unknown_topic_reads_as_in_the_reference_system() {
        let refusal = Refusal::from(PublishError::TopicNotFound(topic()));
        assert_eq!(refusal.code, Code::TopicNotFound);
        assert_eq!(refusal.text, "CODE: 17  DESC: No topic route info in name server for the topic: orders");
        assert_eq!(Refusal::from(ReceiveError::TopicNotFound(topic())), refusal);
        assert_eq!(Refusal::from(SettleError::TopicNotFound(topic())), refusal);
        assert_eq!(Refusal::from(OffsetError::TopicNotFound(topic())), refusal);
    }

    #[test]
    fn every_error_has_the_code_of_the_table() {
        let conflict = PublishError::TypeConflict {
            topic: topic(),
            expected: TopicType::Fifo,
            found: MessageType::Normal,
            index: 0,
        };
        let publish = [
            (PublishError::NotWritable(topic()), 40300),
            (conflict, 40014),
            (PublishError::LiteTopicQuota { topic: topic(), most: 5 }, 42901),
            (PublishError::Overloaded, 42900),
            (PublishError::Moved, 42900),
            (PublishError::DiskFull, 50002),
            (PublishError::TooLarge, 41300),
            (PublishError::ShardFailed, 50401),
            (PublishError::Unavailable, 50002),
        ];
        for (error, code) in publish {
            assert_eq!(Refusal::from(error.clone()).code as i32, code, "{error:?}");
        }
        let group = GroupName::trusted("", "g");
        let receive = [
            (ReceiveError::GroupNotFound(group.clone()), 40403),
            (ReceiveError::NotReadable(topic()), 40300),
            (ReceiveError::GroupDisabled(group.clone()), 40300),
            (ReceiveError::LiteFilter, 40010),
            (ReceiveError::Overloaded, 42900),
            (ReceiveError::ShardFailed("secret path".into()), 50001),
            (ReceiveError::Unavailable, 50002),
        ];
        for (error, code) in receive {
            let refusal = Refusal::from(error.clone());
            assert_eq!(refusal.code as i32, code, "{error:?}");
            assert!(!refusal.text.contains("secret"), "internals must not leak");
        }
        let lite = [
            (LiteError::TopicNotFound(topic()), 40402),
            (LiteError::GroupNotFound(group.clone()), 40403),
            (LiteError::NotLite(topic()), 40014),
            (LiteError::NotReadable(topic()), 40300),
            (LiteError::GroupDisabled(group.clone()), 40300),
            (LiteError::ClientQuota(2_000), 42902),
            (LiteError::BrokerQuota, 42902),
            (LiteError::Stale, 42800),
            (LiteError::Overloaded, 42900),
            (LiteError::ShardFailed, 50001),
            (LiteError::Unavailable, 50002),
        ];
        for (error, code) in lite {
            assert_eq!(Refusal::from(error.clone()).code as i32, code, "{error:?}");
        }
        let transaction = [
            (TransactionError::Unknown, 40008),
            (TransactionError::Opposite { committed: true }, 42800),
            (TransactionError::Discarded, 42800),
            (TransactionError::Overloaded, 42900),
            (TransactionError::ShardFailed, 50001),
            (TransactionError::Unavailable, 50002),
        ];
        for (error, code) in transaction {
            assert_eq!(Refusal::from(error.clone()).code as i32, code, "{error:?}");
        }
        let (queue, offset) = (QueueId(9), QueueOffset(9));
        let (first, next) = (QueueOffset(1), QueueOffset(5));
        let offsets = [
            (OffsetError::GroupNotFound(group.clone()), 40403),
            (OffsetError::NotReadable(topic()), 40300),
            (OffsetError::GroupDisabled(group.clone()), 40300),
            (OffsetError::UnknownQueue { topic: topic(), queue, queues: 4 }, 40000),
            (OffsetError::WhichQueue { topic: topic(), queues: 4 }, 40000),
            (OffsetError::OutOfRange { topic: topic(), queue, offset, first, next }, 40019),
            (OffsetError::NoPosition { group: group.clone(), topic: topic(), queue }, 40404),
            (OffsetError::Overloaded, 42900),
            (OffsetError::ShardFailed("secret path".into()), 50001),
            (OffsetError::UnknownBroker { topic: topic(), broker: "b".into() }, 40000),
            (OffsetError::Unavailable, 50002),
        ];
        for (error, code) in offsets {
            let refusal = Refusal::from(error.clone());
            assert_eq!(refusal.code as i32, code, "{error:?}");
            assert!(!refusal.text.contains("secret"), "internals must not leak");
        }
        let settle = [
            (SettleError::GroupNotFound(group), 40403),
            (SettleError::Overloaded, 42900),
            (SettleError::ShardFailed, 50001),
            (SettleError::Unavailable, 50002),
        ];
        let recall = [
            (RecallError::WrongType(topic()), 40014),
            (RecallError::NotWritable(topic()), 40300),
            (RecallError::BadHandle, 40000),
            (RecallError::NotFound, 40400),
            (RecallError::TooLate, 42800),
            (RecallError::ShardFailed, 50001),
            (RecallError::Unavailable, 50002),
        ];
        for (error, code) in recall {
            assert_eq!(Refusal::from(error.clone()).code as i32, code, "{error:?}");
        }
        for (error, code) in settle {
            assert_eq!(Refusal::from(error.clone()).code as i32, code, "{error:?}");
        }
    }

    #[test]
    fn clients_that_die_of_young_codes_get_older_ones() {
        let pairs = [
            (40019, 40000),
            (40020, 40000),
            (40021, 40000),
            (40404, 40400),
            (41302, 41301),
            (42901, 42900),
            (42902, 42900),
            (40013, 40013),
        ];
        for (young, old) in pairs {
            let code = Code::try_from(young).unwrap();
            assert_eq!(status(code, "", true).code, old);
            assert_eq!(status(code, "", false).code, young);
        }
    }

    #[test]
    fn differing_entries_have_no_common_code() {
        assert_eq!(common_code([]), None);
        assert_eq!(common_code([Code::Ok, Code::Ok]), Some(Code::Ok));
        assert_eq!(common_code([Code::Ok, Code::InvalidReceiptHandle]), Some(Code::MultipleResults));
    }
}
