//! Consumer groups: create, update, list, show, delete, lag.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::Status;

use super::convert::{duration_out, group_change, group_out, group_spec, refused};
use super::topic::signed;
use crate::broker::Broker;
use crate::broker::api::CatalogError;
use crate::model::group::Group;
use crate::model::name::GroupName;
use crate::model::time::Timestamp;
use crate::wire::admin as wire;

pub(super) fn named(namespace: &str, name: &str) -> Result<GroupName, Status> {
    GroupName::new(namespace, name).map_err(|error| refused(CatalogError::Name(error)))
}

pub(super) async fn create(
    broker: &Broker,
    request: wire::CreateGroupRequest,
) -> Result<wire::CreateGroupResponse, Status> {
    let group = request.group.ok_or_else(|| Status::invalid_argument("group: is missing"))?;
    let name = named(&group.namespace, &group.name)?;
    let existed = broker.group(&name).is_some();
    let stored = broker.create_group(name, group_spec(&group)?).await.map_err(refused)?;
    Ok(wire::CreateGroupResponse { group: Some(group_out(&stored)), created: !existed, revision: None })
}

pub(super) async fn update(
    broker: &Broker,
    request: wire::UpdateGroupRequest,
) -> Result<wire::UpdateGroupResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    let stored = broker.update_group(&name, group_change(&request)?).await.map_err(refused)?;
    Ok(wire::UpdateGroupResponse { group: Some(group_out(&stored)), revision: None })
}

pub(super) fn list(mut groups: Vec<Arc<Group>>, request: &wire::ListGroupsRequest) -> wire::ListGroupsResponse {
    groups.retain(|group| request.namespace.as_ref().is_none_or(|namespace| namespace == group.name.namespace()));
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    wire::ListGroupsResponse { groups: groups.iter().map(|group| group_out(group)).collect() }
}

pub(super) fn show(broker: &Broker, request: &wire::ShowGroupRequest) -> Result<wire::ShowGroupResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    let Some(group) = broker.group(&name) else {
        return Err(refused(CatalogError::NotFound(format!("consumer group {name}"))));
    };
    // Who is connected is not told yet: the broker knows clients, but not which of them belong to a group.
    Ok(wire::ShowGroupResponse { group: Some(group_out(&group)), members: Vec::new(), missing: Vec::new() })
}

pub(super) async fn delete(
    broker: &Broker,
    request: wire::DeleteGroupRequest,
) -> Result<wire::DeleteGroupResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    broker.delete_group(&name).await.map_err(refused)?;
    Ok(wire::DeleteGroupResponse {})
}

pub(super) async fn lag(
    broker: &Broker,
    request: wire::GroupLagRequest,
    now: Timestamp,
) -> Result<wire::GroupLagResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    let mut topics: BTreeMap<String, Vec<wire::QueueLag>> = BTreeMap::new();
    for queue in broker.lag(&name).await.map_err(refused)? {
        // Within the group's namespace the plain name says it all.
        let topic = if queue.topic.namespace() == name.namespace() {
            queue.topic.name().to_owned()
        } else {
            queue.topic.to_string()
        };
        if request.topic.as_ref().is_some_and(|wanted| *wanted != topic) {
            continue;
        }
        topics.entry(topic).or_default().push(wire::QueueLag {
            queue_id: queue.span.queue.get(),
            min_offset: signed(queue.span.first.get()),
            max_offset: signed(queue.span.next.get()),
            committed_offset: signed(queue.next.get()),
            ready: queue.ready,
            in_flight: queue.in_flight,
            waiting_retry: queue.waiting_retry,
            lag: queue.lag(),
            oldest_unconsumed_age: queue.oldest.map(|stored| duration_out(now.since(stored))),
            broker: String::new(),
        });
    }
    let topics = topics.into_iter().map(|(topic, queues)| wire::TopicLag { topic, queues });
    Ok(wire::GroupLagResponse { topics: topics.collect(), missing: Vec::new() })
}
