//! Publish: check, encode, give each message its place, append as one unit, wait for the promised rung.

use std::sync::Arc;

use crate::broker::api::{Publish, PublishError, Published, TopicSpec};
use crate::broker::members::fnv64;
use crate::broker::placing::Placing;
use crate::broker::verbs::Broker;
use crate::model::limits::SEND_BATCH_BYTES_MAX;
use crate::model::message::{MessageType, NewMessage};
use crate::model::name::{RETRY_PREFIX, TopicName};
use crate::model::position::{QueueId, UnitSeq};
use crate::model::priority::{level_of, queue_of_level};
use crate::model::tag::tag_hash;
use crate::model::topic::{Promise, Topic, TopicType};
use crate::runtime::watermark::Rung;
use crate::store::AppendError;
use crate::store::record::{MessageSlot, Unit};

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
        let mut bytes = 0;
        for message in &publish.messages {
            bytes += stored_bytes(message);
        }
        if bytes > SEND_BATCH_BYTES_MAX {
            return Err(PublishError::TooLarge);
        }
        // Encoded before the lock is taken; only queue, offset and time are filled in under it.
        let mut unit = Unit::send(bytes);
        let prepared: Vec<Prepared> =
            publish.messages.iter().map(|message| prepare(&topic, message, &mut unit)).collect();
        let (seq, published) = self.accept(&topic, &publish.messages, unit, &prepared)?;
        let rung = match topic.promise {
            Promise::Written => Rung::Written,
            Promise::Durable => Rung::Durable,
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
    fn accept(
        &self,
        topic: &Topic,
        messages: &[NewMessage],
        mut unit: Unit,
        prepared: &[Prepared],
    ) -> Result<(UnitSeq, Vec<Published>), PublishError> {
        let mut published = Vec::with_capacity(prepared.len());
        let mut placing = Placing::default();
        let mut core = self.inner.core.lock();
        let now = self.inner.clock.now();
        let gone = || PublishError::TopicNotFound(topic.name.clone());
        let shared_queue = core.next_queue(topic.id).ok_or_else(gone)?;
        for (message, prepared) in messages.iter().zip(prepared) {
            match prepared {
                Prepared::Queued(slot) => {
                    let queue = if topic.topic_type == TopicType::Priority {
                        queue_of_level(level_of(message.priority.unwrap_or(0)), shared_queue, topic.queues)
                    } else if message.message_group.is_empty() {
                        shared_queue
                    } else {
                        queue_of_group(&message.message_group, topic.queues)
                    };
                    let offset = placing.next(&core, topic.id, queue).ok_or_else(gone)?;
                    unit.place(*slot, queue, offset, now);
                    published.push(Published { queue, offset, recall_handle: None });
                }
            }
        }
        let seq = self.inner.store.append(unit).map_err(|error| match error {
            AppendError::Full { .. } => PublishError::Overloaded,
            AppendError::DiskFull(_) => PublishError::DiskFull,
            AppendError::TooLarge { .. } => PublishError::TooLarge,
            AppendError::Failed(_) | AppendError::Closed => PublishError::ShardFailed,
        })?;
        placing.accepted(&mut core);
        Ok((seq, published))
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
}

fn prepare(topic: &Topic, message: &NewMessage, unit: &mut Unit) -> Prepared {
    Prepared::Queued(unit.push_message(topic.id, topic.promise, tag_hash(&message.tag), message))
}

/// The queue of a message group. The server maps groups to queues itself: every client library hashes differently.
#[must_use]
pub fn queue_of_group(message_group: &str, queues: u32) -> QueueId {
    let hash = fnv64(message_group.as_bytes(), 0xcbf2_9ce4_8422_2325);
    QueueId(u32::try_from(hash % u64::from(queues.max(1))).unwrap_or(0))
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

fn check_kinds(topic: &Topic, messages: &[NewMessage]) -> Result<(), PublishError> {
    // Dead letters and retries keep the kind that their origin topic took.
    let takes_all = topic.name.is_dead_letter() || topic.name.name().starts_with(RETRY_PREFIX);
    for (index, message) in messages.iter().enumerate() {
        let found = message.message_type;
        if !takes_all && !takes(topic.topic_type, found) {
            let expected = topic.topic_type;
            return Err(PublishError::TypeConflict { topic: topic.name.clone(), expected, found, index });
        }
    }
    for message in messages {
        match message.message_type {
            MessageType::Normal | MessageType::Fifo | MessageType::Priority => {}
            MessageType::Delay => return Err(PublishError::NotImplemented("delayed messages")),
            MessageType::Transaction => return Err(PublishError::NotImplemented("transactional messages")),
            MessageType::Lite => return Err(PublishError::NotImplemented("lite topics")),
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
