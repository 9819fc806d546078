//! What is seen over HTTP: health, readiness, metrics. Reads only.

pub mod options;
mod readiness;
mod server;

pub use readiness::{Judge, Readiness, Verdict};
pub use server::Console;
