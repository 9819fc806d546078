//! An honest broker in one thread, for all kinds of messages: what it answers is true.

use std::collections::{BTreeMap, BTreeSet};

use bolide::runtime::entropy::Entropy;

use crate::history::{
    Answer, Ask, Call, Check, Delivery, GroupTerms, History, INVALID_RECEIPT_HANDLE, INVALID_TRANSACTION_ID, Lease, OK,
    PRECONDITION_FAILED, Receipt, ReceiveRequest, Request, Sent, Terms, hash_bytes,
};

const QUEUES: u64 = 2;
const MAX_ATTEMPTS: u32 = 4;
const WALL_BEGIN_MS: u64 = 1_000_000;
const FIRST_CHECK_US: u64 = 30_000;
pub const LEASE_US: u64 = 400_000;
const GROUPS: [&str; 7] = ["all", "some", "line", "later", "deals", "fans", "levels"];

/// A message as one group sees it.
#[derive(Clone, Debug)]
enum Slot {
    Free {
        attempts: u32,
        from_us: u64,
    },
    Leased {
        attempt: u32,
        handle: String,
        end_us: u64,
    },
    Done {
        handle: String,
        end_us: u64,
    },
    /// Acked while an earlier one of its lane is not.
    Acked {
        attempt: u32,
        handle: String,
        end_us: u64,
    },
}

struct Stored {
    topic: String,
    sent: Sent,
    queue: i32,
    offset: i64,
}

/// A delayed message.
struct Hold {
    sent: Sent,
    handle: String,
    is_over: bool,
    is_recalled: bool,
}

/// A transaction.
struct Half {
    sent: Sent,
    begin_us: u64,
    committed: Option<bool>,
}

pub struct Model {
    pub entropy: Entropy,
    pub history: History,
    now_us: u64,
    stored: Vec<Stored>,
    holds: Vec<Hold>,
    halves: Vec<Half>,
    slots: BTreeMap<(String, usize), Slot>,
    letters: BTreeMap<String, Vec<Sent>>,
    held: Vec<(String, Delivery)>,
    number: u64,
}

impl Model {
    pub fn new(seed: u64) -> Self {
        let group = |tags: &[&str]| GroupTerms {
            topic: "t".to_owned(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            max_attempts: MAX_ATTEMPTS,
            ordered: false,
            judges: false,
        };
        let of = |topic: &str, ordered: bool| GroupTerms { topic: topic.to_owned(), ordered, ..group(&[]) };
        let groups = [
            ("all".to_owned(), group(&[])),
            ("some".to_owned(), group(&["A"])),
            ("line".to_owned(), of("ordered", true)),
            ("later".to_owned(), of("delayed", false)),
            ("deals".to_owned(), of("transactions", false)),
            ("fans".to_owned(), of("lite", true)),
            ("levels".to_owned(), of("levels", false)),
        ];
        let terms = Terms {
            groups: groups.into(),
            session_us: 10_000_000,
            wall_begin_ms: WALL_BEGIN_MS,
            first_check_us: FIRST_CHECK_US,
            ..Terms::default()
        };
        Self {
            entropy: Entropy::seeded(seed),
            history: History { terms, ..History::default() },
            now_us: 1_000,
            stored: Vec::new(),
            holds: Vec::new(),
            halves: Vec::new(),
            slots: BTreeMap::new(),
            letters: BTreeMap::new(),
            held: Vec::new(),
            number: 0,
        }
    }

    pub fn pass(&mut self, most_us: u64) -> u64 {
        self.now_us += 1 + self.entropy.below(most_us);
        self.now_us
    }

    fn record(&mut self, begin_us: u64, request: Request, answer: Answer) {
        let end_us = self.pass(500);
        let end_us = (!matches!(answer, Answer::Unknown)).then_some(end_us);
        self.history.calls.push(Call { client: "c".to_owned(), begin_us, end_us, request, answer });
    }

    fn server_ms(&self) -> u64 {
        WALL_BEGIN_MS + self.now_us / 1000
    }

    fn message(&mut self, ask: Ask) -> Sent {
        self.number += 1;
        let tag = ["", "A", "B"][usize::try_from(self.entropy.below(3)).unwrap()].to_owned();
        Sent { id: format!("m{}.", self.number), tag, body_hash: self.number * 7, ask }
    }

    /// Puts a message into its queue; its offset.
    fn store(&mut self, topic: &str, sent: Sent) -> i64 {
        let queue = match sent.ask.lane() {
            Some(lane) => hash_bytes(lane.as_bytes()) % QUEUES,
            None => self.entropy.below(QUEUES),
        };
        let queue = i32::try_from(queue).unwrap();
        let before = self.stored.iter().filter(|other| other.topic == topic && other.queue == queue);
        let offset = i64::try_from(before.count()).unwrap();
        self.stored.push(Stored { topic: topic.to_owned(), sent, queue, offset });
        offset
    }

    pub fn send(&mut self) {
        self.send_to("t", Ask::default());
    }

    pub fn send_in_a_lane(&mut self) {
        let lane = format!("g{}", self.entropy.below(3));
        self.send_to("ordered", Ask { message_group: Some(lane), ..Ask::default() });
    }

    pub fn send_lite(&mut self) {
        let lane = format!("l{}", self.entropy.below(3));
        self.send_to("lite", Ask { lite_topic: Some(lane), ..Ask::default() });
    }

    pub fn send_urgent(&mut self) {
        let priority = i32::try_from(self.entropy.below(12)).unwrap();
        self.send_to("levels", Ask { priority: Some(priority), ..Ask::default() });
    }

    /// Stored messages, the most urgent first.
    fn by_rank(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.stored.len()).collect();
        // The sort is stable; no history of this model lasts as long as a level is worth.
        order.sort_by_key(|index| std::cmp::Reverse(self.stored[*index].sent.ask.priority.map(|level| level.min(9))));
        order
    }

