//! Trust between the roles of a cluster: a secret that every call carries, or mutual TLS, or both. Files are the caller's
//! business: this takes PEM text, and takes it anew when the files have changed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use http::uri::Authority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
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
    /// A text holds no certificate, or a broken one.
    #[error("{what} cannot be read: {reason}")]
    Certificate {
        /// Which.
        what: &'static str,
        /// In words.
        reason: String,
    },
    /// A text holds no private key, or a broken one.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// Certificates and key do not go together.
    #[error("certificate, key and CA cannot be used together: {0}")]
    Unusable(String),
}

/// The texts behind mutual TLS, in PEM.
#[derive(Clone, Copy)]
pub struct TlsPem<'a> {
    /// Whoever shows a certificate signed by one of these is believed.
    pub ca: &'a [u8],
    /// What this process shows, with its chain.
    pub certificate: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
}

/// Both sides of TLS, made from the same texts.
struct Tls {
    client: ClientTlsConfig,
    server: Arc<ServerConfig>,
}

/// What this process shows to others and asks of them. Clones share it.
#[derive(Clone, Default)]
pub struct Trust {
    secret: Option<Arc<MetadataValue<Ascii>>>,
    tls: Option<Arc<ArcSwap<Tls>>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret must not reach a log.
        write!(f, "Trust(secret: {}, tls: {})", self.secret.is_some(), self.tls.is_some())
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
        if secret.len() < 16 || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TrustError::Secret);
        }
        let mut value: MetadataValue<Ascii> = secret.parse().map_err(|_| TrustError::Secret)?;
        value.set_sensitive(true);
        Ok(Self { secret: Some(Arc::new(value)), tls: None })
    }

    /// The same, with mutual TLS on every connection.
    ///
    /// # Errors
    /// A text is not usable.
    pub fn and_tls(self, pem: TlsPem<'_>) -> Result<Self, TrustError> {
        Ok(Self { tls: Some(Arc::new(ArcSwap::from_pointee(Tls::new(pem)?))), ..self })
    }

    /// Takes other certificates from now on; connections that exist stay as they are. Does nothing without TLS.
    ///
    /// # Errors
    /// A text is not usable; then what was there before stays.
    pub fn renew(&self, pem: TlsPem<'_>) -> Result<(), TrustError> {
        if let Some(tls) = &self.tls {
            tls.store(Arc::new(Tls::new(pem)?));
        }
        Ok(())
    }

    /// Whether anybody is kept out at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.secret.is_none() && self.tls.is_none()
    }

    /// The listening side of TLS as it is now; none: connections are plain.
    #[must_use]
    pub fn server_tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().map(|tls| tls.load().server.clone())
    }

    /// How to reach a peer's internal port.
    ///
    /// # Errors
    /// The address is malformed.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, TrustError> {
        let malformed = || TrustError::Address(address.to_owned());
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let authority: Authority = address.parse().map_err(|_| malformed())?;
        if authority.host().is_empty() || authority.port_u16().is_none() || address.contains('@') {
            return Err(malformed());
        }
        let uri: Uri = format!("{scheme}://{address}").parse().map_err(|_| malformed())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut endpoint = Endpoint::from(uri);
        if let Some(tls) = &self.tls {
            let client = tls.load().client.clone().domain_name(host);
            endpoint = endpoint.tls_config(client).map_err(|error| TrustError::Unusable(root_cause(&error)))?;
        }
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

impl Tls {
    fn new(pem: TlsPem<'_>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA", pem.ca)? {
            let refused = |error: rustls::Error| TrustError::Certificate { what: "the CA", reason: error.to_string() };
            roots.add(certificate).map_err(refused)?;
        }
        let chain = certificates("the certificate", pem.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|error| TrustError::Key(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |error: &dyn std::fmt::Display| TrustError::Unusable(error.to_string());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| unusable(&error))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let client = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem.ca))
            .identity(Identity::from_pem(pem.certificate, pem.key));
        Ok(Self { client, server: Arc::new(server) })
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| TrustError::Certificate { what, reason: error.to_string() })?;
    if read.is_empty() {
        return Err(TrustError::Certificate { what, reason: "it holds no certificate".to_owned() });
    }
    Ok(read)
}

