//! One telemetry stream. Every settings command is answered at once; the stream ends when the client ends its half, when it is
//! gone, or when this process drains, and never otherwise.
//!
//! The client's half is read by a task of its own, so that a client that never reads our half is still heard.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::broker::api::ClientId;
use crate::link::{AliveGuard, Brokers};
use crate::model::time::Timestamp;
use crate::model::topic::TopicType;
use crate::proxy::call::Call;
use crate::proxy::caller::{Caller, Language};
use crate::proxy::convert::{names, time};
use crate::proxy::session::registry::{CommandSender, Seen};
use crate::proxy::session::settings::{self, GroupFacts};
use crate::proxy::shared::Shared;
use crate::proxy::status::{Refusal, ok};
use crate::runtime::budget::Share;
use crate::runtime::tasks::current_lane;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;
use crate::wire::rocketmq::settings::PubSub;
use crate::wire::rocketmq::telemetry_command::Command;

/// Commands that wait for a client that reads slowly; more are dropped.
pub const COMMANDS_MAX: usize = 64;
/// When a Node client is sent its first settings answer again: it waits for one only after it has asked for all routes, and would
/// wait for ever if the answer was faster. No other client gets this; one of them adds up what it receives.
const NODE_RESEND_AFTER: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

static STREAMS: AtomicU64 = AtomicU64::new(1);

/// The server's half.
pub type TelemetryStream = ReceiverStream<Result<v2::TelemetryCommand, Status>>;

/// Opens a stream.
pub fn open(call: Call, inbound: Streaming<v2::TelemetryCommand>) -> TelemetryStream {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    match Session::new(&call, sender.clone()) {
        Ok(session) => {
            let tasks = call.shared.tasks.clone();
            drop(tasks.spawn_on_lane(current_lane(), session.run(inbound)));
        }
        Err(refusal) => {
            let status = Some(call.caller.refused(&refusal));
            let _ = sender.try_send(Ok(v2::TelemetryCommand { status, command: None }));
        }
    }
    ReceiverStream::new(receiver)
}

#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    caller: Caller,
    /// As its settings say, once there were some.
    language: Language,
    client: ClientId,
    number: u64,
    sender: CommandSender,
    /// Instants of steady time at which `last_answer` is sent again.
    resend_at: VecDeque<Timestamp>,
    last_answer: Option<v2::TelemetryCommand>,
    _live: AliveGuard,
    _share: Share,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.sessions.stream_closed(&self.client, self.number);
        self.shared.producers.closed(&self.client, self.number);
    }
}

impl Session {
    fn new(call: &Call, sender: CommandSender) -> Result<Self, Refusal> {
        let client = call.caller.require_client()?.clone();
        let share = call.shared.telemetry_streams.try_take(1);
        let share = share.ok_or_else(|| Refusal::new(Code::TooManyRequests, "too many telemetry streams are open"))?;
        Ok(Self {
            shared: call.shared.clone(),
            caller: call.caller.clone(),
            language: call.caller.language,
            number: STREAMS.fetch_add(1, Ordering::Relaxed),
            sender,
            resend_at: VecDeque::new(),
            last_answer: None,
            _live: call.shared.brokers.telemetry_opened(&client),
            _share: share,
            client,
        })
    }

    async fn run(mut self, mut inbound: Streaming<v2::TelemetryCommand>) {
        let shared = self.shared.clone();
        let mut draining = std::pin::pin!(shared.brokers.shutdown().draining());
        loop {
            let resend = self.resend_at.front().map(|at| at.since(shared.clock.steady()));
            tokio::select! {
                biased;
                () = &mut draining => {
                    self.send_elsewhere();
                    return;
                }
                () = self.sender.closed() => return,
                command = inbound.message() => match command {
                    Ok(Some(command)) => self.take(command),
                    // The client's half is closed, or the client is gone: our half ends with it.
                    Ok(None) | Err(_) => return,
                },
                () = shared.clock.sleep(resend.unwrap_or_default()), if resend.is_some() => self.send_again(),
            }
        }
    }

