//! Tables with `now` passed in, and a property test against a model that keeps one plain list of messages.

use proptest::prelude::*;

use super::*;
use crate::broker::delivery::ordered::Want;
use crate::broker::delivery::testing::{entry, tagged, terms};
use crate::model::tag::{TagFilter, tag_hash};

impl QueueLeases {
    fn grant_ready_by(&mut self, filter: &TagFilter, max: usize, terms: LeaseTerms) -> Vec<Grant> {
        self.grant_ready(|entry| filter.may_match(entry.tag_hash), max, terms)
    }
}

fn offered(leases: &mut QueueLeases, offset: u64, grant: u64, deadline: u64) -> Grant {
    let mut out = Offered::default();
    leases.offer(entry(offset), Want::Here, terms(grant, deadline), &mut out);
    out.grants[0]
}

#[test]
fn an_expired_lease_is_stale_even_before_anyone_looked() {
    let mut leases = QueueLeases::default();
    offered(&mut leases, 0, 1, 100);
    assert!(matches!(leases.standing(QueueOffset(0), GrantId(1), Timestamp(99)), Standing::Current { attempt: 1, .. }));
    assert_eq!(leases.standing(QueueOffset(0), GrantId(1), Timestamp(100)), Standing::Stale);
}

#[test]
fn a_redelivery_counts_an_attempt_and_makes_the_old_grant_stale() {
    let mut leases = QueueLeases::default();
    offered(&mut leases, 0, 1, 100);
    assert_eq!(leases.fall_due(Timestamp(99), 17), Due::default());
    assert_eq!(leases.fall_due(Timestamp(100), 17).ready, vec![0]);
    let again = leases.grant_ready_by(&TagFilter::All, 10, terms(2, 300));
    assert_eq!(again[0].attempt, 2);
    assert_eq!(leases.standing(QueueOffset(0), GrantId(1), Timestamp(150)), Standing::Stale);
    assert!(leases.settle(QueueOffset(0), &mut Vec::new()));
    assert_eq!(leases.standing(QueueOffset(0), GrantId(2), Timestamp(150)), Standing::Done);
    assert_eq!(leases.outstanding(), 0);
}

#[test]
fn a_nack_waits_for_its_time_and_the_last_attempt_dies() {
    let mut leases = QueueLeases::default();
    offered(&mut leases, 0, 1, 1_000);
    assert_eq!(leases.nack(QueueOffset(0), Timestamp(500), Timestamp(10), 2), Some(Changed::Waiting));
    assert!(leases.fall_due(Timestamp(499), 2).ready.is_empty());
    assert_eq!(leases.fall_due(Timestamp(500), 2).ready, vec![0]);
    leases.grant_ready_by(&TagFilter::All, 1, terms(2, 1_000));
    assert_eq!(leases.nack(QueueOffset(0), Timestamp(600), Timestamp(600), 2), Some(Changed::Dying));
    assert_eq!(leases.dying(QueueOffset(0)).map(|(_, attempts)| attempts), Some(2));
    assert!(leases.grant_ready_by(&TagFilter::All, 1, terms(3, 2_000)).is_empty());
}

#[test]
fn an_expired_last_attempt_dies_instead_of_coming_back() {
    let mut leases = QueueLeases::default();
    offered(&mut leases, 0, 1, 100);
    let due = leases.fall_due(Timestamp(100), 1);
    assert_eq!((due.ready.len(), due.dying), (0, vec![QueueOffset(0)]));
}

#[test]
fn a_delivery_that_was_never_written_costs_no_attempt() {
    let mut leases = QueueLeases::default();
    let grant = offered(&mut leases, 0, 1, 100);
    assert_eq!(leases.give_back(QueueOffset(0), grant.terms.grant), Some((0, 0)));
    assert_eq!(leases.give_back(QueueOffset(0), grant.terms.grant), None);
    assert_eq!(leases.grant_ready_by(&TagFilter::All, 1, terms(2, 200))[0].attempt, 1);
}

