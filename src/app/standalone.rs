//! All roles in one process.
//!
//! Order of the start: HTTP (so that `/readyz` can say what is under way), store, broker, public port, internal port. Order of
//! the end: no new connections and no new work, long polls end empty, open requests finish, the store closes cleanly.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_stream::wrappers::TcpListenerStream;

use crate::app::gauges::{self, Disk};
use crate::app::keys::{self, KeyError};
use crate::app::listen::{self, ListenError};
use crate::app::signal::Signals;
use crate::broker::{Broker, OpenBrokerError};
use crate::config::Config;
use crate::console::{Console, Readiness};
use crate::link::Brokers;
use crate::observe::export::{ExportError, Exporters};
use crate::observe::trace::{self, InstallError};
use crate::proxy::operator::{Facts, OperatorService};
use crate::proxy::{Listening, Proxy, StartProxyError};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::process;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::{Tasks, Threads};
use crate::store::files::{self, Files};
use crate::store::{FoldEnv, OpenStoreError, Store};
use crate::wire::DESCRIPTOR_SET;
use crate::wire::admin::admin_server::AdminServer;

/// Longest time the store may take to end, on top of the time that open requests have.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// Why the process did not start, or did not end well.
#[derive(Debug, Error)]
pub enum StandaloneError {
    /// The operating system refused a thread or a signal handler.
    #[error("the operating system refused a thread or a signal: {0}")]
    System(#[from] io::Error),
    /// Metrics or spans cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Logging cannot be set up.
    #[error(transparent)]
    Log(#[from] InstallError),
    /// A port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A key or certificate cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The data cannot be opened.
    #[error("cannot open the data in {dir}: {source}")]
    Store {
        /// Data directory.
        dir: PathBuf,
        /// Why.
        source: OpenStoreError,
    },
    /// The broker cannot begin.
    #[error(transparent)]
    Broker(#[from] OpenBrokerError),
    /// The public services cannot be built.
    #[error(transparent)]
    Proxy(#[from] StartProxyError),
    /// The end took too long.
    #[error("the process did not end in {0:?}; the next start replays what is missing")]
    Slow(Duration),
}

/// Where the process listens.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Clients.
    pub grpc: SocketAddr,
    /// Operators.
    pub internal: SocketAddr,
    /// Health and metrics.
    pub http: SocketAddr,
    /// Data directory, absolute where that can be known.
    pub data: PathBuf,
}

/// Whose time the server follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// The system's.
    #[default]
    Real,
    /// The system's, until an operator moves it ahead. For tests: data written in a time to come is strange to a later start.
    Movable,
}

/// Runs until SIGTERM or SIGINT. `ready` is called once everything is served.
///
/// # Errors
/// See [`StandaloneError`].
pub fn run(config: Config, time: Time, notes: &[String], ready: impl FnOnce(&Ready)) -> Result<(), StandaloneError> {
    process::keep_files_private();
    process::use_small_pages();
    let threads = Threads::start(config.lanes.unwrap_or_else(process::cores))?;
    let tasks = threads.tasks();
    let done = threads.block_on(async {
        let exporters = Arc::new(Exporters::start(&config.observe)?);
        trace::install(&config.observe, exporters.tracer())?;
        for note in notes {
            tracing::warn!("{note}");
        }
        let mut signals = Signals::listen()?;
        let http = listen::open("HTTP", listen::widened(config.console.listen))?;
        let http_address = http.local_addr()?;
        let readiness = Readiness::starting("opening the data");
        let ended = Shutdown::new();
        let console = Console {
            readiness: readiness.clone(),
            exporters: exporters.clone(),
            tasks: tasks.clone(),
            clock: Clock::system(),
        };
        drop(tasks.spawn_background(console.serve(http, ended.clone())));
        let opening = Standalone::open(config, time, tasks.clone(), exporters.clone(), http_address, ended.clone());
        let standalone = tokio::select! {
            biased;
            opened = opening => opened?,
            // Nothing was promised to anyone yet, and the log needs no good-bye.
            signal = signals.next() => {
                tracing::info!(signal, "ended before the start was complete");
                return Ok(());
            }
        };
        readiness.running(standalone.broker.clone());
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            grpc = %standalone.ready.grpc,
            internal = %standalone.ready.internal,
            http = %standalone.ready.http,
            data = %standalone.ready.data.display(),
            "ready"
        );
        ready(&standalone.ready);
        let signal = signals.next().await;
        tracing::info!(signal, "ending");
        let closed = tokio::select! {
            biased;
            closed = standalone.close() => closed,
            _ = signals.next() => {
                tracing::warn!("ended at once, at the second signal");
                Ok(())
            }
        };
        tasks.blocking(move || exporters.close()).await;
        if closed.is_ok() {
            tracing::info!("ended");
        }
        closed
    });
    threads.stop();
    done
}

struct Standalone {
    broker: Broker,
    listening: Listening,
    ended: Shutdown,
    drain_limit: Duration,
    clock: Clock,
    ready: Ready,
}

impl Standalone {
    async fn open(
        config: Config,
        time: Time,
        tasks: Tasks,
        exporters: Arc<Exporters>,
        http: SocketAddr,
        ended: Shutdown,
    ) -> Result<Self, StandaloneError> {
        let clock = match time {
            Time::Real => Clock::system(),
            Time::Movable => {
                tracing::warn!("time can be moved on this server; it is meant for tests");
                Clock::movable()
            }
        };
        let (entropy, files) = (Entropy::system(), files::real());
        let dir = config.store.log.dir.clone();
        let store = {
            let (options, files, clock, tasks_of_store) = (config.store, files.clone(), clock.clone(), tasks.clone());
            tasks.blocking(move || Store::open(options, files, FoldEnv::Disk, &clock, tasks_of_store)).await
        };
        let store = store.map_err(|source| StandaloneError::Store { dir: dir.clone(), source })?;
        let receipt_key = keys::receipt_key(&*files, &dir, &entropy)?;
        let certificate = keys::tls(&*files, &dir, &config.tls)?;
        let meters = exporters.meters();
        let broker =
            Broker::open(config.broker, store, clock.clone(), tasks.clone(), entropy, meters.clone(), receipt_key)
                .await?;
        let mut proxy_options = config.proxy;
        proxy_options.listen = listen::widened(proxy_options.listen);
        let (public, drain_limit) = (proxy_options.listen, proxy_options.drain_timeout);
        let brokers = Brokers::here(broker.clone(), &proxy_options.broker_name);
        let proxy = Proxy::new(proxy_options, brokers, clock.clone(), tasks.clone(), meters.clone())?;
        let disk = disk_of(files, dir.clone());
        gauges::register(&meters, &broker, &proxy, &clock, &disk);
        let operators = listen::open("internal gRPC", config.admin.listen)?;
        let internal = operators.local_addr()?;
        let facts = facts(&broker, &proxy, &clock, &dir, disk);
        let service = OperatorService::new(broker.clone(), facts);
        drop(tasks.spawn_background(serve_operators(service, TcpListenerStream::new(operators), ended.clone())));
        let listening =
            proxy.listen(certificate).map_err(|source| ListenError { what: "client gRPC", address: public, source })?;
        let data = std::path::absolute(&dir).unwrap_or(dir);
        let ready = Ready { grpc: listening.local_address(), internal, http, data };
        Ok(Self { broker, listening, ended, drain_limit, clock, ready })
    }

