//! A delivered message as the element of a receive stream: the stored bytes, and what only this delivery knows.

use bytes::{Bytes, BytesMut};
use prost::{DecodeError, Message as _, encoding};

use crate::broker::api::{Delivered, Origin};
use crate::model::message::MessageType;
use crate::proxy::convert::fields::{self, put_int, put_pair, put_text};
use crate::proxy::convert::properties::{SHARDING_KEY, TRANSACTION_ID};
use crate::proxy::convert::time::{wire_duration, wire_timestamp};
use crate::wire::rocketmq as v2;
use crate::wire_receive::{Content, ReceiveMessageResponse};

/// User property of a dead letter: why it was moved, in words.
pub const DEAD_LETTER_REASON: &str = "__DEAD_LETTER_REASON";
/// User property of a dead letter: deliveries that failed before it was moved.
pub const DEAD_LETTER_ATTEMPTS: &str = "__DEAD_LETTER_ATTEMPTS";

/// Room for one delivery's fields: times, numbers and a handle.
const DELIVERY_BYTES: usize = 256;

/// Encodes the deliveries of one receive.
#[derive(Debug)]
pub struct DeliveryEncoder {
    /// The topic field, the same for the whole receive.
    topic: Bytes,
    store_host: String,
    out: BytesMut,
}

impl DeliveryEncoder {
    /// For a receive that named its topic as `topic`; `expected` deliveries are to come.
    pub fn new(topic: &v2::Resource, store_host: String, expected: usize) -> Self {
        let mut out =
            BytesMut::with_capacity(64 + topic.name.len() + topic.resource_namespace.len() + expected * DELIVERY_BYTES);
        encoding::message::encode(fields::message::TOPIC, topic, &mut out);
        Self { topic: out.split().freeze(), store_host, out }
    }

    /// One element.
    pub fn element(&mut self, delivered: Delivered) -> ReceiveMessageResponse {
        let delivery = self.message_fields(&delivered);
        let system_delivery = self.system_fields(&delivered);
        ReceiveMessageResponse::new(Content::Stored {
            rest: delivered.message.rest,
            delivery,
            system_static: delivered.message.system_static,
            system_delivery,
        })
    }

    /// The same message as ordinary fields, for an element that has no spliced form. The body is shared, not copied.
    ///
    /// # Errors
    /// The stored bytes are no message.
    pub fn message(&mut self, delivered: Delivered) -> Result<v2::Message, DecodeError> {
        let delivery = self.message_fields(&delivered);
        let system_delivery = self.system_fields(&delivered);
        let mut message = v2::Message::decode(delivered.message.rest)?;
        message.merge(delivery)?;
        let mut system = v2::SystemProperties::decode(delivered.message.system_static)?;
        system.merge(system_delivery)?;
        message.system_properties = Some(system);
        Ok(message)
    }

    fn message_fields(&mut self, delivered: &Delivered) -> Bytes {
        let properties = fields::message::USER_PROPERTIES;
        let is_transactional = delivered.message_type == MessageType::Transaction;
        if delivered.message_group.is_empty() && delivered.origin.is_none() && !is_transactional {
            return self.topic.clone();
        }
        self.out.extend_from_slice(&self.topic);
        put_sharding_key(&delivered.message_group, &mut self.out);
        if is_transactional {
            put_pair(properties, TRANSACTION_ID, &delivered.message.message_id, &mut self.out);
        }
        if let Some(Origin { attempts, reason, .. }) = &delivered.origin {
            put_pair(properties, DEAD_LETTER_REASON, reason, &mut self.out);
            put_pair(properties, DEAD_LETTER_ATTEMPTS, &attempts.to_string(), &mut self.out);
        }
        self.out.split().freeze()
    }

    fn system_fields(&mut self, delivered: &Delivered) -> Bytes {
        use fields::system as field;

        let out = &mut self.out;
        encoding::message::encode(field::STORE_TIMESTAMP, &wire_timestamp(delivered.message.stored_at), out);
        put_text(field::STORE_HOST, &self.store_host, out);
        put_text(field::RECEIPT_HANDLE, &delivered.handle, out);
        // A lite topic has one queue as clients see it, and its own number would not fit their signed field.
        let queue = if delivered.queue.is_lite() { 0 } else { delivered.queue.get() };
        put_int(field::QUEUE_ID, i64::from(queue), out);
        put_int(field::QUEUE_OFFSET, i64::try_from(delivered.offset.get()).unwrap_or(i64::MAX), out);
        if !delivered.handle.is_empty() {
            encoding::message::encode(field::INVISIBLE_DURATION, &wire_duration(delivered.invisible), out);
        }
        put_int(field::DELIVERY_ATTEMPT, i64::from(delivered.attempt.max(1)), out);
        if let Some(origin) = &delivered.origin {
            // The dead letter keeps the id of the message it was.
            put_pair(field::DEAD_LETTER_QUEUE, origin.topic.name(), &delivered.message.message_id, out);
        }
        out.split().freeze()
    }
}

