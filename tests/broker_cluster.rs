//! A broker of a cluster over the real store, in memory and in virtual time: what it takes over from the route service, what
//! it asks of it, and what a proxy elsewhere needs of it, restarts included.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::api::{
    AckOutcome, ApplyError, Ask, Authority, CatalogError, ClientId, ClusterSetup, Delivered, GroupSpec, LeaseWish,
    NoPeers, Publish, PublishError, Receive, ReceiveError, SettleError, Setup, TopicSpec,
};
use bolide::broker::options::BrokerOptions;
use bolide::broker::{Broker, Handles};
use bolide::model::cluster::{ClusterId, ReceiptKey, Revision, View};
use bolide::model::group::Group;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::{GroupId, ShardId, TopicId};
use bolide::model::settings::new_topic;
use bolide::model::tag::TagFilter;
use bolide::model::time::Timestamp;
use bolide::model::topic::TopicType;
use bolide::observe::meters::Meters;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Tasks;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::log::LogOptions;
use bolide::store::record::{Record, Unit};
use bolide::store::{FoldEnv, Store, StoreOptions};
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

const START: Timestamp = Timestamp(1_700_000_000_000);
const LEASE: Duration = Duration::from_secs(30);
const CLUSTER: ClusterId = ClusterId(77);

/// A route service that exists only as its present view, and the broker that follows it.
#[derive(Clone, Default)]
struct Route(Arc<Mutex<RouteState>>);

#[derive(Default)]
struct RouteState {
    view: View,
    broker: Option<Broker>,
    asked: Vec<String>,
    is_away: bool,
    is_slow: bool,
}

impl Route {
    /// Changes the view and tells nobody.
    fn change(&self, change: impl FnOnce(&mut View)) -> View {
        let mut state = self.0.lock();
        change(&mut state.view);
        state.view.cluster = CLUSTER;
        state.view.revision.0 += 1;
        state.view.clone()
    }

    fn view(&self) -> View {
        self.0.lock().view.clone()
    }

    async fn made(&self, name: String, change: impl FnOnce(&mut View)) -> Result<Revision, CatalogError> {
        let broker = {
            let mut state = self.0.lock();
            state.asked.push(name);
            if state.is_away {
                return Err(CatalogError::Overloaded);
            }
            state.broker.clone().filter(|_| !state.is_slow)
        };
        let view = self.change(change);
        if let Some(broker) = broker {
            // As the watch of the app does, at its own time.
            let applied = view.clone();
            tokio::spawn(async move { broker.apply(&applied).await.unwrap() });
        }
        Ok(view.revision)
    }
}

impl Authority for Route {
    fn create_group(&self, name: GroupName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(self.made(name.to_string(), move |view| put_group(view, 9, &name.to_string())))
    }

    fn create_dead_letter_topic(&self, name: TopicName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(self.made(name.to_string(), move |view| {
            let spec = TopicSpec { queues: Some(1), ..TopicSpec::default() };
            view.topics.insert(name.clone(), Arc::new(new_topic(TopicId(99), name, &spec).unwrap()));
        }))
    }
}

/// Disks that outlive processes.
struct World {
    files: MemoryFiles,
    env: FoldEnv,
    lives: u64,
    route: Route,
}

impl World {
    fn new() -> Self {
        Self { files: MemoryFiles::new(1), env: FoldEnv::memory().unwrap(), lives: 0, route: Route::default() }
    }

    /// One process of a cluster, ended by a kill.
    fn life<T>(&mut self, life: impl AsyncFnOnce(Broker, Route) -> T) -> T {
        let setup = ClusterSetup {
            cluster: CLUSTER,
            receipt_keys: vec![key(1)],
            authority: Arc::new(self.route.clone()),
            peers: Arc::new(NoPeers),
        };
        let route = self.route.clone();
        self.life_as(setup.into(), async move |broker| {
            route.0.lock().broker = Some(broker.clone());
            let result = life(broker, route.clone()).await;
            route.0.lock().broker = None;
            result
        })
    }

