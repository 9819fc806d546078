//! Opening a log: which segments there are, where the log ends, and whether what lies there is whole.
//!
//! One frame is in flight at a time: a frame is written only after the one before it was synced. So an unreadable frame with
//! nothing valid behind it is a write that never finished (a torn tail: cut), and an unreadable frame with a valid one behind
//! it, or below what is known to have been acknowledged, is damage (the log is not opened and not changed).
//!
//! The last frame is written again before the log goes on: the process that wrote it may have seen its sync fail, and then
//! the page cache shows a frame that the disk does not have.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::position::{FrameIndex, LogPosition, Term};
use crate::model::time::Timestamp;
use crate::store::files::{File, Files};
use crate::store::log::chain::{Found, check_chain, failed, list_segments, read_start};
use crate::store::log::error::OpenLogError;
use crate::store::log::frame::{
    BadFrame, FORMAT_VERSION, FRAME_HEADER_BYTES, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES,
};
use crate::store::log::options::LogOptions;
use crate::store::log::prepare::{Blueprint, SPARE_NAME};
use crate::store::log::scan::{Expect, SegmentScan, Step};
use crate::store::log::segment::{Segment, segment_path};

/// Where the log stands after opening.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) start: LogPosition,
    /// Place for the next frame; always inside the last segment or at its end.
    pub(super) end: LogPosition,
    pub(super) tail_file: Arc<dyn File>,
    pub(super) next_index: FrameIndex,
    pub(super) last_term: Term,
    pub(super) last_stored_at: Timestamp,
    /// Bytes of the tail segment that are known to be written already.
    pub(super) filled: u64,
    /// A complete, unused segment file is left over for the next one.
    pub(super) has_spare: bool,
}

/// Opens or creates the log. `known`: everything below was durable; `clean_end`: where an orderly shutdown left the log.
pub(super) fn recover(
    options: &LogOptions,
    files: &dyn Files,
    now: Timestamp,
    known: LogPosition,
    clean_end: Option<LogPosition>,
) -> Result<Recovered, OpenLogError> {
    options.check()?;
    let dir = options.log_dir();
    files.create_dir_all(&dir).map_err(failed("create", &dir))?;
    let start = read_start(files, &dir)?;
    let mut found = list_segments(options, files, &dir, start)?;
    let behind_gap = check_chain(options, &dir, &mut found, start)?;
    let must_reach = known.max(clean_end.unwrap_or_default());
    let end = match found.keys().next_back() {
        None => None,
        Some(_) => Some(walk(options, &found, must_reach, known, clean_end)?),
    };
    match end {
        Some(end) if end.frames_seen || start > LogPosition(0) || found.len() > 1 || !behind_gap.is_empty() => {
            let is_clean = clean_end == Some(end.position());
            found.extend(behind_gap);
            settle(options, files, &dir, &mut found, end, start, is_clean)
        }
        // Nothing was ever written. The file is made anew, because the life that made it may not have got as far as making
        // its name durable.
        _ if must_reach <= LogPosition(SEGMENT_HEADER_BYTES as u64) => begin(options, files, &dir, found, now),
        _ => Err(OpenLogError::EndMissing { end: LogPosition(0), known: must_reach }),
    }
}

/// Where the walk through the frames ended.
#[derive(Debug)]
struct End {
    /// Segment that takes the next frame.
    base: LogPosition,
    offset: u64,
    expect: Expect,
    last: Option<LastFrame>,
    frames_seen: bool,
    is_sealed: bool,
    /// Bytes to clear at the end.
    torn_bytes: u64,
}

#[derive(Debug)]
struct LastFrame {
    base: LogPosition,
    offset: u64,
    bytes: usize,
    stored_at: Timestamp,
}

impl End {
    fn position(&self) -> LogPosition {
        self.base.plus(self.offset)
    }
}

/// Checks every frame from the segment that holds `known` on. That segment is walked from its beginning, because the number
/// and the term of the last frame are needed even when nothing follows `known`.
fn walk(
    options: &LogOptions,
    found: &BTreeMap<LogPosition, Found>,
    must_reach: LogPosition,
    known: LogPosition,
    clean_end: Option<LogPosition>,
) -> Result<End, OpenLogError> {
    let dir = options.log_dir();
    let first = first_to_walk(found, known);
    let mut end = End {
        base: first,
        offset: SEGMENT_HEADER_BYTES as u64,
        expect: Expect { shard: options.shard, index: None, term: Term(0) },
        last: None,
        frames_seen: false,
        is_sealed: false,
        torn_bytes: 0,
    };
    for (&base, segment) in found.range(first..) {
        let path = segment_path(&dir, base);
        let mut scan = SegmentScan::new(segment.file.clone(), base, segment.length, end.expect);
        // Without a seal before it, an empty segment may be one whose name was never made durable.
        let full_before = (base > first && !end.is_sealed).then_some((end.base, end.offset));
        let bad = end.walk_segment(base, &mut scan).map_err(failed("read", &path))?;
        end.base = base;
        end.offset = scan.offset();
        end.expect = scan.expect();
        let Some(bad) = bad else { continue };
        if clean_end != Some(end.position()) {
            judge(&dir, found, &mut scan, &mut end, &bad, must_reach)?;
        }
        if let Some((full, offset)) = full_before.filter(|_| end.offset == SEGMENT_HEADER_BYTES as u64) {
            (end.base, end.offset, end.torn_bytes) = (full, offset, 0);
        }
        return Ok(end);
    }
    if end.is_sealed {
        // A seal is written only when the next segment is there for certain.
        let base = found.range(end.base..).next().map_or(end.base, |(base, segment)| base.plus(segment.length));
        return Err(OpenLogError::SegmentMissing { dir, base });
    }
    // The last segment is full and there is no next one.
    if end.position() < must_reach {
        return Err(OpenLogError::EndMissing { end: end.position(), known: must_reach });
    }
    Ok(end)
}

