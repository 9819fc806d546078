//! Lite topics over the real store, in memory and in virtual time: restarts, time to live, retention and dead letters included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{
    AckOutcome, Ask, ChangeOutcome, ClientId, Delivered, GroupSpec, LeaseWish, LetterFate, LiteAction, LiteError,
    LiteListing, LiteStart, LiteSync, Publish, PublishError, Receive, ReceiveError, Remedy, SeekTarget, TopicSpec,
    Which,
};
use bolide::broker::options::BrokerOptions;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::QueueOffset;
use bolide::model::tag::TagFilter;
use bolide::model::topic::TopicType;
use bolide::observe::meters::Meters;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::process::resident_bytes;
use bolide::runtime::tasks::Threads;
use bolide::store::files;
use bolide::store::{FoldEnv, Store, StoreOptions};
use bytes::Bytes;
use world::{START, World};

#[path = "common/broker.rs"]
mod world;

fn world() -> World {
    World { segment_bytes: 64 * 1024, ..World::new() }
}

const MINUTE: Duration = Duration::from_secs(60);

fn parent() -> TopicName {
    TopicName::new("", "parent").unwrap()
}

fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

async fn create(broker: &Broker, spec: TopicSpec) {
    let spec = TopicSpec { topic_type: Some(TopicType::Lite), queues: Some(1), ..spec };
    broker.create_topic(parent(), spec).await.unwrap();
}

fn message(lite: &str, id: &str) -> NewMessage {
    NewMessage {
        message_type: MessageType::Lite,
        message_id: id.to_owned(),
        lite_topic: lite.to_owned(),
        rest: Bytes::from(format!("body of {id}")),
        system_static: Bytes::from_static(b"static"),
        body_bytes: 9,
        ..NewMessage::default()
    }
}

async fn send(broker: &Broker, lite: &str, ids: &[&str]) {
    let messages = ids.iter().map(|id| message(lite, id)).collect();
    broker.publish(Publish { topic: parent(), messages }).await.unwrap();
}

fn client(id: &str) -> ClientId {
    ClientId(id.into())
}

fn wish(who: &str, action: LiteAction, names: &[&str], start: Option<LiteStart>) -> LiteSync {
    LiteSync {
        client: client(who),
        group: group(),
        topic: parent(),
        action,
        names: names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>(),
        version: None,
        start,
    }
}

async fn subscribe(broker: &Broker, who: &str, names: &[&str]) {
    broker.sync_lite(wish(who, LiteAction::CompleteAdd, names, None)).await.unwrap();
}

fn receive_wish(who: &str) -> Receive {
    Receive {
        group: group(),
        topic: parent(),
        filter: TagFilter::All.into(),
        batch: 32,
        lease: LeaseWish::Fixed(MINUTE / 2),
        wait: Duration::from_secs(1),
        client: client(who),
        attempt_id: None,
        ask: Ask::Messages,
    }
}

async fn receive(broker: &Broker, who: &str) -> Vec<Delivered> {
    let mut delivery = broker.receive(receive_wish(who)).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    delivered.iter().map(|one| one.message.message_id.as_str()).collect()
}

async fn ack(broker: &Broker, delivered: &Delivered) {
    let outcomes = broker.ack(&group(), &parent(), std::slice::from_ref(&delivered.handle)).await.unwrap();
    assert_eq!(outcomes, [AckOutcome::Done]);
}

async fn names(broker: &Broker) -> Vec<String> {
    let listing = LiteListing { topic: parent(), prefix: String::new(), after: String::new(), limit: 1_000 };
    broker.list_lite(&listing).unwrap().0.into_iter().map(|lite| lite.name.to_string()).collect()
}

/// Lets virtual time pass until `holds`; a minute of it at a time.
async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..100 {
        if holds().await {
            return;
        }
        tokio::time::sleep(MINUTE).await;
    }
    panic!("it never came to be");
}

