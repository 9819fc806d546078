//! The brokers of a cluster as a proxy calls them: every call goes to the shard that can answer it, or to all that might.
//!
//! What is known of the cluster is a [`View`] of the route service; it may be old, so what it says of a shard's life is a hint, and
//! a shard that refuses because things have moved is asked again under a newer one. Nothing here outlives the process: a proxy
//! that dies takes no message and no answer along.

mod checks;
mod clients;
mod offsets;
mod patience;
mod plan;
mod pool;
mod publish;
mod receive;
mod settle;
mod transactions;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::broker::Handles;
use crate::broker::api::{BrokerStatus, CatalogError, ClientId, GroupSpec, LiteEviction};
use crate::link::cluster::clients::Clients;
use crate::link::cluster::plan::Warmth;
use crate::link::cluster::pool::Pool;
use crate::model::cluster::{Placement, ReceiptKey, View};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, ShardId};
use crate::model::topic::Topic;
use crate::route::RouteClient;
use crate::runtime::clock::Clock;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;

pub use clients::ClientGuard;
pub use patience::patience_of;
pub use pool::{Connect, LinkState};

/// Evictions that wait for the proxy's task; a client that misses one finds out at its next sync.
const EVICTIONS_MAX: usize = 1_024;
/// Longest wait for a group that comes into being.
const CREATES_WITHIN: Duration = Duration::from_secs(2);
/// Groups and topics of which it is remembered where they found messages.
const WARMTHS_MAX: usize = 10_000;

/// Settings of a proxy towards its brokers.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Name of this process, unlike that of any other.
    pub name: Arc<str>,
    /// A random number: a process that begins anew under the same name is another one.
    pub instance: u64,
    /// Whether a consumer group that nobody created comes into being at its first use.
    pub auto_create_groups: bool,
    /// Lite topics that one client may subscribe to.
    pub lite_subscriptions_per_client_max: usize,
    /// Most clients that are remembered and reported to the brokers.
    pub clients_max: usize,
    /// How connections come about.
    pub connect: Connect,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name: "proxy".into(),
            instance: 0,
            auto_create_groups: true,
            lite_subscriptions_per_client_max: 2_000,
            clients_max: 50_000,
            connect: Connect::default(),
        }
    }
}

/// Cheap handle.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    route: RouteClient,
    options: ClusterOptions,
    shutdown: Shutdown,
    clock: Clock,
    pool: Arc<Pool>,
    clients: Arc<Clients>,
    /// Counts messages for any shard, so that they take turns.
    turn: AtomicU64,
    warmth: Mutex<HashMap<(TopicName, GroupName), Warmth>>,
    ring: Mutex<(Vec<ReceiptKey>, Arc<Handles>)>,
    /// One group is created at a time: a thousand receives of a new group must not all ask the route service.
    creating: tokio::sync::Mutex<()>,
    evictions: broadcast::Sender<LiteEviction>,
}

/// Why a shard's word is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unanswered<E> {
    /// It said no.
    Refused(E),
    /// It could not be reached in time; whether it did what was asked is unknown.
    Away,
}

impl Cluster {
    /// Begins to follow the views of `route` and to keep connections to the shards in them.
    #[must_use]
    pub fn start(
        route: RouteClient,
        trust: Trust,
        options: ClusterOptions,
        shutdown: Shutdown,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        let (evictions, _) = broadcast::channel(EVICTIONS_MAX);
        let clients = Arc::new(Clients::new(options.clients_max, clock.clone()));
        let pool = Arc::new(Pool {
            route: route.clone(),
            trust,
            name: options.name.clone(),
            instance: options.instance,
            connect: options.connect.clone(),
            shutdown: shutdown.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            clients: clients.clone(),
            evictions: evictions.clone(),
            members: parking_lot::RwLock::default(),
        });
        drop(tasks.spawn_background(pool::follow(pool.clone())));
        let inner = Inner {
            route,
            options,
            shutdown,
            clock,
            pool,
            clients,
            turn: AtomicU64::new(0),
            warmth: Mutex::default(),
            ring: Mutex::new((Vec::new(), Arc::new(Handles::ring(&[])))),
            creating: tokio::sync::Mutex::default(),
            evictions,
        };
        Self { inner: Arc::new(inner) }
    }

    fn view(&self) -> Arc<View> {
        self.inner.route.view()
    }

