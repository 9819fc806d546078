//! The near end of one queue: which offsets are promised, which are visible, and the newest entries in memory. Pure.

use std::collections::VecDeque;

use crate::model::position::QueueOffset;
use crate::model::time::Timestamp;
use crate::store::QueueEntry;

/// State of one queue.
#[derive(Debug, Default)]
pub struct QueueTail {
    first: QueueOffset,
    visible: QueueOffset,
    accepted: QueueOffset,
    recent: VecDeque<QueueEntry>,
}

impl QueueTail {
    /// A queue as the folded state knows it: everything in it is visible.
    #[must_use]
    pub fn restored(first: QueueOffset, next: QueueOffset) -> Self {
        Self { first, visible: next, accepted: next, recent: VecDeque::new() }
    }

    /// First retained offset.
    #[must_use]
    pub fn first(&self) -> QueueOffset {
        self.first
    }

    /// One past the last visible offset.
    #[must_use]
    pub fn visible(&self) -> QueueOffset {
        self.visible
    }

    /// Offset that the next accepted message gets.
    #[must_use]
    pub fn accepted(&self) -> QueueOffset {
        self.accepted
    }

    /// `count` offsets have been given out.
    pub fn accept(&mut self, count: u64) {
        self.accepted = QueueOffset(self.accepted.get() + count);
    }

    /// A message has reached the rung its topic promises. False when it is not the next one: already visible, or an earlier
    /// one of the same frame must come first.
    pub fn show(&mut self, entry: QueueEntry) -> bool {
        if entry.offset != self.visible {
            return false;
        }
        self.visible = entry.offset.next();
        self.recent.push_back(entry);
        true
    }

    /// The entry at `offset`, if it is still in memory.
    #[must_use]
    pub fn recent(&self, offset: QueueOffset) -> Option<QueueEntry> {
        let first = self.recent.front()?.offset;
        let index = offset.get().checked_sub(first.get())?;
        self.recent.get(usize::try_from(index).ok()?).copied()
    }

    /// The first message from `from` on that was stored at or after `instant`, one past the last visible if there is none;
    /// `None` when `from` is not in memory. Exact as long as the clock never went back.
    #[must_use]
    pub fn first_at_or_after(&self, from: QueueOffset, instant: Timestamp) -> Option<QueueOffset> {
        if from >= self.visible {
            return Some(self.visible);
        }
        let first = self.recent.front()?.offset;
        let skip = usize::try_from(from.get().checked_sub(first.get())?).ok()?;
        let found = self.recent.partition_point(|entry| entry.stored_at < instant).max(skip);
        Some(QueueOffset(first.get() + found as u64))
    }

    /// The oldest entry in memory.
    #[must_use]
    pub fn oldest_recent(&self) -> Option<QueueEntry> {
        self.recent.front().copied()
    }

    /// Forgets the oldest entry in memory.
    pub fn forget_oldest(&mut self) {
        self.recent.pop_front();
        // Keeps a queue that was busy once from holding its largest size for ever.
        if self.recent.is_empty() || (self.recent.capacity() > 1024 && self.recent.len() * 4 < self.recent.capacity()) {
            self.recent.shrink_to(self.recent.len() * 2);
        }
    }

    /// Everything below `first` is out of retention. Returns how many entries in memory went with it.
    pub fn trim(&mut self, first: QueueOffset) -> usize {
        self.first = self.first.max(first.min(self.visible));
        let before = self.recent.len();
        while self.recent.front().is_some_and(|entry| entry.offset < self.first) {
            self.recent.pop_front();
        }
        before - self.recent.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delivery::testing::entry;

    #[test]
    fn a_message_is_not_shown_before_the_one_in_front_of_it() {
        let mut tail = QueueTail::restored(QueueOffset(0), QueueOffset(5));
        tail.accept(2);
        assert!(!tail.show(entry(6)));
        assert!(tail.show(entry(5)));
        assert!(!tail.show(entry(5)));
        assert!(tail.show(entry(6)));
        assert_eq!(tail.visible(), QueueOffset(7));
        assert_eq!(tail.recent(QueueOffset(6)), Some(entry(6)));
        assert_eq!(tail.recent(QueueOffset(4)), None);
        assert_eq!(tail.recent(QueueOffset(7)), None);
    }

    #[test]
    fn a_time_is_found_among_what_is_in_memory_only() {
        let mut tail = QueueTail::restored(QueueOffset(5), QueueOffset(5));
        tail.accept(5);
        for offset in 5..10 {
            assert!(tail.show(entry(offset)), "stored at its offset");
        }
        tail.forget_oldest();
        let of = |from: u64, at: u64| tail.first_at_or_after(QueueOffset(from), Timestamp(at)).map(QueueOffset::get);
        assert_eq!(of(5, 8), None);
        assert_eq!((of(6, 8), of(6, 3), of(9, 3)), (Some(8), Some(6), Some(9)));
        assert_eq!((of(6, 10), of(10, 0)), (Some(10), Some(10)));
    }

    #[test]
    fn trimming_never_passes_what_is_visible() {
        let mut tail = QueueTail::restored(QueueOffset(0), QueueOffset(2));
        tail.trim(QueueOffset(10));
        assert_eq!(tail.first(), QueueOffset(2));
    }
}
