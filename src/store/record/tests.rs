//! What is written is read back, and bytes that nobody wrote are an error, never a panic.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::model::cluster::{PastPlacement, Placement, Revision, Seal};
use crate::model::group::{Backoff, Group, StartPosition};
use crate::model::message::{MessageType, NewMessage, StoredMessage};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{
    GrantId, GroupId, HoldId, HolderId, LogPosition, QueueId, QueueOffset, ShardId, Term, TopicId,
};
use crate::model::time::Timestamp;
use crate::model::topic::{Growth, Permission, Promise, Topic, TopicType};
use crate::store::catalog_codec::{decode_group, decode_topic, encode_group, encode_topic};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = LeaseState> {
    prop_oneof![
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), any::<u64>()).prop_map(
            |(deadline, grant, holder, auto_renew, attempt_key)| LeaseState::Leased {
                deadline: Timestamp(deadline),
                grant: GrantId(grant),
                holder: HolderId(holder),
                auto_renew,
                attempt_key,
            }
        ),
        any::<u64>().prop_map(|at| LeaseState::Waiting { visible_at: Timestamp(at) }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(grant, end)| LeaseState::Acked { grant: GrantId(grant), lease_end: Timestamp(end) }),
    ]
}

fn topic() -> impl Strategy<Value = Topic> {
    let topic_type = prop::sample::select(vec![
        TopicType::Normal,
        TopicType::Fifo,
        TopicType::Delay,
        TopicType::Transaction,
        TopicType::Priority,
        TopicType::Lite,
        TopicType::Mixed,
    ]);
    let promise = prop::sample::select(vec![Promise::Durable, Promise::Written]);
    let names = ("[a-z]{0,9}", "[a-zA-Z0-9_%|-]{1,127}");
    let span = || prop::option::of(0..u64::MAX - 1);
    let spans = (span(), span());
    (any::<u32>(), names, topic_type, any::<u32>(), any::<(bool, bool)>(), promise, spans).prop_map(
        |(id, (namespace, name), topic_type, queues, (readable, writable), promise, (retention, lite_ttl))| Topic {
            id: TopicId(id),
            name: TopicName::trusted(&namespace, &name),
            topic_type,
            queues,
            permission: Permission { readable, writable },
            promise,
            retention: retention.map(Duration::from_millis),
            lite_ttl: lite_ttl.map(Duration::from_millis),
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    let start = prop_oneof![
        Just(StartPosition::Earliest),
        Just(StartPosition::Latest),
        any::<u64>().prop_map(|at| StartPosition::At(Timestamp(at))),
    ];
    let backoff = prop_oneof![
        prop::collection::vec(0..u64::MAX - 1, 1..20)
            .prop_map(|table| Backoff::Customized(table.into_iter().map(Duration::from_millis).collect())),
        (0..u64::MAX - 1, 0..u64::MAX - 1, 1.0f32..100.0).prop_map(|(initial, max, multiplier)| {
            Backoff::Exponential {
                initial: Duration::from_millis(initial),
                max: Duration::from_millis(max),
                multiplier,
            }
        }),
    ];
    let names = ("[a-z]{0,9}", "[a-zA-Z0-9_%|-]{1,120}");
    (any::<u32>(), names, any::<Option<bool>>(), start, any::<u32>(), backoff, 0..u64::MAX - 1, any::<(bool, bool)>())
        .prop_map(
            |(id, (namespace, name), ordered, start, max_attempts, backoff, timeout, (enabled, lite_exclusive))| {
                Group {
                    id: GroupId(id),
                    name: GroupName::trusted(&namespace, &name),
                    ordered,
                    start,
                    max_attempts,
                    backoff,
                    consume_timeout: Duration::from_millis(timeout),
                    enabled,
                    lite_exclusive,
                }
            },
        )
}

fn message() -> impl Strategy<Value = MessageRecord> {
    let kind = prop::sample::select(vec![
        MessageType::Normal,
        MessageType::Fifo,
        MessageType::Delay,
        MessageType::Transaction,
        MessageType::Lite,
        MessageType::Priority,
    ]);
    let promise = prop::sample::select(vec![Promise::Durable, Promise::Written]);
    let origin = prop::option::of(("\\PC{0,20}", "\\PC{0,20}", any::<u32>(), any::<u64>(), any::<u32>(), "\\PC{0,40}"));
    let texts = ("\\PC{0,60}", "\\PC{0,20}", "\\PC{0,20}");
    (any::<(u32, u32, u64, u64, u32, u32)>(), kind, promise, texts, bytes(), bytes(), origin).prop_map(
        |(numbers, message_type, promise, (message_id, tag, message_group), rest, system_static, origin)| {
            let (topic, queue, offset, stored_at, tag_hash, body_bytes) = numbers;
            MessageRecord {
                topic: TopicId(topic),
                queue: QueueId(queue),
                offset: QueueOffset(offset),
                promise,
                message_type,
                tag_hash,
                body_bytes,
                message_group,
                message: StoredMessage { stored_at: Timestamp(stored_at), message_id, tag, rest, system_static },
                origin: origin.map(|(namespace, topic, queue, offset, attempts, reason)| DeadLetterOrigin {
                    namespace,
                    topic,
                    queue: QueueId(queue),
                    offset: QueueOffset(offset),
                    attempts,
                    reason,
                }),
            }
        },
    )
}

fn hold_key() -> impl Strategy<Value = HoldKey> {
    any::<(u64, u64)>().prop_map(|(due, hold)| HoldKey { due: Timestamp(due), hold: HoldId(hold) })
}

fn record() -> impl Strategy<Value = Record> {
    let place = || any::<(u32, u32, u32)>().prop_map(|(g, t, q)| (GroupId(g), TopicId(t), QueueId(q)));
    let offsets = || prop::collection::vec(any::<u64>().prop_map(QueueOffset), 0..40);
    let reason = prop::sample::select(vec![
        SettleReason::Acked,
        SettleReason::Skipped,
        SettleReason::DeadLettered,
        SettleReason::Expired,
    ]);
    let outcome = prop::sample::select(vec![
        HalfOutcome::Committed,
        HalfOutcome::RolledBack,
        HalfOutcome::Discarded,
        HalfOutcome::Forgotten,
        HalfOutcome::Expired,
    ]);
    let delay_outcome = prop::sample::select(vec![
        DelayOutcome::Fired,
        DelayOutcome::Recalled,
        DelayOutcome::Dropped,
        DelayOutcome::Forgotten,
    ]);
    prop_oneof![
        (message(), any::<u64>(), prop::option::of(1..=u64::MAX), "\\PC{0,60}").prop_map(
            |(message, first_check_ms, due, producer)| Record::Half(HalfRecord {
                message,
                first_check_after: Duration::from_millis(first_check_ms),
                due: due.map(Timestamp),
                producer,
            })
        ),
        (any::<u32>(), "\\PC{0,40}", any::<u32>(), any::<u64>()).prop_map(|(topic, id, checks, next)| {
            Record::HalfChecked { topic: TopicId(topic), id, checks, next_check: Timestamp(next) }
        }),
        (any::<u32>(), "\\PC{0,40}", outcome, any::<u64>(), any::<bool>()).prop_map(
            |(topic, id, outcome, at, was_checked)| Record::HalfEnded {
                topic: TopicId(topic),
                id,
                outcome,
                at: Timestamp(at),
                was_checked,
            }
        ),
        any::<(u32, u64, u64)>().prop_map(|(shard, term, at)| Record::Opened {
            shard: ShardId(shard),
            term: Term(term),
            at: Timestamp(at)
        }),
        message().prop_map(Record::Message),
        (place(), any::<u64>(), lease(), offsets(), any::<u32>()).prop_map(
            |((group, topic, queue), next, lease, offsets, attempt)| Record::Granted {
                group,
                topic,
                queue,
                next: QueueOffset(next),
                lease,
                items: offsets.into_iter().map(|offset| (offset, attempt)).collect(),
            }
        ),
        (place(), any::<u64>(), any::<u32>(), lease()).prop_map(|((group, topic, queue), offset, attempt, lease)| {
            Record::LeaseChanged { group, topic, queue, offset: QueueOffset(offset), attempt, lease }
        }),
        (place(), reason, offsets()).prop_map(|((group, topic, queue), reason, offsets)| Record::Settled {
            group,
            topic,
            queue,
            reason,
            offsets
        }),
        (place(), any::<u64>()).prop_map(|((group, topic, queue), next)| Record::Advanced {
            group,
            topic,
            queue,
            next: QueueOffset(next)
        }),
        (place(), any::<u64>()).prop_map(|((group, topic, queue), next)| Record::Reset {
            group,
            topic,
            queue,
            next: QueueOffset(next)
        }),
        topic().prop_map(Record::TopicPut),
        any::<u32>().prop_map(|id| Record::TopicDeleted(TopicId(id))),
        group().prop_map(Record::GroupPut),
        any::<u32>().prop_map(|id| Record::GroupDeleted(GroupId(id))),
        any::<(u32, u32, u64)>().prop_map(|(topic, queue, first)| Record::Trimmed {
            topic: TopicId(topic),
            queue: QueueId(queue),
            first: QueueOffset(first)
        }),
        any::<u64>().prop_map(|start| Record::LogTrimmed { start: LogPosition(start) }),
        (any::<(u32, u32)>(), "[a-zA-Z0-9_-]{1,64}").prop_map(|((topic, queue), name)| Record::LiteTopicPut {
            topic: TopicId(topic),
            queue: QueueId(queue),
            name
        }),
        any::<(u32, u32)>()
            .prop_map(|(topic, queue)| Record::LiteTopicDeleted { topic: TopicId(topic), queue: QueueId(queue) }),
        (any::<(u32, u32, bool)>(), "[a-zA-Z0-9_-]{1,64}").prop_map(|((topic, group, is_wanted), name)| {
            Record::LiteWanted { topic: TopicId(topic), group: GroupId(group), name, is_wanted }
        }),
        (hold_key(), message()).prop_map(|(key, message)| Record::Delayed { key, message }),
        (hold_key(), any::<u32>(), delay_outcome).prop_map(|(key, topic, outcome)| Record::DelayEnded {
            key,
            topic: TopicId(topic),
            outcome
        }),
        (any::<(u32, u32, u32, u64)>(), any::<Option<u64>>()).prop_map(|((group, topic, queue, order_key), from)| {
            let (group, topic, queue) = (GroupId(group), TopicId(topic), QueueId(queue));
            Record::LaneParked { group, topic, queue, order_key, from: from.map(QueueOffset) }
        }),
        (any::<u32>(), offsets())
            .prop_map(|(topic, fences)| Record::QueuesAdded { topic: TopicId(topic), growth: Growth { fences } }),
        any::<u64>().prop_map(|revision| Record::CatalogApplied { revision: Revision(revision) }),
        (prop::collection::vec(any::<u8>(), 0..=255), bytes())
            .prop_map(|(key, value)| Record::RoutePut { key: Bytes::from(key), value }),
        prop::collection::vec(any::<u8>(), 0..=255).prop_map(|key| Record::RouteDeleted { key: Bytes::from(key) }),
        (any::<u32>(), placement(), proptest::collection::vec((any::<u32>(), offsets()), 0..3)).prop_map(
            |(topic, placement, seals)| Record::Placed {
                topic: TopicId(topic),
                placement,
                seals: seals.into_iter().map(|(generation, fences)| Seal { generation, fences }).collect(),
            }
        ),
    ]
}

fn placement() -> impl Strategy<Value = Placement> {
    let shards = || proptest::collection::vec(any::<u32>().prop_map(ShardId), 0..4);
    let past = (any::<u32>(), shards()).prop_map(|(generation, shards)| PastPlacement { generation, shards });
    let parts = (any::<u32>(), shards(), proptest::option::of(shards()), proptest::collection::vec(past, 0..3));
    parts.prop_map(|(generation, shards, moving, past)| Placement { generation, shards, moving, past })
}

fn payload_of(records: &[Record]) -> Bytes {
    let mut unit = Unit::state();
    for record in records {
        unit.push(record);
    }
    assert_eq!(unit.records() as usize, records.len());
    Bytes::copy_from_slice(unit.bytes())
}

/// Asks every reader about bytes that may be anything; only a panic fails.
fn read_every_way(bytes: &Bytes) {
    let _ = decode(bytes);
    let _ = message_head(bytes);
    let _ = half_mark(bytes);
    let _ = delay_news(bytes);
    let _ = properties(bytes).map(|properties| properties.pairs(|_| true).count());
    let _ = decode_lease_state(bytes);
    let _ = decode_topic(bytes);
    let _ = decode_group(bytes);
    for found in walk(bytes.clone(), LogPosition(0)).flatten() {
        let _ = decode(&found.1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_record_reads_back_as_written(records in prop::collection::vec(record(), 1..6)) {
        let payload = payload_of(&records);
        let mut end = 1_000;
        let mut read = Vec::new();
        for found in walk(payload.clone(), LogPosition(1_000)) {
            let (at, bytes) = found.unwrap();
            prop_assert_eq!(at.position.get(), end);
            prop_assert_eq!(at.length as usize, bytes.len());
            end += u64::from(at.length);
            let record = decode(&bytes).unwrap();
            let head = message_head(&bytes).unwrap();
            if let Record::Message(message) = &record {
                let head = head.unwrap();
                prop_assert_eq!((head.topic, head.queue, head.offset), (message.topic, message.queue, message.offset));
                prop_assert_eq!((head.tag_hash, head.body_bytes), (message.tag_hash, message.body_bytes));
                prop_assert_eq!((head.stored_at, head.promise), (message.message.stored_at, message.promise));
                prop_assert_eq!(head.order_key, crate::model::order::order_key(&message.message_group));
            } else {
                prop_assert!(head.is_none());
            }
            let news = match &record {
                Record::Delayed { key, message } => Some(DelayNews::Held { key: *key, topic: message.topic }),
                Record::DelayEnded { key, outcome, .. } => Some(DelayNews::Ended { key: *key, outcome: *outcome }),
                _ => None,
            };
            prop_assert_eq!(delay_news(&bytes).unwrap(), news);
            read.push(record);
        }
        prop_assert_eq!(end, 1_000 + payload.len() as u64);
        prop_assert_eq!(read, records);
    }

    #[test]
    fn the_start_of_a_message_has_all_its_properties_and_little_of_its_body(message in message(), body in any::<prop::sample::Index>()) {
        let body_bytes = u32::try_from(body.index(message.message.rest.len() + 1)).unwrap();
        let extra = message.origin.is_some();
        let rest = message.message.rest.clone();
        let system = message.message.system_static.clone();
        let whole = payload_of(&[Record::Message(MessageRecord { body_bytes, ..message })]);
        let start = &whole[..properties_bytes(u32::try_from(whole.len()).unwrap(), body_bytes)];
        let found = properties(start).unwrap();
        prop_assert_eq!(found.system, &system[..]);
        prop_assert!(rest.starts_with(found.rest) && found.rest.len() >= rest.len() - body_bytes as usize);
        prop_assert!(extra || found.rest.len() == rest.len() - body_bytes as usize);
        prop_assert_eq!(properties(&whole).unwrap().rest, &rest[..]);
    }

    #[test]
    fn a_record_cut_anywhere_is_an_error_and_no_panic(record in record(), cut in any::<prop::sample::Index>()) {
        let whole = payload_of(&[record]);
        let part = whole.slice(..cut.index(whole.len()));
        prop_assert!(decode(&part).is_err());
        prop_assert!(message_head(&part).is_err());
        prop_assert!(part.is_empty() || walk(part.clone(), LogPosition(0)).any(|found| found.is_err()));
        // Also when the length field was made to fit, so that the lengths inside are what catches it.
        if part.len() >= RECORD_HEADER_BYTES {
            let mut fitted = BytesMut::from(&part[..]);
            let length = u32::try_from(part.len()).unwrap();
            fitted[..4].copy_from_slice(&length.to_le_bytes());
            prop_assert!(decode(&fitted.freeze()).is_err());
        }
    }

    #[test]
    fn damaged_bytes_never_panic(record in record(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut damaged = BytesMut::from(&payload_of(&[record])[..]);
        for (place, value) in hits {
            let place = place.index(damaged.len());
            damaged[place] = value;
        }
        read_every_way(&damaged.freeze());
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        read_every_way(&Bytes::from(noise));
    }

    #[test]
    fn topics_and_groups_read_back_as_written(topic in topic(), group in group()) {
        let mut bytes = BytesMut::new();
        encode_topic(&topic, &mut bytes);
        prop_assert_eq!(decode_topic(&bytes).unwrap(), topic);
        bytes.clear();
        encode_group(&group, &mut bytes);
        prop_assert_eq!(decode_group(&bytes).unwrap(), group);
    }

    #[test]
    fn what_version_1_wrote_still_reads_without_what_came_later(topic in topic(), group in group()) {
        let mut bytes = BytesMut::new();
        encode_topic(&topic, &mut bytes);
        bytes[0] = 1;
        prop_assert_eq!(decode_topic(&bytes[..bytes.len() - 8]).unwrap(), Topic { lite_ttl: None, ..topic });
        bytes.clear();
        encode_group(&group, &mut bytes);
        bytes[0] = 1;
        prop_assert_eq!(decode_group(&bytes[..bytes.len() - 1]).unwrap(), Group { lite_exclusive: false, ..group });
    }

    #[test]
    fn lease_states_have_their_fixed_length(lease in lease()) {
        let mut bytes = BytesMut::new();
        encode_lease_state(&lease, &mut bytes);
        prop_assert_eq!(bytes.len(), LEASE_STATE_BYTES);
        prop_assert_eq!(decode_lease_state(&bytes).unwrap(), lease);
    }
}

#[test]
fn a_placed_message_reads_as_if_its_place_had_been_known_from_the_start() {
    let message = NewMessage {
        message_type: MessageType::Fifo,
        message_id: "id".into(),
        tag: "tag".into(),
        message_group: "group".into(),
        rest: Bytes::from_static(b"rest"),
        system_static: Bytes::from_static(b"system"),
        body_bytes: 3,
        ..NewMessage::default()
    };
    let mut unit = Unit::send(64);
    let first = unit.push_message(TopicId(1), Promise::Durable, 9, &message);
    let second = unit.push_message(TopicId(1), Promise::Written, 9, &message);
    unit.place(second, QueueId(5), QueueOffset(51), Timestamp(100));
    unit.place(first, QueueId(4), QueueOffset(41), Timestamp(99));
    assert!(unit.is_send() && unit.records() == 2);
    let read: Vec<_> = walk(Bytes::copy_from_slice(unit.bytes()), LogPosition(0))
        .map(|found| decode(&found.unwrap().1).unwrap())
        .collect();
    let place = |record: &Record| match record {
        Record::Message(m) => (m.queue, m.offset, m.message.stored_at, m.promise, m.message.rest.clone()),
        other => panic!("not a message: {other:?}"),
    };
    let rest = message.rest;
    assert_eq!(place(&read[0]), (QueueId(4), QueueOffset(41), Timestamp(99), Promise::Durable, rest.clone()));
    assert_eq!(place(&read[1]), (QueueId(5), QueueOffset(51), Timestamp(100), Promise::Written, rest));
}

#[test]
fn a_delayed_message_is_read_back_with_its_time_of_acceptance() {
    let message = NewMessage { message_id: "id".into(), rest: Bytes::from_static(b"rest"), ..NewMessage::default() };
    let key = HoldKey { due: Timestamp(500), hold: HoldId(7) };
    let mut unit = Unit::send(64);
    let slot = unit.push_delayed(key, TopicId(1), Promise::Durable, 9, &message);
    unit.place(slot, QueueId(0), QueueOffset(0), Timestamp(99));
    let bytes = Bytes::copy_from_slice(unit.bytes());
    let Record::Delayed { key: read, message: held } = decode(&bytes).unwrap() else { panic!("not a delayed message") };
    assert_eq!((read, held.topic, held.tag_hash), (key, TopicId(1), 9));
    assert_eq!((held.message.stored_at, held.message.rest), (Timestamp(99), Bytes::from_static(b"rest")));
}

#[test]
fn a_record_of_a_newer_program_is_named_and_not_skipped() {
    let mut newer = BytesMut::from(&payload_of(&[Record::TopicDeleted(TopicId(1))])[..]);
    newer[5] = RECORD_VERSION + 1;
    let expected = RecordError::Unknown { kind: newer[4], version: RECORD_VERSION + 1 };
    assert_eq!(decode(&newer.clone().freeze()), Err(expected.clone()));
    assert_eq!(message_head(&newer), Err(expected));
    newer[4] = 200;
    newer[5] = RECORD_VERSION;
    let unknown_kind = decode(&newer.freeze()).unwrap_err();
    assert_eq!(unknown_kind, RecordError::Unknown { kind: 200, version: RECORD_VERSION });
    assert!(unknown_kind.to_string().contains("newer"));
}

#[test]
fn a_placed_half_message_reads_back_whole_and_its_mark_without_its_body() {
    let message = NewMessage {
        message_type: MessageType::Transaction,
        message_id: "id".into(),
        producer: "p".repeat(300).into(),
        due: Some(Timestamp(77)),
        rest: Bytes::from_static(b"rest"),
        ..NewMessage::default()
    };
    let mut unit = Unit::send(64);
    let slot = unit.push_half(TopicId(1), 9, &message, Duration::from_secs(6));
    unit.place(slot, QueueId(0), QueueOffset(0), Timestamp(100));
    unit.push(&Record::HalfEnded {
        topic: TopicId(1),
        id: "id".into(),
        outcome: HalfOutcome::Committed,
        at: Timestamp(5),
        was_checked: false,
    });
    let records: Vec<Bytes> =
        walk(Bytes::copy_from_slice(unit.bytes()), LogPosition(0)).map(|found| found.unwrap().1).collect();
    let Record::Half(half) = decode(&records[0]).unwrap() else { panic!("{:?}", decode(&records[0])) };
    assert_eq!((half.first_check_after, half.due), (Duration::from_secs(6), Some(Timestamp(77))));
    assert_eq!((half.producer.len(), half.message.message.stored_at), (255, Timestamp(100)));
    assert_eq!(half.message.message.rest, message.rest);
    assert_eq!(message_head(&records[0]).unwrap(), None, "no queue may show it");
    assert_eq!(half_mark(&records[0]).unwrap(), Some(HalfMark::Stored(TopicId(1), "id")));
    assert_eq!(half_mark(&records[1]).unwrap(), Some(HalfMark::Ended(TopicId(1), "id")));
}
