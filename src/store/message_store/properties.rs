//! Properties of stored messages, for filters: read without the bodies behind them.

use bytes::Bytes;

use crate::model::position::LogPosition;
use crate::model::properties::Properties;
use crate::store::kv::queue_entry::QueueEntry;
use crate::store::log::ReadError;
use crate::store::message_store::Store;
use crate::store::record::{self, RecordError};

/// The beginning of a message's record, as far as its properties reach.
#[derive(Debug)]
pub struct StoredProperties {
    start: Bytes,
    position: LogPosition,
}

impl StoredProperties {
    /// The properties.
    ///
    /// # Errors
    /// The record is not one of a message.
    pub fn read(&self) -> Result<Properties<'_>, ReadError> {
        let damaged = |error: RecordError| ReadError::Damaged { position: self.position, reason: error.to_string() };
        record::properties(&self.start).map_err(damaged)
    }
}

impl Store {
    /// The properties of a message among the recent frames in memory.
    #[must_use]
    pub fn cached_properties(&self, entry: &QueueEntry) -> Option<StoredProperties> {
        let start = self.inner.log.read_cached(entry.at)?;
        Some(StoredProperties { start, position: entry.at.position })
    }

    /// The properties of a message, from memory or from the disk; blocks on it.
    ///
    /// # Errors
    /// It is out of retention, or cannot be read.
    pub fn properties(&self, entry: &QueueEntry) -> Result<StoredProperties, ReadError> {
        let bytes = record::properties_bytes(entry.at.length, entry.body_bytes);
        let start = self.inner.log.read_start_blocking(entry.at, bytes)?;
        Ok(StoredProperties { start, position: entry.at.position })
    }
}
