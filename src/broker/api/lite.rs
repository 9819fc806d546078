//! The part of the broker's words that is about lite topics.

use std::collections::BTreeSet;
use std::sync::Arc;

use thiserror::Error;

use crate::broker::api::ClientId;
use crate::broker::delivery::lite::{LiteAction, LiteStart};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::QueueOffset;

/// A client's wish about lite topics.
#[derive(Clone, Debug)]
pub struct LiteSync {
    /// Who.
    pub client: ClientId,
    /// Group; created when unknown, if the broker may.
    pub group: GroupName,
    /// Parent.
    pub topic: TopicName,
    /// What.
    pub action: LiteAction,
    /// Which lite topics.
    pub names: BTreeSet<String>,
    /// Grows with every wish of a client, if it is given at all.
    pub version: Option<i64>,
    /// Where the group begins on those it has no position on.
    pub start: Option<LiteStart>,
}

/// A client that lost a lite topic to a newer subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteEviction {
    /// Who is to be told.
    pub client: ClientId,
    /// What it lost.
    pub lite_topic: Arc<str>,
}

/// Why subscriptions did not change.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LiteError {
    /// No such topic.
    #[error("topic {0} does not exist")]
    TopicNotFound(TopicName),
    /// No such group, and none may be created.
    #[error("consumer group {0} does not exist")]
    GroupNotFound(GroupName),
    /// A topic of another type.
    #[error("topic {0} is not of type LITE: it has no lite topics")]
    NotLite(TopicName),
    /// The topic's permission forbids receiving.
    #[error("topic {0} does not allow receiving")]
    NotReadable(TopicName),
    /// The group is switched off.
    #[error("consumer group {0} is disabled")]
    GroupDisabled(GroupName),
    /// More than one client may have.
    #[error("a client may subscribe to {0} lite topics")]
    ClientQuota(usize),
    /// More than this broker may have.
    #[error("this broker has no room for more lite subscriptions")]
    BrokerQuota,
    /// Overtaken.
    #[error("a newer version of this client's subscriptions is known already")]
    Stale,
    /// Too much is in flight.
    #[error("too much is waiting to be stored; try again later")]
    Overloaded,
    /// The log failed.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
    /// The broker of the topic did not answer in time; the outcome is unknown.
    #[error("the broker of the topic cannot be reached; try again later")]
    Unavailable,
}

/// Which lite topics to list.
#[derive(Clone, Debug)]
pub struct LiteListing {
    /// Parent.
    pub topic: TopicName,
    /// Only names that begin so.
    pub prefix: String,
    /// Only names behind this one.
    pub after: String,
    /// Most of a page; at most 1 000.
    pub limit: usize,
}

/// A lite topic in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteView {
    /// Its name.
    pub name: Arc<str>,
    /// First retained offset.
    pub first: QueueOffset,
    /// One past the last visible.
    pub next: QueueOffset,
    /// Groups with a position on it.
    pub groups: usize,
    /// Clients that subscribe to it.
    pub subscribers: usize,
}
