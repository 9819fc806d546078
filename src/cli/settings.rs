//! Settings on the command line of a server: flags for those that are given most often, over environment and file.

use std::path::PathBuf;

use clap::Args;

use crate::app::Ready;
use crate::cli::failure::Failure;
use crate::config::{self, Loaded, Role, Sources};

/// A setting given as a flag: key, value if there is one, flag.
pub type Given = (&'static str, Option<String>, &'static str);

/// Flags that every role of a cluster has.
#[derive(Args, Debug)]
pub struct RoleArgs {
    /// File of settings, .toml or .yaml [env: BOLIDE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where `bolide admin` and the other roles connect [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR")]
    internal: Option<String>,
    /// Where /healthz, /readyz and /metrics are served [default: 0.0.0.0:8088]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// File with the secret that all roles share
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// PEM file of the authority that signed the certificates of all roles
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<String>,
    /// PEM file of this process's certificate for internal connections
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
}

impl RoleArgs {
    /// Puts the settings of a role together.
    ///
    /// # Errors
    /// [`Failure::Usage`] with everything that is wrong.
    pub fn load(self, role: Role, mut flags: Vec<Given>) -> Result<Loaded, Failure> {
        flags.extend([
            ("server.internal", self.internal, "--internal"),
            ("server.http", self.http, "--http"),
            ("cluster.secret_file", self.secret_file, "--secret-file"),
            ("cluster.tls_ca", self.tls_ca, "--tls-ca"),
            ("cluster.tls_certificate", self.tls_certificate, "--tls-certificate"),
            ("cluster.tls_key", self.tls_key, "--tls-key"),
        ]);
        load(role, self.config, flags)
    }
}

/// Puts the settings of a role together.
///
/// # Errors
/// [`Failure::Usage`] with everything that is wrong.
pub fn load(role: Role, file: Option<PathBuf>, flags: Vec<Given>) -> Result<Loaded, Failure> {
    let sources = Sources {
        role,
        file,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        flags: flags.into_iter().filter_map(|(key, value, flag)| Some((key, value?, flag))).collect(),
    };
    config::load(&sources).map_err(|error| Failure::Usage(error.to_string()))
}

/// What a server is to note in its log about its settings.
#[must_use]
pub fn notes(loaded: &Loaded) -> Vec<String> {
    loaded.ignored.iter().map(ToString::to_string).collect()
}

/// One line on stdout that scripts read: the role, that it serves, and where.
pub fn announce(role: Role, ready: &Ready) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Whoever reads may be gone; the server is not.
    let _ = writeln!(out, "bolide {} serving: {ready}", role.name());
    let _ = out.flush();
}
