//! A read-only look at a data directory, for the command line and for tests. Nothing is changed: no recovery, no replay.
//!
//! The fold is shown as it was last flushed. After a crash it may be behind the log: [`Inspection::folded`] says how far it
//! goes, and the next start replays the rest.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{LogPosition, QueueId, QueueOffset, ShardId, TopicId};
use crate::model::topic::Topic;
use crate::store::data_dir::{DataDir, DataDirError};
use crate::store::files::Files;
use crate::store::kv::lease::{LeaseKey, LeaseValue};
use crate::store::kv::meta::Meta;
use crate::store::kv::queue_entry::QueueEntry;
use crate::store::kv::queue_tail::QueueBounds;
use crate::store::kv::{
    Family, FoldEnv, FoldError, Kv, OpenFoldError, cursor, group, lease, meta, queue_entry, queue_tail, topic,
};
use crate::store::message_store::Store;
use crate::store::record::{MessageRecord, Record};

mod segments;
mod words;

pub use segments::{FrameReport, RecordReport, SegmentEnd, SegmentReport};
pub use words::{describe, describe_lease};

use segments::Segments;

/// Something could not be looked at.
#[derive(Debug, Error)]
pub enum InspectError {
    /// Not a data directory of this program.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// It cannot be told which shard is meant.
    #[error("{dir} holds the shards {}: say which one by --shard", words::numbers(.shards))]
    Several {
        /// The directory.
        dir: std::path::PathBuf,
        /// What is there.
        shards: Vec<ShardId>,
    },
    /// The directory has no data of the shard that was asked for.
    #[error("{dir} holds no data of shard {shard}; there is {}", words::numbers(.shards))]
    NoShard {
        /// The directory.
        dir: std::path::PathBuf,
        /// Which was asked for.
        shard: ShardId,
        /// What is there.
        shards: Vec<ShardId>,
    },
    /// The fold does not open.
    #[error(transparent)]
    OpenFold(#[from] OpenFoldError),
    /// The fold cannot be read.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// A segment cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No segment holds the position.
    #[error("no segment of the log holds position {0}")]
    NoSegment(LogPosition),
    /// No whole frame begins at the position.
    #[error("no frame begins at log position {position}: {reason}")]
    NoFrame {
        /// Where.
        position: LogPosition,
        /// What is there.
        reason: String,
    },
    /// No such topic or group in the catalogue.
    #[error("there is no {kind} {name} in the folded state")]
    Unknown {
        /// `topic` or `group`.
        kind: &'static str,
        /// As asked for.
        name: String,
    },
    /// The topic has fewer queues.
    #[error("topic {topic} has queues 0 to {last}")]
    NoQueue {
        /// Its name.
        topic: TopicName,
        /// Its highest queue.
        last: u32,
    },
}

/// A message of a queue.
#[derive(Debug)]
pub struct QueueRow {
    /// As the queue sees it.
    pub entry: QueueEntry,
    /// The message, or why it cannot be read.
    pub message: Result<MessageRecord, String>,
}

/// A queue.
#[derive(Debug)]
pub struct QueueReport {
    /// Its topic.
    pub topic: Topic,
    /// Which.
    pub queue: QueueId,
    /// First and next offset.
    pub bounds: QueueBounds,
    /// Messages, as asked for.
    pub rows: Vec<QueueRow>,
}

/// A group on a queue.
#[derive(Clone, Debug)]
pub struct PlaceReport {
    /// Topic.
    pub topic: TopicName,
    /// Queue.
    pub queue: QueueId,
    /// The queue's first and next offset.
    pub bounds: QueueBounds,
    /// First offset that the group has never considered.
    pub next: QueueOffset,
    /// Outstanding messages.
    pub leases: Vec<(QueueOffset, LeaseValue)>,
}

/// A group.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// Its settings.
    pub group: Group,
    /// Where it is.
    pub places: Vec<PlaceReport>,
}

/// An opened data directory.
#[derive(Debug)]
pub struct Inspection {
    dir: DataDir,
    env: FoldEnv,
    segments: Segments,
    holder: Option<String>,
}

impl Inspection {
    /// Looks at `root`. Works beside a running process too; see [`Inspection::holder`].
    ///
    /// # Errors
    /// It is not a data directory, or of an unknown format.
    pub fn open(root: &Path, shard: ShardId, files: Arc<dyn Files>, env: FoldEnv) -> Result<Self, InspectError> {
        let dir = DataDir::new(root, shard);
        dir.check_format(files.as_ref())?;
        let holder = files.holder(&root.join("LOCK"));
        let segments = Segments::new(files, dir.log());
        Ok(Self { dir, env, segments, holder })
    }

    /// Looks at a shard of a directory of the operating system; `None`: the one that is there.
    ///
    /// # Errors
    /// As [`Inspection::open`]; several shards are there and none was named, or another than those.
    pub fn of_directory(root: &Path, shard: Option<ShardId>) -> Result<Self, InspectError> {
        let files = crate::store::files::real();
        // First: of what is no data directory no shard can be missing.
        DataDir::new(root, ShardId(0)).check_format(files.as_ref())?;
        let shards = DataDir::shards(files.as_ref(), root)?;
        let dir = root.to_owned();
        let shard = match (shard, shards.as_slice()) {
            (None, [only]) => *only,
            (None, []) => ShardId(0),
            (None, _) => return Err(InspectError::Several { dir, shards }),
            (Some(shard), _) if shards.contains(&shard) => shard,
            (Some(shard), _) => return Err(InspectError::NoShard { dir, shard, shards }),
        };
        Self::open(root, shard, files, FoldEnv::Disk)
    }

