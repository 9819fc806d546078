//! `bolide admin cluster …`

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::CommonArgs;
use super::moves::MoveView;
use super::output::show;
use super::words::from_wire;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::config::units::{duration_text, size_rounded};
use crate::model::cluster::Revision;
use crate::wire::admin;

const STATUS_HELP: &str = "\
What is wrong stands at the top, in words, the worst first; then the members, the logs of the brokers, and topics that are on
their way to other brokers. REVISION is the state of topics, groups and brokers that a member has followed (starts of the route service, changes since),
and how many changes it is behind. LAG is what all groups together still have to do there, in messages; UNFOLDED is what a broker
would read again after a crash. A dash is what a member of an older version does not tell.

The exit code is 0 whenever the answer came, whatever it says; scripts look at `problems` of --output json.";

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// The whole cluster on one page
    #[command(after_help = STATUS_HELP)]
    Status,
}

/// The cluster in the answer to a script.
#[derive(Debug, Serialize)]
struct ClusterView {
    cluster: String,
    revision: u64,
    problems: Vec<String>,
    topics: u64,
    groups: u64,
    /// The first makes new handles.
    receipt_keys: Vec<u32>,
    members: Vec<MemberView>,
    shards: Vec<ShardView>,
    moves: Vec<MoveView>,
}

#[derive(Debug, Serialize)]
pub(super) struct MemberView {
    pub(super) role: &'static str,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) version: String,
    pub(super) alive: bool,
    pub(super) ready: Option<bool>,
    pub(super) reason: String,
    pub(super) draining: bool,
    pub(super) revision: Option<u64>,
    /// Changes of topics and groups that it has not followed.
    pub(super) behind: Option<u64>,
    pub(super) shard: Option<u32>,
    pub(super) uptime_seconds: Option<u64>,
    pub(super) connections: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShardView {
    pub(super) broker: String,
    pub(super) shard: u32,
    pub(super) log_bytes: u64,
    pub(super) unfolded_bytes: u64,
    pub(super) lag: Option<u64>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) accepting: bool,
    pub(super) reason: String,
}

/// A role in words; none for a server that is everything in one.
pub(super) const fn role_name(role: admin::Role) -> Option<&'static str> {
    match role {
        admin::Role::Unspecified => None,
        admin::Role::Route => Some("route"),
        admin::Role::Broker => Some("broker"),
        admin::Role::Proxy => Some("proxy"),
    }
}

pub(super) fn members(wire: Vec<admin::Member>, newest: u64) -> Vec<MemberView> {
    let view = |member: admin::Member| MemberView {
        role: role_name(member.role()).unwrap_or("unknown"),
        behind: member.revision.map(|at| newest.saturating_sub(at)),
        uptime_seconds: member.uptime.as_ref().map(|uptime| from_wire(uptime).as_secs()),
        name: member.name,
        address: member.address,
        version: member.version,
        alive: member.alive,
        ready: member.ready,
        reason: member.reason,
        draining: member.draining,
        revision: member.revision,
        shard: member.shard_id,
        connections: member.connections,
    };
    wire.into_iter().map(view).collect()
}

pub(super) fn shards(wire: Vec<admin::ShardStatus>) -> Vec<ShardView> {
    let view = |shard: admin::ShardStatus| ShardView {
        shard: shard.shard_id,
        log_bytes: shard.log_bytes,
        unfolded_bytes: shard.durable_position.saturating_sub(shard.fold_position),
        lag: shard.lag,
        disk_free_bytes: shard.disk_free_bytes,
        accepting: shard.accepting,
        broker: shard.broker,
        reason: shard.reason,
    };
    wire.into_iter().map(view).collect()
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: ClusterCommand) -> Result<(), Failure> {
    let ClusterCommand::Status = command;
    let answer = client.cluster_status(admin::ClusterStatusRequest {}).await?.into_inner();
    show(common.output, &view(answer), text);
    Ok(())
}

fn view(answer: admin::ClusterStatusResponse) -> ClusterView {
    ClusterView {
        members: members(answer.members, answer.revision),
        cluster: answer.cluster_id,
        revision: answer.revision,
        problems: answer.problems,
        topics: answer.topics,
        groups: answer.groups,
        receipt_keys: answer.receipt_keys,
        shards: shards(answer.shards),
        moves: answer.moves.into_iter().map(MoveView::from).collect(),
    }
}

/// How a member is, in a word or two.
pub(super) fn state(member: &MemberView) -> String {
    let mut words = vec![match (member.alive, member.ready) {
        (true, Some(true)) if member.reason.is_empty() => "ready",
        (true, Some(true)) => "limited",
        (true, Some(false)) => "not ready",
        (true, None) => "alive",
        (false, Some(true)) => "no lease",
        (false, _) => "away",
    }];
    if member.draining {
        words.push("draining");
    }
    words.join(", ")
}

