//! From bytes to records. Bytes come from disk: every read is checked, nothing panics.

use std::time::Duration;

use bytes::Bytes;

use crate::model::cluster::Revision;
use crate::model::message::{MessageType, StoredMessage};
use crate::model::order::order_key;
use crate::model::position::{
    GrantId, GroupId, HoldId, HolderId, LogPosition, QueueId, QueueOffset, RecordAt, ShardId, Term, TopicId,
};
use crate::model::time::Timestamp;
use crate::model::topic::{Growth, Promise};
use crate::store::catalog_codec::{decode_group, decode_topic};
use crate::store::codec::{Reader, RecordError, length_u32};
use crate::store::kv::placement;
use crate::store::record::types::{
    DeadLetterOrigin, DelayNews, DelayOutcome, FLAG_ORIGIN, HalfMark, HalfOutcome, HalfRecord, HoldKey, KIND_ADVANCED,
    KIND_CATALOG_APPLIED, KIND_DELAY_ENDED, KIND_DELAYED, KIND_GRANTED, KIND_GROUP_DELETED, KIND_GROUP_PUT, KIND_HALF,
    KIND_HALF_CHECKED, KIND_HALF_ENDED, KIND_LANE_PARKED, KIND_LEASE_CHANGED, KIND_LITE_TOPIC_DELETED,
    KIND_LITE_TOPIC_PUT, KIND_LITE_WANTED, KIND_LOG_TRIMMED, KIND_MESSAGE, KIND_OPENED, KIND_PLACED, KIND_QUEUES_ADDED,
    KIND_RESET, KIND_ROUTE_DELETED, KIND_ROUTE_PUT, KIND_SETTLED, KIND_TOPIC_DELETED, KIND_TOPIC_PUT, KIND_TRIMMED,
    LeaseState, MessageHead, MessageRecord, RECORD_HEADER_BYTES, RECORD_VERSION, ROUTE_KEY_BYTES_MAX, Record,
    SettleReason,
};

/// Cuts the first record off `bytes`, without copying.
///
/// # Errors
/// [`RecordError::Short`] when the length field says more than there is.
pub fn split_first(bytes: &mut Bytes) -> Result<Bytes, RecordError> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err(RecordError::Short { wanted: RECORD_HEADER_BYTES, found: bytes.len() });
    }
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
    if length < RECORD_HEADER_BYTES || length > bytes.len() {
        return Err(RecordError::Short { wanted: length.max(RECORD_HEADER_BYTES), found: bytes.len() });
    }
    Ok(bytes.split_to(length))
}

/// Walks the records of a frame's payload. `position` is the log position of the payload's first byte.
pub fn walk(
    mut payload: Bytes,
    mut position: LogPosition,
) -> impl Iterator<Item = Result<(RecordAt, Bytes), RecordError>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        Some(match split_first(&mut payload) {
            Ok(record) => {
                let length = length_u32(record.len());
                let at = RecordAt { position, length };
                position = position.plus(u64::from(length));
                Ok((at, record))
            }
            Err(error) => {
                payload = Bytes::new();
                Err(error)
            }
        })
    })
}

/// Reads the head of a message record; `None` for every other kind.
///
/// # Errors
/// The bytes are not a record, or one of a newer program.
pub fn message_head(record: &[u8]) -> Result<Option<MessageHead>, RecordError> {
    let (kind, mut body) = open(record)?;
    if kind != KIND_MESSAGE {
        return Ok(None);
    }
    let fixed = message_fixed(&mut body)?;
    body.take(fixed.id + fixed.tag)?;
    let order_key = order_key(body.text(fixed.group)?);
    Ok(Some(MessageHead { order_key, ..fixed.head }))
}

/// Reads which half message a record stores or ends; `None` for every other kind.
///
/// # Errors
/// The bytes are not a record, or one of a newer program.
pub fn half_mark(record: &[u8]) -> Result<Option<HalfMark<'_>>, RecordError> {
    let (kind, mut body) = open(record)?;
    match kind {
        KIND_HALF => {
            let fixed = message_fixed(&mut body)?;
            Ok(Some(HalfMark::Stored(fixed.head.topic, body.text(fixed.id)?)))
        }
        KIND_HALF_ENDED => {
            let topic = TopicId(body.u32()?);
            Ok(Some(HalfMark::Ended(topic, body.sized_text()?)))
        }
        _ => Ok(None),
    }
}

