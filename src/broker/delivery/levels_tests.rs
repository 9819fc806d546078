//! The choice among levels, against a model that looks at every message each time.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::broker::delivery::subscription::QueueState;
use crate::broker::delivery::testing::{tagged, terms};
use crate::broker::delivery::verdicts::Judges;
use crate::model::filter::Filter;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, GroupId, LogPosition, RecordAt, ShardId, TopicId};
use crate::model::priority::{AGEING, LEVELS, queue_of_level};
use crate::model::receipt::Receipt;
use crate::model::sql::Sql;
use crate::model::tag::{TagFilter, tag_hash};
use crate::model::topic::{Permission, Promise, Topic, TopicType};
use crate::store::QueueEntry;
use crate::store::record::MessageHead;

const TOPIC: TopicId = TopicId(1);
const GROUP: GroupId = GroupId(1);
const LANES: u32 = 2;
const LEASE_MS: u64 = 5_000;

fn core() -> Core {
    let mut core = Core::new(100_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let topic = Topic {
        id: TOPIC,
        name: TopicName::trusted("", "t"),
        topic_type: TopicType::Priority,
        queues: LANES * LEVELS,
        permission: Permission::default(),
        promise: Promise::Durable,
        retention: None,
        lite_ttl: None,
    };
    core.put_topic(Arc::new(topic), None);
    let group = Group { max_attempts: 1_000, ..Group::with_defaults(GROUP, GroupName::trusted("", "g")) };
    let queues = (0..LANES * LEVELS).map(|_| QueueState::default()).collect();
    core.put_subscription(TOPIC, Subscription::new(Arc::new(group), queues));
    core
}

fn send(core: &mut Core, queue: QueueId, tag: &str, now: u64) -> QueueOffset {
    send_keyed(core, queue, (tag, 0), now)
}

fn send_of(core: &mut Core, queue: QueueId, order_key: u64, now: u64) -> QueueOffset {
    send_keyed(core, queue, ("", order_key), now)
}

fn send_keyed(core: &mut Core, queue: QueueId, (tag, order_key): (&str, u64), now: u64) -> QueueOffset {
    let offset = core.accepted(TOPIC, queue).unwrap();
    core.accept(TOPIC, queue, 1);
    let head = MessageHead {
        topic: TOPIC,
        queue,
        offset,
        stored_at: Timestamp(now),
        tag_hash: tag_hash(tag),
        body_bytes: 1,
        promise: Promise::Durable,
        order_key,
    };
    core.show(&head, RecordAt { position: LogPosition(offset.get()), length: 1 });
    offset
}

fn receive(core: &mut Core, filter: &str, max: usize, grant: u64, now: u64) -> Selection {
    receive_with(core, &TagFilter::parse(filter).unwrap().into(), max, grant, now)
}

fn receive_with(core: &mut Core, filter: &Filter, max: usize, grant: u64, now: u64) -> Selection {
    let wish = Wish {
        topic: TOPIC,
        group: GROUP,
        filter,
        max,
        outstanding_max: 1_000,
        terms: terms(grant, now + LEASE_MS),
        steady: Timestamp(now),
    };
    core.select(&wish, Timestamp(now), &mut Unit::state())
}

fn levels(selection: &Selection) -> Vec<u32> {
    selection.grants.iter().map(|(queue, _)| level_of_queue(*queue)).collect()
}

#[test]
fn what_is_urgent_is_not_overtaken_because_very_many_lie_before_it_that_nobody_wants() {
    let mut core = core();
    let (urgent, slow) = (queue_of_level(9, QueueId(0), LANES * LEVELS), queue_of_level(0, QueueId(0), LANES * LEVELS));
    for _ in 0..=SCAN_MAX {
        send(&mut core, urgent, "other", 0);
    }
    send(&mut core, urgent, "mine", 0);
    send(&mut core, slow, "mine", 0);
    let mut got = Vec::new();
    for look in 0..3 {
        let selection = receive(&mut core, "mine", 1, look, 1);
        assert!(selection.more || !selection.grants.is_empty(), "the receive must look again, not wait");
        got.extend(levels(&selection));
        if !got.is_empty() {
            break;
        }
    }
    assert_eq!(got, [9]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    New,
    Held { grant: u64, until: u64 },
    Back { since: u64 },
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    queue: QueueId,
    offset: QueueOffset,
    stored: u64,
    state: State,
}

impl Message {
    fn since(&self) -> Option<u64> {
        match self.state {
            State::New => Some(self.stored),
            State::Back { since } => Some(since),
            State::Held { .. } | State::Done => None,
        }
    }

    fn rank(&self) -> i64 {
        self.since().map_or(i64::MAX, |since| {
            i64::try_from(since).unwrap()
                - i64::from(self.queue.get() % 10) * i64::try_from(AGEING.as_millis()).unwrap()
        })
    }
}

/// What each queue would give first: what came back, in order; else what is new, in order.
fn fronts(all: &[Message]) -> Vec<usize> {
    let mut fronts = Vec::new();
    for queue in (0..LANES * LEVELS).map(QueueId) {
        let first = |wanted: fn(&Message) -> bool| {
            (0..all.len())
                .filter(|&index| all[index].queue == queue && wanted(&all[index]))
                .min_by_key(|&index| all[index].offset)
        };
        let back = first(|message| matches!(message.state, State::Back { .. }));
        fronts.extend(back.or_else(|| first(|message| message.state == State::New)));
    }
    fronts
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32, u32),
    Receive(usize),
    Ack(usize),
    Nack(usize, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..LANES, 0..LEVELS).prop_map(|(lane, level)| Step::Send(lane, level)),
        3 => (1usize..6).prop_map(Step::Receive),
        1 => any::<usize>().prop_map(Step::Ack),
        1 => (any::<usize>(), 0u64..4_000).prop_map(|(which, pause)| Step::Nack(which, pause)),
        2 => (0u64..25_000).prop_map(Step::Wait),
    ]
}

