//! The certificate of the public port. Files are the caller's business: this takes and makes PEM text.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The text holds no certificate, or a broken one.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The text holds no private key, or a broken one.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// Certificate and key do not go together.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("a self-signed certificate cannot be made: {0}")]
    Generate(#[from] rcgen::Error),
}

/// A certificate with its key, as PEM text.
#[derive(Clone)]
pub struct CertificatePem {
    /// Certificate.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

impl std::fmt::Debug for CertificatePem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificatePem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A self-signed certificate for `hosts` (names or addresses), valid for decades: clients that verify are given files instead.
///
/// # Errors
/// A host is not a legal name, or the system gave no randomness.
pub fn self_signed(hosts: &[String]) -> Result<CertificatePem, TlsError> {
    let made = rcgen::generate_simple_self_signed(hosts.to_vec())?;
    Ok(CertificatePem { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
}

/// The server's side of TLS from a certificate chain and its key. Offers HTTP/2 by ALPN, without which most clients refuse; serves
/// this certificate whatever name the client asks for, since clients that know only an address ask for made-up names.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(certificates_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_used_and_garbage_is_named() {
        let made = self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let config = server_config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
        assert!(matches!(server_config(b"", made.key.as_bytes()), Err(TlsError::Certificate(_))));
        assert!(matches!(server_config(made.certificate.as_bytes(), b"x"), Err(TlsError::Key(_))));
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
