//! `bolide bench`: measures any server of the public protocol.

pub mod client;
pub mod consume;
pub mod cpu;
pub mod delay;
pub mod e2e;
pub mod echo;
pub mod kinds;
pub mod load;
pub mod progress;
pub mod receive;
pub mod report;
pub mod send;
pub mod topic;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::cli::bench::client::{Identity, Target};
use crate::cli::bench::consume::Consumer;
use crate::cli::bench::load::Load;
use crate::cli::bench::report::Report;
use crate::cli::bench::send::Messages;
use crate::cli::connect::AtArgs;
use crate::config::units::parse_duration;

const EXAMPLES: &str = "\
Examples:
  bolide bench send --against-echo            durable sends, beside an empty gRPC echo of the same bytes
  bolide bench send --against 10.0.0.7:8081   the same sends to another server in turn, and the ratio
  bolide bench send --cpu-of $(pidof bolide)  with the server's CPU per message
  bolide bench receive --fill 1000000         stores a backlog, then takes and acknowledges all of it
  bolide bench e2e --rate 1000                from the begin of a send to the message in a consumer's hand
  bolide bench e2e --idle                     the same, one message at a time on an idle server
  bolide bench delay --messages 10000         messages due in one second: how late, none early
  bolide bench nack                           from giving a message back to having it again
  bolide bench compare ordered                1 000 message groups beside plain messages
  bolide bench compare transaction            half messages and commits beside pairs of plain sends

Every benchmark ends by itself, prints a line a second to stderr and its result to stdout (--json for scripts).
A missing topic is created through the admin address; a server without one (another implementation of the protocol)
must have the topic already.";

/// Where a backlog is welcome.
const TOPIC: &str = "bench";

/// Arguments of `bolide bench`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The yardstick by itself: an empty gRPC echo server that this command starts
    Echo(LoadArgs),
    /// Send messages and wait for each OK
    Send {
        #[command(flatten)]
        load: LoadArgs,
        /// Delay each message by so much; the topic is created for delayed messages
        #[arg(long, value_parser = parse_duration, conflicts_with = "against_echo")]
        delay: Option<Duration>,
        /// Measure an empty echo of the same bytes in turn with the server, and print the ratio
        #[arg(long)]
        against_echo: bool,
        /// Measure another server in turn with this one, and print the ratio; the topic must exist on both
        #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["against_echo", "delay"])]
        against: Option<String>,
        /// Process of the other server, or several, separated by commas
        #[arg(long, value_name = "PID", value_delimiter = ',', requires = "against")]
        against_cpu_of: Vec<u32>,
        /// Rounds of each side of the comparison
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
    },
    /// Receive and acknowledge a backlog, and show whether the rate stays flat
    Receive {
        #[command(flatten)]
        common: CommonArgs,
        /// Consumer group
        #[arg(long, default_value = "bench")]
        group: String,
        /// Receives in flight
        #[arg(long, default_value_t = 8)]
        parallel: usize,
        /// Messages a receive asks for
        #[arg(long, default_value_t = 32)]
        batch: i32,
        /// Send so many messages first, 32 a request
        #[arg(long, default_value_t = 0)]
        fill: u64,
        /// End after so many messages (default: when a receive comes back empty)
        #[arg(long)]
        messages: Option<u64>,
        /// End after this time
        #[arg(long, value_parser = parse_duration)]
        duration: Option<Duration>,
    },
    /// Time from the begin of a send to the message in a waiting consumer's hand
    E2e {
        #[command(flatten)]
        common: CommonArgs,
        /// Consumer group
        #[arg(long, default_value = "bench-e2e")]
        group: String,
        /// Messages per second
        #[arg(long, default_value_t = 1000.0, conflicts_with = "idle")]
        rate: f64,
        /// One message at a time to a waiting receive on an idle server
        #[arg(long)]
        idle: bool,
        /// Receives that wait at a time
        #[arg(long, default_value_t = 4)]
        receivers: usize,
        /// Time before the counting begins
        #[arg(long, default_value = "2s", value_parser = parse_duration)]
        warmup: Duration,
        /// Counted time
        #[arg(long, default_value = "10s", value_parser = parse_duration)]
        duration: Duration,
        /// Most counted messages
        #[arg(long)]
        messages: Option<u64>,
    },
    /// How late delayed messages are in a waiting consumer's hand; one that is early is an error
    Delay {
        #[command(flatten)]
        common: CommonArgs,
        /// Consumer group
        #[arg(long, default_value = "bench-delay")]
        group: String,
        /// Messages
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        messages: u64,
        /// Time from now until the first falls due
        #[arg(long, default_value = "10s", value_parser = parse_duration)]
        lead: Duration,
        /// Time over which they fall due
        #[arg(long, default_value = "1s", value_parser = parse_duration)]
        spread: Duration,
        /// Receives that wait at a time
        #[arg(long, default_value_t = 16, value_parser = positive)]
        receivers: usize,
    },
    /// Time from giving a message back (invisible duration 0) to having it again
    Nack {
        #[command(flatten)]
        common: CommonArgs,
        /// Consumer group
        #[arg(long, default_value = "bench-nack")]
        group: String,
        /// Messages given back
        #[arg(long, default_value_t = 100)]
        messages: u64,
    },
    /// What a kind of message costs, as a ratio to plain messages in the same run
    Compare {
        /// Which kind
        #[arg(value_enum)]
        pair: kinds::Pair,
        #[command(flatten)]
        common: CommonArgs,
        /// Sends in flight, over all connections
        #[arg(long, default_value_t = 64, value_parser = positive)]
        in_flight: usize,
        /// Receives in flight
        #[arg(long, default_value_t = 8, value_parser = positive)]
        parallel: usize,
        /// Messages of each side in each round
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
        messages: u64,
        /// Message groups
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        groups: u64,
        /// Rounds of each side
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
    },
    /// What `echo` and `--against-echo` start
    #[command(hide = true)]
    EchoServer,
}

