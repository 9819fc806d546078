//! A connection to each shard of the newest view: begun, ended and pointed elsewhere as views change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::api::{BrokerStatus, LiteEviction};
use crate::link::client::{Dial, Hello, ShardClient};
use crate::link::cluster::clients::Clients;
use crate::link::cluster::patience::Waiting;
use crate::model::cluster::View;
use crate::model::position::ShardId;
use crate::model::time::Timestamp;
use crate::observe::meters::Meters;
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

/// Connections to the shards.
#[derive(Debug)]
pub struct Pool {
    pub route: RouteClient,
    pub trust: Trust,
    pub name: Arc<str>,
    pub connect: Connect,
    pub shutdown: Shutdown,
    pub clock: Clock,
    pub tasks: Tasks,
    pub meters: Arc<Meters>,
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
                None => drop(members.insert(*id, self.member(*id, shard.address.clone(), view))),
            }
        }
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

    /// What each shard said last; none of those that do not answer.
    pub fn statuses(&self) -> Vec<(ShardId, Option<BrokerStatus>)> {
        self.members.read().iter().map(|(shard, member)| (*shard, member.status.lock().clone())).collect()
    }
}
