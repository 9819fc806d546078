//! The state machine by tables, and against a naive model under random commands.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::cluster::{Lineage, Placement, owner};
use crate::model::name::NameError;
use crate::route::change::{apply, facts};
use crate::route::convert;
use crate::route::moves::MOVES_AT_ONCE;
use crate::route::version;

fn t(name: &str) -> TopicName {
    TopicName::trusted("", name)
}

fn g(name: &str) -> GroupName {
    GroupName::trusted("", name)
}

fn of_type(kind: TopicType) -> TopicSpec {
    TopicSpec { topic_type: Some(kind), ..TopicSpec::default() }
}

/// The state, the view that a member makes of what it is told, and the rows of the disk.
struct World {
    state: State,
    told: View,
    rows: BTreeMap<Bytes, Bytes>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { state: State::new(Bounds::default()), told: View::default(), rows: BTreeMap::new() };
        world.ok(Command::Found(ClusterId(7), [1; 32]));
        world.told.cluster = ClusterId(7);
        world
    }

    fn with_shards(count: u32) -> Self {
        let mut world = Self::new();
        for number in 0..count {
            world.register(number);
            world.ok(Command::Alive(ShardId(number), true));
        }
        world
    }

    fn register(&mut self, number: u32) -> Outcome {
        let (name, address) = (format!("broker-{number}"), format!("host-{number}:8082"));
        self.ok(Command::Register { name, address, version: version::OWN.to_owned(), holder: None })
    }

    fn run(&mut self, command: Command) -> Result<Outcome, CatalogError> {
        let decision = self.state.decide(command)?;
        self.state.apply(&decision.changes);
        for part in convert::parts(&decision.changes) {
            apply(&mut self.told, &convert::changes(&part).unwrap());
        }
        for (key, value) in decision.changes.iter().filter_map(convert::stored) {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        Ok(decision.outcome)
    }

    fn ok(&mut self, command: Command) -> Outcome {
        self.run(command).unwrap()
    }

    fn topic(&mut self, name: &str, spec: TopicSpec) -> TopicId {
        match self.ok(Command::CreateTopic(t(name), spec)) {
            Outcome::Topic(topic) => topic.id,
            other => panic!("{other:?}"),
        }
    }

    fn placement(&self, topic: TopicId) -> Placement {
        Placement::clone(&self.state.placements[&topic].placement)
    }

    fn shards(&self, topic: TopicId) -> Vec<u32> {
        self.placement(topic).shards.iter().map(|shard| shard.get()).collect()
    }

    fn invalid(&mut self, command: Command) -> String {
        let before = format!("{:?}", self.state);
        let error = self.run(command).unwrap_err();
        assert_eq!(before, format!("{:?}", self.state), "a refusal changes nothing");
        error.to_string()
    }
}

#[test]
fn a_broker_that_comes_back_elsewhere_has_the_shard_it_had() {
    let mut world = World::with_shards(2);
    let moved = Command::Register {
        name: "broker-1".into(),
        address: "else:1".into(),
        version: version::OWN.into(),
        holder: None,
    };
    assert_eq!(world.ok(moved), Outcome::Registered(ShardId(1), ClusterId(7)));
    assert_eq!(&*world.told.shards[&ShardId(1)].address, "else:1");
    assert!(world.told.shards[&ShardId(1)].alive);
    assert_eq!(world.register(2), Outcome::Registered(ShardId(2), ClusterId(7)));
    let far = Command::Register { name: "b".into(), address: "a:1".into(), version: "99.0.0".into(), holder: None };
    assert!(world.invalid(far).contains("99.0.0"));
    let nameless =
        Command::Register { name: String::new(), address: "a:1".into(), version: version::OWN.into(), holder: None };
    assert!(world.invalid(nameless).contains("name"));
}

