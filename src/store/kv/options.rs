//! How much memory the database may use.

/// Memory of the database.
#[derive(Clone, Debug)]
pub struct KvOptions {
    /// Blocks, indexes and filters kept in memory. Default 32 MiB.
    pub block_cache_bytes: usize,
    /// Memtables of all families together; when full they are flushed. Default 32 MiB.
    pub write_buffer_bytes: usize,
}

impl Default for KvOptions {
    fn default() -> Self {
        Self { block_cache_bytes: 32 * 1024 * 1024, write_buffer_bytes: 32 * 1024 * 1024 }
    }
}
