//! What the processes of a cluster have in common: where the route service is, as whom they speak with it, what they show of it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::app::ground::RunError;
use crate::config::Config;
use crate::link::Brokers;
use crate::model::cluster::View;
use crate::observe::catalog;
use crate::observe::meters::Meters;
use crate::route::RouteClient;
use crate::runtime::clock::Clock;
use crate::runtime::process;
use crate::trust::{Trust, TrustError};

/// Where the route service is: what `cluster.route` says.
pub(super) fn route_addresses(config: &Config) -> Result<Vec<String>, RunError> {
    let given = config.cluster.route.as_deref().unwrap_or_default();
    let addresses: Vec<String> =
        given.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect();
    if addresses.is_empty() {
        return Err(RunError::NoRoute(config.role.name()));
    }
    for address in &addresses {
        check("cluster.route", address)?;
    }
    Ok(addresses)
}

fn check(key: &'static str, address: &str) -> Result<(), RunError> {
    let checked: Result<_, TrustError> = Trust::none().endpoint(address);
    checked.map(drop).map_err(|source| RunError::Address { key, source })
}

/// Where the others reach this broker: what `cluster.advertise` says, else the address of its internal port, else, where that is
/// every address of the machine, the machine's name.
pub(super) fn own_address(config: &Config, internal: SocketAddr) -> Result<String, RunError> {
    let address = match &config.cluster.advertise {
        Some(advertised) => advertised.clone(),
        None if !internal.ip().is_unspecified() => internal.to_string(),
        None => format!("{}:{}", process::host_name().unwrap_or_else(|| "localhost".to_owned()), internal.port()),
    };
    check("cluster.advertise", &address)?;
    Ok(address)
}

/// Name of a process that has none of its own, unlike that of any other.
pub(super) fn own_name(config: &Config) -> String {
    if config.observe.node_id != config.role.name() {
        return config.observe.node_id.clone();
    }
    format!("{}-{}", process::host_name().unwrap_or_else(|| config.role.name().to_owned()), process::id())
}

/// Every scrape shows what is known of the cluster.
pub(super) fn show_view(meters: &Meters, view: impl Fn() -> Arc<View> + Send + Sync + 'static, clock: &Clock) {
    let newest = parking_lot::Mutex::new((view().revision, clock.mark()));
    let clock = clock.clone();
    meters.observe_with(Box::new(move |sampler| {
        let view = view();
        let mut newest = newest.lock();
        if newest.0 != view.revision {
            *newest = (view.revision, clock.mark());
        }
        sampler.gauge(&catalog::VIEW_REVISION, &[], view.revision.0 as f64);
        sampler.gauge(&catalog::VIEW_AGE_SECONDS, &[], newest.1.elapsed().as_secs_f64());
        sampler.gauge(&catalog::TOPIC_NUMBER, &[], view.topics.len() as f64);
        sampler.gauge(&catalog::CONSUMER_GROUP_NUMBER, &[], view.groups.len() as f64);
        for state in ["alive", "away", "draining"] {
            let count = view.shards.values().filter(|shard| match state {
                "alive" => shard.alive,
                "away" => !shard.alive,
                _ => shard.draining,
            });
            sampler.gauge(&catalog::CLUSTER_SHARDS, &[state], count.count() as f64);
        }
    }));
}

/// Every scrape shows whether the route service is heard of.
pub(super) fn show_route(meters: &Meters, route: &RouteClient) {
    let route = route.clone();
    meters.observe_with(Box::new(move |sampler| {
        sampler.gauge(&catalog::ROUTE_CONNECTED, &[], if route.connected() { 1.0 } else { 0.0 });
    }));
}

/// Every scrape shows the links to the shards.
pub(super) fn show_links(meters: &Meters, brokers: &Brokers) {
    let brokers = brokers.clone();
    meters.observe_with(Box::new(move |sampler| {
        for link in brokers.links() {
            let shard = link.shard.to_string();
            sampler.gauge(&catalog::LINK_CONNECTED, &[&shard], if link.connected { 1.0 } else { 0.0 });
            sampler.gauge(&catalog::LINK_IN_FLIGHT, &[&shard], link.in_flight as f64);
        }
    }));
}
