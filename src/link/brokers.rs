//! The broker verbs as a proxy calls them. In one process they are direct calls, in a cluster the [`Cluster`] finds the shard.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::broker::api::{
    AckOutcome, BrokerStatus, ChangeOutcome, Check, ClientId, LiteError, LiteEviction, LiteSync, OffsetError, Publish,
    PublishError, Published, Pull, Pulled, QueueBoundary, RecallError, Receive, ReceiveError, Resolution, SettleError,
    TopicToCheck, TransactionError,
};
use crate::broker::{Broker, TelemetryGuard};
use crate::link::cluster::LinkState;
use crate::link::cluster::{ClientGuard, Cluster, ClusterOptions, patience_of};
use crate::link::delivery::Delivery;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset, ShardId};
use crate::model::topic::Topic;
use crate::route::RouteClient;
use crate::runtime::clock::Clock;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;

/// Cheap handle of everything that serves messages, wherever it runs.
#[derive(Clone, Debug)]
pub struct Brokers {
    form: Form,
    /// How long a call waits for brokers that are away.
    patience: Duration,
}

#[derive(Clone, Debug)]
enum Form {
    Here { broker: Broker, name: Arc<str> },
    Cluster(Cluster),
}

/// A client counts as live while this exists.
#[derive(Debug)]
pub struct AliveGuard {
    _here: Option<TelemetryGuard>,
    _cluster: Option<ClientGuard>,
}

/// A check that is due, and who is to be asked for leave to hand it over.
#[derive(Debug)]
pub struct DueCheck {
    check: Check,
    shard: Option<ShardId>,
}

impl std::ops::Deref for DueCheck {
    type Target = Check;

    fn deref(&self) -> &Check {
        &self.check
    }
}

/// Clients that are to be told that they lost a lite topic, because of what another process was told.
#[derive(Debug)]
pub struct Evictions {
    receiver: Option<broadcast::Receiver<LiteEviction>>,
}

impl Evictions {
    /// The next one; never, where there are none.
    pub async fn next(&mut self) -> LiteEviction {
        while let Some(receiver) = &mut self.receiver {
            match receiver.recv().await {
                Ok(eviction) => return eviction,
                // Who is not told finds out at its next sync.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => self.receiver = None,
            }
        }
        std::future::pending().await
    }
}

impl Brokers {
    /// One broker in this process, under the name that routes give it.
    #[must_use]
    pub fn here(broker: Broker, name: &str) -> Self {
        Self { form: Form::Here { broker, name: name.into() }, patience: patience_of(None) }
    }

    /// The brokers of a cluster, as the route service knows them.
    #[must_use]
    pub fn cluster(
        route: RouteClient,
        trust: Trust,
        options: ClusterOptions,
        shutdown: Shutdown,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        let cluster = Cluster::start(route, trust, options, shutdown, clock, tasks);
        Self { form: Form::Cluster(cluster), patience: patience_of(None) }
    }

    /// The same for a call whose client waits so long; 3 s when it does not say.
    #[must_use]
    pub fn within(&self, time_limit: Option<Duration>) -> Self {
        Self { form: self.form.clone(), patience: patience_of(time_limit) }
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        match &self.form {
            Form::Here { broker, .. } => broker.topic(name),
            Form::Cluster(cluster) => cluster.topic(name),
        }
    }

    /// A group as it is, or as it would be created at its first use; `None` when it would not be.
    #[must_use]
    pub fn group_or_default(&self, name: &GroupName) -> Option<Group> {
        match &self.form {
            Form::Here { broker, .. } => broker.group_or_default(name),
            Form::Cluster(cluster) => cluster.group_or_default(name),
        }
    }

    /// Names of the brokers that have the queues of a topic, in an order that does not change by itself.
    #[must_use]
    pub fn homes(&self, topic: &Topic) -> Vec<Arc<str>> {
        match &self.form {
            Form::Here { name, .. } => vec![name.clone()],
            Form::Cluster(cluster) => cluster.homes(topic),
        }
    }

    /// A client was heard of. `slow_heartbeat`: of a kind that heartbeats every 30 s only.
    pub fn client_seen(&self, client: &ClientId, slow_heartbeat: bool) {
        match &self.form {
            Form::Here { broker, .. } => broker.client_seen(client, slow_heartbeat),
            Form::Cluster(cluster) => cluster.client_seen(client, slow_heartbeat),
        }
    }

    /// A client opened a telemetry stream; it counts as live while the guard exists.
    #[must_use]
    pub fn telemetry_opened(&self, client: &ClientId) -> AliveGuard {
        match &self.form {
            Form::Here { broker, .. } => AliveGuard { _here: Some(broker.telemetry_opened(client)), _cluster: None },
            Form::Cluster(cluster) => AliveGuard { _here: None, _cluster: Some(cluster.client_opened(client)) },
        }
    }

