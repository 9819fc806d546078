//! The service itself: one line per method, everything else in the files beside.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{clock, dead_letters, group, reset, status, topic, transaction};
use crate::broker::Broker;
use crate::broker::api::Remedy;
use crate::runtime::clock::{Clock, Mark};
use crate::wire::admin as wire;
use crate::wire::admin::admin_server::Admin;

/// What the process knows and the broker does not.
pub struct Facts {
    /// As shown to operators.
    pub data_dir: String,
    /// Open connections on the public port.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The logs of this process.
    pub shards: Box<dyn Fn() -> Vec<ShardFacts> + Send + Sync>,
    /// Bytes used by our own files, and bytes free on their disk.
    pub disk: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// When the process was ready.
    pub since: Mark,
    /// The clock.
    pub clock: Clock,
}

/// State of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardFacts {
    /// Which.
    pub shard: u32,
    /// Term of this opening.
    pub term: u64,
    /// Everything below was accepted.
    pub accepted_position: u64,
    /// Everything below is in the page cache.
    pub written_position: u64,
    /// Everything below is on stable storage.
    pub durable_position: u64,
    /// Everything below is in the folded state.
    pub folded_position: u64,
    /// Size of the segments.
    pub log_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Whether sends are taken.
    pub accepting: bool,
    /// Why not, in words.
    pub reason: String,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Facts {
    pub(super) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }
}

/// `bolide.admin.v1.Admin` over a broker in this process.
#[derive(Clone, Debug)]
pub struct OperatorService {
    broker: Broker,
    facts: Arc<Facts>,
}

impl OperatorService {
    /// The service of `broker`.
    #[must_use]
    pub fn new(broker: Broker, facts: Facts) -> Self {
        Self { broker, facts: Arc::new(facts) }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for OperatorService {
    async fn create_topic(&self, request: Request<wire::CreateTopicRequest>) -> Answer<wire::CreateTopicResponse> {
        topic::create(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn update_topic(&self, request: Request<wire::UpdateTopicRequest>) -> Answer<wire::UpdateTopicResponse> {
        topic::update(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_topics(&self, request: Request<wire::ListTopicsRequest>) -> Answer<wire::ListTopicsResponse> {
        Ok(Response::new(topic::list(&self.broker, request.get_ref())))
    }

    async fn show_topic(&self, request: Request<wire::ShowTopicRequest>) -> Answer<wire::ShowTopicResponse> {
        topic::show(&self.broker, request.get_ref()).map(Response::new)
    }

    async fn delete_topic(&self, request: Request<wire::DeleteTopicRequest>) -> Answer<wire::DeleteTopicResponse> {
        topic::delete(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_lite_topics(
        &self,
        request: Request<wire::ListLiteTopicsRequest>,
    ) -> Answer<wire::ListLiteTopicsResponse> {
        topic::list_lite(&self.broker, request.into_inner()).map(Response::new)
    }

    async fn create_group(&self, request: Request<wire::CreateGroupRequest>) -> Answer<wire::CreateGroupResponse> {
        group::create(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn update_group(&self, request: Request<wire::UpdateGroupRequest>) -> Answer<wire::UpdateGroupResponse> {
        group::update(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn list_groups(&self, request: Request<wire::ListGroupsRequest>) -> Answer<wire::ListGroupsResponse> {
        Ok(Response::new(group::list(&self.broker, request.get_ref())))
    }

    async fn show_group(&self, request: Request<wire::ShowGroupRequest>) -> Answer<wire::ShowGroupResponse> {
        group::show(&self.broker, request.get_ref()).map(Response::new)
    }

    async fn delete_group(&self, request: Request<wire::DeleteGroupRequest>) -> Answer<wire::DeleteGroupResponse> {
        group::delete(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn group_lag(&self, request: Request<wire::GroupLagRequest>) -> Answer<wire::GroupLagResponse> {
        group::lag(&self.broker, request.into_inner(), self.facts.clock.now()).await.map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        request: Request<wire::ListDeadLettersRequest>,
    ) -> Answer<wire::ListDeadLettersResponse> {
        dead_letters::list(&self.broker, request.get_ref()).await.map(Response::new)
    }

    async fn show_dead_letter(
        &self,
        request: Request<wire::ShowDeadLetterRequest>,
    ) -> Answer<wire::ShowDeadLetterResponse> {
        dead_letters::show(&self.broker, request.get_ref()).await.map(Response::new)
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<wire::SettleDeadLettersRequest>,
    ) -> Answer<wire::SettleDeadLettersResponse> {
        dead_letters::settle(&self.broker, request.get_ref(), Remedy::Redrive).await.map(Response::new)
    }

    async fn purge_dead_letters(
        &self,
        request: Request<wire::SettleDeadLettersRequest>,
    ) -> Answer<wire::SettleDeadLettersResponse> {
        dead_letters::settle(&self.broker, request.get_ref(), Remedy::Purge).await.map(Response::new)
    }

    async fn reset_group(&self, request: Request<wire::ResetGroupRequest>) -> Answer<wire::ResetGroupResponse> {
        reset::reset(&self.broker, &request.into_inner(), self.facts.clock.now()).await.map(Response::new)
    }
    async fn status(&self, _: Request<wire::StatusRequest>) -> Answer<wire::StatusResponse> {
        Ok(Response::new(status::status(&self.broker, &self.facts)))
    }

    async fn show_clock(&self, _: Request<wire::ShowClockRequest>) -> Answer<wire::ShowClockResponse> {
        Ok(Response::new(clock::show(&self.facts.clock)))
    }

    async fn advance_clock(&self, request: Request<wire::AdvanceClockRequest>) -> Answer<wire::AdvanceClockResponse> {
        clock::advance(&self.broker, &self.facts.clock, request.get_ref()).map(Response::new)
    }

    async fn list_transactions(
        &self,
        request: Request<wire::ListTransactionsRequest>,
    ) -> Answer<wire::ListTransactionsResponse> {
        transaction::list(&self.broker, request.into_inner()).await.map(Response::new)
    }

    async fn end_transaction(
        &self,
        request: Request<wire::EndTransactionRequest>,
    ) -> Answer<wire::EndTransactionResponse> {
        transaction::end(&self.broker, request.into_inner()).await.map(Response::new)
    }
}
