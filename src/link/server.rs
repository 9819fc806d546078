//! The broker's end of a link.
//!
//! One task for each stream, on a request lane: it reads calls, runs them side by side, and puts what they come to into an outbox
//! that the transport empties in batches. What a receive was granted stays in its guard until it is written.

mod outbox;
mod running;
mod service;
mod stream;
mod unseen;

pub use service::{BrokerServer, tuned};
