//! How this process is, and what it knows of the brokers.

use tonic::Status;

use super::super::convert::duration_out;
use super::super::status::shard;
use super::merge::{self, Reply, sorted};
use super::{Cluster, READ_LIMIT};
use crate::model::cluster::View;
use crate::wire::admin as wire;

impl Cluster {
    /// What this process knows without asking.
    pub(super) fn own_status(&self, view: &View) -> wire::StatusResponse {
        let (disk_used_bytes, disk_free_bytes) = (self.facts.disk)();
        let connected = self.route.connected();
        // Without the route service what is known goes on; nothing known is nothing to serve.
        let (ready, reason) = match (connected, view.revision.0) {
            (true, _) => (true, String::new()),
            (false, 0) => (false, "the route service has not been reached yet".to_owned()),
            (false, _) => (true, "the route service does not answer; what was known before is served".to_owned()),
        };
        wire::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: Some(duration_out(self.facts.uptime())),
            ready,
            reason,
            data_dir: self.facts.data_dir.clone(),
            disk_used_bytes,
            disk_free_bytes,
            shards: (self.facts.shards)().into_iter().map(shard).collect(),
            topics: view.topics.len() as u64,
            groups: view.groups.len() as u64,
            connections: (self.facts.connections)(),
            role: self.seat.role.into(),
            name: self.seat.name.to_string(),
            revision: Some(view.revision.0),
            ..Default::default()
        }
    }

    /// Every broker about itself.
    pub(super) async fn statuses(&self, view: &View) -> Vec<Reply<wire::StatusResponse>> {
        let everyone = Self::everyone(view);
        let asked =
            self.peers.ask(&everyone, READ_LIMIT, async |mut broker, _| broker.status(wire::StatusRequest {}).await);
        asked.await
    }

    pub(in super::super) async fn status(&self, _: wire::StatusRequest) -> Result<wire::StatusResponse, Status> {
        let view = self.route.view();
        Ok(merge::status(self.own_status(&view), sorted(self.statuses(&view).await)?))
    }
}
