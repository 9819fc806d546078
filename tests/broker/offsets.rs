//! Pull, committed positions, bounds of queues, resets and start positions.

use std::collections::BTreeMap;

use bolide::broker::api::{OffsetError, Pull, Pulled, QueueBoundary, QueueSeek, SeekTarget};
use bolide::model::group::StartPosition;
use bolide::model::position::QueueId;
use proptest::prelude::*;

use super::*;

const Q: QueueId = QueueId(0);

async fn create_with(broker: &Broker, queues: u32) {
    broker.create_topic(topic(), TopicSpec { queues: Some(queues), ..TopicSpec::default() }).await.unwrap();
}

fn pull_wish(offset: u64, filter: &str, batch: usize, wait: u64) -> Pull {
    Pull {
        group: group(),
        topic: topic(),
        queue: Q,
        offset: QueueOffset(offset),
        filter: TagFilter::parse(filter).unwrap().into(),
        batch,
        wait: Duration::from_secs(wait),
        client: ClientId("puller".into()),
    }
}

async fn pull(broker: &Broker, offset: u64, batch: usize, wait: u64) -> Pulled {
    broker.pull(pull_wish(offset, "*", batch, wait)).await.unwrap()
}

async fn publish_tagged(broker: &Broker, id: &str, tag: &str) -> (QueueId, QueueOffset) {
    let messages = vec![message(id, tag)];
    let published = broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    (published[0].queue, published[0].offset)
}

async fn position(broker: &Broker) -> Result<u64, OffsetError> {
    broker.offset(&group(), &topic(), Q).await.map(QueueOffset::get)
}

async fn reset(broker: &Broker, to: SeekTarget) -> QueueSeek {
    let seeks = broker.reset_group(&group(), &topic(), Some(Q), to, false).await.unwrap();
    assert_eq!(seeks.len(), 1);
    seeks[0]
}

fn names(pulled: &Pulled) -> Vec<&str> {
    pulled.messages.iter().map(|one| one.message.message_id.as_str()).collect()
}

#[test]
fn a_pull_takes_no_lease_and_leaves_the_group_where_it_was() {
    in_one_life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a", "b", "c"]).await;
        for _ in 0..2 {
            let pulled = pull(&broker, 1, 32, 0).await;
            assert_eq!((names(&pulled), pulled.next), (vec!["b", "c"], QueueOffset(3)));
            assert!(pulled.messages.iter().all(|one| one.handle.is_empty() && one.attempt == 1));
        }
        assert!(matches!(position(&broker).await, Err(OffsetError::NoPosition { .. })));
        let got = receive(&broker, 32, 1).await;
        assert_eq!(ids(&got), ["a", "b", "c"]);
    });
}

#[test]
fn a_waiting_pull_is_woken_by_the_first_message_it_wants_and_by_no_other() {
    in_one_life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["old"]).await;
        let began = tokio::time::Instant::now();
        let blue = broker.pull(pull_wish(1, "blue", 32, 15));
        let send = async {
            publish_tagged(&broker, "r", "red").await;
            publish_tagged(&broker, "b", "blue").await;
        };
        let (pulled, ()) = tokio::join!(blue, send);
        let pulled = pulled.unwrap();
        assert_eq!((names(&pulled), pulled.next), (vec!["b"], QueueOffset(3)));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        // What it does not want brings it no answer, but need not be looked at again.
        let began = tokio::time::Instant::now();
        let (pulled, _) = tokio::join!(broker.pull(pull_wish(3, "blue", 32, 7)), publish_tagged(&broker, "s", "red"));
        let pulled = pulled.unwrap();
        assert!(pulled.messages.is_empty());
        assert_eq!(pulled.next, QueueOffset(4));
        assert!(began.elapsed() >= Duration::from_secs(7), "not early: {:?}", began.elapsed());
        assert_eq!(broker.status().pollers, 0);
    });
}

#[test]
fn two_pulls_at_the_end_both_get_the_message() {
    in_one_life(async |broker| {
        create_with(&broker, 1).await;
        let (a, b, ()) = tokio::join!(
            broker.pull(pull_wish(0, "*", 1, 15)),
            broker.pull(pull_wish(0, "*", 1, 15)),
            publish(&broker, &["m"])
        );
        assert_eq!((names(&a.unwrap()), names(&b.unwrap())), (vec!["m"], vec!["m"]));
    });
}

