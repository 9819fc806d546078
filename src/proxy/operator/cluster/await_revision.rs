//! Waiting until everybody has followed a change.

use std::time::Duration;

use tonic::Status;

use super::super::convert::duration_in;
use super::Cluster;
use super::merge::{Reply, why};
use crate::model::cluster::{Revision, View};
use crate::route::Member;
use crate::wire::admin as wire;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks: it grows from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

impl Cluster {
    pub(in super::super) async fn await_revision(
        &self,
        request: wire::AwaitRevisionRequest,
    ) -> Result<wire::AwaitRevisionResponse, Status> {
        let timeout = request.timeout.as_ref().map(|wire| duration_in("timeout", wire)).transpose()?;
        let timeout = timeout.unwrap_or(TIMEOUT_DEFAULT).min(TIMEOUT_MAX);
        let wanted = Revision(request.revision);
        let (begun, mut pause) = (self.facts.clock.mark(), PAUSE.0);
        self.route.reached(wanted, timeout).await;
        loop {
            let view = self.route.view();
            let behind = self.behind(&view, wanted).await;
            let left = timeout.saturating_sub(begun.elapsed());
            if behind.is_empty() || left.is_zero() {
                return Ok(wire::AwaitRevisionResponse { behind });
            }
            self.facts.clock.sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn behind(&self, view: &View, wanted: Revision) -> Vec<wire::Behind> {
        let mut behind = brokers_behind(view, wanted, &self.statuses(view).await);
        match self.route.members().await {
            Ok(known) => behind.extend(proxies_behind(wanted, &known.members)),
            Err(error) => behind.push(wire::Behind {
                role: wire::Role::Route.into(),
                name: String::new(),
                reason: format!("which proxies there are is not known: {error}"),
            }),
        }
        behind
    }
}

/// Where a member stands. One that does not tell, being older, is not waited for.
fn place(role: wire::Role, name: &str, at: Option<u64>, wanted: Revision) -> Option<wire::Behind> {
    let at = at.filter(|&at| at < wanted.0)?;
    let reason = format!("is at revision {}, not at {wanted}", Revision(at));
    Some(wire::Behind { role: role.into(), name: name.to_owned(), reason })
}

/// A broker that holds no lease will follow before it serves, so nobody waits for it.
fn brokers_behind(view: &View, wanted: Revision, replies: &[Reply<wire::StatusResponse>]) -> Vec<wire::Behind> {
    let is_alive = |name: &str| view.shard_named(name).is_some_and(|shard| shard.alive);
    let alive = replies.iter().filter(|reply| is_alive(&reply.broker));
    let behind = alive.filter_map(|Reply { broker, answer }| match answer {
        Ok(status) => place(wire::Role::Broker, broker, status.revision, wanted),
        Err(status) => {
            Some(wire::Behind { role: wire::Role::Broker.into(), name: broker.to_string(), reason: why(status) })
        }
    });
    behind.collect()
}

fn proxies_behind(wanted: Revision, members: &[Member]) -> Vec<wire::Behind> {
    let proxies = members.iter().filter(|member| member.is_proxy());
    proxies
        .filter_map(|proxy| place(wire::Role::Proxy, &proxy.me.name, proxy.revision.map(|at| at.0), wanted))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::cluster::Shard;
    use crate::model::position::ShardId;

    #[test]
    fn nobody_waits_for_who_is_dead_or_too_old_to_tell() {
        // (holds a lease, what it answers, whether it is waited for)
        let at = |revision| Ok(wire::StatusResponse { revision, ..Default::default() });
        let table = [
            (true, at(Some(9)), false),
            (true, at(Some(10)), false),
            (true, at(Some(8)), true),
            (true, at(None), false),
            (true, Err(Status::unavailable("gone")), true),
            (false, at(Some(8)), false),
            (false, Err(Status::unavailable("gone")), false),
        ];
        for (number, (alive, answer, waited)) in table.into_iter().enumerate() {
            let shard = Shard {
                id: ShardId(0),
                name: "b".into(),
                address: "".into(),
                version: "".into(),
                alive,
                draining: false,
                holder: None,
            };
            let mut view = View::default();
            view.shards.insert(ShardId(0), Arc::new(shard));
            let behind = brokers_behind(&view, Revision(9), &[Reply { broker: "b".into(), answer }]);
            assert_eq!(behind.len(), usize::from(waited), "{number}: {behind:?}");
        }
    }
}