    fn life_as<T>(&mut self, setup: Setup, life: impl AsyncFnOnce(Broker) -> T) -> T {
        self.lives += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let result = runtime.block_on(async {
            let entropy = Entropy::seeded(self.lives);
            let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
            let clock = Clock::anchored(START.plus(Duration::from_secs(600 * self.lives)));
            let log = LogOptions::tiny(&Path::new("/data").to_string_lossy(), 256 * 1024);
            let options = StoreOptions { log, ..StoreOptions::default() };
            let store = Store::open(options, self.files.life(), self.env.clone(), &clock, tasks.clone()).unwrap();
            let metrics = Arc::new(Meters::noop());
            let broker =
                Broker::open(BrokerOptions::default(), store, clock, tasks, entropy, metrics, setup).await.unwrap();
            let result = life(broker.clone()).await;
            broker.shutdown().stop();
            broker.store().abandon().await;
            result
        });
        drop(runtime);
        self.files.kill();
        result
    }
}

fn in_one_life(life: impl AsyncFnOnce(Broker, Route)) {
    World::new().life(life);
}

fn key(id: u8) -> ReceiptKey {
    ReceiptKey { id, key: [id; 32] }
}

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

fn put_topic(view: &mut View, id: u32, name: &str, topic_type: TopicType, queues: u32) {
    let name = TopicName::new("", name).unwrap();
    let spec = TopicSpec { topic_type: Some(topic_type), queues: Some(queues), ..TopicSpec::default() };
    view.topics.insert(name.clone(), Arc::new(new_topic(TopicId(id), name, &spec).unwrap()));
}

fn put_group(view: &mut View, id: u32, name: &str) {
    let name = GroupName::new("", name).unwrap();
    view.groups.insert(name.clone(), Arc::new(Group::with_defaults(GroupId(id), name)));
}

/// Topic `t` with two queues, group `g`, and a key.
fn plain(view: &mut View) {
    put_topic(view, 5, "t", TopicType::Mixed, 2);
    put_group(view, 6, "g");
    view.receipt_keys = vec![key(1)];
}

fn message(id: &str, message_group: &str) -> NewMessage {
    let kind = if message_group.is_empty() { MessageType::Normal } else { MessageType::Fifo };
    NewMessage {
        message_id: id.to_owned(),
        message_type: kind,
        message_group: message_group.to_owned(),
        rest: Bytes::from_static(b"body"),
        body_bytes: 4,
        ..NewMessage::default()
    }
}

async fn publish(broker: &Broker, message_group: &str, ids: &[&str]) {
    for id in ids {
        let messages = vec![message(id, message_group)];
        broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    }
}

fn wish(batch: usize, wait: u64) -> Receive {
    Receive {
        group: group(),
        topic: topic(),
        filter: TagFilter::parse("*").unwrap().into(),
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait: Duration::from_secs(wait),
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    }
}

async fn receive(broker: &Broker, wish: Receive) -> Vec<Delivered> {
    let mut delivery = broker.receive(wish).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    delivered.iter().map(|one| one.message.message_id.as_str()).collect()
}

fn handles(delivered: &[Delivered]) -> Vec<String> {
    delivered.iter().map(|one| one.handle.clone()).collect()
}

fn names(broker: &Broker) -> (Vec<String>, Vec<String>) {
    let topics = broker.topics().iter().map(|topic| format!("{}:{}/{}", topic.id, topic.name, topic.queues)).collect();
    (topics, broker.groups().iter().map(|group| format!("{}:{}", group.id, group.name)).collect())
}

#[test]
fn a_view_is_taken_over_once_and_is_there_after_a_kill() {
    let mut world = World::new();
    world.life(async |broker, route| {
        assert_eq!(broker.applied(), Revision(0));
        let view = route.change(plain);
        broker.apply(&view).await.unwrap();
        let (known, end) = (names(&broker), broker.store().log_end());
        assert_eq!(known, (vec!["5:t/2".to_owned()], vec!["6:g".to_owned()]));
        broker.apply(&view).await.unwrap();
        assert_eq!((names(&broker), broker.store().log_end()), (known, end), "the same view writes nothing more");
        publish(&broker, "", &["a"]).await;
    });
    world.life(async |broker, route| {
        assert_eq!((broker.applied(), names(&broker).0), (Revision(1), vec!["5:t/2".to_owned()]));
        broker.apply(&route.view()).await.unwrap();
        assert_eq!(ids(&receive(&broker, wish(5, 0)).await), ["a"], "nothing was made anew");
    });
}

