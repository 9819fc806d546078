//! The words everyone uses: names, positions, times, topics, groups, messages. Valid by construction; no I/O, no async, no protobuf.

pub mod cluster;
pub mod filter;
pub mod group;
pub mod limits;
pub mod message;
pub mod name;
pub mod order;
pub mod position;
pub mod priority;
pub mod properties;
pub mod receipt;
pub mod settings;
pub mod sql;
pub mod tag;
pub mod time;
pub mod topic;
