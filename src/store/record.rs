//! What the log says: one record for every durable change. Layout and codec only; what a record does to the folded state
//! is in `dispatch`.
//!
//! ```text
//! record  = length u32 | kind u8 | version u8 | flags u16 | body        little-endian, length counts the whole record
//! message = topic u32 | queue u32 | offset u64 | stored_at u64 | tag_hash u32 | body_bytes u32
//!         | type u8 | promise u8 | id_len u16 | tag_len u16 | group_len u16 | system_len u32 | rest_len u32
//!         | id | tag | group | system | rest | [origin]                 origin: only with flag 1, see `DeadLetterOrigin`
//! ```
//! Unknown kinds and versions are an error that names them: state that cannot be understood must not be skipped.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::model::group::Group;
use crate::model::message::{MessageType, NewMessage, StoredMessage};
use crate::model::position::{
    GrantId, GroupId, HolderId, LogPosition, QueueId, QueueOffset, RecordAt, ShardId, Term, TopicId,
};
use crate::model::time::Timestamp;
use crate::model::topic::{Promise, Topic};
use crate::store::catalog_codec::{decode_group, decode_topic, encode_group, encode_topic};

/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 8;
/// Version of every record body written by this build.
pub const RECORD_VERSION: u8 = 1;
const MESSAGE_FIXED_BYTES: usize = 48;
const FLAG_ORIGIN: u16 = 1;

/// Why bytes are not a record.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer bytes than the lengths promise.
    #[error("record ends early: {wanted} bytes wanted, {found} found")]
    Short {
        /// Bytes that should be there.
        wanted: usize,
        /// Bytes that are.
        found: usize,
    },
    /// Written by a newer program.
    #[error("record kind {kind} version {version} is unknown to this program; it was written by a newer one")]
    Unknown {
        /// Kind byte.
        kind: u8,
        /// Version byte.
        version: u8,
    },
    /// A field holds what no writer writes.
    #[error("record field {0} is out of range")]
    Field(&'static str),
}

/// State of one outstanding message of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// With a client until `deadline`.
    Leased {
        /// When it returns by itself.
        deadline: Timestamp,
        /// The granting; part of the receipt handle.
        grant: GrantId,
        /// Client that holds it.
        holder: HolderId,
        /// Whether it also returns when that client is gone.
        auto_renew: bool,
        /// Hash of client id and attempt id, 0 when none was given.
        attempt_key: u64,
    },
    /// With nobody; deliverable from `visible_at` on.
    Waiting {
        /// Earliest redelivery.
        visible_at: Timestamp,
    },
}

/// Why an outstanding message is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleReason {
    /// Acknowledged.
    Acked,
    /// No filter of the group wanted it.
    Skipped,
    /// Moved to the dead-letter topic.
    DeadLettered,
    /// Out of retention.
    Expired,
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterOrigin {
    /// Namespace of the origin topic.
    pub namespace: String,
    /// Origin topic.
    pub topic: String,
    /// Queue there.
    pub queue: QueueId,
    /// Offset there.
    pub offset: QueueOffset,
    /// Deliveries that failed.
    pub attempts: u32,
    /// In words.
    pub reason: String,
}

/// A message, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    /// Topic.
    pub topic: TopicId,
    /// Queue.
    pub queue: QueueId,
    /// Place in the queue.
    pub offset: QueueOffset,
    /// Rung that makes it visible.
    pub promise: Promise,
    /// Kind.
    pub message_type: MessageType,
    /// Hash of its tag.
    pub tag_hash: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Message group, or empty.
    pub message_group: String,
    /// Content.
    pub message: StoredMessage,
    /// Set on dead letters.
    pub origin: Option<DeadLetterOrigin>,
}

