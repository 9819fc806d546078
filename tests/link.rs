//! The verbs of a broker, called directly and over a link: one contract for both. And what only a link can do: break.

#[path = "link/breaks.rs"]
mod breaks;
#[path = "link/figures.rs"]
mod figures;
#[allow(dead_code)]
#[path = "sim/net.rs"]
mod net;
#[path = "link/world.rs"]
mod world;

use std::time::Duration;

use bolide::broker::api::{
    AckOutcome, Ask, ChangeOutcome, ClientId, GroupSpec, LeaseWish, LiteError, OffsetError, PublishError,
    QueueBoundary, RecallError, Receive, ReceiveError, Resolution, TopicSpec, TransactionError,
};
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::{QueueId, QueueOffset};
use bolide::model::tag::TagFilter;
use bolide::model::topic::{Permission, TopicType};
use world::*;

#[test]
fn what_is_sent_arrives_as_it_was_and_is_done_when_acknowledged() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        let sent = NewMessage { tag: "A".to_owned(), ..message("a") };
        let places = caller.publish(vec![sent, message("b")]).await.unwrap();
        assert_eq!(places.iter().map(|place| place.offset.get()).collect::<Vec<_>>(), [0, 1]);
        let got = caller.take(32, 1).await;
        assert_eq!(ids(&got), ["a", "b"]);
        let first = got.iter().find(|one| one.message.message_id == "a").unwrap();
        assert_eq!((first.attempt, first.message.tag.as_str(), first.queue), (1, "A", QueueId(0)));
        assert_eq!((&first.message.rest[..], &first.message.system_static[..]), (&b"body of a"[..], &b"static"[..]));
        assert!(first.invisible > LEASE - Duration::from_secs(1) && first.invisible <= LEASE, "{:?}", first.invisible);
        let mut handles: Vec<String> = got.iter().map(|one| one.handle.clone()).collect();
        handles.push("nonsense".to_owned());
        use AckOutcome::{Done, InvalidHandle};
        assert_eq!(caller.ack(&handles).await, Ok(vec![Done, Done, InvalidHandle]));
        assert!(caller.take(1, 60).await.is_empty());
    });
}

#[test]
fn a_publish_is_refused_in_the_same_words() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        let nowhere = TopicName::new("", "nowhere").unwrap();
        let refused = caller.publish_to(nowhere.clone(), vec![message("a")]).await;
        assert_eq!(refused, Err(PublishError::TopicNotFound(nowhere)));
        let grouped = NewMessage { message_type: MessageType::Fifo, message_group: "m".to_owned(), ..message("b") };
        let conflict = PublishError::TypeConflict {
            topic: topic(),
            expected: TopicType::Normal,
            found: MessageType::Fifo,
            index: 1,
        };
        assert_eq!(caller.publish(vec![message("a"), grouped]).await, Err(conflict));
        let large = NewMessage { rest: vec![0; 2 * 1024 * 1024].into(), ..message("large") };
        let refused = caller.publish(vec![large]).await.unwrap_err();
        assert!(matches!(refused, PublishError::TooLarge | PublishError::Overloaded), "{refused:?}");
        let closed = TopicName::new("n", "closed").unwrap();
        let permission = Some(Permission { readable: true, writable: false });
        world.broker.create_topic(closed.clone(), TopicSpec { permission, ..TopicSpec::default() }).await.unwrap();
        let refused = caller.publish_to(closed.clone(), vec![message("a")]).await;
        assert_eq!(refused, Err(PublishError::NotWritable(closed)));
        assert!(caller.take(1, 0).await.is_empty(), "nothing of it was stored");
    });
}

#[test]
fn a_receive_is_refused_in_the_same_words_and_filters_as_it_says() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        let nowhere = TopicName::new("", "nowhere").unwrap();
        let refused = caller.receive(Receive { topic: nowhere.clone(), ..wish(1, 0) }).await.err();
        assert_eq!(refused, Some(ReceiveError::TopicNotFound(nowhere)));
        let off = GroupName::new("", "off").unwrap();
        let spec = GroupSpec { enabled: Some(false), ..GroupSpec::default() };
        world.broker.create_group(off.clone(), spec).await.unwrap();
        let refused = caller.receive(Receive { group: off.clone(), ..wish(1, 0) }).await.err();
        assert_eq!(refused, Some(ReceiveError::GroupDisabled(off)));
        for tag in ["A", "B", "C"] {
            caller.publish(vec![NewMessage { tag: tag.to_owned(), ..message(tag) }]).await.unwrap();
        }
        let filter = TagFilter::parse("A||C").unwrap().into();
        let got = caller.receive(Receive { filter, ..wish(32, 1) }).await.unwrap().all();
        assert_eq!(ids(&got), ["A", "C"]);
    });
}

