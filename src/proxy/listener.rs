//! The public port, and the one for clients outside: accepts, and deals each connection to the lane with the fewest, where it lives until it closes.
//!
//! The kernel's own dealing (one socket per lane) is a hash: of four connections it gives all to one lane one time in eight.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use crate::proxy::caller::{PeerInfo, Through};
use crate::proxy::connection::{Connection, Refused};
use crate::proxy::server::Proxy;
use crate::proxy::shared::{Door, Shared};
use crate::runtime::budget::Share;

/// Connections that the kernel keeps for us to accept.
const BACKLOG: u32 = 1024;
/// Connections on their way to a lane; the accept loop waits beyond.
const ON_THE_WAY_MAX: usize = 64;
/// Pause after the system refused to accept, for lack of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open ports. They close when the broker's shutdown drains.
#[derive(Debug)]
pub struct Listening {
    local: SocketAddr,
    external: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listening {
    /// The address that was opened; names the port when 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The same of the port for clients outside, if there is one.
    #[must_use]
    pub fn external_address(&self) -> Option<SocketAddr> {
        self.external
    }

    /// Waits until every connection has ended after draining began, at most the configured time.
    pub async fn closed(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Counts a connection for as long as it lives.
#[derive(Debug)]
struct Open {
    lane: Arc<AtomicUsize>,
    _share: Share,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.lane.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection between the accept loop and its lane. Not tied to a reactor yet: the lane's own must drive it.
type Dealt = (std::net::TcpStream, Through, Open);

#[derive(Clone)]
struct Lane {
    open: Arc<AtomicUsize>,
    dealt: mpsc::Sender<Dealt>,
}

fn open(door: &Door) -> io::Result<(TcpListener, SocketAddr)> {
    let opened = || {
        let socket = if door.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(door.listen)?;
        let listener = socket.listen(BACKLOG)?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    let (listener, local) =
        opened().map_err(|error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", door.listen)))?;
    let _ = door.bound.set(local);
    Ok((listener, local))
}

/// Opens the ports and starts accepting.
///
/// # Errors
/// An address cannot be bound; the error names it.
pub fn listen(proxy: &Proxy, tls: Arc<ServerConfig>) -> io::Result<Listening> {
    let shared = proxy.shared();
    let (listener, local) = open(&shared.door)?;
    let external = shared.external_door.as_ref().map(open).transpose()?;
    let acceptor = TlsAcceptor::from(tls);
    let mut tasks = Vec::new();
    let mut lanes = Vec::new();
    for number in 0..shared.tasks.lanes() {
        let (dealt, receiver) = mpsc::channel(ON_THE_WAY_MAX);
        lanes.push(Lane { open: Arc::default(), dealt });
        let (ready, incoming) = mpsc::channel(ON_THE_WAY_MAX);
        let server = proxy.clone();
        tasks.push(shared.tasks.spawn_on_lane(number, async move {
            if let Err(error) = server.serve(ReceiverStream::new(incoming)).await {
                tracing::error!(%error, lane = number, "a lane stopped serving");
            }
        }));
        let greeter = Greeter { shared: shared.clone(), acceptor: acceptor.clone(), lane: number };
        drop(shared.tasks.spawn_on_lane(number, greeter.greet(receiver, ready)));
    }
    let external_address = external.as_ref().map(|(_, address)| *address);
    if let Some((listener, _)) = external {
        let accepting = accept(shared.clone(), listener, Through::External, lanes.clone());
        tasks.push(shared.tasks.spawn_background(accepting));
    }
    tasks.push(shared.tasks.spawn_background(accept(shared.clone(), listener, Through::Internal, lanes)));
    Ok(Listening { local, external: external_address, tasks })
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, through: Through, lanes: Vec<Lane>) {
    let mut draining = std::pin::pin!(shared.brokers.shutdown().draining());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => deal(&shared, stream, through, &lanes).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shared.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn deal(shared: &Shared, stream: TcpStream, through: Through, lanes: &[Lane]) {
    let Some(share) = shared.connections.try_take(1) else {
        shared.meters.connection_refused("limit");
        return;
    };
    let Some(lane) = lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed)) else { return };
    lane.open.fetch_add(1, Ordering::Relaxed);
    let open = Open { lane: lane.open.clone(), _share: share };
    if let Ok(stream) = stream.into_std() {
        // The lane is gone only when the process ends.
        let _ = lane.dealt.send((stream, through, open)).await;
    }
}

/// Waits for the first bytes of the connections of one lane.
struct Greeter {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    lane: usize,
}

type Accepted = Connection<TcpStream, Open>;
type Ready = mpsc::Sender<io::Result<Accepted>>;

impl Greeter {
    async fn greet(self, mut dealt: mpsc::Receiver<Dealt>, ready: Ready) {
        while let Some((stream, through, open)) = dealt.recv().await {
            let shared = self.shared.clone();
            let acceptor = self.acceptor.clone();
            let ready = ready.clone();
            // One task each: a silent connection must not keep the others waiting. Bounded by the budget of connections.
            drop(self.shared.tasks.spawn_on_lane(self.lane, async move {
                match first_bytes(&shared, &acceptor, (stream, through, open)).await {
                    Ok(connection) => drop(ready.send(Ok(connection)).await),
                    Err(Refused(reason)) => shared.meters.connection_refused(reason),
                }
            }));
        }
    }
}

async fn first_bytes(shared: &Shared, acceptor: &TlsAcceptor, dealt: Dealt) -> Result<Accepted, Refused> {
    tokio::select! {
        biased;
        greeted = greet(shared, acceptor, dealt) => greeted,
        () = shared.clock.sleep(shared.options.handshake_timeout) => Err(Refused("silent")),
    }
}

async fn greet(shared: &Shared, acceptor: &TlsAcceptor, dealt: Dealt) -> Result<Accepted, Refused> {
    let (stream, through, open) = dealt;
    let stream = TcpStream::from_std(stream).map_err(|_| Refused("silent"))?;
    let info = PeerInfo { peer: stream.peer_addr().ok(), local: stream.local_addr().ok(), through };
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) => Connection::greet(stream, first[0], info, acceptor, shared.meters.clone(), open).await,
        _ => Err(Refused("silent")),
    }
}
