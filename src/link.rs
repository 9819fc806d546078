//! How a proxy reaches the shards: by direct calls in one process, or over the wire.

mod brokers;
pub mod client;
mod cluster;
mod convert;
mod delivery;
pub mod hello;
mod peers;
pub mod progress;
pub mod server;

pub use brokers::{AliveGuard, Brokers, DueCheck, Evictions};
pub use cluster::{ClusterOptions, Connect, LinkState};
pub use delivery::Delivery;
pub use peers::FarPeers;
