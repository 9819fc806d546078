//! What the log says about itself.

use std::time::Duration;

use crate::model::position::{LogPosition, UnitSeq};

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
