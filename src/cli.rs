//! Words on a terminal: the commands, their help, their exit codes.

pub mod admin;
pub mod bench;
pub mod broker;
pub mod config;
pub mod connect;
pub mod failure;
pub mod health;
pub mod inspect;
pub mod print;
pub mod probe;
pub mod proxy;
pub mod route;
pub mod settings;
pub mod standalone;
pub mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::failure::Failure;

/// A message broker that official RocketMQ 5 gRPC clients connect to unchanged.
#[derive(Debug, Parser)]
#[command(name = "bolide", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in one process: data in one directory, nothing to configure
    Standalone(standalone::StandaloneArgs),
    /// Run the route service of a cluster: topics, groups, and who is there
    Route(route::RouteArgs),
    /// Run a broker of a cluster: a shard of the messages
    Broker(broker::BrokerArgs),
    /// Run a proxy of a cluster: clients connect here; it keeps nothing, run as many as you like
    Proxy(proxy::ProxyArgs),
    /// Administer a running broker: topics, groups, status
    Admin(admin::AdminArgs),
    /// Measure any server of the public protocol
    Bench(bench::BenchArgs),
    /// Print settings and explain them
    Config(config::ConfigArgs),
    /// Read a data directory offline: log, frames, queues, groups
    Inspect(inspect::InspectArgs),
    /// Ask a running broker whether clients should come to it; exit code 0 if so
    Health(health::HealthArgs),
    /// Send one message through the public port and receive it again; exit code 0 if it came back
    Probe(probe::ProbeArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Standalone(args) => standalone::run(args),
        Command::Route(args) => route::run(args),
        Command::Broker(args) => broker::run(args),
        Command::Proxy(args) => proxy::run(args),
        Command::Config(args) => config::run(args),
        Command::Health(args) => health::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Admin(args) => admin::run(args),
        Command::Bench(args) => bench::run(args).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bolide: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
