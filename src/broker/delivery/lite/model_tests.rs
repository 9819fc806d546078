//! Lite topics against a naive model, histories by the thousand: whoever subscribes, leaves, is evicted or falls silent, each
//! receive gets what the model would give it, in order, and I-10 holds after every step; and a group misses nothing of a lite topic
//! that it waited for, nor does one get the queue of another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::lab::{GROUP, Lab, PARENT};
use super::{LiteAction, LiteStart};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::time::Timestamp;

const CLIENTS: usize = 3;
const NAMES: usize = 4;
const LEASE: u64 = 30_000;
const SILENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Debug)]
enum Step {
    Send { name: usize, count: u64 },
    Sync { client: usize, action: LiteAction, names: BTreeSet<usize>, start: Option<LiteStart> },
    Receive { client: usize, max: usize },
    Ack { which: usize },
    Nack { which: usize },
    GiveBack { which: usize },
    Pass { millis: u64 },
    Leave { client: usize },
    RemoveRead { name: usize },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let names = prop::collection::btree_set(0..NAMES, 0..=NAMES);
    let action = prop_oneof![
        4 => Just(LiteAction::Add),
        1 => Just(LiteAction::Remove),
        3 => Just(LiteAction::CompleteAdd),
        1 => Just(LiteAction::CompleteRemove)
    ];
    let start = prop::option::of(prop_oneof![
        Just(LiteStart::Last),
        Just(LiteStart::First),
        Just(LiteStart::Latest),
        (0u64..6).prop_map(|offset| LiteStart::Offset(QueueOffset(offset))),
        (0u64..6).prop_map(LiteStart::Tail),
    ]);
    prop_oneof![
        6 => (0..NAMES, 1u64..4).prop_map(|(name, count)| Step::Send { name, count }),
        5 => (0..CLIENTS, action, names, start)
            .prop_map(|(client, action, names, start)| Step::Sync { client, action, names, start }),
        8 => (0..CLIENTS, 1usize..6).prop_map(|(client, max)| Step::Receive { client, max }),
        6 => any::<usize>().prop_map(|which| Step::Ack { which }),
        2 => any::<usize>().prop_map(|which| Step::Nack { which }),
        1 => any::<usize>().prop_map(|which| Step::GiveBack { which }),
        2 => prop_oneof![0u64..20_000, Just(60_000), Just(200_000)].prop_map(|millis| Step::Pass { millis }),
        1 => (0..CLIENTS).prop_map(|client| Step::Leave { client }),
        1 => (0..NAMES).prop_map(|name| Step::RemoveRead { name }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Leased {
        until: u64,
        grant: u64,
    },
    Ready,
    /// Before one in front of it; delivered again behind that one if it comes back.
    Acked,
}

#[derive(Clone, Debug)]
struct Item {
    offset: u64,
    attempt: u32,
    state: State,
}

/// One lite topic and what the group did with it.
#[derive(Clone, Debug, Default)]
struct Lane {
    queue: u32,
    end: u64,
    /// First never considered; `None`: the group has no position.
    next: Option<u64>,
    out: Vec<Item>,
}

impl Lane {
    fn ack(&mut self, offset: u64) {
        self.out.iter_mut().filter(|item| item.offset == offset).for_each(|item| item.state = State::Acked);
        let done = self.out.iter().take_while(|item| item.state == State::Acked).count();
        self.out.drain(..done);
    }

    /// What a receive would get now, with attempts.
    fn available(&self) -> Vec<(u64, u32)> {
        if self.out.iter().any(|item| matches!(item.state, State::Leased { .. })) {
            return Vec::new();
        }
        let again = self.out.iter().map(|item| (item.offset, item.attempt + 1));
        again.chain((self.next.unwrap_or(self.end)..self.end).map(|offset| (offset, 1))).collect()
    }
}

#[derive(Clone, Debug, Default)]
struct Client {
    names: BTreeSet<usize>,
    lost: BTreeSet<usize>,
    seen: u64,
}

#[derive(Default)]
struct Model {
    now: u64,
    exclusive: bool,
    lanes: BTreeMap<usize, Lane>,
    clients: BTreeMap<usize, Client>,
    /// What does not exist and the group is to get from the first message on; survives everything.
    wants: BTreeSet<usize>,
    /// Queues that lite topics ever had.
    queues: BTreeSet<u32>,
}

impl Model {
    fn subscribed(&self, name: usize) -> bool {
        self.clients.values().any(|client| client.names.contains(&name))
    }

    fn sync(&mut self, who: usize, action: LiteAction, names: &BTreeSet<usize>, start: Option<LiteStart>) {
        let own = self.clients.get(&who).cloned().unwrap_or_default();
        let (wanted, gone): (BTreeSet<usize>, BTreeSet<usize>) = match action {
            LiteAction::Add => (names - &own.names, BTreeSet::new()),
            LiteAction::Remove => (BTreeSet::new(), &own.names & names),
            LiteAction::CompleteRemove => (BTreeSet::new(), own.names.clone()),
            LiteAction::CompleteAdd => {
                let taken = |name: &&usize| self.exclusive && own.lost.contains(name) && self.subscribed(**name);
                let new = names - &own.names;
                (new.iter().filter(|name| !taken(name)).copied().collect(), &own.names - names)
            }
        };
        let given_up = if action == LiteAction::Remove { names } else { &gone };
        let by_another =
            |name: &usize| self.clients.iter().any(|(other, client)| *other != who && client.names.contains(name));
        let unwanted: BTreeSet<usize> = given_up.iter().filter(|name| !by_another(name)).copied().collect();
        self.wants = &self.wants - &unwanted;
        if action == LiteAction::CompleteRemove || (action == LiteAction::Remove && (&own.names - &gone).is_empty()) {
            self.clients.remove(&who);
            return;
        }
        let client = self.clients.entry(who).or_default();
        client.seen = self.now;
        client.names = &client.names - &gone;
        match action {
            LiteAction::Remove => client.lost = &client.lost - names,
            LiteAction::CompleteAdd => client.lost = &client.lost & names,
            _ => {}
        }
        for name in wanted {
            if self.exclusive {
                for (other, client) in &mut self.clients {
                    if *other != who && client.names.remove(&name) {
                        client.lost.insert(name);
                    }
                }
            }
            let client = self.clients.get_mut(&who).unwrap();
            client.names.insert(name);
            client.lost.remove(&name);
            let Some(lane) = self.lanes.get_mut(&name) else {
                if !matches!(start, None | Some(LiteStart::Last | LiteStart::First)) {
                    self.wants.insert(name);
                }
                continue;
            };
            let end = lane.end;
            lane.next.get_or_insert(match start {
                None | Some(LiteStart::Last | LiteStart::First) => 0,
                Some(LiteStart::Latest) => end,
                Some(LiteStart::Offset(offset)) => offset.get().min(end),
                Some(LiteStart::Tail(count)) => end.saturating_sub(count),
                Some(LiteStart::At(_)) => unreachable!("not in these histories"),
            });
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
        let now = self.now;
        for item in self.lanes.values_mut().flat_map(|lane| &mut lane.out) {
            if matches!(item.state, State::Leased { until, .. } if until <= now) {
                item.state = State::Ready;
            }
        }
        let silence = u64::try_from(SILENCE.as_millis()).unwrap();
        self.clients.retain(|_, client| now - client.seen < silence);
    }

    fn leased(&self) -> Vec<(usize, u64, u64)> {
        let mut all = Vec::new();
        for (name, lane) in &self.lanes {
            for item in &lane.out {
                if let State::Leased { grant, .. } = item.state {
                    all.push((*name, item.offset, grant));
                }
            }
        }
        all
    }
}

fn name_of(name: usize) -> String {
    format!("lite-{name}")
}

fn names_of(names: &BTreeSet<usize>) -> BTreeSet<String> {
    names.iter().map(|name| name_of(*name)).collect()
}

fn client_of(client: usize) -> String {
    format!("client-{client}")
}

fn run(steps: &[Step], exclusive: bool) -> Result<(), TestCaseError> {
    let mut lab = Lab::new(exclusive);
    let mut model = Model { exclusive, ..Model::default() };
    let mut grant = 0;
    for step in steps {
        match step {
            Step::Send { name, count } => {
                let queue = lab.send(&name_of(*name), *count);
                let wanted = model.wants.remove(name) || model.subscribed(*name);
                if !model.lanes.contains_key(name) {
                    prop_assert!(model.queues.insert(queue.get()), "a queue that was another lite topic's");
                }
                let lane = model.lanes.entry(*name).or_insert_with(|| Lane {
                    queue: queue.get(),
                    next: wanted.then_some(0),
                    ..Lane::default()
                });
                lane.end += count;
            }
            Step::Sync { client, action, names, start } => {
                lab.sync(&client_of(*client), *action, &names_of(names), *start, None).unwrap();
                model.sync(*client, *action, names, *start);
            }
            Step::Receive { client, max } => {
                grant += 1;
                let got = lab.receive(&client_of(*client), *max, grant, LEASE);
                let mut own = model.clients.get(client).map(|client| client.names.clone()).unwrap_or_default();
                if let Some(client) = model.clients.get_mut(client) {
                    client.seen = model.now;
                }
                own.retain(|name| model.lanes.contains_key(name));
                let available: usize = own.iter().map(|name| model.lanes[name].available().len()).sum();
                prop_assert_eq!(
                    got.values().map(Vec::len).sum::<usize>(),
                    available.min(*max),
                    "all that can be given"
                );
                for (queue, items) in got {
                    let found = model.lanes.iter_mut().find(|(_, lane)| lane.queue == queue.get());
                    let (name, lane) = found.expect("the queue of a lite topic");
                    prop_assert!(own.contains(name), "only what the client subscribes to");
                    let expected = lane.available();
                    prop_assert_eq!(&items[..], &expected[..items.len()], "in order, from the first");
                    // What is given again from the front on comes again as a whole, also what was acknowledged behind it.
                    lane.out.iter_mut().for_each(|item| item.state = State::Ready);
                    for (offset, attempt) in items {
                        lane.out.retain(|item| item.offset != offset);
                        let state = State::Leased { until: model.now + LEASE, grant };
                        lane.out.push(Item { offset, attempt, state });
                        lane.next = Some(lane.next.unwrap().max(offset + 1));
                    }
                    lane.out.sort_by_key(|item| item.offset);
                }
            }
            Step::Ack { which } => {
                let leased = model.leased();
                let Some(&(name, offset, grant)) = leased.get(which % leased.len().max(1)) else { continue };
                let lane = model.lanes.get_mut(&name).unwrap();
                lab.ack(QueueId(lane.queue), offset, grant);
                lane.ack(offset);
            }
            Step::Nack { which } => {
                let leased = model.leased();
                let Some(&(name, offset, grant)) = leased.get(which % leased.len().max(1)) else { continue };
                let lane = model.lanes.get_mut(&name).unwrap();
                lab.nack(QueueId(lane.queue), offset, grant);
                lane.out.iter_mut().filter(|item| item.offset == offset).for_each(|item| item.state = State::Ready);
            }
            Step::GiveBack { which } => {
                let leased = model.leased();
                let Some(&(name, offset, grant)) = leased.get(which % leased.len().max(1)) else { continue };
                let lane = model.lanes.get_mut(&name).unwrap();
                lab.give_back(QueueId(lane.queue), offset, grant);
                for item in lane.out.iter_mut().filter(|item| item.offset == offset) {
                    item.state = State::Ready;
                    item.attempt -= 1;
                }
            }
            Step::Pass { millis } => {
                model.pass(*millis);
                lab.pass(*millis, SILENCE);
            }
            Step::Leave { client } => {
                lab.leave(&client_of(*client));
                model.clients.remove(client);
            }
            Step::RemoveRead { name } => {
                let Some(lane) = model.lanes.get(name) else { continue };
                let read = lane.out.is_empty() && lane.next.is_none_or(|next| next == lane.end);
                prop_assert_eq!(lab.core.lite_is_read(PARENT, QueueId(lane.queue)), read);
                if read {
                    lab.remove(QueueId(lane.queue));
                    model.lanes.remove(name);
                    if model.subscribed(*name) {
                        model.wants.insert(*name);
                    }
                }
            }
            Step::Restart => {
                lab.restart();
                model.clients.clear();
            }
        }
        lab.check();
        for name in (0..NAMES).filter(|name| !model.lanes.contains_key(name)) {
            prop_assert_eq!(lab.waits_for(&name_of(name)), model.subscribed(name) || model.wants.contains(&name));
        }
        prop_assert_eq!(lab.core.topic(PARENT).unwrap().lite.len(), model.lanes.len());
        prop_assert_eq!(lab.now, Timestamp(model.now));
        let lite = lab.core.topic(PARENT).unwrap().subscriptions[&GROUP].lite.as_ref();
        let subscriptions = lite.map_or(0, |lite| lite.subscriptions());
        prop_assert_eq!(subscriptions, model.clients.values().map(|client| client.names.len()).sum::<usize>());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_receive_gets_what_the_model_would_give_it(steps in prop::collection::vec(step(), 1..40), exclusive in any::<bool>()) {
        run(&steps, exclusive)?;
    }
}
