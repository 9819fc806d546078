//! The answer to a client's settings: its own words, with the server's decisions written over them.
//!
//! Each client breaks in its own way when a field is missing; see the table of the protocol facts, section 5.

use std::time::Duration;

use crate::model::group::{Backoff, MAX_ATTEMPTS_DEFAULT};
use crate::model::limits::{BODY_BYTES_MAX, LITE_TOPIC_CHARS_MAX, RECEIVE_BATCH_MAX};
use crate::proxy::caller::Language;
use crate::proxy::convert::time::wire_duration;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::ClientType;
use crate::wire::rocketmq::retry_policy::Strategy;
use crate::wire::rocketmq::settings::PubSub;

/// What a producer does about a failed send. An exponential policy with both ends set: others make clients throw.
const PRODUCER_ATTEMPTS: i32 = 3;
const PRODUCER_BACKOFF_FIRST: Duration = Duration::from_millis(10);
const PRODUCER_BACKOFF_MAX: Duration = Duration::from_secs(1);
const BACKOFF_MULTIPLIER: f32 = 2.0;
/// Lite topics one client may subscribe to, unless the broker says otherwise.
const LITE_QUOTA_DEFAULT: i32 = 2_000;
/// Longest table sent to a client that understands nothing but tables.
const BACKOFF_TABLE_MAX: u32 = 64;

/// What the server knows of a consumer's group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupFacts {
    /// Whether it consumes in order.
    pub fifo: bool,
    /// Deliveries before dead-lettering.
    pub max_attempts: u32,
    /// Delay between them.
    pub backoff: Backoff,
    /// Lite topics one client may subscribe to; 0 would forbid them all.
    pub lite_quota: i32,
}

impl Default for GroupFacts {
    fn default() -> Self {
        Self {
            fifo: false,
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            backoff: Backoff::default(),
            lite_quota: LITE_QUOTA_DEFAULT,
        }
    }
}

/// Merges what a client sent with what the server decides. `long_poll` is in whole seconds: some clients read nothing finer.
pub fn merge(mut settings: v2::Settings, group: &GroupFacts, language: Language, long_poll: Duration) -> v2::Settings {
    let client_type = settings.client_type();
    match &mut settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            publishing.max_body_size = i32::try_from(BODY_BYTES_MAX).unwrap_or(i32::MAX);
            publishing.validate_message_type = true;
            settings.backoff_policy = Some(producer_policy());
        }
        Some(PubSub::Subscription(subscription)) => {
            subscription.fifo = Some(group.fifo);
            subscription.receive_batch_size = i32::try_from(RECEIVE_BATCH_MAX).ok();
            let keeps_own = matches!(client_type, ClientType::SimpleConsumer | ClientType::LiteSimpleConsumer)
                && subscription.long_polling_timeout.is_some();
            if !keeps_own {
                subscription.long_polling_timeout =
                    Some(wire_duration(Duration::from_secs(long_poll.as_secs().max(1))));
            }
            if is_lite_type(client_type) {
                subscription.lite_subscription_quota = Some(group.lite_quota);
                subscription.max_lite_topic_size = i32::try_from(LITE_TOPIC_CHARS_MAX).ok();
            }
            settings.backoff_policy = Some(consumer_policy(group, language));
        }
        // Neither: echoed, where the reference system ends the stream.
        None => {}
    }
    // Without endpoints: one client begins to export at the sight of any.
    settings.metric = Some(v2::Metric { on: false, endpoints: None });
    settings
}

fn is_lite_type(client_type: ClientType) -> bool {
    matches!(client_type, ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer)
}

/// Whether a client consumes lite topics.
pub fn is_lite(settings: &v2::Settings) -> bool {
    is_lite_type(settings.client_type())
}

fn exponential(initial: Duration, max: Duration, multiplier: f32) -> Strategy {
    Strategy::ExponentialBackoff(v2::ExponentialBackoff {
        initial: Some(wire_duration(initial)),
        max: Some(wire_duration(max)),
        multiplier,
    })
}