#[test]
fn a_pull_that_waits_hears_of_the_end_of_its_topic_and_of_its_group() {
    in_one_life(async |broker| {
        create_with(&broker, 1).await;
        let delete = async { broker.delete_group(&group()).await.unwrap() };
        broker.create_group(group(), GroupSpec::default()).await.unwrap();
        let (pulled, ()) = tokio::join!(broker.pull(pull_wish(0, "*", 1, 15)), delete);
        assert_eq!(pulled.unwrap_err(), OffsetError::GroupNotFound(group()));
        let delete = async { broker.delete_topic(&topic()).await.unwrap() };
        let (pulled, ()) = tokio::join!(broker.pull(pull_wish(0, "*", 1, 15)), delete);
        assert_eq!(pulled.unwrap_err(), OffsetError::TopicNotFound(topic()));
    });
}

#[test]
fn what_cannot_be_pulled_or_committed_says_why_and_creates_no_group() {
    in_one_life(async |broker| {
        create_with(&broker, 2).await;
        publish(&broker, &["a", "b"]).await;
        let far = |offset| Pull { queue: QueueId(1), ..pull_wish(offset, "*", 1, 0) };
        let next = broker.queue_boundary(&topic(), QueueId(1), QueueBoundary::End).await.unwrap();
        let beyond = broker.pull(far(next.get() + 1)).await.unwrap_err();
        assert!(matches!(&beyond, OffsetError::OutOfRange { first: QueueOffset(0), next: end, .. } if *end == next));
        let queue = broker.pull(Pull { queue: QueueId(2), ..far(0) }).await.unwrap_err();
        assert!(matches!(queue, OffsetError::UnknownQueue { queues: 2, .. }));
        let commit = broker.update_offset(&group(), &topic(), Q, QueueOffset(9)).await.unwrap_err();
        assert!(matches!(commit, OffsetError::OutOfRange { .. }));
        let nowhere = TopicName::new("", "nowhere").unwrap();
        let unknown = broker.update_offset(&group(), &nowhere, Q, QueueOffset(0)).await.unwrap_err();
        assert_eq!(unknown, OffsetError::TopicNotFound(nowhere));
        let all = broker.reset_group(&group(), &topic(), None, SeekTarget::Earliest, false).await.unwrap_err();
        assert_eq!(all, OffsetError::GroupNotFound(group()));
        assert!(broker.group(&group()).is_none(), "a refusal brought a group into being");
        broker.create_group(group(), GroupSpec { enabled: Some(false), ..GroupSpec::default() }).await.unwrap();
        assert_eq!(broker.pull(far(0)).await.unwrap_err(), OffsetError::GroupDisabled(group()));
        let which = SeekTarget::Offset(QueueOffset(0));
        let which = broker.reset_group(&group(), &topic(), None, which, false).await.unwrap_err();
        assert!(matches!(which, OffsetError::WhichQueue { queues: 2, .. }));
    });
}

#[test]
fn a_committed_position_is_told_again_after_a_kill_and_is_where_a_receive_goes_on() {
    let mut world = World::new();
    world.life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a", "b", "c", "d"]).await;
        broker.update_offset(&group(), &topic(), Q, QueueOffset(3)).await.unwrap();
        broker.update_offset(&group(), &topic(), Q, QueueOffset(2)).await.unwrap();
        assert_eq!(position(&broker).await, Ok(2));
    });
    world.life(async |broker| {
        assert_eq!(position(&broker).await, Ok(2));
        let got = receive(&broker, 32, 1).await;
        assert_eq!(ids(&got), ["c", "d"]);
        assert_eq!(ack(&broker, &got[1]).await, AckOutcome::Done);
        assert_eq!(position(&broker).await, Ok(2), "the lowest that is not done");
        broker.update_offset(&group(), &topic(), Q, QueueOffset(0)).await.unwrap();
    });
    world.life(async |broker| {
        assert_eq!(position(&broker).await, Ok(0));
        assert_eq!(ids(&receive(&broker, 32, 1).await), ["a", "b", "c", "d"]);
    });
}

