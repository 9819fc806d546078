//! What lies in queues, and what groups have to do there.

use tonic::Status;

use super::super::convert::{group_out, refused, topic_out};
use super::super::{group, topic};
use super::merge::{self, sorted};
use super::{Cluster, READ_LIMIT};
use crate::broker::api::CatalogError;
use crate::wire::admin as wire;

/// Lite topics of a page: unless said otherwise, and at most.
const LITE_PAGE: (u32, u32) = (100, 1_000);

impl Cluster {
    pub(in super::super) async fn show_topic(
        &self,
        request: wire::ShowTopicRequest,
    ) -> Result<wire::ShowTopicResponse, Status> {
        let name = topic::named(&request.namespace, &request.name)?;
        let view = self.route.view();
        let Some(found) = view.topics.get(&name) else {
            return Err(refused(CatalogError::NotFound(format!("topic {name}"))));
        };
        let holders = Self::holders(&view, found.id);
        let replies = self.peers.ask(&holders, READ_LIMIT, |mut broker, _| {
            let request = request.clone();
            async move { broker.show_topic(request).await }
        });
        Ok(merge::topic(topic_out(found), sorted(replies.await)?))
    }

    pub(in super::super) async fn list_lite_topics(
        &self,
        request: wire::ListLiteTopicsRequest,
    ) -> Result<wire::ListLiteTopicsResponse, Status> {
        let name = topic::named(&request.namespace, &request.topic)?;
        let view = self.route.view();
        let Some(found) = view.topics.get(&name) else {
            return Err(refused(CatalogError::NotFound(format!("topic {name}"))));
        };
        let limit = if request.limit == 0 { LITE_PAGE.0 } else { request.limit.min(LITE_PAGE.1) };
        let holders = Self::holders(&view, found.id);
        let replies = self.peers.ask(&holders, READ_LIMIT, |mut broker, _| {
            let request = request.clone();
            async move { broker.list_lite_topics(request).await }
        });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(merge::lite(limit, sorted(replies.await)?.somewhere()?))
    }

    pub(in super::super) async fn show_group(
        &self,
        request: wire::ShowGroupRequest,
    ) -> Result<wire::ShowGroupResponse, Status> {
        let name = group::named(&request.namespace, &request.name)?;
        let view = self.route.view();
        let Some(found) = view.groups.get(&name) else {
            return Err(refused(CatalogError::NotFound(format!("consumer group {name}"))));
        };
        let everyone = Self::everyone(&view);
        let replies = self.peers.ask(&everyone, READ_LIMIT, |mut broker, _| {
            let request = request.clone();
            async move { broker.show_group(request).await }
        });
        Ok(merge::group(group_out(found), sorted(replies.await)?))
    }

    pub(in super::super) async fn group_lag(
        &self,
        request: wire::GroupLagRequest,
    ) -> Result<wire::GroupLagResponse, Status> {
        let name = group::named(&request.namespace, &request.name)?;
        let view = self.route.view();
        if !view.groups.contains_key(&name) {
            return Err(refused(CatalogError::NotFound(format!("consumer group {name}"))));
        }
        let everyone = Self::everyone(&view);
        let replies = self.peers.ask(&everyone, READ_LIMIT, |mut broker, _| {
            let request = request.clone();
            async move { broker.group_lag(request).await }
        });
        Ok(merge::lag(sorted(replies.await)?))
    }
}
