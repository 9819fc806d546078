//! Acks and their like go to the shard that the handle names. All of them may be repeated, so a shard that is away is waited for
//! and asked again; a client is never told that a handle is invalid because its shard could not be asked.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::join_all;

use crate::broker::Handles;
use crate::broker::api::{AckOutcome, ChangeOutcome, LiteError, LiteEviction, LiteSync, RecallError, SettleError};
use crate::link::client::{Failure, ShardClient};
use crate::link::cluster::patience::Waiting;
use crate::link::cluster::{Cluster, Unanswered};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::ShardId;

impl Cluster {
    /// Asks a shard until it answers, or time is up. Only for what may be done twice.
    pub(super) async fn ask<T, E, F>(
        &self,
        shard: ShardId,
        waiting: &mut Waiting,
        call: impl Fn(ShardClient) -> F,
    ) -> Result<T, Unanswered<E>>
    where
        E: Debug + Display,
        F: Future<Output = Result<T, Failure<E>>>,
    {
        self.ask_noting(shard, waiting, &mut false, call).await
    }

    /// The same; `may_be_done` says afterwards whether an earlier try may have done it already.
    async fn ask_noting<T, E, F>(
        &self,
        shard: ShardId,
        waiting: &mut Waiting,
        may_be_done: &mut bool,
        call: impl Fn(ShardClient) -> F,
    ) -> Result<T, Unanswered<E>>
    where
        E: Debug + Display,
        F: Future<Output = Result<T, Failure<E>>>,
    {
        loop {
            if let Some(client) = self.inner.pool.client(shard) {
                // Stays where it is: it is large, and would be moved on its way through.
                let asking = pin!(call(client));
                match waiting.within(asking).await {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(Failure::Refused(error))) => return Err(Unanswered::Refused(error)),
                    Some(Err(Failure::Away)) => {}
                    Some(Err(Failure::Unknown)) | None => *may_be_done = true,
                }
            }
            if !waiting.pause().await {
                return Err(Unanswered::Away);
            }
        }
    }

    pub(super) fn waiting(&self, patience: Duration) -> Waiting {
        Waiting::new(&self.inner.clock, patience)
    }

    /// What is said of a settlement when no handle of it was made in this cluster. Otherwise a shard decides, whatever the view
    /// says: another proxy may have heard before this one of the topic, or of a group that came into being with its first
    /// receive, and a good handle must not be called bad for it.
    fn check_named(&self, group: &GroupName, topic: &TopicName) -> Result<(), SettleError> {
        let view = self.view();
        if !view.topics.contains_key(topic) {
            return Err(SettleError::TopicNotFound(topic.clone()));
        }
        if !view.groups.contains_key(group) && !self.inner.options.auto_create_groups {
            return Err(SettleError::GroupNotFound(group.clone()));
        }
        Ok(())
    }

    /// See [`Brokers::ack`](crate::link::Brokers::ack).
    pub async fn ack(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handles: &[String],
        patience: Duration,
    ) -> Result<Vec<AckOutcome>, SettleError> {
        let mut outcomes = vec![AckOutcome::InvalidHandle; handles.len()];
        let mut parts: BTreeMap<ShardId, (Vec<usize>, Vec<String>)> = BTreeMap::new();
        for (index, handle) in handles.iter().enumerate() {
            if let Some(shard) = self.shard_of(handle) {
                let part = parts.entry(shard).or_default();
                part.0.push(index);
                part.1.push(handle.clone());
            }
        }
        if parts.is_empty() {
            self.check_named(group, topic)?;
        }
        let answers = parts.into_iter().map(|(shard, (indices, handles))| async move {
            let mut waiting = self.waiting(patience);
            let mut may_be_done = false;
            let acked = self.ask_noting(shard, &mut waiting, &mut may_be_done, |client| {
                let (group, topic, handles) = (group.clone(), topic.clone(), handles.clone());
                async move { client.ack(&group, &topic, &handles).await }
            });
            let acked = acked.await;
            (indices, unless_doubtful(acked, may_be_done, |acked| acked.contains(&AckOutcome::InvalidHandle)))
        });
        for (indices, acked) in join_all(answers).await {
            let acked = acked?;
            for (index, outcome) in indices.into_iter().zip(acked) {
                outcomes[index] = outcome;
            }
        }
        Ok(outcomes)
    }

    /// See [`Brokers::change_invisible`](crate::link::Brokers::change_invisible).
    pub async fn change_invisible(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
        patience: Duration,
    ) -> Result<ChangeOutcome, SettleError> {
        let Some(shard) = self.settled_at(group, topic, handle)? else { return Ok(ChangeOutcome::InvalidHandle) };
        let mut waiting = self.waiting(patience);
        let mut may_be_done = false;
        let changed = self.ask_noting(shard, &mut waiting, &mut may_be_done, |client| async move {
            client.change_invisible(group, topic, handle, duration).await
        });
        let changed = changed.await;
        unless_doubtful(changed, may_be_done, |changed| *changed == ChangeOutcome::InvalidHandle)
    }

    /// See [`Brokers::suspend`](crate::link::Brokers::suspend).
    pub async fn suspend(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
        patience: Duration,
    ) -> Result<ChangeOutcome, SettleError> {
        let Some(shard) = self.settled_at(group, topic, handle)? else { return Ok(ChangeOutcome::InvalidHandle) };
        let mut waiting = self.waiting(patience);
        let mut may_be_done = false;
        let changed = self.ask_noting(shard, &mut waiting, &mut may_be_done, |client| async move {
            client.suspend(group, topic, handle, duration).await
        });
        let changed = changed.await;
        unless_doubtful(changed, may_be_done, |changed| *changed == ChangeOutcome::InvalidHandle)
    }

    /// See [`Brokers::to_dead_letter`](crate::link::Brokers::to_dead_letter).
    pub async fn to_dead_letter(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        patience: Duration,
    ) -> Result<AckOutcome, SettleError> {
        let Some(shard) = self.settled_at(group, topic, handle)? else { return Ok(AckOutcome::InvalidHandle) };
        let mut waiting = self.waiting(patience);
        let mut may_be_done = false;
        let moved = self.ask_noting(shard, &mut waiting, &mut may_be_done, |client| async move {
            client.to_dead_letter(group, topic, handle).await
        });
        let moved = moved.await;
        unless_doubtful(moved, may_be_done, |moved| *moved == AckOutcome::InvalidHandle)
    }

    /// The shard of a handle; `None` when it is no handle of this cluster.
    fn settled_at(&self, group: &GroupName, topic: &TopicName, handle: &str) -> Result<Option<ShardId>, SettleError> {
        let shard = self.shard_of(handle);
        if shard.is_none() {
            self.check_named(group, topic)?;
        }
        Ok(shard)
    }

    /// The shard whose word counts on a handle; `None`: nobody in this cluster made it. Keys change, and this process may hear
    /// of a new one after a broker used it: of a handle under a key that is not known here its shard decides.
    fn shard_of(&self, handle: &str) -> Option<ShardId> {
        let ring = self.ring();
        if let Some((receipt, _)) = ring.open(handle) {
            return Some(receipt.shard);
        }
        let shard = Handles::shard_of(handle).filter(|_| ring.is_of_other_key(handle))?;
        self.view().shards.contains_key(&shard).then_some(shard)
    }

    /// See [`Brokers::recall`](crate::link::Brokers::recall).
    pub async fn recall(&self, topic: &TopicName, handle: &str, patience: Duration) -> Result<String, RecallError> {
        let found = self.topic(topic).ok_or_else(|| RecallError::TopicNotFound(topic.clone()))?;
        // What is wrong with the request itself is said first, as a broker would; any shard of the topic knows.
        let named = Handles::shard_of_recall(handle).filter(|shard| self.view().shards.contains_key(shard));
        let shard = match named {
            Some(shard) => shard,
            None => *self.holders(&self.view(), &found).first().ok_or(RecallError::BadHandle)?,
        };
        let mut waiting = self.waiting(patience);
        let recalled = self.ask(shard, &mut waiting, |client| async move { client.recall(topic, handle).await });
        recalled.await.map_err(|error| match error {
            Unanswered::Refused(error) => error,
            Unanswered::Away => RecallError::Unavailable,
        })
    }

    /// See [`Brokers::sync_lite`](crate::link::Brokers::sync_lite).
    pub async fn sync_lite(&self, sync: LiteSync, patience: Duration) -> Result<Vec<LiteEviction>, LiteError> {
        let topic = self.topic(&sync.topic).ok_or_else(|| LiteError::TopicNotFound(sync.topic.clone()))?;
        let created = self.group_at_first_use(&sync.group).await;
        created.map_err(|error| match error {
            crate::broker::api::CatalogError::Overloaded => LiteError::Overloaded,
            _ => LiteError::GroupNotFound(sync.group.clone()),
        })?;
        let shard = *self.placement(&self.view(), &topic).shards.first().ok_or(LiteError::Unavailable)?;
        let mut waiting = self.waiting(patience);
        let synced = self.ask(shard, &mut waiting, |client| {
            let sync = sync.clone();
            async move { client.sync_lite(sync).await }
        });
        synced.await.map_err(|error| match error {
            Unanswered::Refused(error) => error,
            Unanswered::Away => LiteError::Unavailable,
        })
    }
}

/// A handle that an earlier try may have made bad is not called bad: what became of it is unknown.
fn unless_doubtful<T>(
    answer: Result<T, Unanswered<SettleError>>,
    may_be_done: bool,
    denies: impl FnOnce(&T) -> bool,
) -> Result<T, SettleError> {
    match answer.map_err(settle_error) {
        Ok(answer) if may_be_done && denies(&answer) => Err(SettleError::ShardFailed),
        other => other,
    }
}

fn settle_error(error: Unanswered<SettleError>) -> SettleError {
    match error {
        Unanswered::Refused(error) => error,
        Unanswered::Away => SettleError::Unavailable,
    }
}
