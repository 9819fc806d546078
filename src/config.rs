//! One document made of every room's options: where each value comes from, what it may be, what it means.
//!
//! Nothing needs to be configured. A value is taken from the first of: command line flag, environment (`BOLIDE_<SECTION>_<KEY>`),
//! file (`--config` or `BOLIDE_CONFIG`), default. A key that nobody knows stops the start, with the nearest known one named: a
//! setting that silently does nothing is worse than none.

mod document;
mod environment;
mod keys;
mod origin;
mod role;
pub mod units;
mod value;

pub use origin::{ConfigError, Ignored, Loaded, Origin, Setting, Sources};
pub use role::{ClusterConfig, Role};

use std::time::Duration;

use crate::broker::options::BrokerOptions;
use crate::console::options::ConsoleOptions;
use crate::observe::options::ObserveOptions;
use crate::proxy::operator::options::OperatorOptions;
use crate::proxy::options::ProxyOptions;
use crate::store::StoreOptions;

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
