//! Tables of what we fear most, then any history against a naive model.

use proptest::prelude::*;

use super::*;

const TOPIC: TopicId = TopicId(1);
const FIRST: Duration = Duration::from_secs(6);

fn policy() -> CheckPolicy {
    CheckPolicy {
        pause: Duration::from_secs(30),
        pause_max: Duration::from_secs(100),
        times: 3,
        pending_max: 5,
        ends_max: 2,
    }
}

fn key(id: u32) -> HalfKey {
    HalfKey::new(TOPIC, &format!("id-{id}"))
}

fn at(position: u64) -> RecordAt {
    RecordAt { position: LogPosition(position), length: 100 }
}

fn arrival(stored_at: u64, seq: u64) -> Arrival {
    Arrival { stored_at: Timestamp(stored_at), first_check_after: FIRST, producer: "client".into(), seq: UnitSeq(seq) }
}

/// One durable pending half, stored at 0.
fn one() -> Transactions {
    let mut transactions = Transactions::new(policy());
    transactions.admit(key(1), arrival(0, 1));
    transactions.placed(&key(1), at(64));
    transactions
}

fn take(transactions: &mut Transactions, now: u64) -> Vec<Due> {
    transactions.take_due(TOPIC, Timestamp(now), 100, usize::MAX)
}

#[test]
fn no_more_bytes_are_taken_than_asked_for_and_a_single_larger_one_still_is() {
    let mut transactions = Transactions::new(policy());
    let lengths = [(1, 600), (2, 300), (3, 200), (4, 5_000), (5, 10)];
    for (id, length) in lengths {
        transactions.admit(key(id), arrival(u64::from(id), 1));
        transactions.placed(&key(id), RecordAt { position: LogPosition(64 * u64::from(id)), length });
    }
    let mut take = |max, bytes_max| -> Vec<String> {
        let due = transactions.take_due(TOPIC, Timestamp(7_000), max, bytes_max);
        due.into_iter().map(|due| due.key.id.to_string()).collect()
    };
    assert_eq!(take(9, 1_000), ["id-1", "id-2"], "in order: the next one that would fit does not overtake");
    assert_eq!(take(1, 1_000), ["id-3"]);
    assert_eq!(take(9, 1_000), ["id-4"], "alone");
    assert_eq!(take(9, 0), ["id-5"]);
    assert!(take(9, 1_000).is_empty(), "what was taken is not due for a while");
}

#[test]
fn a_half_is_left_alone_for_its_time_and_then_checked_with_growing_pauses() {
    let mut transactions = one();
    assert!(take(&mut transactions, 5_999).is_empty());
    assert!(transactions.topics_due(Timestamp(5_999)).is_empty());
    assert_eq!(transactions.topics_due(Timestamp(6_000)), [TOPIC]);
    let mut now = 6_000;
    for (number, pause) in [(1, 30_000), (2, 60_000), (3, 100_000)] {
        let due = take(&mut transactions, now);
        assert_eq!(due.len(), 1, "check {number} at {now}");
        assert_eq!((due[0].checks, due[0].at, &*due[0].producer), (number - 1, at(64), "client"));
        let counted = transactions.delivered(&due[0].key, due[0].ticket, Timestamp(now));
        assert_eq!(counted, Some((number, Timestamp(now + pause))));
        assert!(take(&mut transactions, now + pause - 1).is_empty());
        now += pause;
    }
    assert!(take(&mut transactions, now).is_empty(), "asked often enough");
    assert!(transactions.overdue(Timestamp(now - 1), 10).is_empty(), "one more pause to answer the last one");
    assert_eq!(transactions.overdue(Timestamp(now), 10), [key(1)]);
}

#[test]
fn a_check_that_reached_nobody_does_not_count_and_comes_again_soon() {
    let mut transactions = one();
    for round in 0..100u64 {
        let now = 6_000 + round * 1_000;
        let due = take(&mut transactions, now);
        assert_eq!((due.len(), due[0].checks), (1, 0), "round {round}");
        transactions.undelivered(&due[0].key, due[0].ticket, Timestamp(now));
    }
    // Taken by somebody who was never heard of again.
    assert_eq!(take(&mut transactions, 200_000).len(), 1);
    assert!(take(&mut transactions, 204_999).is_empty());
    assert_eq!(take(&mut transactions, 205_000)[0].checks, 0);
}

