//! Settings of the HTTP listener.

use std::net::{Ipv4Addr, SocketAddr};

/// See each field. All apply at start.
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    /// Where `/healthz`, `/readyz` and `/metrics` are served. Default `0.0.0.0:8088`.
    pub listen: SocketAddr,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8088)) }
    }
}
