//! The history checker sees what it must see, and nothing else: true histories of a small honest model pass, and every
//! deliberate lie about them is caught under the right name.

use std::collections::BTreeMap;

use bolide::runtime::entropy::Entropy;

mod history;

use history::check::{broken, check};
use history::mutants::MUTANTS;
use history::{
    Answer, Call, Delivery, GroupTerms, History, INVALID_RECEIPT_HANDLE, Lease, OK, ReceiveRequest, Request, Sent,
    Terms,
};

const QUEUES: u64 = 2;
const MAX_ATTEMPTS: u32 = 4;
const LEASE_US: u64 = 400_000;

/// A message as one group sees it.
#[derive(Clone, Debug)]
enum Slot {
    Free { attempts: u32, from_us: u64 },
    Leased { attempt: u32, handle: String, end_us: u64 },
    Done { handle: String, end_us: u64 },
}

/// An honest broker in one thread: what it answers is true.
struct Model {
    entropy: Entropy,
    history: History,
    now_us: u64,
    stored: Vec<(Sent, i32, i64)>,
    slots: BTreeMap<(String, usize), Slot>,
    letters: BTreeMap<String, Vec<Sent>>,
    held: Vec<(String, Delivery)>,
    number: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let group = |tags: &[&str]| GroupTerms {
            topic: "t".to_owned(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            max_attempts: MAX_ATTEMPTS,
        };
        let groups = [("all".to_owned(), group(&[])), ("some".to_owned(), group(&["A"]))].into();
        let terms = Terms { groups, session_us: 10_000_000, drained: false, forgets: false };
        Self {
            entropy: Entropy::seeded(seed),
            history: History { terms, ..History::default() },
            now_us: 1_000,
            stored: Vec::new(),
            slots: BTreeMap::new(),
            letters: BTreeMap::new(),
            held: Vec::new(),
            number: 0,
        }
    }

    fn pass(&mut self, most_us: u64) -> u64 {
        self.now_us += 1 + self.entropy.below(most_us);
        self.now_us
    }

    fn record(&mut self, begin_us: u64, request: Request, answer: Answer) {
        let end_us = self.pass(500);
        let end_us = (!matches!(answer, Answer::Unknown)).then_some(end_us);
        self.history.calls.push(Call { client: "c".to_owned(), begin_us, end_us, request, answer });
    }

    fn send(&mut self) {
        let begin_us = self.pass(2_000);
        self.number += 1;
        let tag = ["", "A", "B"][usize::try_from(self.entropy.below(3)).unwrap()].to_owned();
        let sent = Sent { id: format!("m{}", self.number), tag, body_hash: self.number * 7 };
        let request = Request::Send { topic: "t".to_owned(), messages: vec![sent.clone()] };
        self.pass(500);
        let fate = self.entropy.below(10);
        if fate == 0 {
            return self.record(begin_us, request, Answer::Refused(42_900));
        }
        let queue = i32::try_from(self.entropy.below(QUEUES)).unwrap();
        let offset = i64::try_from(self.stored.iter().filter(|(_, other, _)| *other == queue).count()).unwrap();
        if fate == 1 {
            // The answer is lost; whether the message was stored is a coin's choice.
            if self.entropy.below(2) == 0 {
                self.stored.push((sent, queue, offset));
            }
            return self.record(begin_us, request, Answer::Unknown);
        }
        self.stored.push((sent, queue, offset));
        self.record(begin_us, request, Answer::Sent(vec![Ok(offset)]));
    }

