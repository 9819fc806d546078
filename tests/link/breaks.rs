//! What only a link can do: break, fall silent, be refused, be full.

use std::time::Duration;

use bolide::broker::api::{AckOutcome, Publish, PublishError, Receive, ReceiveError};
use bolide::link::client::{Bounds, Dial, Failure, ShardClient};
use bolide::link::hello::{Hello, Role};
use bolide::model::cluster::ClusterId;
use bolide::model::message::NewMessage;
use bolide::model::position::{QueueOffset, ShardId};
use bolide::model::topic::TopicType;
use bolide::trust::Trust;
use tokio::time::Instant;

use crate::world::*;

fn one(id: &str) -> Publish {
    Publish { topic: topic(), messages: vec![message(id)] }
}

async fn connected(client: &ShardClient) {
    until("the link is up", async || client.is_connected()).await;
}

async fn stored(world: &World) -> QueueOffset {
    world.broker.queue_spans(&topic()).unwrap()[0].next
}

#[test]
fn a_broker_that_is_not_there_is_away_and_surely_has_done_nothing() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        world.gone();
        let client = world.client("p-0");
        let began = Instant::now();
        assert_eq!(client.publish(one("a")).await, Err(Failure::Away));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(client.publish(one("a")).await, Err(Failure::Away));
        assert!(began.elapsed() < Duration::from_millis(100), "known to be away: {:?}", began.elapsed());
        assert_eq!(client.receive(wish(1, 5)).await.err(), Some(Failure::Away));
        assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
        world.serve();
        connected(&client).await;
        assert!(client.publish(one("b")).await.is_ok());
        assert_eq!(stored(world).await, QueueOffset(1));
    });
}

#[test]
fn a_publish_that_was_written_into_silence_is_unknown_soon_and_the_link_comes_back() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        connected(&client).await;
        assert!(client.publish(one("a")).await.is_ok());
        world.net.silence(100);
        let began = Instant::now();
        assert_eq!(client.publish(one("b")).await, Err(Failure::Unknown));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // Each of the streams finds out for itself.
        tokio::time::sleep(Duration::from_secs(5)).await;
        connected(&client).await;
        assert!(client.publish(one("c")).await.is_ok());
        assert_eq!(stored(world).await, QueueOffset(2), "the silent one swallowed b");
    });
}

#[test]
fn a_publish_whose_answer_was_cut_off_is_unknown_and_may_be_stored() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        connected(&client).await;
        let publish = async { client.publish(one("a")).await };
        let cut = async {
            until("it is stored", async || stored(world).await == QueueOffset(1)).await;
        };
        // The wire takes its time for the way back: it is cut as soon as the broker has stored the message.
        let raced = async {
            tokio::select! {
                biased;
                result = publish => result,
                () = async { cut.await; world.net.cut(100); std::future::pending::<()>().await } => unreachable!(),
            }
        };
        let result = raced.await;
        assert!(matches!(result, Ok(_) | Err(Failure::Unknown)), "{result:?}");
        assert_eq!(stored(world).await, QueueOffset(1));
    });
}

#[test]
fn what_may_be_done_twice_is_repeated_after_a_break() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        client.publish(one("a")).await.unwrap();
        let got = client.receive(wish(1, 1)).await.unwrap().next().unwrap();
        world.net.silence(100);
        let outcome = client.ack(&group(), &topic(), &[got.handle]).await;
        assert_eq!(outcome, Ok(vec![AckOutcome::Done]));
        let waits = async { client.receive(wish(1, 60)).await.unwrap().next().unwrap() };
        let breaks = async {
            until("a receive waits", async || world.broker.status().pollers > 0).await;
            world.gone();
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(world.broker.status().pollers, 0, "nobody waits at the broker for a caller that was cut off");
            world.serve();
            connected(&client).await;
            client.publish(one("b")).await.unwrap();
        };
        let (got, ()) = tokio::join!(waits, breaks);
        assert_eq!((got.message.message_id.as_str(), got.attempt), ("b", 1));
    });
}

