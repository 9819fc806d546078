//! Receive: one look where there was something lately, then a wait at every shard at once. The first shard with messages wins, the
//! others are told and take back what they had granted.
//!
//! An empty answer claims that nothing was deliverable anywhere that could be asked: every shard that can be reached has said so
//! itself, at the end of the wait and not before. A shard that comes back or joins meanwhile is asked as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join, join_all};
use futures::stream::FuturesUnordered;

use crate::broker::api::{Ask, CatalogError, Receive, ReceiveError};
use crate::link::client::{Failure, FarDelivery};
use crate::link::cluster::patience::{Waiting, pause_of};
use crate::link::cluster::{Cluster, WARMTHS_MAX};
use crate::link::delivery::Delivery;
use crate::model::position::{ShardId, TopicId};
use crate::model::topic::Topic;

/// Most time for a look and for the question after a repeated attempt; a shard that is slower is waited for with the others.
const LOOK_TIME: Duration = Duration::from_millis(500);
/// How much later than the wait's end the last shard may answer.
const LAST_WORD: Duration = Duration::from_millis(400);
/// Pause after a shard refused for lack of room or because it is broken.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// What counts as the end of a wait: a shard measures it by itself.
const AT_THE_END: Duration = Duration::from_millis(20);

/// What a shard said at the end.
#[derive(Debug)]
enum Polled {
    Messages(FarDelivery),
    Nothing,
    /// It never answered.
    Away,
    Refused(ReceiveError),
}

impl Cluster {
    /// See [`Brokers::receive`](crate::link::Brokers::receive).
    pub async fn receive(&self, receive: Receive) -> Result<Delivery, ReceiveError> {
        let topic = self.check_receive(&receive).await?;
        // As long as it waits here it lives, also for shards that it does not reach just now.
        let _live = self.client_opened(&receive.client);
        tokio::select! {
            biased;
            received = self.receive_anywhere(&topic, &receive) => received,
            () = self.inner.shutdown.draining() => Ok(Delivery::none()),
        }
    }

    async fn check_receive(&self, receive: &Receive) -> Result<Arc<Topic>, ReceiveError> {
        let topic = self.topic(&receive.topic).ok_or_else(|| ReceiveError::TopicNotFound(receive.topic.clone()))?;
        if !topic.permission.readable {
            return Err(ReceiveError::NotReadable(receive.topic.clone()));
        }
        let group = self.group_at_first_use(&receive.group).await.map_err(|error| match error {
            CatalogError::Overloaded | CatalogError::ShardFailed => ReceiveError::Overloaded,
            _ => ReceiveError::GroupNotFound(receive.group.clone()),
        })?;
        if group.enabled { Ok(topic) } else { Err(ReceiveError::GroupDisabled(receive.group.clone())) }
    }

    async fn receive_anywhere(&self, topic: &Topic, receive: &Receive) -> Result<Delivery, ReceiveError> {
        let waiting = self.waiting(receive.wait);
        let holders = self.holders(&self.view(), topic);
        if holders.len() > 1
            && let Some(found) = self.look(&holders, receive).await?
        {
            return Ok(Delivery::far(found));
        }
        self.poll(topic, receive, &waiting).await
    }

    /// A look without waiting, and the question whether this attempt was answered before, elsewhere.
    async fn look(&self, holders: &[ShardId], receive: &Receive) -> Result<Option<FarDelivery>, ReceiveError> {
        let near: Vec<ShardId> = holders.iter().copied().filter(|shard| self.inner.pool.is_connected(*shard)).collect();
        let looks = self.warmth(receive, |warmth| warmth.looks(&near));
        let first = looks.first().copied();
        let look = async {
            match first {
                Some(shard) => self.quick(shard, receive, Ask::Messages).await,
                None => None,
            }
        };
        // What a client was given under this id comes before anything new.
        let others = near.iter().copied().filter(|shard| receive.attempt_id.is_some() && Some(*shard) != first);
        let repeats = join_all(others.map(|shard| self.quick(shard, receive, Ask::RepeatOnly)));
        let (mut found, repeats) = join(look, repeats).await;
        let repeated = repeats.into_iter().flatten().flatten().find(|again| !again.is_empty());
        if repeated.is_some() {
            return Ok(repeated);
        }
        for (index, shard) in looks.into_iter().enumerate() {
            let found = match index {
                0 => found.take(),
                _ => self.quick(shard, receive, Ask::Messages).await,
            };
            match found {
                Some(Ok(delivery)) => {
                    self.warmth(receive, |warmth| warmth.found(shard, !delivery.is_empty()));
                    if !delivery.is_empty() {
                        return Ok(Some(delivery));
                    }
                }
                Some(Err(error @ ReceiveError::LiteFilter)) => return Err(error),
                Some(Err(_)) | None => self.warmth(receive, |warmth| warmth.found(shard, false)),
            }
        }
        Ok(None)
    }

