//! What the log promises, against a disk that behaves as badly as disks may: random histories of append, sync, trim, read,
//! clean shutdown, kill and power cut at any call, with failing calls in between. After every reopening:
//!
//! - what was acknowledged is there, in order, at its place;
//! - what was not is wholly there or wholly absent, and only the one frame that was in flight can be there;
//! - what was absent once never comes back;
//! - the log opens, unless a call failed while it did.
//!
//! A failing history prints its seed. `BOLIDE_POWER_CUT_SEED=n` repeats it alone, `BOLIDE_POWER_CUT_FROM=n` starts elsewhere,
//! `BOLIDE_POWER_CUT_HISTORIES=n` runs more or fewer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bolide::model::message::NewMessage;
use bolide::model::position::{GroupId, HoldId, LogPosition, QueueId, QueueOffset, RecordAt, TopicId, UnitSeq};
use bolide::model::time::Timestamp;
use bolide::model::topic::Promise;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Tasks;
use bolide::runtime::watermark::{Rung, Watermarks};
use bolide::store::files::memory::{Call, Effect, Ending, Fault, MemoryFiles};
use bolide::store::log::{AppendError, Frame, FrameListener, Log, LogHealth, LogOptions, OpenLogError, ReadError};
use bolide::store::record::{DelayOutcome, HalfOutcome, HoldKey, LeaseState, Record, SettleReason, Unit, decode, walk};
use parking_lot::Mutex;

const HISTORIES: u64 = 10_000;
const OPENED: u64 = 1 << 63;

/// A unit as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    id: u64,
    /// Of its frame.
    frame: LogPosition,
    records: Vec<RecordAt>,
}

#[derive(Debug, Default)]
struct Seen {
    durable: Mutex<Vec<Stored>>,
    ends: Mutex<Vec<LogPosition>>,
    written: AtomicU64,
    wants_written: AtomicBool,
    failed: AtomicBool,
}

impl FrameListener for Seen {
    fn reached(&self, rung: Rung, frame: &Frame) {
        if rung == Rung::Written {
            self.written.store(frame.end.get(), Ordering::Relaxed);
            return;
        }
        assert!(!self.failed.load(Ordering::Relaxed), "a frame was called durable after the log had failed");
        self.durable.lock().extend(units_of(frame));
        self.ends.lock().push(frame.end);
    }

    fn wants_written(&self) -> bool {
        self.wants_written.load(Ordering::Relaxed)
    }

    fn failed(&self, _cause: &str) {
        self.failed.store(true, Ordering::Relaxed);
    }

    fn observe_sync(&self, _duration: Duration, _units: usize, _bytes: usize) {}
}

fn id_of(record: &Record) -> u64 {
    let number = |text: &str| text.parse().expect("a number");
    match record {
        Record::Message(message) => number(&message.message.message_id),
        Record::Delayed { message, .. } => number(&message.message.message_id),
        Record::Half(half) => number(&half.message.message.message_id),
        Record::Settled { offsets, .. } => offsets[0].get(),
        Record::Granted { items, .. } => items[0].0.get(),
        Record::Reset { next, .. } | Record::Advanced { next, .. } => next.get(),
        Record::LaneParked { order_key, .. } => *order_key,
        Record::DelayEnded { key, .. } => key.hold.get(),
        Record::HalfEnded { id, .. } => number(id),
        Record::LiteTopicPut { name, .. } | Record::LiteWanted { name, .. } => number(name),
        Record::Opened { term, .. } => OPENED | term.get(),
        other => panic!("a record that nobody wrote: {other:?}"),
    }
}

/// The units of a frame; each is checked to be whole, to the byte.
fn units_of(frame: &Frame) -> Vec<Stored> {
    let mut units: Vec<(Stored, Vec<u8>)> = Vec::new();
    for record in walk(frame.payload.clone(), frame.payload_position) {
        let (at, bytes) = record.expect("a frame holds whole records");
        let id = id_of(&decode(&bytes).expect("a frame holds readable records"));
        match units.last_mut() {
            Some((last, all)) if last.id == id => {
                last.records.push(at);
                all.extend_from_slice(&bytes);
            }
            _ => units.push((Stored { id, frame: frame.position, records: vec![at] }, bytes.to_vec())),
        }
    }
    for (stored, bytes) in &units {
        if stored.id & OPENED == 0 {
            assert!(bytes == unit(stored.id).bytes(), "unit {} is there in part, or is another", stored.id);
        } else {
            assert_eq!(stored.records.len(), 1, "a start is one record");
        }
    }
    units.into_iter().map(|(stored, _)| stored).collect()
}

