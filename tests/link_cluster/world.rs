//! A cluster in one process and in virtual time: a route service, brokers over real stores in memory, proxies' handles, and between
//! proxies and brokers a network that can be cut.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{
    Ask, Authority, ClientId, ClusterSetup, Delivered, GroupSpec, LeaseWish, NoPeers, Publish, PublishError, Published,
    Receive, ReceiveError, TopicSpec,
};
use bolide::broker::options::BrokerOptions;
use bolide::link::client::Connector;
use bolide::link::server::{BrokerServer, tuned};
use bolide::link::{Brokers, ClusterOptions, Connect, Delivery};
use bolide::model::cluster::Revision;
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::ShardId;
use bolide::model::settings::CatalogError;
use bolide::model::time::Timestamp;
use bolide::model::topic::TopicType;
use bolide::observe::meters::Meters;
use bolide::route::{Me, RemoteOptions, Role, Route, RouteClient, RouteOptions};
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::shutdown::Shutdown;
use bolide::runtime::tasks::Tasks;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::log::LogOptions;
use bolide::store::{FoldEnv, Store, StoreOptions};
use bolide::trust::Trust;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::net::Net;

pub const START: Timestamp = Timestamp(1_700_000_000_000);
pub const LEASE: Duration = Duration::from_secs(30);

/// One broker, and the network to it.
pub struct Node {
    pub broker: Broker,
    pub net: Net,
    pub shard: ShardId,
    server: Option<tokio::task::JoinHandle<()>>,
}

pub struct World {
    pub route: RouteClient,
    service: Route,
    pub nodes: Vec<Node>,
    pub clock: Clock,
    tasks: Tasks,
    entropy: Entropy,
    nets: Arc<Mutex<Vec<Net>>>,
}

/// Creates what brokers need through the route service.
struct ByRoute(RouteClient);

impl Authority for ByRoute {
    fn create_group(&self, name: GroupName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(async move { Ok(self.0.create_group(name, GroupSpec::default()).await?.1) })
    }

    fn create_dead_letter_topic(&self, name: TopicName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(async move { Ok(self.0.create_topic(name, TopicSpec::default()).await?.1) })
    }
}

impl World {
    fn store(&self, dir: &str, shard: u32) -> Store {
        let mut log = LogOptions::tiny(&Path::new(dir).to_string_lossy(), 256 * 1024);
        log.shard = ShardId(shard);
        let options = StoreOptions { log, ..StoreOptions::default() };
        let files = MemoryFiles::new(u64::from(shard) + 1);
        Store::open(options, files.life(), FoldEnv::memory().unwrap(), &self.clock, self.tasks.clone()).unwrap()
    }

    /// One more broker joins.
    pub async fn join(&mut self) -> usize {
        let index = self.nodes.len();
        let me = Me {
            role: Role::Broker,
            name: format!("broker-{index}"),
            address: format!("host-{index}:8082"),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            holder: None,
        };
        let net = Net::new(self.entropy.clone());
        self.nets.lock().push(net.clone());
        let member = RouteClient::of_member(self.service.clone(), me);
        let registered = member.register().await.unwrap();
        let store = self.store(&format!("/broker-{index}"), registered.shard.get());
        let setup = ClusterSetup {
            cluster: registered.cluster,
            receipt_keys: member.view().receipt_keys.clone(),
            authority: Arc::new(ByRoute(member.clone())),
            peers: Arc::new(NoPeers),
        };
        let (clock, tasks, entropy) = (self.clock.clone(), self.tasks.clone(), self.entropy.clone());
        let meters = Arc::new(Meters::noop());
        let broker = Broker::open(BrokerOptions::default(), store, clock, tasks, entropy, meters, setup).await.unwrap();
        let follower = broker.clone();
        drop(self.tasks.spawn_background(async move {
            let mut changed = member.changed();
            loop {
                changed.borrow_and_update();
                follower.apply(&member.view()).await.unwrap();
                tokio::select! {
                    biased;
                    () = follower.shutdown().stopping() => return,
                    seen = changed.changed() => if seen.is_err() { return },
                }
            }
        }));
        self.nodes.push(Node { broker, net, shard: registered.shard, server: None });
        self.serve(index);
        index
    }

