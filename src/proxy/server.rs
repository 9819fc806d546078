//! Assembles the services and serves connections of any kind.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::link::Brokers;
use crate::observe::meters::Meters;
use crate::proxy::admin::AdminService;
use crate::proxy::caller::CalledAs;
use crate::proxy::convert::filter::Compiled;
use crate::proxy::convert::route::Address;
use crate::proxy::intake::Metered;
use crate::proxy::listener::{self, Listening};
use crate::proxy::messaging::lite;
use crate::proxy::options::ProxyOptions;
use crate::proxy::service::Service;
use crate::proxy::session::checks;
use crate::proxy::session::producers::Producers;
use crate::proxy::session::registry::Sessions;
use crate::proxy::shared::{Door, Shared};
use crate::runtime::budget::Budget;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::wire::DESCRIPTOR_SET;
use crate::wire::rocketmq::admin_server::AdminServer;
use crate::wire::rocketmq::messaging_service_server::MessagingServiceServer;

/// Full name of the service that clients call.
const MESSAGING: &str = "apache.rocketmq.v2.MessagingService";
/// Full name of the service that operators' tools call.
const ADMIN: &str = "apache.rocketmq.v2.Admin";
/// How often the health service looks at the broker.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// Never fewer open requests per connection than this: one carries every long poll of a client.
const STREAMS_MIN: u32 = 10_000;

/// Why the proxy cannot be built.
#[derive(Debug, Error)]
pub enum StartProxyError {
    /// `advertise` is not `host:port`.
    #[error("the advertised address {0:?} is not host:port with one host")]
    Advertise(String),
    /// The descriptors do not fit what reflection wants; a broken build.
    #[error("reflection cannot be built: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Cheap handle of the proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    front: Front,
}

impl Proxy {
    /// Builds the services; nothing is opened yet.
    ///
    /// # Errors
    /// See [`StartProxyError`].
    pub fn new(
        options: ProxyOptions,
        brokers: Brokers,
        clock: Clock,
        tasks: Tasks,
        meters: Arc<Meters>,
    ) -> Result<Self, StartProxyError> {
        let door = door(options.listen, options.advertise.as_deref())?;
        let external_door = match options.external_listen {
            Some(listen) => Some(self::door(listen, options.external_advertise.as_deref())?),
            None => None,
        };
        let shared = Arc::new(Shared {
            brokers,
            clock,
            tasks,
            meters,
            sessions: Sessions::new(options.sessions_max),
            producers: Producers::default(),
            filters: Compiled::default(),
            send_bytes: Budget::new(options.send_bytes_in_flight_max),
            arriving_bytes: Budget::new(options.arriving_bytes_max.max(2 * options.request_bytes_max as u64)),
            telemetry_streams: Budget::new(options.telemetry_streams_max),
            connections: Budget::new(options.connections_max),
            door,
            external_door,
            options,
        });
        let front = Front::new(&shared)?;
        Ok(Self { shared, front })
    }

    /// Open connections on the public port.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.used()
    }

    /// Message bytes of sends that wait for their answer.
    #[must_use]
    pub fn send_bytes_in_flight(&self) -> u64 {
        self.shared.send_bytes.used()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens the public port, and the one for clients outside if there is to be one, TLS and plaintext alike.
    ///
    /// # Errors
    /// The address cannot be bound. Must be called within the background runtime.
    pub fn listen(&self, tls: Arc<ServerConfig>) -> io::Result<Listening> {
        listener::listen(self, tls)
    }

    /// Serves the connections that `incoming` yields, on the runtime that polls this, until `incoming` ends, as it must when
    /// draining begins; then tells the clients of all of them to go, and waits for open requests, at most the configured time after
    /// draining began. `io::duplex` streams will do.
    ///
    /// # Errors
    /// The HTTP/2 server failed as a whole; single connections fail by themselves.
    pub async fn serve<I, C>(&self, incoming: I) -> Result<(), tonic::transport::Error>
    where
        I: Stream<Item = io::Result<C>>,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let options = &self.shared.options;
        let shutdown = self.shared.brokers.shutdown();
        let serving = Server::builder()
            .max_concurrent_streams(options.streams_per_connection_max.max(STREAMS_MIN))
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .http2_keepalive_interval(Some(options.keepalive_interval))
            .http2_keepalive_timeout(Some(options.keepalive_timeout))
            // Never by a signal, which would overtake connections that wait in `incoming`: they would be cut.
            .serve_with_incoming_shutdown(self.front.clone(), incoming, std::future::pending());
        let overdue = async {
            shutdown.draining().await;
            self.shared.clock.sleep(options.drain_timeout).await;
        };
        tokio::select! {
            biased;
            served = serving => served,
            () = overdue => Ok(()),
            () = shutdown.stopping() => Ok(()),
        }
    }
}

fn door(listen: SocketAddr, advertise: Option<&str>) -> Result<Door, StartProxyError> {
    let read = |text: &str| Address::parse(text).ok_or_else(|| StartProxyError::Advertise(text.to_owned()));
    Ok(Door { listen, advertised: advertise.map(read).transpose()?, bound: OnceLock::new() })
}

/// The first thing a request meets. Messaging is called directly: a router in front of it would cost each send a microsecond.
#[derive(Clone, Debug)]
struct Front {
    messaging: MessagingServiceServer<Service>,
    arriving_bytes: Budget,
    others: Routes,
}

impl Front {
    fn new(shared: &Arc<Shared>) -> Result<Self, StartProxyError> {
        let messaging = MessagingServiceServer::new(Service { shared: shared.clone() })
            .max_decoding_message_size(shared.options.request_bytes_max);
        let (reporter, health) = tonic_health::server::health_reporter();
        drop(shared.tasks.spawn_background(report_health(shared.clone(), reporter)));
        drop(shared.tasks.spawn_background(checks::run(shared.clone())));
        drop(shared.tasks.spawn_background(lite::tell_others(shared.clone())));
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name(MESSAGING)
                .with_service_name(ADMIN)
                .with_service_name("grpc.health.v1.Health")
        };
        let mut others = Routes::builder();
        others
            .add_service(AdminServer::new(AdminService))
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        Ok(Self { messaging, arriving_bytes: shared.arriving_bytes.clone(), others: others.routes() })
    }
}

impl tower::Service<http::Request<Body>> for Front {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready; they bound nothing by themselves.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().strip_prefix('/').and_then(|path| path.strip_prefix(MESSAGING));
        match method {
            Some(method) => {
                if matches!(method, "/QueryRoute" | "/QueryAssignment")
                    && let Some(authority) = request.uri().authority().cloned()
                {
                    request.extensions_mut().insert(CalledAs(authority));
                }
                let budget = &self.arriving_bytes;
                self.messaging.call(request.map(|body| Body::new(Metered::new(body, budget.clone()))))
            }
            None => Box::pin(self.others.call(request)),
        }
    }
}

async fn report_health(shared: Arc<Shared>, reporter: HealthReporter) {
    loop {
        let draining = shared.brokers.shutdown().is_draining();
        let leaving = shared.brokers.shutdown().is_leaving();
        let serves = !leaving && shared.brokers.status().ready;
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", MESSAGING, ADMIN] {
            reporter.set_service_status(service, status).await;
        }
        if draining {
            return;
        }
        tokio::select! {
            biased;
            () = shared.brokers.shutdown().draining() => {}
            () = shared.brokers.shutdown().leaving(), if !leaving => {}
            () = shared.clock.sleep(HEALTH_EVERY) => {}
        }
    }
}
