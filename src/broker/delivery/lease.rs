//! What one group has outstanding in one queue. Pure: takes `now`, returns what happened; writes and wakes nothing.
//!
//! State is one number and one map. `next` is the first offset that was never considered; `slots` holds every offset below
//! it that is not done. An offset below `next` without a slot is done, so nothing else needs to be remembered.
//!
//! I-1: a slot is in `due` exactly when it is leased or waiting, under its own instant; in `ready` exactly when it is ready.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::position::{GrantId, HolderId, QueueOffset};
use crate::model::tag::TagFilter;
use crate::model::time::Timestamp;
use crate::store::QueueEntry;
use crate::store::record::LeaseState;

/// Holder of a lease that its client has put back for a while: it ends at its time, whatever becomes of the client.
pub const NOBODY: HolderId = HolderId(0);

/// A lease as it is granted: the same for all messages of one receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// When it ends by itself.
    pub deadline: Timestamp,
    /// The granting.
    pub grant: GrantId,
    /// Client.
    pub holder: HolderId,
    /// Whether it also ends with the client.
    pub auto_renew: bool,
    /// Hash of client and attempt id; 0: none.
    pub attempt_key: u64,
}

impl LeaseTerms {
    /// As a record says it.
    #[must_use]
    pub fn state(&self) -> LeaseState {
        LeaseState::Leased {
            deadline: self.deadline,
            grant: self.grant,
            holder: self.holder,
            auto_renew: self.auto_renew,
            attempt_key: self.attempt_key,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Leased(LeaseTerms),
    Waiting {
        visible_at: Timestamp,
    },
    /// Deliverable, and since when.
    Ready {
        since: Timestamp,
    },
    /// Out of attempts, or forwarded: on its way to the dead-letter topic; nobody gets it any more.
    Dying,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    entry: QueueEntry,
    attempt: u32,
    state: State,
}

/// A message given to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The message.
    pub entry: QueueEntry,
    /// Delivery attempt, from 1.
    pub attempt: u32,
    /// The lease.
    pub terms: LeaseTerms,
}

/// What became of messages whose time had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Tag hashes of messages that are deliverable again.
    pub ready: Vec<u32>,
    /// Messages that have used up their attempts.
    pub dying: Vec<QueueOffset>,
}

/// What a handle names, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The current delivery, within its time.
    Current {
        /// Its lease.
        terms: LeaseTerms,
        /// Its attempt.
        attempt: u32,
    },
    /// Done for the group.
    Done,
    /// Superseded, expired, waiting, dying, or never delivered.
    Stale,
}

/// How a change of the invisible duration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Stays with its client until the new deadline.
    Extended,
    /// Put back; deliverable from then on.
    Waiting,
    /// Put back and deliverable at once; its tag hash.
    Ready(u32),
    /// Put back without attempts left.
    Dying,
}

/// Result of offering never-considered entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Given to the client.
    pub grants: Vec<Grant>,
    /// Kept for other members, whose filters want them.
    pub set_aside: Vec<QueueOffset>,
}

/// Counts for lag and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With clients.
    pub leased: u64,
    /// Waiting for their time, or dying.
    pub waiting: u64,
    /// Deliverable again.
    pub ready: u64,
}

/// The outstanding messages of one group in one queue.
#[derive(Debug, Default)]
pub struct QueueLeases {
    next: QueueOffset,
    slots: BTreeMap<QueueOffset, Slot>,
    due: BTreeSet<(Timestamp, QueueOffset)>,
    ready: BTreeSet<QueueOffset>,
    leased: u64,
}

impl QueueLeases {
    /// Nothing outstanding, beginning at `next`.
    #[must_use]
    pub fn starting_at(next: QueueOffset) -> Self {
        Self { next, ..Self::default() }
    }