/// Reads the facts of a record about held-back messages; `None` for every other kind.
///
/// # Errors
/// The bytes are not a record, or one of a newer program.
pub fn delay_news(record: &[u8]) -> Result<Option<DelayNews>, RecordError> {
    let (kind, mut body) = open(record)?;
    match kind {
        KIND_DELAYED => {
            let key = hold_key(&mut body)?;
            Ok(Some(DelayNews::Held { key, topic: message_fixed(&mut body)?.head.topic }))
        }
        KIND_DELAY_ENDED => {
            let (key, _, outcome) = delay_ended(&mut body)?;
            Ok(Some(DelayNews::Ended { key, outcome }))
        }
        _ => Ok(None),
    }
}

/// Reads a whole record. Slices of a message share the memory of `record`.
///
/// # Errors
/// The bytes are not a record, or one of a newer program.
pub fn decode(record: &Bytes) -> Result<Record, RecordError> {
    let (kind, mut body) = open(record)?;
    let decoded = match kind {
        KIND_OPENED => {
            Record::Opened { shard: ShardId(body.u32()?), term: Term(body.u64()?), at: Timestamp(body.u64()?) }
        }
        KIND_MESSAGE => Record::Message(message(record, &mut body)?),
        KIND_GRANTED => granted(&mut body)?,
        KIND_LEASE_CHANGED => {
            let (group, topic, queue) = place(&mut body)?;
            let offset = QueueOffset(body.u64()?);
            let attempt = body.u32()?;
            Record::LeaseChanged { group, topic, queue, offset, attempt, lease: lease(&mut body)? }
        }
        KIND_SETTLED => settled(&mut body)?,
        KIND_ADVANCED => {
            let (group, topic, queue) = place(&mut body)?;
            Record::Advanced { group, topic, queue, next: QueueOffset(body.u64()?) }
        }
        KIND_TOPIC_PUT => Record::TopicPut(decode_topic(body.rest())?),
        KIND_TOPIC_DELETED => Record::TopicDeleted(TopicId(body.u32()?)),
        KIND_GROUP_PUT => Record::GroupPut(decode_group(body.rest())?),
        KIND_GROUP_DELETED => Record::GroupDeleted(GroupId(body.u32()?)),
        KIND_TRIMMED => Record::Trimmed {
            topic: TopicId(body.u32()?),
            queue: QueueId(body.u32()?),
            first: QueueOffset(body.u64()?),
        },
        KIND_LOG_TRIMMED => Record::LogTrimmed { start: LogPosition(body.u64()?) },
        KIND_LITE_TOPIC_PUT => Record::LiteTopicPut {
            topic: TopicId(body.u32()?),
            queue: QueueId(body.u32()?),
            name: body.sized_text()?.to_owned(),
        },
        KIND_LITE_TOPIC_DELETED => {
            Record::LiteTopicDeleted { topic: TopicId(body.u32()?), queue: QueueId(body.u32()?) }
        }
        KIND_LITE_WANTED => {
            let (topic, group) = (TopicId(body.u32()?), GroupId(body.u32()?));
            let is_wanted = body.flag("wanted")?;
            Record::LiteWanted { topic, group, name: body.sized_text()?.to_owned(), is_wanted }
        }
        KIND_HALF => Record::Half(half(record, &mut body)?),
        KIND_HALF_CHECKED => Record::HalfChecked {
            topic: TopicId(body.u32()?),
            id: body.sized_text()?.to_owned(),
            checks: body.u32()?,
            next_check: Timestamp(body.u64()?),
        },
        KIND_HALF_ENDED => half_ended(&mut body)?,
        KIND_DELAYED => {
            let key = hold_key(&mut body)?;
            Record::Delayed { key, message: message(record, &mut body)? }
        }
        KIND_DELAY_ENDED => {
            let (key, topic, outcome) = delay_ended(&mut body)?;
            Record::DelayEnded { key, topic, outcome }
        }
        KIND_RESET => {
            let (group, topic, queue) = place(&mut body)?;
            Record::Reset { group, topic, queue, next: QueueOffset(body.u64()?) }
        }
        KIND_LANE_PARKED => {
            let (group, topic, queue) = place(&mut body)?;
            let order_key = body.u64()?;
            let is_parked = body.flag("parked")?;
            let from = QueueOffset(body.u64()?);
            Record::LaneParked { group, topic, queue, order_key, from: is_parked.then_some(from) }
        }
        KIND_QUEUES_ADDED => {
            let topic = TopicId(body.u32()?);
            let count = body.count(8)?;
            let mut fences = Vec::with_capacity(count);
            for _ in 0..count {
                fences.push(QueueOffset(body.u64()?));
            }
            Record::QueuesAdded { topic, growth: Growth { fences } }
        }
        KIND_PLACED => {
            let topic = TopicId(body.u32()?);
            let (placement, seals) = placement::decode(&mut body)?;
            Record::Placed { topic, placement, seals }
        }
        KIND_CATALOG_APPLIED => Record::CatalogApplied { revision: Revision(body.u64()?) },
        KIND_ROUTE_PUT => {
            let key = route_key(record, &mut body)?;
            let bytes = body.u32()? as usize;
            Record::RoutePut { key, value: shared(record, &mut body, bytes)? }
        }
        KIND_ROUTE_DELETED => Record::RouteDeleted { key: route_key(record, &mut body)? },
        _ => return Err(RecordError::Unknown { kind, version: RECORD_VERSION }),
    };
    body.end()?;
    Ok(decoded)
}

