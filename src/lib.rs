//! Bolide: a message broker that official RocketMQ 5 gRPC clients connect to unchanged.

#![deny(unsafe_code)]

pub mod wire;
pub mod wire_receive;
