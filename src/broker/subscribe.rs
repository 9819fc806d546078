//! Where a group begins on a topic.

use std::sync::Arc;

use crate::broker::api::ReceiveError;
use crate::broker::delivery::core::ordering;
use crate::broker::delivery::subscription::{QueueState, Subscription};
use crate::broker::receive::refused;
use crate::broker::verbs::Broker;
use crate::model::group::{Group, StartPosition};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::time::Timestamp;
use crate::model::topic::Topic;
use crate::store::record::{Record, Unit};

impl Broker {
    /// Makes the group's state on a topic at its first receive, or when it is moved there.
    pub(super) async fn subscribe(&self, topic: &Arc<Topic>, group: &Arc<Group>) -> Result<(), ReceiveError> {
        if self.inner.core.lock().is_subscribed(topic.id, group.id) {
            return Ok(());
        }
        let by_time = match group.start {
            StartPosition::At(instant) => Some(self.positions_at(topic, instant).await?),
            StartPosition::Earliest | StartPosition::Latest => None,
        };
        let mut core = self.inner.core.lock();
        if core.is_subscribed(topic.id, group.id) {
            return Ok(());
        }
        // Read again under the lock: a group that was deleted meanwhile must not come to life here.
        let group = match self.group(&group.name) {
            Some(current) if current.id == group.id => current,
            _ => return Err(ReceiveError::GroupNotFound(group.name.clone())),
        };
        let Some(state) = core.topic(topic.id) else {
            return Err(ReceiveError::TopicNotFound(topic.name.clone()));
        };
        let start = |index: usize| match (&by_time, group.start) {
            (Some(positions), _) => positions.get(index).copied().unwrap_or_default(),
            // Here since a move that others are still reading behind: the group may have begun long ago, where the topic was then,
            // and what has come here since is its own.
            (None, StartPosition::Latest) if state.shards.is_newcomer() => state.tails[index].first(),
            (None, StartPosition::Latest) => state.tails[index].visible(),
            (None, _) => state.tails[index].first(),
        };
        let positions: Vec<QueueOffset> = (0..state.tails.len()).map(start).collect();
        let mut unit = Unit::state();
        for (queue, next) in (0..).zip(&positions) {
            unit.push(&Record::Advanced { group: group.id, topic: topic.id, queue: QueueId(queue), next: *next });
        }
        self.inner.append_state(unit).map_err(|error| refused(&error))?;
        let queues = positions.into_iter().map(QueueState::starting_at).collect();
        let mut subscription = Subscription::new(group.clone(), queues);
        subscription.set_ordering(ordering(&group, topic));
        core.put_subscription(topic.id, subscription);
        Ok(())
    }

    async fn positions_at(&self, topic: &Topic, instant: Timestamp) -> Result<Vec<QueueOffset>, ReceiveError> {
        let found = self.first_at(topic, (0..topic.queues).map(QueueId).collect(), instant).await;
        found.map_err(|error| ReceiveError::ShardFailed(error.to_string()))
    }
}
