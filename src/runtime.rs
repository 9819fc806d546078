//! What the rest of the house needs of the outside world: time, tasks, randomness, watermarks, budgets, shutdown.
//!
//! Clock, tasks and entropy are three of the five seams that let the whole process run under a seed: each has a real and
//! a simulated form, and nothing outside this room (and `store::files` and the listener) reaches past them.

pub mod budget;
pub mod clock;
pub mod entropy;
pub mod process;
pub mod shutdown;
pub mod tasks;
pub mod watermark;
