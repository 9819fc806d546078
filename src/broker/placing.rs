//! Places in queues for messages of one unit. Offsets count as given out only when the log has taken the unit: a refusal must
//! leave no gap.

use crate::broker::delivery::core::Core;
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::Promise;
use crate::store::record::{MessageRecord, Record, Unit};

/// Places given so far, under the lock of the [`Core`] that they belong to.
#[derive(Debug, Default)]
pub struct Placing {
    given: Vec<(TopicId, QueueId, QueueOffset, u64)>,
}

impl Placing {
    /// The next place of a queue; `None` when the topic or the queue is gone.
    pub fn next(&mut self, core: &Core, topic: TopicId, queue: QueueId) -> Option<QueueOffset> {
        let known = self.given.iter().position(|(in_topic, in_queue, ..)| (*in_topic, *in_queue) == (topic, queue));
        let index = match known {
            Some(index) => index,
            None => {
                self.given.push((topic, queue, core.accepted(topic, queue)?, 0));
                self.given.len() - 1
            }
        };
        let (_, _, first, count) = &mut self.given[index];
        let offset = QueueOffset(first.get() + *count);
        *count += 1;
        Some(offset)
    }

    /// A queue comes into being with this unit; its first place is 0.
    pub fn begin(&mut self, topic: TopicId, queue: QueueId) {
        self.given.push((topic, queue, QueueOffset(0), 0));
    }

    /// Puts a copy of a stored message into a queue: how a held message becomes visible, and how a message changes its topic.
    /// The copy is stored anew, so that the queue's places keep the order of the log and retention counts from here.
    pub fn push_copy(
        &mut self,
        core: &Core,
        message: MessageRecord,
        (topic, queue): (TopicId, QueueId),
        now: Timestamp,
        unit: &mut Unit,
    ) -> Option<QueueOffset> {
        let offset = self.next(core, topic, queue)?;
        // Nobody waits for a copy: it is shown when it is durable, whatever the topic promises its senders.
        let mut copy = MessageRecord { topic, queue, offset, promise: Promise::Durable, ..message };
        copy.message.stored_at = now;
        unit.push(&Record::Message(copy));
        Some(offset)
    }

    /// The log has taken the unit: the places are given out.
    pub fn accepted(self, core: &mut Core) {
        for (topic, queue, _, count) in self.given {
            core.accept(topic, queue, count);
        }
    }
}
