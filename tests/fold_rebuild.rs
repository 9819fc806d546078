//! The fold is nothing but the log, folded: lost, old, damaged or interrupted, it comes back the same, or the store says why
//! it cannot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bolide::model::cluster::{PastPlacement, Placement, Revision, Seal};
use bolide::model::group::Group;
use bolide::model::message::{MessageType, NewMessage, StoredMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::order::order_key;
use bolide::model::position::{
    GrantId, GroupId, HoldId, HolderId, LogPosition, QueueId, QueueOffset, ShardId, TopicId, UnitSeq,
};
use bolide::model::time::Timestamp;
use bolide::model::topic::{Growth, Permission, Promise, Topic, TopicType};
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::{Tasks, Threads};
use bolide::runtime::watermark::Rung;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::files::real;
use bolide::store::inspect::{Inspection, RawRow, SegmentEnd, describe, dump_store};
use bolide::store::kv::handle::Remains;
use bolide::store::kv::{Family, FoldEnv, Kv, KvOptions, Rows};
use bolide::store::log::LogOptions;
use bolide::store::record::{
    DelayOutcome, HalfOutcome, HoldKey, LeaseState, MessageRecord, Record, SettleReason, Unit,
};
use bolide::store::{AppendError, Frame, FrameListener, LogHealth, OpenStoreError, Store, StoreOptions};
use bytes::Bytes;
use proptest::prelude::*;

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const SEGMENT_BYTES: u64 = 16 * 1024;
const START: Timestamp = Timestamp(1_700_000_000_000);

struct Deaf;

impl FrameListener for Deaf {
    fn reached(&self, _: Rung, _: &Frame) {}
    fn wants_written(&self) -> bool {
        false
    }
    fn failed(&self, _: &str) {}
    fn observe_sync(&self, _: Duration, _: usize, _: usize) {}
}

fn options(dir: &Path) -> StoreOptions {
    let log = LogOptions::tiny(&dir.to_string_lossy(), SEGMENT_BYTES);
    StoreOptions { log, fold_flush_log_bytes: 6 * 1024, ..StoreOptions::default() }
}

/// Disks that outlive processes.
struct World {
    files: MemoryFiles,
    env: FoldEnv,
    options: StoreOptions,
    lives: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let env = FoldEnv::memory().unwrap();
        Self { files: MemoryFiles::new(seed), env, options: options(Path::new("/data")), lives: 0 }
    }

    fn fold_path(&self) -> PathBuf {
        PathBuf::from("/data/shard-0/fold")
    }

    /// One process: opens the store and does `life`; then it is gone without a farewell.
    fn life<T>(&mut self, life: impl AsyncFnOnce(Result<Store, OpenStoreError>) -> T) -> T {
        self.lives += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let result = runtime.block_on(async {
            let tasks = Tasks::simulated(tokio::runtime::Handle::current(), Entropy::seeded(self.lives));
            let clock = Clock::anchored(START.plus(Duration::from_secs(self.lives)));
            let store = Store::open(self.options.clone(), self.files.life(), self.env.clone(), &clock, tasks);
            life(store).await
        });
        drop(runtime);
        result
    }

    fn kill(&mut self) {
        self.files.kill();
    }

    /// What the fold says right after opening, before anything is appended.
    fn look(&mut self) -> Result<Vec<RawRow>, OpenStoreError> {
        let rows = self.life(async |store| store.map(|store| dump_store(&store).unwrap()));
        self.kill();
        rows
    }
}

fn running(store: Result<Store, OpenStoreError>) -> Store {
    let store = store.unwrap();
    store.run(Arc::new(Deaf)).unwrap();
    store
}

async fn durable(store: &Store, unit: Unit) -> UnitSeq {
    let seq = store.append(unit).unwrap();
    store.marks().wait(Rung::Durable, seq).await.unwrap();
    seq
}

/// Waits until the fold is as far as the log.
async fn folded(store: &Store) {
    assert!(store.wait_folded(store.log_end()).await);
}

