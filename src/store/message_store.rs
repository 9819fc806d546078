//! The store of one shard, as other rooms use it: append to the log, read it, and read the state folded from it.
//!
//! Opening decides where the fold starts: from its own position; from the newest checkpoint when it is missing or damaged;
//! from the log's beginning when there is no checkpoint and the log still begins at its beginning. Whatever was missing is
//! replayed from the log, which is the only truth.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::model::position::{LogPosition, RecordAt, ShardId, Term, UnitSeq};
use crate::model::time::Timestamp;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::runtime::watermark::{Rung, Watermarks};
use crate::store::checkpoint::{CheckpointError, Checkpoints, FoldCheckpoint};
use crate::store::data_dir::{DataDir, DataDirError};
use crate::store::files::{Files, Held};
use crate::store::fold::{Fold, FoldFrameError, FoldStats};
use crate::store::kv::{FoldEnv, FoldError, OpenFoldError};
use crate::store::log::{
    AppendError, Frame, FrameListener, Log, LogHealth, LogStats, OpenLogError, ReadError, Room, SegmentInfo,
};
use crate::store::options::StoreOptions;
use crate::store::record::{HalfRecord, MessageRecord, Record, Unit, decode};
use crate::store::retention;

mod opening;
mod properties;
mod reads;

pub use properties::StoredProperties;
pub use reads::LeaseRow;

/// The store could not be opened. Nothing acknowledged was dropped.
#[derive(Debug, Error)]
pub enum OpenStoreError {
    /// The directory is in use, of an unknown format, or out of reach.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log could not be opened.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The fold could not be opened, and cannot or must not be rebuilt.
    #[error(transparent)]
    Fold(#[from] OpenFoldError),
    /// A checkpoint could not be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log could not be read.
    #[error("replaying the log: {0}")]
    Read(#[from] ReadError),
    /// A frame could not be folded.
    #[error("replaying the log: {0}")]
    Replay(#[from] FoldFrameError),
    /// The log begins behind what the fold holds, and no checkpoint closes the gap.
    #[error(
        "the folded state ends at log position {fold}, but the log begins at {start} and there is no complete checkpoint of \
         the fold at or after that; restore the data directory from a copy"
    )]
    Gap {
        /// What the fold holds.
        fold: LogPosition,
        /// Where the log begins.
        start: LogPosition,
    },
    /// The fold holds frames that the log does not have.
    #[error(
        "the folded state reflects the log up to position {fold}, but the log ends at {end}: acknowledged frames are \
         missing, or the two directories do not belong together; restore the data directory from a copy"
    )]
    Ahead {
        /// What the fold holds.
        fold: LogPosition,
        /// Where the log ends.
        end: LogPosition,
    },
}

/// Segments could not be dropped.
#[derive(Debug, Error)]
pub enum TrimError {
    /// No durable record says so.
    #[error("the log may only be trimmed to {wanted} after a record that says so; the last one says {folded}")]
    TooEarly {
        /// Where the log should begin.
        wanted: LogPosition,
        /// Where it may begin by the folded records.
        folded: LogPosition,
    },
    /// The fold could not be copied first.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The files could not be removed.
    #[error("dropping segments: {0}")]
    Io(#[from] io::Error),
}

/// The store could not be closed cleanly. Nothing acknowledged is lost: the next start replays.
#[derive(Debug, Error)]
pub enum CloseStoreError {
    /// The fold could not be flushed.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The note of the clean end could not be written.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log or the fold had failed before.
    #[error("the shard had failed: {0}")]
    Failed(String),
}

/// Figures of the store.
#[derive(Clone, Debug)]
pub struct StoreStats {
    /// The log's.
    pub log: LogStats,
    /// The fold's.
    pub fold: FoldStats,
    /// What the fold reflects.
    pub folded: LogPosition,
    /// Bytes of the fold's memtables and table readers.
    pub fold_memory_bytes: u64,
    /// Bytes of the fold's table files.
    pub fold_disk_bytes: u64,
}

/// Handle of an open store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: StoreOptions,
    files: Arc<dyn Files>,
    dir: DataDir,
    clock: Clock,
    tasks: Tasks,
    log: Log,
    marks: Watermarks,
    fold: Arc<Fold>,
    checkpoints: Checkpoints,
    fold_ended: Mutex<Option<oneshot::Receiver<()>>>,
    /// Trims follow one another.
    trimming: tokio::sync::Mutex<()>,
    /// Released last.
    _lock: Box<dyn Held>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever did not close wants what a crash would leave; the task must not hold the database open any longer.
        self.fold.abandon();
    }
}

