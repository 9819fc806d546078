//! One ordered group on one queue, with the log behind it as the plainest possible fold of its records, and a disk that is read
//! only when it is asked for. For the tests of order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::broker::delivery::core::{Core, ordering};
use crate::broker::delivery::fifo::READ_BACK_MAX;
use crate::broker::delivery::lease::{Changed, Counts, Grant, Standing};
use crate::broker::delivery::settlement::Acked;
use crate::broker::delivery::subscription::{Missing, QueueState, Subscription, Wish};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::testing::{grouped, terms};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, GroupId, LogPosition, QueueId, QueueOffset, ShardId, TopicId};
use crate::model::receipt::Receipt;
use crate::model::tag::{TagFilter, tag_hash};
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::QueueEntry;
use crate::store::record::{LeaseState, MessageHead, Record, SettleReason, Unit, decode, walk};

pub const TOPIC: TopicId = TopicId(1);
pub const GROUP: GroupId = GroupId(1);
pub const QUEUE: QueueId = QueueId(0);
pub const LEASE: u64 = 100;

/// What records leave behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Folded {
    pub first: QueueOffset,
    pub next: QueueOffset,
    pub leases: BTreeMap<QueueOffset, (u32, LeaseState)>,
    pub lanes: BTreeMap<u64, QueueOffset>,
}

