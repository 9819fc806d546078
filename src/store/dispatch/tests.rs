//! The dispatcher against a naive model: whatever the records, however they are cut into batches, and wherever the fold is
//! closed and opened again, the rows say what the model says.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::model::cluster::{Placement, Revision, Seal};
use crate::model::group::Group;
use crate::model::message::NewMessage;
use crate::model::message::{MessageType, StoredMessage};
use crate::model::name::{GroupName, TopicName};
use crate::model::order::order_key;
use crate::model::position::{GrantId, HoldId, HolderId, ShardId, Term};
use crate::model::time::Timestamp;
use crate::model::topic::{Growth, Permission, Promise, Topic, TopicType};
use crate::store::kv::KvOptions;
use crate::store::kv::half::{HeldHalf, Trace};
use crate::store::kv::handle::{FlushWait, FoldEnv};
use crate::store::kv::{Family, growth, lane, lane_entry, queue_entry};
use crate::store::record::{HalfOutcome, HoldKey, MessageRecord, SettleReason, Unit};

/// State as the words of the record documentation describe it, without any thought for speed.
#[derive(Debug, Default, PartialEq)]
struct Model {
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<GroupId, Group>,
    entries: BTreeMap<(TopicId, QueueId), BTreeMap<QueueOffset, QueueEntry>>,
    tails: BTreeMap<(TopicId, QueueId), QueueBounds>,
    cursors: BTreeMap<PlaceKey, QueueOffset>,
    leases: BTreeMap<LeaseKey, LeaseValue>,
    lite: BTreeMap<(TopicId, QueueId), String>,
    halves: BTreeMap<(TopicId, String), HeldHalf>,
    traces: BTreeMap<(TopicId, String), Trace>,
    delays: BTreeMap<HoldKey, Held>,
    recalled: BTreeMap<HoldKey, TopicId>,
    lanes: BTreeMap<LaneKey, QueueOffset>,
    growths: BTreeMap<TopicId, BTreeMap<u32, Growth>>,
    applied: Option<Revision>,
    placed: BTreeMap<TopicId, (Placement, Vec<Seal>)>,
}

