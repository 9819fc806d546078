//! Bytes that survive: the log, and the state folded from it.

pub mod catalog_codec;
pub mod checkpoint;
mod codec;
pub mod data_dir;
pub mod dispatch;
pub mod files;
pub mod kv;
pub mod log;
pub mod mmap;
pub mod record;
mod stub;
pub use stub::*;
