//! The only translator between `bolide.admin.v1` and the words of the broker.

use std::time::Duration;

use tonic::Status;

use crate::broker::api::{CatalogError, GroupSpec, TopicSpec};
use crate::model::group::{Backoff, CONSUME_TIMEOUT_DEFAULT, Group, MAX_ATTEMPTS_DEFAULT, StartPosition};
use crate::model::limits::{PRIORITY_QUEUES_DEFAULT, QUEUES_DEFAULT};
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::wire::admin;

/// The field is not valid.
pub(super) fn invalid(field: &str, reason: &str) -> Status {
    Status::invalid_argument(format!("{field}: {reason}"))
}

pub(super) fn duration_in(field: &str, wire: &prost_types::Duration) -> Result<Duration, Status> {
    let seconds = u64::try_from(wire.seconds).map_err(|_| invalid(field, "is negative"))?;
    let nanos = u32::try_from(wire.nanos).map_err(|_| invalid(field, "is negative"))?;
    Ok(Duration::new(seconds, nanos.min(999_999_999)))
}

pub(super) fn duration_out(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn timestamp_out(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(at.millis() / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.millis() % 1000).unwrap_or(0) * 1_000_000,
    }
}

fn topic_type_in(wire: i32) -> Result<Option<TopicType>, Status> {
    use admin::TopicType as W;
    Ok(match W::try_from(wire) {
        Ok(W::Unspecified) => None,
        Ok(W::Normal) => Some(TopicType::Normal),
        Ok(W::Fifo) => Some(TopicType::Fifo),
        Ok(W::Delay) => Some(TopicType::Delay),
        Ok(W::Transaction) => Some(TopicType::Transaction),
        Ok(W::Priority) => Some(TopicType::Priority),
        Ok(W::Lite) => Some(TopicType::Lite),
        Ok(W::Mixed) => Some(TopicType::Mixed),
        Err(_) => return Err(invalid("type", "is none of the known ones")),
    })
}

const fn topic_type_out(topic_type: TopicType) -> admin::TopicType {
    use admin::TopicType as W;
    match topic_type {
        TopicType::Normal => W::Normal,
        TopicType::Fifo => W::Fifo,
        TopicType::Delay => W::Delay,
        TopicType::Transaction => W::Transaction,
        TopicType::Priority => W::Priority,
        TopicType::Lite => W::Lite,
        TopicType::Mixed => W::Mixed,
    }
}

fn permission_in(wire: i32) -> Result<Option<Permission>, Status> {
    use admin::Permission as W;
    let of = |readable, writable| Some(Permission { readable, writable });
    Ok(match W::try_from(wire) {
        Ok(W::Unspecified) => None,
        Ok(W::None) => of(false, false),
        Ok(W::Read) => of(true, false),
        Ok(W::Write) => of(false, true),
        Ok(W::ReadWrite) => of(true, true),
        Err(_) => return Err(invalid("permission", "is none of the known ones")),
    })
}

const fn permission_out(permission: Permission) -> admin::Permission {
    match (permission.readable, permission.writable) {
        (false, false) => admin::Permission::None,
        (true, false) => admin::Permission::Read,
        (false, true) => admin::Permission::Write,
        (true, true) => admin::Permission::ReadWrite,
    }
}

fn promise_in(wire: i32) -> Result<Option<Promise>, Status> {
    match admin::Promise::try_from(wire) {
        Ok(admin::Promise::Unspecified) => Ok(None),
        Ok(admin::Promise::Durable) => Ok(Some(Promise::Durable)),
        Ok(admin::Promise::Written) => Ok(Some(Promise::Written)),
        Err(_) => Err(invalid("promise", "is none of the known ones")),
    }
}

