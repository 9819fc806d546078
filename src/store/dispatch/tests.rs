//! The dispatcher against a naive model: whatever the records, however they are cut into batches, and wherever the fold is
//! closed and opened again, the rows say what the model says.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::model::group::Group;
use crate::model::message::NewMessage;
use crate::model::name::GroupName;
use crate::model::order::order_key;
use crate::model::time::Timestamp;
use crate::model::topic::Promise;
use crate::store::kv::KvOptions;
use crate::store::kv::handle::{FlushWait, FoldEnv};
use crate::store::kv::{Family, lane_entry};
use crate::store::record::{SettleReason, Unit};

use super::model::*;

fn open(env: &FoldEnv) -> Kv {
    Kv::open(env, Path::new("/fold"), &KvOptions::default()).unwrap()
}

/// Runs a history and hands back the model and what the rows say.
fn run(steps: &[Step]) -> (Model, Kv, Meta) {
    let env = FoldEnv::memory().unwrap();
    let mut kv = open(&env);
    let mut dispatcher = Dispatcher::load(&kv).unwrap();
    let mut model = Model::default();
    let mut position = LogPosition(64);
    let mut rest = steps.iter().peekable();
    while rest.peek().is_some() {
        let mut batch = kv.batch();
        let mut reopens = false;
        for step in rest.by_ref() {
            let payload = Bytes::copy_from_slice(unit_of(step, &model).bytes());
            dispatcher.apply(&payload, position, &mut batch).unwrap();
            for found in walk(payload.clone(), position) {
                let (at, record) = found.unwrap();
                model.apply(at, &decode(&record).unwrap());
            }
            position = position.plus(payload.len() as u64 + 64);
            reopens = step.reopens;
            if step.ends_batch || reopens {
                break;
            }
        }
        dispatcher.finish(position, &mut batch);
        batch.write().unwrap();
        if reopens {
            kv.flush(FlushWait::UntilDone).unwrap();
            drop(kv);
            kv = open(&env);
            dispatcher = Dispatcher::load(&kv).unwrap();
        }
    }
    let meta = meta::read(&kv).unwrap();
    assert_eq!(meta.position, position);
    (model, kv, meta)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn rows_say_what_the_records_said(steps in prop::collection::vec(step(), 1..120)) {
        let (model, kv, _) = run(&steps);
        for (topic, queue) in (1..=3).flat_map(|topic| (0..2).map(move |queue| (TopicId(topic), QueueId(queue)))) {
            let bounds = model.tails.get(&(topic, queue)).copied().unwrap_or_default();
            for key in ["a", "b"].map(order_key) {
                let rows = lane_entry::from(&kv, (topic, queue, key), bounds.first, bounds.next, 10_000).unwrap();
                prop_assert_eq!(rows, model.of_group(topic, queue, key));
            }
        }
        prop_assert_eq!(Model::read(&kv), model);
    }
}

/// Rows in a map, counting what was written.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
    puts: BTreeMap<Family, usize>,
    deletes: usize,
}

impl Rows for Table {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        *self.puts.entry(family).or_default() += 1;
        self.rows.insert((family, key.to_vec()), value.to_vec());
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        self.deletes += 1;
        self.rows.remove(&(family, key.to_vec()));
    }

    fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        self.deletes += 1;
        self.rows.retain(|(of, key), _| *of != family || key.as_slice() < from || key.as_slice() >= to);
    }
}

fn waiting(offset: u64) -> (QueueOffset, u32) {
    (QueueOffset(offset), 1)
}

fn granted(next: u64, items: Vec<(QueueOffset, u32)>) -> Record {
    let lease = LeaseState::Waiting { visible_at: Timestamp(1) };
    Record::Granted { group: GroupId(1), topic: TopicId(1), queue: QueueId(0), next: QueueOffset(next), lease, items }
}

fn settled(offsets: &[u64]) -> Record {
    let offsets = offsets.iter().copied().map(QueueOffset).collect();
    let reason = SettleReason::Acked;
    Record::Settled { group: GroupId(1), topic: TopicId(1), queue: QueueId(0), reason, offsets }
}

fn apply(dispatcher: &mut Dispatcher, table: &mut Table, records: &[Record]) {
    let mut unit = Unit::state();
    for record in records {
        unit.push(record);
    }
    dispatcher.apply(&Bytes::copy_from_slice(unit.bytes()), LogPosition(0), table).unwrap();
}

#[test]
fn a_lease_that_comes_and_goes_within_a_batch_writes_no_row() {
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut table = Table::default();
    let items = (0..32).map(waiting).collect();
    apply(&mut dispatcher, &mut table, &[granted(32, items), settled(&(0..31).collect::<Vec<_>>())]);
    dispatcher.finish(LogPosition(100), &mut table);
    assert_eq!(table.puts.get(&Family::Lease), Some(&1), "only the lease that stayed");
    assert_eq!(table.deletes, 0, "nothing was there to delete");
}

