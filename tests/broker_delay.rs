//! Delayed messages over the real store, in memory and in virtual time: never early, never lost, recalled or delivered and never
//! both, also over kills and when the segments that held them have left.

use std::time::Duration;

use bolide::broker::api::{Ask, ClientId, Delivered, LeaseWish, Publish, Published, RecallError, Receive, TopicSpec};
use bolide::broker::options::BrokerOptions;
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::LogPosition;
use bolide::model::time::Timestamp;
use bolide::model::topic::TopicType;
use bolide::store::record::HoldKey;
use bytes::Bytes;
use world::{Begins, Life, World};

#[path = "common/broker.rs"]
mod world;

fn world() -> World {
    let options = BrokerOptions { delays_in_memory_max: 64, ..BrokerOptions::default() };
    let begins = Begins::AtOnce;
    World { begins, segment_bytes: 1024 * 1024, retention: Some(HOUR), options, ..World::new() }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

fn message(id: &str, due: Timestamp) -> NewMessage {
    NewMessage {
        message_type: MessageType::Delay,
        message_id: id.to_owned(),
        rest: Bytes::from(format!("body of {id}")),
        system_static: Bytes::from_static(b"static"),
        body_bytes: 9,
        due: Some(due),
        ..NewMessage::default()
    }
}

impl Life {
    async fn create(&self) {
        self.create_as(topic(), TopicType::Delay).await;
    }

    async fn create_as(&self, name: TopicName, topic_type: TopicType) {
        let spec = TopicSpec { queues: Some(2), topic_type: Some(topic_type), ..TopicSpec::default() };
        self.broker.create_topic(name, spec).await.unwrap();
    }

    fn after(&self, delay: Duration) -> Timestamp {
        self.clock.now().plus(delay)
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Published> {
        self.broker.publish(Publish { topic: topic(), messages }).await.unwrap()
    }

    /// Sends one, and hands back its recall handle.
    async fn send(&self, id: &str, due: Timestamp) -> String {
        let published = self.publish(vec![message(id, due)]).await;
        published[0].recall_handle.clone().unwrap_or_default()
    }

    async fn recall(&self, handle: &str) -> Result<String, RecallError> {
        self.broker.recall(&topic(), handle).await
    }

    /// Receives and acknowledges what comes within `wait` of the message before.
    async fn drain(&self, wait: Duration) -> Vec<Delivered> {
        let mut all = Vec::new();
        loop {
            let wish = Receive {
                group: group(),
                topic: topic(),
                filter: Filter::ALL,
                batch: 32,
                lease: LeaseWish::Fixed(Duration::from_secs(30)),
                wait,
                client: ClientId("client".into()),
                attempt_id: None,
                ask: Ask::Messages,
            };
            let mut delivery = self.broker.receive(wish).await.unwrap();
            let got: Vec<Delivered> = std::iter::from_fn(|| delivery.next()).collect();
            if got.is_empty() {
                return all;
            }
            let handles: Vec<String> = got.iter().map(|one| one.handle.clone()).collect();
            self.broker.ack(&group(), &topic(), &handles).await.unwrap();
            all.extend(got);
        }
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.clock.sleep_until(at).await;
    }

    /// Everything decided so far is folded.
    async fn settled(&self) {
        assert!(self.broker.store().wait_folded(self.broker.store().log_end()).await);
    }

    fn held(&self) -> usize {
        self.broker.store().delays_from(HoldKey::default(), 100_000).unwrap().len()
    }
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    let mut ids: Vec<&str> = delivered.iter().map(|one| one.message.message_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_delayed_message_is_never_early_and_hardly_late() {
    world().timed_life(async |life| {
        life.create().await;
        let due = life.after(5 * SECOND + Duration::from_millis(7));
        assert!(!life.send("a", due).await.is_empty());
        let got = life.drain(20 * SECOND).await;
        assert_eq!(ids(&got), ["a"]);
        let stored = got[0].message.stored_at;
        assert!(stored >= due && stored.since(due) < Duration::from_millis(100), "{stored} {due}");
        assert_eq!((got[0].message_type, got[0].attempt), (MessageType::Delay, 1));
        assert!(got[0].message.rest.starts_with(b"body of a"));
        life.settled().await;
        assert_eq!(life.held(), 0);
    });
}

#[test]
fn a_past_time_delivers_at_once_and_leaves_nothing_to_recall() {
    world().timed_life(async |life| {
        life.create().await;
        assert_eq!(life.send("past", Timestamp(1)).await, "");
        assert_eq!(life.send("now", life.clock.now()).await, "");
        let began = life.clock.now();
        assert_eq!(ids(&life.drain(Duration::from_millis(10)).await), ["now", "past"]);
        assert!(life.clock.now().since(began) < SECOND);
    });
}

#[test]
fn each_message_of_a_batch_has_its_own_time_and_handle() {
    world().timed_life(async |life| {
        life.create().await;
        let (soon, later) = (life.after(SECOND), life.after(60 * SECOND));
        let batch = vec![message("now", Timestamp(1)), message("soon", soon), message("later", later)];
        let published = life.publish(batch).await;
        assert!(published[0].recall_handle.is_none());
        let handles: Vec<&String> = published.iter().filter_map(|one| one.recall_handle.as_ref()).collect();
        assert_eq!(handles.len(), 2);
        assert_eq!(life.recall(handles[1]).await, Ok("later".to_owned()));
        assert_eq!(ids(&life.drain(120 * SECOND).await), ["now", "soon"]);
    });
}

#[test]
fn a_kill_loses_no_delayed_message_and_delivers_none_twice() {
    let mut world = world();
    world.timed_life(async |life| {
        life.create().await;
        for number in 0..40 {
            life.send(&format!("m{number:02}"), life.after(SECOND * number)).await;
        }
        life.sleep_until(life.after(10 * SECOND)).await;
    });
    world.now = world.now.plus(5 * SECOND);
    let got = world.timed_life(async |life| {
        let mut got = life.drain(SECOND / 2).await;
        life.sleep_until(life.after(5 * SECOND)).await;
        got.extend(life.drain(SECOND / 2).await);
        got
    });
    let rest = world.timed_life(async |life| life.drain(60 * SECOND).await);
    let all: Vec<Delivered> = got.into_iter().chain(rest).collect();
    let expected: Vec<String> = (0..40).map(|number| format!("m{number:02}")).collect();
    assert_eq!(ids(&all), expected);
}

#[test]
fn more_timers_than_fit_into_memory_fire_all_the_same() {
    let mut world = world();
    world.options.delays_in_memory_max = 8;
    world.timed_life(async |life| {
        life.create().await;
        let begin = life.after(10 * SECOND);
        // In no order of time.
        for number in 0..200u32 {
            let due = begin.plus(Duration::from_millis(u64::from(number * 37 % 200) * 50));
            life.send(&format!("m{number:03}"), due).await;
        }
        assert!(life.broker.delays().1 <= 8);
        life.sleep_until(begin.plus(SECOND)).await;
    });
    world.timed_life(async |life| {
        let got = life.drain(60 * SECOND).await;
        assert_eq!(got.len(), 200);
        let mut ids = ids(&got);
        ids.dedup();
        assert_eq!(ids.len(), 200);
        life.settled().await;
        assert_eq!(life.held(), 0);
    });
}

#[test]
fn a_recall_says_ok_only_when_nobody_gets_the_message() {
    let mut world = world();
    world.options.delays_in_memory_max = 4;
    let (near, far, fired) = world.timed_life(async |life| {
        life.create().await;
        let fired = life.send("fired", life.after(SECOND)).await;
        let near = life.send("near", life.after(30 * SECOND)).await;
        for number in 0..20 {
            life.send(&format!("other{number}"), life.after(60 * SECOND)).await;
        }
        let far = life.send("far", life.after(HOUR / 2)).await;
        assert_eq!(life.recall(&near).await, Ok("near".to_owned()));
        assert_eq!(life.recall(&near).await, Ok("near".to_owned()), "the client that lost the answer asks again");
        assert_eq!(life.recall(&far).await, Ok("far".to_owned()), "not in memory");
        assert_eq!(life.recall(&far).await, Ok("far".to_owned()));
        life.sleep_until(life.after(2 * SECOND)).await;
        assert_eq!(life.recall(&fired).await, Err(RecallError::TooLate));
        (near, far, fired)
    });
    let got = world.timed_life(async |life| {
        assert_eq!(life.recall(&near).await, Ok("near".to_owned()), "after a kill");
        assert_eq!(life.recall(&far).await, Ok("far".to_owned()));
        assert_eq!(life.recall(&fired).await, Err(RecallError::TooLate));
        let mut got = life.drain(90 * SECOND).await;
        life.sleep_until(life.after(HOUR)).await;
        got.extend(life.drain(SECOND).await);
        assert_eq!(life.recall(&near).await, Ok("near".to_owned()), "after its time");
        got
    });
    assert_eq!(got.len(), 21);
    assert!(!ids(&got).contains(&"near") && !ids(&got).contains(&"far"));
    world.now = world.now.plus(25 * HOUR);
    world.timed_life(async |life| {
        life.sleep_until(life.after(30 * SECOND)).await;
        life.settled().await;
        assert_eq!(life.broker.store().first_recalled().unwrap(), None, "recalls are not remembered for ever");
        assert_eq!(life.recall(&near).await, Err(RecallError::NotFound));
        assert_eq!(life.recall(&fired).await, Err(RecallError::NotFound));
    });
}

#[test]
fn a_recall_that_races_the_firing_is_true_whoever_wins() {
    for ahead_ms in 0..20 {
        world().timed_life(async |life| {
            life.create().await;
            let due = life.after(SECOND);
            let handle = life.send("m", due).await;
            life.sleep_until(due.minus(Duration::from_millis(10)).plus(Duration::from_millis(ahead_ms))).await;
            let recalled = life.recall(&handle).await;
            let got = life.drain(5 * SECOND).await;
            match &recalled {
                Ok(_) => assert!(got.is_empty(), "recalled and delivered"),
                Err(error) => {
                    assert_eq!(error, &RecallError::TooLate);
                    assert_eq!(ids(&got), ["m"], "neither recalled nor delivered");
                }
            }
            if ahead_ms < 10 {
                assert!(recalled.is_ok(), "before its time it can be recalled");
            }
        });
    }
}

#[test]
fn a_recall_handle_is_worth_nothing_elsewhere() {
    world().timed_life(async |life| {
        life.create().await;
        let (other, normal) = (TopicName::new("", "other").unwrap(), TopicName::new("", "normal").unwrap());
        life.create_as(other.clone(), TopicType::Mixed).await;
        life.create_as(normal.clone(), TopicType::Normal).await;
        let handle = life.send("m", life.after(10 * SECOND)).await;
        assert_eq!(life.broker.recall(&other, &handle).await, Err(RecallError::NotFound));
        assert_eq!(life.broker.recall(&normal, &handle).await, Err(RecallError::WrongType(normal.clone())));
        let missing = TopicName::new("", "missing").unwrap();
        assert_eq!(life.broker.recall(&missing, &handle).await, Err(RecallError::TopicNotFound(missing.clone())));
        for bad in ["", "x", "no base64 at all!", &handle[1..], &format!("{handle}A")] {
            assert_eq!(life.recall(bad).await, Err(RecallError::BadHandle), "{bad}");
        }
        let mut forged = handle.clone().into_bytes();
        forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
        assert_eq!(life.recall(&String::from_utf8(forged).unwrap()).await, Err(RecallError::BadHandle));
        let got = life.drain(20 * SECOND).await;
        assert_eq!(ids(&got), ["m"], "none of these recalled it");
        assert_eq!(life.recall(&got[0].handle).await, Err(RecallError::BadHandle), "a receipt is no recall handle");
        life.broker.delete_topic(&topic()).await.unwrap();
        life.create().await;
        assert_eq!(life.recall(&handle).await, Err(RecallError::NotFound), "another topic of the same name");
    });
}

#[test]
fn delayed_messages_of_a_deleted_topic_go_nowhere_and_leave_nothing() {
    let mut world = world();
    world.timed_life(async |life| {
        life.create().await;
        life.send("a", life.after(10 * SECOND)).await;
        life.send("b", life.after(20 * SECOND)).await;
        life.broker.delete_topic(&topic()).await.unwrap();
        life.create().await;
        life.sleep_until(life.after(15 * SECOND)).await;
    });
    world.timed_life(async |life| {
        assert!(life.drain(30 * SECOND).await.is_empty());
        life.settled().await;
        assert_eq!(life.held(), 0);
    });
}

#[test]
fn a_message_group_keeps_its_queue_when_it_fires() {
    world().timed_life(async |life| {
        life.create_as(topic(), TopicType::Mixed).await;
        let mut messages = Vec::new();
        for number in 0..6 {
            let mut one = message(&format!("m{number}"), life.after(SECOND));
            one.message_group = "group".to_owned();
            messages.push(one);
        }
        life.publish(messages).await;
        let got = life.drain(5 * SECOND).await;
        assert_eq!(got.len(), 6);
        assert!(got.iter().all(|one| one.queue == got[0].queue && one.message_group == "group"), "{got:?}");
    });
}

#[test]
fn retention_takes_no_message_before_its_time() {
    let mut world = world();
    world.segment_bytes = 16 * 1024;
    let (start, due, handle) = world.timed_life(async |life| {
        life.create().await;
        let due = life.after(5 * HOUR);
        for number in 0..30 {
            life.send(&format!("far{number:02}"), due).await;
        }
        let handle = life.send("recalled", due).await;
        let kept = life.send("kept", due).await;
        life.recall(&handle).await.unwrap();
        // Fills segments with what may leave.
        for _ in 0..4 {
            for number in 0..100 {
                life.send(&format!("near{number}"), life.after(SECOND)).await;
            }
            life.sleep_until(life.after(HOUR / 2)).await;
        }
        life.sleep_until(life.after(HOUR)).await;
        life.settled().await;
        let start = life.broker.store().log_start();
        assert!(start > LogPosition(64 * 1024), "segments have left: the log begins at {start}");
        assert_eq!(life.held(), 31);
        let rows = life.broker.store().delays_from(HoldKey::default(), 100).unwrap();
        assert!(rows.iter().all(|(_, held)| held.at.position >= start), "a body lies where the log is no more");
        (start, due, kept)
    });
    world.timed_life(async |life| {
        assert_eq!(life.broker.store().log_start(), start);
        assert_eq!(life.recall(&handle).await, Ok("kept".to_owned()), "the handle is as good after the body moved");
        life.sleep_until(due).await;
        let got = life.drain(5 * SECOND).await;
        let far = got.iter().filter(|one| one.message.message_id.starts_with("far")).count();
        assert_eq!(far, 30, "{:?}", ids(&got));
        assert!(!ids(&got).contains(&"recalled") && !ids(&got).contains(&"kept"));
    });
}

#[test]
fn a_jump_of_the_clock_fires_what_it_passes() {
    world().timed_life(async |life| {
        life.create().await;
        life.send("a", life.after(10 * HOUR)).await;
        let waiting = tokio::spawn({
            let broker = life.broker.clone();
            let clock = life.clock.clone();
            async move { Life { broker, clock }.drain(20 * SECOND).await.len() }
        });
        tokio::task::yield_now().await;
        life.clock.skew_by(10 * 3_600_000 + 1);
        assert_eq!(waiting.await.unwrap(), 1);
    });
}