impl Folded {
    pub fn apply(&mut self, unit: &Unit) {
        for found in walk(Bytes::copy_from_slice(unit.bytes()), LogPosition(0)) {
            let record = decode(&found.unwrap().1).unwrap();
            match record {
                Record::Granted { next, lease, items, .. } => {
                    self.next = next;
                    self.leases.extend(items.into_iter().map(|(offset, attempt)| (offset, (attempt, lease))));
                }
                Record::LeaseChanged { offset, attempt, lease, .. } => {
                    self.leases.insert(offset, (attempt, lease));
                }
                Record::Settled { offsets, .. } => self.leases.retain(|offset, _| !offsets.contains(offset)),
                Record::Advanced { next, .. } => self.next = next,
                Record::LaneParked { order_key, from, .. } => match from {
                    Some(from) => drop(self.lanes.insert(order_key, from)),
                    None => drop(self.lanes.remove(&order_key)),
                },
                Record::Trimmed { first, .. } => {
                    self.first = first;
                    self.next = self.next.max(first);
                    self.leases.retain(|offset, _| *offset >= first);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

pub struct Rig {
    pub core: Core,
    pub entries: Vec<QueueEntry>,
    pub folded: Folded,
    pub now: u64,
    pub grants: u64,
    /// The last receive that got something.
    pub last: u64,
    pub group: Group,
    pub topic: Topic,
}

impl Rig {
    pub fn new(topic_type: TopicType, ordered: Option<bool>, max_attempts: u32) -> Self {
        let topic = Topic {
            id: TOPIC,
            name: TopicName::trusted("", "t"),
            topic_type,
            queues: 1,
            permission: Permission::default(),
            promise: Promise::Durable,
            retention: None,
            lite_ttl: None,
        };
        let group = Group { max_attempts, ordered, ..Group::with_defaults(GROUP, GroupName::trusted("", "g")) };
        let core = Core::new(1_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut rig =
            Self { core, entries: Vec::new(), folded: Folded::default(), now: 1, grants: 0, last: 0, group, topic };
        rig.restart();
        rig
    }

    /// An ordered group with 17 attempts.
    pub fn fifo() -> Self {
        Self::new(TopicType::Fifo, None, 17)
    }

    /// All that is left is what the records said.
    pub fn restart(&mut self) {
        self.core = Core::new(1_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
        let tail = QueueTail::restored(self.folded.first, QueueOffset(self.entries.len() as u64));
        self.core.put_topic(Arc::new(self.topic.clone()), Some(vec![tail]));
        let mut queue = QueueState::starting_at(self.folded.next);
        for (offset, (attempt, lease)) in &self.folded.leases {
            assert!(*offset < self.folded.next, "I-4");
            queue.leases.restore(self.entries[usize::try_from(offset.get()).unwrap()], *attempt, *lease);
        }
        for (key, from) in &self.folded.lanes {
            let is_behind = |entry: &&QueueEntry| {
                entry.order_key == *key
                    && (*from..self.folded.next).contains(&entry.offset)
                    && entry.offset >= self.folded.first
            };
            queue.leases.restore_lane(*key, *from, self.entries.iter().filter(is_behind).count() as u64);
        }
        let mut subscription = Subscription::new(Arc::new(self.group.clone()), vec![queue]);
        subscription.restore_ordering(ordering(&self.group, &self.topic));
        self.core.put_subscription(TOPIC, subscription);
        self.core.fall_due(Timestamp(self.now));
    }

    pub fn send(&mut self, key: u64, tag: &str) -> u64 {
        let offset = self.entries.len() as u64;
        let entry = QueueEntry { tag_hash: tag_hash(tag), ..grouped(offset, key) };
        self.entries.push(entry);
        self.core.accept(TOPIC, QUEUE, 1);
        let head = MessageHead {
            topic: TOPIC,
            queue: QUEUE,
            offset: entry.offset,
            stored_at: entry.stored_at,
            tag_hash: entry.tag_hash,
            body_bytes: entry.body_bytes,
            promise: Promise::Durable,
            order_key: key,
        };
        self.core.show(&head, entry.at);
        offset
    }

    /// Entries in memory are forgotten, as if all were folded and memory were needed.
    pub fn forget(&mut self) {
        let tail = QueueTail::restored(self.folded.first, QueueOffset(self.entries.len() as u64));
        if let Some(state) = self.core.topics.get_mut(&TOPIC) {
            state.tails[0] = tail;
        }
    }

    /// One receive that does not wait: as often as the disk must be read.
    pub fn receive_with(&mut self, filter: &str, max: usize) -> Vec<Grant> {
        let filter = TagFilter::parse(filter).unwrap().into();
        for _ in 0..10_000 {
            self.grants += 1;
            let mut terms = terms(self.grants, self.now + LEASE);
            terms.attempt_key = self.grants;
            let steady = Timestamp(self.now);
            let wish = Wish { topic: TOPIC, group: GROUP, filter: &filter, max, outstanding_max: 1_000, terms, steady };
            let mut unit = Unit::state();
            let selection = self.core.select(&wish, Timestamp(self.now), &mut unit);
            self.folded.apply(&unit);
            if !selection.grants.is_empty() {
                self.last = self.grants;
                return selection.grants.into_iter().map(|(_, grant)| grant).collect();
            }
            match selection.missing {
                Some((queue, Missing::Queue(from))) => {
                    let from = usize::try_from(from.get()).unwrap();
                    let read = self.entries[from..].iter().take(3).copied().collect();
                    self.core.read_ahead(TOPIC, GROUP, queue, read);
                }
                Some((queue, Missing::Lane(key, from))) => {
                    // The fold is behind by one message, if that is still in memory.
                    let all = self.entries.len() as u64;
                    let tail = &self.core.topics[&TOPIC].tails[0];
                    let is_recent = tail.recent(QueueOffset(all.saturating_sub(1))).is_some();
                    let folded = QueueOffset(if is_recent { all - 1 } else { all });
                    let lane = self
                        .entries
                        .iter()
                        .filter(|entry| entry.order_key == key && entry.offset >= from && entry.offset < folded);
                    let read: Vec<QueueEntry> = lane.take(READ_BACK_MAX).copied().collect();
                    let is_cut = read.len() >= READ_BACK_MAX;
                    let complete = read.last().filter(|_| is_cut).map_or(folded, |last| last.offset.next());
                    self.core.read_back((TOPIC, GROUP, queue), (key, from), &read, complete);
                }
                None if selection.more => {}
                None => return Vec::new(),
            }
        }
        panic!("a receive that looks for ever");
    }

    /// Offsets and attempts.
    pub fn receive(&mut self, max: usize) -> Vec<(u64, u32)> {
        self.receive_with("*", max).iter().map(|grant| (grant.entry.offset.get(), grant.attempt)).collect()
    }

    pub fn receipt(&self, offset: u64, grant: u64) -> Receipt {
        let entry = &self.entries[usize::try_from(offset).unwrap()];
        Receipt {
            shard: ShardId(0),
            group: GROUP,
            topic: TOPIC,
            queue: QUEUE,
            offset: entry.offset,
            attempt: 1,
            grant: GrantId(grant),
            lease_end: Timestamp(self.now + LEASE),
            order_key: entry.order_key,
        }
    }

    pub fn ack_of(&mut self, offset: u64, grant: u64) -> Acked {
        let (receipt, mut settled, mut unit) = (self.receipt(offset, grant), Vec::new(), Unit::state());
        let acked = self.core.ack(&receipt, Timestamp(self.now), &mut settled, &mut unit);
        Core::record_settled(TOPIC, GROUP, SettleReason::Acked, settled, &mut unit);
        self.folded.apply(&unit);
        acked
    }

    /// By the last receive that got something.
    pub fn ack(&mut self, offset: u64) -> Acked {
        self.ack_of(offset, self.last)
    }

    pub fn nack(&mut self, offset: u64, grant: u64, after: u64) -> Option<Changed> {
        let receipt = self.receipt(offset, grant);
        let now = Timestamp(self.now);
        let Standing::Current { attempt, .. } = self.core.standing(&receipt, now) else { return None };
        let mut unit = Unit::state();
        let changed = self.core.nack(&receipt, attempt, Timestamp(self.now + after), now, &mut unit);
        self.folded.apply(&unit);
        changed
    }

    pub fn extend(&mut self, offset: u64, grant: u64, until: u64) {
        let receipt = self.receipt(offset, grant);
        if let Standing::Current { attempt, terms } = self.core.standing(&receipt, Timestamp(self.now)) {
            let mut unit = Unit::state();
            self.core.extend(&receipt, attempt, terms, Timestamp(until), &mut unit);
            self.folded.apply(&unit);
        }
    }

    pub fn give_back(&mut self, grants: &[Grant]) {
        let grants: Vec<_> = grants.iter().map(|grant| (QUEUE, *grant)).collect();
        let mut unit = Unit::state();
        self.core.give_back(TOPIC, GROUP, &grants, &mut unit);
        self.folded.apply(&unit);
    }

    /// Moves the next condemned message to the dead letters.
    pub fn bury(&mut self) -> Option<u64> {
        loop {
            let which = self.core.pop_condemned()?;
            if self.core.condemned_entry(&which).is_none() {
                continue;
            }
            let mut unit = Unit::state();
            let done = self.core.buried_with(&which);
            Core::record_settled(TOPIC, GROUP, SettleReason::DeadLettered, done, &mut unit);
            self.core.bury(&which, None);
            self.folded.apply(&unit);
            return Some(which.offset.get());
        }
    }

    pub fn trim(&mut self, first: u64) {
        let mut unit = Unit::state();
        let first = QueueOffset(first);
        unit.push(&Record::Trimmed { topic: TOPIC, queue: QUEUE, first });
        self.core.trim(TOPIC, QUEUE, first, &mut unit);
        self.folded.apply(&unit);
    }

    pub fn set_ordered(&mut self, ordered: Option<bool>) {
        self.group.ordered = ordered;
        self.core.put_group(&Arc::new(self.group.clone()));
    }

    pub fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.core.fall_due(Timestamp(self.now));
    }

    pub fn standing(&self, offset: u64, grant: u64) -> Standing {
        self.core.standing(&self.receipt(offset, grant), Timestamp(self.now))
    }

    /// Lanes in memory, and entries behind their windows.
    pub fn in_memory(&self) -> (usize, u64) {
        let lanes = self.core.topics[&TOPIC].subscriptions[&GROUP].queues[0].leases.lanes();
        (lanes.count(), lanes.in_memory() as u64)
    }

    /// What people see of the group's lag.
    pub fn counts(&self) -> Counts {
        self.core.topics[&TOPIC].subscriptions[&GROUP].queues[0].leases.counts()
    }
}