/// One durable change.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The log was opened by a new process.
    Opened {
        /// Shard.
        shard: ShardId,
        /// Its new term.
        term: Term,
        /// When.
        at: Timestamp,
    },
    /// A message was appended.
    Message(MessageRecord),
    /// Messages were handed to a client.
    Granted {
        /// Group.
        group: GroupId,
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// The group's next never-considered offset after this.
        next: QueueOffset,
        /// The lease, the same for all items.
        lease: LeaseState,
        /// Offset and attempt of each.
        items: Vec<(QueueOffset, u32)>,
    },
    /// One outstanding message changed its lease, or was put back.
    LeaseChanged {
        /// Group.
        group: GroupId,
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// Message.
        offset: QueueOffset,
        /// Attempts so far; 0 for one that was set aside without a delivery.
        attempt: u32,
        /// New state.
        lease: LeaseState,
    },
    /// Outstanding messages are done for the group.
    Settled {
        /// Group.
        group: GroupId,
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// Why.
        reason: SettleReason,
        /// Which.
        offsets: Vec<QueueOffset>,
    },
    /// The group's next never-considered offset of a queue.
    Advanced {
        /// Group.
        group: GroupId,
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// New position.
        next: QueueOffset,
    },
    /// A topic was created or changed.
    TopicPut(Topic),
    /// A topic, its messages and every group's state on it are gone.
    TopicDeleted(TopicId),
    /// A group was created or changed.
    GroupPut(Group),
    /// A group and its state are gone.
    GroupDeleted(GroupId),
    /// Messages below `first` are out of retention.
    Trimmed {
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// First message that stays.
        first: QueueOffset,
    },
    /// The log begins here from now on; queues follow by `Trimmed` records in the same unit.
    LogTrimmed {
        /// First position that stays.
        start: LogPosition,
    },
}

/// The few facts of a message record that visibility needs, read without touching the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// Topic.
    pub topic: TopicId,
    /// Queue.
    pub queue: QueueId,
    /// Place in the queue.
    pub offset: QueueOffset,
    /// When the broker took it.
    pub stored_at: Timestamp,
    /// Hash of its tag.
    pub tag_hash: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Rung that makes it visible.
    pub promise: Promise,
}

const KIND_OPENED: u8 = 1;
const KIND_MESSAGE: u8 = 2;
const KIND_GRANTED: u8 = 3;
const KIND_LEASE_CHANGED: u8 = 4;
const KIND_SETTLED: u8 = 5;
const KIND_ADVANCED: u8 = 6;
const KIND_TOPIC_PUT: u8 = 7;
const KIND_TOPIC_DELETED: u8 = 8;
const KIND_GROUP_PUT: u8 = 9;
const KIND_GROUP_DELETED: u8 = 10;
const KIND_TRIMMED: u8 = 11;
const KIND_LOG_TRIMMED: u8 = 12;

/// Records that are written together or not at all: they share one frame.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    buffer: BytesMut,
    records: u32,
    is_send: bool,
}

/// Place of a message record inside a unit, so that queue and offset can be filled in at the last moment.
#[derive(Clone, Copy, Debug)]
pub struct MessageSlot(usize);

impl Unit {
    /// A unit of state changes: accepted also when the disk is nearly full.
    #[must_use]
    pub fn state() -> Self {
        Self::default()
    }

    /// A unit that stores new messages: refused when the disk is nearly full.
    #[must_use]
    pub fn send(capacity_bytes: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity_bytes), records: 0, is_send: true }
    }

    /// Whether it stores new messages on behalf of a producer.
    #[must_use]
    pub fn is_send(&self) -> bool {
        self.is_send
    }

    /// Encoded records.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        let start = self.begin(kind_of(record), 0);
        encode_body(record, &mut self.buffer);
        self.finish(start);
    }

    /// Adds a message whose queue, offset and time are not known yet; see [`Unit::place`].
    pub fn push_message(&mut self, topic: TopicId, promise: Promise, tag_hash: u32, message: &NewMessage) -> MessageSlot {
        let start = self.begin(KIND_MESSAGE, 0);
        let parts = MessageParts {
            topic,
            queue: QueueId(0),
            offset: QueueOffset(0),
            stored_at: Timestamp(0),
            tag_hash,
            body_bytes: message.body_bytes,
            message_type: message.message_type,
            promise,
            id: &message.message_id,
            tag: &message.tag,
            group: &message.message_group,
            system: &message.system_static,
            rest: &message.rest,
        };
        encode_message(&parts, &mut self.buffer);
        self.finish(start);
        MessageSlot(start)
    }

    /// Fills in what the broker decides when it accepts the unit.
    pub fn place(&mut self, slot: MessageSlot, queue: QueueId, offset: QueueOffset, stored_at: Timestamp) {
        let body = slot.0 + RECORD_HEADER_BYTES;
        self.buffer[body + 4..body + 8].copy_from_slice(&queue.get().to_le_bytes());
        self.buffer[body + 8..body + 16].copy_from_slice(&offset.get().to_le_bytes());
        self.buffer[body + 16..body + 24].copy_from_slice(&stored_at.millis().to_le_bytes());
    }

    fn begin(&mut self, kind: u8, flags: u16) -> usize {
        let start = self.buffer.len();
        self.buffer.put_u32_le(0);
        self.buffer.put_u8(kind);
        self.buffer.put_u8(RECORD_VERSION);
        self.buffer.put_u16_le(flags);
        start
    }

    fn finish(&mut self, start: usize) {
        let length = u32::try_from(self.buffer.len() - start).unwrap_or(u32::MAX);
        self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.records += 1;
    }
}

