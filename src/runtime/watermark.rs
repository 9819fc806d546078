//! Waiting until a rung of the ladder **accepted ≥ written ≥ durable** passes a unit.
//!
//! The appender raises a mark once per group commit and wakes each lane once; a small task on every lane (the pump) then
//! wakes that lane's own waiters, which costs no system call. Waiters are kept per lane in order of arrival.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;

use crate::model::position::UnitSeq;
use crate::runtime::tasks::{Tasks, current_lane};

/// A rung that can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// In the page cache.
    Written,
    /// On stable storage.
    Durable,
}

/// The shard failed (a write or a sync did); what was waited for may or may not be on disk.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the shard's log failed; the outcome is unknown until it has been reopened")]
pub struct ShardFailed;

/// The marks of one shard's log. Clones share them.
#[derive(Clone, Debug)]
pub struct Watermarks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    written: AtomicU64,
    durable: AtomicU64,
    failed: AtomicBool,
    lanes: Vec<Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    waiters: Mutex<VecDeque<(u64, Rung, Waker)>>,
    changed: Notify,
}

impl Watermarks {
    /// Marks at zero, with a pump on every lane.
    #[must_use]
    pub fn start(tasks: &Tasks) -> Self {
        let lanes = (0..tasks.lanes()).map(|_| Lane::default()).collect();
        let inner = Arc::new(Inner {
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            lanes,
        });
        for lane in 0..tasks.lanes() {
            // A weak pointer, so that the pump ends with the last user of the marks.
            let weak = Arc::downgrade(&inner);
            drop(tasks.spawn_on_lane(lane, async move {
                while let Some(inner) = weak.upgrade() {
                    let changed = inner.lanes[lane].changed.notified();
                    inner.wake_lane(lane);
                    if Arc::strong_count(&inner) == 1 {
                        return;
                    }
                    changed.await;
                }
            }));
        }
        Self { inner }
    }

    /// All units up to and including `seq` have reached `rung`.
    pub fn raise(&self, rung: Rung, seq: UnitSeq) {
        // What is durable is also written; the lower rung goes first, so that the ladder holds for everyone who looks.
        self.inner.written.fetch_max(seq.get(), Ordering::AcqRel);
        if rung == Rung::Durable {
            self.inner.durable.fetch_max(seq.get(), Ordering::AcqRel);
        }
        self.wake_all();
    }

    /// The log failed: everyone who still waits is told, and everyone who comes later.
    pub fn fail(&self) {
        self.inner.failed.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Whether the log failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner.failed.load(Ordering::Acquire)
    }

    /// The last unit that reached `rung`.
    #[must_use]
    pub fn mark(&self, rung: Rung) -> UnitSeq {
        UnitSeq(self.inner.mark(rung))
    }

    /// Waits until `seq` has reached `rung`.
    ///
    /// # Errors
    /// [`ShardFailed`] when the log failed before.
    pub fn wait(&self, rung: Rung, seq: UnitSeq) -> Wait<'_> {
        Wait { marks: self, rung, seq: seq.get() }
    }

    fn wake_all(&self) {
        for lane in &self.inner.lanes {
            // A lane where nobody waits is left asleep. Whoever enters after this look reads the raised mark itself.
            if !lane.waiters.lock().is_empty() {
                lane.changed.notify_one();
            }
        }
    }
}

impl Inner {
    fn mark(&self, rung: Rung) -> u64 {
        match rung {
            Rung::Written => self.written.load(Ordering::Acquire),
            Rung::Durable => self.durable.load(Ordering::Acquire),
        }
    }

    fn reached(&self, rung: Rung, seq: u64) -> Option<Result<(), ShardFailed>> {
        if self.mark(rung) >= seq {
            return Some(Ok(()));
        }
        self.failed.load(Ordering::Acquire).then_some(Err(ShardFailed))
    }

    fn wake_lane(&self, lane: usize) {
        let mut ready = Vec::new();
        {
            let mut waiters = self.lanes[lane].waiters.lock();
            // Nearly sorted by sequence: stop at the first that must wait on, and look at the stragglers behind it next time.
            let mut kept = 0;
            while let Some((seq, rung, _)) = waiters.get(kept) {
                if self.reached(*rung, *seq).is_some() {
                    if let Some((_, _, waker)) = waiters.remove(kept) {
                        ready.push(waker);
                    }
                } else {
                    kept += 1;
                }
            }
        }
        for waker in ready {
            waker.wake();
        }
    }
}

/// Future of [`Watermarks::wait`]. Dropping it leaves a waker behind that wakes nobody, until the mark passes.
#[derive(Debug)]
#[must_use = "a watermark does nothing unless awaited"]
pub struct Wait<'a> {
    marks: &'a Watermarks,
    rung: Rung,
    seq: u64,
}

impl Future for Wait<'_> {
    type Output = Result<(), ShardFailed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = &self.marks.inner;
        if let Some(result) = inner.reached(self.rung, self.seq) {
            return Poll::Ready(result);
        }
        let lane = &inner.lanes[current_lane().min(inner.lanes.len() - 1)];
        lane.waiters.lock().push_back((self.seq, self.rung, context.waker().clone()));
        // The mark may have passed between the look and the entry; the pump might then have missed us.
        match inner.reached(self.rung, self.seq) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::entropy::Entropy;

    fn marks() -> Watermarks {
        Watermarks::start(&Tasks::simulated(tokio::runtime::Handle::current(), Entropy::seeded(1)))
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_its_rung_passes_and_not_at_a_lower_rung() {
        let marks = marks();
        let waiting = {
            let marks = marks.clone();
            tokio::spawn(async move { marks.wait(Rung::Durable, UnitSeq(3)).await })
        };
        tokio::task::yield_now().await;
        marks.raise(Rung::Written, UnitSeq(3));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        marks.raise(Rung::Durable, UnitSeq(3));
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn what_is_durable_is_also_written() {
        let marks = marks();
        marks.raise(Rung::Durable, UnitSeq(5));
        marks.raise(Rung::Written, UnitSeq(4));
        assert_eq!(marks.wait(Rung::Written, UnitSeq(5)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_failed_log_never_says_ok_to_those_who_wait() {
        let marks = marks();
        marks.raise(Rung::Durable, UnitSeq(1));
        let waiting = {
            let marks = marks.clone();
            tokio::spawn(async move { marks.wait(Rung::Durable, UnitSeq(2)).await })
        };
        tokio::task::yield_now().await;
        marks.fail();
        assert_eq!(waiting.await.unwrap(), Err(ShardFailed));
        assert_eq!(marks.wait(Rung::Durable, UnitSeq(1)).await, Ok(()));
    }
}
