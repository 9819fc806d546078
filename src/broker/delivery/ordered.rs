//! The ordered half of [`QueueLeases`]: giving from lanes, and what an end of one message means for those behind it.

use std::collections::BTreeSet;

use crate::broker::delivery::fifo::{Fence, Gate, Lanes, Ordering, Stage};
use crate::broker::delivery::lease::{Grant, LeaseTerms, Offered, QueueLeases, Slot, State};
use crate::broker::delivery::tail::QueueTail;
use crate::model::position::{GrantId, QueueOffset};
use crate::model::time::Timestamp;
use crate::store::QueueEntry;
use crate::store::record::LeaseState;

/// Who wants a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The member that asks.
    Here,
    /// Another member only.
    Elsewhere,
    /// No member that is known.
    Nobody,
    /// An expression must look at its properties before that can be said.
    Unjudged,
}

/// What one receive may get from lanes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Messages at most.
    pub max: usize,
    /// Messages that the group may have outstanding in the queue.
    pub outstanding_max: usize,
    /// The lease to give.
    pub terms: LeaseTerms,
}

impl QueueLeases {
    /// The lanes.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Changes what is delivered in order, without losing or repeating anything. Returns messages that are done by it: they were
    /// acknowledged, and waited for one in front of them.
    pub fn set_ordering(&mut self, ordering: Ordering) -> Vec<QueueOffset> {
        let mut settled = Vec::new();
        if self.lanes.ordering() == ordering {
            return settled;
        }
        let slots = std::mem::take(&mut self.slots);
        self.due.clear();
        self.ready.clear();
        self.leased = 0;
        self.lanes.switch(ordering);
        let mut keys = BTreeSet::new();
        for (offset, slot) in slots {
            let key = self.lanes.key_of(&slot.entry);
            if key == 0 && matches!(slot.state, State::Acked { .. }) {
                settled.push(offset);
                continue;
            }
            keys.insert(key);
            self.put(offset, slot);
        }
        for key in keys {
            self.settle_acked_front(key, &mut settled);
        }
        settled
    }

    /// Puts back what the folded state knows was passed over of a message group, and about how many messages that is.
    pub fn restore_lane(&mut self, order_key: u64, from: QueueOffset, count: u64) {
        self.lanes.restore(order_key, from, count);
    }

    /// Until when an ack by `grant` may be repeated, if it is that of a message which waits for one in front of it.
    #[must_use]
    pub fn acked_until(&self, offset: QueueOffset, grant: GrantId) -> Option<Timestamp> {
        match self.slots.get(&offset)?.state {
            State::Acked { grant: by, lease_end } if by == grant => Some(lease_end),
            _ => None,
        }
    }

    /// Whether a message was passed over, and is therefore not done although it lies before the position.
    #[must_use]
    pub fn is_parked(&self, order_key: u64, offset: QueueOffset) -> bool {
        order_key != 0 && self.lanes.is_parked(order_key, offset)
    }

    /// Whether acknowledged messages wait for one in front of them.
    #[must_use]
    pub fn has_acked(&self) -> bool {
        self.slots.values().any(|slot| matches!(slot.state, State::Acked { .. }))
    }

    /// Lets some lanes go on that waited at a gate.
    pub fn release_some_lanes(&mut self, gate: Gate, keys: &[u64]) {
        self.lanes.release_some(gate, keys);
    }

    /// Lets lanes go on that waited for what they left in another queue.
    pub fn release_lanes(&mut self, is_open: impl Fn(Gate) -> bool) {
        self.lanes.release(is_open);
    }

    /// Takes entries of a lane that were read from disk; see [`Lanes::read_back`].
    pub fn read_back(
        &mut self,
        order_key: u64,
        from: QueueOffset,
        entries: &[QueueEntry],
        complete: QueueOffset,
        tail: &QueueTail,
    ) {
        self.lanes.read_back(order_key, from, entries, complete, self.next, tail);
    }

    /// Lanes whose first passed-over message changed, for the record that carries the position.
    pub fn take_moved_lanes(&mut self) -> Vec<(u64, Option<QueueOffset>)> {
        self.lanes.take_moved()
    }

