//! Order inside message groups: which lane of a queue may be given from. Pure bookkeeping over offsets; the messages themselves
//! are slots of [`QueueLeases`](crate::broker::delivery::lease::QueueLeases).
//!
//! A lane is what must be delivered in order: one message group of a queue, or a queue as a whole. Its **window** is what was
//! delivered and is not done, in order of offset. Behind it lie messages that the queue's position has passed while the lane
//! could not be given from: the first few in memory (`parked`), the others only as "from this offset on" (`more_from`); those
//! are read back through the folded state, by lane. So a lane that is stuck costs a bounded amount of memory and one row, whatever waits in it.
//!
//! I-8: a lane has a ticket exactly when nothing in its window is with a client, waiting or dying, and there is something to
//! give: its window, or what lies behind it. The ticket lies aside while the lane waits at a gate. The front of a window is never
//! an acknowledged message: that would be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use crate::broker::delivery::gates::{Fence, Gate};
use crate::broker::delivery::tail::QueueTail;
use crate::model::position::{GrantId, QueueOffset};
use crate::store::QueueEntry;

/// Entries of one lane kept in memory while it cannot be given from.
const PARKED_PER_LANE_MAX: usize = if cfg!(test) { 2 } else { 64 };
/// The same for all lanes of a queue together. Under test all bounds are small, so that short histories reach them.
const PARKED_PER_QUEUE_MAX: usize = if cfg!(test) { 5 } else { 16_384 };
/// Most entries of one lane that are read back at once, and fewest when memory is short.
pub const READ_BACK_MAX: usize = if cfg!(test) { 3 } else { 512 };
const READ_BACK_MIN: usize = if cfg!(test) { 2 } else { 32 };
/// Recent entries looked through for those of one lane under the lock.
const RECENT_SCAN_MAX: u64 = if cfg!(test) { 4 } else { 4096 };
/// The lane of a queue that is one lane as a whole.
const WHOLE: u64 = 1;

/// What is delivered in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// Nothing.
    #[default]
    Free,
    /// The messages of each message group; those without one are free.
    PerGroup,
    /// All messages of the queue.
    WholeQueue,
}

/// How a message of a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// With a client, waiting for its time, or dying: the lane waits for it.
    Busy,
    /// To be delivered again.
    Ready,
    /// Acknowledged before one in front of it.
    Acked,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    window: VecDeque<(QueueOffset, Stage)>,
    busy: usize,
    parked: VecDeque<QueueEntry>,
    /// Behind `parked`; whatever lies between it and the queue's position is not in memory.
    more_from: Option<QueueOffset>,
    /// About how many messages that is; exact unless retention took some, or a restart left too many to count.
    more: u64,
    /// First message behind the window as the log knows it.
    recorded: Option<QueueOffset>,
    /// The granting that may add the lane's next message, because it was given all before it.
    open: Option<GrantId>,
    pub(super) ticket: Option<u64>,
    /// Its ticket lies with those that wait at this gate.
    pub(super) gate: Option<Gate>,
}

impl Lane {
    fn from(&self) -> Option<QueueOffset> {
        self.parked.front().map(|entry| entry.offset).or(self.more_from)
    }

    fn is_deliverable(&self) -> bool {
        self.busy == 0 && (!self.window.is_empty() || self.from().is_some())
    }
}

/// The lanes of one group in one queue that have something outstanding.
#[derive(Debug, Default)]
pub struct Lanes {
    ordering: Ordering,
    pub(super) lanes: BTreeMap<u64, Lane>,
    /// Lanes that may be given from, the longest ready first.
    pub(super) tickets: BTreeMap<u64, u64>,
    /// Lanes whose tickets are kept from the others, so that no look goes through all of them in vain.
    pub(super) gated: BTreeMap<Gate, BTreeSet<u64>>,
    next_ticket: u64,
    /// Ready messages in windows, and acknowledged ones.
    ready: u64,
    acked: u64,
    /// Entries in memory behind windows.
    parked: usize,
    /// Messages behind windows that are not in memory.
    more: u64,
    /// Lanes whose first message behind the window is not what the log knows.
    moved: BTreeSet<u64>,
}