fn unit(records: &[Record]) -> Unit {
    let mut unit = Unit::state();
    for record in records {
        unit.push(record);
    }
    unit
}

fn catalogue() -> Unit {
    let topic = Topic {
        id: TOPIC,
        name: TopicName::trusted("", "orders"),
        topic_type: TopicType::Normal,
        queues: 2,
        permission: Permission::default(),
        promise: Promise::Durable,
        retention: None,
        lite_ttl: None,
    };
    unit(&[Record::TopicPut(topic), Record::GroupPut(Group::with_defaults(GROUP, GroupName::trusted("", "workers")))])
}

fn message(queue: u32, offset: u64, body_bytes: usize) -> Unit {
    let message = NewMessage {
        message_id: format!("m-{queue}-{offset}"),
        rest: Bytes::from(vec![b'x'; body_bytes]),
        body_bytes: u32::try_from(body_bytes).unwrap(),
        ..NewMessage::default()
    };
    let mut unit = Unit::send(body_bytes + 128);
    let slot = unit.push_message(TOPIC, Promise::Durable, 5, &message);
    unit.place(slot, QueueId(queue), QueueOffset(offset), START);
    unit
}

fn granted(queue: u32, offsets: std::ops::Range<u64>) -> Record {
    let lease = LeaseState::Leased {
        deadline: START,
        grant: GrantId(offsets.start),
        holder: HolderId(1),
        auto_renew: false,
        attempt_key: 0,
    };
    let next = QueueOffset(offsets.end);
    let items = offsets.map(|offset| (QueueOffset(offset), 1)).collect();
    Record::Granted { group: GROUP, topic: TOPIC, queue: QueueId(queue), next, lease, items }
}

fn settled(queue: u32, offsets: &[u64]) -> Record {
    let offsets = offsets.iter().copied().map(QueueOffset).collect();
    Record::Settled { group: GROUP, topic: TOPIC, queue: QueueId(queue), reason: SettleReason::Acked, offsets }
}

/// A half message that comes, one that is checked and given up, one that ends, and the trace of one that is forgotten.
fn transactions(offset: u64) -> Unit {
    let id = |ago: u64| format!("half-{}", offset.saturating_sub(ago));
    let end = |ago, outcome, at| Record::HalfEnded { topic: TOPIC, id: id(ago), outcome, at, was_checked: true };
    let message = NewMessage { message_id: id(0), producer: "client".into(), ..NewMessage::default() };
    let mut unit = Unit::state();
    let slot = unit.push_half(TOPIC, 5, &message, Duration::from_secs(6));
    unit.place(slot, QueueId(0), QueueOffset(0), START);
    if offset > 16 {
        unit.push(&Record::HalfChecked { topic: TOPIC, id: id(4), checks: 1, next_check: START });
        let ended = match offset % 8 {
            3 => HalfOutcome::Committed,
            _ => HalfOutcome::Discarded,
        };
        unit.push(&end(8, ended, Timestamp(offset)));
        let forgotten = match offset % 8 {
            3 => HalfOutcome::Forgotten,
            _ => HalfOutcome::Expired,
        };
        unit.push(&end(16, forgotten, Timestamp(offset - 8)));
    }
    unit
}

/// A message held back, the one before it fired, the one before that recalled.
fn delays(number: u64) -> Vec<Record> {
    let key = |number: u64| HoldKey { due: Timestamp(START.millis() + number * 1000), hold: HoldId(number) };
    let message = MessageRecord {
        topic: TOPIC,
        queue: QueueId(0),
        offset: QueueOffset(0),
        promise: Promise::Durable,
        message_type: MessageType::Delay,
        tag_hash: 0,
        body_bytes: 4,
        message_group: String::new(),
        message: StoredMessage {
            stored_at: START,
            message_id: format!("held-{number}"),
            tag: String::new(),
            rest: Bytes::from_static(b"held"),
            system_static: Bytes::new(),
        },
        origin: None,
    };
    let mut records = vec![Record::Delayed { key: key(number), message }];
    if number >= 8 {
        records.push(Record::DelayEnded { key: key(number - 4), topic: TOPIC, outcome: DelayOutcome::Fired });
        records.push(Record::DelayEnded { key: key(number - 8), topic: TOPIC, outcome: DelayOutcome::Recalled });
    }
    records
}