#[test]
fn a_reset_drops_what_is_in_flight_or_waits_and_holds_after_a_kill() {
    let mut world = World::new();
    let old = world.life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a", "b", "c", "d"]).await;
        let got = receive(&broker, 3, 1).await;
        assert_eq!(ack(&broker, &got[0]).await, AckOutcome::Done);
        let nack = broker.change_invisible(&group(), &topic(), &got[1].handle, Duration::from_secs(20)).await;
        assert!(matches!(nack, Ok(ChangeOutcome::Changed { .. })));
        let dry = broker.reset_group(&group(), &topic(), None, SeekTarget::Latest, true).await.unwrap();
        let seek = dry[0].seek;
        assert_eq!((seek.from.get(), seek.to.get(), seek.skipped, seek.rewound), (1, 4, 3, 0));
        assert_eq!(position(&broker).await, Ok(1), "a look changes nothing");
        let seek = reset(&broker, SeekTarget::Latest).await.seek;
        assert_eq!((seek.skipped, seek.in_flight), (3, 2));
        // It is done, and that is what OK says.
        assert_eq!(ack(&broker, &got[2]).await, AckOutcome::Done);
        assert!(receive(&broker, 32, 60).await.is_empty(), "neither lease nor back-off brings anything back");
        let seek = reset(&broker, SeekTarget::Offset(QueueOffset(1))).await.seek;
        assert_eq!((seek.from.get(), seek.to.get(), seek.skipped, seek.rewound), (4, 1, 0, 3));
        got
    });
    world.life(async |broker| {
        assert_eq!(ack(&broker, &old[1]).await, AckOutcome::InvalidHandle, "it comes back");
        let got = receive(&broker, 32, 1).await;
        assert_eq!(ids(&got), ["b", "c", "d"]);
        assert!(got.iter().all(|one| one.attempt == 1));
        assert_eq!(ack(&broker, &old[1]).await, AckOutcome::InvalidHandle, "somebody else has it");
        for one in &got {
            assert_eq!(ack(&broker, one).await, AckOutcome::Done);
        }
        assert_eq!(position(&broker).await, Ok(4));
    });
}

#[test]
fn a_waiting_receive_gets_what_a_reset_brings_back_at_once() {
    in_one_life(async |broker| {
        create_with(&broker, 2).await;
        publish(&broker, &["a", "b", "c"]).await;
        for one in receive(&broker, 32, 1).await {
            assert_eq!(ack(&broker, &one).await, AckOutcome::Done);
        }
        let began = tokio::time::Instant::now();
        let waiting = receive(&broker, 32, 20);
        let back = async {
            tokio::task::yield_now().await;
            broker.reset_group(&group(), &topic(), None, SeekTarget::Earliest, false).await.unwrap()
        };
        let (got, seeks) = tokio::join!(waiting, back);
        assert_eq!(ids(&got), ["a", "b", "c"]);
        assert_eq!(seeks.iter().map(|one| one.seek.rewound).sum::<u64>(), 3);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn what_was_granted_before_a_reset_and_not_handed_out_yet_is_not_handed_out() {
    in_one_life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a", "b", "c"]).await;
        let mut delivery = broker.receive(wish("*", 32, 1)).await.unwrap();
        let first = delivery.next().unwrap();
        reset(&broker, SeekTarget::Offset(QueueOffset(2))).await;
        assert!(delivery.next().is_none(), "its handle would be refused");
        drop(delivery);
        assert_eq!(ack(&broker, &first).await, AckOutcome::Done, "below the new position it is done");
        let got = receive(&broker, 32, 1).await;
        assert_eq!(ids(&got), ["c"]);
        assert_eq!(got[0].attempt, 1);
    });
}

#[test]
fn a_forward_to_the_dead_letters_is_not_claimed_for_a_message_that_a_reset_brings_back() {
    in_one_life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a"]).await;
        let got = receive(&broker, 1, 1).await;
        reset(&broker, SeekTarget::Earliest).await;
        let moved = broker.to_dead_letter(&group(), &topic(), &got[0].handle).await;
        assert_eq!(moved, Ok(AckOutcome::InvalidHandle));
        assert_eq!(ids(&receive(&broker, 1, 1).await), ["a"]);
        assert!(broker.topic(&TopicName::dead_letter(&group())).is_none());
    });
}