impl Lanes {
    /// What is delivered in order.
    #[must_use]
    pub fn ordering(&self) -> Ordering {
        self.ordering
    }

    /// Changes it; windows are empty afterwards, what lies behind them stays.
    pub fn switch(&mut self, ordering: Ordering) {
        self.ordering = ordering;
        (self.ready, self.acked) = (0, 0);
        let keys: Vec<u64> = self.lanes.keys().copied().collect();
        for key in keys {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.window.clear();
                (lane.busy, lane.open) = (0, None);
            }
            self.refresh(key);
        }
    }

    /// The lane that a message is delivered in; 0: none.
    #[must_use]
    pub fn key_of(&self, entry: &QueueEntry) -> u64 {
        match self.ordering {
            Ordering::Free => 0,
            Ordering::PerGroup => entry.order_key,
            Ordering::WholeQueue => WHOLE,
        }
    }

    /// Lanes with anything outstanding.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Whether a lane may be given from, once its gate is open.
    #[must_use]
    pub fn has_deliverable(&self) -> bool {
        !self.tickets.is_empty() || !self.gated.is_empty()
    }

    /// The lane that may be given from and is ready longest, of those behind `ticket` that were ready before `end`; with its
    /// own ticket.
    #[must_use]
    pub fn next_deliverable(&self, ticket: Option<u64>, end: u64) -> Option<(u64, u64)> {
        let from = ticket.map_or(0, |ticket| ticket + 1);
        self.tickets.range(from..end.max(from)).next().map(|(ticket, key)| (*ticket, *key))
    }

    /// Behind every ticket so far.
    #[must_use]
    pub fn tickets_end(&self) -> u64 {
        self.next_ticket
    }

    /// Whether this lane may be given from.
    #[must_use]
    pub fn is_deliverable(&self, key: u64) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.ticket.is_some())
    }

    /// Ready messages in windows, acknowledged ones, and those behind windows, as far as they are counted.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.ready, self.acked, self.parked as u64 + self.more)
    }

    /// Entries in memory behind windows.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.parked
    }

    /// A message enters its lane's window.
    pub fn enter(&mut self, key: u64, offset: QueueOffset, stage: Stage) {
        let lane = self.lanes.entry(key).or_default();
        let at = lane.window.partition_point(|(known, _)| *known < offset);
        lane.window.insert(at, (offset, stage));
        match stage {
            Stage::Busy => lane.busy += 1,
            Stage::Ready => self.ready += 1,
            Stage::Acked => self.acked += 1,
        }
        self.refresh(key);
    }

    /// A message leaves its lane's window.
    pub fn leave(&mut self, key: u64, offset: QueueOffset) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let at = lane.window.partition_point(|(known, _)| *known < offset);
        if lane.window.get(at).is_none_or(|(known, _)| *known != offset) {
            return;
        }
        match lane.window.remove(at) {
            Some((_, Stage::Busy)) => lane.busy -= 1,
            Some((_, Stage::Ready)) => self.ready -= 1,
            Some((_, Stage::Acked)) => self.acked -= 1,
            None => {}
        }
        self.refresh(key);
    }

    /// The window's first message.
    #[must_use]
    pub fn front(&self, key: u64) -> Option<(QueueOffset, Stage)> {
        self.lanes.get(&key)?.window.front().copied()
    }

    /// Whether the window begins with this message.
    #[must_use]
    pub fn is_front(&self, key: u64, offset: QueueOffset) -> bool {
        self.front(key).is_some_and(|(front, _)| front == offset)
    }

    /// What the lane gives next: its window's first message, or the first behind it as far as is known.
    #[must_use]
    pub fn first(&self, key: u64) -> Option<QueueOffset> {
        let lane = self.lanes.get(&key)?;
        lane.window.front().map(|(offset, _)| *offset).or(lane.from())
    }

    /// The window in order.
    pub fn window(&self, key: u64) -> impl Iterator<Item = (QueueOffset, Stage)> + '_ {
        self.lanes.get(&key).into_iter().flat_map(|lane| lane.window.iter().copied())
    }

    /// Whether the lane's next message may be added by `grant`: nothing of the lane is outstanding, or it was all given by it.
    #[must_use]
    pub fn may_append(&self, key: u64, grant: GrantId) -> bool {
        self.lanes
            .get(&key)
            .is_none_or(|lane| lane.from().is_none() && (lane.window.is_empty() || lane.open == Some(grant)))
    }

    /// `grant` was given all of the lane so far.
    pub fn open(&mut self, key: u64, grant: GrantId) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.from().is_none()
        {
            lane.open = Some(grant);
        }
    }

    /// Whether messages of the lane were passed over.
    #[must_use]
    pub fn has_backlog(&self, key: u64) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.from().is_some())
    }

    /// Whether the lane has anything outstanding.
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        self.lanes.get(&key).is_some_and(|lane| !lane.window.is_empty() || lane.from().is_some())
    }

    /// The lowest message that was passed over.
    #[must_use]
    pub fn lowest_parked(&self) -> Option<QueueOffset> {
        self.lanes.values().filter_map(Lane::from).min()
    }

    /// Messages below `end` that were passed over and are in memory.
    #[must_use]
    pub fn parked_below(&self, end: QueueOffset) -> u64 {
        self.lanes.values().map(|lane| lane.parked.partition_point(|entry| entry.offset < end) as u64).sum()
    }

    /// Whether this message was passed over.
    #[must_use]
    pub fn is_parked(&self, key: u64, offset: QueueOffset) -> bool {
        self.lanes.get(&key).and_then(Lane::from).is_some_and(|from| offset >= from)
    }

    /// The queue's position passes this message while its lane cannot be given from.
    pub fn park(&mut self, key: u64, entry: QueueEntry) {
        let is_full = self.parked >= PARKED_PER_QUEUE_MAX;
        let lane = self.lanes.entry(key).or_default();
        if lane.more_from.is_none() && !is_full && lane.parked.len() < PARKED_PER_LANE_MAX {
            lane.parked.push_back(entry);
            self.parked += 1;
        } else {
            lane.more_from.get_or_insert(entry.offset);
            lane.more += 1;
            self.more += 1;
        }
        self.refresh(key);
    }

    /// What the folded state knows was passed over, and about how many messages that is.
    pub fn restore(&mut self, key: u64, from: QueueOffset, count: u64) {
        let lane = self.lanes.entry(key).or_default();
        (lane.more_from, lane.recorded) = (Some(from), Some(from));
        self.more += count - std::mem::replace(&mut lane.more, count);
        self.refresh(key);
    }

    /// Leaves to the folded state what is in memory of a lane that cannot go on, when that is too much with all others.
    pub fn unload(&mut self, key: u64) {
        let is_full = self.parked > PARKED_PER_QUEUE_MAX;
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| is_full && !lane.is_deliverable()) else { return };
        let Some(front) = lane.parked.front() else { return };
        lane.more_from = Some(front.offset);
        let count = lane.parked.len();
        (lane.parked, lane.more) = (VecDeque::new(), lane.more + count as u64);
        self.parked -= count;
        self.more += count as u64;
    }

    /// The first message behind the window, if it is in memory.
    #[must_use]
    pub fn parked_front(&self, key: u64) -> Option<QueueEntry> {
        self.lanes.get(&key)?.parked.front().copied()
    }

    /// The messages behind the window that are in memory, in order.
    pub fn parked(&self, key: u64) -> impl Iterator<Item = &QueueEntry> {
        self.lanes.get(&key).into_iter().flat_map(|lane| &lane.parked)
    }

    /// Takes the first: it is delivered, or wanted by nobody.
    pub fn pop_parked(&mut self, key: u64) -> Option<QueueEntry> {
        let entry = self.lanes.get_mut(&key)?.parked.pop_front()?;
        self.parked -= 1;
        self.refresh(key);
        Some(entry)
    }

    /// From where on the lane must be read back before it can go on.
    #[must_use]
    pub fn missing(&self, key: u64) -> Option<QueueOffset> {
        self.lanes.get(&key).filter(|lane| lane.parked.is_empty())?.more_from
    }

    /// Takes entries of a lane that were read back from `from` on; they are all up to `complete`. `next` is the queue's position.
    /// What is not folded yet is among the recent entries.
    pub fn read_back(
        &mut self,
        key: u64,
        from: QueueOffset,
        entries: &[QueueEntry],
        complete: QueueOffset,
        next: QueueOffset,
        tail: &QueueTail,
    ) {
        // Somebody else read it meanwhile, or it is out of retention.
        if self.missing(key) != Some(from) {
            return;
        }
        let most = PARKED_PER_QUEUE_MAX.saturating_sub(self.parked).clamp(READ_BACK_MIN, READ_BACK_MAX);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        // The rows of what is out of retention may stay a while.
        let begin = from.max(tail.first());
        let mut at = complete.max(begin).min(next);
        for entry in entries.iter().filter(|entry| begin <= entry.offset && entry.offset < next) {
            if lane.parked.len() == most {
                at = entry.offset;
                break;
            }
            lane.parked.push_back(*entry);
        }
        let stop = next.min(QueueOffset(at.get().saturating_add(RECENT_SCAN_MAX)));
        while at < stop && lane.parked.len() < most {
            // Forgotten because it is folded by now: the next reading finds it.
            let Some(entry) = tail.recent(at) else { break };
            if entry.order_key == key {
                lane.parked.push_back(entry);
            }
            at = at.next();
        }
        lane.more_from = (at < next).then_some(at);
        self.parked += lane.parked.len();
        let left = lane.more_from.map_or(0, |_| lane.more.saturating_sub(lane.parked.len() as u64));
        self.more -= lane.more - left;
        lane.more = left;
        self.refresh(key);
    }

    /// Forgets what is behind windows below `first`.
    pub fn trim(&mut self, first: QueueOffset, next: QueueOffset) {
        let keys: Vec<u64> = self.lanes.keys().copied().collect();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            if lane.from().is_none_or(|from| from >= first) {
                continue;
            }
            while lane.parked.front().is_some_and(|entry| entry.offset < first) {
                lane.parked.pop_front();
                self.parked -= 1;
            }
            lane.more_from = lane.more_from.map(|from| from.max(first)).filter(|from| *from < next);
            let left = lane.more_from.map_or(0, |from| lane.more.min(next.get() - from.get()));
            self.more -= lane.more - left;
            lane.more = left;
            self.refresh(key);
        }
    }

    /// Lanes whose first message behind the window changed, for the log; to be written with the queue's position.
    pub fn take_moved(&mut self) -> Vec<(u64, Option<QueueOffset>)> {
        let mut moved = Vec::new();
        for key in std::mem::take(&mut self.moved) {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let from = lane.from();
            if lane.recorded != from {
                lane.recorded = from;
                moved.push((key, from));
            }
            self.refresh(key);
        }
        moved
    }

    /// Keeps I-8 after a change, and forgets a lane without anything outstanding.
    fn refresh(&mut self, key: u64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.from() != lane.recorded {
            self.moved.insert(key);
        }
        match (lane.ticket, lane.is_deliverable()) {
            (None, true) => {
                lane.ticket = Some(self.next_ticket);
                self.tickets.insert(self.next_ticket, key);
                self.next_ticket += 1;
            }
            (Some(ticket), false) => {
                lane.ticket = None;
                self.tickets.remove(&ticket);
                if let Some(gate) = lane.gate.take()
                    && let Some(held) = self.gated.get_mut(&gate)
                {
                    held.remove(&key);
                    if held.is_empty() {
                        self.gated.remove(&gate);
                    }
                }
            }
            _ => {}
        }
        if lane.window.is_empty() && lane.from().is_none() && lane.recorded.is_none() {
            self.lanes.remove(&key);
            self.moved.remove(&key);
        }
    }
}

#[cfg(test)]
#[path = "fifo_tests.rs"]
mod tests;