#[test]
fn a_process_that_went_without_a_word_holds_nothing_up() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let (silent, other) = (world.client("p-0"), world.client("p-1"));
        let waits = tokio::spawn(async move { silent.receive(wish(1, 600)).await.map(|mut got| got.next()) });
        until("a receive waits", async || world.broker.status().pollers == 1).await;
        world.net.set_unreachable(true);
        world.net.silence(100);
        let began = Instant::now();
        until("it is noticed", async || world.broker.status().pollers == 0).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        world.net.set_unreachable(false);
        waits.abort();
        tokio::time::sleep(Duration::from_secs(5)).await;
        connected(&other).await;
        other.publish(one("a")).await.unwrap();
        let got = other.receive(wish(1, 5)).await.unwrap().next().unwrap();
        assert_eq!((got.message.message_id.as_str(), got.attempt), ("a", 1));
    });
}

#[test]
fn whenever_a_receive_is_given_up_its_message_comes_to_the_next_one_with_no_attempt_spent() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        connected(&client).await;
        for step in 0..60u64 {
            let id = format!("m{step}");
            let waits = tokio::spawn({
                let client = client.clone();
                async move { client.receive(wish(1, 60)).await.map(|mut got| got.next()) }
            });
            until("a receive waits", async || world.broker.status().pollers == 1).await;
            world.broker.publish(one(&id)).await.unwrap();
            // From before the broker has granted it to after it has arrived.
            tokio::time::sleep(Duration::from_micros(step * 40)).await;
            waits.abort();
            let taken = waits.await.ok().and_then(|got| got.unwrap());
            let got = match taken {
                Some(got) => got,
                None => client.receive(wish(1, 5)).await.unwrap().next().expect("it comes back"),
            };
            assert_eq!((got.message.message_id.as_str(), got.attempt), (id.as_str(), 1), "given up after step {step}");
            client.ack(&group(), &topic(), &[got.handle]).await.unwrap();
        }
    });
}

#[test]
fn more_calls_or_bytes_than_may_be_under_way_are_refused_at_once() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let bounds = Bounds { calls_max: 1, bytes_max: 2_000 };
        let client = world.client_with(Dial { bounds, ..world.dial("p-0") });
        connected(&client).await;
        let wait = || async { client.receive(wish(1, 30)).await };
        let refused = async {
            until("a receive waits", async || world.broker.status().pollers == 1).await;
            client.receive(wish(1, 30)).await.err()
        };
        tokio::select! {
            biased;
            error = refused => assert_eq!(error, Some(Failure::Refused(ReceiveError::Overloaded))),
            _ = wait() => panic!("nothing came"),
        }
        let large = |id: &str| {
            let large = NewMessage { rest: vec![0; 1_500].into(), ..message(id) };
            Publish { topic: topic(), messages: vec![large] }
        };
        until("they are gone", async || world.broker.status().pollers == 0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (first, second) = tokio::join!(client.publish(large("a")), client.publish(large("b")));
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(second, Err(Failure::Refused(PublishError::Overloaded)));
        assert!(client.publish(large("b")).await.is_ok(), "there is room again");
    });
}

#[test]
fn a_process_of_another_version_cluster_or_shard_is_refused() {
    let broker = Hello { cluster: Some(ClusterId(1)), ..Hello::of(Role::Broker, "b-0") };
    in_world_with(Trust::none(), broker, async |world| {
        create(world, topic(), TopicType::Normal).await;
        let hello = world.dial("p-0").who;
        let strangers = [
            Hello { version: "7.0".into(), ..hello.clone() },
            Hello { cluster: Some(ClusterId(2)), ..hello.clone() },
            Hello { shard: Some(ShardId(9)), ..hello.clone() },
        ];
        for who in strangers {
            let client = world.client_with(Dial { who, ..world.dial("p-0") });
            assert_eq!(client.publish(one("a")).await, Err(Failure::Away));
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(!client.is_connected());
        }
        let who = Hello { cluster: Some(ClusterId(1)), shard: Some(ShardId(0)), ..hello };
        let client = world.client_with(Dial { who, ..world.dial("p-0") });
        assert!(client.publish(one("a")).await.is_ok());
    });
}

#[test]
fn without_the_clusters_secret_nobody_comes_in() {
    let secret = Trust::with_secret("0123456789abcdef").unwrap();
    in_world_with(secret, Hello::of(Role::Broker, "b-0"), async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client_with(Dial { trust: Trust::none(), ..world.dial("p-0") });
        assert_eq!(client.publish(one("a")).await, Err(Failure::Away));
        assert!(world.client("p-1").publish(one("a")).await.is_ok());
    });
}

