//! Topics that move between brokers, over real stores in memory and in virtual time: per message group nothing is lost, nothing
//! overtakes, and nothing waits for ever, whatever is sent, received, moved and killed when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{
    AckOutcome, Ask, Authority, CatalogError, ClientId, ClusterSetup, Delivered, LeaseWish, Peers, Publish,
    PublishError, Receive, TopicSpec,
};
use bolide::broker::options::BrokerOptions;
use bolide::model::cluster::{ClusterId, PastPlacement, Placement, ReceiptKey, Revision, View, owner};
use bolide::model::group::{Group, StartPosition};
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::order::{order_key, queue_of};
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
use bolide::store::{FoldEnv, Store, StoreOptions};
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

const START: Timestamp = Timestamp(1_700_000_000_000);
const LEASE: Duration = Duration::from_secs(5);
const CLUSTER: ClusterId = ClusterId(77);
const TOPIC: TopicId = TopicId(5);

/// Groups are in the view from the beginning.
struct Nobody;

impl Authority for Nobody {
    fn create_group(&self, _: GroupName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(std::future::ready(Err(CatalogError::Overloaded)))
    }

    fn create_dead_letter_topic(&self, _: TopicName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(std::future::ready(Err(CatalogError::Overloaded)))
    }
}

/// What connects brokers: those that are there are asked directly, and now and then nobody answers.
#[derive(Clone)]
struct Net {
    brokers: Arc<Mutex<BTreeMap<ShardId, Broker>>>,
    entropy: Entropy,
    is_cut: Arc<Mutex<bool>>,
    asked: Arc<Mutex<u64>>,
}

impl Peers for Net {
    fn lanes_done(
        &self,
        shard: ShardId,
        topic: TopicName,
        group: GroupName,
        generation: u32,
        keys: Vec<u64>,
    ) -> BoxFuture<'_, Option<Vec<bool>>> {
        Box::pin(async move {
            *self.asked.lock() += 1;
            let is_lost = *self.is_cut.lock() || self.entropy.below(5) == 0;
            let broker = self.brokers.lock().get(&shard).cloned().filter(|_| !is_lost)?;
            Some(broker.lanes_done(&topic, &group, generation, &keys).await)
        })
    }
}

/// Disks and present processes of a cluster, and its route service as plain state.
struct Cluster {
    disks: Vec<(MemoryFiles, FoldEnv)>,
    net: Net,
    entropy: Entropy,
    clock: Clock,
    view: View,
    sealed: BTreeSet<ShardId>,
    drained: BTreeSet<(u32, ShardId)>,
    /// What senders go by.
    known: Arc<Placement>,
}

impl Cluster {
    /// Brokers 0 to `count`, the topic on the first `on` of them.
    async fn new(seed: u64, count: u32, on: u32, ordered: bool) -> Self {
        let entropy = Entropy::seeded(seed);
        let net =
            Net { brokers: Arc::default(), entropy: entropy.clone(), is_cut: Arc::default(), asked: Arc::default() };
        let disk = |shard| (MemoryFiles::new(seed * 10 + u64::from(shard)), FoldEnv::memory().unwrap());
        let kind = if ordered { TopicType::Fifo } else { TopicType::Mixed };
        let spec = TopicSpec { topic_type: Some(kind), queues: Some(2), ..TopicSpec::default() };
        let group = Group { max_attempts: 1_000, ordered: Some(ordered), ..Group::with_defaults(GroupId(6), group()) };
        let placement = Arc::new(Placement::first((0..on).map(ShardId).collect()));
        let view = View {
            cluster: CLUSTER,
            revision: Revision(1),
            topics: [(topic(), Arc::new(new_topic(TOPIC, topic(), &spec).unwrap()))].into(),
            groups: [(group.name.clone(), Arc::new(group))].into(),
            placements: [(TOPIC, placement.clone())].into(),
            receipt_keys: vec![ReceiptKey { id: 1, key: [1; 32] }],
            ..View::default()
        };
        let mut cluster = Self {
            disks: (0..count).map(disk).collect(),
            net,
            entropy,
            clock: Clock::anchored(START),
            view,
            sealed: BTreeSet::new(),
            drained: BTreeSet::new(),
            known: placement,
        };
        for shard in 0..count {
            cluster.start(shard).await;
            cluster.apply(shard).await;
        }
        cluster
    }

