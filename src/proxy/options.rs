//! Settings that the proxy obeys.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// See each field. All apply at start.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where clients connect, TLS and plaintext alike. Port 0 picks a free one. Default `0.0.0.0:8081`.
    pub listen: SocketAddr,
    /// `host:port` that routes name. None: the address that the asking client used, which suits every client that can reach
    /// this process at all. One address or one DNS name, never a list: clients that are given several put all of them into
    /// `:authority`, which HTTP/2 servers must refuse. Users configure their clients with one address for the same reason.
    pub advertise: Option<String>,
    /// A second port, for clients outside. None: there is none, which is the default.
    pub external_listen: Option<SocketAddr>,
    /// What `advertise` is, for clients that came through the second port.
    pub external_advertise: Option<String>,
    /// Name of the broker in routes. Clients keep it for the life of a route, so it must not change. Default `broker-0`.
    pub broker_name: String,
    /// Most open connections; more are closed at once. Default 10 000.
    pub connections_max: u64,
    /// Time a new connection has for its TLS handshake and the first HTTP/2 bytes. Default 5 s.
    pub handshake_timeout: Duration,
    /// Silence after which a connection is asked for a sign of life. Default 20 s.
    pub keepalive_interval: Duration,
    /// Time it has to give one. Default 20 s.
    pub keepalive_timeout: Duration,
    /// Most open requests of one connection. One connection carries all long polls of a client. Default 20 000, never below 10 000.
    pub streams_per_connection_max: u32,
    /// Bytes a client may send ahead on one request. Default 2 MiB.
    pub stream_window_bytes: u32,
    /// Bytes a client may send ahead on one connection. Default 8 MiB.
    pub connection_window_bytes: u32,
    /// Largest request in bytes. Default 64 MiB (rule C2).
    pub request_bytes_max: usize,
    /// Most message bytes of sends that wait for their answer; more get 42900. Default 256 MiB.
    pub send_bytes_in_flight_max: u64,
    /// Most bytes of unfinished requests; more are refused as `RESOURCE_EXHAUSTED`, before they are understood. Default 256 MiB;
    /// never below two of the largest requests.
    pub arriving_bytes_max: u64,
    /// Most open telemetry streams; more get 42900. Default 20 000.
    pub telemetry_streams_max: u64,
    /// Most clients whose settings are remembered. Default 50 000.
    pub sessions_max: usize,
    /// Shortest invisible duration of a receive that is not auto-renewed. Default 10 s (rule C9).
    pub invisible_min: Duration,
    /// Longest invisible duration. Default 12 h (rule C9).
    pub invisible_max: Duration,
    /// Shortest wait of an empty receive. Default 5 s (rule C7).
    pub long_poll_min: Duration,
    /// Longest wait of an empty receive. Default 20 s (rule C7).
    pub long_poll_max: Duration,
    /// How far ahead a delivery time may lie. Default 24 h, at most 10 years (rule C20).
    pub delivery_horizon: Duration,
    /// Time that open requests have to end after draining began. Default 5 s.
    pub drain_timeout: Duration,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081)),
            advertise: None,
            external_listen: None,
            external_advertise: None,
            broker_name: "broker-0".to_owned(),
            connections_max: 10_000,
            handshake_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(20),
            streams_per_connection_max: 20_000,
            stream_window_bytes: 2 * 1024 * 1024,
            connection_window_bytes: 8 * 1024 * 1024,
            request_bytes_max: 64 * 1024 * 1024,
            send_bytes_in_flight_max: 256 * 1024 * 1024,
            arriving_bytes_max: 256 * 1024 * 1024,
            telemetry_streams_max: 20_000,
            sessions_max: 50_000,
            invisible_min: Duration::from_secs(10),
            invisible_max: Duration::from_secs(12 * 60 * 60),
            long_poll_min: Duration::from_secs(5),
            long_poll_max: Duration::from_secs(20),
            delivery_horizon: Duration::from_secs(24 * 60 * 60),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