fn reset(queue: u32, next: u64) -> Record {
    Record::Reset { group: GROUP, topic: TOPIC, queue: QueueId(queue), next: QueueOffset(next) }
}
/// Messages in both queues, most of them delivered, half of those acknowledged.
async fn some_history(store: &Store, from: u64, count: u64, body_bytes: usize) {
    for offset in from..from + count {
        store.append(message(0, offset, body_bytes)).unwrap();
        durable(store, message(1, offset, body_bytes)).await;
        if offset % 4 == 3 {
            let first = offset - 3;
            durable(store, unit(&[granted(0, first..offset)])).await;
            durable(store, unit(&delays(offset))).await;
            durable(store, unit(&[settled(0, &[first, first + 2]), granted(1, first..offset)])).await;
            durable(store, transactions(offset)).await;
        }
    }
    folded(store).await;
}

/// Does what the broker does: says which messages leave, waits for it to be folded, and lets the segments go.
async fn trim(store: &Store, start: LogPosition) -> usize {
    let mut records = Vec::new();
    for (queue, _) in store.queues(TOPIC).unwrap() {
        records.push(Record::Trimmed { topic: TOPIC, queue, first: store.first_in_log(TOPIC, queue, start).unwrap() });
    }
    records.push(Record::LogTrimmed { start });
    durable(store, unit(&records)).await;
    folded(store).await;
    store.trim(start).await.unwrap()
}

const MUCH_LATER: Timestamp = Timestamp(2_000_000_000_000);

#[test]
fn message_groups_and_what_was_passed_over_are_rebuilt_from_the_log() {
    let mut world = World::new(7);
    let before = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        for offset in 0..9 {
            let message = NewMessage { message_group: format!("g{}", offset % 3), ..NewMessage::default() };
            let mut send = Unit::send(100);
            let slot = send.push_message(TOPIC, Promise::Durable, 5, &message);
            send.place(slot, QueueId(0), QueueOffset(offset), START);
            durable(&store, send).await;
        }
        let lane =
            |order_key, from| Record::LaneParked { group: GROUP, topic: TOPIC, queue: QueueId(0), order_key, from };
        let acked = Record::LeaseChanged {
            group: GROUP,
            topic: TOPIC,
            queue: QueueId(0),
            offset: QueueOffset(1),
            attempt: 1,
            lease: LeaseState::Acked { grant: GrantId(0), lease_end: START },
        };
        let passed = [granted(0, 0..3), lane(7, Some(QueueOffset(3))), lane(8, Some(QueueOffset(4))), acked];
        durable(&store, unit(&passed)).await;
        durable(&store, unit(&[lane(7, None)])).await;
        let growth = Growth { fences: vec![QueueOffset(9), QueueOffset(0)] };
        durable(&store, unit(&[Record::QueuesAdded { topic: TOPIC, growth }])).await;
        folded(&store).await;
        let of_group = store.lane_entries(TOPIC, QueueId(0), order_key("g1"), QueueOffset(2), 10).unwrap();
        assert_eq!(of_group.0.iter().map(|entry| entry.offset.get()).collect::<Vec<_>>(), [4, 7]);
        assert_eq!((of_group.1, store.lanes().unwrap().len()), (QueueOffset(9), 1));
        dump_store(&store).unwrap()
    });
    world.kill();
    world.env.destroy(&world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before);
}

