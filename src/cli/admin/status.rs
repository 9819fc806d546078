//! `bolide admin status`

use serde::Serialize;

use super::CommonArgs;
use super::cluster;
use super::missing::{self, MissingView};
use super::output::show;
use super::words::from_wire;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::config::units::{duration_text, size_rounded};
use crate::wire::admin;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingView>,
}

#[derive(Debug, Serialize)]
struct ShardView {
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
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

pub(super) async fn run(client: &mut Client, common: &CommonArgs) -> Result<(), Failure> {
    let answer = client.status(admin::StatusRequest {}).await?.into_inner();
    missing::warn(&answer.missing);
    let view = StatusView {
        role: cluster::role_name(answer.role()),
        name: answer.name.clone(),
        revision: answer.revision,
        missing: missing::views(answer.missing),
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
        broker: wire.broker,
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
    let seat = view.role.map(|role| format!(", {role} {}", view.name)).unwrap_or_default();
    let (used, free) = (size_rounded(view.disk_used_bytes), size_rounded(view.disk_free_bytes));
    let mut lines = vec![
        format!("bolide {}{seat}, up {uptime}, {state}", view.version),
        match (view.data_dir.as_str(), view.shards.is_empty()) {
            ("", true) => "no data here".to_owned(),
            ("", false) => {
                format!("data {used} used by all brokers, {free} free on the fullest of their disks")
            }
            (dir, _) => format!("data {dir}, {used} used, {free} free on its disk"),
        },
        format!(
            "{} topics, {} groups, {} connections, {} clients",
            view.topics, view.groups, view.connections, view.clients
        ),
    ];
    let headings =
        ["BROKER", "SHARD", "TERM", "ACCEPTED", "WRITTEN", "DURABLE", "FOLDED", "LOG", "SEGMENTS", "ACCEPTING"];
    let mut table = Table::new(&headings);
    for shard in &view.shards {
        table.row(vec![
            shard.broker.clone(),
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
    lines.push(table.without_empty_first().text());
    lines.join("\n")
}
