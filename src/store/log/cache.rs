//! The frames written last, in memory, for consumers at the tail. Shared by all groups.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::model::position::{LogPosition, RecordAt};

/// Frames in order of the log; the oldest leave when the bound is passed.
#[derive(Debug)]
pub(super) struct Cache {
    state: RwLock<State>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<(LogPosition, Bytes)>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: RwLock::default(), bytes_max }
    }

    /// Adds the payload of the newest frame.
    pub(super) fn insert(&self, payload_position: LogPosition, payload: Bytes) {
        let mut left = Vec::new();
        {
            let mut state = self.state.write();
            state.bytes += payload.len();
            state.frames.push_back((payload_position, payload));
            while state.bytes > self.bytes_max && state.frames.len() > 1 {
                if let Some((_, old)) = state.frames.pop_front() {
                    state.bytes -= old.len();
                    left.push(old);
                }
            }
        }
        // Freed outside the lock, which readers of every group share.
        drop(left);
    }

    /// The record, when its frame is still here.
    pub(super) fn get(&self, at: RecordAt) -> Option<Bytes> {
        let state = self.state.read();
        let behind = state.frames.partition_point(|(position, _)| *position <= at.position);
        let (position, payload) = state.frames.get(behind.checked_sub(1)?)?;
        let start = usize::try_from(at.position.since(*position)).ok()?;
        let end = start.checked_add(at.length as usize)?;
        (end <= payload.len()).then(|| payload.slice(start..end))
    }

    pub(super) fn bytes(&self) -> usize {
        self.state.read().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64, length: u32) -> RecordAt {
        RecordAt { position: LogPosition(position), length }
    }

    #[test]
    fn a_record_is_found_in_its_frame_and_never_across_frames() {
        let cache = Cache::new(1_000);
        cache.insert(LogPosition(100), Bytes::from_static(b"0123456789"));
        cache.insert(LogPosition(200), Bytes::from_static(b"abcdefghij"));
        assert_eq!(cache.get(at(102, 3)).unwrap(), &b"234"[..]);
        assert_eq!(cache.get(at(209, 1)).unwrap(), &b"j"[..]);
        assert!(cache.get(at(99, 1)).is_none());
        assert!(cache.get(at(109, 2)).is_none());
        assert!(cache.get(at(150, 1)).is_none());
        assert!(cache.get(at(500, u32::MAX)).is_none());
    }

    #[test]
    fn the_oldest_frames_leave_and_the_newest_stays_even_when_it_is_too_large() {
        let cache = Cache::new(15);
        cache.insert(LogPosition(0), Bytes::from_static(b"0123456789"));
        cache.insert(LogPosition(10), Bytes::from_static(b"abcdefghij"));
        assert!(cache.get(at(0, 1)).is_none());
        assert_eq!(cache.bytes(), 10);
        cache.insert(LogPosition(20), Bytes::from_static(&[1; 20]));
        assert_eq!(cache.bytes(), 20);
        assert!(cache.get(at(39, 1)).is_some());
    }
}
