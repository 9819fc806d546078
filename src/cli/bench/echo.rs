//! The yardstick: a server that decodes a SendMessage request and answers with nothing in it, in the shape of the real one (one
//! single-threaded runtime per core, connections dealt out in turn). It runs as a child process, so that its CPU is its own.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

use crate::runtime::tasks::Threads;
use crate::wire::rocketmq::{SendMessageRequest, SendMessageResponse};

const READY: &str = "echo ready: ";
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONNECTIONS_QUEUED: usize = 64;

/// The child process. Killed when dropped.
#[derive(Debug)]
pub struct EchoServer {
    child: Child,
    /// `host:port`.
    pub endpoint: String,
}

impl EchoServer {
    /// Starts this program again as an echo server on a free port.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(["bench", "echo-server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the echo server")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let Some(endpoint) = line.trim().strip_prefix(READY) else {
            let _ = child.kill();
            bail!("the echo server did not start");
        };
        Ok(Self { child, endpoint: endpoint.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until stdin closes, which it does when the parent process ends, however it ends.
///
/// # Errors
/// No port or no thread is to be had.
pub fn serve() -> Result<()> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Threads::start(lanes)?;
    let tasks = threads.tasks();
    let mut queues = Vec::new();
    for lane in 0..lanes {
        let (queue, connections) = mpsc::channel::<std::io::Result<TcpStream>>(CONNECTIONS_QUEUED);
        queues.push(queue);
        drop(tasks.spawn_on_lane(lane, async move {
            let server = tonic::transport::Server::builder().add_service(Echo);
            let _ = server.serve_with_incoming(ReceiverStream::new(connections)).await;
        }));
    }
    threads.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{READY}{}", listener.local_addr()?);
        let (closed, parent_ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            drop(closed);
        });
        let accept = async {
            for lane in (0..lanes).cycle() {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                // A tokio socket belongs to the runtime that made it.
                let _ = queues[lane].send(rehome(stream, &tasks, lane).await).await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            biased;
            _ = parent_ended => Ok(()),
            ended = accept => ended,
        }
    })
}

async fn rehome(stream: TcpStream, tasks: &crate::runtime::tasks::Tasks, lane: usize) -> std::io::Result<TcpStream> {
    let stream = stream.into_std()?;
    tasks.spawn_on_lane(lane, async move { TcpStream::from_std(stream) }).await.map_err(std::io::Error::other)?
}

/// `SendMessage` and nothing else.
#[derive(Clone, Debug)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "apache.rocketmq.v2.MessagingService";
}

impl UnaryService<SendMessageRequest> for Echo {
    type Response = SendMessageResponse;
    type Future = Ready<Result<tonic::Response<SendMessageResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<SendMessageRequest>) -> Self::Future {
        // Decoded by now; the answer is the smallest there is.
        drop(request);
        ready(Ok(tonic::Response::new(SendMessageResponse::default())))
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let codec = ProstCodec::<SendMessageResponse, SendMessageRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
            Ok(grpc.unary(Echo, request).await)
        })
    }
}
