//! The public port, and the one for clients outside: accepts, and deals each connection to the lane with the fewest, where it lives until it closes.
//!
//! The kernel's own dealing (one socket per lane) is a hash: of four connections it gives all to one lane one time in eight.
//!
//! The end: no handshake begins any more, those that have begun end and are accepted, and only then does the port close: the kernel
//! resets whatever is still in its queue, and a client cannot tell a call that was reset from one that was done. Connections that are
//! served are told to go at once; one that came too late to hear that is served by itself and told as its first word, so that what
//! its client sent along is answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, stream};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::proxy::caller::{PeerInfo, Through};
use crate::proxy::connection::{Connection, Refused};
use crate::proxy::server::Proxy;
use crate::proxy::shared::{Door, Shared};
use crate::runtime::budget::Share;
use crate::runtime::shutdown::Shutdown;

/// Connections that the kernel keeps for us to accept.
const BACKLOG: u32 = 1024;
/// Connections on their way to a lane; the accept loop waits beyond.
const ON_THE_WAY_MAX: usize = 64;
/// Pause after the system refused to accept, for lack of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for handshakes that had begun when no more were let in: a round trip, from far away. Whoever dials meanwhile hears nothing,
/// and is refused when it tries again, after a second; so no longer than that.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);
/// Time for the first bytes of a connection once the end has begun. It holds the end up.
const LAST_GREETINGS: Duration = Duration::from_secs(1);

/// The open ports. They close when the broker's shutdown drains.
#[derive(Debug)]
pub struct Listening {
    local: SocketAddr,
    external: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    /// Connections whose first bytes have not come, and those that are served by themselves.
    beside: TaskTracker,
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
        self.beside.close();
        self.beside.wait().await;
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
    let beside = TaskTracker::new();
    for number in 0..shared.tasks.lanes() {
        let (dealt, receiver) = mpsc::channel(ON_THE_WAY_MAX);
        lanes.push(Lane { open: Arc::default(), dealt });
        let (ready, incoming) = mpsc::channel(ON_THE_WAY_MAX);
        let server = proxy.clone();
        let incoming = until_the_end_begins(shared.brokers.shutdown().clone(), incoming);
        tasks.push(shared.tasks.spawn_on_lane(number, async move {
            if let Err(error) = server.serve(incoming).await {
                tracing::error!(%error, lane = number, "a lane stopped serving");
            }
        }));
        let greeter =
            Greeter { proxy: proxy.clone(), acceptor: acceptor.clone(), lane: number, beside: beside.clone() };
        drop(shared.tasks.spawn_on_lane(number, beside.track_future(greeter.greet(receiver, ready))));
    }
    let external_address = external.as_ref().map(|(_, address)| *address);
    if let Some((listener, _)) = external {
        let accepting = accept(shared.clone(), listener, Through::External, lanes.clone());
        tasks.push(shared.tasks.spawn_background(accepting));
    }
    tasks.push(shared.tasks.spawn_background(accept(shared.clone(), listener, Through::Internal, lanes)));
    Ok(Listening { local, external: external_address, tasks, beside })
}

/// What comes until draining begins, to the last one that was handed over by then. Whoever hands over later gets it back.
fn until_the_end_begins(
    shutdown: Shutdown,
    ready: mpsc::Receiver<io::Result<Accepted>>,
) -> impl Stream<Item = io::Result<Accepted>> {
    stream::unfold((shutdown, ready), async |(shutdown, mut ready)| {
        let next = tokio::select! {
            biased;
            () = shutdown.draining() => {
                ready.close();
                ready.recv().await
            }
            next = ready.recv() => next,
        };
        next.map(|connection| (connection, (shutdown, ready)))
    })
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, through: Through, lanes: Vec<Lane>) {
    let mut draining = std::pin::pin!(shared.brokers.shutdown().draining());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => deal(&shared, stream, through, &lanes).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                shared.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Err(error) = accept_the_rest(&shared, listener, through, &lanes).await {
        tracing::warn!(%error, "connections that nobody had accepted are cut off");
    }
}

/// Accepts whom the kernel has already told that the connection is there, and closes the port.
async fn accept_the_rest(shared: &Shared, listener: TcpListener, through: Through, lanes: &[Lane]) -> io::Result<()> {
    if let_nobody_begin(&listener) {
        shared.clock.sleep(LAST_HANDSHAKES).await;
    }
    // Asks the kernel itself, where the runtime would ask only once it had been told of something: nothing may come to lie in the
    // queue between the last answer and the end of the port.
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                deal(shared, stream, through, lanes).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Has the kernel drop the first packet of each handshake from now on, as if it had been lost; whether it does. There is no other way
/// to stop a port from taking connections without resetting those that wait in its queue.
#[cfg(target_os = "linux")]
fn let_nobody_begin(listener: &TcpListener) -> bool {
    use socket2::SockFilter;
    /// Load a byte; and it; jump if it equals; return. As the kernel's `linux/filter.h` puts them together.
    const LOAD: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where a TCP header has its flags, and two of them.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let drop_first_packets = [
        SockFilter::new(LOAD, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(listener).attach_filter(&drop_first_packets).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn let_nobody_begin(_: &TcpListener) -> bool {
    false
}

async fn deal(shared: &Shared, stream: std::net::TcpStream, through: Through, lanes: &[Lane]) {
    let Some(share) = shared.connections.try_take(1) else {
        shared.meters.connection_refused("limit");
        return;
    };
    let Some(lane) = lanes.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed)) else { return };
    lane.open.fetch_add(1, Ordering::Relaxed);
    let open = Open { lane: lane.open.clone(), _share: share };
    // The lane is gone only when the process ends.
    let _ = lane.dealt.send((stream, through, open)).await;
}

/// Waits for the first bytes of the connections of one lane.
struct Greeter {
    proxy: Proxy,
    acceptor: TlsAcceptor,
    lane: usize,
    beside: TaskTracker,
}

type Accepted = Connection<TcpStream, Open>;
type Ready = mpsc::Sender<io::Result<Accepted>>;

impl Greeter {
    async fn greet(self, mut dealt: mpsc::Receiver<Dealt>, ready: Ready) {
        let tasks = &self.proxy.shared().tasks;
        while let Some(connection) = dealt.recv().await {
            let proxy = self.proxy.clone();
            let acceptor = self.acceptor.clone();
            let ready = ready.clone();
            // One task each: a silent connection must not keep the others waiting. Bounded by the budget of connections.
            drop(tasks.spawn_on_lane(
                self.lane,
                self.beside.track_future(async move {
                    let greeted = match first_bytes(proxy.shared(), &acceptor, connection).await {
                        Ok(greeted) => greeted,
                        Err(Refused(reason)) => return proxy.shared().meters.connection_refused(reason),
                    };
                    if let Err(late) = ready.send(Ok(greeted)).await
                        && let Err(error) = proxy.serve(stream::iter([late.0])).await
                    {
                        tracing::error!(%error, "a connection was not served to its end");
                    }
                }),
            ));
        }
    }
}

async fn first_bytes(shared: &Shared, acceptor: &TlsAcceptor, dealt: Dealt) -> Result<Accepted, Refused> {
    let too_late = async {
        shared.brokers.shutdown().draining().await;
        shared.clock.sleep(LAST_GREETINGS).await;
    };
    tokio::select! {
        biased;
        greeted = greet(shared, acceptor, dealt) => greeted,
        () = shared.clock.sleep(shared.options.handshake_timeout) => Err(Refused("silent")),
        () = too_late => Err(Refused("silent")),
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
