//! What a consumer group is, and how long it waits between attempts.

use std::time::Duration;

use crate::model::name::GroupName;
use crate::model::position::GroupId;
use crate::model::time::Timestamp;
use crate::model::topic::TopicType;

/// Attempts before a message is dead-lettered, unless the group says otherwise.
pub const MAX_ATTEMPTS_DEFAULT: u32 = 17;
/// Longest time an auto-renewed delivery stays with its client, unless the group says otherwise. The reference renews for three hours.
pub const CONSUME_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3 * 60 * 60);

/// The back-off table of the protocol family, in seconds.
pub const BACKOFF_TABLE_SECONDS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// Delay before the next attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Backoff {
    /// A table by attempt; the last entry repeats. Never empty.
    Customized(Vec<Duration>),
    /// `initial * multiplier^(attempt-1)`, at most `max`.
    Exponential {
        /// After the first attempt.
        initial: Duration,
        /// Upper bound.
        max: Duration,
        /// Growth per attempt, at least 1.
        multiplier: f32,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Customized(BACKOFF_TABLE_SECONDS.iter().map(|&seconds| Duration::from_secs(seconds)).collect())
    }
}

impl Backoff {
    /// Delay after attempt number `attempt` (from 1) failed.
    #[must_use]
    pub fn after_attempt(&self, attempt: u32) -> Duration {
        let failed_before = attempt.saturating_sub(1);
        match self {
            Self::Customized(table) => {
                let index = (failed_before as usize).min(table.len().saturating_sub(1));
                table.get(index).copied().unwrap_or_default()
            }
            Self::Exponential { initial, max, multiplier } => {
                let factor = f64::from(*multiplier).powi(i32::try_from(failed_before.min(32)).unwrap_or(32));
                let wanted_seconds = initial.as_secs_f64() * factor;
                if wanted_seconds >= max.as_secs_f64() { *max } else { Duration::from_secs_f64(wanted_seconds) }
            }
        }
    }
}

/// Where a group that never consumed a topic begins. Queues created later always begin at their first message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartPosition {
    /// Oldest retained message.
    #[default]
    Earliest,
    /// Only what arrives after the group first receives.
    Latest,
    /// First message stored at or after this instant.
    At(Timestamp),
}

/// Settings of a consumer group, as the catalogue keeps them.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Internal id.
    pub id: GroupId,
    /// Name and namespace.
    pub name: GroupName,
    /// `Some(true)`: ordered; `Some(false)`: not ordered, also on FIFO topics; `None`: ordered exactly on FIFO topics (rule C13).
    pub ordered: Option<bool>,
    /// Where it begins.
    pub start: StartPosition,
    /// Deliveries before dead-lettering, at least 1.
    pub max_attempts: u32,
    /// Delay between attempts.
    pub backoff: Backoff,
    /// Longest time an auto-renewed delivery stays with its client.
    pub consume_timeout: Duration,
    /// Whether members may receive.
    pub enabled: bool,
    /// Whether a lite topic has one subscriber of the group at a time, the newest; otherwise all its subscribers share it.
    pub lite_exclusive: bool,
}

impl Group {
    /// A group as it is created when nobody said anything about it.
    #[must_use]
    pub fn with_defaults(id: GroupId, name: GroupName) -> Self {
        Self {
            id,
            name,
            ordered: None,
            start: StartPosition::Earliest,
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            backoff: Backoff::default(),
            consume_timeout: CONSUME_TIMEOUT_DEFAULT,
            enabled: true,
            lite_exclusive: false,
        }
    }

    /// Whether it consumes a topic of this type in order (rule C13).
    #[must_use]
    pub fn is_ordered(&self, topic: TopicType) -> bool {
        self.ordered.unwrap_or(topic == TopicType::Fifo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_starts_at_one_second_and_its_last_entry_repeats() {
        let backoff = Backoff::default();
        assert_eq!(backoff.after_attempt(1), Duration::from_secs(1));
        assert_eq!(backoff.after_attempt(2), Duration::from_secs(5));
        assert_eq!(backoff.after_attempt(18), Duration::from_secs(7200));
        assert_eq!(backoff.after_attempt(1000), Duration::from_secs(7200));
    }

    #[test]
    fn exponential_growth_stops_at_its_bound_and_never_overflows() {
        let backoff =
            Backoff::Exponential { initial: Duration::from_secs(5), max: Duration::from_secs(7200), multiplier: 2.0 };
        assert_eq!(backoff.after_attempt(1), Duration::from_secs(5));
        assert_eq!(backoff.after_attempt(3), Duration::from_secs(20));
        assert_eq!(backoff.after_attempt(u32::MAX), Duration::from_secs(7200));
    }
}