#[test]
fn a_waiting_receive_gets_a_message_the_moment_it_is_stored_and_an_empty_one_ends_in_time() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        let began = tokio::time::Instant::now();
        assert!(caller.take(1, 7).await.is_empty());
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(8), "{took:?}");
        let waits = async {
            let got = caller.take(1, 20).await;
            (got, tokio::time::Instant::now())
        };
        let sends = async {
            until("a receive waits", async || caller.status().await.pollers == 1).await;
            caller.publish(vec![message("a")]).await.unwrap();
            tokio::time::Instant::now()
        };
        let ((got, at), sent) = tokio::join!(waits, sends);
        assert_eq!(ids(&got), ["a"]);
        assert!(at < sent + Duration::from_millis(900), "{:?}", at.duration_since(sent));
    });
}

#[test]
fn a_receive_whose_caller_is_gone_ends_at_the_broker_and_takes_nothing() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        for _ in 0..5 {
            tokio::select! {
                biased;
                _ = caller.take(1, 60) => panic!("there is nothing"),
                () = until("a receive waits", async || world.broker.status().pollers == 1) => {}
            }
            until("no receive waits", async || world.broker.status().pollers == 0).await;
        }
        caller.publish(vec![message("a")]).await.unwrap();
        let got = caller.take(1, 1).await;
        assert_eq!((ids(&got), got[0].attempt), (vec!["a"], 1));
    });
}

#[test]
fn what_was_not_taken_from_a_delivery_returns_at_once_and_costs_no_attempt() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        caller.publish(vec![message("a"), message("b"), message("c")]).await.unwrap();
        let mut delivery = caller.receive(wish(32, 1)).await.unwrap();
        let taken = delivery.take().unwrap();
        drop(delivery);
        let rest = caller.take(32, 5).await;
        assert_eq!(rest.len(), 2);
        assert!(rest.iter().all(|one| one.attempt == 1));
        assert!(!ids(&rest).contains(&taken.message.message_id.as_str()));
    });
}

#[test]
fn the_same_attempt_gets_the_same_messages_and_is_not_given_back() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        caller.publish(vec![message("a"), message("b")]).await.unwrap();
        let attempt = |ask| Receive { attempt_id: Some("x".to_owned()), ask, ..wish(1, 1) };
        assert!(caller.receive(attempt(Ask::RepeatOnly)).await.unwrap().all().is_empty(), "nothing new by that");
        let first = caller.receive(attempt(Ask::Messages)).await.unwrap().all();
        // Dropped whole: it may have reached its client the first time.
        drop(caller.receive(attempt(Ask::Messages)).await.unwrap());
        let again = caller.receive(attempt(Ask::RepeatOnly)).await.unwrap().all();
        assert_eq!((first.len(), &first[0].handle), (1, &again[0].handle));
        assert_eq!(caller.ack(&[again[0].handle.clone()]).await, Ok(vec![AckOutcome::Done]));
    });
}

#[test]
fn a_delivery_is_kept_put_back_and_moved_to_the_dead_letters() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        caller.publish(vec![message("a")]).await.unwrap();
        let first = caller.take(1, 1).await;
        assert_eq!(caller.change("nonsense", LEASE).await, Ok(ChangeOutcome::InvalidHandle));
        let kept = caller.change(&first[0].handle, Duration::from_secs(90)).await.unwrap();
        let ChangeOutcome::Changed { handle } = kept else { panic!("{kept:?}") };
        assert_ne!(handle, first[0].handle);
        assert!(caller.take(1, 60).await.is_empty());
        caller.change(&handle, Duration::ZERO).await.unwrap();
        let second = caller.take(1, 1).await;
        assert_eq!(second[0].attempt, 2);
        assert_eq!(caller.ack(&[first[0].handle.clone()]).await, Ok(vec![AckOutcome::InvalidHandle]));
        assert_eq!(caller.to_dead_letter("nonsense").await, Ok(AckOutcome::InvalidHandle));
        assert_eq!(caller.to_dead_letter(&second[0].handle).await, Ok(AckOutcome::Done));
        let dead = TopicName::dead_letter(&group());
        let undertaker = GroupName::new("", "u").unwrap();
        let letters = caller.receive(Receive { topic: dead, group: undertaker, ..wish(1, 1) }).await.unwrap().all();
        let origin = letters[0].origin.as_ref().unwrap();
        assert_eq!((&origin.topic, origin.attempts), (&topic(), 2));
    });
}