#[test]
fn a_check_taken_before_the_end_may_not_leave_after_it() {
    let mut transactions = one();
    let due = take(&mut transactions, 6_000).remove(0);
    assert!(transactions.may_deliver(&due.key, due.ticket));
    transactions.end(key(1), HalfOutcome::Committed, UnitSeq(2));
    assert!(!transactions.may_deliver(&due.key, due.ticket));
    assert_eq!(transactions.delivered(&due.key, due.ticket, Timestamp(6_001)), None);
    transactions.undelivered(&due.key, due.ticket, Timestamp(6_001));
    assert!(take(&mut transactions, 1_000_000).is_empty() && transactions.overdue(Timestamp::MAX, 9).is_empty());
    assert_eq!(transactions.pending(), 0);
}

#[test]
fn an_old_ticket_counts_nothing_once_the_check_was_taken_again() {
    let mut transactions = one();
    let first = take(&mut transactions, 6_000).remove(0);
    let second = take(&mut transactions, 11_000).remove(0);
    assert!(!transactions.may_deliver(&first.key, first.ticket));
    assert_eq!(transactions.delivered(&first.key, first.ticket, Timestamp(11_001)), None);
    assert!(transactions.delivered(&second.key, second.ticket, Timestamp(11_001)).is_some());
    assert_eq!(transactions.delivered(&second.key, second.ticket, Timestamp(11_002)), None, "counted once");
}

#[test]
fn what_is_not_durable_yet_is_not_checked() {
    let mut transactions = Transactions::new(policy());
    transactions.admit(key(1), arrival(0, 7));
    assert!(take(&mut transactions, 6_000).is_empty());
    assert_eq!(transactions.known(&key(1)), Some(Known::Pending { at: None, seq: UnitSeq(7), was_checked: false }));
    transactions.placed(&key(1), at(64));
    assert_eq!(take(&mut transactions, 11_000).len(), 1);
}

#[test]
fn ends_are_remembered_until_the_folded_state_knows_them_and_not_without_bound() {
    let mut transactions = Transactions::new(policy());
    for id in 0..5 {
        transactions.admit(key(id), arrival(0, 1));
        transactions.end(key(id), HalfOutcome::RolledBack, UnitSeq(u64::from(id)));
    }
    transactions.forget_ends(LogPosition(1_000));
    assert!((0..5).all(|id| transactions.known(&key(id)).is_some()), "none is durable yet");
    for id in 0..5 {
        transactions.end_placed(&key(id), LogPosition(u64::from(id) * 100));
    }
    transactions.forget_ends(LogPosition(150));
    let known: Vec<u32> = (0..5).filter(|id| transactions.known(&key(*id)).is_some()).collect();
    assert_eq!(known, [2, 3, 4], "the folded ones beyond the bound are forgotten");
    transactions.forget_ends(LogPosition(1_000));
    assert_eq!((0..5).filter(|id| transactions.known(&key(*id)).is_some()).count(), 2);
}

#[test]
fn the_bound_on_pending_halves_holds_and_an_end_makes_room() {
    let mut transactions = Transactions::new(policy());
    for id in 0..5 {
        assert!(transactions.has_room(1));
        transactions.admit(key(id), arrival(0, 1));
    }
    assert!(!transactions.has_room(1) && transactions.has_room(0));
    transactions.end(key(3), HalfOutcome::Committed, UnitSeq(2));
    assert!(transactions.has_room(1) && !transactions.has_room(2));
}

#[test]
fn a_deleted_topic_leaves_nothing_behind() {
    let mut transactions = one();
    let other = HalfKey::new(TopicId(2), "id-1");
    transactions.admit(other.clone(), arrival(0, 1));
    transactions.end(key(2), HalfOutcome::Committed, UnitSeq(1));
    transactions.remove_topic(TOPIC);
    assert_eq!((transactions.known(&key(1)), transactions.known(&key(2))), (None, None));
    assert_eq!(transactions.pending_by_topic().into_iter().collect::<Vec<_>>(), [(TopicId(2), 1)]);
    assert!(take(&mut transactions, u64::MAX).is_empty());
    assert!(transactions.senders(TOPIC, 9).is_empty());
    assert_eq!(transactions.senders(TopicId(2), 9), ["client".into()]);
    transactions.forget_ends(LogPosition(u64::MAX));
}

