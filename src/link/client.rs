//! The caller's end of a link: one [`ShardClient`] for each shard that a process speaks with.
//!
//! Calls wait in a table, each in its slot; whatever has come together when the transport can take more goes out as one message,
//! and answers come back in batches as well. No task belongs to a call.

mod calling;
mod delivery;
mod dial;
mod failure;
mod pipe;
mod session;
mod shard;
mod writer;

pub use crate::link::convert::refusals::Never;
pub use delivery::FarDelivery;
pub use dial::{Bounds, Connector, Dial, Duplex, FRAME_BYTES, KEEPALIVE, MESSAGE_BYTES_MAX, WINDOWS, Way};
pub use failure::Failure;
pub(super) use pipe::verb_bytes;
pub use shard::{Revisions, ShardClient};
