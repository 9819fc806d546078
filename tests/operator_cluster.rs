//! The operator's service over a cluster: a route service, two brokers and a proxy in this process, over real ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{Ask, ClientId, GroupSpec, LeaseWish, Publish, Receive, TopicSpec};
use bolide::broker::options::BrokerOptions;
use bolide::model::cluster::{Revision, View};
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::ShardId;
use bolide::model::tag::TagFilter;
use bolide::model::time::Timestamp;
use bolide::observe::meters::Meters;
use bolide::proxy::operator::{Facts, OperatorService, Seat, ShardFacts};
use bolide::route::server::RouteServer;
use bolide::route::{Me, RemoteOptions, Role, Route, RouteClient, RouteOptions};
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Tasks;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::log::LogOptions;
use bolide::store::{FoldEnv, Store, StoreOptions};
use bolide::trust::Trust;
use bolide::wire::admin as wire;
use bolide::wire::admin::admin_client::AdminClient;
use bolide::wire::admin::admin_server::AdminServer;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request};

const START: Timestamp = Timestamp(1_700_000_000_000);
const SECRET: &str = "a-secret-of-the-test";
/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(30);
const VERSION: &str = env!("CARGO_PKG_VERSION");

type Client = AdminClient<Channel>;

/// An open port, on threads of its own: dropping it cuts its connections as the end of a process does.
struct Port(Option<tokio::runtime::Runtime>);

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn serve(routes: Routes) -> (SocketAddr, Port) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
        tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap();
    });
    (address, Port(Some(runtime)))
}

/// What every process has of its own.
struct Ground {
    store: Store,
    clock: Clock,
    tasks: Tasks,
    entropy: Entropy,
}

fn ground(seed: u64) -> Ground {
    let entropy = Entropy::seeded(seed);
    let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
    let clock = Clock::anchored(START);
    let options = StoreOptions { log: LogOptions::tiny("/data", 1024 * 1024), ..StoreOptions::default() };
    let (files, env) = (MemoryFiles::new(seed), FoldEnv::memory().unwrap());
    let store = Store::open(options, files.life(), env, &clock, tasks.clone()).unwrap();
    Ground { store, clock, tasks, entropy }
}

fn facts(clock: &Clock, connections: u64, shards: Vec<ShardFacts>) -> Facts {
    Facts {
        data_dir: String::new(),
        connections: Box::new(move || connections),
        shards: Box::new(move || shards.clone()),
        disk: Box::new(|| (1_000, 1 << 30)),
        since: clock.mark(),
        clock: clock.clone(),
    }
}

fn seat(role: wire::Role, name: &str) -> Seat {
    Seat { role, name: name.into() }
}

fn trust() -> Trust {
    Trust::with_secret(SECRET).unwrap()
}

/// An internal port's services, behind the secret.
macro_rules! guarded {
    ($operators:expr) => {
        AdminServer::with_interceptor($operators, |request: Request<()>| {
            trust().check(request.metadata()).map(|()| request)
        })
    };
}

struct Member {
    broker: Broker,
    port: Option<Port>,
    applied: Arc<AtomicU64>,
    /// While it is held, the broker does not follow the route service.
    following: Arc<tokio::sync::Mutex<()>>,
}

struct Cluster {
    route: Route,
    brokers: Vec<Member>,
    /// The operator's service of the proxy.
    proxy: OperatorService,
    own: RouteClient,
    _route_port: Port,
    proxy_port: Option<Port>,
}

/// Makes of a broker's catalogue what the route service says, in the order of its revisions.
async fn follow(broker: Broker, route: RouteClient, applied: Arc<AtomicU64>, gate: Arc<tokio::sync::Mutex<()>>) {
    let mut changed = route.changed();
    loop {
        let view = route.view();
        {
            let _open = gate.lock().await;
            take_up(&broker, &view).await;
            applied.store(view.revision.0, Ordering::SeqCst);
        }
        if changed.wait_for(|seen| *seen > view.revision).await.is_err() {
            return;
        }
    }
}

async fn take_up(broker: &Broker, view: &View) {
    for topic in view.topics.values().filter(|topic| broker.topic(&topic.name).is_none()) {
        let spec = TopicSpec {
            topic_type: Some(topic.topic_type),
            queues: Some(topic.lanes()),
            permission: Some(topic.permission),
            promise: Some(topic.promise),
            ..TopicSpec::default()
        };
        broker.create_topic(topic.name.clone(), spec).await.unwrap();
    }
    for group in view.groups.values().filter(|group| broker.group(&group.name).is_none()) {
        let spec = GroupSpec { start: Some(group.start), ..GroupSpec::default() };
        broker.create_group(group.name.clone(), spec).await.unwrap();
    }
}

