//! The lite topics of one parent with `now` passed in and no log behind them, for tests. Records are kept, so that a restart can be
//! played from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::*;
use crate::broker::api::ClientId;
use crate::broker::delivery::core::Core;
use crate::broker::delivery::lease::{Grant, Standing};
use crate::broker::delivery::settlement::Acked;
use crate::broker::delivery::subscription::{QueueState, Subscription, Wish};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::testing::{entry, terms};
use crate::broker::members::holder_of;
use crate::model::filter::Filter;
use crate::model::group::{Group, StartPosition};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, GroupId, LogPosition, QueueId, QueueOffset, ShardId, TopicId};
use crate::model::receipt::Receipt;
use crate::model::time::Timestamp;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::record::{LeaseState, MessageHead, Record, Unit, decode, walk};

pub const PARENT: TopicId = TopicId(1);
pub const GROUP: GroupId = GroupId(1);

/// A parent topic with one group.
pub struct Lab {
    pub core: Core,
    pub now: Timestamp,
    group: Arc<Group>,
    /// All that was recorded.
    log: Vec<Record>,
    pub limits: LiteLimits,
}

fn empty_core(group: &Arc<Group>) -> Core {
    let mut core = Core::new(1_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let topic = Topic {
        id: PARENT,
        name: TopicName::trusted("", "parent"),
        topic_type: TopicType::Lite,
        queues: 1,
        permission: Permission::default(),
        promise: Promise::Durable,
        retention: None,
        lite_ttl: None,
    };
    core.put_topic(Arc::new(topic), None);
    core.put_subscription(PARENT, Subscription::new(group.clone(), vec![QueueState::default()]));
    core
}

fn want(name: &str, is_wanted: bool) -> Record {
    Record::LiteWanted { topic: PARENT, group: GROUP, name: name.to_owned(), is_wanted }
}

impl Lab {
    pub fn new(exclusive: bool) -> Self {
        let group = Group {
            max_attempts: 1_000,
            lite_exclusive: exclusive,
            ..Group::with_defaults(GROUP, GroupName::trusted("", "g"))
        };
        let group = Arc::new(group);
        let limits = LiteLimits { per_client: 100, left: 1_000 };
        Self { core: empty_core(&group), now: Timestamp(0), group, log: Vec::new(), limits }
    }

    pub fn keep(&mut self, unit: &Unit) {
        for found in walk(Bytes::copy_from_slice(unit.bytes()), LogPosition(0)) {
            self.log.push(decode(&found.unwrap().1).unwrap());
        }
    }

    /// Sends to a lite topic, which comes into being when it is not there.
    pub fn send(&mut self, name: &str, count: u64) -> QueueId {
        let state = self.core.topic(PARENT).unwrap();
        let queue = match state.lite.find(name) {
            Some(queue) => queue,
            None => {
                let queue = state.lite.queue_ahead(0).unwrap();
                let wanting = self.core.lite_groups_wanting(PARENT, name);
                let lite = LiteTopic { name: name.into(), tail: QueueTail::default(), active_at: self.now };
                self.core.put_lite_topic(PARENT, queue, lite);
                self.log.push(Record::LiteTopicPut { topic: PARENT, queue, name: name.to_owned() });
                for (group, is_recorded) in wanting {
                    self.core.put_lite_position(PARENT, group, queue, QueueState::default());
                    self.log.push(Record::Advanced { group, topic: PARENT, queue, next: QueueOffset(0) });
                    if is_recorded {
                        self.core.end_lite_want(PARENT, group, name);
                        self.log.push(want(name, false));
                    }
                }
                queue
            }
        };
        for _ in 0..count {
            let offset = self.core.accepted(PARENT, queue).unwrap();
            self.core.accept(PARENT, queue, 1);
            self.show(queue, offset);
        }
        queue
    }

    pub fn show(&mut self, queue: QueueId, offset: QueueOffset) {
        let entry = entry(offset.get());
        let head = MessageHead {
            topic: PARENT,
            queue,
            offset,
            stored_at: self.now,
            tag_hash: 0,
            body_bytes: 10,
            promise: Promise::Durable,
            order_key: 0,
        };
        self.core.show(&head, entry.at);
    }

    pub fn sync(
        &mut self,
        client: &str,
        action: LiteAction,
        names: &BTreeSet<String>,
        start: Option<LiteStart>,
        version: Option<i64>,
    ) -> Result<Vec<(String, String)>, LiteRefusal> {
        let client = ClientId(client.into());
        let wish = LiteWish {
            client: &client,
            holder: holder_of(&client),
            action,
            names,
            version,
            exclusive: self.group.lite_exclusive,
        };
        let mut unit = Unit::state();
        let begins = LiteBegin { start, group_start: StartPosition::Earliest, by_time: &BTreeMap::new() };
        let used = self.core.lite_subscriptions();
        let limits = LiteLimits { left: self.limits.left - used, ..self.limits };
        let plan = self.core.plan_lite(PARENT, GROUP, &wish, limits, &begins, &mut unit)?;
        self.keep(&unit);
        let evicted = self.core.apply_lite(PARENT, GROUP, &wish, &plan, self.now);
        Ok(evicted.into_iter().map(|(client, name)| (client.0.to_string(), name.to_string())).collect())
    }

    pub fn receive(&mut self, client: &str, max: usize, grant: u64, lease: u64) -> BTreeMap<QueueId, Vec<(u64, u32)>> {
        let mut terms = terms(grant, self.now.millis() + lease);
        terms.holder = holder_of(&ClientId(client.into()));
        let filter = Filter::ALL;
        let steady = self.now;
        let wish = Wish { topic: PARENT, group: GROUP, filter: &filter, max, outstanding_max: 100, terms, steady };
        let mut unit = Unit::state();
        let selection = self.core.select_lite(&wish, self.now, &mut unit);
        assert!(selection.missing.is_none(), "everything is in memory here");
        self.keep(&unit);
        let mut got: BTreeMap<QueueId, Vec<(u64, u32)>> = BTreeMap::new();
        for (queue, grant) in selection.grants {
            got.entry(queue).or_default().push((grant.entry.offset.get(), grant.attempt));
        }
        got
    }

    pub fn receipt(&self, queue: QueueId, offset: u64, grant: u64) -> Receipt {
        Receipt {
            shard: ShardId(0),
            group: GROUP,
            topic: PARENT,
            queue,
            offset: QueueOffset(offset),
            attempt: 1,
            grant: GrantId(grant),
            lease_end: Timestamp::MAX,
            order_key: 0,
        }
    }

    pub fn ack(&mut self, queue: QueueId, offset: u64, grant: u64) {
        let receipt = self.receipt(queue, offset, grant);
        let mut settled = Vec::new();
        let mut unit = Unit::state();
        assert_eq!(self.core.ack(&receipt, self.now, &mut settled, &mut unit), Acked::Now);
        Core::record_settled(PARENT, GROUP, crate::store::record::SettleReason::Acked, settled, &mut unit);
        self.keep(&unit);
    }

    pub fn nack(&mut self, queue: QueueId, offset: u64, grant: u64) {
        let receipt = self.receipt(queue, offset, grant);
        let Standing::Current { attempt, .. } = self.core.standing(&receipt, self.now) else { panic!("not leased") };
        let mut unit = Unit::state();
        assert!(self.core.nack(&receipt, attempt, self.now, self.now, &mut unit).is_some());
        self.keep(&unit);
    }

    pub fn give_back(&mut self, queue: QueueId, offset: u64, grant: u64) {
        let state = self.core.topic(PARENT).unwrap().subscriptions[&GROUP].queue(queue).unwrap();
        let held: Grant = state.leases.repeat(QueueOffset(offset), GrantId(grant), self.now).expect("leased");
        let mut unit = Unit::state();
        self.core.give_back(PARENT, GROUP, &[(queue, held)], &mut unit);
        self.keep(&unit);
    }

    pub fn pass(&mut self, millis: u64, silence: Duration) {
        self.now = self.now.plus(Duration::from_millis(millis));
        self.core.fall_due(self.now);
        self.core.expire_lite(silence, self.now);
    }

    pub fn leave(&mut self, client: &str) {
        self.core.remove_lite_client(holder_of(&ClientId(client.into())));
    }

    pub fn remove(&mut self, queue: QueueId) {
        self.log.push(Record::LiteTopicDeleted { topic: PARENT, queue });
        let (name, groups) = self.core.lite_groups_left_by(PARENT, queue).unwrap();
        self.core.remove_lite_topic(PARENT, queue);
        for group in groups {
            self.core.put_lite_want(PARENT, group, name.clone(), self.now);
            self.log.push(want(&name, true));
        }
    }

    /// Whether the group is to get a lite topic from its first message on, whoever is there when it comes.
    pub fn waits_for(&self, name: &str) -> bool {
        self.core.lite_groups_wanting(PARENT, name).iter().any(|(group, _)| *group == GROUP)
    }

    /// A new process that knows what was recorded, and the messages.
    pub fn restart(&mut self) {
        let mut lite: BTreeMap<QueueId, (String, u64)> = BTreeMap::new();
        let mut next: BTreeMap<QueueId, QueueOffset> = BTreeMap::new();
        let mut leases: BTreeMap<(QueueId, QueueOffset), (u32, LeaseState)> = BTreeMap::new();
        let mut wants: BTreeSet<String> = BTreeSet::new();
        let mut highest = None;
        for record in &self.log {
            match record.clone() {
                Record::LiteTopicPut { queue, name, .. } => {
                    lite.insert(queue, (name, 0));
                    highest = highest.max(Some(queue));
                }
                Record::LiteWanted { name, is_wanted: true, .. } => drop(wants.insert(name)),
                Record::LiteWanted { name, .. } => drop(wants.remove(&name)),
                Record::LiteTopicDeleted { queue, .. } => {
                    lite.remove(&queue);
                    next.remove(&queue);
                    leases.retain(|key, _| key.0 != queue);
                }
                Record::Advanced { queue, next: at, .. } => drop(next.insert(queue, at)),
                Record::Granted { queue, next: at, lease, items, .. } => {
                    next.insert(queue, at);
                    leases.extend(items.into_iter().map(|(offset, attempt)| ((queue, offset), (attempt, lease))));
                }
                Record::LeaseChanged { queue, offset, attempt, lease, .. } => {
                    leases.insert((queue, offset), (attempt, lease));
                }
                Record::Settled { queue, offsets, .. } => {
                    leases.retain(|key, _| key.0 != queue || !offsets.contains(&key.1));
                }
                other => panic!("not of lite topics: {other:?}"),
            }
        }
        for (queue, (_, end)) in &mut lite {
            *end = self.core.accepted(PARENT, *queue).unwrap().get();
        }
        let mut core = empty_core(&self.group);
        if let Some(highest) = highest {
            core.lite_queues_given_out(PARENT, highest);
        }
        for (queue, (name, end)) in lite {
            let lite = LiteTopic { name: name.into(), tail: QueueTail::default(), active_at: Timestamp(0) };
            core.put_lite_topic(PARENT, queue, lite);
            // Shown anew, so that entries are in memory as in the rest of these tests.
            core.accept(PARENT, queue, end);
            let mut shown = Lab { core, log: Vec::new(), group: self.group.clone(), ..*self };
            (0..end).for_each(|offset| shown.show(queue, QueueOffset(offset)));
            core = shown.core;
            if let Some(next) = next.get(&queue) {
                let mut state = QueueState::starting_at(*next);
                for (key, (attempt, lease)) in leases.range((queue, QueueOffset(0))..=(queue, QueueOffset(u64::MAX))) {
                    state.leases.restore(entry(key.1.get()), *attempt, *lease);
                }
                core.put_lite_position(PARENT, GROUP, queue, state);
            }
        }
        for name in wants {
            core.put_lite_want(PARENT, GROUP, name.into(), self.now);
        }
        self.core = core;
        self.core.fall_due(self.now);
    }

    pub fn check(&self) {
        let state = self.core.topic(PARENT).unwrap();
        if let Some(lite) = &state.subscriptions[&GROUP].lite {
            lite.check(&state.lite);
        }
    }
}
