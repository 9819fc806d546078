//! The route service in this process: commands go through the state machine into the log, one unit each, in the order in which
//! they were decided; what is durable is published, and answered.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::model::cluster::{ClusterId, Revision, View};
use crate::model::position::{ShardId, UnitSeq};
use crate::model::settings::CatalogError;
use crate::route::book::Book;
use crate::route::change::{Change, apply};
use crate::route::convert::{Unclear, restored, stored};
use crate::route::leases::Leases;
use crate::route::members::Roll;
use crate::route::state::{Bounds, Command, Outcome, State};
use crate::route::upkeep;
use crate::runtime::budget::{Budget, Share};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;
use crate::runtime::watermark::{Rung, ShardFailed};
use crate::store::record::{Record, Unit};
use crate::store::{AppendError, FoldError, Frame, FrameListener, Store};

/// Revisions of one life of the service begin here times its term: whatever an earlier life told anybody is lower, also what
/// it never wrote down.
const REVISIONS_PER_TERM: u64 = 1 << 32;
/// Decisions published in one go.
const PUBLISHED_AT_ONCE: usize = 1_024;
/// Decisions that may wait for the disk.
const PENDING_MAX: usize = 16_384;

/// Settings of the route service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOptions {
    /// Of the catalogue.
    pub bounds: Bounds,
    /// How long a broker that was not heard of counts as there. Default 5 s.
    pub lease: Duration,
    /// Most brokers and proxies that listen. Default 4 096.
    pub members_max: u64,
    /// Recent changes remembered for members that come back. Default 8 MiB.
    pub steps_bytes_max: usize,
    /// Longest wait of a change for the disk; then its outcome is unknown. Default 10 s.
    pub answer_limit: Duration,
    /// How often old segments of the log are looked for. Default 60 s.
    pub retention_every: Duration,
}

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            lease: Duration::from_secs(5),
            members_max: 4_096,
            steps_bytes_max: 8 * 1024 * 1024,
            answer_limit: Duration::from_secs(10),
            retention_every: Duration::from_secs(60),
        }
    }
}

/// Why the service could not begin.
#[derive(Debug, Error)]
pub enum OpenRouteError {
    /// The folded state cannot be read.
    #[error("the folded state cannot be read: {0}")]
    Fold(#[from] FoldError),
    /// A fact on the disk was not understood.
    #[error("a stored fact of the route service was not understood: {0}; nothing was changed")]
    Fact(#[from] Unclear),
    /// A thread was refused.
    #[error("the appender cannot start: {0}")]
    Start(#[from] std::io::Error),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] ShardFailed),
    /// The first facts of a new cluster could not be stored.
    #[error("the cluster could not be founded: {0}")]
    Found(CatalogError),
    /// This start could not be stored.
    #[error("this start of the route service could not be noted: {0}")]
    Begin(CatalogError),
}

/// Cheap handle of the route service in this process.
#[derive(Clone)]
pub struct Route {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) options: RouteOptions,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) entropy: Entropy,
    pub(super) shutdown: Shutdown,
    pub(super) desk: Mutex<Desk>,
    /// Something was decided.
    decided: Notify,
    /// Moves may follow.
    pub(super) moves: Notify,
    /// The first lease may end at another time.
    pub(super) leases: Notify,
    pub(super) book: Mutex<Book>,
    view: ArcSwap<View>,
    changed: watch::Sender<Revision>,
    /// The log failed: nothing is decided or told any more.
    failed: CancellationToken,
    members: Budget,
    pub(super) roll: Mutex<Roll>,
}

/// Under one lock, so that the order of decisions is the order of the log.
pub(super) struct Desk {
    pub(super) state: State,
    pub(super) leases: Leases,
    revision: Revision,
    pending: VecDeque<Pending>,
}

/// Decided, and not yet durable or not yet published.
struct Pending {
    seq: UnitSeq,
    revision: Revision,
    changes: Vec<Change>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("revision", &*self.inner.changed.borrow()).finish_non_exhaustive()
    }
}

struct Listener(CancellationToken);

impl FrameListener for Listener {
    fn reached(&self, _: Rung, _: &Frame) {}

    fn wants_written(&self) -> bool {
        false
    }

    fn failed(&self, cause: &str) {
        tracing::error!(cause, "the log of the route service failed: it changes nothing any more");
        self.0.cancel();
    }

    fn observe_sync(&self, _: Duration, _: usize, _: usize) {}
}

fn refused(error: &AppendError) -> CatalogError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => CatalogError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => CatalogError::ShardFailed,
    }
}