/// What a unit is about; each as the broker writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Settled,
    Messages,
    Delayed,
    Half,
    Fired,
    Committed,
    FirstOfLite,
    Granted,
    Reset,
}

const SHAPES: [Shape; 9] = [
    Shape::Settled,
    Shape::Messages,
    Shape::Delayed,
    Shape::Half,
    Shape::Fired,
    Shape::Committed,
    Shape::FirstOfLite,
    Shape::Granted,
    Shape::Reset,
];

fn shape_of(id: u64) -> Shape {
    SHAPES[(id % SHAPES.len() as u64) as usize]
}

/// The unit with this number: always the same bytes. What belongs together is in it together, and none may be there without the
/// others: a fired message and the end of its delay, a commit and its copy, a lite topic and the positions on it.
fn unit(id: u64) -> Unit {
    let (group, topic, queue) = (GroupId(1), TopicId(2), QueueId(3));
    let (shape, count) = (shape_of(id), 1 + id / 9 % 3);
    let is_send = matches!(shape, Shape::Messages | Shape::Delayed | Shape::Half);
    let mut unit = if is_send { Unit::send(64) } else { Unit::state() };
    let size = usize::try_from(id * 7 % 30).unwrap();
    let message = NewMessage {
        message_id: id.to_string(),
        tag: "tag".to_owned(),
        rest: vec![u8::try_from(id % 251).unwrap(); 4 * size].into(),
        body_bytes: 8,
        ..NewMessage::default()
    };
    let key = |place: u64| HoldKey { due: Timestamp(id + place), hold: HoldId(id) };
    let waits = LeaseState::Waiting { visible_at: Timestamp(id) };
    for place in 0..count {
        let offset = QueueOffset(id + place);
        let push_message = |unit: &mut Unit, queue| {
            let slot = unit.push_message(topic, Promise::Durable, 7, &message);
            unit.place(slot, queue, offset, Timestamp(id));
        };
        match shape {
            Shape::Messages => push_message(&mut unit, queue),
            Shape::Delayed => {
                let slot = unit.push_delayed(key(place), topic, Promise::Durable, 7, &message);
                unit.place(slot, QueueId(0), QueueOffset(0), Timestamp(id));
            }
            Shape::Half => {
                let slot = unit.push_half(topic, 7, &message, Duration::from_secs(6));
                unit.place(slot, QueueId(0), QueueOffset(0), Timestamp(id));
            }
            Shape::Fired => {
                push_message(&mut unit, queue);
                unit.push(&Record::DelayEnded { key: key(place), topic, outcome: DelayOutcome::Fired });
            }
            Shape::Committed => {
                push_message(&mut unit, queue);
                let (id, at, outcome) = (id.to_string(), Timestamp(id), HalfOutcome::Committed);
                unit.push(&Record::HalfEnded { topic, id, outcome, at, was_checked: place > 0 });
            }
            Shape::FirstOfLite => {
                let (name, lite) = (id.to_string(), QueueId(QueueId::FIRST_LITE.get() + 1));
                unit.push(&Record::LiteTopicPut { topic, queue: lite, name: name.clone() });
                unit.push(&Record::Advanced { group, topic, queue: lite, next: QueueOffset(id) });
                unit.push(&Record::LiteWanted { topic, group, name, is_wanted: false });
                push_message(&mut unit, lite);
            }
            Shape::Granted => {
                let items = (0..=size as u64 / 4).map(|more| (QueueOffset(id + more), 1)).collect();
                unit.push(&Record::Granted { group, topic, queue, next: offset, lease: waits, items });
            }
            Shape::Reset => {
                unit.push(&Record::Reset { group, topic, queue: QueueId(place as u32), next: QueueOffset(id) })
            }
            Shape::Settled => {
                let offsets = vec![QueueOffset(id); 1 + size];
                unit.push(&Record::Settled { group, topic, queue, reason: SettleReason::Acked, offsets });
                let from = Some(QueueOffset(id));
                unit.push(&Record::LaneParked { group, topic, queue, order_key: id, from });
            }
        }
    }
    unit
}

/// One history: a disk, and what its lives may rely on.
struct History {
    entropy: Entropy,
    disk: MemoryFiles,
    options: LogOptions,
    /// What is certain to be in the log, in order.
    settled: Vec<Stored>,
    /// Accepted by the life that ended last, and how many of them were acknowledged, with their places.
    accepted: Vec<u64>,
    acknowledged: Vec<Stored>,
    /// Positions up to which the folded state may know the log.
    frame_ends: Vec<LogPosition>,
    start: LogPosition,
    starts_tried: Vec<LogPosition>,
    clean_end: Option<LogPosition>,
    next_id: u64,
    now_ms: u64,
}