    /// Ends in order, within a bound.
    async fn close(self) -> Result<(), StandaloneError> {
        let limit = self.drain_limit + CLOSE_LIMIT;
        let closing = async {
            self.broker.shutdown().drain();
            self.listening.closed().await;
            self.broker.close().await;
            self.ended.stop();
        };
        tokio::select! {
            biased;
            () = closing => Ok(()),
            () = self.clock.sleep(limit) => Err(StandaloneError::Slow(limit)),
        }
    }
}

fn disk_of(files: Arc<dyn Files>, dir: PathBuf) -> Arc<dyn Fn() -> Disk + Send + Sync> {
    Arc::new(move || Disk { free_bytes: files.space(&dir).map_or(0, |space| space.free_bytes) })
}

fn facts(
    broker: &Broker,
    proxy: &Proxy,
    clock: &Clock,
    dir: &std::path::Path,
    disk: Arc<dyn Fn() -> Disk + Send + Sync>,
) -> Facts {
    let (of_shards, of_disk, proxy) = (broker.clone(), broker.clone(), proxy.clone());
    Facts {
        data_dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string(),
        connections: Box::new(move || proxy.connections()),
        shards: Box::new(move || vec![gauges::shard(&of_shards)]),
        disk: Box::new(move || {
            let used = gauges::shard(&of_disk).log_bytes + of_disk.store().stats().fold_disk_bytes;
            (used, disk().free_bytes)
        }),
        since: clock.mark(),
        clock: clock.clone(),
    }
}

async fn serve_operators(service: OperatorService, incoming: TcpListenerStream, ended: Shutdown) {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .with_service_name("bolide.admin.v1.Admin");
    let reflection = match reflection.build_v1() {
        Ok(reflection) => reflection,
        Err(error) => {
            tracing::error!(%error, "the internal port is not served");
            return;
        }
    };
    let serving = tonic::transport::Server::builder()
        .add_service(AdminServer::new(service))
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, ended.stopping());
    if let Err(error) = serving.await {
        tracing::error!(%error, "the internal port failed");
    }
}
