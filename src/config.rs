//! One document made of every room's options: where each value comes from, what it may be, what it means.
//!
//! Nothing needs to be configured. A value is taken from the first of: command line flag, environment (`BOLIDE_<SECTION>_<KEY>`),
//! file (`--config` or `BOLIDE_CONFIG`), default. A key that nobody knows stops the start, with the nearest known one named: a
//! setting that silently does nothing is worse than none.

mod document;
mod environment;
mod keys;
mod origin;
pub mod units;
mod value;

pub use origin::{ConfigError, Ignored, Loaded, Origin, Setting, Sources};

use std::time::Duration;

use crate::broker::options::BrokerOptions;
use crate::console::options::ConsoleOptions;
use crate::observe::options::ObserveOptions;
use crate::proxy::operator::options::OperatorOptions;
use crate::proxy::options::ProxyOptions;
use crate::store::StoreOptions;

/// What a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything in one process.
    #[default]
    Standalone,
    /// Knows topics, groups and members of a cluster.
    Route,
    /// Holds messages of a cluster.
    Broker,
    /// Speaks with the clients of a cluster.
    Proxy,
}

impl Role {
    /// As the command is called, and as metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Route => "route",
            Self::Broker => "broker",
            Self::Proxy => "proxy",
        }
    }
}

/// Every room's options.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What the process is.
    pub role: Role,
    /// Time after the order to end in which everything is still served, and only readiness is denied.
    pub drain_delay: Duration,
    /// Where the other roles are, and how they are trusted.
    pub cluster: ClusterConfig,
    /// Request threads; none: one per core.
    pub lanes: Option<usize>,
    /// Log and fold.
    pub store: StoreOptions,
    /// Messaging.
    pub broker: BrokerOptions,
    /// Certificate of the public port.
    pub tls: TlsFiles,
    /// Public port.
    pub proxy: ProxyOptions,
    /// Internal port.
    pub admin: OperatorOptions,
    /// HTTP port.
    pub console: ConsoleOptions,
    /// Logs, metrics, traces.
    pub observe: ObserveOptions,
}

/// How the roles of a cluster find and trust each other.
#[derive(Clone, Debug, Default)]
pub struct ClusterConfig {
    /// `host:port` of the route service, or several with commas.
    pub route: Option<String>,
    /// `host:port` under which others reach this broker's internal port.
    pub advertise: Option<String>,
    /// File of the shared secret.
    pub secret_file: Option<String>,
    /// PEM file of the authority that signed every role's certificate.
    pub tls_ca: Option<String>,
    /// PEM file of this process's certificate chain.
    pub tls_certificate: Option<String>,
    /// PEM file of its private key.
    pub tls_key: Option<String>,
}

impl Config {
    /// The defaults of a role.
    #[must_use]
    pub fn of(role: Role) -> Self {
        let mut config = Self { role, ..Self::default() };
        config.observe.node_type = role.name();
        role.name().clone_into(&mut config.observe.node_id);
        config
    }
}

/// Files of the public port's certificate; none: a self-signed one is made at the first start.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// PEM file of the certificate chain.
    pub certificate: Option<String>,
    /// PEM file of its private key.
    pub key: Option<String>,
}

/// Puts a configuration together.
///
/// # Errors
/// [`ConfigError`] lists every unknown key, malformed value and value out of bounds.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    document::load(sources)
}