    /// A broker can be called from now on.
    pub fn serve(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let incoming = node.net.listen();
        let name = format!("broker-{index}");
        let server =
            BrokerServer::new(node.broker.clone(), &name, Trust::none(), self.clock.clone(), self.tasks.clone());
        let serving =
            tuned(tonic::transport::Server::builder()).add_service(server.into_service()).serve_with_incoming(incoming);
        node.server = Some(tokio::spawn(async move { serving.await.unwrap() }));
    }

    /// A broker cannot be called any more, as the network sees it; it lives on.
    pub fn cut(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.net.server_gone();
        if let Some(server) = node.server.take() {
            server.abort();
        }
    }

    /// Another proxy.
    pub fn proxy(&self, name: &str) -> Brokers {
        self.proxy_with(ClusterOptions { name: name.into(), ..ClusterOptions::default() })
    }

    pub fn proxy_with(&self, options: ClusterOptions) -> Brokers {
        self.proxy_over(self.route.clone(), options)
    }

    fn proxy_over(&self, route: RouteClient, options: ClusterOptions) -> Brokers {
        let nets = self.nets.clone();
        let connect = Connect::by_streams(move |shard| {
            let index: usize = shard.name.trim_start_matches("broker-").parse().unwrap();
            let net = nets.lock()[index].clone();
            Connector::new(move || {
                let net = net.clone();
                async move { net.connect().await }
            })
        });
        let options = ClusterOptions { connect, ..options };
        let (clock, tasks) = (self.clock.clone(), self.tasks.clone());
        Brokers::cluster(route, Trust::none(), options, Shutdown::new(), clock, tasks)
    }

    /// A proxy that has seen the cluster as it is now, and hears no more of the route service.
    pub async fn late_proxy(&self) -> Brokers {
        let net = Net::new(self.entropy.clone());
        let service = bolide::route::server::RouteServer::new(self.service.clone(), Trust::none());
        let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(net.listen());
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        let dialled = net.clone();
        let connect: bolide::route::Connect = Arc::new(move |_| {
            let net = dialled.clone();
            Box::pin(async move {
                let connector = tower::service_fn(move |_: http::Uri| {
                    let net = net.clone();
                    async move { net.connect().await.map(hyper_util::rt::TokioIo::new) }
                });
                let endpoint = tonic::transport::Endpoint::from_static("http://route");
                endpoint.connect_with_connector(connector).await.map_err(|error| error.to_string())
            })
        });
        let me = Me {
            role: Role::Proxy,
            name: "late".to_owned(),
            address: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            holder: None,
        };
        let options = RemoteOptions { addresses: vec!["route:1".to_owned()], me, known: None };
        let (clock, tasks) = (self.clock.clone(), self.tasks.clone());
        let route = RouteClient::start_over(options, connect, Trust::none(), clock, tasks, self.entropy.clone());
        route.first_view().await;
        let proxy = self.proxy_over(route, ClusterOptions { name: "late".into(), ..ClusterOptions::default() });
        reaches_all(&proxy).await;
        net.server_gone();
        serving.abort();
        proxy
    }

    /// Creates a topic, and waits until every broker has it.
    pub async fn create(&self, name: &str, topic_type: TopicType) -> TopicName {
        // A lite topic is a queue of its own: its parent has no say in their number.
        let queues = (topic_type != TopicType::Lite).then_some(2);
        let spec = TopicSpec { queues, topic_type: Some(topic_type), ..TopicSpec::default() };
        let (topic, revision) = self.route.create_topic(t(name), spec).await.unwrap();
        for node in &self.nodes {
            assert!(node.broker.reached(revision).await);
        }
        topic.name.clone()
    }

    /// Moves a topic to all brokers, as if every old one had sealed at once.
    pub async fn rebalance(&self, topic: &TopicName) {
        self.route.rebalance(topic).await.unwrap();
        let view = self.route.view();
        let id = view.topics[topic].id;
        let placement = view.placement(id).unwrap().clone();
        for shard in &placement.shards {
            self.route.sealed(id, placement.generation, *shard).await.unwrap();
        }
        let now = self.route.view().placement(id).unwrap().clone();
        assert_eq!(now.moving, None, "{now:?}");
    }

    /// Messages that a broker has of a topic.
    pub async fn stored(&self, index: usize, topic: &TopicName) -> u64 {
        let mut count = 0;
        for queue in 0..2 {
            let queue = bolide::model::position::QueueId(queue);
            let end = bolide::broker::api::QueueBoundary::End;
            count += self.nodes[index].broker.queue_boundary(topic, queue, end).await.map_or(0, |end| end.get());
        }
        count
    }

