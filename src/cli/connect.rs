//! The connection of the admin commands.

use std::time::Duration;

use http::uri::Authority;
use tonic::transport::{Channel, Endpoint};

use crate::cli::failure::{Failure, INTERNAL_HINT};
use crate::wire::admin::admin_client::AdminClient;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than the broker waits for a change to be durable.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Connects to `host:port` of the internal listener.
///
/// # Errors
/// [`Failure::Usage`] when the address has no such form, [`Failure::Unreachable`] when nobody answers.
pub async fn admin(address: &str) -> Result<AdminClient<Channel>, Failure> {
    check_host_port("--address", address)?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Failure::Usage(format!("--address {address} is not host:port: {error}")))?
        .connect_timeout(CONNECT_LIMIT)
        .timeout(CALL_LIMIT);
    let unreachable =
        |error| Failure::Unreachable { address: address.to_owned(), reason: root_cause(&error), hint: INTERNAL_HINT };
    Ok(AdminClient::new(endpoint.connect().await.map_err(unreachable)?))
}

/// Whether `address` is a host and a port, and nothing else.
///
/// # Errors
/// [`Failure::Usage`], naming `option`.
pub fn check_host_port(option: &str, address: &str) -> Result<(), Failure> {
    let fits = address.parse::<Authority>().is_ok_and(|authority| {
        !authority.host().is_empty() && authority.port_u16().is_some() && !address.contains('@')
    });
    if fits { Ok(()) } else { Err(Failure::Usage(format!("{option} {address} is not HOST:PORT"))) }
}

/// The innermost error: tonic's own words ("transport error") say nothing.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
