//! The broker as everyone else sees it. The verbs themselves are in the files named after them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio::sync::Notify;

use crate::broker::api::{BrokerStatus, ClientId, Setup};
use crate::broker::catalog::{Catalog, NextIds};
use crate::broker::cluster::Membership;
use crate::broker::delivery::core::{Core, ordering};
use crate::broker::delivery::lite::LiteTopic;
use crate::broker::delivery::shards::ShardOrder;
use crate::broker::delivery::subscription::{QueueState, Subscription};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::timers::Timers;
use crate::broker::delivery::transactions::Transactions;
use crate::broker::handles::Handles;
use crate::broker::letters::OPERATOR;
use crate::broker::members::{LiveGuard, Members, holder_of};
use crate::broker::news::News;
use crate::broker::options::BrokerOptions;
use crate::broker::transaction_upkeep::{check_policy, restore_transactions};
use crate::broker::upkeep;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, GroupId, HoldId, QueueId, QueueOffset, ShardId, TopicId, UnitSeq};
use crate::model::time::Timestamp;
use crate::model::topic::{Promise, Topic};
use crate::observe::meters::Meters;
use crate::runtime::budget::Budget;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;
use crate::runtime::watermark::ShardFailed;
use crate::store::record::Unit;
use crate::store::{AppendError, FoldError, LogHealth, Store};

/// Value of `last_settled` once the log refused a settlement that had been decided.
const SETTLED_BUT_LOST: u64 = u64::MAX;

/// Why a broker could not begin.
#[derive(Debug, Error)]
pub enum OpenBrokerError {
    /// The folded state could not be read.
    #[error("the folded state cannot be read: {0}")]
    Fold(#[from] FoldError),
    /// A thread was refused.
    #[error("the appender cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// Cheap handle of the broker of one shard.
#[derive(Clone, Debug)]
pub struct Broker {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub options: BrokerOptions,
    pub shard: ShardId,
    pub store: Store,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: Arc<Meters>,
    pub core: Mutex<Core>,
    pub catalog: Catalog,
    /// Serialises changes of the catalogue; the ids are handed out under it.
    pub catalog_change: tokio::sync::Mutex<NextIds>,
    pub members: Members,
    /// Replaced when the keys of the cluster change.
    pub handles: ArcSwap<Handles>,
    /// Nothing for a broker that stands alone.
    pub cluster: Option<Membership>,
    pub pollers: Budget,
    pub shutdown: Shutdown,
    pub timer_changed: Arc<Notify>,
    pub condemned_added: Arc<Notify>,
    /// The first timer of a delayed message changed.
    pub delays_changed: Notify,
    /// More timers of delayed messages should be loaded.
    pub delays_wanted: Notify,
    /// Whether any topic shows messages before they are durable.
    pub any_written: Arc<AtomicBool>,
    /// The last unit that settled something: whoever reveals a settlement waits for it.
    last_settled: AtomicU64,
    grants: AtomicU64,
    holds: AtomicU64,
    /// The last unit that moved a group to another position: what was granted before it may be nobody's any more.
    last_reset: AtomicU64,
}

impl Broker {
    /// Begins from the folded state, starts the log's appender and the broker's own tasks.
    ///
    /// # Errors
    /// The folded state cannot be read, or a thread was refused.
    pub async fn open(
        options: BrokerOptions,
        store: Store,
        clock: Clock,
        tasks: Tasks,
        entropy: Entropy,
        metrics: Arc<Meters>,
        setup: impl Into<Setup>,
    ) -> Result<Self, OpenBrokerError> {
        let (handles, cluster) = Membership::of(setup.into(), store.applied());
        let timer_changed = Arc::new(Notify::new());
        let condemned_added = Arc::new(Notify::new());
        let reader = store.clone();
        let mut core = Core::new(options.entries_in_memory_max, timer_changed.clone(), condemned_added.clone());
        core.transactions = Transactions::new(check_policy(&options.transactions));
        core.delays = Timers::new(options.delays_in_memory_max);
        let (now, steady) = (clock.now(), clock.steady());
        let restored = tasks.blocking(move || restore(&reader, core, (now, steady))).await?;
        let any_written = restored.topics.iter().any(|topic| topic.promise == Promise::Written);
        let members = Members::new(options.members_max, options.session_timeout, options.slow_session_timeout);
        let steady = clock.steady();
        for holder in restored.core.holders() {
            // Clients had no chance to be heard of yet: their session begins now.
            members.seen(holder, false, steady);
        }
        let inner = Arc::new(Inner {
            shard: store.shard(),
            clock,
            tasks,
            metrics,
            core: Mutex::new(restored.core),
            catalog: Catalog::new(restored.topics, restored.groups),
            catalog_change: tokio::sync::Mutex::new(restored.next_ids),
            members,
            handles: ArcSwap::from_pointee(handles),
            cluster,
            pollers: Budget::new(options.pollers_max as u64),
            shutdown: Shutdown::new(),
            timer_changed,
            condemned_added,
            delays_changed: Notify::new(),
            delays_wanted: Notify::new(),
            any_written: Arc::new(AtomicBool::new(any_written)),
            last_settled: AtomicU64::new(0),
            grants: AtomicU64::new(entropy.next_u64()),
            holds: AtomicU64::new(entropy.next_u64()),
            last_reset: AtomicU64::new(0),
            options,
            store,
        });
        inner.store.run(Arc::new(News::new(&inner)))?;
        let broker = Self { inner };
        upkeep::start(&broker);
        Ok(broker)
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.inner.catalog.topic(name)
    }

    /// All topics, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.inner.catalog.topics()
    }

    /// A group.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<Arc<Group>> {
        self.inner.catalog.group(name)
    }

