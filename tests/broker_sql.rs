//! Filters by expression over the real store: each member gets what it asked for, nothing is lost between them, and what the
//! broker remembers of it survives restarts or is found out again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{Ask, ClientId, Delivered, LeaseWish, Publish, Receive, TopicSpec};
use bolide::broker::options::BrokerOptions;
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::sql::Sql;
use bolide::model::tag::TagFilter;
use bolide::model::topic::TopicType;
use bolide::wire::rocketmq as v2;
use prost::Message;
use world::World;

#[path = "common/broker.rs"]
mod world;

fn world() -> World {
    World { cache_bytes: Some(4096), ..World::new() }
}

/// With so few entries in memory that a backlog is read from the folded state.
fn forgetful() -> World {
    World { options: BrokerOptions { entries_in_memory_max: 8, ..BrokerOptions::default() }, ..world() }
}

const LEASE: Duration = Duration::from_secs(30);

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn message(id: &str, tag: &str, properties: &[(&str, &str)]) -> NewMessage {
    let stored = v2::Message {
        user_properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: vec![b'x'; 500].into(),
        ..Default::default()
    };
    let system = v2::SystemProperties {
        message_id: id.to_owned(),
        tag: Some(tag.to_owned()),
        keys: vec!["k1".into(), "k2".into()],
        ..Default::default()
    };
    NewMessage {
        message_id: id.to_owned(),
        tag: tag.to_owned(),
        rest: stored.encode_to_vec().into(),
        system_static: system.encode_to_vec().into(),
        body_bytes: 500,
        ..NewMessage::default()
    }
}

async fn create(broker: &Broker) {
    broker.create_topic(topic(), TopicSpec { queues: Some(2), ..TopicSpec::default() }).await.unwrap();
}

async fn publish(broker: &Broker, messages: Vec<NewMessage>) {
    for message in messages {
        broker.publish(Publish { topic: topic(), messages: vec![message] }).await.unwrap();
    }
}

/// Messages 0 to `count`, each with its number as property `n`.
async fn publish_numbered(broker: &Broker, count: usize) {
    for first in (0..count).step_by(64) {
        let numbers = first..count.min(first + 64);
        let messages = numbers.map(|n| message(&format!("m{n:05}"), "", &[("n", &n.to_string())])).collect();
        broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    }
}

fn sql(text: &str) -> Filter {
    Filter::Sql(Arc::new(Sql::parse(text).unwrap()))
}

fn wish(filter: Filter, batch: usize, wait: u64) -> Receive {
    Receive {
        group: GroupName::new("", "g").unwrap(),
        topic: topic(),
        filter,
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait: Duration::from_secs(wait),
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    }
}

