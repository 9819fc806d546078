//! What messaging means: publish, deliver, settle; topics, groups and members. Speaks in domain words, never in protobuf.

mod administer;
pub mod api;
mod catalog;
mod dead_letter;
mod delay;
pub mod delivery;
mod handles;
mod holding;
mod judging;
mod letters;
mod lite;
mod lite_upkeep;
mod members;
mod news;
mod offsets;
pub mod options;
mod placing;
mod positions;
mod publish;
mod pull;
mod read_ahead;
mod recall;
mod receive;
mod report;
mod settle;
mod subscribe;
mod transact;
mod transaction_checks;
mod transaction_upkeep;
mod upkeep;
mod verbs;

pub use members::LiveGuard as TelemetryGuard;
pub use receive::Delivery;
pub use report::GroupCounts;
pub use verbs::{Broker, OpenBrokerError};