struct MessageParts<'a> {
    topic: TopicId,
    queue: QueueId,
    offset: QueueOffset,
    stored_at: Timestamp,
    tag_hash: u32,
    body_bytes: u32,
    message_type: MessageType,
    promise: Promise,
    id: &'a str,
    tag: &'a str,
    group: &'a str,
    system: &'a [u8],
    rest: &'a [u8],
}

fn encode_message(parts: &MessageParts<'_>, out: &mut BytesMut) {
    out.reserve(MESSAGE_FIXED_BYTES + parts.id.len() + parts.tag.len() + parts.group.len() + parts.system.len() + parts.rest.len());
    out.put_u32_le(parts.topic.get());
    out.put_u32_le(parts.queue.get());
    out.put_u64_le(parts.offset.get());
    out.put_u64_le(parts.stored_at.millis());
    out.put_u32_le(parts.tag_hash);
    out.put_u32_le(parts.body_bytes);
    out.put_u8(message_type_number(parts.message_type));
    out.put_u8(u8::from(parts.promise == Promise::Durable));
    out.put_u16_le(u16::try_from(parts.id.len()).unwrap_or(u16::MAX));
    out.put_u16_le(u16::try_from(parts.tag.len()).unwrap_or(u16::MAX));
    out.put_u16_le(u16::try_from(parts.group.len()).unwrap_or(u16::MAX));
    out.put_u32_le(u32::try_from(parts.system.len()).unwrap_or(u32::MAX));
    out.put_u32_le(u32::try_from(parts.rest.len()).unwrap_or(u32::MAX));
    out.put_slice(parts.id.as_bytes());
    out.put_slice(parts.tag.as_bytes());
    out.put_slice(parts.group.as_bytes());
    out.put_slice(parts.system);
    out.put_slice(parts.rest);
}

