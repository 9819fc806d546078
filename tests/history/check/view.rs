//! The history joined once: deliveries with what was done to them, sends with where they landed.

use std::collections::BTreeMap;

use super::super::{
    Answer, Call, DEAD_LETTER_PREFIX, Delivery, Event, GroupTerms, History, Lease, OK, ReceiveRequest, Request, Sent,
};

/// One stored copy of a message as its consumers name it.
pub type CopyKey<'a> = (&'a str, i32, i64);

/// Group, copy, and attempt id with attempt number of a delivery.
type Family<'a> = (&'a str, CopyKey<'a>, Option<(&'a str, u32)>);

pub struct View<'a> {
    pub history: &'a History,
    pub deliveries: Vec<Delivered<'a>>,
    /// Indexes of `deliveries`, in order of arrival, by group and copy.
    pub by_copy: BTreeMap<(&'a str, CopyKey<'a>), Vec<usize>>,
    pub sends: Vec<SendAttempt<'a>>,
    /// Indexes of `sends` by message id.
    pub sends_by_id: BTreeMap<&'a str, Vec<usize>>,
    /// By topic and message id.
    pub resolutions: BTreeMap<(&'a str, &'a str), Vec<Resolution<'a>>>,
    /// Calls back by handle, genuine ones only: the call, and its code unless unknown.
    pub recalls: BTreeMap<&'a str, Vec<(&'a Call, Option<i32>)>>,
    /// Instants at which the process was ending or ended.
    ends: Vec<u64>,
    /// Times in which a part that held nothing was away.
    away: Vec<(u64, u64)>,
    moves: Vec<(u64, i64)>,
}

/// A message as one receive got it, with everything that was done with its handle.
pub struct Delivered<'a> {
    pub call: &'a Call,
    pub receive: &'a ReceiveRequest,
    pub got: &'a Delivery,
    pub settles: Vec<Settle<'a>>,
    /// Begin of the first receive with this attempt id: what it granted, this one may only have repeated.
    first_begin_us: u64,
}

/// Something done with the handle of a delivery.
#[derive(Clone)]
pub struct Settle<'a> {
    pub call: &'a Call,
    /// Group named in the call, which need not be the one of the delivery.
    pub group: &'a str,
    pub handle: &'a str,
    pub kind: Kind,
    /// Absent when unknown.
    pub code: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ack,
    Forward,
    Change { invisible_us: u64 },
}

/// One message in one send call.
pub struct SendAttempt<'a> {
    pub call: &'a Call,
    pub topic: &'a str,
    pub message: &'a Sent,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored(i64),
    /// Acknowledged, and held back: delayed, or half of a transaction.
    Held,
    Refused,
    Unknown,
}

impl SendAttempt<'_> {
    pub fn acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Stored(_) | Outcome::Held)
    }

    /// The handle by which it can be called back, if it was told one.
    pub fn recall_handle(&self) -> Option<&str> {
        let Answer::Sent(results) = &self.call.answer else { return None };
        let receipt = results.get(self.place())?.as_ref().ok()?;
        Some(receipt.recall_handle.as_str()).filter(|handle| !handle.is_empty())
    }

    /// Place of the message in its request.
    pub fn place(&self) -> usize {
        match &self.call.request {
            Request::Send { messages, .. } => {
                messages.iter().position(|message| std::ptr::eq(message, self.message)).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// A call that ends a transaction.
pub struct Resolution<'a> {
    pub call: &'a Call,
    pub commit: bool,
    /// Absent when unknown.
    pub code: Option<i32>,
}

impl Resolution<'_> {
    pub fn ok(&self) -> bool {
        self.code == Some(OK)
    }

    pub fn maybe(&self) -> bool {
        self.code.is_none_or(|code| code == OK)
    }
}

impl Settle<'_> {
    pub fn ok(&self) -> bool {
        self.code == Some(OK)
    }

    /// Whether it may have taken effect.
    pub fn maybe(&self) -> bool {
        self.code.is_none_or(|code| code == OK)
    }
}

