//! Whether the disk still has room for new messages. Two watermarks, so that it does not flicker at one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::store::files::{Files, Space};
use crate::store::log::options::LogOptions;

/// Between looks at the file system.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The bounds, applied to what the file system says. Pure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    high: f64,
    low: f64,
    reserve_bytes: u64,
}

impl Bounds {
    /// Whether the disk counts as full now, given whether it did before.
    fn is_full(&self, was_full: bool, space: Space) -> bool {
        let ratio = if was_full { self.low } else { self.high };
        space.used_ratio() >= ratio || space.free_bytes < self.reserve_bytes
    }
}

/// Says whether new messages may be accepted.
#[derive(Debug)]
pub(super) struct SpaceGuard {
    dir: PathBuf,
    files: Arc<dyn Files>,
    bounds: Bounds,
    full: AtomicBool,
    last: Mutex<Space>,
}

impl SpaceGuard {
    pub(super) fn new(options: &LogOptions, files: Arc<dyn Files>) -> Self {
        let bounds = Bounds {
            high: options.disk_high_watermark,
            low: options.disk_low_watermark,
            reserve_bytes: options.disk_reserve_bytes,
        };
        let last = Mutex::new(Space { total_bytes: 0, free_bytes: 0 });
        Self { dir: options.log_dir(), files, bounds, full: AtomicBool::new(false), last }
    }

    /// Asks the file system. When it does not answer, what was known stays.
    pub(super) fn look(&self) {
        let space = match self.files.space(&self.dir) {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "cannot ask for the room on the disk");
                return;
            }
        };
        *self.last.lock() = space;
        let was_full = self.full.load(Ordering::Relaxed);
        let is_full = self.bounds.is_full(was_full, space);
        self.full.store(is_full, Ordering::Release);
        if is_full != was_full {
            let used_percent = (space.used_ratio() * 1000.0).round() / 10.0;
            if is_full {
                tracing::error!(
                    used_percent,
                    free_bytes = space.free_bytes,
                    "the disk is nearly full: new messages are refused"
                );
            } else {
                tracing::info!(
                    used_percent,
                    free_bytes = space.free_bytes,
                    "the disk has room again: new messages are accepted"
                );
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// In words, for clients and operators.
    pub(super) fn words(&self) -> String {
        let space = *self.last.lock();
        format!(
            "{:.1} % of the disk is used and {} MiB are free; new messages are taken again below {:.0} %",
            space.used_ratio() * 100.0,
            space.free_bytes / (1024 * 1024),
            self.bounds.low * 100.0
        )
    }

    pub(super) fn last(&self) -> Space {
        *self.last.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { high: 0.90, low: 0.88, reserve_bytes: 50 };

    fn free(free_bytes: u64) -> Space {
        Space { total_bytes: 1_000, free_bytes }
    }

    #[test]
    fn the_disk_is_full_at_the_high_mark_and_free_only_below_the_low_one() {
        assert!(!BOUNDS.is_full(false, free(110)));
        assert!(BOUNDS.is_full(false, free(99)));
        assert!(BOUNDS.is_full(true, free(110)));
        assert!(!BOUNDS.is_full(true, free(130)));
    }

    #[test]
    fn a_large_disk_with_little_left_is_full_whatever_its_ratio() {
        let bounds = Bounds { high: 1.1, low: 1.1, reserve_bytes: 50 };
        assert!(bounds.is_full(false, free(49)));
        assert!(!bounds.is_full(false, free(50)));
    }
}