#[test]
fn who_lost_a_lite_topic_is_told_by_the_process_it_is_connected_to() {
    in_world(async |world| {
        create(world, topic(), TopicType::Lite).await;
        let spec = bolide::broker::api::GroupSpec { lite_exclusive: Some(true), ..Default::default() };
        world.broker.create_group(group(), spec).await.unwrap();
        let (here, elsewhere) = (world.client("p-0"), world.client("p-1"));
        let (mut heard_here, mut heard_elsewhere) = (here.notices(), elsewhere.notices());
        here.sync_lite(subscribe(&topic(), "first", &["x"])).await.unwrap();
        let evicted = elsewhere.sync_lite(subscribe(&topic(), "second", &["x"])).await.unwrap();
        assert_eq!(heard_here.recv().await.unwrap(), evicted[0]);
        assert_eq!(&*evicted[0].client.0, "first");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(heard_here.try_recv().is_err(), "once");
        assert!(heard_elsewhere.try_recv().is_err(), "its own answer says it");
    });
}

#[test]
fn the_link_of_a_dropped_client_ends_at_the_broker() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        connected(&client).await;
        let waits = tokio::spawn(async move {
            let _ = client.receive(Receive { ..wish(1, 600) }).await;
        });
        until("a receive waits", async || world.broker.status().pollers == 1).await;
        waits.abort();
        until("nobody waits", async || world.broker.status().pollers == 0).await;
    });
}

#[test]
fn clients_that_are_reported_live_keep_what_they_hold() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        client.publish(one("a")).await.unwrap();
        let lease = bolide::broker::api::LeaseWish::AutoRenew;
        let got = client.receive(Receive { lease, ..wish(1, 1) }).await.unwrap().next();
        assert!(got.is_some());
        let other = || Receive { client: bolide::broker::api::ClientId("other".into()), ..wish(1, 3) };
        for _ in 0..20 {
            client.clients_alive(vec![(bolide::broker::api::ClientId("client".into()), false)]);
            assert!(client.receive(other()).await.unwrap().is_empty());
        }
        let mut back = None;
        until("it comes back once nobody says that the client lives", async || {
            back = client.receive(other()).await.unwrap().next();
            back.is_some()
        })
        .await;
        assert_eq!(back.map(|back| back.attempt), Some(2));
    });
}

/// Receives one message for as long as its client lives.
fn renewed(client: &str, wait: u64) -> Receive {
    let client = bolide::broker::api::ClientId(client.into());
    Receive { lease: bolide::broker::api::LeaseWish::AutoRenew, client, ..wish(1, wait) }
}

/// Says through a link that the client lives, and looks for another one whether something comes, until so much time has passed.
async fn comes_to_another_within(link: &ShardClient, time: Duration) -> Option<(Duration, u32)> {
    let began = Instant::now();
    while began.elapsed() < time {
        link.clients_alive(vec![(bolide::broker::api::ClientId("client".into()), false)]);
        if let Ok(mut got) = link.receive(renewed("other", 2)).await
            && let Some(got) = got.next()
        {
            return Some((began.elapsed(), got.attempt));
        }
    }
    None
}

#[test]
fn a_message_that_died_with_a_proxy_comes_again_soon_although_its_client_lives() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let (dies, lives) = (world.client("p-0"), world.client("p-1"));
        lives.publish(one("a")).await.unwrap();
        let mut lost = dies.receive(renewed("client", 1)).await.unwrap();
        let handle = lost.next().unwrap().handle;
        // A process that is killed tells nobody anything.
        std::mem::forget(lost);
        drop(dies);
        let (after, attempt) = comes_to_another_within(&lives, Duration::from_secs(600)).await.expect("it is stuck");
        assert!(after > Duration::from_secs(25) && after < Duration::from_secs(40), "{after:?}");
        assert_eq!(attempt, 2);
        let acked = lives.ack(&group(), &topic(), &[handle]).await.unwrap();
        assert_eq!(acked, [AckOutcome::InvalidHandle], "its time has passed");
    });
}

