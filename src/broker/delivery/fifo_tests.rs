//! Order inside message groups, as members of a group see it: tables, with `now` passed in and the records folded plainly.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::*;
use crate::broker::delivery::fifo_rig::{GROUP, LEASE, QUEUE, Rig, TOPIC};
use crate::broker::delivery::lease::{Changed, QueueLeases, Standing};
use crate::broker::delivery::ordered::{Room, Want};
use crate::broker::delivery::settlement::Acked;
use crate::broker::delivery::testing::{grouped, terms};
use crate::model::filter::Filter;
use crate::model::position::GroupId;
use crate::model::topic::TopicType;

/// Message groups.
const A: u64 = 11;
const B: u64 = 22;

fn with(keys: &[u64]) -> Rig {
    let mut rig = Rig::fifo();
    for key in keys {
        rig.send(*key, "");
    }
    rig
}

#[test]
fn what_was_acked_behind_an_unacked_one_comes_again_with_it_and_nothing_overtakes() {
    for restarts in [false, true] {
        let mut rig = with(&[A, A, A, A]);
        assert_eq!(rig.receive(3), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!((rig.ack(1), rig.ack(2)), (Acked::Now, Acked::Now));
        let first = rig.grants;
        assert_eq!(rig.receive(32), [], "3 must wait for 0");
        assert_eq!(rig.ack_of(1, first), Acked::Before, "a repeated ack is done");
        if restarts {
            rig.restart();
            assert_eq!(rig.ack_of(1, first), Acked::Before, "also after a restart");
            assert_eq!(rig.receive(32), []);
        }
        rig.pass(LEASE);
        // After a restart 3 must be read from disk first; it comes with a later receive.
        let again = if restarts { 3 } else { 4 };
        assert_eq!(rig.receive(32), [(0, 2), (1, 2), (2, 2), (3, 1)][..again]);
        assert_eq!(rig.standing(1, first), Standing::Stale, "the earlier delivery is superseded");
    }
}

#[test]
fn a_batch_of_one_brings_again_what_was_acked_behind_it_one_by_one() {
    let mut rig = with(&[A, A, A, A]);
    assert_eq!(rig.receive(3).len(), 3);
    rig.ack(1);
    rig.ack(2);
    rig.pass(LEASE);
    for expected in [(0, 2), (1, 2), (2, 2), (3, 1)] {
        rig.restart();
        assert_eq!(rig.receive(1), [expected]);
        assert_eq!(rig.receive(1), []);
        assert_eq!(rig.ack(expected.0), Acked::Now, "{expected:?}");
    }
    assert_eq!((rig.folded.leases.len(), rig.folded.lanes.len()), (0, 0), "{:?}", rig.folded);
}

#[test]
fn after_an_ack_of_the_first_only_the_rest_comes_again_and_then_the_next() {
    let mut rig = with(&[A, A, A, A]);
    assert_eq!(rig.receive(3), [(0, 1), (1, 1), (2, 1)]);
    rig.ack(0);
    assert_eq!(rig.receive(32), []);
    rig.pass(LEASE);
    assert_eq!(rig.receive(32), [(1, 2), (2, 2), (3, 1)]);
}

#[test]
fn acks_in_any_order_finish_a_batch_and_leave_nothing_behind() {
    let mut rig = with(&[A, A, A, A]);
    rig.receive(3);
    for offset in [2, 0, 1] {
        assert_eq!(rig.ack(offset), Acked::Now);
    }
    assert_eq!(rig.folded.leases.len(), 0);
    assert_eq!(rig.receive(32), [(3, 1)]);
    rig.ack(3);
    assert_eq!((rig.in_memory(), rig.folded.leases.len(), rig.folded.lanes.len()), ((0, 0), 0, 0));
}

#[test]
fn a_stuck_group_does_not_hold_up_its_neighbour() {
    let mut rig = with(&[A, B, A, B, A, B]);
    assert_eq!(rig.receive(1), [(0, 1)]);
    assert_eq!(rig.receive(1), [(1, 1)]);
    rig.ack(1);
    assert_eq!(rig.receive(32), [(3, 1), (5, 1)]);
    rig.restart();
    assert_eq!(rig.receive(32), []);
    rig.pass(LEASE);
    assert_eq!(rig.receive(32), [(0, 2), (3, 2), (5, 2)]);
    rig.ack(0);
    assert_eq!(rig.receive(32), [(2, 1), (4, 1)]);
}

#[test]
fn order_follows_the_group_s_wish_and_without_one_the_topic_s_type() {
    let ordered = |topic_type, wish| {
        let mut rig = Rig::new(topic_type, wish, 17);
        rig.send(A, "");
        rig.send(A, "");
        assert_eq!(rig.receive(1), [(0, 1)]);
        rig.receive(1).is_empty()
    };
    assert!(ordered(TopicType::Fifo, None));
    assert!(ordered(TopicType::Normal, Some(true)));
    assert!(!ordered(TopicType::Fifo, Some(false)), "an unacked head must not block a group that is not ordered");
    assert!(!ordered(TopicType::Normal, None));
    assert!(!ordered(TopicType::Mixed, None));
}

#[test]
fn messages_without_a_group_are_free_also_in_an_ordered_group() {
    let mut rig = with(&[0, 0, A, 0, A]);
    assert_eq!(rig.receive(1), [(0, 1)]);
    assert_eq!(rig.receive(2), [(1, 1), (2, 1)]);
    assert_eq!(rig.receive(32), [(3, 1)]);
    rig.pass(LEASE);
    assert_eq!(rig.receive(32), [(2, 2), (4, 1), (0, 2), (1, 2), (3, 2)]);
}

#[test]
fn a_nacked_head_blocks_its_group_until_its_time_and_the_others_of_the_batch_are_back() {
    let mut rig = with(&[A, A, A]);
    rig.receive(2);
    let grant = rig.grants;
    assert_eq!(rig.nack(0, grant, 30), Some(Changed::Waiting));
    rig.pass(30);
    assert_eq!(rig.receive(32), [], "1 is still with its client");
    rig.ack_of(1, grant);
    assert_eq!(rig.receive(32), [(0, 2), (1, 2), (2, 1)]);
    let grant = rig.grants;
    rig.ack_of(0, grant);
    assert_eq!(rig.nack(1, grant, 0), Some(Changed::Waiting), "2 is still with its client");
    assert_eq!(rig.receive(32), []);
    assert!(rig.nack(2, grant, 0).is_some());
    rig.restart();
    assert_eq!(rig.receive(32), [(1, 3), (2, 2)]);
}

#[test]
fn a_longer_lease_of_the_head_keeps_its_group_waiting() {
    let mut rig = with(&[A, A]);
    rig.receive(1);
    rig.extend(0, rig.grants, rig.now + 3 * LEASE);
    rig.pass(2 * LEASE);
    assert_eq!(rig.receive(32), []);
    rig.restart();
    assert_eq!(rig.receive(32), []);
    rig.pass(LEASE);
    assert_eq!(rig.receive(32), [(0, 2)]);
    rig.ack(0);
    assert_eq!(rig.receive(32), [(1, 1)]);
}

#[test]
fn an_exhausted_head_goes_to_the_dead_letters_and_its_group_goes_on() {
    let mut rig = Rig::new(TopicType::Fifo, None, 2);
    for _ in 0..4 {
        rig.send(A, "");
    }
    assert_eq!(rig.receive(2), [(0, 1), (1, 1)]);
    rig.pass(LEASE);
    assert_eq!(rig.receive(2), [(0, 2), (1, 2)]);
    rig.ack(1);
    rig.pass(LEASE);
    assert_eq!(rig.receive(32), [], "nothing overtakes a message on its way to the dead letters");
    assert_eq!(rig.bury(), Some(0));
    assert_eq!(rig.folded.leases.len(), 0, "1 was acknowledged: it is done with 0");
    rig.restart();
    assert_eq!(rig.receive(32), [(2, 1), (3, 1)]);
}

#[test]
fn a_delivery_nobody_took_costs_no_attempt_and_its_group_goes_on_at_once() {
    let mut rig = with(&[A, A, A]);
    let grants = rig.receive_with("*", 2);
    rig.give_back(&grants[1..]);
    assert_eq!(rig.receive(32), [], "0 is with its client");
    rig.give_back(&grants[..1]);
    rig.restart();
    assert_eq!(rig.receive(32), [(0, 1), (1, 1)]);
    rig.ack(0);
    rig.ack(1);
    assert_eq!(rig.receive(32), [(2, 1)]);
}

#[test]
fn a_group_is_given_only_to_a_member_that_wants_its_front() {
    let mut rig = Rig::fifo();
    assert!(rig.receive_with("x", 1).is_empty() && rig.receive_with("y", 1).is_empty());
    for (key, tag) in [(A, "x"), (A, "y"), (A, "x"), (B, "y"), (A, "z")] {
        rig.send(key, tag);
    }
    let offsets = |grants: Vec<crate::broker::delivery::lease::Grant>| -> Vec<u64> {
        grants.iter().map(|grant| grant.entry.offset.get()).collect()
    };
    assert_eq!(offsets(rig.receive_with("x", 32)), [0]);
    assert_eq!(offsets(rig.receive_with("y", 32)), [3], "1 must wait for 0");
    assert_eq!(rig.ack_of(0, 3), Acked::Now);
    assert_eq!(offsets(rig.receive_with("y", 32)), [1]);
    let grant = rig.grants;
    assert!(rig.receive_with("x", 32).is_empty());
    rig.ack_of(1, grant);
    assert_eq!(offsets(rig.receive_with("x", 32)), [2]);
    rig.ack(2);
    assert!(rig.receive_with("*", 32).is_empty(), "z was wanted by nobody when its turn came");
}

#[test]
fn a_front_that_nobody_wants_any_more_does_not_hold_up_its_group() {
    let mut rig = Rig::fifo();
    assert!(rig.receive_with("x", 1).is_empty());
    rig.send(A, "x");
    rig.send(A, "y");
    assert_eq!(rig.receive_with("x", 1).len(), 1);
    rig.pass(LEASE);
    assert!(rig.receive_with("y", 32).is_empty());
    rig.pass(120_000);
    assert_eq!(rig.receive_with("y", 32)[0].entry.offset, QueueOffset(1));
    rig.ack(1);
    assert_eq!(rig.folded.leases.len(), 0);
}

#[test]
fn a_change_of_the_setting_loses_nothing_and_repeats_nothing_that_is_done() {
    let mut rig = with(&[A, A, A, A, A, A, A]);
    rig.receive(3);
    rig.ack(2);
    assert_eq!(rig.receive(32), [], "3 to 6 are passed over");
    rig.set_ordered(Some(false));
    rig.send(A, "");
    assert_eq!(rig.receive(2), [(3, 1), (4, 1)], "an unacked head blocks nothing any more");
    assert!(!rig.folded.leases.contains_key(&QueueOffset(2)), "acknowledged, and nothing to wait for");
    rig.restart();
    rig.set_ordered(None);
    assert_eq!(rig.receive(32), [], "0, 1, 3 and 4 are with clients");
    rig.pass(LEASE);
    assert_eq!(rig.receive(32), [(0, 2), (1, 2), (3, 2), (4, 2)]);
    for offset in [0, 1, 3, 4] {
        rig.ack(offset);
    }
    assert_eq!(rig.receive(32), [(5, 1), (6, 1), (7, 1)]);
}

#[test]
fn out_of_retention_is_done_also_what_was_passed_over() {
    let mut rig = with(&[A, A, A, A, A, A, A, A]);
    rig.receive(2);
    rig.ack(1);
    assert_eq!(rig.receive(32), []);
    rig.trim(1);
    assert_eq!(rig.folded.leases.len(), 0, "1 was acknowledged and waited for 0 only");
    rig.trim(4);
    assert_eq!(rig.receive(2), [(4, 1), (5, 1)]);
    rig.trim(8);
    assert_eq!(rig.receive(2), []);
    assert_eq!((rig.in_memory(), rig.folded.leases.len(), rig.folded.lanes.len()), ((0, 0), 0, 0));
}

#[test]
fn a_delivery_that_the_log_forgot_is_stale_and_not_taken_for_done() {
    let mut rig = with(&[A, A, B]);
    rig.receive(1);
    assert_eq!(rig.receive(32), [(2, 1)], "1 is passed over");
    rig.ack_of(0, 1);
    let durable = rig.folded.clone();
    assert_eq!(rig.receive(32), [(1, 1)]);
    let lost = rig.grants;
    rig.folded = durable;
    rig.restart();
    assert_eq!(rig.standing(1, lost), Standing::Stale);
    assert_eq!(rig.ack_of(1, lost), Acked::Stale);
    assert_eq!(rig.receive(32), [(1, 1)]);
}

#[test]
fn a_group_that_may_go_on_wakes_a_receive_that_waits() {
    let mut rig = Rig::new(TopicType::Fifo, None, 2);
    for key in [A, A, A] {
        rig.send(key, "");
    }
    let notify = Arc::new(Notify::new());
    let is_woken = || {
        use futures::FutureExt;
        notify.notified().now_or_never().is_some()
    };
    let wait = |rig: &mut Rig| {
        let id = rig.core.new_waiter();
        rig.core.wait(TOPIC, GROUP, id, &Filter::ALL, &notify);
        id
    };
    rig.receive(1);
    let id = wait(&mut rig);
    rig.ack(0);
    rig.core.wake_if_deliverable(TOPIC, GROUP);
    assert!(is_woken(), "by an ack");
    rig.core.leave(TOPIC, GROUP, id);
    rig.receive(1);
    let id = wait(&mut rig);
    rig.pass(LEASE);
    assert!(is_woken(), "by an expiry");
    rig.core.leave(TOPIC, GROUP, id);
    rig.receive(1);
    wait(&mut rig);
    rig.pass(LEASE);
    assert!(!is_woken());
    assert_eq!(rig.bury(), Some(1));
    assert!(is_woken(), "by a dead letter");
    assert_eq!(rig.core.waiting(TOPIC, GroupId(9)), 0);
}

#[test]
fn a_group_that_is_stuck_costs_bounded_memory_and_one_row_whatever_waits_in_it() {
    let mut rig = with(&[A]);
    rig.receive(1);
    let head = rig.grants;
    for number in 0..500 {
        rig.send(A, "");
        let mine = rig.send(B, "");
        if number % 7 == 0 {
            rig.forget();
        }
        assert_eq!(rig.receive(1), [(mine, 1)]);
        rig.ack(mine);
    }
    assert!(rig.in_memory().1 <= PARKED_PER_LANE_MAX as u64, "{:?}", rig.in_memory());
    assert_eq!((rig.in_memory().0, rig.folded.lanes.len(), rig.folded.leases.len()), (1, 1, 1));
    let waits = crate::broker::delivery::lease::Counts { leased: 1, waiting: 0, ready: 500 };
    assert_eq!(rig.counts(), waits, "whoever looks at the lag sees all that waits");
    rig.restart();
    assert_eq!(rig.counts(), waits);
    assert_eq!(rig.ack_of(0, head), Acked::Now);
    let mut got = Vec::new();
    while let [(offset, 1)] = rig.receive(1)[..] {
        got.push(offset);
        rig.ack(offset);
    }
    assert_eq!(got, (0..500).map(|number| 1 + 2 * number).collect::<Vec<_>>());
    assert_eq!((rig.in_memory(), rig.folded.lanes.len()), ((0, 0), 0));
}

#[test]
fn many_groups_that_wait_share_the_memory_of_their_queue() {
    let mut rig = Rig::fifo();
    for key in (1..=40).chain(1..=40).chain(1..=40) {
        rig.send(key, "");
    }
    assert_eq!(rig.receive(40).len(), 40);
    assert_eq!(rig.receive(40), []);
    assert!(rig.in_memory().1 <= PARKED_PER_QUEUE_MAX as u64, "{:?}", rig.in_memory());
    rig.pass(LEASE);
    let mut next: BTreeMap<u64, u64> = (0..40).map(|key| (key, 0)).collect();
    for _ in 0..120 {
        let got = rig.receive(1);
        let [(offset, _)] = got[..] else { panic!("{got:?}") };
        rig.ack(offset);
        let turn = next.get_mut(&(offset % 40)).unwrap();
        assert_eq!(offset / 40, *turn, "message group {} out of order", offset % 40);
        *turn += 1;
    }
    assert_eq!(rig.receive(1), []);
}

#[test]
fn a_queue_that_is_one_lane_keeps_what_it_cannot_give_unconsidered() {
    let mut leases = QueueLeases::default();
    leases.set_ordering(Ordering::WholeQueue);
    let mut out = crate::broker::delivery::lease::Offered::default();
    assert!(leases.offer(grouped(0, A), Want::Here, terms(1, 100), &mut out));
    assert!(leases.offer(grouped(1, B), Want::Here, terms(1, 100), &mut out), "the same receive gets the next");
    assert!(!leases.offer(grouped(2, 0), Want::Here, terms(2, 100), &mut out));
    assert_eq!((leases.next(), leases.lanes().in_memory()), (QueueOffset(2), 0));
    assert_eq!(leases.ack(QueueOffset(1), &mut Vec::new()).map(|(attempt, _)| attempt), Some(1));
    leases.fall_due(crate::model::time::Timestamp(100), 17);
    let mut again = crate::broker::delivery::lease::Offered::default();
    let room = Room { max: 32, outstanding_max: 100, terms: terms(3, 300) };
    leases.grant_lanes(&|_| Want::Here, &|_, _| Fence::Open, &room, &mut again);
    let got: Vec<_> = again.grants.iter().map(|grant| (grant.entry.offset.get(), grant.attempt)).collect();
    assert_eq!(got, [(0, 2), (1, 2)]);
    assert!(leases.offer(grouped(2, 0), Want::Here, terms(3, 300), &mut again), "it was given all before");
    assert_eq!(QUEUE, crate::model::position::QueueId(0));
}

#[test]
fn groups_that_are_read_back_one_message_at_a_time_do_not_fill_the_memory() {
    let mut rig = Rig::fifo();
    for key in (1..=40).cycle().take(200) {
        rig.send(key, "");
    }
    let heads = rig.receive(40);
    assert_eq!((heads.len(), rig.receive(1).len()), (40, 0));
    heads.iter().for_each(|(offset, _)| assert_eq!(rig.ack(*offset), Acked::Now));
    rig.forget();
    for number in 1..=40 {
        assert_eq!(rig.receive(1).len(), 1);
        let (lanes, parked) = rig.in_memory();
        assert!(parked <= (PARKED_PER_QUEUE_MAX + READ_BACK_MAX) as u64, "{parked} after {number} of {lanes}");
        assert_eq!(rig.counts().ready + rig.counts().leased, 160, "none is forgotten");
    }
}

#[test]
fn what_was_acked_is_done_when_nobody_wants_the_one_in_front_of_it() {
    let mut rig = Rig::fifo();
    for tag in ["x", "y", "y"] {
        rig.send(A, tag);
    }
    assert_eq!(rig.receive_with("x||y", 2).len(), 2);
    assert_eq!(rig.ack(1), Acked::Now);
    rig.pass(LEASE);
    rig.pass(120_000);
    let got: Vec<u64> = rig.receive_with("y", 32).iter().map(|grant| grant.entry.offset.get()).collect();
    assert_eq!(got, [2], "1 was acknowledged, and nothing in front of it came again");
    assert_eq!(rig.folded.leases.len(), 1);
}

#[test]
fn a_repeated_ack_counts_until_the_end_of_a_lease_that_was_made_longer_also_after_a_restart() {
    let mut rig = with(&[A, A]);
    assert_eq!(rig.receive(2).len(), 2);
    let (grant, first_text) = (rig.last, rig.receipt(1, rig.last));
    rig.extend(1, grant, rig.now + 3 * LEASE);
    assert_eq!(rig.ack_of(1, grant), Acked::Now);
    rig.pass(2 * LEASE);
    for _ in 0..2 {
        let mut unit = crate::store::record::Unit::state();
        let again = rig.core.ack(&first_text, crate::model::time::Timestamp(rig.now), &mut Vec::new(), &mut unit);
        assert_eq!(again, Acked::Before);
        rig.restart();
    }
}

#[test]
fn who_waits_for_a_message_hears_that_the_one_in_front_of_it_was_dropped() {
    use futures::FutureExt;
    let mut rig = Rig::fifo();
    rig.send(A, "x");
    rig.send(A, "y");
    assert_eq!(rig.receive_with("x", 1).len(), 1);
    rig.pass(LEASE + 60_000);
    assert!(rig.receive_with("y", 1).is_empty(), "0 is first");
    let (notify, id) = (Arc::new(Notify::new()), rig.core.new_waiter());
    rig.core.wait(TOPIC, GROUP, id, &crate::model::tag::TagFilter::parse("y").unwrap().into(), &notify);
    rig.pass(65_000);
    assert!(rig.receive_with("z", 1).is_empty());
    assert!(notify.notified().now_or_never().is_some(), "0 was wanted by nobody any more, 1 is next");
}

#[test]
fn an_acked_message_that_comes_again_is_not_taken_for_exhausted_after_a_restart() {
    let mut rig = Rig::new(TopicType::Fifo, None, 2);
    rig.send(A, "");
    rig.send(A, "");
    assert_eq!(rig.receive(2).len(), 2);
    rig.pass(LEASE);
    let grants = rig.receive_with("*", 2);
    assert_eq!(rig.ack(1), Acked::Now, "at its last attempt");
    rig.give_back(&grants[..1]);
    assert_eq!(rig.receive(1), [(0, 2)], "1 comes again, too");
    assert_eq!(rig.ack(0), Acked::Now);
    rig.restart();
    assert_eq!(rig.bury(), None, "its consumer never failed");
    assert_eq!(rig.receive(1), [(1, 3)]);
}

#[test]
fn what_was_delivered_is_kept_after_a_restart_for_a_member_that_is_not_back_yet() {
    let mut rig = Rig::fifo();
    rig.send(A, "y");
    assert_eq!(rig.receive_with("y", 1).len(), 1);
    rig.restart();
    let now = crate::model::time::Timestamp(rig.now);
    rig.core.subscription_mut(TOPIC, GROUP).unwrap().expect_unknown_filters(now);
    rig.pass(LEASE);
    assert!(rig.receive_with("x", 1).is_empty(), "not for it, and not to be dropped by it");
    assert_eq!(rig.receive_with("y", 1)[0].attempt, 2);
}