#[test]
fn a_second_data_directory_under_a_name_is_refused_until_the_first_is_given_up() {
    let mut world = World::new();
    let register = |holder: Option<u128>, address: &str| Command::Register {
        name: "b".into(),
        address: address.into(),
        version: version::OWN.into(),
        holder: holder.map(HolderId),
    };
    let given = Outcome::Registered(ShardId(0), ClusterId(7));
    // A program that does not tell is accepted, and its directory is known from when it tells.
    assert_eq!(world.ok(register(None, "h:1")), given);
    assert_eq!(world.ok(register(Some(1), "h:1")), given);
    assert_eq!(world.told.shards[&ShardId(0)].holder, Some(HolderId(1)));
    assert_eq!(world.ok(register(None, "h:1")), given, "one minor version back");
    world.ok(Command::Alive(ShardId(0), true));
    let said = world.invalid(register(Some(2), "h:2"));
    assert!(said.contains("runs already at h:1") && said.contains("--name"), "{said}");
    let said = world.invalid(Command::Forget("b".into()));
    assert!(said.contains("Stop it first"), "{said}");
    world.ok(Command::Alive(ShardId(0), false));
    let said = world.invalid(register(Some(2), "h:2"));
    assert!(said.contains("bolide admin broker forget b"), "{said}");
    assert!(matches!(world.run(Command::Forget("c".into())).unwrap_err(), CatalogError::NotFound(_)));
    // Also after a restart of the service.
    let rows: Vec<Change> = world.rows.iter().map(|(key, value)| convert::restored(key, value).unwrap()).collect();
    world.state = State::new(Bounds::default());
    world.state.apply(&rows);
    assert!(matches!(world.run(register(Some(2), "h:2")).unwrap_err(), CatalogError::Held(_)));
    assert_eq!(world.ok(register(Some(1), "h:1")), given, "the first one comes back");
    world.ok(Command::Forget("b".into()));
    world.ok(Command::Forget("b".into()));
    assert_eq!(world.ok(register(Some(2), "h:2")), given);
    assert!(matches!(world.run(register(Some(1), "h:1")).unwrap_err(), CatalogError::Held(_)), "given up is given up");
}

#[test]
fn a_copy_from_before_is_told_from_the_one_that_was_followed_also_when_it_gave_the_same_numbers_again() {
    let mut world = World::new();
    world.ok(Command::Begin(1, 10));
    let held = |name: &str| Command::Register {
        name: name.into(),
        address: "h:1".into(),
        version: version::OWN.into(),
        holder: Some(HolderId(1)),
    };
    world.ok(held("b"));
    world.ok(Command::Alive(ShardId(0), true));
    world.topic("before", TopicSpec::default());
    let (copy, at_copy) = (world.state.clone(), world.told.lineage.unwrap());
    world.ok(Command::Alive(ShardId(0), false));
    assert_eq!(world.told.lineage, Some(at_copy), "what is not written down does not count");
    world.ok(Command::Alive(ShardId(0), true));
    let gone = world.topic("gone", TopicSpec::default());
    let known = world.told.lineage.unwrap();
    assert_eq!(known, Lineage { changes: at_copy.changes + 1, ..at_copy });
    assert_eq!(world.state.forgot("b", known), None);
    // In the copy another topic has the number, and goes again: by numbers and names nothing is amiss.
    let mut restored = World { state: copy, told: View::default(), rows: BTreeMap::new() };
    for then in [false, true] {
        if then {
            restored.ok(Command::Begin(2, 20));
            assert_eq!(restored.topic("other", TopicSpec::default()), gone);
            restored.ok(Command::DeleteTopic(t("other")));
        }
        assert_eq!(restored.state.forgot("b", at_copy), None, "who knows no more than the copy may follow");
        let words = restored.state.forgot("b", known).unwrap();
        assert!(words.contains("older copy") && words.contains("bolide admin broker forget b"), "{words}");
        assert!(restored.state.forgot("never-heard-of", known).is_some());
    }
    restored.ok(Command::Alive(ShardId(0), false));
    restored.ok(Command::Forget("b".into()));
    assert_eq!(restored.state.forgot("b", known), None, "the operator said so");
    restored.ok(held("b"));
    assert!(restored.state.forgot("b", known).is_some(), "and for this once");
}