impl Model {
    fn apply(&mut self, at: RecordAt, record: &Record) {
        match record.clone() {
            Record::Opened { .. } | Record::LogTrimmed { .. } => {}
            Record::Delayed { key, message } => {
                self.delays.insert(key, Held { topic: message.topic, at });
            }
            Record::DelayEnded { key, topic, outcome } => match outcome {
                DelayOutcome::Fired | DelayOutcome::Dropped => drop(self.delays.remove(&key)),
                DelayOutcome::Recalled => {
                    self.delays.remove(&key);
                    self.recalled.insert(key, topic);
                }
                DelayOutcome::Forgotten => self.recalled.retain(|&other, _| other > key),
            },
            Record::Message(message) => {
                let (topic, queue, offset) = (message.topic, message.queue, message.offset);
                let entry = QueueEntry {
                    offset,
                    at,
                    tag_hash: message.tag_hash,
                    stored_at: message.message.stored_at,
                    body_bytes: message.body_bytes,
                    order_key: order_key(&message.message_group),
                };
                self.entries.entry((topic, queue)).or_default().insert(offset, entry);
                self.tails.entry((topic, queue)).or_default().next = offset.next();
            }
            Record::Granted { group, topic, queue, next, lease, items } => {
                self.cursors.insert((topic, queue, group), next);
                for (offset, attempt) in items {
                    self.leases.insert(LeaseKey { topic, queue, group, offset }, LeaseValue { attempt, lease });
                }
            }
            Record::LeaseChanged { group, topic, queue, offset, attempt, lease } => {
                self.leases.insert(LeaseKey { topic, queue, group, offset }, LeaseValue { attempt, lease });
            }
            Record::Settled { group, topic, queue, offsets, .. } => {
                for offset in offsets {
                    self.leases.remove(&LeaseKey { topic, queue, group, offset });
                }
            }
            Record::Advanced { group, topic, queue, next } => {
                self.cursors.insert((topic, queue, group), next);
            }
            Record::Half(half) => {
                let key = (half.message.topic, half.message.message.message_id);
                let before = self.halves.get(&key);
                let held = HeldHalf {
                    topic: key.0,
                    id: key.1.clone(),
                    at,
                    stored_at: half.message.message.stored_at,
                    first_check_after: half.first_check_after,
                    body_bytes: half.message.body_bytes,
                    producer: half.producer,
                    checks: before.and_then(|half| half.checks),
                    discarded_at: before.and_then(|half| half.discarded_at),
                };
                self.halves.insert(key, held);
            }
            Record::HalfChecked { topic, id, checks, next_check } => {
                if let Some(half) = self.halves.get_mut(&(topic, id)) {
                    half.checks = Some(Checks { count: checks, next: next_check });
                }
            }
            Record::HalfEnded { topic, id, outcome, at, .. } => match outcome {
                HalfOutcome::Committed | HalfOutcome::RolledBack => {
                    self.halves.remove(&(topic, id.clone()));
                    self.traces.insert((topic, id), Trace { outcome, at });
                }
                HalfOutcome::Discarded => self.halves.get_mut(&(topic, id)).unwrap().discarded_at = Some(at),
                HalfOutcome::Forgotten => drop(self.traces.remove(&(topic, id))),
                HalfOutcome::Expired => drop(self.halves.remove(&(topic, id))),
            },
            Record::Reset { group, topic, queue, next } => {
                self.cursors.insert((topic, queue, group), next);
                self.leases.retain(|key, _| (key.topic, key.queue, key.group) != (topic, queue, group));
                self.lanes.retain(|key, _| (key.topic, key.queue, key.group) != (topic, queue, group));
            }
            Record::TopicPut(topic) => {
                self.topics.insert(topic.id, topic);
            }
            Record::TopicDeleted(id) => {
                self.topics.remove(&id);
                self.entries.retain(|key, _| key.0 != id);
                self.tails.retain(|key, _| key.0 != id);
                self.cursors.retain(|key, _| key.0 != id);
                self.leases.retain(|key, _| key.topic != id);
                self.halves.retain(|key, _| key.0 != id);
                self.traces.retain(|key, _| key.0 != id);
                self.lanes.retain(|key, _| key.topic != id);
                self.lite.retain(|key, _| key.0 != id);
                self.growths.remove(&id);
                self.placed.remove(&id);
            }
            Record::LiteTopicPut { topic, queue, name } => {
                self.lite.insert((topic, queue), name);
            }
            Record::LiteTopicDeleted { topic, queue } => {
                self.lite.remove(&(topic, queue));
                self.entries.remove(&(topic, queue));
                self.tails.remove(&(topic, queue));
                self.cursors.retain(|key, _| (key.0, key.1) != (topic, queue));
                self.leases.retain(|key, _| (key.topic, key.queue) != (topic, queue));
                self.lanes.retain(|key, _| (key.topic, key.queue) != (topic, queue));
            }
            Record::GroupPut(group) => {
                self.groups.insert(group.id, group);
            }
            Record::GroupDeleted(id) => {
                self.groups.remove(&id);
                self.cursors.retain(|key, _| key.2 != id);
                self.leases.retain(|key, _| key.group != id);
                self.lanes.retain(|key, _| key.group != id);
            }
            Record::LaneParked { group, topic, queue, order_key, from } => {
                let key = LaneKey { topic, queue, group, order_key };
                match from {
                    Some(from) => drop(self.lanes.insert(key, from)),
                    None => drop(self.lanes.remove(&key)),
                }
            }
            Record::Placed { topic, placement, seals } => drop(self.placed.insert(topic, (placement, seals))),
            Record::CatalogApplied { revision } => self.applied = self.applied.max(Some(revision)),
            Record::QueuesAdded { topic, growth } => {
                self.growths.entry(topic).or_default().insert(growth.before(), growth);
            }
            Record::Trimmed { topic, queue, first } => {
                self.entries.entry((topic, queue)).or_default().retain(|&offset, _| offset >= first);
                let bounds = self.tails.entry((topic, queue)).or_default();
                bounds.first = bounds.first.max(first);
                bounds.next = bounds.next.max(first);
                for (key, next) in &mut self.cursors {
                    if (key.0, key.1) == (topic, queue) {
                        *next = (*next).max(first);
                    }
                }
                self.leases.retain(|key, _| (key.topic, key.queue) != (topic, queue) || key.offset >= first);
            }
        }
        self.entries.retain(|_, entries| !entries.is_empty());
        self.tails.retain(|_, bounds| *bounds != QueueBounds::default());
    }