fn receipt(message: &Message, grant: u64, until: u64) -> Receipt {
    Receipt {
        shard: ShardId(0),
        group: GROUP,
        topic: TOPIC,
        queue: message.queue,
        offset: message.offset,
        attempt: 1,
        grant: GrantId(grant),
        lease_end: Timestamp(until),
        order_key: 0,
    }
}

fn held(all: &[Message], which: usize) -> Option<(usize, u64, u64)> {
    let held: Vec<_> = (0..all.len())
        .filter_map(|index| match all[index].state {
            State::Held { grant, until } => Some((index, grant, until)),
            _ => None,
        })
        .collect();
    (!held.is_empty()).then(|| held[which % held.len()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_overtakes_what_ranks_before_it_and_no_level_starves(steps in prop::collection::vec(step(), 1..40)) {
        let mut core = core();
        let mut all: Vec<Message> = Vec::new();
        // Nacked messages that wait out their pause.
        let mut pauses: Vec<(usize, u64)> = Vec::new();
        let mut now = 1_000_000u64;
        for (step, grant) in steps.into_iter().zip(1u64..) {
            now += 1;
            if let Step::Wait(millis) = step {
                now += millis;
            }
            core.fall_due(Timestamp(now));
            for message in &mut all {
                if let State::Held { until, .. } = message.state && until <= now {
                    message.state = State::Back { since: until };
                }
            }
            pauses.retain(|&(index, until)| {
                if until <= now {
                    all[index].state = State::Back { since: until };
                }
                until > now
            });
            match step {
                Step::Wait(_) => {}
                Step::Send(lane, level) => {
                    let queue = queue_of_level(level, QueueId(lane * LEVELS), LANES * LEVELS);
                    let offset = send(&mut core, queue, "", now);
                    all.push(Message { queue, offset, stored: now, state: State::New });
                }
                Step::Receive(max) => {
                    let selection = receive(&mut core, "*", max, grant, now);
                    for (queue, got) in &selection.grants {
                        let fronts = fronts(&all);
                        let best = fronts.iter().map(|&index| all[index].rank()).min().unwrap();
                        let oldest = fronts.iter().filter_map(|&index| all[index].since()).min().unwrap();
                        let index = fronts.into_iter().find(|&index| {
                            all[index].queue == *queue && all[index].offset == got.entry.offset
                        });
                        let index = index.expect("what was given is not the first of its queue");
                        prop_assert_eq!(all[index].rank(), best);
                        let longest = u64::try_from((AGEING * (LEVELS - 1)).as_millis()).unwrap();
                        prop_assert!(all[index].since().unwrap() <= oldest + longest, "the oldest starves");
                        all[index].state = State::Held { grant, until: now + LEASE_MS };
                    }
                    prop_assert!(selection.grants.len() == max || fronts(&all).is_empty(), "something was kept back");
                }
                Step::Ack(which) => {
                    if let Some((index, grant, until)) = held(&all, which) {
                        core.ack(&receipt(&all[index], grant, until), Timestamp(now), &mut Vec::new(), &mut Unit::state());
                        all[index].state = State::Done;
                    }
                }
                Step::Nack(which, pause) => {
                    if let Some((index, grant, until)) = held(&all, which) {
                        let receipt = receipt(&all[index], grant, until);
                        core.nack(&receipt, 1, Timestamp(now + pause), Timestamp(now), &mut Unit::state());
                        if pause == 0 {
                            all[index].state = State::Back { since: now };
                        } else {
                            all[index].state = State::Done;
                            pauses.push((index, now + pause));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_most_urgent_comes_first_and_those_alike_take_turns() {
    let mut core = core();
    for level in [0, 9, 3, 9] {
        send(&mut core, QueueId(level), "", 100);
    }
    send(&mut core, QueueId(10 + 9), "", 100);
    assert_eq!(levels(&receive(&mut core, "*", 32, 1, 200)), [9, 9, 9, 3, 0]);
    for queue in [9, 19, 9, 19] {
        send(&mut core, QueueId(queue), "", 300);
    }
    let firsts: Vec<u32> = (2..6).map(|grant| receive(&mut core, "*", 1, grant, 400).grants[0].0.get()).collect();
    assert_eq!(firsts.iter().filter(|queue| **queue == 9).count(), 2, "{firsts:?}");
}

#[test]
fn a_retry_keeps_its_level_and_does_not_count_the_time_it_was_away() {
    let mut core = core();
    send(&mut core, QueueId(2), "", 0);
    receive(&mut core, "*", 1, 1, 0);
    let back = LEASE_MS + Duration::from_secs(3_600).as_millis() as u64;
    core.fall_due(Timestamp(LEASE_MS));
    let again = receive(&mut core, "*", 1, 2, back);
    assert_eq!(levels(&again), [2], "it waited an hour");
    let late = back + LEASE_MS;
    core.fall_due(Timestamp(late));
    send(&mut core, QueueId(3), "", late);
    assert_eq!(levels(&receive(&mut core, "*", 2, 3, late)), [3, 2], "away is not waiting");
}

#[test]
fn a_level_whose_front_lies_on_disk_is_read_before_anything_less_urgent_is_given() {
    let mut core = core();
    let mut tails: Vec<QueueTail> = (0..LANES * LEVELS).map(|_| QueueTail::default()).collect();
    tails[8] = QueueTail::restored(QueueOffset(0), QueueOffset(3));
    let topic = core.topic(TOPIC).unwrap().topic.clone();
    core.topics.get_mut(&TOPIC).unwrap().tails = tails;
    core.put_topic(topic, None);
    send(&mut core, QueueId(1), "", 50);
    let first = receive(&mut core, "*", 2, 1, 100);
    assert!(first.grants.is_empty());
    assert_eq!(first.missing, Some((QueueId(8), Missing::Queue(QueueOffset(0)))));
    let entries = (0..2).map(|offset| QueueEntry { stored_at: Timestamp(40), ..tagged(offset, 0) }).collect();
    core.read_ahead(TOPIC, GROUP, QueueId(8), entries);
    let second = receive(&mut core, "*", 3, 2, 100);
    assert_eq!(levels(&second), [8, 8], "what follows on disk may be more urgent than level 1");
    let third = receive(&mut core, "*", 3, 3, 100);
    assert_eq!(third.missing, Some((QueueId(8), Missing::Queue(QueueOffset(2)))));
}

#[test]
fn what_a_filter_passes_over_neither_hides_the_rest_nor_is_lost_for_others() {
    let mut core = core();
    receive(&mut core, "B", 1, 1, 0);
    send(&mut core, QueueId(9), "B", 10);
    send(&mut core, QueueId(9), "A", 11);
    send(&mut core, QueueId(5), "A", 12);
    assert_eq!(levels(&receive(&mut core, "A", 32, 2, 20)), [9, 5]);
    assert_eq!(levels(&receive(&mut core, "B", 32, 3, 30)), [9]);
}

/// Whoever is asked wants messages with tag A.
fn judge(core: &mut Core, judges: &Judges, entries: &[(QueueId, QueueEntry)]) {
    let ruling = |(queue, entry): &(QueueId, QueueEntry)| {
        let verdict = if entry.tag_hash == tag_hash("A") { judges.all() } else { judges.none() };
        (*queue, entry.offset, verdict)
    };
    let rulings: Vec<_> = entries.iter().map(ruling).collect();
    core.judged(TOPIC, GROUP, judges, &rulings);
}

#[test]
fn a_level_that_an_expression_must_look_at_is_judged_before_anything_less_urgent_is_given() {
    let mut core = core();
    let filter = Filter::Sql(Arc::new(Sql::parse("TAGS = 'A'").unwrap()));
    for (level, tag) in [(9, "B"), (9, "A"), (4, "A"), (0, "A")] {
        send(&mut core, QueueId(level), tag, 10);
    }
    let first = receive_with(&mut core, &filter, 32, 1, 20);
    assert!(first.grants.is_empty() && first.unjudged.len() == 4, "{first:?}");
    let level_4 = first.unjudged.iter().position(|(queue, _)| *queue == QueueId(4)).unwrap();
    let (one, rest): (Vec<_>, Vec<_>) =
        first.unjudged.iter().enumerate().map(|(index, entry)| (index == level_4, *entry)).partition(|(is, _)| *is);
    let entries =
        |list: Vec<(bool, (QueueId, QueueEntry))>| list.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>();
    judge(&mut core, &first.judges, &entries(one));
    let second = receive_with(&mut core, &filter, 32, 2, 20);
    assert!(second.grants.is_empty() && second.unjudged.len() == 3, "level 9 is not known: {second:?}");
    judge(&mut core, &second.judges, &entries(rest));
    assert_eq!(levels(&receive_with(&mut core, &filter, 32, 3, 20)), [9, 4, 0]);
    // What came back keeps its verdict, and its level.
    core.fall_due(Timestamp(20 + LEASE_MS));
    assert_eq!(levels(&receive_with(&mut core, &filter, 2, 4, 20 + LEASE_MS)), [9, 4]);
}

#[test]
fn a_message_for_an_expression_of_another_member_is_kept_for_it_at_its_level() {
    let mut core = core();
    let filter = Filter::Sql(Arc::new(Sql::parse("TAGS = 'A'").unwrap()));
    receive_with(&mut core, &filter, 1, 1, 0);
    send(&mut core, QueueId(9), "A", 10);
    send(&mut core, QueueId(5), "B", 10);
    let first = receive(&mut core, "B", 32, 2, 20);
    assert!(first.grants.is_empty(), "nobody knows yet who wants the first of level 9");
    judge(&mut core, &first.judges, &first.unjudged);
    assert_eq!(levels(&receive(&mut core, "B", 32, 3, 20)), [5]);
    assert_eq!(levels(&receive_with(&mut core, &filter, 32, 4, 20)), [9]);
}

#[test]
fn a_group_that_reads_in_order_is_not_given_a_later_message_for_its_level() {
    let mut core = core();
    let group = Group { ordered: Some(true), ..Group::with_defaults(GROUP, GroupName::trusted("", "g")) };
    core.put_group(&Arc::new(group));
    let first = send_of(&mut core, QueueId(3), 7, 10);
    let second = send_of(&mut core, QueueId(3), 7, 11);
    let got = receive(&mut core, "*", 1, 1, 20);
    assert_eq!(got.grants[0].1.entry.offset, first);
    assert!(receive(&mut core, "*", 1, 2, 20).grants.is_empty(), "the first is with a client");
    // No order any more, but what was passed over is not lost.
    core.put_group(&Arc::new(Group {
        ordered: Some(false),
        ..Group::with_defaults(GROUP, GroupName::trusted("", "g"))
    }));
    let got = receive(&mut core, "*", 2, 3, 20);
    assert_eq!(got.grants.iter().map(|(_, grant)| grant.entry.offset).collect::<Vec<_>>(), [second]);
}