#[test]
fn a_delayed_message_is_recalled_or_why_not() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Delay).await;
        let due = Some(START.plus(Duration::from_secs(3_600)));
        let later = NewMessage { message_type: MessageType::Delay, due, ..message("a") };
        let places = caller.publish(vec![later]).await.unwrap();
        let handle = places[0].recall_handle.clone().unwrap();
        assert_eq!(caller.recall(&topic(), "nonsense").await, Err(RecallError::BadHandle));
        let nowhere = TopicName::new("", "nowhere").unwrap();
        assert_eq!(caller.recall(&nowhere, &handle).await, Err(RecallError::TopicNotFound(nowhere.clone())));
        assert_eq!(caller.recall(&topic(), &handle).await, Ok("a".to_owned()));
        assert!(caller.take(1, 4_000).await.is_empty());
    });
}

#[test]
fn transactions_end_as_they_are_told_and_are_asked_about_until_then() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Transaction).await;
        caller.publish(vec![half("a", "p1")]).await.unwrap();
        caller.publish(vec![half("b", "p2")]).await.unwrap();
        assert_eq!(caller.look(&topic(), "a").await, Ok(()));
        assert_eq!(caller.look(&topic(), "x").await, Err(TransactionError::Unknown));
        let senders = ["p1", "p2"].map(|id| ClientId(id.into())).into();
        until("checks are due", async || !caller.topics_to_check().await.is_empty()).await;
        assert_eq!(caller.topics_to_check().await, [(topic(), senders)]);
        let checks = caller.due_checks(&topic(), &["p1"], 10).await;
        let named: Vec<_> = checks.iter().map(|check| (&*check.transaction_id, &*check.producer)).collect();
        assert!(named.contains(&("a", "p1")), "{named:?}");
        let check = checks.iter().find(|check| &*check.transaction_id == "a").unwrap();
        assert_eq!((&check.message.rest[..], check.checks), (&b"body of a"[..], 0));
        assert!(caller.claim(check).await);
        assert!(!caller.claim(check).await, "once");
        caller.unclaim(check).await;
        let mut again = Vec::new();
        until("it comes again", async || {
            again = caller.due_checks(&topic(), &[], 10).await;
            again.iter().any(|check| &*check.transaction_id == "a")
        })
        .await;
        let check = again.iter().find(|check| &*check.transaction_id == "a").unwrap();
        assert_eq!(check.checks, 0, "one that reached nobody does not count");
        assert_eq!(caller.end(&topic(), "a", Resolution::Commit).await, Ok(()));
        assert!(!caller.claim(check).await, "it ended");
        let opposite = TransactionError::Opposite { committed: true };
        assert_eq!(caller.end(&topic(), "a", Resolution::Rollback).await, Err(opposite));
        assert_eq!(caller.end(&topic(), "b", Resolution::Rollback).await, Ok(()));
        assert_eq!(ids(&caller.take(10, 1).await), ["a"]);
    });
}

#[test]
fn a_check_is_left_to_whoever_the_living_sender_is_connected_to() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Transaction).await;
        caller.publish(vec![half("a", "here")]).await.unwrap();
        caller.publish(vec![half("b", "elsewhere")]).await.unwrap();
        let mut mine = Vec::new();
        until("checks are due", async || {
            world.broker.client_seen(&ClientId("elsewhere".into()), false);
            mine = caller.due_checks(&topic(), &["here"], 10).await;
            !mine.is_empty()
        })
        .await;
        assert_eq!(mine.iter().map(|check| &*check.transaction_id).collect::<Vec<_>>(), ["a"]);
        let mut theirs = Vec::new();
        until("the other is due", async || {
            theirs = caller.due_checks(&topic(), &["elsewhere"], 10).await;
            !theirs.is_empty()
        })
        .await;
        assert_eq!(theirs.iter().map(|check| &*check.transaction_id).collect::<Vec<_>>(), ["b"], "still due");
        caller.terminated("elsewhere").await;
    });
}

