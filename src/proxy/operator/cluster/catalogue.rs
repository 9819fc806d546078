//! Topics and groups: what is kept by the route service.

use tonic::Status;

use super::super::convert::{group_change, group_out, group_spec, refused, topic_change, topic_out, topic_spec};
use super::super::{group, topic};
use super::Cluster;
use crate::broker::api::CatalogError;
use crate::route::{RouteClient, RouteError};
use crate::wire::admin as wire;

impl Cluster {
    /// Without the route service nothing is changed, and the reason is not load.
    fn not_changed(&self, error: CatalogError) -> Status {
        match error {
            CatalogError::Overloaded if !self.route.connected() => route_away(),
            error => refused(error),
        }
    }

    pub(in super::super) async fn create_topic(
        &self,
        request: wire::CreateTopicRequest,
    ) -> Result<wire::CreateTopicResponse, Status> {
        let wish = request.topic.ok_or_else(|| Status::invalid_argument("topic: is missing"))?;
        let name = topic::named(&wish.namespace, &wish.name)?;
        let existed = self.route.view().topics.contains_key(&name);
        let created = self.route.create_topic(name, topic_spec(&wish)?).await;
        let (stored, revision) = created.map_err(|error| self.not_changed(error))?;
        Ok(wire::CreateTopicResponse { topic: Some(topic_out(&stored)), created: !existed, revision: Some(revision.0) })
    }

    pub(in super::super) async fn update_topic(
        &self,
        request: wire::UpdateTopicRequest,
    ) -> Result<wire::UpdateTopicResponse, Status> {
        let name = topic::named(&request.namespace, &request.name)?;
        let updated = self.route.update_topic(&name, topic_change(&request)?).await;
        let (stored, revision) = updated.map_err(|error| self.not_changed(error))?;
        Ok(wire::UpdateTopicResponse { topic: Some(topic_out(&stored)), revision: Some(revision.0) })
    }

    pub(in super::super) async fn list_topics(
        &self,
        request: wire::ListTopicsRequest,
    ) -> Result<wire::ListTopicsResponse, Status> {
        Ok(topic::list(self.route.view().topics.values().cloned().collect(), &request))
    }

    pub(in super::super) async fn delete_topic(
        &self,
        request: wire::DeleteTopicRequest,
    ) -> Result<wire::DeleteTopicResponse, Status> {
        let name = topic::named(&request.namespace, &request.name)?;
        self.route.delete_topic(&name).await.map_err(|error| self.not_changed(error))?;
        Ok(wire::DeleteTopicResponse {})
    }

    pub(in super::super) async fn create_group(
        &self,
        request: wire::CreateGroupRequest,
    ) -> Result<wire::CreateGroupResponse, Status> {
        let wish = request.group.ok_or_else(|| Status::invalid_argument("group: is missing"))?;
        let name = group::named(&wish.namespace, &wish.name)?;
        let existed = self.route.view().groups.contains_key(&name);
        let created = self.route.create_group(name, group_spec(&wish)?).await;
        let (stored, revision) = created.map_err(|error| self.not_changed(error))?;
        Ok(wire::CreateGroupResponse { group: Some(group_out(&stored)), created: !existed, revision: Some(revision.0) })
    }

    pub(in super::super) async fn update_group(
        &self,
        request: wire::UpdateGroupRequest,
    ) -> Result<wire::UpdateGroupResponse, Status> {
        let name = group::named(&request.namespace, &request.name)?;
        let updated = self.route.update_group(&name, group_change(&request)?).await;
        let (stored, revision) = updated.map_err(|error| self.not_changed(error))?;
        Ok(wire::UpdateGroupResponse { group: Some(group_out(&stored)), revision: Some(revision.0) })
    }

    pub(in super::super) async fn list_groups(
        &self,
        request: wire::ListGroupsRequest,
    ) -> Result<wire::ListGroupsResponse, Status> {
        Ok(group::list(self.route.view().groups.values().cloned().collect(), &request))
    }

    pub(in super::super) async fn delete_group(
        &self,
        request: wire::DeleteGroupRequest,
    ) -> Result<wire::DeleteGroupResponse, Status> {
        let name = group::named(&request.namespace, &request.name)?;
        self.route.delete_group(&name).await.map_err(|error| self.not_changed(error))?;
        Ok(wire::DeleteGroupResponse {})
    }

    pub(in super::super) async fn rebalance_topic(
        &self,
        request: wire::RebalanceTopicRequest,
    ) -> Result<wire::RebalanceTopicResponse, Status> {
        let name = topic::named(&request.namespace, &request.name)?;
        let revision = self.route.rebalance(&name).await.map_err(|error| self.not_changed(error))?;
        seen(&self.route, revision).await;
        let wanted = wire::ListMovesRequest { namespace: request.namespace, topic: Some(request.name) };
        let moves = self.list_moves(wanted).await?.moves;
        let begun = moves.into_iter().find(|begun| !begun.moving_to.is_empty());
        Ok(wire::RebalanceTopicResponse { revision: revision.0, r#move: begun })
    }

    pub(in super::super) async fn rotate_receipt_key(
        &self,
        _: wire::RotateReceiptKeyRequest,
    ) -> Result<wire::RotateReceiptKeyResponse, Status> {
        let revision = self.route.rotate_key().await.map_err(|error| not_done(&error))?;
        seen(&self.route, revision).await;
        let receipt_keys = self.route.view().receipt_keys.iter().map(|key| u32::from(key.id)).collect();
        Ok(wire::RotateReceiptKeyResponse { revision: revision.0, receipt_keys })
    }
}

/// Waits until this process sees a change of its own, so that what it shows next is not older than what it did.
pub(super) async fn seen(route: &RouteClient, revision: crate::model::cluster::Revision) {
    route.reached(revision, super::READ_LIMIT).await;
}

pub(super) fn route_away() -> Status {
    Status::unavailable(
        "the route service does not answer; topics, groups and brokers cannot be changed until it does. Messages flow on",
    )
}

/// What the operator is told when the route service did not do it.
pub(super) fn not_done(error: &RouteError) -> Status {
    match error {
        RouteError::Refused(error) => refused(error.clone()),
        RouteError::Away(_) => route_away(),
    }
}
