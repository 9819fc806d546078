//! QueryRoute and QueryAssignment.

use std::sync::Arc;

use crate::model::topic::Topic;
use crate::proxy::call::Call;
use crate::proxy::convert::names;
use crate::proxy::convert::route::{Address, RouteBuilder};
use crate::proxy::status::{Refusal, ok};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;

/// The queues of a topic.
pub fn query_route(call: &Call, request: v2::QueryRouteRequest) -> v2::QueryRouteResponse {
    match find_topic(call, request.topic.as_ref()) {
        Ok(topic) => {
            let homes = call.shared.brokers.homes(&topic);
            let address = call.shared.address_for(&call.caller, request.endpoints.as_ref());
            let message_queues = builder(request.topic, &topic, &homes, &address).queues();
            v2::QueryRouteResponse { status: Some(ok()), message_queues }
        }
        Err(refusal) => v2::QueryRouteResponse { status: Some(call.caller.refused(&refusal)), ..Default::default() },
    }
}

/// What a member of a group polls.
pub fn query_assignment(call: &Call, request: v2::QueryAssignmentRequest) -> v2::QueryAssignmentResponse {
    match find_assigned(call, &request) {
        Ok((topic, ordered)) => {
            let homes = call.shared.brokers.homes(&topic);
            let address = call.shared.address_for(&call.caller, request.endpoints.as_ref());
            let assignments = builder(request.topic, &topic, &homes, &address).assignments(ordered);
            v2::QueryAssignmentResponse { status: Some(ok()), assignments }
        }
        Err(refusal) => {
            v2::QueryAssignmentResponse { status: Some(call.caller.refused(&refusal)), ..Default::default() }
        }
    }
}

fn builder<'a>(
    resource: Option<v2::Resource>,
    topic: &'a Topic,
    homes: &'a [Arc<str>],
    address: &'a Address,
) -> RouteBuilder<'a> {
    RouteBuilder { resource, topic, homes, address }
}

fn find_topic(call: &Call, resource: Option<&v2::Resource>) -> Result<Arc<Topic>, Refusal> {
    call.caller.require_client()?;
    let name = names::topic(&call.caller, resource)?;
    call.about_topic(&name);
    call.shared.brokers.topic(&name).ok_or_else(|| Refusal::unknown_topic(&name))
}

fn find_assigned(call: &Call, request: &v2::QueryAssignmentRequest) -> Result<(Arc<Topic>, bool), Refusal> {
    call.caller.require_client()?;
    let topic_name = names::topic(&call.caller, request.topic.as_ref())?;
    let group_name = names::group(&call.caller, request.group.as_ref())?;
    call.about_group(&group_name);
    let topic = find_topic(call, request.topic.as_ref())?;
    if !topic.permission.readable {
        return Err(Refusal::new(
            Code::Forbidden,
            format!("no readable queue: topic {topic_name} does not allow receiving"),
        ));
    }
    let group = call.shared.brokers.group_or_default(&group_name).ok_or_else(|| {
        Refusal::new(Code::ConsumerGroupNotFound, format!("consumer group {group_name} does not exist"))
    })?;
    let ordered = group.is_ordered(topic.topic_type);
    Ok((topic, ordered))
}
