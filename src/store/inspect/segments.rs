//! Reading segments without the log's machinery, so that a log that does not open can be looked at.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::position::{LogPosition, RecordAt};
use crate::model::time::Timestamp;
use crate::store::codec::RecordError;
use crate::store::files::{File, Files, OpenMode};
use crate::store::inspect::InspectError;
use crate::store::log::frame::{
    BadFrame, FRAME_HEADER_BYTES, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES, SegmentHeader, checksum_matches,
};
use crate::store::record::{Record, decode, walk};

const SEGMENT_SUFFIX: &str = ".seg";

/// How the frames of a segment end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentEnd {
    /// The log goes on in the next segment.
    Sealed,
    /// Nothing is written behind the last frame, or there is no room.
    Open,
    /// What follows is no frame: a torn write, what an earlier use of the file left behind, or damage.
    Bad {
        /// What is wrong.
        reason: String,
    },
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Position of its first byte.
    pub base: LogPosition,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whole frames of records.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// When its first frame was built.
    pub first_at: Option<Timestamp>,
    /// When its last frame was built.
    pub last_at: Option<Timestamp>,
    /// Position behind the last whole frame.
    pub end: LogPosition,
    /// Position behind its last frame of records, if it has one.
    pub records_end: Option<LogPosition>,
    /// How its frames end.
    pub ending: SegmentEnd,
}

/// A record of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordReport {
    /// Where it lies.
    pub at: RecordAt,
    /// What it says, or why it cannot be read.
    pub record: Result<Record, RecordError>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameReport {
    /// What it says about itself.
    pub header: FrameHeader,
    /// Its records; one that cannot be cut out ends the list.
    pub records: Vec<RecordReport>,
}

#[derive(Debug)]
pub(super) struct Segments {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

struct Segment {
    path: PathBuf,
    base: LogPosition,
    bytes: u64,
    file: Arc<dyn File>,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> InspectError {
    let path = path.to_owned();
    move |source| InspectError::Io { path, source }
}

impl Segments {
    pub(super) fn new(files: Arc<dyn Files>, dir: PathBuf) -> Self {
        Self { files, dir }
    }

    fn bases(&self) -> Result<Vec<(LogPosition, PathBuf)>, InspectError> {
        let names = self.files.list(&self.dir).map_err(io_at(&self.dir))?;
        let base = |name: &String| {
            let base = name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()?;
            Some((LogPosition(base), self.dir.join(name)))
        };
        Ok(names.iter().filter_map(base).collect())
    }

    fn open(&self, base: LogPosition, path: PathBuf) -> Result<Segment, InspectError> {
        let file = self.files.open(&path, OpenMode::Read).map_err(io_at(&path))?;
        let bytes = file.len().map_err(io_at(&path))?;
        Ok(Segment { path, base, bytes, file })
    }

    fn holding(&self, position: LogPosition) -> Result<Segment, InspectError> {
        let (base, path) =
            self.bases()?.into_iter().rfind(|(base, _)| *base <= position).ok_or(InspectError::NoSegment(position))?;
        let segment = self.open(base, path)?;
        if position.since(base) >= segment.bytes { Err(InspectError::NoSegment(position)) } else { Ok(segment) }
    }

    pub(super) fn all(&self) -> Result<Vec<SegmentReport>, InspectError> {
        self.bases()?.into_iter().map(|(base, path)| Ok(self.open(base, path)?.report())).collect()
    }

    /// Where the records end, looking only at segments that reach beyond `from`; `from` when none goes further.
    pub(super) fn records_end(&self, from: LogPosition) -> Result<LogPosition, InspectError> {
        let mut end = from;
        for (base, path) in self.bases()? {
            let segment = self.open(base, path)?;
            if base.plus(segment.bytes) > from {
                // A segment made ready ahead of the tail has no records yet.
                end = end.max(segment.report().records_end.unwrap_or(from));
            }
        }
        Ok(end)
    }

    pub(super) fn frame(&self, position: LogPosition) -> Result<FrameReport, InspectError> {
        let segment = self.holding(position)?;
        let mut at = SEGMENT_HEADER_BYTES as u64;
        loop {
            let (header, frame) = segment
                .frame_at(at)
                .map_err(|reason| InspectError::NoFrame { position: segment.base.plus(at), reason: reason.into() })?;
            at += header.extent() as u64;
            if segment.base.plus(at) > position {
                return Ok(report(header, &frame));
            }
            if header.kind == FrameKind::Seal {
                let reason = "the segment ends before it".to_owned();
                return Err(InspectError::NoFrame { position, reason });
            }
        }
    }