#[test]
fn lite_topics_positions_and_leases_survive_kills_and_subscriptions_are_said_again() {
    let mut world = world();
    let held = world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        subscribe(&broker, "a", &["x", "z"]).await;
        send(&broker, "x", &["x0", "x1", "x2"]).await;
        send(&broker, "y", &["y0"]).await;
        let got = receive(&broker, "a").await;
        assert_eq!(ids(&got), ["x0", "x1", "x2"]);
        ack(&broker, &got[0]).await;
        got[1].handle.clone()
    });
    world.life(async |broker| {
        assert_eq!(names(&broker).await, ["x", "y"]);
        assert!(receive(&broker, "a").await.is_empty(), "nobody has subscribed yet");
        subscribe(&broker, "a", &["x", "z"]).await;
        // Ten minutes have passed: the leases have ended.
        let again = receive(&broker, "a").await;
        assert_eq!(ids(&again), ["x1", "x2"]);
        assert!(again.iter().all(|one| one.attempt == 2));
        assert_eq!(broker.ack(&group(), &parent(), &[held]).await.unwrap(), [AckOutcome::InvalidHandle]);
        for one in &again {
            ack(&broker, one).await;
        }
        send(&broker, "z", &["z0"]).await;
        assert_eq!(ids(&receive(&broker, "a").await), ["z0"]);
    });
    world.life(async |broker| {
        subscribe(&broker, "b", &["x", "y"]).await;
        assert_eq!(ids(&receive(&broker, "b").await), ["y0"]);
        send(&broker, "x", &["x3"]).await;
        assert_eq!(ids(&receive(&broker, "b").await), ["x3"]);
    });
}

#[test]
fn a_group_that_begins_at_the_end_still_gets_the_first_message_of_what_it_waited_for_after_a_kill() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        let start = Some(bolide::model::group::StartPosition::Latest);
        broker.create_group(group(), GroupSpec { start, ..GroupSpec::default() }).await.unwrap();
        send(&broker, "old", &["before"]).await;
        subscribe(&broker, "a", &["old", "new"]).await;
        send(&broker, "new", &["first"]).await;
    });
    world.life(async |broker| {
        send(&broker, "old", &["after"]).await;
        subscribe(&broker, "a", &["old", "new"]).await;
        let mut got = receive(&broker, "a").await;
        got.sort_by(|a, b| a.message.message_id.cmp(&b.message.message_id));
        assert_eq!(ids(&got), ["after", "first"]);
    });
}

async fn group_at_the_end(broker: &Broker) {
    let start = Some(bolide::model::group::StartPosition::Latest);
    broker.create_group(group(), GroupSpec { start, ..GroupSpec::default() }).await.unwrap();
}

#[test]
fn what_begins_after_a_kill_before_members_are_back_is_not_missed_by_a_group_that_begins_at_the_end() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        group_at_the_end(&broker).await;
        subscribe(&broker, "a", &["new", "given up", "never"]).await;
        broker.sync_lite(wish("a", LiteAction::Remove, &["given up"], None)).await.unwrap();
    });
    // Twice, so that what was recorded is also read from the folded state, and the log behind it is replayed.
    world.life(async |broker| assert_eq!(names(&broker).await, Vec::<String>::new()));
    world.life(async |broker| {
        send(&broker, "new", &["first"]).await;
        send(&broker, "given up", &["not for us"]).await;
        send(&broker, "unheard of", &["nor this"]).await;
        subscribe(&broker, "a", &["new", "given up", "unheard of"]).await;
        assert_eq!(ids(&receive(&broker, "a").await), ["first"]);
    });
}

#[test]
fn what_begins_while_its_members_are_silent_or_after_its_time_to_live_is_not_missed_either() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker, TopicSpec { lite_ttl: Some(Some(30 * MINUTE)), ..TopicSpec::default() }).await;
        group_at_the_end(&broker).await;
        subscribe(&broker, "a", &["x", "y"]).await;
        send(&broker, "y", &["y0"]).await;
        for one in receive(&broker, "a").await {
            ack(&broker, &one).await;
        }
        // As long as somebody says that it subscribes, the group is in the next lite topic of the name from its beginning.
        until(async || {
            subscribe(&broker, "a", &["x", "y"]).await;
            names(&broker).await.is_empty()
        })
        .await;
        tokio::time::sleep(4 * MINUTE).await;
        assert_eq!(broker.status().lite_subscriptions, 0, "silent for too long");
        send(&broker, "x", &["x0"]).await;
        subscribe(&broker, "a", &["x", "y"]).await;
        assert_eq!(ids(&receive(&broker, "a").await), ["x0"]);
    });
    world.life(async |broker| {
        send(&broker, "y", &["y1"]).await;
        subscribe(&broker, "a", &["y"]).await;
        assert_eq!(ids(&receive(&broker, "a").await), ["y1"]);
    });
}

