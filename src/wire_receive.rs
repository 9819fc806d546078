//! `apache.rocketmq.v2.ReceiveMessageResponse`, written by hand so that a stored message is spliced, not re-encoded.
//!
//! A message is kept as two runs of encoded protobuf fields. A delivery adds two more, and the element on the stream is
//!
//! ```text
//! tag 2 · length · [rest: user properties, body] · [delivery: topic, further user properties]
//!                · tag 3 · length · [system_static][system_delivery]
//! ```
//!
//! Field order is free in protobuf, so topic and `system_properties` may follow the body. Splicing relies on it: the delivery
//! parts are known only now (a dead letter is delivered under another topic), the rest was known when the message came in.
//!
//! Invariants: the three variants a client can send round-trip through [`Content::Status`], [`Content::Message`] and
//! [`Content::DeliveryTimestamp`]; [`Content::Stored`] exists on the sending side only and decodes as `Message`.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};

use crate::wire::rocketmq as v2;

/// Field numbers of the oneof `content`.
const STATUS: u32 = 1;
const MESSAGE: u32 = 2;
const DELIVERY_TIMESTAMP: u32 = 3;
/// Field number of `Message.system_properties`.
const SYSTEM_PROPERTIES: u32 = 3;

/// One element of the receive stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReceiveMessageResponse {
    /// Absent only in an element that an unknown newer peer wrote.
    pub content: Option<Content>,
}

/// What one element carries.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one at a time, on its way to the socket: a box would cost more than it saves
pub enum Content {
    /// First on the stream: how the receive ended.
    Status(v2::Status),
    /// A message as ordinary fields.
    Message(v2::Message),
    /// A message as encoded fields, to be spliced.
    Stored {
        /// Encoded `Message` fields that never change: user properties and body.
        rest: Bytes,
        /// Encoded `Message` fields of this delivery: topic, and user properties whose keys do not occur in `rest`.
        delivery: Bytes,
        /// Encoded `SystemProperties` fields that never change.
        system_static: Bytes,
        /// Encoded `SystemProperties` fields of this delivery. None of them occurs in `system_static`.
        system_delivery: Bytes,
    },
    /// Last on the stream: the server's time.
    DeliveryTimestamp(prost_types::Timestamp),
}

/// Length of the spliced `Message`, and of the `SystemProperties` inside it, in bytes.
fn stored_len(rest: &Bytes, delivery: &Bytes, system_static: &Bytes, system_delivery: &Bytes) -> (usize, usize) {
    let system = system_static.len() + system_delivery.len();
    let message = rest.len()
        + delivery.len()
        + encoding::key_len(SYSTEM_PROPERTIES)
        + encoding::encoded_len_varint(system as u64)
        + system;
    (message, system)
}