#[test]
fn only_renewed_leases_end_with_their_client() {
    let mut leases = QueueLeases::default();
    offered(&mut leases, 0, 1, 100);
    let mut out = Offered::default();
    leases.offer(entry(1), Want::Here, LeaseTerms { auto_renew: true, ..terms(2, 100) }, &mut out);
    let (due, released) = leases.release_holders(&BTreeSet::from([HolderId(1)]), 17);
    assert_eq!((due.ready.len(), released), (1, vec![(QueueOffset(1), 1)]));
    assert!(matches!(leases.standing(QueueOffset(0), GrantId(1), Timestamp(0)), Standing::Current { .. }));
}

#[test]
fn the_death_of_its_client_does_not_shorten_the_back_off_of_a_nacked_message() {
    let mut leases = QueueLeases::default();
    let mut out = Offered::default();
    leases.offer(entry(0), Want::Here, LeaseTerms { auto_renew: true, ..terms(1, 1_000) }, &mut out);
    leases.extend(QueueOffset(0), Timestamp(500));
    assert_eq!(leases.holders().count(), 0);
    let (due, released) = leases.release_holders(&BTreeSet::from([HolderId(1)]), 17);
    assert!(due.ready.is_empty() && released.is_empty());
    assert_eq!(leases.fall_due(Timestamp(500), 17).ready.len(), 1);
}

#[test]
fn a_message_wanted_by_another_member_is_kept_for_it_and_one_wanted_by_nobody_is_done() {
    let mut leases = QueueLeases::default();
    let mut out = Offered::default();
    let (a, b) = (tag_hash("A"), tag_hash("B"));
    leases.offer(tagged(0, b), Want::Elsewhere, terms(1, 100), &mut out);
    leases.offer(tagged(1, b), Want::Nobody, terms(1, 100), &mut out);
    assert_eq!((out.grants.len(), out.set_aside), (0, vec![QueueOffset(0)]));
    assert_eq!(leases.standing(QueueOffset(1), GrantId(1), Timestamp(0)), Standing::Done);
    assert!(leases.grant_ready_by(&TagFilter::parse("A").unwrap(), 10, terms(2, 100)).is_empty());
    assert_eq!(leases.grant_ready_by(&TagFilter::parse("B").unwrap(), 10, terms(2, 100))[0].attempt, 1);
    assert_ne!(a, b);
}

#[test]
fn trimming_forgets_what_is_out_of_retention() {
    let mut leases = QueueLeases::default();
    offered(&mut leases, 0, 1, 100);
    offered(&mut leases, 1, 1, 100);
    leases.trim(QueueOffset(1));
    assert_eq!((leases.outstanding(), leases.next()), (1, QueueOffset(2)));
    leases.trim(QueueOffset(9));
    assert_eq!((leases.outstanding(), leases.next(), leases.next_due()), (0, QueueOffset(9), None));
}

#[derive(Clone, Debug)]
enum Op {
    Offer,
    Grant { max: usize },
    Ack { pick: usize },
    Nack { pick: usize, after: u64 },
    Extend { pick: usize, by: u64 },
    GiveBack { pick: usize },
    Pass { millis: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Offer),
        2 => (1usize..4).prop_map(|max| Op::Grant { max }),
        2 => any::<usize>().prop_map(|pick| Op::Ack { pick }),
        2 => (any::<usize>(), 0u64..60).prop_map(|(pick, after)| Op::Nack { pick, after }),
        1 => (any::<usize>(), 1u64..60).prop_map(|(pick, by)| Op::Extend { pick, by }),
        1 => any::<usize>().prop_map(|pick| Op::GiveBack { pick }),
        3 => (1u64..50).prop_map(|millis| Op::Pass { millis }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    With { grant: u64, until: u64 },
    Back { at: u64 },
    Done,
    Dead,
}

const MAX_ATTEMPTS: u32 = 3;
const LEASE: u64 = 40;

/// One line per message: how often delivered, and where it is.
#[derive(Default)]
struct Model {
    messages: Vec<(u32, Fate)>,
}

impl Model {
    fn pass(&mut self, now: u64) {
        for (attempts, fate) in &mut self.messages {
            let ended = match *fate {
                Fate::With { until, .. } => until <= now,
                Fate::Back { at } => at <= now && at != 0,
                Fate::Done | Fate::Dead => false,
            };
            if ended {
                *fate = if *attempts >= MAX_ATTEMPTS { Fate::Dead } else { Fate::Back { at: 0 } };
            }
        }
    }

