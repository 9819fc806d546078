//! Ordered delivery over the real store, in memory and in virtual time, restarts included.

use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{AckOutcome, Ask, ClientId, Delivered, LeaseWish, Publish, Receive, TopicSpec};
use bolide::broker::options::BrokerOptions;
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::topic::TopicType;
use bytes::Bytes;
use world::{Begins, World};

#[path = "common/broker.rs"]
mod world;

fn world() -> World {
    let begins = Begins::Every(Duration::from_secs(1));
    // Few entries in memory: what was passed over must come from disk.
    let options = BrokerOptions { entries_in_memory_max: 64, ..BrokerOptions::default() };
    World { begins, segment_bytes: 1024 * 1024, options, ..World::new() }
}

const LEASE: Duration = Duration::from_secs(30);

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

fn spec(queues: u32) -> TopicSpec {
    TopicSpec { queues: Some(queues), topic_type: Some(TopicType::Fifo), ..TopicSpec::default() }
}

async fn publish(broker: &Broker, message_group: &str, numbers: std::ops::Range<u32>) {
    for chunk in numbers.collect::<Vec<_>>().chunks(100) {
        let message = |number: &u32| NewMessage {
            message_id: format!("{message_group}-{number}"),
            message_group: message_group.to_owned(),
            message_type: MessageType::Fifo,
            rest: Bytes::from_static(b"body"),
            body_bytes: 4,
            ..NewMessage::default()
        };
        let messages = chunk.iter().map(message).collect();
        broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    }
}

async fn receive(broker: &Broker, batch: usize) -> Vec<Delivered> {
    let wish = Receive {
        group: group(),
        topic: topic(),
        filter: Filter::ALL,
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait: Duration::ZERO,
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    };
    let mut delivery = broker.receive(wish).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

async fn ack(broker: &Broker, delivered: &[Delivered]) {
    let handles: Vec<String> = delivered.iter().map(|one| one.handle.clone()).collect();
    let outcomes = broker.ack(&group(), &topic(), &handles).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == AckOutcome::Done), "{outcomes:?}");
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    delivered.iter().map(|one| one.message.message_id.as_str()).collect()
}

/// Receives and acknowledges until nothing is there; the ids in order.
async fn drain(broker: &Broker) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let got = receive(broker, 32).await;
        if got.is_empty() {
            return all;
        }
        ack(broker, &got).await;
        all.extend(got.into_iter().map(|one| one.message.message_id));
    }
}

fn of_group(ids: &[String], message_group: &str) -> Vec<String> {
    ids.iter().filter(|id| id.starts_with(&format!("{message_group}-"))).cloned().collect()
}

fn expected(message_group: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("{message_group}-{number}")).collect()
}

#[test]
fn a_stuck_group_with_more_than_fits_into_memory_lets_its_neighbours_flow_and_loses_nothing() {
    let mut world = world();
    world.life(async |broker| {
        broker.create_topic(topic(), spec(1)).await.unwrap();
        publish(&broker, "stuck", 0..1).await;
        assert_eq!(ids(&receive(&broker, 1).await), ["stuck-0"]);
        for round in 0..10 {
            publish(&broker, "stuck", 1 + round * 300..1 + (round + 1) * 300).await;
            publish(&broker, "flows", round * 100..(round + 1) * 100).await;
        }
        let got = drain(&broker).await;
        assert_eq!(got, expected("flows", 0..1_000));
    });
    // A second later, after a kill, the lease still stands; then it ends.
    world.life(async |broker| {
        publish(&broker, "flows", 1_000..1_100).await;
        assert_eq!(drain(&broker).await, expected("flows", 1_000..1_100));
        tokio::time::sleep(LEASE).await;
        let again = receive(&broker, 1).await;
        assert_eq!((ids(&again), again[0].attempt), (vec!["stuck-0"], 2));
        publish(&broker, "flows", 1_100..1_101).await;
        assert_eq!(drain(&broker).await, ["flows-1100"]);
        ack(&broker, &again).await;
        assert_eq!(drain(&broker).await, expected("stuck", 1..3_001));
        assert!(broker.store().lanes().unwrap().len() <= 1);
    });
    world.life(async |broker| {
        assert!(receive(&broker, 32).await.is_empty(), "everything was acknowledged");
    });
}

