//! Making the next segments ready ahead of need: space reserved, zeros written, header and name durable, so that the appender
//! only has to go on writing. A first write into a reserved but never written range costs a journal commit; into one that
//! holds zeros, or the bytes of a dropped segment, it does not.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::position::{LogPosition, ShardId};
use crate::model::time::Timestamp;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::store::files::{File, Files, OpenMode};
use crate::store::log::frame::SegmentHeader;
use crate::store::log::segment::segment_path;

/// A segment file that is no longer used and may be written over.
pub(super) const SPARE_NAME: &str = "spare.tmp";
const NEXT_NAME: &str = "next.tmp";

/// Zeros written and synced at a time: small, so that the appender's own sync never waits for much.
const FILL_CHUNK_BYTES: u64 = 512 * 1024;
/// Left to others after each chunk.
const FILL_PAUSE: Duration = Duration::from_millis(2);
/// Between attempts that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a segment file is to become.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    pub(super) dir: PathBuf,
    pub(super) shard: ShardId,
    pub(super) base: LogPosition,
    pub(super) length: u64,
}

impl Blueprint {
    /// Makes the file under a temporary name, with its space reserved. True: it is a recycled one and needs no filling.
    pub(super) fn start(&self, files: &dyn Files, recycle: bool) -> io::Result<(Arc<dyn File>, bool)> {
        let next = self.dir.join(NEXT_NAME);
        let spare = self.dir.join(SPARE_NAME);
        if files.exists(&next) {
            files.remove(&next)?;
        }
        if recycle && files.exists(&spare) {
            files.rename(&spare, &next)?;
            let file = files.open(&next, OpenMode::ReadWrite)?;
            if file.len()? == self.length {
                return Ok((file, true));
            }
            files.remove(&next)?;
        }
        let file = files.open(&next, OpenMode::CreateNew)?;
        if let Err(error) = file.allocate(self.length) {
            let _ = files.remove(&next);
            return Err(error);
        }
        Ok((file, false))
    }

    /// Gives it its header and its name, durably; answers the file, opened under that name.
    pub(super) fn finish(&self, files: &dyn Files, file: &dyn File, now: Timestamp) -> io::Result<Arc<dyn File>> {
        let header = SegmentHeader { shard: self.shard, base: self.base, length: self.length, created: now };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        let path = segment_path(&self.dir, self.base);
        files.rename(&self.dir.join(NEXT_NAME), &path)?;
        files.sync_dir(&self.dir)?;
        files.open(&path, OpenMode::ReadWrite)
    }
}

/// Writes and syncs one chunk of zeros from `at`; answers its size.
pub(super) fn fill_chunk(file: &dyn File, at: u64, until: u64) -> io::Result<u64> {
    let length = until.saturating_sub(at).min(FILL_CHUNK_BYTES);
    file.write_all_at(&vec![0; usize::try_from(length).unwrap_or(0)], at)?;
    file.sync_data()?;
    Ok(length)
}

/// A segment that only waits for its first frame.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) base: LogPosition,
    pub(super) length: u64,
    pub(super) file: Arc<dyn File>,
}

/// Prepared segments, between the task that makes them and the appender that uses them.
#[derive(Debug, Default)]
pub(super) struct Pool {
    state: Mutex<PoolState>,
    /// Wakes the preparing task.
    wanted: Notify,
    /// Wakes the appender.
    arrived: Notify,
    urgent: AtomicBool,
    /// The log takes nothing new; the appender may still need a segment.
    closing: AtomicBool,
    /// The appender has ended.
    closed: AtomicBool,
    out_of_space: AtomicBool,
}

#[derive(Debug, Default)]
struct PoolState {
    ready: VecDeque<Prepared>,
    /// Why the last attempt failed, other than for lack of space.
    failure: Option<String>,
    has_spare: bool,
}

/// Why there is no next segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSegment {
    /// It could not be made.
    Failed(String),
    /// There was no space for it until the log was closed.
    Closed,
}

impl Pool {
    pub(super) fn new(has_spare: bool) -> Self {
        Self { state: Mutex::new(PoolState { has_spare, ..PoolState::default() }), ..Self::default() }
    }

