//! What became of a call that was not refused. Each verb has one form; another one in its place is `None`.

use crate::broker::api::{
    AckOutcome, BrokerStatus, ChangeOutcome, Check, ClientId, Delivered, LiteEviction, Published, Pulled,
};
use crate::link::convert::messages::{check_in, check_out, delivered_in, delivered_out, published_in, published_out};
use crate::link::convert::words::{topic_in, topic_out};
use crate::model::name::TopicName;
use crate::model::position::QueueOffset;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;

/// Of a verb that has no more to say.
#[must_use]
pub fn done_out() -> Outcome {
    Outcome::Done(wire::Nothing {})
}

/// Of a verb that has no more to say.
#[must_use]
pub fn done_in(outcome: Outcome) -> Option<()> {
    matches!(outcome, Outcome::Done(_)).then_some(())
}

/// Of a publish.
#[must_use]
pub fn places_out(places: Vec<Published>) -> Outcome {
    Outcome::Published(wire::Published { places: places.into_iter().map(published_out).collect() })
}

/// Of a publish.
#[must_use]
pub fn places_in(outcome: Outcome) -> Option<Vec<Published>> {
    match outcome {
        Outcome::Published(published) => Some(published.places.into_iter().map(published_in).collect()),
        _ => None,
    }
}

/// Of a receive; `report`: whether it is to be said when its messages are with a client.
#[must_use]
pub fn delivery_out(messages: impl Iterator<Item = Delivered>, repeated_attempt: bool, report: bool) -> Outcome {
    let messages = messages.map(delivered_out).collect();
    Outcome::Delivery(wire::Delivery { messages, repeated_attempt, next: 0, report })
}

/// What a receive brought.
#[derive(Debug)]
pub struct Brought {
    /// Messages.
    pub messages: Vec<Delivered>,
    /// Whether the attempt came again.
    pub repeated_attempt: bool,
    /// Whether it is to be said when they are with a client.
    pub report: bool,
}

/// Of a receive. One that is not understood is left out: its lease ends.
#[must_use]
pub fn delivery_in(outcome: Outcome) -> Option<Brought> {
    match outcome {
        Outcome::Delivery(delivery) => Some(Brought {
            messages: delivery.messages.into_iter().filter_map(understood).collect(),
            repeated_attempt: delivery.repeated_attempt,
            report: delivery.report,
        }),
        _ => None,
    }
}

fn understood(delivered: wire::Delivered) -> Option<Delivered> {
    match delivered_in(delivered) {
        Ok(delivered) => Some(delivered),
        Err(error) => {
            tracing::warn!(%error, "a message from a broker cannot be handed on");
            None
        }
    }
}

/// Of a pull.
#[must_use]
pub fn pulled_out(pulled: Pulled) -> Outcome {
    let messages = pulled.messages.into_iter().map(delivered_out).collect();
    Outcome::Pulled(wire::Delivery { messages, repeated_attempt: false, next: pulled.next.get(), report: false })
}

/// Of a pull. A message that is not understood must not be skipped over, so then there is none of it all.
#[must_use]
pub fn pulled_in(outcome: Outcome) -> Option<Pulled> {
    match outcome {
        Outcome::Pulled(delivery) => Some(Pulled {
            messages: delivery.messages.into_iter().map(understood).collect::<Option<_>>()?,
            next: QueueOffset(delivery.next),
        }),
        _ => None,
    }
}

/// Of an ack.
#[must_use]
pub fn acked_out(outcomes: &[AckOutcome]) -> Outcome {
    Outcome::Acked(wire::AckOutcomes { done: outcomes.iter().map(|one| *one == AckOutcome::Done).collect() })
}

/// Of an ack.
#[must_use]
pub fn acked_in(outcome: Outcome) -> Option<Vec<AckOutcome>> {
    let one = |done| if done { AckOutcome::Done } else { AckOutcome::InvalidHandle };
    match outcome {
        Outcome::Acked(acked) => Some(acked.done.into_iter().map(one).collect()),
        _ => None,
    }
}

/// Of a change of the invisible duration.
#[must_use]
pub fn changed_out(outcome: ChangeOutcome) -> Outcome {
    let handle = match outcome {
        ChangeOutcome::Changed { handle } => Some(handle),
        ChangeOutcome::InvalidHandle => None,
    };
    Outcome::Changed(wire::Changed { handle })
}

/// Of a change of the invisible duration.
#[must_use]
pub fn changed_in(outcome: Outcome) -> Option<ChangeOutcome> {
    match outcome {
        Outcome::Changed(wire::Changed { handle: Some(handle) }) => Some(ChangeOutcome::Changed { handle }),
        Outcome::Changed(wire::Changed { handle: None }) => Some(ChangeOutcome::InvalidHandle),
        _ => None,
    }
}

/// Of a recall.
#[must_use]
pub fn recalled_out(id: String) -> Outcome {
    Outcome::Recalled(id)
}

/// Of a recall.
#[must_use]
pub fn recalled_in(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Recalled(id) => Some(id),
        _ => None,
    }
}