    /// A topic.
    pub fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.view().topics.get(name).cloned()
    }

    /// See [`Brokers::group_or_default`](crate::link::Brokers::group_or_default).
    pub fn group_or_default(&self, name: &GroupName) -> Option<Group> {
        match self.view().groups.get(name) {
            Some(group) => Some(Group::clone(group)),
            None => self.inner.options.auto_create_groups.then(|| Group::with_defaults(GroupId(0), name.clone())),
        }
    }

    /// Names of the brokers that take a topic's messages, by number of their shards.
    pub fn homes(&self, topic: &Topic) -> Vec<Arc<str>> {
        let view = self.view();
        let shards = view.placement(topic.id).map(|placement| placement.shards.clone()).unwrap_or_default();
        shards.iter().filter_map(|shard| view.shards.get(shard)).map(|shard| shard.name.clone()).collect()
    }

    /// A client was heard of.
    pub fn client_seen(&self, client: &ClientId, slow_heartbeat: bool) {
        self.inner.clients.seen(client, slow_heartbeat);
    }

    /// A client counts as live while the guard exists.
    pub fn client_opened(&self, client: &ClientId) -> ClientGuard {
        Clients::open(&self.inner.clients, client)
    }

    /// A client said good-bye; every shard hears of it at once.
    pub async fn client_terminated(&self, client: &ClientId) {
        self.inner.clients.forget(client);
        let told = self.inner.pool.all().into_iter().map(|(_, shard)| async move {
            // One that does not hear of it lets the client's session run out.
            let _ = shard.client_terminated(client).await;
        });
        let all = futures::future::join_all(told);
        let _ = patience::Waiting::new(&self.inner.clock, Duration::from_secs(1)).within(all).await;
    }

    /// What the shards said last, in sum.
    pub fn links(&self) -> Vec<LinkState> {
        self.inner.pool.links()
    }

    /// State in numbers.
    pub fn status(&self) -> BrokerStatus {
        let view = self.view();
        let statuses = self.inner.pool.statuses();
        let reachable = statuses.iter().filter(|(_, status)| status.is_some()).count();
        let (ready, reason) = if self.inner.shutdown.is_draining() {
            (false, "the proxy is shutting down".to_owned())
        } else if view.revision.0 == 0 {
            (false, "the route service has not been heard of yet".to_owned())
        } else if reachable == 0 {
            (false, "no broker can be reached".to_owned())
        } else {
            (true, words(&view, &statuses))
        };
        let known = || statuses.iter().filter_map(|(_, status)| status.as_ref());
        BrokerStatus {
            ready,
            reason,
            topics: view.topics.len(),
            groups: view.groups.len(),
            members: self.inner.clients.count(),
            lite_topics: known().map(|status| status.lite_topics).sum(),
            lite_subscriptions: known().map(|status| status.lite_subscriptions).sum(),
            pollers: known().map(|status| status.pollers).sum(),
            in_flight: known().map(|status| status.in_flight).sum(),
        }
    }

    /// Drain and stop of this process.
    pub fn shutdown(&self) -> &Shutdown {
        &self.inner.shutdown
    }

    /// Lite topics that one client may subscribe to.
    pub fn lite_subscriptions_per_client_max(&self) -> usize {
        self.inner.options.lite_subscriptions_per_client_max
    }

    /// Clients that lost a lite topic by what another proxy was told.
    pub fn evictions(&self) -> broadcast::Receiver<LiteEviction> {
        self.inner.evictions.subscribe()
    }

    /// A different, never empty text for a handle.
    pub fn another_text(&self, handle: &str) -> String {
        self.ring().another_text(handle)
    }

    /// By the keys of the newest view.
    fn ring(&self) -> Arc<Handles> {
        let view = self.view();
        let mut ring = self.inner.ring.lock();
        if ring.0 != view.receipt_keys {
            *ring = (view.receipt_keys.clone(), Arc::new(Handles::ring(&view.receipt_keys)));
        }
        ring.1.clone()
    }

    fn turn(&self) -> u64 {
        self.inner.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Every shard that may hold messages of a topic and has not left the cluster.
    fn holders(&self, view: &View, topic: &Topic) -> Vec<ShardId> {
        let holders = view.placement(topic.id).map(|placement| placement.holders()).unwrap_or_default();
        holders.into_iter().filter(|shard| view.shards.contains_key(shard)).collect()
    }

    fn placement(&self, view: &View, topic: &Topic) -> Arc<Placement> {
        view.placement(topic.id).cloned().unwrap_or_default()
    }

    /// A group, created when nobody did before. Waits a bounded time: the route service may be away.
    async fn group_at_first_use(&self, name: &GroupName) -> Result<Arc<Group>, CatalogError> {
        if let Some(group) = self.view().groups.get(name) {
            return Ok(group.clone());
        }
        if !self.inner.options.auto_create_groups {
            return Err(CatalogError::NotFound(name.to_string()));
        }
        let created = patience::Waiting::new(&self.inner.clock, CREATES_WITHIN).within(self.create_group(name)).await;
        created.unwrap_or(Err(CatalogError::Overloaded))
    }

    async fn create_group(&self, name: &GroupName) -> Result<Arc<Group>, CatalogError> {
        let _turn = self.inner.creating.lock().await;
        if let Some(group) = self.view().groups.get(name) {
            return Ok(group.clone());
        }
        match self.inner.route.create_group(name.clone(), GroupSpec::default()).await {
            Ok((group, revision)) => {
                self.inner.route.reached(revision, CREATES_WITHIN).await;
                Ok(group)
            }
            // Another proxy was faster, and somebody has changed it since.
            Err(CatalogError::Differs { .. }) => self.view().groups.get(name).cloned().ok_or(CatalogError::Overloaded),
            Err(error) => Err(error),
        }
    }
}

/// What a person should know of the shards although the proxy serves; empty when all is well.
fn words(view: &View, statuses: &[(ShardId, Option<BrokerStatus>)]) -> String {
    let mut words = Vec::new();
    for (shard, status) in statuses {
        let name = view.shards.get(shard).map_or_else(|| shard.to_string(), |shard| shard.name.to_string());
        match status {
            None => words.push(format!("{name} cannot be reached")),
            Some(status) if !status.reason.is_empty() => words.push(format!("{name}: {}", status.reason)),
            Some(_) => {}
        }
    }
    words.join("; ")
}