/// Reads a lease state as [`encode_lease_state`](super::encode_lease_state) wrote it.
///
/// # Errors
/// The bytes are not a lease state.
pub fn decode_lease_state(bytes: &[u8]) -> Result<LeaseState, RecordError> {
    let mut reader = Reader::new(bytes, 0);
    let state = lease(&mut reader)?;
    reader.end()?;
    Ok(state)
}

/// Kind of a record, and a reader of its body.
fn open(record: &[u8]) -> Result<(u8, Reader<'_>), RecordError> {
    let mut header = Reader::new(record, 0);
    let length = header.u32()? as usize;
    let (kind, version) = (header.u8()?, header.u8()?);
    header.u16()?;
    if length != record.len() {
        return Err(RecordError::Short { wanted: length, found: record.len() });
    }
    if version != RECORD_VERSION {
        return Err(RecordError::Unknown { kind, version });
    }
    Ok((kind, header))
}

fn place(body: &mut Reader<'_>) -> Result<(GroupId, TopicId, QueueId), RecordError> {
    Ok((GroupId(body.u32()?), TopicId(body.u32()?), QueueId(body.u32()?)))
}

fn lease(body: &mut Reader<'_>) -> Result<LeaseState, RecordError> {
    let kind = body.u8()?;
    let auto_renew = body.flag("auto renew")?;
    let at = Timestamp(body.u64()?);
    let grant = GrantId(body.u64()?);
    let holder = HolderId(body.u64()?);
    let attempt_key = body.u64()?;
    match kind {
        1 => Ok(LeaseState::Leased { deadline: at, grant, holder, auto_renew, attempt_key }),
        2 => Ok(LeaseState::Waiting { visible_at: at }),
        3 => Ok(LeaseState::Acked { grant, lease_end: at }),
        _ => Err(RecordError::Field("lease state")),
    }
}

fn granted(body: &mut Reader<'_>) -> Result<Record, RecordError> {
    let (group, topic, queue) = place(body)?;
    let next = QueueOffset(body.u64()?);
    let lease = lease(body)?;
    let count = body.count(12)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push((QueueOffset(body.u64()?), body.u32()?));
    }
    Ok(Record::Granted { group, topic, queue, next, lease, items })
}

fn settled(body: &mut Reader<'_>) -> Result<Record, RecordError> {
    let (group, topic, queue) = place(body)?;
    let reason = match body.u8()? {
        1 => SettleReason::Acked,
        2 => SettleReason::Skipped,
        3 => SettleReason::DeadLettered,
        4 => SettleReason::Expired,
        _ => return Err(RecordError::Field("settle reason")),
    };
    let count = body.count(8)?;
    let mut offsets = Vec::with_capacity(count);
    for _ in 0..count {
        offsets.push(QueueOffset(body.u64()?));
    }
    Ok(Record::Settled { group, topic, queue, reason, offsets })
}

fn hold_key(body: &mut Reader<'_>) -> Result<HoldKey, RecordError> {
    let hold = HoldId(body.u64()?);
    Ok(HoldKey { due: Timestamp(body.u64()?), hold })
}

fn delay_ended(body: &mut Reader<'_>) -> Result<(HoldKey, TopicId, DelayOutcome), RecordError> {
    let (key, topic) = (hold_key(body)?, TopicId(body.u32()?));
    let outcome = match body.u8()? {
        1 => DelayOutcome::Fired,
        2 => DelayOutcome::Recalled,
        3 => DelayOutcome::Dropped,
        4 => DelayOutcome::Forgotten,
        _ => return Err(RecordError::Field("delay outcome")),
    };
    Ok((key, topic, outcome))
}

pub(super) struct Fixed {
    pub(super) head: MessageHead,
    pub(super) message_type: MessageType,
    pub(super) id: usize,
    pub(super) tag: usize,
    pub(super) group: usize,
    pub(super) system: usize,
    pub(super) rest: usize,
}

