//! One RPC from its first byte to its answer: span, latency, the caller's sign of life.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::Span;

use crate::link::Brokers;
use crate::model::name::{GroupName, TopicName};
use crate::observe::trace;
use crate::proxy::caller::Caller;
use crate::proxy::shared::Shared;
use crate::runtime::clock::Mark;
use crate::wire::rocketmq as v2;

/// An RPC under way.
#[derive(Debug)]
pub struct Call {
    pub shared: Arc<Shared>,
    pub caller: Caller,
    pub span: Span,
    method: &'static str,
    began: Mark,
}

impl Call {
    /// Reads the headers and begins the span.
    pub fn begin<T>(shared: &Arc<Shared>, method: &'static str, request: &Request<T>) -> Self {
        Self::begin_within(shared, method, request, None)
    }

    /// The same for a request whose message may carry the trace it belongs to; a `traceparent` header outranks it.
    pub fn begin_within<T>(
        shared: &Arc<Shared>,
        method: &'static str,
        request: &Request<T>,
        message_trace: Option<&str>,
    ) -> Self {
        let began = shared.clock.mark();
        let metadata = request.metadata();
        let header = metadata.get("traceparent").and_then(|value| value.to_str().ok());
        let span = trace::rpc_span(method, header.or(message_trace));
        let caller = Caller::of(metadata, request.extensions());
        if let Some(client) = caller.client() {
            shared.brokers.client_seen(client, caller.heartbeats_slowly());
            if !span.is_none() {
                span.record("messaging.client.id", &*client.0);
            }
        }
        Self { shared: shared.clone(), caller, span, method, began }
    }

    /// The brokers, for as long as this client waits for its answer.
    pub fn brokers(&self) -> Brokers {
        self.shared.brokers.within(self.caller.time_limit)
    }

    /// Notes which topic the call is about.
    pub fn about_topic(&self, topic: &TopicName) {
        if !self.span.is_none() {
            self.span.record("messaging.destination.name", topic.name());
        }
    }

    /// Notes how many messages the call moves.
    pub fn about_messages(&self, count: usize) {
        if !self.span.is_none() {
            self.span.record("messaging.batch.message_count", count as u64);
        }
    }

    /// Notes which group the call is about.
    pub fn about_group(&self, group: &GroupName) {
        if !self.span.is_none() {
            self.span.record("messaging.consumer.group.name", group.name());
        }
    }

    /// Ends the span and counts the call.
    #[allow(clippy::unnecessary_wraps)] // business errors travel inside the answer, and the service trait wants a result
    pub fn end<R: Answer>(self, answer: R) -> Result<Response<R>, Status> {
        let code = u32::try_from(answer.code()).unwrap_or(0);
        self.shared.meters.rpc(self.method, code, self.began.elapsed());
        trace::answered(&self.span, code);
        Ok(Response::new(answer))
    }
}

/// An answer with a status.
pub trait Answer {
    /// The code in it.
    fn code(&self) -> i32;
}

macro_rules! answers {
    ($($answer:ident),* $(,)?) => {$(
        impl Answer for v2::$answer {
            fn code(&self) -> i32 {
                self.status.as_ref().map_or(0, |status| status.code)
            }
        }
    )*};
}

answers!(
    QueryRouteResponse,
    HeartbeatResponse,
    SendMessageResponse,
    QueryAssignmentResponse,
    AckMessageResponse,
    ForwardMessageToDeadLetterQueueResponse,
    UpdateOffsetResponse,
    GetOffsetResponse,
    QueryOffsetResponse,
    EndTransactionResponse,
    NotifyClientTerminationResponse,
    ChangeInvisibleDurationResponse,
    RecallMessageResponse,
    SyncLiteSubscriptionResponse,
);