#[test]
fn what_is_waited_for_in_vain_is_bounded_and_forgotten_after_a_day() {
    let mut world = world();
    world.options.lite_subscriptions_max = 3;
    let latest = Some(LiteStart::Latest);
    world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        for (who, name) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")] {
            broker.sync_lite(wish(who, LiteAction::Add, &[name], latest)).await.unwrap();
            broker.client_terminated(&client(who)).await;
        }
        for name in ["1", "2", "3", "4", "5"] {
            send(&broker, name, &[name]).await;
        }
        // The longest forgotten had to make room; the others begin at their first message.
        broker.sync_lite(wish("a", LiteAction::Add, &["1", "2"], latest)).await.unwrap();
        assert!(receive(&broker, "a").await.is_empty());
        broker.sync_lite(wish("a", LiteAction::CompleteAdd, &["3", "4", "5"], latest)).await.unwrap();
        let mut got = receive(&broker, "a").await;
        got.sort_by(|a, b| a.message.message_id.cmp(&b.message.message_id));
        assert_eq!(ids(&got), ["3", "4", "5"]);
        broker.sync_lite(wish("a", LiteAction::CompleteAdd, &["6"], latest)).await.unwrap();
    });
    world.life(async |broker| {
        tokio::time::sleep(Duration::from_secs(24 * 3_600 + 60)).await;
        send(&broker, "6", &["too late"]).await;
        broker.sync_lite(wish("a", LiteAction::Add, &["6"], latest)).await.unwrap();
        assert!(receive(&broker, "a").await.is_empty());
    });
}

#[test]
fn a_dead_letter_never_goes_into_a_lite_topic_that_came_later() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker, TopicSpec { lite_ttl: Some(Some(MINUTE)), ..TopicSpec::default() }).await;
        broker.create_group(group(), GroupSpec { max_attempts: Some(1), ..GroupSpec::default() }).await.unwrap();
        subscribe(&broker, "a", &["old"]).await;
        send(&broker, "old", &["bad"]).await;
        assert_eq!(ids(&receive(&broker, "a").await), ["bad"]);
        until(async || broker.topic(&TopicName::dead_letter(&group())).is_some()).await;
        until(async || names(&broker).await.is_empty()).await;
    });
    for again in ["after-a-kill", "after-its-parent-was-deleted", "after-that-and-a-kill"] {
        world.life(async |broker| {
            if again == "after-its-parent-was-deleted" {
                broker.delete_topic(&parent()).await.unwrap();
                create(&broker, TopicSpec::default()).await;
            }
            send(&broker, again, &["other"]).await;
            let all = Which::Range { from: QueueOffset(0), until: None };
            let settled = broker.settle_dead_letters(&group(), all, Remedy::Redrive).await.unwrap();
            let fates: Vec<LetterFate> = settled.outcomes.into_iter().map(|outcome| outcome.fate).collect();
            assert_eq!(fates, [LetterFate::LiteGone(parent())], "{again}");
            subscribe(&broker, "b", &[again]).await;
            assert_eq!(ids(&receive(&broker, "b").await), ["other"], "{again}");
        });
    }
}

#[test]
fn every_start_is_obeyed_also_by_time() {
    world().life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        send(&broker, "x", &["0", "1"]).await;
        tokio::time::sleep(MINUTE).await;
        let middle = START.plus(Duration::from_secs(600 + 30));
        send(&broker, "x", &["2", "3"]).await;
        let starts = [
            (LiteStart::Last, "0"),
            (LiteStart::First, "0"),
            (LiteStart::Latest, "4"),
            (LiteStart::Offset(bolide::model::position::QueueOffset(1)), "1"),
            (LiteStart::Tail(1), "3"),
            (LiteStart::At(middle), "2"),
        ];
        broker.store().wait_folded(broker.store().log_end()).await;
        for (index, (start, _)) in starts.iter().enumerate() {
            let name = GroupName::new("", &format!("g{index}")).unwrap();
            let sync = LiteSync { group: name, ..wish("a", LiteAction::Add, &["x"], Some(*start)) };
            broker.sync_lite(sync).await.unwrap();
        }
        send(&broker, "x", &["4"]).await;
        for (index, (start, first)) in starts.iter().enumerate() {
            let name = GroupName::new("", &format!("g{index}")).unwrap();
            let mut delivery = broker.receive(Receive { group: name, ..receive_wish("a") }).await.unwrap();
            assert_eq!(delivery.next().unwrap().message.message_id, *first, "{start:?}");
        }
    });
}