    fn take(&mut self, command: v2::TelemetryCommand) {
        self.shared.brokers.client_seen(&self.client, self.caller.heartbeats_slowly());
        // Everything else answers commands that are never sent: a producer that is asked about a transaction ends it by a call.
        if let Some(Command::Settings(settings)) = command.command {
            self.answer(settings);
        }
    }

    fn answer(&mut self, settings: v2::Settings) {
        let language = Language::from_user_agent(settings.user_agent.as_ref(), self.caller.language);
        self.language = language;
        let request_timeout = settings.request_timeout.as_ref().and_then(time::duration);
        let lite = settings::is_lite(&settings);
        if let Some(PubSub::Publishing(publishing)) = &settings.pub_sub {
            let topics = publishing.topics.iter().filter_map(|topic| names::topic(&self.caller, Some(topic)).ok());
            self.shared.producers.settings_came(&self.client, self.number, &self.sender, topics);
        }
        let facts = facts(&self.shared.brokers, &self.caller, &settings);
        let merged = settings::merge(settings, &facts, language, self.shared.options.long_poll_max);
        let answer = v2::TelemetryCommand { status: Some(ok()), command: Some(Command::Settings(merged)) };
        let now = self.shared.clock.steady();
        let node = language == Language::Node;
        if node && self.last_answer.is_none() {
            self.resend_at = NODE_RESEND_AFTER.iter().map(|after| now.plus(*after)).collect();
        }
        let first_of_node = (node && self.last_answer.is_none()).then(|| answer.clone());
        if node {
            self.last_answer = Some(answer.clone());
        }
        self.send(answer);
        let stream = (self.number, self.sender.clone());
        let seen = Seen { request_timeout, lite, stream, at_next_heartbeat: first_of_node, now };
        self.shared.sessions.settings_came(&self.client, seen);
    }

    /// Asks a client that understands it to come again, which leads it to another process: it opens its connections anew before
    /// ours end. The others notice by themselves when theirs are closed.
    fn send_elsewhere(&self) {
        if matches!(self.language, Language::Java | Language::Node) {
            let command = Command::ReconnectEndpointsCommand(v2::ReconnectEndpointsCommand::default());
            self.send(v2::TelemetryCommand { status: Some(ok()), command: Some(command) });
        }
    }

    fn send_again(&mut self) {
        self.resend_at.pop_front();
        if let Some(answer) = self.last_answer.clone() {
            self.send(answer);
        }
    }

    fn send(&self, command: v2::TelemetryCommand) {
        if self.sender.try_send(Ok(command)).is_err() {
            tracing::debug!(client = &*self.client.0, "a telemetry command was dropped: its client does not read");
        }
    }
}

/// What the server decides for a consumer. Names that break a rule are refused where they are used, not here: a stream that ends
/// makes clients reconnect for ever.
fn facts(brokers: &Brokers, caller: &Caller, settings: &v2::Settings) -> GroupFacts {
    let Some(PubSub::Subscription(subscription)) = &settings.pub_sub else { return GroupFacts::default() };
    let Ok(name) = names::group(caller, subscription.group.as_ref()) else { return GroupFacts::default() };
    let Some(group) = brokers.group_or_default(&name) else { return GroupFacts::default() };
    let type_of = |entry: &v2::SubscriptionEntry| {
        let topic = names::topic(caller, entry.topic.as_ref()).ok()?;
        brokers.topic(&topic).map(|topic| topic.topic_type)
    };
    let fifo = match group.ordered {
        // A lite topic is one lane: its messages come in order, and are to be consumed so.
        _ if settings::is_lite(settings) => true,
        Some(ordered) => ordered,
        None => subscription.subscriptions.iter().filter_map(type_of).any(|kind: TopicType| group.is_ordered(kind)),
    };
    let lite_quota = i32::try_from(brokers.lite_subscriptions_per_client_max()).unwrap_or(i32::MAX);
    GroupFacts { fifo, max_attempts: group.max_attempts, backoff: group.backoff.clone(), lite_quota }
}
