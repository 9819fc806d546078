//! How long a call waits for shards that are away. A client has given its call a time; an answer that comes later is none.

use std::future::Future;
use std::time::Duration;

use crate::runtime::clock::{Clock, Mark};

/// What clients give an ordinary call unless they say otherwise.
const CALL_TIME: Duration = Duration::from_secs(3);
/// Most that is left for the way back of an answer.
const MARGIN: Duration = Duration::from_millis(500);
/// Longest wait, whatever a client says: what waits takes memory.
const LONGEST: Duration = Duration::from_secs(20);
/// Pauses between two attempts.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How long a call with this time limit may wait, so that its answer is back in time.
#[must_use]
pub fn patience_of(time_limit: Option<Duration>) -> Duration {
    let limit = time_limit.unwrap_or(CALL_TIME);
    (limit - MARGIN.min(limit / 4)).min(LONGEST)
}

/// The pause before attempt number `round` after the first.
#[must_use]
pub fn pause_of(round: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << round.min(8)).min(PAUSE_MAX)
}

/// A wait that is running out.
#[derive(Clone, Debug)]
pub struct Waiting {
    clock: Clock,
    began: Mark,
    total: Duration,
    round: u32,
}

impl Waiting {
    /// Begins now.
    #[must_use]
    pub fn new(clock: &Clock, total: Duration) -> Self {
        Self { clock: clock.clone(), began: clock.mark(), total, round: 0 }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.total.saturating_sub(self.began.elapsed())
    }

    /// Waits a little before the next attempt, longer each time; false when there is no time for another.
    pub async fn pause(&mut self) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        self.clock.sleep(pause_of(self.round).min(left)).await;
        self.round += 1;
        true
    }

    /// What comes of an attempt, unless time runs out.
    pub async fn within<F: Future>(&self, attempt: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = attempt => Some(output),
            () = self.clock.sleep(self.left()) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_before_the_client_gives_up_and_no_wait_is_endless() {
        let ms = Duration::from_millis;
        let cases = [
            (None, ms(2_500)),
            (Some(ms(3_000)), ms(2_500)),
            (Some(ms(1_000)), ms(750)),
            (Some(ms(0)), ms(0)),
            (Some(ms(3_600_000)), ms(20_000)),
        ];
        for (limit, expected) in cases {
            assert_eq!(patience_of(limit), expected, "{limit:?}");
        }
        assert_eq!(pause_of(0), ms(10));
        assert_eq!(pause_of(u32::MAX), ms(200));
    }
}
