//! Whatever is said arrives as it was said, through the very bytes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use crate::broker::api::{
    AckOutcome, Ask, BrokerStatus, ChangeOutcome, Check, ClientId, Delivered, LeaseWish, LiteAction, LiteError,
    LiteEviction, LiteStart, LiteSync, OffsetError, Origin, Publish, PublishError, Published, Pull, Pulled,
    QueueBoundary, RecallError, Receive, ReceiveError, Resolution, SettleError, TransactionError,
};
use crate::link::convert::calls::{DueChecks, Request, request_in, request_out};
use crate::link::convert::greeting::{hello_in, hello_out};
use crate::link::convert::outcomes as o;
use crate::link::convert::refusals::{Refused, malformed, not_done};
use crate::link::hello::{Hello, Role};
use crate::model::cluster::ClusterId;
use crate::model::filter::Filter;
use crate::model::message::{MessageType, NewMessage, StoredMessage};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset, ShardId, TopicId};
use crate::model::sql::Sql;
use crate::model::tag::TagFilter;
use crate::model::time::Timestamp;
use crate::model::topic::TopicType;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;

fn text() -> impl Strategy<Value = String> {
    "[a-z|%ü ]{0,12}"
}

fn shared() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Arc::from)
}

fn topic() -> impl Strategy<Value = TopicName> {
    (text(), text()).prop_map(|(namespace, name)| TopicName::trusted(&namespace, &name))
}

fn group() -> impl Strategy<Value = GroupName> {
    (text(), text()).prop_map(|(namespace, name)| GroupName::trusted(&namespace, &name))
}

fn client() -> impl Strategy<Value = ClientId> {
    shared().prop_map(ClientId)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn instant() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn span() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn queue() -> impl Strategy<Value = QueueId> {
    any::<u32>().prop_map(QueueId)
}

fn offset() -> impl Strategy<Value = QueueOffset> {
    any::<u64>().prop_map(QueueOffset)
}

fn count() -> impl Strategy<Value = usize> {
    any::<u32>().prop_map(|count| count as usize)
}

fn message_type() -> impl Strategy<Value = MessageType> {
    use MessageType::{Delay, Fifo, Lite, Normal, Priority, Transaction};
    prop::sample::select(vec![Normal, Fifo, Delay, Transaction, Priority, Lite])
}

fn topic_type() -> impl Strategy<Value = TopicType> {
    use TopicType::{Delay, Fifo, Lite, Mixed, Normal, Priority, Transaction};
    prop::sample::select(vec![Normal, Fifo, Delay, Transaction, Priority, Lite, Mixed])
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::ALL),
        btree_set("[a-c]{1,3}", 0..4).prop_map(|tags| Filter::Tags(TagFilter::AnyOf(tags.into_iter().collect()))),
        any::<u32>().prop_map(|value| Filter::Sql(Arc::new(Sql::parse(&format!("a > {value}")).unwrap()))),
    ]
}

prop_compose! {
    fn new_message()(
        message_type in message_type(),
        (message_id, tag, message_group, lite_topic) in (text(), text(), text(), text()),
        (due, orphan_after, producer) in (option::of(instant()), option::of(span()), shared()),
        priority in option::of(any::<u32>()),
        (rest, system_static, body_bytes) in (bytes(), bytes(), any::<u32>()),
    ) -> NewMessage {
        NewMessage {
            message_type, message_id, tag, message_group, lite_topic, due, orphan_after, producer, priority, rest,
            system_static, body_bytes,
        }
    }
}

prop_compose! {
    fn stored()(
        stored_at in instant(), (message_id, tag) in (text(), text()), (rest, system_static) in (bytes(), bytes()),
    ) -> StoredMessage {
        StoredMessage { stored_at, message_id, tag, rest, system_static }
    }
}

