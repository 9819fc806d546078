//! The broker's verbs over the real store, in memory and in virtual time: what a client would see, restarts included.

use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{
    AckOutcome, Ask, CatalogError, ChangeOutcome, ClientId, Delivered, GroupSpec, LeaseWish, LetterFate, LetterPage,
    Publish, PublishError, Receive, ReceiveError, Remedy, SettleError, TopicSpec, Which,
};
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::QueueOffset;
use bolide::model::tag::TagFilter;
use bolide::model::time::Timestamp;
use bolide::model::topic::TopicType;
use bolide::store::FoldEnv;
use bytes::Bytes;
use world::World;

#[path = "common/broker.rs"]
mod world;

#[path = "broker/offsets.rs"]
mod offsets;

const LEASE: Duration = Duration::from_secs(30);

fn in_one_life(life: impl AsyncFnOnce(Broker)) {
    World::new().life(life);
}

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

fn message(id: &str, tag: &str) -> NewMessage {
    NewMessage {
        message_id: id.to_owned(),
        tag: tag.to_owned(),
        rest: Bytes::from(format!("body of {id}")),
        system_static: Bytes::from_static(b"static"),
        body_bytes: 9,
        ..NewMessage::default()
    }
}

async fn create(broker: &Broker) {
    broker.create_topic(topic(), TopicSpec { queues: Some(2), ..TopicSpec::default() }).await.unwrap();
}

async fn publish(broker: &Broker, ids: &[&str]) {
    for id in ids {
        let messages = vec![message(id, "")];
        broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    }
}

fn wish(filter: &str, batch: usize, wait: u64) -> Receive {
    Receive {
        group: group(),
        topic: topic(),
        filter: TagFilter::parse(filter).unwrap().into(),
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait: Duration::from_secs(wait),
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    }
}

async fn receive(broker: &Broker, batch: usize, wait: u64) -> Vec<Delivered> {
    take_all(broker, wish("*", batch, wait)).await
}

async fn take_all(broker: &Broker, wish: Receive) -> Vec<Delivered> {
    let mut delivery = broker.receive(wish).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    let mut ids: Vec<&str> = delivered.iter().map(|one| one.message.message_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

async fn ack(broker: &Broker, delivered: &Delivered) -> AckOutcome {
    broker.ack(&group(), &topic(), std::slice::from_ref(&delivered.handle)).await.unwrap()[0]
}

#[test]
fn what_was_sent_is_delivered_once_acked_and_never_again_also_after_kills() {
    let mut world = World::new();
    let kept = world.life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a", "b", "c"]).await;
        let got = receive(&broker, 32, 1).await;
        assert_eq!(ids(&got), ["a", "b", "c"]);
        assert!(got.iter().all(|one| one.attempt == 1 && one.message.rest.starts_with(b"body of ")));
        assert_eq!(ack(&broker, &got[0]).await, AckOutcome::Done);
        assert!(receive(&broker, 32, 1).await.is_empty());
        got[1].message.message_id.clone()
    });
    // The clock went on by ten minutes: the leases of the two others have ended.
    world.life(async |broker| {
        let again = receive(&broker, 32, 1).await;
        assert_eq!(again.len(), 2);
        assert!(again.iter().all(|one| one.attempt == 2), "a lease that ended while the process was away counts");
        assert!(ids(&again).contains(&kept.as_str()));
        for one in &again {
            assert_eq!(ack(&broker, one).await, AckOutcome::Done);
        }
    });
    world.life(async |broker| assert!(receive(&broker, 32, 1).await.is_empty()));
}

#[test]
fn a_waiting_receive_gets_a_message_the_moment_it_is_stored() {
    in_one_life(async |broker| {
        create(&broker).await;
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { (receive(&broker, 1, 20).await, tokio::time::Instant::now()) }
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        publish(&broker, &["a"]).await;
        let sent = tokio::time::Instant::now();
        let (got, at) = waiting.await.unwrap();
        assert_eq!(ids(&got), ["a"]);
        assert!(at.duration_since(sent) < Duration::from_millis(50), "{:?}", at.duration_since(sent));
    });
}

#[test]
fn an_empty_receive_returns_at_its_time_and_not_earlier() {
    in_one_life(async |broker| {
        create(&broker).await;
        let began = tokio::time::Instant::now();
        assert!(receive(&broker, 1, 7).await.is_empty());
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(7) && took < Duration::from_millis(7_100), "{took:?}");
    });
}