impl Cluster {
    async fn start() -> Self {
        let home = ground(1);
        // Nobody renews the leases of brokers that are called directly.
        let options = RouteOptions { lease: Duration::from_secs(3_600), ..RouteOptions::default() };
        let route = Route::open(options, home.store.clone(), home.clock.clone(), home.tasks.clone(), home.entropy);
        let route = route.await.unwrap();
        let mut brokers = Vec::new();
        for number in 0..2 {
            brokers.push(Self::broker(&route, number).await);
        }
        let routes = Routes::new(RouteServer::new(route.clone(), trust()));
        let (address, port) = serve(routes);
        let away = ground(90);
        let me = Me {
            role: Role::Proxy,
            name: "proxy-0".to_owned(),
            address: String::new(),
            version: VERSION.to_owned(),
            holder: None,
        };
        let options = RemoteOptions { addresses: vec![address.to_string()], me, known: None };
        let own = RouteClient::start(options, trust(), away.clock.clone(), away.tasks.clone(), away.entropy);
        let facts = facts(&away.clock, 42, Vec::new());
        let proxy =
            OperatorService::cluster(seat(wire::Role::Proxy, "proxy-0"), own.clone(), trust(), facts, away.tasks);
        own.first_view().await;
        Self { route, brokers, proxy, own, _route_port: port, proxy_port: None }
    }

    async fn broker(route: &Route, number: u32) -> Member {
        let name = format!("broker-{number}");
        let Ground { store, clock, tasks, entropy } = ground(10 + u64::from(number));
        let meters = Arc::new(Meters::noop());
        let options = BrokerOptions::default();
        let broker = Broker::open(options, store, clock.clone(), tasks, entropy, meters, [7; 32]).await.unwrap();
        let applied = Arc::new(AtomicU64::new(0));
        let log = ShardFacts { shard: number, accepting: true, log_bytes: 100, ..ShardFacts::default() };
        let told = applied.clone();
        let operators = OperatorService::broker(
            seat(wire::Role::Broker, &name),
            broker.clone(),
            Arc::new(move || Revision(told.load(Ordering::SeqCst))),
            facts(&clock, 0, vec![log]),
        );
        let (address, port) = serve(Routes::new(guarded!(operators)));
        let me =
            Me { role: Role::Broker, name, address: address.to_string(), version: VERSION.to_owned(), holder: None };
        let own = RouteClient::of_member(route.clone(), me);
        assert_eq!(own.register().await.unwrap().shard, ShardId(number));
        let following = Arc::new(tokio::sync::Mutex::new(()));
        tokio::spawn(follow(broker.clone(), own, applied.clone(), following.clone()));
        Member { broker, port: Some(port), applied, following }
    }

    /// A client of the proxy's internal port.
    async fn client(&mut self) -> Client {
        let (address, port) = serve(Routes::new(AdminServer::new(self.proxy.clone())));
        self.proxy_port = Some(port);
        AdminClient::connect(format!("http://{address}")).await.unwrap()
    }

    /// Nobody answers on the broker's port any more.
    fn stop_broker(&mut self, number: usize) {
        self.brokers[number].port = None;
    }

    async fn with_topic_and_group(&self, client: &mut Client) {
        let topic = wire::Topic { name: "t".to_owned(), queues: 2, ..Default::default() };
        client.create_topic(wire::CreateTopicRequest { topic: Some(topic) }).await.unwrap();
        let group = wire::Group { name: "g".to_owned(), ..Default::default() };
        let answer = client.create_group(wire::CreateGroupRequest { group: Some(group) }).await.unwrap().into_inner();
        let behind = wait(client, answer.revision.unwrap(), LIMIT).await;
        assert_eq!(behind, Vec::<wire::Behind>::new());
    }

    async fn publish(&self, number: usize, count: usize) {
        for id in 0..count {
            let message = NewMessage {
                message_id: format!("m{number}-{id}"),
                message_type: MessageType::Normal,
                rest: Bytes::new(),
                ..NewMessage::default()
            };
            let publish = Publish { topic: t(), messages: vec![message] };
            self.brokers[number].broker.publish(publish).await.unwrap();
        }
    }