#[test]
fn numbers_of_what_was_deleted_are_never_given_again_also_not_after_a_restart() {
    let mut world = World::with_shards(1);
    let first = world.topic("a", TopicSpec::default());
    world.ok(Command::CreateGroup(g("a"), GroupSpec::default()));
    world.ok(Command::DeleteTopic(t("a")));
    world.ok(Command::DeleteGroup(g("a")));
    let rows: Vec<Change> = world.rows.iter().map(|(key, value)| convert::restored(key, value).unwrap()).collect();
    world.state = State::new(Bounds::default());
    world.state.apply(&rows);
    assert!(world.topic("a", TopicSpec::default()) > first);
    let Outcome::Group(group) = world.ok(Command::CreateGroup(g("a"), GroupSpec::default())) else { panic!() };
    assert_eq!(group.id, GroupId(2));
}

#[test]
fn a_new_topic_is_on_the_shards_that_are_there_and_take_messages() {
    let mut world = World::with_shards(4);
    world.ok(Command::Alive(ShardId(1), false));
    world.ok(Command::Drain(ShardId(2), true));
    let topic = world.topic("a", TopicSpec::default());
    assert_eq!(world.shards(topic), [0, 3]);
    let letters = world.topic("%DLQ%g", TopicSpec::default());
    assert_eq!(world.shards(letters), [0, 1, 2, 3]);
    assert_eq!(world.state.topics[&t("%DLQ%g")].queues, 1);
    assert!(World::new().invalid(Command::CreateTopic(t("a"), TopicSpec::default())).contains("no shard"));
}

