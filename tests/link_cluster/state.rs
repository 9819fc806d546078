//! What lives at one broker and is asked for through any proxy: transactions, clients, offsets, delayed messages, lite topics.

use std::collections::BTreeSet;
use std::time::Duration;

use bolide::broker::api::{
    AckOutcome, ClientId, GroupSpec, LeaseWish, LiteAction, LiteSync, OffsetError, Pull, QueueBoundary, ReceiveError,
    Resolution, TransactionError,
};
use bolide::link::ClusterOptions;
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::GroupName;
use bolide::model::position::{QueueId, QueueOffset};
use bolide::model::topic::TopicType;
use bolide::runtime::clock::Clock;

use crate::world::*;

#[test]
fn a_transaction_is_found_through_any_proxy_also_after_its_topic_has_moved() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Transaction).await;
        for number in 0..20 {
            send(&one, &topic, half(&format!("h{number}"), "p")).await;
        }
        for number in 0..5 {
            two.end_transaction(&topic, &format!("h{number}"), Resolution::Commit).await.unwrap();
        }
        world.join().await;
        reaches_all(&two).await;
        world.rebalance(&topic).await;
        // With a third broker some ids belong to it now, which knows nothing of them.
        for number in 5..20 {
            two.look_at_transaction(&topic, &format!("h{number}")).await.unwrap();
            two.end_transaction(&topic, &format!("h{number}"), Resolution::Commit).await.unwrap();
        }
        let unknown = two.end_transaction(&topic, "nobody's", Resolution::Commit).await;
        assert_eq!(unknown, Err(TransactionError::Unknown));
        assert_eq!(take_all(&one, &topic, 20).await.len(), 20);
    });
}

#[test]
fn a_transaction_is_not_called_unknown_because_its_broker_is_away() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Transaction).await;
        for number in 0..8 {
            send(&one, &topic, half(&format!("h{number}"), "p")).await;
        }
        world.cut(1);
        let mut away = 0;
        for number in 0..8 {
            match two.end_transaction(&topic, &format!("h{number}"), Resolution::Rollback).await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, TransactionError::Unavailable);
                    away += 1;
                }
            }
        }
        assert!(away > 0 && away < 8, "{away}");
        world.serve(1);
        reaches_all(&two).await;
        for number in 0..8 {
            // Again, for those that ended before, is as good.
            two.end_transaction(&topic, &format!("h{number}"), Resolution::Rollback).await.unwrap();
        }
    });
}

#[test]
fn a_check_goes_to_the_proxy_of_its_sender_and_counts_only_when_it_was_handed_over() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Transaction).await;
        let (mine, other) = (ClientId("mine".into()), ClientId("other".into()));
        let _streams = (one.telemetry_opened(&mine), two.telemetry_opened(&other));
        for number in 0..6 {
            let early =
                NewMessage { orphan_after: Some(Duration::from_secs(1)), ..half(&format!("h{number}"), "mine") };
            send(&two, &topic, early).await;
        }
        until("checks are due", async || !one.topics_to_check().await.is_empty()).await;
        let due = one.topics_to_check().await;
        let told: Vec<_> = due.iter().map(|due| (&due.topic.name, &due.senders[..])).collect();
        assert_eq!(told, [(&topic, std::slice::from_ref(&mine))], "it sent through another proxy, to several brokers");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(
            two.due_checks(&topic, std::slice::from_ref(&other), 100, 1 << 20).await.is_empty(),
            "its sender is elsewhere"
        );
        let due = one.due_checks(&topic, std::slice::from_ref(&mine), 100, 1 << 20).await;
        assert_eq!(due.len(), 6);
        let mut handed = 0;
        for (index, check) in due.iter().enumerate() {
            assert_eq!(check.checks, 0);
            if index == 0 {
                assert!(!one.hand_over_check(check, || false).await);
            } else if index == 1 {
                // It ends between being taken and being handed over.
                two.end_transaction(&topic, &check.transaction_id, Resolution::Commit).await.unwrap();
                assert!(!one.hand_over_check(check, || panic!("asked after the end")).await);
            } else {
                handed += u32::from(one.hand_over_check(check, || true).await);
            }
        }
        assert_eq!(handed, 4);
        until("the one that nobody got is due again", async || {
            let due = one.due_checks(&topic, std::slice::from_ref(&mine), 100, 1 << 20).await;
            due.first().is_some_and(|check| check.checks == 0)
        })
        .await;
    });
}

#[test]
fn auto_renewed_messages_stay_with_a_client_that_any_proxy_hears_of_and_return_when_it_says_good_bye() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for number in 0..4 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        let client = ClientId("renews".into());
        let stream = one.telemetry_opened(&client);
        let mut held = 0;
        while held < 4 {
            let wish = bolide::broker::api::Receive {
                client: client.clone(),
                lease: LeaseWish::AutoRenew,
                ..wish(&topic, 32, 5)
            };
            held += all(two.receive(wish).await.unwrap()).len();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(take(&two, &topic, 32, 1).await.unwrap().is_empty(), "a live client lost its messages");
        two.client_terminated(&client).await;
        let again = take_all(&two, &topic, 4).await;
        assert_eq!(again.len(), 4);
        drop(stream);
    });
}

#[test]
fn a_client_that_falls_silent_loses_its_messages_although_its_proxy_lives() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        send(&one, &topic, message("a")).await;
        let renewing = bolide::broker::api::Receive {
            client: ClientId("silent".into()),
            lease: LeaseWish::AutoRenew,
            ..wish(&topic, 1, 5)
        };
        assert_eq!(all(one.receive(renewing).await.unwrap()).len(), 1);
        let began = tokio::time::Instant::now();
        until("the message returns", async || !take(&two, &topic, 1, 1).await.unwrap().is_empty()).await;
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    });
}