#[test]
fn a_group_that_never_read_a_topic_can_be_put_anywhere_on_it() {
    let mut world = World::new();
    world.life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a", "b", "c"]).await;
        broker.create_group(group(), GroupSpec::default()).await.unwrap();
        let seek = reset(&broker, SeekTarget::Offset(QueueOffset(2))).await.seek;
        assert_eq!((seek.from.get(), seek.skipped), (0, 2));
    });
    world.life(async |broker| assert_eq!(ids(&receive(&broker, 32, 1).await), ["c"]));
}

#[test]
fn a_time_leads_to_the_first_message_stored_then_or_later() {
    let mut world = World::new();
    let mut stored = Vec::new();
    world.life(async |broker| {
        create_with(&broker, 1).await;
        for id in ["a", "b", "c"] {
            publish(&broker, &[id]).await;
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        let name = topic();
        let at = |at| broker.queue_boundary(&name, Q, QueueBoundary::At(at));
        stored = pull(&broker, 0, 3, 0).await.messages.iter().map(|one| one.message.stored_at).collect();
        for _ in 0..2 {
            // At first nothing is folded, later everything is.
            assert_eq!(at(Timestamp(0)).await, Ok(QueueOffset(0)));
            assert_eq!(at(stored[1]).await, Ok(QueueOffset(1)));
            assert_eq!(at(Timestamp(stored[1].millis() + 1)).await, Ok(QueueOffset(2)));
            assert_eq!(at(Timestamp(stored[2].millis() + 1)).await, Ok(QueueOffset(3)));
            assert!(broker.store().wait_folded(broker.store().log_end()).await);
        }
        assert_eq!(reset(&broker, SeekTarget::At(stored[1])).await.seek.to, QueueOffset(1));
    });
    world.life(async |broker| {
        let name = topic();
        let at = |at| broker.queue_boundary(&name, Q, QueueBoundary::At(at));
        assert_eq!(at(stored[2]).await, Ok(QueueOffset(2)));
        assert_eq!(at(Timestamp::MAX).await, Ok(QueueOffset(3)));
        assert_eq!(ids(&receive(&broker, 32, 1).await), ["b", "c"]);
    });
}

#[test]
fn a_group_starts_where_its_creation_said_and_at_the_first_message_of_queues_that_come_later() {
    let mut world = World::new();
    world.life(async |broker| {
        create_with(&broker, 1).await;
        publish(&broker, &["a"]).await;
        tokio::time::advance(Duration::from_secs(10)).await;
        publish(&broker, &["b"]).await;
        let times: Vec<Timestamp> =
            pull(&broker, 0, 2, 0).await.messages.iter().map(|one| one.message.stored_at).collect();
        let starts =
            [("early", StartPosition::Earliest), ("late", StartPosition::Latest), ("mid", StartPosition::At(times[1]))];
        for (name, start) in starts {
            let spec = GroupSpec { start: Some(start), ..GroupSpec::default() };
            broker.create_group(GroupName::new("", name).unwrap(), spec).await.unwrap();
        }
        let first = |name: &'static str| {
            let of = Receive { group: GroupName::new("", name).unwrap(), ..wish("*", 32, 0) };
            let broker = &broker;
            async move { take_all(broker, of).await }
        };
        assert_eq!(ids(&first("early").await), ["a", "b"]);
        assert_eq!(ids(&first("mid").await), ["b"]);
        assert!(first("late").await.is_empty());
    });
    world.life(async |broker| {
        broker.update_topic(&topic(), TopicSpec { queues: Some(2), ..TopicSpec::default() }).await.unwrap();
        publish(&broker, &["c", "d"]).await;
        let late = Receive { group: GroupName::new("", "late").unwrap(), ..wish("*", 32, 1) };
        assert_eq!(ids(&take_all(&broker, late).await), ["c", "d"]);
    });
}

