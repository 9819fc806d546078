//! Small makers for the tests of this room.

use crate::broker::delivery::lease::LeaseTerms;
use crate::model::position::{GrantId, HolderId, LogPosition, QueueOffset, RecordAt};
use crate::model::time::Timestamp;
use crate::store::QueueEntry;

/// An entry at `offset` without a tag.
pub fn entry(offset: u64) -> QueueEntry {
    tagged(offset, 0)
}

/// An entry at `offset` with a tag hash.
pub fn tagged(offset: u64, tag_hash: u32) -> QueueEntry {
    QueueEntry {
        offset: QueueOffset(offset),
        at: RecordAt { position: LogPosition(offset * 100), length: 100 },
        tag_hash,
        stored_at: Timestamp(offset),
        body_bytes: 10,
        order_key: 0,
    }
}

/// An entry at `offset` of a message group.
pub fn grouped(offset: u64, order_key: u64) -> QueueEntry {
    QueueEntry { order_key, ..entry(offset) }
}

/// A plain lease.
pub fn terms(grant: u64, deadline: u64) -> LeaseTerms {
    LeaseTerms {
        deadline: Timestamp(deadline),
        grant: GrantId(grant),
        holder: HolderId(1),
        auto_renew: false,
        attempt_key: 0,
    }
}
