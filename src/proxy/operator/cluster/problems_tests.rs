//! Tests of the words for what is wrong.

use std::sync::Arc;

use super::*;
use crate::model::cluster::{PastPlacement, Placement, Revision, Shard};
use crate::model::name::TopicName;
use crate::model::position::TopicId;
use crate::model::settings::{TopicSpec, new_topic};
use crate::model::topic::TopicType;

/// Two brokers, one topic on each, at revision 7.
fn view() -> View {
    let mut view = View { revision: Revision(7), ..View::default() };
    for id in 0..2 {
        let shard = Shard {
            id: ShardId(id),
            name: format!("broker-{id}").into(),
            address: format!("broker-{id}:8082").into(),
            version: "0.2.0".into(),
            alive: true,
            draining: false,
            holder: None,
        };
        view.shards.insert(ShardId(id), Arc::new(shard));
        add_topic(&mut view, id + 1, &format!("t{id}"), TopicType::Normal, Placement::first(vec![ShardId(id)]));
    }
    view
}

fn add_topic(view: &mut View, id: u32, name: &str, kind: TopicType, placement: Placement) {
    let name = TopicName::new("", name).unwrap();
    let spec = TopicSpec { topic_type: Some(kind), ..TopicSpec::default() };
    let topic = new_topic(TopicId(id), name.clone(), &spec).unwrap();
    view.topics.insert(name, Arc::new(topic));
    view.placements.insert(TopicId(id), Arc::new(placement));
}

fn member(role: wire::Role, name: &str) -> wire::Member {
    wire::Member {
        role: role.into(),
        name: name.to_owned(),
        version: "0.2.0".to_owned(),
        alive: true,
        revision: Some(7),
        ready: Some(true),
        shard_id: name.strip_prefix("broker-").and_then(|id| id.parse().ok()),
        ..Default::default()
    }
}

fn healthy() -> wire::ClusterStatusResponse {
    let shard = |broker: &str| wire::ShardStatus { broker: broker.to_owned(), accepting: true, ..Default::default() };
    wire::ClusterStatusResponse {
        revision: 7,
        members: vec![
            member(wire::Role::Route, "route"),
            member(wire::Role::Broker, "broker-0"),
            member(wire::Role::Broker, "broker-1"),
            // Of a proxy it is not known whether it is ready, and an older one tells no revision.
            wire::Member { ready: None, revision: None, ..member(wire::Role::Proxy, "proxy-a") },
        ],
        shards: vec![shard("broker-0"), shard("broker-1")],
        ..Default::default()
    }
}

/// The problems after a change of the healthy cluster.
fn after(change: impl FnOnce(&mut View, &mut wire::ClusterStatusResponse)) -> Vec<String> {
    let (mut view, mut status) = (view(), healthy());
    change(&mut view, &mut status);
    problems(&view, &status)
}

#[track_caller]
fn says(problems: &[String], at: usize, words: &[&str]) {
    for word in words {
        assert!(
            problems.get(at).is_some_and(|problem| problem.contains(word)),
            "{word:?} is not at {at}: {problems:#?}"
        );
    }
}

#[test]
fn nothing_is_wrong_with_a_healthy_cluster() {
    assert_eq!(after(|_, _| {}), Vec::<String>::new());
}

