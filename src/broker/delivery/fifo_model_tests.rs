//! Histories of an ordered group against a plain list of messages: each message group is delivered in order, none holds up
//! another, what was acknowledged comes back only behind one that did, and a restart knows what the records say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::broker::delivery::fifo_rig::{LEASE, Rig};
use crate::broker::delivery::lease::{Counts, Grant, Standing};
use crate::broker::delivery::settlement::Acked;
use crate::model::topic::TopicType;

const MAX_ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
enum Op {
    Send {
        key: u64,
        count: usize,
    },
    Receive {
        max: usize,
    },
    Ack {
        pick: usize,
    },
    Nack {
        pick: usize,
        after: u64,
    },
    Extend {
        pick: usize,
        by: u64,
    },
    GiveBack {
        from: usize,
    },
    Bury,
    Pass {
        millis: u64,
    },
    Forget,
    /// A crash that takes the newest receives with it, as far as nothing durable came after them.
    Restart {
        lost: usize,
    },
    Trim {
        by: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0u64..5, 1usize..6).prop_map(|(key, count)| Op::Send { key, count }),
        8 => (1usize..6).prop_map(|max| Op::Receive { max }),
        8 => any::<usize>().prop_map(|pick| Op::Ack { pick }),
        2 => (any::<usize>(), 0u64..150).prop_map(|(pick, after)| Op::Nack { pick, after }),
        1 => (any::<usize>(), 1u64..300).prop_map(|(pick, by)| Op::Extend { pick, by }),
        1 => (0usize..4).prop_map(|from| Op::GiveBack { from }),
        2 => Just(Op::Bury),
        3 => (1u64..150).prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::Forget),
        1 => (0usize..3).prop_map(|lost| Op::Restart { lost }),
        1 => (0u64..6).prop_map(|by| Op::Trim { by }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    New,
    With {
        grant: u64,
        until: u64,
    },
    /// Deliverable from then on.
    Back {
        at: u64,
    },
    /// Acknowledged behind one that was not.
    Held,
    Dying,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    key: u64,
    attempts: u32,
    fate: Fate,
}

#[derive(Clone, Debug, Default)]
struct Model {
    messages: Vec<Message>,
    first: usize,
}

impl Model {
    fn pass(&mut self, now: u64) {
        for message in &mut self.messages {
            let ended = match message.fate {
                Fate::With { until, .. } => until <= now,
                Fate::Back { at } => at <= now,
                _ => false,
            };
            if ended {
                // A message that was given back counts as not delivered, whatever its attempts.
                let is_dead = message.attempts >= MAX_ATTEMPTS && message.fate != Fate::Back { at: 0 };
                message.fate = if is_dead { Fate::Dying } else { Fate::Back { at: 0 } };
            }
        }
    }

    fn lane(&self, key: u64) -> Vec<usize> {
        (self.first..self.messages.len())
            .filter(|&index| self.messages[index].key == key && self.messages[index].fate != Fate::Done)
            .collect()
    }

    /// What a message group may give now, in order.
    fn expected(&self, key: u64) -> Vec<usize> {
        let lane = self.lane(key);
        let is_busy = |index: &usize| {
            matches!(self.messages[*index].fate, Fate::With { .. } | Fate::Dying | Fate::Back { at: 1.. })
        };
        if lane.iter().any(is_busy) { Vec::new() } else { lane }
    }

    fn with_clients(&self) -> Vec<usize> {
        let is_with = |index: &usize| matches!(self.messages[*index].fate, Fate::With { .. });
        (self.first..self.messages.len()).filter(is_with).collect()
    }

    /// Held messages at the front of a message group are done.
    fn finish(&mut self, key: u64) {
        for index in self.lane(key) {
            if self.messages[index].fate != Fate::Held {
                break;
            }
            self.messages[index].fate = Fate::Done;
        }
    }

    fn done(&mut self, index: usize) {
        self.messages[index].fate = Fate::Done;
        self.finish(self.messages[index].key);
    }