    /// Offers one entry that was never considered; it must be the one at `next`. Wanted by this client: granted. Wanted by
    /// another member: set aside. Wanted by nobody: done. One whose lane cannot go on now is passed over, or, when its lane is the
    /// queue, not considered: then false.
    pub fn offer(&mut self, entry: QueueEntry, want: Want, terms: LeaseTerms, out: &mut Offered) -> bool {
        self.offer_behind(&|_, _| Fence::Open, entry, want, terms, out)
    }

    /// The same, when lanes may have to wait for what they left in another queue.
    pub fn offer_behind(
        &mut self,
        fence_of: &impl Fn(u64, QueueOffset) -> Fence,
        entry: QueueEntry,
        want: Want,
        terms: LeaseTerms,
        out: &mut Offered,
    ) -> bool {
        debug_assert_eq!(entry.offset, self.next, "entries are considered in order, without gaps");
        if want == Want::Unjudged {
            return false;
        }
        let key = self.lanes.key_of(&entry);
        if key != 0 {
            return self.offer_ordered(key, entry, want, fence_of, terms, out);
        }
        self.next = entry.offset.next();
        match want {
            // Left from a time of order: what was passed over comes first, or the log could not say what was.
            Want::Here | Want::Elsewhere if self.lanes.has_backlog(entry.order_key) => {
                self.lanes.park(entry.order_key, entry);
            }
            Want::Here => {
                self.put(entry.offset, Slot { entry, attempt: 1, state: State::Leased(terms) });
                out.grants.push(Grant { entry, attempt: 1, terms });
            }
            Want::Elsewhere => {
                self.put(entry.offset, Slot { entry, attempt: 0, state: State::Ready { since: entry.stored_at } });
                out.set_aside.push(entry.offset);
            }
            Want::Nobody | Want::Unjudged => {}
        }
        true
    }

    /// Forgets everything below `first`, which is out of retention. Returns what is done by it above `first`: acknowledged messages
    /// that waited for one below.
    pub fn trim(&mut self, first: QueueOffset) -> Vec<QueueOffset> {
        let mut keys = BTreeSet::new();
        while let Some((&offset, _)) = self.slots.first_key_value() {
            if offset >= first {
                break;
            }
            keys.extend(self.take(offset).map(|slot| self.lanes.key_of(&slot.entry)));
        }
        self.advance(first);
        self.lanes.trim(first, self.next);
        let mut settled = Vec::new();
        for key in keys {
            self.settle_acked_front(key, &mut settled);
        }
        settled
    }

    /// Gives from lanes, the longest ready first: of each all that came back, in order, and then what was passed over.
    /// `fence_of`: whether a lane must wait for what it left in another queue.
    pub fn grant_lanes(
        &mut self,
        want: &impl Fn(&QueueEntry) -> Want,
        fence_of: &impl Fn(u64, QueueOffset) -> Fence,
        room: &Room,
        out: &mut Offered,
    ) {
        // A lane that becomes ready by what happens here has its turn at the next look.
        let (end, mut at) = (self.lanes.tickets_end(), None);
        while let Some((ticket, key)) = self.lanes.next_deliverable(at, end) {
            at = Some(ticket);
            if out.grants.len() >= room.max {
                return;
            }
            let first = self.lanes.first(key).unwrap_or_default();
            match fence_of(key, first) {
                Fence::Open => {}
                Fence::Until(gate) => {
                    self.lanes.hold(key, gate);
                    continue;
                }
                Fence::Behind => continue,
            }
            let (before, front) = (out.grants.len(), self.lanes.first(key));
            let is_given = self.grant_window(key, want, room, out) && self.grant_parked(key, want, fence_of, room, out);
            // Its first message is another one now, and those who want that may wait without knowing.
            out.parked_for_others |= out.grants.len() == before && self.lanes.first(key) != front;
            if !is_given {
                self.lanes.unload(key);
                continue;
            }
            if let Some(from) = self.lanes.missing(key) {
                if out.grants.is_empty() {
                    // Lanes behind it do not overtake: it would never be read back while they have something to give.
                    out.missing_lane = Some((key, from));
                    return;
                }
            } else if out.grants.len() > before {
                self.lanes.open(key, room.terms.grant);
            }
        }
    }

