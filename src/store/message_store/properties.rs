//! Properties of stored messages, for filters: read without the bodies behind them.

use crate::model::properties::Properties;
use crate::store::kv::queue_entry::QueueEntry;
use crate::store::log::ReadError;
use crate::store::message_store::Store;
use crate::store::record::{self, RecordError};

impl Store {
    /// Whether the message lies among the recent frames in memory, so that [`Store::with_properties`] does not block.
    #[must_use]
    pub fn is_cached(&self, entry: &QueueEntry) -> bool {
        self.inner.log.read_cached(entry.at).is_some()
    }

    /// Shows the properties of a message to `look`. May block on the disk.
    ///
    /// # Errors
    /// It is out of retention, or cannot be read.
    pub fn with_properties<T>(
        &self,
        entry: &QueueEntry,
        look: impl FnOnce(&Properties<'_>) -> T,
    ) -> Result<T, ReadError> {
        let bytes = record::properties_bytes(entry.at.length, entry.body_bytes);
        let start = self.inner.log.read_start_blocking(entry.at, bytes)?;
        let damaged =
            |error: RecordError| ReadError::Damaged { position: entry.at.position, reason: error.to_string() };
        record::properties(&start).map(|properties| look(&properties)).map_err(damaged)
    }
}
