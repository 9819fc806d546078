//! What an old owner answers, and what a new one asks.

use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Notify;

use super::*;
use crate::broker::delivery::fifo_rig::{GROUP, LEASE, TOPIC};
use crate::broker::delivery::subscription::Wish;
use crate::broker::delivery::testing::terms;
use crate::model::cluster::{PastPlacement, Placement, owner};
use crate::model::filter::Filter;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, LogPosition, QueueId, RecordAt};
use crate::model::receipt::Receipt;
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::record::{MessageHead, Unit};

const NOW: Timestamp = Timestamp(10);
const OWN: ShardId = ShardId(0);
const OTHER: ShardId = ShardId(1);

/// A topic with one queue, and one ordered group on it; everything stays in memory.
struct Rig {
    core: Core,
    grants: u64,
}

impl Rig {
    fn new() -> Self {
        let topic = Topic {
            id: TOPIC,
            name: TopicName::trusted("", "t"),
            topic_type: TopicType::Fifo,
            queues: 1,
            permission: Permission::default(),
            promise: Promise::Durable,
            retention: None,
            lite_ttl: None,
        };
        let mut core = Core::new(1_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
        core.put_topic(Arc::new(topic), None);
        let group = Arc::new(Group::with_defaults(GROUP, GroupName::trusted("", "g")));
        core.put_subscription(TOPIC, Subscription::new(group, vec![QueueState::default()]));
        Self { core, grants: 0 }
    }

    fn send(&mut self, key: u64) {
        let queue = QueueId(0);
        let offset = self.core.accepted(TOPIC, queue).unwrap();
        self.core.accept(TOPIC, queue, 1);
        let promise = Promise::Durable;
        let head = MessageHead {
            topic: TOPIC,
            queue,
            offset,
            stored_at: NOW,
            tag_hash: 0,
            body_bytes: 1,
            promise,
            order_key: key,
        };
        self.core.show(&head, RecordAt { position: LogPosition(offset.get() * 100), length: 100 });
    }

    fn place(&mut self, placement: Placement) {
        let fences = self.core.fences(TOPIC).fences;
        let order = self.core.topic(TOPIC).unwrap().shards.followed_by(OWN, Arc::new(placement), &fences);
        self.core.place(TOPIC, order);
    }

    fn receive(&mut self, max: usize) -> Vec<u64> {
        for _ in 0..100 {
            self.grants += 1;
            let wish = Wish {
                topic: TOPIC,
                group: GROUP,
                filter: &Filter::ALL,
                max,
                outstanding_max: 100,
                terms: terms(self.grants, NOW.millis() + LEASE),
                steady: Timestamp(0),
            };
            let found = self.core.select(&wish, NOW, &mut Unit::state());
            if !found.more {
                return found.grants.iter().map(|(_, grant)| grant.entry.offset.get()).collect();
            }
        }
        panic!("a receive that looks for ever");
    }

    fn ack(&mut self, offset: u64, key: u64) {
        let receipt = Receipt {
            shard: OWN,
            group: GROUP,
            topic: TOPIC,
            queue: QueueId(0),
            offset: QueueOffset(offset),
            attempt: 1,
            grant: GrantId(self.grants),
            lease_end: Timestamp(NOW.millis() + LEASE),
            order_key: key,
        };
        self.core.ack(&receipt, NOW, &mut Vec::new(), &mut Unit::state());
    }

    fn done(&self, keys: &[u64]) -> Vec<bool> {
        self.core.lanes_done(TOPIC, GROUP, 1, keys)
    }
}

fn past(shards: &[ShardId], generation: u32) -> PastPlacement {
    PastPlacement { generation, shards: shards.to_vec() }
}

#[test]
fn a_lane_is_done_when_all_below_the_fence_is_considered_and_acknowledged_and_what_comes_after_does_not_count() {
    let mut rig = Rig::new();
    rig.send(7);
    rig.send(8);
    assert_eq!(rig.done(&[WHOLE_SHARD, 7]), [false, false], "not sealed, nor known to have been");
    rig.place(Placement { generation: 1, moving: Some(vec![OTHER]), ..Placement::first(vec![OWN]) });
    rig.send(7);
    assert_eq!(rig.done(&[WHOLE_SHARD, 7, 8, 9]), [false; 4], "nobody has looked: any may be there");
    assert_eq!(rig.receive(2), [0, 1]);
    assert_eq!(rig.done(&[WHOLE_SHARD, 7, 8, 9]), [false, false, false, true]);
    rig.ack(0, 7);
    assert_eq!(rig.done(&[WHOLE_SHARD, 7, 8]), [false, true, false], "the last of 7 lies above the fence");
    rig.place(Placement { generation: 1, past: vec![past(&[OWN], 1)], ..Placement::first(vec![OTHER]) });
    rig.core.begin_at(TOPIC, GROUP, QueueId(0), QueueOffset(2));
    assert_eq!(rig.done(&[WHOLE_SHARD, 7, 8]), [true; 3]);
    assert!(rig.core.drained(TOPIC).is_empty(), "it leaves, and holds one more");
    assert_eq!(rig.receive(2), [2]);
    rig.ack(2, 7);
    assert_eq!(rig.core.drained(TOPIC), [1]);
    rig.place(Placement { generation: 1, ..Placement::first(vec![OTHER]) });
    assert_eq!(rig.done(&[7]), [true], "over and forgotten");
    assert_eq!(rig.core.lanes_done(TOPIC, GROUP, 2, &[7]), [false], "of something newer than what is known here");
}

#[test]
fn what_was_passed_over_because_its_lane_is_stuck_is_not_done() {
    let mut rig = Rig::new();
    (0..20).for_each(|_| rig.send(7));
    rig.place(Placement { generation: 1, moving: Some(vec![OTHER]), ..Placement::first(vec![OWN]) });
    assert_eq!(rig.receive(1), [0]);
    assert_eq!(rig.receive(1), [0; 0], "all others are passed over, most of them not in memory any more");
    let state = &rig.core.topic(TOPIC).unwrap().subscriptions[&GROUP].queues[0];
    assert_eq!(state.leases.next(), QueueOffset(20));
    rig.grants -= 1;
    rig.ack(0, 7);
    assert_eq!(rig.done(&[WHOLE_SHARD, 7, 8]), [false, false, true]);
}

#[test]
fn all_lanes_that_wait_are_asked_for_and_go_on_one_by_one_or_together() {
    let mut rig = Rig::new();
    let keys: Vec<u64> = (1..500).filter(|key| owner(*key, &[OWN, OTHER]) == Some(OTHER)).take(5).collect();
    let own = (1..500).find(|key| owner(*key, &[OWN, OTHER]) == Some(OWN)).unwrap();
    rig.place(Placement { generation: 1, past: vec![past(&[OWN, OTHER], 1)], ..Placement::first(vec![OWN]) });
    keys.iter().for_each(|key| rig.send(*key));
    rig.send(own);
    let (notify, id) = (Arc::new(Notify::new()), rig.core.new_waiter());
    assert_eq!(rig.receive(9), [5], "what was here all the time waits for nothing");
    assert!(rig.core.far_wanted.notified().now_or_never().is_some());
    let questions = rig.core.questions();
    assert_eq!(questions.len(), 3);
    let asked: Vec<u64> = questions.iter().flat_map(|question| question.keys[1..].iter().copied()).collect();
    assert_eq!(asked, keys);
    assert!(questions.iter().all(|question| question.keys[0] == WHOLE_SHARD && question.shard == OTHER));
    rig.core.wait(TOPIC, GROUP, id, &Filter::ALL, &notify);
    assert!(!rig.core.answered(&questions[0], &[false, false, false]));
    assert!(notify.notified().now_or_never().is_none());
    assert!(rig.core.answered(&questions[0], &[false, false, true]));
    assert!(notify.notified().now_or_never().is_some(), "who waits hears of it");
    assert_eq!(rig.receive(9), [1]);
    assert_eq!(rig.core.questions().len(), 2, "one less to ask for");
    assert!(rig.core.answered(&questions[1], &[true, false, false]));
    assert_eq!(rig.receive(9), [0, 2, 3, 4]);
    assert!(rig.core.questions().is_empty());
}

#[test]
fn lanes_go_on_when_the_order_they_wait_for_is_forgotten() {
    let mut rig = Rig::new();
    rig.place(Placement { generation: 1, past: vec![past(&[OTHER], 1)], ..Placement::first(vec![OWN]) });
    rig.send(7);
    assert_eq!(rig.receive(9), [0; 0]);
    rig.place(Placement { generation: 1, ..Placement::first(vec![OWN]) });
    assert_eq!(rig.receive(9), [0]);
}
