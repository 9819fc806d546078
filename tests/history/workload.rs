//! Random programs over the public protocol: producers that retry, consumers that ack, nack, extend, forward, forget,
//! come back with old handles, repeat an attempt id or vanish; and the drain that ends a history.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bolide::runtime::entropy::Entropy;
use tonic::transport::Channel;

use super::client::{Client, Draft, Received, Wish};
use super::workload_kinds::{ask, end_what_is_pending};
use super::{Answer, DEAD_LETTER_PREFIX, Delivery, Event, Lease, OK, Recorder, Request};

/// Gives a client a way to the server. A new channel is a new connection.
pub type Dial = Arc<dyn Fn() -> Channel + Send + Sync>;

/// How fast clients go and how long things last.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Longest pause between two steps of a client.
    pub think: Duration,
    /// Leases that consumers ask for.
    pub lease: RangeInclusive<Duration>,
    /// Deadline of a receive.
    pub poll: Duration,
    /// Longest wait for a unary answer.
    pub limit: Duration,
    /// Whether some receives ask for automatic renewal.
    pub auto_renew: bool,
    /// Largest ordinary body; one in forty is a hundred times as large.
    pub body_bytes: u64,
    /// Longest time by which a message is delayed.
    pub delay: Duration,
}

/// A topic, and what is sent to it.
#[derive(Clone, Debug)]
pub struct Outlet {
    pub topic: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    /// In message groups.
    Ordered,
    Delayed,
    Transactional,
    Priority,
    Lite,
    /// All of them but priority and lite.
    Mixed,
}

/// Everything the clients of one history share.
#[derive(Clone)]
pub struct Stage {
    pub dial: Dial,
    pub recorder: Recorder,
    pub pace: Pace,
    /// Begins every message id, so that two histories on one server never mix.
    pub run: String,
    pub stop: Arc<AtomicBool>,
}

pub const TAGS: [&str; 3] = ["", "A", "B"];

impl Stage {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn client(&self, name: &str) -> Client {
        Client::new(name, (self.dial)(), &self.recorder, self.pace.limit)
    }

    pub async fn think(&self, entropy: &Entropy) {
        let most_us = u64::try_from(self.pace.think.as_micros()).unwrap_or(1).max(1);
        // Mostly short, sometimes long.
        let us = entropy.below(most_us) * entropy.below(most_us) / most_us;
        tokio::time::sleep(Duration::from_micros(us)).await;
    }

    fn lease(&self, entropy: &Entropy) -> Duration {
        let (low, high) = (self.pace.lease.start().as_millis(), self.pace.lease.end().as_millis());
        let width = u64::try_from(high - low).unwrap_or(0);
        *self.pace.lease.start() + Duration::from_millis(entropy.below(width + 1))
    }
}

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Sends until told to stop. A lost answer is often followed by the same ids again, as official clients do.
pub async fn producer(stage: Stage, name: String, outlets: Vec<Outlet>, entropy: Entropy) {
    let client = stage.client(&name);
    let mut number = 0;
    while !stage.stopped() {
        let outlet = &outlets[below(&entropy, outlets.len())];
        let count = if entropy.below(5) == 0 { 2 + entropy.below(4) } else { 1 };
        let drafts: Vec<Draft> = (0..count)
            .map(|_| {
                number += 1;
                let draft = draft(&stage, &name, number, &entropy);
                Draft { ask: ask(&stage, outlet.kind, &entropy), ..draft }
            })
            .collect();
        let mut tries = 1 + entropy.below(3);
        loop {
            let answer = client.send(&outlet.topic, &drafts).await;
            tries -= 1;
            let lost = matches!(answer, Answer::Unknown | Answer::Refused(_));
            if !lost || tries == 0 || stage.stopped() {
                break;
            }
            stage.think(&entropy).await;
        }
        stage.think(&entropy).await;
    }
}

pub fn below(entropy: &Entropy, bound: usize) -> usize {
    usize::try_from(entropy.below(bound as u64)).unwrap_or(0)
}

pub fn draft(stage: &Stage, name: &str, number: u64, entropy: &Entropy) -> Draft {
    let scale = if entropy.below(40) == 0 { 100 } else { 1 };
    let length = 1 + entropy.below(stage.pace.body_bytes * scale);
    let mut body = vec![0; usize::try_from(length).unwrap_or(1)];
    // The bytes depend on the id, so that an exchanged body shows.
    Entropy::seeded(number ^ (length << 32)).fill(&mut body);
    let tag = TAGS[below(entropy, TAGS.len())].to_owned();
    Draft { id: format!("{}.{name}.{number:05}", stage.run), tag, body, ..Draft::default() }
}

/// Where a consumer belongs.
#[derive(Clone)]
pub struct Membership {
    pub group: String,
    pub topic: String,
    pub expression: String,
    /// A group that never gets these handles, to try them with.
    pub stranger: String,
    /// The lite topics it reads; empty on other topics.
    pub lite_topics: Vec<String>,
}

