//! A connection to each shard of the newest view: begun, ended and pointed elsewhere as views change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::api::{BrokerStatus, LiteEviction};
use crate::link::client::{Bounds, Connector, Dial, ShardClient, Way};
use crate::link::cluster::clients::Clients;
use crate::link::cluster::patience::Waiting;
use crate::link::hello::{Hello, Role};
use crate::model::cluster::{Shard, View};
use crate::model::position::ShardId;
use crate::model::time::Timestamp;
use crate::route::RouteClient;
use crate::runtime::clock::Clock;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;

/// How often a shard is asked how it is; this also keeps its connection alive.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Statuses between two reports of live clients.
const REPORT_EVERY: u32 = 3;
/// Clients in one report; a long list goes in several.
const REPORT_BATCH: usize = 1_000;

/// How connections to brokers come about: over the network, or by streams made in this process, for tests and simulations.
#[derive(Clone, Default)]
pub struct Connect(Option<Arc<Making>>);

type Making = dyn Fn(&Shard) -> Connector + Send + Sync;

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connect(own streams: {})", self.0.is_some())
    }
}

impl Connect {
    /// By streams that `connector` makes for each broker.
    #[must_use]
    pub fn by_streams(connector: impl Fn(&Shard) -> Connector + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(connector)))
    }
}

/// A connection to a shard, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Which.
    pub shard: ShardId,
    /// Whether calls can go out at once.
    pub connected: bool,
    /// Calls that are not answered yet, long polls among them.
    pub in_flight: usize,
}

/// Connections to the shards.
#[derive(Debug)]
pub struct Pool {
    pub route: RouteClient,
    pub trust: Trust,
    pub name: Arc<str>,
    pub instance: u64,
    pub connect: Connect,
    pub shutdown: Shutdown,
    pub clock: Clock,
    pub tasks: Tasks,
    pub clients: Arc<Clients>,
    pub evictions: broadcast::Sender<LiteEviction>,
    pub members: RwLock<BTreeMap<ShardId, Member>>,
}

/// One shard.
#[derive(Debug)]
pub struct Member {
    client: ShardClient,
    address: watch::Sender<Arc<str>>,
    /// What it said last; none while it does not answer.
    status: Arc<Mutex<Option<BrokerStatus>>>,
    left: CancellationToken,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.left.cancel();
    }
}

