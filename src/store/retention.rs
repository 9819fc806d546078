//! Which segments may leave the log: pure, from facts about segments and the disk.
//!
//! Whole segments go, oldest first. A segment goes when its last frame is older than the age, when the log is larger than
//! its bound without it, or when the disk is fuller than the operator allows (off by default: it takes undelivered messages too);
//! never the one being written, and never one that is not folded yet.

use std::time::Duration;

use crate::model::position::LogPosition;
use crate::model::time::Timestamp;
use crate::store::files::Space;
use crate::store::log::SegmentInfo;

/// What may leave, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionPolicy {
    /// A segment stays so long after its last message. Default 72 h.
    pub age: Duration,
    /// Most bytes of segments; `None`: no bound. Default none.
    pub bytes: Option<u64>,
    /// Above this used part of the disk the oldest segments go regardless of age. 1: never.
    /// Default 1.
    pub disk_used_ratio_max: f64,
}

/// Where the log could begin now; `None` when nothing may leave. `segments` are in order of position; `folded` is the
/// position up to which the fold holds them.
#[must_use]
pub fn cut(
    segments: &[SegmentInfo],
    policy: &RetentionPolicy,
    space: Option<Space>,
    folded: LogPosition,
    now: Timestamp,
) -> Option<LogPosition> {
    let total_bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let over_bound = policy.bytes.map_or(0, |bound| total_bytes.saturating_sub(bound));
    let mut must_free_bytes = over_bound.max(space.map_or(0, |space| over_disk(space, policy.disk_used_ratio_max)));
    let mut start = None;
    // Each segment is looked at with the one behind it: the last never leaves.
    for pair in segments.windows(2) {
        let [segment, next] = pair else { break };
        let is_old = segment.last_at.is_some_and(|at| at.plus(policy.age) < now);
        let may_leave = segment.sealed && next.base <= folded;
        if !may_leave || !(is_old || must_free_bytes > 0) {
            break;
        }
        must_free_bytes = must_free_bytes.saturating_sub(segment.bytes);
        start = Some(next.base);
    }
    start
}

/// Bytes that must be freed so that the used part of the disk is no more than `ratio_max`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a bound on a ratio needs no exact bytes"
)]
fn over_disk(space: Space, ratio_max: f64) -> u64 {
    let allowed = (space.total_bytes as f64 * ratio_max.clamp(0.0, 1.0)) as u64;
    space.total_bytes.saturating_sub(space.free_bytes).saturating_sub(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// Five segments of 100 bytes, one an hour, the last being written.
    fn segments() -> Vec<SegmentInfo> {
        (0..5)
            .map(|number| SegmentInfo {
                base: LogPosition(number * 100),
                bytes: 100,
                first_at: Some(Timestamp(number * HOUR_MS)),
                last_at: Some(Timestamp((number + 1) * HOUR_MS - 1)),
                sealed: number < 4,
            })
            .collect()
    }

    fn policy() -> RetentionPolicy {
        RetentionPolicy { age: Duration::from_secs(72 * 3600), bytes: None, disk_used_ratio_max: 0.85 }
    }

    const FOLDED: LogPosition = LogPosition(450);

    #[test]
    fn a_segment_leaves_by_age_only_when_its_last_message_is_old() {
        let policy = RetentionPolicy { age: Duration::from_secs(3600), ..policy() };
        let at = |now_ms| cut(&segments(), &policy, None, FOLDED, Timestamp(now_ms));
        assert_eq!(at(2 * HOUR_MS - 1), None);
        assert_eq!(at(2 * HOUR_MS), Some(LogPosition(100)));
        assert_eq!(at(4 * HOUR_MS), Some(LogPosition(300)));
    }

    #[test]
    fn the_segment_being_written_stays_whatever_its_age() {
        let far = Timestamp(10_000 * HOUR_MS);
        assert_eq!(cut(&segments(), &policy(), None, FOLDED, far), Some(LogPosition(400)));
        assert_eq!(cut(&segments()[4..], &policy(), None, FOLDED, far), None);
        assert_eq!(cut(&[], &policy(), None, FOLDED, far), None);
    }

    #[test]
    fn what_is_not_folded_stays() {
        let far = Timestamp(10_000 * HOUR_MS);
        assert_eq!(cut(&segments(), &policy(), None, LogPosition(250), far), Some(LogPosition(200)));
        assert_eq!(cut(&segments(), &policy(), None, LogPosition(0), far), None);
    }

    #[test]
    fn the_log_shrinks_to_its_bound_and_no_further() {
        let at = |bound| {
            let policy = RetentionPolicy { bytes: Some(bound), ..policy() };
            cut(&segments(), &policy, None, FOLDED, Timestamp(0))
        };
        assert_eq!(at(500), None);
        assert_eq!(at(499), Some(LogPosition(100)));
        assert_eq!(at(300), Some(LogPosition(200)));
        assert_eq!(at(0), Some(LogPosition(400)));
    }

    #[test]
    fn a_full_disk_makes_the_oldest_leave_before_their_time() {
        let at = |free_bytes| {
            let space = Some(Space { total_bytes: 1000, free_bytes });
            cut(&segments(), &policy(), space, FOLDED, Timestamp(0))
        };
        assert_eq!(at(150), None);
        assert_eq!(at(149), Some(LogPosition(100)));
        assert_eq!(at(20), Some(LogPosition(200)));
    }

    #[test]
    fn by_default_a_full_disk_takes_no_message_before_its_time() {
        let policy = crate::store::StoreOptions::default().retention;
        let full = Some(Space { total_bytes: 1000, free_bytes: 0 });
        assert_eq!(cut(&segments(), &policy, full, FOLDED, Timestamp(0)), None);
    }
}
