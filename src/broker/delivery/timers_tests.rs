//! The timers against a sorted list: whatever the order of sends, group commits, folds, loads, recalls, firings and kills, every
//! message fires once and not early, unless it was recalled, and nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::position::{RecordAt, TopicId};

fn key(due: u64, hold: u64) -> HoldKey {
    HoldKey { due: Timestamp(due), hold: HoldId(hold) }
}

fn held_at(position: u64) -> Held {
    Held { topic: TopicId(1), at: RecordAt { position: LogPosition(position), length: 100 } }
}

fn ending(outcome: DelayOutcome) -> Ending {
    Ending { outcome, seq: UnitSeq(1) }
}

/// Timers that have loaded an empty fold.
fn loaded(max: usize) -> Timers {
    let mut timers = Timers::new(max);
    assert!(timers.begin_load().is_some());
    timers.finish_load(Vec::new(), true);
    timers
}

#[test]
fn nothing_is_due_before_its_time_and_a_batch_keeps_both_bounds() {
    let mut timers = loaded(100);
    for hold in 1..=10 {
        timers.held(key(1000 + hold / 5, hold), held_at(hold), LogPosition(hold + 1));
    }
    assert_eq!(timers.next_due(), Some(Timestamp(1000)));
    assert!(timers.due(Timestamp(999), 100, 1 << 20).is_empty());
    assert_eq!(timers.due(Timestamp(1000), 100, 1 << 20).len(), 4);
    assert_eq!(timers.due(Timestamp(9999), 3, 1 << 20).len(), 3);
    assert_eq!(timers.due(Timestamp(9999), 100, 250).len(), 2);
    assert_eq!(
        timers.due(Timestamp(9999), 100, 1).len(),
        1,
        "one that is larger than the bound must not stay for ever"
    );
}

#[test]
fn what_falls_out_of_the_window_is_loaded_again() {
    let mut timers = loaded(4);
    for hold in 1..=9 {
        timers.held(key(100 * hold, hold), held_at(hold), LogPosition(hold + 1));
    }
    assert_eq!(timers.counts().0, 4);
    assert!(!timers.wants_load());
    for hold in 1..=3 {
        timers.end(key(100 * hold, hold), ending(DelayOutcome::Fired));
    }
    let load = timers.begin_load().unwrap();
    assert_eq!((load.from, load.folded, load.rows), (key(500, 5), LogPosition(10), 2));
    timers.finish_load(vec![(key(500, 5), held_at(5)), (key(600, 6), held_at(6))], false);
    assert_eq!(timers.due(Timestamp(9999), 100, 1 << 20).len(), 3);
    assert!(timers.pending(key(600, 6)).is_some());
    timers.held(key(700, 7), held_at(70), LogPosition(71));
    assert!(timers.pending(key(700, 7)).is_none(), "not loaded yet, so not in memory");
}

#[test]
fn a_message_that_ended_while_rows_were_read_is_not_brought_back() {
    let mut timers = loaded(4);
    for hold in 1..=9 {
        timers.held(key(100 * hold, hold), held_at(hold), LogPosition(hold + 1));
    }
    for hold in 1..=4 {
        timers.end(key(100 * hold, hold), ending(DelayOutcome::Fired));
    }
    let load = timers.begin_load().unwrap();
    let rows = vec![(key(500, 5), held_at(5)), (key(600, 6), held_at(6))];
    assert_eq!(load.rows, 2);
    // Recalled, durable and folded, all while the rows travel.
    timers.end(key(500, 5), ending(DelayOutcome::Recalled));
    timers.ended_durably(key(500, 5), LogPosition(50));
    timers.forget_ended(LogPosition(60));
    timers.finish_load(rows, false);
    assert!(timers.pending(key(500, 5)).is_none());
    assert!(timers.pending(key(600, 6)).is_some());
    timers.forget_ended(LogPosition(60));
    assert_eq!(timers.ending(HoldId(5)), None, "nobody reads any more");
}

