//! What brokers, proxies and operators hold of the route service, in this process or another.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::model::cluster::{ClusterId, HolderId, Lineage, Revision, View};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{ShardId, TopicId};
use crate::model::settings::{CatalogError, GroupSpec, TopicSpec};
use crate::model::topic::Topic;
use crate::route::members::Members;
use crate::route::remote::{Connect, Connections, Remote};
use crate::route::service::Route;
use crate::route::state::{Command, Outcome};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;

/// How long a change waits until it shows in the caller's own view.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves a shard.
    Broker,
    /// Serves clients, or an operator.
    Proxy,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// What it is.
    pub role: Role,
    /// Its name; of a broker, what its shard is allotted to.
    pub name: String,
    /// `host:port` of its internal port; empty for a proxy.
    pub address: String,
    /// Of its program, `MAJOR.MINOR` and more.
    pub version: String,
    /// Of a broker: its data directory; `None` of a program that does not tell.
    pub holder: Option<HolderId>,
}

/// Where the route service is, and who asks.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// `host:port`, tried in turn.
    pub addresses: Vec<String>,
    /// This member.
    pub me: Me,
    /// Which cluster it has followed in an earlier life of its own, and how far, if it remembers.
    pub known: Option<(ClusterId, Lineage)>,
}

/// What a broker is told at its registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its shard, for ever.
    pub shard: ShardId,
    /// The cluster.
    pub cluster: ClusterId,
}

/// Why something was not done.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RouteError {
    /// Refused, in words.
    #[error(transparent)]
    Refused(#[from] CatalogError),
    /// The route service cannot be reached, or did not answer in time: then it may have been done.
    #[error("the route service is away: {0}")]
    Away(String),
}

impl RouteError {
    fn of_catalog(self) -> CatalogError {
        match self {
            Self::Refused(error) => error,
            Self::Away(words) => {
                tracing::warn!(words, "the catalogue cannot be changed now");
                CatalogError::Overloaded
            }
        }
    }
}

/// Cheap handle.
#[derive(Clone, Debug)]
pub struct RouteClient {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Here(Route, Option<Arc<Me>>),
    Far(Remote),
}

impl RouteClient {
    /// Joins the cluster, and stays in it until the last handle is dropped or [`RouteClient::goodbye`].
    #[must_use]
    pub fn start(options: RemoteOptions, trust: Trust, clock: Clock, tasks: Tasks, entropy: Entropy) -> Self {
        let dial = trust.clone();
        let connect: Connect = Arc::new(move |address: String| {
            let endpoint = dial.endpoint(&address);
            Box::pin(async move {
                let endpoint = endpoint.map_err(|error| error.to_string())?;
                endpoint.connect().await.map_err(|error| words(&error))
            })
        });
        Self::start_over(options, connect, trust, clock, tasks, entropy)
    }

    /// Like [`RouteClient::start`], with connections of another kind.
    #[must_use]
    pub fn start_over(
        options: RemoteOptions,
        connect: Connect,
        trust: Trust,
        clock: Clock,
        tasks: Tasks,
        entropy: Entropy,
    ) -> Self {
        Self { form: Form::Far(Remote::start(options, connect, trust, clock, tasks, entropy)) }
    }

    /// Over a route service in this process.
    #[must_use]
    pub fn of(route: Route) -> Self {
        Self { form: Form::Here(route, None) }
    }

    /// Over a route service in this process, with a name of its own to register. Its lease is not renewed.
    #[must_use]
    pub fn of_member(route: Route, me: Me) -> Self {
        Self { form: Form::Here(route, Some(Arc::new(me))) }
    }

