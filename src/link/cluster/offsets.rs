//! Pulls and positions name the broker of their queue.

use std::future::Future;
use std::time::Duration;

use crate::broker::api::{CatalogError, OffsetError, Pull, Pulled, QueueBoundary};
use crate::link::client::{Failure, ShardClient};
use crate::link::cluster::{Cluster, Unanswered};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset, ShardId};

/// How much later than the wait's end an empty answer may come.
const LAST_WORD: Duration = Duration::from_millis(400);

impl Cluster {
    /// The shard of a broker's name, if the topic has queues there. A topic on one shard needs no name.
    fn shard_of_home(&self, home: Option<&str>, topic: &TopicName) -> Result<ShardId, OffsetError> {
        let view = self.view();
        let found = view.topics.get(topic).ok_or_else(|| OffsetError::TopicNotFound(topic.clone()))?;
        let holders = self.holders(&view, found);
        let shard = match home {
            Some(name) => view.shard_named(name).map(|shard| shard.id).filter(|shard| holders.contains(shard)),
            None => holders.first().copied().filter(|_| holders.len() == 1),
        };
        let unknown = || OffsetError::UnknownBroker { topic: topic.clone(), broker: home.unwrap_or("").into() };
        shard.ok_or_else(unknown)
    }

    async fn ask_home<T, F>(
        &self,
        home: Option<&str>,
        topic: &TopicName,
        patience: Duration,
        call: impl Fn(ShardClient) -> F,
    ) -> Result<T, OffsetError>
    where
        F: Future<Output = Result<T, Failure<OffsetError>>>,
    {
        let shard = self.shard_of_home(home, topic)?;
        let mut waiting = self.waiting(patience);
        self.ask(shard, &mut waiting, call).await.map_err(|error| match error {
            Unanswered::Refused(error) => error,
            Unanswered::Away => OffsetError::Unavailable,
        })
    }

    /// See [`Brokers::pull`](crate::link::Brokers::pull).
    pub async fn pull(&self, home: Option<&str>, pull: Pull, patience: Duration) -> Result<Pulled, OffsetError> {
        let topic = pull.topic.clone();
        self.shard_of_home(home, &topic)?;
        self.group_at_first_use(&pull.group).await.map_err(|error| match error {
            CatalogError::Overloaded => OffsetError::Overloaded,
            _ => OffsetError::GroupNotFound(pull.group.clone()),
        })?;
        let _live = self.client_opened(&pull.client);
        let (from, wait) = (pull.offset, pull.wait);
        let began = self.inner.clock.mark();
        let pulled = self.ask_home(home, &topic, patience.max(wait + LAST_WORD), |client| {
            let wait = wait.saturating_sub(began.elapsed());
            let pull = Pull { wait, ..pull.clone() };
            async move { client.pull(pull).await }
        });
        tokio::select! {
            biased;
            pulled = pulled => pulled,
            () = self.inner.shutdown.draining() => Ok(Pulled { messages: Vec::new(), next: from }),
        }
    }

    /// See [`Brokers::queue_boundary`](crate::link::Brokers::queue_boundary).
    pub async fn queue_boundary(
        &self,
        home: Option<&str>,
        topic: &TopicName,
        queue: QueueId,
        which: QueueBoundary,
        patience: Duration,
    ) -> Result<QueueOffset, OffsetError> {
        let call = |client: ShardClient| async move { client.queue_boundary(topic, queue, which).await };
        self.ask_home(home, topic, patience, call).await
    }

    /// See [`Brokers::offset`](crate::link::Brokers::offset).
    pub async fn offset(
        &self,
        home: Option<&str>,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
        patience: Duration,
    ) -> Result<QueueOffset, OffsetError> {
        let call = |client: ShardClient| async move { client.offset(group, topic, queue).await };
        self.ask_home(home, topic, patience, call).await
    }

    /// See [`Brokers::update_offset`](crate::link::Brokers::update_offset).
    pub async fn update_offset(
        &self,
        home: Option<&str>,
        group: &GroupName,
        topic: &TopicName,
        (queue, offset): (QueueId, QueueOffset),
        patience: Duration,
    ) -> Result<(), OffsetError> {
        let call = |client: ShardClient| async move { client.update_offset(group, topic, queue, offset).await };
        self.ask_home(home, topic, patience, call).await
    }
}