fn kind_of(record: &Record) -> u8 {
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

fn put_place(out: &mut BytesMut, group: GroupId, topic: TopicId, queue: QueueId) {
    out.put_u32_le(group.get());
    out.put_u32_le(topic.get());
    out.put_u32_le(queue.get());
}

/// Bytes of an encoded [`LeaseState`].
pub const LEASE_STATE_BYTES: usize = 34;

/// Writes a lease state; also the value format of the lease family.
pub fn encode_lease_state(lease: &LeaseState, out: &mut impl BufMut) {
    let (kind, at, grant, holder, auto_renew, attempt_key) = match *lease {
        LeaseState::Leased { deadline, grant, holder, auto_renew, attempt_key } => {
            (1, deadline, grant.get(), holder.get(), auto_renew, attempt_key)
        }
        LeaseState::Waiting { visible_at } => (2, visible_at, 0, 0, false, 0),
    };
    out.put_u8(kind);
    out.put_u8(u8::from(auto_renew));
    out.put_u64_le(at.millis());
    out.put_u64_le(grant);
    out.put_u64_le(holder);
    out.put_u64_le(attempt_key);
}

fn encode_body(record: &Record, out: &mut BytesMut) {
    match record {
        Record::Opened { shard, term, at } => {
            out.put_u32_le(shard.get());
            out.put_u64_le(term.get());
            out.put_u64_le(at.millis());
        }
        Record::Message(record) => encode_message_record(record, out),
        Record::Granted { group, topic, queue, next, lease, items } => {
            put_place(out, *group, *topic, *queue);
            out.put_u64_le(next.get());
            encode_lease_state(lease, out);
            out.put_u32_le(u32::try_from(items.len()).unwrap_or(u32::MAX));
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
            out.put_u32_le(u32::try_from(offsets.len()).unwrap_or(u32::MAX));
            for offset in offsets {
                out.put_u64_le(offset.get());
            }
        }
        Record::Advanced { group, topic, queue, next } => {
            put_place(out, *group, *topic, *queue);
            out.put_u64_le(next.get());
        }
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
    }
}

fn encode_message_record(record: &MessageRecord, out: &mut BytesMut) {
    let header = out.len() - RECORD_HEADER_BYTES;
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
            out.put_u16_le(u16::try_from(text.len()).unwrap_or(u16::MAX));
            out.put_slice(text.as_bytes());
        }
    }
}

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
pub fn walk(mut payload: Bytes, mut position: LogPosition) -> impl Iterator<Item = Result<(RecordAt, Bytes), RecordError>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        Some(match split_first(&mut payload) {
            Ok(record) => {
                let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
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
/// The bytes are not a record.
pub fn message_head(record: &Bytes) -> Result<Option<MessageHead>, RecordError> {
    if record.len() < RECORD_HEADER_BYTES {
        return Err(RecordError::Short { wanted: RECORD_HEADER_BYTES, found: record.len() });
    }
    if record[4] != KIND_MESSAGE {
        return Ok(None);
    }
    let mut reader = Reader::new(record)?;
    let fixed = reader.message_fixed()?;
    Ok(Some(fixed.head))
}

/// Reads a whole record. Slices of a message share the memory of `record`.
///
/// # Errors
/// The bytes are not a record, or one of a newer program.
pub fn decode(record: &Bytes) -> Result<Record, RecordError> {
    let mut reader = Reader::new(record)?;
    let (kind, version) = (record[4], record[5]);
    if version != RECORD_VERSION {
        return Err(RecordError::Unknown { kind, version });
    }
    Ok(match kind {
        KIND_OPENED => Record::Opened {
            shard: ShardId(reader.u32()?),
            term: Term(reader.u64()?),
            at: Timestamp(reader.u64()?),
        },
        KIND_MESSAGE => Record::Message(reader.message()?),
        KIND_GRANTED => {
            let (group, topic, queue) = reader.place()?;
            let next = QueueOffset(reader.u64()?);
            let lease = reader.lease()?;
            let count = reader.count(12)?;
            let mut items = Vec::with_capacity(count);
            for _ in 0..count {
                items.push((QueueOffset(reader.u64()?), reader.u32()?));
            }
            Record::Granted { group, topic, queue, next, lease, items }
        }
        KIND_LEASE_CHANGED => {
            let (group, topic, queue) = reader.place()?;
            let offset = QueueOffset(reader.u64()?);
            let attempt = reader.u32()?;
            Record::LeaseChanged { group, topic, queue, offset, attempt, lease: reader.lease()? }
        }
        KIND_SETTLED => {
            let (group, topic, queue) = reader.place()?;
            let reason = match reader.u8()? {
                1 => SettleReason::Acked,
                2 => SettleReason::Skipped,
                3 => SettleReason::DeadLettered,
                4 => SettleReason::Expired,
                _ => return Err(RecordError::Field("settle reason")),
            };
            let count = reader.count(8)?;
            let mut offsets = Vec::with_capacity(count);
            for _ in 0..count {
                offsets.push(QueueOffset(reader.u64()?));
            }
            Record::Settled { group, topic, queue, reason, offsets }
        }
        KIND_ADVANCED => {
            let (group, topic, queue) = reader.place()?;
            Record::Advanced { group, topic, queue, next: QueueOffset(reader.u64()?) }
        }
        KIND_TOPIC_PUT => Record::TopicPut(decode_topic(reader.rest())?),
        KIND_TOPIC_DELETED => Record::TopicDeleted(TopicId(reader.u32()?)),
        KIND_GROUP_PUT => Record::GroupPut(decode_group(reader.rest())?),
        KIND_GROUP_DELETED => Record::GroupDeleted(GroupId(reader.u32()?)),
        KIND_TRIMMED => Record::Trimmed {
            topic: TopicId(reader.u32()?),
            queue: QueueId(reader.u32()?),
            first: QueueOffset(reader.u64()?),
        },
        KIND_LOG_TRIMMED => Record::LogTrimmed { start: LogPosition(reader.u64()?) },
        _ => return Err(RecordError::Unknown { kind, version }),
    })
}

/// Reads a lease state as [`encode_lease_state`] wrote it.
///
/// # Errors
/// The bytes are not a lease state.
pub fn decode_lease_state(bytes: &[u8]) -> Result<LeaseState, RecordError> {
    let whole = Bytes::copy_from_slice(bytes);
    Reader { whole: &whole, at: 0 }.lease()
}

struct Fixed {
    head: MessageHead,
    message_type: MessageType,
    id: usize,
    tag: usize,
    group: usize,
    system: usize,
    rest: usize,
}

/// Reads little-endian fields one after the other; every read is checked.
pub(crate) struct Reader<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(record: &'a Bytes) -> Result<Self, RecordError> {
        if record.len() < RECORD_HEADER_BYTES {
            return Err(RecordError::Short { wanted: RECORD_HEADER_BYTES, found: record.len() });
        }
        Ok(Self { whole: record, at: RECORD_HEADER_BYTES })
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(bytes).ok_or(RecordError::Field("length"))?;
        let slice = self
            .whole
            .get(self.at..end)
            .ok_or(RecordError::Short { wanted: end, found: self.whole.len() })?;
        self.at = end;
        Ok(slice)
    }

    fn slice(&mut self, bytes: usize) -> Result<Bytes, RecordError> {
        let start = self.at;
        self.take(bytes)?;
        Ok(self.whole.slice(start..start + bytes))
    }

    fn text(&mut self, bytes: usize) -> Result<String, RecordError> {
        let raw = self.take(bytes)?;
        std::str::from_utf8(raw).map(str::to_owned).map_err(|_| RecordError::Field("text"))
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        let raw = self.take(2)?;
        Ok(u16::from_le_bytes([raw[0], raw[1]]))
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        let raw = self.take(4)?;
        Ok(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        let low = u64::from(self.u32()?);
        let high = u64::from(self.u32()?);
        Ok(low | (high << 32))
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.whole[self.at..];
        self.at = self.whole.len();
        rest
    }

    /// A count of items of `item_bytes` each, refused when they cannot all be there.
    fn count(&mut self, item_bytes: usize) -> Result<usize, RecordError> {
        let count = self.u32()? as usize;
        let wanted = count.saturating_mul(item_bytes).saturating_add(self.at);
        if wanted > self.whole.len() {
            return Err(RecordError::Short { wanted, found: self.whole.len() });
        }
        Ok(count)
    }

    fn place(&mut self) -> Result<(GroupId, TopicId, QueueId), RecordError> {
        Ok((GroupId(self.u32()?), TopicId(self.u32()?), QueueId(self.u32()?)))
    }

    fn lease(&mut self) -> Result<LeaseState, RecordError> {
        let kind = self.u8()?;
        let auto_renew = self.u8()? != 0;
        let at = Timestamp(self.u64()?);
        let grant = GrantId(self.u64()?);
        let holder = HolderId(self.u64()?);
        let attempt_key = self.u64()?;
        match kind {
            1 => Ok(LeaseState::Leased { deadline: at, grant, holder, auto_renew, attempt_key }),
            2 => Ok(LeaseState::Waiting { visible_at: at }),
            _ => Err(RecordError::Field("lease state")),
        }
    }

    fn message_fixed(&mut self) -> Result<Fixed, RecordError> {
        let (topic, queue) = (TopicId(self.u32()?), QueueId(self.u32()?));
        let offset = QueueOffset(self.u64()?);
        let stored_at = Timestamp(self.u64()?);
        let (tag_hash, body_bytes) = (self.u32()?, self.u32()?);
        let message_type = match self.u8()? {
            1 => MessageType::Normal,
            2 => MessageType::Fifo,
            3 => MessageType::Delay,
            4 => MessageType::Transaction,
            5 => MessageType::Lite,
            6 => MessageType::Priority,
            _ => return Err(RecordError::Field("message type")),
        };
        let promise = if self.u8()? == 1 { Promise::Durable } else { Promise::Written };
        Ok(Fixed {
            head: MessageHead { topic, queue, offset, stored_at, tag_hash, body_bytes, promise },
            message_type,
            id: usize::from(self.u16()?),
            tag: usize::from(self.u16()?),
            group: usize::from(self.u16()?),
            system: self.u32()? as usize,
            rest: self.u32()? as usize,
        })
    }

    fn message(&mut self) -> Result<MessageRecord, RecordError> {
        let fixed = self.message_fixed()?;
        let message_id = self.text(fixed.id)?;
        let tag = self.text(fixed.tag)?;
        let message_group = self.text(fixed.group)?;
        let system_static = self.slice(fixed.system)?;
        let rest = self.slice(fixed.rest)?;
        let flags = u16::from_le_bytes([self.whole[6], self.whole[7]]);
        let origin = if flags & FLAG_ORIGIN == 0 { None } else { Some(self.origin()?) };
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

    fn origin(&mut self) -> Result<DeadLetterOrigin, RecordError> {
        let queue = QueueId(self.u32()?);
        let offset = QueueOffset(self.u64()?);
        let attempts = self.u32()?;
        let mut texts = [String::new(), String::new(), String::new()];
        for text in &mut texts {
            let length = usize::from(self.u16()?);
            *text = self.text(length)?;
        }
        let [namespace, topic, reason] = texts;
        Ok(DeadLetterOrigin { namespace, topic, queue, offset, attempts, reason })
    }
}
