//! What clients saw, and the promises it is held against.
//!
//! A [`History`] is a list of calls: begin, end, request, answer or "unknown". It is written down by
//! clients of the public protocol (`client.rs`), which run random programs (`workload.rs`), and read by
//! the checker (`check/`), one function per promise of the architecture page. The checker knows nothing
//! of the server: neither the crash loop over real processes nor the simulation shows it the inside.
//!
//! "Unknown" keeps both outcomes possible until something observed settles it. All times are
//! microseconds on the observer's own clock, which never jumps.

// Each test binary compiles this module for itself and uses only a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

pub mod cast;
pub mod check;
pub mod client;
pub mod client_kinds;
pub mod mutants;
pub mod mutants_kinds;
pub mod staging;
pub mod workload;
pub mod workload_kinds;

pub const OK: i32 = 20_000;
pub const INVALID_RECEIPT_HANDLE: i32 = 40_013;
pub const INVALID_TRANSACTION_ID: i32 = 40_008;
pub const NOT_FOUND: i32 = 40_400;
/// What came too late: a recall of what was delivered, the other resolution of a transaction.
pub const PRECONDITION_FAILED: i32 = 42_800;
/// Prefix of the topic that holds the dead letters of a group.
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";

/// What was agreed before the first call.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The groups whose fate is checked, with what they were created with.
    pub groups: BTreeMap<String, GroupTerms>,
    /// How long a client may be silent before its auto-renewed leases may end, in microseconds.
    pub session_us: u64,
    /// Whether the history ends with a drain of every group and every dead-letter topic.
    pub drained: bool,
    /// Whether messages may leave by retention before they were consumed.
    pub forgets: bool,
    /// Wall time of the server at the observer's zero, before any move of its clock, in milliseconds since 1970.
    pub wall_begin_ms: u64,
    /// Least time from a half message to the first check of it where the message names none, in microseconds.
    pub first_check_us: u64,
}

/// A group and the one topic it reads.
#[derive(Clone, Debug)]
pub struct GroupTerms {
    pub topic: String,
    /// Tags it takes; empty takes everything.
    pub tags: Vec<String>,
    /// The lowest number of attempts that was in force at any time.
    pub max_attempts: u32,
    /// Whether messages of one lane (see [`Ask::lane`]) reach it in order.
    pub ordered: bool,
    /// Whether its members say by an expression what they take.
    pub judges: bool,
}

impl GroupTerms {
    pub fn takes(&self, tag: &str) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|wanted| wanted == tag)
    }
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub terms: Terms,
    /// In order of their begin.
    pub calls: Vec<Call>,
    pub events: Vec<(u64, Event)>,
    /// Questions after pending transactions, in order of arrival.
    pub checks: Vec<Check>,
}

/// Note of a disk that, for a while, is to fail at a read.
pub const UNREAD: &str = "the disk is to fail at a read";

/// What happened to the server from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process is about to end, however.
    Ending(&'static str),
    /// It has certainly ended; a later answer comes from a later process.
    Ended,
    /// The next process answers.
    Started,
    /// From an instant until now, a part of several was away that held nothing of its own, or others did not reach it: answers may
    /// lack what lies behind it. Leases and what was acknowledged are untouched.
    Away { since_us: u64 },
    /// The server's clock was moved by so many milliseconds.
    ClockMoved(i64),
    /// Anything worth reading beside a violation.
    Note(String),
}

