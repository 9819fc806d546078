//! Resets against a plain list of messages, and the corners that the list does not show.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::broker::delivery::fifo::Ordering;
use crate::broker::delivery::lease::Standing;
use crate::broker::delivery::settlement::Acked;
use crate::broker::delivery::subscription::{Subscription, Wish};
use crate::broker::delivery::testing::{entry, terms};
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, ShardId};
use crate::model::receipt::Receipt;
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::record::{MessageHead, Unit};

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const QUEUE: QueueId = QueueId(0);
const LEASE: u64 = 100;

fn core() -> Core {
    core_of(None)
}

fn core_of(ordered: Option<bool>) -> Core {
    let mut core = Core::new(10_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let topic = Topic {
        id: TOPIC,
        name: TopicName::trusted("", "t"),
        topic_type: TopicType::Normal,
        queues: 1,
        permission: Permission::default(),
        promise: Promise::Durable,
        retention: None,
        lite_ttl: None,
    };
    core.put_topic(Arc::new(topic), None);
    let group = Group { ordered, max_attempts: 1_000, ..Group::with_defaults(GROUP, GroupName::trusted("", "g")) };
    core.put_subscription(TOPIC, Subscription::new(Arc::new(group), vec![QueueState::default()]));
    core
}

fn show(core: &mut Core, offset: u64) {
    show_in(core, offset, 0);
}

fn show_in(core: &mut Core, offset: u64, order_key: u64) {
    core.accept(TOPIC, QUEUE, 1);
    let entry = entry(offset);
    let head = MessageHead {
        topic: TOPIC,
        queue: QUEUE,
        offset: QueueOffset(offset),
        stored_at: entry.stored_at,
        tag_hash: 0,
        body_bytes: 10,
        promise: Promise::Durable,
        order_key,
    };
    core.show(&head, entry.at);
}

fn select(core: &mut Core, max: usize, grant: u64, now: u64) -> Vec<u64> {
    let terms = terms(grant, now + LEASE);
    let steady = Timestamp(now);
    let wish = Wish { topic: TOPIC, group: GROUP, filter: &Filter::ALL, max, outstanding_max: 1_000, terms, steady };
    let selection = core.select(&wish, Timestamp(now), &mut Unit::state());
    selection.grants.iter().map(|(_, grant)| grant.entry.offset.get()).collect()
}

fn receipt(offset: u64, grant: u64, lease_end: u64) -> Receipt {
    Receipt {
        shard: ShardId(0),
        group: GROUP,
        topic: TOPIC,
        queue: QUEUE,
        offset: QueueOffset(offset),
        attempt: 1,
        grant: GrantId(grant),
        lease_end: Timestamp(lease_end),
        order_key: 0,
    }
}

fn reset(core: &mut Core, to: u64) -> Seek {
    let seek = core.seek(TOPIC, GROUP, QUEUE, QueueOffset(to)).unwrap();
    core.begin_at(TOPIC, GROUP, QUEUE, QueueOffset(to));
    seek
}

#[test]
fn handles_of_before_are_stale_where_the_message_comes_back_and_true_where_it_is_done() {
    let mut core = core();
    (0..4).for_each(|offset| show(&mut core, offset));
    assert_eq!(select(&mut core, 4, 7, 10), [0, 1, 2, 3]);
    let seek = reset(&mut core, 2);
    assert_eq!((seek.from.get(), seek.skipped, seek.rewound, seek.in_flight), (0, 2, 0, 4));
    let mut settled = Vec::new();
    assert_eq!(
        core.ack(&receipt(1, 7, 110), Timestamp(20), &mut settled, &mut Unit::state()),
        Acked::Before,
        "it will not come back"
    );
    assert_eq!(
        core.ack(&receipt(1, 7, 110), Timestamp(110), &mut settled, &mut Unit::state()),
        Acked::Stale,
        "its own time has passed"
    );
    assert_eq!(
        core.ack(&receipt(2, 7, 110), Timestamp(20), &mut settled, &mut Unit::state()),
        Acked::Stale,
        "it comes back"
    );
    assert_eq!(core.standing(&receipt(3, 7, 110), Timestamp(20)), Standing::Stale);
    assert!(settled.is_empty());
    assert_eq!(select(&mut core, 4, 8, 30), [2, 3]);
    assert_eq!(
        core.ack(&receipt(2, 7, 110), Timestamp(40), &mut settled, &mut Unit::state()),
        Acked::Stale,
        "somebody else has it"
    );
    assert_eq!(core.ack(&receipt(2, 8, 130), Timestamp(40), &mut settled, &mut Unit::state()), Acked::Now);
}

#[test]
fn the_timer_of_a_forgotten_lease_brings_nothing_back_and_the_next_lease_has_its_own() {
    let mut core = core();
    (0..2).for_each(|offset| show(&mut core, offset));
    assert_eq!(select(&mut core, 2, 1, 10), [0, 1]);
    reset(&mut core, 2);
    assert_eq!(core.fall_due(Timestamp(1_000)), None, "nothing is scheduled");
    assert_eq!(select(&mut core, 2, 2, 1_000), [0u64; 0]);
    reset(&mut core, 1);
    assert_eq!(select(&mut core, 2, 3, 2_000), [1]);
    assert_eq!(core.fall_due(Timestamp(2_050)), Some(Timestamp(2_100)));
    core.fall_due(Timestamp(2_100));
    assert_eq!(select(&mut core, 2, 4, 2_100), [1], "its lease has ended like any other");
}

#[test]
fn a_reset_empties_lanes_and_what_it_brings_back_is_in_order_again() {
    let mut core = core_of(Some(true));
    core.subscription_mut(TOPIC, GROUP).unwrap().set_ordering(Ordering::PerGroup);
    (0..4).for_each(|offset| show_in(&mut core, offset, 7));
    show_in(&mut core, 4, 8);
    // The lane of 7 is stuck at its first message; the position passes the rest of it on the way to the other lane.
    assert_eq!(select(&mut core, 1, 1, 10), [0]);
    assert_eq!(select(&mut core, 4, 2, 10), [4]);
    assert_eq!(core.position(TOPIC, GROUP, QUEUE), Some(QueueOffset(0)));
    let seek = reset(&mut core, 2);
    // Of what was passed over, only what is in memory is counted; under test that is little.
    assert_eq!((seek.skipped, seek.in_flight), (2, 2));
    let again = core.seek(TOPIC, GROUP, QUEUE, QueueOffset(2)).unwrap();
    assert!(again.idle, "nothing of the lanes is left: {again:?}");
    assert_eq!(select(&mut core, 1, 3, 20), [2]);
    assert_eq!(select(&mut core, 4, 4, 20), [4], "still one lane, and it waits");
    assert_eq!(core.ack(&receipt(2, 3, 120), Timestamp(30), &mut Vec::new(), &mut Unit::state()), Acked::Now);
    assert_eq!(select(&mut core, 4, 5, 30), [3]);
}

#[test]
fn a_rewind_wakes_who_waits_for_messages() {
    let mut core = core();
    show(&mut core, 0);
    assert_eq!(select(&mut core, 1, 1, 10), [0]);
    let notify = Arc::new(Notify::new());
    let id = core.new_waiter();
    core.wait(TOPIC, GROUP, id, &Filter::ALL, &notify);
    reset(&mut core, 0);
    assert!(notify.notified().now_or_never().is_some());
}

#[test]
fn a_message_on_its_way_to_the_dead_letters_is_not_moved_after_a_reset() {
    let mut core = core();
    show(&mut core, 0);
    assert_eq!(select(&mut core, 1, 1, 10), [0]);
    core.condemn(TOPIC, GROUP, QUEUE, QueueOffset(0));
    let which =
        crate::broker::delivery::core::Condemned { topic: TOPIC, group: GROUP, queue: QUEUE, offset: QueueOffset(0) };
    assert!(core.condemned_entry(&which).is_some());
    reset(&mut core, 0);
    assert!(core.condemned_entry(&which).is_none());
    assert_eq!(select(&mut core, 1, 2, 20), [0]);
}

#[test]
fn an_arrival_wakes_every_pull_that_wants_it_and_leaving_keeps_no_list() {
    let mut core = core();
    let place = (TOPIC, GROUP, QUEUE);
    let (a, b) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (first, second) = (core.new_waiter(), core.new_waiter());
    core.wait_to_pull(place, first, &Filter::ALL, &a);
    core.wait_to_pull(place, second, &Filter::Tags(crate::model::tag::TagFilter::parse("A").unwrap()), &b);
    assert_eq!(core.pulls_waiting(TOPIC, GROUP, QUEUE), 2);
    show(&mut core, 0);
    assert!(a.notified().now_or_never().is_some() && b.notified().now_or_never().is_none());
    core.remove_group(GROUP);
    assert!(b.notified().now_or_never().is_some(), "a group that goes away is news for everyone");
    core.leave_pulls(TOPIC, GROUP, QUEUE, first);
    core.leave_pulls(TOPIC, GROUP, QUEUE, second);
    assert!(core.topic(TOPIC).unwrap().pulls.is_empty());
}

#[derive(Clone, Debug)]
enum Op {
    Publish,
    Receive(usize),
    /// Which handle of all that were ever given.
    Ack(usize),
    GiveBack(usize),
    Pass(u64),
    Reset(u64),
    Trim(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Publish),
        5 => (1usize..4).prop_map(Op::Receive),
        5 => any::<prop::sample::Index>().prop_map(|index| Op::Ack(index.index(1 << 16))),
        1 => any::<prop::sample::Index>().prop_map(|index| Op::GiveBack(index.index(1 << 16))),
        2 => (1u64..150).prop_map(Op::Pass),
        2 => (0u64..30).prop_map(Op::Reset),
        1 => (0u64..8).prop_map(Op::Trim),
    ]
}

