//! From records to bytes.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::model::message::MessageType;
use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::Promise;
use crate::store::catalog_codec::{encode_group, encode_topic};
use crate::store::codec::{bounded, length_u16, length_u32, put_text};
use crate::store::kv::placement;
use crate::store::record::types::{
    DelayOutcome, FLAG_ORIGIN, HalfOutcome, HoldKey, KIND_ADVANCED, KIND_CATALOG_APPLIED, KIND_DELAY_ENDED,
    KIND_DELAYED, KIND_GRANTED, KIND_GROUP_DELETED, KIND_GROUP_PUT, KIND_HALF, KIND_HALF_CHECKED, KIND_HALF_ENDED,
    KIND_LANE_PARKED, KIND_LEASE_CHANGED, KIND_LITE_TOPIC_DELETED, KIND_LITE_TOPIC_PUT, KIND_LITE_WANTED,
    KIND_LOG_TRIMMED, KIND_MESSAGE, KIND_OPENED, KIND_PLACED, KIND_QUEUES_ADDED, KIND_RESET, KIND_ROUTE_DELETED,
    KIND_ROUTE_PUT, KIND_SETTLED, KIND_TOPIC_DELETED, KIND_TOPIC_PUT, KIND_TRIMMED, LeaseState, MESSAGE_FIXED_BYTES,
    MessageRecord, PRODUCER_BYTES_MAX, RECORD_HEADER_BYTES, ROUTE_KEY_BYTES_MAX, Record, SettleReason,
};

pub(super) struct MessageParts<'a> {
    pub(super) topic: TopicId,
    pub(super) queue: QueueId,
    pub(super) offset: QueueOffset,
    pub(super) stored_at: Timestamp,
    pub(super) tag_hash: u32,
    pub(super) body_bytes: u32,
    pub(super) message_type: MessageType,
    pub(super) promise: Promise,
    pub(super) id: &'a str,
    pub(super) tag: &'a str,
    pub(super) group: &'a str,
    pub(super) system: &'a [u8],
    pub(super) rest: &'a [u8],
}

pub(super) fn encode_message(parts: &MessageParts<'_>, out: &mut BytesMut) {
    out.reserve(
        MESSAGE_FIXED_BYTES
            + parts.id.len()
            + parts.tag.len()
            + parts.group.len()
            + parts.system.len()
            + parts.rest.len(),
    );
    out.put_u32_le(parts.topic.get());
    out.put_u32_le(parts.queue.get());
    out.put_u64_le(parts.offset.get());
    out.put_u64_le(parts.stored_at.millis());
    out.put_u32_le(parts.tag_hash);
    out.put_u32_le(parts.body_bytes);
    out.put_u8(message_type_number(parts.message_type));
    out.put_u8(u8::from(parts.promise == Promise::Durable));
    let texts = [parts.id, parts.tag, parts.group].map(|text| bounded(text, usize::from(u16::MAX)));
    for text in texts {
        out.put_u16_le(length_u16(text.len()));
    }
    out.put_u32_le(length_u32(parts.system.len()));
    out.put_u32_le(length_u32(parts.rest.len()));
    for text in texts {
        out.put_slice(text.as_bytes());
    }
    out.put_slice(parts.system);
    out.put_slice(parts.rest);
}

pub(super) fn kind_of(record: &Record) -> u8 {
    match record {
        Record::Opened { .. } => KIND_OPENED,
        Record::Message(_) => KIND_MESSAGE,
        Record::Granted { .. } => KIND_GRANTED,
        Record::LeaseChanged { .. } => KIND_LEASE_CHANGED,
        Record::Settled { .. } => KIND_SETTLED,
        Record::Advanced { .. } => KIND_ADVANCED,
        Record::TopicPut(_) => KIND_TOPIC_PUT,
        Record::TopicDeleted(_) => KIND_TOPIC_DELETED,
        Record::GroupPut(_) => KIND_GROUP_PUT,
        Record::GroupDeleted(_) => KIND_GROUP_DELETED,
        Record::Trimmed { .. } => KIND_TRIMMED,
        Record::LogTrimmed { .. } => KIND_LOG_TRIMMED,
        Record::LiteTopicPut { .. } => KIND_LITE_TOPIC_PUT,
        Record::LiteTopicDeleted { .. } => KIND_LITE_TOPIC_DELETED,
        Record::LiteWanted { .. } => KIND_LITE_WANTED,
        Record::Half(_) => KIND_HALF,
        Record::HalfChecked { .. } => KIND_HALF_CHECKED,
        Record::HalfEnded { .. } => KIND_HALF_ENDED,
        Record::Delayed { .. } => KIND_DELAYED,
        Record::DelayEnded { .. } => KIND_DELAY_ENDED,
        Record::Reset { .. } => KIND_RESET,
        Record::LaneParked { .. } => KIND_LANE_PARKED,
        Record::QueuesAdded { .. } => KIND_QUEUES_ADDED,
        Record::CatalogApplied { .. } => KIND_CATALOG_APPLIED,
        Record::RoutePut { .. } => KIND_ROUTE_PUT,
        Record::RouteDeleted { .. } => KIND_ROUTE_DELETED,
        Record::Placed { .. } => KIND_PLACED,
    }
}

