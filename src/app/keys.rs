//! What the process must find again at its next start: the key of its receipt handles, and its certificate.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use thiserror::Error;

use crate::config::TlsFiles;
use crate::proxy::tls::{TlsError, self_signed, server_config};
use crate::runtime::entropy::Entropy;
use crate::store::files::{Files, create_dir_durably, read_small, write_small_durably};

/// Bytes of the key of receipt handles.
const KEY_BYTES: usize = 32;

/// Why a key or certificate cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("{0} does not hold 64 hexadecimal digits; with another key, receipt handles given out before are refused")]
    Malformed(PathBuf),
    /// Certificate or key is not usable.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// One file without the other.
    #[error("server.tls_certificate and server.tls_key must be given together")]
    Half,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

/// The key of receipt handles, made at the first start. Handles given out before a restart stay valid with it.
///
/// # Errors
/// The file cannot be used.
pub(super) fn receipt_key(files: &dyn Files, dir: &Path, entropy: &Entropy) -> Result<[u8; KEY_BYTES], KeyError> {
    let path = dir.join("receipt.key");
    if files.exists(&path) {
        let text = read_small(files, &path).map_err(io_error(&path))?;
        return from_hex(&text).ok_or(KeyError::Malformed(path));
    }
    let mut key = [0; KEY_BYTES];
    entropy.fill(&mut key);
    let text = key.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    write_small_durably(files, &path, text.as_bytes()).map_err(io_error(&path))?;
    Ok(key)
}

fn from_hex(text: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}

/// The certificate that was configured, or a self-signed one, made at the first start and kept in `tls/`.
///
/// # Errors
/// A file cannot be used, or holds no certificate or key.
pub(super) fn tls(files: &dyn Files, dir: &Path, configured: &TlsFiles) -> Result<Arc<ServerConfig>, KeyError> {
    let (certificate, key) = match (&configured.certificate, &configured.key) {
        (Some(certificate), Some(key)) => (PathBuf::from(certificate), PathBuf::from(key)),
        (None, None) => own_certificate(files, &dir.join("tls"))?,
        _ => return Err(KeyError::Half),
    };
    let certificate = read_small(files, &certificate).map_err(io_error(&certificate))?;
    let key = read_small(files, &key).map_err(io_error(&key))?;
    Ok(server_config(&certificate, &key)?)
}

/// The certificate that was configured, or a self-signed one that lives as long as the process: for one that keeps nothing.
///
/// # Errors
/// A file cannot be used, or holds no certificate or key.
pub(super) fn tls_in_memory(files: &dyn Files, configured: &TlsFiles) -> Result<Arc<ServerConfig>, KeyError> {
    match (&configured.certificate, &configured.key) {
        (None, None) => {
            let made = self_signed(&own_hosts())?;
            Ok(server_config(made.certificate.as_bytes(), made.key.as_bytes())?)
        }
        _ => tls(files, Path::new(""), configured),
    }
}

fn own_hosts() -> [String; 3] {
    ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]
}

fn own_certificate(files: &dyn Files, dir: &Path) -> Result<(PathBuf, PathBuf), KeyError> {
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    // The key is written first: a certificate without its key must never be found.
    if !files.exists(&certificate) || !files.exists(&key) {
        let made = self_signed(&own_hosts())?;
        create_dir_durably(files, dir).map_err(io_error(dir))?;
        write_small_durably(files, &key, made.key.as_bytes()).map_err(io_error(&key))?;
        write_small_durably(files, &certificate, made.certificate.as_bytes()).map_err(io_error(&certificate))?;
    }
    Ok((certificate, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_same_at_the_next_start_and_a_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = crate::store::files::real();
        let first = receipt_key(&*files, dir.path(), &Entropy::seeded(1)).unwrap();
        assert_eq!(receipt_key(&*files, dir.path(), &Entropy::seeded(2)).unwrap(), first);
        std::fs::write(dir.path().join("receipt.key"), "short").unwrap();
        assert!(matches!(receipt_key(&*files, dir.path(), &Entropy::seeded(3)), Err(KeyError::Malformed(_))));
    }
}
