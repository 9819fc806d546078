//! The virtual network: pairs of byte streams with a wire between them that delays, breaks, or falls silent.
//!
//! Bytes of one connection keep their order; connections overtake each other. A half-open connection swallows what is said
//! and tells nobody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bolide::runtime::entropy::Entropy;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Bytes that one end may be ahead of the other.
const WIRE_BYTES: usize = 64 * 1024;
/// Time a client gives a connection to answer, before it takes another.
const KEEPALIVE: Duration = Duration::from_secs(4);
/// How long a silenced connection stays open, longer than every keep-alive.
const SILENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Both ends see the end.
    Cut,
    /// Nobody sees anything.
    Silent,
}

pub type Incoming = UnboundedReceiverStream<io::Result<DuplexStream>>;

struct State {
    /// Where new connections go; nobody listens without it.
    listener: Option<mpsc::UnboundedSender<io::Result<DuplexStream>>>,
    wires: Vec<watch::Sender<Wire>>,
    /// Whether new connections fail although somebody listens.
    unreachable: bool,
}

/// Clones are the same network.
#[derive(Clone)]
pub struct Net {
    state: Arc<Mutex<State>>,
    entropy: Entropy,
}

impl Net {
    pub fn new(entropy: Entropy) -> Self {
        let state = State { listener: None, wires: Vec::new(), unreachable: false };
        Self { state: Arc::new(Mutex::new(state)), entropy }
    }

    /// A server listens from now on.
    pub fn listen(&self) -> Incoming {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.lock().listener = Some(sender);
        UnboundedReceiverStream::new(receiver)
    }

    /// The server is gone: every connection breaks, new ones are refused.
    pub fn server_gone(&self) {
        let mut state = self.state.lock();
        state.listener = None;
        for wire in state.wires.drain(..) {
            wire.send_replace(Wire::Cut);
        }
    }

    /// Breaks each connection with this chance in a hundred.
    pub fn cut(&self, percent: u64) {
        self.damage(percent, Wire::Cut);
    }

    /// Silences each connection with this chance in a hundred.
    pub fn silence(&self, percent: u64) {
        self.damage(percent, Wire::Silent);
    }

    fn damage(&self, percent: u64, how: Wire) {
        let entropy = self.entropy.clone();
        self.state.lock().wires.retain(|wire| {
            let hit = entropy.below(100) < percent;
            if hit {
                wire.send_replace(how);
            }
            !wire.is_closed()
        });
    }

    pub fn set_unreachable(&self, unreachable: bool) {
        self.state.lock().unreachable = unreachable;
    }

    /// A client's way to the server; connects when first used, and again after a break.
    pub fn channel(&self) -> Channel {
        let net = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let net = net.clone();
            async move { net.connect().await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://sim")
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector)
    }

    pub async fn connect(&self) -> io::Result<DuplexStream> {
        tokio::time::sleep(self.delay()).await;
        let mut state = self.state.lock();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        if state.unreachable {
            return Err(refused());
        }
        let listener = state.listener.clone().ok_or_else(refused)?;
        let (client, near) = tokio::io::duplex(WIRE_BYTES);
        let (far, server) = tokio::io::duplex(WIRE_BYTES);
        let (wire, watching) = watch::channel(Wire::Whole);
        state.wires.retain(|wire| !wire.is_closed());
        state.wires.push(wire);
        drop(state);
        tokio::spawn(carry(near, far, watching, self.clone()));
        listener.send(Ok(server)).map_err(|_| refused())?;
        Ok(client)
    }

    /// Mostly a local network, sometimes a slow one.
    fn delay(&self) -> Duration {
        let micros = match self.entropy.below(50) {
            0 => self.entropy.below(400_000),
            1..=4 => self.entropy.below(20_000),
            _ => 50 + self.entropy.below(500),
        };
        Duration::from_micros(micros)
    }
}

/// Carries bytes both ways until either end closes or the wire is cut. Dropping the ends is what the peers see.
async fn carry(near: DuplexStream, far: DuplexStream, mut wire: watch::Receiver<Wire>, net: Net) {
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let changed = {
        let up = pump(&mut near_read, &mut far_write, net.clone());
        let down = pump(&mut far_read, &mut near_write, net);
        tokio::select! {
            biased;
            changed = wire.wait_for(|wire| *wire != Wire::Whole) => changed.map_or(Wire::Cut, |wire| *wire),
            () = up => Wire::Cut,
            () = down => Wire::Cut,
        }
    };
    if changed == Wire::Silent {
        // The ends stay open and hear nothing; keep-alives must find out, or the end of the server.
        let _ = tokio::time::timeout(SILENCE, wire.wait_for(|wire| *wire == Wire::Cut)).await;
    }
}

async fn pump(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), net: Net) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        tokio::time::sleep(net.delay()).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
