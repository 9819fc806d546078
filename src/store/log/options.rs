//! Settings of a log.

use std::path::PathBuf;

use crate::model::position::ShardId;
use crate::store::log::error::OpenLogError;
use crate::store::log::frame::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};

const MIB: u64 = 1024 * 1024;

/// Settings of a log. Sizes may change between openings.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The data directory; the log lies in `shard-N/log` inside.
    pub dir: PathBuf,
    /// Which log.
    pub shard: ShardId,
    /// Size of segments created from now on. Default 64 MiB.
    pub segment_bytes: u64,
    /// Most bytes of records in one frame, and so in one unit. Default 32 MiB.
    pub frame_bytes_max: usize,
    /// Most bytes accepted and not yet durable. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Recent frames kept in memory. Default 32 MiB.
    pub cache_bytes: usize,
    /// Segments ready ahead of the tail. Default 1.
    pub prepared_segments: usize,
    /// Zeros written to the first segment of a new log before it is used; the rest follows while nothing else is to do.
    /// Default 8 MiB.
    pub first_fill_bytes: u64,
    /// From this used part of the disk on, new messages are refused. Default 0.90.
    pub disk_high_watermark: f64,
    /// Below this used part they are taken again. Default 0.88.
    pub disk_low_watermark: f64,
    /// New messages are also refused when less than this is free. Default 192 MiB.
    pub disk_reserve_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data"),
            shard: ShardId(0),
            segment_bytes: 64 * MIB,
            frame_bytes_max: 32 * 1024 * 1024,
            queue_bytes_max: 64 * 1024 * 1024,
            cache_bytes: 32 * 1024 * 1024,
            prepared_segments: 1,
            first_fill_bytes: 8 * MIB,
            disk_high_watermark: 0.90,
            disk_low_watermark: 0.88,
            disk_reserve_bytes: 192 * MIB,
        }
    }
}

impl LogOptions {
    /// Directory of this log's segments.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join(format!("shard-{}", self.shard)).join("log")
    }

    /// Tiny segments and no filling, for tests.
    #[must_use]
    pub fn tiny(dir: &str, segment_bytes: u64) -> Self {
        Self {
            dir: PathBuf::from(dir),
            segment_bytes,
            frame_bytes_max: usize::try_from(segment_bytes / 2).unwrap_or(usize::MAX),
            first_fill_bytes: 0,
            disk_reserve_bytes: 0,
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenLogError> {
        let overhead = (SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES) as u64;
        if self.frame_bytes_max as u64 + overhead > self.segment_bytes {
            return Err(OpenLogError::Options("the largest frame does not fit into a segment"));
        }
        if !self.segment_bytes.is_multiple_of(8) {
            return Err(OpenLogError::Options("the segment size is not a multiple of 8"));
        }
        if self.frame_bytes_max < 1024 || u32::try_from(self.frame_bytes_max).is_err() {
            return Err(OpenLogError::Options("the largest frame must hold 1 KiB to 4 GiB"));
        }
        if self.disk_low_watermark > self.disk_high_watermark {
            return Err(OpenLogError::Options("the low watermark of the disk lies above the high one"));
        }
        Ok(())
    }
}
