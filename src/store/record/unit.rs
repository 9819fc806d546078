//! Records on their way into one frame, already encoded.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::model::message::NewMessage;
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::Promise;
use crate::store::codec::length_u32;
use crate::store::record::encode::{MessageParts, encode_body, encode_half, encode_message, kind_of, put_hold_key};
use crate::store::record::types::{
    DELAYED_PREFIX_BYTES, HoldKey, KIND_DELAYED, KIND_HALF, KIND_MESSAGE, RECORD_HEADER_BYTES, RECORD_VERSION, Record,
};

/// Records that are written together or not at all: they share one frame.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    buffer: BytesMut,
    records: u32,
    is_send: bool,
}

/// Place of a message inside a unit, so that queue and offset can be filled in at the last moment. Counts from where the header
/// of a plain message record would begin.
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
    pub fn push_message(
        &mut self,
        topic: TopicId,
        promise: Promise,
        tag_hash: u32,
        message: &NewMessage,
    ) -> MessageSlot {
        let start = self.begin(KIND_MESSAGE, 0);
        self.put_message(topic, promise, tag_hash, message);
        self.finish(start);
        MessageSlot(start)
    }

    /// Adds a half message whose time is not known yet; see [`Unit::place`].
    pub fn push_half(
        &mut self,
        topic: TopicId,
        tag_hash: u32,
        message: &NewMessage,
        first_check_after: Duration,
    ) -> MessageSlot {
        let start = self.begin(KIND_HALF, 0);
        // Nobody reads it before it is durable, whatever the topic promises its senders.
        self.put_message(topic, Promise::Durable, tag_hash, message);
        encode_half(first_check_after, message.due, &message.producer, &mut self.buffer);
        self.finish(start);
        MessageSlot(start)
    }

    /// Adds a message that is held back; its time is filled in by [`Unit::place`], with queue and offset 0.
    pub fn push_delayed(
        &mut self,
        key: HoldKey,
        topic: TopicId,
        promise: Promise,
        tag_hash: u32,
        message: &NewMessage,
    ) -> MessageSlot {
        let start = self.begin(KIND_DELAYED, 0);
        put_hold_key(&mut self.buffer, key);
        self.put_message(topic, promise, tag_hash, message);
        self.finish(start);
        MessageSlot(start + DELAYED_PREFIX_BYTES)
    }

    fn put_message(&mut self, topic: TopicId, promise: Promise, tag_hash: u32, message: &NewMessage) {
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
        let length = length_u32(self.buffer.len() - start);
        self.buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.records += 1;
    }
}