impl Membership {
    /// Tells the server what it reads, where it must be told.
    async fn subscribe(&self, client: &Client) {
        if !self.lite_topics.is_empty() {
            client.subscribe_lite(&self.group, &self.topic, &self.lite_topics, true).await;
        }
    }
}

/// A handle with the lite topic that goes with it.
fn text(delivery: &Delivery) -> (String, Option<String>) {
    (delivery.handle.clone(), delivery.lite_topic.clone())
}

/// Consumes until told to stop.
pub async fn consumer(stage: Stage, name: String, member: Membership, entropy: Entropy) {
    let mut consumer =
        Consumer { client: stage.client(&name), stage, member, entropy, old: Vec::new(), incarnation: 0, name };
    consumer.member.subscribe(&consumer.client).await;
    while !consumer.stage.stopped() {
        consumer.step().await;
    }
    if consumer.stage.pace.auto_renew {
        consumer.client.terminate(&consumer.member.group).await;
    }
}

struct Consumer {
    stage: Stage,
    client: Client,
    name: String,
    member: Membership,
    entropy: Entropy,
    /// Handles kept for later mischief.
    old: Vec<Delivery>,
    incarnation: u32,
}

impl Consumer {
    async fn step(&mut self) {
        if self.entropy.below(40) == 0 {
            self.come_back_as_another().await;
        }
        if self.entropy.below(12) == 0 {
            self.member.subscribe(&self.client).await;
        }
        let wish = self.wish();
        let received = match self.entropy.below(30) {
            0 => self.receive_and_hang_up(&wish).await,
            _ => self.client.receive(&wish).await,
        };
        let messages = match received {
            Received::Messages(messages) => messages,
            Received::Lost(messages) if wish.attempt_id.is_some() && self.entropy.below(2) == 0 => {
                // The answer was lost: the same wish under the same id.
                match self.client.receive(&wish).await {
                    Received::Messages(again) => again,
                    _ => messages,
                }
            }
            Received::Lost(messages) => messages,
            Received::Nothing => Vec::new(),
            Received::Refused(_) => {
                self.member.subscribe(&self.client).await;
                self.stage.think(&self.entropy).await;
                Vec::new()
            }
        };
        self.settle(messages).await;
        if self.entropy.below(6) == 0 {
            self.use_an_old_handle().await;
        }
        self.stage.think(&self.entropy).await;
    }

    fn wish(&self) -> Wish {
        let lease = if self.stage.pace.auto_renew && self.entropy.below(6) == 0 {
            Lease::AutoRenew
        } else {
            Lease::Fixed { invisible_us: micros(self.stage.lease(&self.entropy)) }
        };
        let attempt_id = (self.entropy.below(3) == 0).then(|| format!("{}-{}", self.name, self.entropy.next_u64()));
        Wish {
            group: self.member.group.clone(),
            topic: self.member.topic.clone(),
            expression: self.member.expression.clone(),
            batch: 1 + i32::try_from(self.entropy.below(8)).unwrap_or(0),
            lease,
            attempt_id,
            deadline: self.stage.pace.poll,
        }
    }

    /// Drops the call in the middle: whatever was on its way is lost to this client.
    async fn receive_and_hang_up(&self, wish: &Wish) -> Received {
        let patience = Duration::from_micros(self.entropy.below(micros(self.stage.pace.poll).max(1)));
        match tokio::time::timeout(patience, self.client.receive(wish)).await {
            Ok(received) => received,
            Err(_) => Received::Lost(Vec::new()),
        }
    }

    async fn settle(&mut self, messages: Vec<Delivery>) {
        let mut acks = Vec::new();
        let (group, topic) = (self.member.group.clone(), self.member.topic.clone());
        for delivery in messages {
            match self.entropy.below(100) {
                0..=44 => acks.push(text(&delivery)),
                45..=59 => {
                    self.client.ack_lite(&group, &topic, &[text(&delivery)]).await;
                    if self.entropy.below(4) == 0 {
                        self.client.ack_lite(&group, &topic, &[text(&delivery)]).await;
                    }
                }
                60..=71 => drop(self.client.change(&group, &topic, &delivery, Duration::ZERO).await),
                72..=79 => self.extend(&delivery).await,
                80..=83 => drop(self.client.forward(&group, &topic, &delivery).await),
                84..=86 => drop(self.client.ack_lite(&self.member.stranger, &topic, &[text(&delivery)]).await),
                _ => {}
            }
            if self.entropy.below(4) == 0 {
                self.old.push(delivery);
                let surplus = self.old.len().saturating_sub(16);
                self.old.drain(..surplus);
            }
        }
        if !acks.is_empty() {
            if self.entropy.below(10) == 0 {
                acks.push(("no handle at all".to_owned(), None));
            }
            self.client.ack_lite(&group, &topic, &acks).await;
        }
    }

    async fn extend(&self, delivery: &Delivery) {
        let (group, topic) = (&self.member.group, &self.member.topic);
        let longer = self.stage.lease(&self.entropy);
        let answer = self.client.change(group, topic, delivery, longer).await;
        if let Answer::Changed { code: OK, handle } = answer
            && self.entropy.below(2) == 0
        {
            // Both texts name this delivery.
            let handle = if self.entropy.below(2) == 0 { handle } else { delivery.handle.clone() };
            self.client.ack_lite(group, topic, &[(handle, delivery.lite_topic.clone())]).await;
        }
    }

