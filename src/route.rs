//! The route service: who is in the cluster, which topics and groups there are, and where they live. It has a store of its own;
//! everyone else follows it by a [`View`](crate::model::cluster::View) and goes on with what is known while it is away.
//!
//! - [`Route`]: the service in this process. [`server::RouteServer`]: the same for others. [`RouteClient`]: a member's handle.
//! - The state machine (`state`, `moves`) is pure; `service` brings it to the disk and to members, `book` keeps what members
//!   are told encoded, once for all.

mod book;
mod change;
mod client;
mod convert;
mod leases;
mod lineage;
mod members;
mod moves;
mod registration;
mod remote;
pub mod server;
mod service;
mod state;
mod upkeep;
mod version;
mod watching;

pub use client::{Me, Registered, RemoteOptions, Role, RouteClient, RouteError};
pub use members::{Listed, Member, Members};
pub use remote::{Connect, Connections};
pub use service::{Membership, OpenRouteError, Route, RouteOptions};
pub use state::{Bounds, Command, Outcome};
pub use version::refusal as version_refusal;

use crate::model::cluster::View;
use crate::model::position::ShardId;

/// Whether nothing lives on a shard any more, nor is left there: after draining, it can be taken away.
#[must_use]
pub fn is_empty(view: &View, shard: ShardId) -> bool {
    !view.placements.values().any(|placement| placement.holders().contains(&shard))
}