    async fn start(&mut self, shard: u32) {
        let (files, env) = &self.disks[shard as usize];
        let entropy = Entropy::seeded(self.entropy.next_u64());
        let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
        let log =
            LogOptions { shard: ShardId(shard), ..LogOptions::tiny(&Path::new("/data").to_string_lossy(), 256 * 1024) };
        let options = StoreOptions { log, ..StoreOptions::default() };
        let store = Store::open(options, files.life(), env.clone(), &self.clock, tasks.clone()).unwrap();
        let setup = ClusterSetup {
            cluster: CLUSTER,
            receipt_keys: self.view.receipt_keys.clone(),
            authority: Arc::new(Nobody),
            peers: Arc::new(self.net.clone()),
        };
        let (options, metrics) = (BrokerOptions::default(), Arc::new(Meters::noop()));
        let broker = Broker::open(options, store, self.clock.clone(), tasks, entropy, metrics, setup).await.unwrap();
        self.net.brokers.lock().insert(ShardId(shard), broker);
    }

    async fn kill(&mut self, shard: u32) {
        let Some(broker) = self.net.brokers.lock().remove(&ShardId(shard)) else { return };
        broker.shutdown().stop();
        broker.store().abandon().await;
        drop(broker);
        // Its tasks must have let go of the disk.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.disks[shard as usize].0.kill();
    }

    fn broker(&self, shard: u32) -> Option<Broker> {
        self.net.brokers.lock().get(&ShardId(shard)).cloned()
    }

    fn up(&self, shard: u32) -> Broker {
        self.broker(shard).unwrap()
    }

    async fn apply(&self, shard: u32) {
        if let Some(broker) = self.broker(shard) {
            broker.apply(&self.view).await.unwrap();
        }
    }

    fn placement(&self) -> &Placement {
        &self.view.placements[&TOPIC]
    }

    fn place(&mut self, change: impl FnOnce(&mut Placement)) {
        let mut placement = self.placement().clone();
        change(&mut placement);
        self.view.placements.insert(TOPIC, Arc::new(placement));
        self.view.revision.0 += 1;
    }

    /// Begins a move, or gives the present one up.
    fn move_to(&mut self, target: Option<Vec<ShardId>>) {
        self.sealed.clear();
        self.place(|placement| {
            placement.generation += 1;
            placement.moving = target;
        });
    }

    /// Takes in what the brokers report.
    async fn collect(&mut self) {
        for shard in 0..self.disks.len() as u32 {
            let Some(broker) = self.broker(shard) else { continue };
            for (_, generation) in broker.sealed().await {
                if generation == self.placement().generation && self.placement().moving.is_some() {
                    self.sealed.insert(ShardId(shard));
                }
            }
            for (_, generation) in broker.drained().await {
                self.drained.insert((generation, ShardId(shard)));
            }
        }
        let now = self.placement().clone();
        if now.moving.is_some() && now.shards.iter().all(|shard| self.sealed.contains(shard)) {
            self.place(|placement| {
                let target = placement.moving.take().unwrap();
                let shards = std::mem::replace(&mut placement.shards, target);
                placement.past.push(PastPlacement { generation: placement.generation, shards });
            });
        }
        let drained = &self.drained;
        let is_over =
            |past: &PastPlacement| past.shards.iter().all(|shard| drained.contains(&(past.generation, *shard)));
        if now.past.iter().any(is_over) {
            let drained = drained.clone();
            self.place(|placement| {
                placement
                    .past
                    .retain(|past| !past.shards.iter().all(|shard| drained.contains(&(past.generation, *shard))));
            });
        }
    }

    /// A whole move, with everyone there.
    async fn moved_to(&mut self, target: &[u32]) {
        self.move_to(Some(target.iter().copied().map(ShardId).collect()));
        for _ in 0..3 {
            for shard in 0..self.disks.len() as u32 {
                self.apply(shard).await;
            }
            self.collect().await;
        }
        assert_eq!(self.placement().moving, None);
    }
}

