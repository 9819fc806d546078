//! The handle of an open log: start, append, read, drop, stop.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::model::position::{LogPosition, RecordAt, Term, UnitSeq};
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::runtime::watermark::Watermarks;
use crate::store::files::Files;
use crate::store::log::appender::{Appender, Tail};
use crate::store::log::cache::Cache;
use crate::store::log::chain::write_start;
use crate::store::log::error::{AppendError, OpenLogError, ReadError};
use crate::store::log::listener::FrameListener;
use crate::store::log::options::LogOptions;
use crate::store::log::prepare::{Blueprint, Pool, Preparer, SPARE_NAME};
use crate::store::log::queue::Queue;
use crate::store::log::reader::Replay;
use crate::store::log::recovery::recover;
use crate::store::log::segment::{SegmentInfo, Segments, segment_path};
use crate::store::log::shared::Shared;
use crate::store::log::space::{LOOK_EVERY, SpaceGuard};
use crate::store::log::status::{LogHealth, LogStats};
use crate::store::record::{Record, Unit};

/// Handle of an open log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
    term: Term,
    run: Arc<Running>,
}

/// What starting and stopping need.
#[derive(Debug, Default)]
struct Running {
    tail: Mutex<Option<Tail>>,
    tasks: OnceLock<Tasks>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    preparer: Mutex<Option<JoinHandle<()>>>,
    closing: Arc<Notify>,
}

impl Log {
    /// Opens the log of `options`, or creates it. `known`: every frame below was durable, as the folded state says (0 when
    /// nothing is known). `clean_end`: where an orderly shutdown left the log. Frames from `known` on are checked; blocks.
    ///
    /// # Errors
    /// [`OpenLogError`]; then nothing that was acknowledged has been changed.
    pub fn open(
        options: LogOptions,
        files: Arc<dyn Files>,
        clock: &Clock,
        known: LogPosition,
        clean_end: Option<LogPosition>,
    ) -> Result<Self, OpenLogError> {
        let found = recover(&options, files.as_ref(), clock.now(), known, clean_end)?;
        let segments = Segments::new(found.segments);
        let Some(segment) = segments.last() else {
            return Err(OpenLogError::SegmentMissing { dir: options.log_dir(), base: found.start });
        };
        let term = found.last_term.next();
        let tail = Tail {
            offset: found.end.since(segment.base),
            segment,
            file: found.tail_file,
            next_index: found.next_index,
            last_stored_at: found.last_stored_at,
            filled: found.filled,
        };
        let space = Arc::new(SpaceGuard::new(&options, files.clone()));
        space.look();
        let shared = Arc::new(Shared {
            queue: Queue::new(options.frame_bytes_max, options.queue_bytes_max),
            cache: Cache::new(options.cache_bytes),
            pool: Arc::new(Pool::new(found.has_spare)),
            files,
            clock: clock.clone(),
            segments,
            space,
            start: AtomicU64::new(found.start.get()),
            written_end: AtomicU64::new(found.end.get()),
            durable_end: AtomicU64::new(found.end.get()),
            write_out_of_space: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            units: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            last_sync_us: AtomicU64::new(0),
            options,
        });
        let run = Running { tail: Mutex::new(Some(tail)), ..Running::default() };
        let log = Self { shared, term, run: Arc::new(run) };
        // The first unit of every life, so that a higher term is in the log before anything that relies on it.
        let mut opened = Unit::state();
        opened.push(&Record::Opened { shard: log.shared.options.shard, term, at: clock.now() });
        // A new queue takes it.
        let _ = log.shared.queue.push(opened);
        Ok(log)
    }

    /// Where the log begins; grows when segments are dropped.
    #[must_use]
    pub fn start(&self) -> LogPosition {
        self.shared.start()
    }