    /// Lets so many messages of a broker die.
    async fn kill(&self, number: usize, count: usize) {
        let broker = &self.brokers[number].broker;
        let wish = Receive {
            group: g(),
            topic: t(),
            filter: TagFilter::parse("*").unwrap().into(),
            batch: count,
            lease: LeaseWish::Fixed(Duration::from_secs(30)),
            wait: Duration::from_secs(1),
            client: ClientId("client".into()),
            attempt_id: None,
            ask: Ask::Messages,
        };
        let mut delivery = broker.receive(wish).await.unwrap();
        let mut killed = 0;
        while let Some(one) = delivery.next() {
            broker.to_dead_letter(&g(), &t(), &one.handle).await.unwrap();
            killed += 1;
        }
        assert_eq!(killed, count);
    }
}

async fn wait(client: &mut Client, revision: u64, timeout: Duration) -> Vec<wire::Behind> {
    let timeout = Some(prost_types::Duration::try_from(timeout).unwrap());
    client.await_revision(wire::AwaitRevisionRequest { revision, timeout }).await.unwrap().into_inner().behind
}

fn t() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn g() -> GroupName {
    GroupName::new("", "g").unwrap()
}

fn run(test: impl AsyncFnOnce(Cluster)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let test = async { test(Cluster::start().await).await };
        tokio::time::timeout(LIMIT, test).await.expect("the test hangs");
    });
}

fn names(missing: &[wire::Missing]) -> Vec<&str> {
    missing.iter().map(|missing| missing.broker.as_str()).collect()
}

#[test]
fn a_change_is_waited_for_until_the_slowest_broker_and_proxy_have_it() {
    run(async |mut cluster| {
        let mut client = cluster.client().await;
        let gate = cluster.brokers[1].following.clone().lock_owned().await;
        let topic = wire::Topic { name: "t".to_owned(), ..Default::default() };
        let request = wire::CreateTopicRequest { topic: Some(topic) };
        let created = client.create_topic(request.clone()).await.unwrap().into_inner();
        assert!(created.created);
        let revision = created.revision.unwrap();
        let behind = wait(&mut client, revision, Duration::from_millis(50)).await;
        assert_eq!((behind.len(), behind[0].name.as_str(), behind[0].role()), (1, "broker-1", wire::Role::Broker));
        drop(gate);
        assert_eq!(wait(&mut client, revision, LIMIT).await, Vec::<wire::Behind>::new());
        for member in &cluster.brokers {
            assert!(member.broker.topic(&t()).is_some());
        }
        // Who listens is known to the route service, and what each has taken up.
        let members = cluster.own.members().await.unwrap().members;
        assert_eq!((members.len(), members[0].me.name.as_str()), (1, "proxy-0"));
        assert!(members[0].revision.is_some_and(|at| at.0 >= revision), "{members:?}");
        assert!(!client.create_topic(request).await.unwrap().into_inner().created);
        let later = wait(&mut client, revision + 1_000, Duration::from_millis(20)).await;
        let mut names: Vec<&str> = later.iter().map(|behind| behind.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["broker-0", "broker-1", "proxy-0"]);
    });
}

