//! What the lite topics of one parent decide, with `now` passed in and no log behind it. Records are kept, so that a restart can
//! be played from them.

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
const LIMITS: LiteLimits = LiteLimits { per_client: 4, left: 6 };

/// A parent topic with one group.
pub struct Lab {
    pub core: Core,
    pub now: Timestamp,
    group: Arc<Group>,
    /// All that was recorded.
    log: Vec<Record>,
    limits: LiteLimits,
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

    fn keep(&mut self, unit: &Unit) {
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

    fn show(&mut self, queue: QueueId, offset: QueueOffset) {
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

    fn receipt(&self, queue: QueueId, offset: u64, grant: u64) -> Receipt {
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

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn add(lab: &mut Lab, client: &str, wanted: &[&str]) -> Vec<(String, String)> {
    lab.sync(client, LiteAction::Add, &names(wanted), None, None).unwrap()
}

fn complete(lab: &mut Lab, client: &str, wanted: &[&str]) -> Vec<(String, String)> {
    lab.sync(client, LiteAction::CompleteAdd, &names(wanted), None, None).unwrap()
}

fn got(lab: &mut Lab, client: &str, grant: u64) -> Vec<(u64, u32)> {
    lab.receive(client, 32, grant, 1_000).into_values().flatten().collect()
}

fn is_woken(notify: &Arc<Notify>) -> bool {
    use futures::FutureExt;
    notify.notified().now_or_never().is_some()
}

fn wait(lab: &mut Lab, client: &str) -> (crate::broker::delivery::wait_list::WaiterId, Arc<Notify>) {
    let (id, notify) = (lab.core.new_waiter(), Arc::new(Notify::new()));
    lab.core.wait_lite(PARENT, GROUP, id, holder_of(&ClientId(client.into())), &notify);
    (id, notify)
}

#[test]
fn a_lite_topic_is_one_lane_and_its_neighbours_flow() {
    let mut lab = Lab::new(false);
    add(&mut lab, "a", &["x", "y"]);
    let x = lab.send("x", 2);
    assert_eq!(got(&mut lab, "a", 1), [(0, 1), (1, 1)]);
    lab.send("x", 1);
    lab.send("y", 1);
    assert_eq!(lab.receive("a", 32, 2, 1_000).into_keys().collect::<Vec<_>>(), [QueueId(x.get() + 1)]);
    lab.ack(x, 0, 1);
    assert_eq!(got(&mut lab, "a", 3), []);
    lab.ack(x, 1, 1);
    assert_eq!(got(&mut lab, "a", 4), [(2, 1)]);
}

#[test]
fn only_a_subscriber_is_given_anything_and_an_empty_complete_set_is_an_answer() {
    let mut lab = Lab::new(false);
    lab.send("x", 1);
    assert_eq!(got(&mut lab, "a", 1), []);
    // One client sends the letters of a name one by one, and the right set half a minute later.
    add(&mut lab, "a", &["l", "t", "1"]);
    complete(&mut lab, "a", &["x"]);
    assert_eq!(lab.core.lite_subscriptions(), 1);
    assert_eq!(got(&mut lab, "a", 2), [(0, 1)]);
    complete(&mut lab, "a", &[]);
    assert_eq!(lab.core.lite_subscriptions(), 0);
    lab.pass(1_000, Duration::from_secs(180));
    assert_eq!(got(&mut lab, "a", 3), [], "it came back, but not to somebody who left");
    lab.check();
}

#[test]
fn a_new_group_begins_where_its_subscriber_says_and_a_position_that_exists_stays() {
    let starts = [
        (None, 0),
        (Some(LiteStart::Last), 0),
        (Some(LiteStart::First), 0),
        (Some(LiteStart::Latest), 5),
        (Some(LiteStart::Offset(QueueOffset(3))), 3),
        (Some(LiteStart::Offset(QueueOffset(99))), 5),
        (Some(LiteStart::Tail(2)), 3),
        (Some(LiteStart::Tail(99)), 0),
        (Some(LiteStart::At(Timestamp(1))), 0),
    ];
    for (start, expected) in starts {
        let mut lab = Lab::new(false);
        let queue = lab.send("x", 5);
        lab.sync("a", LiteAction::Add, &names(&["x"]), start, None).unwrap();
        let next =
            |lab: &Lab| lab.core.topic(PARENT).unwrap().subscriptions[&GROUP].queue(queue).unwrap().leases.next();
        assert_eq!(next(&lab).get(), expected, "{start:?}");
        lab.sync("b", LiteAction::Add, &names(&["x"]), Some(LiteStart::Latest), None).unwrap();
        assert_eq!(next(&lab).get(), expected, "{start:?}");
    }
    let (tail, queue) = (QueueTail::restored(QueueOffset(2), QueueOffset(9)), QueueId::FIRST_LITE);
    let by_time = BTreeMap::from([(queue, QueueOffset(7))]);
    let at = Some(LiteStart::At(Timestamp(50)));
    let begins = |start, group_start| LiteBegin { start, group_start, by_time: &by_time }.position(queue, &tail).get();
    assert_eq!(begins(at, StartPosition::Latest), 7);
    assert_eq!(begins(None, StartPosition::At(Timestamp(50))), 7);
    assert_eq!(begins(None, StartPosition::Latest), 9);
    assert_eq!(begins(Some(LiteStart::Offset(QueueOffset(0))), StartPosition::Latest), 2);
}

#[test]
fn a_lite_topic_that_begins_later_begins_at_its_first_message_for_those_who_wait_for_it() {
    let mut lab = Lab::new(false);
    lab.sync("a", LiteAction::Add, &names(&["later"]), Some(LiteStart::Latest), None).unwrap();
    lab.send("later", 1);
    lab.restart();
    lab.sync("a", LiteAction::CompleteAdd, &names(&["later"]), Some(LiteStart::Latest), None).unwrap();
    assert_eq!(got(&mut lab, "a", 1), [(0, 1)]);
}

#[test]
fn quotas_are_exact_and_what_is_refused_changes_nothing() {
    let mut lab = Lab::new(false);
    lab.limits = LIMITS;
    add(&mut lab, "a", &["1", "2", "3", "4"]);
    let refused = |lab: &mut Lab, client: &str, action, wanted: &[&str]| {
        let before = lab.core.lite_subscriptions();
        let refusal = lab.sync(client, action, &names(wanted), None, None).unwrap_err();
        assert_eq!(lab.core.lite_subscriptions(), before);
        lab.check();
        refusal
    };
    assert_eq!(refused(&mut lab, "a", LiteAction::Add, &["5"]), LiteRefusal::ClientQuota);
    assert_eq!(refused(&mut lab, "a", LiteAction::CompleteAdd, &["5", "6", "7", "8", "9"]), LiteRefusal::ClientQuota);
    complete(&mut lab, "a", &["5", "6", "7", "8"]);
    assert_eq!(refused(&mut lab, "b", LiteAction::Add, &["1", "2", "3"]), LiteRefusal::BrokerQuota);
    add(&mut lab, "b", &["1", "2"]);
    add(&mut lab, "b", &["1", "2"]);
    assert_eq!(lab.core.lite_subscriptions(), 6);
}

#[test]
fn the_newest_subscriber_takes_over_and_a_repeated_set_does_not_take_back() {
    let mut lab = Lab::new(true);
    lab.send("x", 1);
    complete(&mut lab, "a", &["x", "y"]);
    assert_eq!(add(&mut lab, "b", &["x"]), [("a".to_owned(), "x".to_owned())]);
    assert_eq!(complete(&mut lab, "a", &["x", "y"]), []);
    assert_eq!(got(&mut lab, "a", 1), []);
    assert_eq!(got(&mut lab, "b", 2), [(0, 1)]);
    // Asked for anew by its user, it is taken again; and when nobody has it, a repeated set may have it.
    assert_eq!(add(&mut lab, "a", &["x"]), [("b".to_owned(), "x".to_owned())]);
    complete(&mut lab, "b", &["x"]);
    lab.leave("a");
    assert_eq!(complete(&mut lab, "b", &["x"]), []);
    lab.pass(1_000, Duration::from_secs(180));
    assert_eq!(got(&mut lab, "b", 3), [(0, 2)]);
    lab.check();
}

#[test]
fn an_overtaken_wish_is_refused() {
    let mut lab = Lab::new(false);
    let mut sync = |version, wanted: &[&str]| lab.sync("a", LiteAction::CompleteAdd, &names(wanted), None, version);
    sync(Some(5), &["x"]).unwrap();
    assert_eq!(sync(Some(4), &["y"]), Err(LiteRefusal::Stale));
    sync(Some(5), &["x"]).unwrap();
    sync(None, &["x", "y"]).unwrap();
    assert_eq!(lab.core.lite_subscriptions(), 2);
}

#[test]
fn subscriptions_of_a_silent_client_end_and_a_receive_keeps_them() {
    let mut lab = Lab::new(false);
    add(&mut lab, "talks", &["x"]);
    add(&mut lab, "silent", &["x"]);
    let silence = Duration::from_secs(180);
    lab.pass(100_000, silence);
    got(&mut lab, "talks", 1);
    lab.pass(80_000, silence);
    assert_eq!(lab.core.lite_subscriptions(), 1);
    lab.pass(99_999, silence);
    assert_eq!(lab.core.lite_subscriptions(), 1);
    lab.pass(1, silence);
    assert_eq!(lab.core.lite_subscriptions(), 0);
    lab.check();
}

#[test]
fn an_arrival_wakes_one_receive_of_a_subscriber_and_one_that_leaves_passes_it_on() {
    let mut lab = Lab::new(false);
    add(&mut lab, "a", &["x"]);
    add(&mut lab, "b", &["x"]);
    add(&mut lab, "c", &["y"]);
    let ((stranger, strangers), (a, first), (_, second)) =
        (wait(&mut lab, "c"), wait(&mut lab, "a"), wait(&mut lab, "b"));
    lab.send("x", 1);
    assert!(is_woken(&first) && !is_woken(&second) && !is_woken(&strangers));
    lab.check();
    lab.core.leave(PARENT, GROUP, a);
    assert!(is_woken(&second) && !is_woken(&strangers));
    assert_eq!(got(&mut lab, "b", 1), [(0, 1)]);
    // Subscribing while waiting finds what is there.
    let queue = lab.core.topic(PARENT).unwrap().lite.find("x").unwrap();
    lab.nack(queue, 0, 1);
    add(&mut lab, "c", &["x"]);
    assert!(is_woken(&strangers));
    lab.core.leave(PARENT, GROUP, stranger);
    assert_eq!(lab.core.waiting(PARENT, GROUP), 1);
}

#[test]
fn a_receive_woken_in_vain_does_not_keep_the_news_from_others() {
    let mut lab = Lab::new(false);
    add(&mut lab, "a", &["x", "y"]);
    add(&mut lab, "b", &["y"]);
    let (a, first) = wait(&mut lab, "a");
    let (_, second) = wait(&mut lab, "b");
    lab.send("x", 1);
    assert!(is_woken(&first));
    // Somebody else of the same client was faster; meanwhile `y` arrives, and the next one in line is told.
    assert_eq!(got(&mut lab, "a", 1), [(0, 1)]);
    lab.send("y", 1);
    assert!(is_woken(&second));
    let holder = holder_of(&ClientId("a".into()));
    lab.core.wait_lite(PARENT, GROUP, a, holder, &first);
    lab.check();
}

#[test]
fn what_a_group_has_not_read_stays_and_what_is_read_goes_when_its_time_has_passed() {
    let ttl = Duration::from_secs(60);
    let idle = |lab: &Lab| lab.core.idle_lite_topics(PARENT, QueueId::FIRST_LITE, ttl, lab.now);
    let mut lab = Lab::new(false);
    lab.pass(1_000_000, Duration::from_secs(1));
    lab.send("unread", 1);
    let read = lab.send("read", 1);
    let unwanted = lab.send("unwanted", 1);
    add(&mut lab, "a", &["unread", "read"]);
    assert!(lab.receive("a", 1, 1, 1_000).contains_key(&read));
    lab.ack(read, 0, 1);
    lab.leave("a");
    lab.pass(59_000, Duration::from_secs(180));
    assert!(idle(&lab).removable.is_empty());
    lab.pass(1_000, Duration::from_secs(180));
    assert_eq!(idle(&lab).removable, [read, unwanted]);
    // After a restart nobody knows: it has to be looked up.
    lab.restart();
    let lite = lab.core.topic(PARENT).unwrap().lite.get(read).unwrap().active_at;
    assert_eq!(lite, lab.now, "these tests show messages anew at a restart");
    lab.remove(read);
    lab.remove(unwanted);
    assert_eq!(lab.core.lite_topics(), 1);
    lab.check();
    let again = lab.send("read", 1);
    assert!(again > unwanted, "a queue is never given out twice");
}

#[test]
fn a_listing_goes_by_name_and_prefix() {
    let mut lab = Lab::new(false);
    for name in ["b-2", "a-1", "b-1", "c", "b-10"] {
        lab.send(name, 1);
    }
    let lite = &lab.core.topic(PARENT).unwrap().lite;
    let list = |prefix, after| lite.by_name(prefix, after).map(|(_, lite)| lite.name.to_string()).collect::<Vec<_>>();
    assert_eq!(list("", ""), ["a-1", "b-1", "b-10", "b-2", "c"]);
    assert_eq!(list("b-", ""), ["b-1", "b-10", "b-2"]);
    assert_eq!(list("b-", "b-1"), ["b-10", "b-2"]);
    assert_eq!(list("b-", "c"), Vec::<String>::new());
    assert_eq!(list("b-1", "a-1"), ["b-1", "b-10"]);
    assert_eq!(list("", "b-2"), ["c"]);
}
