//! The files behind the trust between roles: read at the start, and again when they have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::config::ClusterConfig;
use crate::runtime::clock::Clock;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::tasks::Tasks;
use crate::store::files::{Files, read_small};
use crate::trust::{TlsPem, Trust, TrustError};

/// How often the files are looked at. Whoever renews certificates leaves days, not seconds.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Why the roles cannot trust each other.
#[derive(Debug, Error)]
pub enum TrustFileError {
    /// A file cannot be read.
    #[error("{key} ({path}): {source}")]
    Io {
        /// Which setting names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The secret is not usable.
    #[error("cluster.secret_file ({path}): {source}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// Certificates or key are not usable.
    #[error("cluster.tls_ca, cluster.tls_certificate, cluster.tls_key: {0}")]
    Tls(#[from] TrustError),
}

/// The three texts of mutual TLS.
#[derive(Clone, PartialEq, Eq)]
struct Texts {
    ca: Bytes,
    certificate: Bytes,
    key: Bytes,
}

impl Texts {
    fn read(files: &dyn Files, cluster: &ClusterConfig) -> Result<Option<Self>, TrustFileError> {
        let (Some(ca), Some(certificate), Some(key)) = (&cluster.tls_ca, &cluster.tls_certificate, &cluster.tls_key)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            ca: read(files, "cluster.tls_ca", ca)?,
            certificate: read(files, "cluster.tls_certificate", certificate)?,
            key: read(files, "cluster.tls_key", key)?,
        }))
    }

    fn pem(&self) -> TlsPem<'_> {
        TlsPem { ca: &self.ca, certificate: &self.certificate, key: &self.key }
    }
}

fn read(files: &dyn Files, key: &'static str, path: &str) -> Result<Bytes, TrustFileError> {
    let path = Path::new(path);
    read_small(files, path).map_err(|source| TrustFileError::Io { key, path: path.to_owned(), source })
}

/// What the settings ask for.
///
/// # Errors
/// A file cannot be read, or does not hold what it should.
pub(super) fn trust(files: &dyn Files, cluster: &ClusterConfig) -> Result<Trust, TrustFileError> {
    let mut trust = Trust::none();
    if let Some(path) = &cluster.secret_file {
        let text = read(files, "cluster.secret_file", path)?;
        let refused = |source| TrustFileError::Secret { path: PathBuf::from(path), source };
        let text = std::str::from_utf8(&text).map_err(|_| refused(TrustError::Secret))?;
        trust = Trust::with_secret(text).map_err(refused)?;
    }
    match Texts::read(files, cluster)? {
        Some(texts) => Ok(trust.and_tls(texts.pem())?),
        None => Ok(trust),
    }
}

/// Takes changed certificates into use until `ended` stops. Files that cannot be used change nothing, and are named once: they
/// may be half written.
pub(super) async fn follow(
    trust: Trust,
    cluster: ClusterConfig,
    files: Arc<dyn Files>,
    clock: Clock,
    tasks: Tasks,
    ended: Shutdown,
) {
    if cluster.tls_ca.is_none() {
        return;
    }
    let mut known = None;
    let mut complained = String::new();
    loop {
        let (again, wanted) = (files.clone(), cluster.clone());
        match tasks.blocking(move || Texts::read(&*again, &wanted)).await {
            Ok(texts) if texts == known => {}
            Ok(Some(texts)) => {
                let first = known.is_none();
                match trust.renew(texts.pem()) {
                    Ok(()) if first => {}
                    Ok(()) => tracing::info!("new certificates are in use for internal connections"),
                    Err(error) => tracing::warn!(%error, "changed certificates are not used"),
                }
                known = Some(texts);
                complained.clear();
            }
            Ok(None) => {}
            Err(error) => {
                let words = error.to_string();
                if words != complained {
                    tracing::warn!(%error, "certificates cannot be read again");
                    complained = words;
                }
            }
        }
        tokio::select! {
            biased;
            () = ended.stopping() => return,
            () = clock.sleep(LOOK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::memory::MemoryFiles;
    use crate::store::files::write_small_durably;

    fn cluster() -> ClusterConfig {
        ClusterConfig {
            secret_file: Some("secret".to_owned()),
            tls_ca: Some("ca.pem".to_owned()),
            tls_certificate: Some("cert.pem".to_owned()),
            tls_key: Some("key.pem".to_owned()),
            ..ClusterConfig::default()
        }
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_named_with_its_setting() {
        let files = MemoryFiles::new(1).life();
        let write = |path: &str, text: &str| write_small_durably(&*files, Path::new(path), text.as_bytes()).unwrap();
        let problem = || trust(&*files, &cluster()).unwrap_err().to_string();
        assert!(problem().contains("cluster.secret_file (secret)"), "{}", problem());
        write("secret", "too short");
        assert!(problem().contains("16"), "{}", problem());
        write("secret", "long-enough-for-everybody\n");
        assert!(problem().contains("cluster.tls_ca (ca.pem)"), "{}", problem());
        let made = crate::proxy::tls::self_signed(&["a".to_owned()]).unwrap();
        write("ca.pem", &made.certificate);
        write("cert.pem", &made.certificate);
        write("key.pem", "nothing");
        assert!(problem().contains("private key"), "{}", problem());
        write("key.pem", &made.key);
        assert!(!trust(&*files, &cluster()).unwrap().is_none());
    }
}