    /// Puts back what the folded state knows. A lease whose time has passed returns at the next [`QueueLeases::fall_due`].
    pub fn restore(&mut self, entry: QueueEntry, attempt: u32, lease: LeaseState) {
        let state = match lease {
            LeaseState::Leased { deadline, grant, holder, auto_renew, attempt_key } => {
                State::Leased(LeaseTerms { deadline, grant, holder, auto_renew, attempt_key })
            }
            LeaseState::Waiting { visible_at } => State::Waiting { visible_at },
        };
        self.put(entry.offset, Slot { entry, attempt, state });
    }

    /// First offset that was never considered.
    #[must_use]
    pub fn next(&self) -> QueueOffset {
        self.next
    }

    /// Moves `next`; what lies between is done.
    pub fn advance(&mut self, next: QueueOffset) {
        self.next = self.next.max(next);
    }

    /// Messages that are not done.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.slots.len()
    }

    /// Counts by state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let ready = self.ready.len() as u64;
        let waiting = (self.slots.len() as u64).saturating_sub(self.leased).saturating_sub(ready);
        Counts { leased: self.leased, waiting, ready }
    }

    /// When the oldest message that is not done was stored.
    #[must_use]
    pub fn oldest_outstanding(&self) -> Option<Timestamp> {
        self.slots.first_key_value().map(|(_, slot)| slot.entry.stored_at)
    }

    /// Earliest instant at which something falls due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether a message was set aside, or given back, without ever being delivered.
    #[must_use]
    pub fn has_undelivered(&self) -> bool {
        self.slots.values().any(|slot| slot.attempt == 0)
    }

    /// Whether something is deliverable again.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Since when the message waits that [`QueueLeases::grant_ready`] would grant first.
    #[must_use]
    pub fn first_ready(&self, filter: &TagFilter) -> Option<Timestamp> {
        self.ready.iter().find_map(|offset| match self.slots.get(offset)? {
            Slot { state: State::Ready { since }, entry, .. } if filter.may_match(entry.tag_hash) => Some(*since),
            _ => None,
        })
    }

    /// Moves everything whose time has come. With no attempt left a message dies instead of becoming ready.
    pub fn fall_due(&mut self, now: Timestamp, max_attempts: u32) -> Due {
        let mut due = Due::default();
        while let Some(&(at, offset)) = self.due.first() {
            if at > now {
                break;
            }
            match self.put_back(offset, max_attempts, Some(at)) {
                Some(Changed::Ready(hash)) => due.ready.push(hash),
                Some(Changed::Dying) => due.dying.push(offset),
                _ => {
                    // I-1 broken would loop for ever; dropping the entry cannot lose the slot itself.
                    self.due.remove(&(at, offset));
                }
            }
        }
        due
    }

    /// Ends every auto-renewed lease of clients that are gone. Returns what became of them, with attempts for the records.
    pub fn release_holders(&mut self, gone: &BTreeSet<HolderId>, max_attempts: u32) -> (Due, Vec<(QueueOffset, u32)>) {
        if self.leased == 0 {
            return (Due::default(), Vec::new());
        }
        let held: Vec<QueueOffset> = self
            .slots
            .iter()
            .filter(
                |(_, slot)| matches!(slot.state, State::Leased(terms) if terms.auto_renew && gone.contains(&terms.holder)),
            )
            .map(|(offset, _)| *offset)
            .collect();
        let mut due = Due::default();
        let mut released = Vec::with_capacity(held.len());
        for offset in held {
            let attempt = self.slots.get(&offset).map_or(0, |slot| slot.attempt);
            match self.put_back(offset, max_attempts, None) {
                Some(Changed::Ready(hash)) => due.ready.push(hash),
                Some(Changed::Dying) => due.dying.push(offset),
                _ => continue,
            }
            released.push((offset, attempt));
        }
        (due, released)
    }

    /// Every client that holds an auto-renewed lease here.
    pub fn holders(&self) -> impl Iterator<Item = HolderId> + '_ {
        self.slots.values().filter_map(|slot| match slot.state {
            State::Leased(terms) if terms.auto_renew && terms.holder != NOBODY => Some(terms.holder),
            _ => None,
        })
    }

    /// Grants messages that came back and match, oldest first, at most `max`.
    pub fn grant_ready(&mut self, filter: &TagFilter, max: usize, terms: LeaseTerms) -> Vec<Grant> {
        if self.ready.is_empty() || max == 0 {
            return Vec::new();
        }
        let chosen: Vec<QueueOffset> = self
            .ready
            .iter()
            .filter(|offset| self.slots.get(offset).is_some_and(|slot| filter.may_match(slot.entry.tag_hash)))
            .take(max)
            .copied()
            .collect();
        let mut grants = Vec::with_capacity(chosen.len());
        for offset in chosen {
            if let Some(slot) = self.take(offset) {
                let attempt = slot.attempt + 1;
                self.put(offset, Slot { entry: slot.entry, attempt, state: State::Leased(terms) });
                grants.push(Grant { entry: slot.entry, attempt, terms });
            }
        }
        grants
    }

    /// Offers one entry that was never considered; it must be the one at `next`. Wanted by this client: granted. Wanted by
    /// another member: set aside. Wanted by nobody: done.
    pub fn offer(
        &mut self,
        entry: QueueEntry,
        wanted_here: bool,
        wanted_elsewhere: bool,
        terms: LeaseTerms,
        out: &mut Offered,
    ) {
        debug_assert_eq!(entry.offset, self.next, "entries are considered in order, without gaps");
        self.next = entry.offset.next();
        if wanted_here {
            self.put(entry.offset, Slot { entry, attempt: 1, state: State::Leased(terms) });
            out.grants.push(Grant { entry, attempt: 1, terms });
        } else if wanted_elsewhere {
            self.put(entry.offset, Slot { entry, attempt: 0, state: State::Ready { since: entry.stored_at } });
            out.set_aside.push(entry.offset);
        }
    }

    /// Ends messages that were set aside, never delivered, and are wanted by nobody any more.
    pub fn drop_unwanted(&mut self, wanted: impl Fn(u32) -> bool) -> Vec<QueueOffset> {
        let unwanted: Vec<QueueOffset> = self
            .ready
            .iter()
            .filter(|offset| {
                self.slots.get(offset).is_some_and(|slot| slot.attempt == 0 && !wanted(slot.entry.tag_hash))
            })
            .copied()
            .collect();
        for offset in &unwanted {
            self.take(*offset);
        }
        unwanted
    }

    /// What a handle names.
    #[must_use]
    pub fn standing(&self, offset: QueueOffset, grant: GrantId, now: Timestamp) -> Standing {
        match self.slots.get(&offset) {
            Some(Slot { state: State::Leased(terms), attempt, .. }) if terms.grant == grant && now < terms.deadline => {
                Standing::Current { terms: *terms, attempt: *attempt }
            }
            Some(_) => Standing::Stale,
            None if offset < self.next => Standing::Done,
            None => Standing::Stale,
        }
    }

    /// The grant of a current lease, for repeating an attempt.
    #[must_use]
    pub fn repeat(&self, offset: QueueOffset, grant: GrantId, now: Timestamp) -> Option<Grant> {
        match self.slots.get(&offset) {
            Some(Slot { state: State::Leased(terms), attempt, entry })
                if terms.grant == grant && now < terms.deadline =>
            {
                Some(Grant { entry: *entry, attempt: *attempt, terms: *terms })
            }
            _ => None,
        }
    }

    /// Every current lease that was granted for an attempt id, for rebuilding the index after a restart.
    pub fn keyed_leases(&self) -> impl Iterator<Item = (u64, QueueOffset, GrantId)> + '_ {
        self.slots.iter().filter_map(|(offset, slot)| match slot.state {
            State::Leased(terms) if terms.attempt_key != 0 => Some((terms.attempt_key, *offset, terms.grant)),
            _ => None,
        })
    }

    /// The message is done. True if it was outstanding.
    pub fn settle(&mut self, offset: QueueOffset) -> bool {
        self.take(offset).is_some()
    }

    /// The client of a current delivery keeps it until `deadline`; from here on its life does not matter.
    pub fn extend(&mut self, offset: QueueOffset, deadline: Timestamp) {
        if let Some(mut slot) = self.take(offset) {
            if let State::Leased(terms) = &mut slot.state {
                terms.deadline = deadline;
                terms.holder = NOBODY;
            }
            self.put(offset, slot);
        }
    }

    /// The client of a current delivery puts it back until `visible_at`.
    pub fn nack(
        &mut self,
        offset: QueueOffset,
        visible_at: Timestamp,
        now: Timestamp,
        max_attempts: u32,
    ) -> Option<Changed> {
        let slot = self.take(offset)?;
        let (state, changed) = if slot.attempt >= max_attempts {
            (State::Dying, Changed::Dying)
        } else if visible_at <= now {
            (State::Ready { since: now }, Changed::Ready(slot.entry.tag_hash))
        } else {
            (State::Waiting { visible_at }, Changed::Waiting)
        };
        self.put(offset, Slot { state, ..slot });
        Some(changed)
    }

    /// A delivery that never reached its client: the attempt does not count. Attempts so far and tag hash, if it was current.
    pub fn give_back(&mut self, offset: QueueOffset, grant: GrantId) -> Option<(u32, u32)> {
        match self.slots.get(&offset) {
            Some(Slot { state: State::Leased(terms), .. }) if terms.grant == grant => {}
            _ => return None,
        }
        let slot = self.take(offset)?;
        let attempt = slot.attempt.saturating_sub(1);
        self.put(offset, Slot { attempt, state: State::Ready { since: slot.entry.stored_at }, ..slot });
        Some((attempt, slot.entry.tag_hash))
    }

    /// Marks a message as on its way to the dead-letter topic.
    pub fn condemn(&mut self, offset: QueueOffset) {
        if let Some(slot) = self.take(offset) {
            self.put(offset, Slot { state: State::Dying, ..slot });
        }
    }

    /// A message on its way to the dead-letter topic: where it lies and its attempts.
    #[must_use]
    pub fn dying(&self, offset: QueueOffset) -> Option<(QueueEntry, u32)> {
        match self.slots.get(&offset) {
            Some(Slot { state: State::Dying, entry, attempt }) => Some((*entry, *attempt)),
            _ => None,
        }
    }

    /// Forgets everything below `first`, which is out of retention.
    pub fn trim(&mut self, first: QueueOffset) {
        while let Some((&offset, _)) = self.slots.first_key_value() {
            if offset >= first {
                break;
            }
            self.take(offset);
        }
        self.advance(first);
    }

    fn put_back(&mut self, offset: QueueOffset, max_attempts: u32, since: Option<Timestamp>) -> Option<Changed> {
        let slot = self.take(offset)?;
        let (state, changed) = if slot.attempt >= max_attempts {
            (State::Dying, Changed::Dying)
        } else {
            (State::Ready { since: since.unwrap_or(slot.entry.stored_at) }, Changed::Ready(slot.entry.tag_hash))
        };
        self.put(offset, Slot { state, ..slot });
        Some(changed)
    }

    fn put(&mut self, offset: QueueOffset, slot: Slot) {
        match slot.state {
            State::Leased(terms) => {
                self.due.insert((terms.deadline, offset));
                self.leased += 1;
            }
            State::Waiting { visible_at } => {
                self.due.insert((visible_at, offset));
            }
            State::Ready { .. } => {
                self.ready.insert(offset);
            }
            State::Dying => {}
        }
        self.slots.insert(offset, slot);
    }

    fn take(&mut self, offset: QueueOffset) -> Option<Slot> {
        let slot = self.slots.remove(&offset)?;
        match slot.state {
            State::Leased(terms) => {
                self.due.remove(&(terms.deadline, offset));
                self.leased -= 1;
            }
            State::Waiting { visible_at } => {
                self.due.remove(&(visible_at, offset));
            }
            State::Ready { .. } => {
                self.ready.remove(&offset);
            }
            State::Dying => {}
        }
        Some(slot)
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
