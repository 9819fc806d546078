//! The operator's service, `bolide.admin.v1`, on the internal listener.

mod clock;
mod cluster;
mod convert;
mod dead_letters;
mod group;
mod here;
pub mod options;
mod reset;
mod server;
mod status;
mod topic;
mod transaction;

pub use server::{Applied, Facts, OperatorService, Seat, ShardFacts};
