//! Publish: check, encode, give each message its place, append as one unit, wait for the promised rung. A message whose time
//! has not come is held back instead: it gets its place when it fires.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::api::{ClientId, Publish, PublishError, Published, TopicSpec};
use crate::broker::delivery::transactions::{Arrival, HalfKey};
use crate::broker::lite::LitePlacing;
use crate::broker::members::holder_of;
use crate::broker::placing::Placing;
use crate::broker::verbs::Broker;
use crate::model::limits::SEND_BATCH_BYTES_MAX;
use crate::model::message::{MessageType, NewMessage};
use crate::model::name::{RETRY_PREFIX, TopicName};
use crate::model::order::{order_key, queue_of};
use crate::model::position::{QueueId, QueueOffset, UnitSeq};
use crate::model::priority::{level_of, queue_of_level};
use crate::model::tag::tag_hash;
use crate::model::time::Timestamp;
use crate::model::topic::{Promise, Topic, TopicType};
use crate::runtime::watermark::Rung;
use crate::store::AppendError;
use crate::store::record::{HoldKey, MessageSlot, Unit};

/// Bytes of a stored message beyond its slices: record header and fixed fields, rounded up.
const OVERHEAD_BYTES: usize = 64;

impl Broker {
    /// Stores messages, all or none, and answers when the topic's promise is kept.
    ///
    /// # Errors
    /// Nothing was stored; after [`PublishError::ShardFailed`] alone that is unknown.
    pub async fn publish(&self, publish: Publish) -> Result<Vec<Published>, PublishError> {
        let topic = self.topic_to_publish(&publish.topic).await?;
        check_kinds(&topic, &publish.messages)?;
        if self.inner.handles.load().is_empty() && publish.messages.iter().any(|message| message.due.is_some()) {
            // In a cluster whose keys are not known here yet, there is no handle to recall it by.
            return Err(PublishError::Overloaded);
        }
        let mut bytes = 0;
        for message in &publish.messages {
            bytes += stored_bytes(message);
        }
        if bytes > SEND_BATCH_BYTES_MAX {
            return Err(PublishError::TooLarge);
        }
        let mut is_held;
        let (seq, published) = loop {
            let known = self.known_halves(topic.id, &publish.messages);
            // Encoded before the lock is taken; only queue, offset and time are filled in under it.
            let mut unit = Unit::send(bytes);
            let now = self.inner.clock.now();
            let prepare = |(index, message)| match known.get(&index) {
                Some(seq) => Prepared::Known(*seq),
                None => self.prepare(&topic, message, now, &mut unit),
            };
            let prepared: Vec<Prepared> = publish.messages.iter().enumerate().map(prepare).collect();
            is_held = prepared.iter().any(|one| !matches!(one, Prepared::Queued(_)));
            if let Some(accepted) = self.accept(&topic, &publish.messages, unit, &prepared)? {
                break accepted;
            }
        };
        let rung = match topic.promise {
            // What is held back lives from the disk alone.
            Promise::Written if !is_held => Rung::Written,
            Promise::Written | Promise::Durable => Rung::Durable,
        };
        self.inner.store.marks().wait(rung, seq).await.map_err(|_| PublishError::ShardFailed)?;
        self.count_in(&topic, &publish.messages);
        Ok(published)
    }

    async fn topic_to_publish(&self, name: &TopicName) -> Result<Arc<Topic>, PublishError> {
        let topic = match self.topic(name) {
            Some(topic) => topic,
            None if self.inner.options.auto_create_topics => self
                .create_topic(name.clone(), TopicSpec::default())
                .await
                .map_err(|_| PublishError::TopicNotFound(name.clone()))?,
            None => return Err(PublishError::TopicNotFound(name.clone())),
        };
        if topic.permission.writable { Ok(topic) } else { Err(PublishError::NotWritable(name.clone())) }
    }

