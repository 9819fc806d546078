//! All roles in one process. Order of the start: store, broker, internal port, public port.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::service::Routes;

use crate::app::gauges::{self, Disk};
use crate::app::ground::{self, Ground, Ready, RunError, Running, Time};
use crate::app::identity;
use crate::app::internal::{ADMIN, Internal};
use crate::app::keys;
use crate::app::listen::{self, ListenError};
use crate::broker::Broker;
use crate::broker::api::BrokerStatus;
use crate::config::Config;
use crate::console::Verdict;
use crate::link::Brokers;
use crate::proxy::Proxy;
use crate::proxy::operator::{Facts, OperatorService};
use crate::runtime::clock::Clock;
use crate::store::files::Files;
use crate::store::{FoldEnv, Store, StoreOptions};
use crate::wire::admin::admin_server::AdminServer;

/// Runs until SIGTERM or SIGINT. `ready` is called once everything is served.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config, time: Time, notes: &[String], ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    ground::run(config, time, notes, open, ready)
}

async fn open(config: Config, ground: Ground) -> Result<Running, RunError> {
    let dir = config.store.log.dir.clone();
    identity::check_alone(&*ground.files, &dir)?;
    let store = open_store(&ground, config.store.clone()).await?;
    let receipt_key = keys::receipt_key(&*ground.files, &dir, &ground.entropy)?;
    let certificate = keys::tls(&*ground.files, &dir, &config.tls)?;
    let meters = ground.exporters.meters();
    let (clock, tasks) = (ground.clock.clone(), ground.tasks.clone());
    let broker = Broker::open(
        config.broker.clone(),
        store,
        clock.clone(),
        tasks.clone(),
        ground.entropy.clone(),
        meters.clone(),
        receipt_key,
    )
    .await?;
    let internal = ground.internal_port(&config)?;
    let internal_address = internal.address();
    let limit = config.proxy.drain_timeout;
    let proxy_options = public_options(&config);
    let public = proxy_options.listen;
    let brokers = Brokers::here(broker.clone(), &proxy_options.broker_name);
    let proxy = Proxy::new(proxy_options, brokers, clock.clone(), tasks, meters.clone())?;
    let disk = disk_of(ground.files.clone(), dir.clone());
    gauges::process(&meters, &clock);
    gauges::proxy(&meters, &proxy);
    gauges::broker(&meters, &broker, &clock, &disk);
    let facts = facts(&broker, Some(&proxy), &clock, &dir, disk);
    let routes = Routes::new(AdminServer::new(OperatorService::new(broker.clone(), facts)));
    let internal = Internal::serve(&ground, internal.listen()?, routes, &[ADMIN], limit)?;
    let listening =
        proxy.listen(certificate).map_err(|source| ListenError { what: "client gRPC", address: public, source })?;
    let ready = Ready {
        grpc: Some(listening.local_address()),
        external: listening.external_address(),
        internal: Some(internal_address),
        http: None,
        data: Some(std::path::absolute(&dir).unwrap_or(dir)),
    };
    let service = broker.shutdown().clone();
    let judge = judge(&broker);
    let ended = ground.ended.clone();
    let close = async move {
        listening.closed().await;
        broker.close().await;
        ended.drain();
        internal.closed().await;
    };
    Ok(ground.running(ready, judge, service, Box::pin(close)))
}

/// What a broker says of itself.
pub(super) fn judge(broker: &Broker) -> crate::console::Judge {
    let broker = broker.clone();
    Box::new(move || verdict(broker.status()))
}

/// A broker that is ready and gives a reason refuses sends for it.
pub(super) fn verdict(status: BrokerStatus) -> Verdict {
    let refuses = status.ready && !status.reason.is_empty();
    let reason = if refuses { format!("not accepting sends: {}", status.reason) } else { status.reason };
    Verdict { ready: status.ready, reason }
}

/// The settings of the public ports, with what the system makes of their addresses.
pub(super) fn public_options(config: &Config) -> crate::proxy::options::ProxyOptions {
    let mut options = config.proxy.clone();
    options.listen = listen::widened(options.listen);
    options.external_listen = options.external_listen.map(listen::widened);
    options
}

/// Opens the store of one shard.
pub(super) async fn open_store(ground: &Ground, options: StoreOptions) -> Result<Store, RunError> {
    let dir = options.log.dir.clone();
    let (files, clock, tasks) = (ground.files.clone(), ground.clock.clone(), ground.tasks.clone());
    let opened = ground.tasks.blocking(move || Store::open(options, files, FoldEnv::Disk, &clock, tasks)).await;
    opened.map_err(|source| RunError::Store { dir, source })
}

/// Room on the file system of the data directory.
pub(super) fn disk_of(files: Arc<dyn Files>, dir: PathBuf) -> Arc<dyn Fn() -> Disk + Send + Sync> {
    Arc::new(move || Disk { free_bytes: files.space(&dir).map_or(0, |space| space.free_bytes) })
}

/// What operators are told beyond what the broker knows.
pub(super) fn facts(
    broker: &Broker,
    proxy: Option<&Proxy>,
    clock: &Clock,
    dir: &Path,
    disk: Arc<dyn Fn() -> Disk + Send + Sync>,
) -> Facts {
    let (of_shards, of_disk, proxy) = (broker.store().clone(), broker.store().clone(), proxy.cloned());
    Facts {
        data_dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string(),
        connections: Box::new(move || proxy.as_ref().map_or(0, Proxy::connections)),
        shards: Box::new(move || vec![gauges::shard(&of_shards)]),
        disk: Box::new(move || {
            let used = gauges::shard(&of_disk).log_bytes + of_disk.stats().fold_disk_bytes;
            (used, disk().free_bytes)
        }),
        since: clock.mark(),
        clock: clock.clone(),
    }
}