#[test]
fn expiry_and_nack_bring_a_message_back_and_make_old_handles_stale() {
    in_one_life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a"]).await;
        let first = receive(&broker, 1, 1).await;
        let second = receive(&broker, 1, 40).await;
        assert_eq!((second[0].attempt, second[0].message.message_id.as_str()), (2, "a"));
        assert_eq!(ack(&broker, &first[0]).await, AckOutcome::InvalidHandle);
        let zero = Duration::ZERO;
        let changed = broker.change_invisible(&group(), &topic(), &second[0].handle, zero).await.unwrap();
        assert!(matches!(&changed, ChangeOutcome::Changed { handle } if *handle != second[0].handle));
        let third = receive(&broker, 1, 1).await;
        assert_eq!(third[0].attempt, 3);
        assert_eq!(ack(&broker, &second[0]).await, AckOutcome::InvalidHandle);
        assert_eq!(ack(&broker, &third[0]).await, AckOutcome::Done);
        assert_eq!(ack(&broker, &third[0]).await, AckOutcome::Done, "a repeated ack within its lease");
        let late = broker.change_invisible(&group(), &topic(), &third[0].handle, zero).await.unwrap();
        assert_eq!(late, ChangeOutcome::InvalidHandle);
    });
}

#[test]
fn a_longer_lease_holds_and_both_texts_of_its_handle_work() {
    in_one_life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a"]).await;
        let got = receive(&broker, 1, 1).await;
        let longer = Duration::from_secs(100);
        let changed = broker.change_invisible(&group(), &topic(), &got[0].handle, longer).await.unwrap();
        let ChangeOutcome::Changed { handle } = changed else { panic!("{changed:?}") };
        assert!(receive(&broker, 1, 60).await.is_empty());
        assert_eq!(ack(&broker, &got[0]).await, AckOutcome::Done);
        assert_eq!(broker.ack(&group(), &topic(), &[handle]).await.unwrap(), [AckOutcome::Done]);
    });
}

#[test]
fn a_delivery_nobody_took_returns_at_once_without_a_counted_attempt() {
    in_one_life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a", "b"]).await;
        let mut delivery = broker.receive(wish("*", 32, 1)).await.unwrap();
        let taken = delivery.next().unwrap();
        drop(delivery);
        let rest = receive(&broker, 32, 1).await;
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].attempt, 1);
        assert_ne!(rest[0].message.message_id, taken.message.message_id);
    });
}

#[test]
fn a_cancelled_receive_leaves_nothing_behind() {
    in_one_life(async |broker| {
        create(&broker).await;
        for _ in 0..50 {
            let cancelled = tokio::spawn({
                let broker = broker.clone();
                async move { receive(&broker, 1, 20).await }
            });
            tokio::task::yield_now().await;
            cancelled.abort();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(broker.status().pollers, 0);
        publish(&broker, &["a"]).await;
        assert_eq!(receive(&broker, 1, 1).await.len(), 1);
    });
}

#[test]
fn the_same_attempt_gets_the_same_messages_also_after_a_restart() {
    let mut world = World::new();
    let long = || Receive {
        lease: LeaseWish::Fixed(Duration::from_secs(3_600)),
        attempt_id: Some("attempt-1".to_owned()),
        ..wish("*", 2, 1)
    };
    let first = world.life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a", "b", "c"]).await;
        let first = take_all(&broker, long()).await;
        let again = take_all(&broker, long()).await;
        assert_eq!(ids(&first), ids(&again));
        assert_eq!(
            first.iter().map(|one| (&one.handle, one.attempt)).collect::<Vec<_>>(),
            again.iter().map(|one| (&one.handle, one.attempt)).collect::<Vec<_>>()
        );
        ack(&broker, &first[0]).await;
        first
    });
    world.life(async |broker| {
        let again = take_all(&broker, long()).await;
        assert_eq!(ids(&again), [first[1].message.message_id.as_str()]);
        assert_eq!(again[0].attempt, 1);
        assert_eq!(ack(&broker, &first[1]).await, AckOutcome::Done);
    });
}

