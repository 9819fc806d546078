//! Builds every room, starts and stops them in order.

mod certificates;
mod gauges;
mod ground;
mod internal;
mod keys;
mod listen;
mod signal;
pub mod standalone;

pub use ground::{Ready, RunError, Time};
