//! The connection of the admin commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::uri::Authority;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::cli::failure::{Failure, INTERNAL_HINT};
use crate::trust::{TlsPem, Trust};
use crate::wire::admin::admin_client::AdminClient;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than the broker waits for a change to be durable.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Largest answer: the lag of a group on thousands of topics is some megabytes.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// A client of the operators' service.
pub type Client = AdminClient<InterceptedService<Channel, Stamp>>;

/// Adds to each call what the server asks for.
#[derive(Clone, Debug)]
pub struct Stamp(Trust);

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.0.stamp(&mut request);
        Ok(request)
    }
}

/// What the roles of a cluster ask of each other. Inside a pod of the cluster the variables are set already.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustArgs {
    /// File with the secret of the cluster
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_SECRET_FILE", value_name = "FILE", help_heading = TRUST)]
    secret_file: Option<PathBuf>,
    /// PEM file of the authority of the cluster; together with the two below, when its internal ports speak TLS
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_TLS_CA", value_name = "FILE", help_heading = TRUST)]
    tls_ca: Option<PathBuf>,
    /// PEM file of a certificate that the authority signed
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_TLS_CERTIFICATE", value_name = "FILE", help_heading = TRUST)]
    tls_certificate: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_TLS_KEY", value_name = "FILE", help_heading = TRUST)]
    tls_key: Option<PathBuf>,
}

const TRUST: &str = "Trust in a cluster";

impl TrustArgs {
    fn trust(&self) -> Result<Trust, Failure> {
        let read = |option: &str, path: &PathBuf| {
            std::fs::read(path).map_err(|error| Failure::Usage(format!("{option} {}: {error}", path.display())))
        };
        let given = |path: &Option<PathBuf>| {
            path.as_ref().filter(|path| !["", "none"].contains(&path.to_str().unwrap_or_default())).cloned()
        };
        let mut trust = Trust::none();
        if let Some(path) = given(&self.secret_file) {
            let secret = String::from_utf8_lossy(&read("--secret-file", &path)?).into_owned();
            let refused = |error| Failure::Usage(format!("--secret-file {}: {error}", path.display()));
            trust = Trust::with_secret(&secret).map_err(refused)?;
        }
        match (given(&self.tls_ca), given(&self.tls_certificate), given(&self.tls_key)) {
            (None, None, None) => Ok(trust),
            (Some(ca), Some(certificate), Some(key)) => {
                let (ca, certificate) = (read("--tls-ca", &ca)?, read("--tls-certificate", &certificate)?);
                let key = read("--tls-key", &key)?;
                let pem = TlsPem { ca: &ca, certificate: &certificate, key: &key };
                trust.and_tls(pem).map_err(|error| Failure::Usage(format!("--tls-…: {error}")))
            }
            _ => Err(Failure::Usage("--tls-ca, --tls-certificate and --tls-key go together".to_owned())),
        }
    }
}

/// Where the admin service is, for commands whose first concern is another one.
#[derive(Args, Clone, Debug)]
pub struct AtArgs {
    /// Where a missing topic is created
    #[arg(long, env = "BOLIDE_ADDRESS", default_value = "127.0.0.1:8082", value_name = "HOST:PORT")]
    pub address: String,
    /// What it asks for.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Connects to `host:port` of the internal listener.
///
/// # Errors
/// [`Failure::Usage`] when the address has no such form, [`Failure::Unreachable`] when nobody answers.
pub async fn admin(address: &str, trust: &TrustArgs) -> Result<Client, Failure> {
    check_host_port("--address", address)?;
    let trust = trust.trust()?;
    let endpoint = trust
        .endpoint(address)
        .map_err(|error| Failure::Usage(format!("--address: {error}")))?
        .connect_timeout(CONNECT_LIMIT)
        .timeout(CALL_LIMIT);
    let unreachable =
        |error| Failure::Unreachable { address: address.to_owned(), reason: root_cause(&error), hint: INTERNAL_HINT };
    let channel = endpoint.connect().await.map_err(unreachable)?;
    Ok(AdminClient::with_interceptor(channel, Stamp(trust)).max_decoding_message_size(ANSWER_MAX))
}

/// Whether `address` is a host and a port, and nothing else.
///
/// # Errors
/// [`Failure::Usage`], naming `option`.
pub fn check_host_port(option: &str, address: &str) -> Result<(), Failure> {
    let fits = address.parse::<Authority>().is_ok_and(|authority| {
        !authority.host().is_empty() && authority.port_u16().is_some() && !address.contains('@')
    });
    if fits { Ok(()) } else { Err(Failure::Usage(format!("{option} {address} is not HOST:PORT"))) }
}

/// The innermost error: tonic's own words ("transport error") say nothing.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
