//! Builds every room, starts and stops them in order.

mod gauges;
mod keys;
mod listen;
mod signal;
pub mod standalone;
