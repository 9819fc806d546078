//! What a caller of the log sees when a call of the operating system fails, runs out of space or stalls, and when the files
//! are not what they should be. Texts are compared exactly where an operator has to act on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bolide::model::position::{GroupId, LogPosition, QueueId, QueueOffset, RecordAt, TopicId, UnitSeq};
use bolide::model::time::Timestamp;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::{Tasks, Threads};
use bolide::runtime::watermark::{Rung, ShardFailed, Watermarks};
use bolide::store::files::memory::{Call, Effect, Fault, Gate, MemoryFiles};
use bolide::store::files::{Files, LockError};
use bolide::store::log::{
    AppendError, Frame, FrameListener, Log, LogHealth, LogOptions, OpenLogError, ReadError, Room,
};
use bolide::store::record::{Record, Unit, decode, walk};
use parking_lot::Mutex;
use tokio::sync::Notify;

const SEGMENT_BYTES: u64 = 4096;
/// Bytes of a frame with nothing but the record of the opening: header, record, padding.
const OPENING_BYTES: u64 = 64 + 32;

#[derive(Default)]
struct Seen {
    durable: Mutex<Vec<Frame>>,
    failure: Mutex<Option<String>>,
    panics: AtomicBool,
    is_full: AtomicBool,
    emptied: Notify,
}

impl FrameListener for Seen {
    fn reached(&self, rung: Rung, frame: &Frame) {
        assert_eq!(rung, Rung::Durable, "nobody wanted to know of written frames");
        assert!(!self.panics.load(Ordering::Relaxed), "a listener that panics");
        self.durable.lock().push(frame.clone());
    }

    fn wants_written(&self) -> bool {
        false
    }

    fn failed(&self, cause: &str) {
        *self.failure.lock() = Some(cause.to_owned());
    }

    fn observe_sync(&self, _duration: Duration, _units: usize, _bytes: usize) {}

    fn has_room(&self) -> bool {
        !self.is_full.load(Ordering::Acquire)
    }

    fn room(&self) -> Room<'_> {
        Box::pin(async {
            while !self.has_room() {
                self.emptied.notified().await;
            }
        })
    }
}

struct Running {
    log: Log,
    marks: Watermarks,
    seen: Arc<Seen>,
}

impl Running {
    /// Opens and starts a log; the record of the opening is durable when this returns.
    async fn start(disk: &MemoryFiles) -> Self {
        let running = Self::start_with(disk, options()).await;
        running.durable(UnitSeq(1)).await.unwrap();
        running
    }

    async fn start_with(disk: &MemoryFiles, options: LogOptions) -> Self {
        let log = open(disk, options, LogPosition(0)).unwrap();
        let tasks = Tasks::simulated(tokio::runtime::Handle::current(), Entropy::seeded(1));
        let marks = Watermarks::start(&tasks);
        let seen = Arc::new(Seen::default());
        log.run(&tasks, marks.clone(), seen.clone()).unwrap();
        // Long enough in virtual time for the first segment to be filled and the next one to be prepared.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self { log, marks, seen }
    }

    async fn durable(&self, seq: UnitSeq) -> Result<(), ShardFailed> {
        tokio::time::timeout(Duration::from_secs(60), self.marks.wait(Rung::Durable, seq))
            .await
            .expect("the log neither wrote the unit nor failed")
    }

    /// Appends and waits.
    async fn store(&self, id: u64) -> Result<(), ShardFailed> {
        let seq = self.log.append(state(id)).unwrap();
        self.durable(seq).await
    }

    fn failure(&self) -> String {
        let LogHealth::Failed { text } = self.log.health() else { panic!("the log did not fail") };
        assert_eq!(self.seen.failure.lock().as_deref(), Some(text.as_str()), "the listener was told something else");
        assert_eq!(self.log.append(state(0)), Err(AppendError::Failed(text.clone())));
        text
    }
}

fn options() -> LogOptions {
    LogOptions::tiny("data", SEGMENT_BYTES)
}

fn open(disk: &MemoryFiles, options: LogOptions, known: LogPosition) -> Result<Log, OpenLogError> {
    let clock = Clock::anchored(Timestamp(1_000));
    Log::open(options, disk.life(), &clock, known, None)
}