#[test]
fn the_revision_of_a_cluster_is_rebuilt_with_its_catalogue() {
    let mut world = World::new(31);
    let applied = |revision| Record::CatalogApplied { revision: Revision(revision) };
    let before = world.life(async |store| {
        let store = running(store);
        assert_eq!(store.applied(), None, "of no cluster");
        durable(&store, catalogue()).await;
        durable(&store, unit(&[applied(3)])).await;
        let past = PastPlacement { generation: 1, shards: vec![ShardId(0)] };
        let placement = |generation, past| Placement { generation, past, ..Placement::first(vec![ShardId(1)]) };
        let placed = |generation, past: &[PastPlacement], fences: &[u64]| Record::Placed {
            topic: TOPIC,
            placement: placement(generation, past.to_vec()),
            seals: vec![Seal { generation: 1, fences: fences.iter().copied().map(QueueOffset).collect() }],
        };
        durable(&store, unit(&[placed(1, &[], &[])])).await;
        durable(&store, unit(&[placed(2, &[past], &[7, 0]), applied(8)])).await;
        folded(&store).await;
        assert_eq!(store.applied(), Some(Revision(8)));
        let (topic, placement, seals) = store.placements().unwrap().remove(0);
        assert_eq!((topic, placement.generation, placement.past.len()), (TOPIC, 2, 1));
        assert_eq!(seals[0].fences, [QueueOffset(7), QueueOffset(0)]);
        dump_store(&store).unwrap()
    });
    world.kill();
    assert_eq!(world.look().unwrap(), before, "after a crash");
    world.env.destroy(&world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before, "rebuilt from nothing");
}

#[test]
fn a_deleted_fold_is_rebuilt_from_the_log() {
    let mut world = World::new(1);
    let before = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 40, 300).await;
        dump_store(&store).unwrap()
    });
    world.kill();
    assert!(before.len() > 100, "the history left rows to compare");
    assert_eq!(world.look().unwrap(), before, "after a crash");
    world.env.destroy(&world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before, "rebuilt from nothing");
}

#[test]
fn resets_back_and_forth_read_the_same_after_every_way_to_rebuild() {
    let mut world = World::new(21);
    let before = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 40, 300).await;
        durable(&store, unit(&[reset(0, 12), granted(0, 12..15)])).await;
        some_history(&store, 40, 40, 300).await;
        durable(&store, unit(&[reset(1, 80), reset(0, 60)])).await;
        durable(&store, unit(&[granted(0, 60..64), settled(0, &[61])])).await;
        folded(&store).await;
        let cursors = store.cursors().unwrap();
        let next = |queue| cursors.iter().find(|row| row.2 == QueueId(queue)).map(|row| row.3);
        assert_eq!((next(0), next(1)), (Some(QueueOffset(64)), Some(QueueOffset(80))));
        let left: Vec<u64> = store.leases().unwrap().iter().map(|row| row.offset.get()).collect();
        assert_eq!(left, [60, 62, 63], "nothing of before a reset is outstanding");
        dump_store(&store).unwrap()
    });
    world.kill();
    assert_eq!(world.look().unwrap(), before, "after a crash");
    for remains in [Remains::Copy(0), Remains::Copy(1), Remains::Nothing] {
        world.env.power_cut(&world.fold_path(), remains).unwrap();
        assert_eq!(world.look().unwrap(), before, "{remains:?}");
    }
    world.env.destroy(&world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before, "rebuilt from nothing");
}

#[test]
fn after_retention_a_deleted_fold_is_rebuilt_from_the_newest_checkpoint() {
    let mut world = World::new(2);
    let before = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 60, 500).await;
        let start = store.retention_cut(MUCH_LATER).expect("several segments are sealed");
        assert!(trim(&store, start).await > 0);
        assert_eq!(store.log_start(), start);
        let bounds = store.queue(TOPIC, QueueId(0)).unwrap();
        assert!(bounds.first > QueueOffset(0) && bounds.next == QueueOffset(60));
        some_history(&store, 60, 30, 500).await;
        dump_store(&store).unwrap()
    });
    world.kill();
    assert_eq!(world.look().unwrap(), before, "after a crash");
    world.env.destroy(&world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before, "rebuilt from the checkpoint");
    // Once more: a checkpoint is not used up.
    world.env.destroy(&world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before, "rebuilt again");
}