    fn read(kv: &Kv) -> Self {
        let mut model = Self::default();
        model.topics.extend(topic::all(kv).unwrap().into_iter().map(|topic| (topic.id, topic)));
        model.groups.extend(group::all(kv).unwrap().into_iter().map(|group| (group.id, group)));
        for topic in (1..=3).map(TopicId) {
            for queue in (0..2).map(QueueId) {
                let entries = queue_entry::from(kv, topic, queue, QueueOffset(0), 10_000).unwrap();
                if !entries.is_empty() {
                    let entries = entries.into_iter().map(|entry| (entry.offset, entry)).collect();
                    model.entries.insert((topic, queue), entries);
                }
            }
        }
        for (topic, queue, bounds) in queue_tail::all(kv, None).unwrap() {
            if bounds != QueueBounds::default() {
                model.tails.insert((topic, queue), bounds);
            }
        }
        for cursor in cursor::all(kv).unwrap() {
            model.cursors.insert((cursor.topic, cursor.queue, cursor.group), cursor.next);
        }
        model.leases.extend(lease::all(kv).unwrap());
        model.lite.extend(lite_topic::all(kv).unwrap().into_iter().map(|(topic, queue, name)| ((topic, queue), name)));
        for half in half::held_after(kv, None, usize::MAX).unwrap() {
            model.halves.insert((half.topic, half.id.clone()), half);
        }
        for topic in (1..=3).map(TopicId) {
            for id in HALF_IDS {
                if let Some(trace) = half::trace(kv, topic, id).unwrap() {
                    model.traces.insert((topic, id.to_owned()), trace);
                }
            }
        }
        model.delays.extend(delay::from(kv, HoldKey::default(), usize::MAX).unwrap());
        for due in 0..12 {
            for hold in 0..6 {
                let key = hold_key(due, hold);
                if let Some(topic) = recalled::get(kv, key).unwrap() {
                    model.recalled.insert(key, topic);
                }
            }
        }
        let placed = placement::all(kv).unwrap();
        model.placed.extend(placed.into_iter().map(|(topic, placement, seals)| (topic, (placement, seals))));
        model.applied = meta::read(kv).unwrap().applied;
        model.lanes.extend(lane::all(kv).unwrap());
        for topic in (1..=3).map(TopicId) {
            let growths = growth::of_topic(kv, topic).unwrap();
            if !growths.is_empty() {
                model.growths.insert(topic, growths.into_iter().map(|growth| (growth.before(), growth)).collect());
            }
        }
        model
    }

    /// The messages of one message group, as a walk through the queue finds them.
    fn of_group(&self, topic: TopicId, queue: QueueId, key: u64) -> Vec<QueueEntry> {
        let entries = self.entries.get(&(topic, queue)).into_iter().flat_map(BTreeMap::values);
        entries.filter(|entry| entry.order_key == key).copied().collect()
    }
}

fn hold_key(due: u64, hold: u64) -> HoldKey {
    HoldKey { due: Timestamp(due), hold: HoldId(hold) }
}