    /// Gives every message its place, and the unit to the log, under one lock: the order of places is the order of the log.
    /// `None`: a half message came in from elsewhere meanwhile, so it is to be prepared anew.
    fn accept(
        &self,
        topic: &Topic,
        messages: &[NewMessage],
        mut unit: Unit,
        prepared: &[Prepared],
    ) -> Result<Option<(UnitSeq, Vec<Published>)>, PublishError> {
        let mut published = Vec::with_capacity(prepared.len());
        let mut placing = Placing::default();
        let mut lite = LitePlacing::default();
        let mut halves = Vec::new();
        let mut awaited = UnitSeq(0);
        let mut core = self.inner.core.lock();
        let now = self.inner.clock.now();
        let gone = || PublishError::TopicNotFound(topic.name.clone());
        // As it is under the lock: a topic that has grown meanwhile has its new queues from one message on, for all senders.
        let queues = core.topic(topic.id).ok_or_else(gone)?.topic.queues;
        let shared_queue = core.next_queue(topic.id).ok_or_else(gone)?;
        let shards = &core.topic(topic.id).ok_or_else(gone)?.shards;
        if shards.placement().is_some()
            && messages.iter().any(|message| !shards.takes(order_key(&message.message_group)))
        {
            return Err(PublishError::Moved);
        }
        for (message, prepared) in messages.iter().zip(prepared) {
            match prepared {
                Prepared::Queued(slot) if message.message_type == MessageType::Lite => {
                    let (queue, offset) =
                        lite.next(&core, &mut placing, &self.inner.options, topic, &message.lite_topic, &mut unit)?;
                    unit.place(*slot, queue, offset, now);
                    published.push(Published { queue, offset, recall_handle: None });
                }
                Prepared::Queued(slot) => {
                    let queue = if topic.topic_type == TopicType::Priority {
                        queue_of_level(level_of(message.priority.unwrap_or(0)), shared_queue, queues)
                    } else if message.message_group.is_empty() {
                        shared_queue
                    } else {
                        queue_of_group(&message.message_group, queues)
                    };
                    let offset = placing.next(&core, topic.id, queue).ok_or_else(gone)?;
                    unit.place(*slot, queue, offset, now);
                    published.push(Published { queue, offset, recall_handle: None });
                }
                Prepared::Half(slot, first_check_after) => {
                    let key = HalfKey::new(topic.id, &message.message_id);
                    if core.transactions.known(&key).is_some() {
                        return Ok(None);
                    }
                    unit.place(*slot, QueueId(0), QueueOffset(0), now);
                    halves.push((key, message.producer.clone(), *first_check_after));
                    published.push(Published::default());
                }
                Prepared::Known(seq) => {
                    awaited = awaited.max(*seq);
                    published.push(Published::default());
                }
                Prepared::Delayed(slot, key) => {
                    core.topic(topic.id).ok_or_else(gone)?;
                    unit.place(*slot, QueueId(0), QueueOffset(0), now);
                    let recall_handle = Some(self.recall_handle(topic.id, *key, &message.message_id));
                    published.push(Published { recall_handle, ..Published::default() });
                }
            }
        }
        if !core.transactions.has_room(halves.len()) {
            return Err(PublishError::Overloaded);
        }
        if unit.is_empty() {
            return Ok(Some((awaited, published)));
        }
        let seq = self.inner.store.append(unit).map_err(|error| match error {
            AppendError::Full { .. } => PublishError::Overloaded,
            AppendError::DiskFull(_) => PublishError::DiskFull,
            AppendError::TooLarge { .. } => PublishError::TooLarge,
            AppendError::Failed(_) | AppendError::Closed => PublishError::ShardFailed,
        })?;
        lite.accepted(&mut core, topic.id, now);
        placing.accepted(&mut core);
        for (key, producer, first_check_after) in halves {
            // It lives, and may be connected elsewhere: the first check is left to whoever it is connected to.
            self.inner.members.seen(holder_of(&ClientId(producer.clone())), false, self.inner.clock.steady());
            core.transactions.admit(key, Arrival { stored_at: now, first_check_after, producer, seq });
        }
        Ok(Some((seq.max(awaited), published)))
    }

