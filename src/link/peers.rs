//! The other brokers of a cluster, as a broker asks them about message groups that moved. A connection comes about at the first
//! question and goes when the cluster no longer knows the shard.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::broker::api::Peers;
use crate::link::client::{Bounds, Dial, ShardClient, Way};
use crate::link::hello::Hello;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::ShardId;
use crate::route::RouteClient;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;

/// Longest wait for an answer; who asks asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A connection, and where it is told a new address.
type Known = (ShardClient, watch::Sender<Arc<str>>);

/// Asks over links.
pub struct FarPeers {
    route: RouteClient,
    trust: Trust,
    who: Hello,
    clock: Clock,
    tasks: Tasks,
    known: Mutex<BTreeMap<ShardId, Known>>,
}

impl fmt::Debug for FarPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FarPeers({} known)", self.known.lock().len())
    }
}

impl FarPeers {
    /// As `who`; nothing is connected yet.
    #[must_use]
    pub fn new(route: RouteClient, trust: Trust, who: Hello, clock: Clock, tasks: Tasks) -> Self {
        Self { route, trust, who, clock, tasks, known: Mutex::default() }
    }

    /// The connection of a shard, at the address that it has now.
    fn peer(&self, id: ShardId) -> Option<ShardClient> {
        let view = self.route.view();
        let mut known = self.known.lock();
        known.retain(|shard, _| view.shards.contains_key(shard));
        let shard = view.shards.get(&id)?;
        let (client, address) = known.entry(id).or_insert_with(|| {
            let (address, watched) = watch::channel(shard.address.clone());
            let who = Hello { shard: Some(id), cluster: Some(view.cluster), ..self.who.clone() };
            let dial = Dial { way: Way::Address(watched), trust: self.trust.clone(), who, bounds: Bounds::default() };
            let route = self.route.clone();
            let revisions = Arc::new(move || route.view().revision);
            (ShardClient::connect(dial, revisions, self.clock.clone(), &self.tasks), address)
        });
        address.send_if_modified(|address| {
            let is_new = *address != shard.address;
            address.clone_from(&shard.address);
            is_new
        });
        Some(client.clone())
    }
}

impl Peers for FarPeers {
    fn lanes_done(
        &self,
        shard: ShardId,
        topic: TopicName,
        group: GroupName,
        generation: u32,
        keys: Vec<u64>,
    ) -> BoxFuture<'_, Option<Vec<bool>>> {
        Box::pin(async move {
            let peer = self.peer(shard)?;
            let wanted = keys.len();
            tokio::select! {
                biased;
                done = peer.lanes_done(topic, group, generation, keys) => {
                    done.ok().filter(|done| done.len() == wanted)
                }
                () = self.clock.sleep(ANSWER_WITHIN) => None,
            }
        })
    }
}
