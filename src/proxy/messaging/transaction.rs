//! EndTransaction.

use crate::broker::api::Resolution;
use crate::proxy::call::Call;
use crate::proxy::convert::names;
use crate::proxy::status::{Refusal, ok};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::{Code, TransactionResolution};

/// Ends a transaction; OK says that the end is durable. Any client may, whether it sent the message or not.
pub async fn end(call: &Call, request: v2::EndTransactionRequest) -> v2::EndTransactionResponse {
    let status = match try_end(call, &request).await {
        Ok(()) => ok(),
        Err(refusal) => call.caller.refused(&refusal),
    };
    v2::EndTransactionResponse { status: Some(status) }
}

async fn try_end(call: &Call, request: &v2::EndTransactionRequest) -> Result<(), Refusal> {
    call.caller.require_client()?;
    let topic = names::topic(&call.caller, request.topic.as_ref())?;
    call.about_topic(&topic);
    // The id as it was given, blanks and all: it is the message's.
    let id = request.transaction_id.as_str();
    if id.trim().is_empty() {
        return Err(Refusal::new(Code::InvalidTransactionId, "the transaction id is blank"));
    }
    let resolution = match TransactionResolution::try_from(request.resolution) {
        Ok(TransactionResolution::Commit) => Some(Resolution::Commit),
        Ok(TransactionResolution::Rollback) => Some(Resolution::Rollback),
        // Two client libraries say so when their program does not know yet: the transaction stays open.
        Ok(TransactionResolution::Unspecified) => None,
        Err(_) => return Err(Refusal::new(Code::BadRequest, "the resolution is neither commit nor rollback")),
    };
    match resolution {
        Some(resolution) => Ok(call.brokers().end_transaction(&topic, id, resolution).await?),
        None => Ok(call.brokers().look_at_transaction(&topic, id).await?),
    }
}