fn put_sharding_key(message_group: &str, out: &mut BytesMut) {
    if !message_group.is_empty() {
        put_pair(fields::message::USER_PROPERTIES, SHARDING_KEY, message_group, out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message;

    use super::*;
    use crate::model::message::StoredMessage;
    use crate::model::name::TopicName;
    use crate::model::position::{QueueId, QueueOffset};
    use crate::model::time::Timestamp;

    fn delivered() -> Delivered {
        let stored = v2::Message {
            user_properties: [("a".to_owned(), "1".to_owned())].into(),
            body: Bytes::from_static(b"body"),
            ..Default::default()
        };
        let system = v2::SystemProperties { message_id: "ID".into(), tag: Some("blue".into()), ..Default::default() };
        Delivered {
            handle: "handle".into(),
            attempt: 2,
            queue: QueueId(3),
            offset: QueueOffset(41),
            invisible: Duration::from_millis(15_500),
            message_type: MessageType::Normal,
            message_group: String::new(),
            message: StoredMessage {
                stored_at: Timestamp(1_700_000_000_123),
                message_id: "ID".into(),
                tag: "blue".into(),
                rest: stored.encode_to_vec().into(),
                system_static: system.encode_to_vec().into(),
            },
            origin: None,
        }
    }

    fn received(delivered: Delivered) -> v2::Message {
        let topic = v2::Resource { resource_namespace: "ns".into(), name: "t".into() };
        let mut encoder = DeliveryEncoder::new(&topic, "host".into(), 1);
        let bytes = encoder.element(delivered).encode_to_vec();
        match ReceiveMessageResponse::decode(&bytes[..]).unwrap().content {
            Some(Content::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_client_sees_what_was_stored_and_what_this_delivery_is() {
        let message = received(delivered());
        assert_eq!(message.topic, Some(v2::Resource { resource_namespace: "ns".into(), name: "t".into() }));
        assert_eq!(message.body, Bytes::from_static(b"body"));
        assert_eq!(message.user_properties.len(), 1);
        let expected = v2::SystemProperties {
            message_id: "ID".into(),
            tag: Some("blue".into()),
            store_timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }),
            store_host: "host".into(),
            receipt_handle: Some("handle".into()),
            queue_id: 3,
            queue_offset: Some(41),
            invisible_duration: Some(prost_types::Duration { seconds: 15, nanos: 500_000_000 }),
            delivery_attempt: Some(2),
            ..Default::default()
        };
        assert_eq!(message.system_properties, Some(expected));
    }

    #[test]
    fn a_pulled_message_is_the_same_without_handle_and_lease() {
        let topic = v2::Resource { resource_namespace: "ns".into(), name: "t".into() };
        let pulled = Delivered { handle: String::new(), invisible: Duration::ZERO, attempt: 1, ..delivered() };
        let message = DeliveryEncoder::new(&topic, "host".into(), 1).message(pulled).unwrap();
        let mut expected = received(delivered());
        let system = expected.system_properties.as_mut().unwrap();
        system.receipt_handle = None;
        system.invisible_duration = None;
        system.delivery_attempt = Some(1);
        assert_eq!(message, expected);
    }

    #[test]
    fn a_message_group_also_shows_as_the_property_that_existing_programs_read() {
        let message = received(Delivered { message_group: "g1".into(), ..delivered() });
        assert_eq!(message.user_properties.get("__SHARDINGKEY").map(String::as_str), Some("g1"));
        assert_eq!(message.user_properties.len(), 2);
    }

    #[test]
    fn a_committed_message_shows_the_id_of_its_transaction() {
        let message = received(Delivered { message_type: MessageType::Transaction, ..delivered() });
        assert_eq!(message.user_properties.get("__transactionId__").map(String::as_str), Some("ID"));
        assert!(!received(delivered()).user_properties.contains_key("__transactionId__"));
    }

    #[test]
    fn a_dead_letter_says_where_it_came_from_and_why() {
        let origin =
            Origin { topic: TopicName::trusted("ns", "orders"), attempts: 17, reason: "attempts exhausted".into() };
        let message = received(Delivered { origin: Some(origin), ..delivered() });
        let from = message.system_properties.unwrap().dead_letter_queue.unwrap();
        assert_eq!((from.topic.as_str(), from.message_id.as_str()), ("orders", "ID"));
        assert_eq!(message.user_properties[DEAD_LETTER_REASON], "attempts exhausted");
        assert_eq!(message.user_properties[DEAD_LETTER_ATTEMPTS], "17");
    }
}
