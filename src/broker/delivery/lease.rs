//! What one group has outstanding in one queue. Pure: takes `now`, returns what happened; writes and wakes nothing.
//!
//! State is one number and one map. `next` is the first offset that was never considered; `slots` holds every offset below
//! it that is not done. An offset below `next` without a slot is done, so nothing else needs to be remembered.
//!
//! I-1: a slot is in `due` exactly when it is leased or waiting, under its own instant; in `ready`, or ready in its lane, exactly when it is ready.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::delivery::fifo::{Lanes, Stage};
use crate::model::position::{GrantId, HolderId, QueueOffset};
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
pub(super) enum State {
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
    /// Acknowledged before one in front of it in its lane.
    Acked {
        grant: GrantId,
        lease_end: Timestamp,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) entry: QueueEntry,
    pub(super) attempt: u32,
    pub(super) state: State,
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
    /// Put back; deliverable from then on, or when its lane can go on.
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
    /// Done, because nobody wants them any more.
    pub skipped: Vec<QueueOffset>,
    /// Acknowledged before, and to be delivered again behind one that came back; with their attempts.
    pub unacked: Vec<(QueueOffset, u32)>,
    /// A lane that must be read from disk before it, and the queue, can go on; and from where.
    pub missing_lane: Option<(u64, QueueOffset)>,
    /// A lane waits for another member, which may not know.
    pub parked_for_others: bool,
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
    pub(super) next: QueueOffset,
    pub(super) slots: BTreeMap<QueueOffset, Slot>,
    pub(super) due: BTreeSet<(Timestamp, QueueOffset)>,
    /// Of free messages; those of lanes are in `lanes`.
    pub(super) ready: BTreeSet<QueueOffset>,
    pub(super) leased: u64,
    pub(super) lanes: Lanes,
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
            // Given back, set aside, or acknowledged and to be delivered again: whatever its attempts, it is not exhausted.
            LeaseState::Waiting { visible_at: Timestamp(0) } => State::Ready { since: entry.stored_at },
            LeaseState::Waiting { visible_at } => State::Waiting { visible_at },
            LeaseState::Acked { grant, lease_end } => State::Acked { grant, lease_end },
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

    /// Whether a message is not done.
    #[must_use]
    pub fn is_outstanding(&self, offset: QueueOffset) -> bool {
        self.slots.contains_key(&offset)
    }

    /// Messages that are not done.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.slots.len()
    }

    /// Counts by state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (lanes_ready, acked, parked) = self.lanes.counts();
        let ready = self.ready.len() as u64 + lanes_ready;
        let waiting = (self.slots.len() as u64).saturating_sub(self.leased).saturating_sub(ready + acked);
        Counts { leased: self.leased, waiting, ready: ready + parked }
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
        !self.ready.is_empty() || self.lanes.has_deliverable()
    }

    /// Free messages that are deliverable again or set aside.
    #[must_use]
    pub fn set_aside(&self) -> usize {
        self.ready.len()
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
                // Its lane waits for another message.
                Some(Changed::Waiting) => {}
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
                Some(Changed::Waiting) => {}
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
    pub fn grant_ready(
        &mut self,
        mut wants: impl FnMut(&QueueEntry) -> bool,
        max: usize,
        terms: LeaseTerms,
    ) -> Vec<Grant> {
        if self.ready.is_empty() || max == 0 {
            return Vec::new();
        }
        let chosen: Vec<QueueOffset> = self
            .ready
            .iter()
            .filter(|offset| self.slots.get(offset).is_some_and(|slot| wants(&slot.entry)))
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

    /// What a handle names.
    #[must_use]
    pub fn standing(&self, offset: QueueOffset, grant: GrantId, now: Timestamp) -> Standing {
        match self.slots.get(&offset) {
            Some(Slot { state: State::Leased(terms), attempt, .. }) if terms.grant == grant && now < terms.deadline => {
                Standing::Current { terms: *terms, attempt: *attempt }
            }
            Some(Slot { state: State::Acked { grant: by, .. }, .. }) if *by == grant => Standing::Done,
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
        if visible_at <= now {
            return self.put_back(offset, max_attempts, Some(now));
        }
        let slot = self.take(offset)?;
        let (state, changed) = if slot.attempt >= max_attempts {
            (State::Dying, Changed::Dying)
        } else {
            (State::Waiting { visible_at }, Changed::Waiting)
        };
        self.put(offset, Slot { state, ..slot });
        Some(changed)
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

    /// Deliverable again, as if it had waited since then; without an instant, since it was stored.
    fn put_back(&mut self, offset: QueueOffset, max_attempts: u32, since: Option<Timestamp>) -> Option<Changed> {
        let slot = self.take(offset)?;
        if slot.attempt >= max_attempts {
            self.put(offset, Slot { state: State::Dying, ..slot });
            return Some(Changed::Dying);
        }
        // What was set aside or given back waits in the log for the beginning of time.
        let since = since.unwrap_or_default().max(slot.entry.stored_at);
        self.put(offset, Slot { state: State::Ready { since }, ..slot });
        Some(self.deliverable_hash(&slot).map_or(Changed::Waiting, Changed::Ready))
    }

    pub(super) fn put(&mut self, offset: QueueOffset, slot: Slot) {
        let key = self.lanes.key_of(&slot.entry);
        match slot.state {
            State::Leased(terms) => {
                self.due.insert((terms.deadline, offset));
                self.leased += 1;
            }
            State::Waiting { visible_at } => {
                self.due.insert((visible_at, offset));
            }
            State::Ready { .. } if key == 0 => {
                self.ready.insert(offset);
            }
            State::Ready { .. } | State::Dying | State::Acked { .. } => {}
        }
        if key != 0 {
            self.lanes.enter(key, offset, stage(&slot.state));
        }
        self.slots.insert(offset, slot);
    }

    pub(super) fn take(&mut self, offset: QueueOffset) -> Option<Slot> {
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
            State::Dying | State::Acked { .. } => {}
        }
        let key = self.lanes.key_of(&slot.entry);
        if key != 0 {
            self.lanes.leave(key, offset);
        }
        Some(slot)
    }
}

fn stage(state: &State) -> Stage {
    match state {
        State::Leased(_) | State::Waiting { .. } | State::Dying => Stage::Busy,
        State::Ready { .. } => Stage::Ready,
        State::Acked { .. } => Stage::Acked,
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
