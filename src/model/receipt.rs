//! What a receipt handle says. The sealed text form, which clients see, is made by the broker.

use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, ShardId, TopicId};
use crate::model::time::Timestamp;

/// One delivery: this message, to this group, at this attempt, by this grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Shard that holds the lease.
    pub shard: ShardId,
    /// Group it was delivered to.
    pub group: GroupId,
    /// Topic of the message.
    pub topic: TopicId,
    /// Queue of the message.
    pub queue: QueueId,
    /// Place in the queue.
    pub offset: QueueOffset,
    /// Delivery attempt, from 1.
    pub attempt: u32,
    /// The granting.
    pub grant: GrantId,
    /// When the lease ends, as known when the text was made. Decides only whether a repeated ack is still in time (rule C29).
    pub lease_end: Timestamp,
    /// Number of the message group, 0 for none: tells a message that is done from one that was passed over.
    pub order_key: u64,
}