    /// Who uses the directory at the moment; what is shown may then change meanwhile.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    fn fold(&self) -> Result<Kv, InspectError> {
        Ok(Kv::open_read_only(&self.env, &self.dir.fold())?)
    }

    /// The fold's own facts; its position says how far it goes.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn folded(&self) -> Result<Meta, InspectError> {
        Ok(meta::read(&self.fold()?)?)
    }

    /// Bytes of log behind what is folded, which the next start replays; 0 when queues and groups are shown up to date.
    ///
    /// # Errors
    /// The fold or the log cannot be read.
    pub fn unfolded_bytes(&self) -> Result<u64, InspectError> {
        let folded = self.folded()?.position;
        Ok(self.segments.records_end(folded)?.since(folded))
    }

    /// Every segment, with its frames counted and checked. Reads the whole log.
    ///
    /// # Errors
    /// The directory cannot be read; a damaged segment is reported, not an error.
    pub fn segments(&self) -> Result<Vec<SegmentReport>, InspectError> {
        self.segments.all()
    }

    /// The frame that begins at `position`, or whose records lie there.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn frame(&self, position: LogPosition) -> Result<FrameReport, InspectError> {
        self.segments.frame(position)
    }

    /// At most `max` messages of a queue from `from` on.
    ///
    /// # Errors
    /// The topic or queue is unknown, or the fold cannot be read.
    pub fn queue(
        &self,
        name: &TopicName,
        queue: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<QueueReport, InspectError> {
        let kv = self.fold()?;
        let topic = topic::all(&kv)?
            .into_iter()
            .find(|topic| topic.name == *name)
            .ok_or_else(|| InspectError::Unknown { kind: "topic", name: name.to_string() })?;
        if queue.0 >= topic.queues {
            return Err(InspectError::NoQueue { topic: topic.name, last: topic.queues.saturating_sub(1) });
        }
        let bounds = queue_tail::get(&kv, topic.id, queue)?;
        let read = |entry: QueueEntry| QueueRow { entry, message: self.message(&entry) };
        let rows = queue_entry::from(&kv, topic.id, queue, from, max)?.into_iter().map(read).collect();
        Ok(QueueReport { topic, queue, bounds, rows })
    }

    fn message(&self, entry: &QueueEntry) -> Result<MessageRecord, String> {
        match self.segments.record(entry.at) {
            Ok(Record::Message(message)) => Ok(message),
            Ok(_) => Err("the record that lies there is no message".to_owned()),
            Err(error) => Err(error),
        }
    }

    /// Where a group is on each queue, with its outstanding messages.
    ///
    /// # Errors
    /// The group is unknown, or the fold cannot be read.
    pub fn group(&self, name: &GroupName) -> Result<GroupReport, InspectError> {
        let kv = self.fold()?;
        let group = group::all(&kv)?
            .into_iter()
            .find(|group| group.name == *name)
            .ok_or_else(|| InspectError::Unknown { kind: "group", name: name.to_string() })?;
        let topics = topic::all(&kv)?;
        let name_of = |id: TopicId| match topics.iter().find(|topic| topic.id == id) {
            Some(topic) => topic.name.clone(),
            None => TopicName::trusted("", &format!("topic {id} (not in the catalogue)")),
        };
        let leases = lease::all(&kv)?;
        let mut places = Vec::new();
        for cursor in cursor::all(&kv)?.into_iter().filter(|cursor| cursor.group == group.id) {
            let here = |key: &LeaseKey| (key.topic, key.queue, key.group) == (cursor.topic, cursor.queue, cursor.group);
            let held = leases.iter().filter(|(key, _)| here(key)).map(|&(key, value)| (key.offset, value)).collect();
            places.push(PlaceReport {
                topic: name_of(cursor.topic),
                queue: cursor.queue,
                bounds: queue_tail::get(&kv, cursor.topic, cursor.queue)?,
                next: cursor.next,
                leases: held,
            });
        }
        Ok(GroupReport { group, places })
    }
}

/// One row of the fold, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRow {
    /// Name of its family.
    pub family: &'static str,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// Every row of a fold, in order of family and key.
///
/// # Errors
/// The fold cannot be read.
pub fn dump_fold(kv: &Kv) -> Result<Vec<RawRow>, FoldError> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        kv.scan(family, &[], None, |key, value| {
            rows.push(RawRow { family: family.name(), key: key.to_vec(), value: value.to_vec() });
            Ok(true)
        })?;
    }
    Ok(rows)
}

/// Every row of an open store's fold.
///
/// # Errors
/// The fold cannot be read.
pub fn dump_store(store: &Store) -> Result<Vec<RawRow>, FoldError> {
    dump_fold(store.fold_rows())
}