/// What every benchmark takes.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Server of the public protocol
    #[arg(long, env = "BOLIDE_ENDPOINT", default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    endpoint: String,
    /// Speak TLS, with any certificate
    #[arg(long)]
    tls: bool,
    /// Topic [default: bench, or bench-e2e and bench-nack where a backlog would be in the way]
    #[arg(long)]
    topic: Option<String>,
    #[command(flatten)]
    at: AtArgs,
    /// Connections
    #[arg(long, default_value_t = 4, value_parser = positive)]
    connections: usize,
    /// Bytes of a message body
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// Show the CPU that this process uses per message; several, separated by commas, together
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    cpu_of: Vec<u32>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

/// What a load of sends takes beyond that.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Requests in flight, over all connections
    #[arg(long, default_value_t = 64, value_parser = positive)]
    in_flight: usize,
    /// Messages in one request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    batch: u64,
    /// Messages per second (default: as fast as the answers come)
    #[arg(long)]
    rate: Option<f64>,
    /// End after so many messages, and not after a time
    #[arg(long)]
    messages: Option<u64>,
    /// Counted time
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Time before the counting begins [default: 2s, or none with --messages]
    #[arg(long, value_parser = parse_duration)]
    warmup: Option<Duration>,
}

/// Warm-up of a load that ends after a time.
const WARMUP: Duration = Duration::from_secs(2);