#[test]
fn what_lies_on_brokers_is_put_together_and_a_stopped_one_is_named_and_not_waited_for() {
    run(async |mut cluster| {
        let mut client = cluster.client().await;
        cluster.with_topic_and_group(&mut client).await;
        cluster.publish(0, 3).await;
        cluster.publish(1, 4).await;
        // A lag is counted from the first look on.
        let reset = |dry_run| wire::ResetGroupRequest {
            name: "g".to_owned(),
            topic: "t".to_owned(),
            to: Some(wire::reset_group_request::To::Edge(wire::reset_group_request::Edge::Earliest.into())),
            dry_run,
            ..Default::default()
        };
        let moved = client.reset_group(reset(false)).await.unwrap().into_inner();
        let homes: Vec<(&str, u32)> = moved.queues.iter().map(|row| (row.broker.as_str(), row.queue_id)).collect();
        assert_eq!(homes, [("broker-0", 0), ("broker-0", 1), ("broker-1", 0), ("broker-1", 1)]);

        let show = wire::ShowTopicRequest { name: "t".to_owned(), ..Default::default() };
        let shown = client.show_topic(show.clone()).await.unwrap().into_inner();
        let on = |shown: &wire::ShowTopicResponse, broker: &str| -> u64 {
            shown.queues.iter().filter(|queue| queue.broker == broker).map(|queue| queue.messages).sum()
        };
        assert_eq!((on(&shown, "broker-0"), on(&shown, "broker-1"), shown.missing.len()), (3, 4, 0));
        assert_eq!((shown.readers.len(), shown.readers[0].outstanding), (1, 7));
        let lag = wire::GroupLagRequest { name: "g".to_owned(), ..Default::default() };
        let total = |lag: &wire::GroupLagResponse| -> u64 {
            lag.topics.iter().flat_map(|topic| &topic.queues).map(|queue| queue.lag).sum()
        };
        let all = client.group_lag(lag.clone()).await.unwrap().into_inner();
        assert_eq!((total(&all), all.missing.len()), (7, 0));

        cluster.stop_broker(1);
        let shown = client.show_topic(show).await.unwrap().into_inner();
        assert_eq!((on(&shown, "broker-0"), on(&shown, "broker-1")), (3, 0));
        assert_eq!(names(&shown.missing), ["broker-1"]);
        assert!(shown.missing[0].reason.starts_with("does not answer"), "{:?}", shown.missing);
        let some = client.group_lag(lag).await.unwrap().into_inner();
        assert_eq!((total(&some), names(&some.missing)), (3, vec!["broker-1"]));
        let status = client.status(wire::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.shards.len(), names(&status.missing)), (1, vec!["broker-1"]));
        assert_eq!((status.role(), status.name.as_str(), status.connections), (wire::Role::Proxy, "proxy-0", 42));
        // A change of several is done where it can be, and says where it is not.
        let moved = client.reset_group(reset(false)).await.unwrap().into_inner();
        assert!(moved.queues.iter().all(|row| row.broker == "broker-0") && moved.queues.len() == 2, "{moved:?}");
        assert_eq!(names(&moved.missing), ["broker-1"]);
        let offset = wire::ResetGroupRequest { to: Some(wire::reset_group_request::To::Offset(1)), ..reset(false) };
        assert_eq!(client.reset_group(offset).await.unwrap_err().code(), Code::InvalidArgument);
        let absent = wire::ResetGroupRequest { name: "nobody".to_owned(), ..reset(true) };
        assert_eq!(client.reset_group(absent).await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn dead_letters_are_named_by_their_broker_and_redriven_on_all() {
    run(async |mut cluster| {
        let mut client = cluster.client().await;
        cluster.with_topic_and_group(&mut client).await;
        for number in 0..2 {
            cluster.publish(number, 3).await;
            cluster.kill(number, 3).await;
        }
        let mut request = wire::ListDeadLettersRequest { group: "g".to_owned(), limit: 2, ..Default::default() };
        let mut seen = Vec::new();
        loop {
            let page = client.list_dead_letters(request.clone()).await.unwrap().into_inner();
            assert_eq!(page.total, 6);
            assert!(page.letters.len() <= 2);
            seen.extend(page.letters.iter().map(|letter| format!("{}:{}", letter.broker, letter.offset)));
            let Some(next) = page.next_offset else { break };
            (request.from_offset, request.from_broker) = (next, page.next_broker);
        }
        let all = ["broker-0:0", "broker-0:1", "broker-0:2", "broker-1:0", "broker-1:1", "broker-1:2"];
        assert_eq!(seen, all);
        let show = |broker: &str| wire::ShowDeadLetterRequest {
            group: "g".to_owned(),
            offset: 1,
            broker: broker.to_owned(),
            ..Default::default()
        };
        let refused = client.show_dead_letter(show("")).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("broker-1:1"), "{refused}");
        let letter = client.show_dead_letter(show("broker-1")).await.unwrap().into_inner().letter.unwrap();
        assert_eq!((letter.broker.as_str(), letter.offset), ("broker-1", 1));
        let one = wire::SettleDeadLettersRequest {
            group: "g".to_owned(),
            offsets: vec![1],
            broker: "broker-1".to_owned(),
            ..Default::default()
        };
        let done = client.purge_dead_letters(one).await.unwrap().into_inner();
        assert_eq!((done.outcomes.len(), done.outcomes[0].broker.as_str(), done.next_offset), (1, "broker-1", None));

        let mut range =
            wire::SettleDeadLettersRequest { group: "g".to_owned(), from_offset: Some(0), ..Default::default() };
        let mut redriven = Vec::new();
        loop {
            let step = client.redrive_dead_letters(range.clone()).await.unwrap().into_inner();
            let done = step.outcomes.iter().filter(|outcome| outcome.done);
            redriven.extend(done.map(|outcome| format!("{}:{}", outcome.broker, outcome.offset)));
            let Some(next) = step.next_offset else { break };
            range.until_offset = (step.next_broker == range.broker).then_some(step.until_offset);
            (range.from_offset, range.broker) = (Some(next), step.next_broker);
        }
        assert_eq!(redriven, ["broker-0:0", "broker-0:1", "broker-0:2", "broker-1:0", "broker-1:2"]);

        cluster.publish(0, 1).await;
        cluster.kill(0, 1).await;
        cluster.stop_broker(1);
        let first = wire::ListDeadLettersRequest { group: "g".to_owned(), ..Default::default() };
        let page = client.list_dead_letters(first).await.unwrap().into_inner();
        assert_eq!((page.letters.len(), names(&page.missing)), (1, vec!["broker-1"]));
        let away = client.show_dead_letter(show("broker-1")).await.unwrap_err();
        assert!(away.code() == Code::Unavailable && away.message().contains("broker-1"), "{away}");
    });
}

#[test]
fn a_broker_answers_for_itself_and_sends_away_who_wants_to_change_the_cluster() {
    run(async |cluster| {
        let address = cluster.own.view().shards[&ShardId(0)].address.clone();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let refused = AdminClient::new(channel.clone()).status(wire::StatusRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "without the secret");
        let mut broker = AdminClient::with_interceptor(channel, |mut request: Request<()>| {
            trust().stamp(&mut request);
            Ok(request)
        });
        let status = broker.status(wire::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.role(), status.name.as_str()), (wire::Role::Broker, "broker-0"));
        assert_eq!(status.revision, Some(cluster.brokers[0].applied.load(Ordering::SeqCst)));
        let topic = wire::Topic { name: "t".to_owned(), ..Default::default() };
        let refused = broker.create_topic(wire::CreateTopicRequest { topic: Some(topic) }).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("any proxy"), "{refused}");
        let refused = broker.cluster_status(wire::ClusterStatusRequest {}).await.unwrap_err();
        assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("broker-0"), "{refused}");
    });
}