#[test]
fn a_fold_of_an_older_flush_catches_up_to_the_same_state() {
    let mut world = World::new(3);
    let before = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 60, 300).await;
        dump_store(&store).unwrap()
    });
    world.kill();
    for remains in [Remains::Copy(0), Remains::Copy(1), Remains::Copy(2), Remains::Nothing] {
        world.env.power_cut(&world.fold_path(), remains).unwrap();
        assert_eq!(world.look().unwrap(), before, "{remains:?}");
    }
}

#[test]
fn a_fold_older_than_the_log_is_replaced_by_the_checkpoint() {
    let mut world = World::new(4);
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 8, 300).await;
    });
    world.kill();
    let old = Path::new("/old-fold");
    world.env.copy(&world.fold_path(), old).unwrap();
    let before = world.life(async |store| {
        let store = running(store);
        some_history(&store, 8, 80, 500).await;
        let start = store.retention_cut(MUCH_LATER).unwrap();
        trim(&store, start).await;
        dump_store(&store).unwrap()
    });
    world.kill();
    world.env.destroy(&world.fold_path()).unwrap();
    world.env.copy(old, &world.fold_path()).unwrap();
    assert_eq!(world.look().unwrap(), before);
}

#[test]
fn without_fold_checkpoint_and_beginning_of_the_log_the_store_says_so() {
    let mut world = World::new(5);
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 60, 500).await;
        let start = store.retention_cut(MUCH_LATER).unwrap();
        trim(&store, start).await;
    });
    world.kill();
    world.env.destroy(&world.fold_path()).unwrap();
    let files = world.files.life();
    let checkpoints = Path::new("/data/shard-0/fold-checkpoints");
    for name in files.list(checkpoints).unwrap() {
        files.remove(&checkpoints.join(name)).unwrap();
    }
    world.kill();
    let error = world.look().unwrap_err();
    assert!(matches!(error, OpenStoreError::Gap { .. }), "{error}");
    assert!(error.to_string().contains("restore the data directory"), "{error}");
}

#[test]
fn a_trim_that_a_crash_interrupted_is_finished_at_the_next_start() {
    let mut world = World::new(6);
    let start = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 60, 500).await;
        let start = store.retention_cut(MUCH_LATER).unwrap();
        durable(&store, unit(&[Record::LogTrimmed { start }])).await;
        folded(&store).await;
        start
    });
    world.kill();
    assert_eq!(world.life(async |store| store.unwrap().log_start()), start);
    world.kill();
    world.env.destroy(&world.fold_path()).unwrap();
    world.look().expect("a checkpoint was made before segments were dropped");
}

#[test]
fn segments_are_not_dropped_before_the_record_that_says_so_is_folded() {
    let mut world = World::new(7);
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 60, 500).await;
        let start = store.retention_cut(MUCH_LATER).unwrap();
        assert!(store.trim(start).await.is_err());
        assert_eq!(store.log_start(), LogPosition(0));
    });
}

#[test]
fn a_second_trim_replaces_the_checkpoint_only_when_it_must() {
    let mut world = World::new(8);
    world.options.checkpoint_log_bytes = 100 * SEGMENT_BYTES;
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 80, 500).await;
        let segments = store.segments();
        assert!(segments.len() > 4);
        trim(&store, segments[1].base).await;
        let files = store.segments().len();
        trim(&store, segments[3].base).await;
        assert_eq!(store.segments().len(), files - 2);
        // New segments, and a start behind the checkpoint.
        some_history(&store, 80, 80, 500).await;
        let start = store.retention_cut(MUCH_LATER).unwrap();
        trim(&store, start).await;
    });
    let names = world.files.life().list(Path::new("/data/shard-0/fold-checkpoints")).unwrap();
    assert_eq!(names.len(), 1, "older checkpoints are removed: {names:?}");
}

