//! Bytes that survive: the log, and the state folded from it.

pub mod catalog_codec;
pub mod record;
