//! The HTTP port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::console::readiness::Readiness;
use crate::observe::export::Exporters;
use crate::runtime::clock::Clock;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;

/// Connections at a time; scrapers and probes need a few, and each takes a file descriptor from the broker.
const CONNECTIONS_MAX: u32 = 256;
/// Time for the head of a request, counted from the connection or from the answer before: a silent connection closes.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept, for lack of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str =
    "bolide\n\n/healthz  the process runs\n/readyz   clients should come here\n/metrics  figures for Prometheus\n";

/// The pages. Clones share everything.
#[derive(Clone, Debug)]
pub struct Console {
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// What `/metrics` says.
    pub exporters: Arc<Exporters>,
    /// Where a page that may block is made.
    pub tasks: Tasks,
    /// For pauses.
    pub clock: Clock,
}

impl Console {
    /// Serves on `listener` until `ended` stops; open requests are finished first.
    pub async fn serve(self, listener: TcpListener, ended: Shutdown) {
        let (clock, tasks) = (self.clock.clone(), self.tasks.clone());
        let router = Router::new()
            .route("/", get(|| async { INDEX }))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        loop {
            let accepted = tokio::select! {
                biased;
                () = ended.stopping() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    // Closed at once when there is no place: a probe that waits would learn nothing.
                    let Ok(place) = places.clone().try_acquire_owned() else { continue };
                    drop(tasks.spawn_background(converse(stream, router.clone(), ended.clone(), place)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the HTTP port could not be accepted");
                    clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        // All places are free when all connections have ended.
        let _ = places.acquire_many(CONNECTIONS_MAX).await;
    }
}

/// One connection, until it ends or has nothing to say for too long.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    ended: Shutdown,
    _place: OwnedSemaphorePermit,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is the client's affair.
    tokio::select! {
        biased;
        () = ended.stopping() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        _ = connection.as_mut() => {}
    }
}

async fn readyz(State(console): State<Console>) -> Response {
    let verdict = console.readiness.verdict();
    match (verdict.ready, verdict.reason.as_str()) {
        (true, "") => "ready\n".into_response(),
        (true, reason) => format!("ready, but {reason}\n").into_response(),
        (false, reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn metrics(State(console): State<Console>) -> Response {
    let exporters = console.exporters.clone();
    // Sampling asks the store, which may look at its files.
    match console.tasks.blocking(move || exporters.page()).await {
        Ok(page) => ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
