//! Trust between the roles of a cluster: a secret that every call carries, or mutual TLS, or both.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

/// Header that carries the secret.
pub const SECRET_HEADER: &str = "bolide-cluster-secret";
/// Longest time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence after which a peer is asked for a sign of life, and how long it has to give one: a peer that went away without a
/// word must be noticed within seconds.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// Why a peer cannot be dialled, or trust cannot be set up.
#[derive(Debug, Error)]
pub enum TrustError {
    /// Not `host:port`.
    #[error("{0:?} is not host:port")]
    Address(String),
    /// The secret cannot be sent.
    #[error("the cluster's secret must be visible ASCII characters, at least 16 of them")]
    Secret,
}

/// What this process shows to others and asks of them. Clones share it.
#[derive(Clone, Default)]
pub struct Trust {
    secret: Option<Arc<MetadataValue<Ascii>>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret must not reach a log.
        write!(f, "Trust(secret: {})", self.secret.is_some())
    }
}

impl Trust {
    /// Nobody is asked for anything: one machine, or tests.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// With a secret that all roles share.
    ///
    /// # Errors
    /// The secret is too short or cannot be sent.
    pub fn with_secret(secret: &str) -> Result<Self, TrustError> {
        let secret = secret.trim();
        if secret.len() < 16 {
            return Err(TrustError::Secret);
        }
        let mut value: MetadataValue<Ascii> = secret.parse().map_err(|_| TrustError::Secret)?;
        value.set_sensitive(true);
        Ok(Self { secret: Some(Arc::new(value)) })
    }

    /// How to reach a peer's internal port.
    ///
    /// # Errors
    /// The address is malformed.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, TrustError> {
        let malformed = || TrustError::Address(address.to_owned());
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| malformed())?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true))
    }

    /// Adds what the peer asks for.
    pub fn stamp<T>(&self, request: &mut Request<T>) {
        if let Some(secret) = &self.secret {
            request.metadata_mut().insert(SECRET_HEADER, MetadataValue::clone(secret));
        }
    }

    /// Whether a call may come in.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without the right secret.
    #[expect(clippy::result_large_err, reason = "what tonic hands on")]
    pub fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(wanted) = &self.secret else { return Ok(()) };
        let shown = metadata.get(SECRET_HEADER).map(|value| value.as_bytes()).unwrap_or_default();
        if is_equal(shown, wanted.as_bytes()) {
            return Ok(());
        }
        Err(Status::unauthenticated(
            "the cluster's secret is missing or wrong: give every role the same cluster.secret_file",
        ))
    }
}

/// In a time that does not tell how much of it was right.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_comes_in_and_none_is_asked_for_without_one() {
        let trust = Trust::with_secret("0123456789abcdef\n").unwrap();
        let mut request = Request::new(());
        assert!(trust.check(request.metadata()).is_err());
        trust.stamp(&mut request);
        assert!(trust.check(request.metadata()).is_ok());
        let mut other = Request::new(());
        Trust::with_secret("0123456789abcdeF").unwrap().stamp(&mut other);
        assert!(trust.check(other.metadata()).is_err());
        assert!(Trust::none().check(&MetadataMap::new()).is_ok());
        assert!(Trust::with_secret("short").is_err());
        assert!(Trust::with_secret("ümlaut-ümlaut-ümlaut").is_err());
        assert!(!format!("{trust:?}").contains("0123"));
    }
}