/// What happened over many histories, so that a test that never reaches the interesting cases fails.
#[derive(Debug, Default)]
struct Coverage {
    lives: u64,
    torn_or_lost: u64,
    survived: u64,
    failed_logs: u64,
    failed_opens: u64,
    clean_ends: u64,
    trims: u64,
    rolled: u64,
    /// Units of each shape that were not acknowledged and survived, or were lost.
    kept: BTreeMap<Shape, u64>,
    lost: BTreeMap<Shape, u64>,
}

impl History {
    fn new(seed: u64) -> Self {
        let entropy = Entropy::seeded(seed);
        let segment_bytes = [2048, 3072, 4096, 8192][index(&entropy, 4)];
        let mut options = LogOptions::tiny("data", segment_bytes);
        options.cache_bytes = [0, 512, 4096][index(&entropy, 3)];
        options.queue_bytes_max = 4096;
        Self {
            disk: MemoryFiles::new(entropy.next_u64()),
            entropy,
            options,
            settled: Vec::new(),
            accepted: Vec::new(),
            acknowledged: Vec::new(),
            frame_ends: vec![LogPosition(0)],
            start: LogPosition(0),
            starts_tried: Vec::new(),
            clean_end: None,
            next_id: 1,
            now_ms: 1_000_000,
        }
    }

    fn run(&mut self, coverage: &mut Coverage) {
        for _ in 0..2 + self.entropy.below(4) {
            self.live(false, coverage);
        }
        self.live(true, coverage);
    }

    /// One process, from its start to its end. The last one meets no faults.
    fn live(&mut self, is_last: bool, coverage: &mut Coverage) {
        coverage.lives += 1;
        let armed = if is_last { 0 } else { self.arm() };
        let life = self.disk.lives();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let seen = Arc::new(Seen::default());
        let durable = runtime.block_on(async {
            let clock = Clock::anchored(Timestamp(self.now_ms));
            let tasks = Tasks::simulated(tokio::runtime::Handle::current(), Entropy::seeded(self.entropy.next_u64()));
            let known = self.pick_known();
            let log = match Log::open(self.options.clone(), self.disk.life(), &clock, known, self.clean_end) {
                Ok(log) => log,
                Err(error) => {
                    let excused = self.disk.lives() != life || armed > 0;
                    assert!(excused && matches!(error, OpenLogError::Io { .. }), "the log does not open: {error}");
                    coverage.failed_opens += 1;
                    return None;
                }
            };
            if !self.check(&log, life, armed, coverage) {
                coverage.failed_opens += 1;
                return None;
            }
            let marks = Watermarks::start(&tasks);
            seen.wants_written.store(self.entropy.below(2) == 0, Ordering::Relaxed);
            log.run(&tasks, marks.clone(), seen.clone()).unwrap();
            self.work(&log, &marks, &seen, is_last, life, coverage).await;
            self.now_ms = clock.now().millis();
            if let LogHealth::Failed { .. } = log.health() {
                coverage.failed_logs += 1;
                assert!(matches!(log.append(unit(0)), Err(AppendError::Failed(_))), "a failed log accepted a unit");
            }
            Some(marks.mark(Rung::Durable))
        });
        // The process is gone with its tasks; what it had not been told is unknown.
        drop(runtime);
        self.disk.clear_faults();
        if self.disk.lives() == life {
            if self.entropy.below(2) == 0 { self.disk.power_cut() } else { self.disk.kill() }
        }
        if let Some(durable) = durable {
            self.note_end(&seen, durable, coverage);
        }
    }

    fn note_end(&mut self, seen: &Seen, durable: UnitSeq, coverage: &mut Coverage) {
        let stored = std::mem::take(&mut *seen.durable.lock());
        assert_eq!(stored.len() as u64, durable.get(), "the mark and the listener disagree");
        let segments: std::collections::BTreeSet<u64> =
            stored.iter().map(|unit| unit.frame.get() / self.options.segment_bytes).collect();
        coverage.rolled += (segments.len() as u64).saturating_sub(1);
        self.acknowledged = stored;
        self.frame_ends.extend(seen.ends.lock().drain(..));
    }