#[test]
fn a_body_stored_again_replaces_the_place_but_revives_nothing() {
    let mut timers = loaded(4);
    timers.held(key(100, 1), held_at(1), LogPosition(2));
    timers.held(key(100, 1), held_at(50), LogPosition(51));
    assert_eq!(timers.pending(key(100, 1)), Some(held_at(50)));
    timers.end(key(100, 1), ending(DelayOutcome::Recalled));
    timers.held(key(100, 1), held_at(70), LogPosition(71));
    assert_eq!(timers.pending(key(100, 1)), None);
}

/// What the log says of one message.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Held(HoldKey),
    Ended(HoldKey, DelayOutcome),
}

type Read = (Vec<(HoldKey, Held)>, bool);

/// The world around the timers: a log with its durable part, and a fold behind that.
struct World {
    timers: Timers,
    max: usize,
    now: u64,
    next_hold: u64,
    log: Vec<Entry>,
    durable: usize,
    folded: usize,
    rows: BTreeMap<HoldKey, Held>,
    /// Read, not handed over yet: rows and whether they are all.
    load: Option<(Load, Option<Read>)>,
    peeked: Vec<HoldKey>,
    /// The naive side: what is held back by everything the log has taken.
    model: BTreeSet<HoldKey>,
    ended: BTreeMap<HoldKey, DelayOutcome>,
}