    /// A client said good-bye: what it holds by auto-renewal returns at once.
    pub async fn client_terminated(&self, client: &ClientId) {
        match &self.form {
            Form::Here { broker, .. } => broker.client_terminated(client).await,
            Form::Cluster(cluster) => cluster.client_terminated(client).await,
        }
    }

    /// State in numbers.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        match &self.form {
            Form::Here { broker, .. } => broker.status(),
            Form::Cluster(cluster) => cluster.status(),
        }
    }

    /// The connections to the shards; none where the broker is in this process.
    #[must_use]
    pub fn links(&self) -> Vec<LinkState> {
        match &self.form {
            Form::Here { .. } => Vec::new(),
            Form::Cluster(cluster) => cluster.links(),
        }
    }

    /// Drain and stop, of whoever serves clients here.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        match &self.form {
            Form::Here { broker, .. } => broker.shutdown(),
            Form::Cluster(cluster) => cluster.shutdown(),
        }
    }

    /// Stores messages of one topic.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, publish: Publish) -> Result<Vec<Published>, PublishError> {
        match &self.form {
            Form::Here { broker, .. } => broker.publish(publish).await,
            Form::Cluster(cluster) => cluster.publish(publish, self.patience).await,
        }
    }

    /// Waits for messages up to `receive.wait`, wherever there are some. An empty delivery means that nothing was deliverable all
    /// that time, or that this process drains.
    ///
    /// # Errors
    /// See [`ReceiveError`]; nothing was delivered.
    pub async fn receive(&self, receive: Receive) -> Result<Delivery, ReceiveError> {
        match &self.form {
            Form::Here { broker, .. } => broker.receive(receive).await.map(Delivery::from),
            Form::Cluster(cluster) => cluster.receive(receive).await,
        }
    }

    /// Acknowledges deliveries, one outcome each, in order.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn ack(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handles: &[String],
    ) -> Result<Vec<AckOutcome>, SettleError> {
        match &self.form {
            Form::Here { broker, .. } => broker.ack(group, topic, handles).await,
            Form::Cluster(cluster) => cluster.ack(group, topic, handles, self.patience).await,
        }
    }

    /// Keeps a delivery with its client for `duration` from now, or puts it back at once with zero.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn change_invisible(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
    ) -> Result<ChangeOutcome, SettleError> {
        match &self.form {
            Form::Here { broker, .. } => broker.change_invisible(group, topic, handle, duration).await,
            Form::Cluster(cluster) => cluster.change_invisible(group, topic, handle, duration, self.patience).await,
        }
    }

    /// Puts a delivery of a lite topic back for `duration` without counting an attempt.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn suspend(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
    ) -> Result<ChangeOutcome, SettleError> {
        match &self.form {
            Form::Here { broker, .. } => broker.suspend(group, topic, handle, duration).await,
            Form::Cluster(cluster) => cluster.suspend(group, topic, handle, duration, self.patience).await,
        }
    }

    /// Moves a delivery to the group's dead-letter topic.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn to_dead_letter(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
    ) -> Result<AckOutcome, SettleError> {
        match &self.form {
            Form::Here { broker, .. } => broker.to_dead_letter(group, topic, handle).await,
            Form::Cluster(cluster) => cluster.to_dead_letter(group, topic, handle, self.patience).await,
        }
    }

    /// A different, never empty text for a handle: the same delivery if it is one of ours.
    #[must_use]
    pub fn another_text(&self, handle: &str) -> String {
        match &self.form {
            Form::Here { broker, .. } => broker.another_text(handle),
            Form::Cluster(cluster) => cluster.another_text(handle),
        }
    }

    /// Takes a delayed message back.
    ///
    /// # Errors
    /// See [`RecallError`].
    pub async fn recall(&self, topic: &TopicName, handle: &str) -> Result<String, RecallError> {
        match &self.form {
            Form::Here { broker, .. } => broker.recall(topic, handle).await,
            Form::Cluster(cluster) => cluster.recall(topic, handle, self.patience).await,
        }
    }

    /// Ends a transaction.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn end_transaction(
        &self,
        topic: &TopicName,
        id: &str,
        resolution: Resolution,
    ) -> Result<(), TransactionError> {
        match &self.form {
            Form::Here { broker, .. } => broker.end_transaction(topic, id, resolution).await,
            Form::Cluster(cluster) => cluster.end_transaction(topic, id, resolution, self.patience).await,
        }
    }

    /// Whether a transaction is undecided.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn look_at_transaction(&self, topic: &TopicName, id: &str) -> Result<(), TransactionError> {
        match &self.form {
            Form::Here { broker, .. } => broker.look_at_transaction(topic, id).await,
            Form::Cluster(cluster) => cluster.look_at_transaction(topic, id, self.patience).await,
        }
    }

    /// Topics with transactions whose producers are to be asked now, and some of those producers.
    pub async fn topics_to_check(&self) -> Vec<TopicToCheck> {
        match &self.form {
            Form::Here { broker, .. } => broker.topics_to_check(),
            Form::Cluster(cluster) => cluster.topics_to_check().await,
        }
    }

    /// Some of what is to be asked now about a topic, at most `max` and at most `bytes_max` bytes of messages. `producers`: clients that can be
    /// asked here; what another process can ask better is left to it for a while. Each must be handed over.
    pub async fn due_checks(
        &self,
        topic: &TopicName,
        producers: &[ClientId],
        max: usize,
        bytes_max: usize,
    ) -> Vec<DueCheck> {
        match &self.form {
            Form::Here { broker, .. } => {
                let due = broker.due_checks(topic, max, bytes_max).await;
                due.into_iter().map(|check| DueCheck { check, shard: None }).collect()
            }
            Form::Cluster(cluster) => {
                let due = cluster.due_checks(topic, producers, max, bytes_max).await;
                due.into_iter().map(|(shard, check)| DueCheck { check, shard: Some(shard) }).collect()
            }
        }
    }

    /// Hands a check to a producer, if it is still to be asked; counts it if `hand_over` says that it went out.
    pub async fn hand_over_check(&self, due: &DueCheck, hand_over: impl FnOnce() -> bool + Send) -> bool {
        match (&self.form, due.shard) {
            (Form::Here { broker, .. }, _) => broker.hand_over_check(&due.check, hand_over),
            (Form::Cluster(cluster), Some(shard)) => cluster.hand_over_check(shard, &due.check, hand_over).await,
            // Taken while this was another handle; it comes again by itself.
            (Form::Cluster(_), None) => false,
        }
    }

    /// A check that nobody could take; it comes again.
    pub async fn leave_check(&self, due: &DueCheck) {
        match (&self.form, due.shard) {
            (Form::Here { broker, .. }, _) => drop(broker.hand_over_check(&due.check, || false)),
            (Form::Cluster(cluster), Some(shard)) => cluster.leave_check(shard, &due.check).await,
            (Form::Cluster(_), None) => {}
        }
    }

    /// Messages of one queue; `home` is the name of its broker.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn pull(&self, home: Option<&str>, pull: Pull) -> Result<Pulled, OffsetError> {
        match &self.form {
            Form::Here { broker, .. } => broker.pull(pull).await,
            Form::Cluster(cluster) => cluster.pull(home, pull, self.patience).await,
        }
    }

    /// A place in a queue.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn queue_boundary(
        &self,
        home: Option<&str>,
        topic: &TopicName,
        queue: QueueId,
        which: QueueBoundary,
    ) -> Result<QueueOffset, OffsetError> {
        match &self.form {
            Form::Here { broker, .. } => broker.queue_boundary(topic, queue, which).await,
            Form::Cluster(cluster) => cluster.queue_boundary(home, topic, queue, which, self.patience).await,
        }
    }

    /// Where a group stands in a queue.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn offset(
        &self,
        home: Option<&str>,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
    ) -> Result<QueueOffset, OffsetError> {
        match &self.form {
            Form::Here { broker, .. } => broker.offset(group, topic, queue).await,
            Form::Cluster(cluster) => cluster.offset(home, group, topic, queue, self.patience).await,
        }
    }

    /// Moves a group in a queue.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn update_offset(
        &self,
        home: Option<&str>,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<(), OffsetError> {
        match &self.form {
            Form::Here { broker, .. } => broker.update_offset(group, topic, queue, offset).await,
            Form::Cluster(cluster) => cluster.update_offset(home, group, topic, (queue, offset), self.patience).await,
        }
    }

    /// Changes what a client subscribes to; who lost a lite topic by it is to be told.
    ///
    /// # Errors
    /// See [`LiteError`].
    pub async fn sync_lite(&self, sync: LiteSync) -> Result<Vec<LiteEviction>, LiteError> {
        match &self.form {
            Form::Here { broker, .. } => broker.sync_lite(sync).await,
            Form::Cluster(cluster) => cluster.sync_lite(sync, self.patience).await,
        }
    }

    /// Clients that lost a lite topic because of what another process was told, from now on.
    #[must_use]
    pub fn evictions(&self) -> Evictions {
        match &self.form {
            Form::Here { .. } => Evictions { receiver: None },
            Form::Cluster(cluster) => Evictions { receiver: Some(cluster.evictions()) },
        }
    }

    /// Lite topics that one client may subscribe to.
    #[must_use]
    pub fn lite_subscriptions_per_client_max(&self) -> usize {
        match &self.form {
            Form::Here { broker, .. } => broker.lite_subscriptions_per_client_max(),
            Form::Cluster(cluster) => cluster.lite_subscriptions_per_client_max(),
        }
    }
}
