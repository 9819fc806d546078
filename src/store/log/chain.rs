//! Which segments there are, and whether they follow each other; and the note of where the log begins.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::model::position::{LogPosition, Term};
use crate::store::files::{File, Files, OpenMode, read_small, write_small_durably};
use crate::store::log::error::OpenLogError;
use crate::store::log::frame::{BadSegment, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::store::log::options::LogOptions;
use crate::store::log::scan::{Expect, SegmentScan};
use crate::store::log::segment::{base_of, segment_path};

const START_FILE: &str = "start";
const START_WORDS: &str = "bolide log start 1";

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenLogError {
    let path = path.to_owned();
    move |source| OpenLogError::Io { action, path, source }
}

/// Reads where the log begins; 0 when it was never trimmed.
pub(super) fn read_start(files: &dyn Files, dir: &Path) -> Result<LogPosition, OpenLogError> {
    let path = dir.join(START_FILE);
    if !files.exists(&path) {
        return Ok(LogPosition(0));
    }
    let bytes = read_small(files, &path).map_err(failed("read", &path))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let (words, position) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Some(version) = words.strip_prefix("bolide log start ").and_then(|version| version.parse().ok())
        && version != FORMAT_VERSION
    {
        return Err(OpenLogError::UnknownVersion { path, found: version, known: FORMAT_VERSION });
    }
    match position.parse() {
        Ok(start) if words == START_WORDS => Ok(LogPosition(start)),
        _ => Err(failed("understand", &path)(io::Error::from(io::ErrorKind::InvalidData))),
    }
}

/// Notes durably that nothing below `start` belongs to the log any more.
pub(super) fn write_start(files: &dyn Files, dir: &Path, start: LogPosition) -> io::Result<()> {
    write_small_durably(files, &dir.join(START_FILE), format!("{START_WORDS}\n{start}\n").as_bytes())
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) length: u64,
    pub(super) file: Arc<dyn File>,
}

/// Opens the segments from `start` on and takes away what earlier lives left behind.
pub(super) fn list_segments(
    options: &LogOptions,
    files: &dyn Files,
    dir: &Path,
    start: LogPosition,
) -> Result<BTreeMap<LogPosition, Found>, OpenLogError> {
    let names = files.list(dir).map_err(failed("list", dir))?;
    let mut found = BTreeMap::new();
    let mut leftovers = Vec::new();
    for name in names {
        let path = dir.join(&name);
        match base_of(&name) {
            Some(base) if base < start => leftovers.push(path),
            Some(base) => {
                let segment = open_segment(options, files, &path, base)?;
                found.insert(base, segment);
            }
            None if name.ends_with(".tmp") => files.remove(&path).map_err(failed("remove", &path))?,
            None => {}
        }
    }
    if !leftovers.is_empty() {
        // Written again before the first removal: the life that wrote it may have failed to make it durable.
        write_start(files, dir, start).map_err(failed("write", &dir.join(START_FILE)))?;
        for path in leftovers {
            files.remove(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(found)
}

fn open_segment(
    options: &LogOptions,
    files: &dyn Files,
    path: &Path,
    base: LogPosition,
) -> Result<Found, OpenLogError> {
    let file = files.open(path, OpenMode::ReadWrite).map_err(failed("open", path))?;
    let length = file.len().map_err(failed("read", path))?;
    let damaged =
        |reason: String| OpenLogError::Damaged { segment: path.to_owned(), offset: 0, position: base, reason };
    if length < SEGMENT_HEADER_BYTES as u64 {
        return Err(damaged(format!("the file is only {length} bytes long")));
    }
    let raw = file.read_at(0, SEGMENT_HEADER_BYTES).map_err(failed("read", path))?;
    let header = match SegmentHeader::parse(&raw) {
        Ok(header) => header,
        Err(BadSegment::Version(found)) => {
            return Err(OpenLogError::UnknownVersion { path: path.to_owned(), found, known: FORMAT_VERSION });
        }
        Err(bad) => return Err(damaged(bad.to_string())),
    };
    if header.shard != options.shard {
        return Err(OpenLogError::ForeignShard { path: path.to_owned(), found: header.shard, shard: options.shard });
    }
    if header.base != base {
        return Err(damaged(format!("its header says that it begins at position {}", header.base)));
    }
    if length < header.length {
        return Err(damaged(format!("the file is only {length} bytes long instead of {}", header.length)));
    }
    Ok(Found { length: header.length, file })
}

/// Checks that the segments follow each other from `start` on. What lies behind a gap and holds no frame was prepared and
/// never used, and is what a crash left of an earlier opening: it is taken out of `found` and handed back.
pub(super) fn check_chain(
    options: &LogOptions,
    dir: &Path,
    found: &mut BTreeMap<LogPosition, Found>,
    start: LogPosition,
) -> Result<BTreeMap<LogPosition, Found>, OpenLogError> {
    let mut expected = start;
    let mut gap = None;
    for (&base, segment) in found.iter() {
        if base != expected {
            gap = Some(base);
            break;
        }
        expected = base.plus(segment.length);
    }
    let missing = OpenLogError::SegmentMissing { dir: dir.to_owned(), base: expected };
    let behind = gap.map_or_else(BTreeMap::new, |base| found.split_off(&base));
    if found.is_empty() && (start > LogPosition(0) || !behind.is_empty()) {
        return Err(missing);
    }
    let expect = Expect { shard: options.shard, index: None, term: Term(0) };
    for (&base, segment) in &behind {
        let mut scan = SegmentScan::new(segment.file.clone(), base, segment.length, expect);
        if scan.find_later().map_err(failed("read", &segment_path(dir, base)))?.is_some() {
            return Err(missing);
        }
    }
    Ok(behind)
}