impl World {
    fn new(max: usize) -> Self {
        Self {
            timers: Timers::new(max),
            max,
            now: 1000,
            next_hold: 1,
            log: Vec::new(),
            durable: 0,
            folded: 0,
            rows: BTreeMap::new(),
            load: None,
            peeked: Vec::new(),
            model: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }

    fn send(&mut self, ahead: u64) {
        let key = key(self.now + ahead, self.next_hold);
        self.next_hold += 1;
        self.log.push(Entry::Held(key));
        self.model.insert(key);
    }

    /// The body of a message is stored again, as retention does.
    fn store_again(&mut self, pick: usize) {
        let known: Vec<HoldKey> = self.rows.keys().copied().collect();
        if known.is_empty() {
            return;
        }
        let key = known[pick % known.len()];
        if self.timers.ending(key.hold).is_none() {
            self.log.push(Entry::Held(key));
        }
    }

    fn commit(&mut self, count: usize) {
        let end = self.durable.saturating_add(count).min(self.log.len());
        for index in self.durable..end {
            let (position, frame_end) = (index as u64, LogPosition(end as u64));
            match self.log[index] {
                Entry::Held(key) => self.timers.held(key, held_at(position), frame_end),
                Entry::Ended(key, _) => self.timers.ended_durably(key, frame_end),
            }
        }
        self.durable = end;
        self.timers.forget_ended(LogPosition(self.folded as u64));
    }

    fn fold(&mut self, count: usize) {
        let end = self.folded.saturating_add(count).min(self.durable);
        for index in self.folded..end {
            match self.log[index] {
                Entry::Held(key) => drop(self.rows.insert(key, held_at(index as u64))),
                Entry::Ended(key, _) => drop(self.rows.remove(&key)),
            }
        }
        self.folded = end;
    }

    fn load_step(&mut self) {
        match self.load.take() {
            None => self.load = self.timers.begin_load().map(|load| (load, None)),
            Some((load, None)) => {
                let ready = LogPosition(self.folded as u64) >= load.folded;
                let rows: Vec<_> =
                    self.rows.range(load.from..).take(load.rows).map(|(key, held)| (*key, *held)).collect();
                let all = rows.len() < load.rows;
                self.load = Some((load, ready.then_some((rows, all))));
            }
            Some((_, Some((rows, all)))) => self.timers.finish_load(rows, all),
        }
    }

    fn end(&mut self, key: HoldKey, outcome: DelayOutcome) {
        self.log.push(Entry::Ended(key, outcome));
        self.timers.end(key, Ending { outcome, seq: UnitSeq(self.log.len() as u64) });
        assert!(self.model.remove(&key), "{key:?} ended twice, or never was");
        self.ended.insert(key, outcome);
    }

    fn fire(&mut self) {
        let peeked = std::mem::take(&mut self.peeked);
        for key in peeked {
            if self.timers.pending(key).is_some() {
                assert!(key.due.millis() <= self.now, "fired early");
                self.end(key, DelayOutcome::Fired);
            }
        }
        self.peeked = self.timers.due(Timestamp(self.now), 3, 1000).into_iter().map(|(key, _)| key).collect();
    }

    /// As the broker does it: memory first, then a row of the fold.
    fn recall(&mut self, pick: usize) {
        let told: Vec<HoldKey> = self.log[..self.durable]
            .iter()
            .filter_map(|entry| match entry {
                Entry::Held(key) => Some(*key),
                Entry::Ended(..) => None,
            })
            .collect();
        if told.is_empty() {
            return;
        }
        let key = told[pick % told.len()];
        if self.timers.ending(key.hold).is_some() {
            return;
        }
        let is_row = LogPosition(self.folded as u64) >= self.timers.told() && self.rows.contains_key(&key);
        if self.timers.pending(key).is_some() || (is_row && key.due.millis() > self.now) {
            self.end(key, DelayOutcome::Recalled);
        }
    }

    fn kill(&mut self) {
        self.log.truncate(self.durable);
        self.fold(usize::MAX);
        (self.model, self.ended) = (BTreeSet::new(), BTreeMap::new());
        for entry in &self.log {
            match *entry {
                // A body stored again after nothing: the first record counts.
                Entry::Held(key) if !self.ended.contains_key(&key) => drop(self.model.insert(key)),
                Entry::Held(key) => panic!("{key:?} was stored again after it ended"),
                Entry::Ended(key, outcome) => {
                    self.model.remove(&key);
                    self.ended.insert(key, outcome);
                }
            }
        }
        self.timers = Timers::new(self.max);
        (self.load, self.peeked) = (None, Vec::new());
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.commit(usize::MAX);
            self.fold(usize::MAX);
            self.load_step();
            self.fire();
            assert!(self.timers.counts().0 <= self.max);
            if self.model.is_empty() {
                return;
            }
        }
        panic!("never fired: {:?}", self.model);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u64),
    StoreAgain(usize),
    Commit(usize),
    Fold(usize),
    Load,
    Fire,
    Recall(usize),
    Pass(u64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop_oneof![0u64..20, 0u64..500].prop_map(Step::Send),
        1 => (0usize..50).prop_map(Step::StoreAgain),
        5 => (1usize..6).prop_map(Step::Commit),
        5 => (1usize..6).prop_map(Step::Fold),
        6 => Just(Step::Load),
        6 => Just(Step::Fire),
        3 => (0usize..50).prop_map(Step::Recall),
        4 => prop_oneof![0u64..10, 0u64..200].prop_map(Step::Pass),
        1 => prop::bool::weighted(0.2).prop_map(|kill| if kill { Step::Kill } else { Step::Fire }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_fires_once_and_not_early_unless_recalled(
        max in 4usize..9, steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(max);
        for step in steps {
            match step {
                Step::Send(ahead) => world.send(ahead),
                Step::StoreAgain(pick) => world.store_again(pick),
                Step::Commit(count) => world.commit(count),
                Step::Fold(count) => world.fold(count),
                Step::Load => world.load_step(),
                Step::Fire => world.fire(),
                Step::Recall(pick) => world.recall(pick),
                Step::Pass(ms) => world.now += ms,
                Step::Kill => world.kill(),
            }
            assert!(world.timers.counts().0 <= world.max);
        }
        world.now += 1_000_000;
        world.settle();
        let sent: usize = world.log.iter().filter(|entry| matches!(entry, Entry::Ended(..))).count();
        prop_assert_eq!(sent, world.ended.len());
    }
}
