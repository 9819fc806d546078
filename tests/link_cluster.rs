//! Several brokers behind one handle: what a client of any proxy may rely on while brokers are cut off, drain, join and move topics.

#[allow(dead_code)]
#[path = "sim/net.rs"]
mod net;
#[path = "link_cluster/state.rs"]
mod state;
#[path = "link_cluster/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bolide::broker::api::{AckOutcome, ChangeOutcome, PublishError, Receive, ReceiveError, SettleError};
use bolide::model::cluster::owner;
use bolide::model::order::order_key;
use bolide::model::position::ShardId;
use bolide::model::topic::TopicType;
use tokio::time::Instant;
use world::*;

#[test]
fn messages_spread_over_every_broker_and_none_is_missed_by_a_receive_at_another_proxy() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        assert_eq!(one.homes(&one.topic(&topic).unwrap()).len(), 3);
        for number in 0..30 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        for index in 0..3 {
            assert_eq!(world.stored(index, &topic).await, 10, "broker {index}");
        }
        let got = take_all(&two, &topic, 30).await;
        assert_eq!(ids(&got).into_iter().collect::<BTreeSet<_>>().len(), 30);
        // One request, all brokers, and nonsense between: each outcome at its place.
        let mut handles: Vec<String> = got.into_iter().map(|one| one.handle).collect();
        let mut forged = handles[4].clone().into_bytes();
        forged[40] = if forged[40] == b'A' { b'B' } else { b'A' };
        handles.insert(7, String::from_utf8(forged).unwrap());
        handles.insert(0, "nonsense".to_owned());
        let acked = one.ack(&group(), &topic, &handles).await.unwrap();
        for (index, outcome) in acked.iter().enumerate() {
            let wanted = if [0, 8].contains(&index) { AckOutcome::InvalidHandle } else { AckOutcome::Done };
            assert_eq!(*outcome, wanted, "{index}");
        }
        assert!(take(&one, &topic, 32, 40).await.unwrap().is_empty(), "an acked message came back");
    });
}

#[test]
fn a_message_group_keeps_its_order_whichever_proxies_it_is_sent_and_received_through() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Fifo).await;
        for number in 0..20 {
            let proxy = if number % 2 == 0 { &one } else { &two };
            let batch = (0..6).map(|of| ordered(&format!("{of}-{number:02}"), &format!("group-{of}"))).collect();
            let published = publish(proxy, &topic, batch).await.unwrap();
            assert_eq!(published.len(), 6);
        }
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while seen.values().map(Vec::len).sum::<usize>() < 120 {
            let got = take(&two, &topic, 32, 5).await.unwrap();
            assert!(!got.is_empty());
            let handles: Vec<String> = got.iter().map(|one| one.handle.clone()).collect();
            for one in got {
                seen.entry(one.message_group.clone()).or_default().push(one.message.message_id.clone());
            }
            assert!(one.ack(&group(), &topic, &handles).await.unwrap().iter().all(|one| *one == AckOutcome::Done));
        }
        assert!(seen.values().all(|ids| ids.is_sorted() && ids.len() == 20), "{seen:?}");
    });
}

#[test]
fn places_of_a_split_request_are_in_its_own_order_and_a_bad_message_in_it_stores_nothing_anywhere() {
    in_cluster(2, async |world, [one, _]| {
        let topic = world.create("t", TopicType::Fifo).await;
        let shards: Vec<ShardId> = world.nodes.iter().map(|node| node.shard).collect();
        let of = |shard: ShardId| (0..).map(|n| format!("g{n}")).find(|g| owner(order_key(g), &shards) == Some(shard));
        let (left, right) = (of(shards[0]).unwrap(), of(shards[1]).unwrap());
        let batch = vec![ordered("a", &left), ordered("b", &right), ordered("c", &left), ordered("d", &right)];
        let places = publish(&one, &topic, batch).await.unwrap();
        assert_eq!(places.iter().map(|place| place.offset.get()).collect::<Vec<_>>(), [0, 0, 1, 1]);
        assert_eq!((world.stored(0, &topic).await, world.stored(1, &topic).await), (2, 2));
        let bad = vec![ordered("e", &left), ordered("f", &right), message("not ordered")];
        let refused = publish(&one, &topic, bad).await.unwrap_err();
        assert!(matches!(refused, PublishError::TypeConflict { index: 2, .. }), "{refused:?}");
        assert_eq!((world.stored(0, &topic).await, world.stored(1, &topic).await), (2, 2));
    });
}

#[test]
fn a_broker_that_is_cut_off_stops_neither_senders_nor_receivers() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        world.cut(1);
        misses_one(&one).await;
        let began = Instant::now();
        for number in 0..12 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        assert_eq!(world.stored(1, &topic).await, 0);
        assert_eq!(take_all(&two, &topic, 12).await.len(), 12);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let began = Instant::now();
        assert!(take(&two, &topic, 1, 10).await.unwrap().is_empty(), "two brokers said that they have nothing");
        assert!(began.elapsed() < Duration::from_millis(10_600), "{:?}", began.elapsed());
    });
}