    /// False when the lane can give nothing behind its window now.
    fn grant_window(&mut self, key: u64, want: &impl Fn(&QueueEntry) -> Want, room: &Room, out: &mut Offered) -> bool {
        let before = out.grants.len();
        let mut whole = true;
        let window: Vec<QueueOffset> = self.lanes.window(key).map(|(offset, _)| offset).collect();
        for &offset in &window {
            let Some(slot) = self.slots.get(&offset).copied() else { continue };
            match want(&slot.entry) {
                // Nothing in front of it comes again: what it waited for was wanted by nobody. It was acknowledged, and is done.
                _ if matches!(slot.state, State::Acked { .. }) && self.lanes.is_front(key, offset) => {
                    self.take(offset);
                    out.skipped.push(offset);
                }
                Want::Here if whole && out.grants.len() < room.max => {
                    self.take(offset);
                    self.put_granted(offset, slot.entry, slot.attempt + 1, room.terms, out);
                }
                // Whoever wanted it is gone; it must not hold up what is behind it.
                Want::Nobody => {
                    self.take(offset);
                    out.skipped.push(offset);
                }
                Want::Here | Want::Elsewhere | Want::Unjudged => {
                    whole = false;
                    // One in front of it is delivered again, and so it comes again, too, when its turn comes (rule C12).
                    if out.grants.len() > before && matches!(slot.state, State::Acked { .. }) {
                        self.take(offset);
                        let since = slot.entry.stored_at;
                        self.put(offset, Slot { state: State::Ready { since }, ..slot });
                        out.unacked.push((offset, slot.attempt));
                    }
                }
            }
        }
        self.settle_acked_front(key, &mut out.skipped);
        whole && out.grants.len() < room.max
    }

    /// False when a message behind the window stays where it is.
    fn grant_parked(
        &mut self,
        key: u64,
        want: &impl Fn(&QueueEntry) -> Want,
        fence_of: &impl Fn(u64, QueueOffset) -> Fence,
        room: &Room,
        out: &mut Offered,
    ) -> bool {
        while let Some(entry) = self.lanes.parked_front(key) {
            // Between two messages of a lane the message group may have been elsewhere.
            match fence_of(key, entry.offset) {
                Fence::Open => {}
                Fence::Until(gate) => {
                    self.lanes.hold(key, gate);
                    return false;
                }
                Fence::Behind => return false,
            }
            match want(&entry) {
                Want::Here if out.grants.len() < room.max && self.slots.len() < room.outstanding_max => {
                    self.lanes.pop_parked(key);
                    self.put_granted(entry.offset, entry, 1, room.terms, out);
                }
                Want::Nobody => {
                    self.lanes.pop_parked(key);
                }
                Want::Unjudged => {
                    // Those behind it, too, or the lane would be judged one message at a time.
                    for entry in self.lanes.parked(key) {
                        want(entry);
                    }
                    return false;
                }
                Want::Here | Want::Elsewhere => return false,
            }
        }
        true
    }

    fn put_granted(
        &mut self,
        offset: QueueOffset,
        entry: QueueEntry,
        attempt: u32,
        terms: LeaseTerms,
        out: &mut Offered,
    ) {
        self.put(offset, Slot { entry, attempt, state: State::Leased(terms) });
        out.grants.push(Grant { entry, attempt, terms });
    }