    /// The broker of a shard.
    pub fn node_of(&self, shard: ShardId) -> usize {
        self.nodes.iter().position(|node| node.shard == shard).unwrap()
    }
}

/// Runs in virtual time with so many brokers and two proxies that reach them all.
pub fn in_cluster(brokers: usize, life: impl AsyncFnOnce(&mut World, [Brokers; 2])) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let entropy = Entropy::seeded(1);
        let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
        let clock = Clock::anchored(START);
        let log = LogOptions::tiny("/route", 256 * 1024);
        let options = StoreOptions { log, ..StoreOptions::default() };
        let files = MemoryFiles::new(99);
        let store = Store::open(options, files.life(), FoldEnv::memory().unwrap(), &clock, tasks.clone()).unwrap();
        let service =
            Route::open(RouteOptions::default(), store, clock.clone(), tasks.clone(), entropy.clone()).await.unwrap();
        let route = RouteClient::of(service.clone());
        let nets = Arc::default();
        let mut world = World { route, service, nodes: Vec::new(), clock, tasks, entropy, nets };
        for _ in 0..brokers {
            world.join().await;
        }
        let proxies = [world.proxy("p-0"), world.proxy("p-1")];
        for proxy in &proxies {
            reaches_all(proxy).await;
        }
        life(&mut world, proxies.clone()).await;
        for proxy in proxies {
            proxy.shutdown().stop();
        }
        for node in &world.nodes {
            node.broker.shutdown().stop();
            node.broker.store().abandon().await;
        }
        world.service.shutdown().stop();
        world.service.store().abandon().await;
    });
}

/// Waits until a proxy's connections are all there.
pub async fn reaches_all(proxy: &Brokers) {
    until("the proxy reaches every broker", async || proxy.status().ready && proxy.status().reason.is_empty()).await;
}

/// Waits until a proxy has noticed that it reaches a broker less.
pub async fn misses_one(proxy: &Brokers) {
    until("the proxy misses a broker", async || proxy.status().reason.contains("cannot be reached")).await;
}

pub fn t(name: &str) -> TopicName {
    TopicName::new("", name).unwrap()
}

pub fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

pub fn message(id: &str) -> NewMessage {
    NewMessage {
        message_id: id.to_owned(),
        rest: Bytes::from(format!("body of {id}")),
        system_static: Bytes::from_static(b"static"),
        body_bytes: 9,
        ..NewMessage::default()
    }
}

pub fn ordered(id: &str, message_group: &str) -> NewMessage {
    NewMessage { message_type: MessageType::Fifo, message_group: message_group.to_owned(), ..message(id) }
}

pub fn half(id: &str, producer: &str) -> NewMessage {
    NewMessage { message_type: MessageType::Transaction, producer: producer.into(), ..message(id) }
}

pub fn wish(topic: &TopicName, batch: usize, wait: u64) -> Receive {
    Receive {
        group: group(),
        topic: topic.clone(),
        filter: Filter::ALL,
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait: Duration::from_secs(wait),
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    }
}

pub async fn publish(
    proxy: &Brokers,
    topic: &TopicName,
    messages: Vec<NewMessage>,
) -> Result<Vec<Published>, PublishError> {
    proxy.publish(Publish { topic: topic.clone(), messages }).await
}

pub async fn send(proxy: &Brokers, topic: &TopicName, message: NewMessage) {
    publish(proxy, topic, vec![message]).await.unwrap();
}

pub fn all(mut delivery: Delivery) -> Vec<Delivered> {
    std::iter::from_fn(|| delivery.next()).collect()
}

pub async fn take(proxy: &Brokers, topic: &TopicName, batch: usize, wait: u64) -> Result<Vec<Delivered>, ReceiveError> {
    proxy.receive(wish(topic, batch, wait)).await.map(all)
}

/// Receives until so many came, in the order in which they came.
pub async fn take_all(proxy: &Brokers, topic: &TopicName, count: usize) -> Vec<Delivered> {
    let mut got = Vec::new();
    while got.len() < count {
        let more = take(proxy, topic, 32, 5).await.unwrap();
        assert!(!more.is_empty(), "only {} of {count} came", got.len());
        got.extend(more);
    }
    got
}

pub fn ids(delivered: &[Delivered]) -> Vec<&str> {
    delivered.iter().map(|one| one.message.message_id.as_str()).collect()
}

/// Waits, in virtual time, until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
