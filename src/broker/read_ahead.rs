//! What a receive must read from the folded state before it can go on. On the blocking pool, never under the lock.

use crate::broker::api::{Receive, ReceiveError};
use crate::broker::delivery::fifo::READ_BACK_MAX;
use crate::broker::delivery::subscription::READ_AHEAD;
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::verdicts::{Judges, Ruling};
use crate::broker::judging::judge;
use crate::broker::members::holder_of;
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::position::{QueueId, QueueOffset};
use crate::model::topic::Topic;
use crate::store::{FoldError, QueueEntry};

impl Broker {
    /// Reads entries of a queue that were never considered.
    pub(super) async fn read_ahead(
        &self,
        topic: &Topic,
        group: &Group,
        (queue, from): (QueueId, QueueOffset),
        judges: Judges,
    ) -> Result<(), ReceiveError> {
        let (store, id) = (self.inner.store.clone(), topic.id);
        // Judged on the same visit to the pool: who reads through a backlog with an expression goes there once, not twice.
        let read = move || {
            let entries = store.entries(id, queue, from, READ_AHEAD)?;
            let rulings = if judges.is_empty() { Vec::new() } else { judge(&store, &judges, queue, &entries) };
            Ok::<_, FoldError>((entries, judges, rulings))
        };
        let (entries, judges, rulings) =
            self.inner.tasks.blocking(read).await.map_err(|error| ReceiveError::ShardFailed(error.to_string()))?;
        self.take_ahead(topic, group, (queue, from), entries, (&judges, &rulings))
    }

    /// The same for all lite topics that a receive could be given from now: one by one would be a visit to the disk for each.
    pub(super) async fn read_ahead_lite(
        &self,
        topic: &Topic,
        group: &Group,
        receive: &Receive,
    ) -> Result<(), ReceiveError> {
        let (holder, max) = (holder_of(&receive.client), receive.batch.max(1));
        let missing = self.inner.core.lock().lite_missing(topic.id, group.id, holder, max);
        let (store, id) = (self.inner.store.clone(), topic.id);
        let read = self.inner.tasks.blocking(move || {
            let entries = |(queue, from)| Ok((queue, from, store.entries(id, queue, from, max)?));
            missing.into_iter().map(entries).collect::<Result<Vec<_>, FoldError>>()
        });
        for (queue, from, entries) in read.await.map_err(|error| ReceiveError::ShardFailed(error.to_string()))? {
            // Lite topics are read whole: nobody judges.
            self.take_ahead(topic, group, (queue, from), entries, (&Judges::default(), &[]))?;
        }
        Ok(())
    }

    fn take_ahead(
        &self,
        topic: &Topic,
        group: &Group,
        (queue, from): (QueueId, QueueOffset),
        entries: Vec<QueueEntry>,
        (judges, rulings): (&Judges, &[Ruling]),
    ) -> Result<(), ReceiveError> {
        let connects = entries.first().is_some_and(|entry| entry.offset == from);
        let mut core = self.inner.core.lock();
        let first = core.topic(topic.id).and_then(|state| state.tail(queue)).map(QueueTail::first);
        if !connects && first.is_some_and(|first| first <= from) {
            // Neither in memory nor in the folded state, and not out of retention: skipping it would lose a message silently.
            let text = format!(
                "queue entry {} of queue {queue} of topic {} is missing from the folded state",
                from, topic.name
            );
            return Err(ReceiveError::ShardFailed(text));
        }
        core.read_ahead(topic.id, group.id, queue, entries);
        core.judged(topic.id, group.id, judges, rulings);
        Ok(())
    }

    /// Reads messages of a lane that were passed over while it could not be given from.
    pub(super) async fn read_back(
        &self,
        topic: &Topic,
        group: &Group,
        queue: QueueId,
        order_key: u64,
        from: QueueOffset,
    ) -> Result<(), ReceiveError> {
        let (store, id) = (self.inner.store.clone(), topic.id);
        let read =
            self.inner.tasks.blocking(move || store.lane_entries(id, queue, order_key, from, READ_BACK_MAX)).await;
        let (entries, complete) = read.map_err(|error| ReceiveError::ShardFailed(error.to_string()))?;
        let place = (topic.id, group.id, queue);
        self.inner.core.lock().read_back(place, (order_key, from), &entries, complete);
        Ok(())
    }
}
