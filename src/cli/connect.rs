//! The connection of the admin commands.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::cli::failure::Failure;
use crate::wire::admin::admin_client::AdminClient;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than the broker waits for a change to be durable.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Connects to `host:port` of the internal listener.
///
/// # Errors
/// [`Failure::Usage`] when the address has no such form, [`Failure::Unreachable`] when nobody answers.
pub async fn admin(address: &str) -> Result<AdminClient<Channel>, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Failure::Usage(format!("--address {address} is not host:port: {error}")))?
        .connect_timeout(CONNECT_LIMIT)
        .timeout(CALL_LIMIT);
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| Failure::Unreachable { address: address.to_owned(), reason: root_cause(&error) })?;
    Ok(AdminClient::new(channel))
}

/// The innermost error: tonic's own words ("transport error") say nothing.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