#[test]
fn many_groups_share_few_queues_and_each_keeps_its_order_across_a_kill() {
    let mut world = world();
    let names: Vec<String> = (0..50).map(|number| format!("g{number}")).collect();
    let mut got = world.life(async |broker| {
        broker.create_topic(topic(), spec(3)).await.unwrap();
        for step in 0..10 {
            for name in &names {
                publish(&broker, name, step..step + 1).await;
            }
        }
        let mut got = Vec::new();
        for _ in 0..10 {
            let batch = receive(&broker, 16).await;
            ack(&broker, &batch).await;
            got.extend(batch.into_iter().map(|one| one.message.message_id));
        }
        // Delivered and never acknowledged: it comes back first.
        receive(&broker, 16).await;
        got
    });
    world.life(async |broker| {
        tokio::time::sleep(LEASE).await;
        got.extend(drain(&broker).await);
        for name in &names {
            assert_eq!(of_group(&got, name), expected(name, 0..10), "{name}");
        }
    });
}

#[test]
fn acked_behind_an_unacked_one_is_remembered_over_a_kill_and_comes_again_with_it() {
    let mut world = world();
    let handles = world.life(async |broker| {
        broker.create_topic(topic(), spec(4)).await.unwrap();
        publish(&broker, "a", 0..4).await;
        let got = receive(&broker, 3).await;
        assert_eq!(ids(&got), ["a-0", "a-1", "a-2"]);
        ack(&broker, &got[1..]).await;
        got.into_iter().map(|one| one.handle).collect::<Vec<_>>()
    });
    world.life(async |broker| {
        assert!(receive(&broker, 32).await.is_empty());
        assert_eq!(
            broker.ack(&group(), &topic(), &handles[1..2]).await.unwrap(),
            [AckOutcome::Done],
            "a repeated ack within its lease"
        );
        tokio::time::sleep(LEASE).await;
        let again = receive(&broker, 32).await;
        assert_eq!(ids(&again), ["a-0", "a-1", "a-2", "a-3"]);
        assert_eq!(again.iter().map(|one| one.attempt).collect::<Vec<_>>(), [2, 2, 2, 1]);
        assert_eq!(broker.ack(&group(), &topic(), &handles[1..2]).await.unwrap(), [AckOutcome::InvalidHandle]);
        ack(&broker, &again).await;
        assert!(receive(&broker, 32).await.is_empty());
    });
}

#[test]
fn message_groups_that_move_when_queues_are_added_keep_their_order_also_across_a_kill() {
    let mut world = world();
    let names: Vec<String> = (0..20).map(|number| format!("g{number}")).collect();
    let mut got = world.life(async |broker| {
        broker.create_topic(topic(), spec(2)).await.unwrap();
        for name in &names {
            publish(&broker, name, 0..5).await;
        }
        let first = receive(&broker, 7).await;
        ack(&broker, &first).await;
        broker.update_topic(&topic(), TopicSpec { queues: Some(6), ..TopicSpec::default() }).await.unwrap();
        for name in &names {
            publish(&broker, name, 5..10).await;
        }
        first.into_iter().map(|one| one.message.message_id).collect::<Vec<_>>()
    });
    world.life(async |broker| {
        // Nothing is acknowledged: of a message group that moved, nothing may come from its new queue.
        let mut held = Vec::new();
        loop {
            let more = receive(&broker, 32).await;
            if more.is_empty() {
                break;
            }
            held.extend(more);
        }
        let mut queues: std::collections::BTreeMap<String, Vec<u32>> = std::collections::BTreeMap::new();
        for one in &held {
            let seen = queues.entry(one.message_group.clone()).or_default();
            seen.push(one.queue.get());
            assert!(seen.iter().all(|queue| *queue == seen[0]), "{} overtook itself", one.message_group);
        }
        let old: Vec<&Delivered> = held.iter().filter(|one| one.queue.get() < 2).collect();
        assert!(old.len() >= 93, "{}", old.len());
        ack(&broker, &held).await;
        got.extend(held.into_iter().map(|one| one.message.message_id));
        let rest = drain(&broker).await;
        assert!(!rest.is_empty(), "no message group moved: the test says nothing");
        got.extend(rest);
        for name in &names {
            assert_eq!(of_group(&got, name), expected(name, 0..10), "{name}");
        }
    });
}
