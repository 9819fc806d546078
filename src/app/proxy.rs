//! A proxy: speaks with clients, keeps nothing. What it knows comes from the route service, what it moves from the brokers.

use tonic::service::Routes;

use crate::app::ground::{self, Ground, Ready, RunError, Running, Time};
use crate::app::internal::{ADMIN, Internal};
use crate::app::listen::ListenError;
use crate::app::{gauges, keys, members, standalone};
use crate::config::Config;
use crate::console::Verdict;
use crate::link::{Brokers, ClusterOptions};
use crate::proxy::Proxy;
use crate::proxy::operator::{Facts, OperatorService, Seat};
use crate::route::{Me, RemoteOptions, Role, RouteClient};
use crate::runtime::shutdown::Shutdown;
use crate::wire::admin as wire;
use crate::wire::admin::admin_server::AdminServer;

/// Runs until SIGTERM or SIGINT. `ready` is called once everything is served.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config, notes: &[String], ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    ground::run(config, Time::Real, notes, open, ready)
}

async fn open(config: Config, ground: Ground) -> Result<Running, RunError> {
    let addresses = members::route_addresses(&config)?;
    let certificate = keys::tls_in_memory(&*ground.files, &config.tls)?;
    let port = ground.internal_port(&config)?;
    let internal_address = port.address();
    let (clock, tasks, meters) = (ground.clock.clone(), ground.tasks.clone(), ground.exporters.meters());
    let name = members::own_name(&config);
    let me = Me {
        role: Role::Proxy,
        name: name.clone(),
        address: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        holder: None,
    };
    let where_route_is = addresses.join(", ");
    let route = RouteClient::start(
        RemoteOptions { addresses, me, known: None },
        ground.trust.clone(),
        clock.clone(),
        tasks.clone(),
        ground.entropy.clone(),
    );
    let shutdown = Shutdown::new();
    let brokers = Brokers::cluster(
        route.clone(),
        ground.trust.clone(),
        ClusterOptions {
            name: name.as_str().into(),
            instance: ground.entropy.next_u64(),
            auto_create_groups: config.broker.auto_create_groups,
            lite_subscriptions_per_client_max: config.broker.lite_subscriptions_per_client_max,
            clients_max: config.broker.members_max,
            ..ClusterOptions::default()
        },
        shutdown.clone(),
        clock.clone(),
        tasks.clone(),
    );
    let options = standalone::public_options(&config);
    let public = options.listen;
    let proxy = Proxy::new(options, brokers.clone(), clock.clone(), tasks.clone(), meters.clone())?;
    gauges::process(&meters, &clock);
    gauges::proxy(&meters, &proxy);
    let shown = route.clone();
    members::show_view(&meters, move || shown.view(), &clock);
    members::show_route(&meters, &route);
    members::show_links(&meters, &brokers);
    let counted = proxy.clone();
    let facts = Facts {
        data_dir: String::new(),
        connections: Box::new(move || counted.connections()),
        shards: Box::new(Vec::new),
        disk: Box::new(|| (0, 0)),
        since: clock.mark(),
        clock: clock.clone(),
    };
    let seat = Seat { role: wire::Role::Proxy, name: name.as_str().into() };
    let operators = OperatorService::cluster(seat, route.clone(), ground.trust.clone(), facts, tasks.clone());
    let routes = Routes::new(AdminServer::new(operators));
    let internal = Internal::serve(&ground, port.listen()?, routes, &[ADMIN], config.proxy.drain_timeout)?;
    // Without a view every topic would seem to be missing: better no port than wrong answers.
    ground.readiness.now_doing(format!("waiting for the route service at {where_route_is}"));
    if route.view().revision.0 == 0 {
        tracing::info!(at = %where_route_is, "waiting for the route service");
    }
    route.first_view().await;
    let listening =
        proxy.listen(certificate).map_err(|source| ListenError { what: "client gRPC", address: public, source })?;
    let ready = Ready {
        grpc: Some(listening.local_address()),
        external: listening.external_address(),
        internal: Some(internal_address),
        ..Ready::default()
    };
    let ended = ground.ended.clone();
    let judged = brokers.clone();
    let close = async move {
        listening.closed().await;
        route.goodbye().await;
        ended.drain();
        internal.closed().await;
    };
    Ok(ground.running(ready, Box::new(move || judge(&judged)), shutdown, Box::pin(close)))
}

fn judge(brokers: &Brokers) -> Verdict {
    let status = brokers.status();
    Verdict { ready: status.ready, reason: status.reason }
}