#[test]
fn exhausted_attempts_move_a_message_to_the_dead_letter_topic_once_with_its_origin() {
    let mut world = World::new();
    let dead = || TopicName::dead_letter(&group());
    world.life(async |broker| {
        create(&broker).await;
        broker.create_group(group(), GroupSpec { max_attempts: Some(2), ..GroupSpec::default() }).await.unwrap();
        publish(&broker, &["a"]).await;
        for attempt in 1..=2 {
            let got = receive(&broker, 1, 5).await;
            assert_eq!(got[0].attempt, attempt);
            broker.change_invisible(&group(), &topic(), &got[0].handle, Duration::ZERO).await.unwrap();
        }
        assert!(receive(&broker, 1, 5).await.is_empty());
        let undertaker = || Receive { topic: dead(), group: GroupName::new("", "u").unwrap(), ..wish("*", 32, 5) };
        let letters = take_all(&broker, undertaker()).await;
        assert_eq!(ids(&letters), ["a"]);
        let origin = letters[0].origin.as_ref().unwrap();
        assert_eq!((&origin.topic, origin.attempts), (&topic(), 2));
        assert_eq!(letters[0].message.rest, Bytes::from("body of a"));
        assert!(take_all(&broker, undertaker()).await.is_empty());
    });
    world.life(async |broker| {
        assert_eq!(broker.queue_spans(&dead()).unwrap()[0].next, QueueOffset(1));
        assert!(receive(&broker, 1, 5).await.is_empty());
    });
}

#[test]
fn what_was_sent_back_has_left_the_dead_letters_also_by_the_log_alone() {
    let mut world = World::new();
    let dead = || TopicName::dead_letter(&group());
    let offsets = |page: LetterPage| page.letters.iter().map(|letter| letter.offset.get()).collect::<Vec<_>>();
    let these = |offsets: &[u64]| Which::These(offsets.iter().copied().map(QueueOffset).collect());
    world.life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a", "b", "c", "d"]).await;
        for delivered in receive(&broker, 4, 1).await {
            broker.to_dead_letter(&group(), &topic(), &delivered.handle).await.unwrap();
        }
        // Not the first, so that only its mark says that it has left.
        let settled = broker.settle_dead_letters(&group(), these(&[2, 2, 9]), Remedy::Redrive).await.unwrap();
        let fates: Vec<_> = settled.outcomes.iter().map(|outcome| (outcome.offset.get(), &outcome.fate)).collect();
        assert_eq!(fates, [(9, &LetterFate::Gone), (2, &LetterFate::Done)]);
        assert_eq!(receive(&broker, 9, 1).await.len(), 1);
    });
    // The folded state is lost; the log says it all.
    world.env = FoldEnv::memory().unwrap();
    world.life(async |broker| {
        let again = broker.settle_dead_letters(&group(), these(&[2]), Remedy::Redrive).await.unwrap();
        assert_eq!(again.outcomes[0].fate, LetterFate::Gone);
        let page = broker.dead_letters(&group(), QueueOffset(0), 100).await.unwrap();
        assert_eq!((page.waiting, offsets(page)), (3, vec![0, 1, 3]));
        broker.settle_dead_letters(&group(), these(&[1]), Remedy::Purge).await.unwrap();
        let span = broker.queue_spans(&dead()).unwrap()[0];
        assert_eq!((span.first, span.next), (QueueOffset(0), QueueOffset(4)), "the first is still there");
        broker.settle_dead_letters(&group(), these(&[0]), Remedy::Purge).await.unwrap();
        assert_eq!(broker.queue_spans(&dead()).unwrap()[0].first, QueueOffset(3), "trimmed with the marks behind it");
    });
    world.life(async |broker| {
        let page = broker.dead_letters(&group(), QueueOffset(0), 100).await.unwrap();
        assert_eq!((page.waiting, offsets(page)), (1, vec![3]));
    });
}

#[test]
fn forwarding_is_durable_and_idempotent_and_a_forged_handle_moves_nothing() {
    in_one_life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a"]).await;
        let got = receive(&broker, 1, 1).await;
        let forward = async |handle: &str| broker.to_dead_letter(&group(), &topic(), handle).await.unwrap();
        assert_eq!(forward("nonsense").await, AckOutcome::InvalidHandle);
        assert_eq!(forward(&got[0].handle).await, AckOutcome::Done);
        assert_eq!(forward(&got[0].handle).await, AckOutcome::Done);
        let dead = TopicName::dead_letter(&group());
        assert_eq!(broker.queue_spans(&dead).unwrap()[0].next, QueueOffset(1));
    });
}

