//! What one pull collects from a queue: entries in order from an offset on, those that its filter may want. Pure.

use crate::broker::delivery::tail::QueueTail;
use crate::model::filter::Filter;
use crate::model::position::QueueOffset;
use crate::store::QueueEntry;

/// Most bytes of bodies in one answer, unless the first message alone has more: an answer is held in memory as a whole.
const BODIES_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Entries considered per look, so that the lock is held for a bounded time.
const SCAN_MAX: usize = 4096;

/// Why a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The answer is full.
    Full,
    /// Nothing more is visible.
    End,
    /// Entries from here on must be read from disk.
    Disk(QueueOffset),
    /// There is more to consider.
    More,
}

/// A pull under way.
#[derive(Debug)]
pub struct Gather<'a> {
    filter: &'a Filter,
    max: usize,
    bytes: u64,
    full: bool,
    /// First offset that was not considered yet.
    pub next: QueueOffset,
    /// Entries that may be wanted, in order.
    pub found: Vec<QueueEntry>,
}

impl<'a> Gather<'a> {
    /// Nothing yet; `max` is at least 1.
    #[must_use]
    pub fn new(filter: &'a Filter, max: usize, from: QueueOffset) -> Self {
        Self { filter, max, bytes: 0, full: false, next: from, found: Vec::new() }
    }

    /// Considers what is in memory.
    pub fn look(&mut self, tail: &QueueTail) -> Stop {
        // Out of retention while this pull was under way: what is gone is passed over.
        self.next = self.next.max(tail.first());
        for _ in 0..SCAN_MAX {
            if self.full {
                return Stop::Full;
            }
            if self.next >= tail.visible() {
                return Stop::End;
            }
            let Some(entry) = tail.recent(self.next) else { return Stop::Disk(self.next) };
            self.offer(entry);
        }
        if self.full { Stop::Full } else { Stop::More }
    }

    /// Considers the next entry. One that does not fit any more is left for the next pull.
    pub fn offer(&mut self, entry: QueueEntry) {
        if self.full {
            return;
        }
        if self.filter.may_match(entry.tag_hash) {
            let bytes = self.bytes + u64::from(entry.body_bytes);
            if bytes > BODIES_BYTES_MAX && !self.found.is_empty() {
                self.full = true;
                return;
            }
            self.bytes = bytes;
            self.found.push(entry);
            self.full = self.found.len() >= self.max;
        }
        self.next = entry.offset.next();
    }

    /// What is wanted.
    #[must_use]
    pub fn filter(&self) -> &'a Filter {
        self.filter
    }

    /// Goes on behind `next` with nothing found: what looked right was not.
    pub fn clear(&mut self) {
        self.found.clear();
        self.bytes = 0;
        self.full = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delivery::testing::{entry, tagged};
    use crate::model::tag::tag_hash;

    fn tail(count: u64) -> QueueTail {
        let mut tail = QueueTail::restored(QueueOffset(0), QueueOffset(0));
        tail.accept(count);
        for offset in 0..count {
            assert!(tail.show(entry(offset)));
        }
        tail
    }

    fn offsets(gather: &Gather<'_>) -> Vec<u64> {
        gather.found.iter().map(|entry| entry.offset.get()).collect()
    }

    #[test]
    fn a_full_answer_leaves_the_rest_for_the_next_pull() {
        let mut gather = Gather::new(&Filter::ALL, 3, QueueOffset(1));
        assert_eq!(gather.look(&tail(10)), Stop::Full);
        assert_eq!((offsets(&gather), gather.next), (vec![1, 2, 3], QueueOffset(4)));
    }

    #[test]
    fn bodies_beyond_the_bound_wait_but_one_message_always_goes() {
        let large = |offset| QueueEntry { body_bytes: 17 * 1024 * 1024, ..entry(offset) };
        let mut gather = Gather::new(&Filter::ALL, 32, QueueOffset(0));
        gather.offer(large(0));
        gather.offer(large(1));
        gather.offer(entry(2));
        assert_eq!((offsets(&gather), gather.next), (vec![0], QueueOffset(1)), "nothing behind the one left out");
    }

    #[test]
    fn what_nobody_wants_is_passed_and_never_seen_again() {
        let filter = Filter::Tags(crate::model::tag::TagFilter::parse("blue").unwrap());
        let mut gather = Gather::new(&filter, 32, QueueOffset(0));
        for offset in 0..5 {
            gather.offer(tagged(offset, if offset == 3 { tag_hash("blue") } else { 0 }));
        }
        assert_eq!((offsets(&gather), gather.next), (vec![3], QueueOffset(5)));
    }

    #[test]
    fn what_left_memory_is_read_from_disk_and_what_left_the_queue_is_passed() {
        let mut tail = tail(10);
        tail.forget_oldest();
        let mut gather = Gather::new(&Filter::ALL, 32, QueueOffset(0));
        assert_eq!(gather.look(&tail), Stop::Disk(QueueOffset(0)));
        tail.trim(QueueOffset(4));
        assert_eq!(gather.look(&tail), Stop::End);
        assert_eq!((offsets(&gather), gather.next), ((4..10).collect(), QueueOffset(10)));
    }

    #[test]
    fn a_long_way_is_taken_in_bounded_looks() {
        let nothing = Filter::Tags(crate::model::tag::TagFilter::parse("none").unwrap());
        let tail = tail(SCAN_MAX as u64 + 1);
        let mut gather = Gather::new(&nothing, 1, QueueOffset(0));
        assert_eq!(gather.look(&tail), Stop::More);
        assert_eq!(gather.look(&tail), Stop::End);
    }
}
