//! `bolide route`: the route service of a cluster.

use clap::Args;

use crate::app::route;
use crate::cli::failure::Failure;
use crate::cli::settings::{self, RoleArgs};
use crate::config::Role;

const HELP: &str = "\
A cluster is one route service, brokers that hold the messages, and proxies that clients connect to. On one machine:
  bolide route  --data route    --internal 127.0.0.1:9000 --http 127.0.0.1:9001
  bolide broker --data broker-0 --internal 127.0.0.1:9010 --http 127.0.0.1:9011 --route 127.0.0.1:9000 --name broker-0
  bolide broker --data broker-1 --internal 127.0.0.1:9020 --http 127.0.0.1:9021 --route 127.0.0.1:9000 --name broker-1
  bolide proxy  --listen 127.0.0.1:8081 --internal 127.0.0.1:8082 --http 127.0.0.1:8088 --route 127.0.0.1:9000
  bolide admin topic create hello

On several machines the internal ports must be reachable, and so need trust: the same --secret-file everywhere, or certificates
(--tls-ca, --tls-certificate, --tls-key). An internal port that would be open to everyone is refused.

The route service keeps topics, groups, placement and keys, not messages. While it is away, messages flow on as routed before;
only changes of topics and groups wait.";

/// Arguments of `bolide route`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct RouteArgs {
    /// Directory of what the cluster is made of [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
}

/// Runs the service until it is told to end.
///
/// # Errors
/// The settings are wrong, or it cannot start.
pub fn run(args: RouteArgs) -> Result<(), Failure> {
    let loaded = args.role.load(Role::Route, vec![("server.data", args.data, "--data")])?;
    let notes = settings::notes(&loaded);
    route::run(loaded.config, &notes, |ready| settings::announce(Role::Route, ready))
        .map_err(|error| Failure::Failed(error.to_string()))
}