#[test]
fn a_fold_of_a_newer_program_is_refused_and_left_alone() {
    let mut world = World::new(9);
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        folded(&store).await;
        store.close().await.unwrap();
    });
    let put = |world: &World, key: &[u8], value: &[u8]| {
        let kv = Kv::open(&world.env, &world.fold_path(), &KvOptions::default()).unwrap();
        let mut batch = kv.batch();
        batch.put(Family::Meta, key, value);
        batch.write().unwrap();
        kv.flush(bolide::store::kv::handle::FlushWait::UntilDone).unwrap();
    };
    put(&world, b"format", &99u32.to_le_bytes());
    for _ in 0..2 {
        let error = world.look().unwrap_err();
        assert!(error.to_string().contains("format 99") && error.to_string().contains("newer"), "{error}");
    }
}

#[test]
fn a_fold_ahead_of_its_log_is_refused() {
    let mut world = World::new(10);
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        store.close().await.unwrap();
    });
    let kv = Kv::open(&world.env, &world.fold_path(), &KvOptions::default()).unwrap();
    let mut batch = kv.batch();
    batch.put(Family::Meta, b"position", &8_000u64.to_le_bytes());
    batch.write().unwrap();
    kv.flush(bolide::store::kv::handle::FlushWait::UntilDone).unwrap();
    drop(kv);
    let error = world.look().unwrap_err();
    assert!(error.to_string().contains("8000") && error.to_string().contains("acknowledged"), "{error}");
}

#[test]
fn after_a_clean_end_nothing_is_replayed_and_everything_is_there() {
    let mut world = World::new(11);
    let before = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 20, 300).await;
        store.close().await.unwrap();
        assert_eq!(store.append(catalogue()), Err(AppendError::Closed));
        dump_store(&store).unwrap()
    });
    world.life(async |store| {
        let store = store.unwrap();
        assert_eq!(dump_store(&store).unwrap(), before);
        assert_eq!(store.stats().fold.frames, 0, "nothing was replayed");
    });
}

#[test]
fn a_failed_sync_stops_log_and_fold_and_what_was_durable_before_is_folded() {
    use bolide::store::files::memory::{Call, Fault};
    let mut world = World::new(12);
    let files = world.files.clone();
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        store.close().await.unwrap();
    });
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        let end = store.log_end();
        files.plan(Fault::fail(Call::Sync).on("00000000000000000000.seg"));
        let seq = store.append(message(0, 0, 10)).unwrap();
        assert!(store.marks().wait(Rung::Durable, seq).await.is_err());
        assert!(store.wait_folded(end).await);
        assert!(matches!(store.health(), LogHealth::Failed { .. }), "{:?}", store.health());
        assert!(matches!(store.append(message(0, 1, 10)), Err(AppendError::Failed(_))));
        assert_eq!(store.queue(TOPIC, QueueId(0)).unwrap().next, QueueOffset(0), "nothing unsynced is folded");
        assert!(store.close().await.is_err());
    });
}

#[test]
fn a_tiny_fold_queue_slows_the_log_down_and_loses_nothing() {
    let mut world = World::new(13);
    world.options.fold_queue_bytes_max = 1;
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 40, 300).await;
        assert_eq!(store.queue(TOPIC, QueueId(1)).unwrap().next, QueueOffset(40));
        store.close().await.unwrap();
    });
}