impl Delivered<'_> {
    /// Earliest instant of its granting.
    pub fn earliest(&self) -> u64 {
        self.first_begin_us
    }

    /// Latest instant of its granting.
    pub fn latest(&self) -> u64 {
        self.got.at_us
    }

    pub fn copy(&self) -> CopyKey<'_> {
        (&self.receive.topic, self.got.queue, self.got.offset)
    }

    /// Whether the two are one delivery, given twice for the same attempt id.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        self.receive.attempt_id.is_some()
            && self.receive.attempt_id == other.receive.attempt_id
            && self.got.attempt == other.got.attempt
    }
}

impl<'a> View<'a> {
    pub fn of(history: &'a History) -> Self {
        let mut view = Self {
            history,
            deliveries: Vec::new(),
            by_copy: BTreeMap::new(),
            sends: Vec::new(),
            sends_by_id: BTreeMap::new(),
            resolutions: BTreeMap::new(),
            recalls: BTreeMap::new(),
            ends: Vec::new(),
            away: Vec::new(),
            moves: Vec::new(),
        };
        for (at, event) in &history.events {
            match event {
                Event::Ending(_) | Event::Ended => view.ends.push(*at),
                Event::ClockMoved(millis) => view.moves.push((*at, millis * 1000)),
                Event::Away { since_us } => view.away.push((*since_us, *at)),
                Event::Started | Event::Note(_) => {}
            }
        }
        view.collect_sends();
        view.collect_deliveries();
        view.collect_settles();
        view.collect_held();
        view
    }

    fn collect_sends(&mut self) {
        for call in &self.history.calls {
            let Request::Send { topic, messages } = &call.request else { continue };
            for (index, message) in messages.iter().enumerate() {
                let outcome = match &call.answer {
                    Answer::Sent(results) => match results.get(index) {
                        Some(Ok(_)) if message.ask.is_held() => Outcome::Held,
                        Some(Ok(receipt)) => Outcome::Stored(receipt.offset),
                        Some(Err(code)) if Call::is_definite_refusal(*code) => Outcome::Refused,
                        _ => Outcome::Unknown,
                    },
                    Answer::Refused(code) if Call::is_definite_refusal(*code) => Outcome::Refused,
                    _ => Outcome::Unknown,
                };
                self.sends_by_id.entry(&message.id).or_default().push(self.sends.len());
                self.sends.push(SendAttempt { call, topic, message, outcome });
            }
        }
    }

    fn collect_deliveries(&mut self) {
        let mut begins: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for call in &self.history.calls {
            let Request::Receive(receive) = &call.request else { continue };
            let first_begin_us = match &receive.attempt_id {
                Some(id) => *begins.entry((&receive.group, id)).or_insert(call.begin_us),
                None => call.begin_us,
            };
            for got in call.deliveries() {
                self.deliveries.push(Delivered { call, receive, got, settles: Vec::new(), first_begin_us });
            }
        }
        self.deliveries.sort_by_key(|delivered| delivered.got.at_us);
        for (index, delivered) in self.deliveries.iter().enumerate() {
            let key = (delivered.receive.topic.as_str(), delivered.got.queue, delivered.got.offset);
            self.by_copy.entry((&delivered.receive.group, key)).or_default().push(index);
        }
    }