    fn send_to(&mut self, topic: &str, ask: Ask) {
        let begin_us = self.pass(2_000);
        let sent = self.message(ask);
        let request = Request::Send { topic: topic.to_owned(), messages: vec![sent.clone()] };
        self.pass(500);
        match self.entropy.below(10) {
            0 => self.record(begin_us, request, Answer::Refused(42_900)),
            1 => {
                // The answer is lost; whether the message was stored is a coin's choice.
                if self.entropy.below(2) == 0 {
                    self.store(topic, sent);
                }
                self.record(begin_us, request, Answer::Unknown);
            }
            _ => {
                let offset = self.store(topic, sent);
                self.record(begin_us, request, Answer::Sent(vec![Ok(Receipt::at(offset))]));
            }
        }
    }

    pub fn send_delayed(&mut self) {
        let begin_us = self.pass(2_000);
        let due_ms = self.server_ms() + self.entropy.below(60);
        let sent = self.message(Ask { due_ms: Some(due_ms), ..Ask::default() });
        let handle = format!("recall-{}", sent.id);
        let request = Request::Send { topic: "delayed".to_owned(), messages: vec![sent.clone()] };
        self.pass(500);
        self.holds.push(Hold { sent, handle: handle.clone(), is_over: false, is_recalled: false });
        let answer = match self.entropy.below(10) {
            0 => Answer::Unknown,
            _ => Answer::Sent(vec![Ok(Receipt { offset: 0, recall_handle: handle })]),
        };
        self.record(begin_us, request, answer);
    }