fn message_type_number(message_type: MessageType) -> u8 {
    match message_type {
        MessageType::Normal => 1,
        MessageType::Fifo => 2,
        MessageType::Delay => 3,
        MessageType::Transaction => 4,
        MessageType::Lite => 5,
        MessageType::Priority => 6,
    }
}

fn put_route_key(out: &mut BytesMut, key: &[u8]) {
    // Keys are made of a letter and a number; the cut keeps the length field true whatever comes.
    let key = &key[..key.len().min(ROUTE_KEY_BYTES_MAX)];
    out.put_u16_le(length_u16(key.len()));
    out.put_slice(key);
}

fn put_place(out: &mut BytesMut, group: GroupId, topic: TopicId, queue: QueueId) {
    out.put_u32_le(group.get());
    out.put_u32_le(topic.get());
    out.put_u32_le(queue.get());
}

/// Writes a lease state; also the value format of the lease family.
pub fn encode_lease_state(lease: &LeaseState, out: &mut impl BufMut) {
    let (kind, at, grant, holder, auto_renew, attempt_key) = match *lease {
        LeaseState::Leased { deadline, grant, holder, auto_renew, attempt_key } => {
            (1, deadline, grant.get(), holder.get(), auto_renew, attempt_key)
        }
        LeaseState::Waiting { visible_at } => (2, visible_at, 0, 0, false, 0),
        LeaseState::Acked { grant, lease_end } => (3, lease_end, grant.get(), 0, false, 0),
    };
    out.put_u8(kind);
    out.put_u8(u8::from(auto_renew));
    out.put_u64_le(at.millis());
    out.put_u64_le(grant);
    out.put_u64_le(holder);
    out.put_u64_le(attempt_key);
}

