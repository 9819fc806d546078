//! The newest settlements, so that a repeated ack is told from one for a superseded delivery (rule C29). Bounded; what was forgotten
//! is judged by the handle's own lease time alone, which is still true: a message that is done does not come back.

use std::collections::{HashMap, VecDeque};

use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;

/// Acks remembered.
const ACKS_MAX: usize = 32_768;

type Key = (TopicId, GroupId, QueueId, QueueOffset);

/// Which grant settled which message, and when its lease would have ended; `None` when no client did.
#[derive(Debug, Default)]
pub struct AckMemory {
    order: VecDeque<Key>,
    grants: HashMap<Key, Option<(GrantId, Timestamp)>>,
}

impl AckMemory {
    /// Remembers an ack.
    pub fn remember(
        &mut self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        offset: QueueOffset,
        by: Option<(GrantId, Timestamp)>,
    ) {
        let key = (topic, group, queue, offset);
        if self.grants.insert(key, by).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ACKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.grants.remove(&oldest);
        }
    }

    /// Until when a repeated ack by `grant` counts; `None` when another settled this message. What has been forgotten is judged
    /// by the end that the handle itself names.
    #[must_use]
    pub fn ack_counts_until(
        &self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        offset: QueueOffset,
        grant: GrantId,
        handle_end: Timestamp,
    ) -> Option<Timestamp> {
        match self.grants.get(&(topic, group, queue, offset)) {
            None => Some(handle_end),
            // The lease may have been made longer after this text of its handle.
            Some(Some((settled_by, lease_end))) if *settled_by == grant => Some(handle_end.max(*lease_end)),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_bounded_and_tells_a_repeat_from_a_superseded_delivery() {
        let mut memory = AckMemory::default();
        let (topic, group, queue) = (TopicId(1), GroupId(1), QueueId(0));
        let (end, longer) = (Timestamp(100), Timestamp(500));
        for offset in 0..ACKS_MAX as u64 + 10 {
            memory.remember(topic, group, queue, QueueOffset(offset), Some((GrantId(7), longer)));
        }
        assert_eq!(memory.order.len(), ACKS_MAX);
        assert_eq!(memory.grants.len(), ACKS_MAX);
        let until = |memory: &AckMemory, offset, grant| {
            memory.ack_counts_until(topic, group, queue, QueueOffset(offset), GrantId(grant), end)
        };
        assert_eq!(until(&memory, 0, 1), Some(end));
        assert_eq!(until(&memory, 100, 7), Some(longer));
        assert_eq!(until(&memory, 100, 8), None);
        memory.remember(topic, group, queue, QueueOffset(200), None);
        assert_eq!(until(&memory, 200, 7), None);
    }
}
