//! A broker: one shard of the messages. Its place in the cluster comes from the route service at its first start and stays in
//! the data directory, with all else that is needed to serve while the route service is away.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::service::Routes;

use crate::app::ground::{self, Ground, Ready, RunError, Running, Time};
use crate::app::identity::{self, Place};
use crate::app::internal::{ADMIN, Internal};
use crate::app::{gauges, members, standalone};
use crate::broker::Broker;
use crate::broker::api::{ApplyError, Authority, CatalogError, ClusterSetup, GroupSpec, TopicSpec};
use crate::config::Config;
use crate::console::Verdict;
use crate::link::FarPeers;
use crate::link::hello::{self, Hello};
use crate::link::server::BrokerServer;
use crate::model::cluster::{Lineage, ReceiptKey, Revision, View};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::ShardId;
use crate::proxy::operator::{OperatorService, Seat};
use crate::route::{Me, RemoteOptions, Role, RouteClient, RouteError};
use crate::runtime::clock::Clock;
use crate::wire::admin as wire;
use crate::wire::admin::admin_server::AdminServer;

/// Name of the service that proxies call.
const BROKER: &str = "bolide.broker.v1.BrokerService";
/// How long a broker that has a place already waits for the route service to confirm it.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// Time for the last answers over links, once long polls have ended: as long as a slow disk takes.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often it is looked whether groups are done with what topics left here.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Pause before what was refused or not answered is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs until SIGTERM or SIGINT. `ready` is called once everything is served.
///
/// # Errors
/// See [`RunError`].
pub fn run(config: Config, notes: &[String], ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    ground::run(config, Time::Real, notes, open, ready)
}

async fn open(config: Config, ground: Ground) -> Result<Running, RunError> {
    let addresses = members::route_addresses(&config)?;
    let dir = config.store.log.dir.clone();
    let name = config.proxy.broker_name.clone();
    let known = identity::place_of(&*ground.files, &dir, &name)?;
    let port = ground.internal_port(&config)?;
    let internal_address = port.address();
    let (clock, tasks, meters) = (ground.clock.clone(), ground.tasks.clone(), ground.exporters.meters());
    let me = Me {
        role: Role::Broker,
        name: name.clone(),
        address: members::own_address(&config, internal_address)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        holder: Some(identity::holder(&*ground.files, &dir, &ground.entropy)?),
    };
    let where_route_is = addresses.join(", ");
    let followed = identity::followed(&*ground.files, &dir)?;
    let of_cluster = known.as_ref().map(|place| place.cluster);
    let route = RouteClient::start(
        RemoteOptions { addresses, me, known: of_cluster.zip(followed) },
        ground.trust.clone(),
        clock.clone(),
        tasks.clone(),
        ground.entropy.clone(),
    );
    let registry = Registry { ground: ground.clone(), route: route.clone(), dir: dir.clone(), name: name.clone() };
    let place = registry.place(known, &where_route_is).await?;
    drop(tasks.spawn_background(end_when_held(route.clone(), ground.clone())));
    ground.readiness.now_doing("opening the data");
    let mut store_options = config.store.clone();
    store_options.log.shard = place.shard;
    let store = standalone::open_store(&ground, store_options).await?;
    let keys = identity::receipt_keys(&*ground.files, &dir)?;
    let has_keys = Arc::new(AtomicBool::new(!keys.is_empty()));
    let who = Hello {
        cluster: Some(place.cluster),
        instance: ground.entropy.next_u64(),
        ..Hello::of(hello::Role::Broker, &name)
    };
    let peers = FarPeers::new(route.clone(), ground.trust.clone(), who.clone(), clock.clone(), tasks.clone());
    let setup = ClusterSetup {
        cluster: place.cluster,
        receipt_keys: keys.clone(),
        authority: Arc::new(ByRoute(route.clone())),
        peers: Arc::new(peers),
    };
    let broker = Broker::open(
        config.broker.clone(),
        store,
        clock.clone(),
        tasks.clone(),
        ground.entropy.clone(),
        meters.clone(),
        setup,
    )
    .await?;
    let follower = Follower {
        ground: ground.clone(),
        route: route.clone(),
        broker: broker.clone(),
        dir: dir.clone(),
        keys,
        followed,
        has_complained: false,
    };
    drop(tasks.spawn_background(follower.run(has_keys.clone())));
    drop(tasks.spawn_background(report_moves(broker.clone(), route.clone(), place.shard, clock.clone())));
    let disk = standalone::disk_of(ground.files.clone(), dir.clone());
    gauges::process(&meters, &clock);
    gauges::broker(&meters, &broker, &clock, &disk);
    members::show_route(&meters, &route);
    let facts = standalone::facts(&broker, None, &clock, &dir, disk);
    let applied = broker.clone();
    let seat = Seat { role: wire::Role::Broker, name: name.as_str().into() };
    let operators = OperatorService::broker(seat, broker.clone(), Arc::new(move || applied.applied()), facts);
    let mut routes = Routes::builder();
    let server = BrokerServer::new(broker.clone(), &name, ground.trust.clone(), clock.clone(), tasks.clone());
    routes.add_service(AdminServer::new(operators)).add_service(server.introduced_as(who).on_the_spot().into_service());
    let limit = config.proxy.drain_timeout;
    let internal = Internal::serve(&ground, port.listen()?, routes.routes(), &[ADMIN, BROKER], limit)?;
    tracing::info!(broker = %name, shard = %place.shard, cluster = %place.cluster, "this broker has its place");
    let ready = Ready {
        internal: Some(internal_address),
        data: Some(std::path::absolute(&dir).unwrap_or(dir)),
        ..Ready::default()
    };
    let service = broker.shutdown().clone();
    let ended = ground.ended.clone();
    let judged = broker.clone();
    let judge = move || {
        if !has_keys.load(Ordering::Relaxed) {
            let reason = format!("starting: waiting for what the route service at {where_route_is} knows");
            return Verdict { ready: false, reason };
        }
        standalone::verdict(judged.status())
    };
    let close = async move {
        // Proxies turn to others now, not when the lease ends.
        route.goodbye().await;
        ended.drain();
        // Links are never closed by their callers. What is under way is answered soon, as polls have ended; then they are cut.
        clock.sleep(LAST_ANSWERS.min(limit)).await;
        broker.close().await;
        internal.closed().await;
    };
    Ok(ground.running(ready, Box::new(judge), service, Box::pin(close)))
}

