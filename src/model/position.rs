//! Positions and ids, each with its own type so that two numbers of different meaning never meet by accident.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, for codecs and display.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Byte position in one shard's log. Counts every byte of every segment since the first, segment headers included.
    LogPosition(u64)
);
number!(
    /// Place of a message in its queue, from 0, without gaps.
    QueueOffset(u64)
);
number!(
    /// Queue of a topic, from 0.
    QueueId(u32)
);
number!(
    /// One log and its folded state.
    ShardId(u32)
);
number!(
    /// Grows by one at every opening of a log; frames of a lower term never follow frames of a higher one.
    Term(u64)
);
number!(
    /// Number of a frame in its shard's log, without gaps.
    FrameIndex(u64)
);
number!(
    /// Internal id of a topic, given once at creation and never reused within a shard.
    TopicId(u32)
);
number!(
    /// Internal id of a consumer group, given once at creation and never reused within a shard.
    GroupId(u32)
);
number!(
    /// Order in which units were accepted by this process's log. Not stored; starts anew at each opening.
    UnitSeq(u64)
);
number!(
    /// One granting of a lease. A receipt handle is current only while the slot still carries its grant.
    GrantId(u64)
);
number!(
    /// One message that is held back until its delivery time; unlike any other's, also over restarts.
    HoldId(u64)
);
number!(
    /// Hash of a client id, as stored with a lease so that the lease can follow the life of its client.
    HolderId(u64)
);

impl QueueId {
    /// The first queue of lite topics. A lite topic is a queue of its parent; ordinary queues are far below.
    pub const FIRST_LITE: Self = Self(0x8000_0000);

    /// Whether this is the queue of a lite topic.
    #[must_use]
    pub const fn is_lite(self) -> bool {
        self.0 >= Self::FIRST_LITE.0
    }
}

impl LogPosition {
    /// This position moved forward by `bytes`.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Bytes from `earlier` to here; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where one record lies in the log: position of its first byte and its whole length, record header included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordAt {
    /// First byte of the record header.
    pub position: LogPosition,
    /// Bytes of header and body.
    pub length: u32,
}