#[test]
fn priority_and_lite_topics_are_on_one_shard_each_and_spread_over_them() {
    let mut world = World::with_shards(3);
    let kinds = [TopicType::Priority, TopicType::Lite];
    let mut used = BTreeMap::new();
    for number in 0..6 {
        let topic = world.topic(&format!("s{number}"), of_type(kinds[number % 2]));
        let shards = world.shards(topic);
        assert_eq!(shards.len(), 1);
        *used.entry(shards[0]).or_insert(0) += 1;
    }
    assert_eq!(used.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    assert!(world.invalid(Command::Rebalance(t("s0"))).contains("one shard"));
    world.topic("plain", TopicSpec::default());
    assert!(world.invalid(Command::UpdateTopic(t("plain"), of_type(TopicType::Lite))).contains("lite"));
}

#[test]
fn what_exists_differs_or_is_unknown_is_said_so_and_bounds_hold() {
    let mut world = World::with_shards(1);
    let topic = world.topic("a", TopicSpec::default());
    assert_eq!(world.topic("a", TopicSpec::default()), topic, "the same once more");
    let differs = world.run(Command::CreateTopic(t("a"), of_type(TopicType::Fifo))).unwrap_err();
    assert!(matches!(differs, CatalogError::Differs { .. }));
    for unknown in [
        Command::UpdateTopic(t("x"), TopicSpec::default()),
        Command::DeleteTopic(t("x")),
        Command::UpdateGroup(g("x"), GroupSpec::default()),
        Command::DeleteGroup(g("x")),
        Command::Rebalance(t("x")),
        Command::Drain(ShardId(9), true),
    ] {
        assert!(matches!(world.run(unknown).unwrap_err(), CatalogError::NotFound(_)));
    }
    world.state.bounds =
        Bounds { topics_max: 1, groups_max: 0, retention_max: Some(std::time::Duration::from_secs(100)) };
    let full = world.run(Command::CreateTopic(t("b"), TopicSpec::default())).unwrap_err();
    assert!(matches!(full, CatalogError::TooMany(_)));
    assert!(matches!(
        world.run(Command::CreateGroup(g("b"), GroupSpec::default())).unwrap_err(),
        CatalogError::TooMany(_)
    ));
    let long = TopicSpec { retention: Some(Some(std::time::Duration::from_secs(101))), ..TopicSpec::default() };
    assert!(world.invalid(Command::UpdateTopic(t("a"), long)).contains("retention"));
    assert!(matches!(CatalogError::from(NameError::Blank { kind: "topic" }), CatalogError::Name(_)));
}

#[test]
fn a_move_is_done_when_all_have_sealed_and_what_was_before_stays_until_all_are_done_with_it() {
    let mut world = World::with_shards(2);
    let topic = world.topic("a", TopicSpec::default());
    world.register(2);
    world.ok(Command::Alive(ShardId(2), true));
    assert_eq!(world.shards(topic), [0, 1], "nothing moves by itself");
    world.ok(Command::Rebalance(t("a")));
    let moving = world.placement(topic);
    assert_eq!((moving.generation, moving.shards.len()), (1, 2));
    assert_eq!(moving.moving, Some(vec![ShardId(0), ShardId(1), ShardId(2)]));
    let again = world.state.decide(Command::Rebalance(t("a"))).unwrap();
    assert_eq!(again.changes, [], "a move that goes on is left alone");
    world.ok(Command::Sealed(topic, 0, ShardId(1)));
    world.ok(Command::Sealed(topic, 1, ShardId(0)));
    world.ok(Command::Sealed(topic, 1, ShardId(0)));
    assert_eq!(world.shards(topic), [0, 1], "the other has not sealed for this generation");
    assert!(world.invalid(Command::Sealed(topic, 2, ShardId(1))).contains("generation"));
    assert!(world.invalid(Command::Sealed(topic, 1, ShardId(2))).contains("not among"));
    world.ok(Command::Sealed(topic, 1, ShardId(1)));
    let done = world.placement(topic);
    assert_eq!(world.shards(topic), [0, 1, 2]);
    assert_eq!(done.moving, None);
    assert_eq!(
        done.past,
        [crate::model::cluster::PastPlacement { generation: 1, shards: vec![ShardId(0), ShardId(1)] }]
    );
    world.ok(Command::Sealed(topic, 1, ShardId(1)));
    world.ok(Command::Drained(topic, 1, ShardId(0)));
    world.ok(Command::Drained(topic, 1, ShardId(2)));
    world.ok(Command::Drained(topic, 9, ShardId(1)));
    assert_eq!(world.placement(topic).past.len(), 1);
    world.ok(Command::Drained(topic, 1, ShardId(1)));
    assert_eq!(world.placement(topic).past.len(), 0);
    assert!(world.state.placements[&topic].drained.is_empty());
}

#[test]
fn a_move_that_a_shard_holds_up_which_is_away_can_be_given_up_and_begun_again() {
    let mut world = World::with_shards(2);
    let topic = world.topic("a", TopicSpec::default());
    world.register(2);
    world.ok(Command::Alive(ShardId(2), true));
    world.ok(Command::Rebalance(t("a")));
    world.ok(Command::Sealed(topic, 1, ShardId(0)));
    world.ok(Command::Alive(ShardId(1), false));
    world.ok(Command::Rebalance(t("a")));
    let given_up = world.placement(topic);
    assert_eq!((given_up.generation, given_up.moving, given_up.past.len()), (2, None, 0));
    world.ok(Command::Sealed(topic, 1, ShardId(1)));
    assert_eq!(world.shards(topic), [0, 1], "a seal of before completes nothing");
    world.ok(Command::Alive(ShardId(1), true));
    world.ok(Command::Rebalance(t("a")));
    world.ok(Command::Sealed(topic, 3, ShardId(1)));
    assert_eq!(world.shards(topic), [0, 1], "the seal of the move that was given up does not count");
    world.ok(Command::Sealed(topic, 3, ShardId(0)));
    assert_eq!(world.shards(topic), [0, 1, 2]);
}

fn seal_all(world: &mut World) {
    let moving: Vec<(TopicId, u32, Vec<ShardId>)> = world
        .state
        .placements
        .iter()
        .filter(|(_, placed)| placed.placement.moving.is_some())
        .map(|(&topic, placed)| (topic, placed.placement.generation, placed.placement.shards.clone()))
        .collect();
    for (topic, generation, shards) in moving {
        for shard in shards {
            world.ok(Command::Sealed(topic, generation, shard));
        }
    }
}

fn drain_all(world: &mut World) {
    let past: Vec<(TopicId, u32, Vec<ShardId>)> = world
        .state
        .placements
        .iter()
        .flat_map(|(&topic, placed)| {
            placed.placement.past.iter().map(move |past| (topic, past.generation, past.shards.clone()))
        })
        .collect();
    for (topic, generation, shards) in past {
        for shard in shards {
            world.ok(Command::Drained(topic, generation, shard));
        }
    }
}

#[test]
fn a_drained_shard_is_left_by_every_topic_a_few_at_a_time_and_by_dead_letters_last() {
    let mut world = World::with_shards(3);
    for number in 0..40 {
        world.topic(&format!("t{number}"), TopicSpec::default());
    }
    let single = (0..3).map(|n| world.topic(&format!("p{n}"), of_type(TopicType::Priority))).collect::<Vec<_>>();
    let letters = world.topic("%DLQ%g", TopicSpec::default());
    world.ok(Command::Drain(ShardId(1), true));
    let mut rounds = 0;
    while !crate::route::is_empty(&world.told, ShardId(1)) {
        world.ok(Command::Continue);
        let moving = world.state.placements.values().filter(|placed| placed.placement.moving.is_some()).count();
        assert!(moving <= MOVES_AT_ONCE, "{moving}");
        let others_are_there = world
            .state
            .placements
            .iter()
            .any(|(topic, placed)| *topic != letters && placed.placement.holders().contains(&ShardId(1)));
        assert!(!others_are_there || world.shards(letters).contains(&1), "something may still die there");
        seal_all(&mut world);
        drain_all(&mut world);
        rounds += 1;
        assert!(rounds < 20, "it never ends");
    }
    assert!(rounds >= 3);
    assert_eq!(world.shards(letters), [0, 2]);
    for topic in single {
        assert_eq!(world.shards(topic).len(), 1);
    }
    world.ok(Command::Drain(ShardId(1), false));
    assert_eq!(world.shards(letters), [0, 1, 2], "dead letters exist everywhere");
    world.ok(Command::Drain(ShardId(0), true));
    world.ok(Command::Drain(ShardId(1), true));
    assert!(world.invalid(Command::Drain(ShardId(2), true)).contains("last"));
}

#[test]
fn a_shard_that_is_not_drained_after_all_keeps_what_had_not_moved() {
    let mut world = World::with_shards(2);
    let topic = world.topic("a", TopicSpec::default());
    world.ok(Command::Drain(ShardId(0), true));
    world.ok(Command::Continue);
    world.ok(Command::Sealed(topic, 1, ShardId(0)));
    world.ok(Command::Drain(ShardId(0), false));
    let kept = world.placement(topic);
    assert_eq!((kept.generation, kept.moving, kept.shards), (2, None, vec![ShardId(0), ShardId(1)]));
    world.ok(Command::Sealed(topic, 1, ShardId(1)));
    assert_eq!(world.shards(topic), [0, 1]);
}

#[test]
fn keys_before_the_newest_stay_for_opening_a_bounded_time_and_never_share_a_number() {
    let mut world = World::new();
    for round in 0..600u16 {
        world.ok(Command::RotateKey([u8::try_from(round % 251).unwrap(); 32]));
        let ids: BTreeSet<u8> = world.told.receipt_keys.iter().map(|key| key.id).collect();
        assert_eq!(ids.len(), world.told.receipt_keys.len());
        assert!(world.told.receipt_keys.len() <= RECEIPT_KEYS_MAX && !ids.contains(&0));
    }
    assert_eq!(world.told.receipt_keys[0].key, [u8::try_from(599 % 251).unwrap(); 32]);
}

#[test]
fn bytes_that_nobody_wrote_are_an_error_and_no_panic() {
    let mut world = World::with_shards(2);
    world.topic("a", TopicSpec::default());
    for (key, value) in &world.rows {
        assert!(convert::restored(key, value).is_ok());
        assert!(convert::restored(b"x", value).is_err());
        for end in 0..value.len() {
            let _ = convert::restored(key, &value[..end]);
        }
    }
    assert!(convert::restored(b"numbers", &[]).is_err());
    assert!(convert::changes(&[0xff, 0x01]).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Register(u32),
    Alive(u32, bool),
    Create(u8, usize),
    Delete(u8),
    Rebalance(u8),
    Seal(u8, u32, bool),
    Drained(u8, u32),
    Drain(u32, bool),
    Continue,
    Group(u8, bool),
    Rotate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..5u32).prop_map(Step::Register),
        3 => (0..5u32, any::<bool>()).prop_map(|(shard, alive)| Step::Alive(shard, alive)),
        4 => (0..6u8, 0..4usize).prop_map(|(topic, kind)| Step::Create(topic, kind)),
        1 => (0..6u8).prop_map(Step::Delete),
        5 => (0..6u8).prop_map(Step::Rebalance),
        12 => (0..6u8, 0..5u32, prop::bool::weighted(0.9)).prop_map(|(topic, shard, now)| Step::Seal(topic, shard, now)),
        8 => (0..6u8, 0..5u32).prop_map(|(topic, shard)| Step::Drained(topic, shard)),
        3 => (0..5u32, any::<bool>()).prop_map(|(shard, on)| Step::Drain(shard, on)),
        3 => Just(Step::Continue),
        2 => (0..3u8, any::<bool>()).prop_map(|(group, make)| Step::Group(group, make)),
        1 => Just(Step::Rotate),
    ]
}

