//! What is seen over HTTP: health, readiness, metrics.

pub mod options;
