//! One queue of a subscription: what comes next in it, considering that, and dropping what was considered for others in vain.

use std::collections::VecDeque;

use crate::broker::delivery::fifo::Fence;
use crate::broker::delivery::lease::{Offered, QueueLeases};
use crate::broker::delivery::ordered::{Room, Want};
use crate::broker::delivery::subscription::{JUDGED_AHEAD, Look, Missing, QueueState, SCAN_MAX, SET_ASIDE_MAX, Wish};
use crate::broker::delivery::tail::QueueTail;
use crate::model::position::QueueOffset;
use crate::store::QueueEntry;

/// The same once there is something to give: a member that is busy need not look far ahead for lanes that are free.
const SCAN_AHEAD_MAX: usize = 256;

impl QueueState {
    /// A queue that begins at `next`, as the folded state or a new subscription says.
    #[must_use]
    pub fn starting_at(next: QueueOffset) -> Self {
        Self { leases: QueueLeases::starting_at(next), recorded_next: next, ..Self::default() }
    }

    /// Whether a queue that is one lane can be given out of: nothing of it is with a client, waiting or dying, and there is more.
    #[must_use]
    pub fn lane_has_more(&self, tail: &QueueTail) -> bool {
        self.leases.lanes().has_deliverable()
            || (self.leases.outstanding() == 0 && self.leases.next().max(tail.first()) < tail.visible())
    }

    /// Looks at a queue that is one lane for at most `max` messages, in order.
    pub fn look_lane(&mut self, tail: &QueueTail, wish: &Wish<'_>, max: usize) -> Look {
        let mut found = Look::default();
        if !self.lane_has_more(tail) {
            return found;
        }
        let (want, is_fenced) = (|_: &QueueEntry| Want::Here, |_, _| Fence::Open);
        let room = Room { max, outstanding_max: wish.outstanding_max, terms: wish.terms };
        let mut out = Offered::default();
        self.leases.grant_lanes(&want, &is_fenced, &room, &mut out);
        self.consider(tail, &want, &is_fenced, &room, &mut out, &mut found);
        if !out.grants.is_empty() {
            // Nothing more is given of it for a while, and there may be very many like it.
            self.read_ahead = VecDeque::new();
        }
        found.grants = out.grants;
        found.unwanted = out.skipped;
        found.unacked = out.unacked;
        found
    }

    /// From where on a queue that is one lane must be read from disk before it can be given out of.
    #[must_use]
    pub fn lane_missing(&self, tail: &QueueTail) -> Option<QueueOffset> {
        let next = self.leases.next().max(tail.first());
        let is_known = || self.read_ahead.iter().any(|entry| entry.offset == next);
        let wants_next = self.leases.outstanding() == 0 && next < tail.visible();
        (wants_next && tail.recent(next).is_none() && !is_known()).then_some(next)
    }

    /// Considers entries that were never considered, in order.
    pub(super) fn consider(
        &mut self,
        tail: &QueueTail,
        want: &impl Fn(&QueueEntry) -> Want,
        fence_of: &impl Fn(u64, QueueOffset) -> Fence,
        room: &Room,
        out: &mut Offered,
        found: &mut Look,
    ) {
        // A queue that came later, or one that was trimmed before the group saw it, has no position of its own yet.
        self.leases.advance(tail.first());
        let mut considered = 0;
        while out.grants.len() < room.max {
            let next = self.leases.next();
            let is_full = self.leases.outstanding() >= room.outstanding_max
                || self.leases.lanes().count() >= room.outstanding_max
                || self.leases.set_aside() >= SET_ASIDE_MAX;
            if next >= tail.visible() || is_full {
                break;
            }
            if considered >= if out.grants.is_empty() { SCAN_MAX } else { SCAN_AHEAD_MAX } {
                found.more = true;
                break;
            }
            considered += 1;
            let Some(entry) = self.entry_at_next(tail) else {
                found.missing = Some(Missing::Queue(next));
                break;
            };
            let wanted = want(&entry);
            if wanted == Want::Unjudged {
                found.unjudged = self.unjudged(tail, want);
                break;
            }
            if !self.leases.offer_behind(fence_of, entry, wanted, room.terms, out) {
                // The queue waits for its one lane; the entry is kept for the next look.
                break;
            }
        }
    }

    /// The entry at the position. It stays: what must wait or be judged is not considered yet.
    pub(super) fn entry_at_next(&mut self, tail: &QueueTail) -> Option<QueueEntry> {
        let next = self.leases.next();
        if let Some(entry) = tail.recent(next) {
            return Some(entry);
        }
        while let Some(entry) = self.read_ahead.front() {
            if entry.offset == next {
                return Some(*entry);
            }
            if entry.offset > next {
                // Does not connect: read for an older position.
                self.read_ahead.clear();
                return None;
            }
            self.read_ahead.pop_front();
        }
        None
    }

    /// Messages from the position on that must be judged, as far as their entries are in memory.
    pub(super) fn unjudged(&self, tail: &QueueTail, want: &impl Fn(&QueueEntry) -> Want) -> Vec<QueueEntry> {
        let next = self.leases.next();
        let ahead = self.read_ahead.iter().copied().filter(|entry| entry.offset >= next);
        let first_recent = self.read_ahead.back().map_or(next, |entry| entry.offset.next().max(next));
        let recent = (first_recent.get()..tail.visible().get()).map_while(|offset| tail.recent(QueueOffset(offset)));
        ahead.chain(recent).take(JUDGED_AHEAD).filter(|entry| want(entry) == Want::Unjudged).collect()
    }
}

impl QueueLeases {
    /// Ends messages that were set aside, never delivered, and are wanted by nobody any more.
    pub fn drop_unwanted(&mut self, wanted: impl Fn(&QueueEntry) -> bool) -> Vec<QueueOffset> {
        let unwanted: Vec<QueueOffset> = self
            .ready
            .iter()
            .filter(|offset| self.slots.get(offset).is_some_and(|slot| slot.attempt == 0 && !wanted(&slot.entry)))
            .copied()
            .collect();
        for offset in &unwanted {
            self.take(*offset);
        }
        unwanted
    }
}
