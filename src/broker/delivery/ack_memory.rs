//! The newest settlements, so that a repeated ack is told from one for a superseded delivery (rule C29). Bounded; what was forgotten
//! is judged by the handle's own lease time alone, which is still true: a message that is done does not come back.

use std::collections::{HashMap, VecDeque};

use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};

/// Acks remembered.
const ACKS_MAX: usize = 32_768;

type Key = (TopicId, GroupId, QueueId, QueueOffset);

/// Which grant settled which message; `None` when no client did.
#[derive(Debug, Default)]
pub struct AckMemory {
    order: VecDeque<Key>,
    grants: HashMap<Key, Option<GrantId>>,
}

impl AckMemory {
    /// Remembers an ack.
    pub fn remember(
        &mut self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        offset: QueueOffset,
        grant: Option<GrantId>,
    ) {
        let key = (topic, group, queue, offset);
        if self.grants.insert(key, grant).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ACKS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.grants.remove(&oldest);
        }
    }

    /// Whether `grant` can be the one that settled this message: yes if it was, yes if that has been forgotten.
    #[must_use]
    pub fn may_be_ack_of(
        &self,
        topic: TopicId,
        group: GroupId,
        queue: QueueId,
        offset: QueueOffset,
        grant: GrantId,
    ) -> bool {
        self.grants.get(&(topic, group, queue, offset)).is_none_or(|&settled_by| settled_by == Some(grant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_bounded_and_tells_a_repeat_from_a_superseded_delivery() {
        let mut memory = AckMemory::default();
        let (topic, group, queue) = (TopicId(1), GroupId(1), QueueId(0));
        for offset in 0..ACKS_MAX as u64 + 10 {
            memory.remember(topic, group, queue, QueueOffset(offset), Some(GrantId(7)));
        }
        assert_eq!(memory.order.len(), ACKS_MAX);
        assert_eq!(memory.grants.len(), ACKS_MAX);
        assert!(memory.may_be_ack_of(topic, group, queue, QueueOffset(0), GrantId(1)));
        assert!(memory.may_be_ack_of(topic, group, queue, QueueOffset(100), GrantId(7)));
        assert!(!memory.may_be_ack_of(topic, group, queue, QueueOffset(100), GrantId(8)));
        memory.remember(topic, group, queue, QueueOffset(200), None);
        assert!(!memory.may_be_ack_of(topic, group, queue, QueueOffset(200), GrantId(7)));
    }
}
