//! What the state decides, with `now` passed in and no log behind it.

use super::*;
use crate::broker::delivery::lease::{LeaseTerms, QueueLeases, Standing};
use crate::broker::delivery::settlement::Acked;
use crate::broker::delivery::subscription::Wish;
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::testing::{entry, tagged, terms};
use crate::model::filter::Filter;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, ShardId};
use crate::model::receipt::Receipt;
use crate::model::tag::{TagFilter, tag_hash};
use crate::model::topic::{Permission, Promise, TopicType};
use crate::store::record::{LeaseState, Record, Unit, decode, walk};

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);

fn core() -> Core {
    let mut core = Core::new(100, Arc::new(Notify::new()), Arc::new(Notify::new()));
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
    let group = Group { max_attempts: 2, ..Group::with_defaults(GROUP, GroupName::trusted("", "g")) };
    core.put_subscription(TOPIC, Subscription::new(Arc::new(group), vec![QueueState::default()]));
    core
}

fn show(core: &mut Core, offset: u64, tag: &str) {
    core.accept(TOPIC, QueueId(0), 1);
    let entry = entry(offset);
    let head = MessageHead {
        topic: TOPIC,
        queue: QueueId(0),
        offset: QueueOffset(offset),
        stored_at: entry.stored_at,
        tag_hash: tag_hash(tag),
        body_bytes: 10,
        promise: Promise::Durable,
        order_key: 0,
    };
    core.show(&head, entry.at);
}

fn filter_of(expression: &str) -> Filter {
    TagFilter::parse(expression).unwrap().into()
}

fn select(core: &mut Core, filter: &str, grant: u64, now: u64) -> Vec<(u64, u32)> {
    let filter = filter_of(filter);
    let mut terms = terms(grant, now + 100);
    terms.attempt_key = grant;
    let wish = Wish {
        topic: TOPIC,
        group: GROUP,
        filter: &filter,
        max: 32,
        outstanding_max: 10,
        terms,
        steady: Timestamp(now),
    };
    let selection = core.select(&wish, Timestamp(now), &mut Unit::state());
    selection.grants.iter().map(|(_, grant)| (grant.entry.offset.get(), grant.attempt)).collect()
}

fn receipt(offset: u64, grant: u64, lease_end: u64) -> Receipt {
    Receipt {
        shard: ShardId(0),
        group: GROUP,
        topic: TOPIC,
        queue: QueueId(0),
        offset: QueueOffset(offset),
        attempt: 1,
        grant: crate::model::position::GrantId(grant),
        lease_end: Timestamp(lease_end),
        order_key: 0,
    }
}

fn is_woken(notify: &Arc<Notify>) -> bool {
    use futures::FutureExt;
    notify.notified().now_or_never().is_some()
}

#[test]
fn an_arrival_wakes_the_receive_that_wants_it_and_not_the_other() {
    let mut core = core();
    let (a, b) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    for (filter, notify) in [("A", &a), ("B", &b)] {
        let id = core.new_waiter();
        core.wait(TOPIC, GROUP, id, &filter_of(filter), notify);
    }
    show(&mut core, 0, "B");
    assert!(!is_woken(&a) && is_woken(&b));
}

#[test]
fn a_woken_receive_that_leaves_passes_its_wake_up_on() {
    let mut core = core();
    let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let leaver = core.new_waiter();
    core.wait(TOPIC, GROUP, leaver, &Filter::ALL, &first);
    let stayer = core.new_waiter();
    core.wait(TOPIC, GROUP, stayer, &Filter::ALL, &second);
    show(&mut core, 0, "");
    assert!(is_woken(&first) && !is_woken(&second));
    core.leave(TOPIC, GROUP, leaver);
    assert!(is_woken(&second));
}

#[test]
fn nack_to_zero_wakes_at_once_and_the_last_attempt_is_condemned() {
    let mut core = core();
    show(&mut core, 0, "");
    assert_eq!(select(&mut core, "*", 1, 10), vec![(0, 1)]);
    let notify = Arc::new(Notify::new());
    let id = core.new_waiter();
    core.wait(TOPIC, GROUP, id, &Filter::ALL, &notify);
    core.nack(&receipt(0, 1, 110), 1, Timestamp(20), Timestamp(20), &mut Unit::state());
    assert!(is_woken(&notify));
    assert_eq!(select(&mut core, "*", 2, 20), vec![(0, 2)]);
    core.nack(&receipt(0, 2, 120), 2, Timestamp(30), Timestamp(30), &mut Unit::state());
    let condemned = core.pop_condemned().unwrap();
    assert_eq!(condemned.offset, QueueOffset(0));
    assert_eq!(core.condemned_entry(&condemned).map(|(_, attempts)| attempts), Some(2));
    assert!(select(&mut core, "*", 3, 40).is_empty());
}

