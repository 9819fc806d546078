//! `bolide proxy`: a proxy of a cluster.

use clap::Args;

use crate::app::proxy;
use crate::cli::failure::Failure;
use crate::cli::settings::{self, RoleArgs};
use crate::config::Role;

const HELP: &str = "\
Examples:
  bolide proxy --route route:8082
  bolide proxy --route route:8082 --external-listen 0.0.0.0:8083 --external-advertise mq.example.com:443
  BOLIDE_CLUSTER_ROUTE=route:8082 BOLIDE_SERVER_DRAIN_DELAY=5s bolide proxy

Clients are told, as the address of every broker, where they reach this proxy: the address they used, unless another one is
advertised. Clients of the second port hear --external-advertise, so that those inside and outside both get one they can reach.
A proxy keeps nothing: any number of them may run behind one load balancer, and each may go at any moment.
The smallest cluster is shown by `bolide route --help`.";

/// Arguments of `bolide proxy`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct ProxyArgs {
    /// Internal address of the route service, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    route: Option<String>,
    /// Where clients connect, TLS and plaintext alike [default: 0.0.0.0:8081]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// host:port that routes name to clients [default: the address that the client used]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// A second port, for clients outside
    #[arg(long, value_name = "ADDR")]
    external_listen: Option<String>,
    /// host:port that routes name to those [default: the address that the client used]
    #[arg(long, value_name = "HOST:PORT")]
    external_advertise: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
}

/// Runs the proxy until it is told to end.
///
/// # Errors
/// The settings are wrong, or it cannot start.
pub fn run(args: ProxyArgs) -> Result<(), Failure> {
    let flags = vec![
        ("cluster.route", args.route, "--route"),
        ("server.listen", args.listen, "--listen"),
        ("server.advertise", args.advertise, "--advertise"),
        ("server.external_listen", args.external_listen, "--external-listen"),
        ("server.external_advertise", args.external_advertise, "--external-advertise"),
    ];
    let loaded = args.role.load(Role::Proxy, flags)?;
    let notes = settings::notes(&loaded);
    proxy::run(loaded.config, &notes, |ready| settings::announce(Role::Proxy, ready))
        .map_err(|error| Failure::Failed(error.to_string()))
}
