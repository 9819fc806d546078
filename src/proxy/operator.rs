//! The operator's service, `bolide.admin.v1`, on the internal listener.

mod clock;
mod convert;
mod dead_letters;
mod group;
pub mod options;
mod server;
mod status;
mod topic;

pub use server::{Facts, OperatorService, ShardFacts};
