//! `apache.rocketmq.v2.MessagingService`: each RPC handed to its family.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::proxy::call::Call;
use crate::proxy::messaging::offset::PullStream;
use crate::proxy::messaging::receive::ReceiveStream;
use crate::proxy::messaging::{lifecycle, lite, offset, recall, receive, route, send, settle, transaction};
use crate::proxy::session::telemetry::{self, TelemetryStream};
use crate::proxy::shared::Shared;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::messaging_service_server::MessagingService;

type Answered<T> = Result<Response<T>, Status>;

/// The service. Holds nothing of a request.
#[derive(Clone, Debug)]
pub struct Service {
    pub shared: Arc<Shared>,
}

impl Service {
    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Call {
        Call::begin(&self.shared, method, request)
    }
}

fn trace_context(request: &v2::SendMessageRequest) -> Option<&str> {
    request.messages.first()?.system_properties.as_ref()?.trace_context.as_deref()
}

#[tonic::async_trait]
impl MessagingService for Service {
    async fn query_route(&self, request: Request<v2::QueryRouteRequest>) -> Answered<v2::QueryRouteResponse> {
        let call = self.call("QueryRoute", &request);
        let answer = route::query_route(&call, request.into_inner());
        call.end(answer)
    }

    async fn heartbeat(&self, request: Request<v2::HeartbeatRequest>) -> Answered<v2::HeartbeatResponse> {
        let call = self.call("Heartbeat", &request);
        let answer = lifecycle::heartbeat(&call, request.get_ref());
        call.end(answer)
    }

    async fn send_message(&self, request: Request<v2::SendMessageRequest>) -> Answered<v2::SendMessageResponse> {
        let call = Call::begin_within(&self.shared, "SendMessage", &request, trace_context(request.get_ref()));
        let answer = send::send(&call, request.into_inner()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn query_assignment(
        &self,
        request: Request<v2::QueryAssignmentRequest>,
    ) -> Answered<v2::QueryAssignmentResponse> {
        let call = self.call("QueryAssignment", &request);
        let answer = route::query_assignment(&call, request.into_inner());
        call.end(answer)
    }

    type ReceiveMessageStream = ReceiveStream;

    async fn receive_message(&self, request: Request<v2::ReceiveMessageRequest>) -> Answered<ReceiveStream> {
        let call = self.call("ReceiveMessage", &request);
        let answer = receive::receive(&call, request.into_inner()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn ack_message(&self, request: Request<v2::AckMessageRequest>) -> Answered<v2::AckMessageResponse> {
        let call = self.call("AckMessage", &request);
        let answer = settle::ack(&call, request.into_inner()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answered<v2::ForwardMessageToDeadLetterQueueResponse> {
        let call = self.call("ForwardMessageToDeadLetterQueue", &request);
        let answer = settle::to_dead_letter(&call, request.into_inner()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    type PullMessageStream = PullStream;

    async fn pull_message(&self, request: Request<v2::PullMessageRequest>) -> Answered<PullStream> {
        let call = self.call("PullMessage", &request);
        let answer = offset::pull(&call, request.into_inner()).instrument(call.span.clone()).await;
        Ok(call.end(answer)?.map(offset::PullAnswer::stream))
    }

    async fn update_offset(&self, request: Request<v2::UpdateOffsetRequest>) -> Answered<v2::UpdateOffsetResponse> {
        let call = self.call("UpdateOffset", &request);
        let answer = offset::update(&call, request.get_ref()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn get_offset(&self, request: Request<v2::GetOffsetRequest>) -> Answered<v2::GetOffsetResponse> {
        let call = self.call("GetOffset", &request);
        let answer = offset::get(&call, request.get_ref()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn query_offset(&self, request: Request<v2::QueryOffsetRequest>) -> Answered<v2::QueryOffsetResponse> {
        let call = self.call("QueryOffset", &request);
        let answer = offset::query(&call, request.get_ref()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn end_transaction(
        &self,
        request: Request<v2::EndTransactionRequest>,
    ) -> Answered<v2::EndTransactionResponse> {
        let call = self.call("EndTransaction", &request);
        let answer = transaction::end(&call, request.into_inner()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    type TelemetryStream = TelemetryStream;

    async fn telemetry(&self, request: Request<Streaming<v2::TelemetryCommand>>) -> Answered<TelemetryStream> {
        let call = self.call("Telemetry", &request);
        // Not a call to be measured: it lasts as long as its client. Headers go out at once, some clients wait for them.
        Ok(Response::new(telemetry::open(call, request.into_inner())))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Answered<v2::NotifyClientTerminationResponse> {
        let call = self.call("NotifyClientTermination", &request);
        let answer = lifecycle::terminate(&call).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Answered<v2::ChangeInvisibleDurationResponse> {
        let call = self.call("ChangeInvisibleDuration", &request);
        let answer = settle::change_invisible(&call, request.into_inner()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn recall_message(&self, request: Request<v2::RecallMessageRequest>) -> Answered<v2::RecallMessageResponse> {
        let call = self.call("RecallMessage", &request);
        let answer = recall::recall(&call, request.get_ref()).instrument(call.span.clone()).await;
        call.end(answer)
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Answered<v2::SyncLiteSubscriptionResponse> {
        let call = self.call("SyncLiteSubscription", &request);
        let answer = lite::sync(&call, request.into_inner()).await;
        call.end(answer)
    }
}