#[test]
fn an_auto_renewed_message_stays_with_a_live_client_and_returns_when_it_goes_silent() {
    in_one_life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a"]).await;
        let renewing = Receive { lease: LeaseWish::AutoRenew, ..wish("*", 1, 1) };
        let got = take_all(&broker, renewing).await;
        assert_eq!(got.len(), 1);
        let other = || Receive { client: ClientId("other".into()), ..wish("*", 1, 5) };
        for _ in 0..20 {
            broker.client_seen(&ClientId("client".into()), false);
            assert!(take_all(&broker, other()).await.is_empty());
        }
        let mut waited = Duration::ZERO;
        let began = tokio::time::Instant::now();
        while waited < Duration::from_secs(60) {
            if !take_all(&broker, other()).await.is_empty() {
                break;
            }
            waited = began.elapsed();
        }
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        assert_eq!(ack(&broker, &got[0]).await, AckOutcome::InvalidHandle);
    });
}

#[test]
fn a_nacked_renewed_message_comes_back_no_earlier_than_the_groups_back_off() {
    in_one_life(async |broker| {
        create(&broker).await;
        publish(&broker, &["a"]).await;
        let renewing = || Receive { lease: LeaseWish::AutoRenew, ..wish("*", 1, 30) };
        let got = take_all(&broker, renewing()).await;
        let began = tokio::time::Instant::now();
        broker.change_invisible(&group(), &topic(), &got[0].handle, Duration::ZERO).await.unwrap();
        let again = take_all(&broker, renewing()).await;
        let took = began.elapsed();
        assert_eq!(again[0].attempt, 2);
        assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_100), "{took:?}");
    });
}

#[test]
fn filters_choose_by_tag_and_each_member_gets_its_own() {
    in_one_life(async |broker| {
        create(&broker).await;
        take_all(&broker, wish("A", 1, 0)).await;
        take_all(&broker, wish("B", 1, 0)).await;
        for (id, tag) in [("1", "A"), ("2", "B"), ("3", ""), ("4", "A")] {
            broker.publish(Publish { topic: topic(), messages: vec![message(id, tag)] }).await.unwrap();
        }
        assert_eq!(ids(&take_all(&broker, wish("A", 32, 1)).await), ["1", "4"]);
        assert_eq!(ids(&take_all(&broker, wish("B", 32, 1)).await), ["2"]);
        assert!(take_all(&broker, wish("*", 32, 1)).await.is_empty(), "nobody wanted the third when it was looked at");
    });
}

#[test]
fn refused_requests_change_nothing_and_say_why() {
    in_one_life(async |broker| {
        create(&broker).await;
        let missing = TopicName::new("", "missing").unwrap();
        let to_missing = Publish { topic: missing.clone(), messages: vec![message("a", "")] };
        assert_eq!(broker.publish(to_missing).await, Err(PublishError::TopicNotFound(missing.clone())));
        let fifo = NewMessage { message_type: MessageType::Fifo, message_group: "x".into(), ..message("a", "") };
        let mixed = Publish { topic: topic(), messages: vec![message("b", ""), fifo] };
        assert!(matches!(broker.publish(mixed).await, Err(PublishError::TypeConflict { index: 1, .. })));
        assert!(broker.queue_spans(&topic()).unwrap().iter().all(|span| span.next == QueueOffset(0)));
        let nowhere = Receive { topic: missing.clone(), ..wish("*", 1, 1) };
        assert!(matches!(broker.receive(nowhere).await, Err(ReceiveError::TopicNotFound(_))));
        assert_eq!(broker.ack(&group(), &missing, &["x".into()]).await, Err(SettleError::TopicNotFound(missing)));
        assert_eq!(broker.ack(&group(), &topic(), &["x".into()]).await, Ok(vec![AckOutcome::InvalidHandle]));
        assert!(broker.groups().is_empty(), "an ack creates no group");
    });
}

