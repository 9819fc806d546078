//! Builds every room, starts and stops them in order.

pub mod broker;
mod certificates;
mod gauges;
mod ground;
mod identity;
mod internal;
mod keys;
mod listen;
mod members;
pub mod proxy;
pub mod route;
mod signal;
pub mod standalone;

pub use ground::{Ready, RunError, Time};