    /// What is known; empty before anything was heard.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        match &self.form {
            Form::Here(route, _) => route.view(),
            Form::Far(remote) => remote.view(),
        }
    }

    /// Told of each revision; the view is there before.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<Revision> {
        match &self.form {
            Form::Here(route, _) => route.changed(),
            Form::Far(remote) => remote.changed(),
        }
    }

    /// Waits until the view is at `revision` or later; `false` when it was not in time.
    pub async fn reached(&self, revision: Revision, limit: Duration) -> bool {
        let mut changed = self.changed();
        tokio::select! {
            biased;
            seen = changed.wait_for(|seen| *seen >= revision) => seen.is_ok(),
            () = self.clock().sleep(limit) => false,
        }
    }

    /// The first view that is not empty; waits for it without a bound.
    pub async fn first_view(&self) -> Arc<View> {
        // An error: no view will come any more, and whoever waits is being dropped, too.
        let _ = self.changed().wait_for(|seen| *seen > Revision(0)).await;
        self.view()
    }

    /// Whether the route service is heard now.
    #[must_use]
    pub fn connected(&self) -> bool {
        match &self.form {
            Form::Here(..) => true,
            Form::Far(remote) => remote.connected(),
        }
    }

    /// Who listens to the route service, and how far moves are.
    ///
    /// # Errors
    /// The route service is away, or older than this question.
    pub async fn members(&self) -> Result<Members, RouteError> {
        match &self.form {
            Form::Here(route, _) => Ok(route.members()),
            Form::Far(remote) => remote.members().await,
        }
    }

    /// Waits until the route service refuses this broker because its name belongs to another data directory, and says so in its
    /// words. Never, as long as it does not.
    pub async fn held(&self) -> String {
        match &self.form {
            Form::Here(..) => std::future::pending().await,
            Form::Far(remote) => remote.held().await,
        }
    }

    /// From now on this member tells how many connections of clients it has.
    pub fn tell_connections(&self, connections: Connections) {
        if let Form::Far(remote) = &self.form {
            remote.tell_connections(connections);
        }
    }

    /// Leaves the cluster in order: others need not wait for the lease to end.
    pub async fn goodbye(&self) {
        if let Form::Far(remote) = &self.form {
            remote.goodbye().await;
        }
    }

    fn clock(&self) -> &Clock {
        match &self.form {
            Form::Here(route, _) => &route.inner.clock,
            Form::Far(remote) => remote.clock(),
        }
    }

    async fn change(&self, command: Command) -> Result<(Outcome, Revision), RouteError> {
        let done = match &self.form {
            Form::Here(route, _) => match command {
                Command::RotateKey(_) => (Outcome::Done, route.rotate_key().await?),
                command => route.execute(command).await?,
            },
            Form::Far(remote) => remote.change(command).await?,
        };
        self.reached(done.1, SHOWN_WITHIN).await;
        Ok(done)
    }

    /// Registers this broker. May be repeated.
    ///
    /// # Errors
    /// Refused, or the route service is away.
    pub async fn register(&self) -> Result<Registered, RouteError> {
        let me = match &self.form {
            Form::Here(_, me) => me.clone(),
            Form::Far(remote) => Some(remote.me()),
        };
        let Some(me) = me.filter(|me| me.role == Role::Broker) else {
            return Err(CatalogError::Invalid("only a broker registers".to_owned()).into());
        };
        let Me { name, address, version, holder, .. } = Me::clone(&me);
        match self.change(Command::Register { name, address, version, holder }).await?.0 {
            Outcome::Registered(shard, cluster) => Ok(Registered { shard, cluster }),
            _ => Err(strange()),
        }
    }

    async fn topic_change(&self, command: Command) -> Result<(Arc<Topic>, Revision), CatalogError> {
        match self.change(command).await.map_err(RouteError::of_catalog)? {
            (Outcome::Topic(topic), revision) => Ok((topic, revision)),
            _ => Err(strange().of_catalog()),
        }
    }

    async fn group_change(&self, command: Command) -> Result<(Arc<Group>, Revision), CatalogError> {
        match self.change(command).await.map_err(RouteError::of_catalog)? {
            (Outcome::Group(group), revision) => Ok((group, revision)),
            _ => Err(strange().of_catalog()),
        }
    }

    async fn plain_change(&self, command: Command) -> Result<Revision, RouteError> {
        self.change(command).await.map(|(_, revision)| revision)
    }

    /// Creates a topic. Creating what exists with the same settings is fine.
    ///
    /// # Errors
    /// See [`CatalogError`]; `Overloaded` also when the route service is away.
    pub async fn create_topic(&self, name: TopicName, spec: TopicSpec) -> Result<(Arc<Topic>, Revision), CatalogError> {
        self.topic_change(Command::CreateTopic(name, spec)).await
    }

    /// Changes settings of a topic.
    ///
    /// # Errors
    /// As [`RouteClient::create_topic`].
    pub async fn update_topic(
        &self,
        name: &TopicName,
        spec: TopicSpec,
    ) -> Result<(Arc<Topic>, Revision), CatalogError> {
        self.topic_change(Command::UpdateTopic(name.clone(), spec)).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// As [`RouteClient::create_topic`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<Revision, CatalogError> {
        self.plain_change(Command::DeleteTopic(name.clone())).await.map_err(RouteError::of_catalog)
    }

    /// Creates a group. Creating what exists with the same settings is fine.
    ///
    /// # Errors
    /// As [`RouteClient::create_topic`].
    pub async fn create_group(&self, name: GroupName, spec: GroupSpec) -> Result<(Arc<Group>, Revision), CatalogError> {
        self.group_change(Command::CreateGroup(name, spec)).await
    }

    /// Changes settings of a group.
    ///
    /// # Errors
    /// As [`RouteClient::create_topic`].
    pub async fn update_group(
        &self,
        name: &GroupName,
        spec: GroupSpec,
    ) -> Result<(Arc<Group>, Revision), CatalogError> {
        self.group_change(Command::UpdateGroup(name.clone(), spec)).await
    }

    /// Deletes a group.
    ///
    /// # Errors
    /// As [`RouteClient::create_topic`].
    pub async fn delete_group(&self, name: &GroupName) -> Result<Revision, CatalogError> {
        self.plain_change(Command::DeleteGroup(name.clone())).await.map_err(RouteError::of_catalog)
    }

    /// Moves a topic to all active shards. While a move is under way: gives it up if a shard that has not sealed is away, or if
    /// the topic already is where it should be; otherwise leaves it alone.
    ///
    /// # Errors
    /// As [`RouteClient::create_topic`].
    pub async fn rebalance(&self, name: &TopicName) -> Result<Revision, CatalogError> {
        self.plain_change(Command::Rebalance(name.clone())).await.map_err(RouteError::of_catalog)
    }

    /// A shard has sealed a topic under a generation. May be repeated.
    ///
    /// # Errors
    /// Refused, or the route service is away.
    pub async fn sealed(&self, topic: TopicId, generation: u32, shard: ShardId) -> Result<(), RouteError> {
        self.plain_change(Command::Sealed(topic, generation, shard)).await.map(drop)
    }

    /// All groups of a shard are done with what lies below the fence of a generation. May be repeated.
    ///
    /// # Errors
    /// Refused, or the route service is away.
    pub async fn drained(&self, topic: TopicId, generation: u32, shard: ShardId) -> Result<(), RouteError> {
        self.plain_change(Command::Drained(topic, generation, shard)).await.map(drop)
    }

    /// Empties a shard, or lets it take messages again. It is empty when [`is_empty`](super::is_empty) says so.
    ///
    /// # Errors
    /// Refused, or the route service is away.
    pub async fn drain(&self, shard: ShardId, draining: bool) -> Result<Revision, RouteError> {
        self.plain_change(Command::Drain(shard, draining)).await
    }

    /// Gives up what lies on a broker that is away: another data directory may take its name.
    ///
    /// # Errors
    /// Refused, as for a live broker, or the route service is away.
    pub async fn forget(&self, broker: &str) -> Result<Revision, RouteError> {
        self.plain_change(Command::Forget(broker.to_owned())).await
    }

    /// Makes another key for receipt handles; those before it stay for opening.
    ///
    /// # Errors
    /// Refused, or the route service is away.
    pub async fn rotate_key(&self) -> Result<Revision, RouteError> {
        // The key is made by the service; it never travels in this direction.
        self.plain_change(Command::RotateKey([0; 32])).await
    }
}

fn strange() -> RouteError {
    RouteError::Away("it gave an answer that does not belong to the question".to_owned())
}

/// An error and its causes: tonic's own words are only "transport error".
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
