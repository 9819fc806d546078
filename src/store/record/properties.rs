//! The part of a message record that filters look at: everything in front of the body.

use crate::model::properties::Properties;
use crate::store::codec::{Reader, RecordError};
use crate::store::record::decode::message_fixed;
use crate::store::record::types::{KIND_MESSAGE, MESSAGE_FIXED_BYTES, RECORD_HEADER_BYTES, RECORD_VERSION};

/// Bytes from the beginning of a record of `length` bytes that hold all properties of a message with a body of `body_bytes`. Never
/// too few; a few of the body's may be among them.
#[must_use]
pub fn properties_bytes(length: u32, body_bytes: u32) -> usize {
    let least = RECORD_HEADER_BYTES + MESSAGE_FIXED_BYTES;
    (length.saturating_sub(body_bytes) as usize).max(least).min(length as usize)
}

/// The properties of a message, from the first [`properties_bytes`] of its record or from all of it.
///
/// # Errors
/// The bytes are not the beginning of a message record, or one of a newer program.
pub fn properties(start: &[u8]) -> Result<Properties<'_>, RecordError> {
    let mut reader = Reader::new(start, 0);
    let length = reader.u32()? as usize;
    let (kind, version) = (reader.u8()?, reader.u8()?);
    reader.u16()?;
    if length < start.len() {
        return Err(RecordError::Short { wanted: length, found: start.len() });
    }
    if version != RECORD_VERSION || kind != KIND_MESSAGE {
        return Err(RecordError::Unknown { kind, version });
    }
    let fixed = message_fixed(&mut reader)?;
    reader.take(fixed.id + fixed.tag + fixed.group)?;
    let system = reader.take(fixed.system)?;
    let rest = reader.rest();
    Ok(Properties { rest: &rest[..rest.len().min(fixed.rest)], system })
}