fn positive(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) | Err(_) => Err("a whole number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

impl CommonArgs {
    fn target(&self) -> Target {
        Target { endpoint: self.endpoint.clone(), tls: self.tls }
    }

    /// The topic, which is created if it is missing.
    fn topic(&self, default: &str) -> Result<String> {
        let topic = self.topic.as_deref().unwrap_or(default);
        topic::ensure(&self.target(), topic, &self.at)?;
        Ok(topic.to_owned())
    }

    /// The same for delayed messages.
    fn delay_topic(&self) -> Result<String> {
        let topic = self.topic.as_deref().unwrap_or("bench-delay");
        topic::ensure_typed(&self.target(), topic, crate::wire::admin::TopicType::Delay, &self.at)?;
        Ok(topic.to_owned())
    }

    fn settings(&self, more: &str) -> String {
        let tls = if self.tls { ", TLS" } else { "" };
        format!("{} B, {} connections{more}{tls}", self.body_bytes, self.connections)
    }
}

impl LoadArgs {
    fn load(&self) -> Load {
        Load {
            target: self.common.target(),
            connections: self.common.connections,
            in_flight: self.in_flight,
            rate: self.rate,
            batch: self.batch,
            warmup: self.warmup.unwrap_or(if self.messages.is_some() { Duration::ZERO } else { WARMUP }),
            duration: self.messages.is_none().then_some(self.duration),
            messages: self.messages,
            cpu_of: self.common.cpu_of.clone(),
        }
    }

    fn settings(&self) -> String {
        let batch = if self.batch == 1 { String::new() } else { format!(", {} messages a request", self.batch) };
        let rate = self.rate.map(|rate| format!(", {rate} msg/s")).unwrap_or_default();
        self.common.settings(&format!(", {} in flight{batch}{rate}", self.in_flight))
    }
}

/// Runs a benchmark and prints its result.
///
/// # Errors
/// The server cannot be reached, or calls failed.
pub fn run(args: BenchArgs) -> Result<()> {
    let (report, json) = match args.what {
        What::EchoServer => return echo::serve(),
        What::Echo(args) => {
            let messages = Messages::new(TOPIC, args.common.body_bytes);
            (send::run_echo(&args.load(), &messages, args.settings(), args.common.quiet)?, args.common.json)
        }
        What::Send { load: args, against: Some(other), against_cpu_of, rounds, .. } => {
            let messages = Messages::new(&args.common.topic(TOPIC)?, args.common.body_bytes);
            let load = args.load();
            let target = Target { endpoint: other, tls: load.target.tls };
            let other = Load { target, cpu_of: against_cpu_of, ..load.clone() };
            let quiet = args.common.quiet;
            (send::run_against(&load, &other, &messages, args.settings(), rounds, quiet)?, args.common.json)
        }
        What::Send { load: args, delay, against_echo, rounds, .. } => {
            let topic = if delay.is_some() { args.common.delay_topic()? } else { args.common.topic(TOPIC)? };
            let messages = Messages::new(&topic, args.common.body_bytes).delayed_by(delay);
            let rounds = against_echo.then_some(rounds);
            (send::run(&args.load(), &messages, args.settings(), rounds, args.common.quiet)?, args.common.json)
        }
        What::Receive { common, group, parallel, batch, fill, messages, duration } => {
            let topic = common.topic(TOPIC)?;
            if fill > 0 {
                fill_topic(&common, &topic, fill)?;
            }
            let drain = receive::Drain {
                target: common.target(),
                // The shortest wait that the protocol grants.
                consumer: consumer(group, topic, batch, Duration::from_secs(5)),
                connections: common.connections,
                parallel,
                messages,
                duration,
                cpu_of: common.cpu_of.clone(),
            };
            let settings = common.settings(&format!(", {parallel} receives in flight, batch {batch}"));
            (receive::run(&drain, settings, common.quiet)?, common.json)
        }
        What::E2e { common, group, rate, idle, receivers, warmup, duration, messages } => {
            let through = e2e::Through {
                target: common.target(),
                consumer: consumer(group, common.topic("bench-e2e")?, 32, Duration::from_secs(15)),
                receivers: if idle { 1 } else { receivers },
                rate: (!idle).then_some(rate),
                body_bytes: common.body_bytes,
                warmup,
                duration,
                messages,
                cpu_of: common.cpu_of.clone(),
            };
            let kind = if idle { "one at a time".to_owned() } else { format!("{rate} msg/s, {receivers} receivers") };
            let settings = format!("{} B, {kind}", common.body_bytes);
            (e2e::run(&through, settings, common.quiet)?, common.json)
        }
        What::Delay { common, group, messages, lead, spread, receivers } => {
            let delays = delay::Delays {
                target: common.target(),
                consumer: consumer(group, common.delay_topic()?, 32, Duration::from_secs(15)),
                receivers,
                messages,
                lead,
                spread,
                body_bytes: common.body_bytes,
            };
            let settings = format!("{} B, {messages} messages due in {spread:?}", common.body_bytes);
            (delay::run(&delays, settings, common.quiet)?, common.json)
        }
        What::Nack { common, group, messages } => {
            let consumer = consumer(group, common.topic("bench-nack")?, 1, Duration::from_secs(15));
            let settings = format!("{messages} messages, one at a time");
            (e2e::run_nack(&common.target(), &consumer, messages, settings, common.quiet)?, common.json)
        }
        What::Compare { pair, common, in_flight, parallel, messages, groups, rounds } => {
            let comparison = kinds::Comparison {
                pair,
                target: common.target(),
                at: common.at.clone(),
                connections: common.connections,
                in_flight,
                parallel,
                messages,
                groups,
                rounds,
                body_bytes: common.body_bytes,
                cpu_of: common.cpu_of.clone(),
                quiet: common.quiet,
            };
            let settings = common.settings(&format!(", {in_flight} in flight, {messages} messages a round"));
            (kinds::run(&comparison, settings)?, common.json)
        }
    };
    report.print(json);
    ensure!(
        report.errors == 0,
        "{} calls failed, the first with: {}",
        report.errors,
        report.first_error.as_deref().unwrap_or("no words")
    );
    Ok(())
}

fn consumer(group: String, topic: String, batch: i32, wait: Duration) -> Consumer {
    Consumer { group, topic, batch, wait, identity: Identity::new(3), filter: "*".to_owned() }
}

fn fill_topic(common: &CommonArgs, topic: &str, count: u64) -> Result<()> {
    let load = Load {
        target: common.target(),
        connections: common.connections,
        in_flight: 16,
        rate: None,
        batch: 32,
        warmup: Duration::ZERO,
        duration: None,
        messages: Some(count),
        cpu_of: Vec::new(),
    };
    let messages = Messages::new(topic, common.body_bytes);
    let measured = send::round(&load, &messages, false, &progress::Progress::new("fill", common.quiet))?;
    let report = Report::new("fill", &common.endpoint, String::new(), &measured);
    ensure!(report.errors == 0, "filling failed: {}", report.first_error.as_deref().unwrap_or_default());
    if !common.quiet {
        eprintln!("stored {} messages at {:.0} msg/s", report.messages, report.per_second);
    }
    Ok(())
}
