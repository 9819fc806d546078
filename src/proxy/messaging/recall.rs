//! RecallMessage: OK says that nobody will ever get the message, and nothing else says OK.

use crate::proxy::call::Call;
use crate::proxy::convert::names;
use crate::proxy::status::{Refusal, ok};
use crate::wire::rocketmq as v2;

/// Cancels a delayed message, or says why it cannot be.
pub async fn recall(call: &Call, request: &v2::RecallMessageRequest) -> v2::RecallMessageResponse {
    match try_recall(call, request).await {
        Ok(message_id) => v2::RecallMessageResponse { status: Some(ok()), message_id },
        Err(refusal) => {
            v2::RecallMessageResponse { status: Some(call.caller.refused(&refusal)), message_id: String::new() }
        }
    }
}

async fn try_recall(call: &Call, request: &v2::RecallMessageRequest) -> Result<String, Refusal> {
    call.caller.require_client()?;
    let topic = names::topic(&call.caller, request.topic.as_ref())?;
    call.about_topic(&topic);
    Ok(call.brokers().recall(&topic, &request.recall_handle).await?)
}
