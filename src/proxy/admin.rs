//! `apache.rocketmq.v2.Admin`: registered, so that tools get an answer in words. `bolide admin` speaks a service of its own.

use tonic::{Request, Response, Status};

use crate::proxy::status::{Refusal, status};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::admin_server::Admin;

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct AdminService;

type Answered<T> = Result<Response<T>, Status>;

#[allow(clippy::unnecessary_wraps)] // as the field wants it
fn not_yet(what: &'static str) -> Option<v2::Status> {
    let refusal = Refusal::not_implemented(what);
    Some(status(refusal.code, refusal.text, false))
}

#[tonic::async_trait]
impl Admin for AdminService {
    /// Its answer has no status, so this one refusal travels as gRPC status.
    async fn change_log_level(&self, _: Request<v2::ChangeLogLevelRequest>) -> Answered<v2::ChangeLogLevelResponse> {
        Err(Status::unimplemented("ChangeLogLevel is not implemented yet; set the log filter at start"))
    }

    async fn describe_topic_status(
        &self,
        _: Request<v2::DescribeTopicStatusRequest>,
    ) -> Answered<v2::DescribeTopicStatusResponse> {
        Ok(Response::new(v2::DescribeTopicStatusResponse {
            status: not_yet("DescribeTopicStatus"),
            ..Default::default()
        }))
    }

    async fn list_subscription(
        &self,
        _: Request<v2::ListSubscriptionRequest>,
    ) -> Answered<v2::ListSubscriptionResponse> {
        Ok(Response::new(v2::ListSubscriptionResponse { status: not_yet("ListSubscription"), ..Default::default() }))
    }

    async fn describe_subscription(
        &self,
        _: Request<v2::DescribeSubscriptionRequest>,
    ) -> Answered<v2::DescribeSubscriptionResponse> {
        Ok(Response::new(v2::DescribeSubscriptionResponse {
            status: not_yet("DescribeSubscription"),
            ..Default::default()
        }))
    }

    async fn delete_subscription(
        &self,
        _: Request<v2::DeleteSubscriptionRequest>,
    ) -> Answered<v2::DeleteSubscriptionResponse> {
        Ok(Response::new(v2::DeleteSubscriptionResponse { status: not_yet("DeleteSubscription") }))
    }

    async fn describe_group_accumulation(
        &self,
        _: Request<v2::DescribeGroupAccumulationRequest>,
    ) -> Answered<v2::DescribeGroupAccumulationResponse> {
        Ok(Response::new(v2::DescribeGroupAccumulationResponse {
            status: not_yet("DescribeGroupAccumulation"),
            ..Default::default()
        }))
    }

    async fn list_consumer_connection(
        &self,
        _: Request<v2::ListConsumerConnectionRequest>,
    ) -> Answered<v2::ListConsumerConnectionResponse> {
        Ok(Response::new(v2::ListConsumerConnectionResponse {
            status: not_yet("ListConsumerConnection"),
            ..Default::default()
        }))
    }

    async fn reset_group_offset(
        &self,
        _: Request<v2::ResetGroupOffsetRequest>,
    ) -> Answered<v2::ResetGroupOffsetResponse> {
        Ok(Response::new(v2::ResetGroupOffsetResponse { status: not_yet("ResetGroupOffset") }))
    }

    async fn query_message(&self, _: Request<v2::ListMessageRequest>) -> Answered<v2::ListMessageResponse> {
        Ok(Response::new(v2::ListMessageResponse { status: not_yet("QueryMessage"), ..Default::default() }))
    }

    async fn print_thread_stack_trace(
        &self,
        _: Request<v2::PrintThreadStackTraceRequest>,
    ) -> Answered<v2::PrintThreadStackTraceResponse> {
        Ok(Response::new(v2::PrintThreadStackTraceResponse {
            status: not_yet("PrintThreadStackTrace"),
            ..Default::default()
        }))
    }

    async fn verify_message(&self, _: Request<v2::VerifyMessageRequest>) -> Answered<v2::VerifyMessageResponse> {
        Ok(Response::new(v2::VerifyMessageResponse { status: not_yet("VerifyMessage") }))
    }

    async fn admin_send_message(
        &self,
        _: Request<v2::AdminSendMessageRequest>,
    ) -> Answered<v2::AdminSendMessageResponse> {
        Ok(Response::new(v2::AdminSendMessageResponse { status: not_yet("AdminSendMessage"), ..Default::default() }))
    }

    async fn get_consumer_running_info(
        &self,
        _: Request<v2::GetConsumerRunningInfoRequest>,
    ) -> Answered<v2::GetConsumerRunningInfoResponse> {
        Ok(Response::new(v2::GetConsumerRunningInfoResponse {
            status: not_yet("GetConsumerRunningInfo"),
            ..Default::default()
        }))
    }

    async fn get_topic_route(&self, _: Request<v2::GetTopicRouteRequest>) -> Answered<v2::GetTopicRouteResponse> {
        Ok(Response::new(v2::GetTopicRouteResponse { status: not_yet("GetTopicRoute"), ..Default::default() }))
    }

    async fn query_time_span(&self, _: Request<v2::QueryTimeSpanRequest>) -> Answered<v2::QueryTimeSpanResponse> {
        Ok(Response::new(v2::QueryTimeSpanResponse { status: not_yet("QueryTimeSpan"), ..Default::default() }))
    }

    async fn get_proxy_runtime_stats(
        &self,
        _: Request<v2::GetProxyRuntimeStatsRequest>,
    ) -> Answered<v2::GetProxyRuntimeStatsResponse> {
        Ok(Response::new(v2::GetProxyRuntimeStatsResponse {
            status: not_yet("GetProxyRuntimeStats"),
            ..Default::default()
        }))
    }
}
