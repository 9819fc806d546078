//! One life of the server: store, broker and proxy on a disk in memory, behind the virtual network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::options::BrokerOptions;
use bolide::model::time::Timestamp;
use bolide::observe::meters::Meters;
use bolide::proxy::Proxy;
use bolide::proxy::options::ProxyOptions;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::shutdown::Shutdown;
use bolide::runtime::tasks::Tasks;
use bolide::store::FoldEnv;
use bolide::store::files::Files;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::kv::handle::Remains;
use bolide::store::log::LogOptions;
use bolide::store::{LogHealth, Store, StoreOptions};
use futures::{StreamExt, stream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::net::{Incoming, Net};

/// Absolute, because RocksDB in memory knows no working directory.
const DATA: &str = "/data";
/// Wall time at the beginning of every simulation.
pub const BEGIN_MS: u64 = 1_750_000_000_000;
/// Longest wait until everything of an ended process has let go of its database.
const LET_GO_LIMIT: Duration = Duration::from_secs(60);

/// What outlives a process: the machine.
pub struct Machine {
    pub files: MemoryFiles,
    fold: FoldEnv,
    pub net: Net,
    entropy: Entropy,
    begin: Instant,
    /// What the wall clock is off by, in milliseconds.
    pub skew_ms: i64,
    segment_bytes: u64,
    flush_bytes: u64,
    pub flavour: Flavour,
}

pub struct Process {
    pub broker: Broker,
    store: Store,
    clock: Clock,
    serving: JoinHandle<()>,
    files: Arc<dyn Files>,
    life: u64,
}

/// What kind of life a machine leads; some promises hold only in some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Everything may happen, nothing leaves the log.
    Full,
    /// Processes are killed, but power stays and disks work: even a topic that promises `written` loses nothing.
    KillsOnly,
    /// A short log on a small disk: messages leave before they were consumed.
    Forgetful,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Kill,
    PowerCut,
    Term,
}

impl Machine {
    pub fn new(seed: u64, entropy: &Entropy) -> Result<Self, String> {
        let own = || Entropy::seeded(entropy.next_u64());
        let flavour = match entropy.below(5) {
            0 => Flavour::KillsOnly,
            1 => Flavour::Forgetful,
            _ => Flavour::Full,
        };
        let smallest = if flavour == Flavour::Forgetful { 48 * 1024 } else { 256 * 1024 };
        Ok(Self {
            files: MemoryFiles::new(seed ^ 0x5eed),
            fold: FoldEnv::memory().map_err(|error| error.to_string())?,
            net: Net::new(own()),
            entropy: own(),
            begin: Instant::now(),
            skew_ms: 0,
            segment_bytes: smallest << entropy.below(3),
            flush_bytes: (16 * 1024) << entropy.below(5),
            flavour,
        })
    }

    fn wall(&self) -> Timestamp {
        let passed = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp((BEGIN_MS + passed).saturating_add_signed(self.skew_ms))
    }

    /// Starts a process on what the disk holds. An error is what an operator would read.
    pub async fn start(&self) -> Result<Process, String> {
        let tasks = Tasks::simulated(tokio::runtime::Handle::current(), Entropy::seeded(self.entropy.next_u64()));
        let clock = Clock::anchored(self.wall());
        let log = LogOptions {
            cache_bytes: (64 * 1024) << self.entropy.below(4),
            ..LogOptions::tiny(DATA, self.segment_bytes)
        };
        let mut options = StoreOptions { log, fold_flush_log_bytes: self.flush_bytes, ..StoreOptions::default() };
        if self.flavour == Flavour::Forgetful {
            options.retention.bytes = Some(self.segment_bytes * 3);
            options.checkpoint_log_bytes = self.segment_bytes << self.entropy.below(4);
        }
        let life = self.files.lives();
        let files = self.files.life();
        let store = Store::open(options, files.clone(), self.fold.clone(), &clock, tasks.clone())
            .map_err(|error| format!("the store does not open: {error}"))?;
        let meters = Arc::new(Meters::noop());
        let broker = Broker::open(
            BrokerOptions::default(),
            store.clone(),
            clock.clone(),
            tasks.clone(),
            Entropy::seeded(self.entropy.next_u64()),
            meters.clone(),
            [7; 32],
        )
        .await
        .map_err(|error| format!("the broker does not open: {error}"))?;
        let options = ProxyOptions {
            invisible_min: Duration::from_millis(100),
            long_poll_min: Duration::from_millis(200),
            advertise: Some("sim:1".to_owned()),
            ..ProxyOptions::default()
        };
        let proxy =
            Proxy::new(options, bolide::link::Brokers::here(broker.clone(), "broker-0"), clock.clone(), tasks, meters)
                .map_err(|error| error.to_string())?;
        let serving = tokio::spawn(serve(proxy, broker.shutdown().clone(), self.net.listen()));
        Ok(Process { broker, store, clock, serving, files, life })
    }