/// Whether a port at this address can be reached from this machine only.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The innermost error: tonic's own words ("transport error") say nothing.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// In a time that does not tell how much of it was right.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    struct Issuer(CertifiedIssuer<'static, KeyPair>);

    impl Issuer {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn trust(&self, host: &str) -> Trust {
            let (certificate, key) = self.signed(host);
            let ca = self.0.pem();
            let pem = TlsPem { ca: ca.as_bytes(), certificate: certificate.as_bytes(), key: key.as_bytes() };
            Trust::none().and_tls(pem).unwrap()
        }

        fn signed(&self, host: &str) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let made = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
            (made.pem(), key.serialize_pem())
        }
    }

    /// Whether a call gets through TLS from `client` to a server of `server` that is dialled as `host`.
    async fn meets(server: &Trust, client: &Trust, host: &str) -> bool {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut far = Some(hyper_util::rt::TokioIo::new(far));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = far.take();
            async move { stream.ok_or_else(|| std::io::Error::other("once")) }
        });
        let serving = async {
            let tls = TlsAcceptor::from(server.server_tls().unwrap()).accept(near).await?;
            let routes = tonic::service::Routes::default();
            let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(tls)]);
            let _ = tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming).await;
            Ok::<_, std::io::Error>(())
        };
        let calling = async {
            let channel = client.endpoint(host).unwrap().connect_with_connector(connector).await;
            let Ok(channel) = channel else { return false };
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
            // Over TLS 1.3 a client learns only by its first call that the server did not believe it.
            let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
            answer.is_err_and(|status| status.code() == tonic::Code::Unimplemented)
        };
        let serving = std::pin::pin!(serving);
        let calling = std::pin::pin!(calling);
        match futures::future::select(calling, serving).await {
            futures::future::Either::Left((met, _)) => met,
            futures::future::Either::Right((_, calling)) => calling.await,
        }
    }

    #[tokio::test]
    async fn only_certificates_of_our_own_authority_meet_and_only_under_their_own_name() {
        let (ours, theirs) = (Issuer::new(), Issuer::new());
        assert!(meets(&ours.trust("route-0"), &ours.trust("broker-0"), "route-0:8082").await);
        assert!(meets(&ours.trust("::1"), &ours.trust("broker-0"), "[::1]:8082").await);
        assert!(!meets(&ours.trust("route-0"), &ours.trust("broker-0"), "route-1:8082").await, "another name");
        assert!(!meets(&ours.trust("route-0"), &theirs.trust("broker-0"), "route-0:8082").await, "a stranger calls");
        assert!(!meets(&theirs.trust("route-0"), &ours.trust("broker-0"), "route-0:8082").await, "a stranger answers");
    }

    #[tokio::test]
    async fn renewed_certificates_count_from_the_next_connection_on_and_broken_ones_change_nothing() {
        let (old, new) = (Issuer::new(), Issuer::new());
        let server = old.trust("a");
        let (certificate, key) = new.signed("a");
        let ca = new.0.pem();
        let pem = TlsPem { ca: ca.as_bytes(), certificate: certificate.as_bytes(), key: key.as_bytes() };
        for broken in [TlsPem { ca: b"", ..pem }, TlsPem { certificate: b"x", ..pem }, TlsPem { key: b"", ..pem }] {
            assert!(server.renew(broken).is_err());
        }
        assert!(meets(&server, &old.trust("b"), "a:1").await);
        server.clone().renew(pem).unwrap();
        assert!(meets(&server, &new.trust("b"), "a:1").await);
        assert!(!meets(&server, &old.trust("b"), "a:1").await);
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for text in ["", "host", "host:port", ":1", "http://a:1", "a:1/b"] {
            assert!(Trust::none().endpoint(text).is_err(), "{text:?}");
        }
        assert!(Trust::none().endpoint("[::1]:8082").is_ok());
    }

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
