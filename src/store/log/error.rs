//! What can go wrong with the log, in words for the operator.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::model::position::{LogPosition, ShardId};

/// Why a log was not opened. Nothing was changed on disk unless the text says so.
#[derive(Debug, Error)]
pub enum OpenLogError {
    /// A call of the operating system failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Written by a newer program.
    #[error(
        "{path} has format version {found}, this program knows version {known}; it was written by a newer program: start that one"
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// Something that was acknowledged, or may have been, cannot be read.
    #[error(
        "the log is damaged in the middle: segment {segment}, byte {offset} (log position {position}): {reason}. Nothing was changed. \
         Restore the data directory from a copy, or look at what is left with `bolide inspect log`; \
         acknowledged messages are never dropped silently"
    )]
    Damaged {
        /// The segment file.
        segment: PathBuf,
        /// Byte in it.
        offset: u64,
        /// Position in the log.
        position: LogPosition,
        /// What was found there.
        reason: String,
    },
    /// The log ends before something that was acknowledged.
    #[error(
        "the log ends at position {end}, but everything up to position {known} had been acknowledged. Nothing was changed. \
         Restore the data directory from a copy; acknowledged messages are never dropped silently"
    )]
    EndMissing {
        /// Where it ends.
        end: LogPosition,
        /// Where it must reach.
        known: LogPosition,
    },
    /// A segment file is not there.
    #[error(
        "the segment of log {dir} that begins at position {base} is missing. Nothing was changed. \
         Restore the data directory from a copy; acknowledged messages are never dropped silently"
    )]
    SegmentMissing {
        /// Directory of the log.
        dir: PathBuf,
        /// Where the missing segment begins.
        base: LogPosition,
    },
    /// A segment of another log lies in the directory.
    #[error("segment {path} belongs to shard {found}, not to shard {shard}")]
    ForeignShard {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: ShardId,
        /// Whose it should be.
        shard: ShardId,
    },
    /// The options contradict each other.
    #[error("the log's options do not fit together: {0}")]
    Options(&'static str),
}

/// Why a unit was not accepted. It is not in the log and never will be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// Too much is waiting for the disk. Worth trying again soon.
    #[error("the log's queue is full: {waiting_bytes} bytes wait for the disk")]
    Full {
        /// Accepted and not yet durable.
        waiting_bytes: usize,
    },
    /// The disk is full or nearly so. Worth trying again when there is room.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// A write or a sync failed; this process accepts nothing any more.
    #[error("the log failed and takes no more writes until it has been reopened: {0}")]
    Failed(String),
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
    /// Does not fit into one frame.
    #[error("{bytes} bytes in one unit are more than the {max} bytes of a frame")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// Most.
        max: usize,
    },
}

/// Why bytes could not be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// Out of retention.
    #[error("position {position} is out of retention; the log begins at {start}")]
    Gone {
        /// What was asked for.
        position: LogPosition,
        /// Where the log begins.
        start: LogPosition,
    },
    /// Nothing was written there.
    #[error("position {position} lies behind the log's end {end}")]
    Outside {
        /// What was asked for.
        position: LogPosition,
        /// Where the log ends.
        end: LogPosition,
    },
    /// The disk failed.
    #[error("cannot read the log at position {position}: {text}")]
    Io {
        /// What was asked for.
        position: LogPosition,
        /// Why.
        text: String,
    },
    /// What lies there is not what should.
    #[error("the log is damaged at position {position}: {reason}")]
    Damaged {
        /// Where.
        position: LogPosition,
        /// What was found.
        reason: String,
    },
}
