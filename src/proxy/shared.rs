//! What every request needs: the broker, the clock, budgets, sessions.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::link::Brokers;
use crate::observe::meters::Meters;
use crate::proxy::caller::{Caller, Through};
use crate::proxy::convert::filter::Compiled;
use crate::proxy::convert::route::Address;
use crate::proxy::options::ProxyOptions;
use crate::proxy::session::producers::Producers;
use crate::proxy::session::registry::Sessions;
use crate::runtime::budget::Budget;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::wire::rocketmq as v2;

/// A port for clients, and what routes name to those who come through it.
#[derive(Debug)]
pub struct Door {
    /// As configured.
    pub listen: SocketAddr,
    /// `host:port` that was configured to be named.
    pub advertised: Option<Address>,
    /// What was really opened.
    pub bound: OnceLock<SocketAddr>,
}

/// One per proxy.
#[derive(Debug)]
pub struct Shared {
    pub brokers: Brokers,
    pub clock: Clock,
    pub tasks: Tasks,
    pub meters: Arc<Meters>,
    pub options: ProxyOptions,
    pub sessions: Sessions,
    /// Producers with an open telemetry stream.
    pub producers: Producers,
    /// Compiled SQL expressions.
    pub filters: Compiled,
    /// Message bytes of sends that wait for their answer.
    pub send_bytes: Budget,
    /// Bytes of requests that are still arriving.
    pub arriving_bytes: Budget,
    /// Open telemetry streams.
    pub telemetry_streams: Budget,
    /// Open connections.
    pub connections: Budget,
    /// The first port.
    pub door: Door,
    /// The port for clients outside.
    pub external_door: Option<Door>,
}

impl Shared {
    fn door(&self, through: Through) -> &Door {
        match (through, &self.external_door) {
            (Through::External, Some(door)) => door,
            _ => &self.door,
        }
    }

    /// The address under which this caller reaches us: the one configured for the port it came through, else the one it used,
    /// else the one it says it was configured with, else our end of its connection.
    pub fn address_for(&self, caller: &Caller, access_point: Option<&v2::Endpoints>) -> Address {
        let door = self.door(caller.peer.through);
        door.advertised
            .clone()
            .or_else(|| caller.called_as.as_ref().and_then(Address::from_authority))
            .or_else(|| Address::from_access_point(access_point))
            .unwrap_or_else(|| own_address(door, caller))
    }

    /// What delivered messages name as the host that stored them.
    pub fn store_host(&self, caller: &Caller) -> String {
        let door = self.door(caller.peer.through);
        door.advertised.clone().unwrap_or_else(|| own_address(door, caller)).to_string()
    }

    /// The same for a message that goes out unasked.
    pub fn own_store_host(&self) -> String {
        let socket = self.door.bound.get().copied().unwrap_or(self.door.listen);
        self.door.advertised.clone().unwrap_or_else(|| Address::from_socket(socket)).to_string()
    }
}

fn own_address(door: &Door, caller: &Caller) -> Address {
    let socket = caller.peer.local.or_else(|| door.bound.get().copied()).unwrap_or(door.listen);
    Address::from_socket(socket)
}