impl End {
    /// Walks to the end of a segment; answers what stopped it earlier.
    fn walk_segment(&mut self, base: LogPosition, scan: &mut SegmentScan) -> io::Result<Option<BadFrame>> {
        self.is_sealed = false;
        loop {
            let offset = scan.offset();
            match scan.step()? {
                Step::Frame(header, _) => self.note(base, offset, &header),
                Step::Sealed(header) => {
                    self.note(base, offset, &header);
                    self.is_sealed = true;
                    return Ok(None);
                }
                Step::Full => return Ok(None),
                Step::Bad(bad) => return Ok(Some(bad)),
            }
        }
    }

    fn note(&mut self, base: LogPosition, offset: u64, header: &FrameHeader) {
        self.frames_seen |= header.kind == FrameKind::Data;
        self.last = Some(LastFrame {
            base,
            offset,
            bytes: FRAME_HEADER_BYTES + header.payload_bytes as usize,
            stored_at: header.stored_at,
        });
    }
}

fn first_to_walk(found: &BTreeMap<LogPosition, Found>, known: LogPosition) -> LogPosition {
    let mut at_or_below = found.range(..=known).rev().map(|(&base, _)| base);
    let lowest = found.keys().next().copied().unwrap_or_default();
    match at_or_below.next() {
        None => lowest,
        // Nothing in this segment is known: the last known frame lies in the one before.
        Some(base) if known.since(base) <= SEGMENT_HEADER_BYTES as u64 => at_or_below.next().unwrap_or(base),
        Some(base) => base,
    }
}

/// Decides what an unreadable frame means.
fn judge(
    dir: &Path,
    found: &BTreeMap<LogPosition, Found>,
    scan: &mut SegmentScan,
    end: &mut End,
    bad: &BadFrame,
    must_reach: LogPosition,
) -> Result<(), OpenLogError> {
    let path = segment_path(dir, end.base);
    if let BadFrame::Version(version) = *bad {
        return Err(OpenLogError::UnknownVersion { path, found: version, known: FORMAT_VERSION });
    }
    let later = later_frame(dir, found, scan, end)?;
    let damaged =
        |reason| OpenLogError::Damaged { segment: path.clone(), offset: end.offset, position: end.position(), reason };
    if let Some(later) = later {
        return Err(damaged(format!("{bad}, but frame {} at position {} is whole", later.index, later.position)));
    }
    if end.position() < must_reach {
        return match bad {
            BadFrame::Empty => Err(OpenLogError::EndMissing { end: end.position(), known: must_reach }),
            _ => Err(damaged(format!("{bad}, and everything up to position {must_reach} had been acknowledged"))),
        };
    }
    let length = found.get(&end.base).map_or(0, |segment| segment.length);
    let torn = if *bad == BadFrame::Empty { 0 } else { FRAME_HEADER_BYTES as u64 };
    end.torn_bytes = torn.min(length - end.offset);
    Ok(())
}

fn later_frame(
    dir: &Path,
    found: &BTreeMap<LogPosition, Found>,
    scan: &mut SegmentScan,
    end: &End,
) -> Result<Option<FrameHeader>, OpenLogError> {
    let path = segment_path(dir, end.base);
    if let Some(later) = scan.find_later().map_err(failed("read", &path))? {
        return Ok(Some(later));
    }
    for (&base, segment) in found.range(end.base.next()..) {
        let mut scan = SegmentScan::new(segment.file.clone(), base, segment.length, end.expect);
        let path = segment_path(dir, base);
        if let Some(later) = scan.find_later().map_err(failed("read", &path))? {
            return Ok(Some(later));
        }
    }
    Ok(None)
}

/// Makes the end that was found certain, and takes unused segments behind it out.
fn settle(
    options: &LogOptions,
    files: &dyn Files,
    dir: &Path,
    found: &mut BTreeMap<LogPosition, Found>,
    end: End,
    start: LogPosition,
    is_clean: bool,
) -> Result<Recovered, OpenLogError> {
    if !is_clean {
        rewrite(dir, found, &end)?;
    }
    let has_spare = set_unused_aside(options, files, dir, found, end.base)?;
    files.sync_dir(dir).map_err(failed("sync", dir))?;

    let walked_from = first_frame_times(found)?;
    let segments: Vec<Arc<Segment>> = walked_from
        .into_iter()
        .map(|(base, length, first_at)| Segment::new(dir, base, length, first_at, base != end.base))
        .collect();
    let tail_file = match found.remove(&end.base) {
        Some(tail) => tail.file,
        None => return Err(OpenLogError::SegmentMissing { dir: dir.to_owned(), base: end.base }),
    };
    Ok(Recovered {
        start,
        end: end.position(),
        tail_file,
        next_index: end.expect.index.unwrap_or(FrameIndex(1)),
        last_term: end.expect.term,
        last_stored_at: end.last.as_ref().map_or(Timestamp(0), |last| last.stored_at),
        filled: u64::MAX,
        has_spare,
        segments,
    })
}

