//! Routes and assignments: queues of a topic, and the address under which this caller reaches us.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::uri::Authority;

use crate::model::topic::{Permission, Topic, TopicType};
use crate::wire::rocketmq as v2;

/// Assignment id that stands for "any queue of this broker" (rule C14).
const ANY_QUEUE: i32 = -1;

/// One address of one host. Several in one list would make some clients send an `:authority` that HTTP/2 forbids, so a route
/// never names more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Reads `host:port`, the host an IPv4 address, an IPv6 address in brackets or a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_authority(&text.parse().ok()?)
    }

    /// An authority counts only with a port: some clients send a placeholder without one.
    pub fn from_authority(authority: &Authority) -> Option<Self> {
        let port = authority.port_u16().filter(|&port| port != 0)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }

    /// The access point that a client says it was configured with, when it is exactly one usable address.
    pub fn from_access_point(endpoints: Option<&v2::Endpoints>) -> Option<Self> {
        let [address] = endpoints?.addresses.as_slice() else { return None };
        let port = u16::try_from(address.port).ok().filter(|&port| port != 0)?;
        let usable = !address.host.is_empty() && address.host.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self { host: address.host.clone(), port })
    }

    /// Our end of a connection.
    pub fn from_socket(socket: SocketAddr) -> Self {
        Self { host: socket.ip().to_canonical().to_string(), port: socket.port() }
    }

    /// The wire's form, with the scheme that fits the host.
    pub fn endpoints(&self) -> v2::Endpoints {
        let scheme = match self.host.parse() {
            Ok(IpAddr::V4(_)) => v2::AddressScheme::IPv4,
            Ok(IpAddr::V6(_)) => v2::AddressScheme::IPv6,
            Err(_) => v2::AddressScheme::DomainName,
        };
        let address = v2::Address { host: self.host.clone(), port: i32::from(self.port) };
        v2::Endpoints { scheme: scheme as i32, addresses: vec![address] }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a topic takes, as clients check it before they send.
fn accepted(kind: TopicType) -> Vec<i32> {
    let kinds: &[v2::MessageType] = match kind {
        TopicType::Normal => &[v2::MessageType::Normal],
        TopicType::Fifo => &[v2::MessageType::Fifo],
        TopicType::Delay => &[v2::MessageType::Delay],
        TopicType::Transaction => &[v2::MessageType::Transaction],
        TopicType::Priority => &[v2::MessageType::Priority],
        TopicType::Lite => &[v2::MessageType::Lite],
        // Not the younger kinds: a client that does not know them drops the whole route.
        TopicType::Mixed => {
            &[v2::MessageType::Normal, v2::MessageType::Fifo, v2::MessageType::Delay, v2::MessageType::Transaction]
        }
    };
    kinds.iter().map(|&kind| kind as i32).collect()
}

fn wire_permission(permission: Permission) -> v2::Permission {
    match (permission.readable, permission.writable) {
        (true, true) => v2::Permission::ReadWrite,
        (true, false) => v2::Permission::Read,
        (false, true) => v2::Permission::Write,
        (false, false) => v2::Permission::None,
    }
}

/// Builds the queues of one topic for one caller.
#[derive(Debug)]
pub struct RouteBuilder<'a> {
    /// Echoed exactly as the client wrote it.
    pub resource: Option<v2::Resource>,
    /// The topic.
    pub topic: &'a Topic,
    /// Names of the brokers that have its queues, each as many as the topic's settings say.
    pub homes: &'a [Arc<str>],
    /// Where the caller reaches them: all behind one address.
    pub address: &'a Address,
}

