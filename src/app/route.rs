//! The route service: what the cluster is made of, kept in a log of its own and told to everyone.

use tonic::service::Routes;

use crate::app::ground::{self, Ground, Ready, RunError, Running, Time};
use crate::app::internal::{ADMIN, Internal};
use crate::app::{gauges, identity, members, standalone};
use crate::config::Config;
use crate::console::Verdict;
use crate::proxy::operator::{Facts, OperatorService, Seat};
use crate::route::server::RouteServer;
use crate::route::{Route, RouteClient, RouteOptions};
use crate::store::{LogHealth, Store};
use crate::wire::admin as wire;
use crate::wire::admin::admin_server::AdminServer;

/// Name of the service that brokers and proxies call.
const ROUTE: &str = "bolide.route.v1.Route";

/// Runs until SIGTERM or SIGINT. `ready` is called once everything is served.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config, notes: &[String], ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    ground::run(config, Time::Real, notes, open, ready)
}

async fn open(config: Config, ground: Ground) -> Result<Running, RunError> {
    let dir = config.store.log.dir.clone();
    let port = ground.internal_port(&config)?;
    let internal_address = port.address();
    identity::claim_for_route(&*ground.files, &dir)?;
    let store = standalone::open_store(&ground, config.store.clone()).await?;
    let (clock, tasks) = (ground.clock.clone(), ground.tasks.clone());
    let mut options = RouteOptions::default();
    options.bounds.topics_max = config.broker.topics_max;
    options.bounds.groups_max = config.broker.groups_max;
    let route = Route::open(options, store.clone(), clock.clone(), tasks.clone(), ground.entropy.clone()).await?;
    let meters = ground.exporters.meters();
    let disk = standalone::disk_of(ground.files.clone(), dir.clone());
    gauges::process(&meters, &clock);
    gauges::store(&meters, &store, &clock, &disk);
    let shown = route.clone();
    members::show_view(&meters, move || shown.view(), &clock);
    let facts = Facts {
        data_dir: std::path::absolute(&dir).unwrap_or_else(|_| dir.clone()).display().to_string(),
        connections: Box::new(|| 0),
        shards: {
            let store = store.clone();
            Box::new(move || vec![gauges::shard(&store)])
        },
        disk: {
            let store = store.clone();
            Box::new(move || (gauges::shard(&store).log_bytes + store.stats().fold_disk_bytes, disk().free_bytes))
        },
        since: clock.mark(),
        clock: clock.clone(),
    };
    let seat = Seat { role: wire::Role::Route, name: members::own_name(&config).into() };
    let operators =
        OperatorService::cluster(seat, RouteClient::of(route.clone()), ground.trust.clone(), facts, tasks.clone());
    let mut routes = Routes::builder();
    routes.add_service(AdminServer::new(operators)).add_service(RouteServer::new(route.clone(), ground.trust.clone()));
    let limit = config.proxy.drain_timeout;
    let internal = Internal::serve(&ground, port.listen()?, routes.routes(), &[ADMIN, ROUTE], limit)?;
    let ready = Ready {
        internal: Some(internal_address),
        data: Some(std::path::absolute(&dir).unwrap_or(dir)),
        ..Ready::default()
    };
    let service = route.shutdown().clone();
    let ended = ground.ended.clone();
    let close = async move {
        ended.drain();
        internal.closed().await;
        route.close().await;
    };
    Ok(ground.running(ready, Box::new(move || judge(&store)), service, Box::pin(close)))
}

fn judge(store: &Store) -> Verdict {
    match store.health() {
        LogHealth::Ready => Verdict { ready: true, reason: String::new() },
        LogHealth::DiskFull { text } => Verdict { ready: true, reason: format!("not accepting changes: {text}") },
        LogHealth::Failed { text } => Verdict { ready: false, reason: text },
    }
}