#[test]
fn what_is_read_goes_after_its_time_and_what_is_not_read_or_alive_stays() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker, TopicSpec { lite_ttl: Some(Some(5 * MINUTE)), ..TopicSpec::default() }).await;
        send(&broker, "read", &["r"]).await;
        send(&broker, "unread", &["u"]).await;
        send(&broker, "nobody", &["n"]).await;
        subscribe(&broker, "a", &["read", "unread"]).await;
        let got = receive(&broker, "a").await;
        let read = got.iter().find(|one| one.message.message_id == "r").unwrap();
        ack(&broker, read).await;
    });
    world.life(async |broker| {
        // Ten minutes later by the clock of this world, known from the messages themselves.
        until(async || names(&broker).await == ["unread"]).await;
        tokio::time::sleep(60 * MINUTE).await;
        assert_eq!(names(&broker).await, ["unread"], "unread by a group with a position");
        send(&broker, "read", &["again"]).await;
        subscribe(&broker, "a", &["read", "unread"]).await;
        let got = receive(&broker, "a").await;
        assert_eq!(got.len(), 2);
        for one in &got {
            ack(&broker, one).await;
        }
    });
    world.life(async |broker| {
        until(async || names(&broker).await.is_empty()).await;
        assert_eq!(broker.lite_topic_count(&parent()), 0);
    });
    world.life(async |broker| assert!(names(&broker).await.is_empty(), "and they stay away"));
}

#[test]
fn subscriptions_end_with_silence_and_with_good_bye() {
    world().life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        send(&broker, "x", &["x0"]).await;
        subscribe(&broker, "silent", &["x"]).await;
        tokio::time::sleep(4 * MINUTE).await;
        assert!(receive(&broker, "silent").await.is_empty());
        subscribe(&broker, "leaves", &["x"]).await;
        broker.client_terminated(&client("leaves")).await;
        assert!(receive(&broker, "leaves").await.is_empty());
        subscribe(&broker, "stays", &["x"]).await;
        assert_eq!(ids(&receive(&broker, "stays").await), ["x0"]);
    });
}

#[test]
fn attempts_end_in_the_dead_letter_topic_and_the_lane_goes_on() {
    world().life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        broker.create_group(group(), GroupSpec { max_attempts: Some(1), ..GroupSpec::default() }).await.unwrap();
        subscribe(&broker, "a", &["x"]).await;
        send(&broker, "x", &["bad", "good"]).await;
        let mut delivery = broker.receive(Receive { batch: 1, ..receive_wish("a") }).await.unwrap();
        assert_eq!(delivery.next().unwrap().message.message_id, "bad");
        until(async || broker.topic(&TopicName::dead_letter(&group())).is_some()).await;
        let wait = Receive { wait: MINUTE, ..receive_wish("a") };
        let mut delivery = broker.receive(wait).await.unwrap();
        assert_eq!(delivery.next().unwrap().message.message_id, "good");
        let letters = Receive { topic: TopicName::dead_letter(&group()), ..receive_wish("reader") };
        let letters = Receive { group: GroupName::new("", "readers").unwrap(), ..letters };
        let dead = broker.receive(letters).await.unwrap().next().unwrap();
        assert_eq!((dead.message.message_id.as_str(), dead.message_type), ("bad", MessageType::Lite));
        assert_eq!(dead.origin.unwrap().topic, parent());
    });
}

