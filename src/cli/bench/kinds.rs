//! `bench compare`: what a kind of message costs, as a ratio to plain messages taken in the same run. Both sides run in turn, on
//! topics and groups made for this run, so that neither finds what the other left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::cli::bench::client::{Client, Identity, Target, expect_ok, resource};
use crate::cli::bench::consume::Consumer;
use crate::cli::bench::load::{self, Load};
use crate::cli::bench::progress::Progress;
use crate::cli::bench::receive::{self, Drain};
use crate::cli::bench::report::{Measured, Report};
use crate::cli::bench::send::{Messages, send};
use crate::cli::bench::topic;
use crate::cli::connect::AtArgs;
use crate::wire::admin::TopicType;
use crate::wire::rocketmq::{
    EndTransactionRequest, Message, MessageType, SendMessageRequest, TransactionResolution, TransactionSource,
};

const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// The property that the filter asks for.
const PROPERTY: &str = "kind";

/// What is compared with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pair {
    /// Ordered sends and ordered receives of many message groups, with plain ones
    Ordered,
    /// One queue of many message groups of which one is stuck, with the same and none stuck
    Stuck,
    /// A half message and its commit, with two plain sends
    Transaction,
    /// Reading the one message in a hundred that an SQL filter wants, with reading all of them
    Filter,
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Of what.
    pub pair: Pair,
    /// Where.
    pub target: Target,
    /// Where topics are created.
    pub at: AtArgs,
    /// Connections.
    pub connections: usize,
    /// Sends in flight.
    pub in_flight: usize,
    /// Receives in flight.
    pub parallel: usize,
    /// Messages of each side in each round.
    pub messages: u64,
    /// Message groups.
    pub groups: u64,
    /// Rounds of each side.
    pub rounds: u32,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Processes whose CPU is observed.
    pub cpu_of: Vec<u32>,
    /// No progress.
    pub quiet: bool,
}

/// One side of one round: where it happens.
struct Side {
    topic: String,
    group: String,
}

/// Runs it. The report is that of the kind; the plain side is in it, with the ratio.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub fn run(comparison: &Comparison, settings: String) -> Result<Report> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let (mut kind, mut plain) = (Measured::default(), Measured::default());
    for round in 0..comparison.rounds.max(1) {
        let name = |side: &str| format!("bench-{side}-{}-{round}", &run[..8]);
        plain.add(&comparison.side(false, &name("plain"))?);
        kind.add(&comparison.side(true, &name("kind"))?);
    }
    let endpoint = &comparison.target.endpoint;
    let mut report = Report::new(comparison.pair.words(), endpoint, settings.clone(), &kind);
    let plain = Report::new(comparison.pair.plain_words(), endpoint, settings, &plain);
    report.ratio_to_other = Some(report.per_second / plain.per_second.max(1e-9));
    report.other = Some(Box::new(plain));
    Ok(report)
}

impl Pair {
    fn words(self) -> &'static str {
        match self {
            Self::Ordered => "ordered send and receive",
            Self::Stuck => "neighbours of a stuck message group",
            Self::Transaction => "half and commit",
            Self::Filter => "backlog through an SQL filter",
        }
    }

    fn plain_words(self) -> &'static str {
        match self {
            Self::Ordered => "plain send and receive",
            Self::Stuck => "no stuck message group",
            Self::Transaction => "two plain sends",
            Self::Filter => "the whole backlog",
        }
    }
}

impl Comparison {
    fn side(&self, is_kind: bool, name: &str) -> Result<Measured> {
        let side = Side { topic: name.to_owned(), group: format!("{name}-group") };
        let (topic_type, queues) = match (self.pair, is_kind) {
            (Pair::Ordered, true) => (TopicType::Fifo, 0),
            (Pair::Stuck, _) => (TopicType::Fifo, 1),
            (Pair::Transaction, true) => (TopicType::Transaction, 0),
            _ => (TopicType::Normal, 0),
        };
        topic::create_typed(&side.topic, topic_type, queues, &self.at)?;
        match self.pair {
            Pair::Ordered => {
                let mut whole = self.fill(&side, 1, is_kind.then_some(self.groups))?;
                let drained = self.drain(&side, self.messages, "*")?;
                whole.elapsed += drained.elapsed;
                whole.latencies = drained.latencies;
                whole.cpu = whole.cpu.zip(drained.cpu).map(|(sent, received)| sent + received);
                ensure!(drained.messages >= self.messages, "{} of {} arrived", drained.messages, self.messages);
                Ok(whole)
            }
            Pair::Stuck => {
                let _held = is_kind.then(|| self.hold_one(&side)).transpose()?;
                self.fill(&side, 32, Some(self.groups))?;
                // The stuck group has its part of the messages; they stay.
                let free = if is_kind { self.messages - self.messages.div_ceil(self.groups) } else { self.messages };
                self.drain(&side, free, "*")
            }
            Pair::Transaction if is_kind => self.pairs(&side, true),
            Pair::Transaction => self.pairs(&side, false),
            Pair::Filter => {
                self.fill(&side, 32, None)?;
                let wanted = if is_kind { self.messages.div_ceil(100) } else { self.messages };
                let mut drained = self.drain(&side, wanted, if is_kind { "kind = 1" } else { "*" })?;
                ensure!(drained.messages >= wanted, "{} of {wanted} arrived", drained.messages);
                // Both sides went through the same backlog; what differs is the time that took.
                drained.messages = self.messages;
                Ok(drained)
            }
        }
    }

