//! The one clock. Real: a monotonic clock anchored to wall time once, so that a stepped system clock moves no lease.
//! Simulated: tokio's paused time plus a skew that a test may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::time::Timestamp;

/// Cheap handle of the clock.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    anchor: Instant,
    anchor_wall_ms: u64,
    skew_ms: AtomicI64,
    skewed: Notify,
}

impl Clock {
    /// The system's clock, read once for the wall time.
    #[must_use]
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::anchored(Timestamp(u64::try_from(wall.as_millis()).unwrap_or(0)))
    }

    /// A clock that shows `start` now and then follows tokio's time, which a simulation pauses.
    #[must_use]
    pub fn anchored(start: Timestamp) -> Self {
        let inner = Inner {
            anchor: Instant::now(),
            anchor_wall_ms: start.millis(),
            skew_ms: AtomicI64::new(0),
            skewed: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Wall time by this clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.inner.anchor.elapsed().as_millis()).unwrap_or(u64::MAX);
        let skew = self.inner.skew_ms.load(Ordering::Relaxed);
        Timestamp(self.inner.anchor_wall_ms.saturating_add(elapsed).saturating_add_signed(skew))
    }

    /// A point for measuring durations; unaffected by skew.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(Instant::now())
    }

    /// Moves this clock by `millis` from now on and wakes everyone who sleeps until an instant.
    pub fn skew_by(&self, millis: i64) {
        self.inner.skew_ms.fetch_add(millis, Ordering::Relaxed);
        self.inner.skewed.notify_waiters();
    }

    /// Waits for a duration.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until this clock shows `until`.
    pub async fn sleep_until(&self, until: Timestamp) {
        loop {
            let skewed = self.inner.skewed.notified();
            let now = self.now();
            if now >= until {
                return;
            }
            // A far future is cut, so that no timer overflows.
            let wait = until.since(now).min(Duration::from_secs(24 * 60 * 60));
            tokio::select! {
                biased;
                () = skewed => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// A point in monotonic time.
#[derive(Clone, Copy, Debug)]
pub struct Mark(Instant);

impl Mark {
    /// Time passed since.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_skewed_clock_wakes_those_who_wait_for_an_instant() {
        let clock = Clock::anchored(Timestamp(1_000));
        let sleeper = clock.clone();
        let waiting = tokio::spawn(async move {
            sleeper.sleep_until(Timestamp(3_600_000)).await;
            sleeper.now()
        });
        tokio::task::yield_now().await;
        clock.skew_by(3_600_000);
        assert!(waiting.await.unwrap() >= Timestamp(3_600_000));
        assert!(clock.mark().elapsed() < Duration::from_secs(1));
    }
}