#[test]
fn a_suspended_lite_topic_comes_back_at_its_time_and_spends_no_attempt() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        broker.create_group(group(), GroupSpec { max_attempts: Some(1), ..GroupSpec::default() }).await.unwrap();
        subscribe(&broker, "a", &["x"]).await;
        send(&broker, "x", &["x0"]).await;
        for _ in 0..3 {
            let got = receive(&broker, "a").await;
            assert_eq!((got.len(), got[0].attempt), (1, 1));
            let changed = broker.suspend(&group(), &parent(), &got[0].handle, 5 * MINUTE).await.unwrap();
            assert!(matches!(changed, ChangeOutcome::Changed { .. }));
            assert!(receive(&broker, "a").await.is_empty());
            let outcomes = broker.ack(&group(), &parent(), std::slice::from_ref(&got[0].handle)).await.unwrap();
            assert_eq!(outcomes, [AckOutcome::InvalidHandle]);
            tokio::time::sleep(5 * MINUTE).await;
            subscribe(&broker, "a", &["x"]).await;
        }
    });
    world.life(async |broker| {
        // This life begins before the time of the last suspension.
        subscribe(&broker, "a", &["x"]).await;
        assert!(receive(&broker, "a").await.is_empty());
        tokio::time::sleep(20 * MINUTE).await;
        subscribe(&broker, "a", &["x"]).await;
        let got = receive(&broker, "a").await;
        assert_eq!((got.len(), got[0].attempt), (1, 1));
    });
}

#[test]
fn quotas_of_lite_topics_are_exact_also_inside_one_request_and_after_a_kill() {
    let mut world = world();
    world.options.lite_topics_per_topic_max = 2;
    world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        let batch = |names: &[&str]| Publish {
            topic: parent(),
            messages: names.iter().map(|name| message(name, name)).collect(),
        };
        let refused = broker.publish(batch(&["a", "b", "c"])).await.unwrap_err();
        assert_eq!(refused, PublishError::LiteTopicQuota { topic: parent(), most: 2 });
        assert!(names(&broker).await.is_empty(), "all or none");
        broker.publish(batch(&["a", "b", "a"])).await.unwrap();
    });
    world.life(async |broker| {
        send(&broker, "a", &["more"]).await;
        let messages = vec![message("c", "c")];
        assert!(broker.publish(Publish { topic: parent(), messages }).await.is_err());
        assert_eq!(names(&broker).await, ["a", "b"]);
    });
}

#[test]
fn what_is_only_on_disk_comes_in_order_and_many_lite_topics_at_once() {
    let mut world = world();
    let names: Vec<String> = (0..20).map(|index| format!("cold-{index:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        for name in &names {
            send(&broker, name, &["0", "1", "2"]).await;
        }
    });
    world.life(async |broker| {
        subscribe(&broker, "a", &names).await;
        let first = receive(&broker, "a").await;
        assert_eq!(first.len(), 32);
        let second = receive(&broker, "a").await;
        assert_eq!(first.len() + second.len(), 59, "one lane was cut by the batch, and waits for its first two");
        let mut seen: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for one in first.iter().chain(&second) {
            seen.entry(one.queue).or_default().push(one.message.message_id.clone());
        }
        assert_eq!(seen.len(), 20);
        assert!(seen.values().all(|ids| ids.iter().eq(["0", "1", "2"][..ids.len()].iter())));
        for one in &first {
            ack(&broker, one).await;
        }
        assert_eq!(ids(&receive(&broker, "a").await), ["2"]);
    });
}

#[test]
fn a_reset_elsewhere_does_not_take_a_lite_delivery_from_its_client() {
    world().life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        subscribe(&broker, "a", &["x"]).await;
        send(&broker, "x", &["x0"]).await;
        let mut delivery = broker.receive(receive_wish("a")).await.unwrap();
        // Deliveries that are still under way are looked at again after any reset.
        let plain = TopicName::new("", "plain").unwrap();
        broker.create_topic(plain.clone(), TopicSpec::default()).await.unwrap();
        let note = NewMessage { message_type: MessageType::Normal, lite_topic: String::new(), ..message("", "note") };
        broker.publish(Publish { topic: plain.clone(), messages: vec![note] }).await.unwrap();
        broker.reset_group(&group(), &plain, None, SeekTarget::Latest, false).await.unwrap();
        assert_eq!(delivery.next().unwrap().message.message_id, "x0");
    });
}