#[test]
fn an_expired_lease_falls_due_at_its_instant() {
    let mut core = core();
    show(&mut core, 0, "");
    select(&mut core, "*", 1, 0);
    assert_eq!(core.fall_due(Timestamp(99)), Some(Timestamp(100)));
    assert!(select(&mut core, "*", 2, 99).is_empty());
    assert_eq!(core.fall_due(Timestamp(100)), None);
    assert_eq!(select(&mut core, "*", 3, 100), vec![(0, 2)]);
}

#[test]
fn an_ack_is_idempotent_within_its_lease_and_stale_for_a_superseded_delivery() {
    let mut core = core();
    show(&mut core, 0, "");
    select(&mut core, "*", 1, 0);
    core.fall_due(Timestamp(100));
    select(&mut core, "*", 2, 100);
    let mut settled = Vec::new();
    // The handle of the first delivery says that its lease ran until 500, as after a change of the duration.
    assert_eq!(core.ack(&receipt(0, 1, 500), Timestamp(150), &mut settled, &mut Unit::state()), Acked::Stale);
    assert_eq!(core.ack(&receipt(0, 2, 200), Timestamp(150), &mut settled, &mut Unit::state()), Acked::Now);
    assert_eq!(core.ack(&receipt(0, 2, 200), Timestamp(199), &mut settled, &mut Unit::state()), Acked::Before);
    assert_eq!(core.ack(&receipt(0, 2, 200), Timestamp(200), &mut settled, &mut Unit::state()), Acked::Stale);
    assert_eq!(core.ack(&receipt(0, 1, 500), Timestamp(150), &mut settled, &mut Unit::state()), Acked::Stale);
    assert_eq!(settled.len(), 1);
}

#[test]
fn the_same_attempt_gets_the_same_messages_and_only_those_it_still_holds() {
    let mut core = core();
    show(&mut core, 0, "");
    show(&mut core, 1, "");
    select(&mut core, "*", 7, 0);
    core.ack(&receipt(0, 7, 100), Timestamp(10), &mut Vec::new(), &mut Unit::state());
    let again = core.repeat_attempt(TOPIC, GROUP, 7, Timestamp(20));
    assert_eq!(
        again.iter().map(|(_, grant)| (grant.entry.offset.get(), grant.attempt)).collect::<Vec<_>>(),
        vec![(1, 1)]
    );
    assert!(core.repeat_attempt(TOPIC, GROUP, 7, Timestamp(100)).is_empty());
    assert!(core.repeat_attempt(TOPIC, GROUP, 8, Timestamp(20)).is_empty());
}

#[test]
fn members_with_different_filters_do_not_take_each_others_messages() {
    let mut core = core();
    assert!(select(&mut core, "A", 1, 0).is_empty());
    assert!(select(&mut core, "B", 2, 0).is_empty());
    for offset in 0..4 {
        show(&mut core, offset, if offset % 2 == 0 { "A" } else { "B" });
    }
    assert_eq!(select(&mut core, "A", 3, 10), vec![(0, 1), (2, 1)]);
    assert_eq!(select(&mut core, "B", 4, 10), vec![(1, 1), (3, 1)]);
}

#[test]
fn what_was_set_aside_for_a_filter_out_of_use_does_not_block_the_queue() {
    let mut core = core();
    select(&mut core, "B", 1, 0);
    show(&mut core, 0, "B");
    assert!(select(&mut core, "A", 2, 10).is_empty());
    let subscription = |core: &Core| core.topic(TOPIC).unwrap().subscriptions[&GROUP].queues[0].leases.outstanding();
    assert_eq!(subscription(&core), 1);
    select(&mut core, "A", 3, 10_000_000);
    assert_eq!(subscription(&core), 0);
}

#[test]
fn the_bound_on_outstanding_messages_holds_back_new_ones_only() {
    let mut core = core();
    for offset in 0..15 {
        show(&mut core, offset, "");
    }
    assert_eq!(select(&mut core, "*", 1, 0).len(), 10);
    assert!(select(&mut core, "*", 2, 0).is_empty());
    core.fall_due(Timestamp(100));
    assert_eq!(select(&mut core, "*", 3, 100).len(), 10);
}

