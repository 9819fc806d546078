//! The end of a transaction: at the shard to which its id belongs today, else wherever the topic was before. Only when every one
//! of them has said so a transaction is unknown.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures::future::join_all;

use crate::broker::api::{Resolution, TransactionError};
use crate::link::client::{Failure, ShardClient};
use crate::link::cluster::Cluster;
use crate::link::cluster::plan::transaction_owner;
use crate::model::name::TopicName;
use crate::model::position::ShardId;

impl Cluster {
    /// See [`Brokers::end_transaction`](crate::link::Brokers::end_transaction).
    pub async fn end_transaction(
        &self,
        topic: &TopicName,
        id: &str,
        resolution: Resolution,
        patience: Duration,
    ) -> Result<(), TransactionError> {
        self.find_transaction(topic, id, patience, |client| async move {
            client.end_transaction(topic, id, resolution).await
        })
        .await
    }

    /// See [`Brokers::look_at_transaction`](crate::link::Brokers::look_at_transaction).
    pub async fn look_at_transaction(
        &self,
        topic: &TopicName,
        id: &str,
        patience: Duration,
    ) -> Result<(), TransactionError> {
        self.find_transaction(topic, id, patience, |client| async move { client.look_at_transaction(topic, id).await })
            .await
    }

    async fn find_transaction<F>(
        &self,
        name: &TopicName,
        id: &str,
        patience: Duration,
        call: impl Fn(ShardClient) -> F,
    ) -> Result<(), TransactionError>
    where
        F: Future<Output = Result<(), Failure<TransactionError>>>,
    {
        let mut waiting = self.waiting(patience);
        let mut not_there = BTreeSet::new();
        loop {
            let view = self.view();
            let topic = view.topics.get(name).ok_or_else(|| TransactionError::TopicNotFound(name.clone()))?;
            let holders = self.holders(&view, topic);
            let first = transaction_owner(id, &self.placement(&view, topic));
            let others: Vec<ShardId> = holders.iter().copied().filter(|shard| Some(*shard) != first).collect();
            for group in [first.into_iter().collect(), others] {
                let group: Vec<ShardId> = group.into_iter().filter(|shard| !not_there.contains(shard)).collect();
                let answers = group.into_iter().map(|shard| {
                    let asked = self.inner.pool.client(shard).map(&call);
                    let waiting = &waiting;
                    async move {
                        let answer = match asked {
                            Some(asked) => waiting.within(asked).await,
                            None => None,
                        };
                        (shard, answer)
                    }
                });
                for (shard, answer) in join_all(answers).await {
                    match answer {
                        Some(Ok(())) => return Ok(()),
                        Some(Err(Failure::Refused(TransactionError::Unknown))) => drop(not_there.insert(shard)),
                        Some(Err(Failure::Refused(error))) => return Err(error),
                        Some(Err(Failure::Away | Failure::Unknown)) | None => {}
                    }
                }
            }
            if !holders.is_empty() && holders.iter().all(|shard| not_there.contains(shard)) {
                return Err(TransactionError::Unknown);
            }
            if !waiting.pause().await {
                return Err(TransactionError::Unavailable);
            }
        }
    }
}