    fn with_clients(&self) -> Vec<usize> {
        (0..self.messages.len()).filter(|&index| matches!(self.messages[index].1, Fate::With { .. })).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn leases_agree_with_a_plain_list_of_messages(ops in prop::collection::vec(op(), 1..40)) {
        let mut leases = QueueLeases::default();
        let mut model = Model::default();
        let (mut now, mut grants) = (1u64, 0u64);
        for op in ops {
            grants += 1;
            let all = model.with_clients();
            let chosen = |pick: usize| all.get(pick % all.len().max(1)).copied();
            match op {
                Op::Offer => {
                    offered(&mut leases, model.messages.len() as u64, grants, now + LEASE);
                    model.messages.push((1, Fate::With { grant: grants, until: now + LEASE }));
                }
                Op::Grant { max } => {
                    let got = leases.grant_ready_by(&TagFilter::All, max, terms(grants, now + LEASE));
                    let ready: Vec<usize> = (0..model.messages.len())
                        .filter(|&index| model.messages[index].1 == Fate::Back { at: 0 }).take(max).collect();
                    let offsets: Vec<usize> = got.iter().map(|grant| grant.entry.offset.get() as usize).collect();
                    prop_assert_eq!(&offsets, &ready);
                    for (index, grant) in ready.into_iter().zip(got) {
                        let (attempts, fate) = &mut model.messages[index];
                        *attempts += 1;
                        prop_assert_eq!(grant.attempt, *attempts);
                        *fate = Fate::With { grant: grants, until: now + LEASE };
                    }
                }
                Op::Ack { pick } => if let Some(index) = chosen(pick) {
                    prop_assert!(leases.settle(QueueOffset(index as u64), &mut Vec::new()));
                    model.messages[index].1 = Fate::Done;
                },
                Op::Nack { pick, after } => if let Some(index) = chosen(pick) {
                    leases.nack(QueueOffset(index as u64), Timestamp(now + after), Timestamp(now), MAX_ATTEMPTS);
                    let attempts = model.messages[index].0;
                    model.messages[index].1 = if attempts >= MAX_ATTEMPTS { Fate::Dead }
                        else if after == 0 { Fate::Back { at: 0 } } else { Fate::Back { at: now + after } };
                },
                Op::Extend { pick, by } => if let Some(index) = chosen(pick) {
                    leases.extend(QueueOffset(index as u64), Timestamp(now + by));
                    if let Fate::With { until, .. } = &mut model.messages[index].1 { *until = now + by; }
                },
                Op::GiveBack { pick } => if let Some(index) = chosen(pick) {
                    let Fate::With { grant, .. } = model.messages[index].1 else { unreachable!() };
                    prop_assert!(leases.give_back(QueueOffset(index as u64), GrantId(grant)).is_some());
                    model.messages[index].0 -= 1;
                    model.messages[index].1 = Fate::Back { at: 0 };
                },
                Op::Pass { millis } => {
                    now += millis;
                    leases.fall_due(Timestamp(now), MAX_ATTEMPTS);
                    model.pass(now);
                }
            }
            let counts = leases.counts();
            let count = |wanted: fn(&Fate) -> bool| model.messages.iter().filter(|(_, fate)| wanted(fate)).count() as u64;
            prop_assert_eq!(counts.leased, count(|fate| matches!(fate, Fate::With { .. })));
            prop_assert_eq!(counts.ready, count(|fate| *fate == Fate::Back { at: 0 }));
            prop_assert_eq!(leases.outstanding() as u64, count(|fate| *fate != Fate::Done));
            for (offset, (attempts, fate)) in (0..).zip(&model.messages) {
                let grant = match fate { Fate::With { grant, .. } => *grant, _ => 0 };
                let standing = leases.standing(QueueOffset(offset), GrantId(grant), Timestamp(now));
                match fate {
                    Fate::With { .. } => {
                        let is_current = matches!(standing, Standing::Current { attempt, .. } if attempt == *attempts);
                        prop_assert!(is_current, "{standing:?}");
                    }
                    Fate::Done => prop_assert_eq!(standing, Standing::Done),
                    Fate::Back { .. } | Fate::Dead => prop_assert_eq!(standing, Standing::Stale),
                }
            }
        }
    }
}
