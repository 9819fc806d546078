//! Opening ports, with an error that says which and why.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps for us to accept.
const BACKLOG: u32 = 1024;

/// A port cannot be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address} ({what}): {source}")]
pub struct ListenError {
    /// Which port, in words.
    pub what: &'static str,
    /// As configured.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Opens a port of ours. Belongs to the calling runtime.
pub(super) fn open(what: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { what, address, source })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The address to open for a configured one: "every IPv4 address" becomes "every address" where the system has IPv6, whose
/// sockets take both.
pub(super) fn widened(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() && address.is_ipv4() && has_ipv6() {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), address.port())
    } else {
        address
    }
}

/// Whether an IPv6 socket can be opened that also takes IPv4.
fn has_ipv6() -> bool {
    let probe = || -> io::Result<()> {
        let socket = TcpSocket::new_v6()?;
        if socket2::SockRef::from(&socket).only_v6()? {
            return Err(io::ErrorKind::Unsupported.into());
        }
        socket.bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0))
    };
    probe().is_ok()
}
