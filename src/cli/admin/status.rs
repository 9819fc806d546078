//! `bolide admin status`

use crate::cli::connect::Channel;
use serde::Serialize;

use super::CommonArgs;
use super::output::show;
use super::words::from_wire;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::config::units::{duration_text, size_rounded};
use crate::wire::admin;
use crate::wire::admin::admin_client::AdminClient;

/// The status in the answer to a script.
#[derive(Debug, Serialize)]
struct StatusView {
    version: String,
    uptime_seconds: u64,
    ready: bool,
    reason: String,
    data_dir: String,
    disk_used_bytes: u64,
    disk_free_bytes: u64,
    topics: u64,
    groups: u64,
    connections: u64,
    clients: u64,
    shards: Vec<ShardView>,
}

#[derive(Debug, Serialize)]
struct ShardView {
    shard: u32,
    term: u64,
    accepted_position: u64,
    written_position: u64,
    durable_position: u64,
    folded_position: u64,
    log_bytes: u64,
    segments: u64,
    accepting: bool,
    reason: String,
}

pub(super) async fn run(client: &mut AdminClient<Channel>, common: &CommonArgs) -> Result<(), Failure> {
    let answer = client.status(admin::StatusRequest {}).await?.into_inner();
    let view = StatusView {
        uptime_seconds: answer.uptime.as_ref().map_or(0, |uptime| from_wire(uptime).as_secs()),
        version: answer.version,
        ready: answer.ready,
        reason: answer.reason,
        data_dir: answer.data_dir,
        disk_used_bytes: answer.disk_used_bytes,
        disk_free_bytes: answer.disk_free_bytes,
        topics: answer.topics,
        groups: answer.groups,
        connections: answer.connections,
        clients: answer.clients,
        shards: answer.shards.into_iter().map(shard).collect(),
    };
    show(common.output, &view, text);
    Ok(())
}

fn shard(wire: admin::ShardStatus) -> ShardView {
    ShardView {
        shard: wire.shard_id,
        term: wire.term,
        accepted_position: wire.accepted_position,
        written_position: wire.written_position,
        durable_position: wire.durable_position,
        folded_position: wire.fold_position,
        log_bytes: wire.log_bytes,
        segments: wire.segments,
        accepting: wire.accepting,
        reason: wire.reason,
    }
}

fn text(view: &StatusView) -> String {
    let uptime = duration_text(std::time::Duration::from_secs(view.uptime_seconds));
    let state = match (view.ready, view.reason.as_str()) {
        (true, "") => "ready".to_owned(),
        (true, reason) => format!("ready, but not accepting sends: {reason}"),
        (false, reason) => format!("not ready: {reason}"),
    };
    let mut lines = vec![
        format!("bolide {}, up {uptime}, {state}", view.version),
        format!(
            "data {}, {} used, {} free on its disk",
            view.data_dir,
            size_rounded(view.disk_used_bytes),
            size_rounded(view.disk_free_bytes)
        ),
        format!(
            "{} topics, {} groups, {} connections, {} clients",
            view.topics, view.groups, view.connections, view.clients
        ),
    ];
    let mut table =
        Table::new(&["SHARD", "TERM", "ACCEPTED", "WRITTEN", "DURABLE", "FOLDED", "LOG", "SEGMENTS", "ACCEPTING"]);
    for shard in &view.shards {
        table.row(vec![
            shard.shard.to_string(),
            shard.term.to_string(),
            shard.accepted_position.to_string(),
            shard.written_position.to_string(),
            shard.durable_position.to_string(),
            shard.folded_position.to_string(),
            size_rounded(shard.log_bytes),
            shard.segments.to_string(),
            if shard.accepting { "yes".to_owned() } else { format!("no: {}", shard.reason) },
        ]);
    }
    lines.push(table.text());
    lines.join("\n")
}
