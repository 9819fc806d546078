//! How a proxy reaches the shards: by direct calls in one process, or over the wire.

mod brokers;
mod delivery;

pub use brokers::{AliveGuard, Brokers};
pub use delivery::Delivery;