impl RouteBuilder<'_> {
    fn queue(&self, home: &str, id: i32, permission: v2::Permission) -> v2::MessageQueue {
        v2::MessageQueue {
            topic: self.resource.clone(),
            id,
            permission: permission as i32,
            broker: Some(v2::Broker { name: home.to_owned(), id: 0, endpoints: Some(self.address.endpoints()) }),
            accept_message_types: accepted(self.topic.topic_type),
        }
    }

    fn places(&self) -> impl Iterator<Item = (&str, i32)> {
        let ids = 0..i32::try_from(self.topic.queues).unwrap_or(i32::MAX);
        self.homes.iter().flat_map(move |home| ids.clone().map(move |id| (&**home, id)))
    }

    /// Every queue, broker by broker, ascending from 0. The list must be equal at every call, or clients rebuild their state.
    pub fn queues(&self) -> Vec<v2::MessageQueue> {
        let permission = wire_permission(self.topic.permission);
        self.places().map(|(home, id)| self.queue(home, id, permission)).collect()
    }

    /// One entry for all of the topic, since one receive covers every queue of every broker; or one per queue for an ordered group.
    pub fn assignments(&self, ordered: bool) -> Vec<v2::Assignment> {
        let entry = |(home, id)| v2::Assignment { message_queue: Some(self.queue(home, id, v2::Permission::Read)) };
        if ordered {
            return self.places().map(entry).collect();
        }
        self.homes.first().map(|home| entry((&**home, ANY_QUEUE))).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::TopicName;
    use crate::model::position::TopicId;
    use crate::model::topic::Promise;

    fn topic(topic_type: TopicType, permission: Permission) -> Topic {
        Topic {
            id: TopicId(1),
            name: TopicName::trusted("", "t"),
            topic_type,
            queues: 3,
            permission,
            promise: Promise::Durable,
            retention: None,
            lite_ttl: None,
        }
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn the_scheme_fits_the_host() {
        let of = |text: &str| {
            let endpoints = address(text).endpoints();
            (endpoints.scheme(), endpoints.addresses[0].host.clone(), endpoints.addresses[0].port)
        };
        assert_eq!(of("127.0.0.1:8081"), (v2::AddressScheme::IPv4, "127.0.0.1".into(), 8081));
        assert_eq!(of("[::1]:8081"), (v2::AddressScheme::IPv6, "::1".into(), 8081));
        assert_eq!(of("broker.example:80"), (v2::AddressScheme::DomainName, "broker.example".into(), 80));
    }

    #[test]
    fn unusable_authorities_are_none() {
        for text in ["IPAuthority", "localhost", "host:0", "", "a:1,b:2"] {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
        let several = v2::Endpoints {
            scheme: 1,
            addresses: vec![
                v2::Address { host: "10.0.0.1".into(), port: 1 },
                v2::Address { host: "10.0.0.2".into(), port: 2 },
            ],
        };
        assert_eq!(Address::from_access_point(Some(&several)), None);
        assert_eq!(Address::from_access_point(None), None);
    }

    #[test]
    fn a_route_lists_every_queue_from_0_and_echoes_the_topic() {
        let resource = v2::Resource { resource_namespace: "ns".into(), name: "t".into() };
        let topic = topic(TopicType::Mixed, Permission::default());
        let address = address("127.0.0.1:8081");
        let builder = RouteBuilder {
            resource: Some(resource.clone()),
            topic: &topic,
            homes: &["broker-0".into()],
            address: &address,
        };
        let queues = builder.queues();
        assert_eq!(queues.iter().map(|queue| queue.id).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(queues, builder.queues());
        assert_eq!(queues[0].topic, Some(resource));
        assert_eq!(queues[0].permission(), v2::Permission::ReadWrite);
        assert_eq!(queues[0].accept_message_types, [1, 2, 3, 4]);
        let broker = queues[0].broker.clone().unwrap();
        assert_eq!((broker.name.as_str(), broker.id), ("broker-0", 0));
        let ids = |ordered| {
            let ids = builder.assignments(ordered).into_iter().map(|entry| entry.message_queue.unwrap().id);
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(false), [-1]);
        assert_eq!(ids(true), [0, 1, 2]);
    }

    #[test]
    fn permission_and_kind_are_never_unspecified() {
        for readable in [false, true] {
            for writable in [false, true] {
                assert_ne!(wire_permission(Permission { readable, writable }), v2::Permission::Unspecified);
            }
        }
        for kind in [
            TopicType::Normal,
            TopicType::Fifo,
            TopicType::Delay,
            TopicType::Transaction,
            TopicType::Priority,
            TopicType::Lite,
        ] {
            assert_eq!(accepted(kind).len(), 1);
            assert_ne!(accepted(kind)[0], 0);
        }
    }
}
