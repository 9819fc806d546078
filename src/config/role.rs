//! What a process is, and how it finds the others of its cluster.

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
