//! Names, times, filters: what several calls are made of.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::model::cluster::ClusterId;
use crate::model::filter::Filter;
use crate::model::message::MessageType;
use crate::model::name::{GroupName, TopicName};
use crate::model::sql::Sql;
use crate::model::tag::TagFilter;
use crate::model::topic::TopicType;
use crate::wire::broker as wire;

/// What arrived means nothing here: something is missing, or it is of another version.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("not understood: {0}")]
pub struct Malformed(pub String);

/// Something that must be there.
///
/// # Errors
/// It is not.
pub fn wanted<T>(value: Option<T>, what: &'static str) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed(format!("{what} is missing")))
}

/// A topic's name.
#[must_use]
pub fn topic_out(name: &TopicName) -> wire::Name {
    wire::Name { namespace: name.namespace().to_owned(), name: name.name().to_owned() }
}

/// A group's name.
#[must_use]
pub fn group_out(name: &GroupName) -> wire::Name {
    wire::Name { namespace: name.namespace().to_owned(), name: name.name().to_owned() }
}

/// A topic's name. The other end has checked it.
///
/// # Errors
/// There is none.
pub fn topic_in(name: Option<wire::Name>) -> Result<TopicName, Malformed> {
    wanted(name, "the topic").map(|name| TopicName::trusted(&name.namespace, &name.name))
}

/// A group's name. The other end has checked it.
///
/// # Errors
/// There is none.
pub fn group_in(name: Option<wire::Name>) -> Result<GroupName, Malformed> {
    wanted(name, "the group").map(|name| GroupName::trusted(&name.namespace, &name.name))
}

/// Whole milliseconds; what is longer than they can hold is as long as they can hold.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number of things as the wire carries it.
#[must_use]
pub fn count_out(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The id of a cluster; none when it is not known.
#[must_use]
pub fn cluster_out(cluster: Option<ClusterId>) -> bytes::Bytes {
    cluster.map(|cluster| bytes::Bytes::copy_from_slice(&cluster.0.to_be_bytes())).unwrap_or_default()
}

/// The id of a cluster; none when it is not known.
///
/// # Errors
/// It has another length.
pub fn cluster_in(bytes: &[u8]) -> Result<Option<ClusterId>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let bytes = bytes.try_into().map_err(|_| Malformed("a cluster id has 16 bytes".to_owned()))?;
    Ok(Some(ClusterId(u128::from_be_bytes(bytes))))
}

/// A filter.
#[must_use]
pub fn filter_out(filter: &Filter) -> wire::Filter {
    let kind = match filter {
        Filter::Tags(TagFilter::All) => None,
        Filter::Tags(TagFilter::AnyOf(tags)) => Some(wire::filter::Kind::Tags(wire::Tags { any_of: tags.clone() })),
        Filter::Sql(sql) => Some(wire::filter::Kind::Sql(sql.text().to_owned())),
    };
    wire::Filter { kind }
}

/// A filter.
///
/// # Errors
/// An expression that this version cannot read.
pub fn filter_in(filter: Option<wire::Filter>) -> Result<Filter, Malformed> {
    match filter.and_then(|filter| filter.kind) {
        None => Ok(Filter::ALL),
        Some(wire::filter::Kind::Tags(wire::Tags { any_of: mut tags })) => {
            tags.sort_unstable();
            tags.dedup();
            Ok(Filter::Tags(TagFilter::AnyOf(tags)))
        }
        Some(wire::filter::Kind::Sql(text)) => match Sql::parse(&text) {
            Ok(sql) => Ok(Filter::Sql(Arc::new(sql))),
            Err(error) => Err(Malformed(format!("the expression: {error}"))),
        },
    }
}

/// A kind of messages.
#[must_use]
pub fn message_type_out(message_type: MessageType) -> wire::MessageType {
    match message_type {
        MessageType::Normal => wire::MessageType::Normal,
        MessageType::Fifo => wire::MessageType::Fifo,
        MessageType::Delay => wire::MessageType::Delay,
        MessageType::Transaction => wire::MessageType::Transaction,
        MessageType::Priority => wire::MessageType::Priority,
        MessageType::Lite => wire::MessageType::Lite,
    }
}

/// A kind of messages.
///
/// # Errors
/// One of another version.
pub fn message_type_in(number: i32) -> Result<MessageType, Malformed> {
    match wire::MessageType::try_from(number) {
        Ok(wire::MessageType::Normal) => Ok(MessageType::Normal),
        Ok(wire::MessageType::Fifo) => Ok(MessageType::Fifo),
        Ok(wire::MessageType::Delay) => Ok(MessageType::Delay),
        Ok(wire::MessageType::Transaction) => Ok(MessageType::Transaction),
        Ok(wire::MessageType::Priority) => Ok(MessageType::Priority),
        Ok(wire::MessageType::Lite) => Ok(MessageType::Lite),
        Err(_) => Err(Malformed(format!("message type {number}"))),
    }
}

/// A kind of topics.
#[must_use]
pub fn topic_type_out(topic_type: TopicType) -> wire::TopicType {
    match topic_type {
        TopicType::Normal => wire::TopicType::Normal,
        TopicType::Fifo => wire::TopicType::Fifo,
        TopicType::Delay => wire::TopicType::Delay,
        TopicType::Transaction => wire::TopicType::Transaction,
        TopicType::Priority => wire::TopicType::Priority,
        TopicType::Lite => wire::TopicType::Lite,
        TopicType::Mixed => wire::TopicType::Mixed,
    }
}

/// A kind of topics.
///
/// # Errors
/// One of another version.
pub fn topic_type_in(number: i32) -> Result<TopicType, Malformed> {
    match wire::TopicType::try_from(number) {
        Ok(wire::TopicType::Normal) => Ok(TopicType::Normal),
        Ok(wire::TopicType::Fifo) => Ok(TopicType::Fifo),
        Ok(wire::TopicType::Delay) => Ok(TopicType::Delay),
        Ok(wire::TopicType::Transaction) => Ok(TopicType::Transaction),
        Ok(wire::TopicType::Priority) => Ok(TopicType::Priority),
        Ok(wire::TopicType::Lite) => Ok(TopicType::Lite),
        Ok(wire::TopicType::Mixed) => Ok(TopicType::Mixed),
        Err(_) => Err(Malformed(format!("topic type {number}"))),
    }
}
