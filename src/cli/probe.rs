//! `bolide probe`: sends one message through the public port, receives and acknowledges it: what a client needs, all of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cli::bench::client::{Client, Identity, Target};
use crate::cli::bench::consume::Consumer;
use crate::cli::bench::send::{self, Messages};
use crate::cli::bench::topic;
use crate::cli::connect::AtArgs;
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::config::units::parse_duration;

/// Messages that earlier probes left behind are taken along, so many at a time.
const BATCH: i32 = 16;
/// One receive; several fit into any sensible `--within`.
const WAIT: Duration = Duration::from_secs(2);
/// Pause before what failed is tried again: a cluster that has just been installed is still finding itself.
const PAUSE: Duration = Duration::from_millis(200);

/// Arguments of `bolide probe`.
#[derive(Args, Debug)]
pub struct ProbeArgs {
    /// Server of the public protocol
    #[arg(long, env = "BOLIDE_ENDPOINT", default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    endpoint: String,
    /// Speak TLS, with any certificate
    #[arg(long)]
    tls: bool,
    /// Topic, which is created when it is missing
    #[arg(long, default_value = "bolide-probe")]
    topic: String,
    /// Consumer group
    #[arg(long, default_value = "bolide-probe")]
    group: String,
    #[command(flatten)]
    at: AtArgs,
    /// Time for all of it; what fails before is tried again
    #[arg(long, default_value = "20s", value_parser = parse_duration, value_name = "DURATION")]
    within: Duration,
}

/// Runs it and prints what it took.
///
/// # Errors
/// The message did not come back in time; says what failed last.
pub fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let target = Target { endpoint: args.endpoint.clone(), tls: args.tls };
    let until = Instant::now() + args.within;
    again_until(until, || topic::ensure(&target, &args.topic, &args.at))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = again_until(until, || runtime.block_on(round_trip(args, &target, until)))?;
    print::line(format_args!(
        "a message sent to {} through {} came back and was acknowledged in {:.1} ms",
        args.topic,
        args.endpoint,
        took.as_secs_f64() * 1e3
    ));
    Ok(())
}

/// The first success, or the last failure.
fn again_until<T>(until: Instant, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Err(_) if Instant::now() + PAUSE < until => std::thread::sleep(PAUSE),
            ended => return ended,
        }
    }
}

/// From the begin of the send to the acknowledgement.
async fn round_trip(args: &ProbeArgs, target: &Target, until: Instant) -> Result<Duration> {
    let mut client = target.connect().await?;
    let body = bytes::Bytes::from(format!("probe {}", uuid::Uuid::new_v4()));
    let message = Messages::new(&args.topic, body.len()).with_body(0, body.clone());
    let begin = Instant::now();
    send::send(&mut client, &Identity::new(0), vec![message], false).await.context("the message could not be sent")?;
    let consumer = Consumer {
        group: args.group.clone(),
        topic: args.topic.clone(),
        batch: BATCH,
        wait: WAIT,
        identity: Identity::new(1),
        filter: "*".to_owned(),
    };
    while Instant::now() < until {
        if take(&consumer, &mut client, &body).await.context("the message was sent and could not be received")? {
            return Ok(begin.elapsed());
        }
    }
    bail!("the message was sent and did not come back in {:?}", begin.elapsed())
}

/// Acknowledges what there is, and tells whether `body` was among it.
async fn take(consumer: &Consumer, client: &mut Client, body: &[u8]) -> Result<bool> {
    let received = consumer.receive(client).await?;
    if received.is_empty() {
        return Ok(false);
    }
    consumer.ack(client, &received).await?;
    Ok(received.iter().any(|one| one.body == body))
}
