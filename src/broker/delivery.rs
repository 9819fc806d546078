//! Who gets which message, and until when. The files here decide; they read no clock, no socket, no file, and write records
//! into a unit that the caller appends.

pub mod ack_memory;
pub mod core;
pub mod lease;
pub mod levels;
pub mod settlement;
pub mod subscription;
pub mod tail;
#[cfg(test)]
pub mod testing;
pub mod wait_list;
