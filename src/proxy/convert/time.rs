//! Durations and instants. The wire's may be negative or absurd; ours cannot.

use std::time::Duration;

use crate::model::time::Timestamp;

const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// `None` for a negative or malformed duration.
pub fn duration(wire: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u32::try_from(wire.nanos).ok().filter(|_| wire.nanos < NANOS_PER_SECOND)?;
    Some(Duration::new(seconds, nanos))
}

/// Seconds beyond the wire's range saturate.
pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Instants before 1970 become the epoch, those beyond the range the end of time.
pub fn timestamp(wire: &prost_types::Timestamp) -> Timestamp {
    let Ok(seconds) = u64::try_from(wire.seconds) else { return Timestamp(0) };
    let millis = u64::try_from(wire.nanos.clamp(0, NANOS_PER_SECOND - 1)).unwrap_or(0) / 1_000_000;
    Timestamp(seconds.saturating_mul(1000).saturating_add(millis))
}

/// The first of our instants that is not before the wire's: for a time before which something must not happen.
pub fn not_before(wire: &prost_types::Timestamp) -> Timestamp {
    let floor = timestamp(wire);
    if wire.seconds >= 0 && wire.nanos > 0 && wire.nanos % 1_000_000 != 0 {
        Timestamp(floor.millis().saturating_add(1))
    } else {
        floor
    }
}

/// To the millisecond.
pub fn wire_timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(at.millis() / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.millis() % 1000).unwrap_or(0) * 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_and_malformed_durations_are_none() {
        let of = |seconds, nanos| duration(&prost_types::Duration { seconds, nanos });
        assert_eq!(of(0, 0), Some(Duration::ZERO));
        assert_eq!(of(9, 999_000_000), Some(Duration::from_millis(9_999)));
        assert_eq!(of(-1, 0), None);
        assert_eq!(of(0, -1), None);
        assert_eq!(of(0, NANOS_PER_SECOND), None);
    }

    #[test]
    fn absurd_instants_saturate() {
        let of = |seconds, nanos| timestamp(&prost_types::Timestamp { seconds, nanos });
        assert_eq!(of(-5, 0), Timestamp(0));
        assert_eq!(of(i64::MAX, 0), Timestamp(u64::MAX));
        assert_eq!(of(1, 999_999_999), Timestamp(1999));
        let not_before = |seconds, nanos| not_before(&prost_types::Timestamp { seconds, nanos });
        assert_eq!(not_before(1, 999_999_999), Timestamp(2000));
        assert_eq!(not_before(1, 999_000_000), Timestamp(1999));
        assert_eq!(not_before(i64::MAX, 1), Timestamp(u64::MAX));
        assert_eq!(not_before(-5, 1), Timestamp(0));
        assert_eq!(wire_timestamp(Timestamp(1999)), prost_types::Timestamp { seconds: 1, nanos: 999_000_000 });
    }
}
