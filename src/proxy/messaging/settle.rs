//! AckMessage, ChangeInvisibleDuration, ForwardMessageToDeadLetterQueue.

use std::time::Duration;

use crate::broker::api::{AckOutcome, ChangeOutcome};
use crate::model::limits::ACK_ENTRIES_MAX;
use crate::model::name::{GroupName, TopicName};
use crate::proxy::call::Call;
use crate::proxy::convert::{names, time};
use crate::proxy::messaging::receive;
use crate::proxy::status::{Refusal, common_code, ok};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

fn invalid_handle() -> Refusal {
    Refusal::new(
        Code::InvalidReceiptHandle,
        "the receipt handle is malformed, expired, or no longer the current one of its message",
    )
}

/// The checks that all three share.
fn place(
    call: &Call,
    topic: Option<&v2::Resource>,
    group: Option<&v2::Resource>,
) -> Result<(TopicName, GroupName), Refusal> {
    call.caller.require_client()?;
    let topic = names::topic(&call.caller, topic)?;
    let group = names::group(&call.caller, group)?;
    call.about_topic(&topic);
    call.about_group(&group);
    Ok((topic, group))
}

/// Answers with one entry per entry of the request, also when nothing could be done: one client reads the first unasked.
pub async fn ack(call: &Call, request: v2::AckMessageRequest) -> v2::AckMessageResponse {
    let outcomes = settle_all(call, &request).await;
    let caller = &call.caller;
    let (code, statuses): (Code, Vec<v2::Status>) = match outcomes {
        Ok(outcomes) => {
            let code = common_code(outcomes.iter().map(|outcome| ack_code(*outcome))).unwrap_or(Code::Ok);
            let status = |outcome: &AckOutcome| match outcome {
                AckOutcome::Done => ok(),
                AckOutcome::InvalidHandle => caller.refused(&invalid_handle()),
            };
            (code, outcomes.iter().map(status).collect())
        }
        Err(refusal) => (refusal.code, vec![caller.refused(&refusal); request.entries.len()]),
    };
    let entry = |(entry, status): (v2::AckMessageEntry, v2::Status)| v2::AckMessageResultEntry {
        message_id: entry.message_id,
        receipt_handle: entry.receipt_handle,
        status: Some(status),
    };
    // The code's name is the message here, as in the reference; the words are in the entries (rule C3).
    v2::AckMessageResponse {
        status: Some(caller.status(code, code.as_str_name())),
        entries: request.entries.into_iter().zip(statuses).map(entry).collect(),
    }
}

fn ack_code(outcome: AckOutcome) -> Code {
    match outcome {
        AckOutcome::Done => Code::Ok,
        AckOutcome::InvalidHandle => Code::InvalidReceiptHandle,
    }
}

async fn settle_all(call: &Call, request: &v2::AckMessageRequest) -> Result<Vec<AckOutcome>, Refusal> {
    let (topic, group) = place(call, request.topic.as_ref(), request.group.as_ref())?;
    if request.entries.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "no receipt handle to acknowledge"));
    }
    if request.entries.len() > ACK_ENTRIES_MAX {
        return Err(Refusal::new(Code::BadRequest, "more than 1024 receipt handles in one request"));
    }
    let handles: Vec<String> = request.entries.iter().map(|entry| entry.receipt_handle.clone()).collect();
    let outcomes = call.brokers().ack(&group, &topic, &handles).await?;
    debug_assert_eq!(outcomes.len(), handles.len());
    Ok(outcomes)
}

/// Answers with a handle that differs from the one sent, whatever happens (rule C11): simple consumers keep it unread.
pub async fn change_invisible(
    call: &Call,
    request: v2::ChangeInvisibleDurationRequest,
) -> v2::ChangeInvisibleDurationResponse {
    let (status, receipt_handle) = match try_change(call, &request).await {
        Ok(ChangeOutcome::Changed { handle }) => (ok(), handle),
        Ok(ChangeOutcome::InvalidHandle) => failed_change(call, &request, &invalid_handle()),
        Err(refusal) => failed_change(call, &request, &refusal),
    };
    v2::ChangeInvisibleDurationResponse { status: Some(status), receipt_handle }
}

fn failed_change(call: &Call, request: &v2::ChangeInvisibleDurationRequest, refusal: &Refusal) -> (v2::Status, String) {
    (call.caller.refused(refusal), call.shared.brokers.another_text(&request.receipt_handle))
}

async fn try_change(call: &Call, request: &v2::ChangeInvisibleDurationRequest) -> Result<ChangeOutcome, Refusal> {
    let (topic, group) = place(call, request.topic.as_ref(), request.group.as_ref())?;
    let wanted = match &request.invisible_duration {
        None => Some(Duration::ZERO),
        Some(wire) => time::duration(wire),
    };
    let duration = receive::invisible(wanted, Duration::ZERO, call.shared.options.invisible_max)?;
    let brokers = call.brokers();
    if request.suspend() {
        return Ok(brokers.suspend(&group, &topic, &request.receipt_handle, duration).await?);
    }
    Ok(brokers.change_invisible(&group, &topic, &request.receipt_handle, duration).await?)
}

/// Moves a message to its group's dead-letter topic.
pub async fn to_dead_letter(
    call: &Call,
    request: v2::ForwardMessageToDeadLetterQueueRequest,
) -> v2::ForwardMessageToDeadLetterQueueResponse {
    let status = match try_move(call, &request).await {
        Ok(AckOutcome::Done) => ok(),
        Ok(AckOutcome::InvalidHandle) => call.caller.refused(&invalid_handle()),
        Err(refusal) => call.caller.refused(&refusal),
    };
    v2::ForwardMessageToDeadLetterQueueResponse { status: Some(status) }
}

async fn try_move(call: &Call, request: &v2::ForwardMessageToDeadLetterQueueRequest) -> Result<AckOutcome, Refusal> {
    let (topic, group) = place(call, request.topic.as_ref(), request.group.as_ref())?;
    Ok(call.brokers().to_dead_letter(&group, &topic, &request.receipt_handle).await?)
}
