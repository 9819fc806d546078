//! Moving a group to another position.

use tonic::Status;

use super::convert::{duration_in, instant_in, invalid, refused};
use super::topic::signed;
use crate::broker::Broker;
use crate::broker::api::{CatalogError, OffsetError, QueueSeek, SeekTarget};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::time::Timestamp;
use crate::wire::admin as wire;
use crate::wire::admin::reset_group_request::{Edge, To};

pub(super) async fn reset(
    broker: &Broker,
    request: &wire::ResetGroupRequest,
    now: Timestamp,
) -> Result<wire::ResetGroupResponse, Status> {
    let bad_name = |error| refused(CatalogError::Name(error));
    let group = GroupName::new(&request.namespace, &request.name).map_err(bad_name)?;
    let topic = TopicName::new(&request.namespace, &request.topic).map_err(bad_name)?;
    let to = target(request, now)?;
    let queue = request.queue_id.map(QueueId);
    let seeks = broker.reset_group(&group, &topic, queue, to, request.dry_run).await.map_err(refused_reset)?;
    if !request.dry_run {
        tracing::info!(%group, %topic, queues = seeks.len(), "an operator moved a group to another position");
    }
    Ok(wire::ResetGroupResponse { queues: seeks.iter().map(told).collect(), missing: Vec::new() })
}

fn target(request: &wire::ResetGroupRequest, now: Timestamp) -> Result<SeekTarget, Status> {
    match &request.to {
        Some(To::Edge(edge)) => match Edge::try_from(*edge) {
            Ok(Edge::Earliest) => Ok(SeekTarget::Earliest),
            Ok(Edge::Latest) => Ok(SeekTarget::Latest),
            Ok(Edge::Unspecified) | Err(_) => Err(invalid("edge", "is none of the known ones")),
        },
        Some(To::Timestamp(at)) => instant_in("timestamp", at).map(SeekTarget::At),
        Some(To::Ago(ago)) => Ok(SeekTarget::At(now.minus(duration_in("ago", ago)?))),
        Some(To::Offset(offset)) => {
            let offset = u64::try_from(*offset).map_err(|_| invalid("offset", "is negative"))?;
            Ok(SeekTarget::Offset(QueueOffset(offset)))
        }
        None => Err(invalid("to", "is missing")),
    }
}

fn told(one: &QueueSeek) -> wire::QueueReset {
    wire::QueueReset {
        queue_id: one.queue.get(),
        from_offset: signed(one.seek.from.get()),
        to_offset: signed(one.seek.to.get()),
        skipped: one.seek.skipped,
        rewound: one.seek.rewound,
        in_flight: one.seek.in_flight,
        broker: String::new(),
    }
}

fn refused_reset(error: OffsetError) -> Status {
    let text = error.to_string();
    match error {
        OffsetError::TopicNotFound(_) | OffsetError::GroupNotFound(_) | OffsetError::NoPosition { .. } => {
            Status::not_found(text)
        }
        OffsetError::WhichQueue { .. } | OffsetError::UnknownBroker { .. } => Status::invalid_argument(text),
        OffsetError::UnknownQueue { .. }
        | OffsetError::OutOfRange { .. }
        | OffsetError::NotReadable(_)
        | OffsetError::GroupDisabled(_) => Status::failed_precondition(text),
        OffsetError::Overloaded => Status::resource_exhausted(text),
        OffsetError::Unavailable => Status::unavailable(text),
        OffsetError::ShardFailed(_) => Status::internal(text),
    }
}
