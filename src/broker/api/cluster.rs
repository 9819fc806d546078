//! What a broker in a cluster is given, and whom it asks: see [`Setup`].

use std::fmt;

use futures::future::BoxFuture;
use thiserror::Error;

use crate::model::cluster::{ClusterId, ReceiptKey, Revision};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::ShardId;
use crate::model::settings::CatalogError;

/// By which keys handles are made, and who decides about topics and groups.
#[derive(Clone, Debug)]
pub enum Setup {
    /// The broker is alone: its catalogue is its own.
    Alone {
        /// Key of its handles.
        receipt_key: [u8; 32],
    },
    /// The broker is one of several.
    Cluster(ClusterSetup),
}

impl From<[u8; 32]> for Setup {
    fn from(receipt_key: [u8; 32]) -> Self {
        Self::Alone { receipt_key }
    }
}

impl From<ClusterSetup> for Setup {
    fn from(setup: ClusterSetup) -> Self {
        Self::Cluster(setup)
    }
}

/// What a broker of a cluster begins with. Everything else it learns by [`Broker::apply`](crate::broker::Broker::apply).
#[derive(Clone)]
pub struct ClusterSetup {
    /// Which cluster. What another one decides is refused.
    pub cluster: ClusterId,
    /// Keys of handles, as far as they are known at the start; the first makes new ones. While there is none, the broker
    /// neither delivers nor settles.
    pub receipt_keys: Vec<ReceiptKey>,
    /// Who creates what is needed here for the first time.
    pub authority: std::sync::Arc<dyn Authority>,
    /// The other brokers.
    pub peers: std::sync::Arc<dyn Peers>,
}

impl fmt::Debug for ClusterSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSetup").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Who decides about the catalogue of a cluster. Its waits are bounded.
pub trait Authority: Send + Sync {
    /// Creates a group with the defaults, unless there is one; the revision that has it.
    fn create_group(&self, name: GroupName) -> BoxFuture<'_, Result<Revision, CatalogError>>;

    /// Creates a dead-letter topic, unless there is one; the revision that has it.
    fn create_dead_letter_topic(&self, name: TopicName) -> BoxFuture<'_, Result<Revision, CatalogError>>;
}

/// The other brokers of a cluster. Its waits are bounded.
pub trait Peers: Send + Sync {
    /// Whether `group` is done with what each of these message groups left on `shard` under an order of shards that was given
    /// up as `generation`. Key 0 stands for everything that was left there. `None`: no answer now.
    fn lanes_done(
        &self,
        shard: ShardId,
        topic: TopicName,
        group: GroupName,
        generation: u32,
        keys: Vec<u64>,
    ) -> BoxFuture<'_, Option<Vec<bool>>>;
}

/// A broker without others to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn lanes_done(
        &self,
        _shard: ShardId,
        _topic: TopicName,
        _group: GroupName,
        _generation: u32,
        _keys: Vec<u64>,
    ) -> BoxFuture<'_, Option<Vec<bool>>> {
        Box::pin(std::future::ready(None))
    }
}

/// Why what the cluster knows was not taken over. Nothing of it shows; the same call again goes on where this one ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ApplyError {
    /// This broker is alone.
    #[error("this broker is not part of a cluster")]
    Alone,
    /// It is of another cluster.
    #[error("this broker belongs to cluster {own}, not to {other}")]
    Foreign {
        /// Of this broker.
        own: ClusterId,
        /// Of what was to be applied.
        other: ClusterId,
    },
    /// The data directory holds topics that no cluster gave it; to follow the cluster would delete them.
    #[error(
        "the data directory holds topics of a broker that stood alone; give this broker an empty one to join the cluster"
    )]
    NotEmpty,
    /// The route service does not know what it once created here; to follow it would delete that. Once seen, nothing more is
    /// taken over until this process ends: later numbers would hide it.
    #[error(
        "the route service has forgotten {0}, which it created: its data was lost or restored from an older copy. Nothing was \
         deleted here; restore its newest copy"
    )]
    Forgotten(String),
    /// Too much is in flight.
    #[error("too much is waiting to be stored; try again later")]
    Overloaded,
    /// The log failed; the outcome is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
}