#[test]
fn reads_of_the_fold_find_what_was_written() {
    let mut world = World::new(14);
    world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 10, 300).await;
        let entries = store.entries(TOPIC, QueueId(0), QueueOffset(2), 3).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.offset.get()).collect::<Vec<_>>(), vec![2, 3, 4]);
        assert_eq!(store.entries(TOPIC, QueueId(0), QueueOffset(8), 100).unwrap().len(), 2, "not the next queue's");
        let message = store.read_message(entries[0].at).await.unwrap();
        assert_eq!((message.offset, message.message.message_id.as_str()), (QueueOffset(2), "m-0-2"));
        assert_eq!(store.read_message_cached(entries[0].at), Some(Ok(message)));
        assert_eq!(store.entry(TOPIC, QueueId(0), QueueOffset(2)).unwrap(), Some(entries[0]));
        assert_eq!(store.entry(TOPIC, QueueId(0), QueueOffset(10)).unwrap(), None);
        assert_eq!(store.first_in_log(TOPIC, QueueId(0), entries[1].at.position).unwrap(), QueueOffset(3));
        assert_eq!(store.first_at_or_after(TOPIC, QueueId(0), START).unwrap(), QueueOffset(0));
        let later = START.plus(Duration::from_millis(1));
        assert_eq!(store.first_at_or_after(TOPIC, QueueId(0), later).unwrap(), QueueOffset(10));
        let leased: Vec<_> = store.leases().unwrap();
        // Of queue 0: one of each three granted; of queue 1: all of them.
        assert_eq!(leased.iter().filter(|row| row.queue == QueueId(0)).count(), 2);
        assert_eq!(leased.iter().filter(|row| row.queue == QueueId(1)).count(), 6);
        assert!(leased.iter().all(|row| row.entry.is_some_and(|entry| entry.offset == row.offset)));
        assert_eq!(store.cursors().unwrap().len(), 2);
        assert_eq!(store.next_ids(), (TopicId(2), GroupId(2)));
        assert_eq!(store.queues(TOPIC).unwrap().len(), 2);
    });
}

#[test]
fn on_a_real_disk_a_removed_fold_directory_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let run = |life: &dyn Fn(&Store, &Threads)| {
        let threads = Threads::start(1).unwrap();
        let clock = Clock::system();
        let opened = Store::open(options(&data), real(), FoldEnv::Disk, &clock, threads.tasks());
        let store = opened.unwrap_or_else(|error| panic!("{error}"));
        life(&store, &threads);
        drop(store);
        threads.stop();
    };
    let rows = std::cell::RefCell::new(Vec::new());
    run(&|store, threads| {
        store.run(Arc::new(Deaf)).unwrap();
        threads.block_on(async {
            durable(store, catalogue()).await;
            some_history(store, 0, 60, 500).await;
            let start = store.retention_cut(Clock::system().now().plus(Duration::from_secs(400_000_000))).unwrap();
            assert!(trim(store, start).await > 0);
            some_history(store, 60, 20, 500).await;
            *rows.borrow_mut() = dump_store(store).unwrap();
            store.abandon().await;
        });
    });
    let before = rows.into_inner();
    run(&|store, _| assert_eq!(dump_store(store).unwrap(), before, "after a crash"));
    std::fs::remove_dir_all(data.join("shard-0/fold")).unwrap();
    run(&|store, _| assert_eq!(dump_store(store).unwrap(), before, "rebuilt from the checkpoint"));
    // A table file that is gone is damage, and damage is repaired the same way.
    let fold = data.join("shard-0/fold");
    let table = std::fs::read_dir(&fold)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .expect("the fold has a table file");
    std::fs::remove_file(table).unwrap();
    run(&|store, _| assert_eq!(dump_store(store).unwrap(), before, "repaired"));
}

