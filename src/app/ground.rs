//! What every role stands on: threads, logs, metrics, the HTTP port, signals, trust; and how each of them ends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use thiserror::Error;
use tokio::sync::watch;

use crate::app::certificates::{self, TrustFileError};
use crate::app::identity::IdentityError;
use crate::app::keys::KeyError;
use crate::app::listen::{self, ListenError, Reserved};
use crate::app::signal::Signals;
use crate::broker::OpenBrokerError;
use crate::config::{Config, Role};
use crate::console::{Console, Judge, Readiness};
use crate::observe::export::{ExportError, Exporters};
use crate::observe::trace::{self, InstallError};
use crate::proxy::StartProxyError;
use crate::route::OpenRouteError;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::process;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::{Tasks, Threads};
use crate::store::OpenStoreError;
use crate::store::files::{self, Files};
use crate::trust::{self, Trust, TrustError};

/// Longest time the store may take to end, on top of the time that open requests have.
const CLOSE_LIMIT: Duration = Duration::from_secs(20);

/// Why the process did not start, or did not end well.
#[derive(Debug, Error)]
pub enum RunError {
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
    /// The roles cannot trust each other.
    #[error(transparent)]
    Trust(#[from] TrustFileError),
    /// The internal port would be open to everyone.
    #[error(
        "the internal port {0} can be reached from other machines, and nobody would be asked who they are: give every role \
         the same cluster.secret_file, or cluster.tls_ca, cluster.tls_certificate and cluster.tls_key, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
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
    /// The route service cannot begin.
    #[error(transparent)]
    Route(#[from] OpenRouteError),
    /// The public services cannot be built.
    #[error(transparent)]
    Proxy(#[from] StartProxyError),
    /// The internal services cannot be built; a broken build.
    #[error("reflection cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The data directory is somebody else's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nobody said where the route service is.
    #[error(
        "bolide {0} needs to know where the route service is: give its internal address, host:port, by --route, \
         BOLIDE_CLUSTER_ROUTE or cluster.route"
    )]
    NoRoute(&'static str),
    /// An address is malformed.
    #[error("{key}: {source}")]
    Address {
        /// Which setting.
        key: &'static str,
        /// Why.
        source: TrustError,
    },
    /// Something came to light while it ran.
    #[error("{0}")]
    GivenUp(String),
    /// The end took too long.
    #[error("the process did not end in {0:?}; the next start replays what is missing")]
    Slow(Duration),
}

/// Where the process listens.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// Clients.
    pub grpc: Option<SocketAddr>,
    /// Clients outside.
    pub external: Option<SocketAddr>,
    /// Operators and other roles.
    pub internal: Option<SocketAddr>,
    /// Health and metrics.
    pub http: Option<SocketAddr>,
    /// Data directory, absolute where that can be known.
    pub data: Option<PathBuf>,
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

/// What a role finds when it is opened. Clones share everything.
#[derive(Clone)]
pub(super) struct Ground {
    pub tasks: Tasks,
    pub clock: Clock,
    pub entropy: Entropy,
    pub files: Arc<dyn Files>,
    pub exporters: Arc<Exporters>,
    pub readiness: Readiness,
    pub trust: Trust,
    /// Drains when the internal port is to end, stops when everything is to.
    pub ended: Shutdown,
    given_up: Arc<watch::Sender<Option<String>>>,
}

impl Ground {
    /// Takes the internal port, and does not serve it yet.
    pub(super) fn internal_port(&self, config: &Config) -> Result<Reserved, RunError> {
        let address = config.admin.listen;
        if self.trust.is_none() && !trust::is_private(address.ip()) {
            if config.role != Role::Standalone {
                return Err(RunError::Open(address));
            }
            tracing::warn!(%address, "the internal port asks nobody who they are; keep it off public networks");
        }
        Ok(Reserved::new("internal gRPC", listen::widened(address))?)
    }

    /// Ends the process with these words: nothing that it could do any more would be right.
    pub(super) fn give_up(&self, words: String) {
        self.given_up.send_if_modified(|given| given.is_none() && given.replace(words).is_none());
    }

    /// How the process is to look while it runs, and how it ends.
    pub(super) fn running(
        &self,
        ready: Ready,
        judge: Judge,
        service: Shutdown,
        close: BoxFuture<'static, ()>,
    ) -> Running {
        Running { ready, judge, service, close }
    }
}

/// A role that serves.
pub(super) struct Running {
    ready: Ready,
    judge: Judge,
    /// Told to leave and to drain.
    service: Shutdown,
    /// Awaited once `service` drains; ends everything in order.
    close: BoxFuture<'static, ()>,
}

/// Runs a role until SIGTERM or SIGINT. `ready` is called once everything is served.
///
/// Order of the start: HTTP (so that `/readyz` can say what is under way), what the role is made of, its ports. Order of the end:
/// not ready any more; after a grace for load balancers no new connections and no new work, long polls end empty, open requests
/// finish, stores close cleanly.
///
/// # Errors
/// See [`RunError`].
pub(super) fn run<F>(
    config: Config,
    time: Time,
    notes: &[String],
    open: impl FnOnce(Config, Ground) -> F,
    ready: impl FnOnce(&Ready),
) -> Result<(), RunError>
where
    F: Future<Output = Result<Running, RunError>>,
{
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
        let clock = match time {
            Time::Real => Clock::system(),
            Time::Movable => {
                tracing::warn!("time can be moved on this server; it is meant for tests");
                Clock::movable()
            }
        };
        let files = files::real();
        let ground = Ground {
            trust: certificates::trust(&*files, &config.cluster)?,
            tasks: tasks.clone(),
            clock: clock.clone(),
            entropy: Entropy::system(),
            files,
            exporters: exporters.clone(),
            readiness: Readiness::starting("opening the data"),
            ended: Shutdown::new(),
            given_up: Arc::default(),
        };
        let mut given_up = ground.given_up.subscribe();
        let (readiness, ended) = (ground.readiness.clone(), ground.ended.clone());
        let console = Console {
            readiness: readiness.clone(),
            exporters: exporters.clone(),
            tasks: tasks.clone(),
            clock: Clock::system(),
        };
        drop(tasks.spawn_background(console.serve(http, ended.clone())));
        let following = certificates::follow(
            ground.trust.clone(),
            config.cluster.clone(),
            ground.files.clone(),
            clock.clone(),
            tasks.clone(),
            ended.clone(),
        );
        drop(tasks.spawn_background(following));
        let (role, delay, limit) = (config.role, config.drain_delay, config.proxy.drain_timeout + CLOSE_LIMIT);
        let running = tokio::select! {
            biased;
            opened = open(config, ground) => opened?,
            // Nothing was promised to anyone yet, and the log needs no good-bye.
            signal = signals.next() => {
                tracing::info!(signal, "ended before the start was complete");
                return Ok(());
            }
        };
        let Running { ready: at, judge, service, close } = running;
        let at = Ready { http: Some(http_address), ..at };
        readiness.running(judge);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), role = role.name(), places = %at, "ready");
        ready(&at);
        let mut failed = None;
        tokio::select! {
            biased;
            signal = signals.next() => tracing::info!(signal, "ending"),
            words = given_up.wait_for(Option::is_some) => {
                failed = words.ok().and_then(|words| words.clone());
                tracing::error!(reason = failed.as_deref(), "ending");
            }
        }
        let closing = async {
            readiness.ending();
            service.leave();
            // Load balancers learn of it by asking: whom they still send is still served.
            clock.sleep(delay).await;
            service.drain();
            tokio::select! {
                biased;
                () = close => Ok(()),
                () = clock.sleep(limit) => Err(RunError::Slow(limit)),
            }
        };
        let closed = tokio::select! {
            biased;
            closed = closing => failed.map_or(closed, |words| Err(RunError::GivenUp(words))),
            _ = signals.next() => {
                tracing::warn!("ended at once, at the second signal");
                Ok(())
            }
        };
        ended.stop();
        tasks.blocking(move || exporters.close()).await;
        if closed.is_ok() {
            tracing::info!("ended");
        }
        closed
    });
    threads.stop();
    done
}

impl std::fmt::Display for Ready {
    /// Pairs that scripts read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places =
            [("grpc", self.grpc), ("external", self.external), ("internal", self.internal), ("http", self.http)];
        let mut first = true;
        for (name, address) in places.into_iter().filter_map(|(name, address)| Some((name, address?))) {
            write!(f, "{}{name}={address}", if first { "" } else { " " })?;
            first = false;
        }
        match &self.data {
            Some(data) => write!(f, " data={}", data.display()),
            None => Ok(()),
        }
    }
}
