use super::record::*;
use crate::model::{group::Group, position::*, time::Timestamp, topic::Topic};
use crate::runtime::watermark::*;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueueEntry {
    pub offset: QueueOffset,
    pub at: RecordAt,
    pub tag_hash: u32,
    pub stored_at: Timestamp,
    pub body_bytes: u32,
}
#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    pub first: QueueOffset,
    pub next: QueueOffset,
}
#[derive(Debug, Clone)]
pub struct LeaseRow {
    pub group: GroupId,
    pub topic: TopicId,
    pub queue: QueueId,
    pub offset: QueueOffset,
    pub attempt: u32,
    pub lease: LeaseState,
    pub entry: Option<QueueEntry>,
}
#[derive(Debug, Clone)]
pub struct Store;
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("f")]
    Full,
    #[error("f")]
    DiskFull,
    #[error("f")]
    TooLarge,
    #[error("f")]
    Failed(String),
    #[error("f")]
    Closed,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct FoldError;
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("g")]
    Gone { x: u32 },
    #[error("g")]
    Io,
}
#[derive(Debug)]
pub enum LogHealth {
    Ready,
    Other,
}
impl std::fmt::Display for LogHealth {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
pub struct Frame {
    pub payload: Bytes,
    pub payload_position: LogPosition,
}
pub trait FrameListener: Send + Sync {
    fn reached(&self, rung: Rung, frame: &Frame);
    fn wants_written(&self) -> bool;
    fn failed(&self, cause: &str);
    fn observe_sync(&self, duration: Duration, units: usize, bytes: usize);
}
impl Store {
    pub fn shard(&self) -> ShardId {
        todo!()
    }
    pub fn run(&self, _l: Arc<dyn FrameListener>) -> std::io::Result<()> {
        todo!()
    }
    pub fn append(&self, _u: Unit) -> Result<UnitSeq, AppendError> {
        todo!()
    }
    pub fn marks(&self) -> &Watermarks {
        todo!()
    }
    pub async fn read_message(&self, _a: RecordAt) -> Result<MessageRecord, ReadError> {
        todo!()
    }
    pub fn read_message_cached(&self, _a: RecordAt) -> Option<Result<MessageRecord, ReadError>> {
        todo!()
    }
    pub fn folded(&self) -> LogPosition {
        todo!()
    }
    pub fn topics(&self) -> Result<Vec<Topic>, FoldError> {
        todo!()
    }
    pub fn groups(&self) -> Result<Vec<Group>, FoldError> {
        todo!()
    }
    pub fn next_ids(&self) -> Result<(TopicId, GroupId), FoldError> {
        todo!()
    }
    pub fn queues(&self, _t: TopicId) -> Result<Vec<(QueueId, QueueBounds)>, FoldError> {
        todo!()
    }
    pub fn entries(&self, _t: TopicId, _q: QueueId, _f: QueueOffset, _m: usize) -> Result<Vec<QueueEntry>, FoldError> {
        todo!()
    }
    pub fn entry(&self, _t: TopicId, _q: QueueId, _f: QueueOffset) -> Result<Option<QueueEntry>, FoldError> {
        todo!()
    }
    pub fn first_at_or_after(&self, _t: TopicId, _q: QueueId, _f: Timestamp) -> Result<QueueOffset, FoldError> {
        todo!()
    }
    pub fn first_in_log(&self, _t: TopicId, _q: QueueId, _f: LogPosition) -> Result<QueueOffset, FoldError> {
        todo!()
    }
    pub fn cursors(&self) -> Result<Vec<(GroupId, TopicId, QueueId, QueueOffset)>, FoldError> {
        todo!()
    }
    pub fn leases(&self) -> Result<Vec<LeaseRow>, FoldError> {
        todo!()
    }
    pub fn retention_cut(&self, _n: Timestamp) -> Option<LogPosition> {
        todo!()
    }
    pub async fn trim(&self, _s: LogPosition) -> Result<(), FoldError> {
        todo!()
    }
    pub fn health(&self) -> LogHealth {
        todo!()
    }
    pub async fn close(&self) {}
}
