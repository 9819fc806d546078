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
    Reserved::new(what, address)?.listen()
}

/// A port that is ours and refuses connections: until the process can serve, whoever dials should know at once that it cannot.
#[derive(Debug)]
pub(super) struct Reserved {
    what: &'static str,
    socket: TcpSocket,
    address: SocketAddr,
}

impl Reserved {
    /// Takes the port.
    pub(super) fn new(what: &'static str, address: SocketAddr) -> Result<Self, ListenError> {
        let bound = || -> io::Result<Self> {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let address = socket.local_addr()?;
            Ok(Self { what, socket, address })
        };
        bound().map_err(|source| ListenError { what, address, source })
    }

    /// Which it is; names the port when 0 was asked for.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections from now on.
    pub(super) fn listen(self) -> Result<TcpListener, ListenError> {
        let (what, address) = (self.what, self.address);
        self.socket.listen(BACKLOG).map_err(|source| ListenError { what, address, source })
    }
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
