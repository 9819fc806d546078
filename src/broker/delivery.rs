//! Who gets which message, and until when. The files here decide; they read no clock, no socket, no file, and write records
//! into a unit that the caller appends.

pub mod ack_memory;
mod considering;
pub mod core;
pub mod far;
pub mod fences;
pub mod fifo;
#[cfg(test)]
mod fifo_model_tests;
#[cfg(test)]
pub mod fifo_rig;
pub mod filters;
pub mod gates;
pub mod gather;
pub mod lease;
pub mod levels;
pub mod lite;
pub mod ordered;
pub mod reset;
mod select;
pub mod settlement;
pub mod shards;
pub mod subscription;
pub mod tail;
#[cfg(test)]
pub mod testing;
pub mod timers;
pub mod transactions;
pub mod unseen;
pub mod verdicts;
pub mod wait_list;
