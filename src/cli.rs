//! Words on a terminal: the commands, their help, their exit codes.

pub mod admin;
pub mod bench;
pub mod connect;
pub mod failure;

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
    /// Administer a running broker: topics, groups, status
    Admin(admin::AdminArgs),
    /// Measure any server of the public protocol
    Bench(bench::BenchArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
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
