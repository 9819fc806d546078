//! The broker's words and their form on the wire, both ways. Everything that can be said has a form; a form that means nothing
//! is refused with words and never guessed at.

pub mod calls;
pub mod greeting;
pub mod messages;
pub mod outcomes;
pub mod refusals;
#[cfg(test)]
#[path = "convert/round_trip_tests.rs"]
mod round_trip_tests;
pub mod words;
