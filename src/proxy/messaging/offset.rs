//! PullMessage, UpdateOffset, GetOffset, QueryOffset: for clients that keep their own place in each queue.
//!
//! A queue that the topic does not have, and one without a number of its own (-1), is `BAD_REQUEST`: there is no code for it.
//! Checks go from what can never be right (names, numbers) to what only the present state forbids.

use std::time::Duration;

use tonic::Status;

use crate::broker::api::{Pull, Pulled, QueueBoundary};
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::proxy::call::{Answer, Call};
use crate::proxy::convert::delivery::DeliveryEncoder;
use crate::proxy::convert::{names, time};
use crate::proxy::messaging::receive;
use crate::proxy::status::{Refusal, ok};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::pull_message_response::Content;
use crate::wire::rocketmq::{Code, QueryOffsetPolicy};

/// Status, messages, next offset: in this order. A refusal is one element.
pub type PullStream = tokio_stream::Iter<std::vec::IntoIter<Result<v2::PullMessageResponse, Status>>>;

/// The elements of a pull stream, with the code that the first one carries.
#[derive(Debug)]
pub struct PullAnswer {
    code: i32,
    elements: Vec<Result<v2::PullMessageResponse, Status>>,
}

impl PullAnswer {
    fn new(code: i32, contents: impl IntoIterator<Item = Content>) -> Self {
        let element = |content| Ok(v2::PullMessageResponse { content: Some(content) });
        Self { code, elements: contents.into_iter().map(element).collect() }
    }

    /// As the transport wants it.
    pub fn stream(self) -> PullStream {
        tokio_stream::iter(self.elements)
    }
}

impl Answer for PullAnswer {
    fn code(&self) -> i32 {
        self.code
    }
}

