//! `bolide broker`: one broker of a cluster.

use clap::Args;

use crate::app::broker;
use crate::cli::failure::Failure;
use crate::cli::settings::{self, RoleArgs};
use crate::config::Role;

const HELP: &str = "\
Examples:
  bolide broker --name broker-0 --data /var/lib/bolide --route route:8082 --internal 0.0.0.0:8082 --secret-file /etc/secret
  BOLIDE_SERVER_BROKER_NAME=broker-1 BOLIDE_CLUSTER_ROUTE=route:8082 bolide broker

At its first start a broker asks the route service for its shard, by its name; shard and cluster stay in the data directory, and
another broker's or cluster's directory is refused. Later it also starts while the route service is away.
New topics use it at once; topics that exist do after `bolide admin topic rebalance TOPIC`.
The smallest cluster is shown by `bolide route --help`.";

/// Arguments of `bolide broker`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct BrokerArgs {
    /// Directory of everything that is kept [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Name of this broker in its cluster, for ever the same [default: broker-0]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Internal address of the route service, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    route: Option<String>,
    /// Where the others reach this broker's internal port [default: its address, or the host's name and its port]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
}

/// Runs the broker until it is told to end.
///
/// # Errors
/// The settings are wrong, or it cannot start.
pub fn run(args: BrokerArgs) -> Result<(), Failure> {
    let flags = vec![
        ("server.data", args.data, "--data"),
        ("server.broker_name", args.name, "--name"),
        ("cluster.route", args.route, "--route"),
        ("cluster.advertise", args.advertise, "--advertise"),
    ];
    let loaded = args.role.load(Role::Broker, flags)?;
    let notes = settings::notes(&loaded);
    broker::run(loaded.config, &notes, |ready| settings::announce(Role::Broker, ready))
        .map_err(|error| Failure::Failed(error.to_string()))
}