#[test]
fn what_is_out_of_retention_is_out_of_range_and_a_reset_to_the_earliest_begins_behind_it() {
    in_one_life(async |broker| {
        let spec =
            TopicSpec { queues: Some(1), retention: Some(Some(Duration::from_secs(60))), ..TopicSpec::default() };
        broker.create_topic(topic(), spec).await.unwrap();
        publish(&broker, &["a", "b"]).await;
        assert_eq!(receive(&broker, 1, 1).await.len(), 1);
        tokio::time::sleep(Duration::from_secs(50)).await;
        publish(&broker, &["c"]).await;
        let name = topic();
        let beginning = || broker.queue_boundary(&name, Q, QueueBoundary::Beginning);
        let began = tokio::time::Instant::now();
        while beginning().await != Ok(QueueOffset(2)) {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", beginning().await);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let gone = broker.pull(pull_wish(1, "*", 1, 0)).await.unwrap_err();
        assert!(
            matches!(gone, OffsetError::OutOfRange { first: QueueOffset(2), next: QueueOffset(3), .. }),
            "{gone:?}"
        );
        assert_eq!(names(&pull(&broker, 2, 32, 0).await), ["c"]);
        assert_eq!(position(&broker).await, Ok(2));
        let seek = reset(&broker, SeekTarget::Earliest).await.seek;
        assert_eq!((seek.from.get(), seek.to.get(), seek.skipped, seek.rewound), (2, 2, 0, 0));
        let at = broker.queue_boundary(&topic(), Q, QueueBoundary::At(Timestamp(0))).await;
        assert_eq!(at, Ok(QueueOffset(2)));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Kill,
    Pull { queue: u32, from: u64, batch: usize, filter: u8 },
}

const TAGS: [&str; 3] = ["", "red", "blue"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..3).prop_map(Step::Publish),
        1 => Just(Step::Kill),
        4 => (0u32..2, 0u64..12, 1usize..6, 0u8..3)
            .prop_map(|(queue, from, batch, filter)| Step::Pull { queue, from, batch, filter }),
    ]
}

type Stored = BTreeMap<QueueId, Vec<(String, &'static str)>>;

/// Pulls on and on until the end; every answer must be what the list says.
async fn pull_to_the_end(broker: &Broker, stored: &Stored, queue: QueueId, from: u64, batch: usize, tag: &str) {
    let all = stored.get(&queue).map(Vec::as_slice).unwrap_or_default();
    let from = from.min(all.len() as u64);
    let wanted = |own: &str| tag.is_empty() || own == tag;
    let rest = all[from as usize..].iter().filter(|(_, own)| wanted(own));
    let expected: Vec<String> = rest.map(|(id, _)| id.clone()).collect();
    let mut got = Vec::new();
    let mut next = from;
    loop {
        let pulled = broker.pull(Pull { queue, ..pull_wish(next, tag, batch, 0) }).await.unwrap();
        assert!(pulled.messages.len() <= batch);
        let offsets: Vec<u64> = pulled.messages.iter().map(|one| one.offset.get()).collect();
        assert!(offsets.is_sorted() && offsets.iter().all(|offset| (next..pulled.next.get()).contains(offset)));
        got.extend(pulled.messages.iter().map(|one| one.message.message_id.clone()));
        next = pulled.next.get();
        if pulled.messages.is_empty() {
            break;
        }
    }
    assert_eq!((got, next), (expected, all.len() as u64));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_pull_sees_exactly_what_is_stored_in_order(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World::new();
        let mut stored = Stored::new();
        let mut steps = steps.into_iter().peekable();
        let mut count = 0;
        world.life(async |broker| create_with(&broker, 2).await);
        while steps.peek().is_some() {
            world.life(async |broker| {
                for step in steps.by_ref() {
                    match step {
                        Step::Kill => break,
                        Step::Publish(tag) => {
                            let (id, tag) = (format!("m{count}"), TAGS[usize::from(tag)]);
                            count += 1;
                            let (queue, offset) = publish_tagged(&broker, &id, tag).await;
                            let list = stored.entry(queue).or_default();
                            assert_eq!(offset.get(), list.len() as u64);
                            list.push((id, tag));
                        }
                        Step::Pull { queue, from, batch, filter } => {
                            let (queue, tag) = (QueueId(queue), TAGS[usize::from(filter)]);
                            pull_to_the_end(&broker, &stored, queue, from, batch, tag).await;
                        }
                    }
                }
            });
        }
    }
}
