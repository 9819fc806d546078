//! Load balancers before several targets. A plain one gives each new connection to the next target and knows nothing of what
//! flows through; the other one knows HTTP/2 and gives each call to the next, so that no two calls of a client in a row, nor its
//! streams, meet the same target. Where a target takes no connection, the one after it gets it.

// Each test binary compiles this file for itself and uses only a part of it.
#![allow(dead_code)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// What is held of a plain connection in each direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// One balancer; ends, with its connections, when dropped.
pub struct Balancer {
    address: SocketAddr,
    served: Arc<[AtomicUsize]>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

/// Where connections or calls may go.
struct Targets {
    addresses: Vec<SocketAddr>,
    served: Arc<[AtomicUsize]>,
    next: AtomicUsize,
}

impl Balancer {
    /// Spreads connections. Opens a port of its own before the targets, which need not be there yet.
    ///
    /// # Errors
    /// No port or thread is to be had.
    pub fn of_connections(targets: Vec<SocketAddr>) -> Result<Self> {
        Self::start(targets, connection)
    }

    /// Spreads calls of HTTP/2 without TLS, otherwise the same. A call that no target took, or that was under way when its
    /// target ended, fails as unavailable.
    ///
    /// # Errors
    /// No port or thread is to be had.
    pub fn of_calls(targets: Vec<SocketAddr>) -> Result<Self> {
        Self::start(targets, calls)
    }

    fn start<F>(addresses: Vec<SocketAddr>, serve: fn(TcpStream, Arc<Targets>) -> F) -> Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("a port for the balancer")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let served: Arc<[AtomicUsize]> = addresses.iter().map(|_| AtomicUsize::new(0)).collect();
        let targets = Arc::new(Targets { addresses, served: Arc::clone(&served), next: AtomicUsize::new(0) });
        let (end, ended) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("balancer".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                let accept = async {
                    while let Ok((near, _)) = listener.accept().await {
                        let _ = near.set_nodelay(true);
                        tokio::spawn(serve(near, Arc::clone(&targets)));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { address, served, end: Some(end) })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections, or calls, each target has taken so far.
    pub fn served(&self) -> Vec<usize> {
        self.served.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.end.take());
    }
}

impl Targets {
    /// All of them, the one whose turn it is first.
    fn turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.next.fetch_add(1, Ordering::Relaxed), self.addresses.len());
        (0..count).map(move |step| (first + step) % count)
    }

    /// All of them, the one that has taken the fewest first: a client that keeps one connection for a whole run meets another
    /// target after each end of it, however many were down in between.
    fn fewest_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.addresses.len()).collect();
        order.sort_by_key(|&target| self.served[target].load(Ordering::Relaxed));
        order
    }

    fn count(&self, target: usize) {
        self.served[target].fetch_add(1, Ordering::Relaxed);
    }
}

async fn connection(mut near: TcpStream, targets: Arc<Targets>) {
    for target in targets.fewest_first() {
        let Ok(mut far) = TcpStream::connect(targets.addresses[target]).await else { continue };
        targets.count(target);
        let _ = far.set_nodelay(true);
        // However it ends: dropping both ends is all that is left to do.
        let _ = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER_BYTES, BUFFER_BYTES).await;
        return;
    }
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;
/// The connections behind one connection of a client, one a target; opened at the first call.
type Far = Arc<[Mutex<Option<SendRequest<Incoming>>>]>;

async fn calls(near: TcpStream, targets: Arc<Targets>) {
    let far: Far = targets.addresses.iter().map(|_| Mutex::new(None)).collect();
    let service = service_fn(move |request| call(request, Arc::clone(&targets), Arc::clone(&far)));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(near), service).await;
}

async fn call(mut request: Request<Incoming>, targets: Arc<Targets>, far: Far) -> Result<Answer, Infallible> {
    for target in targets.turn() {
        let Some(mut sender) = sender(targets.addresses[target], &far[target]).await else { continue };
        match sender.try_send_request(request).await {
            Ok(answer) => {
                targets.count(target);
                return Ok(answer.map(BodyExt::boxed));
            }
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => break,
            },
        }
    }
    let mut answer = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    Ok(answer)
}

async fn sender(target: SocketAddr, held: &Mutex<Option<SendRequest<Incoming>>>) -> Option<SendRequest<Incoming>> {
    let mut held = held.lock().await;
    if let Some(open) = held.as_mut()
        && open.ready().await.is_ok()
    {
        return Some(open.clone());
    }
    let stream = TcpStream::connect(target).await.ok()?;
    let _ = stream.set_nodelay(true);
    let opened = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = opened.ok()?;
    tokio::spawn(connection);
    *held = Some(sender.clone());
    Some(sender)
}
