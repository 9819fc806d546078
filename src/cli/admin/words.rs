//! The words of the command line for kinds, permissions, start positions and pauses. Case does not matter.

use std::str::FromStr;
use std::time::Duration;

use crate::config::units::{duration_text, parse_duration};
use crate::wire::admin;
use crate::wire::admin::start_position::Kind;

fn one_of<T: Copy>(what: &str, text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is no {what}; one of {}", names.join(", "))
    })
}

fn name_of<T: Copy + PartialEq>(value: T, known: &[(&'static str, T)]) -> &'static str {
    known.iter().find(|(_, known)| *known == value).map_or("unknown", |(name, _)| name)
}

const TYPES: [(&str, admin::TopicType); 7] = [
    ("normal", admin::TopicType::Normal),
    ("fifo", admin::TopicType::Fifo),
    ("delay", admin::TopicType::Delay),
    ("transaction", admin::TopicType::Transaction),
    ("priority", admin::TopicType::Priority),
    ("lite", admin::TopicType::Lite),
    ("mixed", admin::TopicType::Mixed),
];

const PERMISSIONS: [(&str, admin::Permission); 4] = [
    ("rw", admin::Permission::ReadWrite),
    ("r", admin::Permission::Read),
    ("w", admin::Permission::Write),
    ("none", admin::Permission::None),
];

const PROMISES: [(&str, admin::Promise); 2] =
    [("durable", admin::Promise::Durable), ("written", admin::Promise::Written)];

pub(super) fn topic_type(text: &str) -> Result<admin::TopicType, String> {
    one_of("topic type", text, &TYPES)
}

pub(super) fn topic_type_name(value: admin::TopicType) -> &'static str {
    name_of(value, &TYPES)
}

pub(super) fn permission(text: &str) -> Result<admin::Permission, String> {
    one_of("permission", text, &PERMISSIONS)
}

pub(super) fn permission_name(value: admin::Permission) -> &'static str {
    name_of(value, &PERMISSIONS)
}

pub(super) fn promise(text: &str) -> Result<admin::Promise, String> {
    one_of("promise", text, &PROMISES)
}

pub(super) fn promise_name(value: admin::Promise) -> &'static str {
    name_of(value, &PROMISES)
}

/// `true`, `false`, or `auto` (decided by the topic).
pub(super) fn ordered(text: &str) -> Result<Option<bool>, String> {
    one_of("order", text, &[("true", Some(true)), ("false", Some(false)), ("auto", None)])
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    one_of("switch", text, &[("true", true), ("false", false)])
}

/// A duration, or `never`.
pub(super) fn lite_ttl(text: &str) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case("never") { Ok(None) } else { parse_duration(text).map(Some) }
}

/// A duration, or `default` for what the broker does by itself.
pub(super) fn retention(text: &str) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case("default") { Ok(None) } else { parse_duration(text).map(Some) }
}

/// `earliest`, `latest`, or an instant: RFC 3339, or milliseconds since 1970.
pub(super) fn start(text: &str) -> Result<admin::StartPosition, String> {
    let at = |kind: Kind| admin::StartPosition { kind: kind.into(), timestamp: None };
    if text.eq_ignore_ascii_case("earliest") {
        return Ok(at(Kind::Earliest));
    }
    if text.eq_ignore_ascii_case("latest") {
        return Ok(at(Kind::Latest));
    }
    let timestamp = match text.parse::<u64>() {
        Ok(millis) => prost_types::Timestamp {
            seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
        },
        Err(_) => prost_types::Timestamp::from_str(text).map_err(|_| {
            format!("{text:?} is no start position; earliest, latest, 2026-01-31T12:00:00Z or milliseconds since 1970")
        })?,
    };
    Ok(admin::StartPosition { kind: Kind::Timestamp.into(), timestamp: Some(timestamp) })
}

