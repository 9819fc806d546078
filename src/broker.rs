//! What messaging means: publish, deliver, settle; topics, groups and members. Speaks in domain words, never in protobuf.

mod administer;
pub mod api;
mod catalog;
mod dead_letter;
pub mod delivery;
mod handles;
mod letters;
mod members;
mod news;
pub mod options;
mod placing;
mod publish;
mod receive;
mod report;
mod settle;
mod upkeep;
mod verbs;

pub use members::LiveGuard as TelemetryGuard;
pub use receive::Delivery;
pub use report::GroupCounts;
pub use verbs::{Broker, OpenBrokerError};