#[test]
fn the_catalogue_survives_and_tells_equal_from_different() {
    let mut world = World::new();
    let fifo = || TopicSpec { topic_type: Some(TopicType::Fifo), ..TopicSpec::default() };
    world.life(async |broker| {
        broker.create_topic(topic(), fifo()).await.unwrap();
        broker.create_group(group(), GroupSpec { ordered: Some(Some(true)), ..GroupSpec::default() }).await.unwrap();
    });
    world.life(async |broker| {
        assert_eq!(broker.topic(&topic()).unwrap().topic_type, TopicType::Fifo);
        assert_eq!(broker.group(&group()).unwrap().ordered, Some(true));
        broker.create_topic(topic(), fifo()).await.unwrap();
        let other = TopicSpec { queues: Some(3), ..fifo() };
        assert!(matches!(broker.create_topic(topic(), other).await, Err(CatalogError::Differs { .. })));
        broker.delete_topic(&topic()).await.unwrap();
        assert!(broker.topic(&topic()).is_none());
    });
    world.life(async |broker| {
        assert!(broker.topic(&topic()).is_none());
        broker.create_topic(topic(), TopicSpec::default()).await.unwrap();
        assert!(broker.queue_spans(&topic()).unwrap().iter().all(|span| span.next == QueueOffset(0)));
    });
}

#[test]
fn a_large_backlog_is_read_from_disk_in_order_and_completely() {
    in_one_life(async |broker| {
        create(&broker).await;
        let messages: Vec<NewMessage> = (0..500).map(|id| message(&format!("{id:05}"), "")).collect();
        for _ in 0..10 {
            broker.publish(Publish { topic: topic(), messages: messages.clone() }).await.unwrap();
        }
        let mut got = 0;
        loop {
            let batch = receive(&broker, 32, 1).await;
            if batch.is_empty() {
                break;
            }
            got += batch.len();
            let handles: Vec<String> = batch.into_iter().map(|one| one.handle).collect();
            let outcomes = broker.ack(&group(), &topic(), &handles).await.unwrap();
            assert!(outcomes.iter().all(|outcome| *outcome == AckOutcome::Done));
        }
        assert_eq!(got, 5_000);
        let lag: u64 = broker.lag(&group()).await.unwrap().iter().map(bolide::broker::api::QueueLag::lag).sum();
        assert_eq!(lag, 0);
    });
}

#[test]
fn a_waiting_receive_ends_empty_when_the_broker_drains() {
    in_one_life(async |broker| {
        create(&broker).await;
        let waiting = tokio::spawn({
            let broker = broker.clone();
            async move { receive(&broker, 1, 20).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        broker.shutdown().drain();
        let began = tokio::time::Instant::now();
        assert!(waiting.await.unwrap().is_empty());
        assert!(began.elapsed() < Duration::from_millis(100));
    });
}

#[test]
fn a_receive_that_waits_hears_at_once_that_its_group_was_deleted_or_switched_off() {
    in_one_life(async |broker| {
        create(&broker).await;
        for disable in [false, true] {
            broker.create_group(group(), GroupSpec::default()).await.unwrap();
            let waiting = tokio::spawn({
                let broker = broker.clone();
                async move { broker.receive(wish("*", 1, 20)).await.map(|delivery| delivery.len()) }
            });
            tokio::time::sleep(Duration::from_secs(1)).await;
            if disable {
                let off = GroupSpec { enabled: Some(false), ..GroupSpec::default() };
                broker.update_group(&group(), off).await.unwrap();
                assert_eq!(waiting.await.unwrap(), Err(ReceiveError::GroupDisabled(group())));
            } else {
                broker.delete_group(&group()).await.unwrap();
                assert_eq!(waiting.await.unwrap(), Err(ReceiveError::GroupNotFound(group())));
            }
        }
    });
}

#[test]
fn a_group_whose_queues_came_later_and_were_trimmed_reads_on_after_a_restart() {
    let mut world = World::new();
    let short = || TopicSpec { retention: Some(Some(Duration::from_secs(60))), ..TopicSpec::default() };
    world.life(async |broker| {
        create(&broker).await;
        assert!(receive(&broker, 1, 0).await.is_empty());
        broker.update_topic(&topic(), TopicSpec { queues: Some(4), ..short() }).await.unwrap();
        for id in 0..20 {
            publish(&broker, &[format!("old-{id}").as_str()]).await;
        }
        // Retention of the topic takes them all before the group looks.
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert!(broker.queue_spans(&topic()).unwrap().iter().all(|span| span.first == span.next));
    });
    world.life(async |broker| {
        for id in 0..8 {
            publish(&broker, &[format!("new-{id}").as_str()]).await;
        }
        assert_eq!(receive(&broker, 32, 1).await.len(), 8);
    });
}
