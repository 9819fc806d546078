//! What every request needs: the broker, the clock, budgets, sessions.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::link::Brokers;
use crate::observe::meters::Meters;
use crate::proxy::caller::Caller;
use crate::proxy::convert::filter::Compiled;
use crate::proxy::convert::route::Address;
use crate::proxy::options::ProxyOptions;
use crate::proxy::session::producers::Producers;
use crate::proxy::session::registry::Sessions;
use crate::runtime::budget::Budget;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::wire::rocketmq as v2;

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
    /// `options.advertise`, read.
    pub advertised: Option<Address>,
    /// The port that was really opened.
    pub bound: OnceLock<SocketAddr>,
}

impl Shared {
    /// The address under which this caller reaches us: the configured one, else the one it used, else the one it says it was
    /// configured with, else our end of its connection.
    pub fn address_for(&self, caller: &Caller, access_point: Option<&v2::Endpoints>) -> Address {
        self.advertised
            .clone()
            .or_else(|| caller.called_as.as_ref().and_then(Address::from_authority))
            .or_else(|| Address::from_access_point(access_point))
            .unwrap_or_else(|| self.own_address(caller))
    }

    /// What delivered messages name as the host that stored them.
    pub fn store_host(&self, caller: &Caller) -> String {
        self.advertised.clone().unwrap_or_else(|| self.own_address(caller)).to_string()
    }

    /// The same for a message that goes out unasked.
    pub fn own_store_host(&self) -> String {
        let socket = self.bound.get().copied().unwrap_or(self.options.listen);
        self.advertised.clone().unwrap_or_else(|| Address::from_socket(socket)).to_string()
    }

    fn own_address(&self, caller: &Caller) -> Address {
        let socket = caller.peer.local.or_else(|| self.bound.get().copied()).unwrap_or(self.options.listen);
        Address::from_socket(socket)
    }
}
