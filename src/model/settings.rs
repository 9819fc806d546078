//! How topics and groups come into being and change: wishes, bounds, differences. Everyone who keeps a catalogue goes by these.

use std::time::Duration;

use thiserror::Error;

use crate::model::group::{Backoff, Group, StartPosition};
use crate::model::limits::{PRIORITY_QUEUES_DEFAULT, QUEUES_DEFAULT, QUEUES_MAX};
use crate::model::name::{NameError, TopicName};
use crate::model::position::TopicId;
use crate::model::topic::{Permission, Promise, Topic, TopicType};

/// Most attempts a group may allow.
const ATTEMPTS_MAX: u32 = 1_000;
/// Bounds of the consume timeout.
const CONSUME_TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));
/// Entries of a back-off table, and the longest delay.
const BACKOFF_STEPS_MAX: usize = 64;
const BACKOFF_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Shortest and longest time that lite topics may be without activity.
const LITE_TTL_BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30 * 24 * 60 * 60));
/// Shortest and longest own retention of a topic.
const RETENTION_BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10 * 365 * 24 * 60 * 60));

/// Settings of a new topic, or the ones to change. `None` keeps or takes the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSpec {
    /// Kind.
    pub topic_type: Option<TopicType>,
    /// Queues, 1 to 1 024, of each level on a PRIORITY topic, 1 to 102; may grow, not shrink.
    pub queues: Option<u32>,
    /// Permission.
    pub permission: Option<Permission>,
    /// Promise.
    pub promise: Option<Promise>,
    /// Retention; `Some(None)` removes an own retention.
    pub retention: Option<Option<Duration>>,
    /// How long a lite topic below it may be without activity; `Some(None)`: for ever.
    pub lite_ttl: Option<Option<Duration>>,
}

/// Settings of a new group, or the ones to change. `None` keeps or takes the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupSpec {
    /// Ordered; `Some(None)` leaves it to the topic.
    pub ordered: Option<Option<bool>>,
    /// Start position; only at creation.
    pub start: Option<StartPosition>,
    /// Deliveries before dead-lettering, 1 to 1 000.
    pub max_attempts: Option<u32>,
    /// Delay between attempts.
    pub backoff: Option<Backoff>,
    /// Longest time an auto-renewed delivery stays with its client.
    pub consume_timeout: Option<Duration>,
    /// Whether members may receive.
    pub enabled: Option<bool>,
    /// Whether a lite topic has one subscriber of the group at a time.
    pub lite_exclusive: Option<bool>,
}

/// Why the catalogue did not change.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CatalogError {
    /// The name breaks a rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A setting is out of its bounds.
    #[error("{0}")]
    Invalid(String),
    /// It exists with other settings.
    #[error("{name} exists with other settings: {differing}")]
    Differs {
        /// Name of the topic or group.
        name: String,
        /// Which settings differ, and how.
        differing: String,
    },
    /// It does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The bound on topics or groups is reached.
    #[error("{0}")]
    TooMany(String),
    /// Somebody has it who is in the way.
    #[error("{0}")]
    Held(String),
    /// Too much is in flight.
    #[error("too much is waiting to be stored; try again later")]
    Overloaded,
    /// The log failed; the outcome is unknown.
    #[error("the log of this shard failed; the outcome is unknown")]
    ShardFailed,
}

/// A new topic from a wish.
///
/// # Errors
/// A setting is out of bounds.
pub fn new_topic(id: TopicId, name: TopicName, spec: &TopicSpec) -> Result<Topic, CatalogError> {
    let plain = Topic {
        id,
        name,
        topic_type: TopicType::Normal,
        queues: QUEUES_DEFAULT,
        permission: Permission::default(),
        promise: Promise::default(),
        retention: None,
        lite_ttl: None,
    };
    let plain = match spec.topic_type {
        Some(kind @ TopicType::Priority) => {
            Topic { topic_type: kind, queues: PRIORITY_QUEUES_DEFAULT * kind.levels(), ..plain }
        }
        _ => plain,
    };
    changed_topic(&plain, spec, false)
}

