//! Settings of the store.

use std::time::Duration;

use crate::store::kv::KvOptions;
use crate::store::log::LogOptions;
use crate::store::retention::RetentionPolicy;

const MIB: u64 = 1024 * 1024;

/// Settings of one shard's store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The log, and with it the data directory and the shard.
    pub log: LogOptions,
    /// What may leave the log, and when.
    pub retention: RetentionPolicy,
    /// Memory of the fold's database.
    pub kv: KvOptions,
    /// The fold's memtables are flushed at least once in so many bytes of log, which bounds replay after a crash. Default
    /// 128 MiB.
    pub fold_flush_log_bytes: u64,
    /// Frames that wait to be folded; above it the log writes no further frame until there is room. Default 64 MiB.
    pub fold_queue_bytes_max: u64,
    /// A checkpoint of the fold is renewed, when retention next removes segments, once the log has grown by so much since it
    /// was made. Bounds the replay after the fold was lost. Default 4 GiB.
    pub checkpoint_log_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            retention: RetentionPolicy {
                age: Duration::from_secs(72 * 60 * 60),
                bytes: None,
                disk_used_ratio_max: 1.0,
            },
            kv: KvOptions::default(),
            fold_flush_log_bytes: 128 * MIB,
            fold_queue_bytes_max: 64 * MIB,
            checkpoint_log_bytes: 4 * 1024 * MIB,
        }
    }
}
