//! A lean client of the public protocol: HTTP/2 straight from hyper, no queue between caller and connection, so that the
//! measuring side costs as little as it can.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Uri;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use crate::wire::rocketmq::{Code, Resource, Status};

/// Largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A server of the public protocol.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`.
    pub endpoint: String,
    /// Whether to speak TLS; any certificate is accepted, as the official clients do.
    pub tls: bool,
}

/// The generated client on one connection.
pub type Client = MessagingServiceClient<Connection>;

/// One HTTP/2 connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: http2::SendRequest<tonic::body::Body>,
}

impl tower::Service<http::Request<tonic::body::Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}

impl Target {
    /// Opens one connection. Belongs to the calling runtime.
    ///
    /// # Errors
    /// Nobody answers, or what answers speaks neither TLS nor HTTP/2 as asked.
    pub async fn connect(&self) -> Result<Client> {
        let connecting = async {
            let stream = TcpStream::connect(&self.endpoint).await?;
            stream.set_nodelay(true)?;
            if self.tls { self.secure(stream).await } else { handshake(TokioIo::new(stream)).await }
        };
        let requests = tokio::time::timeout(CONNECT_LIMIT, connecting)
            .await
            .with_context(|| format!("{} did not answer in {CONNECT_LIMIT:?}", self.endpoint))?
            .with_context(|| format!("cannot connect to {}", self.endpoint))?;
        let scheme = if self.tls { "https" } else { "http" };
        let origin: Uri = format!("{scheme}://{}", self.endpoint).parse().context("the endpoint is not host:port")?;
        Ok(MessagingServiceClient::with_origin(Connection { requests }, origin)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX))
    }

    async fn secure(&self, stream: TcpStream) -> Result<http2::SendRequest<tonic::body::Body>> {
        let provider = CryptoProvider::get_default().context("no TLS provider is installed")?.clone();
        let mut config = rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let host = self.endpoint.rsplit_once(':').map_or(self.endpoint.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        handshake(TokioIo::new(stream)).await
    }
}

async fn handshake<T>(io: TokioIo<T>) -> Result<http2::SendRequest<tonic::body::Body>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(8 * 1024 * 1024)
        .initial_connection_window_size(64 * 1024 * 1024)
        .handshake(io)
        .await?;
    tokio::spawn(async move {
        // Its callers see the error; here there is nobody to tell.
        let _ = connection.await;
    });
    Ok(requests)
}

/// The headers that every official client sends with each call.
#[derive(Clone, Debug)]
pub struct Identity {
    client_id: MetadataValue<Ascii>,
}

impl Identity {
    /// A client id that differs per process and `number`.
    #[must_use]
    pub fn new(number: usize) -> Self {
        let id = format!("bolide-bench@{}@{number}", std::process::id());
        Self { client_id: id.parse().unwrap_or_else(|_| MetadataValue::from_static("bolide-bench")) }
    }

    /// A request with these headers and a deadline.
    pub fn request<T>(&self, message: T, deadline: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let metadata: &mut MetadataMap = request.metadata_mut();
        metadata.insert("x-mq-client-id", self.client_id.clone());
        metadata.insert("x-mq-language", MetadataValue::from_static("RUST"));
        metadata.insert("x-mq-client-version", MetadataValue::from_static("5.0.0"));
        request.set_timeout(deadline);
        request
    }
}

/// A topic or group outside any namespace.
#[must_use]
pub fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// Fails unless the in-band status is OK.
///
/// # Errors
/// Code and message of the status.
pub fn expect_ok(status: Option<&Status>) -> Result<()> {
    let Some(status) = status else { bail!("the answer has no status") };
    if status.code == Code::Ok as i32 {
        return Ok(());
    }
    let name = Code::try_from(status.code).map_or("unknown code", |code| code.as_str_name());
    bail!("{name} ({}): {}", status.code, status.message)
}

/// Takes every certificate: a benchmark's target is named by its operator.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
