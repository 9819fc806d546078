//! The timers of messages that are held back: the next ones in memory, all of them in the fold. Pure.
//!
//! In memory is a *window*: every held-back message that is durable and due before the window's end, and no other. The window
//! is filled from the fold in order of time, and shrinks when it would hold more than its bound: what falls out is found in the
//! fold again. Three things could make a message fire twice or never, and are kept from it here:
//!
//! - The fold lags behind the log. A load begins only when the fold has everything that was told so far; what is told while the
//!   load reads is collected beside it.
//! - A row that was read from the fold may have ended meanwhile. Every end is remembered until the fold has it, and longer while
//!   anybody reads ([`Timers::reading`]).
//! - A body that is stored again may be told after its message ended: an ended message never enters the window.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::position::{HoldId, LogPosition, UnitSeq};
use crate::model::time::Timestamp;
use crate::store::Held;
use crate::store::record::{DelayOutcome, HoldKey};

/// Messages that are held back, by their time.
#[derive(Debug)]
struct Window {
    entries: BTreeMap<HoldKey, Held>,
    /// Nothing at or above it is in here; `None`: everything is.
    end: Option<HoldKey>,
    max: usize,
}

impl Window {
    fn empty(end: Option<HoldKey>, max: usize) -> Self {
        Self { entries: BTreeMap::new(), end, max }
    }

    fn put(&mut self, key: HoldKey, held: Held) {
        if self.end.is_some_and(|end| key >= end) {
            return;
        }
        match self.entries.get_mut(&key) {
            // The row of the fold may be older than what the log told.
            Some(known) if known.at.position > held.at.position => {}
            Some(known) => *known = held,
            None => {
                self.entries.insert(key, held);
            }
        }
        if self.entries.len() > self.max
            && let Some((last, _)) = self.entries.pop_last()
        {
            self.end = Some(last);
        }
    }

    fn cut(&mut self, end: HoldKey) {
        if self.end.is_none_or(|known| end < known) {
            self.end = Some(end);
            drop(self.entries.split_off(&end));
        }
    }
}

/// How a message that was held back ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub outcome: DelayOutcome,
    /// The unit that says so: whoever reveals it waits for it.
    pub seq: UnitSeq,
}

/// A wish to fill the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// First row to read.
    pub from: HoldKey,
    /// The fold must have everything before it first.
    pub folded: LogPosition,
    /// Most rows to read.
    pub rows: usize,
}