impl Route {
    /// Begins from the folded state; at the first start of all it founds the cluster. Starts the log and the service's tasks.
    ///
    /// # Errors
    /// See [`OpenRouteError`].
    pub async fn open(
        options: RouteOptions,
        store: Store,
        clock: Clock,
        tasks: Tasks,
        entropy: Entropy,
    ) -> Result<Self, OpenRouteError> {
        let reader = store.clone();
        let facts = tasks.blocking(move || reader.route_facts()).await?;
        let facts = facts.iter().map(|(key, value)| restored(key, value)).collect::<Result<Vec<_>, _>>()?;
        let mut state = State::new(options.bounds.clone());
        state.apply(&facts);
        let mut leases = Leases::new(options.lease);
        // Brokers had no chance to be heard of yet: a restart of this service must not make the cluster look dead.
        let shards: Vec<ShardId> = state.shards().map(|shard| shard.id).collect();
        for shard in shards {
            leases.presume(shard, clock.steady());
            let alive = state.decide(Command::Alive(shard, true)).map_err(OpenRouteError::Found)?;
            state.apply(&alive.changes);
        }
        let revision = Revision(store.term().get() * REVISIONS_PER_TERM);
        let view = Arc::new(state.view(revision));
        let failed = CancellationToken::new();
        let inner = Arc::new(Inner {
            book: Mutex::new(Book::new(view.clone(), options.steps_bytes_max)),
            desk: Mutex::new(Desk { state, leases, revision, pending: VecDeque::new() }),
            members: Budget::new(options.members_max),
            roll: Mutex::default(),
            options,
            clock,
            tasks,
            entropy,
            shutdown: Shutdown::new(),
            decided: Notify::new(),
            moves: Notify::new(),
            leases: Notify::new(),
            view: ArcSwap::new(view),
            changed: watch::Sender::new(revision),
            failed: failed.clone(),
            store,
        });
        inner.store.run(Arc::new(Listener(failed)))?;
        // The term must be durable before anybody hears of a revision that is made of it: a crash that took it back would give
        // the same term, and with it the same revisions, to the next life.
        let opened = inner.store.accepted();
        inner.store.marks().wait(Rung::Durable, opened).await?;
        let route = Self { inner };
        upkeep::start(&route);
        if route.inner.desk.lock().state.is_new() {
            let (mut cluster, mut key) = ([0; 16], [0; 32]);
            route.inner.entropy.fill(&mut cluster);
            route.inner.entropy.fill(&mut key);
            let found = Command::Found(ClusterId(u128::from_be_bytes(cluster)), key);
            route.execute(found).await.map_err(OpenRouteError::Found)?;
        }
        route.begin().await?;
        route.inner.moves.notify_one();
        Ok(route)
    }

    /// Notes this start, before anybody can hear of anything that happens in it.
    async fn begin(&self) -> Result<(), OpenRouteError> {
        let begin = Command::Begin(self.inner.store.term().get(), self.inner.entropy.next_u64());
        match self.execute(begin).await {
            Ok(_) => Ok(()),
            // On a full disk what is known is told all the same; what is changed once there is room counts for the start before.
            Err(CatalogError::Overloaded) => {
                tracing::warn!("the disk has no room to note this start of the route service");
                Ok(())
            }
            Err(error) => Err(OpenRouteError::Begin(error)),
        }
    }

    /// What is known and durable.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.inner.view.load_full()
    }

    /// Told of every published revision; the view is there before.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<Revision> {
        self.inner.changed.subscribe()
    }

    /// Drain and stop.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.inner.shutdown
    }

    /// The store below, for status pages and readiness.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Ends the service's tasks and closes the store; everything accepted is durable afterwards.
    pub async fn close(&self) {
        self.inner.shutdown.stop();
        if let Err(error) = self.inner.store.close().await {
            tracing::warn!(%error, "the store did not end cleanly; the next start replays what is missing");
        }
    }

    /// Does what is asked, and answers when it is durable and published: whoever looks then finds it in the view. A refusal,
    /// too, waits for what it goes by.
    ///
    /// # Errors
    /// See [`CatalogError`]; after `ShardFailed` the outcome is unknown.
    pub async fn execute(&self, command: Command) -> Result<(Outcome, Revision), CatalogError> {
        let (decided, revision) = {
            let mut desk = self.inner.desk.lock();
            let decided = self.inner.decide(&mut desk, command);
            if let Ok(Outcome::Registered(shard, _)) = &decided {
                self.inner.presume(&mut desk, *shard);
            }
            (decided, desk.revision)
        };
        self.published(revision).await?;
        decided.map(|outcome| (outcome, revision))
    }

    /// Another key for receipt handles.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn rotate_key(&self) -> Result<Revision, CatalogError> {
        let mut key = [0; 32];
        self.inner.entropy.fill(&mut key);
        self.execute(Command::RotateKey(key)).await.map(|(_, revision)| revision)
    }

    async fn published(&self, revision: Revision) -> Result<(), CatalogError> {
        let mut changed = self.inner.changed.subscribe();
        tokio::select! {
            biased;
            seen = changed.wait_for(|seen| *seen >= revision) => seen.map(drop).map_err(|_| CatalogError::ShardFailed),
            () = self.inner.failed.cancelled() => Err(CatalogError::ShardFailed),
            () = self.inner.shutdown.stopping() => Err(CatalogError::ShardFailed),
            () = self.inner.clock.sleep(self.inner.options.answer_limit) => Err(CatalogError::ShardFailed),
        }
    }

    /// A broker is there and registers, or a proxy listens.
    ///
    /// # Errors
    /// See [`CatalogError`].
    pub async fn join(&self, broker: Option<Command>) -> Result<Membership, CatalogError> {
        let too_many =
            || CatalogError::TooMany(format!("there are {} members already", self.inner.options.members_max));
        let share = self.inner.members.try_take(1).ok_or_else(too_many)?;
        let shard = match broker {
            None => None,
            Some(register) => match self.execute(register).await?.0 {
                Outcome::Registered(shard, _) => Some(shard),
                _ => return Err(CatalogError::Invalid("only a broker has a shard".to_owned())),
            },
        };
        let session = shard.map(|shard| {
            let mut desk = self.inner.desk.lock();
            let session = desk.leases.open(shard, self.inner.clock.steady());
            self.inner.alive(&mut desk, shard, true);
            (shard, session)
        });
        Ok(Membership { route: self.clone(), session, _share: share })
    }
}

