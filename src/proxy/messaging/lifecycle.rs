//! Heartbeat and NotifyClientTermination. A client that nobody knows gets OK: a server never depends on what it once saw (C25).

use crate::proxy::call::Call;
use crate::proxy::convert::names;
use crate::proxy::status::{Refusal, ok};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::ClientType;

/// The sign of life itself was noted when the call began. One client's recovery sends this without any header, and needs OK.
pub fn heartbeat(call: &Call, request: &v2::HeartbeatRequest) -> v2::HeartbeatResponse {
    if let Some(client) = call.caller.client() {
        call.shared.sessions.heartbeat(client, call.shared.clock.steady());
    }
    let status = match call.caller.allow_nameless().and_then(|()| check_group(call, request)) {
        Ok(()) => ok(),
        Err(refusal) => call.caller.refused(&refusal),
    };
    v2::HeartbeatResponse { status: Some(status) }
}

fn check_group(call: &Call, request: &v2::HeartbeatRequest) -> Result<(), Refusal> {
    let consumes = match request.client_type() {
        ClientType::PushConsumer
        | ClientType::SimpleConsumer
        | ClientType::PullConsumer
        | ClientType::LitePushConsumer
        | ClientType::LiteSimpleConsumer => true,
        ClientType::Producer | ClientType::Unspecified => false,
    };
    match &request.group {
        Some(group) if consumes && !group.name.is_empty() => names::group(&call.caller, Some(group)).map(|_| ()),
        _ => Ok(()),
    }
}

/// The client's auto-renewed messages return at once.
pub async fn terminate(call: &Call) -> v2::NotifyClientTerminationResponse {
    let status = match call.caller.require_client() {
        Ok(client) => {
            call.shared.sessions.forget(client);
            call.shared.producers.forget(client);
            call.shared.brokers.client_terminated(client).await;
            ok()
        }
        Err(refusal) => call.caller.refused(&refusal),
    };
    v2::NotifyClientTerminationResponse { status: Some(status) }
}