/// Passes frames on, durable ones also to the fold.
struct Tee {
    fold: Arc<Fold>,
    listener: Arc<dyn FrameListener>,
}

impl FrameListener for Tee {
    fn reached(&self, rung: Rung, frame: &Frame) {
        self.listener.reached(rung, frame);
        if rung == Rung::Durable {
            self.fold.push(frame.clone());
        }
    }

    fn wants_written(&self) -> bool {
        self.listener.wants_written()
    }

    fn failed(&self, cause: &str) {
        // Frames that became durable before are still folded; none follows.
        self.fold.drain();
        self.listener.failed(cause);
    }

    fn observe_sync(&self, duration: Duration, units: usize, bytes: usize) {
        self.listener.observe_sync(duration, units, bytes);
    }

    fn has_room(&self) -> bool {
        self.fold.has_room() && self.listener.has_room()
    }

    fn room(&self) -> Room<'_> {
        Box::pin(async {
            self.listener.room().await;
            self.fold.room().await;
        })
    }
}

impl Store {
    /// Opens the store in the directory that the options name: takes the lock, brings log and fold together, and replays
    /// what the fold misses. Blocks meanwhile.
    ///
    /// # Errors
    /// See [`OpenStoreError`]; each says what the operator can do.
    pub fn open(
        options: StoreOptions,
        files: Arc<dyn Files>,
        env: FoldEnv,
        clock: &Clock,
        tasks: Tasks,
    ) -> Result<Self, OpenStoreError> {
        let opened = opening::open(&options, &files, &env, clock)?;
        let marks = Watermarks::start(&tasks);
        let inner = Inner {
            options,
            files,
            dir: opened.dir,
            clock: clock.clone(),
            tasks,
            log: opened.log,
            marks,
            fold: Arc::new(opened.fold),
            checkpoints: opened.checkpoints,
            fold_ended: Mutex::new(None),
            trimming: tokio::sync::Mutex::new(()),
            _lock: opened.lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Starts the appender and the fold. `listener` hears of every frame that is appended from now on, before the fold does.
    ///
    /// # Errors
    /// The operating system refused a thread, or the log could not begin.
    pub fn run(&self, listener: Arc<dyn FrameListener>) -> io::Result<()> {
        let inner = &self.inner;
        let tee = Arc::new(Tee { fold: inner.fold.clone(), listener });
        let name = format!("fold-{}", inner.options.log.shard);
        let ended =
            inner.tasks.spawn_dedicated(&name, inner.fold.clone().run(inner.tasks.clone(), inner.clock.clone()))?;
        *inner.fold_ended.lock() = Some(ended);
        inner.log.run(&inner.tasks, inner.marks.clone(), tee)
    }

    /// Accepts a unit. Does not block; the order of calls is the order in the log.
    ///
    /// # Errors
    /// It was not accepted and never will be; see [`AppendError`].
    pub fn append(&self, unit: Unit) -> Result<UnitSeq, AppendError> {
        self.fold_works()?;
        self.inner.log.append(unit)
    }

    /// Whether a state change would be accepted now.
    ///
    /// # Errors
    /// Why none will be any more.
    pub fn accepts(&self) -> Result<(), AppendError> {
        self.fold_works()?;
        self.inner.log.accepts()
    }

    /// The last unit accepted.
    #[must_use]
    pub fn accepted(&self) -> UnitSeq {
        self.inner.log.accepted()
    }

    fn fold_works(&self) -> Result<(), AppendError> {
        self.inner.fold.failure().map_or(Ok(()), |cause| Err(AppendError::Failed(cause.to_owned())))
    }

    /// Which shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.options.log.shard
    }

    /// The marks that the appender raises.
    #[must_use]
    pub fn marks(&self) -> &Watermarks {
        &self.inner.marks
    }

    /// The term of this opening.
    #[must_use]
    pub fn term(&self) -> Term {
        self.inner.log.term()
    }

    /// Reads a message from memory, or from the disk.
    ///
    /// # Errors
    /// It is out of retention, or cannot be read.
    pub async fn read_message(&self, at: RecordAt) -> Result<MessageRecord, ReadError> {
        let bytes = self.inner.log.read(at).await?;
        message_of(at, &bytes)
    }

    /// Reads a half message from memory, or from the disk.
    ///
    /// # Errors
    /// It is out of retention, or cannot be read.
    pub async fn read_half(&self, at: RecordAt) -> Result<HalfRecord, ReadError> {
        let bytes = self.inner.log.read(at).await?;
        let damaged = |reason: String| ReadError::Damaged { position: at.position, reason };
        match decode(&bytes) {
            Ok(Record::Half(half)) => Ok(half),
            Ok(_) => Err(damaged("the record that lies here is no half message".to_owned())),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// Reads several messages in the order asked for, with one visit to the blocking pool for all that are not in memory.
    pub async fn read_messages(&self, places: &[RecordAt]) -> Vec<Result<MessageRecord, ReadError>> {
        let read = self.inner.log.read_many(places).await;
        places.iter().zip(read).map(|(&at, bytes)| message_of(at, &bytes?)).collect()
    }

    /// Reads a message if it is among the recent frames in memory.
    #[must_use]
    pub fn read_message_cached(&self, at: RecordAt) -> Option<Result<MessageRecord, ReadError>> {
        self.inner.log.read_cached(at).map(|bytes| message_of(at, &bytes))
    }

    /// Rows of the fold reflect every record before this position.
    #[must_use]
    pub fn folded(&self) -> LogPosition {
        self.inner.fold.position()
    }

    /// Waits until every record before `position` is folded; `false` when the fold ended before.
    pub async fn wait_folded(&self, position: LogPosition) -> bool {
        self.inner.fold.reached(position).await
    }

    /// First position of the log.
    #[must_use]
    pub fn log_start(&self) -> LogPosition {
        self.inner.log.start()
    }

    /// End of what is durable in the log.
    #[must_use]
    pub fn log_end(&self) -> LogPosition {
        self.inner.log.end()
    }

    /// The log's segments, in order.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.inner.log.segments()
    }

    /// Where the log could begin now by age, size and room on the disk; `None` when nothing may leave. May block on the disk.
    #[must_use]
    pub fn retention_cut(&self, now: Timestamp) -> Option<LogPosition> {
        let (policy, folded) = (&self.inner.options.retention, self.folded());
        let space = self.inner.files.space(&self.inner.dir.log()).ok();
        let segments = self.inner.log.segments();
        let start = retention::cut(&segments, policy, space, folded, now);
        let in_time = retention::cut(&segments, policy, None, folded, now);
        if let Some(start) = start.filter(|_| start != in_time) {
            tracing::warn!(
                segments = segments.iter().filter(|segment| segment.base < start && Some(segment.base) >= in_time).count(),
                log_begins_at = %start,
                used_ratio_allowed = policy.disk_used_ratio_max,
                "the disk is fuller than storage.retention_disk_used: messages leave before their time, delivered or not"
            );
        }
        start
    }

    /// Age at which messages leave the log, whatever a topic says.
    #[must_use]
    pub fn retention_age(&self) -> Duration {
        self.inner.options.retention.age
    }

    /// Lets the log begin at `start`, a result of [`Store::retention_cut`], once the unit that says so (its `Trimmed` records
    /// and the `LogTrimmed`) is durable: waits until it is folded. Takes a checkpoint of the fold first when none is there from which the rest of the
    /// log could be replayed. Hands back the number of segments that left.
    ///
    /// # Errors
    /// The records are missing, or a file could not be used; nothing needed was lost, and it can be tried again.
    pub async fn trim(&self, start: LogPosition) -> Result<usize, TrimError> {
        let _one_at_a_time = self.inner.trimming.lock().await;
        self.wait_folded(self.log_end()).await;
        let inner = self.inner.clone();
        self.inner.tasks.blocking(move || inner.trim(start)).await
    }

    /// Whether the shard takes writes.
    #[must_use]
    pub fn health(&self) -> LogHealth {
        if let Some(cause) = self.inner.fold.failure() {
            return LogHealth::Failed { text: cause.to_owned() };
        }
        match self.inner.log.health() {
            LogHealth::Ready if self.inner.fold.is_stalled() => {
                LogHealth::DiskFull { text: "there is no space left for the folded state".to_owned() }
            }
            health => health,
        }
    }

    /// Figures of log and fold. May block for a moment.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = &self.inner;
        StoreStats {
            log: inner.log.stats(),
            fold: inner.fold.stats(),
            folded: self.folded(),
            fold_memory_bytes: inner.fold.kv().memory_bytes(),
            fold_disk_bytes: inner.fold.kv().disk_bytes(),
        }
    }

    /// Ends cleanly: what was accepted becomes durable and folded, the fold is flushed, and the end is noted so that the
    /// next start has nothing to replay.
    ///
    /// # Errors
    /// The end was not clean; the next start replays what is missing.
    pub async fn close(&self) -> Result<(), CloseStoreError> {
        let inner = &self.inner;
        inner.log.close().await;
        inner.fold.drain();
        self.fold_has_ended().await;
        if let LogHealth::Failed { text } = self.health() {
            return Err(CloseStoreError::Failed(text));
        }
        let fold = inner.fold.clone();
        inner.tasks.blocking(move || fold.flush()).await?;
        Ok(inner.dir.note_clean_end(inner.files.as_ref(), inner.log.end())?)
    }

    /// Ends as a crash of the process would, as far as the fold is concerned: what waits is not folded and nothing is
    /// flushed. For tests.
    pub async fn abandon(&self) {
        self.inner.fold.abandon();
        self.inner.log.close().await;
        self.fold_has_ended().await;
    }

    async fn fold_has_ended(&self) {
        let ended = self.inner.fold_ended.lock().take();
        if let Some(ended) = ended {
            // An error means that the task is gone, too.
            let _ = ended.await;
        }
    }
}

impl Inner {
    fn trim(&self, start: LogPosition) -> Result<usize, TrimError> {
        let folded = self.fold.meta().log_start;
        if folded < start {
            return Err(TrimError::TooEarly { wanted: start, folded });
        }
        let usable = self.checkpoints.complete()?.into_iter().next().filter(|newest| newest.position >= start);
        let is_recent =
            |newest: &FoldCheckpoint| self.fold.position().since(newest.position) < self.options.checkpoint_log_bytes;
        let kept = match usable {
            Some(recent) if is_recent(&recent) => recent,
            usable => match (self.fold.checkpoint(&self.checkpoints), usable) {
                (Ok(made), _) => made,
                // On a full disk a new one may not fit before segments have left. The old one closes the gap, too.
                (Err(error), Some(older)) => {
                    tracing::warn!(%error, "the fold's checkpoint could not be renewed; an older one is kept");
                    older
                }
                (Err(error), None) => return Err(error.into()),
            },
        };
        let dropped = self.log.drop_segments_before(start)?;
        self.checkpoints.remove_others(&kept)?;
        Ok(dropped)
    }
}

fn message_of(at: RecordAt, bytes: &Bytes) -> Result<MessageRecord, ReadError> {
    let damaged = |reason: String| ReadError::Damaged { position: at.position, reason };
    match decode(bytes) {
        Ok(Record::Message(message) | Record::Delayed { message, .. }) => Ok(message),
        Ok(Record::Half(half)) => Ok(half.message),
        Ok(_) => Err(damaged("the record that lies here is no message".to_owned())),
        Err(error) => Err(damaged(error.to_string())),
    }
}