impl prost::Message for ReceiveMessageResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        match &self.content {
            None => {}
            Some(Content::Status(status)) => encoding::message::encode(STATUS, status, buf),
            Some(Content::Message(message)) => encoding::message::encode(MESSAGE, message, buf),
            Some(Content::Stored { rest, delivery, system_static, system_delivery }) => {
                let (message, system) = stored_len(rest, delivery, system_static, system_delivery);
                encoding::encode_key(MESSAGE, WireType::LengthDelimited, buf);
                encoding::encode_varint(message as u64, buf);
                buf.put_slice(rest);
                buf.put_slice(delivery);
                encoding::encode_key(SYSTEM_PROPERTIES, WireType::LengthDelimited, buf);
                encoding::encode_varint(system as u64, buf);
                buf.put_slice(system_static);
                buf.put_slice(system_delivery);
            }
            Some(Content::DeliveryTimestamp(at)) => {
                encoding::message::encode(DELIVERY_TIMESTAMP, at, buf);
            }
        }
    }

    fn encoded_len(&self) -> usize {
        match &self.content {
            None => 0,
            Some(Content::Status(status)) => encoding::message::encoded_len(STATUS, status),
            Some(Content::Message(message)) => encoding::message::encoded_len(MESSAGE, message),
            Some(Content::Stored { rest, delivery, system_static, system_delivery }) => {
                let (message, _) = stored_len(rest, delivery, system_static, system_delivery);
                encoding::key_len(MESSAGE) + encoding::encoded_len_varint(message as u64) + message
            }
            Some(Content::DeliveryTimestamp(at)) => encoding::message::encoded_len(DELIVERY_TIMESTAMP, at),
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // A repeated occurrence of the same member merges, another member replaces: the rule for a oneof.
        match tag {
            STATUS => {
                let mut status = match self.content.take() {
                    Some(Content::Status(before)) => before,
                    _ => v2::Status::default(),
                };
                encoding::message::merge(wire_type, &mut status, buf, ctx)?;
                self.content = Some(Content::Status(status));
                Ok(())
            }
            MESSAGE => {
                let mut message = match self.content.take() {
                    Some(Content::Message(before)) => before,
                    _ => v2::Message::default(),
                };
                encoding::message::merge(wire_type, &mut message, buf, ctx)?;
                self.content = Some(Content::Message(message));
                Ok(())
            }
            DELIVERY_TIMESTAMP => {
                let mut at = match self.content.take() {
                    Some(Content::DeliveryTimestamp(before)) => before,
                    _ => prost_types::Timestamp::default(),
                };
                encoding::message::merge(wire_type, &mut at, buf, ctx)?;
                self.content = Some(Content::DeliveryTimestamp(at));
                Ok(())
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn clear(&mut self) {
        self.content = None;
    }
}

impl ReceiveMessageResponse {
    /// An element that carries `content`.
    pub fn new(content: Content) -> Self {
        Self { content: Some(content) }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// The same message as code generation would have written it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Ordinary {
        #[prost(oneof = "OrdinaryContent", tags = "1, 2, 3")]
        content: Option<OrdinaryContent>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    #[allow(clippy::large_enum_variant)]
    enum OrdinaryContent {
        #[prost(message, tag = "1")]
        Status(v2::Status),
        #[prost(message, tag = "2")]
        Message(v2::Message),
        #[prost(message, tag = "3")]
        DeliveryTimestamp(prost_types::Timestamp),
    }

    fn ordinary(content: OrdinaryContent) -> Vec<u8> {
        let ordinary = Ordinary { content: Some(content) };
        ordinary.encode_to_vec()
    }

    fn status() -> v2::Status {
        v2::Status { code: v2::Code::MessageNotFound as i32, message: "nothing".into() }
    }

    fn instant() -> prost_types::Timestamp {
        prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }
    }

    fn system_static() -> v2::SystemProperties {
        v2::SystemProperties {
            tag: Some("blue".into()),
            keys: vec!["k1".into(), "k2".into()],
            message_id: "01ABCDEF".into(),
            body_encoding: v2::Encoding::Identity as i32,
            ..Default::default()
        }
    }

    fn system_delivery() -> v2::SystemProperties {
        v2::SystemProperties {
            receipt_handle: Some("handle".into()),
            queue_offset: Some(42),
            delivery_attempt: Some(2),
            ..Default::default()
        }
    }

    fn system_whole() -> v2::SystemProperties {
        let mut whole = system_static();
        let delivery = system_delivery();
        whole.receipt_handle = delivery.receipt_handle;
        whole.queue_offset = delivery.queue_offset;
        whole.delivery_attempt = delivery.delivery_attempt;
        whole
    }

    fn message(body: &[u8]) -> v2::Message {
        v2::Message {
            topic: Some(v2::Resource { resource_namespace: String::new(), name: "t".into() }),
            user_properties: [("a".to_string(), "1".to_string())].into(),
            system_properties: Some(system_whole()),
            body: Bytes::copy_from_slice(body),
        }
    }

    fn stored(body: &[u8]) -> ReceiveMessageResponse {
        let rest = v2::Message { body: Bytes::copy_from_slice(body), ..Default::default() };
        let delivery = v2::Message { system_properties: None, body: Bytes::new(), ..message(b"") };
        ReceiveMessageResponse::new(Content::Stored {
            rest: rest.encode_to_vec().into(),
            delivery: delivery.encode_to_vec().into(),
            system_static: system_static().encode_to_vec().into(),
            system_delivery: system_delivery().encode_to_vec().into(),
        })
    }

    #[test]
    fn unspliced_elements_are_written_as_generated_code_would() {
        let pairs = [
            (Content::Status(status()), OrdinaryContent::Status(status())),
            (Content::Message(message(b"body")), OrdinaryContent::Message(message(b"body"))),
            (Content::DeliveryTimestamp(instant()), OrdinaryContent::DeliveryTimestamp(instant())),
        ];
        for (ours, theirs) in pairs {
            let element = ReceiveMessageResponse::new(ours);
            let bytes = element.encode_to_vec();
            assert_eq!(bytes, ordinary(theirs));
            assert_eq!(element.encoded_len(), bytes.len());
            assert_eq!(ReceiveMessageResponse::decode(&bytes[..]), Ok(element));
        }
        assert!(ReceiveMessageResponse::default().encode_to_vec().is_empty());
    }

    #[test]
    fn a_spliced_message_without_body_has_the_very_bytes_of_an_ordinary_one() {
        // Without a body nothing follows `system_properties` in field order, so the splice must not differ at all.
        let spliced = stored(b"").encode_to_vec();
        assert_eq!(spliced, ordinary(OrdinaryContent::Message(message(b""))));
    }

    #[test]
    fn a_spliced_message_reads_as_the_ordinary_one_at_every_length_of_the_length_prefix() {
        for body_len in [0, 1, 60, 127, 128, 16_300, 16_384, 70_000] {
            let body = vec![7_u8; body_len];
            let element = stored(&body);
            let spliced = element.encode_to_vec();
            let plain = ordinary(OrdinaryContent::Message(message(&body)));
            assert_eq!(element.encoded_len(), spliced.len(), "body of {body_len}");
            assert_eq!(spliced.len(), plain.len(), "body of {body_len}");
            assert_eq!(
                ReceiveMessageResponse::decode(&spliced[..]),
                Ok(ReceiveMessageResponse::new(Content::Message(message(&body)))),
                "body of {body_len}"
            );
        }
    }

    #[test]
    fn a_message_without_system_properties_still_carries_the_empty_field() {
        let element = ReceiveMessageResponse::new(Content::Stored {
            rest: Bytes::new(),
            delivery: Bytes::new(),
            system_static: Bytes::new(),
            system_delivery: Bytes::new(),
        });
        let empty = v2::Message { system_properties: Some(v2::SystemProperties::default()), ..Default::default() };
        assert_eq!(element.encode_to_vec(), ordinary(OrdinaryContent::Message(empty)));
    }

    #[test]
    fn the_last_member_of_the_oneof_wins_and_unknown_fields_are_skipped() {
        let mut bytes = ordinary(OrdinaryContent::Status(status()));
        encoding::string::encode(99, &"newer".to_string(), &mut bytes);
        bytes.extend(ordinary(OrdinaryContent::DeliveryTimestamp(instant())));
        assert_eq!(
            ReceiveMessageResponse::decode(&bytes[..]),
            Ok(ReceiveMessageResponse::new(Content::DeliveryTimestamp(instant())))
        );
    }

    #[test]
    fn cut_off_bytes_are_an_error_and_not_a_message() {
        let bytes = stored(b"body").encode_to_vec();
        for len in 1..bytes.len() {
            assert!(ReceiveMessageResponse::decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
    }
}
