//! Settings of the internal listener.

use std::net::{Ipv4Addr, SocketAddr};

/// See each field. All apply at start.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Where `bolide admin` connects. It has no authentication: keep it off public networks. Default `127.0.0.1:8082`.
    pub listen: SocketAddr,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)) }
    }
}
