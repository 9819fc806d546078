//! Message groups that moved because queues were added: what a lane must wait for in the queues its message group lived in.
//! A message group moves to higher queues only. So what lies in a higher one came later, and waits; never the other way round.

use crate::broker::delivery::fifo::{Fence, Gate};
use crate::broker::delivery::subscription::QueueState;
use crate::model::order::queue_of;
use crate::model::position::QueueOffset;
use crate::model::topic::Growth;

/// Whether the group has considered what a gate waits for.
#[must_use]
pub fn is_passed(gate: Gate, queues: &[QueueState]) -> bool {
    match gate {
        Gate::Queue { queue, fence } => queues.get(queue).is_none_or(|state| state.leases.next() >= fence),
        // That is another shard's to say.
        Gate::Shard { .. } => false,
    }
}

/// What the lane of a message group in `queue` must wait for.
#[must_use]
pub fn fence_of(key: u64, queue: usize, growths: &[Growth], queues: &[QueueState]) -> Fence {
    let mut found = Fence::Open;
    for growth in growths {
        let before = queue_of(key, growth.before()).get() as usize;
        if before >= queue {
            continue;
        }
        let gate = Gate::Queue { queue: before, fence: growth.fences.get(before).copied().unwrap_or_default() };
        if !is_passed(gate, queues) {
            return Fence::Until(gate);
        }
        if queues.get(before).is_some_and(|state| state.leases.lanes().contains(key)) {
            found = Fence::Behind;
        }
    }
    found
}

/// Whether a fence of a queue lies in a step of the group's position.
#[must_use]
pub fn passes(queue: usize, growths: &[Growth], from: QueueOffset, to: QueueOffset) -> bool {
    growths.iter().filter_map(|growth| growth.fences.get(queue)).any(|fence| from < *fence && *fence <= to)
}

#[cfg(test)]
#[path = "fences_tests.rs"]
mod tests;