    fn prepare(&self, topic: &Topic, message: &NewMessage, now: Timestamp, unit: &mut Unit) -> Prepared {
        let hash = tag_hash(&message.tag);
        if is_half(message) {
            // A client that sets the field to zero has no wish.
            let wish = message.orphan_after.filter(|wish| !wish.is_zero());
            let first_check_after = wish.unwrap_or(self.inner.options.transactions.first_check);
            return Prepared::Half(unit.push_half(topic.id, hash, message, first_check_after), first_check_after);
        }
        match message.due {
            Some(due) if message.message_type == MessageType::Delay && due > now => {
                let key = HoldKey { due, hold: self.inner.next_hold() };
                Prepared::Delayed(unit.push_delayed(key, topic.id, topic.promise, hash, message), key)
            }
            // A past delivery time delivers at once (rule C20).
            _ => Prepared::Queued(unit.push_message(topic.id, topic.promise, hash, message)),
        }
    }

    fn count_in(&self, topic: &Topic, messages: &[NewMessage]) {
        for message in messages {
            self.inner.metrics.messages_in(topic.name.name(), message.message_type, 1, u64::from(message.body_bytes));
        }
    }
}

/// A message encoded into the unit, and what is still to be decided about it under the lock.
#[derive(Clone, Copy, Debug)]
enum Prepared {
    /// It goes into a queue: place and time are to be filled in.
    Queued(MessageSlot),
    /// It is held back until its time.
    Delayed(MessageSlot, HoldKey),
    /// It waits for the end of its transaction: its time is to be filled in. With the time that its producer is left alone.
    Half(MessageSlot, Duration),
    /// It is a half message that is stored already, in this unit: its sender did not hear the answer.
    Known(UnitSeq),
}

/// Whether a message waits for the end of its transaction.
pub(super) fn is_half(message: &NewMessage) -> bool {
    message.message_type == MessageType::Transaction
}

/// The queue of a message group. The server maps groups to queues itself: every client library hashes differently.
#[must_use]
pub fn queue_of_group(message_group: &str, queues: u32) -> QueueId {
    queue_of(order_key(message_group), queues)
}

fn stored_bytes(message: &NewMessage) -> usize {
    OVERHEAD_BYTES
        + message.message_id.len()
        + message.tag.len()
        + message.message_group.len()
        + message.lite_topic.len()
        + message.rest.len()
        + message.system_static.len()
}

/// Whether a topic takes messages of this kind (rule C18).
#[must_use]
pub fn takes(topic_type: TopicType, message_type: MessageType) -> bool {
    match topic_type {
        TopicType::Normal => message_type == MessageType::Normal,
        TopicType::Fifo => message_type == MessageType::Fifo,
        TopicType::Delay => message_type == MessageType::Delay,
        TopicType::Transaction => message_type == MessageType::Transaction,
        TopicType::Priority => message_type == MessageType::Priority,
        TopicType::Lite => message_type == MessageType::Lite,
        TopicType::Mixed => true,
    }
}

/// Whether a topic takes all of these.
///
/// # Errors
/// [`PublishError::TypeConflict`] with the first one that it does not take.
pub fn check_kinds(topic: &Topic, messages: &[NewMessage]) -> Result<(), PublishError> {
    // Dead letters and retries keep the kind that their origin topic took.
    let takes_all = topic.name.is_dead_letter() || topic.name.name().starts_with(RETRY_PREFIX);
    for (index, message) in messages.iter().enumerate() {
        let found = message.message_type;
        if !takes_all && !takes(topic.topic_type, found) {
            let expected = topic.topic_type;
            return Err(PublishError::TypeConflict { topic: topic.name.clone(), expected, found, index });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_takes_its_own_kind_only_and_mixed_takes_all() {
        let kinds = [
            (TopicType::Normal, MessageType::Normal),
            (TopicType::Fifo, MessageType::Fifo),
            (TopicType::Delay, MessageType::Delay),
            (TopicType::Transaction, MessageType::Transaction),
            (TopicType::Priority, MessageType::Priority),
            (TopicType::Lite, MessageType::Lite),
        ];
        for (topic, own) in kinds {
            for (_, message) in kinds {
                assert_eq!(takes(topic, message), message == own, "{topic:?} {message:?}");
                assert!(takes(TopicType::Mixed, message));
            }
        }
    }
}
