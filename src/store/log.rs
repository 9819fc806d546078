//! One shard's commit log: segments of checksummed frames, one frame per group commit.
//!
//! - **I-1** A unit is durable, and is said to be, only after the sync that covers its frame returned without an error.
//! - **I-2** One frame is in flight at a time, so only the last frame of a log can be torn.
//! - **I-3** A failed write or sync ends the log for this process. Nothing is repeated, nothing is said to be durable after it.
//! - **I-4** What was said to be durable is there after every crash, or the log is not opened.
//! - **I-5** Bytes below the written end never change while their segment is in use.
//!
//! What records mean is not known here. Threads: one appender per log; reads and prepares run in the blocking pool.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{future, io};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::model::position::{FrameIndex, LogPosition, RecordAt, Term, UnitSeq};
use crate::model::time::Timestamp;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::runtime::watermark::{Rung, Watermarks};
use crate::store::files::Files;
use crate::store::record::{Record, Unit};

mod appender;
mod cache;
pub mod error;
pub mod frame;
pub mod options;
mod prepare;
mod queue;
mod reader;
mod recovery;
mod scan;
mod segment;
mod space;

use appender::{Appender, Tail};
use cache::Cache;
pub use error::{AppendError, OpenLogError, ReadError};
use frame::{FRAME_HEADER_BYTES, FrameHeader};
pub use options::LogOptions;
use prepare::{Blueprint, Pool, Preparer, SPARE_NAME};
use queue::Queue;
pub use reader::Replay;
pub use segment::SegmentInfo;
use segment::Segments;
use space::{LOOK_EVERY, SpaceGuard};

/// What one group commit wrote.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where it begins.
    pub position: LogPosition,
    /// Where the next one begins, if it follows in the same segment.
    pub end: LogPosition,
    /// Its number.
    pub index: FrameIndex,
    /// Life of the log that wrote it.
    pub term: Term,
    /// When it was built.
    pub stored_at: Timestamp,
    /// Its records, one after the other.
    pub payload: Bytes,
    /// Where the first record begins.
    pub payload_position: LogPosition,
    /// Number of records.
    pub records: u32,
    /// The last unit in it; 0 in a replay.
    pub last_unit: UnitSeq,
}

impl Frame {
    fn new(header: &FrameHeader, payload: Bytes, last_unit: UnitSeq) -> Self {
        Self {
            position: header.position,
            end: header.end(),
            index: header.index,
            term: header.term,
            stored_at: header.stored_at,
            payload,
            payload_position: header.position.plus(FRAME_HEADER_BYTES as u64),
            records: header.records,
            last_unit,
        }
    }
}

/// Future of [`FrameListener::room`].
pub type Room<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Who is told about frames. Called by the appender, in order of the log; must be short.
pub trait FrameListener: Send + Sync {
    /// The frame reached `rung`. Its bytes can be read. `Written` only when [`FrameListener::wants_written`] said so.
    fn reached(&self, rung: Rung, frame: &Frame);

    /// Whether the next frame is to be told at `Written` too.
    fn wants_written(&self) -> bool;

    /// The log failed; nothing follows.
    fn failed(&self, cause: &str);

    /// A sync took so long, for so many units and bytes.
    fn observe_sync(&self, duration: Duration, units: usize, bytes: usize);

    /// Whether it can take another frame now. The appender takes no new batch until it can.
    fn has_room(&self) -> bool {
        true
    }

    /// Resolves when it can take another frame.
    fn room(&self) -> Room<'_> {
        Box::pin(future::ready(()))
    }
}

/// Whether the log takes units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHealth {
    /// All of them.
    Ready,
    /// No new messages; state changes and reads go on.
    DiskFull {
        /// In words.
        text: String,
    },
    /// None, until the process has been restarted.
    Failed {
        /// What failed.
        text: String,
    },
}

/// Figures since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// The last unit accepted.
    pub accepted: UnitSeq,
    /// Where the log begins.
    pub start: LogPosition,
    /// Everything below is in the page cache.
    pub written_end: LogPosition,
    /// Everything below is on stable storage.
    pub durable_end: LogPosition,
    /// Frames made durable.
    pub frames: u64,
    /// Units in them.
    pub units: u64,
    /// Bytes of them, headers included.
    pub bytes: u64,
    /// Syncs, those of seals included.
    pub syncs: u64,
    /// How long the last one took.
    pub last_sync: Duration,
    /// Bytes accepted and not yet durable.
    pub queue_bytes: usize,
    /// Bytes of recent frames in memory.
    pub cache_bytes: usize,
    /// Segment files in use.
    pub segments: usize,
}

/// What appender, readers and owners share.
struct Shared {
    options: LogOptions,
    files: Arc<dyn Files>,
    clock: Clock,
    segments: Segments,
    queue: Queue,
    cache: Cache,
    pool: Arc<Pool>,
    space: Arc<SpaceGuard>,
    start: AtomicU64,
    written_end: AtomicU64,
    durable_end: AtomicU64,
    write_out_of_space: AtomicBool,
    frames: AtomicU64,
    units: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    last_sync_us: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("options", &self.options).field("end", &self.durable_end()).finish_non_exhaustive()
    }
}

impl Shared {
    fn start(&self) -> LogPosition {
        LogPosition(self.start.load(Ordering::Acquire))
    }

    fn written_end(&self) -> LogPosition {
        LogPosition(self.written_end.load(Ordering::Acquire))
    }

    fn durable_end(&self) -> LogPosition {
        LogPosition(self.durable_end.load(Ordering::Acquire))
    }

    fn written(&self, end: LogPosition) {
        self.written_end.store(end.get(), Ordering::Release);
    }

    fn durable(&self, end: LogPosition, units: usize, bytes: usize) {
        self.durable_end.store(end.get(), Ordering::Release);
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.units.fetch_add(units as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn synced(&self, duration: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.last_sync_us.store(micros, Ordering::Relaxed);
    }

    fn out_of_space(&self, is_out: bool) {
        self.write_out_of_space.store(is_out, Ordering::Release);
    }

    /// Why new messages are refused now, if they are.
    fn disk_full(&self) -> Option<String> {
        if self.write_out_of_space.load(Ordering::Acquire) || self.pool.is_out_of_space() {
            return Some("there is no space for the next segment of the log".to_owned());
        }
        self.space.is_full().then(|| self.space.words())
    }
}

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

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("tail", &self.tail).finish_non_exhaustive()
    }
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
        let found = recovery::recover(&options, files.as_ref(), clock.now(), known, clean_end)?;
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
        let appender = Appender {
            shared: self.shared.clone(),
            tail,
            term: self.term,
            marks,
            listener,
            tasks: tasks.clone(),
        };
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
        recovery::write_start(shared.files.as_ref(), &dir, last.end())?;
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
        let path = segment::segment_path(dir, base);
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