prop_compose! {
    fn delivered()(
        (handle, message_group) in (text(), text()),
        (attempt, queue, offset, invisible) in (any::<u32>(), queue(), offset(), span()),
        (message_type, message) in (message_type(), stored()),
        origin in option::of((topic(), any::<u32>(), text())),
    ) -> Delivered {
        let origin = origin.map(|(topic, attempts, reason)| Origin { topic, attempts, reason });
        Delivered { handle, attempt, queue, offset, invisible, message_type, message_group, message, origin }
    }
}

prop_compose! {
    fn check()(
        (topic, transaction_id, producer, message_group) in (topic(), shared(), shared(), text()),
        (checks, topic_id, ticket) in (any::<u32>(), any::<u32>(), any::<u64>()), message in stored(),
    ) -> Check {
        Check { topic, transaction_id, producer, checks, message_group, message, topic_id: TopicId(topic_id), ticket }
    }
}

prop_compose! {
    fn receive()(
        (group, topic, filter, batch) in (group(), topic(), filter(), count()),
        (lease, wait, client) in (option::of(span()), span(), client()),
        (attempt_id, repeat) in (option::of(text()), any::<bool>()),
    ) -> Receive {
        let lease = lease.map_or(LeaseWish::AutoRenew, LeaseWish::Fixed);
        let ask = if repeat { Ask::RepeatOnly } else { Ask::Messages };
        Receive { group, topic, filter, batch, lease, wait, client, attempt_id, ask }
    }
}

fn lite_start() -> impl Strategy<Value = LiteStart> {
    prop_oneof![
        Just(LiteStart::Last),
        Just(LiteStart::First),
        Just(LiteStart::Latest),
        offset().prop_map(LiteStart::Offset),
        any::<u64>().prop_map(LiteStart::Tail),
        instant().prop_map(LiteStart::At),
    ]
}

prop_compose! {
    fn lite_sync()(
        (client, group, topic) in (client(), group(), topic()),
        action in prop::sample::select(vec![
            LiteAction::Add, LiteAction::Remove, LiteAction::CompleteAdd, LiteAction::CompleteRemove,
        ]),
        names in vec(text(), 0..4), version in option::of(any::<i64>()), start in option::of(lite_start()),
    ) -> LiteSync {
        let names: BTreeSet<String> = names.into_iter().collect();
        LiteSync { client, group, topic, action, names, version, start }
    }
}

fn request() -> impl Strategy<Value = Request> {
    let which =
        prop_oneof![Just(QueueBoundary::Beginning), Just(QueueBoundary::End), instant().prop_map(QueueBoundary::At)];
    let delivery = || (group(), topic(), text(), span());
    let messaging = prop_oneof![
        (topic(), vec(new_message(), 0..3)).prop_map(|(topic, messages)| Request::Publish(Publish { topic, messages })),
        receive().prop_map(Request::Receive),
        (group(), topic(), vec(text(), 0..3)).prop_map(|(g, t, handles)| Request::Ack(g, t, handles)),
        delivery().prop_map(|(g, t, handle, by)| Request::Change(g, t, handle, by)),
        delivery().prop_map(|(g, t, handle, by)| Request::Suspend(g, t, handle, by)),
        delivery().prop_map(|(g, t, handle, _)| Request::ToDeadLetter(g, t, handle)),
        (topic(), text()).prop_map(|(t, handle)| Request::Recall(t, handle)),
        (topic(), text(), any::<bool>()).prop_map(|(t, id, commit)| {
            Request::EndTransaction(t, id, if commit { Resolution::Commit } else { Resolution::Rollback })
        }),
        (topic(), text()).prop_map(|(t, id)| Request::LookAtTransaction(t, id)),
    ];
    let rest = prop_oneof![
        (group(), topic(), queue(), offset(), filter(), count(), span(), client()).prop_map(
            |(group, topic, queue, offset, filter, batch, wait, client)| {
                Request::Pull(Pull { group, topic, queue, offset, filter, batch, wait, client })
            }
        ),
        (topic(), queue(), which).prop_map(|(t, q, which)| Request::QueueBoundary(t, q, which)),
        (group(), topic(), queue()).prop_map(|(g, t, q)| Request::Offset(g, t, q)),
        (group(), topic(), queue(), offset()).prop_map(|(g, t, q, to)| Request::UpdateOffset(g, t, q, to)),
        lite_sync().prop_map(Request::SyncLite),
        (topic(), group(), any::<u32>(), vec(any::<u64>(), 0..4))
            .prop_map(|(t, g, generation, keys)| Request::LanesDone(t, g, generation, keys)),
        Just(Request::TopicsToCheck),
        (topic(), vec(client(), 0..3), count(), count()).prop_map(|(topic, producers, max, bytes)| {
            Request::DueChecks(DueChecks { topic, producers, max, bytes })
        }),
        client().prop_map(Request::ClientTerminated),
        Just(Request::Status),
    ];
    prop_oneof![messaging, rest]
}

