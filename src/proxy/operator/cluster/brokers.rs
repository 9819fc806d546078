//! Emptying a broker, and what still lies on it.

use std::sync::Arc;

use tonic::Status;

use super::catalogue::{not_done, seen};
use super::overview::broker_member;
use super::{Cluster, READ_LIMIT};
use crate::model::cluster::{Shard, View};
use crate::model::name::TopicName;
use crate::wire::admin as wire;

impl Cluster {
    pub(in super::super) async fn drain_broker(
        &self,
        request: wire::DrainBrokerRequest,
    ) -> Result<wire::DrainBrokerResponse, Status> {
        let view = self.route.view();
        let shard = known(&view, &request.broker)?;
        let others = view.shards.values().filter(|other| other.id != shard.id && !other.draining).count();
        if request.drain && others == 0 {
            return Err(Status::failed_precondition(format!(
                "{} is the last broker that is not draining: its topics would have nowhere to go",
                shard.name
            )));
        }
        let revision = self.route.drain(shard.id, request.drain).await.map_err(|error| not_done(&error))?;
        tracing::info!(broker = %shard.name, drain = request.drain, "an operator changed whether a broker is emptied");
        seen(&self.route, revision).await;
        Ok(wire::DrainBrokerResponse { revision: revision.0 })
    }

    pub(in super::super) async fn forget_broker(
        &self,
        request: wire::ForgetBrokerRequest,
    ) -> Result<wire::ForgetBrokerResponse, Status> {
        let name = known(&self.route.view(), &request.broker)?.name.clone();
        let revision = self.route.forget(&name).await.map_err(|error| not_done(&error))?;
        tracing::warn!(broker = %name, "an operator gave up what lies on a broker");
        seen(&self.route, revision).await;
        Ok(wire::ForgetBrokerResponse { revision: revision.0 })
    }

    pub(in super::super) async fn show_broker(
        &self,
        request: wire::ShowBrokerRequest,
    ) -> Result<wire::ShowBrokerResponse, Status> {
        let view = self.route.view();
        let shard = known(&view, &request.broker)?;
        let asked =
            self.peers.ask_one(&shard, READ_LIMIT, async |mut broker| broker.status(wire::StatusRequest {}).await);
        let answer = asked.await;
        Ok(lying_on(&view, &shard, broker_member(&shard, answer.as_ref())))
    }
}

fn known(view: &View, name: &str) -> Result<Arc<Shard>, Status> {
    view.shard_named(name).cloned().ok_or_else(|| {
        let names = view.shards.values().map(|shard| &*shard.name).collect::<Vec<_>>().join(", ");
        Status::not_found(format!("broker {name} does not exist; there are {names}"))
    })
}

/// Topics of a broker, by what becomes of them when it is drained. Dead letters stay where they are.
pub(super) fn lying_on(view: &View, shard: &Shard, member: wire::Member) -> wire::ShowBrokerResponse {
    let mut answer = wire::ShowBrokerResponse { member: Some(member), ..Default::default() };
    let mut topics: Vec<_> = view.topics.values().collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    for topic in topics {
        let Some(placement) = view.placement(topic.id) else { continue };
        let name = shown(&topic.name);
        let was_there = || placement.past.iter().any(|past| past.shards.contains(&shard.id));
        match (topic.name.is_dead_letter(), placement.shards.contains(&shard.id)) {
            (true, true) => answer.dead_letters.push(name),
            (true, false) if was_there() => answer.dead_letters.push(name),
            (false, true) => answer.topics.push(name),
            (false, false) if was_there() => answer.leaving.push(name),
            _ => {}
        }
    }
    answer
}

/// A name with its namespace, when it has one.
pub(super) fn shown(name: &TopicName) -> String {
    match name.namespace() {
        "" => name.name().to_owned(),
        namespace => format!("{namespace}%{}", name.name()),
    }
}
