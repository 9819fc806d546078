//! How the node is.

use super::convert::duration_out;
use super::server::{Facts, ShardFacts};
use crate::broker::Broker;
use crate::wire::admin as wire;

pub(super) fn status(broker: &Broker, facts: &Facts) -> wire::StatusResponse {
    let status = broker.status();
    let (disk_used_bytes, disk_free_bytes) = (facts.disk)();
    // One broker has one log, so what is counted over the broker is counted over the log.
    let lag = broker.group_counts().iter().map(|counts| counts.ready + counts.in_flight + counts.waiting).sum();
    let shards = (facts.shards)().into_iter().map(|facts| wire::ShardStatus {
        lag: Some(lag),
        disk_free_bytes: Some(disk_free_bytes),
        ..shard(facts)
    });
    wire::StatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: Some(duration_out(facts.uptime())),
        ready: status.ready,
        reason: status.reason,
        data_dir: facts.data_dir.clone(),
        disk_used_bytes,
        disk_free_bytes,
        shards: shards.collect(),
        topics: status.topics as u64,
        groups: status.groups as u64,
        connections: (facts.connections)(),
        clients: status.members as u64,
        ..Default::default()
    }
}

pub(super) fn shard(facts: ShardFacts) -> wire::ShardStatus {
    wire::ShardStatus {
        shard_id: facts.shard,
        term: facts.term,
        accepted_position: facts.accepted_position,
        written_position: facts.written_position,
        durable_position: facts.durable_position,
        log_bytes: facts.log_bytes,
        segments: facts.segments,
        fold_position: facts.folded_position,
        accepting: facts.accepting,
        reason: facts.reason,
        ..Default::default()
    }
}