#[test]
fn wrong_places_and_filters_are_refused() {
    world().life(async |broker| {
        create(&broker, TopicSpec::default()).await;
        let plain = TopicName::new("", "plain").unwrap();
        broker.create_topic(plain.clone(), TopicSpec::default()).await.unwrap();
        let on = |topic: TopicName| LiteSync { topic, ..wish("a", LiteAction::Add, &["x"], None) };
        assert_eq!(broker.sync_lite(on(plain.clone())).await, Err(LiteError::NotLite(plain)));
        let nowhere = TopicName::new("", "nowhere").unwrap();
        assert_eq!(broker.sync_lite(on(nowhere.clone())).await, Err(LiteError::TopicNotFound(nowhere)));
        let filtered = Receive { filter: TagFilter::parse("A").unwrap().into(), ..receive_wish("a") };
        assert_eq!(broker.receive(filtered).await.unwrap_err(), ReceiveError::LiteFilter);
        // A deleted parent takes its lite topics and subscriptions along.
        send(&broker, "x", &["x0"]).await;
        subscribe(&broker, "a", &["x"]).await;
        broker.delete_topic(&parent()).await.unwrap();
        create(&broker, TopicSpec::default()).await;
        assert!(names(&broker).await.is_empty());
        subscribe(&broker, "a", &["x"]).await;
        assert!(receive(&broker, "a").await.is_empty());
    });
}

#[test]
fn on_a_mixed_topic_a_lite_client_gets_its_lite_topics_and_the_others_the_rest() {
    world().life(async |broker| {
        let spec = TopicSpec { topic_type: Some(TopicType::Mixed), ..TopicSpec::default() };
        broker.create_topic(parent(), spec).await.unwrap();
        send(&broker, "x", &["lite"]).await;
        let plain = NewMessage { message_type: MessageType::Normal, lite_topic: String::new(), ..message("", "plain") };
        broker.publish(Publish { topic: parent(), messages: vec![plain] }).await.unwrap();
        subscribe(&broker, "a", &["x"]).await;
        assert_eq!(ids(&receive(&broker, "a").await), ["lite"]);
        assert_eq!(ids(&receive(&broker, "b").await), ["plain"]);
    });
}

/// Opens a broker on the disk, as a process does, and closes it cleanly; hands back how long the opening took.
fn on_disk(dir: &Path, work: impl AsyncFnOnce(Broker)) -> Duration {
    let threads = Threads::start(2).unwrap();
    let (tasks, clock) = (threads.tasks(), Clock::system());
    let mut options = StoreOptions::default();
    options.log.dir = dir.to_owned();
    let began = std::time::Instant::now();
    let store = Store::open(options, files::real(), FoldEnv::Disk, &clock, tasks.clone()).unwrap();
    let opened = threads.block_on(async {
        let entropy = Entropy::system();
        let metrics = Arc::new(Meters::noop());
        let options = BrokerOptions::default();
        let broker = Broker::open(options, store, clock, tasks, entropy, metrics, [7; 32]).await.unwrap();
        let opened = began.elapsed();
        work(broker.clone()).await;
        broker.close().await;
        opened
    });
    threads.stop();
    opened
}

/// The figure of a hundred thousand lite topics: resident memory over that of an empty broker, and the restart.
#[test]
#[ignore = "a figure, to be taken with --release -- --ignored --nocapture"]
fn a_hundred_thousand_lite_topics_under_one_parent() {
    const MANY: usize = 100_000;
    let resident = || resident_bytes().unwrap_or_default() as f64 / f64::from(1 << 20);
    let dir = tempfile::tempdir().unwrap();
    on_disk(dir.path(), async |broker| {
        create(&broker, TopicSpec::default()).await;
        let empty = resident();
        for first in (0..MANY).step_by(1_000) {
            let messages =
                (first..first + 1_000).map(|index| message(&format!("lite-{index}"), &index.to_string())).collect();
            broker.publish(Publish { topic: parent(), messages }).await.unwrap();
        }
        assert_eq!(broker.lite_topic_count(&parent()), MANY);
        println!("memory over empty with {MANY} lite topics: {:.0} MiB", resident() - empty);
        for client in 0..50 {
            let some: Vec<String> = (0..2_000).map(|index| format!("lite-{}", client * 2_000 + index)).collect();
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            subscribe(&broker, &format!("client-{client}"), &some).await;
        }
        println!("and with a group of 50 clients that subscribes to all: {:.0} MiB", resident() - empty);
    });
    let opened = on_disk(dir.path(), async |broker| {
        assert_eq!(broker.lite_topic_count(&parent()), MANY);
        subscribe(&broker, "client-0", &["lite-0", "lite-99999"]).await;
        assert_eq!(receive(&broker, "client-0").await.len(), 2);
    });
    println!("restart: {:.2} s", opened.as_secs_f64());
    assert!(opened < Duration::from_secs(5), "{opened:?}");
}
