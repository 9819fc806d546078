//! Moving a group to another position, on every broker that has the topic.

use std::sync::Arc;

use tonic::Status;

use super::super::convert::{duration_in, invalid, refused, timestamp_out};
use super::super::{group, topic};
use super::merge::{self, sorted};
use super::{Cluster, WRITE_LIMIT};
use crate::broker::api::CatalogError;
use crate::model::cluster::Shard;
use crate::wire::admin as wire;
use crate::wire::admin::reset_group_request::To;

impl Cluster {
    pub(in super::super) async fn reset_group(
        &self,
        mut request: wire::ResetGroupRequest,
    ) -> Result<wire::ResetGroupResponse, Status> {
        let group = group::named(&request.namespace, &request.name)?;
        let topic = topic::named(&request.namespace, &request.topic)?;
        let view = self.route.view();
        if !view.groups.contains_key(&group) {
            return Err(refused(CatalogError::NotFound(format!("consumer group {group}"))));
        }
        let Some(found) = view.topics.get(&topic) else {
            return Err(refused(CatalogError::NotFound(format!("topic {topic}"))));
        };
        let brokers = chosen(Self::holders(&view, found.id), &request)?;
        request.broker.clear();
        if let Some(To::Ago(ago)) = &request.to {
            // The same instant everywhere, whatever the brokers' clocks show.
            let at = self.facts.clock.now().minus(duration_in("ago", ago)?);
            request.to = Some(To::Timestamp(timestamp_out(at)));
        }
        // What one of them would refuse is refused before anything is changed.
        let preview = wire::ResetGroupRequest { dry_run: true, ..request.clone() };
        let would = sorted(self.reset_on(&brokers, preview).await)?;
        if request.dry_run {
            return Ok(merge::reset(would.somewhere()?));
        }
        would.somewhere()?;
        let (cluster, asked) = (self.clone(), request.clone());
        let done = self.tasks.spawn_background(async move { cluster.reset_on(&brokers, asked).await });
        let replies = done.await.map_err(|_| Status::internal("ended while it was under way"))?;
        let replies = all_told(replies);
        let nowhere = replies.iter().all(|reply| reply.answer.is_err());
        let told = merge::reset(sorted(replies)?);
        tracing::info!(%group, %topic, queues = told.queues.len(), missing = told.missing.len(), "an operator moved a group to another position");
        match told.missing.first() {
            Some(first) if nowhere => Err(Status::unavailable(format!(
                "it is not known to be done anywhere; {}: {}",
                first.broker, first.reason
            ))),
            _ => Ok(told),
        }
    }

    async fn reset_on(
        &self,
        brokers: &[Arc<Shard>],
        request: wire::ResetGroupRequest,
    ) -> Vec<merge::Reply<wire::ResetGroupResponse>> {
        let replies = self.peers.ask(brokers, WRITE_LIMIT, |mut broker, _| {
            let request = request.clone();
            async move { broker.reset_group(request).await }
        });
        replies.await
    }
}

/// Some brokers may have done it by now, so a refusal of one is told as what is missing and not instead of what was done.
fn all_told(replies: Vec<merge::Reply<wire::ResetGroupResponse>>) -> Vec<merge::Reply<wire::ResetGroupResponse>> {
    let told = |reply: merge::Reply<wire::ResetGroupResponse>| merge::Reply {
        answer: reply.answer.map_err(|status| Status::internal(merge::why(&status))),
        ..reply
    };
    replies.into_iter().map(told).collect()
}

/// The brokers that are meant.
fn chosen(holders: Vec<Arc<Shard>>, request: &wire::ResetGroupRequest) -> Result<Vec<Arc<Shard>>, Status> {
    if !request.broker.is_empty() {
        let meant: Vec<_> = holders.iter().filter(|shard| *shard.name == *request.broker).cloned().collect();
        let homes = holders.iter().map(|shard| &*shard.name).collect::<Vec<_>>().join(", ");
        return match meant.is_empty() {
            true => Err(Status::not_found(format!(
                "topic {} is not on {}; it is on {homes}",
                request.topic, request.broker
            ))),
            false => Ok(meant),
        };
    }
    if let (Some(To::Offset(_)), [_, _, ..]) = (&request.to, holders.as_slice()) {
        return Err(invalid("offset", "names one place; where there are several brokers, broker must say on which"));
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::ShardId;
    use tonic::Code;

    fn shard(id: u32) -> Arc<Shard> {
        Arc::new(Shard {
            id: ShardId(id),
            name: format!("broker-{id}").into(),
            address: "".into(),
            version: "".into(),
            alive: true,
            draining: false,
            holder: None,
        })
    }

    #[test]
    fn an_offset_is_a_place_on_one_broker_only() {
        let offset = |broker: &str| wire::ResetGroupRequest {
            to: Some(To::Offset(5)),
            broker: broker.to_owned(),
            ..Default::default()
        };
        assert_eq!(chosen(vec![shard(0), shard(1)], &offset("")).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(chosen(vec![shard(0), shard(1)], &offset("broker-1")).unwrap(), [shard(1)]);
        assert_eq!(chosen(vec![shard(0)], &offset("")).unwrap(), [shard(0)]);
        let elsewhere = chosen(vec![shard(0), shard(1)], &offset("broker-7")).unwrap_err();
        assert!(elsewhere.message().contains("broker-0, broker-1"), "{}", elsewhere.message());
        let everywhere = wire::ResetGroupRequest::default();
        assert_eq!(chosen(vec![shard(0), shard(1)], &everywhere).unwrap().len(), 2);
    }

    #[test]
    fn a_refusal_after_another_broker_did_it_does_not_hide_what_was_done() {
        let reply = |name: &str, answer| merge::Reply { broker: name.into(), answer };
        let done = wire::ResetGroupResponse { queues: vec![wire::QueueReset::default()], missing: Vec::new() };
        let replies = all_told(vec![reply("a", Ok(done)), reply("b", Err(Status::failed_precondition("disabled")))]);
        let told = merge::reset(sorted(replies).unwrap());
        assert_eq!((told.queues.len(), told.queues[0].broker.as_str()), (1, "a"));
        assert_eq!((told.missing[0].broker.as_str(), told.missing[0].reason.as_str()), ("b", "disabled"));
    }
}