fn in_virtual_time<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(life)
}

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

fn message(message_group: &str, id: &str) -> NewMessage {
    let message_type = if message_group.is_empty() { MessageType::Normal } else { MessageType::Fifo };
    NewMessage {
        message_id: id.to_owned(),
        message_type,
        message_group: message_group.to_owned(),
        rest: Bytes::from_static(b"body"),
        body_bytes: 4,
        ..NewMessage::default()
    }
}

async fn send(broker: &Broker, message_group: &str, id: &str) -> Result<(), PublishError> {
    let messages = vec![message(message_group, id)];
    broker.publish(Publish { topic: topic(), messages }).await.map(|_| ())
}

async fn receive(broker: &Broker, batch: usize, wait: Duration) -> Vec<Delivered> {
    let wish = Receive {
        group: group(),
        topic: topic(),
        filter: TagFilter::parse("*").unwrap().into(),
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait,
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    };
    let mut delivery = broker.receive(wish).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

async fn ack(broker: &Broker, handle: &str) -> AckOutcome {
    broker.ack(&group(), &topic(), &[handle.to_owned()]).await.unwrap()[0]
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    delivered.iter().map(|one| one.message.message_id.as_str()).collect()
}

/// A message group that belongs to these shards under these orders.
fn group_of(orders: &[(&[u32], u32)]) -> String {
    let shards = |ids: &[u32]| ids.iter().copied().map(ShardId).collect::<Vec<_>>();
    let fits =
        |name: &String| orders.iter().all(|(ids, id)| owner(order_key(name), &shards(ids)) == Some(ShardId(*id)));
    (0..10_000).map(|number| format!("g{number}")).find(fits).unwrap()
}

const NOW: Duration = Duration::ZERO;

#[test]
fn a_group_that_began_at_the_latest_skips_nothing_on_a_broker_that_its_topic_came_to() {
    in_virtual_time(async {
        let mut cluster = Cluster::new(9, 2, 1, false).await;
        let latest = Group { start: StartPosition::Latest, ..Group::clone(&cluster.view.groups[&group()]) };
        cluster.view.groups.insert(group(), Arc::new(latest));
        cluster.view.revision.0 += 1;
        cluster.apply(0).await;
        cluster.apply(1).await;
        let moves = group_of(&[(&[0, 1], 1)]);
        send(&cluster.up(0), &moves, "before").await.unwrap();
        assert!(receive(&cluster.up(0), 1, NOW).await.is_empty(), "it begins behind what was there");
        send(&cluster.up(0), &moves, "there").await.unwrap();
        cluster.moved_to(&[0, 1]).await;
        send(&cluster.up(1), &moves, "here").await.unwrap();
        assert_eq!(ids(&receive(&cluster.up(1), 1, NOW).await), ["here"]);
        assert_eq!(ids(&receive(&cluster.up(0), 1, NOW).await), ["there"]);
    });
}

#[test]
fn what_belongs_elsewhere_is_refused_from_the_seal_on_which_is_made_once_and_outlives_a_kill() {
    in_virtual_time(async {
        let mut cluster = Cluster::new(1, 2, 1, true).await;
        let (moves, stays) = (group_of(&[(&[0, 1], 1)]), group_of(&[(&[0, 1], 0)]));
        send(&cluster.up(0), &moves, "a").await.unwrap();
        assert_eq!(send(&cluster.up(1), &moves, "x").await, Err(PublishError::Moved), "not its topic yet");
        cluster.move_to(Some(vec![ShardId(0), ShardId(1)]));
        assert!(cluster.up(0).sealed().await.is_empty());
        cluster.apply(0).await;
        cluster.apply(1).await;
        let refused = async |cluster: &Cluster| {
            assert_eq!(send(&cluster.up(0), &moves, "b").await, Err(PublishError::Moved));
            assert_eq!(send(&cluster.up(1), &moves, "b").await, Err(PublishError::Moved), "not before all have sealed");
            send(&cluster.up(0), &stays, "c").await.unwrap();
            assert_eq!(cluster.up(0).sealed().await, [(TOPIC, 1)]);
            assert!(cluster.up(1).sealed().await.is_empty(), "it has nothing to seal");
        };
        refused(&cluster).await;
        let seals = async |cluster: &Cluster| {
            let broker = cluster.up(0);
            broker.store().wait_folded(broker.store().log_end()).await;
            broker.store().placements().unwrap()
        };
        let seal = seals(&cluster).await;
        cluster.kill(0).await;
        cluster.start(0).await;
        refused(&cluster).await;
        cluster.apply(0).await;
        assert_eq!(seals(&cluster).await, seal, "the fences do not move");
        let fences: u64 = seal[0].2[0].fences.iter().map(|fence| fence.get()).sum();
        assert_eq!(fences, 1);
        cluster.collect().await;
        cluster.apply(1).await;
        send(&cluster.up(1), &moves, "b").await.unwrap();
        // Not in the order any more, and nothing to say for it.
        cluster.moved_to(&[1]).await;
        assert_eq!(send(&cluster.up(0), &stays, "d").await, Err(PublishError::Moved));
    });
}

#[test]
fn a_moved_message_group_goes_on_when_its_old_broker_says_so_and_not_before() {
    in_virtual_time(async {
        let mut cluster = Cluster::new(2, 2, 1, true).await;
        let moves = group_of(&[(&[0, 1], 1)]);
        // One that was never there, and would have been in the same queue.
        let queue = |name: &str| queue_of(order_key(name), 2);
        let free = (0..100).map(|number| format!("f{number}")).find(|name| queue(name) == queue(&moves)).unwrap();
        send(&cluster.up(0), &moves, "a").await.unwrap();
        cluster.moved_to(&[1]).await;
        send(&cluster.up(1), &moves, "b").await.unwrap();
        send(&cluster.up(1), &free, "f").await.unwrap();
        let (old, new) = (cluster.up(0), cluster.up(1));
        assert_eq!(ids(&receive(&new, 9, Duration::from_secs(3)).await), [""; 0], "nobody looked at the old broker");
        let first = receive(&old, 9, NOW).await;
        assert_eq!(ids(&first), ["a"]);
        let other = receive(&new, 9, Duration::from_secs(2)).await;
        assert_eq!(ids(&other), ["f"], "held up by nothing once the old queue was looked at");
        assert_eq!(ids(&receive(&new, 9, Duration::from_secs(2)).await), [""; 0]);
        let waiting = tokio::spawn({
            let new = new.clone();
            async move { receive(&new, 9, Duration::from_secs(20)).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        *cluster.net.is_cut.lock() = true;
        assert_eq!(ack(&old, &first[0].handle).await, AckOutcome::Done);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!waiting.is_finished(), "the other broker cannot be asked");
        *cluster.net.is_cut.lock() = false;
        let before = tokio::time::Instant::now();
        assert_eq!(ids(&waiting.await.unwrap()), ["b"], "woken by the answer");
        assert!(before.elapsed() < LEASE, "{:?}", before.elapsed());
        cluster.collect().await;
        assert!(cluster.placement().past.is_empty(), "everyone is done with the old order");
    });
}

#[test]
fn a_group_without_order_waits_for_no_other_broker() {
    in_virtual_time(async {
        let mut cluster = Cluster::new(3, 2, 1, false).await;
        let moves = group_of(&[(&[0, 1], 1)]);
        send(&cluster.up(0), &moves, "a").await.unwrap();
        cluster.moved_to(&[1]).await;
        send(&cluster.up(1), &moves, "b").await.unwrap();
        assert_eq!(ids(&receive(&cluster.up(1), 9, NOW).await), ["b"]);
        assert_eq!(*cluster.net.asked.lock(), 0);
    });
}

#[test]
fn a_broker_is_not_called_empty_while_somebody_may_still_come_for_what_it_holds() {
    in_virtual_time(async {
        let mut cluster = Cluster::new(4, 2, 1, false).await;
        send(&cluster.up(0), "", "a").await.unwrap();
        let due = Some(cluster.clock.now().plus(Duration::from_secs(60)));
        let delayed = NewMessage { message_type: MessageType::Delay, due, ..message("", "late") };
        cluster.up(0).publish(Publish { topic: topic(), messages: vec![delayed] }).await.unwrap();
        cluster.moved_to(&[1]).await;
        let old = cluster.up(0);
        assert_eq!(send(&old, "", "x").await, Err(PublishError::Moved), "nobody would look for it here");
        assert!(old.drained().await.is_empty(), "no group has come yet, and one may");
        let got = receive(&old, 9, NOW).await;
        assert!(old.drained().await.is_empty());
        ack(&old, &got[0].handle).await;
        assert!(old.drained().await.is_empty(), "a message waits for its time");
        tokio::time::sleep(Duration::from_secs(61)).await;
        let late = receive(&old, 9, Duration::from_secs(5)).await;
        assert_eq!(ids(&late), ["late"]);
        ack(&old, &late[0].handle).await;
        assert_eq!(old.drained().await, [(TOPIC, 1)]);
    });
}

/// What clients know of one message group.
#[derive(Default)]
struct History {
    sent: u32,
    acked: BTreeSet<u32>,
}

struct Held {
    shard: u32,
    handle: String,
    message_group: String,
    number: u32,
}

/// One random life of a cluster.
struct Play {
    cluster: Cluster,
    groups: BTreeMap<String, History>,
    held: Vec<Held>,
    log: Vec<String>,
}

impl Play {
    fn note(&mut self, text: String) {
        self.log.push(text);
    }

    async fn send(&mut self) {
        let names: Vec<String> = self.groups.keys().cloned().collect();
        let name = &names[self.cluster.entropy.below(names.len() as u64) as usize];
        let Some(ShardId(shard)) = owner(order_key(name), &self.cluster.known.shards) else { return };
        let Some(broker) = self.cluster.broker(shard) else { return };
        let number = self.groups[name].sent;
        match send(&broker, name, &number.to_string()).await {
            Ok(()) => {
                self.groups.get_mut(name).unwrap().sent += 1;
                self.note(format!("sent {name}/{number} to {shard}"));
            }
            Err(PublishError::Moved) => self.cluster.known = Arc::new(self.cluster.placement().clone()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn receive(&mut self, shard: u32, batch: usize, seed: u64) {
        let Some(broker) = self.cluster.broker(shard) else { return };
        let mut here: Vec<(String, u32)> = Vec::new();
        for one in receive(&broker, batch, NOW).await {
            let number: u32 = one.message.message_id.parse().unwrap();
            let name = one.message_group.clone();
            self.note(format!("got {name}/{number} from {shard}"));
            for before in 0..number {
                let is_over = self.groups[&name].acked.contains(&before) || here.contains(&(name.clone(), before));
                assert!(is_over, "seed {seed}: {name}/{number} before {before}:\n{}", self.log.join("\n"));
            }
            here.push((name.clone(), number));
            self.held.push(Held { shard, handle: one.handle, message_group: name, number });
        }
    }

    async fn ack(&mut self, index: usize) {
        let held = self.held.remove(index);
        let Some(broker) = self.cluster.broker(held.shard) else { return };
        if ack(&broker, &held.handle).await == AckOutcome::Done {
            self.note(format!("acked {}/{} on {}", held.message_group, held.number, held.shard));
            self.groups.get_mut(&held.message_group).unwrap().acked.insert(held.number);
        }
    }

    async fn step(&mut self, seed: u64) {
        let below = |bound: u64| self.cluster.entropy.below(bound);
        let (kind, shard, more) = (below(100), below(3) as u32, below(8));
        let index = if self.held.is_empty() { 0 } else { below(self.held.len() as u64) as usize };
        match kind {
            0..30 => self.send().await,
            30..55 => self.receive(shard, 1 + more as usize % 4, seed).await,
            55..70 if !self.held.is_empty() => self.ack(index).await,
            // In order of delivery, as most clients do.
            70..76 if !self.held.is_empty() => self.ack(0).await,
            76..79 if !self.held.is_empty() => {
                let held = self.held.remove(index);
                if let Some(broker) = self.cluster.broker(held.shard) {
                    let nacked = broker.change_invisible(&group(), &topic(), &held.handle, Duration::ZERO).await;
                    nacked.unwrap();
                }
            }
            79..81 if !self.held.is_empty() => {
                let held = self.held.remove(index);
                if let Some(broker) = self.cluster.broker(held.shard) {
                    broker.give_back(&[held.handle]);
                }
            }
            81..84 => tokio::time::sleep(Duration::from_millis(more * 300)).await,
            84..85 if self.cluster.broker(shard).is_some() => {
                self.note(format!("kill {shard}"));
                self.cluster.kill(shard).await;
            }
            84..87 if self.cluster.broker(shard).is_none() => self.cluster.start(shard).await,
            87..92 if more < 4 => {
                for shard in 0..3 {
                    self.cluster.apply(shard).await;
                }
            }
            87..92 => self.cluster.apply(shard).await,
            92..95 => self.cluster.collect().await,
            95..98 if self.cluster.placement().moving.is_none() && self.cluster.placement().past.len() < 6 => {
                let target: Vec<ShardId> = (0..3).filter(|id| (1 + more % 7) >> id & 1 == 1).map(ShardId).collect();
                if target != self.cluster.placement().shards {
                    self.note(format!("move {:?} to {target:?}", self.cluster.placement()));
                    self.cluster.move_to(Some(target));
                }
            }
            98 if more == 0 && self.cluster.placement().moving.is_some() => self.cluster.move_to(None),
            99 if more < 2 => {
                let now = self.cluster.view.topics[&topic()].queues;
                let spec =
                    TopicSpec { topic_type: Some(TopicType::Fifo), queues: Some(now + 1), ..TopicSpec::default() };
                let wider = Arc::new(new_topic(TOPIC, topic(), &spec).unwrap());
                self.cluster.view.topics.insert(topic(), wider);
                self.cluster.view.revision.0 += 1;
            }
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        let is_done = |history: &History| history.acked.len() == history.sent as usize;
        let placement = self.cluster.placement();
        self.groups.values().all(is_done) && placement.moving.is_none() && placement.past.is_empty()
    }

    /// From here on everything goes well: all that was sent must come, and all orders but the last be forgotten.
    async fn finish(&mut self, seed: u64) {
        for _ in 0..200 {
            for shard in 0..3 {
                if self.cluster.broker(shard).is_none() {
                    self.cluster.start(shard).await;
                }
                self.cluster.apply(shard).await;
                self.receive(shard, 8, seed).await;
                while !self.held.is_empty() {
                    self.ack(0).await;
                }
            }
            self.cluster.collect().await;
            if self.is_over() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let left: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, history)| history.acked.len() < history.sent as usize)
            .map(|(name, history)| format!("{name}: {} of {}", history.acked.len(), history.sent))
            .collect();
        panic!("seed {seed}: never ends: {left:?}, {:?}:\n{}", self.cluster.placement(), self.log.join("\n"));
    }
}

/// How often the topic moved, and how often brokers asked each other.
fn play(seed: u64, steps: usize) -> (u32, u64) {
    in_virtual_time(async {
        let cluster = Cluster::new(seed, 3, 2, true).await;
        let groups = (0..12).map(|number| (format!("g{number}"), History::default())).collect();
        let mut play = Play { cluster, groups, held: Vec::new(), log: Vec::new() };
        for _ in 0..steps {
            play.step(seed).await;
        }
        play.finish(seed).await;
        let asked = *play.cluster.net.asked.lock();
        (play.cluster.placement().generation, asked)
    })
}

#[test]
fn whatever_happens_no_message_overtakes_one_of_its_group_or_is_lost_or_waits_for_ever() {
    let (mut moves, mut asked) = (0, 0);
    for seed in 1..=24 {
        let (of_this, questions) = play(seed, 800);
        (moves, asked) = (moves + of_this, asked + questions);
    }
    assert!(moves > 100 && asked > 1_000, "{moves} moves and {asked} questions are too few to prove anything");
}
