//! What the fold says about itself. One row per fact, for the life of the database.
//!
//! ```text
//! "format"    → version u32      layout of all families; an unknown one is refused
//! "position"  → position u64     the fold holds every frame before it and none behind; in every write batch
//! "term"      → term u64         last term that opened the log
//! "log_start" → position u64     where the log begins by the last LogTrimmed record
//! "next_ids"  → topic u32 | group u32     next ids to give; never lowered, so that no id is used twice
//! "applied"   → revision u64     the catalogue is as the route service had it then; absent outside of a cluster
//! ```

use crate::model::cluster::Revision;
use crate::model::position::{GroupId, LogPosition, Term, TopicId};
use crate::store::codec::{Reader, RecordError};
use crate::store::kv::error::FoldError;
use crate::store::kv::handle::Kv;
use crate::store::kv::{Family, Rows};

/// Layout of the families as this program writes them.
pub const FOLD_FORMAT: u32 = 2;

const FORMAT: &[u8] = b"format";
const POSITION: &[u8] = b"position";
const TERM: &[u8] = b"term";
const LOG_START: &[u8] = b"log_start";
const NEXT_IDS: &[u8] = b"next_ids";
const APPLIED: &[u8] = b"applied";

/// The facts that records change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The fold holds every frame before it.
    pub position: LogPosition,
    /// Last term that opened the log.
    pub term: Term,
    /// Where the log begins.
    pub log_start: LogPosition,
    /// Next topic id to give.
    pub next_topic: TopicId,
    /// Next group id to give.
    pub next_group: GroupId,
    /// Revision of the cluster's catalogue that the topics and groups are of; `None`: of no cluster.
    pub applied: Option<Revision>,
}

fn number(bytes: &[u8]) -> Result<u64, RecordError> {
    let mut reader = Reader::new(bytes, 0);
    let value = reader.u64()?;
    reader.end()?;
    Ok(value)
}

/// Layout version of a database; `None` for a new one.
///
/// # Errors
/// The database cannot be read.
pub fn format(kv: &Kv) -> Result<Option<u32>, FoldError> {
    kv.get(Family::Meta, FORMAT, |bytes| Reader::new(bytes, 0).u32())
}

/// Writes the layout version into a new database.
pub fn put_format(rows: &mut impl Rows) {
    rows.put(Family::Meta, FORMAT, &FOLD_FORMAT.to_le_bytes());
}

/// Reads all facts; those that were never written are zero, ids start at 1.
///
/// # Errors
/// The database cannot be read.
pub fn read(kv: &Kv) -> Result<Meta, FoldError> {
    let get = |key| kv.get(Family::Meta, key, number).map(Option::unwrap_or_default);
    let ids = kv.get(Family::Meta, NEXT_IDS, |bytes| {
        let mut reader = Reader::new(bytes, 0);
        Ok((TopicId(reader.u32()?), GroupId(reader.u32()?)))
    })?;
    let (next_topic, next_group) = ids.unwrap_or((TopicId(1), GroupId(1)));
    Ok(Meta {
        position: LogPosition(get(POSITION)?),
        term: Term(get(TERM)?),
        log_start: LogPosition(get(LOG_START)?),
        next_topic,
        next_group,
        applied: kv.get(Family::Meta, APPLIED, number)?.map(Revision),
    })
}

/// Writes what differs from `before`; the position always.
pub fn put(rows: &mut impl Rows, meta: &Meta, before: &Meta) {
    rows.put(Family::Meta, POSITION, &meta.position.get().to_le_bytes());
    if meta.term != before.term {
        rows.put(Family::Meta, TERM, &meta.term.get().to_le_bytes());
    }
    if meta.log_start != before.log_start {
        rows.put(Family::Meta, LOG_START, &meta.log_start.get().to_le_bytes());
    }
    if (meta.next_topic, meta.next_group) != (before.next_topic, before.next_group) {
        let mut ids = [0; 8];
        ids[..4].copy_from_slice(&meta.next_topic.get().to_le_bytes());
        ids[4..].copy_from_slice(&meta.next_group.get().to_le_bytes());
        rows.put(Family::Meta, NEXT_IDS, &ids);
    }
    if let Some(revision) = meta.applied
        && meta.applied != before.applied
    {
        rows.put(Family::Meta, APPLIED, &revision.0.to_le_bytes());
    }
}
