//! `bolide.route.v1.Route` over a route service in this process.

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::model::cluster::Revision;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{ShardId, TopicId};
use crate::model::settings::CatalogError;
use crate::route::client::{Me, Role};
use crate::route::convert::{
    Unclear, cluster_bytes, cluster_id, group_out, group_spec_in, holder_id, life_in, refusal_out, topic_out,
    topic_spec_in,
};
use crate::route::members::{Listed, Member, Members};
use crate::route::service::{Membership, Route};
use crate::route::state::{Command, Outcome};
use crate::route::version;
use crate::route::watching::Watching;
use crate::trust::Trust;
use crate::wire::route as wire;
use crate::wire::route::route_server::Route as Service;

/// How long a stream may be open without a word.
const HELLO_LIMIT: Duration = Duration::from_secs(5);

/// Makes the service.
#[derive(Clone, Copy, Debug)]
pub struct RouteServer;

impl RouteServer {
    /// Serves `route` to who shows what `trust` asks for; to be added to a tonic server.
    #[must_use]
    #[expect(
        clippy::new_ret_no_self,
        reason = "the type of the service is generated, and of no interest to who adds it"
    )]
    pub fn new(route: Route, trust: Trust) -> wire::route_server::RouteServer<Serving> {
        wire::route_server::RouteServer::new(Serving { route, trust })
    }
}

/// The service itself.
#[derive(Clone, Debug)]
pub struct Serving {
    route: Route,
    trust: Trust,
}

fn unclear(error: Unclear) -> CatalogError {
    CatalogError::Invalid(error.to_string())
}

fn topic_name(name: Option<wire::Name>) -> Result<TopicName, CatalogError> {
    let name = name.unwrap_or_default();
    Ok(TopicName::new(&name.namespace, &name.name)?)
}

fn group_name(name: Option<wire::Name>) -> Result<GroupName, CatalogError> {
    let name = name.unwrap_or_default();
    Ok(GroupName::new(&name.namespace, &name.name)?)
}

fn register(hello: wire::Hello) -> Result<Command, CatalogError> {
    let holder = holder_id(&hello.holder).map_err(unclear)?;
    Ok(Command::Register { name: hello.name, address: hello.address, version: hello.version, holder })
}

impl Serving {
    async fn do_change(&self, request: wire::ChangeRequest) -> Result<(Outcome, Revision), CatalogError> {
        use wire::change_request::Change;
        let change = request.change.ok_or_else(|| unclear(Unclear("change")))?;
        let command = match change {
            Change::Register(hello) => register(hello)?,
            Change::CreateTopic(wish) => {
                let spec = topic_spec_in(wish.spec.unwrap_or_default()).map_err(unclear)?;
                Command::CreateTopic(topic_name(wish.name)?, spec)
            }
            Change::UpdateTopic(wish) => {
                let spec = topic_spec_in(wish.spec.unwrap_or_default()).map_err(unclear)?;
                Command::UpdateTopic(topic_name(wish.name)?, spec)
            }
            Change::DeleteTopic(name) => Command::DeleteTopic(topic_name(Some(name))?),
            Change::CreateGroup(wish) => {
                let spec = group_spec_in(wish.spec.unwrap_or_default()).map_err(unclear)?;
                Command::CreateGroup(group_name(wish.name)?, spec)
            }
            Change::UpdateGroup(wish) => {
                let spec = group_spec_in(wish.spec.unwrap_or_default()).map_err(unclear)?;
                Command::UpdateGroup(group_name(wish.name)?, spec)
            }
            Change::DeleteGroup(name) => Command::DeleteGroup(group_name(Some(name))?),
            Change::Rebalance(name) => Command::Rebalance(topic_name(Some(name))?),
            Change::Sealed(report) => Command::Sealed(TopicId(report.topic), report.generation, ShardId(report.shard)),
            Change::Drained(report) => {
                Command::Drained(TopicId(report.topic), report.generation, ShardId(report.shard))
            }
            Change::Drain(drain) => Command::Drain(ShardId(drain.shard), drain.draining),
            Change::Forget(forget) => Command::Forget(forget.broker),
            Change::RotateKey(_) => {
                return self.route.rotate_key().await.map(|revision| (Outcome::Done, revision));
            }
        };
        self.route.execute(command).await
    }

