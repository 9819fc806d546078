//! Levels of a PRIORITY topic. Each level is a queue of its own, so a message keeps its level wherever it goes, and a retry keeps
//! it by staying in its queue. Queue ids are `lane * LEVELS + level`: the number of lanes can grow and no message changes level.

use std::time::Duration;

use crate::model::position::QueueId;
use crate::model::time::Timestamp;

/// Levels, from 0; the last is the most urgent. Larger priorities count as the last.
pub const LEVELS: u32 = 10;
/// A message gains one level for each such time that it waits. So the lowest waits at most nine of them longer than the highest,
/// and a level that is never empty cannot starve the others.
pub const AGEING: Duration = Duration::from_secs(10);

/// The level of a priority.
#[must_use]
pub const fn level_of(priority: u32) -> u32 {
    if priority < LEVELS { priority } else { LEVELS - 1 }
}

/// The level whose messages a queue holds.
#[must_use]
pub const fn level_of_queue(queue: QueueId) -> u32 {
    queue.get() % LEVELS
}

/// The queue of a level beside `any`, a queue of the same topic, which has `queues` of them.
#[must_use]
pub fn queue_of_level(level: u32, any: QueueId, queues: u32) -> QueueId {
    let lane = any.get() / LEVELS % (queues / LEVELS).max(1);
    // A topic from before there were levels may lack the last queues.
    QueueId((lane * LEVELS + level).min(queues.saturating_sub(1)))
}

/// Where a message that waits since `since` stands: less is earlier. The level that it has reached by waiting,
/// `level + waited / AGEING`, grows equally fast for all who wait, so who is ahead never depends on when one looks.
#[must_use]
pub fn rank(level: u32, since: Timestamp) -> i64 {
    let ahead = i64::from(level) * i64::try_from(AGEING.as_millis()).unwrap_or(i64::MAX);
    i64::try_from(since.millis()).unwrap_or(i64::MAX).saturating_sub(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_beyond_the_last_level_counts_as_the_last() {
        assert_eq!([0, 9, 10, u32::MAX].map(level_of), [0, 9, 9, 9]);
    }

    #[test]
    fn more_lanes_change_no_level() {
        for queues in [10, 20, 70] {
            for any in 0..queues {
                for level in 0..LEVELS {
                    let queue = queue_of_level(level, QueueId(any), queues);
                    assert_eq!(level_of_queue(queue), level);
                    assert!(queue.get() < queues);
                    assert_eq!(queue.get() / LEVELS, any / LEVELS);
                }
            }
        }
        assert_eq!(queue_of_level(9, QueueId(7), 8), QueueId(7), "a topic with too few queues loses nothing");
    }

    #[test]
    fn one_step_of_waiting_is_worth_one_level() {
        let later = Timestamp(1_000).plus(AGEING);
        assert_eq!(rank(3, Timestamp(1_000)), rank(4, later));
        assert!(rank(9, Timestamp(1_000)) < rank(8, Timestamp(1_000)));
        assert!(rank(0, Timestamp(1_000)) < rank(9, Timestamp(1_001).plus(AGEING * 9)));
    }
}
