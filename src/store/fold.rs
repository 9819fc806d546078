//! The fold of one shard at work: durable frames in, rows out, one thread.
//!
//! Frames arrive in the order of the log and wait in a queue; what waits is folded together, up to [`BATCH_BYTES_MAX`] of
//! frames a batch, without any artificial wait. A batch and the position it reflects become visible at once. A frame that
//! cannot be folded, or a batch that cannot be written, ends the fold: it never goes on behind a gap.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use crate::model::position::LogPosition;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::store::checkpoint::{CheckpointError, Checkpoints, FoldCheckpoint};
use crate::store::dispatch::{DispatchError, Dispatcher};
use crate::store::kv::handle::FlushWait;
use crate::store::kv::meta::Meta;
use crate::store::kv::{Batch, FoldEnv, FoldError, Kv, KvOptions, OpenFoldError};
use crate::store::log::Frame;

/// Bytes of frames in one batch, unless a single frame is larger.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long frames come together before they are folded, unless so many bytes wait already.
const GATHER: Duration = Duration::from_millis(4);
const GATHER_BYTES: u64 = 1024 * 1024;
/// How long a batch waits after the disk was full.
const NO_SPACE_RETRY: Duration = Duration::from_secs(1);

/// Frames could not be folded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FoldFrameError {
    /// A record cannot be understood.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The database failed.
    #[error(transparent)]
    Fold(#[from] FoldError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// What waits is still folded.
    Drain,
    /// What waits is left to the next start.
    Abandon,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    ending: Option<Ending>,
}

/// Bounds of the fold's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldBounds {
    /// Memtables are flushed at least once in so many bytes of log.
    pub flush_log_bytes: u64,
    /// Frames that may wait; above it the fold has no room.
    pub queue_bytes_max: u64,
}

/// What the fold did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldStats {
    /// Frames folded by this process.
    pub frames: u64,
    /// Batches written for them.
    pub batches: u64,
    /// Rows written or removed.
    pub rows: u64,
    /// Bytes of frames that wait.
    pub waiting_bytes: u64,
}

/// A batch that can be written.
struct Made<'a> {
    rows: Batch<'a>,
    /// The facts after it.
    meta: Meta,
    frames: u64,
}

/// The fold of one shard.
#[derive(Debug)]
pub struct Fold {
    kv: Kv,
    /// Held while a batch is made.
    dispatcher: Mutex<Dispatcher>,
    /// The facts after the last batch. Held while a batch is written and while a checkpoint is taken, so that a checkpoint is
    /// the state at its position. Never taken together with the dispatcher.
    written: Mutex<Meta>,
    queue: Mutex<Queue>,
    arrived: Notify,
    taken: Notify,
    waiting_bytes: AtomicU64,
    queue_bytes_max: u64,
    folded: watch::Sender<LogPosition>,
    flushed: AtomicU64,
    flush_log_bytes: u64,
    failure: OnceLock<String>,
    stalled: AtomicBool,
    ended: AtomicBool,
    frames: AtomicU64,
    batches: AtomicU64,
    rows: AtomicU64,
}

impl Fold {
    /// Opens the database at `path`, or makes a new one.
    ///
    /// # Errors
    /// It cannot be opened or read.
    pub fn open(env: &FoldEnv, path: &Path, options: &KvOptions, bounds: FoldBounds) -> Result<Self, OpenFoldError> {
        let kv = Kv::open(env, path, options)?;
        let dispatcher = Dispatcher::load(&kv)
            .map_err(|error| OpenFoldError::Damaged { path: path.to_owned(), cause: error.to_string() })?;
        let meta = dispatcher.meta();
        Ok(Self {
            kv,
            written: Mutex::new(meta),
            dispatcher: Mutex::new(dispatcher),
            queue: Mutex::default(),
            arrived: Notify::new(),
            taken: Notify::new(),
            waiting_bytes: AtomicU64::new(0),
            queue_bytes_max: bounds.queue_bytes_max,
            folded: watch::Sender::new(meta.position),
            flushed: AtomicU64::new(meta.position.get()),
            flush_log_bytes: bounds.flush_log_bytes,
            failure: OnceLock::new(),
            stalled: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        })
    }

    /// The rows.
    #[must_use]
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The facts after the last batch.
    #[must_use]
    pub fn meta(&self) -> Meta {
        *self.written.lock()
    }

    /// Rows reflect every frame before it.
    #[must_use]
    pub fn position(&self) -> LogPosition {
        *self.folded.borrow()
    }

    /// Waits until frames before `position` are folded; `false` when the fold ended before.
    pub async fn reached(&self, position: LogPosition) -> bool {
        let ended = || self.ended.load(Ordering::Acquire);
        let folded = self.folded.subscribe().wait_for(|folded| *folded >= position || ended()).await.is_ok();
        folded && self.position() >= position
    }

