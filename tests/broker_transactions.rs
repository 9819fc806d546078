//! Transactions over the real store, in memory and in virtual time: invisible until committed, then visible exactly once,
//! whatever is killed when; and producers are asked as long as they have not decided.

use std::path::Path;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{
    Ask, Check, ClientId, Delivered, LeaseWish, Publish, PublishError, Receive, Resolution, TopicSpec,
    TransactionError, TransactionFilter,
};
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::topic::TopicType;
use bolide::store::kv::handle::Remains;
use bytes::Bytes;
use world::{Begins, START, World};

#[path = "common/broker.rs"]
mod world;

fn world() -> World {
    World { begins: Begins::AtOnce, segment_bytes: 64 * 1024, retention: Some(72 * HOUR), ..World::new() }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn in_one_life(life: impl AsyncFnOnce(Broker)) {
    world().life(life);
}

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

async fn create(broker: &Broker) {
    let spec = TopicSpec { queues: Some(3), topic_type: Some(TopicType::Mixed), ..TopicSpec::default() };
    broker.create_topic(topic(), spec).await.unwrap();
}

fn half(id: &str) -> NewMessage {
    NewMessage {
        message_type: MessageType::Transaction,
        message_id: id.to_owned(),
        producer: "sender".into(),
        rest: Bytes::from(format!("body of {id}")),
        system_static: Bytes::from_static(b"static"),
        body_bytes: 9,
        ..NewMessage::default()
    }
}

async fn publish(broker: &Broker, messages: Vec<NewMessage>) -> Result<usize, PublishError> {
    broker.publish(Publish { topic: topic(), messages }).await.map(|published| published.len())
}

async fn send(broker: &Broker, ids: &[&str]) {
    for id in ids {
        assert_eq!(publish(broker, vec![half(id)]).await, Ok(1));
    }
}

async fn receive(broker: &Broker) -> Vec<Delivered> {
    let wish = Receive {
        group: GroupName::new("", "g").unwrap(),
        topic: topic(),
        filter: Filter::ALL,
        batch: 32,
        lease: LeaseWish::Fixed(100 * HOUR),
        wait: Duration::from_millis(200),
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    };
    let mut delivery = broker.receive(wish).await.unwrap();
    std::iter::from_fn(|| delivery.next()).collect()
}

async fn visible(broker: &Broker) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let got = receive(broker).await;
        if got.is_empty() {
            ids.sort_unstable();
            return ids;
        }
        ids.extend(got.into_iter().map(|one| one.message.message_id));
    }
}

async fn commit(broker: &Broker, id: &str) -> Result<(), TransactionError> {
    broker.end_transaction(&topic(), id, Resolution::Commit).await
}

async fn rollback(broker: &Broker, id: &str) -> Result<(), TransactionError> {
    broker.end_transaction(&topic(), id, Resolution::Rollback).await
}

/// Takes what is due and hands it to a client.
async fn checked(broker: &Broker) -> Vec<Check> {
    let mut handed = Vec::new();
    for due in broker.topics_to_check() {
        for check in broker.due_checks(&due.topic.name, 100, usize::MAX).await {
            if broker.hand_over_check(&check, || true) {
                handed.push(check);
            }
        }
    }
    handed
}

async fn listed(broker: &Broker, filter: TransactionFilter) -> Vec<String> {
    // What was just decided is listed once it is folded.
    broker.store().wait_folded(broker.store().log_end()).await;
    let page = broker.open_transactions(None, filter, "", 1_000).await.unwrap();
    assert_eq!(page.next, "");
    page.transactions.into_iter().map(|one| one.id).collect()
}

#[test]
fn nothing_is_visible_before_its_commit_and_then_exactly_once_also_after_kills() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a", "b", "c", "d"]).await;
        assert!(visible(&broker).await.is_empty());
        commit(&broker, "a").await.unwrap();
        rollback(&broker, "b").await.unwrap();
        let got = receive(&broker).await;
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].message.message_id.as_str(), got[0].message_type), ("a", MessageType::Transaction));
        assert_eq!(got[0].message.rest, Bytes::from("body of a"));
    });
    // Another process, and so another client connection: who sent it does not matter.
    world.life(async |broker| {
        assert!(visible(&broker).await.is_empty());
        commit(&broker, "c").await.unwrap();
        assert_eq!(commit(&broker, "a").await, Ok(()), "once more");
        assert_eq!(rollback(&broker, "b").await, Ok(()), "once more");
        assert_eq!(rollback(&broker, "a").await, Err(TransactionError::Opposite { committed: true }));
        assert_eq!(commit(&broker, "b").await, Err(TransactionError::Opposite { committed: false }));
        assert_eq!(visible(&broker).await, ["c"]);
    });
    world.life(async |broker| {
        assert_eq!(commit(&broker, "c").await, Ok(()));
        assert_eq!(listed(&broker, TransactionFilter::All).await, ["d"]);
        assert!(visible(&broker).await.is_empty());
    });
}

