//! The folded state as the words of the records say it, and random histories of records, for tests.

use std::collections::BTreeMap;

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
use crate::store::kv::half::{HeldHalf, Trace};
use crate::store::kv::{self, growth, lane, queue_entry};
use crate::store::record::{HalfOutcome, HoldKey, MessageRecord, SettleReason, Unit};

/// State as the words of the record documentation describe it, without any thought for speed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) topics: BTreeMap<TopicId, Topic>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) entries: BTreeMap<(TopicId, QueueId), BTreeMap<QueueOffset, QueueEntry>>,
    pub(super) tails: BTreeMap<(TopicId, QueueId), QueueBounds>,
    pub(super) cursors: BTreeMap<PlaceKey, QueueOffset>,
    pub(super) leases: BTreeMap<LeaseKey, LeaseValue>,
    pub(super) lite: BTreeMap<(TopicId, QueueId), String>,
    pub(super) lite_highest: BTreeMap<TopicId, QueueId>,
    pub(super) lite_wants: BTreeSet<(TopicId, GroupId, String)>,
    pub(super) halves: BTreeMap<(TopicId, String), HeldHalf>,
    pub(super) traces: BTreeMap<(TopicId, String), Trace>,
    pub(super) delays: BTreeMap<HoldKey, Held>,
    pub(super) recalled: BTreeMap<HoldKey, TopicId>,
    pub(super) lanes: BTreeMap<LaneKey, QueueOffset>,
    pub(super) growths: BTreeMap<TopicId, BTreeMap<u32, Growth>>,
    pub(super) applied: Option<Revision>,
    pub(super) placed: BTreeMap<TopicId, (Placement, Vec<Seal>)>,
    pub(super) route: BTreeMap<Bytes, Bytes>,
}

impl Model {
    pub(super) fn apply(&mut self, at: RecordAt, record: &Record) {
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
                self.lite_wants.retain(|key| key.0 != id);
                if let Some(highest) = self.lite_highest.remove(&id) {
                    self.given_out(TopicId(0), highest);
                }
                self.growths.remove(&id);
                self.placed.remove(&id);
            }
            Record::LiteTopicPut { topic, queue, name } => {
                self.lite.insert((topic, queue), name);
                self.given_out(topic, queue);
            }
            Record::LiteWanted { topic, group, name, is_wanted } => {
                let key = (topic, group, name);
                if is_wanted {
                    self.lite_wants.insert(key)
                } else {
                    self.lite_wants.remove(&key)
                };
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
                self.lite_wants.retain(|key| key.1 != id);
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
            Record::RoutePut { key, value } => drop(self.route.insert(key, value)),
            Record::RouteDeleted { key } => drop(self.route.remove(&key)),
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

    pub(super) fn given_out(&mut self, topic: TopicId, queue: QueueId) {
        let highest = self.lite_highest.entry(topic).or_insert(queue);
        *highest = queue.max(*highest);
    }

    pub(super) fn read(kv: &Kv) -> Self {
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
        model.lite_highest.extend(lite_topic::highest(kv).unwrap());
        model.lite_wants.extend(lite_want::all(kv).unwrap());
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
        model.route.extend(kv::route::all(kv).unwrap());
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
    pub(super) fn of_group(&self, topic: TopicId, queue: QueueId, key: u64) -> Vec<QueueEntry> {
        let entries = self.entries.get(&(topic, queue)).into_iter().flat_map(BTreeMap::values);
        entries.filter(|entry| entry.order_key == key).copied().collect()
    }
}

pub(super) fn hold_key(due: u64, hold: u64) -> HoldKey {
    HoldKey { due: Timestamp(due), hold: HoldId(hold) }
}

pub(super) fn held(topic: TopicId) -> MessageRecord {
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
pub(super) struct Step {
    pub(super) kind: u8,
    pub(super) topic: u32,
    pub(super) queue: u32,
    pub(super) group: u32,
    pub(super) offset: u64,
    pub(super) count: u64,
    pub(super) ends_batch: bool,
    pub(super) reopens: bool,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
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
        Just(20),
        Just(21),
        Just(22),
        Just(23),
        Just(25),
        Just(24)
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

pub(super) fn a_topic(id: TopicId, queues: u32) -> Topic {
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

pub(super) const HALF_IDS: [&str; 3] = ["a", "ab", "b"];

/// What may happen next to a half message, by how it stands in the model.
pub(super) fn push_half_step(unit: &mut Unit, step: &Step, model: &Model) {
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

pub(super) fn unit_of(step: &Step, model: &Model) -> Unit {
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
        25 => Record::Placed {
            topic,
            placement: Placement { generation: step.queue, ..Placement::first(vec![ShardId(step.group)]) },
            seals: vec![Seal { generation: step.queue, fences: vec![offset] }],
        },
        22 => Record::CatalogApplied { revision: Revision(step.offset) },
        23 => Record::RoutePut { key: fact(step), value: Bytes::from(vec![step.group as u8; step.count as usize]) },
        24 => Record::RouteDeleted { key: fact(step) },
        // The model does not care which ids are those of lite topics.
        17 => Record::LiteTopicPut { topic, queue, name: format!("lite-{}", step.offset) },
        18 => Record::LiteTopicDeleted { topic, queue },
        20 | 21 => {
            Record::LiteWanted { topic, group, name: format!("lite-{}", step.offset % 4), is_wanted: step.kind == 20 }
        }
        _ => Record::Opened { shard: ShardId(0), term: Term(step.offset), at: Timestamp(0) },
    };
    unit.push(&record);
    unit
}

fn fact(step: &Step) -> Bytes {
    Bytes::from(format!("t{}", step.topic))
}
