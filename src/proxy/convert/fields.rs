//! Writing single protobuf fields without building the message first.

use bytes::{BufMut, BytesMut};
use prost::encoding::{self, WireType};

/// Field numbers of `Message`.
pub mod message {
    pub const TOPIC: u32 = 1;
    pub const USER_PROPERTIES: u32 = 2;
    pub const BODY: u32 = 4;
}

/// Field numbers of `SystemProperties`.
pub mod system {
    pub const TAG: u32 = 1;
    pub const KEYS: u32 = 2;
    pub const MESSAGE_ID: u32 = 3;
    pub const BODY_DIGEST: u32 = 4;
    pub const BODY_ENCODING: u32 = 5;
    pub const MESSAGE_TYPE: u32 = 6;
    pub const BORN_TIMESTAMP: u32 = 7;
    pub const BORN_HOST: u32 = 8;
    pub const STORE_TIMESTAMP: u32 = 9;
    pub const STORE_HOST: u32 = 10;
    pub const DELIVERY_TIMESTAMP: u32 = 11;
    pub const RECEIPT_HANDLE: u32 = 12;
    pub const QUEUE_ID: u32 = 13;
    pub const QUEUE_OFFSET: u32 = 14;
    pub const INVISIBLE_DURATION: u32 = 15;
    pub const DELIVERY_ATTEMPT: u32 = 16;
    pub const MESSAGE_GROUP: u32 = 17;
    pub const TRACE_CONTEXT: u32 = 18;
    pub const ORPHANED_TRANSACTION_RECOVERY: u32 = 19;
    pub const DEAD_LETTER_QUEUE: u32 = 20;
    pub const LITE_TOPIC: u32 = 21;
    pub const PRIORITY: u32 = 22;
}

/// A string or bytes field, also when empty.
pub fn put_bytes(tag: u32, value: &[u8], out: &mut BytesMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(value.len() as u64, out);
    out.put_slice(value);
}

/// A string field whose empty value means "absent".
pub fn put_text(tag: u32, value: &str, out: &mut BytesMut) {
    if !value.is_empty() {
        put_bytes(tag, value.as_bytes(), out);
    }
}

/// An integer or enum field. A negative number is written as its 64-bit two's complement, as protobuf wants it.
pub fn put_int(tag: u32, value: i64, out: &mut BytesMut) {
    encoding::encode_key(tag, WireType::Varint, out);
    encoding::encode_varint(value.cast_unsigned(), out);
}

/// A pair of strings as a field of their own: a map entry, or any message with string fields 1 and 2.
pub fn put_pair(tag: u32, first: &str, second: &str, out: &mut BytesMut) {
    let text_len = |text: &str| 1 + encoding::encoded_len_varint(text.len() as u64) + text.len();
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint((text_len(first) + text_len(second)) as u64, out);
    put_bytes(1, first.as_bytes(), out);
    put_bytes(2, second.as_bytes(), out);
}

/// `Digest {type, checksum}`.
pub fn put_digest(tag: u32, digest_type: i32, checksum: &[u8], out: &mut BytesMut) {
    let length = 2 + 1 + encoding::encoded_len_varint(checksum.len() as u64) + checksum.len();
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(length as u64, out);
    put_int(1, i64::from(digest_type), out);
    put_bytes(2, checksum, out);
}