#[test]
fn a_group_comes_into_being_at_its_first_receive_or_is_refused_where_that_is_switched_off() {
    in_cluster(2, async |world, [one, _]| {
        let topic = world.create("t", TopicType::Normal).await;
        let strict =
            world.proxy_with(ClusterOptions { name: "strict".into(), auto_create_groups: false, ..Default::default() });
        reaches_all(&strict).await;
        let refused = take(&strict, &topic, 1, 1).await.unwrap_err();
        assert_eq!(refused, ReceiveError::GroupNotFound(group()));
        assert!(strict.group_or_default(&group()).is_none() && one.group_or_default(&group()).is_some());
        assert!(take(&one, &topic, 1, 1).await.unwrap().is_empty());
        assert!(world.route.view().groups.contains_key(&group()));
        assert!(take(&strict, &topic, 1, 1).await.unwrap().is_empty());
        strict.shutdown().stop();
    });
}

#[test]
fn an_offset_is_asked_of_the_broker_that_its_route_named_and_of_no_other() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for number in 0..8 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        let homes = two.homes(&two.topic(&topic).unwrap());
        let mut seen = BTreeSet::new();
        for home in &homes {
            for queue in [QueueId(0), QueueId(1)] {
                let end = two.queue_boundary(Some(home), &topic, queue, QueueBoundary::End).await.unwrap();
                let pull = Pull {
                    group: group(),
                    topic: topic.clone(),
                    queue,
                    offset: QueueOffset(0),
                    filter: Filter::ALL,
                    batch: 32,
                    wait: Duration::from_secs(1),
                    client: ClientId("puller".into()),
                };
                let pulled = two.pull(Some(home), pull).await.unwrap();
                assert_eq!(pulled.next, end);
                seen.extend(pulled.messages.into_iter().map(|one| one.message.message_id));
                two.update_offset(Some(home), &group(), &topic, queue, end).await.unwrap();
                assert_eq!(one.offset(Some(home), &group(), &topic, queue).await, Ok(end));
            }
        }
        assert_eq!(seen.len(), 8);
        for nowhere in [None, Some("broker-9")] {
            let refused = two.queue_boundary(nowhere, &topic, QueueId(0), QueueBoundary::End).await.unwrap_err();
            assert!(matches!(refused, OffsetError::UnknownBroker { .. }), "{refused:?}");
        }
    });
}

#[test]
fn a_delayed_message_is_recalled_through_another_proxy_than_it_was_sent_through() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Delay).await;
        for number in 0..3 {
            let due = Some(Clock::now(&world.clock).plus(Duration::from_secs(600)));
            let delayed = NewMessage { message_type: MessageType::Delay, due, ..message(&format!("d{number}")) };
            let handle = publish(&one, &topic, vec![delayed]).await.unwrap().remove(0).recall_handle.unwrap();
            assert_eq!(two.recall(&topic, &handle).await, Ok(format!("d{number}")));
        }
        assert!(two.recall(&topic, "nonsense").await.is_err());
    });
}

#[test]
fn who_loses_a_lite_topic_to_a_client_of_another_proxy_is_told_by_its_own() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("l", TopicType::Lite).await;
        let spec = GroupSpec { lite_exclusive: Some(true), ..GroupSpec::default() };
        world.route.create_group(GroupName::new("", "exclusive").unwrap(), spec).await.unwrap();
        let chat = NewMessage { message_type: MessageType::Lite, lite_topic: "chat".to_owned(), ..message("a") };
        send(&two, &topic, chat).await;
        let mut evictions = one.evictions();
        let sync = |client: &str| LiteSync {
            client: ClientId(client.into()),
            group: GroupName::new("", "exclusive").unwrap(),
            topic: topic.clone(),
            action: LiteAction::CompleteAdd,
            names: BTreeSet::from(["chat".to_owned()]),
            version: None,
            start: None,
        };
        assert!(one.sync_lite(sync("first")).await.unwrap().is_empty());
        let told = two.sync_lite(sync("second")).await.unwrap();
        assert_eq!(told.len(), 1, "the proxy that caused it hears of it in the answer");
        let eviction = tokio::time::timeout(Duration::from_secs(1), evictions.next()).await.unwrap();
        assert_eq!((&*eviction.client.0, &*eviction.lite_topic), ("first", "chat"));
        assert_eq!(one.homes(&one.topic(&topic).unwrap()).len(), 1);
    });
}

#[test]
fn a_change_through_one_proxy_counts_for_a_handle_that_another_one_gave() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        send(&one, &topic, message("a")).await;
        let got = take_all(&one, &topic, 1).await;
        let other = two.another_text(&got[0].handle);
        assert_ne!(other, got[0].handle);
        two.change_invisible(&group(), &topic, &other, Duration::ZERO).await.unwrap();
        let again = take_all(&one, &topic, 1).await;
        assert_eq!((ids(&again), again[0].attempt), (vec!["a"], 2));
        let dead = two.to_dead_letter(&group(), &topic, &again[0].handle).await;
        assert_eq!(dead, Ok(AckOutcome::Done));
        // A key that was rotated in does not make older handles worthless, nor the other way round.
        send(&one, &topic, message("b")).await;
        let before = take_all(&one, &topic, 1).await;
        world.route.rotate_key().await.unwrap();
        assert_eq!(two.ack(&group(), &topic, &[before[0].handle.clone()]).await, Ok(vec![AckOutcome::Done]));
    });
}
