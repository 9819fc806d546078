//! Kinds of messages and what goes with them, over the wire, against the real process, on a clock that the test moves.

mod common;
mod history;

#[path = "kinds/dead_letters.rs"]
mod dead_letters;
#[path = "kinds/harness.rs"]
mod harness;
#[path = "kinds/matrix.rs"]
mod matrix;
#[path = "kinds/namespaces.rs"]
mod namespaces;
#[path = "kinds/priority.rs"]
mod priority;
#[path = "kinds/time.rs"]
mod time;
