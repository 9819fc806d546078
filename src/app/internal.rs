//! The internal port: other roles and operators. Whoever comes in shows a certificate and the cluster's secret, where there are
//! such. Connections are dealt to the lanes in turn, as their messages are work of requests.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::app::ground::Ground;
use crate::link::client::{FRAME_BYTES, KEEPALIVE};
use crate::link::progress::{Counted, Progress};
use crate::runtime::clock::Clock;
use crate::runtime::shutdown::Shutdown;
use crate::trust::Trust;
use crate::wire::DESCRIPTOR_SET;

/// Name of the operators' service.
pub(super) const ADMIN: &str = "bolide.admin.v1.Admin";
/// Time for the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Connections on their way to a lane; the accept loop waits beyond.
const ON_THE_WAY_MAX: usize = 64;
/// Connections that are in their handshake.
const HANDSHAKES_MAX: usize = 256;
/// Pause after the system refused to accept, for lack of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that a peer may send ahead on one stream, and on one connection: a stream carries the messages of many clients.
const WINDOWS: (u32, u32) = (8 * 1024 * 1024, 32 * 1024 * 1024);

/// The open port.
#[derive(Debug)]
pub(super) struct Internal {
    tasks: Vec<JoinHandle<()>>,
}

impl Internal {
    /// Serves `routes`, and reflection on `services`, until `ground.ended` drains; then waits for open calls, at most `limit`.
    pub(super) fn serve(
        ground: &Ground,
        listener: TcpListener,
        routes: Routes,
        services: &[&str],
        limit: Duration,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let mut reflection = tonic_reflection::server::Builder::configure();
        reflection = reflection.register_encoded_file_descriptor_set(DESCRIPTOR_SET);
        for service in services {
            reflection = reflection.with_service_name(*service);
        }
        let routes = routes.add_service(reflection.build_v1()?);
        let mut tasks = Vec::new();
        let mut lanes = Vec::new();
        for lane in 0..ground.tasks.lanes() {
            let (dealt, incoming) = mpsc::channel(ON_THE_WAY_MAX);
            lanes.push(dealt);
            let serving = serve(lane, routes.clone(), ground.trust.clone(), incoming);
            let serving = serving(ground.clock.clone(), ground.ended.clone(), limit);
            tasks.push(ground.tasks.spawn_on_lane(lane, serving));
        }
        tasks.push(ground.tasks.spawn_background(accept(ground.clone(), listener, lanes)));
        Ok(Self { tasks })
    }

    /// Waits until every connection has ended, after `ended` began to drain.
    pub(super) async fn closed(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

type Incoming = mpsc::Receiver<io::Result<Peer>>;

fn serve(
    lane: usize,
    routes: Routes,
    trust: Trust,
    incoming: Incoming,
) -> impl FnOnce(Clock, Shutdown, Duration) -> futures::future::BoxFuture<'static, ()> {
    move |clock, ended, limit| {
        Box::pin(async move {
            let check = move |request: tonic::Request<()>| trust.check(request.metadata()).map(|()| request);
            let serving = Server::builder()
                .initial_stream_window_size(WINDOWS.0)
                .initial_connection_window_size(WINDOWS.1)
                .max_frame_size(FRAME_BYTES)
                .http2_keepalive_interval(Some(KEEPALIVE.0))
                .http2_keepalive_timeout(Some(KEEPALIVE.1))
                .layer(InterceptorLayer::new(check))
                .add_routes(routes)
                .serve_with_incoming_shutdown(ReceiverStream::new(incoming), ended.draining());
            let overdue = async {
                ended.draining().await;
                clock.sleep(limit).await;
            };
            tokio::select! {
                biased;
                served = serving => if let Err(error) = served {
                    tracing::error!(%error, lane, "a lane stopped serving the internal port");
                },
                () = overdue => {}
                () = ended.stopping() => {}
            }
        })
    }
}

async fn accept(ground: Ground, listener: TcpListener, lanes: Vec<mpsc::Sender<io::Result<Peer>>>) {
    let places = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES_MAX));
    let mut lane = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = ground.ended.draining() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the internal port could not be accepted");
                ground.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Closed at once when there is no place: peers come again.
        let (Ok(place), Ok(stream)) = (places.clone().try_acquire_owned(), stream.into_std()) else { continue };
        lane = (lane + 1) % lanes.len();
        let (dealt, trust, clock) = (lanes[lane].clone(), ground.trust.clone(), ground.clock.clone());
        drop(ground.tasks.spawn_on_lane(lane, async move {
            let _place = place;
            let greeted = tokio::select! {
                biased;
                greeted = greet(stream, &trust) => greeted,
                () = clock.sleep(HANDSHAKE_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
            };
            match greeted {
                Ok(peer) => drop(dealt.send(Ok(peer)).await),
                Err(error) => tracing::debug!(%error, %from, "a connection to the internal port was refused"),
            }
        }));
    }
}

/// Runs on the lane whose reactor is to drive the connection.
async fn greet(stream: std::net::TcpStream, trust: &Trust) -> io::Result<Peer> {
    let stream = TcpStream::from_std(stream)?;
    let _ = stream.set_nodelay(true);
    let progress = Progress::default();
    let stream = Counted::new(stream, progress.clone());
    match trust.server_tls() {
        Some(tls) => Ok(Peer(Box::new(TlsAcceptor::from(tls).accept(stream).await?), progress)),
        None => Ok(Peer(Box::new(stream), progress)),
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Bytes for S {}

/// A connection, with TLS or without, and what moves on it.
struct Peer(Box<dyn Bytes>, Progress);

impl Connected for Peer {
    type ConnectInfo = Progress;

    fn connect_info(&self) -> Progress {
        self.1.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
