//! The only writer of the log: takes what has arrived, writes one frame, syncs once, tells everyone.
//!
//! One frame is in flight at a time; recovery relies on it. Nothing waits for a fuller batch: under load the batch grows by
//! itself while the sync before it runs. A write or a sync that failed ends the log for this process and is never repeated,
//! with one exception: a write that found no space had not been synced, and may be written again at the same place.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use crate::model::position::{FrameIndex, LogPosition, Term, UnitSeq};
use crate::model::time::Timestamp;
use crate::runtime::tasks::Tasks;
use crate::runtime::watermark::{Rung, Watermarks};
use crate::store::files::File;
use crate::store::log::error::AppendError;
use crate::store::log::frame::{
    FRAME_HEADER_BYTES, FrameBuilder, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES, extent,
};
use crate::store::log::listener::{Frame, FrameListener};
use crate::store::log::prepare::{NoSegment, fill_chunk};
use crate::store::log::queue::{Batch, Taken};
use crate::store::log::segment::Segment;
use crate::store::log::shared::Shared;
use crate::store::record::Unit;

/// Units in a batch from which on the next one is worth a moment's patience.
const CROWD_UNITS: usize = 4;
/// Between attempts to write when there is no space.
const SPACE_PAUSE: Duration = Duration::from_secs(1);

/// Where the log goes on.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn File>,
    pub(super) offset: u64,
    pub(super) next_index: FrameIndex,
    pub(super) last_stored_at: Timestamp,
    /// Bytes of the segment that have been written before, so that writing them again is cheap.
    pub(super) filled: u64,
}