    fn collect_settles(&mut self) {
        // A family is one delivery, given once or again and again for its attempt id: what is done to one is done to all.
        let mut families: BTreeMap<Family<'_>, usize> = BTreeMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut handles: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, delivered) in self.deliveries.iter().enumerate() {
            let receive = delivered.receive;
            let copy = (receive.topic.as_str(), delivered.got.queue, delivered.got.offset);
            let repeat = receive.attempt_id.as_deref().map(|id| (id, delivered.got.attempt));
            let same_text = handles.get(delivered.got.handle.as_str()).copied();
            let same_attempt = repeat.and_then(|_| families.get(&(receive.group.as_str(), copy, repeat)).copied());
            let family = same_text.or(same_attempt).unwrap_or(members.len());
            if family == members.len() {
                members.push(Vec::new());
            }
            members[family].push(index);
            families.insert((&receive.group, copy, repeat), family);
            handles.insert(&delivered.got.handle, family);
        }
        for call in &self.history.calls {
            for settle in settles_of(call) {
                let Some(&family) = handles.get(settle.handle) else { continue };
                if let Answer::Changed { code: OK, handle } = &call.answer
                    && !handle.is_empty()
                {
                    handles.entry(handle).or_insert(family);
                }
                for &index in &members[family] {
                    self.deliveries[index].settles.push(settle.clone());
                }
            }
        }
    }

    fn collect_held(&mut self) {
        for call in &self.history.calls {
            match &call.request {
                Request::Resolve { topic, id, commit, genuine: true } => {
                    let code = match &call.answer {
                        Answer::Resolved(code) | Answer::Refused(code) => known(*code),
                        _ => None,
                    };
                    let resolution = Resolution { call, commit: *commit, code };
                    self.resolutions.entry((topic, id)).or_default().push(resolution);
                }
                Request::Recall { handle, genuine: true, .. } => {
                    let code = match &call.answer {
                        Answer::Recalled { code, .. } | Answer::Refused(code) => known(*code),
                        _ => None,
                    };
                    self.recalls.entry(handle).or_default().push((call, code));
                }
                _ => {}
            }
        }
    }

    /// The sends of a message id.
    pub fn sends_of(&self, id: &str) -> impl Iterator<Item = &SendAttempt<'a>> {
        self.sends_by_id.get(id).into_iter().flatten().map(|&index| &self.sends[index])
    }

    /// Whether a transaction may have been ended so before an instant.
    pub fn maybe_resolved(&self, topic: &str, id: &str, commit: bool, before_us: u64) -> bool {
        let resolutions = self.resolutions.get(&(topic, id)).into_iter().flatten();
        resolutions.into_iter().any(|one| one.commit == commit && one.maybe() && one.call.begin_us < before_us)
    }

    /// Places at which a message was seen by consumers of its topic.
    pub fn copies_of(&self) -> BTreeMap<&'a str, std::collections::BTreeSet<(i32, i64)>> {
        let mut copies: BTreeMap<&str, std::collections::BTreeSet<(i32, i64)>> = BTreeMap::new();
        for delivered in &self.deliveries {
            if Self::dead_letter_group(&delivered.receive.topic).is_none() {
                copies.entry(&delivered.got.id).or_default().insert((delivered.got.queue, delivered.got.offset));
            }
        }
        copies
    }

    /// What the order of a delivered message is kept with, where its group keeps an order.
    pub fn lane(&self, delivered: &Delivered<'a>) -> Option<&'a str> {
        let terms = self.group(&delivered.receive.group)?;
        let sent = self.sends_by_id.get(delivered.got.id.as_str()).and_then(|sends| sends.first())?;
        if terms.ordered { self.sends[*sent].message.ask.lane() } else { None }
    }

    /// Latest reading that the server's clock can have shown until an instant, in microseconds since 1970.
    pub fn server_clock_at_most_us(&self, at_us: u64) -> u64 {
        let begin_us = self.history.terms.wall_begin_ms * 1000;
        let mut moved: i64 = 0;
        let mut most = 0;
        for (move_us, by) in self.moves.iter().filter(|(move_us, _)| *move_us <= at_us) {
            most = most.max((begin_us + move_us).saturating_add_signed(moved));
            moved += by;
        }
        most.max((begin_us + at_us).saturating_add_signed(moved))
    }

    pub fn group(&self, name: &str) -> Option<&'a GroupTerms> {
        self.history.terms.groups.get(name)
    }

    /// A number that is the same for two instants only if no process ended between them.
    pub fn life(&self, at_us: u64) -> usize {
        self.ends.iter().filter(|&&end| end <= at_us).count()
    }

    /// Whether a process was ending or ended between two instants, or was away.
    pub fn ends_within(&self, from_us: u64, to_us: u64) -> bool {
        self.ends.iter().any(|end| (from_us..=to_us).contains(end))
            || self.away.iter().any(|&(since_us, until_us)| since_us <= to_us && from_us <= until_us)
    }

    /// Microseconds by which the server's clock ran ahead of ours at most, between two instants.
    pub fn gained(&self, from_us: u64, to_us: u64) -> u64 {
        self.moved(from_us, to_us, 1)
    }

    /// Microseconds by which it fell behind at most.
    pub fn lost(&self, from_us: u64, to_us: u64) -> u64 {
        self.moved(from_us, to_us, -1)
    }

    fn moved(&self, from_us: u64, to_us: u64, sign: i64) -> u64 {
        let inside = self.moves.iter().filter(|(at, _)| (from_us..=to_us).contains(at));
        inside.map(|(_, by)| u64::try_from(by * sign).unwrap_or(0)).sum()
    }

    /// The group that a dead-letter topic belongs to.
    pub fn dead_letter_group(topic: &str) -> Option<&str> {
        topic.strip_prefix(DEAD_LETTER_PREFIX)
    }

    /// The dead letters of a group: message id, and each copy once with one delivery of it.
    pub fn dead_letters(&self, group: &str) -> BTreeMap<&str, BTreeMap<(i32, i64), &Delivered<'a>>> {
        let mut letters: BTreeMap<&str, BTreeMap<(i32, i64), &Delivered<'a>>> = BTreeMap::new();
        for delivered in &self.deliveries {
            if Self::dead_letter_group(&delivered.receive.topic) == Some(group) {
                let copies = letters.entry(&delivered.got.id).or_default();
                copies.entry((delivered.got.queue, delivered.got.offset)).or_insert(delivered);
            }
        }
        letters
    }

    /// Receives of a group whose answer was lost, wholly or in part: each may have cost an attempt. So may each part that went
    /// away, with what it had been granted and not handed on.
    pub fn lost_receives(&self, group: &str) -> u32 {
        let lost = |call: &&Call| match &call.request {
            Request::Receive(receive) if receive.group == group => {
                !matches!(call.answer, Answer::Received { complete: true, .. } | Answer::Refused(_))
            }
            _ => false,
        };
        u32::try_from(self.history.calls.iter().filter(lost).count() + self.away.len()).unwrap_or(u32::MAX)
    }

    /// Whether the client of an auto-renewed delivery said goodbye before an instant.
    pub fn terminated(&self, client: &str, from_us: u64, to_us: u64) -> bool {
        self.history.calls.iter().any(|call| {
            matches!(call.request, Request::Terminate { .. })
                && call.client == client
                && call.end_us.is_none_or(|end| end >= from_us)
                && call.begin_us <= to_us
        })
    }

    pub fn lease_us(&self, lease: Lease) -> u64 {
        match lease {
            Lease::Fixed { invisible_us } => invisible_us,
            Lease::AutoRenew => self.history.terms.session_us,
        }
    }
}

