//! gRPC in, gRPC out: sessions, limits, translation, status codes. Every rule of messaging itself is a broker verb.
//!
//! [`Proxy::listen`] opens the public port; [`Proxy::serve`] serves connections of any kind, which is how tests and the
//! simulation feed it.

mod admin;
mod call;
mod caller;
mod connection;
mod convert;
mod intake;
mod listener;
mod messaging;
pub mod operator;
pub mod options;
mod server;
mod service;
mod session;
mod shared;
mod status;
pub mod tls;

pub use convert::delivery::{DEAD_LETTER_ATTEMPTS, DEAD_LETTER_REASON};
pub use listener::Listening;
pub use server::{Proxy, StartProxyError};
