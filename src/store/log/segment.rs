//! Segment files and the set of them that makes up the log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::model::position::LogPosition;
use crate::model::time::Timestamp;
use crate::store::files::{File, Files, OpenMode, View};

/// Mapped segments that may keep pages resident; those used longest ago let go.
const RESIDENT_SEGMENTS_MAX: usize = 4;

/// Ending of segment files.
pub(super) const SEGMENT_SUFFIX: &str = ".seg";

/// Name of the segment that begins at `base`.
pub(super) fn segment_path(dir: &Path, base: LogPosition) -> PathBuf {
    dir.join(format!("{:020}{SEGMENT_SUFFIX}", base.get()))
}

/// Where the segment of this name begins; `None` for other names.
pub(super) fn base_of(name: &str) -> Option<LogPosition> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(LogPosition)
}

/// What others may know about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Position of its first byte.
    pub base: LogPosition,
    /// Size of the file.
    pub bytes: u64,
    /// When its first frame was built; `None` while it has none.
    pub first_at: Option<Timestamp>,
    /// No frame in it is younger than this; `None` while it has none or is still written.
    pub last_at: Option<Timestamp>,
    /// Whether it takes no more frames.
    pub sealed: bool,
}

/// One segment in use. Prepared ones are not yet among them.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: LogPosition,
    pub(super) length: u64,
    pub(super) path: PathBuf,
    /// 0 while it has no frame.
    first_at_ms: AtomicU64,
    sealed: AtomicBool,
    view: OnceLock<Arc<dyn View>>,
}

impl Segment {
    pub(super) fn new(dir: &Path, base: LogPosition, length: u64, first_at: Timestamp, sealed: bool) -> Arc<Self> {
        Arc::new(Self {
            base,
            length,
            path: segment_path(dir, base),
            first_at_ms: AtomicU64::new(first_at.millis()),
            sealed: AtomicBool::new(sealed),
            view: OnceLock::new(),
        })
    }

    pub(super) fn end(&self) -> LogPosition {
        self.base.plus(self.length)
    }

    pub(super) fn open(&self, files: &dyn Files, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        files.open(&self.path, mode)
    }

