//! The records and the numbers that stand for them on disk.

use std::time::Duration;

use bytes::Bytes;

use crate::model::cluster::{Placement, Revision, Seal};
use crate::model::group::Group;
use crate::model::message::{MessageType, StoredMessage};
use crate::model::position::{
    GrantId, GroupId, HoldId, HolderId, LogPosition, QueueId, QueueOffset, ShardId, Term, TopicId,
};
use crate::model::properties::Properties;
use crate::model::time::Timestamp;
use crate::model::topic::{Growth, Promise, Topic};

/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 8;
/// Version of every record body written by this build.
pub const RECORD_VERSION: u8 = 1;
/// Bytes of an encoded [`LeaseState`].
pub const LEASE_STATE_BYTES: usize = 34;

pub(super) const MESSAGE_FIXED_BYTES: usize = 48;
pub(super) const FLAG_ORIGIN: u16 = 1;
/// Bytes kept of the id of the client that sent a half message: enough to find it again, and a bound.
pub(super) const PRODUCER_BYTES_MAX: usize = 255;

pub(super) const KIND_OPENED: u8 = 1;
pub(super) const KIND_MESSAGE: u8 = 2;
pub(super) const KIND_GRANTED: u8 = 3;
pub(super) const KIND_LEASE_CHANGED: u8 = 4;
pub(super) const KIND_SETTLED: u8 = 5;
pub(super) const KIND_ADVANCED: u8 = 6;
pub(super) const KIND_TOPIC_PUT: u8 = 7;
pub(super) const KIND_TOPIC_DELETED: u8 = 8;
pub(super) const KIND_GROUP_PUT: u8 = 9;
pub(super) const KIND_GROUP_DELETED: u8 = 10;
pub(super) const KIND_TRIMMED: u8 = 11;
pub(super) const KIND_LOG_TRIMMED: u8 = 12;
pub(super) const KIND_LITE_TOPIC_PUT: u8 = 20;
pub(super) const KIND_LITE_TOPIC_DELETED: u8 = 21;
pub(super) const KIND_LITE_WANTED: u8 = 28;
pub(super) const KIND_HALF: u8 = 15;
pub(super) const KIND_HALF_CHECKED: u8 = 16;
pub(super) const KIND_HALF_ENDED: u8 = 17;
pub(super) const KIND_DELAYED: u8 = 13;
pub(super) const KIND_DELAY_ENDED: u8 = 14;

/// Bytes before the message in the body of a `Delayed` record: hold and due.
pub(super) const DELAYED_PREFIX_BYTES: usize = 16;
pub(super) const KIND_RESET: u8 = 19;
pub(super) const KIND_LANE_PARKED: u8 = 18;
pub(super) const KIND_QUEUES_ADDED: u8 = 24;
pub(super) const KIND_ROUTE_PUT: u8 = 25;
pub(super) const KIND_ROUTE_DELETED: u8 = 26;
pub(super) const KIND_CATALOG_APPLIED: u8 = 27;
pub(super) const KIND_PLACED: u8 = 29;
/// Bytes of a key of the route service.
pub const ROUTE_KEY_BYTES_MAX: usize = 255;

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
    /// Acknowledged while an earlier message of its message group was not: comes back only together with that one.
    Acked {
        /// The granting that acknowledged it.
        grant: GrantId,
        /// When that lease would have ended.
        lease_end: Timestamp,
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

/// What became of a message that was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayOutcome {
    /// Its time came: the copy in its queue is in the same unit.
    Fired,
    /// Recalled by a client. Remembered, so that a repeated recall hears the same.
    Recalled,
    /// Its topic or its body is gone; nobody gets it.
    Dropped,
    /// Not one message: recalls of every message that was due up to this one are remembered no longer.
    Forgotten,
}

/// Which message that is held back: sorts by its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldKey {
    /// When it may be delivered.
    pub due: Timestamp,
    /// Tells it from others of the same instant.
    pub hold: HoldId,
}

/// The few facts of a record about held-back messages that the timers need, read without touching the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayNews {
    /// A message is held back, or its body was stored again.
    Held {
        /// Which.
        key: HoldKey,
        /// Its topic.
        topic: TopicId,
    },
    /// It is held back no longer.
    Ended {
        /// Which.
        key: HoldKey,
        /// Why.
        outcome: DelayOutcome,
    },
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

impl MessageRecord {
    /// Its properties.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties { rest: &self.message.rest, system: &self.message.system_static }
    }
}