pub(super) fn start_name(start: Option<&admin::StartPosition>) -> String {
    let Some(start) = start else { return "earliest".to_owned() };
    match (Kind::try_from(start.kind), &start.timestamp) {
        (Ok(Kind::Latest), _) => "latest".to_owned(),
        (Ok(Kind::Timestamp), Some(at)) => at.to_string(),
        _ => "earliest".to_owned(),
    }
}

/// Pauses between attempts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Backoff {
    /// One after the other; the last repeats.
    Customized(admin::CustomizedBackoff),
    /// Growing.
    Exponential(admin::ExponentialBackoff),
}

/// `1s,5s,30s`, or `exponential:1s,2h,2` (initial, longest, multiplier).
pub(super) fn backoff(text: &str) -> Result<Backoff, String> {
    if let Some(parts) = text.strip_prefix("exponential:") {
        let malformed = || format!("{text:?} is no back-off; write exponential:1s,2h,2 (initial, longest, multiplier)");
        let [initial, max, multiplier] = parts.split(',').collect::<Vec<_>>()[..] else { return Err(malformed()) };
        return Ok(Backoff::Exponential(admin::ExponentialBackoff {
            initial: Some(to_wire(parse_duration(initial)?)),
            max: Some(to_wire(parse_duration(max)?)),
            multiplier: multiplier.parse().map_err(|_| malformed())?,
        }));
    }
    let next = text.split(',').map(|pause| parse_duration(pause).map(to_wire)).collect::<Result<_, _>>()?;
    Ok(Backoff::Customized(admin::CustomizedBackoff { next }))
}

pub(super) fn backoff_name(policy: Option<&admin::RetryPolicy>) -> String {
    use admin::retry_policy::Backoff as W;
    match policy.and_then(|policy| policy.backoff.as_ref()) {
        Some(W::Customized(pauses)) => pauses.next.iter().map(duration_name).collect::<Vec<_>>().join(","),
        Some(W::Exponential(growing)) => {
            let part = |wire: &Option<prost_types::Duration>| wire.as_ref().map(duration_name).unwrap_or_default();
            format!("exponential:{},{},{}", part(&growing.initial), part(&growing.max), growing.multiplier)
        }
        None => "default".to_owned(),
    }
}

pub(super) fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn from_wire(wire: &prost_types::Duration) -> Duration {
    Duration::new(u64::try_from(wire.seconds).unwrap_or(0), u32::try_from(wire.nanos).unwrap_or(0))
}

pub(super) fn duration_name(wire: &prost_types::Duration) -> String {
    duration_text(from_wire(wire))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_a_wrong_one_lists_the_right_ones() {
        assert_eq!(topic_type("FIFO"), Ok(admin::TopicType::Fifo));
        assert_eq!(permission("RW"), Ok(admin::Permission::ReadWrite));
        assert_eq!(ordered("Auto"), Ok(None));
        let error = topic_type("ordered").unwrap_err();
        assert!(error.contains("fifo") && error.contains("mixed"), "{error}");
    }

    #[test]
    fn a_start_position_is_a_word_or_an_instant() {
        let at = start("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(at.timestamp.unwrap().seconds, 1_769_860_800);
        assert_eq!(start_name(Some(&at)), "2026-01-31T12:00:00Z");
        assert_eq!(start("1769860800000").unwrap(), at);
        assert!(start("yesterday").is_err());
    }

    #[test]
    fn a_backoff_is_shown_as_it_is_written() {
        for text in ["1s,5s,30s", "exponential:1s,2h,2", "500ms"] {
            let policy = admin::RetryPolicy {
                max_attempts: 3,
                backoff: Some(match backoff(text).unwrap() {
                    Backoff::Customized(wire) => admin::retry_policy::Backoff::Customized(wire),
                    Backoff::Exponential(wire) => admin::retry_policy::Backoff::Exponential(wire),
                }),
            };
            assert_eq!(backoff_name(Some(&policy)), text);
        }
        for text in ["", "1s,,2s", "exponential:1s,2h", "exponential:1s,2h,fast"] {
            assert!(backoff(text).is_err(), "{text}");
        }
    }
}
