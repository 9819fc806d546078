//! The service of the broker in this process: the whole server, or one broker of a cluster.

use std::sync::Arc;

use tonic::Status;

use super::server::{Applied, Facts, Seat};
use super::{clock, dead_letters, group, reset, status, topic, transaction};
use crate::broker::Broker;
use crate::broker::api::Remedy;
use crate::wire::admin as wire;

#[derive(Clone)]
pub(super) struct Here {
    broker: Broker,
    facts: Arc<Facts>,
    /// In a cluster: as which broker, and how far it has followed the catalogue.
    seat: Option<(Seat, Applied)>,
}

impl std::fmt::Debug for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Here").field("seat", &self.seat.as_ref().map(|(seat, _)| seat)).finish_non_exhaustive()
    }
}

impl Here {
    pub(super) fn new(broker: Broker, facts: Facts, seat: Option<(Seat, Applied)>) -> Self {
        Self { broker, facts: Arc::new(facts), seat }
    }

    /// The catalogue of a cluster is kept by its route service: a broker that changed its own copy would be alone with it.
    fn keeps_the_catalogue(&self) -> Result<(), Status> {
        match &self.seat {
            None => Ok(()),
            Some((seat, _)) => Err(Status::failed_precondition(format!(
                "this is {}, one broker of a cluster: topics and groups are changed through the internal port of any proxy \
                 (bolide admin --address PROXY:8082)",
                seat.name
            ))),
        }
    }

    /// What only a whole cluster can answer.
    fn no_cluster<T>(&self) -> Result<T, Status> {
        Err(Status::failed_precondition(match &self.seat {
            None => "this server is no part of a cluster; it is one broker by itself".to_owned(),
            Some((seat, _)) => format!(
                "this is {}, one broker of a cluster: ask the internal port of any proxy (bolide admin --address PROXY:8082)",
                seat.name
            ),
        }))
    }

    /// Whether a request that names a broker means this one.
    fn is_meant(&self, broker: &str) -> Result<(), Status> {
        match &self.seat {
            _ if broker.is_empty() => Ok(()),
            Some((seat, _)) if *seat.name == *broker => Ok(()),
            Some((seat, _)) => Err(Status::not_found(format!("broker {broker} is not here; this is {}", seat.name))),
            None => Err(Status::not_found(format!("broker {broker} is not here; this server is one broker by itself"))),
        }
    }

    pub(super) async fn create_topic(
        &self,
        request: wire::CreateTopicRequest,
    ) -> Result<wire::CreateTopicResponse, Status> {
        self.keeps_the_catalogue()?;
        topic::create(&self.broker, request).await
    }

    pub(super) async fn update_topic(
        &self,
        request: wire::UpdateTopicRequest,
    ) -> Result<wire::UpdateTopicResponse, Status> {
        self.keeps_the_catalogue()?;
        topic::update(&self.broker, request).await
    }

    pub(super) async fn list_topics(
        &self,
        request: wire::ListTopicsRequest,
    ) -> Result<wire::ListTopicsResponse, Status> {
        Ok(topic::list(self.broker.topics(), &request))
    }

    pub(super) async fn show_topic(&self, request: wire::ShowTopicRequest) -> Result<wire::ShowTopicResponse, Status> {
        topic::show(&self.broker, &request)
    }

    pub(super) async fn delete_topic(
        &self,
        request: wire::DeleteTopicRequest,
    ) -> Result<wire::DeleteTopicResponse, Status> {
        self.keeps_the_catalogue()?;
        topic::delete(&self.broker, request).await
    }

    pub(super) async fn list_lite_topics(
        &self,
        request: wire::ListLiteTopicsRequest,
    ) -> Result<wire::ListLiteTopicsResponse, Status> {
        topic::list_lite(&self.broker, request)
    }

    pub(super) async fn create_group(
        &self,
        request: wire::CreateGroupRequest,
    ) -> Result<wire::CreateGroupResponse, Status> {
        self.keeps_the_catalogue()?;
        group::create(&self.broker, request).await
    }

    pub(super) async fn update_group(
        &self,
        request: wire::UpdateGroupRequest,
    ) -> Result<wire::UpdateGroupResponse, Status> {
        self.keeps_the_catalogue()?;
        group::update(&self.broker, request).await
    }

    pub(super) async fn list_groups(
        &self,
        request: wire::ListGroupsRequest,
    ) -> Result<wire::ListGroupsResponse, Status> {
        Ok(group::list(self.broker.groups(), &request))
    }