#[test]
fn a_silent_broker_comes_first_with_the_topics_that_have_no_other() {
    let found = after(|_, status| {
        status.members[2].ready = Some(false);
        status.members[2].reason = "does not answer: connection refused".to_owned();
        status.members[2].alive = false;
        status.members[2].revision = None;
        status.shards.pop();
    });
    says(&found, 0, &["broker-1 does not answer: connection refused"]);
    says(&found, 1, &["topic t1", "broker-1 is away"]);
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_full_disk_is_told_once_with_the_brokers_own_words() {
    let found = after(|_, status| {
        status.members[1].reason = "less than 1 GiB is free".to_owned();
        status.shards[0].accepting = false;
        status.shards[0].reason = "disk".to_owned();
    });
    says(&found, 0, &["broker-0 takes no new messages: less than 1 GiB is free"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = after(|_, status| {
        status.shards[1].accepting = false;
        status.shards[1].reason = "a sync failed".to_owned();
    });
    says(&found, 0, &["broker-1 takes no new messages: a sync failed"]);
}

#[test]
fn without_the_route_service_messages_flow_and_changes_do_not() {
    let found = after(|_, status| status.members[0].alive = false);
    says(&found, 0, &["route service does not answer", "revision 7", "Messages flow on"]);
}

#[test]
fn a_broker_that_only_the_route_service_lost_is_told_from_a_dead_one() {
    let found = after(|_, status| status.members[1].alive = false);
    says(&found, 0, &["broker-0 answers but holds no lease"]);
}

#[test]
fn who_is_behind_is_told_by_how_much_and_an_older_member_that_does_not_tell_is_not() {
    let found = after(|_, status| {
        status.members[1].revision = Some(4);
        status.members[2].revision = None;
    });
    says(&found, 0, &["broker-0", "last 3 changes"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    // Each start of the route service begins far above everything before.
    let found = after(|_, status| {
        status.revision += 1 << 32;
        status.members.remove(1);
        status.members.pop();
        status.members[0].revision = Some(status.revision);
    });
    says(&found, 0, &["broker-1 has followed nothing since the last start"]);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn two_versions_are_named_with_their_members() {
    let found = after(|_, status| status.members[3].version = "0.1.9".to_owned());
    says(&found, 0, &["0.1.9 (member proxy-a)", "0.2.0 (members route, broker-0 and broker-1)"]);
}

#[test]
fn a_draining_broker_tells_what_still_lies_there_and_what_never_moves() {
    let drain = |status: &mut wire::ClusterStatusResponse| status.members[1].draining = true;
    let found = after(|view, status| {
        drain(status);
        add_topic(view, 8, "urgent", TopicType::Priority, Placement::first(vec![ShardId(0)]));
        let left = PastPlacement { generation: 1, shards: vec![ShardId(0)] };
        let moved = Placement { past: vec![left], generation: 2, ..Placement::first(vec![ShardId(1)]) };
        add_topic(view, 9, "moved", TopicType::Fifo, moved);
    });
    says(&found, 0, &["broker-0 is draining", "topics t0 and urgent to move", "topic moved not read"]);
    let found = after(|view, status| {
        drain(status);
        view.placements.insert(TopicId(1), Arc::new(Placement::first(vec![ShardId(1)])));
    });
    says(&found, 0, &["nothing is left there, it can go"]);
    let found = after(|view, status| {
        drain(status);
        view.placements.insert(TopicId(1), Arc::new(Placement::first(vec![ShardId(1)])));
        add_topic(view, 7, "%DLQ%g", TopicType::Normal, Placement::first(vec![ShardId(0), ShardId(1)]));
    });
    says(&found, 0, &["nothing is left there but dead letters"]);
}

#[test]
fn a_move_that_waits_for_a_silent_broker_is_told() {
    let found = after(|_, status| {
        status.members[2].ready = Some(false);
        status.members[2].reason = "does not answer: gone".to_owned();
        status.moves = vec![wire::TopicMove {
            topic: "t1".to_owned(),
            waiting_for: vec!["broker-1".to_owned()],
            moving_to: vec!["broker-0".to_owned()],
            ..Default::default()
        }];
    });
    assert!(
        found.iter().any(|problem| problem.contains("t1 cannot move to broker-0 before broker-1 is back")),
        "{found:#?}"
    );
}

#[test]
fn long_lists_are_counted() {
    let names = |count: usize| (0..count).map(|number| format!("t{number}")).collect::<Vec<_>>();
    assert_eq!(listed(&names(1), "topic"), "topic t0");
    assert_eq!(listed(&names(3), "topic"), "topics t0, t1 and t2");
    assert_eq!(listed(&names(5), "topic"), "5 topics (t0, t1, t2, …)");
}
