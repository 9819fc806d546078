//! Topics: create, update, list, show, delete.

use std::sync::Arc;

use tonic::Status;

use super::convert::{refused, topic_change, topic_out, topic_spec};
use crate::broker::api::{CatalogError, LiteListing};
use crate::broker::{Broker, GroupCounts};
use crate::model::name::TopicName;
use crate::model::topic::Topic;
use crate::wire::admin as wire;

/// Lite topics of a page unless said otherwise.
const LITE_PAGE_DEFAULT: u32 = 100;

/// Names of topics, as the operator writes them. A dead-letter topic has a name of its own kind but is named like any other.
pub(super) fn named(namespace: &str, name: &str) -> Result<TopicName, Status> {
    TopicName::new(namespace, name).map_err(|error| refused(CatalogError::Name(error)))
}

pub(super) async fn create(
    broker: &Broker,
    request: wire::CreateTopicRequest,
) -> Result<wire::CreateTopicResponse, Status> {
    let topic = request.topic.ok_or_else(|| Status::invalid_argument("topic: is missing"))?;
    let name = named(&topic.namespace, &topic.name)?;
    let existed = broker.topic(&name).is_some();
    let stored = broker.create_topic(name, topic_spec(&topic)?).await.map_err(refused)?;
    Ok(wire::CreateTopicResponse { topic: Some(topic_out(&stored)), created: !existed, revision: None })
}

pub(super) async fn update(
    broker: &Broker,
    request: wire::UpdateTopicRequest,
) -> Result<wire::UpdateTopicResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    let stored = broker.update_topic(&name, topic_change(&request)?).await.map_err(refused)?;
    Ok(wire::UpdateTopicResponse { topic: Some(topic_out(&stored)), revision: None })
}

pub(super) fn list(mut topics: Vec<Arc<Topic>>, request: &wire::ListTopicsRequest) -> wire::ListTopicsResponse {
    let wanted = |topic: &TopicName| {
        request.namespace.as_ref().is_none_or(|namespace| namespace == topic.namespace())
            && (request.include_internal || !topic.is_dead_letter())
    };
    topics.retain(|topic| wanted(&topic.name));
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    wire::ListTopicsResponse { topics: topics.iter().map(|topic| topic_out(topic)).collect() }
}

pub(super) fn show(broker: &Broker, request: &wire::ShowTopicRequest) -> Result<wire::ShowTopicResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    let (Some(topic), Some(spans)) = (broker.topic(&name), broker.queue_spans(&name)) else {
        return Err(refused(CatalogError::NotFound(format!("topic {name}"))));
    };
    let queues = spans.iter().map(|span| wire::QueueRange {
        queue_id: span.queue.get(),
        min_offset: signed(span.first.get()),
        max_offset: signed(span.next.get()),
        messages: span.next.get().saturating_sub(span.first.get()),
        broker: String::new(),
    });
    let mut readers: Vec<wire::TopicReader> =
        broker.group_counts().into_iter().filter(|counts| counts.topic == name).filter_map(reader).collect();
    readers.sort_by(|a, b| (&a.namespace, &a.group).cmp(&(&b.namespace, &b.group)));
    Ok(wire::ShowTopicResponse {
        topic: Some(topic_out(&topic)),
        queues: queues.collect(),
        lite_topics: broker.lite_topic_count(&name) as u64,
        readers,
        missing: Vec::new(),
    })
}

fn reader(counts: GroupCounts) -> Option<wire::TopicReader> {
    let outstanding = counts.ready + counts.in_flight + counts.waiting;
    (outstanding > 0).then(|| wire::TopicReader {
        namespace: counts.group.namespace().to_owned(),
        group: counts.group.name().to_owned(),
        outstanding,
    })
}

pub(super) fn list_lite(
    broker: &Broker,
    request: wire::ListLiteTopicsRequest,
) -> Result<wire::ListLiteTopicsResponse, Status> {
    let limit = if request.limit == 0 { LITE_PAGE_DEFAULT } else { request.limit };
    let listing = LiteListing {
        topic: named(&request.namespace, &request.topic)?,
        prefix: request.prefix,
        after: request.after,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let (page, more) = broker.list_lite(&listing).map_err(refused)?;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let lite_topics = page.iter().map(|lite| wire::LiteTopic {
        name: lite.name.to_string(),
        min_offset: signed(lite.first.get()),
        max_offset: signed(lite.next.get()),
        messages: lite.next.get().saturating_sub(lite.first.get()),
        groups: count(lite.groups),
        subscribers: count(lite.subscribers),
        broker: String::new(),
    });
    Ok(wire::ListLiteTopicsResponse { lite_topics: lite_topics.collect(), more, missing: Vec::new() })
}

pub(super) async fn delete(
    broker: &Broker,
    request: wire::DeleteTopicRequest,
) -> Result<wire::DeleteTopicResponse, Status> {
    let name = named(&request.namespace, &request.name)?;
    broker.delete_topic(&name).await.map_err(refused)?;
    Ok(wire::DeleteTopicResponse {})
}

/// Offsets are signed on the wire.
pub(super) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