pub(super) fn encode_body(record: &Record, out: &mut BytesMut) {
    match record {
        Record::Opened { shard, term, at } => {
            out.put_u32_le(shard.get());
            out.put_u64_le(term.get());
            out.put_u64_le(at.millis());
        }
        Record::Message(record) => encode_message_record(record, out.len() - RECORD_HEADER_BYTES, out),
        Record::Granted { group, topic, queue, next, lease, items } => {
            put_place(out, *group, *topic, *queue);
            out.put_u64_le(next.get());
            encode_lease_state(lease, out);
            out.put_u32_le(length_u32(items.len()));
            for (offset, attempt) in items {
                out.put_u64_le(offset.get());
                out.put_u32_le(*attempt);
            }
        }
        Record::LeaseChanged { group, topic, queue, offset, attempt, lease } => {
            put_place(out, *group, *topic, *queue);
            out.put_u64_le(offset.get());
            out.put_u32_le(*attempt);
            encode_lease_state(lease, out);
        }
        Record::Settled { group, topic, queue, reason, offsets } => {
            put_place(out, *group, *topic, *queue);
            out.put_u8(match reason {
                SettleReason::Acked => 1,
                SettleReason::Skipped => 2,
                SettleReason::DeadLettered => 3,
                SettleReason::Expired => 4,
            });
            out.put_u32_le(length_u32(offsets.len()));
            for offset in offsets {
                out.put_u64_le(offset.get());
            }
        }
        Record::Advanced { group, topic, queue, next } | Record::Reset { group, topic, queue, next } => {
            put_place(out, *group, *topic, *queue);
            out.put_u64_le(next.get());
        }
        Record::RoutePut { key, value } => {
            put_route_key(out, key);
            out.put_u32_le(length_u32(value.len()));
            out.put_slice(value);
        }
        Record::RouteDeleted { key } => put_route_key(out, key),
        Record::TopicPut(topic) => encode_topic(topic, out),
        Record::TopicDeleted(id) => out.put_u32_le(id.get()),
        Record::GroupPut(group) => encode_group(group, out),
        Record::GroupDeleted(id) => out.put_u32_le(id.get()),
        Record::Trimmed { topic, queue, first } => {
            out.put_u32_le(topic.get());
            out.put_u32_le(queue.get());
            out.put_u64_le(first.get());
        }
        Record::LogTrimmed { start } => out.put_u64_le(start.get()),
        Record::LiteTopicPut { topic, queue, name } => {
            out.put_u32_le(topic.get());
            out.put_u32_le(queue.get());
            put_text(out, name);
        }
        Record::LiteTopicDeleted { topic, queue } => {
            out.put_u32_le(topic.get());
            out.put_u32_le(queue.get());
        }
        Record::LiteWanted { topic, group, name, is_wanted } => {
            out.put_u32_le(topic.get());
            out.put_u32_le(group.get());
            out.put_u8(u8::from(*is_wanted));
            put_text(out, name);
        }
        Record::Half(half) => {
            let header = out.len() - RECORD_HEADER_BYTES;
            encode_message_record(&half.message, header, out);
            encode_half(half.first_check_after, half.due, &half.producer, out);
        }
        Record::HalfChecked { topic, id, checks, next_check } => {
            out.put_u32_le(topic.get());
            put_text(out, id);
            out.put_u32_le(*checks);
            out.put_u64_le(next_check.millis());
        }
        Record::HalfEnded { topic, id, outcome, at, was_checked } => {
            out.put_u32_le(topic.get());
            put_text(out, id);
            out.put_u8(match outcome {
                HalfOutcome::Committed => 1,
                HalfOutcome::RolledBack => 2,
                HalfOutcome::Discarded => 3,
                HalfOutcome::Forgotten => 4,
                HalfOutcome::Expired => 5,
            });
            out.put_u64_le(at.millis());
            out.put_u8(u8::from(*was_checked));
        }
        Record::Delayed { key, message } => {
            let header = out.len() - RECORD_HEADER_BYTES;
            put_hold_key(out, *key);
            encode_message_record(message, header, out);
        }
        Record::DelayEnded { key, topic, outcome } => {
            put_hold_key(out, *key);
            out.put_u32_le(topic.get());
            out.put_u8(match outcome {
                DelayOutcome::Fired => 1,
                DelayOutcome::Recalled => 2,
                DelayOutcome::Dropped => 3,
                DelayOutcome::Forgotten => 4,
            });
        }
        Record::LaneParked { group, topic, queue, order_key, from } => {
            put_place(out, *group, *topic, *queue);
            out.put_u64_le(*order_key);
            out.put_u8(u8::from(from.is_some()));
            out.put_u64_le(from.unwrap_or_default().get());
        }
        Record::QueuesAdded { topic, growth } => {
            out.put_u32_le(topic.get());
            out.put_u32_le(length_u32(growth.fences.len()));
            for fence in &growth.fences {
                out.put_u64_le(fence.get());
            }
        }
        Record::CatalogApplied { revision } => out.put_u64_le(revision.0),
        Record::Placed { topic, placement: placed, seals } => {
            out.put_u32_le(topic.get());
            placement::encode(placed, seals, out);
        }
    }
}

/// What a half message says behind its message.
pub(super) fn encode_half(first_check_after: Duration, due: Option<Timestamp>, producer: &str, out: &mut BytesMut) {
    out.put_u64_le(u64::try_from(first_check_after.as_millis()).unwrap_or(u64::MAX));
    out.put_u64_le(due.map_or(0, Timestamp::millis));
    put_text(out, bounded(producer, PRODUCER_BYTES_MAX));
}

pub(super) fn put_hold_key(out: &mut BytesMut, key: HoldKey) {
    out.put_u64_le(key.hold.get());
    out.put_u64_le(key.due.millis());
}

/// `header`: where the header of the record begins whose body the message ends.
fn encode_message_record(record: &MessageRecord, header: usize, out: &mut BytesMut) {
    let parts = MessageParts {
        topic: record.topic,
        queue: record.queue,
        offset: record.offset,
        stored_at: record.message.stored_at,
        tag_hash: record.tag_hash,
        body_bytes: record.body_bytes,
        message_type: record.message_type,
        promise: record.promise,
        id: &record.message.message_id,
        tag: &record.message.tag,
        group: &record.message_group,
        system: &record.message.system_static,
        rest: &record.message.rest,
    };
    encode_message(&parts, out);
    if let Some(origin) = &record.origin {
        out[header + 6..header + 8].copy_from_slice(&FLAG_ORIGIN.to_le_bytes());
        out.put_u32_le(origin.queue.get());
        out.put_u64_le(origin.offset.get());
        out.put_u32_le(origin.attempts);
        for text in [&origin.namespace, &origin.topic, &origin.reason] {
            put_text(out, text);
        }
    }
}
