//! `server.*` and `network.*`: where it listens, how it treats connections.

use super::{KIB, Key, MIB, millis, seconds};
use crate::config::value::Access;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "server.data",
        help: "Directory of everything that is kept. One process at a time.",
        access: Access::Path { at: |c| &mut c.store.log.dir },
    },
    Key {
        name: "server.listen",
        help: "Where clients connect, TLS and plaintext alike. 0.0.0.0 also takes IPv6 where the system has it.",
        access: Access::Address { at: |c| &mut c.proxy.listen },
    },
    Key {
        name: "server.external_listen",
        help: "A second port for clients, those outside, to whom routes name server.external_advertise. Not used by route and broker.",
        access: Access::OptionalAddress { at: |c| &mut c.proxy.external_listen },
    },
    Key {
        name: "server.internal",
        help: "Where `bolide admin` and the other roles connect. Not for public networks; see cluster.secret_file and cluster.tls_ca.",
        access: Access::Address { at: |c| &mut c.admin.listen },
    },
    Key {
        name: "server.http",
        help: "Where /healthz, /readyz and /metrics are served.",
        access: Access::Address { at: |c| &mut c.console.listen },
    },
    Key {
        name: "server.advertise",
        help: "host:port that routes name to clients. None: the address that the asking client used, which suits nearly everyone.",
        access: Access::OptionalText { at: |c| &mut c.proxy.advertise },
    },
    Key {
        name: "server.external_advertise",
        help: "The same for clients that came through server.external_listen.",
        access: Access::OptionalText { at: |c| &mut c.proxy.external_advertise },
    },
    Key {
        name: "server.broker_name",
        help: "Name of the broker in routes and in its cluster. Clients remember it, so it should never change.",
        access: Access::Text { at: |c| &mut c.proxy.broker_name },
    },
    Key {
        name: "server.tls_certificate",
        help: "PEM file of the certificate chain of the public port. None: a self-signed one is made at the first start.",
        access: Access::OptionalText { at: |c| &mut c.tls.certificate },
    },
    Key {
        name: "server.tls_key",
        help: "PEM file of the private key that belongs to it.",
        access: Access::OptionalText { at: |c| &mut c.tls.key },
    },
    Key {
        name: "server.lanes",
        help: "Request threads. None: one per core.",
        access: Access::OptionalCount { at: |c| &mut c.lanes, min: 1, max: 256 },
    },
    Key {
        name: "server.drain_delay",
        help: "Time after SIGTERM in which everything is still served while /readyz says no, so that load balancers look away first.",
        access: Access::Duration { at: |c| &mut c.drain_delay, min: millis(0), max: seconds(3600) },
    },
    Key {
        name: "server.drain_timeout",
        help: "Time that open requests then have to end.",
        access: Access::Duration { at: |c| &mut c.proxy.drain_timeout, min: millis(0), max: seconds(3600) },
    },
    Key {
        name: "network.handshake_timeout",
        help: "Time a new connection has for its TLS handshake and first HTTP/2 bytes.",
        access: Access::Duration { at: |c| &mut c.proxy.handshake_timeout, min: millis(100), max: seconds(300) },
    },
    Key {
        name: "network.keepalive_interval",
        help: "Silence after which a connection is asked for a sign of life.",
        access: Access::Duration { at: |c| &mut c.proxy.keepalive_interval, min: seconds(1), max: seconds(3600) },
    },
    Key {
        name: "network.keepalive_timeout",
        help: "Time it has to give one before it is closed.",
        access: Access::Duration { at: |c| &mut c.proxy.keepalive_timeout, min: seconds(1), max: seconds(3600) },
    },
    Key {
        name: "network.stream_window",
        help: "Bytes that a client may send ahead on one request.",
        access: Access::SizeU32 { at: |c| &mut c.proxy.stream_window_bytes, min: 64 * KIB, max: 1024 * MIB },
    },
    Key {
        name: "network.connection_window",
        help: "Bytes that a client may send ahead on one connection.",
        access: Access::SizeU32 { at: |c| &mut c.proxy.connection_window_bytes, min: 64 * KIB, max: 1024 * MIB },
    },
];