async fn take(broker: &Broker, wish: Receive) -> Vec<Delivered> {
    let mut delivery = broker.receive(wish).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

async fn ack(broker: &Broker, delivered: &[Delivered]) {
    let handles: Vec<String> = delivered.iter().map(|one| one.handle.clone()).collect();
    let group = GroupName::new("", "g").unwrap();
    broker.ack(&group, &topic(), &handles).await.unwrap();
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    let mut ids: Vec<&str> = delivered.iter().map(|one| one.message.message_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

/// Receives and acknowledges until nothing comes; how often each message came.
async fn drain(broker: &Broker, filter: &Filter) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    loop {
        let got = take(broker, wish(filter.clone(), 32, 1)).await;
        if got.is_empty() {
            return seen;
        }
        ack(broker, &got).await;
        for one in got {
            *seen.entry(one.message.message_id).or_default() += 1;
        }
    }
}

/// Members show up with these filters; a message that comes before its member is nobody's.
async fn known(broker: &Broker, filters: &[&Filter]) {
    for filter in filters {
        assert!(take(broker, wish((*filter).clone(), 1, 0)).await.is_empty());
    }
}

fn numbered(numbers: impl Iterator<Item = usize>) -> BTreeMap<String, usize> {
    numbers.map(|n| (format!("m{n:05}"), 1)).collect()
}

#[test]
fn a_member_gets_what_its_expression_is_true_of_and_the_rest_is_skipped() {
    world().life(async |broker| {
        create(&broker).await;
        publish(
            &broker,
            vec![
                message("big", "", &[("x", "3000000000")]),
                message("small", "", &[("x", "1")]),
                message("decimal", "", &[("x", "1.5")]),
                message("word", "", &[("x", "many")]),
                message("none", "", &[]),
            ],
        )
        .await;
        let got = take(&broker, wish(sql("x > 1"), 32, 1)).await;
        assert_eq!(ids(&got), ["big", "decimal"]);
        assert!(got.iter().all(|one| one.attempt == 1));
        assert!(
            take(&broker, wish(Filter::ALL, 32, 1)).await.is_empty(),
            "nobody wanted the others when they were judged"
        );
    });
}

#[test]
fn properties_of_the_system_can_be_asked_for_by_their_known_names() {
    world().life(async |broker| {
        create(&broker).await;
        publish(&broker, vec![message("a", "red", &[]), message("b", "blue", &[])]).await;
        let got = take(&broker, wish(sql("TAGS = 'blue' AND KEYS = 'k1 k2' AND UNIQ_KEY IN ('a', 'b')"), 32, 1)).await;
        assert_eq!(ids(&got), ["b"]);
    });
}

#[test]
fn members_with_different_expressions_lose_nothing_to_each_other() {
    let mut world = forgetful();
    let (low, high) = (sql("n < 300"), sql("n >= 300"));
    world.life(async |broker| {
        create(&broker).await;
        known(&broker, &[&low, &high]).await;
        publish_numbered(&broker, 600).await;
        assert_eq!(drain(&broker, &high).await, numbered(300..600));
    });
    // What was set aside for the other is still there after a restart, when nobody has judged it yet.
    world.life(async |broker| {
        assert_eq!(drain(&broker, &low).await, numbered(0..300));
        assert!(drain(&broker, &Filter::ALL).await.is_empty());
    });
}

#[test]
fn a_member_with_tags_and_one_with_an_expression_each_get_their_own() {
    forgetful().life(async |broker| {
        create(&broker).await;
        let (tagged, odd) = (Filter::from(TagFilter::parse("even").unwrap()), sql("n = 1"));
        known(&broker, &[&tagged, &odd]).await;
        for n in 0..100 {
            let (tag, value) = if n % 2 == 0 { ("even", "0") } else { ("odd", "1") };
            publish(&broker, vec![message(&format!("m{n:05}"), tag, &[("n", value)])]).await;
        }
        assert_eq!(drain(&broker, &tagged).await, numbered((0..100).step_by(2)));
        assert_eq!(drain(&broker, &odd).await, numbered((1..100).step_by(2)));
    });
}

#[test]
fn a_redelivery_goes_to_a_member_whose_expression_wants_it_also_after_a_restart() {
    let mut world = world();
    let (low, high) = (sql("n < 1"), sql("n >= 1"));
    world.life(async |broker| {
        create(&broker).await;
        known(&broker, &[&low, &high]).await;
        publish_numbered(&broker, 2).await;
        assert_eq!(ids(&take(&broker, wish(low.clone(), 32, 1)).await), ["m00000"]);
        ack(&broker, &take(&broker, wish(high.clone(), 32, 1)).await).await;
        // Its lease ends while only the other member looks.
        assert!(take(&broker, wish(high.clone(), 32, 60)).await.is_empty());
        let again = take(&broker, wish(low.clone(), 32, 60)).await;
        assert_eq!((ids(&again), again[0].attempt), (vec!["m00000"], 2));
    });
    world.life(async |broker| {
        assert!(take(&broker, wish(high.clone(), 32, 60)).await.is_empty());
        let again = take(&broker, wish(low.clone(), 32, 60)).await;
        assert_eq!((ids(&again), again[0].attempt), (vec!["m00000"], 3));
    });
}

#[test]
fn a_waiting_receive_is_woken_by_what_it_wants_and_sleeps_through_the_rest() {
    world().life(async |broker| {
        create(&broker).await;
        let waiting = take(&broker, wish(sql("n = 7"), 32, 20));
        let sending = publish_numbered(&broker, 10);
        let (got, ()) = tokio::join!(waiting, sending);
        assert_eq!(ids(&got), ["m00007"]);
    });
}

#[test]
fn each_of_several_waiting_expressions_gets_its_message() {
    world().life(async |broker| {
        create(&broker).await;
        let filters = [sql("n = 1"), sql("n = 2"), TagFilter::parse("three").unwrap().into()];
        known(&broker, &filters.each_ref()).await;
        let [one, two, three] = filters.map(|filter| take(&broker, wish(filter, 1, 20)));
        let sending = publish(
            &broker,
            vec![
                message("c", "three", &[("n", "3")]),
                message("b", "", &[("n", "2")]),
                message("a", "", &[("n", "1")]),
            ],
        );
        let (one, two, three, ()) = tokio::join!(one, two, three, sending);
        assert_eq!((ids(&one), ids(&two), ids(&three)), (vec!["a"], vec!["b"], vec!["c"]));
    });
}

#[test]
fn a_put_back_message_wakes_the_waiting_member_that_wants_it_and_not_only_the_first() {
    world().life(async |broker| {
        create(&broker).await;
        known(&broker, &[&sql("n = 9"), &sql("n = 1")]).await;
        publish_numbered(&broker, 2).await;
        let held = take(&broker, wish(sql("n = 1"), 1, 1)).await;
        let first = take(&broker, wish(sql("n = 9"), 1, 5));
        let second = take(&broker, wish(sql("n = 1"), 1, 5));
        let group = GroupName::new("", "g").unwrap();
        let back = async {
            tokio::task::yield_now().await;
            broker.change_invisible(&group, &topic(), &held[0].handle, Duration::ZERO).await.unwrap();
        };
        let (first, second, ()) = tokio::join!(first, second, back);
        assert!(first.is_empty());
        assert_eq!((ids(&second), second[0].attempt), (vec!["m00001"], 2));
    });
}

#[test]
fn a_backlog_in_which_few_match_is_gone_through_completely_and_once() {
    let mut world = forgetful();
    let few = sql("n BETWEEN 1000 AND 1009 OR n IN (5, 2999)");
    let expected = || numbered([5].into_iter().chain(1000..1010).chain([2999]));
    world.life(async |broker| {
        create(&broker).await;
        publish_numbered(&broker, 3_000).await;
        assert_eq!(drain(&broker, &few).await, expected());
    });
    // The skipped ones stay skipped, give or take what was not recorded yet; nothing that was acknowledged comes again.
    world.life(async |broker| {
        assert!(drain(&broker, &few).await.is_empty());
    });
}

/// Messages 0 to `count` of each of `groups` message groups, each with its number as property `n`.
async fn publish_ordered(broker: &Broker, groups: usize, count: usize) {
    for n in 0..count {
        let of_group = |group| NewMessage {
            message_type: MessageType::Fifo,
            message_group: format!("g{group}"),
            ..message(&format!("g{group}-{n:03}"), "", &[("n", &n.to_string())])
        };
        let messages = (0..groups).map(of_group).collect();
        broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    }
}

/// Receives and acknowledges for the members in turn until nothing comes for any of them, for at most `rounds` rounds.
async fn drain_in_turn(broker: &Broker, filters: &[Filter], rounds: usize, seen: &mut BTreeMap<String, Vec<usize>>) {
    for _ in 0..rounds {
        let mut came = 0;
        for filter in filters {
            let got = take(broker, wish(filter.clone(), 32, 1)).await;
            came += got.len();
            ack(broker, &got).await;
            for one in got {
                let (group, n) = one.message.message_id.split_once('-').unwrap();
                seen.entry(group.to_owned()).or_default().push(n.parse().unwrap());
            }
        }
        if came == 0 {
            return;
        }
    }
}

async fn create_ordered(broker: &Broker) {
    let spec = TopicSpec { topic_type: Some(TopicType::Fifo), queues: Some(2), ..TopicSpec::default() };
    broker.create_topic(topic(), spec).await.unwrap();
}

#[test]
fn message_groups_keep_their_order_when_members_want_different_messages_of_them() {
    let mut world = forgetful();
    let filters = [sql("n BETWEEN 0 AND 9 OR n > 29"), sql("n BETWEEN 10 AND 29")];
    let mut seen = BTreeMap::new();
    world.life(async |broker| {
        create_ordered(&broker).await;
        known(&broker, &filters.each_ref()).await;
        publish_ordered(&broker, 7, 40).await;
        drain_in_turn(&broker, &filters, 5, &mut seen).await;
        assert!(!seen.is_empty());
    });
    world.life(async |broker| {
        known_or_served(&broker, &filters, &mut seen).await;
        drain_in_turn(&broker, &filters, 1_000, &mut seen).await;
    });
    assert_eq!(seen.len(), 7);
    for (group, numbers) in seen {
        assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "{group}");
    }
}

/// After a restart nobody knows the filters: the first look of each member may already bring something.
async fn known_or_served(broker: &Broker, filters: &[Filter], seen: &mut BTreeMap<String, Vec<usize>>) {
    drain_in_turn(broker, filters, 1, seen).await;
}

#[test]
fn an_expression_leaves_out_messages_of_a_group_and_keeps_the_rest_in_order() {
    forgetful().life(async |broker| {
        create_ordered(&broker).await;
        publish_ordered(&broker, 5, 60).await;
        let mut seen = BTreeMap::new();
        drain_in_turn(&broker, &[sql("n IN (3, 17, 18, 41)")], 1_000, &mut seen).await;
        assert_eq!(seen.len(), 5);
        assert!(seen.values().all(|numbers| *numbers == [3, 17, 18, 41]), "{seen:?}");
    });
}

#[test]
fn what_waited_behind_a_held_message_of_its_group_is_judged_while_others_are_served() {
    forgetful().life(async |broker| {
        create_ordered(&broker).await;
        let all = sql("n >= 0");
        publish_ordered(&broker, 1, 1).await;
        let held = take(&broker, wish(all.clone(), 1, 1)).await;
        assert_eq!(ids(&held), ["g0-000"]);
        // More than a lane keeps in memory wait behind it, and all neighbours are served.
        publish_ordered(&broker, 3, 200).await;
        let mut seen = BTreeMap::new();
        drain_in_turn(&broker, std::slice::from_ref(&all), 1_000, &mut seen).await;
        assert_eq!(seen.get("g0"), None);
        assert!(["g1", "g2"].iter().all(|group| seen[*group] == (0..200).collect::<Vec<_>>()));
        ack(&broker, &held).await;
        drain_in_turn(&broker, &[all], 1_000, &mut seen).await;
        assert_eq!(seen["g0"], (0..200).collect::<Vec<_>>());
    });
}