/// A topic with some settings changed.
///
/// # Errors
/// A setting is out of bounds, or may not change that way.
pub fn changed_topic(topic: &Topic, spec: &TopicSpec, exists: bool) -> Result<Topic, CatalogError> {
    let mut changed = topic.clone();
    if let Some(topic_type) = spec.topic_type {
        // A queue stands for a level there and for nothing elsewhere.
        if exists && topic_type.levels() != topic.topic_type.levels() {
            return Err(CatalogError::Invalid(
                "the type of a topic cannot become priority, nor cease to be".to_owned(),
            ));
        }
        changed.topic_type = topic_type;
    }
    if let Some(queues) = spec.queues {
        let levels = changed.topic_type.levels();
        let most = QUEUES_MAX / levels;
        if queues == 0 || queues > most {
            return Err(CatalogError::Invalid(format!("queues must be between 1 and {most}, not {queues}")));
        }
        if exists && queues < topic.lanes() {
            return Err(CatalogError::Invalid(format!(
                "the number of queues may grow but not shrink: {} has {}",
                topic.name,
                topic.lanes()
            )));
        }
        changed.queues = (queues * levels).max(if exists { topic.queues } else { 0 });
    }
    if let Some(permission) = spec.permission {
        changed.permission = permission;
    }
    if let Some(promise) = spec.promise {
        changed.promise = promise;
    }
    if let Some(retention) = spec.retention {
        if retention.is_some_and(|wish| wish < RETENTION_BOUNDS.0 || wish > RETENTION_BOUNDS.1) {
            return Err(CatalogError::Invalid("retention must be between 1 minute and 10 years".to_owned()));
        }
        changed.retention = retention;
    }
    if let Some(ttl) = spec.lite_ttl {
        if ttl.is_some_and(|wish| wish < LITE_TTL_BOUNDS.0 || wish > LITE_TTL_BOUNDS.1) {
            return Err(CatalogError::Invalid("lite ttl must be between 1 minute and 30 days".to_owned()));
        }
        changed.lite_ttl = ttl;
    }
    Ok(changed)
}

/// Which settings of a wish an existing topic does not have; empty when it has them all.
#[must_use]
pub fn topic_differences(topic: &Topic, spec: &TopicSpec) -> String {
    let mut differing = Vec::new();
    let mut compare = |name: &str, has: String, wanted: Option<String>| {
        if let Some(wanted) = wanted
            && wanted != has
        {
            differing.push(format!("{name} is {has}, not {wanted}"));
        }
    };
    compare("type", type_word(topic.topic_type).to_owned(), spec.topic_type.map(|value| type_word(value).to_owned()));
    compare("queues", topic.lanes().to_string(), spec.queues.map(|value| value.to_string()));
    let permission = |value| permission_word(value).to_owned();
    compare("permission", permission(topic.permission), spec.permission.map(permission));
    let promise = |value| promise_word(value).to_owned();
    compare("promise", promise(topic.promise), spec.promise.map(promise));
    compare("retention", retention_words(topic.retention), spec.retention.map(retention_words));
    compare("lite ttl", ttl_words(topic.lite_ttl), spec.lite_ttl.map(ttl_words));
    differing.join(", ")
}

/// A group with some settings changed.
///
/// # Errors
/// A setting is out of bounds.
pub fn changed_group(group: &Group, spec: &GroupSpec, exists: bool) -> Result<Group, CatalogError> {
    let mut changed = group.clone();
    if let Some(ordered) = spec.ordered {
        changed.ordered = ordered;
    }
    if let Some(start) = spec.start {
        if exists && start != group.start {
            return Err(CatalogError::Invalid("the start position is fixed when a group is created".to_owned()));
        }
        changed.start = start;
    }
    if let Some(max_attempts) = spec.max_attempts {
        if max_attempts == 0 || max_attempts > ATTEMPTS_MAX {
            return Err(CatalogError::Invalid(format!(
                "max attempts must be between 1 and {ATTEMPTS_MAX}, not {max_attempts}"
            )));
        }
        changed.max_attempts = max_attempts;
    }
    if let Some(backoff) = &spec.backoff {
        check_backoff(backoff)?;
        changed.backoff = backoff.clone();
    }
    if let Some(timeout) = spec.consume_timeout {
        if timeout < CONSUME_TIMEOUT_BOUNDS.0 || timeout > CONSUME_TIMEOUT_BOUNDS.1 {
            return Err(CatalogError::Invalid("consume timeout must be between 1 second and 24 hours".to_owned()));
        }
        changed.consume_timeout = timeout;
    }
    if let Some(enabled) = spec.enabled {
        changed.enabled = enabled;
    }
    if let Some(exclusive) = spec.lite_exclusive {
        changed.lite_exclusive = exclusive;
    }
    Ok(changed)
}

