//! Bolide: a message broker that official RocketMQ 5 gRPC clients connect to unchanged.
//!
//! The floor plan: a room may use rooms on lower floors only.
//!
//! ```text
//! floor 9   main.rs
//! floor 8   cli/
//! floor 7   app/
//! floor 6   config/
//! floor 5   proxy/                        console/
//! floor 4   link/
//! floor 3   broker/                       route/
//! floor 1   store/
//! floor 0b  runtime/                      observe/            trust/
//! floor 0a  model/                        wire/
//! ```
#![deny(unsafe_code)]

pub mod app;
pub mod broker;
pub mod cli;
pub mod config;
pub mod console;
pub mod link;
pub mod model;
pub mod observe;
pub mod proxy;
pub mod route;
pub mod runtime;
pub mod store;
pub mod trust;
pub mod wire;
pub mod wire_receive;