#[test]
fn entries_above_the_folded_position_are_never_forgotten() {
    let mut core = Core::new(1, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let topic = self::core().topic(TOPIC).unwrap().topic.clone();
    core.put_topic(topic, None);
    for offset in 0..3 {
        show(&mut core, offset, "");
    }
    core.forget_recent(tagged(1, 0).at.position);
    let tail = &core.topic(TOPIC).unwrap().tails[0];
    assert_eq!(tail.recent(QueueOffset(0)), None);
    assert!(tail.recent(QueueOffset(1)).is_some() && tail.recent(QueueOffset(2)).is_some());
}

#[test]
fn a_client_that_is_gone_loses_what_was_renewed_for_it_and_keeps_nothing() {
    let mut core = core();
    show(&mut core, 0, "");
    let filter = Filter::ALL;
    let mut terms = terms(1, 1_000);
    terms.auto_renew = true;
    let wish =
        Wish { topic: TOPIC, group: GROUP, filter: &filter, max: 1, outstanding_max: 10, terms, steady: Timestamp(0) };
    core.select(&wish, Timestamp(0), &mut Unit::state());
    assert_eq!(core.holders(), vec![terms.holder]);
    let mut unit = Unit::state();
    assert_eq!(core.release_holders(&std::collections::BTreeSet::from([terms.holder]), &mut unit), 1);
    assert_eq!(unit.records(), 1);
    assert_eq!(core.standing(&receipt(0, 1, 1_000), Timestamp(10)), Standing::Stale);
    assert_eq!(select(&mut core, "*", 2, 10), vec![(0, 2)]);
}

#[test]
fn a_message_that_dies_with_its_client_is_not_delivered_again_after_a_restart() {
    let mut core = core();
    show(&mut core, 0, "");
    let mut left = Vec::new();
    for grant in 1..=2 {
        let terms = LeaseTerms { auto_renew: true, ..terms(grant, 1_000) };
        let wish = Wish {
            topic: TOPIC,
            group: GROUP,
            filter: &Filter::ALL,
            max: 1,
            outstanding_max: 10,
            terms,
            steady: Timestamp(0),
        };
        assert_eq!(core.select(&wish, Timestamp(0), &mut Unit::state()).grants.len(), 1);
        let mut unit = Unit::state();
        core.release_holders(&std::collections::BTreeSet::from([terms.holder]), &mut unit);
        for found in walk(bytes::Bytes::copy_from_slice(unit.bytes()), LogPosition(0)) {
            let Record::LeaseChanged { attempt, lease, .. } = decode(&found.unwrap().1).unwrap() else { panic!() };
            let mut leases = QueueLeases::default();
            leases.restore(entry(0), attempt, lease);
            let due = leases.fall_due(Timestamp(10), 2);
            left.push((leases.has_ready(), due.dying.len()));
        }
    }
    assert_eq!(left, [(true, 0), (false, 1)]);
}

#[test]
fn a_queue_that_was_trimmed_before_the_group_saw_it_is_read_from_its_first_message() {
    let mut core = core();
    let topic = core.topic(TOPIC).unwrap().topic.clone();
    core.remove_topic(TOPIC);
    core.put_topic(topic, Some(vec![QueueTail::restored(QueueOffset(5), QueueOffset(8))]));
    let group = Arc::new(Group::with_defaults(GROUP, GroupName::trusted("", "g")));
    core.put_subscription(TOPIC, Subscription::new(group, vec![QueueState::default()]));
    let filter = Filter::ALL;
    let wish = Wish {
        topic: TOPIC,
        group: GROUP,
        filter: &filter,
        max: 32,
        outstanding_max: 10,
        terms: terms(1, 100),
        steady: Timestamp(0),
    };
    let selection = core.select(&wish, Timestamp(0), &mut Unit::state());
    assert_eq!(selection.missing, Some((QueueId(0), Missing::Queue(QueueOffset(5)))));
    core.read_ahead(TOPIC, GROUP, QueueId(0), (5..8).map(entry).collect());
    assert_eq!(select(&mut core, "*", 2, 0), vec![(5, 1), (6, 1), (7, 1)]);
}

#[test]
fn what_was_set_aside_before_a_restart_waits_for_members_whose_filters_nobody_remembers() {
    let mut core = core();
    let mut queue = QueueState::default();
    let lease = LeaseState::Waiting { visible_at: Timestamp(0) };
    queue.leases.restore(tagged(0, tag_hash("A")), 0, lease);
    queue.leases.advance(QueueOffset(1));
    let group = Arc::new(Group::with_defaults(GROUP, GroupName::trusted("", "g")));
    let mut subscription = Subscription::new(group, vec![queue]);
    subscription.expect_unknown_filters(Timestamp(1_000));
    core.put_subscription(TOPIC, subscription);
    core.fall_due(Timestamp(1_000));
    assert!(select(&mut core, "B", 1, 1_000).is_empty());
    assert_eq!(select(&mut core, "A", 2, 2_000), vec![(0, 1)]);
}