    fn fall_due(&mut self) {
        let now_ms = self.server_ms();
        for place in 0..self.holds.len() {
            let hold = &mut self.holds[place];
            if !hold.is_over && hold.sent.ask.due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                hold.is_over = true;
                let sent = hold.sent.clone();
                self.store("delayed", sent);
            }
        }
    }

    pub fn recall(&mut self) {
        if self.holds.is_empty() {
            return;
        }
        let begin_us = self.pass(500);
        self.pass(100);
        self.fall_due();
        let place = usize::try_from(self.entropy.below(self.holds.len() as u64)).unwrap();
        let hold = &mut self.holds[place];
        let code = if hold.is_over && !hold.is_recalled { PRECONDITION_FAILED } else { OK };
        if code == OK {
            (hold.is_over, hold.is_recalled) = (true, true);
        }
        let (id, handle) = (hold.sent.id.clone(), hold.handle.clone());
        let request = Request::Recall { topic: "delayed".to_owned(), id: id.clone(), handle, genuine: true };
        let lost = self.entropy.below(10) == 0;
        self.record(begin_us, request, if lost { Answer::Unknown } else { Answer::Recalled { code, id } });
    }

    pub fn send_half(&mut self) {
        let begin_us = self.pass(2_000);
        let sent = self.message(Ask { half: true, ..Ask::default() });
        let request = Request::Send { topic: "transactions".to_owned(), messages: vec![sent.clone()] };
        self.pass(500);
        self.halves.push(Half { sent, begin_us, committed: None });
        let answer = match self.entropy.below(10) {
            0 => Answer::Unknown,
            _ => Answer::Sent(vec![Ok(Receipt::default())]),
        };
        self.record(begin_us, request, answer);
    }

    pub fn resolve_one(&mut self) {
        if !self.halves.is_empty() {
            let place = usize::try_from(self.entropy.below(self.halves.len() as u64)).unwrap();
            self.resolve(place);
        }
    }

    fn resolve(&mut self, place: usize) {
        let begin_us = self.pass(500);
        self.pass(100);
        let commit = self.entropy.below(2) == 0;
        let half = &mut self.halves[place];
        let code = if half.committed.is_some_and(|committed| committed != commit) { PRECONDITION_FAILED } else { OK };
        let id = half.sent.id.clone();
        if half.committed.is_none() {
            half.committed = Some(commit);
            let sent = half.sent.clone();
            if commit {
                self.store("transactions", sent);
            }
        }
        let request = Request::Resolve { topic: "transactions".to_owned(), id: id.clone(), commit, genuine: true };
        let lost = self.entropy.below(10) == 0;
        self.record(begin_us, request, if lost { Answer::Unknown } else { Answer::Resolved(code) });
        if self.entropy.below(5) == 0 {
            let begin_us = self.pass(100);
            let request = Request::Resolve { topic: "lite".to_owned(), id, commit, genuine: false };
            self.record(begin_us, request, Answer::Resolved(INVALID_TRANSACTION_ID));
        }
    }

    pub fn ask_about_transactions(&mut self) {
        self.pass(500);
        let at_us = self.now_us;
        for half in self.halves.iter().filter(|half| half.committed.is_none()) {
            if half.begin_us + 2_500 + FIRST_CHECK_US < at_us {
                self.history.checks.push(Check {
                    client: "c".to_owned(),
                    at_us,
                    topic: "transactions".to_owned(),
                    id: half.sent.id.clone(),
                    transaction_id: half.sent.id.clone(),
                    tag: half.sent.tag.clone(),
                    body_hash: half.sent.body_hash,
                    message_group: None,
                });
            }
        }
    }

    pub fn subscribe(&mut self) {
        let begin_us = self.pass(500);
        let lite_topics = (0..3).map(|number| format!("l{number}")).collect();
        let (group, topic) = ("fans".to_owned(), "lite".to_owned());
        self.record(begin_us, Request::Subscribe { group, topic, lite_topics, whole: true }, Answer::Subscribed(OK));
    }

    /// Messages of an ordered group that wait for an earlier one: their lane is out, or not back yet.
    fn blocked(&self, group: &str, now_us: u64) -> BTreeSet<usize> {
        let terms = &self.history.terms.groups[group];
        let mut blocked = BTreeSet::new();
        for (index, one) in self.stored.iter().enumerate().filter(|(_, one)| terms.ordered && one.topic == terms.topic)
        {
            let Some(lane) = one.sent.ask.lane() else { continue };
            let held = self.stored.iter().enumerate().any(|(other_index, other)| {
                let is_held = match self.slots.get(&(group.to_owned(), other_index)) {
                    Some(Slot::Leased { end_us, .. }) => *end_us > now_us,
                    Some(Slot::Free { from_us, .. }) => *from_us > now_us,
                    _ => false,
                };
                other.topic == one.topic && other.sent.ask.lane() == Some(lane) && is_held
            });
            if held {
                blocked.insert(index);
            }
        }
        blocked
    }

    pub fn receive(&mut self, group: &str, batch: usize) {
        let begin_us = self.pass(2_000);
        let now_us = self.pass(500);
        self.fall_due();
        let takes = self.history.terms.groups[group].clone();
        let blocked = self.blocked(group, now_us);
        let mut messages: Vec<Delivery> = Vec::new();
        for index in self.by_rank() {
            let one = &self.stored[index];
            if messages.len() == batch
                || one.topic != takes.topic
                || !takes.takes(&one.sent.tag)
                || blocked.contains(&index)
            {
                continue;
            }
            let key = (group.to_owned(), index);
            let slot = self.slots.get(&key).cloned().unwrap_or(Slot::Free { attempts: 0, from_us: 0 });
            let attempts = match slot {
                Slot::Free { attempts, from_us } if from_us <= now_us => attempts,
                Slot::Leased { attempt, end_us, .. } if end_us <= now_us => attempt,
                Slot::Acked { attempt, .. } => attempt,
                _ => continue,
            };
            if attempts == MAX_ATTEMPTS {
                self.bury(group, index);
                self.close_up(group, index);
                continue;
            }
            self.number += 1;
            let handle = format!("h{}", self.number);
            let attempt = attempts + 1;
            self.slots.insert(key, Slot::Leased { attempt, handle: handle.clone(), end_us: now_us + LEASE_US });
            let Stored { sent, queue, offset, .. } = &self.stored[index];
            messages.push(Delivery {
                at_us: now_us + 1,
                id: sent.id.clone(),
                handle,
                attempt,
                queue: *queue,
                offset: *offset,
                tag: sent.tag.clone(),
                body_hash: sent.body_hash,
                message_group: sent.ask.message_group.clone(),
                lite_topic: sent.ask.lite_topic.clone(),
                due_ms: sent.ask.due_ms,
            });
        }
        self.held.extend(messages.iter().map(|got| (group.to_owned(), got.clone())));
        let request = ReceiveRequest {
            group: group.to_owned(),
            topic: takes.topic,
            lease: Lease::Fixed { invisible_us: LEASE_US },
            attempt_id: None,
        };
        self.record(begin_us, Request::Receive(request), Answer::Received { messages, complete: true });
    }

    fn is_first_undone(&self, group: &str, index: usize) -> bool {
        let (terms, one) = (&self.history.terms.groups[group], &self.stored[index]);
        let Some(lane) = one.sent.ask.lane().filter(|_| terms.ordered) else { return true };
        !self.stored[..index].iter().enumerate().any(|(before, other)| {
            let done = matches!(self.slots.get(&(group.to_owned(), before)), Some(Slot::Done { .. }));
            other.topic == one.topic && other.sent.ask.lane() == Some(lane) && terms.takes(&other.sent.tag) && !done
        })
    }

    /// What was acked behind this one is done with it.
    fn close_up(&mut self, group: &str, from: usize) {
        for index in from..self.stored.len() {
            let key = (group.to_owned(), index);
            if let Some(Slot::Acked { handle, end_us, .. }) = self.slots.get(&key).cloned()
                && self.is_first_undone(group, index)
            {
                self.slots.insert(key, Slot::Done { handle, end_us });
            }
        }
    }

    fn bury(&mut self, group: &str, index: usize) {
        let sent = self.stored[index].sent.clone();
        self.letters.entry(group.to_owned()).or_default().push(sent);
        self.slots.insert((group.to_owned(), index), Slot::Done { handle: String::new(), end_us: 0 });
    }

    /// What an ack or a forward answers: OK also for the same handle again while its lease lasts.
    fn finish(&mut self, group: &str, handle: &str) -> Option<usize> {
        let now_us = self.now_us;
        for index in 0..self.stored.len() {
            let key = (group.to_owned(), index);
            match self.slots.get(&key) {
                Some(Slot::Leased { attempt, handle: current, end_us }) if current == handle && *end_us > now_us => {
                    let (attempt, handle, end_us) = (*attempt, handle.to_owned(), *end_us);
                    if self.is_first_undone(group, index) {
                        self.slots.insert(key, Slot::Done { handle, end_us });
                        self.close_up(group, index);
                    } else {
                        self.slots.insert(key, Slot::Acked { attempt, handle, end_us });
                    }
                    return Some(index);
                }
                Some(Slot::Done { handle: last, end_us } | Slot::Acked { handle: last, end_us, .. })
                    if last == handle && *end_us > now_us =>
                {
                    return Some(index);
                }
                _ => {}
            }
        }
        None
    }

    pub fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let place = usize::try_from(self.entropy.below(self.held.len() as u64)).unwrap();
        let (group, got) = self.held[place].clone();
        let topic = self.history.terms.groups[&group].topic.clone();
        let begin_us = self.pass(1_000);
        self.pass(100);
        let code = |ok: bool| if ok { OK } else { INVALID_RECEIPT_HANDLE };
        match self.entropy.below(10) {
            0..=4 => {
                let answer = Answer::Acked(vec![code(self.finish(&group, &got.handle).is_some())]);
                self.record(begin_us, Request::Ack { group, topic: topic.clone(), handles: vec![got.handle] }, answer);
            }
            5 => {
                let other = if group == "all" { "some" } else { "all" };
                let answer = Answer::Acked(vec![INVALID_RECEIPT_HANDLE]);
                let request = Request::Ack { group: other.to_owned(), topic: topic.clone(), handles: vec![got.handle] };
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
                let request = Request::Forward { group, topic: topic.clone(), handle: got.handle };
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
            topic: self.history.terms.groups[group].topic.clone(),
            handle: got.handle.clone(),
            invisible_us: 0,
        };
        let code = if ok { OK } else { INVALID_RECEIPT_HANDLE };
        self.record(begin_us, request, Answer::Changed { code, handle: format!("{}'", got.handle) });
    }

    pub fn drain(&mut self) {
        for place in 0..self.halves.len() {
            if self.halves[place].committed.is_none() {
                self.resolve(place);
            }
        }
        self.now_us += 100_000;
        for group in GROUPS {
            loop {
                self.now_us += LEASE_US + 1;
                self.held.clear();
                self.receive(group, 1_000);
                if self.held.is_empty() {
                    break;
                }
                for (group, got) in std::mem::take(&mut self.held) {
                    let begin_us = self.pass(10);
                    let topic = self.history.terms.groups[&group].topic.clone();
                    let answer = Answer::Acked(vec![if self.finish(&group, &got.handle).is_some() {
                        OK
                    } else {
                        INVALID_RECEIPT_HANDLE
                    }]);
                    self.record(begin_us, Request::Ack { group, topic, handles: vec![got.handle] }, answer);
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
                    message_group: sent.ask.message_group,
                    lite_topic: sent.ask.lite_topic,
                    due_ms: sent.ask.due_ms,
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
