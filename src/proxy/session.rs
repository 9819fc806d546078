//! Clients as the proxy knows them: telemetry streams and settings. All of it may be missing or lost; nothing else depends on it.

pub mod checks;
pub mod producers;
pub mod registry;
pub mod settings;
pub mod telemetry;
