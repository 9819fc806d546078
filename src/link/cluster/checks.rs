//! Checks of transactions: taken from every shard, handed to producers that are connected here. A shard is asked for leave before a
//! check goes out, and told when it did not go out after all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;

use crate::broker::api::{Check, ClientId, TopicToCheck};
use crate::link::cluster::Cluster;
use crate::model::name::TopicName;
use crate::model::position::ShardId;

/// Most time for one shard; those that are slower are asked at the next look.
const ASK_TIME: Duration = Duration::from_secs(1);

impl Cluster {
    /// See [`Brokers::topics_to_check`](crate::link::Brokers::topics_to_check).
    pub async fn topics_to_check(&self) -> Vec<TopicToCheck> {
        let answers = self
            .inner
            .pool
            .connected()
            .into_iter()
            .map(|(_, client)| async move { self.waiting(ASK_TIME).within(client.topics_to_check()).await });
        let answered = join_all(answers).await.into_iter().flatten().filter_map(Result::ok);
        let mut due: BTreeMap<TopicName, BTreeSet<ClientId>> = BTreeMap::new();
        for (topic, senders) in answered.flatten() {
            due.entry(topic).or_default().extend(senders);
        }
        let view = self.view();
        let named = due.into_iter().filter_map(|(name, senders)| {
            Some(TopicToCheck { topic: view.topics.get(&name)?.clone(), senders: senders.into_iter().collect() })
        });
        named.collect()
    }

    /// See [`Brokers::due_checks`](crate::link::Brokers::due_checks): at most `max` and `bytes` from all shards together.
    pub async fn due_checks(
        &self,
        name: &TopicName,
        producers: &[ClientId],
        max: usize,
        bytes: usize,
    ) -> Vec<(ShardId, Check)> {
        let view = self.view();
        let Some(topic) = view.topics.get(name) else { return Vec::new() };
        let holders = self.holders(&view, topic);
        let near: Vec<_> = holders.into_iter().filter(|shard| self.inner.pool.is_connected(*shard)).collect();
        // Each gives its share: what is taken from one and not handed over comes again only after a while.
        let count = near.len().max(1);
        let (max, bytes) = (max.div_ceil(count), bytes / count);
        if max == 0 {
            return Vec::new();
        }
        let answers = near.into_iter().filter_map(|shard| Some((shard, self.inner.pool.client(shard)?))).map(
            |(shard, client)| async move {
                let due = client.due_checks(name, producers, max, bytes);
                (shard, self.waiting(ASK_TIME).within(due).await)
            },
        );
        let mut checks = Vec::new();
        for (shard, answer) in join_all(answers).await {
            if let Some(Ok(due)) = answer {
                checks.extend(due.into_iter().map(|check| (shard, check)));
            }
        }
        checks
    }

    /// See [`Brokers::hand_over_check`](crate::link::Brokers::hand_over_check).
    pub async fn hand_over_check(&self, shard: ShardId, check: &Check, hand_over: impl FnOnce() -> bool) -> bool {
        let Some(client) = self.inner.pool.client(shard) else { return false };
        // Without its leave nothing goes out: the transaction may have ended.
        if self.waiting(ASK_TIME).within(client.claim_check(check)).await != Some(true) {
            return false;
        }
        if hand_over() {
            return true;
        }
        self.leave_check(shard, check).await;
        false
    }

    /// A check that nobody here could take. If its shard does not hear this, it counts although nobody saw it: one of many.
    pub async fn leave_check(&self, shard: ShardId, check: &Check) {
        if let Some(client) = self.inner.pool.client(shard) {
            let _ = self.waiting(ASK_TIME).within(client.unclaim_check(check)).await;
        }
    }
}