/// Through the bytes of a message that carries it.
fn call(request: Request) -> Request {
    let call = wire::Call { id: 1, deadline_ms: 2, revision: 3, verb: Some(request_out(request)) };
    let bytes = wire::ToBroker { calls: vec![call], ..wire::ToBroker::default() }.encode_to_vec();
    let mut arrived = wire::ToBroker::decode(Bytes::from(bytes)).unwrap();
    request_in(arrived.calls.remove(0).verb.unwrap()).unwrap()
}

fn answer(outcome: Outcome) -> Outcome {
    let answers = vec![wire::Answer { id: 1, outcome: Some(outcome) }];
    let bytes = wire::FromBroker { answers, ..wire::FromBroker::default() }.encode_to_vec();
    wire::FromBroker::decode(Bytes::from(bytes)).unwrap().answers.remove(0).outcome.unwrap()
}

fn same<T: Debug>(sent: &T, arrived: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(format!("{sent:?}"), format!("{arrived:?}"));
    Ok(())
}

fn refusal<E: Refused + Clone + Debug>(error: &E) -> Result<(), TestCaseError> {
    let Outcome::Refusal(refusal) = answer(Outcome::Refusal(error.clone().out())) else { unreachable!() };
    same(&Some(error.clone()), &E::back(refusal))
}

fn publish_error() -> impl Strategy<Value = PublishError> {
    use PublishError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        topic().prop_map(E::NotWritable),
        (topic(), topic_type(), message_type(), count()).prop_map(|(topic, expected, found, index)| E::TypeConflict {
            topic,
            expected,
            found,
            index
        }),
        (topic(), count()).prop_map(|(topic, most)| E::LiteTopicQuota { topic, most }),
        prop::sample::select(vec![E::Overloaded, E::DiskFull, E::TooLarge, E::Moved, E::ShardFailed]),
    ]
}

fn receive_error() -> impl Strategy<Value = ReceiveError> {
    use ReceiveError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        group().prop_map(E::GroupNotFound),
        topic().prop_map(E::NotReadable),
        group().prop_map(E::GroupDisabled),
        prop::sample::select(vec![E::LiteFilter, E::Overloaded]),
        text().prop_map(E::ShardFailed),
    ]
}

fn settle_error() -> impl Strategy<Value = SettleError> {
    use SettleError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        group().prop_map(E::GroupNotFound),
        prop::sample::select(vec![E::Overloaded, E::ShardFailed]),
    ]
}

fn recall_error() -> impl Strategy<Value = RecallError> {
    use RecallError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        topic().prop_map(E::WrongType),
        topic().prop_map(E::NotWritable),
        prop::sample::select(vec![E::BadHandle, E::NotFound, E::TooLate, E::ShardFailed]),
    ]
}

fn transaction_error() -> impl Strategy<Value = TransactionError> {
    use TransactionError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        any::<bool>().prop_map(|committed| E::Opposite { committed }),
        prop::sample::select(vec![E::Unknown, E::Discarded, E::Overloaded, E::ShardFailed]),
    ]
}