impl Event {
    /// Milliseconds by which it moved the server's clock.
    pub fn moved_ms(&self) -> i64 {
        match self {
            Self::ClockMoved(by) => *by,
            _ => 0,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Call {
    pub client: String,
    pub begin_us: u64,
    /// Absent while the answer is unknown: the call may still take effect at any time.
    pub end_us: Option<u64>,
    pub request: Request,
    pub answer: Answer,
}

#[derive(Clone, Debug)]
pub enum Request {
    Send {
        topic: String,
        messages: Vec<Sent>,
    },
    Receive(ReceiveRequest),
    Ack {
        group: String,
        topic: String,
        handles: Vec<String>,
    },
    Change {
        group: String,
        topic: String,
        handle: String,
        invisible_us: u64,
    },
    Forward {
        group: String,
        topic: String,
        handle: String,
    },
    Terminate {
        group: String,
    },
    /// Calls a delayed message back. `genuine`: the handle is the one of an acknowledged send to this topic.
    Recall {
        topic: String,
        id: String,
        handle: String,
        genuine: bool,
    },
    /// Ends a transaction. `genuine`: the topic is the one the message was sent to.
    Resolve {
        topic: String,
        id: String,
        commit: bool,
        genuine: bool,
    },
    /// Names the lite topics that a client reads.
    Subscribe {
        group: String,
        topic: String,
        lite_topics: Vec<String>,
        whole: bool,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub id: String,
    pub tag: String,
    pub body_hash: u64,
    pub ask: Ask,
}

/// What a message asks for beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    pub message_group: Option<String>,
    /// Delivery time, in milliseconds since 1970 on the server's clock.
    pub due_ms: Option<u64>,
    /// A half message of a transaction.
    pub half: bool,
    /// Time to the first check of a half message, in microseconds.
    pub orphan_us: Option<u64>,
    pub priority: Option<i32>,
    pub lite_topic: Option<String>,
}

impl Ask {
    /// What its order is kept with.
    pub fn lane(&self) -> Option<&str> {
        self.lite_topic.as_deref().or(self.message_group.as_deref())
    }

    /// Whether it is held back first: its answer tells no place in a queue.
    pub fn is_held(&self) -> bool {
        self.half || self.due_ms.is_some()
    }
}

#[derive(Clone, Debug)]
pub struct ReceiveRequest {
    pub group: String,
    pub topic: String,
    pub lease: Lease,
    pub attempt_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    Fixed { invisible_us: u64 },
    AutoRenew,
}

#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing came back, or words that leave it open.
    Unknown,
    /// The whole call was refused with this code: nothing happened.
    Refused(i32),
    /// One result per message: where it is, or the code of the refusal; `Err(0)` is unknown.
    Sent(Vec<Result<Receipt, i32>>),
    /// What arrived, also when the stream broke after it.
    Received {
        messages: Vec<Delivery>,
        complete: bool,
    },
    /// One code per handle; 0 is unknown.
    Acked(Vec<i32>),
    Changed {
        code: i32,
        handle: String,
    },
    Forwarded(i32),
    Terminated,
    /// The code, and the message id that was called back.
    Recalled {
        code: i32,
        id: String,
    },
    Resolved(i32),
    Subscribed(i32),
}

/// What the answer to a send says of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    pub offset: i64,
    /// Empty unless the message is delayed.
    pub recall_handle: String,
}

impl Receipt {
    pub fn at(offset: i64) -> Self {
        Self { offset, ..Self::default() }
    }
}

/// A producer was asked what became of a transaction.
#[derive(Clone, Debug)]
pub struct Check {
    pub client: String,
    pub at_us: u64,
    pub topic: String,
    pub id: String,
    pub transaction_id: String,
    pub tag: String,
    pub body_hash: u64,
    pub message_group: Option<String>,
}

/// One message as a client got it.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub at_us: u64,
    pub id: String,
    pub handle: String,
    pub attempt: u32,
    /// Of several shards: its queue and its shard in one, see [`client::place`].
    pub queue: i32,
    pub offset: i64,
    pub tag: String,
    pub body_hash: u64,
    pub message_group: Option<String>,
    pub lite_topic: Option<String>,
    /// The delivery time it was sent with, as the delivery tells it.
    pub due_ms: Option<u64>,
}

impl Call {
    /// Whether a refusal leaves no doubt. Server errors do, except "not implemented".
    pub fn is_definite_refusal(code: i32) -> bool {
        (40_000..50_000).contains(&code) || code == 50_100
    }

    pub fn deliveries(&self) -> &[Delivery] {
        match &self.answer {
            Answer::Received { messages, .. } => messages,
            _ => &[],
        }
    }
}

/// Writes the history down while clients run. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder {
    start: Instant,
    history: Arc<Mutex<History>>,
}

/// A call that has begun; its answer is unknown until [`Recorder::end`].
#[derive(Clone, Copy, Debug)]
pub struct Begun(usize);

impl Recorder {
    pub fn new(terms: Terms) -> Self {
        let history = History { terms, ..History::default() };
        Self { start: Instant::now(), history: Arc::new(Mutex::new(history)) }
    }

    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// What the server's clock shows now if it keeps time, in milliseconds since 1970.
    pub fn server_ms(&self) -> u64 {
        let now_ms = self.now_us() / 1000;
        let history = self.lock();
        let moved: i64 = history.events.iter().map(|(_, event)| event.moved_ms()).sum();
        (history.terms.wall_begin_ms + now_ms).saturating_add_signed(moved)
    }

    pub fn check(&self, check: Check) {
        self.lock().checks.push(check);
    }

    pub fn begin(&self, client: &str, request: Request) -> Begun {
        let begin_us = self.now_us();
        let mut history = self.lock();
        let call = Call { client: client.to_owned(), begin_us, end_us: None, request, answer: Answer::Unknown };
        history.calls.push(call);
        Begun(history.calls.len() - 1)
    }

    pub fn end(&self, begun: Begun, answer: Answer) {
        let end_us = self.now_us();
        let mut history = self.lock();
        let call = &mut history.calls[begun.0];
        // An unknown answer has no end: the request may be under way for ever.
        call.end_us = (!matches!(answer, Answer::Unknown)).then_some(end_us);
        call.answer = answer;
    }

