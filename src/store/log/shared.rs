//! What appender, readers and owners of one log share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::model::position::LogPosition;
use crate::runtime::clock::Clock;
use crate::store::files::Files;
use crate::store::log::cache::Cache;
use crate::store::log::options::LogOptions;
use crate::store::log::prepare::Pool;
use crate::store::log::queue::Queue;
use crate::store::log::segment::Segments;
use crate::store::log::space::SpaceGuard;

/// The parts, and the figures that everyone may look at.
pub(super) struct Shared {
    pub(super) options: LogOptions,
    pub(super) files: Arc<dyn Files>,
    pub(super) clock: Clock,
    pub(super) segments: Segments,
    pub(super) queue: Queue,
    pub(super) cache: Cache,
    pub(super) pool: Arc<Pool>,
    pub(super) space: Arc<SpaceGuard>,
    pub(super) start: AtomicU64,
    pub(super) written_end: AtomicU64,
    pub(super) durable_end: AtomicU64,
    pub(super) write_out_of_space: AtomicBool,
    pub(super) frames: AtomicU64,
    pub(super) units: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) last_sync_us: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("options", &self.options).field("end", &self.durable_end()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn start(&self) -> LogPosition {
        LogPosition(self.start.load(Ordering::Acquire))
    }

    pub(super) fn written_end(&self) -> LogPosition {
        LogPosition(self.written_end.load(Ordering::Acquire))
    }

    pub(super) fn durable_end(&self) -> LogPosition {
        LogPosition(self.durable_end.load(Ordering::Acquire))
    }

    pub(super) fn written(&self, end: LogPosition) {
        self.written_end.store(end.get(), Ordering::Release);
    }

    pub(super) fn durable(&self, end: LogPosition, units: usize, bytes: usize) {
        self.durable_end.store(end.get(), Ordering::Release);
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.units.fetch_add(units as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, duration: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.last_sync_us.store(micros, Ordering::Relaxed);
    }

    pub(super) fn out_of_space(&self, is_out: bool) {
        self.write_out_of_space.store(is_out, Ordering::Release);
    }

    /// Why new messages are refused now, if they are.
    pub(super) fn disk_full(&self) -> Option<String> {
        if self.write_out_of_space.load(Ordering::Acquire) || self.pool.is_out_of_space() {
            return Some("there is no space for the next segment of the log".to_owned());
        }
        self.space.is_full().then(|| self.space.words())
    }
}