    pub(super) async fn show_group(&self, request: wire::ShowGroupRequest) -> Result<wire::ShowGroupResponse, Status> {
        group::show(&self.broker, &request)
    }

    pub(super) async fn delete_group(
        &self,
        request: wire::DeleteGroupRequest,
    ) -> Result<wire::DeleteGroupResponse, Status> {
        self.keeps_the_catalogue()?;
        group::delete(&self.broker, request).await
    }

    pub(super) async fn group_lag(&self, request: wire::GroupLagRequest) -> Result<wire::GroupLagResponse, Status> {
        group::lag(&self.broker, request, self.facts.clock.now()).await
    }

    pub(super) async fn list_dead_letters(
        &self,
        request: wire::ListDeadLettersRequest,
    ) -> Result<wire::ListDeadLettersResponse, Status> {
        self.is_meant(&request.from_broker)?;
        dead_letters::list(&self.broker, &request).await
    }

    pub(super) async fn show_dead_letter(
        &self,
        request: wire::ShowDeadLetterRequest,
    ) -> Result<wire::ShowDeadLetterResponse, Status> {
        self.is_meant(&request.broker)?;
        dead_letters::show(&self.broker, &request).await
    }

    pub(super) async fn redrive_dead_letters(
        &self,
        request: wire::SettleDeadLettersRequest,
    ) -> Result<wire::SettleDeadLettersResponse, Status> {
        self.is_meant(&request.broker)?;
        dead_letters::settle(&self.broker, &request, Remedy::Redrive).await
    }

    pub(super) async fn purge_dead_letters(
        &self,
        request: wire::SettleDeadLettersRequest,
    ) -> Result<wire::SettleDeadLettersResponse, Status> {
        self.is_meant(&request.broker)?;
        dead_letters::settle(&self.broker, &request, Remedy::Purge).await
    }

    pub(super) async fn reset_group(
        &self,
        request: wire::ResetGroupRequest,
    ) -> Result<wire::ResetGroupResponse, Status> {
        self.is_meant(&request.broker)?;
        reset::reset(&self.broker, &request, self.facts.clock.now()).await
    }

    pub(super) async fn status(&self, _: wire::StatusRequest) -> Result<wire::StatusResponse, Status> {
        let mut answer = status::status(&self.broker, &self.facts);
        if let Some((seat, applied)) = &self.seat {
            answer.role = seat.role.into();
            answer.name = seat.name.to_string();
            answer.revision = Some(applied().0);
        }
        Ok(answer)
    }

    pub(super) async fn show_clock(&self, _: wire::ShowClockRequest) -> Result<wire::ShowClockResponse, Status> {
        Ok(clock::show(&self.facts.clock))
    }

    pub(super) async fn advance_clock(
        &self,
        request: wire::AdvanceClockRequest,
    ) -> Result<wire::AdvanceClockResponse, Status> {
        clock::advance(&self.broker, &self.facts.clock, &request)
    }

    pub(super) async fn list_transactions(
        &self,
        request: wire::ListTransactionsRequest,
    ) -> Result<wire::ListTransactionsResponse, Status> {
        transaction::list(&self.broker, request).await
    }

    pub(super) async fn end_transaction(
        &self,
        request: wire::EndTransactionRequest,
    ) -> Result<wire::EndTransactionResponse, Status> {
        transaction::end(&self.broker, request).await
    }

    pub(super) async fn cluster_status(
        &self,
        _: wire::ClusterStatusRequest,
    ) -> Result<wire::ClusterStatusResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn await_revision(
        &self,
        _: wire::AwaitRevisionRequest,
    ) -> Result<wire::AwaitRevisionResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn drain_broker(&self, _: wire::DrainBrokerRequest) -> Result<wire::DrainBrokerResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn forget_broker(
        &self,
        _: wire::ForgetBrokerRequest,
    ) -> Result<wire::ForgetBrokerResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn show_broker(&self, _: wire::ShowBrokerRequest) -> Result<wire::ShowBrokerResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn rebalance_topic(
        &self,
        _: wire::RebalanceTopicRequest,
    ) -> Result<wire::RebalanceTopicResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn list_moves(&self, _: wire::ListMovesRequest) -> Result<wire::ListMovesResponse, Status> {
        self.no_cluster()
    }

    pub(super) async fn rotate_receipt_key(
        &self,
        _: wire::RotateReceiptKeyRequest,
    ) -> Result<wire::RotateReceiptKeyResponse, Status> {
        self.no_cluster()
    }
}