fn held(topic: TopicId) -> MessageRecord {
    MessageRecord {
        topic,
        queue: QueueId(0),
        offset: QueueOffset(0),
        promise: Promise::Durable,
        message_type: MessageType::Delay,
        tag_hash: 0,
        body_bytes: 1,
        message_group: String::new(),
        message: StoredMessage {
            stored_at: Timestamp(0),
            message_id: "m".into(),
            tag: String::new(),
            rest: Bytes::new(),
            system_static: Bytes::new(),
        },
        origin: None,
    }
}

/// A wish; messages are placed by the history.
#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    topic: u32,
    queue: u32,
    group: u32,
    offset: u64,
    count: u64,
    ends_batch: bool,
    reopens: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(0u8), 6 => Just(1), 3 => Just(2), 6 => Just(3), 2 => Just(4), 8 => Just(5), 6 => Just(12), 5 => Just(13),
        8 => Just(14), 3 => Just(15)
    ];
    let rare = prop_oneof![
        Just(6u8),
        Just(7),
        Just(8),
        Just(9),
        Just(10),
        Just(11),
        Just(16),
        Just(17),
        Just(18),
        Just(19),
        Just(19),
        Just(20),
        Just(21)
    ];
    let kind = prop_oneof![8 => kind, 1 => rare];
    let place = (1u32..=3, 0u32..2, 1u32..=3);
    let ends = prop::bool::weighted(0.3);
    let reopens = prop::bool::weighted(0.03);
    (kind, place, 0u64..12, 0u64..6, ends, reopens).prop_map(
        |(kind, (topic, queue, group), offset, count, ends_batch, reopens)| Step {
            kind,
            topic,
            queue,
            group,
            offset,
            count,
            ends_batch,
            reopens,
        },
    )
}

fn a_topic(id: TopicId, queues: u32) -> Topic {
    Topic {
        id,
        name: TopicName::trusted("", &format!("topic-{id}")),
        topic_type: TopicType::Normal,
        queues,
        permission: Permission::default(),
        promise: Promise::Durable,
        retention: None,
        lite_ttl: None,
    }
}

const HALF_IDS: [&str; 3] = ["a", "ab", "b"];

/// What may happen next to a half message, by how it stands in the model.
fn push_half_step(unit: &mut Unit, step: &Step, model: &Model) {
    let (topic, id) = (TopicId(step.topic), HALF_IDS[step.queue as usize + usize::from(step.group > 2)]);
    let key = (topic, id.to_owned());
    let end = |outcome, at, was_checked| Record::HalfEnded { topic, id: id.to_owned(), outcome, at, was_checked };
    let at = Timestamp(step.offset);
    match (model.halves.get(&key), model.traces.get(&key)) {
        (Some(half), _) => match (step.count, half.discarded_at) {
            (0, None) => {
                let checks = half.checks.map_or(0, |checks| checks.count) + 1;
                unit.push(&Record::HalfChecked { topic, id: id.to_owned(), checks, next_check: at });
            }
            (1, None) => unit.push(&end(HalfOutcome::Discarded, at, true)),
            (2, None) => unit.push(&end(HalfOutcome::RolledBack, at, half.checks.is_some())),
            (0 | 1, Some(since)) => unit.push(&end(HalfOutcome::Expired, since, true)),
            (2, Some(since)) => {
                unit.push(&end(HalfOutcome::Expired, since, true));
                unit.push(&end(HalfOutcome::Committed, at, true));
            }
            _ => {
                // Moved on.
                let message = NewMessage { message_id: id.to_owned(), body_bytes: 9, ..NewMessage::default() };
                let slot = unit.push_half(topic, 0, &message, half.first_check_after);
                unit.place(slot, QueueId(0), QueueOffset(0), half.stored_at);
            }
        },
        (None, Some(trace)) if step.count < 3 => unit.push(&end(HalfOutcome::Forgotten, trace.at, false)),
        (None, Some(_)) => {}
        (None, None) => {
            let message = NewMessage { message_id: id.to_owned(), producer: "client".into(), ..NewMessage::default() };
            let slot = unit.push_half(topic, 0, &message, std::time::Duration::from_secs(step.count));
            unit.place(slot, QueueId(0), QueueOffset(0), at);
        }
    }
}