    /// Whether the member belongs here, and its place among the members.
    async fn welcome(&self, hello: &wire::Hello) -> Result<(Membership, Listed, Option<Revision>), Status> {
        if let Some(words) = version::refusal(&hello.version, version::OWN) {
            return Err(Status::failed_precondition(words));
        }
        let theirs = cluster_id(&hello.cluster).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ours = self.route.view().cluster;
        if !hello.cluster.is_empty() && theirs != ours {
            return Err(Status::failed_precondition(format!(
                "{:?} belongs to cluster {theirs}, and this is the route service of cluster {ours}",
                hello.name
            )));
        }
        // Who followed another cluster finds that out by itself, and ends with words of its own.
        let is_of_ours = hello.known_cluster == cluster_bytes(ours);
        let known = hello.known.as_ref().filter(|_| is_of_ours).map(life_in);
        let (strays, forgot) = {
            let desk = self.route.inner.desk.lock();
            (
                known.is_some_and(|known| desk.state.strays(known)),
                known.and_then(|known| desk.state.forgot(&hello.name, known)),
            )
        };
        if let Some(words) = forgot.filter(|_| hello.role() == wire::Role::Broker) {
            return Err(Status::failed_precondition(words));
        }
        let broker = match hello.role() {
            wire::Role::Broker => {
                Some(register(hello.clone()).map_err(|error| Status::invalid_argument(error.to_string()))?)
            }
            wire::Role::Proxy => None,
            wire::Role::Unspecified => return Err(Status::invalid_argument("a member is a broker or a proxy")),
        };
        let joined = self.route.join(broker).await.map_err(|error| match error {
            CatalogError::TooMany(text) => Status::resource_exhausted(text),
            CatalogError::Held(text) => Status::already_exists(text),
            CatalogError::Overloaded | CatalogError::ShardFailed => Status::unavailable(error.to_string()),
            other => Status::failed_precondition(other.to_string()),
        })?;
        let me = Me {
            role: if hello.role() == wire::Role::Broker { Role::Broker } else { Role::Proxy },
            name: hello.name.clone(),
            address: hello.address.clone(),
            version: hello.version.clone(),
            holder: holder_id(&hello.holder).ok().flatten(),
        };
        // What it knows of before counts until it says more; nothing, when it comes for the first time. Revisions of another
        // past may be numbers of this one, too: nothing can be built on them.
        let seen = Revision(if strays { 0 } else { hello.revision });
        Ok((joined, self.route.list(me, Some(seen)), Some(seen).filter(|seen| seen.0 > 0)))
    }
}

fn member_out(member: Member) -> wire::Member {
    let role = if member.is_proxy() { wire::Role::Proxy } else { wire::Role::Broker };
    wire::Member {
        role: role.into(),
        name: member.me.name,
        address: member.me.address,
        version: member.me.version,
        revision: member.revision.map(|revision| revision.0),
        connections: member.connections,
    }
}

/// Hears what the member says until it says good-bye, or nothing more. A cut ends no lease: time does.
async fn hear(mut said: Streaming<wire::WatchRequest>, member: Membership, listed: Listed) {
    use wire::watch_request::Request as Said;
    while let Ok(Some(request)) = said.message().await {
        match request.request {
            Some(Said::Goodbye(_)) => return member.leave(),
            Some(Said::Renew(renew)) => {
                listed.tell(renew.revision.map(Revision), renew.connections);
                member.renew();
            }
            Some(Said::Hello(_)) | None => member.renew(),
        }
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<wire::WatchEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Serving {
    type WatchStream = Events;

    async fn watch(&self, request: Request<Streaming<wire::WatchRequest>>) -> Result<Response<Events>, Status> {
        self.trust.check(request.metadata())?;
        let mut said = request.into_inner();
        let first = tokio::select! {
            biased;
            first = said.message() => first?,
            () = self.route.inner.clock.sleep(HELLO_LIMIT) => None,
        };
        let Some(wire::watch_request::Request::Hello(hello)) = first.and_then(|first| first.request) else {
            return Err(Status::invalid_argument("a member says hello first"));
        };
        let (member, listed, seen) = self.welcome(&hello).await?;
        let shutdown = self.route.shutdown().clone();
        drop(self.route.inner.tasks.spawn_background(async move {
            tokio::select! {
                biased;
                () = shutdown.stopping() => {}
                () = hear(said, member, listed) => {}
            }
        }));
        let parts = stream::unfold(Watching::new(self.route.clone(), seen), |mut watching| async move {
            let part = watching.next().await?;
            Some((part, watching))
        });
        let events = parts.map(|part| {
            Ok(wire::WatchEvent {
                from: part.from.0,
                revision: part.revision.0,
                last: part.last,
                changes: part.changes,
                cluster: cluster_bytes(part.cluster),
            })
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn members(&self, request: Request<wire::MembersRequest>) -> Result<Response<wire::MembersResponse>, Status> {
        self.trust.check(request.metadata())?;
        let Members { members, sealed } = self.route.members();
        let sealed = sealed.into_iter().map(|(topic, shards)| wire::Sealed {
            topic: topic.get(),
            shards: shards.into_iter().map(ShardId::get).collect(),
        });
        let members = members.into_iter().map(member_out).collect();
        Ok(Response::new(wire::MembersResponse { members, sealed: sealed.collect() }))
    }

    async fn change(&self, request: Request<wire::ChangeRequest>) -> Result<Response<wire::ChangeResponse>, Status> {
        use wire::change_response::Outcome as Said;
        self.trust.check(request.metadata())?;
        let (outcome, revision) = match self.do_change(request.into_inner()).await {
            Ok((Outcome::Done, revision)) => (Said::Done(wire::Done {}), revision),
            Ok((Outcome::Topic(topic), revision)) => (Said::Topic(topic_out(&topic)), revision),
            Ok((Outcome::Group(group), revision)) => (Said::Group(group_out(&group)), revision),
            Ok((Outcome::Registered(shard, cluster), revision)) => {
                let cluster = cluster_bytes(cluster);
                (Said::Registered(wire::Registered { shard: shard.get(), cluster }), revision)
            }
            Err(error) => (Said::Refusal(refusal_out(error)), Revision(0)),
        };
        Ok(Response::new(wire::ChangeResponse { revision: revision.0, outcome: Some(outcome) }))
    }
}
