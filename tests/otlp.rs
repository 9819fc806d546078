//! Metrics and spans arrive at an OTLP collector when one is configured. The collector here is a gRPC server that keeps the
//! bytes of every export and looks for names in them.

mod common;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use anyhow::{Result, ensure};
use bytes::{Buf, BufMut, Bytes};
use common::{ServerOptions, binary};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Path and body of each export.
type Exports = Arc<Mutex<Vec<(String, Bytes)>>>;

#[derive(Clone)]
struct Collector {
    exports: Exports,
}

/// Messages as they are, answers empty.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

struct Keep {
    path: String,
    exports: Exports,
}

impl tonic::server::UnaryService<Bytes> for Keep {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        self.exports.lock().unwrap().push((self.path.clone(), request.into_inner()));
        ready(Ok(tonic::Response::new(Bytes::new())))
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Collector {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = tonic::codegen::BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let keep = Keep { path: request.uri().path().to_owned(), exports: self.exports.clone() };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(keep, request).await) })
    }
}

impl Collector {
    /// Serves on a free port of its own thread until the process ends.
    fn start() -> Result<(Self, SocketAddr)> {
        let collector = Self { exports: Exports::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let service = collector.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(service.clone());
                    tokio::spawn(async move {
                        let service =
                            hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                                hyper::service::Service::call(&service, request.map(tonic::body::Body::new))
                            });
                        let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                        let _ = builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        Ok((collector, address))
    }

    /// Whether an export to a service of that name holds the text.
    fn holds(&self, service: &str, text: &str) -> bool {
        let exports = self.exports.lock().unwrap();
        exports.iter().any(|(path, body)| {
            path.contains(service) && body.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

#[test]
fn spans_and_metrics_reach_a_configured_collector_at_the_latest_when_the_process_ends() -> Result<()> {
    let (collector, address) = Collector::start()?;
    let mut server =
        ServerOptions::default().env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")).start()?;
    let addresses = server.addresses();
    let sent = Command::new(binary())
        .args(["bench", "send", "--messages", "10", "--warmup", "0", "--quiet", "--topic", "traced"])
        .args(["--endpoint", &addresses.grpc.to_string(), "--address", &addresses.internal.to_string()])
        .output()?;
    ensure!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let status = server.sigterm()?;
    assert!(status.success(), "{status}: {}", server.log_tail(20));
    assert!(collector.holds("TraceService/Export", "SendMessage"), "{}", server.log_tail(20));
    assert!(collector.holds("TraceService/Export", "traced"));
    assert!(collector.holds("MetricsService/Export", "rocketmq_messages_in_total"), "{}", server.log_tail(20));
    assert!(collector.holds("MetricsService/Export", "rocketmq_topic_number"));
    Ok(())
}