fn table(delays: impl Iterator<Item = Duration>) -> Strategy {
    Strategy::CustomizedBackoff(v2::CustomizedBackoff { next: delays.map(wire_duration).collect() })
}

fn producer_policy() -> v2::RetryPolicy {
    v2::RetryPolicy {
        max_attempts: PRODUCER_ATTEMPTS,
        strategy: Some(exponential(PRODUCER_BACKOFF_FIRST, PRODUCER_BACKOFF_MAX, BACKOFF_MULTIPLIER)),
    }
}

/// Some strategy always, and the one that this client understands. The broker enforces the group's own in any case.
fn consumer_policy(group: &GroupFacts, language: Language) -> v2::RetryPolicy {
    let strategy = match (language, &group.backoff) {
        (Language::Python, _) => python_table(group),
        (Language::Node, Backoff::Customized(delays)) => {
            let bound = |delay: Option<&Duration>| delay.copied().unwrap_or(Duration::from_secs(1));
            exponential(bound(delays.first()), bound(delays.last()), BACKOFF_MULTIPLIER)
        }
        (_, Backoff::Customized(delays)) => table(delays.iter().copied()),
        (_, Backoff::Exponential { initial, max, multiplier }) => exponential(*initial, *max, *multiplier),
    };
    v2::RetryPolicy { max_attempts: i32::try_from(group.max_attempts).unwrap_or(i32::MAX), strategy: Some(strategy) }
}