#[test]
fn a_data_directory_can_be_looked_at_without_changing_it() {
    let mut world = World::new(15);
    let entry = world.life(async |store| {
        let store = running(store);
        durable(&store, catalogue()).await;
        some_history(&store, 0, 60, 500).await;
        let segments = store.segments();
        trim(&store, segments[1].base).await;
        store.close().await.unwrap();
        store.entries(TOPIC, QueueId(1), QueueOffset(30), 1).unwrap()[0]
    });
    let files = world.files.life();
    let look = || Inspection::open(Path::new("/data"), ShardId(0), files.clone(), world.env.clone()).unwrap();
    let reports = look().segments().unwrap();
    // Behind the last one that is in use, an empty one is prepared.
    let used: Vec<_> = reports.iter().filter(|report| report.frames > 0).collect();
    assert!(used.len() > 3);
    let (last, sealed) = used.split_last().unwrap();
    assert!(sealed.iter().all(|report| report.ending == SegmentEnd::Sealed), "{sealed:?}");
    assert_eq!(last.ending, SegmentEnd::Open);
    assert_eq!(last.end, look().folded().unwrap().position);
    let queue = look().queue(&TopicName::trusted("", "orders"), QueueId(1), QueueOffset(30), 5).unwrap();
    assert_eq!(queue.rows.len(), 5);
    assert_eq!(queue.rows[0].entry, entry);
    assert_eq!(queue.rows[0].message.as_ref().unwrap().message.message_id, "m-1-30");
    let frame = look().frame(entry.at.position).unwrap();
    assert!(frame.records.iter().any(|record| record.at == entry.at));
    assert!(frame.records.iter().all(|record| !describe(record.record.as_ref().unwrap()).is_empty()));
    let group = look().group(&GroupName::trusted("", "workers")).unwrap();
    assert_eq!(group.places.len(), 2);
    assert!(group.places.iter().all(|place| place.next == QueueOffset(59) && !place.leases.is_empty()), "{group:?}");
    assert!(look().group(&GroupName::trusted("", "nobody")).is_err());
    // A damaged byte is reported, and does not keep the rest from being shown.
    world.files.damage(&reports[1].path, 200, b"!!!!");
    let damaged = look().segments().unwrap();
    assert!(matches!(damaged[1].ending, SegmentEnd::Bad { .. }), "{:?}", damaged[1]);
    assert_eq!(damaged[0], reports[0]);
    assert_eq!(damaged[2..], reports[2..]);
}

#[derive(Clone, Debug)]
enum Event {
    History(u64),
    Trim,
    Kill,
    PowerCut(usize),
    LoseFold,
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u64..30).prop_map(Event::History),
        2 => Just(Event::Trim),
        2 => Just(Event::Kill),
        2 => (0usize..5).prop_map(Event::PowerCut),
        1 => Just(Event::LoseFold),
        1 => Just(Event::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Whatever happens, the fold after a start is the same as one that never knew a crash.
    #[test]
    fn any_history_of_crashes_leaves_the_state_of_the_log(events in prop::collection::vec(event(), 1..25), seed in any::<u64>()) {
        let mut world = World::new(seed);
        let mut offset = 0;
        let mut before: Option<Vec<RawRow>> = None;
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let (rows, ending) = world.life(async |store| {
                let store = store.unwrap();
                let rows = dump_store(&store).unwrap();
                if let Some(before) = &before {
                    assert_eq!(&rows, before, "right after the start");
                }
                store.run(Arc::new(Deaf)).unwrap();
                durable(&store, catalogue()).await;
                for event in events.by_ref() {
                    match event {
                        Event::History(count) => {
                            let count = count.next_multiple_of(4);
                            some_history(&store, offset, count, 300).await;
                            offset += count;
                        }
                        Event::Trim => {
                            if let Some(start) = store.retention_cut(MUCH_LATER) {
                                trim(&store, start).await;
                            }
                        }
                        Event::Close => {
                            folded(&store).await;
                            store.close().await.unwrap();
                            return (dump_store(&store).unwrap(), Event::Close);
                        }
                        ending => {
                            folded(&store).await;
                            return (dump_store(&store).unwrap(), ending);
                        }
                    }
                }
                folded(&store).await;
                (dump_store(&store).unwrap(), Event::Kill)
            });
            match ending {
                Event::PowerCut(copy) => {
                    world.files.power_cut();
                    world.env.power_cut(&world.fold_path(), Remains::Copy(copy)).unwrap();
                }
                Event::LoseFold => {
                    world.kill();
                    world.env.power_cut(&world.fold_path(), Remains::Nothing).unwrap();
                }
                _ => world.kill(),
            }
            before = Some(rows);
        }
        prop_assert_eq!(&world.look().unwrap(), before.as_ref().unwrap());
    }
}
