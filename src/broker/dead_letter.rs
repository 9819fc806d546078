//! The move to a group's dead-letter topic: a copy there and the settlement here, in one unit, so that no crash can leave
//! both or neither. The copy keeps id, properties and body, and says where it came from and why.

use std::sync::Arc;

use crate::broker::api::{CatalogError, SettleError, TopicSpec};
use crate::broker::delivery::core::{Condemned, Core};
use crate::broker::placing::Placing;
use crate::broker::settle::refused;
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::name::TopicName;
use crate::model::position::{GrantId, QueueId, RecordAt};
use crate::model::time::Timestamp;
use crate::model::topic::Topic;
use crate::store::ReadError;
use crate::store::record::{DeadLetterOrigin, MessageRecord, SettleReason, Unit};

/// Reason of a move that a consumer asked for.
pub const FORWARDED: &str = "forwarded by a consumer";
/// Reason of a move that the retry policy asked for.
pub const EXHAUSTED: &str = "delivery attempts exhausted";

impl Broker {
    /// Moves a condemned message; when it is not condemned any more, waits until what became of it is durable. `by`: the
    /// delivery whose client wished it.
    pub(super) async fn move_to_dead_letter(
        &self,
        which: Condemned,
        reason: &str,
        by: Option<(GrantId, Timestamp)>,
    ) -> Result<(), SettleError> {
        let Some((at, attempts, topic, group)) = self.condemned(&which) else {
            return self.inner.settled_durably().await.map_err(|_| SettleError::ShardFailed);
        };
        let target = match self.dead_letter_topic(&group).await {
            Ok(target) => target,
            Err(CatalogError::Overloaded | CatalogError::TooMany(_)) => return Err(SettleError::Overloaded),
            Err(_) => return Err(SettleError::ShardFailed),
        };
        let record = match self.inner.store.read_message(at).await {
            Ok(record) => Some(record),
            // Out of retention meanwhile: there is nothing left to keep.
            Err(ReadError::Gone { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, topic = %topic.name, "a dead letter cannot be read; it stays where it is");
                return Err(SettleError::ShardFailed);
            }
        };
        let origin = |record: &MessageRecord| match &record.origin {
            // Dead again, from a dead-letter topic: the first origin is the one that helps.
            Some(first) => DeadLetterOrigin { attempts, reason: reason.to_owned(), ..first.clone() },
            None => DeadLetterOrigin {
                namespace: topic.name.namespace().to_owned(),
                topic: topic.name.name().to_owned(),
                queue: which.queue,
                offset: which.offset,
                attempts,
                reason: reason.to_owned(),
            },
        };
        let queue = QueueId(0);
        let moved = {
            let mut core = self.inner.core.lock();
            if core.condemned_entry(&which).is_none() {
                // Somebody else moved it meanwhile.
                false
            } else {
                let mut unit = Unit::state();
                let mut placing = Placing::default();
                if let Some(record) = &record {
                    let letter = MessageRecord { origin: Some(origin(record)), ..record.clone() };
                    let now = self.inner.clock.now();
                    let placed = placing.push_copy(&core, letter, (target.id, queue), now, &mut unit);
                    placed.ok_or(SettleError::Overloaded)?;
                }
                let why = if record.is_some() { SettleReason::DeadLettered } else { SettleReason::Expired };
                Core::record_settled(which.topic, which.group, why, core.buried_with(&which), &mut unit);
                self.inner.append_settlement(unit).map_err(|error| refused(&error))?;
                placing.accepted(&mut core);
                core.bury(&which, by);
                true
            }
        };
        self.inner.settled_durably().await.map_err(|_| SettleError::ShardFailed)?;
        if moved && record.is_some() {
            self.inner.metrics.dead_lettered(topic.name.name(), group.name.name());
        }
        Ok(())
    }

    fn condemned(&self, which: &Condemned) -> Option<(RecordAt, u32, Arc<Topic>, Arc<Group>)> {
        let core = self.inner.core.lock();
        let (entry, attempts) = core.condemned_entry(which)?;
        let state = core.topic(which.topic)?;
        let group = state.subscriptions.get(&which.group)?.group.clone();
        Some((entry.at, attempts, state.topic.clone(), group))
    }

    async fn dead_letter_topic(&self, group: &Group) -> Result<Arc<Topic>, CatalogError> {
        let name = TopicName::dead_letter(&group.name);
        match (self.topic(&name), &self.inner.cluster) {
            (Some(topic), _) => Ok(topic),
            (None, Some(cluster)) => {
                self.dead_letter_topic_by_authority(cluster, &name).await?.ok_or(CatalogError::Overloaded)
            }
            (None, None) => self.create_topic(name, TopicSpec { queues: Some(1), ..TopicSpec::default() }).await,
        }
    }
}