#[test]
fn of_many_senders_some_are_named_at_a_time_and_each_soon_also_when_two_take_turns_in_asking() {
    const SENDERS: u32 = 300;
    let policy = CheckPolicy { pending_max: 1_000, ..policy() };
    let mut transactions = Transactions::new(policy);
    for id in 0..SENDERS {
        for topic in [TopicId(0), TOPIC, TopicId(2)] {
            // As real ones look: many processes of one host, that differ in their last characters.
            let producer: Arc<str> = format!("host.example@4711@{}@{id}", topic.0).into();
            transactions.admit(HalfKey::new(topic, &format!("id-{id}")), Arrival { producer, ..arrival(0, 1) });
        }
    }
    let mut named = [BTreeSet::new(), BTreeSet::new()];
    for look in 0..100 {
        let senders = transactions.senders(TOPIC, 32);
        assert_eq!(senders.iter().collect::<BTreeSet<_>>().len(), 32, "each once");
        assert!(senders.iter().all(|sender| sender.contains("@1@")), "of another topic: {senders:?}");
        named[look % 2].extend(senders);
    }
    assert_eq!(named.map(|named| named.len()), [SENDERS as usize; 2]);
    assert_eq!(transactions.senders(TOPIC, 1_000).len(), SENDERS as usize);
}

/// A half as the words of the module describe it.
#[derive(Clone, Debug)]
struct Model {
    ended: Option<HalfOutcome>,
    checks: u32,
    next: u64,
    /// As the log has it: takings are not recorded.
    recorded: Option<(u32, u64)>,
    stored_at: u64,
    /// Serial of the taking that may still be reported.
    taken: Option<u64>,
}

#[derive(Clone, Debug)]
enum Event {
    Send(u32),
    End(u32, bool),
    Pass(u64),
    Look {
        max: usize,
        connected: bool,
        lost: bool,
    },
    /// Reports the check that was taken and not reported yet, whatever happened meanwhile.
    Late,
    GiveUp,
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let pass = prop_oneof![0u64..3_000, 3_000u64..40_000, 40_000u64..200_000];
    prop_oneof![
        5 => (0u32..8).prop_map(Event::Send),
        2 => (0u32..8, any::<bool>()).prop_map(|(id, commit)| Event::End(id, commit)),
        6 => pass.prop_map(Event::Pass),
        8 => (1usize..4, prop::bool::weighted(0.7), prop::bool::weighted(0.2))
            .prop_map(|(max, connected, lost)| Event::Look { max, connected, lost }),
        2 => Just(Event::Late),
        2 => Just(Event::GiveUp),
        1 => Just(Event::Restart),
    ]
}

/// Some senders have several halves.
fn sent_by(id: u32, arrival: Arrival) -> Arrival {
    Arrival { producer: format!("client-{}", id % 3).into(), ..arrival }
}

const NAIVE_PAUSES: [u64; 4] = [0, 30_000, 60_000, 100_000];

#[derive(Debug)]
struct World {
    real: Transactions,
    model: BTreeMap<u32, Model>,
    now: u64,
    late: Option<(u32, Due, u64)>,
    serial: u64,
}

impl World {
    fn new() -> Self {
        let policy = CheckPolicy { pending_max: 6, ends_max: 100, ..policy() };
        Self { real: Transactions::new(policy), model: BTreeMap::new(), now: 0, late: None, serial: 0 }
    }

    fn pending(&self) -> usize {
        self.model.values().filter(|half| half.ended.is_none()).count()
    }

    fn send(&mut self, id: u32) {
        let is_known = self.real.known(&key(id)).is_some();
        assert_eq!(is_known, self.model.contains_key(&id));
        assert_eq!(self.real.has_room(1), self.pending() < 6);
        if is_known || !self.real.has_room(1) {
            return;
        }
        self.real.admit(key(id), sent_by(id, arrival(self.now, 1)));
        self.real.placed(&key(id), at(u64::from(id)));
        let next = self.now + 6_000;
        let half = Model { ended: None, checks: 0, next, recorded: None, stored_at: self.now, taken: None };
        self.model.insert(id, half);
    }

    fn look(&mut self, max: usize, connected: bool, lost: bool) {
        let mut expected: Vec<(u64, u32)> = self
            .model
            .iter()
            .filter(|(_, half)| half.ended.is_none() && half.checks < 3 && half.next <= self.now)
            .map(|(id, half)| (half.next, *id))
            .collect();
        expected.sort_unstable();
        assert_eq!(!expected.is_empty(), !self.real.topics_due(Timestamp(self.now)).is_empty());
        expected.truncate(max);
        let due = self.real.take_due(TOPIC, Timestamp(self.now), max, usize::MAX);
        let ids: Vec<HalfKey> = due.iter().map(|due| due.key.clone()).collect();
        assert_eq!(ids, expected.iter().map(|(_, id)| key(*id)).collect::<Vec<_>>());
        for ((_, id), due) in expected.into_iter().zip(due) {
            let half = self.model.get_mut(&id).unwrap();
            assert_eq!(due.checks, half.checks);
            self.serial += 1;
            half.next = self.now + 5_000;
            half.taken = Some(self.serial);
            if lost {
                self.late = Some((id, due, self.serial));
            } else {
                self.report(id, &due, self.serial, connected);
            }
        }
    }

