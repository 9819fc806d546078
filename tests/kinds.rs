//! Kinds of messages and what goes with them, over the wire, against the real process, on a clock that the test moves.

mod common;
mod history;

#[path = "kinds/harness.rs"]
mod harness;
#[path = "kinds/priority.rs"]
mod priority;
#[path = "kinds/time.rs"]
mod time;