    /// Arms faults and the end of the life; answers how many faults.
    fn arm(&self) -> u64 {
        let calls =
            [Call::Write, Call::Sync, Call::SyncDir, Call::Rename, Call::Open, Call::Read, Call::SetLen, Call::Remove];
        let faults = if self.entropy.below(3) == 0 { 1 + self.entropy.below(2) } else { 0 };
        for _ in 0..faults {
            let call = calls[index(&self.entropy, calls.len())];
            let effect = match self.entropy.below(4) {
                0 if call == Call::Write => Effect::Short(index(&self.entropy, 600)),
                1 if matches!(call, Call::Write | Call::SetLen) => Effect::NoSpace,
                _ => Effect::Fail,
            };
            // Failing to make the directories above durable is not among the faults: nothing could be promised then.
            self.disk.plan(Fault::new(call, effect).after(self.entropy.below(12)).on("log"));
        }
        if self.entropy.below(2) == 0 {
            let ending = if self.entropy.below(3) == 0 { Ending::Kill } else { Ending::PowerCut };
            self.disk.end_after(self.entropy.below(150), ending);
        }
        faults
    }

    /// The folded state knows the log up to the end of some frame that was durable.
    fn pick_known(&self) -> LogPosition {
        self.frame_ends[index(&self.entropy, self.frame_ends.len())]
    }

    /// Compares what the log holds with what it must hold; from then on that is certain. False: it could not be read.
    fn check(&mut self, log: &Log, life: u64, armed: u64, coverage: &mut Coverage) -> bool {
        let mut found = Vec::new();
        let mut ends = vec![LogPosition(0)];
        for frame in log.replay(LogPosition(0)) {
            match frame {
                Ok(frame) => {
                    found.extend(units_of(&frame));
                    ends.push(frame.end);
                }
                Err(error) => {
                    let excused = self.disk.lives() != life || armed > 0;
                    assert!(excused && matches!(error, ReadError::Io { .. }), "the log does not read: {error}");
                    return false;
                }
            }
        }
        assert!(
            log.start() == self.start || self.starts_tried.contains(&log.start()),
            "the log begins at {}, where nobody let it begin",
            log.start()
        );
        self.start = log.start();
        self.starts_tried.clear();
        let accepted = std::mem::take(&mut self.accepted);
        let mut certain = std::mem::take(&mut self.settled);
        certain.append(&mut self.acknowledged);
        let acknowledged_now = certain.len();
        certain.retain(|stored| stored.frame >= self.start);
        assert!(
            found.len() >= certain.len(),
            "acknowledged units are missing: {} of {acknowledged_now}",
            certain.len() - found.len()
        );
        assert_eq!(found[..certain.len()], certain[..], "acknowledged units are not where they were");
        let rest = &found[certain.len()..];
        let unknown: Vec<u64> = accepted.iter().copied().filter(|id| !is_among(&certain, *id)).collect();
        let rest_ids: Vec<u64> = rest.iter().map(|stored| stored.id).collect();
        let unknown = &unknown[unknown.len().saturating_sub(self.unacknowledged_after(&accepted, &certain))..];
        assert!(unknown.starts_with(&rest_ids), "found {rest_ids:?}, but only {unknown:?} can be there");
        assert!(rest.windows(2).all(|pair| pair[0].frame == pair[1].frame), "two frames were in flight");
        let shapes = |ids: &[u64]| -> Vec<Shape> {
            ids.iter().filter(|id| **id & OPENED == 0).map(|id| shape_of(*id)).collect()
        };
        shapes(&rest_ids).into_iter().for_each(|shape| *coverage.kept.entry(shape).or_default() += 1);
        shapes(&unknown[rest_ids.len()..]).into_iter().for_each(|shape| *coverage.lost.entry(shape).or_default() += 1);
        coverage.survived += u64::from(!rest.is_empty());
        coverage.torn_or_lost += u64::from(rest.is_empty() && !unknown.is_empty());
        for stored in found.iter().rev().take(3) {
            self.check_read(log, stored);
        }
        self.frame_ends = ends;
        self.settled = found;
        true
    }

    /// How many of the accepted units come after the last acknowledged one.
    fn unacknowledged_after(&self, accepted: &[u64], certain: &[Stored]) -> usize {
        accepted.iter().rev().take_while(|id| !is_among(certain, **id)).count()
    }