#[test]
fn a_client_that_has_its_message_keeps_it_through_the_end_of_the_proxy_it_came_by() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let (dies, lives) = (world.client("p-0"), world.client("p-1"));
        lives.publish(one("a")).await.unwrap();
        let handle = dies.receive(renewed("client", 1)).await.unwrap().next().unwrap().handle;
        // What was handed on is said at once.
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(dies);
        assert_eq!(comes_to_another_within(&lives, Duration::from_secs(120)).await, None);
        let acked = lives.ack(&group(), &topic(), &[handle]).await.unwrap();
        assert_eq!(acked, [AckOutcome::Done]);
    });
}

#[test]
fn a_cut_takes_no_lease_from_a_client_that_has_its_message_whether_or_not_the_broker_heard_of_it() {
    in_world(async |world| {
        create(world, topic(), TopicType::Normal).await;
        let client = world.client("p-0");
        for heard_after in [0, 50, 2_000] {
            connected(&client).await;
            client.publish(one("a")).await.unwrap();
            let mut got = client.receive(renewed("client", 1)).await.unwrap();
            let handle = got.next().unwrap().handle;
            if heard_after > 0 {
                drop(got);
                tokio::time::sleep(Duration::from_millis(heard_after)).await;
                world.gone();
            } else {
                // Still on its way to the client when the link breaks.
                world.gone();
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(got);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.serve();
            connected(&client).await;
            assert_eq!(comes_to_another_within(&client, Duration::from_secs(90)).await, None, "{heard_after}");
            assert_eq!(client.ack(&group(), &topic(), &[handle]).await.unwrap(), [AckOutcome::Done]);
        }
    });
}

/// A wire that carries so many bytes each way in 50 ms.
async fn slow(stream: tokio::io::DuplexStream, in_50_ms: usize) -> tokio::io::DuplexStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, here) = tokio::io::duplex(in_50_ms);
    let (mut read_here, mut write_here) = tokio::io::split(here);
    let (mut read_there, mut write_there) = tokio::io::split(stream);
    macro_rules! carry {
        ($from:ident => $to:ident) => {
            tokio::spawn(async move {
                let mut bytes = vec![0; in_50_ms];
                while let Ok(count @ 1..) = $from.read(&mut bytes).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if $to.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            })
        };
    }
    carry!(read_here => write_there);
    carry!(read_there => write_here);
    near
}

/// Sends a message of so many bytes to and fro over a wire that carries so many bytes in 50 ms.
fn there_and_back(bytes: usize, in_50_ms: usize) {
    let who = Hello::of(Role::Broker, "b-0");
    in_world_of(Trust::none(), who, 64 * 1024 * 1024, async |world| {
        create(world, topic(), TopicType::Normal).await;
        let net = world.net.clone();
        let connector = bolide::link::client::Connector::new(move || {
            let net = net.clone();
            async move { Ok(slow(net.connect().await?, in_50_ms).await) }
        });
        let way = bolide::link::client::Way::Streams(connector);
        let client = world.client_with(Dial { way, ..world.dial("p-0") });
        connected(&client).await;
        let began = Instant::now();
        let large = NewMessage { rest: vec![7; bytes].into(), body_bytes: bytes as u32, ..message("a") };
        client.publish(Publish { topic: topic(), messages: vec![large] }).await.unwrap();
        let published = began.elapsed();
        assert!(published > Duration::from_secs(4), "{published:?}");
        let got = client.receive(wish(1, 10)).await.unwrap().next().unwrap();
        assert_eq!((got.attempt, got.message.rest.len()), (1, bytes));
        let received = began.elapsed() - published;
        assert!(received > Duration::from_secs(4), "{received:?}");
        assert_eq!(stored(world).await, QueueOffset(1));
    });
}

#[test]
fn a_message_that_is_under_way_for_longer_than_a_peer_may_be_silent_arrives_both_ways() {
    there_and_back(2 * 1024 * 1024, 16 * 1024);
}

#[test]
fn a_message_arrives_both_ways_although_a_single_frame_takes_longer_than_a_peer_may_be_silent() {
    // A frame of 64 KiB in 6.4 s.
    there_and_back(100_000, 512);
}

#[test]
fn a_message_that_takes_longer_than_a_disk_may_arrives_both_ways() {
    // 4 MiB in 26 s.
    there_and_back(4 * 1024 * 1024, 8 * 1024);
}