#[test]
fn an_ordered_message_waits_for_its_broker_and_is_stored_once_or_surely_not() {
    in_cluster(2, async |world, [one, _]| {
        let topic = world.create("t", TopicType::Fifo).await;
        let shards: Vec<ShardId> = world.nodes.iter().map(|node| node.shard).collect();
        let home = world.node_of(owner(order_key("m"), &shards).unwrap());
        world.cut(home);
        misses_one(&one).await;
        let began = Instant::now();
        let patient = one.within(Some(Duration::from_secs(3)));
        assert_eq!(publish(&patient, &topic, vec![ordered("a", "m")]).await, Err(PublishError::Unavailable));
        assert!(began.elapsed() < Duration::from_secs(3), "the client has given up: {:?}", began.elapsed());
        let sending = publish(&patient, &topic, vec![ordered("b", "m")]);
        let healing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.serve(home);
        };
        let (sent, ()) = tokio::join!(sending, healing);
        sent.unwrap();
        let got = take_all(&one, &topic, 1).await;
        assert_eq!(ids(&got), ["b"], "what was said not to be stored is there, or the other is not");
        assert_eq!(world.stored(home, &topic).await, 1);
    });
}

#[test]
fn an_empty_answer_is_never_given_for_brokers_that_could_not_be_asked() {
    in_cluster(2, async |world, [one, _]| {
        let topic = world.create("t", TopicType::Normal).await;
        assert!(take(&one, &topic, 1, 1).await.unwrap().is_empty());
        world.cut(0);
        world.cut(1);
        let began = Instant::now();
        assert_eq!(take(&one, &topic, 1, 5).await.unwrap_err(), ReceiveError::Unavailable);
        let took = began.elapsed();
        assert!(took > Duration::from_secs(4) && took < Duration::from_secs(6), "{took:?}");
        assert!(!one.status().ready);
    });
}

#[test]
fn a_message_anywhere_ends_a_wait_at_once_also_at_a_broker_that_came_back_meanwhile() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for round in 0..6 {
            let waits = async {
                let got = take(&two, &topic, 1, 20).await.unwrap();
                (got, Instant::now())
            };
            let sends = async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                send(&one, &topic, message(&round.to_string())).await;
                Instant::now()
            };
            let ((got, at), sent) = tokio::join!(waits, sends);
            assert_eq!(ids(&got), [round.to_string()]);
            assert!(at.duration_since(sent) < Duration::from_secs(1), "{:?}", at.duration_since(sent));
        }
        // Stored behind the proxy's back while it cannot reach the broker.
        world.cut(2);
        let broker = world.nodes[2].broker.clone();
        let publish = bolide::broker::api::Publish { topic: topic.clone(), messages: vec![message("behind")] };
        broker.publish(publish).await.unwrap();
        let heals = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            world.serve(2);
            Instant::now()
        };
        let waits = async { (take(&two, &topic, 1, 20).await.unwrap(), Instant::now()) };
        let ((got, at), healed) = tokio::join!(waits, heals);
        assert_eq!(ids(&got), ["behind"]);
        assert!(at.duration_since(healed) < Duration::from_secs(2), "{:?}", at.duration_since(healed));
    });
}

#[test]
fn a_broker_that_gets_the_topic_during_a_wait_is_asked_as_well() {
    in_cluster(1, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        world.join().await;
        let waits = async { take(&two, &topic, 1, 20).await.unwrap() };
        let moves = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.rebalance(&topic).await;
            until("the new broker takes messages", async || {
                let publish = bolide::broker::api::Publish { topic: topic.clone(), messages: vec![message("new")] };
                world.nodes[1].broker.publish(publish).await.is_ok()
            })
            .await;
        };
        let (got, ()) = tokio::join!(waits, moves);
        assert_eq!(ids(&got), ["new"]);
        assert_eq!(one.ack(&group(), &topic, &[got[0].handle.clone()]).await, Ok(vec![AckOutcome::Done]));
    });
}

#[test]
fn what_the_losers_of_a_race_had_granted_comes_again_at_once_and_costs_no_attempt() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for round in 0..10 {
            // At the same moment on all three, while one receive waits at all three.
            let waits = take(&two, &topic, 1, 20);
            let sends = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let sends = (0..3).map(|of| send(&one, &topic, message(&format!("{round}-{of}")))).collect::<Vec<_>>();
                futures::future::join_all(sends).await;
            };
            let (first, ()) = tokio::join!(waits, sends);
            let mut got = first.unwrap();
            let began = Instant::now();
            got.extend(take_all(&one, &topic, 2).await);
            assert!(began.elapsed() < Duration::from_secs(3), "they were held back: {:?}", began.elapsed());
            assert!(got.iter().all(|one| one.attempt == 1), "an attempt was counted for nothing");
            assert_eq!(ids(&got).into_iter().collect::<BTreeSet<_>>().len(), 3);
            let handles: Vec<String> = got.into_iter().map(|one| one.handle).collect();
            let acked = one.ack(&group(), &topic, &handles).await.unwrap();
            assert!(acked.iter().all(|one| *one == AckOutcome::Done));
        }
    });
}