#[test]
fn an_older_view_never_undoes_a_newer_one_also_after_a_kill() {
    let mut world = World::new();
    let old = world.life(async |broker, route| {
        let old = route.change(plain);
        let new = route.change(|view| {
            put_topic(view, 7, "u", TopicType::Normal, 1);
            view.receipt_keys.insert(0, key(2));
        });
        broker.apply(&new).await.unwrap();
        broker.apply(&old).await.unwrap();
        assert_eq!((broker.applied(), broker.topics().len()), (Revision(2), 2));
        publish(&broker, "", &["a"]).await;
        let got = receive(&broker, wish(1, 0)).await;
        assert!(Handles::ring(&[key(2)]).open(&got[0].handle).is_some(), "keys do not go back either");
        old
    });
    world.life(async |broker, _| {
        broker.apply(&old).await.unwrap();
        assert_eq!((broker.applied(), broker.topics().len()), (Revision(2), 2));
    });
}

#[test]
fn a_crash_in_the_middle_of_many_changes_leaves_none_out_and_makes_none_twice() {
    let mut world = World::new();
    let many = |view: &mut View| {
        plain(view);
        for id in 100..2_600 {
            put_topic(view, id, &format!("a-topic-with-a-longer-name-{id}"), TopicType::Normal, 1);
        }
    };
    world.life(async |broker, route| {
        let view = route.change(many);
        let applying = tokio::spawn(async move { broker.apply(&view).await });
        // Whatever is on the disk by now.
        tokio::task::yield_now().await;
        applying.abort();
    });
    world.life(async |broker, route| {
        let known = broker.topics().len();
        assert!(known == 2_501 || broker.applied() == Revision(0), "{known} topics at {}", broker.applied());
        broker.apply(&route.view()).await.unwrap();
        assert_eq!((broker.topics().len(), broker.applied()), (2_501, Revision(1)));
    });
    // Exactly between two units: some changes are there, the revision is not.
    let mut world = World::new();
    world.life(async |broker, route| {
        let view = route.change(plain);
        let mut unit = Unit::state();
        unit.push(&Record::TopicPut(bolide::model::topic::Topic::clone(&view.topics[&topic()])));
        unit.push(&Record::CatalogApplied { revision: Revision(0) });
        let seq = broker.store().append(unit).unwrap();
        let rung = bolide::runtime::watermark::Rung::Durable;
        broker.store().marks().wait(rung, seq).await.unwrap();
    });
    world.life(async |broker, route| {
        assert_eq!((broker.topics().len(), broker.applied()), (1, Revision(0)));
        broker.apply(&route.view()).await.unwrap();
        assert_eq!(names(&broker), (vec!["5:t/2".to_owned()], vec!["6:g".to_owned()]));
        assert_eq!(broker.applied(), Revision(1));
    });
}

#[test]
fn a_topic_that_was_deleted_and_made_anew_is_another_one() {
    let mut world = World::new();
    let handle = world.life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        publish(&broker, "", &["old", "older"]).await;
        let got = receive(&broker, wish(1, 0)).await;
        // Both at once: the broker was away while it was deleted.
        let anew = route.change(|view| {
            put_topic(view, 8, "t", TopicType::Mixed, 3);
            put_group(view, 9, "g");
        });
        broker.apply(&anew).await.unwrap();
        assert_eq!(names(&broker), (vec!["8:t/3".to_owned()], vec!["9:g".to_owned()]));
        publish(&broker, "", &["new"]).await;
        got[0].handle.clone()
    });
    world.life(async |broker, _| {
        assert_eq!(broker.ack(&group(), &topic(), &[handle]).await.unwrap(), [AckOutcome::InvalidHandle]);
        assert_eq!(ids(&receive(&broker, wish(5, 0)).await), ["new"]);
    });
}

#[test]
fn what_a_waiting_receive_waits_for_may_be_deleted_by_a_view() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { broker.receive(wish(1, 20)).await.map(|_| ()) }
        });
        while broker.status().pollers == 0 {
            tokio::task::yield_now().await;
        }
        broker.apply(&route.change(|view| view.topics.clear())).await.unwrap();
        assert_eq!(waiting.await.unwrap(), Err(ReceiveError::TopicNotFound(topic())));
    });
}

