//! Units on their way to the appender: bounded, in order of acceptance.
//!
//! Callers push under a short lock and wake the appender only when it sleeps, so that under load nobody pays for a wake-up.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::position::UnitSeq;
use crate::store::log::error::AppendError;
use crate::store::record::Unit;

/// What the appender takes at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) units: Vec<Unit>,
    /// Bytes of all their records.
    pub(super) bytes: usize,
    /// The last of them.
    pub(super) last: UnitSeq,
}

#[derive(Debug, Default)]
struct State {
    units: Vec<Unit>,
    /// Of `units`.
    bytes: usize,
    /// Of `units` and of what the appender has taken and not finished.
    unfinished_bytes: usize,
    accepted: u64,
    sleeping: bool,
    ended: Option<AppendError>,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    unit_bytes_max: usize,
    bytes_max: usize,
    accepted: AtomicU64,
}

/// What the appender finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The batch is filled.
    Some,
    /// Nothing is there.
    Nothing,
    /// Nothing is there and nothing will come.
    Ended,
}

impl Queue {
    pub(super) fn new(unit_bytes_max: usize, bytes_max: usize) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), unit_bytes_max, bytes_max, accepted: AtomicU64::new(0) }
    }

    pub(super) fn push(&self, unit: Unit) -> Result<UnitSeq, AppendError> {
        let bytes = unit.bytes().len();
        if bytes > self.unit_bytes_max {
            return Err(AppendError::TooLarge { bytes, max: self.unit_bytes_max });
        }
        let (seq, wake) = {
            let mut state = self.state.lock();
            if let Some(ended) = &state.ended {
                return Err(ended.clone());
            }
            let waiting_bytes = state.unfinished_bytes;
            // Only what a producer sends can be refused here. A state change has been decided already, and refusing its record
            // would leave the decision without one; their number is bounded by the calls that may be open.
            if unit.is_send() && waiting_bytes > 0 && waiting_bytes.saturating_add(bytes) > self.bytes_max {
                return Err(AppendError::Full { waiting_bytes });
            }
            state.units.push(unit);
            state.bytes += bytes;
            state.unfinished_bytes += bytes;
            state.accepted += 1;
            self.accepted.store(state.accepted, Ordering::Release);
            (state.accepted, std::mem::take(&mut state.sleeping))
        };
        if wake {
            self.arrived.notify_one();
        }
        Ok(UnitSeq(seq))
    }

    /// Fills `batch` with what is there, up to the size of a frame. Its vector is reused.
    pub(super) fn take(&self, batch: &mut Batch) -> Taken {
        batch.units.clear();
        let mut state = self.state.lock();
        if state.units.is_empty() {
            return if state.ended.is_some() { Taken::Ended } else { Taken::Nothing };
        }
        if state.bytes <= self.unit_bytes_max {
            std::mem::swap(&mut state.units, &mut batch.units);
            batch.bytes = std::mem::take(&mut state.bytes);
            batch.last = UnitSeq(state.accepted);
            return Taken::Some;
        }
        let mut bytes = 0;
        let fits = |unit: &&Unit| {
            bytes += unit.bytes().len();
            bytes <= self.unit_bytes_max
        };
        let count = state.units.iter().take_while(fits).count();
        batch.units.extend(state.units.drain(..count));
        batch.bytes = batch.units.iter().map(|unit| unit.bytes().len()).sum();
        batch.last = UnitSeq(state.accepted - state.units.len() as u64);
        state.bytes -= batch.bytes;
        Taken::Some
    }

    /// Waits until there may be something to take.
    pub(super) async fn wait(&self) {
        {
            let mut state = self.state.lock();
            if !state.units.is_empty() || state.ended.is_some() {
                return;
            }
            state.sleeping = true;
        }
        self.arrived.notified().await;
    }

    /// The appender is done with so many bytes.
    pub(super) fn finished(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.unfinished_bytes = state.unfinished_bytes.saturating_sub(bytes);
    }

    /// Refuses everything from now on. What was accepted can still be taken, unless the log failed.
    pub(super) fn end(&self, why: AppendError) {
        {
            let mut state = self.state.lock();
            if matches!(why, AppendError::Failed(_)) {
                state.units.clear();
                state.bytes = 0;
                state.ended = Some(why);
            } else if state.ended.is_none() {
                state.ended = Some(why);
            }
            state.sleeping = false;
        }
        self.arrived.notify_one();
    }

    pub(super) fn ended(&self) -> Option<AppendError> {
        self.state.lock().ended.clone()
    }

    pub(super) fn accepted(&self) -> UnitSeq {
        UnitSeq(self.accepted.load(Ordering::Acquire))
    }

    pub(super) fn unfinished_bytes(&self) -> usize {
        self.state.lock().unfinished_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
    use crate::store::record::Record;

    fn unit() -> Unit {
        let mut unit = Unit::state();
        unit.push(&Record::Advanced { group: GroupId(1), topic: TopicId(2), queue: QueueId(3), next: QueueOffset(4) });
        unit
    }

    fn taken(queue: &Queue) -> (usize, u64) {
        let mut batch = Batch::default();
        assert_eq!(queue.take(&mut batch), Taken::Some);
        (batch.units.len(), batch.last.get())
    }

    #[test]
    fn a_batch_never_exceeds_a_frame_and_keeps_the_order() {
        let size = unit().bytes().len();
        let queue = Queue::new(size * 2, size * 10);
        for expected in 1..=5 {
            assert_eq!(queue.push(unit()), Ok(UnitSeq(expected)));
        }
        assert_eq!(taken(&queue), (2, 2));
        assert_eq!(taken(&queue), (2, 4));
        assert_eq!(taken(&queue), (1, 5));
        assert_eq!(queue.take(&mut Batch::default()), Taken::Nothing);
    }

    #[test]
    fn the_bound_counts_what_is_taken_and_not_finished() {
        let size = unit().bytes().len();
        let queue = Queue::new(size, size * 2);
        let send = || {
            let mut send = Unit::send(size);
            send.push(&Record::TopicDeleted(TopicId(1)));
            send.push(&Record::TopicDeleted(TopicId(2)));
            send
        };
        queue.push(unit()).unwrap();
        queue.push(unit()).unwrap();
        assert_eq!(taken(&queue).0, 1);
        assert_eq!(queue.push(send()), Err(AppendError::Full { waiting_bytes: size * 2 }));
        queue.push(unit()).unwrap();
        queue.finished(size * 2);
        queue.push(send()).unwrap();
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_accepted_and_a_failed_one_does_not() {
        let queue = Queue::new(1_000, 1_000);
        queue.push(unit()).unwrap();
        queue.end(AppendError::Closed);
        assert_eq!(queue.push(unit()), Err(AppendError::Closed));
        assert_eq!(taken(&queue).0, 1);
        assert_eq!(queue.take(&mut Batch::default()), Taken::Ended);

        let queue = Queue::new(1_000, 1_000);
        queue.push(unit()).unwrap();
        queue.end(AppendError::Failed("disk".into()));
        queue.end(AppendError::Closed);
        assert_eq!(queue.take(&mut Batch::default()), Taken::Ended);
        assert_eq!(queue.push(unit()), Err(AppendError::Failed("disk".into())));
    }

    #[test]
    fn a_unit_that_fits_no_frame_is_refused_alone() {
        let queue = Queue::new(8, 1_000);
        assert!(matches!(queue.push(unit()), Err(AppendError::TooLarge { max: 8, .. })));
    }

    #[tokio::test]
    async fn a_sleeping_appender_wakes_for_a_unit_and_for_the_end() {
        let queue = std::sync::Arc::new(Queue::new(1_000, 1_000));
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.wait().await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        queue.push(unit()).unwrap();
        waiting.await.unwrap();
        taken(&queue);
        let waiting = {
            let queue = queue.clone();
            tokio::spawn(async move { queue.wait().await })
        };
        tokio::task::yield_now().await;
        queue.end(AppendError::Closed);
        waiting.await.unwrap();
    }
}