    /// Everything below is durable.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        self.shared.durable_end()
    }

    /// This life's term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The frames from `at`, where a frame begins, to the durable end of now. Positions below the log's start begin there.
    /// Blocks on the disk.
    #[must_use]
    pub fn replay(&self, at: LogPosition) -> Replay {
        Replay::new(self.shared.clone(), at)
    }

    /// Starts the appender, the preparation of segments and the look at the disk. Only the first call does.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn run(&self, tasks: &Tasks, marks: Watermarks, listener: Arc<dyn FrameListener>) -> io::Result<()> {
        let Some(tail) = self.run.tail.lock().take() else { return Ok(()) };
        let _ = self.run.tasks.set(tasks.clone());
        let options = &self.shared.options;
        let preparer = Preparer {
            pool: self.shared.pool.clone(),
            files: self.shared.files.clone(),
            clock: self.shared.clock.clone(),
            tasks: tasks.clone(),
            blueprint: Blueprint {
                dir: options.log_dir(),
                shard: options.shard,
                base: tail.segment.end(),
                length: options.segment_bytes,
            },
            ahead: options.prepared_segments,
        };
        let appender =
            Appender { shared: self.shared.clone(), tail, term: self.term, marks, listener, tasks: tasks.clone() };
        let ended = tasks.spawn_dedicated(&format!("appender-{}", options.shard), appender.run())?;
        *self.run.ended.lock() = Some(ended);
        *self.run.preparer.lock() = Some(tasks.spawn_background(preparer.run()));
        self.watch_space(tasks);
        Ok(())
    }

    fn watch_space(&self, tasks: &Tasks) {
        let (space, clock, closing) =
            (Arc::downgrade(&self.shared.space), self.shared.clock.clone(), self.run.closing.clone());
        let blocking = tasks.clone();
        drop(tasks.spawn_background(async move {
            loop {
                tokio::select! {
                    biased;
                    () = closing.notified() => return,
                    () = clock.sleep(LOOK_EVERY) => {}
                }
                let Some(space) = space.upgrade() else { return };
                blocking.blocking(move || space.look()).await;
            }
        }));
    }

    /// Accepts a unit: it will be written after all that were accepted before, unless the log fails. Does not block.
    ///
    /// # Errors
    /// [`AppendError`]; then the unit is not in the log and never will be.
    pub fn append(&self, unit: Unit) -> Result<UnitSeq, AppendError> {
        if unit.is_send()
            && let Some(text) = self.shared.disk_full()
        {
            return Err(AppendError::DiskFull(text));
        }
        self.shared.queue.push(unit)
    }

    /// Whether a state change would be accepted now.
    ///
    /// # Errors
    /// Why none will be any more.
    pub fn accepts(&self) -> Result<(), AppendError> {
        self.shared.queue.ended().map_or(Ok(()), Err)
    }

    /// The last unit accepted.
    #[must_use]
    pub fn accepted(&self) -> UnitSeq {
        self.shared.queue.accepted()
    }

    /// The bytes of a record that was written, from memory or from its segment.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, at: RecordAt) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.read_cached(at) {
            return Ok(bytes);
        }
        let shared = self.shared.clone();
        match self.run.tasks.get() {
            Some(tasks) => tasks.blocking(move || shared.read_stored(at)).await,
            None => shared.read_stored(at),
        }
    }

    /// Several records in the order asked for, with one visit to the blocking pool for all that are not in memory.
    pub async fn read_many(&self, places: &[RecordAt]) -> Vec<Result<Bytes, ReadError>> {
        let cached: Vec<Option<Bytes>> = places.iter().map(|&at| self.read_cached(at)).collect();
        if cached.iter().all(Option::is_some) {
            return cached.into_iter().flatten().map(Ok).collect();
        }
        let shared = self.shared.clone();
        let places = places.to_vec();
        let job = move || {
            let pairs = cached.into_iter().zip(places);
            pairs.map(|(bytes, at)| bytes.map_or_else(|| shared.read_stored(at), Ok)).collect()
        };
        match self.run.tasks.get() {
            Some(tasks) => tasks.blocking(job).await,
            None => job(),
        }
    }

    /// The record, when it is among the frames in memory.
    #[must_use]
    pub fn read_cached(&self, at: RecordAt) -> Option<Bytes> {
        self.shared.cache.get(at)
    }

    /// The record, from memory or from its segment; blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_blocking(&self, at: RecordAt) -> Result<Bytes, ReadError> {
        self.read_cached(at).map_or_else(|| self.shared.read_stored(at), Ok)
    }

    /// The first `bytes` bytes of a record from its segment, or more; blocks on the disk, though not for what lies behind them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_start_blocking(&self, at: RecordAt, bytes: usize) -> Result<Bytes, ReadError> {
        self.read_cached(at).map_or_else(|| self.shared.read_start(at, bytes), Ok)
    }

    /// The segments in use, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.segments.infos()
    }

    /// Drops the segments that lie wholly below `start`; answers how many. Blocks. The record that says so must be durable
    /// before, which is the caller's duty.
    ///
    /// # Errors
    /// As the calls it is made of. Then some of the segments may be gone; the next opening removes the others.
    pub fn drop_segments_before(&self, start: LogPosition) -> io::Result<usize> {
        let shared = &self.shared;
        let dir = shared.options.log_dir();
        let below = shared.segments.below(start);
        let Some(last) = below.last() else { return Ok(0) };
        write_start(shared.files.as_ref(), &dir, last.end())?;
        shared.start.store(last.end().get(), Ordering::Release);
        let count = below.len();
        let bases: Vec<LogPosition> = below.iter().map(|segment| segment.base).collect();
        drop(below);
        for base in bases {
            self.drop_segment(&dir, base)?;
        }
        shared.files.sync_dir(&dir)?;
        Ok(count)
    }

    fn drop_segment(&self, dir: &Path, base: LogPosition) -> io::Result<()> {
        let shared = &self.shared;
        let path = segment_path(dir, base);
        // Bytes that a reader may still hold must not change: such a file is removed, which leaves them alone.
        let recyclable = shared.segments.take(base).filter(|segment| segment.length == shared.options.segment_bytes);
        if recyclable.is_some() && shared.pool.wants_spare() {
            shared.files.rename(&path, &dir.join(SPARE_NAME))?;
            shared.files.sync_dir(dir)?;
            shared.pool.spare_arrived();
            return Ok(());
        }
        shared.files.remove(&path)
    }

    /// Whether it takes units.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        if let Some(AppendError::Failed(text)) = self.shared.queue.ended() {
            return LogHealth::Failed { text };
        }
        self.shared.disk_full().map_or(LogHealth::Ready, |text| LogHealth::DiskFull { text })
    }

    /// Looks at the room on the disk now instead of within a second. Blocks.
    pub fn look_at_space(&self) {
        self.shared.space.look();
    }

    /// Used part of the disk at the last look, from 0 to 1.
    #[must_use]
    pub fn disk_used_ratio(&self) -> f64 {
        self.shared.space.last().used_ratio()
    }

    /// Takes nothing new, writes and syncs what was accepted, and stops. Afterwards [`Log::end`] is where an orderly shutdown
    /// left the log, unless [`Log::health`] says that it failed.
    pub async fn close(&self) {
        self.shared.queue.end(AppendError::Closed);
        self.run.closing.notify_one();
        self.shared.pool.closing();
        let ended = self.run.ended.lock().take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
        self.shared.pool.close();
        // Waited for, so that whoever opens the log next finds nobody else at work in its directory.
        let preparer = self.run.preparer.lock().take();
        if let Some(preparer) = preparer {
            let _ = preparer.await;
        }
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let shared = &self.shared;
        LogStats {
            accepted: shared.queue.accepted(),
            start: shared.start(),
            written_end: shared.written_end(),
            durable_end: shared.durable_end(),
            frames: shared.frames.load(Ordering::Relaxed),
            units: shared.units.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            syncs: shared.syncs.load(Ordering::Relaxed),
            last_sync: Duration::from_micros(shared.last_sync_us.load(Ordering::Relaxed)),
            queue_bytes: shared.queue.unfinished_bytes(),
            cache_bytes: shared.cache.bytes(),
            segments: shared.segments.infos().len(),
        }
    }
}