pub(super) fn message_fixed(body: &mut Reader<'_>) -> Result<Fixed, RecordError> {
    let (topic, queue) = (TopicId(body.u32()?), QueueId(body.u32()?));
    let offset = QueueOffset(body.u64()?);
    let stored_at = Timestamp(body.u64()?);
    let (tag_hash, body_bytes) = (body.u32()?, body.u32()?);
    let message_type = match body.u8()? {
        1 => MessageType::Normal,
        2 => MessageType::Fifo,
        3 => MessageType::Delay,
        4 => MessageType::Transaction,
        5 => MessageType::Lite,
        6 => MessageType::Priority,
        _ => return Err(RecordError::Field("message type")),
    };
    let promise = if body.flag("promise")? { Promise::Durable } else { Promise::Written };
    Ok(Fixed {
        head: MessageHead { topic, queue, offset, stored_at, tag_hash, body_bytes, promise, order_key: 0 },
        message_type,
        id: usize::from(body.u16()?),
        tag: usize::from(body.u16()?),
        group: usize::from(body.u16()?),
        system: body.u32()? as usize,
        rest: body.u32()? as usize,
    })
}

fn message(record: &Bytes, body: &mut Reader<'_>) -> Result<MessageRecord, RecordError> {
    let fixed = message_fixed(body)?;
    let message_id = body.text(fixed.id)?.to_owned();
    let tag = body.text(fixed.tag)?.to_owned();
    let message_group = body.text(fixed.group)?.to_owned();
    let system_static = shared(record, body, fixed.system)?;
    let rest = shared(record, body, fixed.rest)?;
    let flags = u16::from_le_bytes([record[6], record[7]]);
    let origin = if flags & FLAG_ORIGIN == 0 { None } else { Some(origin(body)?) };
    Ok(MessageRecord {
        topic: fixed.head.topic,
        queue: fixed.head.queue,
        offset: fixed.head.offset,
        promise: fixed.head.promise,
        message_type: fixed.message_type,
        tag_hash: fixed.head.tag_hash,
        body_bytes: fixed.head.body_bytes,
        message_group,
        message: StoredMessage { stored_at: fixed.head.stored_at, message_id, tag, rest, system_static },
        origin,
    })
}

fn half(record: &Bytes, body: &mut Reader<'_>) -> Result<HalfRecord, RecordError> {
    let message = message(record, body)?;
    let first_check_after = Duration::from_millis(body.u64()?);
    let due = Some(body.u64()?).filter(|&due| due != 0).map(Timestamp);
    Ok(HalfRecord { message, first_check_after, due, producer: body.sized_text()?.to_owned() })
}

fn half_ended(body: &mut Reader<'_>) -> Result<Record, RecordError> {
    let topic = TopicId(body.u32()?);
    let id = body.sized_text()?.to_owned();
    let outcome = match body.u8()? {
        1 => HalfOutcome::Committed,
        2 => HalfOutcome::RolledBack,
        3 => HalfOutcome::Discarded,
        4 => HalfOutcome::Forgotten,
        5 => HalfOutcome::Expired,
        _ => return Err(RecordError::Field("outcome of a half message")),
    };
    let at = Timestamp(body.u64()?);
    Ok(Record::HalfEnded { topic, id, outcome, at, was_checked: body.flag("was checked")? })
}

fn route_key(record: &Bytes, body: &mut Reader<'_>) -> Result<Bytes, RecordError> {
    let bytes = usize::from(body.u16()?);
    if bytes > ROUTE_KEY_BYTES_MAX {
        return Err(RecordError::Field("key of the route service"));
    }
    shared(record, body, bytes)
}

/// The next `bytes` bytes, sharing the memory of the record.
fn shared(record: &Bytes, body: &mut Reader<'_>, bytes: usize) -> Result<Bytes, RecordError> {
    let start = body.at();
    body.take(bytes)?;
    Ok(record.slice(start..start + bytes))
}

fn origin(body: &mut Reader<'_>) -> Result<DeadLetterOrigin, RecordError> {
    let queue = QueueId(body.u32()?);
    let offset = QueueOffset(body.u64()?);
    let attempts = body.u32()?;
    let mut texts = [String::new(), String::new(), String::new()];
    for text in &mut texts {
        body.sized_text()?.clone_into(text);
    }
    let [namespace, topic, reason] = texts;
    Ok(DeadLetterOrigin { namespace, topic, queue, offset, attempts, reason })
}