#[test]
fn more_queues_come_with_a_fence_and_only_once() {
    let mut world = World::new();
    world.life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        for at in 0..20 {
            publish(&broker, &format!("g{at}"), &["first"]).await;
        }
        let wide = route.change(|view| put_topic(view, 5, "t", TopicType::Mixed, 6));
        broker.apply(&wide).await.unwrap();
        let mut higher = wide.clone();
        higher.revision.0 += 1;
        broker.apply(&higher).await.unwrap();
        for at in 0..20 {
            publish(&broker, &format!("g{at}"), &["second"]).await;
        }
    });
    world.life(async |broker, _| {
        assert_eq!(broker.topic(&topic()).unwrap().queues, 6);
        assert_eq!(broker.store().growths(TopicId(5)).unwrap().len(), 1);
        let mut seen: Vec<(String, String)> = Vec::new();
        while seen.len() < 40 {
            let got = receive(&broker, wish(7, 0)).await;
            assert!(!got.is_empty(), "{seen:?}");
            broker.ack(&group(), &topic(), &handles(&got)).await.unwrap();
            seen.extend(got.into_iter().map(|one| (one.message_group, one.message.message_id)));
        }
        for at in 0..20 {
            let of_group = seen.iter().filter(|(message_group, _)| *message_group == format!("g{at}"));
            assert_eq!(of_group.map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["first", "second"], "g{at}");
        }
    });
}

#[test]
fn a_group_that_nobody_knows_is_made_by_the_route_service() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        publish(&broker, "", &["a"]).await;
        let other = Receive { group: GroupName::new("", "other").unwrap(), ..wish(1, 0) };
        assert_eq!(ids(&receive(&broker, other.clone()).await), ["a"]);
        assert_eq!(route.0.lock().asked, ["other"]);
        assert_eq!(broker.group(&other.group).unwrap().id, GroupId(9), "with the id that it has everywhere");
        route.0.lock().is_away = true;
        let third = Receive { group: GroupName::new("", "third").unwrap(), ..wish(1, 0) };
        assert_eq!(broker.receive(third.clone()).await.unwrap_err(), ReceiveError::Overloaded);
        route.0.lock().is_away = false;
        route.0.lock().is_slow = true;
        let before = tokio::time::Instant::now();
        assert_eq!(
            broker.receive(third).await.unwrap_err(),
            ReceiveError::Overloaded,
            "made, but not known here in time"
        );
        assert_eq!(before.elapsed().as_secs(), 2);
    });
}

#[test]
fn the_dead_letter_topic_is_made_by_the_route_service() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        publish(&broker, "", &["a"]).await;
        let got = receive(&broker, wish(1, 0)).await;
        let moved = broker.to_dead_letter(&group(), &topic(), &got[0].handle).await.unwrap();
        assert_eq!(moved, AckOutcome::Done);
        let letters = TopicName::dead_letter(&group());
        assert_eq!(route.0.lock().asked, [letters.to_string()]);
        assert_eq!(broker.topic(&letters).unwrap().id, TopicId(99));
        let from = Receive { topic: letters, ..wish(1, 0) };
        assert_eq!(ids(&receive(&broker, from).await), ["a"]);
    });
}

#[test]
fn topics_and_groups_are_not_changed_behind_the_back_of_the_route_service() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        let words = |error: CatalogError| assert!(error.to_string().contains("through the route service"), "{error}");
        words(broker.create_topic(TopicName::new("", "u").unwrap(), TopicSpec::default()).await.unwrap_err());
        words(broker.update_topic(&topic(), TopicSpec::default()).await.unwrap_err());
        words(broker.delete_topic(&topic()).await.unwrap_err());
        words(broker.create_group(group(), GroupSpec::default()).await.unwrap_err());
        words(broker.update_group(&group(), GroupSpec::default()).await.unwrap_err());
        words(broker.delete_group(&group()).await.unwrap_err());
        assert_eq!(names(&broker), (vec!["5:t/2".to_owned()], vec!["6:g".to_owned()]));
    });
}

#[test]
fn a_view_of_another_cluster_or_over_data_of_its_own_is_refused_before_it_deletes_anything() {
    let mut world = World::new();
    world.life_as([7; 32].into(), async |broker| {
        broker.create_topic(topic(), TopicSpec::default()).await.unwrap();
        let view = View { cluster: CLUSTER, revision: Revision(3), ..View::default() };
        assert_eq!(broker.apply(&view).await, Err(ApplyError::Alone));
        assert!(broker.reached(Revision(9)).await, "a broker that is alone waits for nobody");
    });
    world.life(async |broker, route| {
        assert_eq!(broker.apply(&route.change(plain)).await, Err(ApplyError::NotEmpty));
        assert_eq!(broker.topics().len(), 1);
    });
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        let foreign = View { cluster: ClusterId(78), revision: Revision(9), ..View::default() };
        let refused = broker.apply(&foreign).await;
        assert_eq!(refused, Err(ApplyError::Foreign { own: CLUSTER, other: ClusterId(78) }));
        assert_eq!(broker.topics().len(), 1);
    });
}