    /// Offers the entry at `next` to its lane. False when the queue must wait for the lane: nothing was considered.
    pub(super) fn offer_ordered(
        &mut self,
        key: u64,
        entry: QueueEntry,
        want: Want,
        fence_of: &impl Fn(u64, QueueOffset) -> Fence,
        terms: LeaseTerms,
        out: &mut Offered,
    ) -> bool {
        let is_next = self.lanes.may_append(key, terms.grant);
        let fence = if is_next { fence_of(key, entry.offset) } else { Fence::Behind };
        let may_append = fence == Fence::Open;
        match want {
            Want::Here if may_append => {
                self.next = entry.offset.next();
                self.put_granted(entry.offset, entry, 1, terms, out);
                self.lanes.open(key, terms.grant);
            }
            Want::Nobody => self.next = entry.offset.next(),
            Want::Unjudged => return false,
            Want::Here | Want::Elsewhere => {
                out.parked_for_others |= want == Want::Elsewhere && may_append;
                if self.lanes.ordering() == Ordering::WholeQueue {
                    return false;
                }
                self.next = entry.offset.next();
                self.lanes.park(key, entry);
                if let Fence::Until(gate @ Gate::Shard { .. }) = fence {
                    // At once: whoever asks the other shard must find it.
                    self.lanes.hold(key, gate);
                }
            }
        }
        true
    }

    /// Acknowledges a current delivery. It is done, and with it those behind it that were acknowledged before; or it waits for
    /// one in front of it: then its attempts and new state are returned.
    pub fn ack(&mut self, offset: QueueOffset, settled: &mut Vec<QueueOffset>) -> Option<(u32, LeaseState)> {
        let slot = self.slots.get(&offset).copied()?;
        let key = self.lanes.key_of(&slot.entry);
        let State::Leased(terms) = slot.state else { return None };
        if key == 0 || self.lanes.front(key).is_none_or(|(front, _)| front == offset) {
            self.settle(offset, settled);
            return None;
        }
        let (grant, lease_end) = (terms.grant, terms.deadline);
        self.take(offset);
        self.put(offset, Slot { state: State::Acked { grant, lease_end }, ..slot });
        Some((slot.attempt, LeaseState::Acked { grant, lease_end }))
    }

    /// The client of a current delivery cannot do it before `visible_at`, which is no failure: the attempt does not count.
    /// Attempts so far.
    pub fn suspend(&mut self, offset: QueueOffset, visible_at: Timestamp) -> Option<u32> {
        let slot = self.take(offset)?;
        let attempt = slot.attempt.saturating_sub(1);
        self.put(offset, Slot { attempt, state: State::Waiting { visible_at }, ..slot });
        Some(attempt)
    }

    /// The message is done, and with it those behind it that were acknowledged and waited for it. True if it was outstanding.
    pub fn settle(&mut self, offset: QueueOffset, settled: &mut Vec<QueueOffset>) -> bool {
        let Some(slot) = self.take(offset) else { return false };
        settled.push(offset);
        self.settle_acked_front(self.lanes.key_of(&slot.entry), settled);
        true
    }

    /// What would be done with this message, itself included.
    #[must_use]
    pub fn settles_with(&self, offset: QueueOffset) -> Vec<QueueOffset> {
        let Some(slot) = self.slots.get(&offset) else { return Vec::new() };
        let key = self.lanes.key_of(&slot.entry);
        let mut done = vec![offset];
        if key != 0 && self.lanes.front(key).is_some_and(|(front, _)| front == offset) {
            let behind = self.lanes.window(key).skip(1).take_while(|(_, stage)| *stage == Stage::Acked);
            done.extend(behind.map(|(offset, _)| offset));
        }
        done
    }

    pub(super) fn settle_acked_front(&mut self, key: u64, settled: &mut Vec<QueueOffset>) {
        if key == 0 {
            return;
        }
        while let Some((offset, Stage::Acked)) = self.lanes.front(key) {
            self.take(offset);
            settled.push(offset);
        }
    }

    /// Tag hash of what a member could get now that this message is ready; `None` when its lane still waits for another.
    pub(super) fn deliverable_hash(&self, slot: &Slot) -> Option<u32> {
        let key = self.lanes.key_of(&slot.entry);
        if key == 0 {
            return Some(slot.entry.tag_hash);
        }
        let (front, _) = self.lanes.front(key)?;
        self.lanes.is_deliverable(key).then(|| self.slots.get(&front).map_or(slot.entry.tag_hash, |s| s.entry.tag_hash))
    }
}
