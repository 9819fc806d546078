//! Bytes that survive: the log, and the state folded from it.

pub mod catalog_codec;
mod codec;
pub mod files;
pub mod log;
pub mod mmap;
pub mod record;
mod stub;
pub use stub::*;