    fn check_read(&self, log: &Log, stored: &Stored) {
        for at in &stored.records {
            match log.read_blocking(*at) {
                Ok(bytes) => assert_eq!(id_of(&decode(&bytes).unwrap()), stored.id),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("os error 5") || text.contains("killed"), "cannot read: {text}");
                }
            }
        }
    }

    async fn work(
        &mut self,
        log: &Log,
        marks: &Watermarks,
        seen: &Seen,
        is_last: bool,
        life: u64,
        coverage: &mut Coverage,
    ) {
        self.clean_end = None;
        self.accepted.push(OPENED | log.term().get());
        for _ in 0..4 + self.entropy.below(24) {
            if self.disk.lives() != life {
                return;
            }
            match self.entropy.below(16) {
                0..=5 => self.append(log),
                6..=8 => {
                    let last = UnitSeq(self.accepted.len() as u64);
                    let waited = tokio::time::timeout(Duration::from_secs(30), marks.wait(Rung::Durable, last)).await;
                    let outcome = waited.expect("the log neither writes nor fails");
                    assert!(outcome.is_ok() || !is_last, "a log without faults failed: {:?}", log.health());
                }
                9..=11 => tokio::task::yield_now().await,
                12 => tokio::time::sleep(Duration::from_millis(self.entropy.below(50))).await,
                13 => {
                    let stored = seen.durable.lock().last().cloned();
                    if let Some(stored) = stored {
                        self.check_read(log, &stored);
                    }
                }
                14 => self.trim(log, coverage),
                _ if self.entropy.below(8) == 0 => break,
                _ => {}
            }
        }
        if self.disk.lives() == life && (is_last || self.entropy.below(3) == 0) {
            log.close().await;
            if self.disk.lives() == life && log.health() == LogHealth::Ready {
                coverage.clean_ends += 1;
                self.clean_end = Some(log.end());
                assert_eq!(marks.mark(Rung::Durable).get(), self.accepted.len() as u64, "closing left units behind");
            }
        }
    }

    fn append(&mut self, log: &Log) {
        for _ in 0..1 + self.entropy.below(4) {
            let id = self.next_id;
            self.next_id += 1;
            match log.append(unit(id)) {
                Ok(seq) => {
                    self.accepted.push(id);
                    assert_eq!(seq.get(), self.accepted.len() as u64);
                }
                Err(AppendError::Full { .. } | AppendError::Failed(_) | AppendError::DiskFull(_)) => {}
                Err(other) => panic!("refused: {other}"),
            }
        }
    }

    fn trim(&mut self, log: &Log, coverage: &mut Coverage) {
        let up_to = self.pick_known();
        let ends: Vec<LogPosition> = log.segments().iter().map(|info| info.base.plus(info.bytes)).collect();
        self.starts_tried.extend(ends.into_iter().filter(|end| *end <= up_to));
        if matches!(log.drop_segments_before(up_to), Ok(count) if count > 0) {
            coverage.trims += 1;
        }
        // What the folded state knows never lies below the log's start.
        self.frame_ends.retain(|end| *end >= log.start());
        if self.frame_ends.is_empty() {
            self.frame_ends.push(log.start());
        }
    }
}

fn is_among(stored: &[Stored], id: u64) -> bool {
    stored.iter().any(|unit| unit.id == id)
}

fn index(entropy: &Entropy, count: usize) -> usize {
    usize::try_from(entropy.below(count as u64)).unwrap()
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn run_histories(seeds: std::ops::Range<u64>) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| History::new(seed).run(&mut coverage)));
        if let Err(panic) = outcome {
            eprintln!("the history of seed {seed} broke a promise; repeat it with");
            eprintln!("  BOLIDE_POWER_CUT_SEED={seed} cargo test --test power_cut");
            std::panic::resume_unwind(panic);
        }
    }
    coverage
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_lost_comes_back() {
    let only = number_from("BOLIDE_POWER_CUT_SEED");
    let from = only.or_else(|| number_from("BOLIDE_POWER_CUT_FROM")).unwrap_or(0);
    let count = if only.is_some() { 1 } else { number_from("BOLIDE_POWER_CUT_HISTORIES").unwrap_or(HISTORIES) };
    // Two halves at a time; each history is a world of its own.
    let middle = from + count / 2;
    let first = std::thread::spawn(move || run_histories(from..middle));
    let second = run_histories(middle..from + count);
    let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    for coverage in [first, second] {
        eprintln!("{coverage:?}");
        let Coverage {
            lives,
            torn_or_lost,
            survived,
            failed_logs,
            failed_opens,
            clean_ends,
            trims,
            rolled,
            kept,
            lost,
        } = coverage;
        for reached in [torn_or_lost, survived, failed_logs, failed_opens, clean_ends, trims, rolled] {
            assert!(count < 1_000 || reached * 100 >= lives, "the histories hardly reach some cases");
        }
        for shape in SHAPES {
            let seen = |units: &BTreeMap<Shape, u64>| units.get(&shape).copied().unwrap_or_default();
            assert!(count < 1_000 || seen(&kept).min(seen(&lost)) >= 10, "{shape:?} hardly survives or is hardly lost");
        }
    }
}