    fn receive(&mut self, group: &str, batch: usize) {
        let begin_us = self.pass(2_000);
        let now_us = self.pass(500);
        let takes = self.history.terms.groups[group].clone();
        let mut messages = Vec::new();
        for index in 0..self.stored.len() {
            if messages.len() == batch || !takes.takes(&self.stored[index].0.tag) {
                continue;
            }
            let key = (group.to_owned(), index);
            let slot = self.slots.get(&key).cloned().unwrap_or(Slot::Free { attempts: 0, from_us: 0 });
            let attempts = match slot {
                Slot::Free { attempts, from_us } if from_us <= now_us => attempts,
                Slot::Leased { attempt, end_us, .. } if end_us <= now_us => attempt,
                _ => continue,
            };
            if attempts == MAX_ATTEMPTS {
                self.bury(group, index);
                continue;
            }
            self.number += 1;
            let handle = format!("h{}", self.number);
            let attempt = attempts + 1;
            self.slots.insert(key, Slot::Leased { attempt, handle: handle.clone(), end_us: now_us + LEASE_US });
            let (sent, queue, offset) = self.stored[index].clone();
            messages.push(Delivery {
                at_us: now_us + 1,
                id: sent.id,
                handle,
                attempt,
                queue,
                offset,
                tag: sent.tag,
                body_hash: sent.body_hash,
            });
        }
        self.held.extend(messages.iter().map(|got| (group.to_owned(), got.clone())));
        let request = ReceiveRequest {
            group: group.to_owned(),
            topic: "t".to_owned(),
            lease: Lease::Fixed { invisible_us: LEASE_US },
            attempt_id: None,
        };
        self.record(begin_us, Request::Receive(request), Answer::Received { messages, complete: true });
    }

    fn bury(&mut self, group: &str, index: usize) {
        let sent = self.stored[index].0.clone();
        self.letters.entry(group.to_owned()).or_default().push(sent);
        self.slots.insert((group.to_owned(), index), Slot::Done { handle: String::new(), end_us: 0 });
    }

    /// What an ack or a forward answers: OK also for the same handle again while its lease lasts.
    fn finish(&mut self, group: &str, handle: &str) -> Option<usize> {
        let now_us = self.now_us;
        for index in 0..self.stored.len() {
            let key = (group.to_owned(), index);
            match self.slots.get(&key) {
                Some(Slot::Leased { handle: current, end_us, .. }) if current == handle && *end_us > now_us => {
                    let end_us = *end_us;
                    self.slots.insert(key, Slot::Done { handle: handle.to_owned(), end_us });
                    return Some(index);
                }
                Some(Slot::Done { handle: last, end_us }) if last == handle && *end_us > now_us => return Some(index),
                _ => {}
            }
        }
        None
    }

    fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let place = usize::try_from(self.entropy.below(self.held.len() as u64)).unwrap();
        let (group, got) = self.held[place].clone();
        let begin_us = self.pass(1_000);
        self.pass(100);
        let code = |ok: bool| if ok { OK } else { INVALID_RECEIPT_HANDLE };
        match self.entropy.below(10) {
            0..=4 => {
                let answer = Answer::Acked(vec![code(self.finish(&group, &got.handle).is_some())]);
                self.record(begin_us, Request::Ack { group, topic: "t".to_owned(), handles: vec![got.handle] }, answer);
            }
            5 => {
                let other = if group == "all" { "some" } else { "all" };
                let answer = Answer::Acked(vec![INVALID_RECEIPT_HANDLE]);
                let request =
                    Request::Ack { group: other.to_owned(), topic: "t".to_owned(), handles: vec![got.handle] };
                self.record(begin_us, request, answer);
            }
            6 => {
                let index = self.finish(&group, &got.handle);
                let new = index.filter(|_| {
                    !self.letters.get(&group).is_some_and(|letters| letters.iter().any(|sent| sent.id == got.id))
                });
                if let Some(index) = new {
                    self.bury(&group, index);
                }
                let request = Request::Forward { group, topic: "t".to_owned(), handle: got.handle };
                self.record(begin_us, request, Answer::Forwarded(code(index.is_some())));
            }
            7 | 8 => self.nack(&group, &got, begin_us),
            _ => {}
        }
    }

    fn nack(&mut self, group: &str, got: &Delivery, begin_us: u64) {
        let now_us = self.now_us;
        let mut ok = false;
        for index in 0..self.stored.len() {
            let slot = self.slots.get_mut(&(group.to_owned(), index));
            if let Some(slot) = slot
                && let Slot::Leased { attempt, handle, end_us } = slot
                && *handle == got.handle
                && *end_us > now_us
            {
                *slot = Slot::Free { attempts: *attempt, from_us: now_us };
                ok = true;
            }
        }
        let request = Request::Change {
            group: group.to_owned(),
            topic: "t".to_owned(),
            handle: got.handle.clone(),
            invisible_us: 0,
        };
        let code = if ok { OK } else { INVALID_RECEIPT_HANDLE };
        self.record(begin_us, request, Answer::Changed { code, handle: format!("{}'", got.handle) });
    }

    fn drain(&mut self) {
        for group in ["all", "some"] {
            loop {
                self.now_us += LEASE_US + 1;
                self.held.clear();
                self.receive(group, 1_000);
                if self.held.is_empty() {
                    break;
                }
                for (group, got) in std::mem::take(&mut self.held) {
                    let begin_us = self.pass(10);
                    let answer = Answer::Acked(vec![if self.finish(&group, &got.handle).is_some() {
                        OK
                    } else {
                        INVALID_RECEIPT_HANDLE
                    }]);
                    self.record(
                        begin_us,
                        Request::Ack { group, topic: "t".to_owned(), handles: vec![got.handle] },
                        answer,
                    );
                }
            }
        }
        for (group, letters) in std::mem::take(&mut self.letters) {
            for (offset, sent) in letters.into_iter().enumerate() {
                let begin_us = self.pass(10);
                let receive = ReceiveRequest {
                    group: format!("{group}-undertaker"),
                    topic: format!("%DLQ%{group}"),
                    lease: Lease::Fixed { invisible_us: LEASE_US },
                    attempt_id: None,
                };
                let at_us = self.pass(10);
                let got = Delivery {
                    at_us,
                    id: sent.id,
                    handle: format!("letter-{group}-{offset}"),
                    attempt: 1,
                    queue: 0,
                    offset: i64::try_from(offset).unwrap(),
                    tag: sent.tag,
                    body_hash: sent.body_hash,
                };
                self.record(
                    begin_us,
                    Request::Receive(receive),
                    Answer::Received { messages: vec![got], complete: true },
                );
            }
        }
        self.history.terms.drained = true;
    }
}

fn true_history(seed: u64) -> History {
    let mut model = Model::new(seed);
    for _ in 0..400 {
        match model.entropy.below(10) {
            0..=3 => model.send(),
            4 | 5 => model.receive("all", 3),
            6 => model.receive("some", 3),
            7 => {
                model.pass(LEASE_US);
            }
            _ => model.settle(),
        }
    }
    model.drain();
    model.history
}

#[test]
fn an_honest_history_breaks_no_promise() {
    for seed in 0..40 {
        let history = true_history(seed);
        if let Err(violation) = check(&history) {
            panic!("seed {seed}: {}", violation.report(&history));
        }
    }
}

#[test]
fn every_deliberate_lie_is_seen_under_its_own_name() {
    for mutant in &MUTANTS {
        let mut told = 0;
        for seed in 0..40 {
            let mut history = true_history(seed);
            if !(mutant.apply)(&mut history) {
                continue;
            }
            told += 1;
            let found: Vec<&str> = broken(&history).iter().map(|violation| violation.promise).collect();
            assert!(
                found.contains(&mutant.promise),
                "{}, seed {seed}: expected {:?}, found {found:?}",
                mutant.name,
                mutant.promise
            );
        }
        assert!(told >= 5, "{}: only {told} histories gave an occasion", mutant.name);
    }
}

#[test]
fn an_unknown_answer_accuses_nobody() {
    // A send without an answer may be delivered or not, and an ack without one may be followed by a redelivery or not.
    let mut model = Model::new(7);
    model.send();
    model.receive("all", 1);
    model.drain();
    let mut history = model.history;
    for call in &mut history.calls {
        if matches!(call.request, Request::Send { .. } | Request::Ack { .. }) {
            call.answer = Answer::Unknown;
            call.end_us = None;
        }
    }
    check(&history).expect("nothing is certain");
    for call in &mut history.calls {
        if let Answer::Received { messages, .. } = &mut call.answer {
            messages.clear();
        }
    }
    check(&history).expect("nothing is certain");
}
