//! The connection of the admin commands.

use std::time::Duration;

use clap::Args;
use http::uri::Authority;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::cli::failure::{Failure, INTERNAL_HINT};
use crate::trust::{TlsPem, Trust};
use crate::wire::admin::admin_client::AdminClient;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Longer than the broker waits for a change to be durable.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A connection on which every call shows what the server asks for.
pub type Channel = InterceptedService<tonic::transport::Channel, Stamp>;

/// Adds the cluster's secret to calls.
#[derive(Clone, Debug)]
pub struct Stamp(Trust);

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.0.stamp(&mut request);
        Ok(request)
    }
}

/// What an internal port may ask for. The variables are those of the server's own settings.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustArgs {
    /// File with the cluster's secret
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_SECRET_FILE", value_name = "FILE", hide_env_values = true)]
    secret_file: Option<String>,
    /// PEM file of the authority that signed the server's certificate; with the next two: mutual TLS
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<String>,
    /// PEM file of the certificate to show
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<String>,
    /// PEM file of its private key
    #[arg(long, global = true, env = "BOLIDE_CLUSTER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<String>,
}

impl TrustArgs {
    fn trust(&self) -> Result<Trust, Failure> {
        let given = |file: &Option<String>| file.clone().filter(|file| !file.is_empty() && file != "none");
        let read = |option: &str, file: &str| {
            std::fs::read(file).map_err(|error| Failure::Usage(format!("{option} {file}: {error}")))
        };
        let mut trust = Trust::none();
        if let Some(file) = given(&self.secret_file) {
            let text = String::from_utf8(read("--secret-file", &file)?).unwrap_or_default();
            let refused = |error| Failure::Usage(format!("--secret-file {file}: {error}"));
            trust = Trust::with_secret(&text).map_err(refused)?;
        }
        match (given(&self.tls_ca), given(&self.tls_certificate), given(&self.tls_key)) {
            (None, None, None) => Ok(trust),
            (Some(ca), Some(certificate), Some(key)) => {
                let ca = read("--tls-ca", &ca)?;
                let certificate = read("--tls-certificate", &certificate)?;
                let key = read("--tls-key", &key)?;
                let pem = TlsPem { ca: &ca, certificate: &certificate, key: &key };
                let refused = |error| Failure::Usage(format!("--tls-ca, --tls-certificate, --tls-key: {error}"));
                trust.and_tls(pem).map_err(refused)
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
/// [`Failure::Usage`] when the address has no such form or a file cannot be used, [`Failure::Unreachable`] when nobody answers.
pub async fn admin(address: &str, trust: &TrustArgs) -> Result<AdminClient<Channel>, Failure> {
    check_host_port("--address", address)?;
    let trust = trust.trust()?;
    let endpoint = trust
        .endpoint(address)
        .map_err(|error| Failure::Usage(format!("--address {address}: {error}")))?
        .connect_timeout(CONNECT_LIMIT)
        .timeout(CALL_LIMIT);
    let unreachable =
        |error| Failure::Unreachable { address: address.to_owned(), reason: root_cause(&error), hint: INTERNAL_HINT };
    let channel = endpoint.connect().await.map_err(unreachable)?;
    Ok(AdminClient::with_interceptor(channel, Stamp(trust)))
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