    /// The next segment; waits for it when there is none yet. Waits on for lack of space, because the log can go on as soon as
    /// there is some.
    pub(super) async fn next(&self) -> Result<Prepared, NoSegment> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.state.lock();
                if let Some(prepared) = state.ready.pop_front() {
                    self.urgent.store(false, Ordering::Release);
                    self.wanted.notify_one();
                    return Ok(prepared);
                }
                let hopeless = self.closing.load(Ordering::Acquire) && self.is_out_of_space();
                let ended = state.failure.take().map(NoSegment::Failed).or(hopeless.then_some(NoSegment::Closed));
                if let Some(ended) = ended {
                    self.urgent.store(false, Ordering::Release);
                    return Err(ended);
                }
                self.urgent.store(true, Ordering::Release);
            }
            self.wanted.notify_one();
            arrived.await;
        }
    }

    /// Whether the last attempt found no space.
    pub(super) fn is_out_of_space(&self) -> bool {
        self.out_of_space.load(Ordering::Acquire)
    }

    /// The appender finishes what is queued and waits for space no longer.
    pub(super) fn closing(&self) {
        self.closing.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// No segment is wanted any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    /// Whether a dropped segment may become the next spare one.
    pub(super) fn wants_spare(&self) -> bool {
        !self.state.lock().has_spare
    }

    pub(super) fn spare_arrived(&self) {
        self.state.lock().has_spare = true;
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// The task that keeps the pool filled.
#[derive(Debug)]
pub(super) struct Preparer {
    pub(super) pool: Arc<Pool>,
    pub(super) files: Arc<dyn Files>,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) blueprint: Blueprint,
    pub(super) ahead: usize,
}

impl Preparer {
    /// Runs until the pool is closed.
    pub(super) async fn run(mut self) {
        loop {
            let wanted = self.pool.wanted.notified();
            if self.pool.is_closed() {
                return;
            }
            let missing = self.pool.state.lock().ready.len() < self.ahead.max(1);
            if !missing && !self.pool.urgent.load(Ordering::Acquire) {
                wanted.await;
                continue;
            }
            match self.prepare().await {
                Ok(None) => return,
                Ok(Some(prepared)) => {
                    self.blueprint.base = prepared.base.plus(prepared.length);
                    self.pool.out_of_space.store(false, Ordering::Release);
                    self.pool.state.lock().ready.push_back(prepared);
                    self.pool.arrived.notify_one();
                }
                Err(error) => self.report(&error).await,
            }
        }
    }

    async fn report(&self, error: &io::Error) {
        tracing::warn!(base = %self.blueprint.base, %error, "cannot prepare the next segment of the log");
        let is_space = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.pool.out_of_space.store(is_space, Ordering::Release);
        if !is_space && self.pool.urgent.load(Ordering::Acquire) {
            self.pool.state.lock().failure = Some(error.to_string());
        }
        self.pool.arrived.notify_one();
        let closing = async {
            while !self.pool.is_closed() {
                self.pool.wanted.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = closing => {}
            () = self.clock.sleep(RETRY_PAUSE) => {}
        }
    }

    /// The next segment; `None` when none is wanted any more.
    async fn prepare(&self) -> io::Result<Option<Prepared>> {
        let recycle = std::mem::take(&mut self.pool.state.lock().has_spare);
        let (blueprint, files) = (self.blueprint.clone(), self.files.clone());
        let (file, is_recycled) = self.tasks.blocking(move || blueprint.start(files.as_ref(), recycle)).await?;
        let mut at = 0;
        while !is_recycled && at < self.blueprint.length {
            if self.pool.is_closed() {
                return Ok(None);
            }
            // Whoever waits for this segment is better served by an unfilled one now.
            if self.pool.urgent.load(Ordering::Acquire) {
                break;
            }
            let (target, until) = (file.clone(), self.blueprint.length);
            at += self.tasks.blocking(move || fill_chunk(target.as_ref(), at, until)).await?;
            self.clock.sleep(FILL_PAUSE).await;
        }
        let (blueprint, files) = (self.blueprint.clone(), self.files.clone());
        let now = self.clock.now();
        let file = self.tasks.blocking(move || blueprint.finish(files.as_ref(), file.as_ref(), now)).await?;
        Ok(Some(Prepared { base: self.blueprint.base, length: self.blueprint.length, file }))
    }
}
