//! What the log says: one record for every durable change. Layout and codec only; what a record does to the folded state
//! is in `dispatch`.
//!
//! ```text
//! record  = length u32 | kind u8 | version u8 | flags u16 | body        little-endian, length counts the whole record
//! message = topic u32 | queue u32 | offset u64 | stored_at u64 | tag_hash u32 | body_bytes u32
//!         | type u8 | promise u8 | id_len u16 | tag_len u16 | group_len u16 | system_len u32 | rest_len u32
//!         | id | tag | group | system | rest | [origin]                 origin: only with flag 1, see `DeadLetterOrigin`
//! half    = as message, then first_check_ms u64 | due u64 (0: at once) | producer_len u16 | producer
//! delayed = hold u64 | due u64 | a message as above, its queue and offset 0
//! delay_ended = hold u64 | due u64 | topic u32 | outcome u8
//! route_put = key_len u16 | key | value_len u32 | value; route_deleted = key_len u16 | key
//! ```
//! Unknown kinds and versions are an error that names them: state that cannot be understood must not be skipped.

mod decode;
mod encode;
mod properties;
mod types;
mod unit;

#[cfg(test)]
mod tests;

pub use decode::{decode, decode_lease_state, delay_news, half_mark, message_head, split_first, walk};
pub use encode::encode_lease_state;
pub use properties::{properties, properties_bytes};
pub use types::{
    DeadLetterOrigin, DelayNews, DelayOutcome, HalfMark, HalfOutcome, HalfRecord, HoldKey, LEASE_STATE_BYTES,
    LeaseState, MessageHead, MessageRecord, RECORD_HEADER_BYTES, RECORD_VERSION, ROUTE_KEY_BYTES_MAX, Record,
    SettleReason,
};
pub use unit::{MessageSlot, Unit};

pub use crate::store::codec::RecordError;