#[test]
fn an_attempt_repeated_at_the_other_proxy_brings_the_same_messages_and_not_new_ones() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for number in 0..12 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        for round in 0..4 {
            let again = || Receive { attempt_id: Some(format!("attempt-{round}")), ..wish(&topic, 2, 5) };
            let first = all(one.receive(again()).await.unwrap());
            assert!(!first.is_empty());
            for proxy in [&two, &one, &two] {
                let repeated = all(proxy.receive(again()).await.unwrap());
                assert_eq!(ids(&repeated), ids(&first));
                assert!(repeated.iter().all(|one| one.attempt == 1));
            }
        }
    });
}

#[test]
fn nothing_new_goes_to_a_broker_that_drains_and_what_it_has_is_still_given() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for number in 0..4 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        assert_eq!(world.stored(1, &topic).await, 2);
        world.route.drain(world.nodes[1].shard, true).await.unwrap();
        for number in 4..10 {
            send(&two, &topic, message(&number.to_string())).await;
        }
        assert_eq!(world.stored(1, &topic).await, 2);
        assert_eq!(take_all(&two, &topic, 10).await.len(), 10);
    });
}

#[test]
fn an_ack_waits_for_its_broker_and_is_never_answered_in_its_place() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        for number in 0..4 {
            send(&one, &topic, message(&number.to_string())).await;
        }
        let got = take_all(&one, &topic, 4).await;
        let handles: Vec<String> = got.iter().map(|one| one.handle.clone()).collect();
        world.cut(0);
        let began = Instant::now();
        let hasty = two.within(Some(Duration::from_secs(2)));
        assert_eq!(hasty.ack(&group(), &topic, &handles).await, Err(SettleError::Unavailable));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let heals = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.serve(0);
        };
        let group = group();
        let (acked, ()) = tokio::join!(two.ack(&group, &topic, &handles), heals);
        assert_eq!(acked, Ok(vec![AckOutcome::Done; 4]), "what was acked before is acked again");
        let changed = two.change_invisible(&group, &topic, "nonsense", LEASE).await;
        assert_eq!(changed, Ok(ChangeOutcome::InvalidHandle));
    });
}

#[test]
fn a_good_handle_is_good_at_a_proxy_that_has_not_heard_of_its_group() {
    in_cluster(2, async |world, [one, _]| {
        let topic = world.create("t", TopicType::Normal).await;
        send(&one, &topic, message("a")).await;
        let late = world.late_proxy().await;
        let handle = take_all(&one, &topic, 1).await.remove(0).handle;
        assert!(late.group_or_default(&group()).is_some_and(|group| group.id.get() == 0), "it has heard");
        let changed = late.change_invisible(&group(), &topic, &handle, LEASE).await.unwrap();
        assert!(matches!(changed, ChangeOutcome::Changed { .. }), "{changed:?}");
        assert_eq!(late.ack(&group(), &topic, &[handle]).await, Ok(vec![AckOutcome::Done]));
        let nonsense = late.ack(&group(), &topic, &["nonsense".to_owned()]).await;
        assert_eq!(nonsense, Ok(vec![AckOutcome::InvalidHandle]));
        late.shutdown().stop();
    });
}

#[test]
fn one_broker_that_never_runs_dry_does_not_starve_the_others() {
    in_cluster(3, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        let mut seen = BTreeSet::new();
        let hot = world.nodes[0].broker.clone();
        for round in 0..60 {
            let messages = vec![message(&format!("hot-{round}-a")), message(&format!("hot-{round}-b"))];
            hot.publish(bolide::broker::api::Publish { topic: topic.clone(), messages }).await.unwrap();
            if round == 5 {
                for index in [1, 2] {
                    let messages = vec![message(&format!("cold-{index}"))];
                    let publish = bolide::broker::api::Publish { topic: topic.clone(), messages };
                    world.nodes[index].broker.publish(publish).await.unwrap();
                }
            }
            let got = take(if round % 2 == 0 { &one } else { &two }, &topic, 1, 5).await.unwrap();
            seen.extend(got.into_iter().map(|one| one.message.message_id));
        }
        assert!(seen.contains("cold-1") && seen.contains("cold-2"), "{seen:?}");
    });
}

#[test]
fn a_proxy_that_drains_ends_its_long_polls_early_and_empty() {
    in_cluster(2, async |world, [one, two]| {
        let topic = world.create("t", TopicType::Normal).await;
        let began = Instant::now();
        let drains = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            one.shutdown().drain();
        };
        let (got, ()) = tokio::join!(take(&one, &topic, 1, 20), drains);
        assert!(got.unwrap().is_empty() && began.elapsed() < Duration::from_secs(2));
        assert!(!one.status().ready && two.status().ready);
        send(&two, &topic, message("after")).await;
        assert_eq!(ids(&take_all(&two, &topic, 1).await), ["after"]);
    });
}