    fn received(&mut self, grants: &[Grant], grant: u64, until: u64) -> Result<(), TestCaseError> {
        let mut by_key: BTreeMap<u64, Vec<&Grant>> = BTreeMap::new();
        for given in grants {
            by_key.entry(given.entry.order_key).or_default().push(given);
        }
        for (key, given) in by_key {
            let indices: Vec<usize> =
                given.iter().map(|given| usize::try_from(given.entry.offset.get()).unwrap()).collect();
            if key == 0 {
                // Without a message group each message is on its own.
                for &index in &indices {
                    let is_free = matches!(self.messages[index].fate, Fate::New | Fate::Back { at: 0 });
                    prop_assert!(is_free, "{:?}", self.messages[index]);
                }
            } else {
                let expected = self.expected(key);
                prop_assert_eq!(&indices[..], &expected[..indices.len().min(expected.len())], "message group {}", key);
            }
            for (&index, given) in indices.iter().zip(&given) {
                let message = &mut self.messages[index];
                message.attempts += 1;
                prop_assert_eq!(given.attempt, message.attempts, "attempt of {}", index);
                message.fate = Fate::With { grant, until };
            }
            // Acknowledged behind one that came back, and not in this batch: it comes again when its turn comes.
            if key != 0 {
                for index in self.lane(key).into_iter().filter(|index| !indices.contains(index)) {
                    if self.messages[index].fate == Fate::Held {
                        self.messages[index].fate = Fate::Back { at: 0 };
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing may be deliverable to anyone.
    fn nothing_left(&self) -> Result<(), TestCaseError> {
        for key in 1..5 {
            prop_assert!(self.expected(key).is_empty(), "message group {} was held up: {:?}", key, self.expected(key));
        }
        for &index in &self.lane(0) {
            let is_free = matches!(self.messages[index].fate, Fate::New | Fate::Back { at: 0 });
            prop_assert!(!is_free, "{} is deliverable", index);
        }
        Ok(())
    }
}

fn agrees(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(TopicType::Fifo, None, MAX_ATTEMPTS);
    let mut model = Model::default();
    // Receives since the last change that somebody waited for: the state before each, and what it gave.
    let mut unsure: Vec<(crate::broker::delivery::fifo_rig::Folded, Model, Vec<Grant>)> = Vec::new();
    let mut last: Vec<Grant> = Vec::new();
    for op in ops {
        let with = model.with_clients();
        let chosen = |pick: usize| {
            let index = *with.get(pick % with.len().max(1))?;
            let Fate::With { grant, .. } = model.messages[index].fate else { return None };
            Some((index, grant))
        };
        if !matches!(op, Op::Receive { .. } | Op::Pass { .. } | Op::Forget | Op::Restart { .. }) {
            unsure.clear();
        }
        match op {
            Op::Send { key, count } => {
                for _ in 0..count {
                    rig.send(key, "");
                    model.messages.push(Message { key, attempts: 0, fate: Fate::New });
                }
            }
            Op::Receive { max } => {
                let before = (rig.folded.clone(), model.clone());
                let got = rig.receive_with("*", max);
                prop_assert!(got.len() <= max);
                model.received(&got, rig.last, rig.now + LEASE)?;
                if got.is_empty() {
                    model.nothing_left()?;
                } else {
                    last.clone_from(&got);
                    unsure.push((before.0, before.1, got));
                }
            }
            Op::Ack { pick } => {
                if let Some((index, grant)) = chosen(pick) {
                    prop_assert_eq!(rig.ack_of(index as u64, grant), Acked::Now);
                    let key = model.messages[index].key;
                    if key != 0 && model.lane(key)[0] != index {
                        model.messages[index].fate = Fate::Held;
                    } else {
                        model.done(index);
                    }
                    prop_assert_eq!(rig.ack_of(index as u64, grant), Acked::Before, "a repeated ack");
                }
            }
            Op::Nack { pick, after } => {
                if let Some((index, grant)) = chosen(pick) {
                    rig.nack(index as u64, grant, after);
                    let message = &mut model.messages[index];
                    let back = Fate::Back { at: if after == 0 { 0 } else { rig.now + after } };
                    message.fate = if message.attempts >= MAX_ATTEMPTS { Fate::Dying } else { back };
                }
            }
            Op::Extend { pick, by } => {
                if let Some((index, grant)) = chosen(pick) {
                    rig.extend(index as u64, grant, rig.now + by);
                    model.messages[index].fate = Fate::With { grant, until: rig.now + by };
                }
            }
            Op::GiveBack { from } => {
                let given: Vec<Grant> = last.drain(..).skip(from).collect();
                for grant in &given {
                    let index = usize::try_from(grant.entry.offset.get()).unwrap();
                    let message = &mut model.messages[index];
                    if matches!(message.fate, Fate::With { grant: by, .. } if by == grant.terms.grant.get()) {
                        message.attempts -= 1;
                        message.fate = Fate::Back { at: 0 };
                    }
                }
                rig.give_back(&given);
            }
            Op::Bury => {
                if let Some(offset) = rig.bury() {
                    let index = usize::try_from(offset).unwrap();
                    prop_assert_eq!(model.messages[index].fate, Fate::Dying);
                    model.done(index);
                }
            }
            Op::Pass { millis } => {
                rig.pass(millis);
                model.pass(rig.now);
            }
            Op::Forget => rig.forget(),
            Op::Restart { lost } => {
                let at = unsure.len() - lost.min(unsure.len());
                let forgotten = unsure.split_off(at);
                if let Some((folded, before, _)) = forgotten.first() {
                    rig.folded = folded.clone();
                    model = before.clone();
                    model.pass(rig.now);
                }
                rig.restart();
                for grant in forgotten.iter().flat_map(|(_, _, grants)| grants) {
                    let (offset, by) = (grant.entry.offset.get(), grant.terms.grant.get());
                    prop_assert_eq!(rig.standing(offset, by), Standing::Stale, "a delivery that the log forgot");
                }
                unsure.clear();
                last.clear();
            }
            Op::Trim { by } => {
                let first = (model.first + usize::try_from(by).unwrap()).min(model.messages.len());
                model.first = first;
                for message in &mut model.messages[..first] {
                    message.fate = Fate::Done;
                }
                for key in 1..5 {
                    model.finish(key);
                }
                rig.trim(first as u64);
            }
        }
    }
    drain(rig, model)
}

/// In the end everything is delivered and acknowledged, and nothing is left of it.
fn drain(mut rig: Rig, mut model: Model) -> Result<(), TestCaseError> {
    for _ in 0..1_000 {
        // Longer than any lease was made.
        rig.pass(4 * LEASE);
        model.pass(rig.now);
        while let Some(offset) = rig.bury() {
            model.done(usize::try_from(offset).unwrap());
        }
        let got = rig.receive_with("*", 4);
        model.received(&got, rig.last, rig.now + LEASE)?;
        for grant in &got {
            prop_assert_eq!(rig.ack(grant.entry.offset.get()), Acked::Now);
            model.done(usize::try_from(grant.entry.offset.get()).unwrap());
        }
        if got.is_empty() {
            break;
        }
    }
    prop_assert!(model.messages.iter().all(|message| message.fate == Fate::Done), "{:?}", model.messages);
    prop_assert!(rig.folded.leases.is_empty(), "{:?}", rig.folded);
    prop_assert!(rig.folded.lanes.is_empty(), "{:?}", rig.folded);
    prop_assert_eq!((rig.in_memory(), rig.counts()), ((0, 0), Counts::default()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_message_group_is_delivered_in_order_and_none_holds_up_another(ops in prop::collection::vec(op(), 1..60)) {
        agrees(ops)?;
    }
}