    /// Adds a message to a receive that is still under way.
    pub fn delivered(&self, begun: Begun, delivery: Delivery) {
        let mut history = self.lock();
        match &mut history.calls[begun.0].answer {
            Answer::Received { messages, .. } => messages.push(delivery),
            answer => *answer = Answer::Received { messages: vec![delivery], complete: false },
        }
    }

    /// Ends a receive: `complete` when the stream came to its regular end.
    pub fn end_receive(&self, begun: Begun, complete: bool) {
        let end_us = self.now_us();
        let mut history = self.lock();
        let call = &mut history.calls[begun.0];
        call.end_us = complete.then_some(end_us);
        if let Answer::Received { complete: whole, .. } = &mut call.answer {
            *whole = complete;
        } else if complete {
            call.answer = Answer::Received { messages: Vec::new(), complete: true };
        }
    }

    /// What a receive got until now.
    pub fn deliveries_of(&self, begun: Begun) -> Vec<Delivery> {
        self.lock().calls[begun.0].deliveries().to_vec()
    }

    pub fn event(&self, event: Event) {
        let at = self.now_us();
        self.lock().events.push((at, event));
    }

    pub fn update_terms(&self, change: impl FnOnce(&mut Terms)) {
        change(&mut self.lock().terms);
    }

    pub fn snapshot(&self) -> History {
        self.lock().clone()
    }

    pub fn len(&self) -> usize {
        self.lock().calls.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A hash that is the same in every process.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How often a history came to what makes it worth checking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(pub BTreeMap<&'static str, u64>);

impl Coverage {
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(what, times)| format!("{times} {what}")).collect();
        f.write_str(&parts.join(", "))
    }
}

impl History {
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for call in &self.calls {
            match (&call.request, &call.answer) {
                (Request::Recall { genuine: true, .. }, Answer::Recalled { code, .. }) => match *code {
                    OK => coverage.saw("recalls"),
                    PRECONDITION_FAILED => coverage.saw("recalls too late"),
                    _ => {}
                },
                (Request::Resolve { commit, .. }, Answer::Resolved(code)) => match *code {
                    OK if *commit => coverage.saw("commits"),
                    OK => coverage.saw("rollbacks"),
                    PRECONDITION_FAILED => coverage.saw("opposite ends"),
                    _ => {}
                },
                _ => {}
            }
            let Request::Receive(receive) = &call.request else { continue };
            let is_ordered = self.terms.groups.get(&receive.group).is_some_and(|terms| terms.ordered);
            for got in call.deliveries() {
                if self.terms.groups.get(&receive.group).is_some_and(|terms| terms.judges) {
                    coverage.saw("judged");
                }
                if receive.topic.starts_with(DEAD_LETTER_PREFIX) {
                    coverage.saw("dead letters");
                } else if got.due_ms.is_some() {
                    coverage.saw("delayed");
                } else if got.lite_topic.is_some() {
                    coverage.saw("lite");
                } else if is_ordered && got.message_group.is_some() {
                    coverage.saw("ordered");
                }
            }
        }
        for _ in 0..self.preferred() {
            coverage.saw("preferred");
        }
        for _ in &self.checks {
            coverage.saw("questions");
        }
        coverage
    }

    /// Messages that were given before one of a lower level that was sent earlier.
    fn preferred(&self) -> usize {
        let mut levels: BTreeMap<&str, (i32, u64)> = BTreeMap::new();
        let mut given: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
        for call in &self.calls {
            match &call.request {
                Request::Send { messages, .. } => {
                    let known = |sent: &Sent| Some((sent.ask.priority?, call.end_us?));
                    levels.extend(messages.iter().filter_map(|sent| Some((sent.id.as_str(), known(sent)?))));
                }
                Request::Receive(receive) if !receive.topic.starts_with(DEAD_LETTER_PREFIX) => {
                    given
                        .entry(&receive.group)
                        .or_default()
                        .extend(call.deliveries().iter().filter(|got| got.attempt == 1));
                }
                _ => {}
            }
        }
        let level = |got: &Delivery| levels.get(got.id.as_str()).copied();
        let is_preferred = |pair: &&[&Delivery]| match (level(pair[0]), level(pair[1])) {
            (Some((first, sent)), Some((second, before))) => first > second && sent > before,
            _ => false,
        };
        given.values().map(|given| given.windows(2).filter(is_preferred).count()).sum()
    }

    /// A hash of everything observed: two runs of one seed must agree on it.
    pub fn trace_hash(&self) -> u64 {
        let mut hash = 0;
        for call in &self.calls {
            hash = hash_bytes(format!("{hash}{call:?}").as_bytes());
        }
        for event in &self.events {
            hash = hash_bytes(format!("{hash}{event:?}").as_bytes());
        }
        for check in &self.checks {
            hash = hash_bytes(format!("{hash}{check:?}").as_bytes());
        }
        hash
    }
}
