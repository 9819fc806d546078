//! The one clock. Real: a monotonic clock anchored to wall time once, so that a stepped system clock moves no lease.
//! Simulated: tokio's paused time plus a skew that a test may change.
//!
//! A movable clock is the real one with a skew that grows at an operator's word: whatever waits for an instant follows it,
//! whatever waits for a peer (a poll, a connection, a sign of life) does not, or every live client would seem silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
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
    movable: bool,
}

/// The furthest that a movable clock may be ahead: instants must stay far from the end of what a timestamp holds.
pub const AHEAD_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Why the clock was not moved.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AdvanceError {
    /// It follows real time.
    #[error("time follows the system's clock here; a server started with --virtual-time can be moved")]
    Fixed,
    /// It would be further ahead than [`AHEAD_MAX`].
    #[error("the clock may be at most 100 years ahead")]
    TooFar,
}

impl Clock {
    /// The system's clock, read once for the wall time.
    #[must_use]
    pub fn system() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::new(Timestamp(u64::try_from(wall.as_millis()).unwrap_or(0)), false)
    }

    /// Shows the system's time and can be moved ahead, for tests of what takes long.
    #[must_use]
    pub fn movable() -> Self {
        Self::new(Self::system().now(), true)
    }

    /// A clock that shows `start` now and then follows tokio's time, which a simulation pauses.
    #[must_use]
    pub fn anchored(start: Timestamp) -> Self {
        Self::new(start, false)
    }

    fn new(start: Timestamp, movable: bool) -> Self {
        let inner = Inner {
            anchor: Instant::now(),
            anchor_wall_ms: start.millis(),
            skew_ms: AtomicI64::new(0),
            skewed: Notify::new(),
            movable,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Wall time by this clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let skew = self.inner.skew_ms.load(Ordering::Relaxed);
        Timestamp(self.steady().millis().saturating_add_signed(skew))
    }

    /// Time that nobody moves: for what is measured between this process and its peers, such as how long a client was silent.
    /// Not to be compared with [`Clock::now`], and never to be stored.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        let elapsed = u64::try_from(self.inner.anchor.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.inner.anchor_wall_ms.saturating_add(elapsed))
    }

    /// Whether [`Clock::advance`] may move it.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        self.inner.movable
    }

    /// How far it was moved ahead.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.inner.skew_ms.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// Moves the clock ahead; never back, since instants that were given out would come a second time. Everyone who sleeps
    /// until an instant that has come by then is woken before this returns.
    ///
    /// # Errors
    /// See [`AdvanceError`]; the clock was not moved.
    pub fn advance(&self, by: Duration) -> Result<Timestamp, AdvanceError> {
        if !self.inner.movable {
            return Err(AdvanceError::Fixed);
        }
        let most = i64::try_from(AHEAD_MAX.as_millis()).unwrap_or(i64::MAX);
        let by = i64::try_from(by.as_millis()).map_err(|_| AdvanceError::TooFar)?;
        let moved = self.inner.skew_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, |skew| {
            skew.checked_add(by).filter(|skew| *skew <= most)
        });
        moved.map_err(|_| AdvanceError::TooFar)?;
        self.inner.skewed.notify_waiters();
        Ok(self.now())
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

    #[tokio::test(start_paused = true)]
    async fn an_advance_wakes_sleepers_moves_only_forward_and_leaves_steady_time_alone() {
        let clock = Clock::movable();
        let (before, steady) = (clock.now(), clock.steady());
        let sleeper = clock.clone();
        let until = before.plus(Duration::from_secs(900));
        let waiting = tokio::spawn(async move { sleeper.sleep_until(until).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(clock.advance(Duration::from_secs(900)), Ok(until));
        waiting.await.unwrap();
        assert_eq!(clock.steady(), steady, "nobody slept, nobody may seem silent");
        assert_eq!(clock.ahead(), Duration::from_secs(900));
        assert_eq!(clock.advance(AHEAD_MAX), Err(AdvanceError::TooFar));
        assert_eq!(clock.advance(Duration::MAX), Err(AdvanceError::TooFar));
        assert_eq!(clock.now(), until);
    }

    #[tokio::test(start_paused = true)]
    async fn a_real_clock_cannot_be_advanced() {
        let clock = Clock::system();
        let before = clock.now();
        assert_eq!(clock.advance(Duration::from_secs(1)), Err(AdvanceError::Fixed));
        assert_eq!(clock.now(), before);
    }
}