fn name_of(number: u8) -> TopicName {
    if number == 5 { t("%DLQ%g") } else { t(&format!("t{number}")) }
}

fn command(step: &Step, state: &State) -> Command {
    let placed = |number: u8| {
        let topic = state.topics.get(&name_of(number)).map_or(TopicId(999), |topic| topic.id);
        (topic, state.placements.get(&topic).map(|placed| placed.placement.clone()).unwrap_or_default())
    };
    match *step {
        Step::Register(number) => Command::Register {
            name: format!("b{number}"),
            address: format!("h{}:1", number % 2),
            version: version::OWN.to_owned(),
            holder: (number > 1).then_some(HolderId(u128::from(number % 3))),
        },
        Step::Alive(shard, alive) => Command::Alive(ShardId(shard), alive),
        Step::Create(number, kind) => {
            let kinds = [TopicType::Normal, TopicType::Fifo, TopicType::Priority, TopicType::Lite];
            let spec = if number == 5 { TopicSpec::default() } else { of_type(kinds[kind]) };
            Command::CreateTopic(name_of(number), spec)
        }
        Step::Delete(number) => Command::DeleteTopic(name_of(number)),
        Step::Rebalance(number) => Command::Rebalance(name_of(number)),
        Step::Seal(number, shard, now) => {
            let (topic, placement) = placed(number);
            Command::Sealed(topic, placement.generation.saturating_sub(u32::from(!now)), ShardId(shard))
        }
        Step::Drained(number, shard) => {
            let (topic, placement) = placed(number);
            Command::Drained(topic, placement.past.first().map_or(0, |past| past.generation), ShardId(shard))
        }
        Step::Drain(shard, on) => Command::Drain(ShardId(shard), on),
        Step::Continue => Command::Continue,
        Step::Group(number, true) => Command::CreateGroup(g(&format!("g{number}")), GroupSpec::default()),
        Step::Group(number, false) => Command::DeleteGroup(g(&format!("g{number}"))),
        Step::Rotate => Command::RotateKey([9; 32]),
    }
}

