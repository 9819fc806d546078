//! Topics, groups and what may be wished of them.

use std::time::Duration;

use crate::model::group::{Backoff, Group, StartPosition};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, TopicId};
use crate::model::settings::{CatalogError, GroupSpec, TopicSpec};
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::route::convert::{Clear, Unclear};
use crate::wire::route as wire;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn topic_type_number(kind: TopicType) -> i32 {
    match kind {
        TopicType::Normal => wire::TopicType::Normal,
        TopicType::Fifo => wire::TopicType::Fifo,
        TopicType::Delay => wire::TopicType::Delay,
        TopicType::Transaction => wire::TopicType::Transaction,
        TopicType::Priority => wire::TopicType::Priority,
        TopicType::Lite => wire::TopicType::Lite,
        TopicType::Mixed => wire::TopicType::Mixed,
    }
    .into()
}

/// `None`: not said.
fn topic_type(number: i32) -> Clear<Option<TopicType>> {
    Ok(match wire::TopicType::try_from(number).map_err(|_| Unclear("topic type"))? {
        wire::TopicType::Unspecified => None,
        wire::TopicType::Normal => Some(TopicType::Normal),
        wire::TopicType::Fifo => Some(TopicType::Fifo),
        wire::TopicType::Delay => Some(TopicType::Delay),
        wire::TopicType::Transaction => Some(TopicType::Transaction),
        wire::TopicType::Priority => Some(TopicType::Priority),
        wire::TopicType::Lite => Some(TopicType::Lite),
        wire::TopicType::Mixed => Some(TopicType::Mixed),
    })
}

fn promise_number(promise: Promise) -> i32 {
    match promise {
        Promise::Durable => wire::Promise::Durable,
        Promise::Written => wire::Promise::Written,
    }
    .into()
}

fn promise(number: i32) -> Clear<Option<Promise>> {
    Ok(match wire::Promise::try_from(number).map_err(|_| Unclear("promise"))? {
        wire::Promise::Unspecified => None,
        wire::Promise::Durable => Some(Promise::Durable),
        wire::Promise::Written => Some(Promise::Written),
    })
}

fn permission_out(permission: Permission) -> wire::Permission {
    wire::Permission { readable: permission.readable, writable: permission.writable }
}

fn permission_in(permission: wire::Permission) -> Permission {
    Permission { readable: permission.readable, writable: permission.writable }
}

pub(in crate::route) fn topic_out(topic: &Topic) -> wire::Topic {
    wire::Topic {
        id: topic.id.get(),
        namespace: topic.name.namespace().to_owned(),
        name: topic.name.name().to_owned(),
        r#type: topic_type_number(topic.topic_type),
        queues: topic.queues,
        permission: Some(permission_out(topic.permission)),
        promise: promise_number(topic.promise),
        retention_ms: topic.retention.map(ms),
        lite_ttl_ms: topic.lite_ttl.map(ms),
    }
}