/// Messages as a plain list.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    first: u64,
    count: u64,
    done: BTreeSet<u64>,
    leased: BTreeMap<u64, (u64, u64)>,
    handles: Vec<Receipt>,
    /// Handles that a reset has seen.
    of_before: usize,
}

impl Model {
    fn undone(&self) -> Vec<u64> {
        (self.first..self.count).filter(|offset| !self.done.contains(offset)).collect()
    }

    fn pass(&mut self, by: u64) {
        self.now += by;
        let now = self.now;
        self.leased.retain(|_, (_, end)| *end > now);
    }
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let (mut core, mut model) = (core(), Model { now: 10, ..Model::default() });
    let mut grant = 0;
    for op in ops {
        match op {
            Op::Publish => {
                show(&mut core, model.count);
                model.count += 1;
            }
            Op::Receive(max) => {
                grant += 1;
                let got = select(&mut core, max, grant, model.now);
                let free: Vec<u64> =
                    model.undone().into_iter().filter(|offset| !model.leased.contains_key(offset)).collect();
                // What came back goes first, then what was never seen: each run is in order, and nothing free is held back.
                prop_assert_eq!(got.is_empty(), free.is_empty(), "got {:?} of {:?}", got, free);
                prop_assert!(got.iter().all(|offset| free.contains(offset)), "got {:?} of {:?}", got, free);
                for offset in got {
                    let end = model.now + LEASE;
                    prop_assert!(model.leased.insert(offset, (grant, end)).is_none());
                    model.handles.push(receipt(offset, grant, end));
                }
            }
            Op::Ack(which) if !model.handles.is_empty() => {
                let index = which % model.handles.len();
                let handle = model.handles[index];
                let offset = handle.offset.get();
                let current = model.leased.get(&offset).is_some_and(|(grant, _)| *grant == handle.grant.get());
                let acked = core.ack(&handle, Timestamp(model.now), &mut Vec::new(), &mut Unit::state());
                prop_assert_eq!(acked == Acked::Now, current, "{:?}", handle);
                if acked == Acked::Before {
                    prop_assert!(
                        model.done.contains(&offset) || offset < model.first,
                        "a lie: {:?} comes back",
                        handle
                    );
                }
                if index < model.of_before && !model.done.contains(&offset) && offset >= model.first {
                    prop_assert_eq!(acked, Acked::Stale);
                }
                if current {
                    model.leased.remove(&offset);
                    model.done.insert(offset);
                }
            }
            Op::GiveBack(which) if !model.handles.is_empty() => {
                let handle = model.handles[which % model.handles.len()];
                let grant = Grant {
                    entry: entry(handle.offset.get()),
                    attempt: 1,
                    terms: terms(handle.grant.get(), handle.lease_end.millis()),
                };
                let holds = core.holds(TOPIC, GROUP, QUEUE, &grant);
                let of = |(own, _): &(u64, u64)| *own == handle.grant.get();
                prop_assert_eq!(holds, model.leased.get(&handle.offset.get()).is_some_and(of));
                core.give_back(TOPIC, GROUP, &[(QUEUE, grant)], &mut Unit::state());
                if holds {
                    model.leased.remove(&handle.offset.get());
                }
            }
            Op::Ack(_) | Op::GiveBack(_) => {}
            Op::Pass(by) => {
                model.pass(by);
                core.fall_due(Timestamp(model.now));
            }
            Op::Reset(to) => {
                let to = to.clamp(model.first, model.count);
                let undone = model.undone();
                let seek = reset(&mut core, to);
                prop_assert_eq!(seek.from.get(), undone.first().copied().unwrap_or(model.count));
                prop_assert_eq!(seek.skipped, undone.iter().filter(|offset| **offset < to).count() as u64);
                let done_above = model.done.iter().filter(|offset| **offset >= to.max(model.first)).count();
                prop_assert_eq!(seek.rewound, done_above as u64);
                prop_assert_eq!(seek.in_flight, model.leased.len() as u64);
                model.leased.clear();
                model.done = (0..to).collect();
                model.of_before = model.handles.len();
                let again = core.seek(TOPIC, GROUP, QUEUE, QueueOffset(to)).unwrap();
                prop_assert!(again.idle && again.skipped + again.rewound + again.in_flight == 0);
            }
            Op::Trim(by) => {
                model.first = (model.first + by).min(model.count);
                core.trim(TOPIC, QUEUE, QueueOffset(model.first), &mut Unit::state());
                let first = model.first;
                model.leased.retain(|offset, _| *offset >= first);
            }
        }
        let lowest = model.undone().first().copied().unwrap_or(model.count);
        prop_assert_eq!(core.position(TOPIC, GROUP, QUEUE).map(QueueOffset::get), Some(lowest));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn resets_among_deliveries_agree_with_a_plain_list(ops in prop::collection::vec(op(), 1..60)) {
        run(ops)?;
    }
}
