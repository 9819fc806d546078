//! Bytes that survive: the log, and the state folded from it.

pub mod catalog_codec;
mod codec;
pub mod dispatch;
pub mod files;
pub mod kv;
mod mmap;
pub mod record;