fn offset_error() -> impl Strategy<Value = OffsetError> {
    use OffsetError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        group().prop_map(E::GroupNotFound),
        topic().prop_map(E::NotReadable),
        group().prop_map(E::GroupDisabled),
        (topic(), queue(), any::<u32>()).prop_map(|(topic, queue, queues)| E::UnknownQueue { topic, queue, queues }),
        (topic(), any::<u32>()).prop_map(|(topic, queues)| E::WhichQueue { topic, queues }),
        (topic(), queue(), offset(), offset(), offset())
            .prop_map(|(topic, queue, offset, first, next)| E::OutOfRange { topic, queue, offset, first, next }),
        (group(), topic(), queue()).prop_map(|(group, topic, queue)| E::NoPosition { group, topic, queue }),
        Just(E::Overloaded),
        text().prop_map(E::ShardFailed),
    ]
}

fn lite_error() -> impl Strategy<Value = LiteError> {
    use LiteError as E;
    prop_oneof![
        topic().prop_map(E::TopicNotFound),
        group().prop_map(E::GroupNotFound),
        topic().prop_map(E::NotLite),
        topic().prop_map(E::NotReadable),
        group().prop_map(E::GroupDisabled),
        count().prop_map(E::ClientQuota),
        prop::sample::select(vec![E::BrokerQuota, E::Stale, E::Overloaded, E::ShardFailed]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_call_arrives_as_it_was_made(request in request()) {
        same(&request, &call(request.clone()))?;
    }

    #[test]
    fn a_check_is_named_by_what_its_broker_needs_to_find_it(sent in check()) {
        for (request, is_claim) in [(Request::ClaimCheck(sent.clone()), true), (Request::UnclaimCheck(sent.clone()), false)] {
            let (arrived, claims) = match call(request) {
                Request::ClaimCheck(check) => (check, true),
                Request::UnclaimCheck(check) => (check, false),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(claims, is_claim);
            let name = |check: &Check| {
                (check.topic.clone(), check.topic_id, check.transaction_id.clone(), check.ticket, check.checks)
            };
            prop_assert_eq!(name(&sent), name(&arrived));
        }
    }

    #[test]
    fn every_refusal_keeps_its_words(
        (publish, receive, settle) in (publish_error(), receive_error(), settle_error()),
        (recall, transaction, offset, lite) in (recall_error(), transaction_error(), offset_error(), lite_error()),
    ) {
        refusal(&publish)?;
        refusal(&receive)?;
        refusal(&settle)?;
        refusal(&recall)?;
        refusal(&transaction)?;
        refusal(&offset)?;
        refusal(&lite)?;
    }

    #[test]
    fn every_outcome_arrives_as_it_was(
        places in vec((queue(), offset(), option::of(text())), 0..3),
        (messages, repeated, next) in (vec(delivered(), 0..3), any::<bool>(), offset()),
        (acked, handle, recalled, claimed) in (vec(any::<bool>(), 0..4), option::of(text()), text(), any::<bool>()),
        evictions in vec((client(), shared()), 0..3),
        (topics, checks) in (vec((topic(), vec(client(), 0..3)), 0..3), vec(check(), 0..2)),
        (ready, reason, numbers, in_flight) in (any::<bool>(), text(), vec(count(), 7), any::<u64>()),
    ) {
        let places: Vec<Published> = places.into_iter()
            .map(|(queue, offset, recall_handle)| Published { queue, offset, recall_handle }).collect();
        same(&Some(places.clone()), &o::places_in(answer(o::places_out(places))))?;
        let delivery = o::delivery_out(messages.clone().into_iter(), repeated, !repeated);
        let brought = o::Brought { messages: messages.clone(), repeated_attempt: repeated, report: !repeated };
        same(&Some(brought), &o::delivery_in(answer(delivery)))?;
        let pulled = Pulled { messages, next };
        same(&Some(pulled.clone()), &o::pulled_in(answer(o::pulled_out(pulled))))?;
        let acked: Vec<AckOutcome> =
            acked.into_iter().map(|done| if done { AckOutcome::Done } else { AckOutcome::InvalidHandle }).collect();
        same(&Some(acked.clone()), &o::acked_in(answer(o::acked_out(&acked))))?;
        let changed = handle.map_or(ChangeOutcome::InvalidHandle, |handle| ChangeOutcome::Changed { handle });
        same(&Some(changed.clone()), &o::changed_in(answer(o::changed_out(changed))))?;
        same(&Some(recalled.clone()), &o::recalled_in(answer(o::recalled_out(recalled))))?;
        same(&Some(claimed), &o::claimed_in(answer(o::claimed_out(claimed))))?;
        same(&Some(next), &o::offset_in(answer(o::offset_out(next))))?;
        let evictions: Vec<LiteEviction> =
            evictions.into_iter().map(|(client, lite_topic)| LiteEviction { client, lite_topic }).collect();
        same(&Some(evictions.clone()), &o::evictions_in(answer(o::evictions_out(&evictions))))?;
        let sent = topics.iter().map(|(topic, senders)| (topic, senders.clone()));
        same(&Some(topics.clone()), &o::topics_in(answer(o::topics_out(sent))))?;
        let names = topics.iter().map(|(topic, _)| crate::link::convert::words::topic_out(topic)).collect();
        let of_older = Outcome::Topics(wire::Names { names, senders: Vec::new() });
        let unsaid: Vec<(TopicName, Vec<ClientId>)> =
            topics.iter().map(|(topic, _)| (topic.clone(), Vec::new())).collect();
        same(&Some(unsaid), &o::topics_in(answer(of_older)))?;
        same(&Some(checks.clone()), &o::checks_in(answer(o::checks_out(checks))))?;
        let status = BrokerStatus {
            ready, reason, topics: numbers[0], groups: numbers[1], members: numbers[2], lite_topics: numbers[3],
            lite_subscriptions: numbers[4], pollers: numbers[5], in_flight,
        };
        same(&Some(status.clone()), &o::status_in(answer(o::status_out(status))))?;
        prop_assert!(o::done_in(answer(o::done_out())).is_some());
    }

    #[test]
    fn a_hello_arrives_as_it_was(
        (version, name, proxy) in (shared(), shared(), any::<bool>()),
        (cluster, instance, shard) in (option::of(any::<u128>()), any::<u64>(), option::of(any::<u32>())),
    ) {
        let role = if proxy { Role::Proxy } else { Role::Broker };
        let hello =
            Hello { version, role, name, cluster: cluster.map(ClusterId), instance, shard: shard.map(ShardId) };
        let bytes = hello_out(&hello).encode_to_vec();
        prop_assert_eq!(hello_in(wire::Hello::decode(Bytes::from(bytes)).unwrap()), Ok(hello));
    }
}

#[test]
fn what_another_version_says_is_refused_and_never_guessed() {
    assert!(request_in(wire::call::Verb::Publish(wire::Publish::default())).is_err());
    let message = wire::NewMessage { message_type: 99, ..wire::NewMessage::default() };
    let topic = Some(wire::Name::default());
    assert!(request_in(wire::call::Verb::Publish(wire::Publish { topic, messages: vec![message] })).is_err());
    for refusal in [malformed("x".to_owned()), not_done(), wire::Refusal { reason: 99, ..wire::Refusal::default() }] {
        assert_eq!(PublishError::back(refusal.clone()), None);
        assert_eq!(LiteError::back(refusal), None);
    }
    let nameless = wire::Refusal { reason: wire::Reason::TopicNotFound.into(), ..wire::Refusal::default() };
    assert_eq!(SettleError::back(nameless), None);
    assert_eq!(o::places_in(o::done_out()), None);
}