    /// All groups, by name.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.inner.catalog.groups()
    }

    /// A group as it is, or as it would be created at its first use; `None` when it would not be.
    #[must_use]
    pub fn group_or_default(&self, name: &GroupName) -> Option<Group> {
        match self.group(name) {
            Some(group) => Some(Group::clone(&group)),
            None => self.inner.options.auto_create_groups.then(|| Group::with_defaults(GroupId(0), name.clone())),
        }
    }

    /// A client was heard of. `slow_heartbeat`: of a kind that heartbeats every 30 s only.
    pub fn client_seen(&self, client: &ClientId, slow_heartbeat: bool) {
        self.inner.members.seen(holder_of(client), slow_heartbeat, self.inner.clock.steady());
    }

    /// A client opened a telemetry stream; it counts as live while the guard exists.
    #[must_use]
    pub fn telemetry_opened(&self, client: &ClientId) -> LiveGuard {
        self.inner.members.open(holder_of(client), self.inner.clock.steady())
    }

    /// A client said good-bye: what it holds by auto-renewal returns at once.
    pub async fn client_terminated(&self, client: &ClientId) {
        let holder = holder_of(client);
        self.inner.members.terminated(holder);
        self.end_lite_client(client);
        self.inner.release_holders(&[holder]);
    }

    /// State in numbers.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        let (ready, reason) = match self.inner.store.health() {
            _ if self.inner.shutdown.is_draining() => (false, "the broker is shutting down".to_owned()),
            LogHealth::Ready => (true, self.no_longer_follows().unwrap_or_default()),
            // Receives and acks go on, and they are what frees the disk: traffic must keep coming.
            LogHealth::DiskFull { text } => (true, text),
            LogHealth::Failed { text } => (false, text),
        };
        let in_flight = self.group_counts().iter().map(|counts| counts.in_flight).sum();
        let (lite_topics, lite_subscriptions) = {
            let core = self.inner.core.lock();
            (core.lite_topics(), core.lite_subscriptions())
        };
        BrokerStatus {
            lite_topics,
            lite_subscriptions,
            ready,
            reason,
            topics: self.topics().len(),
            groups: self.groups().len(),
            members: self.inner.members.count(),
            pollers: usize::try_from(self.inner.pollers.used()).unwrap_or(usize::MAX),
            in_flight,
        }
    }

    /// The store below, for status pages.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Drain and stop.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.inner.shutdown
    }

    /// Ends the broker's tasks and closes the store; everything accepted is durable afterwards.
    pub async fn close(&self) {
        self.inner.shutdown.stop();
        if let Err(error) = self.inner.store.close().await {
            tracing::warn!(%error, "the store did not end cleanly; the next start replays what is missing");
        }
    }
}