fn check_backoff(backoff: &Backoff) -> Result<(), CatalogError> {
    let fits = match backoff {
        Backoff::Customized(steps) => {
            (1..=BACKOFF_STEPS_MAX).contains(&steps.len()) && steps.iter().all(|step| *step <= BACKOFF_MAX)
        }
        Backoff::Exponential { initial, max, multiplier } => {
            *initial <= *max && *max <= BACKOFF_MAX && multiplier.is_finite() && (1.0..=100.0).contains(multiplier)
        }
    };
    if fits {
        return Ok(());
    }
    Err(CatalogError::Invalid(
        "a back-off has 1 to 64 steps of at most 12 hours, or initial <= max <= 12 hours and a multiplier from 1 to 100"
            .to_owned(),
    ))
}

/// Which settings of a wish an existing group does not have; empty when it has them all.
#[must_use]
pub fn group_differences(group: &Group, spec: &GroupSpec) -> String {
    let mut differing = Vec::new();
    let mut compare = |name: &str, has: String, wanted: Option<String>| {
        if let Some(wanted) = wanted
            && wanted != has
        {
            differing.push(format!("{name} is {has}, not {wanted}"));
        }
    };
    compare("ordered", ordered_words(group.ordered), spec.ordered.map(ordered_words));
    compare("start", start_words(group.start), spec.start.map(start_words));
    compare("max attempts", group.max_attempts.to_string(), spec.max_attempts.map(|value| value.to_string()));
    compare("back-off", backoff_words(&group.backoff), spec.backoff.as_ref().map(backoff_words));
    compare("consume timeout", duration_words(group.consume_timeout), spec.consume_timeout.map(duration_words));
    compare("enabled", group.enabled.to_string(), spec.enabled.map(|value| value.to_string()));
    let exclusive = spec.lite_exclusive.map(|value| value.to_string());
    compare("lite exclusive", group.lite_exclusive.to_string(), exclusive);
    differing.join(", ")
}

// Settings in the words in which an operator writes them (`bolide admin`), so that what differs can be typed.

const fn type_word(topic_type: TopicType) -> &'static str {
    match topic_type {
        TopicType::Normal => "normal",
        TopicType::Fifo => "fifo",
        TopicType::Delay => "delay",
        TopicType::Transaction => "transaction",
        TopicType::Priority => "priority",
        TopicType::Lite => "lite",
        TopicType::Mixed => "mixed",
    }
}

const fn permission_word(permission: Permission) -> &'static str {
    match (permission.readable, permission.writable) {
        (true, true) => "rw",
        (true, false) => "r",
        (false, true) => "w",
        (false, false) => "none",
    }
}

const fn promise_word(promise: Promise) -> &'static str {
    match promise {
        Promise::Written => "written",
        Promise::Durable => "durable",
    }
}

fn retention_words(retention: Option<Duration>) -> String {
    retention.map_or_else(|| "default".to_owned(), duration_words)
}

fn ttl_words(ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| "never".to_owned(), duration_words)
}

fn ordered_words(ordered: Option<bool>) -> String {
    ordered.map_or_else(|| "auto".to_owned(), |ordered| ordered.to_string())
}

fn start_words(start: StartPosition) -> String {
    match start {
        StartPosition::Earliest => "earliest".to_owned(),
        StartPosition::Latest => "latest".to_owned(),
        StartPosition::At(at) => at.millis().to_string(),
    }
}

fn backoff_words(backoff: &Backoff) -> String {
    match backoff {
        Backoff::Customized(steps) => steps.iter().map(|step| duration_words(*step)).collect::<Vec<_>>().join(","),
        Backoff::Exponential { initial, max, multiplier } => {
            format!("exponential:{},{},{multiplier}", duration_words(*initial), duration_words(*max))
        }
    }
}