/// Keeps the connections as the newest view says, until the process ends.
pub async fn follow(pool: Arc<Pool>) {
    let mut changed = pool.route.changed();
    loop {
        changed.borrow_and_update();
        pool.adopt(&pool.route.view());
        tokio::select! {
            biased;
            () = pool.shutdown.stopping() => return,
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

impl Pool {
    fn adopt(self: &Arc<Self>, view: &View) {
        let mut members = self.members.write();
        members.retain(|shard, _| view.shards.contains_key(shard));
        for (id, shard) in &view.shards {
            match members.get(id) {
                Some(member) => {
                    member.address.send_if_modified(|address| {
                        let is_new = *address != shard.address;
                        address.clone_from(&shard.address);
                        is_new
                    });
                }
                None => drop(members.insert(*id, self.member(shard, view))),
            }
        }
    }

    fn member(self: &Arc<Self>, shard: &Shard, view: &View) -> Member {
        let (address, known) = watch::channel(shard.address.clone());
        let way = match &self.connect.0 {
            Some(connector) => Way::Streams(connector(shard)),
            None => Way::Address(known),
        };
        let who = Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            role: Role::Proxy,
            name: self.name.clone(),
            cluster: Some(view.cluster),
            instance: self.instance,
            shard: Some(shard.id),
        };
        let dial = Dial { way, trust: self.trust.clone(), who, bounds: Bounds::default() };
        let route = self.route.clone();
        let revision = Arc::new(move || route.view().revision);
        let client = ShardClient::connect(dial, revision, self.clock.clone(), &self.tasks);
        let member = Member { client, address, status: Arc::default(), left: CancellationToken::new() };
        drop(self.tasks.spawn_background(attend(self.clone(), (&member).into())));
        drop(self.tasks.spawn_background(hear(self.clone(), (&member).into())));
        member
    }

    /// The connection of a shard; `None` when the newest view does not know it.
    pub fn client(self: &Arc<Self>, shard: ShardId) -> Option<ShardClient> {
        if let Some(member) = self.members.read().get(&shard) {
            return Some(member.client.clone());
        }
        // A call may know of a view before the task that follows them does.
        let view = self.route.view();
        if !view.shards.contains_key(&shard) {
            return None;
        }
        self.adopt(&view);
        self.members.read().get(&shard).map(|member| member.client.clone())
    }

    /// Whether a shard could be reached a moment ago.
    pub fn is_connected(&self, shard: ShardId) -> bool {
        self.members.read().get(&shard).is_some_and(|member| member.client.is_connected())
    }

    /// Every shard.
    pub fn all(&self) -> Vec<(ShardId, ShardClient)> {
        self.members.read().iter().map(|(shard, member)| (*shard, member.client.clone())).collect()
    }

    /// Every shard that could be reached a moment ago.
    pub fn connected(&self) -> Vec<(ShardId, ShardClient)> {
        self.all().into_iter().filter(|(_, client)| client.is_connected()).collect()
    }

    /// How the connection of each shard is.
    pub fn links(&self) -> Vec<LinkState> {
        let state = |(shard, client): (ShardId, ShardClient)| LinkState {
            shard,
            connected: client.is_connected(),
            in_flight: client.under_way(),
        };
        self.all().into_iter().map(state).collect()
    }

    /// What each shard said last; none of those that do not answer.
    pub fn statuses(&self) -> Vec<(ShardId, Option<BrokerStatus>)> {
        self.members.read().iter().map(|(shard, member)| (*shard, member.status.lock().clone())).collect()
    }
}

/// What the tasks of a member share with it.
struct Attended {
    client: ShardClient,
    status: Arc<Mutex<Option<BrokerStatus>>>,
    left: CancellationToken,
}

impl From<&Member> for Attended {
    fn from(member: &Member) -> Self {
        Self { client: member.client.clone(), status: member.status.clone(), left: member.left.clone() }
    }
}

/// Since when clients are to be reported. What was sent before a connection ended may never have arrived, so it is said again.
#[derive(Debug, Default)]
struct Reports {
    /// Of the last report, and of the one before.
    last: Timestamp,
    before: Timestamp,
    /// State of the connections at the last report.
    connections: u64,
}

impl Reports {
    fn is_cut(&self, connections: u64) -> bool {
        self.connections != connections
    }

    fn since(&self, connections: u64) -> Timestamp {
        if self.is_cut(connections) { self.before } else { self.last }
    }

    fn sent(&mut self, now: Timestamp, connections: u64) {
        // What was said again is as new as before.
        self.before = if self.is_cut(connections) { self.before } else { self.last };
        (self.last, self.connections) = (now, connections);
    }
}

/// Asks a shard how it is, and tells it which clients live.
async fn attend(pool: Arc<Pool>, shard: Attended) {
    let mut reports = Reports::default();
    for round in 0u32.. {
        let asked = Waiting::new(&pool.clock, STATUS_EVERY).within(shard.client.status()).await;
        *shard.status.lock() = asked.and_then(Result::ok);
        let connections = shard.client.connections();
        if (round.is_multiple_of(REPORT_EVERY) || reports.is_cut(connections)) && shard.client.is_connected() {
            let (clients, now) = pool.clients.heard_since(reports.since(connections));
            if clients.chunks(REPORT_BATCH).all(|batch| shard.client.clients_alive(batch.to_vec())) {
                reports.sent(now, connections);
            }
        }
        tokio::select! {
            biased;
            () = shard.left.cancelled() => return,
            () = pool.shutdown.stopping() => return,
            () = pool.clock.sleep(STATUS_EVERY) => {}
        }
    }
}

/// Hands on which clients lost a lite topic.
async fn hear(pool: Arc<Pool>, shard: Attended) {
    let mut notices = shard.client.notices();
    loop {
        tokio::select! {
            biased;
            () = shard.left.cancelled() => return,
            () = pool.shutdown.stopping() => return,
            notice = notices.recv() => match notice {
                // Without anybody who listens it is lost, and its client finds out at its next sync.
                Ok(eviction) => drop(pool.evictions.send(eviction)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_may_have_been_lost_with_its_connection_is_made_again() {
        let mut reports = Reports::default();
        assert!(reports.is_cut(2), "a first report is made at once");
        assert_eq!(reports.since(2), Timestamp(0));
        reports.sent(Timestamp(3_000), 2);
        assert_eq!((reports.is_cut(2), reports.since(2)), (false, Timestamp(3_000)));
        reports.sent(Timestamp(6_000), 2);
        assert_eq!((reports.is_cut(4), reports.since(4)), (true, Timestamp(3_000)));
        reports.sent(Timestamp(7_000), 4);
        assert_eq!(reports.since(6), Timestamp(3_000), "cut again before it was surely heard");
        reports.sent(Timestamp(8_000), 6);
        reports.sent(Timestamp(9_000), 6);
        assert_eq!((reports.since(6), reports.since(8)), (Timestamp(9_000), Timestamp(8_000)));
    }
}
