//! Who calls: what the headers and the connection say, read once per request.
//!
//! Headers by which the reference system lets its own interceptors speak (`x-mq-channel-id`, `x-mq-authorization-ak`,
//! `rpc-remote-address`, `rpc-local-address`) are never read: a client could send them itself.

use std::net::SocketAddr;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, HeaderName};
use tonic::Extensions;
use tonic::metadata::MetadataMap;

use crate::broker::api::ClientId;
use crate::proxy::status::{self, Refusal};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

// Statics: a name given as text would be parsed at every look-up.
static CLIENT_ID: HeaderName = HeaderName::from_static("x-mq-client-id");
static NAMESPACE: HeaderName = HeaderName::from_static("x-mq-namespace");
static LANGUAGE: HeaderName = HeaderName::from_static("x-mq-language");
static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Longest client id. The official ones have about 60 bytes.
const CLIENT_ID_BYTES_MAX: usize = 512;

/// The port that a connection came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Through {
    /// The first one.
    #[default]
    Internal,
    /// The one for clients outside.
    External,
}

/// What is known of the connection that a request came over.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerInfo {
    /// The client's end.
    pub peer: Option<SocketAddr>,
    /// Our end.
    pub local: Option<SocketAddr>,
    /// Which port.
    pub through: Through,
}

/// `:authority` of a request, kept where routes need it.
#[derive(Clone, Debug)]
pub struct CalledAs(pub Authority);

/// Which official client calls, as far as it matters for work-arounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Obeys a command to reconnect.
    Java,
    /// Calls itself `HTTP` in headers. Obeys a command to reconnect.
    Node,
    /// Heartbeats every 30 s only, and dies of young status codes.
    Rust,
    /// Understands only a table of delays.
    Python,
    /// Collects every settings answer.
    Cpp,
    /// Needs nothing special.
    #[default]
    Other,
}

impl Language {
    /// From header `x-mq-language`.
    fn from_header(text: &str) -> Self {
        match text {
            "JAVA" => Self::Java,
            "HTTP" | "NODE_JS" | "NODEJS" => Self::Node,
            "RUST" => Self::Rust,
            "PYTHON" => Self::Python,
            "CPP" => Self::Cpp,
            _ => Self::Other,
        }
    }

    /// From `user_agent.language`, which is more exact than the header; the header decides when it is absent.
    pub fn from_user_agent(agent: Option<&v2::Ua>, header: Self) -> Self {
        match agent.map(v2::Ua::language) {
            Some(v2::Language::Java) => Self::Java,
            Some(v2::Language::NodeJs) => Self::Node,
            Some(v2::Language::Rust) => Self::Rust,
            Some(v2::Language::Python) => Self::Python,
            Some(v2::Language::Cpp) => Self::Cpp,
            None | Some(v2::Language::Unspecified) => header,
            Some(_) => Self::Other,
        }
    }
}

/// The caller of one request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Client id; `None` when absent or blank.
    client: Option<ClientId>,
    /// Whether a client id was given at all.
    names_itself: bool,
    /// Namespace of header `x-mq-namespace`, or empty.
    pub namespace: String,
    /// Client language.
    pub language: Language,
    /// Time the call had when it arrived; `None` when the client set no limit.
    pub time_limit: Option<Duration>,
    /// Connection.
    pub peer: PeerInfo,
    /// `:authority`, kept for route queries only.
    pub called_as: Option<Authority>,
}

impl Caller {
    /// Reads headers and connection.
    pub fn of(metadata: &MetadataMap, extensions: &Extensions) -> Self {
        let headers: &HeaderMap = metadata.as_ref();
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let client_id = headers.get(&CLIENT_ID);
        let client = client_id.and_then(|value| value.to_str().ok()).filter(|id| is_client_id(id));
        Self {
            client: client.map(|id| ClientId(id.into())),
            names_itself: client_id.is_some(),
            namespace: text(&NAMESPACE).map(str::trim).unwrap_or_default().to_owned(),
            language: text(&LANGUAGE).map(Language::from_header).unwrap_or_default(),
            time_limit: text(&TIMEOUT).and_then(parse_grpc_timeout),
            peer: extensions.get::<PeerInfo>().copied().unwrap_or_default(),
            called_as: extensions.get::<CalledAs>().map(|called| called.0.clone()),
        }
    }