#[test]
fn the_page_shows_every_member_and_says_which_broker_is_away() {
    run(async |mut cluster| {
        let mut client = cluster.client().await;
        cluster.with_topic_and_group(&mut client).await;
        let page = client.cluster_status(wire::ClusterStatusRequest {}).await.unwrap().into_inner();
        assert_eq!(page.problems, Vec::<String>::new());
        let members: Vec<_> = page.members.iter().map(|member| (member.role(), member.name.as_str())).collect();
        let (route, broker, proxy) = (wire::Role::Route, wire::Role::Broker, wire::Role::Proxy);
        assert_eq!(members, [(route, "route"), (broker, "broker-0"), (broker, "broker-1"), (proxy, "proxy-0")]);
        assert!(page.members.iter().all(|member| member.revision == Some(page.revision)), "{:#?}", page.members);
        assert_eq!((page.shards.len(), page.topics, page.groups, page.receipt_keys.len()), (2, 1, 1, 1));
        cluster.stop_broker(0);
        let page = client.cluster_status(wire::ClusterStatusRequest {}).await.unwrap().into_inner();
        assert!(page.problems[0].contains("broker-0 does not answer"), "{:?}", page.problems);
        assert_eq!(page.shards.len(), 1);
        let keys = client.rotate_receipt_key(wire::RotateReceiptKeyRequest {}).await.unwrap().into_inner();
        assert_eq!((keys.receipt_keys.len(), keys.receipt_keys[1]), (2, page.receipt_keys[0]));
    });
}