fn segment(base: u64) -> PathBuf {
    PathBuf::from(format!("data/shard-0/log/{base:020}.seg"))
}

fn fill(mut unit: Unit, id: u64, records: u64) -> Unit {
    for _ in 0..records {
        unit.push(&Record::Advanced { group: GroupId(1), topic: TopicId(2), queue: QueueId(3), next: QueueOffset(id) });
    }
    unit
}

fn state(id: u64) -> Unit {
    fill(Unit::state(), id, 1)
}

fn send(id: u64) -> Unit {
    fill(Unit::send(64), id, 1)
}

/// Numbers of the units that the log holds.
fn ids(log: &Log) -> Vec<u64> {
    let mut ids = Vec::new();
    for frame in log.replay(LogPosition(0)) {
        let frame = frame.unwrap();
        for record in walk(frame.payload, frame.payload_position) {
            if let Record::Advanced { next, .. } = decode(&record.unwrap().1).unwrap() {
                ids.push(next.get());
            }
        }
    }
    ids
}

/// A log with the units 1 to `count`, each in a frame of its own, and the places of these frames.
async fn written(disk: &MemoryFiles, count: u64) -> Vec<LogPosition> {
    let running = Running::start(disk).await;
    for id in 1..=count {
        running.store(id).await.unwrap();
    }
    running.log.close().await;
    let positions = running.seen.durable.lock().iter().map(|frame| frame.position).collect();
    disk.kill();
    positions
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_the_log_and_whoever_waits_is_told() {
    let disk = MemoryFiles::new(1);
    let running = Running::start(&disk).await;
    disk.plan(Fault::fail(Call::Write).on(".seg"));
    assert_eq!(running.store(1).await, Err(ShardFailed));
    let text = running.failure();
    assert_eq!(text, format!("cannot write to {}: Input/output error (os error 5)", segment(0).display()));
    let syncs = disk.calls(Call::Sync);
    assert_eq!(running.durable(UnitSeq(1)).await, Ok(()), "what was durable before stays so");
    running.log.close().await;
    assert_eq!(disk.calls(Call::Sync), syncs, "a log that failed was synced again");
}

#[tokio::test(start_paused = true)]
async fn a_short_write_ends_the_log_and_leaves_no_part_of_the_unit() {
    let disk = MemoryFiles::new(2);
    let running = Running::start(&disk).await;
    disk.plan(Fault::new(Call::Write, Effect::Short(70)).on(".seg"));
    assert_eq!(running.store(1).await, Err(ShardFailed));
    running.failure();
    disk.kill();
    assert_eq!(ids(&open(&disk, options(), LogPosition(0)).unwrap()), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_is_never_followed_by_another_one() {
    let disk = MemoryFiles::new(3);
    let running = Running::start(&disk).await;
    disk.plan(Fault::fail(Call::Sync).on(".seg"));
    assert_eq!(running.store(1).await, Err(ShardFailed));
    let text = running.failure();
    assert_eq!(text, format!("cannot sync {}: Input/output error (os error 5)", segment(0).display()));
    assert_eq!(disk.clear_faults(), 0);
    let syncs = disk.calls(Call::Sync);
    tokio::time::sleep(Duration::from_secs(10)).await;
    running.log.close().await;
    assert_eq!(disk.calls(Call::Sync), syncs, "a sync that would succeed now proves nothing about the one that failed");
    assert_eq!(running.log.stats().durable_end, LogPosition(64 + OPENING_BYTES));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_leaves_nobody_waiting() {
    let disk = MemoryFiles::new(23);
    let running = Running::start(&disk).await;
    running.seen.panics.store(true, Ordering::Relaxed);
    assert_eq!(running.store(1).await, Err(ShardFailed));
    assert_eq!(running.failure(), "the appender panicked");
    running.log.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_whose_sync_failed_is_there_or_not_but_stays_so() {
    // The process that follows sees the frame in the page cache, whatever the disk has of it.
    for seed in 0..50 {
        let disk = MemoryFiles::new(seed);
        let running = Running::start(&disk).await;
        disk.plan(Fault::fail(Call::Sync).on(".seg"));
        assert_eq!(running.store(1).await, Err(ShardFailed));
        disk.kill();
        let second = Running::start(&disk).await;
        let seen = ids(&second.log);
        second.store(2).await.unwrap();
        disk.power_cut();
        let found = ids(&open(&disk, options(), LogPosition(0)).unwrap());
        assert_eq!(found, [seen, vec![2]].concat(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_opened_says_which_call_failed_on_what() {
    let disk = MemoryFiles::new(4);
    written(&disk, 3).await;
    for (call, action) in [(Call::Open, "open"), (Call::Read, "read"), (Call::Write, "write"), (Call::Sync, "sync")] {
        disk.plan(Fault::fail(call).on(".seg"));
        let text = open(&disk, options(), LogPosition(0)).unwrap_err().to_string();
        assert_eq!(text, format!("cannot {action} {}: Input/output error (os error 5)", segment(0).display()));
        assert_eq!(disk.clear_faults(), 0);
    }
    assert_eq!(
        ids(&open(&disk, options(), LogPosition(0)).unwrap()),
        vec![1, 2, 3],
        "a failed opening changed something"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_the_readers_alone() {
    let disk = MemoryFiles::new(5);
    let running = Running::start_with(&disk, LogOptions { cache_bytes: 0, ..options() }).await;
    running.store(1).await.unwrap();
    running.store(2).await.unwrap();
    let frame = running.seen.durable.lock()[1].clone();
    let at = RecordAt { position: frame.payload_position, length: u32::try_from(frame.payload.len()).unwrap() };
    disk.plan(Fault::fail(Call::Read));
    let error = running.log.read(at).await.unwrap_err();
    assert_eq!(error, ReadError::Io { position: at.position, text: "Input/output error (os error 5)".to_owned() },);
    assert_eq!(running.log.read(at).await.unwrap(), frame.payload);
    assert_eq!(running.log.health(), LogHealth::Ready);
    let beyond = RecordAt { position: running.log.end(), length: 8 };
    assert!(matches!(running.log.read(beyond).await, Err(ReadError::Outside { .. })));
    let between = RecordAt { position: LogPosition(at.position.get() + 1), length: 8 };
    assert!(matches!(running.log.read(between).await, Err(ReadError::Damaged { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_nearly_full_disk_refuses_messages_takes_everything_else_and_recovers_by_itself() {
    let disk = MemoryFiles::new(6);
    disk.set_space(1_000_000, 0);
    let running = Running::start(&disk).await;
    disk.set_space(1_000_000, 900_000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let Err(AppendError::DiskFull(text)) = running.log.append(send(1)) else { panic!("a message was taken") };
    assert_eq!(text, "90.8 % of the disk is used and 0 MiB are free; new messages are taken again below 88 %");
    assert_eq!(running.log.health(), LogHealth::DiskFull { text });
    running.store(2).await.unwrap();
    disk.set_space(1_000_000, 870_500);
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.log.append(send(3)).expect("88 % is passed");
    disk.set_space(1_000_000, 881_000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.log.append(send(4)).expect("between the marks, coming from below");
    running.log.close().await;
    assert_eq!(ids(&running.log), vec![2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn without_space_for_a_segment_state_changes_go_on_in_the_one_kept_ready() {
    let disk = MemoryFiles::new(7);
    let marks_off = LogOptions { disk_high_watermark: 2.0, disk_low_watermark: 2.0, ..options() };
    disk.set_space(SEGMENT_BYTES * 2 + 100, 0);
    let running = Running::start_with(&disk, marks_off).await;
    // The first segment is in use and the second one ready: no third one fits.
    let mut stored = 0;
    while running.log.segments().len() < 2 {
        stored += 1;
        running.store(stored).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        running.log.append(send(0)),
        Err(AppendError::DiskFull("there is no space for the next segment of the log".to_owned())),
    );
    stored += 1;
    running.store(stored).await.unwrap();
    disk.set_space(SEGMENT_BYTES * 10, 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.log.append(send(stored + 1)).expect("there is space again");
    running.log.close().await;
    assert_eq!(ids(&running.log), (1..=stored + 1).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_log_that_waits_for_space_goes_on_with_what_it_accepted() {
    let disk = MemoryFiles::new(8);
    let marks_off = LogOptions { disk_high_watermark: 2.0, disk_low_watermark: 2.0, ..options() };
    disk.set_space(SEGMENT_BYTES + 100, 0);
    let running = Running::start_with(&disk, marks_off).await;
    let mut last = UnitSeq(0);
    for id in 1..=60 {
        last = running.log.append(state(id)).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(running.marks.mark(Rung::Durable) < last, "the first segment cannot hold them all");
    assert!(matches!(running.log.health(), LogHealth::DiskFull { .. }));
    disk.set_space(SEGMENT_BYTES * 10, 0);
    running.durable(last).await.unwrap();
    running.log.close().await;
    assert_eq!(ids(&running.log), (1..=60).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_space_that_never_comes() {
    let disk = MemoryFiles::new(9);
    let marks_off = LogOptions { disk_high_watermark: 2.0, disk_low_watermark: 2.0, ..options() };
    disk.set_space(SEGMENT_BYTES + 100, 0);
    let running = Running::start_with(&disk, marks_off).await;
    for id in 1..=60 {
        running.log.append(state(id)).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::timeout(Duration::from_secs(5), running.log.close()).await.expect("closing hangs");
    assert_eq!(
        running.log.health(),
        LogHealth::Failed { text: "the log was closed while there was no space for the next segment".to_owned() },
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_without_space_is_repeated_when_there_is_some() {
    let disk = MemoryFiles::new(10);
    let running = Running::start(&disk).await;
    disk.plan(Fault::new(Call::Write, Effect::NoSpace).on(".seg").times(3));
    let seq = running.log.append(state(1)).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(matches!(running.log.append(send(2)), Err(AppendError::DiskFull(_))));
    running.durable(seq).await.unwrap();
    running.log.append(send(3)).unwrap();
    running.log.close().await;
    assert_eq!(ids(&running.log), vec![1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_made_matters_only_when_it_is_needed() {
    let disk = MemoryFiles::new(11);
    let log = options();
    disk.plan(Fault::fail(Call::Rename).on("next.tmp").after(1).times(3));
    let running = Running::start_with(&disk, log).await;
    running.store(1).await.expect("the next segment is not needed yet");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut id = 1;
    while running.log.segments().len() < 2 {
        id += 1;
        running.store(id).await.expect("the segment could be made at a later attempt");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    disk.plan(Fault::fail(Call::Rename).on("next.tmp").times(1_000));
    let failed = loop {
        id += 1;
        if running.store(id).await.is_err() {
            break running.failure();
        }
    };
    assert_eq!(failed, "cannot make the next segment: Input/output error (os error 5)");
    assert!(running.log.segments().len() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_messages_and_a_listener_without_room_holds_up_the_appender() {
    let disk = MemoryFiles::new(12);
    let size = state(1).bytes().len();
    let running = Running::start_with(&disk, LogOptions { queue_bytes_max: size * 3, ..options() }).await;
    running.seen.is_full.store(true, Ordering::Release);
    for id in 1..=3 {
        running.log.append(state(id)).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.log.append(send(0)), Err(AppendError::Full { waiting_bytes: size * 3 }));
    running.log.append(state(4)).expect("state changes have been decided already and are taken");
    assert_eq!(running.marks.mark(Rung::Durable), UnitSeq(1));
    running.seen.is_full.store(false, Ordering::Release);
    running.seen.emptied.notify_one();
    running.durable(UnitSeq(5)).await.unwrap();
    running.log.append(send(5)).expect("the queue is empty");
    let large = fill(Unit::state(), 6, 100);
    assert!(matches!(running.log.append(large), Err(AppendError::TooLarge { .. })));
}

#[test]
fn a_sync_that_takes_long_holds_up_the_promise_and_nothing_else() {
    let disk = MemoryFiles::new(13);
    let threads = Threads::start(1).unwrap();
    let tasks = threads.tasks();
    let gate = Gate::new();
    threads.block_on(async {
        let log = open(&disk, options(), LogPosition(0)).unwrap();
        let marks = Watermarks::start(&tasks);
        let seen = Arc::new(Seen::default());
        log.run(&tasks, marks.clone(), seen.clone()).unwrap();
        marks.wait(Rung::Durable, UnitSeq(1)).await.unwrap();
        disk.plan(Fault::new(Call::Sync, Effect::Stall(gate.clone())).on("00.seg"));
        let seq = log.append(state(1)).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while gate.waiting() == 0 {
            assert!(std::time::Instant::now() < deadline, "the sync never came");
            tokio::task::yield_now().await;
        }
        let later = log.append(state(2)).expect("units are accepted meanwhile");
        assert!(marks.mark(Rung::Durable) < seq);
        let first = seen.durable.lock()[0].clone();
        let at = RecordAt { position: first.payload_position, length: u32::try_from(first.payload.len()).unwrap() };
        assert_eq!(log.read(at).await.unwrap(), first.payload, "reads wait for the sync");
        gate.open();
        marks.wait(Rung::Durable, later).await.unwrap();
        log.close().await;
        assert_eq!(ids(&log), vec![1, 2]);
    });
    threads.stop();
}

#[tokio::test(start_paused = true)]
async fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let disk = MemoryFiles::new(14);
    let frames = written(&disk, 3).await;
    let last = usize::try_from(frames[3].get()).unwrap();
    disk.damage(&segment(0), last + 70, &[0xff; 4]);
    let running = Running::start(&disk).await;
    assert_eq!(running.log.term().get(), 2);
    running.store(4).await.unwrap();
    disk.power_cut();
    assert_eq!(ids(&open(&disk, options(), LogPosition(0)).unwrap()), vec![1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_stops_the_opening_and_changes_nothing() {
    let disk = MemoryFiles::new(15);
    let frames = written(&disk, 3).await;
    let second = usize::try_from(frames[2].get()).unwrap();
    disk.damage(&segment(0), second + 70, &[0xff; 4]);
    let before = disk.peek(&segment(0)).unwrap();
    let error = open(&disk, options(), LogPosition(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the log is damaged in the middle: segment data/shard-0/log/00000000000000000000.seg, byte 256 (log position 256): \
         the checksum does not match, but frame 4 at position 352 is whole. Nothing was changed. \
         Restore the data directory from a copy, or look at what is left with `bolide inspect log`; \
         acknowledged messages are never dropped silently"
    );
    assert_eq!(disk.peek(&segment(0)).unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_last_frame_that_was_acknowledged_is_never_cut() {
    let disk = MemoryFiles::new(16);
    let frames = written(&disk, 3).await;
    let end = open(&disk, options(), LogPosition(0)).unwrap().end();
    let last = usize::try_from(frames[3].get()).unwrap();
    disk.damage(&segment(0), last + 70, &[0xff; 4]);
    let error = open(&disk, options(), end).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the log is damaged in the middle: segment data/shard-0/log/00000000000000000000.seg, byte 352 (log position 352): \
         the checksum does not match, and everything up to position 448 had been acknowledged. Nothing was changed. \
         Restore the data directory from a copy, or look at what is left with `bolide inspect log`; \
         acknowledged messages are never dropped silently"
    );
    // The same when only the note of an orderly shutdown knows of it.
    let clock = Clock::anchored(Timestamp(1_000));
    let error = Log::open(options(), disk.life(), &clock, LogPosition(0), Some(end)).unwrap_err();
    assert!(matches!(error, OpenLogError::Damaged { offset: 352, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_ends_too_early_is_not_opened() {
    let disk = MemoryFiles::new(17);
    written(&disk, 3).await;
    let error = open(&disk, options(), LogPosition(1_000)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the log ends at position 448, but everything up to position 1000 had been acknowledged. Nothing was changed. \
         Restore the data directory from a copy; acknowledged messages are never dropped silently"
    );
    let empty = MemoryFiles::new(18);
    let error = open(&empty, options(), LogPosition(1_000)).unwrap_err();
    assert!(matches!(error, OpenLogError::EndMissing { end: LogPosition(0), .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_is_named_and_a_damaged_one_too() {
    let disk = MemoryFiles::new(19);
    let frames = written(&disk, 120).await;
    let bases: Vec<u64> = (0..3).map(|number| number * SEGMENT_BYTES).collect();
    assert!(frames.last().unwrap().get() > bases[2], "three segments are needed");
    let kept = disk.peek(&segment(bases[1])).unwrap();
    disk.remove(&segment(bases[1])).unwrap();
    let error = open(&disk, options(), LogPosition(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the segment of log data/shard-0/log that begins at position 4096 is missing. Nothing was changed. \
         Restore the data directory from a copy; acknowledged messages are never dropped silently"
    );
    let file = disk.open(&segment(bases[1]), bolide::store::files::OpenMode::CreateNew).unwrap();
    file.write_all_at(&kept, 0).unwrap();
    assert_eq!(ids(&open(&disk, options(), LogPosition(0)).unwrap()).len(), 120);
    disk.damage(&segment(bases[1]), 20, &[0xff]);
    let error = open(&disk, options(), LogPosition(0)).unwrap_err().to_string();
    let wanted = "the log is damaged in the middle: segment data/shard-0/log/00000000000000004096.seg, byte 0 (log position \
                  4096): the checksum of its header does not match.";
    assert!(error.starts_with(wanted), "{error}");
}

#[tokio::test(start_paused = true)]
async fn files_of_a_newer_program_are_refused_with_words() {
    let disk = MemoryFiles::new(20);
    let frames = written(&disk, 3).await;
    let last = usize::try_from(frames[3].get()).unwrap();
    let refused = |path: &Path| {
        format!(
            "{} has format version 7, this program knows version 1; it was written by a newer program: start that one",
            path.display()
        )
    };
    disk.damage(&segment(0), last + 4, &[7, 0]);
    assert_eq!(open(&disk, options(), LogPosition(0)).unwrap_err().to_string(), refused(&segment(0)));
    disk.damage(&segment(0), 4, &[7, 0]);
    assert_eq!(open(&disk, options(), LogPosition(0)).unwrap_err().to_string(), refused(&segment(0)));
    let start = Path::new("data/shard-0/log/start");
    bolide::store::files::write_small_durably(&disk, start, b"bolide log start 7\n0\n").unwrap();
    assert_eq!(open(&disk, options(), LogPosition(0)).unwrap_err().to_string(), refused(start));
}

#[tokio::test(start_paused = true)]
async fn a_directory_in_use_names_its_holder() {
    let disk = MemoryFiles::new(21);
    let path = Path::new("data/LOCK");
    let held = disk.lock(path, "process 4711 on host a").unwrap();
    let Err(refused) = disk.lock(path, "process 4712 on host a") else { panic!("two processes hold one lock") };
    assert!(matches!(refused, LockError::Held { .. }));
    assert_eq!(refused.to_string(), "the data directory is in use by process 4711 on host a (lock file data/LOCK)");
    drop(held);
    disk.lock(path, "process 4712 on host a").unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_segments_are_gone_for_readers_and_are_used_again() {
    let disk = MemoryFiles::new(22);
    let running = Running::start_with(&disk, LogOptions { cache_bytes: 0, ..options() }).await;
    let mut id = 0;
    while running.log.segments().len() < 4 {
        id += 1;
        running.store(id).await.unwrap();
    }
    let first = running.seen.durable.lock()[1].clone();
    let at = RecordAt { position: first.payload_position, length: u32::try_from(first.payload.len()).unwrap() };
    let third = running.log.segments()[2].base;
    assert_eq!(running.log.drop_segments_before(third).unwrap(), 2);
    assert_eq!(running.log.start(), third);
    assert_eq!(running.log.read(at).await, Err(ReadError::Gone { position: at.position, start: third }));
    assert!(disk.exists(Path::new("data/shard-0/log/spare.tmp")), "no dropped segment was kept for recycling");
    assert_eq!(running.log.drop_segments_before(third).unwrap(), 0);
    while running.log.segments().len() < 5 {
        id += 1;
        running.store(id).await.unwrap();
    }
    assert!(!disk.exists(Path::new("data/shard-0/log/spare.tmp")), "the spare segment was not used");
    let expected = ids(&running.log);
    running.log.close().await;
    disk.power_cut();
    let again = open(&disk, options(), LogPosition(0)).unwrap();
    assert_eq!(ids(&again), expected, "a recycled segment shows frames of its earlier life");
    assert_eq!(again.start(), third);
}
