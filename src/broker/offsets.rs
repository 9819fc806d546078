//! Positions of groups and bounds of queues: what a puller commits and asks for, and the operator's reset.
//!
//! A commit and a reset are the same decision: from here on, and nothing of before (see
//! [`reset`](crate::broker::delivery::reset)). The record goes into the log first and memory follows under the same lock, so a
//! record that the log refuses has changed nothing.

use std::sync::Arc;

use crate::broker::api::{OffsetError, QueueBoundary, QueueSeek, SeekTarget};
use crate::broker::delivery::core::Core;
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::Topic;
use crate::store::record::{Record, Unit};
use crate::store::{AppendError, FoldError};

impl Broker {
    /// A group is done with everything below `offset` in a queue, and with nothing from there on. Backwards too. A group that
    /// does not exist is created, if the broker may.
    ///
    /// # Errors
    /// See [`OffsetError`]; after [`OffsetError::ShardFailed`] alone it is unknown whether the position moved.
    pub async fn update_offset(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<(), OffsetError> {
        let topic = self.topic_with(topic, queue)?;
        // Looked at before anything comes into being: a wrong offset must not create a group.
        in_bounds(&self.inner.core.lock(), &topic, queue, offset)?;
        let group = match self.group(group) {
            Some(group) => group,
            None => self.group_at_first_use(group).await?,
        };
        self.subscribe(&topic, &group).await?;
        self.seek(&topic, &group, &[(queue, SeekTarget::Offset(offset))], true).await.map(drop)
    }

    /// Lowest message of a queue that a group has not done.
    ///
    /// # Errors
    /// [`OffsetError::NoPosition`] when it never had a position there. See [`OffsetError`].
    pub async fn offset(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
    ) -> Result<QueueOffset, OffsetError> {
        let topic = self.topic_with(topic, queue)?;
        let none = || OffsetError::NoPosition { group: group.clone(), topic: topic.name.clone(), queue };
        let id = match self.group(group) {
            Some(group) => group.id,
            None if self.inner.options.auto_create_groups => return Err(none()),
            None => return Err(OffsetError::GroupNotFound(group.clone())),
        };
        let position = {
            let core = self.inner.deciding().map_err(|error| refused(&error))?;
            core.position(topic.id, id, queue).ok_or_else(none)?
        };
        // I-2: it tells of settlements that the disk could still forget.
        self.inner.settled_durably().await.map_err(|_| shard_failed())?;
        Ok(position)
    }

    /// A bound of a queue, or the first message stored at or after an instant (the end when there is none).
    ///
    /// # Errors
    /// See [`OffsetError`].
    pub async fn queue_boundary(
        &self,
        topic: &TopicName,
        queue: QueueId,
        which: QueueBoundary,
    ) -> Result<QueueOffset, OffsetError> {
        let topic = self.topic_with(topic, queue)?;
        if let QueueBoundary::At(instant) = which {
            let found = self.first_at(&topic, vec![queue], instant).await;
            let found = found.map_err(|error| OffsetError::ShardFailed(error.to_string()))?;
            return found.first().copied().ok_or(OffsetError::TopicNotFound(topic.name.clone()));
        }
        let core = self.inner.core.lock();
        let (first, next) = bounds(&core, &topic, queue)?;
        Ok(if which == QueueBoundary::Beginning { first } else { next })
    }

    /// Moves a group to another position on a topic, in one queue or all, in one unit of the log: what is in flight or waits
    /// for another attempt there is dropped. With `dry_run` nothing changes. Returns what it means per queue.
    ///
    /// # Errors
    /// See [`OffsetError`]; after [`OffsetError::ShardFailed`] alone it is unknown whether the position moved.
    pub async fn reset_group(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: Option<QueueId>,
        to: SeekTarget,
        dry_run: bool,
    ) -> Result<Vec<QueueSeek>, OffsetError> {
        let found = self.topic_with(topic, queue.unwrap_or_default())?;
        let group = self.group(group).ok_or_else(|| OffsetError::GroupNotFound(group.clone()))?;
        let queues: Vec<QueueId> = queue.map_or_else(|| (0..found.queues).map(QueueId).collect(), |queue| vec![queue]);
        if matches!(to, SeekTarget::Offset(_)) && queues.len() > 1 {
            return Err(OffsetError::WhichQueue { topic: topic.clone(), queues: found.queues });
        }
        let targets: Vec<(QueueId, SeekTarget)> = match to {
            SeekTarget::At(instant) => {
                let offsets = self.first_at(&found, queues.clone(), instant).await;
                let offsets = offsets.map_err(|error| OffsetError::ShardFailed(error.to_string()))?;
                // Retention goes on meanwhile; `Near` stays valid where an exact offset might not.
                queues.into_iter().zip(offsets.into_iter().map(SeekTarget::Near)).collect()
            }
            to => queues.into_iter().map(|queue| (queue, to)).collect(),
        };
        self.subscribe(&found, &group).await?;
        self.seek(&found, &group, &targets, !dry_run).await
    }

    /// Decides, and does it unless `really` is false.
    async fn seek(
        &self,
        topic: &Topic,
        group: &Arc<Group>,
        targets: &[(QueueId, SeekTarget)],
        really: bool,
    ) -> Result<Vec<QueueSeek>, OffsetError> {
        let inner = &self.inner;
        let (seeks, seq) = {
            let mut core = inner.deciding().map_err(|error| refused(&error))?;
            let mut seeks = Vec::with_capacity(targets.len());
            for &(queue, target) in targets {
                let to = resolve(&core, topic, queue, target)?;
                let seek = core.seek(topic.id, group.id, queue, to);
                // Deleted since it was looked up; what was decided for others so far is dropped with `seeks`.
                let seek = seek.ok_or_else(|| OffsetError::GroupNotFound(group.name.clone()))?;
                seeks.push(QueueSeek { queue, seek });
            }
            let mut unit = Unit::state();
            if really {
                for QueueSeek { queue, seek } in seeks.iter().filter(|one| !one.seek.idle) {
                    let (queue, next) = (*queue, seek.to);
                    unit.push(&Record::Reset { group: group.id, topic: topic.id, queue, next });
                }
            }
            let seq = inner.append_state(unit).map_err(|error| refused(&error))?;
            if let Some(seq) = seq {
                // Before the lock is free: whoever was granted something before sees that it may be gone.
                inner.reset_with(seq);
                for QueueSeek { queue, seek } in seeks.iter().filter(|one| !one.seek.idle) {
                    core.begin_at(topic.id, group.id, *queue, seek.to);
                }
            }
            (seeks, seq)
        };
        match seq {
            Some(seq) => inner.durable(seq).await.map_err(|_| shard_failed())?,
            // Where it stands already may be news of an earlier record.
            None => inner.settled_durably().await.map_err(|_| shard_failed())?,
        }
        Ok(seeks)
    }

    pub(super) fn topic_with(&self, name: &TopicName, queue: QueueId) -> Result<Arc<Topic>, OffsetError> {
        let topic = self.topic(name).ok_or_else(|| OffsetError::TopicNotFound(name.clone()))?;
        if queue.get() < topic.queues {
            Ok(topic)
        } else {
            Err(OffsetError::UnknownQueue { topic: name.clone(), queue, queues: topic.queues })
        }
    }

    /// The first message of each queue that was stored at or after an instant, or the queue's end: also among those that are
    /// not folded yet. Exact as long as the clock never went back.
    pub(super) async fn first_at(
        &self,
        topic: &Topic,
        queues: Vec<QueueId>,
        instant: Timestamp,
    ) -> Result<Vec<QueueOffset>, FoldError> {
        let (broker, id) = (self.clone(), topic.id);
        let search = move || queues.into_iter().map(|queue| broker.search(id, queue, instant)).collect();
        self.inner.tasks.blocking(search).await
    }

    /// Blocks on the disk.
    fn search(&self, topic: TopicId, queue: QueueId, instant: Timestamp) -> Result<QueueOffset, FoldError> {
        let store = &self.inner.store;
        loop {
            let folded = store.first_at_or_after(topic, queue, instant)?;
            let first = {
                let core = self.inner.core.lock();
                let tail = core.topic(topic).and_then(|state| state.tails.get(queue.get() as usize));
                let Some(tail) = tail else { return Ok(folded) };
                if let Some(found) = tail.first_at_or_after(folded, instant) {
                    return Ok(found.max(tail.first()));
                }
                tail.first()
            };
            // Not in memory, so folded by now. If it was not yet when it was searched for, the search has to see it.
            match store.entry(topic, queue, folded)? {
                Some(entry) if entry.stored_at < instant => {}
                Some(_) | None => return Ok(folded.max(first)),
            }
        }
    }
}

/// First retained offset of a queue, and the one after the last visible.
fn bounds(core: &Core, topic: &Topic, queue: QueueId) -> Result<(QueueOffset, QueueOffset), OffsetError> {
    let tail = core.topic(topic.id).and_then(|state| state.tails.get(queue.get() as usize));
    let tail = tail.ok_or_else(|| OffsetError::TopicNotFound(topic.name.clone()))?;
    Ok((tail.first(), tail.visible()))
}

/// # Errors
/// `offset` lies outside of the queue. Its end is inside: the next message will be there.
pub(super) fn in_bounds(
    core: &Core,
    topic: &Topic,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<QueueOffset, OffsetError> {
    let (first, next) = bounds(core, topic, queue)?;
    if (first..=next).contains(&offset) {
        Ok(offset)
    } else {
        Err(OffsetError::OutOfRange { topic: topic.name.clone(), queue, offset, first, next })
    }
}

fn resolve(core: &Core, topic: &Topic, queue: QueueId, target: SeekTarget) -> Result<QueueOffset, OffsetError> {
    let (first, next) = bounds(core, topic, queue)?;
    match target {
        SeekTarget::Earliest => Ok(first),
        SeekTarget::Latest => Ok(next),
        SeekTarget::Near(offset) => Ok(offset.clamp(first, next)),
        SeekTarget::Offset(offset) => in_bounds(core, topic, queue, offset),
        SeekTarget::At(_) => Err(OffsetError::ShardFailed("a time was not looked up".to_owned())),
    }
}

pub(super) fn shard_failed() -> OffsetError {
    OffsetError::ShardFailed("the log of this shard failed; the outcome is unknown".to_owned())
}

fn refused(error: &AppendError) -> OffsetError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => OffsetError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => OffsetError::ShardFailed(error.to_string()),
    }
}