    fn load(&self, batch: u64, messages: u64) -> Load {
        Load {
            target: self.target.clone(),
            connections: self.connections,
            in_flight: self.in_flight,
            rate: None,
            batch,
            warmup: Duration::ZERO,
            duration: None,
            messages: Some(messages),
            cpu_of: self.cpu_of.clone(),
        }
    }

    fn fill(&self, side: &Side, batch: u64, groups: Option<u64>) -> Result<Measured> {
        let messages = Messages::new(&side.topic, self.body_bytes);
        let numbers = Arc::new(AtomicU64::new(0));
        let identity = Identity::new(0);
        let marked = self.pair == Pair::Filter;
        let progress = Progress::new("send", self.quiet);
        let measured = load::run(&self.load(batch, self.messages), &progress, move |mut client, _| {
            let first = numbers.fetch_add(batch, Ordering::Relaxed);
            let one = |number| {
                let mut message = messages.one(number);
                if let Some(groups) = groups {
                    in_group(&mut message, number % groups);
                }
                if marked {
                    let kind = if number % 100 == 0 { "1" } else { "0" };
                    message.user_properties.insert(PROPERTY.to_owned(), kind.to_owned());
                }
                message
            };
            let messages = (first..first + batch).map(one).collect();
            let identity = identity.clone();
            async move { send(&mut client, &identity, messages, false).await }
        })?;
        match &measured.first_error {
            Some(error) => bail!("filling {} failed: {error}", side.topic),
            None => Ok(measured),
        }
    }

    fn drain(&self, side: &Side, messages: u64, filter: &str) -> Result<Measured> {
        let consumer = Consumer {
            group: side.group.clone(),
            topic: side.topic.clone(),
            batch: 32,
            wait: Duration::from_secs(5),
            identity: Identity::new(3),
            filter: filter.to_owned(),
        };
        let drain = Drain {
            target: self.target.clone(),
            consumer,
            connections: self.connections,
            parallel: self.parallel,
            messages: Some(messages),
            duration: Some(Duration::from_secs(120)),
            cpu_of: self.cpu_of.clone(),
        };
        receive::measure(&drain, &Progress::new("receive", self.quiet))
    }

    /// Sends one message of group 0 and takes it without ever answering.
    fn hold_one(&self, side: &Side) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut client = self.target.connect().await?;
            let mut message = Messages::new(&side.topic, self.body_bytes).one(u64::MAX);
            in_group(&mut message, 0);
            let identity = Identity::new(2);
            send(&mut client, &identity, vec![message], false).await?;
            let consumer = Consumer {
                group: side.group.clone(),
                topic: side.topic.clone(),
                batch: 1,
                wait: Duration::from_secs(5),
                identity,
                filter: "*".to_owned(),
            };
            let held = consumer.receive(&mut client).await?;
            ensure!(held.len() == 1, "the message that should be stuck did not arrive");
            Ok(())
        })
    }

    /// Two calls that follow each other: half and commit, or two sends. One pair counts as two messages on both sides.
    fn pairs(&self, side: &Side, transactional: bool) -> Result<Measured> {
        let messages = Messages::new(&side.topic, self.body_bytes);
        let numbers = Arc::new(AtomicU64::new(0));
        let identity = Identity::new(0);
        let topic_name = side.topic.clone();
        let progress = Progress::new(if transactional { "half+commit" } else { "send+send" }, self.quiet);
        let load = self.load(2, self.messages);
        let measured = load::run(&load, &progress, move |mut client, _| {
            let first = numbers.fetch_add(2, Ordering::Relaxed);
            let (mut half, second) = (messages.one(first), messages.one(first + 1));
            let (identity, topic_name) = (identity.clone(), topic_name.clone());
            async move {
                if !transactional {
                    send(&mut client, &identity, vec![half], false).await?;
                    return send(&mut client, &identity, vec![second], false).await;
                }
                if let Some(system) = &mut half.system_properties {
                    system.message_type = MessageType::Transaction.into();
                }
                commit_one(&mut client, &identity, &topic_name, half).await
            }
        })?;
        match &measured.first_error {
            Some(error) => bail!("{}: {error}", progress_words(transactional)),
            None => Ok(measured),
        }
    }
}

fn progress_words(transactional: bool) -> &'static str {
    if transactional { "a half message or its commit failed" } else { "a send failed" }
}

async fn commit_one(client: &mut Client, identity: &Identity, topic_name: &str, half: Message) -> Result<()> {
    let message_id = half.system_properties.as_ref().map(|system| system.message_id.clone()).unwrap_or_default();
    let request = identity.request(SendMessageRequest { messages: vec![half] }, CALL_DEADLINE);
    let answer = client.send_message(request).await?.into_inner();
    expect_ok(answer.status.as_ref())?;
    let entry = answer.entries.into_iter().next().context("the answer has no entry")?;
    let request = EndTransactionRequest {
        topic: Some(resource(topic_name)),
        message_id,
        transaction_id: entry.transaction_id,
        resolution: TransactionResolution::Commit.into(),
        source: TransactionSource::SourceClient.into(),
        trace_context: String::new(),
    };
    let answer = client.end_transaction(identity.request(request, CALL_DEADLINE)).await?.into_inner();
    expect_ok(answer.status.as_ref())
}

fn in_group(message: &mut Message, group: u64) {
    if let Some(system) = &mut message.system_properties {
        system.message_type = MessageType::Fifo.into();
        system.message_group = Some(format!("group-{group}"));
    }
}
