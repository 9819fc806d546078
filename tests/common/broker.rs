//! A broker over a disk in memory, in virtual time: processes that end by a kill, and a machine that outlives them.

// Each test binary compiles this module for itself and uses only a part of it.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::options::BrokerOptions;
use bolide::model::time::Timestamp;
use bolide::observe::meters::Meters;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Tasks;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::log::LogOptions;
use bolide::store::{FoldEnv, Store, StoreOptions};

/// Wall time before the first process.
pub const START: Timestamp = Timestamp(1_700_000_000_000);

/// When a process begins.
#[derive(Clone, Copy, Debug)]
pub enum Begins {
    /// So long after the beginning of the one before, whatever that one lived through.
    Every(Duration),
    /// When the one before ended.
    AtOnce,
}

/// Disks, and a wall clock, that outlive processes.
pub struct World {
    pub files: MemoryFiles,
    pub env: FoldEnv,
    pub lives: u64,
    /// Where the wall clock stands between two processes that follow at once.
    pub now: Timestamp,
    pub begins: Begins,
    pub segment_bytes: u64,
    /// Recent frames in memory; none: as many as usual.
    pub cache_bytes: Option<usize>,
    pub retention: Option<Duration>,
    pub options: BrokerOptions,
}

/// One process.
pub struct Life {
    pub broker: Broker,
    pub clock: Clock,
}

impl World {
    /// Processes begin ten minutes apart.
    pub fn new() -> Self {
        Self {
            files: MemoryFiles::new(1),
            env: FoldEnv::memory().unwrap(),
            lives: 0,
            now: START,
            begins: Begins::Every(Duration::from_secs(600)),
            segment_bytes: 256 * 1024,
            cache_bytes: None,
            retention: None,
            options: BrokerOptions::default(),
        }
    }

    /// One process, ended by a kill.
    pub fn life<T>(&mut self, life: impl AsyncFnOnce(Broker) -> T) -> T {
        self.timed_life(async |this| life(this.broker.clone()).await)
    }

    /// The same, which also sees its clock.
    pub fn timed_life<T>(&mut self, life: impl AsyncFnOnce(&Life) -> T) -> T {
        self.lives += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let result = runtime.block_on(async {
            let entropy = Entropy::seeded(self.lives);
            let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
            let clock = Clock::anchored(match self.begins {
                Begins::Every(pause) => START.plus(pause * u32::try_from(self.lives).unwrap()),
                Begins::AtOnce => self.now,
            });
            let mut log = LogOptions::tiny("/data", self.segment_bytes);
            log.cache_bytes = self.cache_bytes.unwrap_or(log.cache_bytes);
            let mut options = StoreOptions { log, ..StoreOptions::default() };
            options.retention.age = self.retention.unwrap_or(options.retention.age);
            let store = Store::open(options, self.files.life(), self.env.clone(), &clock, tasks.clone()).unwrap();
            let metrics = Arc::new(Meters::noop());
            let options = self.options.clone();
            let broker = Broker::open(options, store, clock.clone(), tasks, entropy, metrics, [7; 32]).await.unwrap();
            let this = Life { broker, clock };
            let result = life(&this).await;
            this.broker.shutdown().stop();
            this.broker.store().abandon().await;
            self.now = this.clock.now();
            result
        });
        drop(runtime);
        self.files.kill();
        result
    }
}