/// A message of a transaction, stored and invisible until the transaction ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfRecord {
    /// The message; queue and offset mean nothing yet.
    pub message: MessageRecord,
    /// How long after it was stored its producer is left alone.
    pub first_check_after: Duration,
    /// When it may be delivered at the earliest, once committed.
    pub due: Option<Timestamp>,
    /// Id of the client that sent it, cut to 255 bytes.
    pub producer: String,
}

/// What became of a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfOutcome {
    /// Its copy in a queue is in the same unit.
    Committed,
    /// It will never be seen.
    RolledBack,
    /// Its producer was asked often enough; it is kept for a while, to be settled by hand.
    Discarded,
    /// That it was committed or rolled back is not known any more.
    Forgotten,
    /// It had been discarded, and its time to be settled by hand is over.
    Expired,
}

/// What the log says of a half message, read without touching its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfMark<'a> {
    /// It is stored here.
    Stored(TopicId, &'a str),
    /// Something became of it.
    Ended(TopicId, &'a str),
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
    /// A lite topic came into being, with its first message.
    LiteTopicPut {
        /// Parent.
        topic: TopicId,
        /// Its queue there.
        queue: QueueId,
        /// Its name, unique below the parent.
        name: String,
    },
    /// A lite topic, its messages and every group's state on it are gone.
    LiteTopicDeleted {
        /// Parent.
        topic: TopicId,
        /// Its queue there.
        queue: QueueId,
    },
    /// A group waits for a lite topic that does not exist, so that it misses nothing of it; or it waits no longer.
    LiteWanted {
        /// Parent.
        topic: TopicId,
        /// Group.
        group: GroupId,
        /// Name of the lite topic.
        name: String,
        /// False: it came into being, or nobody in the group asks for it any more.
        is_wanted: bool,
    },
    /// A half message was stored; also when it was stored once more, because retention takes the place where it was.
    Half(HalfRecord),
    /// A producer was asked about a half message.
    HalfChecked {
        /// Topic.
        topic: TopicId,
        /// Message id.
        id: String,
        /// How often by now.
        checks: u32,
        /// When it is asked again, or given up.
        next_check: Timestamp,
    },
    /// A half message ended, or a trace of one did.
    HalfEnded {
        /// Topic.
        topic: TopicId,
        /// Message id.
        id: String,
        /// How.
        outcome: HalfOutcome,
        /// When; of a trace, when its message ended.
        at: Timestamp,
        /// Whether its producer was ever asked.
        was_checked: bool,
    },
    /// A message is held back until its time. A second record of the same hold replaces the first: its body moved, so that the
    /// segment of the first may leave.
    Delayed {
        /// Which, and when it is due.
        key: HoldKey,
        /// The message; queue and offset are 0, they are given when it fires.
        message: MessageRecord,
    },
    /// A message is held back no longer.
    DelayEnded {
        /// Which, and when it was due.
        key: HoldKey,
        /// Its topic.
        topic: TopicId,
        /// Why.
        outcome: DelayOutcome,
    },
    /// The group begins anew at `next` in a queue: whatever it had outstanding there is forgotten, below and above.
    Reset {
        /// Group.
        group: GroupId,
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// First offset that is delivered from now on, also when it was done before.
        next: QueueOffset,
    },
    /// Messages of a message group were passed over, or taken up again: those at or above `from` and below the group's position
    /// in the queue are not considered yet.
    LaneParked {
        /// Group.
        group: GroupId,
        /// Topic.
        topic: TopicId,
        /// Queue.
        queue: QueueId,
        /// Number of the message group.
        order_key: u64,
        /// First message that was passed over; `None`: none is left.
        from: Option<QueueOffset>,
    },
    /// A topic got more queues, in the same unit as the record of its new number.
    QueuesAdded {
        /// Topic.
        topic: TopicId,
        /// What its queues held.
        growth: Growth,
    },
    /// The catalogue is as the route service had it at this revision; what changed with it lies before, in the same unit or in
    /// those right in front of it.
    CatalogApplied {
        /// Revision.
        revision: Revision,
    },
    /// The route service noted a fact, or changed it.
    RoutePut {
        /// Which, at most [`ROUTE_KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// What, in the words of the route service.
        value: Bytes,
    },
    /// The route service gave up a fact.
    RouteDeleted {
        /// Which, at most [`ROUTE_KEY_BYTES_MAX`] bytes.
        key: Bytes,
    },
    /// A topic lives on shards in this way from here on.
    Placed {
        /// Topic.
        topic: TopicId,
        /// Where it lives, lived and will live.
        placement: Placement,
        /// What this shard held whenever it gave up an order that is remembered; the last may be of this very record.
        seals: Vec<Seal>,
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
    /// Number of its message group; 0: none.
    pub order_key: u64,
}