fn settles_of(call: &Call) -> Vec<Settle<'_>> {
    let refused = |code: i32| Some(code).filter(|&code| Call::is_definite_refusal(code));
    match &call.request {
        Request::Ack { group, handles, .. } => {
            let code = |index: usize| match &call.answer {
                Answer::Acked(codes) => {
                    codes.get(index).copied().filter(|&code| code == OK || Call::is_definite_refusal(code))
                }
                Answer::Refused(code) => refused(*code),
                _ => None,
            };
            handles
                .iter()
                .enumerate()
                .map(|(index, handle)| Settle { call, group, handle, kind: Kind::Ack, code: code(index) })
                .collect()
        }
        Request::Change { group, handle, invisible_us, .. } => {
            let code = match &call.answer {
                Answer::Changed { code: OK, .. } => Some(OK),
                Answer::Changed { code, .. } | Answer::Refused(code) => refused(*code),
                _ => None,
            };
            vec![Settle { call, group, handle, kind: Kind::Change { invisible_us: *invisible_us }, code }]
        }
        Request::Forward { group, handle, .. } => {
            let code = match &call.answer {
                Answer::Forwarded(OK) => Some(OK),
                Answer::Forwarded(code) | Answer::Refused(code) => refused(*code),
                _ => None,
            };
            vec![Settle { call, group, handle, kind: Kind::Forward, code }]
        }
        Request::Send { .. }
        | Request::Receive(_)
        | Request::Terminate { .. }
        | Request::Recall { .. }
        | Request::Resolve { .. }
        | Request::Subscribe { .. } => Vec::new(),
    }
}

/// A code that leaves no doubt.
fn known(code: i32) -> Option<i32> {
    Some(code).filter(|&code| code == OK || Call::is_definite_refusal(code))
}