#[test]
fn a_lost_fold_brings_back_every_transaction_as_it_was() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a", "b", "c"]).await;
        commit(&broker, "a").await.unwrap();
        rollback(&broker, "b").await.unwrap();
    });
    let fold = Path::new("/data/shard-0/fold");
    world.env.power_cut(fold, Remains::Nothing).unwrap();
    world.life(async |broker| {
        assert_eq!(visible(&broker).await, ["a"]);
        assert_eq!(rollback(&broker, "a").await, Err(TransactionError::Opposite { committed: true }));
        assert_eq!(rollback(&broker, "b").await, Ok(()));
        commit(&broker, "c").await.unwrap();
        assert_eq!(visible(&broker).await, ["c"]);
    });
}

#[test]
fn what_nobody_knows_is_refused_and_changes_nothing() {
    in_one_life(async |broker| {
        create(&broker).await;
        let elsewhere = TopicName::new("", "elsewhere").unwrap();
        assert_eq!(
            broker.end_transaction(&elsewhere, "a", Resolution::Commit).await,
            Err(TransactionError::TopicNotFound(elsewhere.clone()))
        );
        assert_eq!(commit(&broker, "a").await, Err(TransactionError::Unknown));
        send(&broker, &["a"]).await;
        broker.create_topic(elsewhere.clone(), TopicSpec::default()).await.unwrap();
        let wrong = broker.end_transaction(&elsewhere, "a", Resolution::Commit).await;
        assert_eq!(wrong, Err(TransactionError::Unknown), "of another topic");
        assert_eq!(broker.look_at_transaction(&topic(), "a").await, Ok(()));
        assert_eq!(broker.look_at_transaction(&topic(), "b").await, Err(TransactionError::Unknown));
        assert!(visible(&broker).await.is_empty());
        assert_eq!(listed(&broker, TransactionFilter::Pending).await, ["a"]);
    });
}

#[test]
fn a_send_repeated_after_a_lost_answer_is_ok_and_stored_once() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        let at_once = (0..8).map(|_| publish(&broker, vec![half("a")]));
        assert!(futures::future::join_all(at_once).await.iter().all(|sent| *sent == Ok(1)));
        assert_eq!(publish(&broker, vec![half("b"), half("a"), half("b")]).await, Ok(3));
        assert_eq!(broker.pending_transactions(), [(topic(), 2)]);
    });
    world.life(async |broker| {
        send(&broker, &["a"]).await;
        commit(&broker, "a").await.unwrap();
        send(&broker, &["a"]).await;
        assert_eq!(broker.pending_transactions(), [(topic(), 1)], "only b");
        assert_eq!(visible(&broker).await, ["a"]);
    });
    world.life(async |broker| {
        send(&broker, &["a"]).await;
        assert_eq!(broker.pending_transactions(), [(topic(), 1)]);
        assert!(visible(&broker).await.is_empty());
    });
}

#[test]
fn many_who_end_the_same_transaction_at_once_agree_on_one_end() {
    in_one_life(async |broker| {
        create(&broker).await;
        for round in 0..20 {
            let id = format!("id-{round}");
            send(&broker, &[&id]).await;
            let ends = (0..6).map(|number| {
                let (broker, id) = (broker.clone(), id.clone());
                async move {
                    let resolution = if number % 2 == 0 { Resolution::Commit } else { Resolution::Rollback };
                    (resolution, broker.end_transaction(&topic(), &id, resolution).await)
                }
            });
            let ends = futures::future::join_all(ends).await;
            let committed = ends.iter().any(|(wish, end)| *wish == Resolution::Commit && end.is_ok());
            for (wish, end) in ends {
                let agrees = (wish == Resolution::Commit) == committed;
                let expected = if agrees { Ok(()) } else { Err(TransactionError::Opposite { committed }) };
                assert_eq!(end, expected, "{id}: {wish:?}");
            }
            assert_eq!(visible(&broker).await.len(), usize::from(committed));
        }
    });
}

