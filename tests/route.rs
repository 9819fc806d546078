//! The route service over the real store, in memory and in virtual time: crashes at any point, and members that listen over
//! in-memory pipes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::model::cluster::{ClusterId, HolderId, Revision};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::{ShardId, TopicId};
use bolide::model::settings::{CatalogError, GroupSpec, TopicSpec};
use bolide::model::time::Timestamp;
use bolide::route::server::RouteServer;
use bolide::route::{Bounds, Command, Connect, Me, RemoteOptions, Role, Route, RouteClient, RouteError, RouteOptions};
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Tasks;
use bolide::store::files::memory::{Ending, MemoryFiles};
use bolide::store::kv::handle::Remains;
use bolide::store::log::LogOptions;
use bolide::store::{FoldEnv, Store, StoreOptions};
use bolide::trust::Trust;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Endpoint, Uri};

const START: Timestamp = Timestamp(1_700_000_000_000);
const DIR: &str = "/route";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Disks that outlive processes.
struct World {
    files: MemoryFiles,
    env: FoldEnv,
    lives: u64,
    options: RouteOptions,
    segment_bytes: u64,
    retention: Duration,
}

/// What one process has.
#[derive(Clone)]
struct Life {
    route: Route,
    clock: Clock,
    tasks: Tasks,
    entropy: Entropy,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            files: MemoryFiles::new(seed),
            env: FoldEnv::memory().unwrap(),
            lives: seed * 1_000,
            options: RouteOptions::default(),
            segment_bytes: 256 * 1024,
            retention: Duration::from_secs(72 * 3600),
        }
    }

    /// One process, ended by a kill. `None`: it did not come so far as to serve.
    fn life<T>(&mut self, life: impl AsyncFnOnce(Life) -> T) -> Option<T> {
        self.lives += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let result = runtime.block_on(async {
            let entropy = Entropy::seeded(self.lives);
            let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
            let clock = Clock::anchored(START.plus(Duration::from_secs(600 * self.lives)));
            let log = LogOptions::tiny(DIR, self.segment_bytes);
            let mut options = StoreOptions { log, ..StoreOptions::default() };
            options.retention.age = self.retention;
            let store = Store::open(options, self.files.life(), self.env.clone(), &clock, tasks.clone()).ok()?;
            let opened =
                Route::open(self.options.clone(), store.clone(), clock.clone(), tasks.clone(), entropy.clone()).await;
            let Ok(route) = opened else {
                store.abandon().await;
                return None;
            };
            let result = life(Life { route: route.clone(), clock, tasks, entropy }).await;
            route.shutdown().stop();
            route.store().abandon().await;
            Some(result)
        });
        drop(runtime);
        self.files.kill();
        result
    }
}

fn t(name: &str) -> TopicName {
    TopicName::new("", name).unwrap()
}

fn broker(number: u32) -> Me {
    Me {
        role: Role::Broker,
        name: format!("broker-{number}"),
        address: format!("host-{number}:8082"),
        version: VERSION.to_owned(),
        holder: None,
    }
}

fn proxy(number: u32) -> Me {
    Me {
        role: Role::Proxy,
        name: format!("proxy-{number}"),
        address: String::new(),
        version: VERSION.to_owned(),
        holder: None,
    }
}

