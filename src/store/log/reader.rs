//! Reading: single records at any place, and whole frames in order for replay.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::position::{LogPosition, RecordAt, Term, UnitSeq};
use crate::store::files::OpenMode;
use crate::store::log::error::ReadError;
use crate::store::log::frame::SEGMENT_HEADER_BYTES;
use crate::store::log::listener::Frame;
use crate::store::log::scan::{Expect, SegmentScan, Step};
use crate::store::log::segment::Segment;
use crate::store::log::shared::Shared;
use crate::store::record::RECORD_HEADER_BYTES;

impl Shared {
    /// A record from the segments. May block on the disk.
    pub(super) fn read_stored(&self, at: RecordAt) -> Result<Bytes, ReadError> {
        self.read_start(at, at.length as usize)
    }

    /// The first `bytes` bytes of a record from the segments. May block on the disk, but not for what lies behind them.
    pub(super) fn read_start(&self, at: RecordAt, bytes: usize) -> Result<Bytes, ReadError> {
        let position = at.position;
        let start = self.start();
        if position < start {
            return Err(ReadError::Gone { position, start });
        }
        let end = self.written_end();
        if position.get().checked_add(u64::from(at.length)).is_none_or(|last| last > end.get()) {
            return Err(ReadError::Outside { position, end });
        }
        let Some(segment) = self.segments.at(position) else {
            // Dropped between the two looks.
            return Err(ReadError::Gone { position, start: self.start() });
        };
        let bytes = self
            .segments
            .read(self.files.as_ref(), &segment, position.since(segment.base), bytes.min(at.length as usize))
            .map_err(|error| ReadError::Io { position, text: error.to_string() })?;
        check_length(at, &bytes)?;
        Ok(bytes)
    }
}

/// A record begins with its own length; a place that was not a record's does not.
fn check_length(at: RecordAt, bytes: &Bytes) -> Result<(), ReadError> {
    let says = bytes.first_chunk::<4>().map(|length| u32::from_le_bytes(*length));
    if bytes.len() >= RECORD_HEADER_BYTES && says == Some(at.length) {
        return Ok(());
    }
    Err(ReadError::Damaged { position: at.position, reason: "no record of this length lies here".to_owned() })
}

/// The frames from one place to where the log ended when the walk began.
#[derive(Debug)]
pub struct Replay {
    shared: Arc<Shared>,
    at: LogPosition,
    end: LogPosition,
    scan: Option<(Arc<Segment>, SegmentScan)>,
    expect: Expect,
}

impl Replay {
    pub(super) fn new(shared: Arc<Shared>, at: LogPosition) -> Self {
        let end = shared.durable_end();
        let expect = Expect { shard: shared.options.shard, index: None, term: Term(0) };
        let at = at.max(shared.start());
        Self { shared, at, end, scan: None, expect }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        while self.at < self.end {
            let (segment, mut scan) = match self.scan.take() {
                Some(open) => open,
                None => self.open()?,
            };
            self.at = segment.base.plus(scan.offset());
            if self.at >= self.end {
                break;
            }
            let step = scan.step().map_err(|error| ReadError::Io { position: self.at, text: error.to_string() })?;
            self.expect = scan.expect();
            match step {
                Step::Frame(header, payload) => {
                    self.at = header.end();
                    self.scan = Some((segment, scan));
                    return Ok(Some(Frame::new(&header, payload, UnitSeq(0))));
                }
                Step::Sealed(_) | Step::Full => {
                    self.at = segment.end();
                }
                Step::Bad(bad) => {
                    let position = segment.base.plus(scan.offset());
                    return Err(ReadError::Damaged { position, reason: bad.to_string() });
                }
            }
        }
        Ok(None)
    }

    fn open(&self) -> Result<(Arc<Segment>, SegmentScan), ReadError> {
        let position = self.at;
        let segment = self
            .shared
            .segments
            .at(position)
            .ok_or_else(|| ReadError::Gone { position, start: self.shared.start() })?;
        let file = segment
            .open(self.shared.files.as_ref(), OpenMode::Read)
            .map_err(|error| ReadError::Io { position, text: error.to_string() })?;
        let mut scan = SegmentScan::new(file, segment.base, segment.length, self.expect);
        scan.seek(position.since(segment.base).max(SEGMENT_HEADER_BYTES as u64));
        Ok((segment, scan))
    }
}

impl Iterator for Replay {
    type Item = Result<Frame, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_frame().transpose();
        if matches!(next, Some(Err(_))) {
            // Nothing behind a damaged place is looked at.
            self.at = self.end;
        }
        next
    }
}
