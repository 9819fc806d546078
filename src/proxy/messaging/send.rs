//! SendMessage.

use crate::broker::api::{Publish, Published};
use crate::model::message::{MessageType, NewMessage};
use crate::proxy::call::Call;
use crate::proxy::convert::message::{self, SendRules};
use crate::proxy::status::{Refusal, ok};
use crate::runtime::budget::Share;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

/// Stores the messages of one request, all or none, and answers with one entry per message in any case.
pub async fn send(call: &Call, request: v2::SendMessageRequest) -> v2::SendMessageResponse {
    let prepared = prepare(call, &request);
    let ids = take_ids(request);
    let outcome = match prepared {
        Ok((publish, _share)) => {
            if let (Some(client), true) = (call.caller.client(), publish.messages.iter().any(is_half)) {
                call.shared.producers.sent_halves(std::slice::from_ref(client), &publish.topic);
            }
            call.brokers().publish(publish).await.map_err(Refusal::from)
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(published) => stored(ids, &published),
        Err(refusal) => refused(call, ids, &refusal),
    }
}

fn is_half(message: &NewMessage) -> bool {
    message.message_type == MessageType::Transaction
}

/// Checks and encodes; the share is held until the answer.
fn prepare(call: &Call, request: &v2::SendMessageRequest) -> Result<(Publish, Share), Refusal> {
    let shared = &call.shared;
    call.caller.require_client()?;
    let topic = message::topic(&call.caller, request)?;
    call.about_topic(&topic);
    call.about_messages(request.messages.len());
    let bytes = message::request_bytes(request) as u64;
    let Some(share) = shared.send_bytes.try_take(bytes) else {
        return Err(Refusal::new(Code::TooManyRequests, "too many bytes are waiting to be stored; try again later"));
    };
    let rules = SendRules { now: shared.clock.now(), delivery_horizon: shared.options.delivery_horizon };
    Ok((message::publish(&call.caller, topic, request, rules)?, share))
}

/// Keeps the ids only, so that the request's buffers are free while the answer is waited for.
fn take_ids(request: v2::SendMessageRequest) -> Vec<String> {
    let id = |message: v2::Message| message.system_properties.map(|system| system.message_id).unwrap_or_default();
    request.messages.into_iter().map(id).collect()
}

fn stored(ids: Vec<String>, published: &[Published]) -> v2::SendMessageResponse {
    let entry = |(id, place): (String, &Published)| v2::SendResultEntry {
        status: Some(ok()),
        transaction_id: id.clone(),
        message_id: id,
        offset: i64::try_from(place.offset.get()).unwrap_or(i64::MAX),
        recall_handle: place.recall_handle.clone().unwrap_or_default(),
    };
    v2::SendMessageResponse { status: Some(ok()), entries: ids.into_iter().zip(published).map(entry).collect() }
}

fn refused(call: &Call, ids: Vec<String>, refusal: &Refusal) -> v2::SendMessageResponse {
    let status = call.caller.refused(refusal);
    let entry = |id: String| v2::SendResultEntry { status: Some(status.clone()), message_id: id, ..Default::default() };
    v2::SendMessageResponse { entries: ids.into_iter().map(entry).collect(), status: Some(status) }
}