#[test]
fn a_route_service_that_was_restored_from_an_older_copy_deletes_nothing_also_when_its_numbers_have_caught_up() {
    let next = |view: &mut View, topic: u32, group: u32| {
        (view.next_topic, view.next_group) = (TopicId(topic), GroupId(group));
    };
    let is_refused = |refused: Result<(), ApplyError>| {
        assert!(matches!(refused, Err(ApplyError::Forgotten(_))), "{refused:?}");
    };
    let mut world = World::new();
    world.life(async |broker, route| {
        let copy = route.change(|view| {
            plain(view);
            next(view, 6, 7);
        });
        broker.apply(&copy).await.unwrap();
        let gone = route.change(|view| put_topic(view, 6, "gone", TopicType::Normal, 1));
        let after = route.change(|view| {
            next(view, 8, 7);
            view.topics.retain(|name, _| name.name() == "t");
            put_topic(view, 7, "after", TopicType::Normal, 1);
        });
        assert_eq!(gone.topics.len(), 2);
        broker.apply(&after).await.unwrap();
        // The copy comes back, and as its service begins anew its revisions are the newest.
        let restored = View { revision: Revision(1 << 40), ..copy.clone() };
        is_refused(broker.apply(&restored).await);
        is_refused(broker.check_source(&restored));
        let mut caught_up = View { revision: Revision((1 << 40) + 9), ..copy };
        next(&mut caught_up, 20, 7);
        is_refused(broker.apply(&caught_up).await);
        let status = broker.status();
        assert!(status.ready && status.reason.contains("forgotten topic after"), "{status:?}");
        assert_eq!(names(&broker).0, ["7:after/1", "5:t/2"]);
        assert_eq!(broker.applied(), after.revision);
    });
    // Another process, which has not seen the numbers go back: but what has them now has another name.
    world.life(async |broker, route| {
        let other = route.change(|view| {
            next(view, 20, 20);
            view.revision = Revision(1 << 41);
            view.topics.retain(|name, _| name.name() == "t");
            put_topic(view, 7, "other", TopicType::Normal, 1);
        });
        is_refused(broker.apply(&other).await);
        assert_eq!(names(&broker).0, ["7:after/1", "5:t/2"]);
    });
    // One that lost nothing may delete.
    world.life(async |broker, route| {
        let deleted = route.change(|view| view.topics.clear());
        broker.apply(&deleted).await.unwrap();
        assert!(broker.topics().is_empty());
    });
}

#[test]
fn reaching_a_revision_is_waited_for_and_not_for_ever() {
    in_one_life(async |broker, route| {
        let view = route.change(plain);
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { broker.reached(Revision(1)).await }
        });
        tokio::task::yield_now().await;
        broker.apply(&view).await.unwrap();
        assert!(waiting.await.unwrap());
        let before = tokio::time::Instant::now();
        assert!(!broker.reached(Revision(2)).await);
        assert_eq!(before.elapsed(), Duration::from_secs(2));
    });
}

#[test]
fn handles_outlive_a_rotation_of_keys_and_new_ones_are_made_with_the_new_key() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        publish(&broker, "", &["a", "b"]).await;
        let old = receive(&broker, wish(1, 0)).await;
        broker.apply(&route.change(|view| view.receipt_keys = vec![key(2), key(1)])).await.unwrap();
        let new = receive(&broker, wish(1, 0)).await;
        assert!(Handles::ring(&[key(2)]).open(&new[0].handle).is_some());
        let both = [old[0].handle.clone(), new[0].handle.clone()];
        assert_eq!(broker.ack(&group(), &topic(), &both).await.unwrap(), [AckOutcome::Done, AckOutcome::Done]);
        assert_eq!(Handles::shard_of(&new[0].handle), Some(ShardId(0)));
        broker.apply(&route.change(|view| view.receipt_keys = vec![key(3)])).await.unwrap();
        let late = broker.ack(&group(), &topic(), &both).await.unwrap();
        assert_eq!(late, [AckOutcome::InvalidHandle, AckOutcome::InvalidHandle], "their keys are gone");
    });
}