    pub(super) fn record(&self, at: RecordAt) -> Result<Record, String> {
        let segment = self.holding(at.position).map_err(|error| error.to_string())?;
        let offset = at.position.since(segment.base);
        let bytes = segment.file.read_at(offset, at.length as usize).map_err(|error| error.to_string())?;
        decode(&bytes).map_err(|error| error.to_string())
    }
}

fn report(header: FrameHeader, frame: &Bytes) -> FrameReport {
    let payload = frame.slice(FRAME_HEADER_BYTES..);
    let first = header.position.plus(FRAME_HEADER_BYTES as u64);
    let records = walk(payload, first).map(|found| match found {
        Ok((at, bytes)) => RecordReport { at, record: decode(&bytes) },
        Err(error) => RecordReport { at: RecordAt::default(), record: Err(error) },
    });
    FrameReport { header, records: records.collect() }
}

/// Why there is no frame at a place.
enum NoFrame {
    Bad(BadFrame),
    Io(io::Error),
    NoRoom,
}

impl From<NoFrame> for String {
    fn from(reason: NoFrame) -> Self {
        match reason {
            NoFrame::Bad(bad) => bad.to_string(),
            NoFrame::Io(error) => error.to_string(),
            NoFrame::NoRoom => "the segment ends here".to_owned(),
        }
    }
}

impl Segment {
    /// A whole frame that says it belongs here, without padding.
    fn frame_at(&self, offset: u64) -> Result<(FrameHeader, Bytes), NoFrame> {
        if offset + FRAME_HEADER_BYTES as u64 > self.bytes {
            return Err(NoFrame::NoRoom);
        }
        let raw = self.file.read_at(offset, FRAME_HEADER_BYTES).map_err(NoFrame::Io)?;
        let header = FrameHeader::parse(&raw).map_err(NoFrame::Bad)?;
        if header.position != self.base.plus(offset) {
            return Err(NoFrame::Bad(BadFrame::Position { found: header.position }));
        }
        if offset + header.extent() as u64 > self.bytes {
            return Err(NoFrame::Bad(BadFrame::Field("length")));
        }
        let bytes = FRAME_HEADER_BYTES + header.payload_bytes as usize;
        let frame = self.file.read_at(offset, bytes).map_err(NoFrame::Io)?;
        if !checksum_matches(&frame) {
            return Err(NoFrame::Bad(BadFrame::Checksum));
        }
        Ok((header, frame))
    }

    fn report(&self) -> SegmentReport {
        let mut report = SegmentReport {
            path: self.path.clone(),
            base: self.base,
            bytes: self.bytes,
            frames: 0,
            records: 0,
            first_at: None,
            last_at: None,
            end: self.base,
            records_end: None,
            ending: SegmentEnd::Open,
        };
        if let Err(reason) = self.check_header() {
            report.ending = SegmentEnd::Bad { reason };
            return report;
        }
        let mut at = SEGMENT_HEADER_BYTES as u64;
        report.ending = loop {
            report.end = self.base.plus(at);
            match self.frame_at(at) {
                Ok((header, _)) => {
                    at += header.extent() as u64;
                    if header.kind == FrameKind::Seal {
                        report.end = self.base.plus(at);
                        break SegmentEnd::Sealed;
                    }
                    report.frames += 1;
                    report.records_end = Some(self.base.plus(at));
                    report.records += u64::from(header.records);
                    report.first_at = report.first_at.or(Some(header.stored_at));
                    report.last_at = Some(header.stored_at);
                }
                Err(NoFrame::Bad(BadFrame::Empty) | NoFrame::NoRoom) => break SegmentEnd::Open,
                Err(reason) => break SegmentEnd::Bad { reason: reason.into() },
            }
        };
        report
    }

    fn check_header(&self) -> Result<(), String> {
        let raw = self.file.read_at(0, SEGMENT_HEADER_BYTES).map_err(|error| error.to_string())?;
        let header = SegmentHeader::parse(&raw).map_err(|error| error.to_string())?;
        if header.base == self.base {
            Ok(())
        } else {
            Err(format!("it says that it begins at position {}", header.base))
        }
    }
}