/// Of a question for a place.
#[must_use]
pub fn offset_out(offset: QueueOffset) -> Outcome {
    Outcome::Offset(offset.get())
}

/// Of a question for a place.
#[must_use]
pub fn offset_in(outcome: Outcome) -> Option<QueueOffset> {
    match outcome {
        Outcome::Offset(offset) => Some(QueueOffset(offset)),
        _ => None,
    }
}

/// Someone who lost a lite topic.
#[must_use]
pub fn eviction_out(eviction: &LiteEviction) -> wire::LiteEviction {
    wire::LiteEviction { client: eviction.client.0.to_string(), lite_topic: eviction.lite_topic.to_string() }
}

/// Someone who lost a lite topic.
#[must_use]
pub fn eviction_in(eviction: wire::LiteEviction) -> LiteEviction {
    LiteEviction { client: ClientId(eviction.client.into()), lite_topic: eviction.lite_topic.into() }
}

/// Of a change of subscriptions.
#[must_use]
pub fn evictions_out(evictions: &[LiteEviction]) -> Outcome {
    Outcome::Evictions(wire::LiteEvictions { evictions: evictions.iter().map(eviction_out).collect() })
}

/// Of a change of subscriptions.
#[must_use]
pub fn evictions_in(outcome: Outcome) -> Option<Vec<LiteEviction>> {
    match outcome {
        Outcome::Evictions(evictions) => Some(evictions.evictions.into_iter().map(eviction_in).collect()),
        _ => None,
    }
}

/// Of a question for topics.
#[must_use]
pub fn topics_out<'a>(topics: impl Iterator<Item = (&'a TopicName, Vec<ClientId>)>) -> Outcome {
    let sent_by = |senders: Vec<ClientId>| wire::Senders {
        clients: senders.into_iter().map(|client| client.0.to_string()).collect(),
    };
    let (names, senders) = topics.map(|(topic, senders)| (topic_out(topic), sent_by(senders))).unzip();
    Outcome::Topics(wire::Names { names, senders })
}

/// Of a question for topics. An older broker does not say who sent to them.
#[must_use]
pub fn topics_in(outcome: Outcome) -> Option<Vec<(TopicName, Vec<ClientId>)>> {
    let Outcome::Topics(wire::Names { names, senders }) = outcome else { return None };
    let senders = senders.into_iter().map(|senders| senders.clients).chain(std::iter::repeat_with(Vec::new));
    let named = names.into_iter().zip(senders).map(|(name, senders)| {
        let senders = senders.into_iter().map(|client| ClientId(client.into())).collect();
        Some((topic_in(Some(name)).ok()?, senders))
    });
    named.collect()
}

/// Of a question about message groups that moved.
#[must_use]
pub fn lanes_out(done: Vec<bool>) -> Outcome {
    Outcome::Lanes(wire::Lanes { done })
}

/// Of a question about message groups that moved.
#[must_use]
pub fn lanes_in(outcome: Outcome) -> Option<Vec<bool>> {
    match outcome {
        Outcome::Lanes(lanes) => Some(lanes.done),
        _ => None,
    }
}

/// Of a question for checks.
#[must_use]
pub fn checks_out(checks: Vec<Check>) -> Outcome {
    Outcome::Checks(wire::Checks { checks: checks.into_iter().map(check_out).collect() })
}

/// Of a question for checks. One that is not understood comes again.
#[must_use]
pub fn checks_in(outcome: Outcome) -> Option<Vec<Check>> {
    match outcome {
        Outcome::Checks(checks) => Some(checks.checks.into_iter().filter_map(|check| check_in(check).ok()).collect()),
        _ => None,
    }
}

/// Whether a check may be handed over.
#[must_use]
pub fn claimed_out(claimed: bool) -> Outcome {
    Outcome::Claimed(claimed)
}

/// Whether a check may be handed over.
#[must_use]
pub fn claimed_in(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Claimed(claimed) => Some(claimed),
        _ => None,
    }
}

/// State in numbers.
#[must_use]
pub fn status_out(status: BrokerStatus) -> Outcome {
    let BrokerStatus { ready, reason, topics, groups, members, lite_topics, lite_subscriptions, pollers, in_flight } =
        status;
    Outcome::Status(wire::Status {
        ready,
        reason,
        topics: topics as u64,
        groups: groups as u64,
        members: members as u64,
        lite_topics: lite_topics as u64,
        lite_subscriptions: lite_subscriptions as u64,
        pollers: pollers as u64,
        in_flight,
    })
}

/// State in numbers.
#[must_use]
pub fn status_in(outcome: Outcome) -> Option<BrokerStatus> {
    let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
    match outcome {
        Outcome::Status(status) => Some(BrokerStatus {
            ready: status.ready,
            reason: status.reason,
            topics: count(status.topics),
            groups: count(status.groups),
            members: count(status.members),
            lite_topics: count(status.lite_topics),
            lite_subscriptions: count(status.lite_subscriptions),
            pollers: count(status.pollers),
            in_flight: status.in_flight,
        }),
        _ => None,
    }
}