/// Python reads tables only, and of a delay only the whole seconds.
fn python_table(group: &GroupFacts) -> Strategy {
    let whole = |delay: Duration| Duration::from_secs((delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1));
    match &group.backoff {
        Backoff::Customized(delays) => table(delays.iter().copied().map(whole)),
        backoff @ Backoff::Exponential { .. } => table(
            (1..=group.max_attempts.clamp(1, BACKOFF_TABLE_MAX)).map(|attempt| whole(backoff.after_attempt(attempt))),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(20);

    fn merged(settings: v2::Settings, language: Language) -> v2::Settings {
        merge(settings, &GroupFacts::default(), language, POLL)
    }

    fn consumer(client_type: ClientType) -> v2::Settings {
        let group = v2::Resource { resource_namespace: "ns".into(), name: "g".into() };
        v2::Settings {
            client_type: Some(client_type as i32),
            pub_sub: Some(PubSub::Subscription(v2::Subscription { group: Some(group), ..Default::default() })),
            ..Default::default()
        }
    }

    fn subscription(settings: &v2::Settings) -> &v2::Subscription {
        match &settings.pub_sub {
            Some(PubSub::Subscription(subscription)) => subscription,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_producer_gets_a_body_limit_and_an_exponential_policy_with_both_ends() {
        let topics = vec![v2::Resource { resource_namespace: "ns".into(), name: "t".into() }];
        let publishing =
            v2::Publishing { topics: topics.clone(), max_body_size: 134_217_728, validate_message_type: false };
        let agent = v2::Ua { language: v2::Language::Python as i32, version: "5.1.2".into(), ..Default::default() };
        let sent = v2::Settings {
            client_type: Some(ClientType::Producer as i32),
            pub_sub: Some(PubSub::Publishing(publishing)),
            user_agent: Some(agent.clone()),
            request_timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            ..Default::default()
        };
        for language in [Language::Other, Language::Python, Language::Node] {
            let answer = merged(sent.clone(), language);
            assert_eq!(answer.user_agent, Some(agent.clone()), "echoed");
            assert_eq!(answer.request_timeout, sent.request_timeout, "echoed");
            let Some(PubSub::Publishing(publishing)) = &answer.pub_sub else { panic!() };
            assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4_194_304, true));
            assert_eq!(publishing.topics, topics);
            let policy = answer.backoff_policy.unwrap();
            assert_eq!(policy.max_attempts, 3);
            let Some(Strategy::ExponentialBackoff(backoff)) = policy.strategy else { panic!() };
            assert_eq!(backoff.initial, Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }));
            assert_eq!(backoff.max, Some(prost_types::Duration { seconds: 1, nanos: 0 }));
        }
    }

    #[test]
    fn every_consumer_gets_all_the_fields_it_would_break_without() {
        for client_type in [ClientType::PushConsumer, ClientType::SimpleConsumer, ClientType::LitePushConsumer] {
            let answer = merged(consumer(client_type), Language::Other);
            let subscription = subscription(&answer);
            assert_eq!(subscription.fifo, Some(false));
            assert_eq!(subscription.receive_batch_size, Some(32));
            assert_eq!(subscription.long_polling_timeout, Some(prost_types::Duration { seconds: 20, nanos: 0 }));
            assert_eq!(subscription.group.as_ref().unwrap().resource_namespace, "ns", "echoed as written");
            let policy = answer.backoff_policy.as_ref().unwrap();
            assert_eq!(policy.max_attempts, 17);
            assert!(policy.strategy.is_some());
            assert_eq!(answer.metric, Some(v2::Metric { on: false, endpoints: None }));
            let lite = client_type == ClientType::LitePushConsumer;
            assert_eq!(subscription.lite_subscription_quota.is_some(), lite);
        }
    }

    #[test]
    fn each_language_gets_the_strategy_it_understands() {
        let strategy = |backoff: Backoff, language| {
            let group = GroupFacts { backoff, max_attempts: 3, fifo: true, ..GroupFacts::default() };
            let answer = merge(consumer(ClientType::PushConsumer), &group, language, POLL);
            assert_eq!(subscription(&answer).fifo, Some(true));
            answer.backoff_policy.unwrap().strategy.unwrap()
        };
        let grown = Backoff::Exponential {
            initial: Duration::from_millis(1_500),
            max: Duration::from_secs(4),
            multiplier: 2.0,
        };
        let seconds = |strategy| match strategy {
            Strategy::CustomizedBackoff(table) => {
                assert!(table.next.iter().all(|delay| delay.nanos == 0));
                table.next.iter().map(|delay| delay.seconds).collect::<Vec<_>>()
            }
            Strategy::ExponentialBackoff(_) => panic!("not a table"),
        };
        assert_eq!(seconds(strategy(grown.clone(), Language::Python)), [2, 3, 4]);
        assert_eq!(seconds(strategy(Backoff::default(), Language::Python)).len(), 18);
        assert_eq!(seconds(strategy(Backoff::default(), Language::Other)).len(), 18);
        assert!(matches!(strategy(Backoff::default(), Language::Node), Strategy::ExponentialBackoff(_)));
        assert!(matches!(strategy(grown.clone(), Language::Node), Strategy::ExponentialBackoff(_)));
        assert!(matches!(strategy(grown, Language::Other), Strategy::ExponentialBackoff(_)));
    }

    #[test]
    fn settings_of_neither_kind_are_echoed() {
        let sent = v2::Settings { user_agent: Some(v2::Ua::default()), ..Default::default() };
        let answer = merged(sent.clone(), Language::Other);
        assert_eq!(answer.pub_sub, None);
        assert_eq!(answer.user_agent, sent.user_agent);
    }

    #[test]
    fn a_simple_consumer_keeps_its_own_polling_time() {
        let mut sent = consumer(ClientType::SimpleConsumer);
        let own = Some(prost_types::Duration { seconds: 30, nanos: 0 });
        if let Some(PubSub::Subscription(subscription)) = &mut sent.pub_sub {
            subscription.long_polling_timeout = own;
        }
        assert_eq!(subscription(&merged(sent, Language::Other)).long_polling_timeout, own);
    }
}