/// Settings of a topic to create. What is not given is the default and not "anything": a topic that exists with something else
/// there differs.
pub(super) fn topic_spec(wire: &admin::Topic) -> Result<TopicSpec, Status> {
    let retention = wire.retention.as_ref().map(|wire| duration_in("retention", wire)).transpose()?;
    let topic_type = topic_type_in(wire.r#type)?.unwrap_or_default();
    let queues = match (wire.queues, topic_type) {
        (0, TopicType::Priority) => PRIORITY_QUEUES_DEFAULT,
        (0, _) => QUEUES_DEFAULT,
        (queues, _) => queues,
    };
    let lite_ttl = wire.lite_ttl.as_ref().map(|wire| duration_in("lite_ttl", wire)).transpose()?;
    Ok(TopicSpec {
        topic_type: Some(topic_type),
        queues: Some(queues),
        permission: Some(permission_in(wire.permission)?.unwrap_or_default()),
        promise: Some(promise_in(wire.promise)?.unwrap_or_default()),
        retention: Some(retention),
        lite_ttl: Some(lite_ttl),
    })
}

/// Settings of a topic to change.
pub(super) fn topic_change(wire: &admin::UpdateTopicRequest) -> Result<TopicSpec, Status> {
    let retention = match (&wire.retention, wire.clear_retention) {
        (Some(_), true) => return Err(invalid("clear_retention", "cannot stand beside retention")),
        (Some(wire), false) => Some(Some(duration_in("retention", wire)?)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    let lite_ttl = match (&wire.lite_ttl, wire.clear_lite_ttl) {
        (Some(_), true) => return Err(invalid("clear_lite_ttl", "cannot stand beside lite_ttl")),
        (Some(wire), false) => Some(Some(duration_in("lite_ttl", wire)?)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    Ok(TopicSpec {
        topic_type: wire.r#type.map(topic_type_in).transpose()?.flatten(),
        queues: wire.queues,
        permission: wire.permission.map(permission_in).transpose()?.flatten(),
        promise: wire.promise.map(promise_in).transpose()?.flatten(),
        retention,
        lite_ttl,
    })
}

pub(super) fn topic_out(topic: &Topic) -> admin::Topic {
    admin::Topic {
        namespace: topic.name.namespace().to_owned(),
        name: topic.name.name().to_owned(),
        r#type: topic_type_out(topic.topic_type).into(),
        queues: topic.lanes(),
        permission: permission_out(topic.permission).into(),
        promise: match topic.promise {
            Promise::Durable => admin::Promise::Durable,
            Promise::Written => admin::Promise::Written,
        }
        .into(),
        retention: topic.retention.map(duration_out),
        lite_ttl: topic.lite_ttl.map(duration_out),
    }
}

pub(super) fn instant_in(field: &str, wire: &prost_types::Timestamp) -> Result<Timestamp, Status> {
    let millis =
        wire.seconds.checked_mul(1000).and_then(|millis| millis.checked_add(i64::from(wire.nanos / 1_000_000)));
    let millis = millis.and_then(|millis| u64::try_from(millis).ok());
    millis.map(Timestamp).ok_or_else(|| invalid(field, "lies before 1970 or too far ahead"))
}

fn start_in(wire: &admin::StartPosition) -> Result<Option<StartPosition>, Status> {
    use admin::start_position::Kind;
    match (Kind::try_from(wire.kind), &wire.timestamp) {
        (Ok(Kind::Timestamp), Some(at)) => Ok(Some(StartPosition::At(instant_in("start_position.timestamp", at)?))),
        (Ok(Kind::Timestamp), None) => Err(invalid("start_position.timestamp", "is missing")),
        (Ok(_), Some(_)) => Err(invalid("start_position.timestamp", "stands beside another kind than TIMESTAMP")),
        (Ok(Kind::Unspecified), None) => Ok(None),
        (Ok(Kind::Earliest), None) => Ok(Some(StartPosition::Earliest)),
        (Ok(Kind::Latest), None) => Ok(Some(StartPosition::Latest)),
        (Err(_), _) => Err(invalid("start_position", "is none of the known ones")),
    }
}

fn start_out(start: StartPosition) -> admin::StartPosition {
    use admin::start_position::Kind;
    let (kind, timestamp) = match start {
        StartPosition::Earliest => (Kind::Earliest, None),
        StartPosition::Latest => (Kind::Latest, None),
        StartPosition::At(at) => (Kind::Timestamp, Some(timestamp_out(at))),
    };
    admin::StartPosition { kind: kind.into(), timestamp }
}

fn customized_in(wire: &admin::CustomizedBackoff) -> Result<Backoff, Status> {
    if wire.next.is_empty() {
        return Err(invalid("customized.next", "is empty"));
    }
    let pauses = wire.next.iter().map(|pause| duration_in("customized.next", pause));
    Ok(Backoff::Customized(pauses.collect::<Result<_, _>>()?))
}

fn exponential_in(wire: &admin::ExponentialBackoff) -> Result<Backoff, Status> {
    let part = |field, wire: &Option<prost_types::Duration>| match wire {
        Some(wire) => duration_in(field, wire),
        None => Err(invalid(field, "is missing")),
    };
    if !(wire.multiplier >= 1.0 && wire.multiplier.is_finite()) {
        return Err(invalid("exponential.multiplier", "is below 1"));
    }
    Ok(Backoff::Exponential {
        initial: part("exponential.initial", &wire.initial)?,
        max: part("exponential.max", &wire.max)?,
        multiplier: wire.multiplier,
    })
}

/// Settings of a group to create. What is not given is the default and not "anything".
pub(super) fn group_spec(wire: &admin::Group) -> Result<GroupSpec, Status> {
    use admin::retry_policy::Backoff as W;
    let policy = wire.retry_policy.as_ref();
    let backoff = match policy.and_then(|policy| policy.backoff.as_ref()) {
        None => None,
        Some(W::Customized(wire)) => Some(customized_in(wire)?),
        Some(W::Exponential(wire)) => Some(exponential_in(wire)?),
    };
    let attempts = policy.map(|policy| policy.max_attempts).filter(|&attempts| attempts != 0);
    let consume_timeout = wire.consume_timeout.as_ref().map(|wire| duration_in("consume_timeout", wire)).transpose()?;
    Ok(GroupSpec {
        ordered: Some(wire.ordered),
        start: Some(wire.start_position.as_ref().map(start_in).transpose()?.flatten().unwrap_or_default()),
        max_attempts: Some(attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT)),
        backoff: Some(backoff.unwrap_or_default()),
        consume_timeout: Some(consume_timeout.unwrap_or(CONSUME_TIMEOUT_DEFAULT)),
        enabled: Some(wire.enabled.unwrap_or(true)),
        lite_exclusive: Some(wire.lite_exclusive),
    })
}

/// Settings of a group to change.
pub(super) fn group_change(wire: &admin::UpdateGroupRequest) -> Result<GroupSpec, Status> {
    use admin::update_group_request::Backoff as W;
    let ordered = match (wire.ordered, wire.clear_ordered) {
        (Some(_), true) => return Err(invalid("clear_ordered", "cannot stand beside ordered")),
        (Some(ordered), false) => Some(Some(ordered)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    let backoff = match &wire.backoff {
        None => None,
        Some(W::Customized(wire)) => Some(customized_in(wire)?),
        Some(W::Exponential(wire)) => Some(exponential_in(wire)?),
    };
    Ok(GroupSpec {
        ordered,
        start: wire.start_position.as_ref().map(start_in).transpose()?.flatten(),
        max_attempts: wire.max_attempts,
        backoff,
        consume_timeout: wire.consume_timeout.as_ref().map(|wire| duration_in("consume_timeout", wire)).transpose()?,
        enabled: wire.enabled,
        lite_exclusive: wire.lite_exclusive,
    })
}

pub(super) fn group_out(group: &Group) -> admin::Group {
    use admin::retry_policy::Backoff as W;
    let backoff = match &group.backoff {
        Backoff::Customized(pauses) => {
            W::Customized(admin::CustomizedBackoff { next: pauses.iter().copied().map(duration_out).collect() })
        }
        Backoff::Exponential { initial, max, multiplier } => W::Exponential(admin::ExponentialBackoff {
            initial: Some(duration_out(*initial)),
            max: Some(duration_out(*max)),
            multiplier: *multiplier,
        }),
    };
    admin::Group {
        namespace: group.name.namespace().to_owned(),
        name: group.name.name().to_owned(),
        ordered: group.ordered,
        start_position: Some(start_out(group.start)),
        retry_policy: Some(admin::RetryPolicy { max_attempts: group.max_attempts, backoff: Some(backoff) }),
        consume_timeout: Some(duration_out(group.consume_timeout)),
        enabled: Some(group.enabled),
        lite_exclusive: group.lite_exclusive,
    }
}

/// What the operator is told when the catalogue did not change.
pub(super) fn refused(error: CatalogError) -> Status {
    let text = error.to_string();
    match error {
        CatalogError::Name(_) | CatalogError::Invalid(_) => Status::invalid_argument(text),
        CatalogError::Differs { .. } => Status::already_exists(text),
        CatalogError::NotFound(_) => Status::not_found(text),
        CatalogError::TooMany(_) | CatalogError::Held(_) => Status::failed_precondition(text),
        CatalogError::Overloaded => Status::resource_exhausted(text),
        CatalogError::ShardFailed => Status::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::{GroupName, TopicName};
    use crate::model::position::{GroupId, TopicId};

    #[test]
    fn a_topic_as_shown_creates_the_same_topic() {
        let topic = Topic {
            id: TopicId(1),
            name: TopicName::new("n", "t").unwrap(),
            topic_type: TopicType::Fifo,
            queues: 3,
            permission: Permission { readable: true, writable: false },
            promise: Promise::Written,
            retention: Some(Duration::from_secs(90)),
            lite_ttl: Some(Duration::from_secs(120)),
        };
        let spec = topic_spec(&topic_out(&topic)).unwrap();
        assert_eq!(spec.topic_type, Some(TopicType::Fifo));
        assert_eq!(spec.queues, Some(3));
        assert_eq!(spec.permission, Some(topic.permission));
        assert_eq!(spec.promise, Some(Promise::Written));
        assert_eq!(spec.retention, Some(topic.retention));
        assert_eq!(spec.lite_ttl, Some(topic.lite_ttl));
    }

    #[test]
    fn a_group_as_shown_creates_the_same_group() {
        let mut group = Group::with_defaults(GroupId(1), GroupName::new("", "g").unwrap());
        group.start = StartPosition::At(Timestamp(1_700_000_000_123));
        group.ordered = Some(true);
        for backoff in [
            Backoff::default(),
            Backoff::Exponential { initial: Duration::from_millis(5), max: Duration::from_secs(9), multiplier: 1.5 },
        ] {
            group.backoff = backoff;
            let spec = group_spec(&group_out(&group)).unwrap();
            assert_eq!(spec.ordered, Some(Some(true)));
            assert_eq!(spec.start, Some(group.start));
            assert_eq!(spec.backoff.as_ref(), Some(&group.backoff));
            assert_eq!(spec.max_attempts, Some(group.max_attempts));
            assert_eq!(spec.consume_timeout, Some(group.consume_timeout));
        }
    }

    #[test]
    fn what_can_never_be_valid_is_refused_by_field() {
        let both = admin::UpdateTopicRequest {
            retention: Some(duration_out(Duration::from_secs(1))),
            clear_retention: true,
            ..Default::default()
        };
        assert!(topic_change(&both).unwrap_err().message().starts_with("clear_retention"));
        let negative =
            admin::Topic { retention: Some(prost_types::Duration { seconds: -1, nanos: 0 }), ..Default::default() };
        assert!(topic_spec(&negative).unwrap_err().message().starts_with("retention"));
        let empty = admin::UpdateGroupRequest {
            backoff: Some(admin::update_group_request::Backoff::Customized(admin::CustomizedBackoff::default())),
            ..Default::default()
        };
        assert!(group_change(&empty).unwrap_err().message().starts_with("customized.next"));
    }
}
