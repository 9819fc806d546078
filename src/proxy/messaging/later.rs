//! RPCs that this version does not do yet. They check what they can and then say so inside the answer: never as a transport
//! error, which clients take for a broken connection.

use crate::proxy::call::{Answer, Call};
use crate::proxy::convert::names;
use crate::proxy::status::Refusal;
use crate::wire::rocketmq as v2;

/// One element, then the end.
pub type PullStream = tokio_stream::Once<Result<v2::PullMessageResponse, tonic::Status>>;

/// An answer stream of PullMessage with the code that it will carry.
#[derive(Debug)]
pub struct Pulled(pub v2::Status);

impl Answer for Pulled {
    fn code(&self) -> i32 {
        self.0.code
    }
}

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

fn queue(call: &Call, queue: Option<&v2::MessageQueue>) -> Result<(), Refusal> {
    topic(call, queue.and_then(|queue| queue.topic.as_ref()))
}

fn group(call: &Call, resource: Option<&v2::Resource>) -> Result<(), Refusal> {
    names::group(&call.caller, resource).map(|_| ())
}

/// PullMessage.
pub fn pull(call: &Call, request: &v2::PullMessageRequest) -> Pulled {
    let checked = client(call)
        .and_then(|()| queue(call, request.message_queue.as_ref()))
        .and_then(|()| group(call, request.group.as_ref()));
    Pulled(call.caller.refused(&refusal(checked, "PullMessage")))
}

/// UpdateOffset.
pub fn update_offset(call: &Call, request: &v2::UpdateOffsetRequest) -> v2::UpdateOffsetResponse {
    let checked = client(call)
        .and_then(|()| queue(call, request.message_queue.as_ref()))
        .and_then(|()| group(call, request.group.as_ref()));
    v2::UpdateOffsetResponse { status: Some(call.caller.refused(&refusal(checked, "UpdateOffset"))) }
}

/// GetOffset.
pub fn get_offset(call: &Call, request: &v2::GetOffsetRequest) -> v2::GetOffsetResponse {
    let checked = client(call)
        .and_then(|()| queue(call, request.message_queue.as_ref()))
        .and_then(|()| group(call, request.group.as_ref()));
    v2::GetOffsetResponse { status: Some(call.caller.refused(&refusal(checked, "GetOffset"))), offset: 0 }
}

/// QueryOffset.
pub fn query_offset(call: &Call, request: &v2::QueryOffsetRequest) -> v2::QueryOffsetResponse {
    let checked = client(call).and_then(|()| queue(call, request.message_queue.as_ref()));
    v2::QueryOffsetResponse { status: Some(call.caller.refused(&refusal(checked, "QueryOffset"))), offset: 0 }
}

/// SyncLiteSubscription.
pub fn sync_lite(call: &Call, request: &v2::SyncLiteSubscriptionRequest) -> v2::SyncLiteSubscriptionResponse {
    let checked = client(call)
        .and_then(|()| topic(call, request.topic.as_ref()))
        .and_then(|()| group(call, request.group.as_ref()));
    v2::SyncLiteSubscriptionResponse { status: Some(call.caller.refused(&refusal(checked, "SyncLiteSubscription"))) }
}