#[test]
fn before_it_knows_a_key_a_broker_calls_no_handle_bad_and_hands_out_none() {
    let mut world = World::new();
    let route = world.route.clone();
    let setup = ClusterSetup {
        cluster: CLUSTER,
        receipt_keys: Vec::new(),
        authority: Arc::new(route.clone()),
        peers: Arc::new(NoPeers),
    };
    world.life_as(setup.into(), async |broker| {
        let mut view = route.change(plain);
        let keys = std::mem::take(&mut view.receipt_keys);
        broker.apply(&view).await.unwrap();
        publish(&broker, "", &["a"]).await;
        assert_eq!(broker.receive(wish(1, 0)).await.unwrap_err(), ReceiveError::Overloaded);
        let acked = broker.ack(&group(), &topic(), &["x".to_owned()]).await;
        assert_eq!(acked, Err(SettleError::Overloaded));
        let delayed = NewMessage {
            message_type: MessageType::Delay,
            due: Some(START.plus(Duration::from_secs(100_000))),
            ..message("d", "")
        };
        let sent = broker.publish(Publish { topic: topic(), messages: vec![delayed] }).await;
        assert_eq!(sent, Err(PublishError::Overloaded), "it could not be recalled");
        view.receipt_keys = keys;
        view.revision.0 += 1;
        broker.apply(&view).await.unwrap();
        assert_eq!(ids(&receive(&broker, wish(1, 0)).await), ["a"]);
    });
}

#[test]
fn what_a_proxy_gives_back_costs_no_attempt_keeps_its_order_and_wakes_who_waits() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        publish(&broker, "one", &["1", "2", "3"]).await;
        let got = receive(&broker, wish(3, 0)).await;
        assert_eq!(ids(&got), ["1", "2", "3"]);
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { receive(&broker, wish(3, 20)).await }
        });
        while broker.status().pollers == 0 {
            tokio::task::yield_now().await;
        }
        let before = tokio::time::Instant::now();
        broker.give_back(&handles(&got));
        let again = waiting.await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(1), "woken, not by the end of a lease");
        assert_eq!(ids(&again), ["1", "2", "3"]);
        assert!(again.iter().all(|one| one.attempt == 1));
        // What was given back is nobody's; and giving back what others have by now changes nothing.
        broker.give_back(&handles(&got));
        broker.give_back(&["".to_owned(), "rubbish".to_owned()]);
        assert!(receive(&broker, wish(3, 0)).await.is_empty());
        assert_eq!(broker.ack(&group(), &topic(), &handles(&got)).await.unwrap(), [AckOutcome::InvalidHandle; 3]);
        assert_eq!(broker.ack(&group(), &topic(), &handles(&again)).await.unwrap(), [AckOutcome::Done; 3]);
        broker.give_back(&handles(&again));
        assert!(receive(&broker, wish(3, 0)).await.is_empty(), "what is done does not come back");
    });
}

#[test]
fn a_question_for_a_repeated_attempt_hands_out_nothing_new() {
    in_one_life(async |broker, route| {
        broker.apply(&route.change(plain)).await.unwrap();
        publish(&broker, "", &["a", "b"]).await;
        let asked = |id: &str, ask| Receive { attempt_id: Some(id.to_owned()), ask, ..wish(1, 20) };
        let before = tokio::time::Instant::now();
        assert!(receive(&broker, asked("one", Ask::RepeatOnly)).await.is_empty());
        assert!(receive(&broker, Receive { ask: Ask::RepeatOnly, ..wish(1, 20) }).await.is_empty());
        let unknown = Receive { group: GroupName::new("", "nobody").unwrap(), ..asked("one", Ask::RepeatOnly) };
        assert!(receive(&broker, unknown).await.is_empty());
        assert!(before.elapsed() < Duration::from_secs(1) && route.0.lock().asked.is_empty());
        let first = receive(&broker, asked("one", Ask::Messages)).await;
        let mut again = broker.receive(asked("one", Ask::RepeatOnly)).await.unwrap();
        assert!(again.is_repeated());
        assert_eq!(again.next().unwrap().message.message_id, first[0].message.message_id);
        assert_eq!(broker.ack(&group(), &topic(), &handles(&first)).await.unwrap(), [AckOutcome::Done]);
    });
}
