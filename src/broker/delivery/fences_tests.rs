//! Message groups that moved because queues were added: never ahead of what they left behind, and never waiting for what follows.

use std::cell::Cell;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::Notify;

use crate::broker::delivery::core::Core;
use crate::broker::delivery::fifo::{Fence, Gate, Ordering};
use crate::broker::delivery::fifo_rig::{GROUP, LEASE, TOPIC};
use crate::broker::delivery::lease::{Offered, QueueLeases};
use crate::broker::delivery::ordered::{Room, Want};
use crate::broker::delivery::subscription::{QueueState, Subscription, Wish};
use crate::broker::delivery::testing::{grouped, terms};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::order::queue_of;
use crate::model::position::{GrantId, LogPosition, QueueId, QueueOffset, RecordAt, ShardId};
use crate::model::receipt::Receipt;
use crate::model::tag::{TagFilter, tag_hash};
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::record::{MessageHead, Unit};

const NOW: Timestamp = Timestamp(10);

/// A topic that grows, and one ordered group on it; everything stays in memory.
struct Growing {
    core: Core,
    topic: Topic,
    grants: u64,
}

impl Growing {
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
        core.put_topic(Arc::new(topic.clone()), None);
        let group = Arc::new(Group::with_defaults(GROUP, GroupName::trusted("", "g")));
        core.put_subscription(TOPIC, Subscription::new(group, vec![QueueState::default()]));
        Self { core, topic, grants: 0 }
    }

    fn grow(&mut self, queues: u32) {
        let growth = self.core.fences(TOPIC);
        self.topic.queues = queues;
        self.core.put_topic(Arc::new(self.topic.clone()), None);
        self.core.add_growth(TOPIC, growth);
    }

    /// Accepted, and not yet visible.
    fn accept(&mut self, key: u64, tag: &str) -> MessageHead {
        let queue = queue_of(key, self.topic.queues);
        let offset = self.core.accepted(TOPIC, queue).unwrap();
        self.core.accept(TOPIC, queue, 1);
        let (tag_hash, promise) = (tag_hash(tag), Promise::Durable);
        MessageHead { topic: TOPIC, queue, offset, stored_at: NOW, tag_hash, body_bytes: 1, promise, order_key: key }
    }

    fn show(&mut self, head: &MessageHead) {
        self.core.show(head, RecordAt { position: LogPosition(head.offset.get() * 100), length: 100 });
    }

    fn send(&mut self, key: u64) {
        let head = self.accept(key, "");
        self.show(&head);
    }

    fn receive(&mut self, filter: &str) -> Vec<(u32, u64)> {
        let filter = TagFilter::parse(filter).unwrap().into();
        for _ in 0..100 {
            self.grants += 1;
            let terms = terms(self.grants, NOW.millis() + LEASE);
            let wish = Wish {
                topic: TOPIC,
                group: GROUP,
                filter: &filter,
                max: 32,
                outstanding_max: 100,
                terms,
                steady: Timestamp(0),
            };
            let found = self.core.select(&wish, NOW, &mut Unit::state());
            if !found.more {
                return found.grants.iter().map(|(queue, grant)| (queue.get(), grant.entry.offset.get())).collect();
            }
        }
        panic!("a receive that looks for ever");
    }

    fn ack(&mut self, (queue, offset): (u32, u64), grant: u64) {
        let receipt = Receipt {
            shard: ShardId(0),
            group: GROUP,
            topic: TOPIC,
            queue: QueueId(queue),
            offset: QueueOffset(offset),
            attempt: 1,
            grant: GrantId(grant),
            lease_end: Timestamp(NOW.millis() + LEASE),
            order_key: 1,
        };
        let acked = self.core.ack(&receipt, NOW, &mut Vec::new(), &mut Unit::state());
        assert_eq!(acked, crate::broker::delivery::settlement::Acked::Now);
    }
}

/// A message group that lives in these queues while there are one, two and three.
fn key_of(queues: [u32; 3]) -> u64 {
    let lives = |key: u64| (1..=3).map(|count| queue_of(key, count).get()).eq(queues);
    (1..100_000).find(|key| lives(*key)).unwrap()
}

#[test]
fn a_group_that_moved_twice_is_delivered_in_order_and_does_not_wait_for_itself() {
    let mut rig = Growing::new();
    let key = key_of([0, 1, 2]);
    rig.send(key);
    rig.grow(2);
    rig.send(key);
    rig.grow(3);
    rig.send(key);
    for queue in 0..3 {
        assert_eq!(rig.receive("*"), [(queue, 0)]);
        let grant = rig.grants;
        assert_eq!(rig.receive("*"), [], "everything behind waits for {queue}");
        rig.ack((queue, 0), grant);
    }
    assert_eq!(rig.receive("*"), []);
}

#[test]
fn who_waits_for_a_group_that_moved_hears_that_its_old_queue_was_passed() {
    let mut rig = Growing::new();
    let (stays, moves) = (key_of([0, 0, 0]), key_of([0, 1, 1]));
    let late = rig.accept(stays, "x");
    rig.grow(2);
    let moved = rig.accept(moves, "y");
    rig.show(&moved);
    assert_eq!(rig.receive("y"), [], "its old queue was not looked at up to the fence");
    let (notify, id) = (Arc::new(Notify::new()), rig.core.new_waiter());
    rig.core.wait(TOPIC, GROUP, id, &TagFilter::parse("y").unwrap().into(), &notify);
    rig.show(&late);
    assert!(notify.notified().now_or_never().is_none(), "not a message for it");
    assert_eq!(rig.receive("x"), [(0, 0)]);
    assert!(notify.notified().now_or_never().is_some(), "what it waits for may go now");
    assert_eq!(rig.receive("y"), [(1, 0)]);
}

#[test]
fn lanes_that_wait_for_another_queue_are_not_gone_through_by_every_look() {
    let mut leases = QueueLeases::default();
    leases.set_ordering(Ordering::PerGroup);
    let (gate, mut out) = (Gate::Queue { queue: 0, fence: QueueOffset(9) }, Offered::default());
    for offset in 0..100 {
        assert!(leases.offer_behind(
            &|_, _| Fence::Until(gate),
            grouped(offset, offset + 1),
            Want::Here,
            terms(1, 100),
            &mut out
        ));
    }
    let asked = Cell::new(0);
    let shut = |_, _| {
        asked.set(asked.get() + 1);
        Fence::Until(gate)
    };
    let room = Room { max: 100, outstanding_max: 1_000, terms: terms(2, 100) };
    for expected in [100, 0, 0] {
        asked.set(0);
        leases.grant_lanes(&|_| Want::Here, &shut, &room, &mut out);
        assert_eq!((asked.get(), out.grants.len()), (expected, 0));
        leases.release_lanes(|_| false);
    }
    assert!(leases.has_ready(), "a passed fence must wake whoever waits");
    // One is out of retention meanwhile.
    leases.trim(QueueOffset(1));
    leases.release_lanes(|at| at == gate);
    leases.grant_lanes(&|_| Want::Here, &|_, _| Fence::Open, &room, &mut out);
    // Under test few are in memory; the others must be read back first.
    let got: Vec<u64> = out.grants.iter().map(|grant| grant.entry.offset.get()).collect();
    assert_eq!(got, [1, 2, 3, 4]);
}