/// Clears a torn tail and writes the last frame again, then syncs both.
fn rewrite(dir: &Path, found: &BTreeMap<LogPosition, Found>, end: &End) -> Result<(), OpenLogError> {
    let mut to_sync: Vec<(PathBuf, Arc<dyn File>)> = Vec::new();
    if let Some(last) = &end.last
        && let Some(segment) = found.get(&last.base)
    {
        let path = segment_path(dir, last.base);
        let bytes: Bytes = segment.file.read_at(last.offset, last.bytes).map_err(failed("read", &path))?;
        segment.file.write_all_at(&bytes, last.offset).map_err(failed("write", &path))?;
        to_sync.push((path, segment.file.clone()));
    }
    if end.torn_bytes > 0
        && let Some(segment) = found.get(&end.base)
    {
        let path = segment_path(dir, end.base);
        let zeros = vec![0; usize::try_from(end.torn_bytes).unwrap_or(0)];
        segment.file.write_all_at(&zeros, end.offset).map_err(failed("write", &path))?;
        to_sync.push((path, segment.file.clone()));
    }
    for (path, file) in to_sync {
        file.sync_data().map_err(failed("sync", &path))?;
    }
    Ok(())
}

/// Segments behind the tail were prepared and never used. Their names may not be durable, so they give them back; one of the
/// right size waits as the next one.
fn set_unused_aside(
    options: &LogOptions,
    files: &dyn Files,
    dir: &Path,
    found: &mut BTreeMap<LogPosition, Found>,
    tail: LogPosition,
) -> Result<bool, OpenLogError> {
    let mut has_spare = false;
    // From the last to the first, each durably before the next: a crash in between must not leave a gap.
    for (base, segment) in found.split_off(&tail.next()).into_iter().rev() {
        let path = segment_path(dir, base);
        if has_spare || segment.length != options.segment_bytes {
            files.remove(&path).map_err(failed("remove", &path))?;
        } else {
            files.rename(&path, &dir.join(SPARE_NAME)).map_err(failed("rename", &path))?;
            has_spare = true;
        }
        files.sync_dir(dir).map_err(failed("sync", dir))?;
    }
    Ok(has_spare)
}

fn first_frame_times(found: &BTreeMap<LogPosition, Found>) -> Result<Vec<(LogPosition, u64, Timestamp)>, OpenLogError> {
    let mut times = Vec::new();
    for (&base, segment) in found {
        let at = SEGMENT_HEADER_BYTES as u64;
        let raw = segment.file.read_at(at, FRAME_HEADER_BYTES).map_err(failed("read", Path::new("segment")))?;
        let first_at = match FrameHeader::parse(&raw) {
            Ok(header) if header.position == base.plus(at) => header.stored_at,
            _ => Timestamp(0),
        };
        times.push((base, segment.length, first_at));
    }
    Ok(times)
}

/// A log that was never written to.
fn begin(
    options: &LogOptions,
    files: &dyn Files,
    dir: &Path,
    found: BTreeMap<LogPosition, Found>,
    now: Timestamp,
) -> Result<Recovered, OpenLogError> {
    for base in found.into_keys() {
        let path = segment_path(dir, base);
        files.remove(&path).map_err(failed("remove", &path))?;
    }
    let base = LogPosition(0);
    let path = segment_path(dir, base);
    let blueprint = Blueprint { dir: dir.to_owned(), shard: options.shard, base, length: options.segment_bytes };
    let filled = options.first_fill_bytes.min(options.segment_bytes);
    let make = || -> io::Result<Arc<dyn File>> {
        let (file, _) = blueprint.start(files, false)?;
        // Synced with the header.
        file.write_all_at(&vec![0; usize::try_from(filled).unwrap_or(0)], 0)?;
        let file = blueprint.finish(files, file.as_ref(), now)?;
        // The names of the directories, too: this life may have created them, or an earlier one that ended before it got here.
        for above in dir.ancestors().skip(1).take(3) {
            files.sync_dir(above)?;
        }
        Ok(file)
    };
    let tail_file = make().map_err(failed("create", &path))?;
    Ok(Recovered {
        segments: vec![Segment::new(dir, base, options.segment_bytes, Timestamp(0), false)],
        start: base,
        end: base.plus(SEGMENT_HEADER_BYTES as u64),
        tail_file,
        next_index: FrameIndex(1),
        last_term: Term(0),
        last_stored_at: Timestamp(0),
        filled,
        has_spare: false,
    })
}
