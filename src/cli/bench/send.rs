//! `bench send` and `bench echo`: as many sends as the answers allow, or at a rate.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use bytes::Bytes;

use crate::cli::bench::client::{Client, Identity, expect_ok, resource};
use crate::cli::bench::echo::EchoServer;
use crate::cli::bench::load::{self, Load};
use crate::cli::bench::progress::Progress;
use crate::cli::bench::report::{Measured, Report};
use crate::wire::rocketmq::{Encoding, Message, MessageType, SendMessageRequest, SystemProperties};

/// As the official clients have it.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// Makes messages of one size for one topic.
#[derive(Clone, Debug)]
pub struct Messages {
    topic: String,
    body: Bytes,
    run: String,
    delay: Option<Duration>,
}

impl Messages {
    /// Messages of `body_bytes` bytes.
    #[must_use]
    pub fn new(topic: &str, body_bytes: usize) -> Self {
        // Neither constant, which would flatter a compressing disk, nor random, which would cost time.
        let body: Vec<u8> = (0..body_bytes).map(|index| (index.wrapping_mul(31) >> 3) as u8).collect();
        let run = format!("{:08X}{:08X}", std::process::id(), now_millis() as u32);
        Self { topic: topic.to_owned(), body: body.into(), run, delay: None }
    }

    /// The same, each delayed by so much from its making.
    #[must_use]
    pub fn delayed_by(self, delay: Option<Duration>) -> Self {
        Self { delay, ..self }
    }

    /// One message with an id of its own.
    #[must_use]
    pub fn one(&self, number: u64) -> Message {
        let message = self.with_body(number, self.body.clone());
        match self.delay {
            Some(delay) => delayed(message, Duration::from_millis(now_millis()) + delay),
            None => message,
        }
    }

    /// One message with another body.
    #[must_use]
    pub fn with_body(&self, number: u64, body: Bytes) -> Message {
        let born = now_millis();
        Message {
            topic: Some(resource(&self.topic)),
            user_properties: std::collections::HashMap::new(),
            system_properties: Some(SystemProperties {
                message_id: format!("01{}{number:016X}", self.run),
                message_type: MessageType::Normal.into(),
                body_encoding: Encoding::Identity.into(),
                born_timestamp: Some(prost_types::Timestamp {
                    seconds: (born / 1000) as i64,
                    nanos: (born % 1000) as i32 * 1_000_000,
                }),
                born_host: "bench".to_owned(),
                ..SystemProperties::default()
            }),
            body,
        }
    }
}

/// The message with a delivery time, since 1970.
#[must_use]
pub fn delayed(mut message: Message, due: Duration) -> Message {
    if let Some(system) = &mut message.system_properties {
        system.set_message_type(MessageType::Delay);
        let (seconds, nanos) = (due.as_secs() as i64, due.subsec_nanos() as i32);
        system.delivery_timestamp = Some(prost_types::Timestamp { seconds, nanos });
    }
    message
}

fn now_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Sends one request.
///
/// # Errors
/// The call failed, or its status or one of its entries is not OK. `empty`: an answer with nothing in it is what is expected.
pub async fn send(client: &mut Client, identity: &Identity, messages: Vec<Message>, empty: bool) -> Result<()> {
    let request = identity.request(SendMessageRequest { messages }, SEND_DEADLINE);
    let answer = client.send_message(request).await?.into_inner();
    if empty {
        return Ok(());
    }
    expect_ok(answer.status.as_ref())?;
    answer.entries.iter().try_for_each(|entry| expect_ok(entry.status.as_ref()))
}

/// One round of sends.
///
/// # Errors
/// The server cannot be reached.
pub fn round(load: &Load, messages: &Messages, empty: bool, progress: &Progress) -> Result<Measured> {
    let numbers = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let identity = Identity::new(0);
    let batch = load.batch;
    load::run(load, progress, move |mut client, _| {
        let first = numbers.fetch_add(batch, std::sync::atomic::Ordering::Relaxed);
        let messages = (first..first + batch).map(|number| messages.one(number)).collect();
        let identity = identity.clone();
        async move { send(&mut client, &identity, messages, empty).await }
    })
}

/// `bench send`, with the echo server beside it when asked for: `rounds` rounds of each in turn.
///
/// # Errors
/// A server cannot be reached.
pub fn run(load: &Load, messages: &Messages, settings: String, rounds: Option<u32>, quiet: bool) -> Result<Report> {
    let endpoint = &load.target.endpoint;
    let Some(rounds) = rounds else {
        let measured = round(load, messages, false, &Progress::new("send", quiet))?;
        return Ok(Report::new("send", endpoint, settings, &measured));
    };
    let echo = EchoServer::start()?;
    let part = Load { duration: load.duration.map(|duration| duration / rounds.max(1)), ..load.clone() };
    let part = Load { messages: load.messages.map(|messages| messages.div_ceil(u64::from(rounds.max(1)))), ..part };
    let mut echo_load = Load { cpu_of: vec![echo.pid()], ..part.clone() };
    echo_load.target.endpoint.clone_from(&echo.endpoint);
    // The echo speaks plaintext only.
    echo_load.target.tls = false;
    let (mut sends, mut echoes) = (Measured::default(), Measured::default());
    for _ in 0..rounds.max(1) {
        echoes.add(&round(&echo_load, messages, true, &Progress::new("echo", quiet))?);
        sends.add(&round(&part, messages, false, &Progress::new("send", quiet))?);
    }
    let mut report = Report::new("send", endpoint, settings.clone(), &sends);
    let echo_report = Report::new("echo", &echo.endpoint, settings, &echoes);
    report.ratio_to_echo = Some(report.per_second / echo_report.per_second.max(1e-9));
    report.echo = Some(Box::new(echo_report));
    Ok(report)
}

/// `bench send --against`: the same sends to another server, `rounds` rounds of each in turn.
///
/// # Errors
/// A server cannot be reached.
pub fn run_against(
    load: &Load,
    other: &Load,
    messages: &Messages,
    settings: String,
    rounds: u32,
    quiet: bool,
) -> Result<Report> {
    let rounds = rounds.max(1);
    let part = |load: &Load| Load {
        duration: load.duration.map(|duration| duration / rounds),
        messages: load.messages.map(|messages| messages.div_ceil(u64::from(rounds))),
        ..load.clone()
    };
    let (mut sends, mut others) = (Measured::default(), Measured::default());
    for _ in 0..rounds {
        others.add(&round(&part(other), messages, false, &Progress::new("other", quiet))?);
        sends.add(&round(&part(load), messages, false, &Progress::new("send", quiet))?);
    }
    let mut report = Report::new("send", &load.target.endpoint, settings.clone(), &sends);
    let other = Report::new("other server", &other.target.endpoint, settings, &others);
    report.ratio_to_other = Some(report.per_second / other.per_second.max(1e-9));
    report.other = Some(Box::new(other));
    Ok(report)
}

/// `bench echo`: the yardstick by itself.
///
/// # Errors
/// The echo server cannot be started.
pub fn run_echo(load: &Load, messages: &Messages, settings: String, quiet: bool) -> Result<Report> {
    let echo = EchoServer::start()?;
    let mut load = Load { cpu_of: vec![echo.pid()], ..load.clone() };
    load.target.endpoint.clone_from(&echo.endpoint);
    load.target.tls = false;
    let measured = round(&load, messages, true, &Progress::new("echo", quiet))?;
    Ok(Report::new("echo", &echo.endpoint, settings, &measured))
}
