//! Bolide: a message broker that official RocketMQ 5 gRPC clients connect to unchanged.
//!
//! The floor plan: a room may use rooms on lower floors only.
//!
//! ```text
//! floor 8   main.rs
//! floor 7   cli/
//! floor 6   app/
//! floor 5   config/
//! floor 4   proxy/                        console/
//! floor 3   broker/
//! floor 1   store/
//! floor 0b  runtime/                      observe/
//! floor 0a  model/                        wire/
//! ```
#![deny(unsafe_code)]

pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod console;
pub mod model;
pub mod observe;
pub mod proxy;
pub mod runtime;
pub mod store;
pub mod wire;
pub mod wire_receive;
