//! The only translator between the wire's messages and the words of the house; one file per family.

pub mod delivery;
pub mod fields;
pub mod filter;
pub mod message;
pub mod names;
pub mod properties;
pub mod route;
pub mod time;