/// Asks the route service for the broker's place.
#[derive(Clone)]
struct Registry {
    ground: Ground,
    route: RouteClient,
    dir: PathBuf,
    name: String,
}

impl Registry {
    /// The place of this broker: the one it has, confirmed now or later; or the one that the route service gives it, however long
    /// that takes.
    async fn place(self, known: Option<Place>, where_route_is: &str) -> Result<Place, RunError> {
        self.ground.readiness.now_doing(format!("waiting for the route service at {where_route_is}"));
        let clock = self.ground.clock.clone();
        let Some(known) = known else { return self.registered(where_route_is).await };
        tokio::select! {
            biased;
            registered = self.registered(where_route_is) => registered,
            () = clock.sleep(CONFIRM_WITHIN) => {
                let tasks = self.ground.tasks.clone();
                let words = where_route_is.to_owned();
                let later = self.clone();
                drop(tasks.spawn_background(async move {
                    if let Err(error) = later.registered(&words).await {
                        later.ground.give_up(error.to_string());
                    }
                }));
                tracing::warn!("the route service does not answer; this broker serves with what it knew before");
                Ok(known)
            }
        }
    }

    async fn registered(&self, where_route_is: &str) -> Result<Place, RunError> {
        let mut said = String::new();
        loop {
            match self.route.register().await {
                Ok(registered) => {
                    let place = Place { cluster: registered.cluster, shard: registered.shard };
                    identity::settle(&*self.ground.files, &self.dir, &self.name, &place)?;
                    return Ok(place);
                }
                // Whatever it served from here would be without the messages that were stored under its name.
                Err(RouteError::Refused(CatalogError::Held(words))) => return Err(RunError::GivenUp(words)),
                Err(error) => {
                    let words = error.to_string();
                    if words != said {
                        tracing::warn!(at = where_route_is, reason = %words, "waiting for the route service");
                        said = words;
                    }
                    self.ground.clock.sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Ends the process when its name has gone to another data directory, as when it was given up for lost and came back.
async fn end_when_held(route: RouteClient, ground: Ground) {
    let words = route.held().await;
    ground.give_up(words);
}

/// Tells the route service what this shard has sealed and what nobody needs here any more, until it has heard it.
async fn report_moves(broker: Broker, route: RouteClient, shard: ShardId, clock: Clock) {
    let shutdown = broker.shutdown().clone();
    loop {
        for (topic, generation) in broker.sealed().await {
            if let Err(error) = route.sealed(topic, generation, shard).await {
                tracing::debug!(%error, %topic, generation, "a sealed topic is reported again");
            }
        }
        for (topic, generation) in broker.drained().await {
            if let Err(error) = route.drained(topic, generation, shard).await {
                tracing::debug!(%error, %topic, generation, "a topic that was left is reported again");
            }
        }
        tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            () = broker.view_taken() => {}
            () = clock.sleep(REPORT_EVERY) => {}
        }
    }
}

/// Takes over what the route service tells.
struct Follower {
    ground: Ground,
    route: RouteClient,
    broker: Broker,
    dir: PathBuf,
    keys: Vec<ReceiptKey>,
    /// How far the data directory says that the route service was followed.
    followed: Option<Lineage>,
    has_complained: bool,
}

impl Follower {
    async fn run(mut self, has_keys: Arc<AtomicBool>) {
        let mut changed = self.route.changed();
        let shutdown = self.broker.shutdown().clone();
        tokio::select! {
            biased;
            () = shutdown.stopping() => return,
            _ = self.route.first_view() => {}
        }
        loop {
            changed.borrow_and_update();
            if self.take_over(&has_keys).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = shutdown.stopping() => return,
                changed = changed.changed() => if changed.is_err() { return },
            }
        }
    }

    /// `Err`: it makes no sense to go on.
    async fn take_over(&mut self, has_keys: &AtomicBool) -> Result<(), ()> {
        let mut said = false;
        loop {
            let view = self.route.view();
            // Before the keys: what another cluster says, or one that has forgotten, must not take the place of our own.
            let applied = match self.broker.check_source(&view) {
                Err(error) => Err(error),
                // Written down before they are used: a handle must open after a restart, whoever is away then.
                Ok(()) => match self.keep(&view).await {
                    Ok(()) => self.broker.apply(&view).await,
                    Err(()) => Err(ApplyError::Overloaded),
                },
            };
            match applied {
                Ok(()) => {
                    has_keys.store(!view.receipt_keys.is_empty(), Ordering::Relaxed);
                    return Ok(());
                }
                Err(ApplyError::Overloaded) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(revision = %view.revision, "the state of the cluster cannot be taken over yet");
                    }
                    self.ground.clock.sleep(PAUSE).await;
                }
                // It serves on with what it knows: whatever is right for people to do, stopping here would only add to the loss.
                Err(error @ ApplyError::Forgotten(_)) => {
                    if !std::mem::replace(&mut self.has_complained, true) {
                        tracing::error!(%error, "the state of the cluster is not taken over any more");
                    }
                    return Ok(());
                }
                // The broker has said so, and is not ready any more.
                Err(ApplyError::ShardFailed) => return Err(()),
                Err(error @ (ApplyError::Foreign { .. } | ApplyError::NotEmpty | ApplyError::Alone)) => {
                    self.ground.give_up(error.to_string());
                    return Err(());
                }
            }
        }
    }

    /// Writes down what must be known in a later life: the keys, and how far the route service was followed.
    async fn keep(&mut self, view: &View) -> Result<(), ()> {
        if let Some(followed) = view.lineage.filter(|_| view.lineage != self.followed) {
            let (files, dir) = (self.ground.files.clone(), self.dir.clone());
            let kept = self.ground.tasks.blocking(move || identity::keep_followed(&*files, &dir, followed)).await;
            if let Err(error) = kept {
                tracing::error!(%error, "it cannot be noted how far the route service was followed");
                return Err(());
            }
            self.followed = Some(followed);
        }
        let keys = view.receipt_keys.as_slice();
        if keys == self.keys {
            return Ok(());
        }
        let (files, dir, written) = (self.ground.files.clone(), self.dir.clone(), keys.to_vec());
        let kept = self.ground.tasks.blocking(move || identity::keep_receipt_keys(&*files, &dir, &written)).await;
        match kept {
            Ok(()) => {
                self.keys = keys.to_vec();
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the keys of receipt handles cannot be kept");
                Err(())
            }
        }
    }
}

/// What a broker needs to come into being is made by the route service.
struct ByRoute(RouteClient);

impl Authority for ByRoute {
    fn create_group(&self, name: GroupName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(async move {
            match self.0.create_group(name, GroupSpec::default()).await {
                Ok((_, revision)) => Ok(revision),
                // It exists, with settings of its own: as good.
                Err(CatalogError::Differs { .. }) => Ok(self.0.view().revision),
                Err(error) => Err(error),
            }
        })
    }

    fn create_dead_letter_topic(&self, name: TopicName) -> BoxFuture<'_, Result<Revision, CatalogError>> {
        Box::pin(async move {
            let spec = TopicSpec { queues: Some(1), ..TopicSpec::default() };
            match self.0.create_topic(name, spec).await {
                Ok((_, revision)) => Ok(revision),
                Err(CatalogError::Differs { .. }) => Ok(self.0.view().revision),
                Err(error) => Err(error),
            }
        })
    }
}
