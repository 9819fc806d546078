//! Lite topics: light, named queues below one parent topic, made by their first message. Each is one lane: its messages are
//! delivered in order, and while some of them are with a client nothing else of it is given out. There may be a hundred thousand
//! below one parent, so nothing here looks at all of them, and none of them has a timer or a task.
//!
//! Who subscribes to what is known in memory only, and clients say it again every half minute. How far a group is, what is
//! outstanding, which lite topics there are and for which ones a group waits is recorded like everything else.

mod core;
mod group;
mod sync;
mod topics;
mod wants;

#[cfg(test)]
mod lab;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use group::LiteGroup;
pub use sync::{LiteAction, LiteBegin, LiteLimits, LitePlan, LiteRefusal, LiteStart, LiteWish};
pub use topics::{LiteTopic, LiteTopics};