    async fn use_an_old_handle(&mut self) {
        if self.old.is_empty() {
            return;
        }
        let delivery = self.old.swap_remove(below(&self.entropy, self.old.len()));
        let (group, topic) = (&self.member.group, &self.member.topic);
        match self.entropy.below(4) {
            0 => drop(self.client.change(group, topic, &delivery, self.stage.lease(&self.entropy)).await),
            1 => drop(self.client.forward(group, topic, &delivery).await),
            _ => drop(self.client.ack_lite(group, topic, &[text(&delivery)]).await),
        }
    }

    /// Vanishes without a word, or says goodbye, and returns under another client id on another connection.
    async fn come_back_as_another(&mut self) {
        if self.entropy.below(2) == 0 {
            self.client.terminate(&self.member.group).await;
        }
        self.incarnation += 1;
        self.client = self.stage.client(&format!("{}.{}", self.name, self.incarnation));
        self.member.subscribe(&self.client).await;
    }
}

/// Ends every transaction, waits until every delayed message is due, and takes and acks everything that is left, for every
/// group and its dead letters. To be called when no client runs any more and nothing disturbs the server. `lasting` is the
/// longest time for which a lease or a back-off may still hold something back.
pub async fn drain(stage: &Stage, members: &[Membership], lasting: Duration) -> Result<(), String> {
    stage.recorder.event(Event::Note("drain".to_owned()));
    end_what_is_pending(stage, FAILURES_MAX).await?;
    let quiet_from_us = stage.recorder.now_us() + micros(lasting).max(micros(until_all_is_due(stage)));
    let live = members.iter().map(|member| drain_one(stage, member.clone(), quiet_from_us));
    for drained in futures::future::join_all(live).await {
        drained?;
    }
    let dead = members.iter().map(|member| Membership {
        group: format!("{}-undertaker", member.group),
        topic: format!("{DEAD_LETTER_PREFIX}{}", member.group),
        expression: "*".to_owned(),
        stranger: String::new(),
        lite_topics: Vec::new(),
    });
    for drained in futures::future::join_all(dead.map(|member| drain_one(stage, member, 0))).await {
        drained?;
    }
    stage.recorder.update_terms(|terms| terms.drained = true);
    Ok(())
}

/// Time until the last delayed message has fallen due, and been put into its queue.
fn until_all_is_due(stage: &Stage) -> Duration {
    let history = stage.recorder.snapshot();
    let sent = history.calls.iter().filter_map(|call| match &call.request {
        Request::Send { messages, .. } => messages.iter().filter_map(|message| message.ask.due_ms).max(),
        _ => None,
    });
    match sent.max() {
        Some(due_ms) => Duration::from_millis(due_ms.saturating_sub(stage.recorder.server_ms())) + LATE_MAX,
        None => Duration::ZERO,
    }
}

/// Longest time after which a message that is due must be in its queue while nothing disturbs.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Failed receives in a row after which a drain gives up: the server does not answer.
const FAILURES_MAX: u32 = 20;

async fn drain_one(stage: &Stage, member: Membership, quiet_from_us: u64) -> Result<(), String> {
    let Membership { group, topic, .. } = &member;
    let client = stage.client(&format!("drain.{group}"));
    let wish = Wish {
        group: group.clone(),
        topic: topic.clone(),
        expression: member.expression.clone(),
        batch: 32,
        lease: Lease::Fixed { invisible_us: micros(*stage.pace.lease.end()) },
        attempt_id: None,
        deadline: stage.pace.poll,
    };
    member.subscribe(&client).await;
    let mut failures = 0;
    let mut extra_us = 0;
    loop {
        let begin_us = stage.recorder.now_us();
        match client.receive(&wish).await {
            Received::Messages(messages) => {
                failures = 0;
                let texts: Vec<_> = messages.iter().map(text).collect();
                let answer = client.ack_lite(group, topic, &texts).await;
                if !matches!(&answer, Answer::Acked(codes) if codes.iter().all(|&code| code == OK)) {
                    // Not everything was settled: it comes back after its lease.
                    extra_us = stage.recorder.now_us() + micros(*stage.pace.lease.end());
                }
            }
            Received::Nothing if begin_us >= quiet_from_us.max(extra_us) => return Ok(()),
            // No dead letter has ever been written for this group.
            Received::Refused(code)
                if code == bolide::wire::rocketmq::Code::TopicNotFound as i32
                    && topic.starts_with(DEAD_LETTER_PREFIX) =>
            {
                return Ok(());
            }
            Received::Nothing => {}
            Received::Refused(_) | Received::Lost(_) => {
                failures += 1;
                if failures == FAILURES_MAX {
                    return Err(format!("the drain of group {group} on {topic} got no answer {FAILURES_MAX} times"));
                }
                member.subscribe(&client).await;
                extra_us = stage.recorder.now_us() + micros(*stage.pace.lease.end());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
