//! How the node is.

use super::convert::duration_out;
use super::server::Facts;
use crate::broker::Broker;
use crate::wire::admin as wire;

pub(super) fn status(broker: &Broker, facts: &Facts) -> wire::StatusResponse {
    let status = broker.status();
    wire::StatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: Some(duration_out(facts.uptime())),
        ready: status.ready,
        reason: status.reason,
        data_dir: facts.data_dir.clone(),
        disk_used_bytes: 0,
        disk_free_bytes: 0,
        shards: Vec::new(),
        topics: status.topics as u64,
        groups: status.groups as u64,
        connections: facts.connections(),
        clients: status.members as u64,
    }
}