/// That somebody is there. Dropping it ends nothing: a lease ends by time, or with [`Membership::leave`].
pub struct Membership {
    route: Route,
    session: Option<(ShardId, u64)>,
    _share: Share,
}

impl Membership {
    /// It was heard of.
    pub fn renew(&self) {
        let Some((shard, session)) = self.session else { return };
        let inner = &self.route.inner;
        let mut desk = inner.desk.lock();
        if desk.leases.renew(shard, session, inner.clock.steady()) {
            inner.alive(&mut desk, shard, true);
        }
    }

    /// It said good-bye.
    pub fn leave(&self) {
        let Some((shard, session)) = self.session else { return };
        let mut desk = self.route.inner.desk.lock();
        if desk.leases.end(shard, session) {
            self.route.inner.alive(&mut desk, shard, false);
        }
    }
}

impl Inner {
    /// Decides, and hands the decision to the log; it counts from here on for later decisions, and for nobody else yet.
    pub(super) fn decide(&self, desk: &mut Desk, command: Command) -> Result<Outcome, CatalogError> {
        if self.failed.is_cancelled() {
            return Err(CatalogError::ShardFailed);
        }
        if desk.pending.len() >= PENDING_MAX {
            return Err(CatalogError::Overloaded);
        }
        let decision = desk.state.decide(command)?;
        if decision.changes.is_empty() {
            return Ok(decision.outcome);
        }
        let mut unit = Unit::state();
        for (key, value) in decision.changes.iter().filter_map(stored) {
            unit.push(&match value {
                Some(value) => Record::RoutePut { key, value },
                None => Record::RouteDeleted { key },
            });
        }
        let seq = if unit.is_empty() {
            self.store.accepted()
        } else {
            self.store.append(unit).map_err(|error| refused(&error))?
        };
        desk.state.apply(&decision.changes);
        desk.revision = Revision(desk.revision.0 + 1);
        desk.pending.push_back(Pending { seq, revision: desk.revision, changes: decision.changes });
        self.decided.notify_one();
        self.moves.notify_one();
        Ok(decision.outcome)
    }

    /// A shard's lease began or ended.
    pub(super) fn alive(&self, desk: &mut Desk, shard: ShardId, alive: bool) {
        // Refused only when nothing is told any more, or when so much waits that leases are of no concern.
        if let Err(error) = self.decide(desk, Command::Alive(shard, alive)) {
            tracing::warn!(%shard, alive, %error, "a lease began or ended and is not told");
        }
        self.leases.notify_one();
    }

    fn presume(&self, desk: &mut Desk, shard: ShardId) {
        desk.leases.presume(shard, self.clock.steady());
        self.alive(desk, shard, true);
    }

    /// Publishes what is durable, for ever.
    pub(super) async fn publish(&self) {
        loop {
            let decided = self.decided.notified();
            let first = self.desk.lock().pending.front().map(|pending| pending.seq);
            let Some(first) = first else {
                decided.await;
                continue;
            };
            if self.store.marks().wait(Rung::Durable, first).await.is_err() {
                self.failed.cancel();
                return;
            }
            self.publish_durable();
        }
    }

    fn publish_durable(&self) {
        let durable = self.store.marks().mark(Rung::Durable);
        let steps: Vec<(Revision, Vec<Change>)> = {
            let mut desk = self.desk.lock();
            let count = desk.pending.iter().take(PUBLISHED_AT_ONCE).take_while(|one| one.seq <= durable).count();
            desk.pending.drain(..count).map(|one| (one.revision, one.changes)).collect()
        };
        let Some(&(revision, _)) = steps.last() else { return };
        let mut view = View::clone(&self.view.load());
        for (_, changes) in &steps {
            apply(&mut view, changes);
        }
        view.revision = revision;
        let view = Arc::new(view);
        self.book.lock().publish(view.clone(), &steps);
        self.view.store(view);
        self.changed.send_replace(revision);
    }
}