fn unit_of(step: &Step, model: &Model) -> Unit {
    let (topic, queue, group) = (TopicId(step.topic), QueueId(step.queue), GroupId(step.group));
    let offset = QueueOffset(step.offset);
    let lease = match step.count % 2 {
        0 => LeaseState::Waiting { visible_at: Timestamp(step.offset) },
        _ => LeaseState::Leased {
            deadline: Timestamp(step.count),
            grant: GrantId(step.offset),
            holder: HolderId(7),
            auto_renew: false,
            attempt_key: 0,
        },
    };
    let mut unit = Unit::state();
    let record = match step.kind {
        0 => {
            let message_group = ["", "a", "b"][step.group as usize - 1].to_owned();
            let message =
                NewMessage { message_id: "m".into(), message_group, body_bytes: step.topic, ..NewMessage::default() };
            let mut next = model.tails.get(&(topic, queue)).copied().unwrap_or_default().next;
            for _ in 0..=step.count {
                let slot = unit.push_message(topic, Promise::Durable, step.group, &message);
                unit.place(slot, queue, next, Timestamp(next.get()));
                next = next.next();
            }
            return unit;
        }
        // Grants of what was never considered, then of anything.
        1 | 2 => {
            let place = (topic, queue, group);
            let cursor = model.cursors.get(&place).copied().unwrap_or_default();
            let from = if step.kind == 1 { cursor.get() } else { step.offset };
            let items = (from..=from + step.count).map(|offset| (QueueOffset(offset), 1)).collect();
            let next = QueueOffset(cursor.get().max(from + step.count + 1));
            Record::Granted { group, topic, queue, next, lease, items }
        }
        3 => Record::LeaseChanged { group, topic, queue, offset, attempt: step.topic, lease },
        4 => Record::Advanced { group, topic, queue, next: offset },
        5 => {
            let offsets = (step.offset..=step.offset + step.count).map(QueueOffset).collect();
            Record::Settled { group, topic, queue, reason: SettleReason::Acked, offsets }
        }
        6 => Record::TopicPut(a_topic(topic, 1 + u32::try_from(step.count).unwrap())),
        7 => Record::TopicDeleted(topic),
        8 => Record::GroupPut(Group::with_defaults(group, GroupName::trusted("", "g"))),
        9 => Record::GroupDeleted(group),
        12 => Record::Delayed { key: hold_key(step.offset, step.count), message: held(topic) },
        19 => Record::Reset { group, topic, queue, next: offset },
        13 => {
            let outcomes =
                [DelayOutcome::Fired, DelayOutcome::Recalled, DelayOutcome::Dropped, DelayOutcome::Forgotten];
            let outcome = outcomes[step.group as usize % 4];
            Record::DelayEnded { key: hold_key(step.offset, step.count), topic, outcome }
        }
        10 => Record::Trimmed { topic, queue, first: offset },
        14 => {
            push_half_step(&mut unit, step, model);
            return unit;
        }
        16 => {
            Record::QueuesAdded { topic, growth: Growth { fences: vec![offset; usize::try_from(step.count).unwrap()] } }
        }
        15 => Record::LaneParked {
            group,
            topic,
            queue,
            order_key: step.offset % 3,
            from: (step.count > 2).then_some(offset),
        },
        21 => Record::Placed {
            topic,
            placement: Placement { generation: step.queue, ..Placement::first(vec![ShardId(step.group)]) },
            seals: vec![Seal { generation: step.queue, fences: vec![offset] }],
        },
        20 => Record::CatalogApplied { revision: Revision(step.offset) },
        // The model does not care which ids are those of lite topics.
        17 => Record::LiteTopicPut { topic, queue, name: format!("lite-{}", step.offset) },
        18 => Record::LiteTopicDeleted { topic, queue },
        _ => Record::Opened { shard: ShardId(0), term: Term(step.offset), at: Timestamp(0) },
    };
    unit.push(&record);
    unit
}

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