#[test]
fn grouped_messages_keep_their_queue_and_their_order_is_that_of_the_commits() {
    in_one_life(async |broker| {
        create(&broker).await;
        for id in ["a", "b", "c"] {
            let message = NewMessage { message_group: "orders".into(), ..half(id) };
            publish(&broker, vec![message]).await.unwrap();
        }
        for id in ["c", "a", "b"] {
            commit(&broker, id).await.unwrap();
        }
        let mut got = receive(&broker).await;
        got.sort_by_key(|one| one.offset);
        let order: Vec<&str> = got.iter().map(|one| one.message.message_id.as_str()).collect();
        assert_eq!(order, ["c", "a", "b"]);
        assert!(got.iter().all(|one| one.queue == got[0].queue && one.message_group == "orders"));
    });
}

#[test]
fn the_first_check_comes_after_six_seconds_or_the_messages_own_time_and_not_earlier() {
    in_one_life(async |broker| {
        create(&broker).await;
        let patient = NewMessage { orphan_after: Some(Duration::from_secs(20)), ..half("patient") };
        let zero = NewMessage { orphan_after: Some(Duration::ZERO), ..half("zero") };
        publish(&broker, vec![half("plain"), patient, zero]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5_900)).await;
        assert!(broker.topics_to_check().is_empty());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut ids: Vec<Check> = checked(&broker).await;
        ids.sort_by(|a, b| a.transaction_id.cmp(&b.transaction_id));
        let names: Vec<&str> = ids.iter().map(|check| &*check.transaction_id).collect();
        assert_eq!(names, ["plain", "zero"]);
        assert_eq!((&*ids[0].producer, ids[0].message.rest.clone()), ("sender", Bytes::from("body of plain")));
        tokio::time::sleep(Duration::from_secs(13)).await;
        assert!(checked(&broker).await.is_empty());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(&*checked(&broker).await[0].transaction_id, "patient");
    });
}

#[test]
fn a_check_taken_before_the_end_does_not_leave_after_it_and_none_follows() {
    in_one_life(async |broker| {
        create(&broker).await;
        send(&broker, &["a"]).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        let taken = broker.due_checks(&topic(), 9, usize::MAX).await;
        assert_eq!(taken.len(), 1);
        commit(&broker, "a").await.unwrap();
        assert!(!broker.hand_over_check(&taken[0], || panic!("a check of an ended transaction left")));
        tokio::time::sleep(HOUR).await;
        assert!(broker.topics_to_check().is_empty());
    });
}

#[test]
fn who_sent_what_is_open_is_told_also_after_a_kill_and_no_more_after_its_end() {
    let named = |broker: &Broker| -> Vec<(TopicName, Vec<String>)> {
        let mut due = broker.topics_to_check();
        for topic in &mut due {
            topic.senders.sort();
        }
        let names = |senders: Vec<ClientId>| senders.iter().map(|sender| sender.0.to_string()).collect();
        due.into_iter().map(|due| (due.topic.name.clone(), names(due.senders))).collect()
    };
    let by = |sender: &str, id: &str| NewMessage { producer: sender.into(), ..half(id) };
    let told = |senders: &[&str]| vec![(topic(), senders.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())];
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        publish(&broker, vec![by("one", "a"), by("one", "b"), by("two", "c")]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(named(&broker), told(&["one", "two"]));
        commit(&broker, "a").await.unwrap();
        assert_eq!(named(&broker), told(&["one", "two"]), "it has another one");
        commit(&broker, "c").await.unwrap();
        assert_eq!(named(&broker), told(&["one"]));
    });
    world.life(async |broker| {
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(named(&broker), told(&["one"]));
        rollback(&broker, "b").await.unwrap();
        assert!(named(&broker).is_empty());
    });
}

