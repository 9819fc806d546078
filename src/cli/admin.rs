//! `bolide admin`: topics, groups, transactions and status of a running broker or cluster, over its internal gRPC service.

mod broker;
mod clock;
mod cluster;
mod dlq;
mod group;
mod key;
mod lite;
mod missing;
mod moves;
mod output;
mod reset;
mod status;
mod topic;
mod transaction;
mod wait;
mod words;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::connect::{self, TrustArgs};
use crate::cli::failure::Failure;

const HELP: &str = "\
Examples:
  bolide admin topic create orders                          NORMAL, 8 queues, durable
  bolide admin topic create trades --type fifo --queues 16
  bolide admin group create billing --ordered --max-attempts 5
  bolide admin group lag billing
  bolide admin dlq redrive billing --all
  bolide admin transaction list --topic orders
  bolide admin group reset billing --topic orders --to '15m ago'
  bolide admin topic list --output json | jq -r '.[].name'
  bolide admin --address broker-0:8082 status
  bolide admin --address proxy:8082 cluster status          a whole cluster on one page, what is wrong first
  bolide admin --address proxy:8082 broker drain broker-2   empty a broker before it goes

In a cluster talk to the internal port of any proxy: it answers for all brokers. A broker answers for itself only. When a broker
does not answer, the others' part is shown, and a line on stderr says what is missing.

Exit codes:
  0 done    1 failed    2 wrong command line or value    3 no such topic or group
  4 exists with other settings, or forbidden by the present state    5 no broker answered
  `status` ends with 0 whenever a broker answered, ready or not; for probes there is `bolide health`.
  A failure is a line of text on stderr and nothing on stdout, with --output json too.";

/// Arguments of `bolide admin`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct AdminArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    what: What,
}

/// What every admin command takes, before or behind its name.
#[derive(Args, Clone, Debug)]
struct CommonArgs {
    /// Internal address of the broker; in a cluster, of any proxy
    #[arg(long, global = true, env = "BOLIDE_ADDRESS", default_value = "127.0.0.1:8082", value_name = "HOST:PORT")]
    address: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// Namespace of topics and groups
    #[arg(long, global = true, env = "BOLIDE_NAMESPACE", default_value = "", hide_default_value = true)]
    namespace: String,
    /// Form of the answer
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For scripts
    Json,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create, change, list, show and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Create, change, list, show and delete consumer groups, see how far they are, and move them elsewhere
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List, show, send back and drop the dead letters of a consumer group
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Show the server's time, and move it ahead on one started with --virtual-time
    #[command(subcommand)]
    Clock(clock::ClockCommand),
    /// See lite topics
    #[command(subcommand)]
    Lite(lite::LiteCommand),
    /// List transactions that are open, and settle them by hand
    #[command(subcommand)]
    Transaction(transaction::TransactionCommand),
    /// Version, readiness, disk, log positions; succeeds whenever the broker answers
    Status,
    /// See a whole cluster: what is wrong, members, shards, topics on their way
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// List the brokers of a cluster, empty one before it goes, and give up one that is lost
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Change the key of receipt handles
    #[command(subcommand)]
    Key(key::KeyCommand),
}

/// Runs one command.
///
/// # Errors
/// See [`Failure`]; each kind has an exit code.
pub fn run(args: AdminArgs) -> Result<(), Failure> {
    let AdminArgs { common, what } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = connect::admin(&common.address, &common.trust).await?;
        let done = match what {
            What::Topic(command) => topic::run(&mut client, &common, command).await,
            What::Group(command) => group::run(&mut client, &common, command).await,
            What::Dlq(command) => dlq::run(&mut client, &common, command).await,
            What::Clock(command) => clock::run(&mut client, &common, command).await,
            What::Lite(command) => lite::run(&mut client, &common, command).await,
            What::Transaction(command) => transaction::run(&mut client, &common, command).await,
            What::Status => status::run(&mut client, &common).await,
            What::Cluster(command) => cluster::run(&mut client, &common, command).await,
            What::Broker(command) => broker::run(&mut client, &common, command).await,
            What::Key(command) => key::run(&mut client, &common, command).await,
        };
        done.map_err(|failure| failure.at(&common.address))
    })
}