#[test]
fn a_drain_tells_which_broker_must_seal_and_who_still_reads_until_nothing_is_left() {
    run(async |mut cluster| {
        let mut client = cluster.client().await;
        cluster.with_topic_and_group(&mut client).await;
        cluster.publish(1, 2).await;
        cluster.kill(1, 1).await;
        let look = wire::ShowBrokerRequest { broker: "broker-1".to_owned() };
        let drain = |broker: &str, drain| wire::DrainBrokerRequest { broker: broker.to_owned(), drain };
        assert_eq!(client.drain_broker(drain("nobody", true)).await.unwrap_err().code(), Code::NotFound);
        client.drain_broker(drain("broker-1", true)).await.unwrap();
        let last = client.drain_broker(drain("broker-0", true)).await.unwrap_err();
        assert_eq!(last.code(), Code::FailedPrecondition, "{last}");
        // The moves follow by themselves.
        let moves = loop {
            let moves = client.list_moves(wire::ListMovesRequest::default()).await.unwrap().into_inner().moves;
            if !moves.is_empty() {
                break moves;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((moves.len(), moves[0].topic.as_str()), (1, "t"));
        assert_eq!(
            (moves[0].moving_to.join(","), moves[0].waiting_for.join(",")),
            ("broker-0".to_owned(), "broker-0,broker-1".to_owned())
        );
        let shown = client.show_broker(look.clone()).await.unwrap().into_inner();
        assert_eq!(
            (shown.topics, shown.leaving, shown.member.unwrap().draining),
            (vec!["t".to_owned()], Vec::new(), true)
        );

        let topic = cluster.own.view().topics[&t()].id;
        let generation = moves[0].generation;
        cluster.own.sealed(topic, generation, ShardId(0)).await.unwrap();
        let moves = client.list_moves(wire::ListMovesRequest::default()).await.unwrap().into_inner().moves;
        assert_eq!(moves[0].waiting_for, ["broker-1"]);
        cluster.own.sealed(topic, generation, ShardId(1)).await.unwrap();
        let moves = client.list_moves(wire::ListMovesRequest::default()).await.unwrap().into_inner().moves;
        assert_eq!((moves[0].moving_to.len(), moves[0].brokers.join(",")), (0, "broker-0".to_owned()));
        assert!(moves[0].left_on.contains(&"broker-1".to_owned()), "{moves:?}");
        assert_eq!(moves[0].readers, ["g"], "one of its messages is not read");
        let shown = client.show_broker(look.clone()).await.unwrap().into_inner();
        assert_eq!((shown.topics, shown.leaving), (Vec::new(), vec!["t".to_owned()]));
        let page = client.cluster_status(wire::ClusterStatusRequest {}).await.unwrap().into_inner();
        assert!(
            page.problems.iter().any(|problem| problem.contains("broker-1 is draining: messages of topic t")),
            "{:?}",
            page.problems
        );

        let past: Vec<(u32, Vec<ShardId>)> = cluster.own.view().placements[&topic]
            .past
            .iter()
            .map(|past| (past.generation, past.shards.clone()))
            .collect();
        for (generation, shards) in past {
            for shard in shards {
                cluster.own.drained(topic, generation, shard).await.unwrap();
            }
        }
        let shown = client.show_broker(look).await.unwrap().into_inner();
        assert_eq!((shown.topics.len(), shown.leaving.len()), (0, 0));
        // Nothing to do is no move.
        let again = wire::RebalanceTopicRequest { name: "t".to_owned(), ..Default::default() };
        let answer = client.rebalance_topic(again).await.unwrap().into_inner();
        assert_eq!(answer.r#move, None);
        assert!(cluster.route.view().placements[&topic].moving.is_none());
    });
}

#[test]
fn a_transaction_that_no_broker_has_is_unknown_only_when_all_of_them_said_so() {
    run(async |mut cluster| {
        let mut client = cluster.client().await;
        let topic = wire::Topic {
            name: "t".to_owned(),
            r#type: wire::TopicType::Transaction.into(),
            queues: 1,
            ..Default::default()
        };
        let created = client.create_topic(wire::CreateTopicRequest { topic: Some(topic) }).await.unwrap().into_inner();
        assert!(wait(&mut client, created.revision.unwrap(), LIMIT).await.is_empty());
        let list = wire::ListTransactionsRequest::default();
        let first = client.list_transactions(list.clone()).await.unwrap().into_inner();
        assert_eq!((first.transactions.len(), first.next_page_token.as_str()), (0, "1:"));
        let end = wire::EndTransactionRequest {
            topic: "t".to_owned(),
            id: "01AB".to_owned(),
            end: wire::TransactionEnd::Commit.into(),
            ..Default::default()
        };
        assert_eq!(client.end_transaction(end.clone()).await.unwrap_err().code(), Code::NotFound);
        cluster.stop_broker(1);
        let unsure = client.end_transaction(end).await.unwrap_err();
        assert!(unsure.code() == Code::Unavailable && unsure.message().contains("broker-1"), "{unsure}");
        let next = wire::ListTransactionsRequest { page_token: first.next_page_token, ..list };
        let last = client.list_transactions(next).await.unwrap().into_inner();
        assert_eq!((names(&last.missing), last.next_page_token.as_str()), (vec!["broker-1"], ""));
    });
}
