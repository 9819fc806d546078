//! What is wrong with a cluster, in words for people.

use std::collections::BTreeMap;

use super::brokers::{lying_on, shown};
use super::moves::name_of;
use crate::model::cluster::{Revision, View};
use crate::model::position::ShardId;
use crate::wire::admin as wire;

/// Names that a sentence lists before it counts the others.
const NAMES: usize = 3;

/// The worst first: what stops messages, what stops changes, what will end by itself.
pub(super) fn problems(view: &View, status: &wire::ClusterStatusResponse) -> Vec<String> {
    let mut found = Vec::new();
    let of = |role: wire::Role| status.members.iter().filter(move |member| member.role() == role);
    let answers = |member: &wire::Member| member.ready.is_some() && !is_silent(member);

    for broker in of(wire::Role::Broker).filter(|broker| !answers(broker)) {
        let lease = if broker.alive { ", though it holds its lease" } else { "" };
        found.push(format!(
            "{} {}{lease}: messages that lie there wait for it, and new ones go to others where they can",
            broker.name, broker.reason
        ));
    }
    found.extend(homeless(view, status));
    for broker in of(wire::Role::Broker).filter(|broker| answers(broker)) {
        match (broker.ready, broker.reason.as_str()) {
            (Some(false), reason) => found.push(format!("{} is not ready: {reason}", broker.name)),
            (_, "") => {}
            (_, reason) => found.push(format!("{} takes no new messages: {reason}", broker.name)),
        }
    }
    for shard in status.shards.iter().filter(|shard| !shard.accepting) {
        let told = of(wire::Role::Broker).any(|broker| broker.name == shard.broker && !broker.reason.is_empty());
        if !told {
            found.push(format!("{} takes no new messages: {}", shard.broker, shard.reason));
        }
    }
    if of(wire::Role::Route).any(|route| !route.alive) {
        found.push(format!(
            "the route service does not answer: topics, groups and brokers cannot be changed, and what is shown here is revision {}. \
             Messages flow on",
            Revision(status.revision)
        ));
    }
    for broker in of(wire::Role::Broker).filter(|broker| answers(broker) && !broker.alive) {
        found.push(format!(
            "{} answers but holds no lease: it does not reach the route service, and hears of no new topics",
            broker.name
        ));
    }
    if view.shards.is_empty() {
        found.push("no broker has ever registered: start one with cluster.route set to the route service".to_owned());
    }
    found.extend(stuck(status));
    for member in &status.members {
        let Some(at) = member.revision.filter(|&at| at < status.revision) else { continue };
        found.push(match (Revision(at).term() == Revision(status.revision).term(), status.revision - at) {
            (true, 1) => format!("{} has not followed the last change", member.name),
            (true, behind) => format!("{} has not followed the last {behind} changes", member.name),
            (false, _) => format!("{} has followed nothing since the last start of the route service", member.name),
        });
    }
    found.extend(versions(status));
    for broker in of(wire::Role::Broker).filter(|broker| broker.draining) {
        found.extend(draining(view, broker));
    }
    found
}

fn is_silent(member: &wire::Member) -> bool {
    member.ready == Some(false) && member.reason.starts_with("does not answer")
}

/// Topics all of whose brokers are silent.
fn homeless(view: &View, status: &wire::ClusterStatusResponse) -> Option<String> {
    let silent: Vec<ShardId> = status
        .members
        .iter()
        .filter(|member| member.role() == wire::Role::Broker && is_silent(member))
        .filter_map(|member| member.shard_id.map(ShardId))
        .collect();
    if silent.is_empty() {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for topic in view.topics.values().filter(|topic| !topic.name.is_dead_letter()) {
        let Some(placement) = view.placement(topic.id) else { continue };
        if !placement.shards.is_empty() && placement.shards.iter().all(|shard| silent.contains(shard)) {
            names.push(shown(&topic.name));
        }
    }
    names.sort();
    (!names.is_empty()).then(|| {
        let who = silent.iter().map(|shard| name_of(view, *shard)).collect::<Vec<_>>().join(", ");
        format!("nothing can be sent to {} while {who} is away", listed(&names, "topic"))
    })
}

/// Moves that wait for a broker that will not answer.
fn stuck(status: &wire::ClusterStatusResponse) -> Vec<String> {
    let is_away = |name: &String| status.members.iter().any(|member| member.name == *name && is_silent(member));
    let stuck = status.moves.iter().filter_map(|one| {
        let away: Vec<&str> = one.waiting_for.iter().filter(|name| is_away(name)).map(String::as_str).collect();
        (!away.is_empty()).then(|| {
            format!(
                "topic {} cannot move to {} before {} is back",
                one.topic,
                one.moving_to.join(", "),
                away.join(", ")
            )
        })
    });
    stuck.collect()
}

/// Two versions are an upgrade under way, or one that was forgotten.
fn versions(status: &wire::ClusterStatusResponse) -> Option<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in status.members.iter().filter(|member| !member.version.is_empty()) {
        versions.entry(&member.version).or_default().push(&member.name);
    }
    (versions.len() > 1).then(|| {
        let words = versions.iter().map(|(version, names)| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            format!("{version} ({})", listed(&names, "member"))
        });
        format!("members run different versions: {}", words.collect::<Vec<_>>().join(", "))
    })
}

/// How far a broker is from being empty.
fn draining(view: &View, broker: &wire::Member) -> Option<String> {
    let shard = view.shard_named(&broker.name)?;
    let lying = lying_on(view, shard, broker.clone());
    let mut parts = Vec::new();
    if !lying.topics.is_empty() {
        parts.push(format!("{} to move away", listed(&lying.topics, "topic")));
    }
    if !lying.leaving.is_empty() {
        parts.push(format!("messages of {} not read by every group", listed(&lying.leaving, "topic")));
    }
    let left = match (parts.is_empty(), lying.dead_letters.is_empty()) {
        (true, true) => "nothing is left there, it can go".to_owned(),
        (true, false) => "nothing is left there but dead letters".to_owned(),
        (false, _) => parts.join(", "),
    };
    Some(format!("{} is draining: {left}", broker.name))
}

/// `topic a`, `topics a, b and c`, `5 topics (a, b, c, …)`.
fn listed(names: &[String], what: &str) -> String {
    match names {
        [one] => format!("{what} {one}"),
        few if few.len() <= NAMES => {
            let (last, others) = few.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
            format!("{what}s {} and {last}", others.join(", "))
        }
        many => format!("{} {what}s ({}, …)", many.len(), many[..NAMES].join(", ")),
    }
}

#[cfg(test)]
#[path = "problems_tests.rs"]
mod tests;