    /// Why the fold ended, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Whether it waits for room on the disk.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    /// Bytes of frames that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> FoldStats {
        FoldStats {
            frames: self.frames.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            waiting_bytes: self.waiting_bytes(),
        }
    }

    /// Whether another frame fits into the queue. A fold that has ended takes and forgets everything.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting_bytes() < self.queue_bytes_max || self.ended.load(Ordering::Acquire)
    }

    /// Waits until [`Fold::has_room`]; for one waiter.
    pub async fn room(&self) {
        while !self.has_room() {
            self.taken.notified().await;
        }
    }

    /// Hands over a durable frame. Never blocks: whoever feeds the log asks [`Fold::has_room`] first.
    pub fn push(&self, frame: Frame) {
        let bytes = frame.payload.len() as u64;
        {
            let mut queue = self.queue.lock();
            if queue.ending.is_some() || self.failure.get().is_some() {
                return;
            }
            queue.frames.push_back(frame);
            self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.arrived.notify_one();
    }

    /// No frame comes any more; the task ends when what waits is folded.
    pub fn drain(&self) {
        self.end(Ending::Drain);
    }

    /// The task ends at once, as if the process had died.
    pub fn abandon(&self) {
        self.end(Ending::Abandon);
    }

    fn end(&self, ending: Ending) {
        self.queue.lock().ending = Some(ending);
        self.arrived.notify_one();
    }

    /// Folds what arrives, until told to end or until it fails. A full disk is no failure: it waits for room.
    pub async fn run(self: Arc<Self>, tasks: Tasks, clock: Clock) {
        if let Err(error) = self.fold_what_arrives(&tasks, &clock).await {
            tracing::error!(%error, "the fold failed; the shard takes no more writes until it is reopened");
            let _ = self.failure.set(error.to_string());
        }
        self.ended.store(true, Ordering::Release);
        // Those who wait for a position or for room look again.
        self.folded.send_modify(|_| ());
        self.taken.notify_one();
    }

    async fn fold_what_arrives(&self, tasks: &Tasks, clock: &Clock) -> Result<(), FoldFrameError> {
        while let Some(frames) = self.take() {
            let Some(last) = frames.last() else {
                self.arrived.notified().await;
                self.gather(clock).await;
                continue;
            };
            // Made once, written as often as it takes: the dispatcher has moved on.
            let made = self.dispatch(&frames, last.end)?;
            while let Err(error) = self.write(&made) {
                let is_ending = self.queue.lock().ending.is_some();
                if is_ending || !matches!(error, FoldError::NoSpace { .. }) {
                    return Err(error.into());
                }
                if !self.stalled.swap(true, Ordering::AcqRel) {
                    tracing::warn!(%error, "the fold waits for room on the disk");
                }
                clock.sleep(NO_SPACE_RETRY).await;
            }
            if self.stalled.swap(false, Ordering::AcqRel) {
                tracing::info!("the fold goes on: there is room on the disk again");
            }
            tasks.pause().await;
            self.gather(clock).await;
        }
        Ok(())
    }

    /// Lets a few frames come together before the next batch. Nobody waits for the fold: what it has not reached is in memory.
    /// Waking it for every group commit would cost the senders more than its own work does.
    async fn gather(&self, clock: &Clock) {
        let is_ending = self.queue.lock().ending.is_some();
        if !is_ending && self.waiting_bytes.load(Ordering::Relaxed) < GATHER_BYTES {
            clock.sleep(GATHER).await;
        }
    }

    /// Frames of the next batch, none when nothing waits; `None` at the end.
    fn take(&self) -> Option<Vec<Frame>> {
        let mut queue = self.queue.lock();
        match queue.ending {
            Some(Ending::Abandon) => return None,
            Some(Ending::Drain) if queue.frames.is_empty() => return None,
            _ => {}
        }
        let mut bytes = 0;
        let mut frames = Vec::new();
        while let Some(frame) = queue.frames.front() {
            let frame_bytes = frame.payload.len();
            if !frames.is_empty() && bytes + frame_bytes > BATCH_BYTES_MAX {
                break;
            }
            bytes += frame_bytes;
            frames.extend(queue.frames.pop_front());
        }
        self.waiting_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.taken.notify_one();
        Some(frames)
    }

    /// Folds frames that follow the position of the fold, as one batch.
    ///
    /// # Errors
    /// Nothing of the batch was written, and the fold must not be used any more.
    pub fn fold(&self, frames: &[Frame]) -> Result<(), FoldFrameError> {
        let Some(last) = frames.last() else { return Ok(()) };
        let made = self.dispatch(frames, last.end)?;
        Ok(self.write(&made)?)
    }

    /// The rows that frames change; `end` is where the last of them ends.
    fn dispatch(&self, frames: &[Frame], end: LogPosition) -> Result<Made<'_>, DispatchError> {
        let mut dispatcher = self.dispatcher.lock();
        let mut rows = self.kv.batch();
        for frame in frames {
            dispatcher.apply(&frame.payload, frame.payload_position, &mut rows)?;
        }
        dispatcher.finish(end, &mut rows);
        Ok(Made { rows, meta: dispatcher.meta(), frames: frames.len() as u64 })
    }

    fn write(&self, made: &Made<'_>) -> Result<(), FoldError> {
        {
            let mut written = self.written.lock();
            made.rows.write()?;
            *written = made.meta;
        }
        self.frames.fetch_add(made.frames, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(made.rows.rows() as u64, Ordering::Relaxed);
        self.folded.send_replace(made.meta.position);
        self.flush_when_due(made.meta.position)
    }

    fn flush_when_due(&self, end: LogPosition) -> Result<(), FoldError> {
        if end.get().saturating_sub(self.flushed.load(Ordering::Relaxed)) < self.flush_log_bytes {
            return Ok(());
        }
        match self.kv.flush(FlushWait::No) {
            Ok(()) => self.flushed.store(end.get(), Ordering::Relaxed),
            // The rows are written, and stay in memory until there is room.
            Err(FoldError::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes everything folded so far durable.
    ///
    /// # Errors
    /// The database failed.
    pub fn flush(&self) -> Result<(), FoldError> {
        let position = self.position();
        self.kv.flush(FlushWait::UntilDone)?;
        self.flushed.fetch_max(position.get(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes a checkpoint of what is folded; folding waits meanwhile.
    ///
    /// # Errors
    /// The checkpoint could not be made.
    pub fn checkpoint(&self, checkpoints: &Checkpoints) -> Result<FoldCheckpoint, CheckpointError> {
        let written = self.written.lock();
        checkpoints.make(&self.kv, written.position)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::position::{FrameIndex, Term, TopicId, UnitSeq};
    use crate::model::time::Timestamp;
    use crate::runtime::entropy::Entropy;
    use crate::store::record::{Record, Unit};

    fn fold(queue_bytes_max: u64) -> Arc<Fold> {
        let bounds = FoldBounds { flush_log_bytes: 1 << 20, queue_bytes_max };
        let env = FoldEnv::memory().unwrap();
        Arc::new(Fold::open(&env, Path::new("/fold"), &KvOptions::default(), bounds).unwrap())
    }

    fn start(fold: &Arc<Fold>) -> tokio::task::JoinHandle<()> {
        let tasks = Tasks::simulated(tokio::runtime::Handle::current(), Entropy::seeded(1));
        tokio::spawn(fold.clone().run(tasks, Clock::anchored(Timestamp(0))))
    }

    fn frame(number: u64, payload: Bytes) -> Frame {
        let position = LogPosition(64 + number * 1000);
        Frame {
            position,
            end: position.plus(1000),
            index: FrameIndex(number),
            term: Term(1),
            stored_at: Timestamp(0),
            payload,
            payload_position: position.plus(64),
            records: 1,
            last_unit: UnitSeq(number),
        }
    }

    fn good(number: u64) -> Frame {
        let mut unit = Unit::state();
        unit.push(&Record::TopicDeleted(TopicId(1)));
        frame(number, Bytes::copy_from_slice(unit.bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_cannot_be_understood_ends_the_fold_before_it() {
        let fold = fold(1 << 20);
        let task = start(&fold);
        fold.push(good(0));
        assert!(fold.reached(LogPosition(1064)).await);
        fold.push(frame(1, Bytes::from_static(b"this is not a record")));
        fold.push(good(2));
        assert!(!fold.reached(LogPosition(2064)).await, "whoever waits is told");
        task.await.unwrap();
        assert_eq!(fold.position(), LogPosition(1064));
        assert_eq!(fold.meta().position, LogPosition(1064));
        assert!(fold.failure().is_some_and(|cause| cause.contains("log position 1128")), "{:?}", fold.failure());
        assert!(fold.has_room(), "the log must not wait for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn draining_folds_what_waits_and_abandoning_does_not() {
        let drained = fold(1 << 20);
        drained.push(good(0));
        drained.push(good(1));
        drained.drain();
        start(&drained).await.unwrap();
        assert_eq!(drained.position(), LogPosition(2064));
        assert_eq!(drained.stats().batches, 1, "what waits together is folded together");

        let abandoned = fold(1 << 20);
        abandoned.push(good(0));
        abandoned.abandon();
        start(&abandoned).await.unwrap();
        assert_eq!(abandoned.position(), LogPosition(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_has_no_room_until_something_is_folded() {
        let fold = fold(1);
        fold.push(good(0));
        assert!(!fold.has_room());
        let waiting = {
            let fold = fold.clone();
            tokio::spawn(async move { fold.room().await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let task = start(&fold);
        waiting.await.unwrap();
        fold.drain();
        task.await.unwrap();
        assert_eq!(fold.position(), LogPosition(1064));
    }
}