    fn report(&mut self, id: u32, due: &Due, serial: u64, connected: bool) {
        let half = self.model.get_mut(&id).unwrap();
        let may = half.ended.is_none() && half.taken == Some(serial);
        assert_eq!(self.real.may_deliver(&due.key, due.ticket), may);
        if may {
            half.taken = None;
        }
        if connected {
            let counted = self.real.delivered(&due.key, due.ticket, Timestamp(self.now));
            if may {
                half.checks += 1;
                half.next = self.now + NAIVE_PAUSES[half.checks as usize];
                half.recorded = Some((half.checks, half.next));
            }
            assert_eq!(counted, may.then_some((half.checks, Timestamp(half.next))));
        } else {
            self.real.undelivered(&due.key, due.ticket, Timestamp(self.now));
            if may {
                half.next = self.now + 1_000;
            }
        }
    }

    fn end(&mut self, id: u32, outcome: HalfOutcome) {
        let Some(half) = self.model.get_mut(&id) else { return };
        let known = self.real.known(&key(id)).unwrap();
        match half.ended {
            Some(outcome) => assert_eq!(known, Known::Ended { outcome, seq: UnitSeq(2) }),
            None => {
                assert!(matches!(known, Known::Pending { was_checked, .. } if was_checked == (half.checks > 0)));
                half.ended = Some(outcome);
                self.real.end(key(id), outcome, UnitSeq(2));
            }
        }
    }

    fn give_up(&mut self) {
        let mut expected: Vec<(u64, u32)> = self
            .model
            .iter()
            .filter(|(_, half)| half.ended.is_none() && half.checks >= 3 && half.next <= self.now)
            .map(|(id, half)| (half.next, *id))
            .collect();
        expected.sort_unstable();
        let overdue = self.real.overdue(Timestamp(self.now), 100);
        assert_eq!(overdue, expected.iter().map(|(_, id)| key(*id)).collect::<Vec<_>>());
        for (_, id) in expected {
            self.end(id, HalfOutcome::Discarded);
        }
    }

    fn restart(&mut self) {
        self.late = None;
        let mut real = World::new().real;
        for (id, half) in &mut self.model {
            half.taken = None;
            match half.ended {
                Some(outcome) => {
                    real.restore_end(key(*id), outcome);
                    // As at the start of a process: that end is durable.
                    real.end(key(*id), outcome, UnitSeq(2));
                }
                None => {
                    let (checks, next) = half.recorded.unwrap_or((0, half.stored_at + 6_000));
                    (half.checks, half.next) = (checks, next);
                    let checks = half.recorded.map(|(checks, next)| (checks, Timestamp(next)));
                    real.restore(key(*id), sent_by(*id, arrival(half.stored_at, 0)), at(u64::from(*id)), checks);
                }
            }
        }
        self.real = real;
    }

    fn run(&mut self, event: &Event) {
        match *event {
            Event::Send(id) => self.send(id),
            Event::End(id, commit) => {
                self.end(id, if commit { HalfOutcome::Committed } else { HalfOutcome::RolledBack });
            }
            Event::Pass(millis) => self.now += millis,
            Event::Look { max, connected, lost } => self.look(max, connected, lost),
            Event::Late => {
                if let Some((id, due, serial)) = self.late.take() {
                    self.report(id, &due, serial, true);
                }
            }
            Event::GiveUp => self.give_up(),
            Event::Restart => self.restart(),
        }
        assert_eq!(self.real.pending(), self.pending());
        let by_topic: usize = self.real.pending_by_topic().values().sum();
        assert_eq!(by_topic, self.pending(), "T-1");
        let open = self.model.iter().filter(|(_, half)| half.ended.is_none());
        let senders: BTreeSet<Arc<str>> = open.map(|(id, _)| sent_by(*id, arrival(0, 1)).producer).collect();
        assert_eq!(self.real.senders(TOPIC, 100).into_iter().collect::<BTreeSet<_>>(), senders, "T-5");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_checks_what_the_words_say_and_never_after_the_end(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in &events {
            world.run(event);
        }
    }
}