pub(super) struct Appender {
    pub(super) shared: Arc<Shared>,
    pub(super) tail: Tail,
    pub(super) term: Term,
    pub(super) marks: Watermarks,
    pub(super) listener: Arc<dyn FrameListener>,
    pub(super) tasks: Tasks,
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl Appender {
    /// Runs until the queue has ended and is empty, or until the log failed.
    pub(super) async fn run(self) {
        let (shared, marks, listener) = (self.shared.clone(), self.marks.clone(), self.listener.clone());
        // A panic (the listener's, as likely as not) must not leave everyone waiting for ever.
        if AssertUnwindSafe(self.work()).catch_unwind().await.is_err() {
            fail(&shared, &marks, listener.as_ref(), "the appender panicked".to_owned());
        }
        shared.pool.close();
    }

    async fn work(mut self) {
        let mut batch = Batch::default();
        let mut crowded = false;
        loop {
            if !self.listener.has_room() {
                self.listener.room().await;
            }
            if crowded {
                // Those whose sync just ended are about to send again: a batch that takes them along saves a whole sync. Nobody
                // waits for a clock; on a machine with an idle core this returns at once.
                self.tasks.let_others_run();
            }
            match self.shared.queue.take(&mut batch) {
                Taken::Some => {
                    crowded = batch.units.len() >= CROWD_UNITS;
                    if let Err(cause) = self.append(&mut batch).await {
                        self.fail(cause);
                        break;
                    }
                }
                Taken::Ended => break,
                Taken::Nothing if self.tail.filled < self.tail.segment.length => {
                    if let Err(error) = self.fill_ahead() {
                        self.fail(format!("cannot write zeros to {}: {error}", self.tail.segment.path.display()));
                        break;
                    }
                    self.tasks.pause().await;
                }
                Taken::Nothing => self.shared.queue.wait().await,
            }
        }
    }

    fn fail(&self, cause: String) {
        fail(&self.shared, &self.marks, self.listener.as_ref(), cause);
    }

    /// While there is nothing else to do: writes zeros ahead in a segment that was not filled when it was made.
    fn fill_ahead(&mut self) -> std::io::Result<()> {
        let from = self.tail.filled.max(self.tail.offset);
        let chunk = match fill_chunk(self.tail.file.as_ref(), from, self.tail.segment.length) {
            // Not needed: the space was reserved, and if it was not, a frame will say so.
            Err(error) if is_no_space(&error) => self.tail.segment.length,
            result => result?,
        };
        self.tail.filled = from + chunk.max(1);
        Ok(())
    }

    async fn append(&mut self, batch: &mut Batch) -> Result<(), String> {
        self.make_room(extent(batch.bytes) as u64).await?;
        let records = batch.units.iter().map(Unit::records).sum();
        let units = batch.units.len();
        let mut builder = FrameBuilder::new(batch.bytes);
        for unit in batch.units.drain(..) {
            builder.push(unit.bytes());
        }
        let header = self.header(FrameKind::Data, records, batch.bytes);
        let bytes = builder.finish(header);
        let frame = Frame::new(&header, bytes.slice(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + batch.bytes), batch.last);
        self.write(&bytes).await?;
        self.tail.segment.began(frame.stored_at);
        self.shared.cache.insert(frame.payload_position, frame.payload.clone());
        self.shared.written(header.end());
        if self.listener.wants_written() {
            self.listener.reached(Rung::Written, &frame);
            self.marks.raise(Rung::Written, batch.last);
        }
        self.tasks.pause().await;
        self.sync(units, bytes.len())?;
        self.advance(&header);
        self.shared.durable(header.end(), units, bytes.len());
        self.shared.queue.finished(batch.bytes);
        self.listener.reached(Rung::Durable, &frame);
        self.raise(batch.last);
        Ok(())
    }

    fn raise(&self, last: UnitSeq) {
        self.marks.raise(Rung::Durable, last);
    }

    fn header(&mut self, kind: FrameKind, records: u32, payload_bytes: usize) -> FrameHeader {
        // Frames never seem to go back in time, or retention would find a young frame in an old segment.
        let stored_at = self.shared.clock.now().max(self.tail.last_stored_at);
        FrameHeader {
            kind,
            payload_bytes: u32::try_from(payload_bytes).unwrap_or(u32::MAX),
            shard: self.shared.options.shard,
            records,
            term: self.term,
            index: self.tail.next_index,
            position: self.position(),
            stored_at,
        }
    }

    fn position(&self) -> LogPosition {
        self.tail.segment.base.plus(self.tail.offset)
    }

    fn advance(&mut self, header: &FrameHeader) {
        self.tail.offset += header.extent() as u64;
        self.tail.next_index = header.index.next();
        self.tail.last_stored_at = header.stored_at;
    }

    async fn write(&self, bytes: &Bytes) -> Result<(), String> {
        loop {
            match self.tail.file.write_all_at(bytes, self.tail.offset) {
                Ok(()) => return Ok(()),
                Err(error) if is_no_space(&error) && self.shared.queue.ended().is_none() => {
                    self.shared.out_of_space(true);
                    self.shared.clock.sleep(SPACE_PAUSE).await;
                    self.shared.out_of_space(false);
                }
                Err(error) => return Err(format!("cannot write to {}: {error}", self.tail.segment.path.display())),
            }
        }
    }

    fn sync(&self, units: usize, bytes: usize) -> Result<(), String> {
        let began = self.shared.clock.mark();
        self.tail
            .file
            .sync_data()
            .map_err(|error| format!("cannot sync {}: {error}", self.tail.segment.path.display()))?;
        let duration = began.elapsed();
        self.shared.synced(duration);
        self.listener.observe_sync(duration, units, bytes);
        Ok(())
    }

    /// Goes on in the next segment when a frame of this size does not fit here.
    async fn make_room(&mut self, bytes: u64) -> Result<(), String> {
        let room = self.tail.segment.length - self.tail.offset;
        if bytes <= room {
            return Ok(());
        }
        // Before the seal: once that is written, there must be a next segment.
        let next = self.shared.pool.next().await.map_err(|why| match why {
            NoSegment::Failed(text) => format!("cannot make the next segment: {text}"),
            NoSegment::Closed => "the log was closed while there was no space for the next segment".to_owned(),
        })?;
        if room >= FRAME_HEADER_BYTES as u64 {
            let header = self.header(FrameKind::Seal, 0, 0);
            let bytes = FrameBuilder::new(0).finish(header);
            self.write(&bytes).await?;
            self.tasks.pause().await;
            // Synced by itself: a frame in the next segment with no seal before it would look like damage.
            self.sync(0, bytes.len())?;
            self.advance(&header);
        }
        self.tail.segment.seal();
        let segment = Segment::new(&self.shared.options.log_dir(), next.base, next.length, Timestamp(0), false);
        self.shared.segments.push(segment.clone());
        self.tail.segment = segment;
        self.tail.file = next.file;
        self.tail.offset = SEGMENT_HEADER_BYTES as u64;
        self.tail.filled = u64::MAX;
        Ok(())
    }
}

fn fail(shared: &Shared, marks: &Watermarks, listener: &dyn FrameListener, cause: String) {
    tracing::error!(cause, "the log failed: nothing is accepted any more until the process has been restarted");
    shared.queue.end(AppendError::Failed(cause.clone()));
    marks.fail();
    listener.failed(&cause);
}

fn is_no_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