#[test]
fn counted_checks_outlive_a_kill_and_undelivered_ones_are_not_counted() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a"]).await;
        tokio::time::sleep(HOUR).await;
        for _ in 0..50 {
            for check in broker.due_checks(&topic(), 9, usize::MAX).await {
                assert_eq!(check.checks, 0);
                assert!(!broker.hand_over_check(&check, || false));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(checked(&broker).await.len(), 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    world.life(async |broker| {
        assert!(checked(&broker).await.is_empty(), "its pause is not over");
        tokio::time::sleep(Duration::from_secs(30)).await;
        let again = checked(&broker).await;
        assert_eq!((again.len(), again[0].checks), (1, 1));
        commit(&broker, "a").await.unwrap();
        assert_eq!(visible(&broker).await, ["a"]);
    });
}

#[test]
fn after_its_last_check_a_transaction_is_given_up_listed_and_settled_by_hand_only() {
    let mut world = world();
    world.options.transactions.checks_max = 3;
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a", "b", "c"]).await;
        for _ in 0..3 {
            tokio::time::sleep(HOUR).await;
            assert_eq!(checked(&broker).await.len(), 3);
        }
        assert_eq!(listed(&broker, TransactionFilter::Pending).await, ["a", "b", "c"], "time to answer the last one");
        tokio::time::sleep(HOUR).await;
        assert!(checked(&broker).await.is_empty());
        assert_eq!(listed(&broker, TransactionFilter::Discarded).await, ["a", "b", "c"]);
        assert!(listed(&broker, TransactionFilter::Pending).await.is_empty());
        assert_eq!(commit(&broker, "a").await, Err(TransactionError::Discarded));
        assert_eq!(rollback(&broker, "a").await, Err(TransactionError::Discarded));
        broker.end_transaction_by_hand(&topic(), "a", Resolution::Commit).await.unwrap();
        assert_eq!(visible(&broker).await, ["a"]);
        assert_eq!(commit(&broker, "a").await, Ok(()), "known as committed now");
        assert_eq!(listed(&broker, TransactionFilter::All).await, ["b", "c"]);
    });
    world.life(async |broker| {
        assert_eq!(listed(&broker, TransactionFilter::Discarded).await, ["b", "c"]);
        assert!(broker.pending_transactions().is_empty());
        assert_eq!(commit(&broker, "b").await, Err(TransactionError::Discarded));
        broker.end_transaction_by_hand(&topic(), "b", Resolution::Rollback).await.unwrap();
        let other = broker.end_transaction_by_hand(&topic(), "b", Resolution::Commit).await;
        assert_eq!(other, Err(TransactionError::Opposite { committed: false }));
        assert!(visible(&broker).await.is_empty());
        // The third is never settled, and gone after its time.
        tokio::time::sleep(73 * HOUR).await;
        assert!(listed(&broker, TransactionFilter::All).await.is_empty());
        let late = broker.end_transaction_by_hand(&topic(), "c", Resolution::Commit).await;
        assert_eq!(late, Err(TransactionError::Unknown));
    });
}

#[test]
fn old_ends_are_forgotten_after_their_time_and_young_ones_are_not() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["old"]).await;
        commit(&broker, "old").await.unwrap();
        tokio::time::sleep(20 * HOUR).await;
        send(&broker, &["young"]).await;
        commit(&broker, "young").await.unwrap();
        tokio::time::sleep(5 * HOUR).await;
    });
    world.life(async |broker| {
        assert_eq!(commit(&broker, "old").await, Err(TransactionError::Unknown));
        assert_eq!(commit(&broker, "young").await, Ok(()));
        assert_eq!(visible(&broker).await, ["old", "young"]);
    });
}

#[test]
fn retention_does_not_take_the_body_of_an_open_transaction() {
    let mut world = world();
    world.retention = Some(HOUR);
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a", "b"]).await;
        for round in 0..5 {
            for number in 0..100 {
                let filler = NewMessage {
                    message_id: format!("{round}-{number}"),
                    rest: vec![1; 2_000].into(),
                    ..NewMessage::default()
                };
                publish(&broker, vec![filler]).await.unwrap();
            }
            tokio::time::sleep(2 * HOUR).await;
        }
        let start = broker.store().log_start();
        assert!(start.get() > 100_000, "retention cut the log, now from {start}");
        commit(&broker, "a").await.unwrap();
    });
    world.life(async |broker| {
        assert_eq!(listed(&broker, TransactionFilter::Pending).await, ["b"]);
        commit(&broker, "b").await.unwrap();
        let got = visible(&broker).await;
        assert!(got.contains(&"a".to_owned()) && got.contains(&"b".to_owned()), "{got:?}");
    });
}