fn duration_words(duration: Duration) -> String {
    const UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut millis = duration.as_millis();
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if millis >= factor {
            text += &format!("{}{unit}", millis / factor);
            millis %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::GroupName;
    use crate::model::position::GroupId;

    fn topic() -> Topic {
        new_topic(TopicId(1), TopicName::trusted("", "t"), &TopicSpec::default()).unwrap()
    }

    #[test]
    fn settings_out_of_bounds_are_refused() {
        let spec = |queues| TopicSpec { queues: Some(queues), ..TopicSpec::default() };
        assert!(new_topic(TopicId(1), TopicName::trusted("", "t"), &spec(0)).is_err());
        assert!(new_topic(TopicId(1), TopicName::trusted("", "t"), &spec(QUEUES_MAX + 1)).is_err());
        assert!(changed_topic(&topic(), &spec(QUEUES_DEFAULT - 1), true).is_err());
        let ttl = |seconds| TopicSpec { lite_ttl: Some(Some(Duration::from_secs(seconds))), ..TopicSpec::default() };
        for (seconds, fits) in [(59, false), (60, true), (30 * 86_400, true), (30 * 86_400 + 1, false)] {
            assert_eq!(changed_topic(&topic(), &ttl(seconds), true).is_ok(), fits, "{seconds} s");
        }
        assert_eq!(changed_topic(&topic(), &spec(QUEUES_DEFAULT + 1), true).unwrap().queues, 9);
        let group = Group::with_defaults(GroupId(1), GroupName::trusted("", "g"));
        let spec = GroupSpec { max_attempts: Some(0), ..GroupSpec::default() };
        assert!(changed_group(&group, &spec, false).is_err());
        let spec = GroupSpec { backoff: Some(Backoff::Customized(vec![])), ..GroupSpec::default() };
        assert!(changed_group(&group, &spec, false).is_err());
    }

    #[test]
    fn a_priority_topic_has_ten_queues_for_each_that_was_asked_for() {
        let spec = |queues| TopicSpec { topic_type: Some(TopicType::Priority), queues, ..TopicSpec::default() };
        let made = |queues| new_topic(TopicId(1), TopicName::trusted("", "t"), &spec(queues));
        let plain = made(None).unwrap();
        assert_eq!((plain.queues, plain.lanes()), (10, 1));
        assert_eq!(topic_differences(&plain, &spec(Some(1))), "");
        let wide = made(Some(QUEUES_MAX / 10)).unwrap();
        assert_eq!(wide.queues, QUEUES_MAX / 10 * 10);
        assert!(made(Some(QUEUES_MAX / 10 + 1)).is_err());
        assert_eq!(changed_topic(&plain, &spec(Some(3)), true).unwrap().queues, 30);
        assert!(changed_topic(&wide, &spec(Some(3)), true).is_err());
        assert!(changed_topic(&topic(), &spec(None), true).is_err(), "queues of old messages would become levels");
        let normal = TopicSpec { topic_type: Some(TopicType::Normal), ..TopicSpec::default() };
        assert!(changed_topic(&plain, &normal, true).is_err());
    }

    #[test]
    fn only_settings_that_were_asked_for_can_differ() {
        assert_eq!(topic_differences(&topic(), &TopicSpec::default()), "");
        let spec = TopicSpec { topic_type: Some(TopicType::Fifo), queues: Some(8), ..TopicSpec::default() };
        assert_eq!(topic_differences(&topic(), &spec), "type is normal, not fifo");
    }

    #[test]
    fn what_differs_is_said_as_an_operator_would_type_it() {
        let spec = TopicSpec { retention: Some(Some(Duration::from_secs(86_400))), ..TopicSpec::default() };
        assert_eq!(topic_differences(&topic(), &spec), "retention is default, not 24h");
        let group = Group::with_defaults(GroupId(1), GroupName::trusted("", "g"));
        let spec = GroupSpec {
            ordered: Some(Some(true)),
            start: Some(StartPosition::Latest),
            consume_timeout: Some(Duration::from_millis(5_400_500)),
            ..GroupSpec::default()
        };
        assert_eq!(
            group_differences(&group, &spec),
            "ordered is auto, not true, start is earliest, not latest, consume timeout is 3h, not 1h30m500ms"
        );
    }
}
