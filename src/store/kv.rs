//! The fold's key families: one file per family, with the layout of its rows, the codec, and how long a row lives.
//!
//! Numbers in keys are big-endian so that rows sort by them; numbers in values are little-endian. Each family is a column
//! family of one RocksDB database whose own write-ahead log is off: the log of the shard is the write-ahead log.

pub mod cursor;
pub mod delay;
pub mod delay_place;
pub mod error;
pub mod group;
pub mod growth;
pub mod half;
pub mod handle;
mod key;
pub mod lane;
pub mod lane_entry;
pub mod lease;
pub mod lite_topic;
pub mod lite_want;
pub mod meta;
mod options;
pub mod placement;
pub mod queue_entry;
pub mod queue_tail;
pub mod recalled;
pub mod route;
pub mod topic;

pub use error::{FoldError, OpenFoldError};
pub use handle::{Batch, FoldEnv, Kv};
pub use options::KvOptions;

/// A key family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// What the fold says about itself: see [`meta`].
    Meta,
    /// The catalogue's topics: see [`topic`].
    Topic,
    /// The catalogue's groups: see [`group`].
    Group,
    /// Where each message of a queue lies in the log: see [`queue_entry`].
    QueueEntry,
    /// First and next offset of each queue: see [`queue_tail`].
    QueueTail,
    /// How far each group has considered each queue: see [`cursor`].
    Cursor,
    /// Outstanding messages of each group: see [`lease`].
    Lease,
    /// Messages of transactions: see [`half`].
    Half,
    /// Messages that are held back until their time: see [`delay`].
    Delay,
    /// Where in the log their bodies lie: see [`delay_place`].
    DelayPlace,
    /// Messages that were recalled: see [`recalled`].
    Recalled,
    /// Messages of each message group of a queue: see [`lane_entry`].
    LaneEntry,
    /// Message groups with messages that were passed over: see [`lane`].
    Lane,
    /// What queues held when others were added: see [`growth`].
    Growth,
    /// Names of lite topics: see [`lite_topic`].
    LiteTopic,
    /// Lite topics that groups wait for: see [`lite_want`].
    LiteWant,
    /// What the route service knows: see [`route`].
    Route,
    /// How topics live on shards: see [`placement`].
    Placement,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 18] = [
        Self::Meta,
        Self::Topic,
        Self::Group,
        Self::QueueEntry,
        Self::QueueTail,
        Self::Cursor,
        Self::Lease,
        Self::Half,
        Self::Delay,
        Self::DelayPlace,
        Self::Recalled,
        Self::LaneEntry,
        Self::Lane,
        Self::Growth,
        Self::LiteTopic,
        Self::LiteWant,
        Self::Route,
        Self::Placement,
    ];

    /// Its name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::QueueEntry => "queue_entry",
            Self::QueueTail => "queue_tail",
            Self::Cursor => "cursor",
            Self::Lease => "lease",
            Self::Half => "half",
            Self::Delay => "delay",
            Self::DelayPlace => "delay_place",
            Self::Recalled => "recalled",
            Self::LaneEntry => "lane_entry",
            Self::Lane => "lane",
            Self::Growth => "growth",
            Self::LiteTopic => "lite_topic",
            Self::LiteWant => "lite_want",
            Self::Route => "route",
            Self::Placement => "placement",
        }
    }
}

/// Where changes of rows go: a write batch, or a map in a test. The order of calls is the order of effect.
pub trait Rows {
    /// Sets a row.
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]);
    /// Removes a row, if it is there.
    fn delete(&mut self, family: Family, key: &[u8]);
    /// Removes every row whose key is at least `from` and below `to`.
    fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]);
}