fn assert_same(told: &View, whole: &View) {
    assert_eq!(told.cluster, whole.cluster);
    assert_eq!(told.topics, whole.topics);
    assert_eq!(told.groups, whole.groups);
    assert_eq!(told.placements, whole.placements);
    assert_eq!(told.shards, whole.shards);
    assert_eq!(told.receipt_keys, whole.receipt_keys);
    assert_eq!((told.next_topic, told.next_group), (whole.next_topic, whole.next_group));
    assert_eq!(told.lineage, whole.lineage);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn whatever_is_asked_members_see_what_is_and_no_move_completes_before_all_sealed(
        steps in prop::collection::vec(step(), 1..160)
    ) {
        let mut world = World::new();
        world.ok(Command::Begin(3, 30));
        let mut given: BTreeSet<TopicId> = BTreeSet::new();
        let mut known: BTreeSet<TopicId> = BTreeSet::new();
        let mut names: BTreeMap<ShardId, String> = BTreeMap::new();
        // The model: who said what about which generation.
        let mut seals: BTreeSet<(TopicId, u32, ShardId)> = BTreeSet::new();
        let mut done: BTreeSet<(TopicId, u32, ShardId)> = BTreeSet::new();
        for step in &steps {
            let command = command(step, &world.state);
            match command {
                Command::Sealed(topic, generation, shard) => drop(seals.insert((topic, generation, shard))),
                Command::Drained(topic, generation, shard) => drop(done.insert((topic, generation, shard))),
                _ => {}
            }
            let before = world.state.placements.clone();
            let _ = world.run(command);
            for (topic, placed) in &world.state.placements {
                let now = &placed.placement;
                if !known.contains(topic) {
                    prop_assert!(given.insert(*topic), "number {topic} was given twice");
                }
                prop_assert!(now.holders().iter().all(|shard| world.state.shards.contains_key(shard)));
                prop_assert!(now.shards.is_sorted() && now.past.len() <= crate::model::cluster::PAST_ORDERS_MAX);
                let Some(was) = before.get(topic).map(|placed| &placed.placement) else { continue };
                prop_assert!(now.generation >= was.generation);
                if now.shards != was.shards && was.moving.as_ref() == Some(&now.shards) {
                    for &shard in &was.shards {
                        prop_assert!(seals.contains(&(*topic, was.generation, shard)), "{shard} had not sealed");
                    }
                    prop_assert_eq!(&now.past.last().unwrap().shards, &was.shards);
                } else if now.shards != was.shards {
                    prop_assert!(world.state.by_id[topic].name.is_dead_letter(), "{topic} moved without a fence");
                }
                for past in was.past.iter().filter(|past| !now.past.contains(past)) {
                    for &shard in &past.shards {
                        prop_assert!(done.contains(&(*topic, past.generation, shard)));
                    }
                }
                if now.generation == was.generation && now.moving == was.moving {
                    prop_assert_eq!(owner(42, &now.shards), owner(42, &was.shards), "order changed in a generation");
                }
            }
            known = world.state.placements.keys().copied().collect();
            for shard in world.state.shards.values() {
                let name = names.entry(shard.id).or_insert_with(|| shard.name.to_string());
                prop_assert_eq!(name.as_str(), &*shard.name, "a shard belongs to a name for ever");
            }
        }
        let whole = world.state.view(Revision(1));
        assert_same(&world.told, &whole);
        let mut fresh = View { cluster: whole.cluster, ..View::default() };
        for part in convert::parts(&facts(&whole)) {
            apply(&mut fresh, &convert::changes(&part).unwrap());
        }
        assert_same(&fresh, &whole);
        let mut restarted = State::new(Bounds::default());
        let rows: Vec<Change> =
            world.rows.iter().map(|(key, value)| convert::restored(key, value).unwrap()).collect();
        restarted.apply(&rows);
        prop_assert_eq!(&restarted.placements, &world.state.placements);
        prop_assert_eq!(&restarted.topics, &world.state.topics);
        prop_assert_eq!(&restarted.by_id, &world.state.by_id);
        prop_assert_eq!(&restarted.groups, &world.state.groups);
        prop_assert_eq!(&restarted.numbers, &world.state.numbers);
        prop_assert_eq!(&restarted.keys, &world.state.keys);
        for shard in world.state.shards.values() {
            let expected = Shard { alive: false, ..Shard::clone(shard) };
            prop_assert_eq!(&*restarted.shards[&shard.id], &expected);
        }
    }
}