#[test]
fn queues_are_read_and_positions_told_and_moved() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        caller.publish(vec![message("a"), message("b")]).await.unwrap();
        let pulled = caller.pull(0, 1, 1).await.unwrap();
        assert_eq!((ids(&pulled.messages), pulled.next), (vec!["b"], QueueOffset(2)));
        let range = OffsetError::OutOfRange {
            topic: topic(),
            queue: QueueId(0),
            offset: QueueOffset(9),
            first: QueueOffset(0),
            next: QueueOffset(2),
        };
        assert_eq!(caller.pull(0, 9, 1).await.err(), Some(range));
        let unknown = OffsetError::UnknownQueue { topic: topic(), queue: QueueId(7), queues: 1 };
        assert_eq!(caller.boundary(7, QueueBoundary::End).await, Err(unknown));
        assert_eq!(caller.boundary(0, QueueBoundary::Beginning).await, Ok(QueueOffset(0)));
        assert_eq!(caller.boundary(0, QueueBoundary::End).await, Ok(QueueOffset(2)));
        assert_eq!(caller.boundary(0, QueueBoundary::At(START)).await, Ok(QueueOffset(0)));
        world.broker.create_group(group(), GroupSpec::default()).await.ok();
        let nowhere = OffsetError::NoPosition { group: group(), topic: topic(), queue: QueueId(0) };
        assert_eq!(caller.offset(0).await, Err(nowhere));
        assert_eq!(caller.move_to(0, 1).await, Ok(()));
        assert_eq!(caller.offset(0).await, Ok(QueueOffset(1)));
        assert_eq!(ids(&caller.take(10, 1).await), ["b"]);
    });
}

#[test]
fn lite_topics_are_subscribed_to_suspended_and_lost_to_a_newer_subscriber() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Lite).await;
        let spec = GroupSpec { lite_exclusive: Some(true), ..GroupSpec::default() };
        world.broker.create_group(group(), spec).await.unwrap();
        let plain = TopicName::new("", "plain").unwrap();
        create(world, plain.clone(), TopicType::Normal).await;
        let refused = caller.sync_lite(subscribe(&plain, "client", &["x"])).await;
        assert_eq!(refused, Err(LiteError::NotLite(plain)));
        let own = NewMessage { message_type: MessageType::Lite, lite_topic: "x".to_owned(), ..message("a") };
        caller.publish(vec![own]).await.unwrap();
        let start = Some(bolide::broker::api::LiteStart::First);
        let first = bolide::broker::api::LiteSync { start, ..subscribe(&topic(), "client", &["x"]) };
        assert_eq!(caller.sync_lite(first).await, Ok(vec![]));
        let got = caller.take(1, 1).await;
        assert_eq!(ids(&got), ["a"]);
        caller.suspend(&topic(), &got[0].handle, Duration::from_secs(5)).await.unwrap();
        let again = caller.take(1, 10).await;
        assert_eq!((ids(&again), again[0].attempt), (vec!["a"], 1));
        let evicted = caller.sync_lite(subscribe(&topic(), "other", &["x"])).await.unwrap();
        assert_eq!(evicted.len(), 1);
        assert_eq!((&*evicted[0].client.0, &*evicted[0].lite_topic), ("client", "x"));
    });
}

#[test]
fn an_auto_renewed_message_returns_when_its_client_says_good_bye() {
    both_ways(async |caller, world| {
        create(world, topic(), TopicType::Normal).await;
        caller.publish(vec![message("a")]).await.unwrap();
        let renewing = Receive { lease: LeaseWish::AutoRenew, ..wish(1, 1) };
        assert_eq!(caller.receive(renewing).await.unwrap().all().len(), 1);
        caller.terminated("client").await;
        let other = Receive { client: ClientId("other".into()), ..wish(1, 5) };
        let again = caller.receive(other).await.unwrap().all();
        assert_eq!((ids(&again), again[0].attempt), (vec!["a"], 2));
        let status = caller.status().await;
        assert!(status.ready && status.topics == 1 && status.in_flight == 1, "{status:?}");
    });
}
