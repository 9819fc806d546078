//! Lanes that could be given from, were it not for what their message groups left elsewhere. Part of [`Lanes`].

use crate::broker::delivery::fifo::Lanes;
use crate::model::position::{QueueOffset, ShardId};

/// What a group must be done with first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// A position in another queue.
    Queue {
        /// Index of the queue.
        queue: usize,
        /// What lies below it is considered.
        fence: QueueOffset,
    },
    /// What the lane's message group left on another shard.
    Shard {
        /// Generation under which that shard sealed.
        generation: u32,
        /// That shard.
        shard: ShardId,
    },
}

/// Whether a lane must wait for what its message group left in another queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// It need not.
    Open,
    /// Until then, whatever is there.
    Until(Gate),
    /// Until its messages there are done.
    Behind,
}

impl Lanes {
    /// The lane waits at a gate.
    pub fn hold(&mut self, key: u64, gate: Gate) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.ticket.is_some_and(|ticket| self.tickets.remove(&ticket).is_some()) {
            lane.gate = Some(gate);
            self.gated.entry(gate).or_default().insert(key);
        }
    }

    /// Lets the lanes go on that wait at open gates, each with the ticket it had.
    pub fn release(&mut self, is_open: impl Fn(Gate) -> bool) {
        let open: Vec<Gate> = self.gated.keys().copied().filter(|gate| is_open(*gate)).collect();
        for key in open.iter().filter_map(|gate| self.gated.remove(gate)).flatten() {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.gate = None;
            if let Some(ticket) = lane.ticket {
                self.tickets.insert(ticket, key);
            }
        }
    }

    /// Lets some of the lanes go on that wait at a gate.
    pub fn release_some(&mut self, gate: Gate, keys: &[u64]) {
        let Some(held) = self.gated.get_mut(&gate) else { return };
        for key in keys.iter().filter(|key| held.remove(key)) {
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            lane.gate = None;
            if let Some(ticket) = lane.ticket {
                self.tickets.insert(ticket, *key);
            }
        }
        if held.is_empty() {
            self.gated.remove(&gate);
        }
    }

    /// Lanes that wait at gates.
    pub fn held(&self) -> impl Iterator<Item = (Gate, impl Iterator<Item = u64> + '_)> + '_ {
        self.gated.iter().map(|(gate, keys)| (*gate, keys.iter().copied()))
    }
}