fn text(view: &ClusterView) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut parts = vec![match view.problems.len() {
        0 => "all is well".to_owned(),
        1 => format!("1 problem:\n  {}", view.problems[0]),
        many => format!("{many} problems:\n  {}", view.problems.join("\n  ")),
    }];
    parts.push(format!(
        "cluster {}, revision {}: {} topics, {} groups",
        view.cluster,
        Revision(view.revision),
        view.topics,
        view.groups
    ));
    let mut table = Table::new(&["ROLE", "NAME", "VERSION", "ADDRESS", "STATE", "REVISION", "UP", "CONNECTIONS"]);
    for member in &view.members {
        let revision = member.revision.map(|at| match member.behind {
            None | Some(0) => Revision(at).to_string(),
            Some(behind) if Revision(at).term() == Revision(view.revision).term() => {
                format!("{} ({behind} behind)", Revision(at))
            }
            Some(_) => format!("{} (old)", Revision(at)),
        });
        table.row(vec![
            member.role.to_owned(),
            member.name.clone(),
            if member.version.is_empty() { "-".to_owned() } else { member.version.clone() },
            if member.address.is_empty() { "-".to_owned() } else { member.address.clone() },
            state(member),
            or_dash(revision),
            or_dash(member.uptime_seconds.map(|seconds| duration_text(Duration::from_secs(seconds)))),
            or_dash(member.connections.map(|count| count.to_string())),
        ]);
    }
    parts.push(table.text());
    let mut table = Table::new(&["BROKER", "SHARD", "LOG", "UNFOLDED", "LAG", "DISK FREE", "ACCEPTING"]);
    for shard in &view.shards {
        table.row(vec![
            shard.broker.clone(),
            shard.shard.to_string(),
            size_rounded(shard.log_bytes),
            size_rounded(shard.unfolded_bytes),
            or_dash(shard.lag.map(|lag| lag.to_string())),
            or_dash(shard.disk_free_bytes.map(size_rounded)),
            if shard.accepting { "yes".to_owned() } else { format!("no: {}", shard.reason) },
        ]);
    }
    parts.push(table.text());
    if !view.moves.is_empty() {
        let mut table = Table::new(&["TOPIC", "PROGRESS"]);
        for one in &view.moves {
            table.row(vec![one.name(), one.progress()]);
        }
        parts.push(table.text());
    }
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> admin::ClusterStatusResponse {
        let member = |role: admin::Role, name: &str| admin::Member {
            role: role.into(),
            name: name.to_owned(),
            version: "0.2.0".to_owned(),
            alive: true,
            ready: Some(true),
            revision: Some((3 << 32) + 7),
            ..Default::default()
        };
        let broker = admin::Member {
            address: "broker-0:8082".to_owned(),
            shard_id: Some(0),
            uptime: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            draining: true,
            revision: Some((3 << 32) + 5),
            ..member(admin::Role::Broker, "broker-0")
        };
        // An older proxy tells neither its revision nor its connections.
        let old = admin::Member {
            version: "0.1.0".to_owned(),
            revision: None,
            ready: None,
            ..member(admin::Role::Proxy, "old")
        };
        let log = admin::ShardStatus {
            broker: "broker-0".to_owned(),
            durable_position: 3_000,
            fold_position: 952,
            log_bytes: 1 << 20,
            accepting: true,
            lag: Some(12),
            disk_free_bytes: Some(5 << 30),
            ..Default::default()
        };
        let moving = admin::TopicMove {
            topic: "orders".to_owned(),
            moving_to: vec!["broker-1".to_owned()],
            waiting_for: vec!["broker-0".to_owned()],
            ..Default::default()
        };
        admin::ClusterStatusResponse {
            cluster_id: "c1".to_owned(),
            revision: (3 << 32) + 7,
            problems: vec!["broker-0 is draining: topic orders to move away".to_owned()],
            members: vec![member(admin::Role::Route, "route"), broker, old],
            shards: vec![log],
            moves: vec![moving],
            topics: 1,
            groups: 2,
            receipt_keys: vec![1],
        }
    }

    #[test]
    fn the_page_for_people_says_what_is_wrong_first_and_dashes_stand_for_what_is_not_told() {
        let page = "\
1 problem:
  broker-0 is draining: topic orders to move away

cluster c1, revision 3.7: 1 topics, 2 groups

ROLE    NAME      VERSION  ADDRESS        STATE            REVISION        UP  CONNECTIONS
route   route     0.2.0    -              ready            3.7             -   -
broker  broker-0  0.2.0    broker-0:8082  ready, draining  3.5 (2 behind)  1h  -
proxy   old       0.1.0    -              alive            -               -   -

BROKER    SHARD  LOG      UNFOLDED  LAG  DISK FREE  ACCEPTING
broker-0  0      1.0 MiB  2.0 KiB   12   5.0 GiB    yes

TOPIC   PROGRESS
orders  moves to broker-1: waits for broker-0 to seal";
        assert_eq!(text(&view(answer())), page);
    }

    #[test]
    fn a_broker_that_is_away_is_told_from_one_that_only_lost_its_lease() {
        let told = |alive, ready, reason: &str| {
            let wire = admin::Member { alive, ready, reason: reason.to_owned(), ..Default::default() };
            state(&members(vec![wire], 0)[0])
        };
        assert_eq!(told(false, Some(false), "does not answer"), "away");
        assert_eq!(told(false, Some(true), ""), "no lease");
        assert_eq!(told(true, Some(true), "disk nearly full"), "limited");
        assert_eq!(told(true, Some(false), "starting"), "not ready");
    }
}
