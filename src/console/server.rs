//! The HTTP port.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::console::readiness::Readiness;
use crate::observe::export::Exporters;
use crate::runtime::tasks::Tasks;

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str =
    "bolide\n\n/healthz  the process runs\n/readyz   it takes messages\n/metrics  figures for Prometheus\n";

/// The pages. Clones share everything.
#[derive(Clone, Debug)]
pub struct Console {
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// What `/metrics` says.
    pub exporters: Arc<Exporters>,
    /// Where a page that may block is made.
    pub tasks: Tasks,
}

impl Console {
    /// Serves on `listener` until `ended` resolves; open requests are finished first.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        self,
        listener: TcpListener,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/", get(|| async { INDEX }))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(ended).await
    }
}

async fn readyz(State(console): State<Console>) -> Response {
    match console.readiness.obstacle() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
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
