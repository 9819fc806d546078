//! `storage.*`: the log, what leaves it and when, and the state folded from it.

use super::{GIB, KIB, Key, MIB, TIB, seconds};
use crate::config::value::Access;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "storage.retention_age",
        help: "Age at which messages leave, consumed or not, whole segments at a time. A topic may have a shorter one.",
        access: Access::Duration { at: |c| &mut c.store.retention.age, min: seconds(60), max: seconds(3660 * 86_400) },
    },
    Key {
        name: "storage.retention_size",
        help: "Size above which the oldest segments go, whatever their age, delivered or not.",
        access: Access::OptionalSize { at: |c| &mut c.store.retention.bytes, min: 128 * MIB, max: 1024 * TIB },
    },
    Key {
        name: "storage.retention_disk_used",
        help: "Used part of the disk above which the oldest segments go before their time, delivered or not; 1: never.",
        access: Access::Ratio { at: |c| &mut c.store.retention.disk_used_ratio_max, min: 0.05, max: 1.0 },
    },
    Key {
        name: "storage.disk_high_watermark",
        help: "Used part of the disk from which on sends are refused. Reads and acknowledgements go on.",
        access: Access::Ratio { at: |c| &mut c.store.log.disk_high_watermark, min: 0.05, max: 1.0 },
    },
    Key {
        name: "storage.disk_low_watermark",
        help: "Used part of the disk below which sends are taken again.",
        access: Access::Ratio { at: |c| &mut c.store.log.disk_low_watermark, min: 0.05, max: 1.0 },
    },
    Key {
        name: "storage.disk_reserve",
        help: "Free bytes below which sends are refused, whatever part of the disk that is.",
        access: Access::Size { at: |c| &mut c.store.log.disk_reserve_bytes, min: 0, max: TIB },
    },
    Key {
        name: "storage.segment",
        help: "Size of log segments created from now on. Retention removes whole segments.",
        access: Access::Size { at: |c| &mut c.store.log.segment_bytes, min: 64 * KIB, max: 4 * GIB },
    },
    Key {
        name: "storage.max_frame",
        help: "Most bytes of records in one frame of the log. Must fit into a segment, and hold a whole send (16 MiB at most).",
        access: Access::SizeUsize { at: |c| &mut c.store.log.frame_bytes_max, min: 16 * KIB, max: GIB },
    },
    Key {
        name: "storage.max_queue",
        help: "Most bytes accepted and not yet durable; more are answered 42900.",
        access: Access::SizeUsize { at: |c| &mut c.store.log.queue_bytes_max, min: MIB, max: 64 * GIB },
    },
    Key {
        name: "storage.frame_cache",
        help: "Recent frames kept in memory for consumers at the tail.",
        access: Access::SizeUsize { at: |c| &mut c.store.log.cache_bytes, min: 0, max: 64 * GIB },
    },
    Key {
        name: "storage.prepared_segments",
        help: "Segments made ready ahead of the tail.",
        access: Access::CountUsize { at: |c| &mut c.store.log.prepared_segments, min: 1, max: 16 },
    },
    Key {
        name: "storage.fold_flush",
        help: "The fold is flushed at least once in so many bytes of log, which bounds the replay after a crash.",
        access: Access::Size { at: |c| &mut c.store.fold_flush_log_bytes, min: MIB, max: 64 * GIB },
    },
    Key {
        name: "storage.max_fold_queue",
        help: "Log bytes that may wait to be folded; beyond it new messages are refused until the fold has caught up.",
        access: Access::Size { at: |c| &mut c.store.fold_queue_bytes_max, min: MIB, max: 64 * GIB },
    },
    Key {
        name: "storage.fold_checkpoint",
        help: "A copy of the fold is renewed once the log has grown by so much; bounds the replay after the fold was lost.",
        access: Access::Size { at: |c| &mut c.store.checkpoint_log_bytes, min: 16 * MIB, max: 16 * TIB },
    },
    Key {
        name: "storage.block_cache",
        help: "Blocks, indexes and filters of the fold kept in memory.",
        access: Access::SizeUsize { at: |c| &mut c.store.kv.block_cache_bytes, min: MIB, max: 256 * GIB },
    },
    Key {
        name: "storage.write_buffer",
        help: "Changes of the fold kept in memory before they are written out.",
        access: Access::SizeUsize { at: |c| &mut c.store.kv.write_buffer_bytes, min: MIB, max: 64 * GIB },
    },
];