/// Where the service listens; cuts every pipe when told so.
#[derive(Clone, Default)]
struct Net {
    listener: Arc<Mutex<Option<mpsc::UnboundedSender<io::Result<DuplexStream>>>>>,
    serving: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
    pipes: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

impl Net {
    fn serve(&self, life: &Life, trust: Trust) {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock() = Some(sender);
        let service = RouteServer::new(life.route.clone(), trust);
        let serving = tokio::spawn(async move {
            let incoming = UnboundedReceiverStream::new(receiver);
            let _ = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
        *self.serving.lock() = Some(serving);
    }

    /// The process of the service is gone, as far as others see.
    fn gone(&self) {
        *self.listener.lock() = None;
        if let Some(serving) = self.serving.lock().take() {
            serving.abort();
        }
        for pipe in self.pipes.lock().drain(..) {
            pipe.abort();
        }
    }

    fn connect(&self) -> Connect {
        let net = self.clone();
        Arc::new(move |_| {
            let net = net.clone();
            Box::pin(async move {
                let connector = tower::service_fn(move |_: Uri| {
                    let (listener, pipes) = (net.listener.lock().clone(), net.pipes.clone());
                    async move {
                        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                        let (near, mut here) = tokio::io::duplex(64 * 1024);
                        let (mut there, far) = tokio::io::duplex(64 * 1024);
                        listener.ok_or_else(refused)?.send(Ok(far)).map_err(|_| refused())?;
                        // Dropped when aborted: both ends see the cut.
                        pipes.lock().push(tokio::spawn(async move {
                            let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                        }));
                        Ok::<_, io::Error>(TokioIo::new(near))
                    }
                });
                Endpoint::from_static("http://route")
                    .connect_with_connector(connector)
                    .await
                    .map_err(|error| error.to_string())
            })
        })
    }

    fn client(&self, life: &Life, me: Me, trust: Trust) -> RouteClient {
        let options = RemoteOptions { addresses: vec!["route:1".to_owned()], me, known: None };
        let (clock, tasks, entropy) = (life.clock.clone(), life.tasks.clone(), life.entropy.clone());
        RouteClient::start_over(options, self.connect(), trust, clock, tasks, entropy)
    }
}

/// Waits, in virtual time, until something holds.
async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = tokio::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn what_was_answered_is_there_after_a_kill_or_a_power_cut_at_any_point() {
    for seed in 1..=60u64 {
        let mut world = World::new(seed);
        let chance = Entropy::seeded(seed);
        let mut cluster: Option<ClusterId> = None;
        let mut answered: Vec<(String, Option<TopicId>)> = Vec::new();
        let mut given: std::collections::BTreeMap<TopicId, String> = std::collections::BTreeMap::new();
        let mut last = Revision(0);
        for life in 0..4u64 {
            if life < 3 {
                let ending = if chance.below(2) == 0 { Ending::Kill } else { Ending::PowerCut };
                world.files.end_after(chance.below(160), ending);
            } else {
                world.files.clear_faults();
            }
            let (expected, known) = (answered.clone(), cluster);
            let done = world.life(async |life_of: Life| {
                let client = RouteClient::of_member(life_of.route.clone(), broker(0));
                let view = client.view();
                assert!(view.revision > last, "seed {seed}: revision {} after {last}", view.revision);
                if let Some(known) = known {
                    assert_eq!(view.cluster, known, "seed {seed}");
                }
                for (name, id) in &expected {
                    let found = view.topics.get(&t(name)).map(|topic| topic.id);
                    assert_eq!(found, *id, "seed {seed}, life {life}: {name}");
                    if let Some(id) = id {
                        assert!(view.placement(*id).is_some(), "seed {seed}");
                    }
                }
                let mut now = expected.clone();
                let mut ids = Vec::new();
                let Ok(registered) = client.register().await else { return (now, ids, None, view.revision) };
                assert_eq!(registered.shard, ShardId(0), "seed {seed}");
                for number in 0..12u64 {
                    let name = format!("l{life}-{number}");
                    match client.create_topic(t(&name), TopicSpec::default()).await {
                        Ok((topic, _)) => {
                            ids.push((topic.id, name.clone()));
                            now.push((name, Some(topic.id)));
                        }
                        Err(_) => break,
                    }
                    if chance.below(3) == 0 && !now.is_empty() {
                        let at = usize::try_from(chance.below(now.len() as u64)).unwrap();
                        if now[at].1.is_some() {
                            match client.delete_topic(&t(&now[at].0)).await {
                                Ok(_) => now[at].1 = None,
                                // The outcome is unknown; nothing can be asked of it.
                                Err(_) => {
                                    now.remove(at);
                                    break;
                                }
                            }
                        }
                    }
                }
                (now, ids, Some(registered.cluster), client.view().revision)
            });
            if let Some((now, ids, found, revision)) = done {
                answered = now;
                cluster = cluster.or(found);
                last = revision;
                for (id, name) in ids {
                    let before = given.insert(id, name.clone());
                    assert!(before.is_none_or(|before| before == name), "seed {seed}: number {id} was given twice");
                }
            }
            if chance.below(2) == 0 {
                world.files.power_cut();
                let remains = [Remains::Flushed, Remains::Copy(0), Remains::Nothing];
                let remains = remains[usize::try_from(chance.below(3)).unwrap()];
                world.env.power_cut(&Path::new(DIR).join("shard-0").join("fold"), remains).unwrap();
            }
        }
        assert!(cluster.is_some(), "seed {seed}: no life came to anything");
    }
}

#[test]
fn facts_outlive_the_segments_that_held_them_and_the_fold() {
    let mut world = World::new(5);
    world.segment_bytes = 16 * 1024;
    world.retention = Duration::from_secs(60);
    world.options.retention_every = Duration::from_secs(10);
    let cluster = world.life(async |life: Life| {
        let client = RouteClient::of_member(life.route.clone(), broker(0));
        client.register().await.unwrap();
        client.create_topic(t("kept"), TopicSpec::default()).await.unwrap();
        let start = life.route.store().log_start();
        let began = tokio::time::Instant::now();
        let mut number = 0;
        while life.route.store().log_start() <= start {
            assert!(began.elapsed() < Duration::from_secs(3_600), "no segment leaves");
            for _ in 0..40 {
                number += 1;
                let spec = TopicSpec { queues: Some(8 + number % 900), ..TopicSpec::default() };
                let _ = client.update_topic(&t("kept"), spec).await;
                let name = GroupName::new("", &format!("g{number}")).unwrap();
                client.create_group(name.clone(), GroupSpec::default()).await.unwrap();
                client.delete_group(&name).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        life.route.view().cluster
    });
    world.env.power_cut(&Path::new(DIR).join("shard-0").join("fold"), Remains::Nothing).unwrap();
    let after = world.life(async |life: Life| {
        let view = life.route.view();
        assert!(view.topics.contains_key(&t("kept")));
        assert_eq!(view.receipt_keys.len(), 1);
        assert_eq!(view.shard_named("broker-0").unwrap().id, ShardId(0));
        view.cluster
    });
    assert!(cluster.is_some());
    assert_eq!(after, cluster);
}

#[test]
fn a_new_topic_is_seen_by_twenty_watchers_within_a_tenth_of_a_second() {
    World::new(2).life(async |life: Life| {
        let net = Net::default();
        net.serve(&life, Trust::none());
        let one = net.client(&life, broker(0), Trust::none());
        one.register().await.unwrap();
        let watchers: Vec<RouteClient> =
            (0..20).map(|number| net.client(&life, proxy(number), Trust::none())).collect();
        for watcher in &watchers {
            watcher.first_view().await;
        }
        let began = tokio::time::Instant::now();
        let (topic, revision) = one.create_topic(t("orders"), TopicSpec::default()).await.unwrap();
        for watcher in &watchers {
            assert!(watcher.reached(revision, Duration::from_secs(5)).await);
            assert_eq!(watcher.view().topics[&t("orders")].id, topic.id);
            assert_eq!(watcher.view().placement(topic.id).unwrap().shards, [ShardId(0)]);
        }
        assert!(began.elapsed() <= Duration::from_millis(100), "{:?}", began.elapsed());
    });
}

#[test]
fn a_watcher_goes_on_with_what_it_knows_while_the_service_is_away_and_misses_nothing_when_it_is_back() {
    World::new(3).life(async |life: Life| {
        let net = Net::default();
        net.serve(&life, Trust::none());
        let (one, other) = (net.client(&life, broker(0), Trust::none()), net.client(&life, proxy(1), Trust::none()));
        one.register().await.unwrap();
        one.create_topic(t("before"), TopicSpec::default()).await.unwrap();
        until("the first topic", Duration::from_secs(1), || other.view().topics.contains_key(&t("before"))).await;
        net.gone();
        until("the cut is noticed", Duration::from_secs(5), || !other.connected() && !one.connected()).await;
        assert!(other.view().topics.contains_key(&t("before")), "what is known goes on");
        let refused = one.delete_topic(&t("before")).await.unwrap_err();
        assert_eq!(refused, CatalogError::Overloaded);
        let refused = one.rotate_key().await.unwrap_err();
        assert!(matches!(refused, RouteError::Away(_)), "{refused}");
        let here = RouteClient::of(life.route.clone());
        let (_, revision) = here.create_topic(t("meanwhile"), TopicSpec::default()).await.unwrap();
        let revision = revision.max(here.delete_topic(&t("before")).await.unwrap());
        net.serve(&life, Trust::none());
        assert!(other.reached(revision, Duration::from_secs(3)).await, "it comes back by itself");
        assert!(other.connected());
        let view = other.view();
        assert!(view.topics.contains_key(&t("meanwhile")) && !view.topics.contains_key(&t("before")));
        assert_eq!(view.placements.len(), 1);
    });
}

#[test]
fn a_watcher_that_was_away_for_longer_than_changes_are_remembered_gets_everything_anew() {
    let mut world = World::new(4);
    world.options.steps_bytes_max = 512;
    world.life(async |life: Life| {
        let net = Net::default();
        net.serve(&life, Trust::none());
        let one = net.client(&life, proxy(1), Trust::none());
        let here = RouteClient::of_member(life.route.clone(), broker(0));
        here.register().await.unwrap();
        here.create_topic(t("gone"), TopicSpec::default()).await.unwrap();
        until("the first topic", Duration::from_secs(1), || one.view().topics.contains_key(&t("gone"))).await;
        net.gone();
        until("the cut is noticed", Duration::from_secs(5), || !one.connected()).await;
        let mut revision = here.delete_topic(&t("gone")).await.unwrap();
        for number in 0..50 {
            revision = here.create_topic(t(&format!("n{number}")), TopicSpec::default()).await.unwrap().1;
        }
        net.serve(&life, Trust::none());
        assert!(one.reached(revision, Duration::from_secs(3)).await);
        assert_eq!(one.view().topics, here.view().topics);
        assert_eq!(one.view().placements, here.view().placements);
    });
}

#[test]
fn a_broker_is_away_after_its_lease_and_at_once_when_it_says_good_bye() {
    World::new(6).life(async |life: Life| {
        let net = Net::default();
        net.serve(&life, Trust::none());
        let one = net.client(&life, broker(0), Trust::none());
        let registered = one.register().await.unwrap();
        let is_alive = || life.route.view().shards[&registered.shard].alive;
        until("it is there", Duration::from_secs(1), is_alive).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(is_alive(), "a lease is renewed");
        let began = tokio::time::Instant::now();
        net.gone();
        until("its lease ends", Duration::from_secs(7), || !is_alive()).await;
        assert!(began.elapsed() >= Duration::from_millis(3_900), "a cut gets the lease's time: {:?}", began.elapsed());
        net.serve(&life, Trust::none());
        until("it is back", Duration::from_secs(3), is_alive).await;
        let began = tokio::time::Instant::now();
        one.goodbye().await;
        until("it is gone", Duration::from_secs(1), || !is_alive()).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn a_restart_of_the_service_makes_no_broker_look_dead() {
    let mut world = World::new(7);
    world.life(async |life: Life| {
        RouteClient::of_member(life.route.clone(), broker(0)).register().await.unwrap();
    });
    world.life(async |life: Life| {
        assert!(life.route.view().shards[&ShardId(0)].alive);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!life.route.view().shards[&ShardId(0)].alive, "it had its time");
    });
}

#[test]
fn who_does_not_belong_here_is_refused_with_words() {
    World::new(8).life(async |life: Life| {
        let net = Net::default();
        let trust = Trust::with_secret("a-secret-of-the-cluster").unwrap();
        net.serve(&life, trust.clone());
        let stranger = net.client(&life, broker(0), Trust::none());
        let refused = stranger.register().await.unwrap_err();
        assert!(refused.to_string().contains("cluster.secret_file"), "{refused}");
        assert!(life.route.view().shards.is_empty());
        let far = Me { version: "9.9.0".to_owned(), ..broker(1) };
        let far = net.client(&life, far, trust.clone());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!far.connected() && !stranger.connected());
        assert_eq!(far.view().revision, Revision(0));
        let near = net.client(&life, broker(2), trust);
        assert_eq!(near.register().await.unwrap().shard, ShardId(0));
        let (name, address, version) = (String::new(), String::new(), VERSION.to_owned());
        let second = Command::Register { name, address, version, holder: None };
        assert!(matches!(life.route.execute(second).await.unwrap_err(), CatalogError::Invalid(_)));
    });
}

#[test]
fn a_broker_with_another_data_directory_hears_why_at_once_and_is_let_in_when_the_first_was_given_up() {
    World::new(12).life(async |life: Life| {
        let net = Net::default();
        net.serve(&life, Trust::none());
        let of = |holder: u128| Me { holder: Some(HolderId(holder)), ..broker(1) };
        let first = net.client(&life, of(1), Trust::none());
        let shard = first.register().await.unwrap().shard;
        let second = net.client(&life, of(2), Trust::none());
        let began = tokio::time::Instant::now();
        let refused = second.register().await.unwrap_err();
        assert!(matches!(&refused, RouteError::Refused(CatalogError::Held(_))), "{refused}");
        assert_eq!(second.held().await, refused.to_string());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        let operator = net.client(&life, proxy(1), Trust::none());
        operator.first_view().await;
        let early = operator.forget("broker-1").await.unwrap_err();
        assert!(early.to_string().contains("Stop it first"), "{early}");
        // The second one tries all the time and must not have kept the first one's lease alive.
        first.goodbye().await;
        until("the first one is away", Duration::from_secs(10), || !life.route.view().shards[&shard].alive).await;
        operator.forget("broker-1").await.unwrap();
        until("the second one is let in", Duration::from_secs(5), || second.connected()).await;
        assert_eq!(second.register().await.unwrap().shard, shard);
        let late = net.client(&life, of(1), Trust::none());
        assert!(late.held().await.contains("runs already"));
    });
}

#[test]
fn a_member_of_another_cluster_is_not_let_in() {
    let (mut first, mut second) = (World::new(9), World::new(10));
    let net = Net::default();
    let before = first.life(async |life: Life| life.route.view().cluster).unwrap();
    let after = second.life(async |life: Life| life.route.view().cluster).unwrap();
    assert_ne!(before, after);
    // One client, two services, one after the other.
    first.life(async |life: Life| {
        net.serve(&life, Trust::none());
        let client = net.client(&life, proxy(1), Trust::none());
        let view = client.first_view().await;
        assert_eq!(view.cluster, before);
        net.gone();
        let other = {
            let files = MemoryFiles::new(77);
            let log = LogOptions::tiny("/other", 256 * 1024);
            let options = StoreOptions { log, ..StoreOptions::default() };
            let env = FoldEnv::memory().unwrap();
            let store = Store::open(options, files.life(), env, &life.clock, life.tasks.clone()).unwrap();
            Route::open(RouteOptions::default(), store, life.clock.clone(), life.tasks.clone(), life.entropy.clone())
                .await
                .unwrap()
        };
        net.serve(&Life { route: other.clone(), ..life.clone() }, Trust::none());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!client.connected());
        assert_eq!(client.view().cluster, before);
        other.close().await;
    });
}

#[test]
fn draining_goes_on_by_itself_and_after_a_restart() {
    let mut world = World::new(11);
    world.options.bounds = Bounds { topics_max: 100, ..Bounds::default() };
    world.life(async |life: Life| {
        for number in 0..2 {
            RouteClient::of_member(life.route.clone(), broker(number)).register().await.unwrap();
        }
        let client = RouteClient::of(life.route.clone());
        for number in 0..30 {
            client.create_topic(t(&format!("t{number}")), TopicSpec::default()).await.unwrap();
        }
        client.drain(ShardId(0), true).await.unwrap();
        let moving = || life.route.view().placements.values().filter(|placed| placed.moving.is_some()).count();
        until("moves begin", Duration::from_secs(2), || moving() == 16).await;
    });
    world.life(async |life: Life| {
        let client = RouteClient::of(life.route.clone());
        let mut rounds = 0;
        while !bolide::route::is_empty(&client.view(), ShardId(0)) {
            rounds += 1;
            assert!(rounds < 100, "it never ends");
            for (&topic, placed) in &client.view().placements {
                if placed.moving.is_some() {
                    for &shard in &placed.shards {
                        client.sealed(topic, placed.generation, shard).await.unwrap();
                    }
                }
                for past in &placed.past {
                    for &shard in &past.shards {
                        client.drained(topic, past.generation, shard).await.unwrap();
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(client.view().placements.len(), 30);
        assert!(client.view().placements.values().all(|placed| placed.shards == [ShardId(1)]));
    });
}

/// Figures: a hundred brokers catch up with ten thousand topics on all of a hundred shards, over pipes in this process.
/// `cargo test --test route -- --ignored --nocapture a_hundred`
#[test]
#[ignore = "prints figures; takes a while in a debug build"]
fn a_hundred_brokers_catch_up_with_ten_thousand_topics_in_two_seconds_and_256_mib() {
    let threads = bolide::runtime::tasks::Threads::start(2).unwrap();
    let tasks = threads.tasks();
    threads.block_on(async {
        let clock = Clock::system();
        let files = MemoryFiles::new(1);
        let mut options = StoreOptions::default();
        options.log.dir = DIR.into();
        options.log.disk_reserve_bytes = 0;
        let env = FoldEnv::memory().unwrap();
        let store = Store::open(options, files.life(), env, &clock, tasks.clone()).unwrap();
        let entropy = Entropy::seeded(1);
        let route =
            Route::open(RouteOptions::default(), store, clock.clone(), tasks.clone(), entropy.clone()).await.unwrap();
        for number in 0..100 {
            RouteClient::of_member(route.clone(), broker(number)).register().await.unwrap();
        }
        let began = clock.mark();
        for part in 0..100u32 {
            // All that there may be, but one, which comes last.
            let numbers = (0..100u32).filter(|number| part * 100 + number < 9_999);
            let made = numbers.map(|number| {
                let route = route.clone();
                let name = t(&format!("topic-number-{part}-{number}"));
                async move { route.execute(Command::CreateTopic(name, TopicSpec::default())).await.unwrap() }
            });
            futures::future::join_all(made).await;
        }
        println!("9 999 topics created in {:?}", began.elapsed());
        let life = Life { route: route.clone(), clock: clock.clone(), tasks: tasks.clone(), entropy };
        let net = Net::default();
        net.serve(&life, Trust::none());
        let before = bolide::runtime::process::resident_bytes().unwrap();
        let began = clock.mark();
        let all: Vec<_> = (0..100u32).map(|number| tokio::spawn(catch_up(net.connect(), broker(number)))).collect();
        let mut bytes = 0;
        for one in all {
            bytes += one.await.unwrap();
        }
        let took = began.elapsed();
        let grown = bolide::runtime::process::resident_bytes().unwrap().saturating_sub(before) / 1024 / 1024;
        println!("100 members caught up in {took:?}: {} MiB told in all, {grown} MiB more memory", bytes / 1024 / 1024);
        let began = clock.mark();
        let one = net.client(&life, proxy(1), Trust::none());
        assert_eq!(one.first_view().await.topics.len(), 9_999);
        println!("one member has its view in {:?}", began.elapsed());
        let began = clock.mark();
        let (_, revision) =
            RouteClient::of(route.clone()).create_topic(t("one-more"), TopicSpec::default()).await.unwrap();
        assert!(one.reached(revision, Duration::from_secs(5)).await);
        println!("one topic more is seen after {:?}", began.elapsed());
        assert!(grown <= 256, "{grown} MiB");
        if !cfg!(debug_assertions) {
            assert!(took <= Duration::from_secs(2), "{took:?}");
        }
        route.close().await;
    });
    threads.stop();
}

/// A member that reads everything and keeps nothing, so that the memory seen is the service's.
async fn catch_up(connect: Connect, me: Me) -> usize {
    use bolide::wire::route as wire;
    let channel = connect("route:1".to_owned()).await.unwrap();
    let hello = wire::Hello {
        role: wire::Role::Broker.into(),
        name: me.name,
        address: me.address,
        version: me.version,
        ..wire::Hello::default()
    };
    let hello = wire::WatchRequest { request: Some(wire::watch_request::Request::Hello(hello)) };
    let said = tokio_stream::StreamExt::chain(tokio_stream::once(hello), tokio_stream::pending());
    let events = wire::route_client::RouteClient::new(channel).watch(said).await.unwrap();
    let mut events = events.into_inner();
    let mut bytes = 0;
    loop {
        let event = events.message().await.unwrap().unwrap();
        assert!(event.changes.len() < 1024 * 1024, "a part is small");
        bytes += event.changes.len();
        if event.last && event.from == 0 {
            return bytes;
        }
    }
}