    /// The client id, where one is given.
    pub fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    /// The client id.
    ///
    /// # Errors
    /// `CLIENT_ID_REQUIRED` when there is none.
    pub fn require_client(&self) -> Result<&ClientId, Refusal> {
        self.client
            .as_ref()
            .ok_or_else(|| Refusal::new(Code::ClientIdRequired, "client id cannot be empty, nor longer than 512 bytes"))
    }

    /// Nothing where the call carries no client id at all.
    ///
    /// # Errors
    /// `CLIENT_ID_REQUIRED` when there is one that is no id.
    pub fn allow_nameless(&self) -> Result<(), Refusal> {
        if self.names_itself { self.require_client().map(|_| ()) } else { Ok(()) }
    }

    /// Whether this client's heartbeats are rare.
    pub fn heartbeats_slowly(&self) -> bool {
        self.language == Language::Rust
    }

    /// A status in codes that this client knows.
    pub fn status(&self, code: Code, text: impl Into<String>) -> v2::Status {
        status::status(code, text, self.language == Language::Rust)
    }

    /// The status of a refusal, in codes that this client knows.
    pub fn refused(&self, refusal: &Refusal) -> v2::Status {
        self.status(refusal.code, refusal.text.as_ref())
    }
}

/// Anything that is not blank, within a bound: many places keep it.
fn is_client_id(id: &str) -> bool {
    !id.trim().is_empty() && id.len() <= CLIENT_ID_BYTES_MAX
}

/// `grpc-timeout`: at most eight digits and a unit. Anything else is no limit, as the transport sees it too.
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(headers: &[(&'static str, &str)]) -> Caller {
        let mut metadata = MetadataMap::new();
        for (key, value) in headers {
            metadata.insert(*key, value.parse().unwrap());
        }
        Caller::of(&metadata, &Extensions::new())
    }

    #[test]
    fn all_units_of_the_time_limit_are_read_and_nonsense_is_no_limit() {
        let cases = [
            ("31536000M", Some(Duration::from_secs(31_536_000 * 60))),
            ("2H", Some(Duration::from_secs(7200))),
            ("3S", Some(Duration::from_secs(3))),
            ("2999840u", Some(Duration::from_micros(2_999_840))),
            ("5m", Some(Duration::from_millis(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5x", None),
            ("-5S", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_grpc_timeout(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_blank_client_id_is_none() {
        assert!(caller(&[]).require_client().is_err());
        assert!(caller(&[("x-mq-client-id", "  ")]).require_client().is_err());
        let named = caller(&[("x-mq-client-id", "host@1#0_x")]);
        assert_eq!(&*named.require_client().unwrap().0, "host@1#0_x");
    }

    #[test]
    fn only_rust_gets_old_codes() {
        let rust = caller(&[("x-mq-language", "RUST")]);
        assert_eq!(rust.status(Code::MessageBodyEmpty, "").code, Code::MessageBodyTooLarge as i32);
        let java = caller(&[("x-mq-language", "JAVA")]);
        assert_eq!(java.status(Code::MessageBodyEmpty, "").code, Code::MessageBodyEmpty as i32);
    }

    #[test]
    fn the_user_agent_outranks_the_header_and_node_calls_itself_http() {
        assert_eq!(caller(&[("x-mq-language", "HTTP")]).language, Language::Node);
        let agent = v2::Ua { language: v2::Language::Cpp as i32, ..Default::default() };
        assert_eq!(Language::from_user_agent(Some(&agent), Language::Node), Language::Cpp);
        assert_eq!(Language::from_user_agent(None, Language::Node), Language::Node);
        assert_eq!(Language::from_user_agent(Some(&v2::Ua::default()), Language::Node), Language::Node);
    }
}