    /// The first frame was built at `at`. Later calls change nothing.
    pub(super) fn began(&self, at: Timestamp) {
        let _ = self.first_at_ms.compare_exchange(0, at.millis(), Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn seal(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    pub(super) fn first_at(&self) -> Option<Timestamp> {
        Some(Timestamp(self.first_at_ms.load(Ordering::Relaxed))).filter(|at| at.millis() > 0)
    }

    fn view(&self, files: &dyn Files) -> io::Result<Arc<dyn View>> {
        if let Some(view) = self.view.get() {
            return Ok(view.clone());
        }
        let view = self.open(files, OpenMode::Read)?.view()?;
        Ok(self.view.get_or_init(|| view).clone())
    }

    /// Whether bytes of it that were handed out are still alive.
    fn is_in_use(&self) -> bool {
        self.view.get().is_some_and(|view| view.is_in_use())
    }
}

/// The segments in use, in order, without gaps.
#[derive(Debug)]
pub(super) struct Segments {
    by_base: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Bases of the segments read last, newest first.
    resident: Mutex<Vec<u64>>,
}

impl Segments {
    pub(super) fn new(segments: Vec<Arc<Segment>>) -> Self {
        let by_base = segments.into_iter().map(|segment| (segment.base.get(), segment)).collect();
        Self { by_base: RwLock::new(by_base), resident: Mutex::new(Vec::new()) }
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.by_base.write().insert(segment.base.get(), segment);
    }

    /// The segment that holds `position`.
    pub(super) fn at(&self, position: LogPosition) -> Option<Arc<Segment>> {
        let by_base = self.by_base.read();
        let (_, segment) = by_base.range(..=position.get()).next_back()?;
        (position < segment.end()).then(|| segment.clone())
    }

    pub(super) fn last(&self) -> Option<Arc<Segment>> {
        self.by_base.read().values().next_back().cloned()
    }

    /// Segments that lie wholly below `start`; never the last one.
    pub(super) fn below(&self, start: LogPosition) -> Vec<Arc<Segment>> {
        let by_base = self.by_base.read();
        let last = by_base.keys().next_back().copied();
        by_base
            .values()
            .take_while(|segment| segment.end() <= start && Some(segment.base.get()) != last)
            .cloned()
            .collect()
    }

    /// Takes a segment out. `Some` when nobody can be reading it any more, so that its bytes may change.
    pub(super) fn take(&self, base: LogPosition) -> Option<Arc<Segment>> {
        let segment = self.by_base.write().remove(&base.get())?;
        self.resident.lock().retain(|&resident| resident != base.get());
        // One reference is ours; whoever looked the segment up before it was taken out still has another.
        (Arc::strong_count(&segment) == 1 && !segment.is_in_use()).then_some(segment)
    }

    pub(super) fn infos(&self) -> Vec<SegmentInfo> {
        let by_base = self.by_base.read();
        let mut infos: Vec<SegmentInfo> = by_base
            .values()
            .map(|segment| SegmentInfo {
                base: segment.base,
                bytes: segment.length,
                first_at: segment.first_at(),
                last_at: None,
                sealed: segment.sealed.load(Ordering::Acquire),
            })
            .collect();
        // A segment's frames are not younger than the first frame of the next one.
        for at in 1..infos.len() {
            infos[at - 1].last_at = infos[at].first_at;
        }
        infos
    }

    /// Bytes of the segment, through its mapping. May block on the disk.
    pub(super) fn read(&self, files: &dyn Files, segment: &Segment, offset: u64, length: usize) -> io::Result<Bytes> {
        let view = segment.view(files)?;
        let bytes = view.read(offset, length)?;
        if let Some(old) = self.touch(segment.base.get())
            && let Some(old) = self.by_base.read().get(&old)
            && let Some(view) = old.view.get()
        {
            view.release();
        }
        Ok(bytes)
    }

    /// Notes that a segment was read; answers the one that must let its pages go instead.
    fn touch(&self, base: u64) -> Option<u64> {
        let mut resident = self.resident.lock();
        if resident.first() == Some(&base) {
            return None;
        }
        resident.retain(|&other| other != base);
        resident.insert(0, base);
        if resident.len() > RESIDENT_SEGMENTS_MAX { resident.pop() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bases: &[u64]) -> Segments {
        let new = |&base| Segment::new(Path::new("d"), LogPosition(base), 100, Timestamp(base + 1), false);
        Segments::new(bases.iter().map(new).collect())
    }

    #[test]
    fn names_and_bases_agree_and_other_names_are_none() {
        let path = segment_path(Path::new("d"), LogPosition(4096));
        assert_eq!(path, Path::new("d/00000000000000004096.seg"));
        assert_eq!(base_of("00000000000000004096.seg"), Some(LogPosition(4096)));
        assert_eq!(base_of("4096.seg"), None);
        assert_eq!(base_of("0000000000000000409x.seg"), None);
        assert_eq!(base_of("next.tmp"), None);
    }

    #[test]
    fn a_position_is_found_in_its_segment_and_nowhere_outside() {
        let set = set(&[100, 200]);
        assert_eq!(set.at(LogPosition(199)).unwrap().base, LogPosition(100));
        assert_eq!(set.at(LogPosition(200)).unwrap().base, LogPosition(200));
        assert!(set.at(LogPosition(99)).is_none());
        assert!(set.at(LogPosition(300)).is_none());
    }

    #[test]
    fn the_last_segment_is_never_below_anything() {
        let set = set(&[100, 200, 300]);
        let below = |start| set.below(LogPosition(start)).len();
        assert_eq!((below(199), below(200), below(299), below(1_000)), (0, 1, 1, 2));
    }

    #[test]
    fn a_segment_that_someone_reads_is_not_handed_out_for_recycling() {
        let set = set(&[100, 200]);
        let reader = set.at(LogPosition(100)).unwrap();
        assert!(set.take(LogPosition(100)).is_none());
        drop(reader);
        assert!(set.take(LogPosition(200)).is_some());
    }

    #[test]
    fn the_end_of_a_segments_time_is_the_beginning_of_the_next() {
        let infos = set(&[100, 200]).infos();
        assert_eq!(infos[0].first_at, Some(Timestamp(101)));
        assert_eq!(infos[0].last_at, Some(Timestamp(201)));
        assert_eq!(infos[1].last_at, None);
    }
}