    /// What a shard has at this moment; `None` when it does not answer soon.
    async fn quick(&self, shard: ShardId, receive: &Receive, ask: Ask) -> Option<Result<FarDelivery, ReceiveError>> {
        let client = self.inner.pool.client(shard)?;
        let receive = Receive { wait: Duration::ZERO, ask, ..receive.clone() };
        match self.waiting(LOOK_TIME).within(client.receive(receive)).await? {
            Ok(delivery) => Some(Ok(delivery)),
            Err(Failure::Refused(error)) => Some(Err(error)),
            Err(Failure::Away | Failure::Unknown) => None,
        }
    }

    /// Waits at every shard that holds something of the topic, and at those that come to hold something.
    async fn poll(&self, topic: &Topic, receive: &Receive, waiting: &Waiting) -> Result<Delivery, ReceiveError> {
        let mut changed = self.inner.route.changed();
        let mut polls: FuturesUnordered<BoxFuture<'_, (ShardId, Polled)>> = FuturesUnordered::new();
        let mut asked = BTreeSet::new();
        let mut refused: BTreeMap<ShardId, ReceiveError> = BTreeMap::new();
        let mut anyone_had_nothing = false;
        let mut last_word = std::pin::pin!(self.inner.clock.sleep(waiting.left() + LAST_WORD));
        loop {
            changed.borrow_and_update();
            self.check_still_there(topic.id, receive)?;
            let holders = self.holders(&self.view(), topic);
            for &shard in &holders {
                if asked.insert(shard) {
                    polls.push(Box::pin(self.poll_shard(shard, receive, waiting, Duration::ZERO)));
                }
            }
            tokio::select! {
                biased;
                Some((shard, polled)) = polls.next() => match polled {
                    Polled::Messages(delivery) => {
                        self.warmth(receive, |warmth| warmth.found(shard, true));
                        return Ok(Delivery::far(delivery));
                    }
                    Polled::Nothing => anyone_had_nothing = true,
                    Polled::Away => {}
                    Polled::Refused(error @ ReceiveError::LiteFilter) => return Err(error),
                    Polled::Refused(error) => {
                        refused.insert(shard, error);
                        if holders.iter().all(|holder| refused.contains_key(holder)) {
                            break;
                        }
                        if !waiting.left().is_zero() {
                            polls.push(Box::pin(self.poll_shard(shard, receive, waiting, REFUSED_PAUSE)));
                        }
                    }
                },
                Ok(()) = changed.changed(), if !waiting.left().is_zero() => {}
                () = &mut last_word => break,
            }
            if polls.is_empty() && !asked.is_empty() {
                break;
            }
        }
        match refused.into_values().next() {
            _ if anyone_had_nothing => Ok(Delivery::none()),
            Some(error) => Err(error),
            None => Err(ReceiveError::Unavailable),
        }
    }

    /// One shard until the end of the wait: asked again whenever it answers too early or goes away.
    async fn poll_shard(
        &self,
        shard: ShardId,
        receive: &Receive,
        waiting: &Waiting,
        pause: Duration,
    ) -> (ShardId, Polled) {
        let mut pause = pause;
        let mut polled = Polled::Away;
        for round in 0.. {
            if !pause.is_zero() {
                self.inner.clock.sleep(pause.min(waiting.left())).await;
            }
            let wait = waiting.left();
            if let Some(client) = self.inner.pool.client(shard) {
                match client.receive(Receive { wait, ask: Ask::Messages, ..receive.clone() }).await {
                    Ok(delivery) if delivery.is_empty() => polled = Polled::Nothing,
                    Ok(delivery) => return (shard, Polled::Messages(delivery)),
                    // The view has both, and lets the group receive: the shard has not heard of it yet.
                    Err(Failure::Refused(
                        ReceiveError::TopicNotFound(_)
                        | ReceiveError::GroupNotFound(_)
                        | ReceiveError::NotReadable(_)
                        | ReceiveError::GroupDisabled(_),
                    )) => {}
                    Err(Failure::Refused(error)) => return (shard, Polled::Refused(error)),
                    Err(Failure::Away | Failure::Unknown) => {}
                }
            }
            if waiting.left() <= AT_THE_END {
                break;
            }
            pause = pause_of(round);
        }
        (shard, polled)
    }

    /// Topic and group may be deleted, and the group switched off, while a receive waits.
    fn check_still_there(&self, topic: TopicId, receive: &Receive) -> Result<(), ReceiveError> {
        let view = self.view();
        match view.topics.get(&receive.topic) {
            Some(current) if current.id == topic && current.permission.readable => {}
            Some(current) if current.id == topic => return Err(ReceiveError::NotReadable(receive.topic.clone())),
            _ => return Err(ReceiveError::TopicNotFound(receive.topic.clone())),
        }
        match view.groups.get(&receive.group) {
            Some(group) if group.enabled => Ok(()),
            Some(_) => Err(ReceiveError::GroupDisabled(receive.group.clone())),
            None => Err(ReceiveError::GroupNotFound(receive.group.clone())),
        }
    }

    fn warmth<T>(&self, receive: &Receive, use_it: impl FnOnce(&mut super::Warmth) -> T) -> T {
        let mut all = self.inner.warmth.lock();
        let key = (receive.topic.clone(), receive.group.clone());
        if all.len() >= WARMTHS_MAX && !all.contains_key(&key) {
            // A hint for each; they come back with the next receives.
            all.clear();
        }
        use_it(all.entry(key).or_default())
    }
}
