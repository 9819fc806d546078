//! Who is told about frames, and what a frame is to them.

use std::future;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::model::position::{FrameIndex, LogPosition, Term, UnitSeq};
use crate::model::time::Timestamp;
use crate::runtime::watermark::Rung;
use crate::store::log::frame::{FRAME_HEADER_BYTES, FrameHeader};

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
    pub(super) fn new(header: &FrameHeader, payload: Bytes, last_unit: UnitSeq) -> Self {
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