#[test]
fn a_lease_of_an_earlier_batch_is_deleted_even_if_it_was_renewed_in_this_one() {
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut table = Table::default();
    apply(&mut dispatcher, &mut table, &[granted(1, vec![waiting(0)])]);
    dispatcher.finish(LogPosition(100), &mut table);
    apply(&mut dispatcher, &mut table, &[granted(1, vec![waiting(0)]), settled(&[0])]);
    dispatcher.finish(LogPosition(200), &mut table);
    assert!(!table.rows.keys().any(|(family, _)| *family == Family::Lease));
}

#[test]
fn the_place_of_a_held_body_goes_with_its_part_of_the_log_and_not_before() {
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut table = Table::default();
    let (key, topic) = (hold_key(5, 1), TopicId(1));
    let places = |table: &Table| table.rows.keys().filter(|(family, _)| *family == Family::DelayPlace).count();
    let delayed = Record::Delayed { key, message: held(topic) };
    apply(&mut dispatcher, &mut table, std::slice::from_ref(&delayed));
    assert_eq!(places(&table), 1);
    let mut unit = Unit::state();
    unit.push(&delayed);
    dispatcher.apply(&Bytes::copy_from_slice(unit.bytes()), LogPosition(1000), &mut table).unwrap();
    assert_eq!(places(&table), 2);
    apply(&mut dispatcher, &mut table, &[Record::LogTrimmed { start: LogPosition(1000) }]);
    assert_eq!(places(&table), 1, "the body that was stored again is still needed");
    apply(&mut dispatcher, &mut table, &[Record::LogTrimmed { start: LogPosition(1001) }]);
    assert_eq!(places(&table), 0);
}

#[test]
fn a_reset_leaves_no_lease_behind_and_those_after_it_stay() {
    let reset = Record::Reset { group: GroupId(1), topic: TopicId(1), queue: QueueId(0), next: QueueOffset(2) };
    let lease_offsets = |table: &Table| {
        let of_leases = table.rows.keys().filter(|(family, _)| *family == Family::Lease);
        of_leases.map(|(_, key)| u64::from_be_bytes(key[12..20].try_into().unwrap())).collect::<Vec<_>>()
    };
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut table = Table::default();
    apply(&mut dispatcher, &mut table, &[granted(5, (0..5).map(waiting).collect())]);
    dispatcher.finish(LogPosition(100), &mut table);
    assert_eq!(lease_offsets(&table), [0, 1, 2, 3, 4]);
    apply(&mut dispatcher, &mut table, &[granted(6, vec![waiting(5)]), reset, granted(3, vec![waiting(2)])]);
    dispatcher.finish(LogPosition(200), &mut table);
    assert_eq!(lease_offsets(&table), [2]);
    // Rows of before the reset do not count as rows any more: this one is there, and is deleted.
    apply(&mut dispatcher, &mut table, &[settled(&[2])]);
    dispatcher.finish(LogPosition(300), &mut table);
    assert_eq!(lease_offsets(&table), [0u64; 0]);
}

#[test]
fn bounds_and_cursors_are_written_once_a_batch() {
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut table = Table::default();
    let mut unit = Unit::send(0);
    for offset in 0..100 {
        let slot = unit.push_message(TopicId(1), Promise::Durable, 0, &NewMessage::default());
        unit.place(slot, QueueId(0), QueueOffset(offset), Timestamp(0));
    }
    dispatcher.apply(&Bytes::copy_from_slice(unit.bytes()), LogPosition(0), &mut table).unwrap();
    let grants: Vec<_> = (1..=100).map(|next| granted(next, Vec::new())).collect();
    apply(&mut dispatcher, &mut table, &grants);
    dispatcher.finish(LogPosition(100), &mut table);
    assert_eq!(table.puts[&Family::QueueEntry], 100);
    assert_eq!((table.puts[&Family::QueueTail], table.puts[&Family::Cursor]), (1, 1));
}

#[test]
fn ids_of_deleted_topics_and_groups_are_never_given_again() {
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut table = Table::default();
    let group = Group::with_defaults(GroupId(4), GroupName::trusted("", "g"));
    apply(
        &mut dispatcher,
        &mut table,
        &[
            Record::TopicPut(a_topic(TopicId(7), 8)),
            Record::GroupPut(group),
            Record::TopicDeleted(TopicId(7)),
            Record::GroupDeleted(GroupId(4)),
        ],
    );
    let meta = dispatcher.meta();
    assert_eq!((meta.next_topic, meta.next_group), (TopicId(8), GroupId(5)));
}

#[test]
fn a_record_of_a_newer_program_stops_the_fold_and_is_not_skipped() {
    let mut dispatcher = Dispatcher::new(Meta::default());
    let mut unit = Unit::state();
    unit.push(&Record::TopicDeleted(TopicId(1)));
    let mut payload = BytesMut::from(unit.bytes());
    payload[5] = 200;
    let error = dispatcher.apply(&payload.freeze(), LogPosition(4096), &mut Table::default()).unwrap_err();
    assert_eq!(error.position, LogPosition(4096));
    assert!(error.to_string().contains("newer"), "{error}");
}