impl Inner {
    /// A number that no earlier grant carries.
    pub fn next_grant(&self) -> GrantId {
        GrantId(self.grants.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that no earlier message that was held back carries.
    pub fn next_hold(&self) -> HoldId {
        HoldId(self.holds.fetch_add(1, Ordering::Relaxed))
    }

    /// The lock, to decide something that becomes a record, or to tell of what was decided before. Not once the log takes
    /// nothing more: what it refused is known in memory alone, and a restart will know nothing of it.
    pub fn deciding(&self) -> Result<MutexGuard<'_, Core>, AppendError> {
        // In this order: a refusal happens under the lock, so that whoever sees what it left behind also sees the end of the log.
        let core = self.core.lock();
        self.store.accepts()?;
        Ok(core)
    }

    /// Hands a unit of state changes to the log; an empty one needs no place there.
    pub fn append_state(&self, unit: Unit) -> Result<Option<UnitSeq>, AppendError> {
        if unit.is_empty() { Ok(None) } else { self.store.append(unit).map(Some) }
    }

    /// Hands a unit to the log that settles something; to be called under the lock under which that was decided. When the log
    /// refuses, the decision is known here and nowhere else: nobody may be told of it any more.
    pub fn append_settlement(&self, unit: Unit) -> Result<Option<UnitSeq>, AppendError> {
        let appended = self.append_state(unit);
        match &appended {
            Ok(Some(seq)) => drop(self.last_settled.fetch_max(seq.get(), Ordering::AcqRel)),
            Ok(None) => {}
            Err(_) => self.last_settled.store(SETTLED_BUT_LOST, Ordering::Release),
        }
        appended
    }

    /// The log has taken a unit that moves groups to other positions, and memory follows under the same lock.
    pub fn reset_with(&self, seq: UnitSeq) {
        self.last_settled.fetch_max(seq.get(), Ordering::AcqRel);
        self.last_reset.store(seq.get(), Ordering::Release);
    }

    /// The last unit that moved a group to another position; 0 when none has since the start.
    pub fn last_reset(&self) -> UnitSeq {
        UnitSeq(self.last_reset.load(Ordering::Acquire))
    }

    /// What a unit says is as good as settled: whoever reveals it waits for it.
    pub fn note_settled(&self, seq: Option<UnitSeq>) {
        if let Some(seq) = seq {
            self.last_settled.fetch_max(seq.get(), Ordering::AcqRel);
        }
    }
    /// Waits until everything that was settled so far is on stable storage: an answer that reveals an earlier settlement must
    /// not be ahead of the disk.
    pub async fn settled_durably(&self) -> Result<(), ShardFailed> {
        match self.last_settled.load(Ordering::Acquire) {
            SETTLED_BUT_LOST => Err(ShardFailed),
            seq => self.durable(UnitSeq(seq)).await,
        }
    }

    /// Waits until a unit is on stable storage.
    pub async fn durable(&self, seq: UnitSeq) -> Result<(), ShardFailed> {
        self.store.marks().wait(crate::runtime::watermark::Rung::Durable, seq).await
    }
}

struct Restored {
    core: Core,
    topics: Vec<Topic>,
    groups: Vec<Group>,
    next_ids: NextIds,
}

fn restore(store: &Store, mut core: Core, (now, steady): (Timestamp, Timestamp)) -> Result<Restored, FoldError> {
    let topics = store.topics()?;
    let groups = store.groups()?;
    let mut lite_bounds = BTreeMap::new();
    for topic in &topics {
        let mut tails: Vec<QueueTail> = (0..topic.queues).map(|_| QueueTail::default()).collect();
        for (queue, bounds) in store.queues(topic.id)? {
            if queue.is_lite() {
                lite_bounds.insert((topic.id, queue), bounds);
                continue;
            }
            let index = queue.get() as usize;
            while tails.len() <= index {
                tails.push(QueueTail::default());
            }
            tails[index] = QueueTail::restored(bounds.first, bounds.next);
        }
        core.put_topic(Arc::new(topic.clone()), Some(tails));
        for growth in store.growths(topic.id)? {
            core.add_growth(topic.id, growth);
        }
    }
    for (topic, placement, seals) in store.placements()? {
        core.place(topic, ShardOrder::new(store.shard(), Arc::new(placement), seals));
    }
    for (topic, highest) in store.highest_lite_queues()? {
        core.lite_queues_given_out(topic, highest);
    }
    for (topic, queue, name) in store.lite_topics()? {
        let bounds = lite_bounds.remove(&(topic, queue)).unwrap_or_default();
        let tail = QueueTail::restored(bounds.first, bounds.next);
        core.put_lite_topic(topic, queue, LiteTopic { name: name.into(), tail, active_at: Timestamp(0) });
    }
    let by_id: BTreeMap<GroupId, Arc<Group>> = groups.iter().map(|group| (group.id, Arc::new(group.clone()))).collect();
    for ((topic, group), queues) in restored_queues(store, &mut core)? {
        let Some(group) = by_id.get(&group) else { continue };
        let Some(state) = core.topic(topic) else { continue };
        let (count, ordering) = (state.tails.len(), ordering(group, &state.topic));
        let mut queues = queues;
        let states = (0..count as u32).map(|queue| queues.remove(&queue).unwrap_or_default()).collect();
        let mut subscription = Subscription::new(group.clone(), states);
        subscription.restore_ordering(ordering);
        subscription.expect_unknown_filters(steady);
        core.put_subscription(topic, subscription);
        for (queue, state) in queues {
            core.put_lite_position(topic, group.id, QueueId(queue), state);
        }
    }
    for (topic, group, name) in store.lite_wants()? {
        core.put_lite_want(topic, group, name.into(), steady);
    }
    restore_transactions(store, &mut core, now)?;
    let (topic, group) = store.next_ids();
    Ok(Restored { core, topics, groups, next_ids: NextIds { topic, group } })
}

type QueuesOfSubscriptions = BTreeMap<(TopicId, GroupId), BTreeMap<u32, QueueState>>;

fn restored_queues(store: &Store, core: &mut Core) -> Result<QueuesOfSubscriptions, FoldError> {
    let mut subscriptions = QueuesOfSubscriptions::new();
    for (group, topic, queue, next) in store.cursors()? {
        subscriptions.entry((topic, group)).or_default().insert(queue.get(), QueueState::starting_at(next));
    }
    for row in store.leases()? {
        // Without an entry the message is out of retention; nothing is left to deliver.
        let Some(entry) = row.entry else { continue };
        if row.group == OPERATOR {
            core.letters_left(row.topic, [row.offset]);
            continue;
        }
        let state = subscriptions.entry((row.topic, row.group)).or_default().entry(row.queue.get()).or_default();
        state.leases.restore(entry, row.attempt, row.lease);
        state.leases.advance(QueueOffset(row.offset.get() + 1));
        state.recorded_next = state.leases.next();
    }
    let mut counted = LaneCounts::default();
    for (lane, from) in store.lanes()? {
        let queues = subscriptions.entry((lane.topic, lane.group)).or_default();
        let leases = &mut queues.entry(lane.queue.get()).or_default().leases;
        let count = counted.count(store, (lane.topic, lane.queue, lane.order_key), from, leases.next())?;
        leases.restore_lane(lane.order_key, from, count);
    }
    Ok(subscriptions)
}

/// Counts what lanes passed over, for the lag that people see. Bounded: a start must not read the index of all that is stuck.
#[derive(Debug, Default)]
struct LaneCounts {
    lanes: usize,
    rows: usize,
}

impl LaneCounts {
    const LANES_MAX: usize = 1_024;
    const ROWS_MAX: usize = 65_536;
    /// Offsets that a lane may be behind and still be counted: the index is read in spans, empty ones too.
    const DISTANCE_MAX: u64 = 1 << 20;

    /// At least one: the message that the row names.
    fn count(
        &mut self,
        store: &Store,
        (topic, queue, order_key): (TopicId, QueueId, u64),
        from: QueueOffset,
        next: QueueOffset,
    ) -> Result<u64, FoldError> {
        let distance = next.get().saturating_sub(from.get());
        let left = Self::ROWS_MAX - self.rows;
        if self.lanes == Self::LANES_MAX || left == 0 || distance > Self::DISTANCE_MAX {
            return Ok(1);
        }
        let (entries, _) = store.lane_entries(topic, queue, order_key, from, left)?;
        self.lanes += 1;
        self.rows += entries.len();
        Ok(entries.iter().filter(|entry| entry.offset < next).count().max(1) as u64)
    }
}
