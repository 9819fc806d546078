//! Where a broker is, and how to get there.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt;

use crate::link::hello::Hello;
use crate::link::progress::{Counted, Progress};
use crate::trust::Trust;

/// Bytes that may be under way to one peer on one stream, and on all streams of a connection. Large, so that a batch never waits
/// for a word of the other end.
pub const WINDOWS: (u32, u32) = (4 * 1024 * 1024, 16 * 1024 * 1024);
/// Largest HTTP/2 frame that is taken: a batch in one piece costs less than in pieces of 16 KiB.
pub const FRAME_BYTES: u32 = 64 * 1024;
/// Largest message that is taken: a batch, and what did not fit into it because it is so large alone.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of small things that are put into one message.
pub const BATCH_BYTES: usize = 1024 * 1024;
/// Pauses between attempts to connect: the first, and the longest.
pub const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Silence after which HTTP/2 asks for a sign of life, and how long the other end has to give one. That only clears away connections
/// nobody looks at any more: both ends of a link judge silence by themselves, and sooner. On a slow line the sign of life comes behind
/// all that the kernels have taken, and must not be missed for that. Nor may it be asked for while one frame is under way: whoever has to
/// give one reads nothing before its frame is written.
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));

/// Both directions of a byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// Makes byte streams to a broker, for tests and simulations.
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Calls `connect` for each attempt.
    pub fn new<F, D>(connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<D>> + Send + 'static,
        D: Duplex + 'static,
    {
        Self(Arc::new(move || {
            let connecting = connect();
            Box::pin(async move { connecting.await.map(|stream| Box::new(stream) as Box<dyn Duplex>) })
        }))
    }
}

/// How to get to a broker.
#[derive(Clone, Debug)]
pub enum Way {
    /// By its address, `host:port`; when that changes, at the new one.
    Address(watch::Receiver<Arc<str>>),
    /// By streams made here.
    Streams(Connector),
}

/// What may be under way to one broker.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Calls that are not answered, on each of the streams; long polls among them.
    pub calls_max: usize,
    /// Bytes of messages in calls that are not answered, on all streams.
    pub bytes_max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { calls_max: 32_768, bytes_max: 64 * 1024 * 1024 }
    }
}

/// Whom to call, and as who.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Where the broker is.
    pub way: Way,
    /// What it asks for.
    pub trust: Trust,
    /// Who calls; `shard` is the one that is meant.
    pub who: Hello,
    /// How much at once.
    pub bounds: Bounds,
}

impl Dial {
    /// The address as it is now; empty for streams made here.
    pub fn address(&self) -> Arc<str> {
        match &self.way {
            Way::Address(address) => address.borrow().clone(),
            Way::Streams(_) => "".into(),
        }
    }

    /// Resolves when the address is no longer `dialled`.
    pub async fn moved(&self, dialled: &str) {
        match &self.way {
            Way::Address(address) => {
                let mut address = address.clone();
                if address.wait_for(|now| &**now != dialled).await.is_err() {
                    // Nobody will change it any more.
                    std::future::pending::<()>().await;
                }
            }
            Way::Streams(_) => std::future::pending().await,
        }
    }

    /// A connection, which counts what moves on it. Its work is done by tasks of the calling runtime.
    pub async fn connect(&self, address: &str, progress: &Progress) -> Result<Channel, String> {
        let sized = |endpoint: Endpoint| {
            let endpoint = endpoint.initial_stream_window_size(WINDOWS.0).initial_connection_window_size(WINDOWS.1);
            endpoint.max_frame_size(FRAME_BYTES)
        };
        let progress = progress.clone();
        let connected = match &self.way {
            Way::Address(_) => {
                let endpoint = self.trust.endpoint(address).map_err(|error| error.to_string())?;
                let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE.0).keep_alive_timeout(KEEPALIVE.1);
                let mut connector = HttpConnector::new();
                // TLS is put on top of it.
                connector.enforce_http(false);
                connector.set_nodelay(true);
                let connect = tower::service_fn(move |uri: Uri| {
                    let (connecting, progress) = (connector.clone().oneshot(uri), progress.clone());
                    async move { connecting.await.map(|stream| TokioIo::new(Counted::new(stream.into_inner(), progress))) }
                });
                sized(endpoint).connect_with_connector(connect).await
            }
            Way::Streams(connector) => {
                let connector = connector.clone();
                let connect = tower::service_fn(move |_: Uri| {
                    let (stream, progress) = ((connector.0)(), progress.clone());
                    async move { stream.await.map(|stream| TokioIo::new(Counted::new(stream, progress))) }
                });
                let endpoint = Endpoint::from_static("http://in-this-process");
                sized(endpoint).connect_with_connector(connect).await
            }
        };
        connected.map_err(|error| words(&error))
    }
}

/// An error with its causes.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