#[test]
fn a_commit_before_the_delivery_time_delivers_at_that_time_and_one_after_it_at_once() {
    let mut world = world();
    let minute = Duration::from_secs(60);
    world.life(async |broker| {
        create(&broker).await;
        let due = START.plus(HOUR);
        let timed = |id: &str| NewMessage { due: Some(due), ..half(id) };
        publish(&broker, vec![timed("early"), timed("never"), timed("late")]).await.unwrap();
        commit(&broker, "early").await.unwrap();
        rollback(&broker, "never").await.unwrap();
        tokio::time::sleep(30 * minute).await;
        assert!(visible(&broker).await.is_empty());
    });
    world.life(async |broker| {
        tokio::time::sleep(29 * minute).await;
        assert!(visible(&broker).await.is_empty(), "a minute early");
        assert_eq!(commit(&broker, "early").await, Ok(()), "committed, though not delivered yet");
        tokio::time::sleep(minute).await;
        assert_eq!(visible(&broker).await, ["early"]);
        commit(&broker, "late").await.unwrap();
        assert_eq!(visible(&broker).await, ["late"]);
    });
    world.life(async |broker| assert!(visible(&broker).await.is_empty()));
}

#[test]
fn beyond_the_bound_more_half_messages_are_refused_and_other_messages_are_not() {
    let mut world = world();
    world.options.transactions.pending_max = 2;
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a", "b"]).await;
        assert_eq!(publish(&broker, vec![half("c")]).await, Err(PublishError::Overloaded));
        send(&broker, &["a"]).await;
        let plain = NewMessage { message_type: MessageType::Normal, ..half("plain") };
        assert_eq!(publish(&broker, vec![plain]).await, Ok(1));
        rollback(&broker, "a").await.unwrap();
        send(&broker, &["c"]).await;
        assert_eq!(visible(&broker).await, ["plain"]);
    });
}

#[test]
fn a_deleted_topic_takes_its_transactions_along() {
    let mut world = world();
    world.life(async |broker| {
        create(&broker).await;
        send(&broker, &["a", "b"]).await;
        commit(&broker, "b").await.unwrap();
        broker.delete_topic(&topic()).await.unwrap();
        create(&broker).await;
        assert_eq!(commit(&broker, "a").await, Err(TransactionError::Unknown));
        assert_eq!(commit(&broker, "b").await, Err(TransactionError::Unknown));
        tokio::time::sleep(HOUR).await;
        assert!(broker.topics_to_check().is_empty() && broker.pending_transactions().is_empty());
    });
    world.life(async |broker| {
        assert_eq!(commit(&broker, "a").await, Err(TransactionError::Unknown));
        assert!(listed(&broker, TransactionFilter::All).await.is_empty());
        assert!(visible(&broker).await.is_empty());
    });
}

#[test]
fn pages_of_open_transactions_show_each_once_and_of_one_topic_only_its_own() {
    in_one_life(async |broker| {
        create(&broker).await;
        let other = TopicName::new("ns", "other").unwrap();
        let spec = TopicSpec { topic_type: Some(TopicType::Transaction), ..TopicSpec::default() };
        broker.create_topic(other.clone(), spec).await.unwrap();
        broker.publish(Publish { topic: other.clone(), messages: vec![half("x"), half("y")] }).await.unwrap();
        let ids: Vec<String> = (0..25).map(|number| format!("id-{number:02}")).collect();
        publish(&broker, ids.iter().map(|id| half(id)).collect()).await.unwrap();
        broker.store().wait_folded(broker.store().log_end()).await;
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let page = broker.open_transactions(Some(&topic()), TransactionFilter::All, &after, 10).await.unwrap();
            seen.extend(page.transactions.into_iter().map(|one| one.id));
            if page.next.is_empty() {
                break;
            }
            after = page.next;
        }
        assert_eq!(seen, ids);
        let page = broker.open_transactions(Some(&other), TransactionFilter::Pending, "", 10).await.unwrap();
        assert_eq!(page.transactions.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        let bad = broker.open_transactions(None, TransactionFilter::All, "nonsense", 10).await;
        assert_eq!(bad, Err(TransactionError::Unknown));
    });
}