    /// Ends a process and waits until nothing of it is left.
    pub async fn end(&self, process: Process, how: End) -> Result<(), String> {
        let Process { broker, store, serving, files, .. } = process;
        match how {
            End::Term => {
                broker.shutdown().drain();
                let _ = serving.await;
                broker.close().await;
                self.net.server_gone();
            }
            End::Kill | End::PowerCut => {
                if how == End::Kill {
                    self.files.kill();
                } else {
                    self.files.power_cut();
                }
                self.net.server_gone();
                serving.abort();
                broker.shutdown().stop();
                store.abandon().await;
            }
        }
        drop((broker, store));
        wait_until_let_go(&files).await?;
        if how == End::PowerCut { self.roll_fold_back() } else { Ok(()) }
    }

    /// After a power cut the fold's directory holds what was flushed, or less.
    pub fn roll_fold_back(&self) -> Result<(), String> {
        let remains = match self.entropy.below(4) {
            0 => Remains::Nothing,
            1 => Remains::Copy(usize::try_from(self.entropy.below(3)).unwrap_or(0)),
            _ => Remains::Flushed,
        };
        self.fold.power_cut(&self.fold_path(), remains).map_err(|error| format!("rolling the fold back: {error}"))
    }

    fn fold_path(&self) -> std::path::PathBuf {
        Path::new(DATA).join("shard-0").join("fold")
    }
}

/// Serves each connection by itself. One server for all would tell them of its end in an order that no seed decides.
async fn serve(proxy: Proxy, shutdown: Shutdown, mut incoming: Incoming) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.draining() => None,
            accepted = incoming.next() => accepted,
        };
        let Some(stream) = accepted else { break };
        let proxy = proxy.clone();
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            // The stream of connections ends with the draining and not before: its end is that of the one that came, too.
            let ended = async move { shutdown.draining().await };
            let _ = proxy.serve(stream::iter([stream]).chain(stream::pending().take_until(Box::pin(ended)))).await;
        });
    }
    while connections.join_next().await.is_some() {}
}

/// Requests that were under way end when they see that their connection is gone. Whoever still holds the files of the ended
/// process may still hold its database.
async fn wait_until_let_go(files: &Arc<dyn Files>) -> Result<(), String> {
    let deadline = Instant::now() + LET_GO_LIMIT;
    while Arc::strong_count(files) > 1 {
        if Instant::now() > deadline {
            return Err(format!("something of an ended process still ran after {LET_GO_LIMIT:?}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

impl Process {
    pub fn skew_by(&self, millis: i64) {
        self.clock.skew_by(millis);
    }

    /// Where its log begins.
    pub fn log_start(&self) -> u64 {
        self.store.log_start().get()
    }

    /// Whether the disk has ended this process.
    pub fn has_died(&self, machine: &Machine) -> bool {
        machine.files.lives() != self.life
    }

    /// Whether an operator would restart it.
    pub fn has_failed(&self) -> bool {
        matches!(self.store.health(), LogHealth::Failed { .. })
    }
}
