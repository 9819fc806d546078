//! RPCs that this version does not do yet. They check what they can and then say so inside the answer: never as a transport
//! error, which clients take for a broken connection.

use crate::proxy::call::Call;
use crate::proxy::convert::names;
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;

fn refusal(outcome: Result<(), Refusal>, what: &'static str) -> Refusal {
    outcome.err().unwrap_or_else(|| Refusal::not_implemented(what))
}

fn client(call: &Call) -> Result<(), Refusal> {
    call.caller.require_client().map(|_| ())
}

fn topic(call: &Call, resource: Option<&v2::Resource>) -> Result<(), Refusal> {
    let name = names::topic(&call.caller, resource)?;
    call.about_topic(&name);
    Ok(())
}

fn group(call: &Call, resource: Option<&v2::Resource>) -> Result<(), Refusal> {
    names::group(&call.caller, resource).map(|_| ())
}

/// SyncLiteSubscription.
pub fn sync_lite(call: &Call, request: &v2::SyncLiteSubscriptionRequest) -> v2::SyncLiteSubscriptionResponse {
    let checked = client(call)
        .and_then(|()| topic(call, request.topic.as_ref()))
        .and_then(|()| group(call, request.group.as_ref()));
    v2::SyncLiteSubscriptionResponse { status: Some(call.caller.refused(&refusal(checked, "SyncLiteSubscription"))) }
}
