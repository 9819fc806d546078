//! The cluster at a glance.

use tonic::Status;

use super::super::convert::duration_out;
use super::Cluster;
use super::merge::{Reply, shards, why};
use super::problems::problems;
use crate::model::cluster::{Revision, Shard, View};
use crate::route::Member;
use crate::wire::admin as wire;

impl Cluster {
    pub(in super::super) async fn cluster_status(
        &self,
        _: wire::ClusterStatusRequest,
    ) -> Result<wire::ClusterStatusResponse, Status> {
        let view = self.route.view();
        let (replies, known) = tokio::join!(self.statuses(&view), self.route.members());
        let mut members = vec![self.route_member(&view)];
        for reply in &replies {
            let shard = view.shard_named(&reply.broker);
            members.extend(shard.map(|shard| broker_member(shard, reply.answer.as_ref())));
        }
        let (proxies, sealed) = match known {
            Ok(known) => (known.members, Some(known.sealed)),
            Err(_) => (Vec::new(), None),
        };
        members.extend(proxies.iter().filter(|member| member.is_proxy()).map(proxy_member));
        self.add_oneself(&view, &mut members);
        members.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        let moves = self.moves(&view, sealed.as_ref().unwrap_or(&super::moves::Sealed::new()), |_| true).await;
        Ok(put_together(&view, members, &replies, moves))
    }

    /// The route service as it is seen from here.
    fn route_member(&self, view: &View) -> wire::Member {
        let (alive, is_here) = (self.route.connected(), self.seat.role == wire::Role::Route);
        wire::Member {
            role: wire::Role::Route.into(),
            name: if is_here { self.seat.name.to_string() } else { "route".to_owned() },
            version: if is_here { env!("CARGO_PKG_VERSION").to_owned() } else { String::new() },
            alive,
            revision: alive.then_some(view.revision.0),
            ready: Some(alive),
            reason: if alive { String::new() } else { "does not answer".to_owned() },
            uptime: is_here.then(|| duration_out(self.facts.uptime())),
            ..Default::default()
        }
    }

    /// This process knows itself better than the route service does, and also when that is away.
    fn add_oneself(&self, view: &View, members: &mut Vec<wire::Member>) {
        if self.seat.role != wire::Role::Proxy {
            return;
        }
        let own = self.own_status(view);
        let oneself = wire::Member {
            role: own.role,
            name: own.name,
            version: own.version,
            alive: true,
            revision: own.revision,
            ready: Some(own.ready),
            reason: own.reason,
            uptime: own.uptime,
            connections: Some(own.connections),
            ..Default::default()
        };
        members.retain(|member| (member.role, &member.name) != (oneself.role, &oneself.name));
        members.push(oneself);
    }
}

/// A broker by what the route service knows and what it said itself.
pub(super) fn broker_member(shard: &Shard, answer: Result<&wire::StatusResponse, &Status>) -> wire::Member {
    let known = wire::Member {
        role: wire::Role::Broker.into(),
        name: shard.name.to_string(),
        address: shard.address.to_string(),
        version: shard.version.to_string(),
        alive: shard.alive,
        draining: shard.draining,
        shard_id: Some(shard.id.get()),
        ..Default::default()
    };
    match answer {
        Ok(status) => wire::Member {
            revision: status.revision,
            ready: Some(status.ready),
            reason: status.reason.clone(),
            uptime: status.uptime,
            version: if status.version.is_empty() { known.version } else { status.version.clone() },
            ..known
        },
        Err(status) => wire::Member { ready: Some(false), reason: why(status), ..known },
    }
}

fn proxy_member(member: &Member) -> wire::Member {
    wire::Member {
        role: wire::Role::Proxy.into(),
        name: member.me.name.clone(),
        version: member.me.version.clone(),
        // Who is on the list holds a lease.
        alive: true,
        revision: member.revision.map(|Revision(at)| at),
        connections: member.connections,
        ..Default::default()
    }
}

fn put_together(
    view: &View,
    members: Vec<wire::Member>,
    replies: &[Reply<wire::StatusResponse>],
    moves: Vec<wire::TopicMove>,
) -> wire::ClusterStatusResponse {
    let logs = replies.iter().flat_map(|reply| match &reply.answer {
        Ok(status) => shards(&reply.broker, status),
        Err(_) => Vec::new(),
    });
    let mut answer = wire::ClusterStatusResponse {
        cluster_id: view.cluster.to_string(),
        revision: view.revision.0,
        problems: Vec::new(),
        members,
        shards: logs.collect(),
        moves,
        topics: view.topics.values().filter(|topic| !topic.name.is_dead_letter()).count() as u64,
        groups: view.groups.len() as u64,
        receipt_keys: view.receipt_keys.iter().map(|key| u32::from(key.id)).collect(),
    };
    answer.problems = problems(view, &answer);
    answer
}
