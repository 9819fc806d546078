//! The broker verbs as a proxy calls them. In one process they are direct calls.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::api::{
    AckOutcome, BrokerStatus, ChangeOutcome, Check, ClientId, LiteError, LiteEviction, LiteSync, OffsetError, Publish,
    PublishError, Published, Pull, Pulled, QueueBoundary, RecallError, Receive, ReceiveError, Resolution, SettleError,
    TransactionError,
};
use crate::broker::{Broker, TelemetryGuard};
use crate::link::delivery::Delivery;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::topic::Topic;
use crate::runtime::shutdown::Shutdown;

/// Cheap handle of everything that serves messages, wherever it runs.
#[derive(Clone, Debug)]
pub struct Brokers {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Here { broker: Broker, name: Arc<str> },
}

/// A client counts as live while this exists.
#[derive(Debug)]
pub struct AliveGuard {
    _here: Option<TelemetryGuard>,
}

impl Brokers {
    /// One broker in this process, under the name that routes give it.
    #[must_use]
    pub fn here(broker: Broker, name: &str) -> Self {
        Self { form: Form::Here { broker, name: name.into() } }
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        let Form::Here { broker, .. } = &self.form;
        broker.topic(name)
    }

    /// A group as it is, or as it would be created at its first use; `None` when it would not be.
    #[must_use]
    pub fn group_or_default(&self, name: &GroupName) -> Option<Group> {
        let Form::Here { broker, .. } = &self.form;
        broker.group_or_default(name)
    }

    /// Names of the brokers that have the queues of a topic, in an order that does not change by itself.
    #[must_use]
    pub fn homes(&self, _topic: &Topic) -> Vec<Arc<str>> {
        let Form::Here { name, .. } = &self.form;
        vec![name.clone()]
    }

    /// A client was heard of. `slow_heartbeat`: of a kind that heartbeats every 30 s only.
    pub fn client_seen(&self, client: &ClientId, slow_heartbeat: bool) {
        let Form::Here { broker, .. } = &self.form;
        broker.client_seen(client, slow_heartbeat);
    }

    /// A client opened a telemetry stream; it counts as live while the guard exists.
    #[must_use]
    pub fn telemetry_opened(&self, client: &ClientId) -> AliveGuard {
        let Form::Here { broker, .. } = &self.form;
        AliveGuard { _here: Some(broker.telemetry_opened(client)) }
    }

    /// A client said good-bye: what it holds by auto-renewal returns at once.
    pub async fn client_terminated(&self, client: &ClientId) {
        let Form::Here { broker, .. } = &self.form;
        broker.client_terminated(client).await;
    }

    /// State in numbers.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        let Form::Here { broker, .. } = &self.form;
        broker.status()
    }

    /// Drain and stop, of whoever serves clients here.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        let Form::Here { broker, .. } = &self.form;
        broker.shutdown()
    }

    /// Stores messages of one topic.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, publish: Publish) -> Result<Vec<Published>, PublishError> {
        let Form::Here { broker, .. } = &self.form;
        broker.publish(publish).await
    }

    /// Waits for messages up to `receive.wait`, wherever there are some. An empty delivery means that nothing was deliverable all
    /// that time, or that this process drains.
    ///
    /// # Errors
    /// See [`ReceiveError`]; nothing was delivered.
    pub async fn receive(&self, receive: Receive) -> Result<Delivery, ReceiveError> {
        let Form::Here { broker, .. } = &self.form;
        broker.receive(receive).await.map(Delivery::from)
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
        let Form::Here { broker, .. } = &self.form;
        broker.ack(group, topic, handles).await
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
        let Form::Here { broker, .. } = &self.form;
        broker.change_invisible(group, topic, handle, duration).await
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
        let Form::Here { broker, .. } = &self.form;
        broker.suspend(group, topic, handle, duration).await
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
        let Form::Here { broker, .. } = &self.form;
        broker.to_dead_letter(group, topic, handle).await
    }

    /// A different, never empty text for a handle: the same delivery if it is one of ours.
    #[must_use]
    pub fn another_text(&self, handle: &str) -> String {
        let Form::Here { broker, .. } = &self.form;
        broker.another_text(handle)
    }

    /// Takes a delayed message back.
    ///
    /// # Errors
    /// See [`RecallError`].
    pub async fn recall(&self, topic: &TopicName, handle: &str) -> Result<String, RecallError> {
        let Form::Here { broker, .. } = &self.form;
        broker.recall(topic, handle).await
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
        let Form::Here { broker, .. } = &self.form;
        broker.end_transaction(topic, id, resolution).await
    }

    /// Whether a transaction is undecided.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn look_at_transaction(&self, topic: &TopicName, id: &str) -> Result<(), TransactionError> {
        let Form::Here { broker, .. } = &self.form;
        broker.look_at_transaction(topic, id).await
    }

    /// Topics with transactions whose producers are to be asked now.
    pub async fn topics_to_check(&self) -> Vec<Arc<Topic>> {
        let Form::Here { broker, .. } = &self.form;
        broker.topics_to_check()
    }

    /// Some of what is to be asked now about a topic, at most `bytes_max` bytes of messages. Each must be handed over.
    pub async fn due_checks(&self, topic: &TopicName, max: usize, bytes_max: usize) -> Vec<Check> {
        let Form::Here { broker, .. } = &self.form;
        broker.due_checks(topic, max, bytes_max).await
    }

    /// Hands a check to a producer, if it is still to be asked; counts it if `hand_over` says that it went out.
    pub async fn hand_over_check(&self, check: &Check, hand_over: impl FnOnce() -> bool + Send) -> bool {
        let Form::Here { broker, .. } = &self.form;
        broker.hand_over_check(check, hand_over)
    }

    /// Messages of one queue; `home` is the name of its broker.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn pull(&self, _home: Option<&str>, pull: Pull) -> Result<Pulled, OffsetError> {
        let Form::Here { broker, .. } = &self.form;
        broker.pull(pull).await
    }

    /// A place in a queue.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn queue_boundary(
        &self,
        _home: Option<&str>,
        topic: &TopicName,
        queue: QueueId,
        which: QueueBoundary,
    ) -> Result<QueueOffset, OffsetError> {
        let Form::Here { broker, .. } = &self.form;
        broker.queue_boundary(topic, queue, which).await
    }

    /// Where a group stands in a queue.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn offset(
        &self,
        _home: Option<&str>,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
    ) -> Result<QueueOffset, OffsetError> {
        let Form::Here { broker, .. } = &self.form;
        broker.offset(group, topic, queue).await
    }

    /// Moves a group in a queue.
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn update_offset(
        &self,
        _home: Option<&str>,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<(), OffsetError> {
        let Form::Here { broker, .. } = &self.form;
        broker.update_offset(group, topic, queue, offset).await
    }

    /// Changes what a client subscribes to; who lost a lite topic by it is to be told.
    ///
    /// # Errors
    /// See [`LiteError`].
    pub async fn sync_lite(&self, sync: LiteSync) -> Result<Vec<LiteEviction>, LiteError> {
        let Form::Here { broker, .. } = &self.form;
        broker.sync_lite(sync).await
    }

    /// Lite topics that one client may subscribe to.
    #[must_use]
    pub fn lite_subscriptions_per_client_max(&self) -> usize {
        let Form::Here { broker, .. } = &self.form;
        broker.lite_subscriptions_per_client_max()
    }
}
