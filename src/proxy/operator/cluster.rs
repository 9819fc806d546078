//! The service for a whole cluster: the catalogue by the route service, everything about messages by every broker.

mod await_revision;
mod brokers;
mod catalogue;
mod letters;
mod merge;
mod moves;
mod overview;
mod peers;
mod problems;
mod queues;
mod reset;
mod status;
mod transactions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::clock;
use super::server::{Facts, Seat};
use crate::model::cluster::{Shard, View};
use crate::model::position::TopicId;
use crate::route::RouteClient;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;
use crate::wire::admin as wire;
use peers::Peers;

/// Longest wait for a broker's answer that changes nothing: a broker that is away must not hold up the whole picture.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// The same for an answer that waits for a disk.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) struct Cluster {
    seat: Seat,
    route: RouteClient,
    peers: Arc<Peers>,
    facts: Arc<Facts>,
    tasks: Tasks,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("seat", &self.seat).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn new(seat: Seat, route: RouteClient, trust: Trust, facts: Facts, tasks: Tasks) -> Self {
        let (peers, facts) = (Arc::new(Peers::new(trust, facts.clock.clone())), Arc::new(facts));
        if seat.role == wire::Role::Proxy {
            let told = facts.clone();
            route.tell_connections(Arc::new(move || (told.connections)()));
        }
        Self { seat, route, peers, facts, tasks }
    }

    /// Brokers that may hold something of a topic, by shard.
    fn holders(view: &View, topic: TopicId) -> Vec<Arc<Shard>> {
        let ids = view.placement(topic).map(|placement| placement.holders()).unwrap_or_default();
        ids.iter().filter_map(|id| view.shards.get(id).cloned()).collect()
    }

    /// All brokers, by shard.
    fn everyone(view: &View) -> Vec<Arc<Shard>> {
        view.shards.values().cloned().collect()
    }

    pub(super) async fn show_clock(&self, _: wire::ShowClockRequest) -> Result<wire::ShowClockResponse, Status> {
        Ok(clock::show(&self.facts.clock))
    }

    pub(super) async fn advance_clock(
        &self,
        _: wire::AdvanceClockRequest,
    ) -> Result<wire::AdvanceClockResponse, Status> {
        Err(Status::failed_precondition("the time of a cluster cannot be moved; start a server with --virtual-time"))
    }
}
