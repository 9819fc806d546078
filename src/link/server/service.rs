//! The service of a broker's internal port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::broker::Broker;
use crate::broker::api::LiteEviction;
use crate::link::client::{FRAME_BYTES, KEEPALIVE, MESSAGE_BYTES_MAX, WINDOWS};
use crate::link::hello::{Hello, Role};
use crate::link::progress::Progress;
use crate::link::server::outbox::{Outbox, Writer};
use crate::link::server::stream::PeerStream;
use crate::link::server::unseen::Unseen;
use crate::runtime::budget::Budget;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::{Tasks, current_lane};
use crate::trust::Trust;
use crate::wire::broker as wire;
use crate::wire::broker::broker_service_server::{BrokerService, BrokerServiceServer};

/// Bytes of messages in calls of all peers that are not answered.
const CALL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Streams of all peers; one more is refused.
const STREAMS_MAX: u64 = 4_096;

/// A server of the internal port that lets a whole batch pass at once.
#[must_use]
pub fn tuned(server: Server) -> Server {
    server
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .tcp_nodelay(true)
}

/// Lets other processes call a broker. Clones share its streams.
#[derive(Clone, Debug)]
pub struct BrokerServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub struct Shared {
    pub broker: Broker,
    pub clock: Clock,
    pub who: Hello,
    pub bytes: Budget,
    peers: Mutex<BTreeMap<usize, Peer>>,
    unseen: Arc<Mutex<Unseen>>,
    streams: Budget,
    trust: Trust,
    tasks: Tasks,
    /// Connections live on lanes already: their streams stay there.
    on_the_spot: bool,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Peer {
    process: (Arc<str>, u64),
    outbox: Arc<Outbox>,
}

/// A stream whose peer has said who it is; news reach it while this exists.
#[derive(Debug)]
pub struct Known {
    shared: Arc<Shared>,
    number: usize,
    process: (Arc<str>, u64),
}

impl Shared {
    /// A peer said who it is.
    pub fn know(self: &Arc<Self>, number: usize, hello: &Hello, outbox: &Arc<Outbox>) -> Known {
        let process = (hello.name.clone(), hello.instance);
        let peer = Peer { process: process.clone(), outbox: outbox.clone() };
        self.peers.lock().insert(number, peer);
        Known { shared: self.clone(), number, process }
    }
}

impl Known {
    /// Tells every other process, on one of its streams each.
    pub fn tell_others(&self, evictions: &[LiteEviction]) {
        if evictions.is_empty() {
            return;
        }
        let mut told = vec![self.process.clone()];
        for peer in self.shared.peers.lock().values() {
            if !told.contains(&peer.process) {
                peer.outbox.evicted(evictions);
                told.push(peer.process.clone());
            }
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.shared.peers.lock().remove(&self.number);
    }
}

impl BrokerServer {
    /// Serves `broker` to whoever `trust` lets in, each stream on a request lane.
    #[must_use]
    pub fn new(broker: Broker, name: &str, trust: Trust, clock: Clock, tasks: Tasks) -> Self {
        let who = Hello { shard: Some(broker.store().shard()), ..Hello::of(Role::Broker, name) };
        let shared = Shared {
            broker,
            clock,
            who,
            bytes: Budget::new(CALL_BYTES_MAX),
            peers: Mutex::default(),
            unseen: Arc::default(),
            streams: Budget::new(STREAMS_MAX),
            trust,
            tasks,
            on_the_spot: false,
            next: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Introduces itself so instead; the shard stays the broker's.
    #[must_use]
    pub fn introduced_as(self, who: Hello) -> Self {
        self.changed(|shared| shared.who = Hello { shard: shared.who.shard, ..who })
    }

    /// Connections are served on request lanes already: their streams stay where they are.
    #[must_use]
    pub fn on_the_spot(self) -> Self {
        self.changed(|shared| shared.on_the_spot = true)
    }

    fn changed(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        // Only before the first stream, and so before the first clone.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            change(shared);
        }
        self
    }

    /// For a server's routes.
    #[must_use]
    pub fn into_service(self) -> Counting {
        Counting(BrokerServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

/// The service. Where nobody counts what moves on a connection, the frames of each stream are counted as they arrive.
#[derive(Clone, Debug)]
pub struct Counting(BrokerServiceServer<BrokerServer>);

impl NamedService for Counting {
    const NAME: &'static str = <BrokerServiceServer<BrokerServer> as NamedService>::NAME;
}

impl tower::Service<http::Request<Body>> for Counting {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <BrokerServiceServer<BrokerServer> as tower::Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<http::Request<Body>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.extensions().get::<Progress>().is_some() {
            return self.0.call(request);
        }
        let progress = Progress::default();
        let (mut parts, body) = request.into_parts();
        let body = progress.counted(body);
        parts.extensions.insert(progress);
        self.0.call(http::Request::from_parts(parts, body))
    }
}

#[tonic::async_trait]
impl BrokerService for BrokerServer {
    type LinkStream = Writer;

    async fn link(&self, request: Request<Streaming<wire::ToBroker>>) -> Result<Response<Writer>, Status> {
        let shared = &self.shared;
        shared.trust.check(request.metadata())?;
        let Some(share) = shared.streams.try_take(1) else {
            return Err(Status::resource_exhausted("as many streams as may be are open"));
        };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let lane = if shared.on_the_spot { current_lane() } else { number };
        let outbox = Arc::new(Outbox::new(shared.broker.clone(), number, shared.unseen.clone()));
        let stream = PeerStream::new(shared.clone(), number, outbox.clone());
        let progress = request.extensions().get::<Progress>().cloned().unwrap_or_default();
        let incoming = request.into_inner();
        drop(shared.tasks.spawn_on_lane(lane, async move {
            stream.serve(incoming, progress).await;
            drop(share);
        }));
        Ok(Response::new(Writer(outbox)))
    }
}