pub(in crate::route) fn topic_in(topic: wire::Topic) -> Clear<Topic> {
    if topic.queues == 0 {
        return Err(Unclear("number of queues"));
    }
    Ok(Topic {
        id: TopicId(topic.id),
        name: topic_name(&topic.namespace, &topic.name)?,
        topic_type: topic_type(topic.r#type)?.ok_or(Unclear("topic type"))?,
        queues: topic.queues,
        permission: topic.permission.map(permission_in).ok_or(Unclear("permission"))?,
        promise: promise(topic.promise)?.ok_or(Unclear("promise"))?,
        retention: topic.retention_ms.map(Duration::from_millis),
        lite_ttl: topic.lite_ttl_ms.map(Duration::from_millis),
    })
}

pub(super) fn topic_name(namespace: &str, name: &str) -> Clear<TopicName> {
    TopicName::new(namespace, name).map_err(|_| Unclear("topic name"))
}

pub(super) fn group_name(namespace: &str, name: &str) -> Clear<GroupName> {
    GroupName::new(namespace, name).map_err(|_| Unclear("group name"))
}

fn start_out(start: StartPosition) -> wire::Start {
    use wire::start::Start;
    let start = match start {
        StartPosition::Earliest => Start::Earliest(true),
        StartPosition::Latest => Start::Latest(true),
        StartPosition::At(at) => Start::AtMs(at.millis()),
    };
    wire::Start { start: Some(start) }
}

fn start_in(start: wire::Start) -> Clear<StartPosition> {
    use wire::start::Start;
    match start.start.ok_or(Unclear("start"))? {
        Start::Earliest(_) => Ok(StartPosition::Earliest),
        Start::Latest(_) => Ok(StartPosition::Latest),
        Start::AtMs(at) => Ok(StartPosition::At(Timestamp(at))),
    }
}

fn backoff_out(backoff: &Backoff) -> wire::Backoff {
    use wire::backoff::{self, Exponential, Table};
    let backoff = match backoff {
        Backoff::Customized(table) => {
            backoff::Backoff::Table(Table { ms: table.iter().map(|delay| ms(*delay)).collect() })
        }
        Backoff::Exponential { initial, max, multiplier } => backoff::Backoff::Exponential(Exponential {
            initial_ms: ms(*initial),
            max_ms: ms(*max),
            multiplier: *multiplier,
        }),
    };
    wire::Backoff { backoff: Some(backoff) }
}

fn backoff_in(backoff: wire::Backoff) -> Clear<Backoff> {
    use wire::backoff::Backoff as Form;
    match backoff.backoff.ok_or(Unclear("back-off"))? {
        Form::Table(table) if table.ms.is_empty() => Err(Unclear("back-off")),
        Form::Table(table) => Ok(Backoff::Customized(table.ms.into_iter().map(Duration::from_millis).collect())),
        Form::Exponential(growth) => Ok(Backoff::Exponential {
            initial: Duration::from_millis(growth.initial_ms),
            max: Duration::from_millis(growth.max_ms),
            multiplier: growth.multiplier,
        }),
    }
}

pub(in crate::route) fn group_out(group: &Group) -> wire::Group {
    wire::Group {
        id: group.id.get(),
        namespace: group.name.namespace().to_owned(),
        name: group.name.name().to_owned(),
        ordered: group.ordered,
        start: Some(start_out(group.start)),
        max_attempts: group.max_attempts,
        backoff: Some(backoff_out(&group.backoff)),
        consume_timeout_ms: ms(group.consume_timeout),
        enabled: group.enabled,
        lite_exclusive: group.lite_exclusive,
    }
}

pub(in crate::route) fn group_in(group: wire::Group) -> Clear<Group> {
    Ok(Group {
        id: GroupId(group.id),
        name: group_name(&group.namespace, &group.name)?,
        ordered: group.ordered,
        start: start_in(group.start.ok_or(Unclear("start"))?)?,
        max_attempts: group.max_attempts,
        backoff: backoff_in(group.backoff.ok_or(Unclear("back-off"))?)?,
        consume_timeout: Duration::from_millis(group.consume_timeout_ms),
        enabled: group.enabled,
        lite_exclusive: group.lite_exclusive,
    })
}

pub(in crate::route) fn topic_spec_out(spec: &TopicSpec) -> wire::TopicSpec {
    let optional = |setting: Option<Option<Duration>>| setting.map(|value| wire::OptionalMs { ms: value.map(ms) });
    wire::TopicSpec {
        r#type: spec.topic_type.map_or(0, topic_type_number),
        queues: spec.queues,
        permission: spec.permission.map(permission_out),
        promise: spec.promise.map_or(0, promise_number),
        retention: optional(spec.retention),
        lite_ttl: optional(spec.lite_ttl),
    }
}

pub(in crate::route) fn topic_spec_in(spec: wire::TopicSpec) -> Clear<TopicSpec> {
    let optional = |setting: Option<wire::OptionalMs>| setting.map(|value| value.ms.map(Duration::from_millis));
    Ok(TopicSpec {
        topic_type: topic_type(spec.r#type)?,
        queues: spec.queues,
        permission: spec.permission.map(permission_in),
        promise: promise(spec.promise)?,
        retention: optional(spec.retention),
        lite_ttl: optional(spec.lite_ttl),
    })
}

pub(in crate::route) fn group_spec_out(spec: &GroupSpec) -> wire::GroupSpec {
    wire::GroupSpec {
        ordered: spec.ordered.map(|ordered| wire::group_spec::Ordered { ordered }),
        start: spec.start.map(start_out),
        max_attempts: spec.max_attempts,
        backoff: spec.backoff.as_ref().map(backoff_out),
        consume_timeout_ms: spec.consume_timeout.map(ms),
        enabled: spec.enabled,
        lite_exclusive: spec.lite_exclusive,
    }
}

pub(in crate::route) fn group_spec_in(spec: wire::GroupSpec) -> Clear<GroupSpec> {
    Ok(GroupSpec {
        ordered: spec.ordered.map(|ordered| ordered.ordered),
        start: spec.start.map(start_in).transpose()?,
        max_attempts: spec.max_attempts,
        backoff: spec.backoff.map(backoff_in).transpose()?,
        consume_timeout: spec.consume_timeout_ms.map(Duration::from_millis),
        enabled: spec.enabled,
        lite_exclusive: spec.lite_exclusive,
    })
}

pub(in crate::route) fn refusal_out(error: CatalogError) -> wire::Refusal {
    use wire::refusal::Reason;
    let text = error.to_string();
    let (reason, text, differing) = match error {
        CatalogError::Name(_) | CatalogError::Invalid(_) => (Reason::Invalid, text, String::new()),
        CatalogError::Differs { name, differing } => (Reason::Differs, name, differing),
        CatalogError::NotFound(what) => (Reason::NotFound, what, String::new()),
        CatalogError::TooMany(text) => (Reason::TooMany, text, String::new()),
        CatalogError::Held(text) => (Reason::Held, text, String::new()),
        CatalogError::Overloaded => (Reason::Overloaded, text, String::new()),
        CatalogError::ShardFailed => (Reason::Failed, text, String::new()),
    };
    wire::Refusal { reason: reason.into(), text, differing }
}

pub(in crate::route) fn refusal_in(refusal: wire::Refusal) -> CatalogError {
    use wire::refusal::Reason;
    match refusal.reason() {
        Reason::Unspecified | Reason::Invalid => CatalogError::Invalid(refusal.text),
        Reason::Differs => CatalogError::Differs { name: refusal.text, differing: refusal.differing },
        Reason::NotFound => CatalogError::NotFound(refusal.text),
        Reason::TooMany => CatalogError::TooMany(refusal.text),
        Reason::Held => CatalogError::Held(refusal.text),
        Reason::Overloaded => CatalogError::Overloaded,
        Reason::Failed => CatalogError::ShardFailed,
    }
}