/// PullMessage.
pub async fn pull(call: &Call, request: v2::PullMessageRequest) -> PullAnswer {
    let resource = request.message_queue.as_ref().and_then(|queue| queue.topic.clone()).unwrap_or_default();
    let pulled = match wish(call, &request) {
        Ok(wish) => call.brokers().pull(home(request.message_queue.as_ref()), wish).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    match pulled.and_then(|pulled| contents(call, pulled, &resource)) {
        Ok((code, contents)) => PullAnswer::new(code, contents),
        Err(refusal) => {
            let status = call.caller.refused(&refusal);
            PullAnswer::new(status.code, [Content::Status(status)])
        }
    }
}

fn wish(call: &Call, request: &v2::PullMessageRequest) -> Result<Pull, Refusal> {
    let client = call.caller.require_client()?;
    let topic = topic(call, request.message_queue.as_ref())?;
    let group = group(call, request.group.as_ref())?;
    let queue = queue(request.message_queue.as_ref())?;
    let offset = offset(request.offset)?;
    if request.batch_size <= 0 {
        return Err(Refusal::new(Code::BadRequest, "the batch size of a pull must be at least 1"));
    }
    Ok(Pull {
        group,
        topic,
        queue,
        offset,
        filter: call.shared.filters.filter(request.filter_expression.as_ref())?,
        batch: usize::try_from(request.batch_size).unwrap_or(1).min(RECEIVE_BATCH_MAX),
        wait: wait(call, request),
        client: client.clone(),
    })
}

/// As a receive waits (rule C7), but a puller that wants an answer at once gets one: it asks how far the queue goes.
fn wait(call: &Call, request: &v2::PullMessageRequest) -> Duration {
    match request.long_polling_timeout.as_ref().and_then(time::duration) {
        Some(Duration::ZERO) => Duration::ZERO,
        _ => receive::poll_time(call, request.long_polling_timeout.as_ref()),
    }
}

fn contents(call: &Call, pulled: Pulled, topic: &v2::Resource) -> Result<(i32, Vec<Content>), Refusal> {
    let status =
        if pulled.messages.is_empty() { call.caller.status(Code::MessageNotFound, "no new message") } else { ok() };
    call.about_messages(pulled.messages.len());
    let code = status.code;
    let mut encoder = DeliveryEncoder::new(topic, call.shared.store_host(&call.caller), pulled.messages.len());
    let mut contents = Vec::with_capacity(pulled.messages.len() + 2);
    contents.push(Content::Status(status));
    for delivered in pulled.messages {
        let message = encoder.message(delivered).map_err(|error| {
            tracing::error!(%error, "a stored message is not what was encoded");
            Refusal::new(Code::InternalServerError, "a stored message cannot be read")
        })?;
        contents.push(Content::Message(message));
    }
    contents.push(Content::NextOffset(signed(pulled.next)));
    Ok((code, contents))
}

/// UpdateOffset.
pub async fn update(call: &Call, request: &v2::UpdateOffsetRequest) -> v2::UpdateOffsetResponse {
    let status = match try_update(call, request).await {
        Ok(()) => ok(),
        Err(refusal) => call.caller.refused(&refusal),
    };
    v2::UpdateOffsetResponse { status: Some(status) }
}

async fn try_update(call: &Call, request: &v2::UpdateOffsetRequest) -> Result<(), Refusal> {
    call.caller.require_client()?;
    let topic = topic(call, request.message_queue.as_ref())?;
    let group = group(call, request.group.as_ref())?;
    let queue = queue(request.message_queue.as_ref())?;
    let offset = offset(request.offset)?;
    Ok(call.brokers().update_offset(home(request.message_queue.as_ref()), &group, &topic, queue, offset).await?)
}

/// GetOffset.
pub async fn get(call: &Call, request: &v2::GetOffsetRequest) -> v2::GetOffsetResponse {
    let (status, offset) = told(call, try_get(call, request).await);
    v2::GetOffsetResponse { status: Some(status), offset }
}

async fn try_get(call: &Call, request: &v2::GetOffsetRequest) -> Result<QueueOffset, Refusal> {
    call.caller.require_client()?;
    let topic = topic(call, request.message_queue.as_ref())?;
    let group = group(call, request.group.as_ref())?;
    let queue = queue(request.message_queue.as_ref())?;
    Ok(call.brokers().offset(home(request.message_queue.as_ref()), &group, &topic, queue).await?)
}

/// QueryOffset.
pub async fn query(call: &Call, request: &v2::QueryOffsetRequest) -> v2::QueryOffsetResponse {
    let (status, offset) = told(call, try_query(call, request).await);
    v2::QueryOffsetResponse { status: Some(status), offset }
}

async fn try_query(call: &Call, request: &v2::QueryOffsetRequest) -> Result<QueueOffset, Refusal> {
    call.caller.require_client()?;
    let topic = topic(call, request.message_queue.as_ref())?;
    let queue = queue(request.message_queue.as_ref())?;
    let bad = |text: &'static str| Refusal::new(Code::BadRequest, text);
    let which = match (QueryOffsetPolicy::try_from(request.query_offset_policy), &request.timestamp) {
        (Ok(QueryOffsetPolicy::Beginning), _) => QueueBoundary::Beginning,
        (Ok(QueryOffsetPolicy::End), _) => QueueBoundary::End,
        (Ok(QueryOffsetPolicy::Timestamp), Some(at)) => QueueBoundary::At(time::timestamp(at)),
        (Ok(QueryOffsetPolicy::Timestamp), None) => return Err(bad("the timestamp is missing")),
        (Err(_), _) => return Err(bad("the policy of the query is unknown")),
    };
    Ok(call.brokers().queue_boundary(home(request.message_queue.as_ref()), &topic, queue, which).await?)
}

fn told(call: &Call, outcome: Result<QueueOffset, Refusal>) -> (v2::Status, i64) {
    match outcome {
        Ok(offset) => (ok(), signed(offset)),
        Err(refusal) => (call.caller.refused(&refusal), 0),
    }
}

fn topic(call: &Call, queue: Option<&v2::MessageQueue>) -> Result<TopicName, Refusal> {
    let name = names::topic(&call.caller, queue.and_then(|queue| queue.topic.as_ref()))?;
    call.about_topic(&name);
    Ok(name)
}

fn group(call: &Call, resource: Option<&v2::Resource>) -> Result<GroupName, Refusal> {
    let name = names::group(&call.caller, resource)?;
    call.about_group(&name);
    Ok(name)
}

/// The broker that the queue is on, as its route named it.
fn home(queue: Option<&v2::MessageQueue>) -> Option<&str> {
    queue.and_then(|queue| queue.broker.as_ref()).map(|broker| &*broker.name).filter(|name| !name.is_empty())
}

fn queue(wire: Option<&v2::MessageQueue>) -> Result<QueueId, Refusal> {
    let id = wire.map_or(0, |queue| queue.id);
    let negative = || Refusal::new(Code::BadRequest, format!("queue {id} is none: the id of a queue is not negative"));
    u32::try_from(id).map(QueueId).map_err(|_| negative())
}

fn offset(wire: i64) -> Result<QueueOffset, Refusal> {
    let negative = || Refusal::new(Code::IllegalOffset, format!("offset {wire} is negative"));
    u64::try_from(wire).map(QueueOffset).map_err(|_| negative())
}

fn signed(offset: QueueOffset) -> i64 {
    i64::try_from(offset.get()).unwrap_or(i64::MAX)
}