/// While it lives, ends are remembered although the fold has them: its owner has read rows and not yet judged them.
#[derive(Debug)]
pub struct Reading(Arc<AtomicUsize>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The timers of one shard.
#[derive(Debug)]
pub struct Timers {
    near: Window,
    /// What was told since the load that is under way began.
    fresh: Option<Window>,
    loading: Option<(HoldKey, Reading)>,
    /// End of the last frame that told of anything here.
    told: LogPosition,
    endings: HashMap<HoldId, Ending>,
    /// Those of `endings` that are durable, by where the fold must be to have them.
    ended: VecDeque<(LogPosition, HoldId)>,
    readers: Arc<AtomicUsize>,
}

impl Timers {
    /// Nothing is in memory yet; at most `max` messages will be, at least 4.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            near: Window::empty(Some(HoldKey::default()), max.max(4)),
            fresh: None,
            loading: None,
            told: LogPosition(0),
            endings: HashMap::new(),
            ended: VecDeque::new(),
            readers: Arc::default(),
        }
    }

    /// The log told, in a durable frame that ends at `frame_end`, where the body of a held-back message lies.
    pub fn held(&mut self, key: HoldKey, held: Held, frame_end: LogPosition) {
        self.told = self.told.max(frame_end);
        if self.endings.contains_key(&key.hold) {
            return;
        }
        self.near.put(key, held);
        if let Some(fresh) = &mut self.fresh {
            fresh.put(key, held);
        }
    }

    /// The log told, in a durable frame that ends at `frame_end`, that a message is held back no longer.
    pub fn ended_durably(&mut self, key: HoldKey, frame_end: LogPosition) {
        self.told = self.told.max(frame_end);
        if self.endings.contains_key(&key.hold) {
            self.ended.push_back((frame_end, key.hold));
        }
    }

    /// Forgets ends that the fold has, unless somebody reads.
    pub fn forget_ended(&mut self, folded: LogPosition) {
        if self.readers.load(Ordering::Acquire) > 0 {
            return;
        }
        while let Some(&(position, hold)) = self.ended.front() {
            if position > folded {
                return;
            }
            self.endings.remove(&hold);
            self.ended.pop_front();
        }
    }

    /// When the first message in memory is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.near.entries.first_key_value().map(|(key, _)| key.due)
    }

    /// Messages that are due, the first in time first: at most `count`, and no more than `bytes` of records unless the first
    /// alone is larger.
    #[must_use]
    pub fn due(&self, now: Timestamp, count: usize, bytes: u64) -> Vec<(HoldKey, Held)> {
        let mut sum = 0;
        let mut fits = |held: &Held| {
            let is_first = sum == 0;
            sum += u64::from(held.at.length);
            is_first || sum <= bytes
        };
        let due = self.near.entries.iter().take_while(|(key, _)| key.due <= now).take(count);
        due.take_while(|(_, held)| fits(held)).map(|(key, held)| (*key, *held)).collect()
    }

    /// A message in memory that is held back.
    #[must_use]
    pub fn pending(&self, key: HoldKey) -> Option<Held> {
        self.near.entries.get(&key).copied()
    }

    /// How a message ended, if that is still remembered here.
    #[must_use]
    pub fn ending(&self, hold: HoldId) -> Option<Ending> {
        self.endings.get(&hold).copied()
    }

    /// A message is held back no longer: the log has taken the unit that says so.
    pub fn end(&mut self, key: HoldKey, ending: Ending) {
        self.set_aside(key);
        self.endings.insert(key.hold, ending);
    }

    /// Takes a message out of memory without ending it: it is found again at the next start.
    pub fn set_aside(&mut self, key: HoldKey) {
        self.near.entries.remove(&key);
        if let Some(fresh) = &mut self.fresh {
            fresh.entries.remove(&key);
        }
    }

    /// To be held from before rows are read from the fold until they have been judged.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Reading(self.readers.clone())
    }

    /// What the fold must have before a row that is missing there proves anything.
    #[must_use]
    pub fn told(&self) -> LogPosition {
        self.told
    }

    /// Whether the window should be filled now.
    #[must_use]
    pub fn wants_load(&self) -> bool {
        self.loading.is_none() && self.near.end.is_some() && self.near.entries.len() <= self.near.max / 4
    }

    /// Begins to fill the window, if it should be.
    pub fn begin_load(&mut self) -> Option<Load> {
        if !self.wants_load() {
            return None;
        }
        let from = self.near.end?;
        self.loading = Some((from, self.reading()));
        self.fresh = Some(Window::empty(None, self.near.max));
        Some(Load { from, folded: self.told, rows: self.near.max / 2 })
    }

    /// Ends it with the rows that were read; `all`: there are none behind them.
    pub fn finish_load(&mut self, rows: Vec<(HoldKey, Held)>, all: bool) {
        let (Some((from, reading)), Some(mut fresh)) = (self.loading.take(), self.fresh.take()) else { return };
        // Had the window shrunk meanwhile, there would be a gap between it and what was read.
        if self.near.end == Some(from) {
            let last = rows.last().map(|(key, _)| *key);
            for (key, held) in rows {
                if !self.endings.contains_key(&key.hold) {
                    fresh.put(key, held);
                }
            }
            if let Some(last) = last.filter(|_| !all) {
                fresh.cut(HoldKey { due: last.due, hold: HoldId(last.hold.get().saturating_add(1)) });
            }
            self.near.end = fresh.end;
            for (key, held) in fresh.entries {
                self.near.put(key, held);
            }
        }
        drop(reading);
    }

    /// A load could not be read; it may be begun again.
    pub fn abandon_load(&mut self) {
        self.loading = None;
        self.fresh = None;
    }

    /// Messages in memory, and ends that are remembered.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.near.entries.len(), self.endings.len())
    }
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
