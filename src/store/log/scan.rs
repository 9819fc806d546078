//! Walking the frames of one segment, and looking for a frame behind a gap.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::position::{FrameIndex, LogPosition, ShardId, Term};
use crate::store::files::File;
use crate::store::log::frame::{
    BadFrame, FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES,
    checksum_matches, u64_at,
};

/// Read at a time.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Blocks of nothing but zeros are skipped as a whole.
const ZEROS: [u8; 4096] = [0; 4096];

/// What the frames so far allow the next one to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    pub(super) shard: ShardId,
    /// Number of the next frame; `None` before the first one is known.
    pub(super) index: Option<FrameIndex>,
    /// Lowest possible term.
    pub(super) term: Term,
}

/// What lies at the place looked at.
#[derive(Debug)]
pub(super) enum Step {
    /// A whole frame, and its payload.
    Frame(FrameHeader, Bytes),
    /// The segment ends here.
    Sealed(FrameHeader),
    /// No room for another frame.
    Full,
    /// Not a frame.
    Bad(BadFrame),
}

/// A walk through one segment.
#[derive(Debug)]
pub(super) struct SegmentScan {
    file: Arc<dyn File>,
    base: LogPosition,
    length: u64,
    offset: u64,
    expect: Expect,
    window_at: u64,
    window: Bytes,
}

impl SegmentScan {
    /// Begins at the first frame.
    pub(super) fn new(file: Arc<dyn File>, base: LogPosition, length: u64, expect: Expect) -> Self {
        let offset = SEGMENT_HEADER_BYTES as u64;
        Self { file, base, length, offset, expect, window_at: 0, window: Bytes::new() }
    }

    /// Goes to an offset where a frame begins.
    pub(super) fn seek(&mut self, offset: u64) {
        self.offset = offset.max(SEGMENT_HEADER_BYTES as u64);
    }

    /// Where the next step looks.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is known for the frame after the last one seen.
    pub(super) fn expect(&self) -> Expect {
        self.expect
    }

    /// Looks at the next place; moves on behind a frame or a seal, and stays otherwise.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let room = self.length.saturating_sub(self.offset);
        if room < FRAME_HEADER_BYTES as u64 {
            return Ok(Step::Full);
        }
        let (header, frame) = match self.frame_at(self.offset)? {
            Ok(found) => found,
            Err(bad) => return Ok(Step::Bad(bad)),
        };
        if header.term < self.expect.term {
            return Ok(Step::Bad(BadFrame::Term { found: header.term, last: self.expect.term }));
        }
        if let Some(expected) = self.expect.index.filter(|&expected| expected != header.index) {
            return Ok(Step::Bad(BadFrame::Index { found: header.index, expected }));
        }
        self.expect.index = Some(header.index.next());
        self.expect.term = header.term;
        self.offset += header.extent() as u64;
        Ok(match header.kind {
            FrameKind::Data => Step::Frame(header, frame.slice(FRAME_HEADER_BYTES..)),
            FrameKind::Seal => Step::Sealed(header),
        })
    }

    /// A frame that could only have been written after the place where this walk stopped; looks at the rest of the segment.
    pub(super) fn find_later(&mut self) -> io::Result<Option<FrameHeader>> {
        let mut at = self.offset;
        while at + FRAME_HEADER_BYTES as u64 <= self.length {
            let wanted = usize::try_from((self.length - at).min(WINDOW_BYTES as u64)).unwrap_or(WINDOW_BYTES);
            let window = self.bytes(at, wanted)?;
            let mut inside = 0;
            while inside + FRAME_HEADER_BYTES <= window.len() {
                if window[inside..].starts_with(&ZEROS) {
                    inside += ZEROS.len();
                    continue;
                }
                if self.may_begin(&window[inside..], at + inside as u64)
                    && let Some(header) = self.later_at(at + inside as u64)?
                {
                    return Ok(Some(header));
                }
                inside += FRAME_ALIGN_BYTES;
            }
            at += inside as u64;
        }
        Ok(None)
    }

    fn may_begin(&self, bytes: &[u8], offset: u64) -> bool {
        bytes[..4] == FRAME_MAGIC && u64_at(bytes, 40) == self.base.plus(offset).get()
    }

    fn later_at(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        let Ok((header, _)) = self.frame_at(offset)? else { return Ok(None) };
        let later = header.term >= self.expect.term && self.expect.index.is_none_or(|next| header.index >= next);
        Ok(later.then_some(header))
    }

    /// A frame that is whole and says that it belongs here; the bytes without padding.
    fn frame_at(&mut self, offset: u64) -> io::Result<Result<(FrameHeader, Bytes), BadFrame>> {
        let raw = self.bytes(offset, FRAME_HEADER_BYTES)?;
        let header = match FrameHeader::parse(&raw) {
            Ok(header) => header,
            // A header torn behind its magic shows the version of what lay here before; but that had another position. Every
            // version keeps its position at this place.
            Err(BadFrame::Version(_)) if !self.may_begin(&raw, offset) => return Ok(Err(BadFrame::Magic)),
            Err(bad) => return Ok(Err(bad)),
        };
        let position = self.base.plus(offset);
        if header.position != position {
            return Ok(Err(BadFrame::Position { found: header.position }));
        }
        if header.shard != self.expect.shard {
            return Ok(Err(BadFrame::Shard { found: header.shard }));
        }
        if header.extent() as u64 > self.length - offset {
            return Ok(Err(BadFrame::Field("length")));
        }
        let frame = self.bytes(offset, FRAME_HEADER_BYTES + header.payload_bytes as usize)?;
        if !checksum_matches(&frame) {
            return Ok(Err(BadFrame::Checksum));
        }
        Ok(Ok((header, frame)))
    }

    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset + length as u64;
        if offset < self.window_at || end > self.window_at + self.window.len() as u64 {
            let most = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.window = self.file.read_at(offset, most.min(length.max(WINDOW_BYTES)))?;
            self.window_at = offset;
        }
        let start = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        self.window
            .get(start..start + length)
            .map(|found| self.window.slice_ref(found))
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}
