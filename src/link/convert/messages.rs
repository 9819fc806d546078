//! Messages. Their encoded halves pass as they are: slices of the buffer they arrived in.

use std::time::Duration;

use crate::broker::api::{Check, Delivered, Origin, Published};
use crate::link::convert::words::{Malformed, message_type_in, message_type_out, millis, topic_in, topic_out, wanted};
use crate::model::message::{NewMessage, StoredMessage};
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::wire::broker as wire;

/// A message on its way in.
#[must_use]
pub fn new_message_out(message: NewMessage) -> wire::NewMessage {
    wire::NewMessage {
        message_type: message_type_out(message.message_type).into(),
        message_id: message.message_id,
        tag: message.tag,
        message_group: message.message_group,
        lite_topic: message.lite_topic,
        due_ms: message.due.map(Timestamp::millis),
        orphan_after_ms: message.orphan_after.map(millis),
        producer: message.producer.to_string(),
        priority: message.priority,
        rest: message.rest,
        system_static: message.system_static,
        body_bytes: message.body_bytes,
    }
}

/// A message on its way in.
///
/// # Errors
/// A kind of another version.
pub fn new_message_in(message: wire::NewMessage) -> Result<NewMessage, Malformed> {
    Ok(NewMessage {
        message_type: message_type_in(message.message_type)?,
        message_id: message.message_id,
        tag: message.tag,
        message_group: message.message_group,
        lite_topic: message.lite_topic,
        due: message.due_ms.map(Timestamp),
        orphan_after: message.orphan_after_ms.map(Duration::from_millis),
        producer: message.producer.into(),
        priority: message.priority,
        rest: message.rest,
        system_static: message.system_static,
        body_bytes: message.body_bytes,
    })
}

/// Where a message was stored.
#[must_use]
pub fn published_out(published: Published) -> wire::Place {
    wire::Place { queue: published.queue.get(), offset: published.offset.get(), recall_handle: published.recall_handle }
}

/// Where a message was stored.
#[must_use]
pub fn published_in(place: wire::Place) -> Published {
    Published { queue: QueueId(place.queue), offset: QueueOffset(place.offset), recall_handle: place.recall_handle }
}

/// A stored message.
#[must_use]
pub fn stored_out(message: StoredMessage) -> wire::StoredMessage {
    wire::StoredMessage {
        stored_at_ms: message.stored_at.millis(),
        message_id: message.message_id,
        tag: message.tag,
        rest: message.rest,
        system_static: message.system_static,
    }
}

/// A stored message.
///
/// # Errors
/// There is none.
pub fn stored_in(message: Option<wire::StoredMessage>) -> Result<StoredMessage, Malformed> {
    let message = wanted(message, "the message")?;
    Ok(StoredMessage {
        stored_at: Timestamp(message.stored_at_ms),
        message_id: message.message_id,
        tag: message.tag,
        rest: message.rest,
        system_static: message.system_static,
    })
}

/// A message on its way out.
#[must_use]
pub fn delivered_out(delivered: Delivered) -> wire::Delivered {
    wire::Delivered {
        handle: delivered.handle,
        attempt: delivered.attempt,
        queue: delivered.queue.get(),
        offset: delivered.offset.get(),
        invisible_ms: millis(delivered.invisible),
        message_type: message_type_out(delivered.message_type).into(),
        message_group: delivered.message_group,
        message: Some(stored_out(delivered.message)),
        origin: delivered.origin.map(|origin| wire::Origin {
            topic: Some(topic_out(&origin.topic)),
            attempts: origin.attempts,
            reason: origin.reason,
        }),
    }
}

/// A message on its way out.
///
/// # Errors
/// Something is missing, or of another version.
pub fn delivered_in(delivered: wire::Delivered) -> Result<Delivered, Malformed> {
    let origin = match delivered.origin {
        Some(origin) => {
            Some(Origin { topic: topic_in(origin.topic)?, attempts: origin.attempts, reason: origin.reason })
        }
        None => None,
    };
    Ok(Delivered {
        handle: delivered.handle,
        attempt: delivered.attempt,
        queue: QueueId(delivered.queue),
        offset: QueueOffset(delivered.offset),
        invisible: Duration::from_millis(delivered.invisible_ms),
        message_type: message_type_in(delivered.message_type)?,
        message_group: delivered.message_group,
        message: stored_in(delivered.message)?,
        origin,
    })
}

/// What names a check.
#[must_use]
pub fn check_ref_out(check: &Check) -> wire::CheckRef {
    wire::CheckRef {
        topic: Some(topic_out(&check.topic)),
        topic_id: check.topic_id.get(),
        transaction_id: check.transaction_id.to_string(),
        ticket: check.ticket,
        checks: check.checks,
    }
}

/// The check that is named, without its message.
///
/// # Errors
/// Something is missing.
pub fn check_ref_in(place: wire::CheckRef) -> Result<Check, Malformed> {
    check_in(wire::Check {
        place: Some(place),
        message: Some(wire::StoredMessage::default()),
        ..wire::Check::default()
    })
}

/// A check.
#[must_use]
pub fn check_out(check: Check) -> wire::Check {
    wire::Check {
        place: Some(check_ref_out(&check)),
        producer: check.producer.to_string(),
        message_group: check.message_group,
        message: Some(stored_out(check.message)),
    }
}

/// A check.
///
/// # Errors
/// Something is missing.
pub fn check_in(check: wire::Check) -> Result<Check, Malformed> {
    let place = wanted(check.place, "the place of the check")?;
    Ok(Check {
        topic: topic_in(place.topic)?,
        topic_id: TopicId(place.topic_id),
        transaction_id: place.transaction_id.into(),
        ticket: place.ticket,
        producer: check.producer.into(),
        checks: place.checks,
        message_group: check.message_group,
        message: stored_in(check.message)?,
    })
}
