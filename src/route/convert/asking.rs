//! What a member asks of the service on the wire, and what it reads of the answers.

use std::sync::Arc;

use crate::model::cluster::Revision;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{ShardId, TopicId};
use crate::route::client::{Me, Role, RouteError};
use crate::route::convert::{
    Unclear, cluster_id, group_in, group_spec_out, holder_bytes, refusal_in, topic_in, topic_spec_out,
};
use crate::route::members::{Member, Members};
use crate::route::state::{Command, Outcome};
use crate::wire::route as wire;

pub(in crate::route) fn hello_of(me: &Me) -> wire::Hello {
    let role = match me.role {
        Role::Broker => wire::Role::Broker,
        Role::Proxy => wire::Role::Proxy,
    };
    wire::Hello {
        role: role.into(),
        name: me.name.clone(),
        address: me.address.clone(),
        version: me.version.clone(),
        revision: 0,
        cluster: Vec::new(),
        holder: holder_bytes(me.holder),
        known: None,
        known_cluster: Vec::new(),
    }
}

fn name(namespace: &str, name: &str) -> wire::Name {
    wire::Name { namespace: namespace.to_owned(), name: name.to_owned(), id: 0 }
}

pub(in crate::route) fn request(command: Command) -> wire::ChangeRequest {
    use wire::change_request::Change as Asked;
    let topic = |of: &TopicName| name(of.namespace(), of.name());
    let group = |of: &GroupName| name(of.namespace(), of.name());
    let report = |topic: TopicId, generation, shard: ShardId| wire::Report {
        topic: topic.get(),
        generation,
        shard: shard.get(),
    };
    let change = match command {
        Command::Register { name, address, version, holder } => {
            let me = Me { role: Role::Broker, name, address, version, holder };
            Some(Asked::Register(hello_of(&me)))
        }
        Command::CreateTopic(of, spec) => {
            Some(Asked::CreateTopic(wire::TopicWish { name: Some(topic(&of)), spec: Some(topic_spec_out(&spec)) }))
        }
        Command::UpdateTopic(of, spec) => {
            Some(Asked::UpdateTopic(wire::TopicWish { name: Some(topic(&of)), spec: Some(topic_spec_out(&spec)) }))
        }
        Command::DeleteTopic(of) => Some(Asked::DeleteTopic(topic(&of))),
        Command::CreateGroup(of, spec) => {
            Some(Asked::CreateGroup(wire::GroupWish { name: Some(group(&of)), spec: Some(group_spec_out(&spec)) }))
        }
        Command::UpdateGroup(of, spec) => {
            Some(Asked::UpdateGroup(wire::GroupWish { name: Some(group(&of)), spec: Some(group_spec_out(&spec)) }))
        }
        Command::DeleteGroup(of) => Some(Asked::DeleteGroup(group(&of))),
        Command::Rebalance(of) => Some(Asked::Rebalance(topic(&of))),
        Command::Sealed(topic, generation, shard) => Some(Asked::Sealed(report(topic, generation, shard))),
        Command::Drained(topic, generation, shard) => Some(Asked::Drained(report(topic, generation, shard))),
        Command::Drain(shard, draining) => Some(Asked::Drain(wire::Drain { shard: shard.get(), draining })),
        Command::RotateKey(_) => Some(Asked::RotateKey(wire::RotateKey {})),
        Command::Forget(broker) => Some(Asked::Forget(wire::Forget { broker })),
        // The service's own.
        Command::Found(..) | Command::Begin(..) | Command::Alive(..) | Command::Continue => None,
    };
    wire::ChangeRequest { change }
}

pub(in crate::route) fn members_in(answer: wire::MembersResponse) -> Members {
    let member = |member: wire::Member| Member {
        me: Me {
            role: if member.role() == wire::Role::Broker { Role::Broker } else { Role::Proxy },
            name: member.name,
            address: member.address,
            version: member.version,
            // Not told: nobody needs it.
            holder: None,
        },
        revision: member.revision.map(Revision),
        connections: member.connections,
    };
    let sealed = |sealed: wire::Sealed| (TopicId(sealed.topic), sealed.shards.into_iter().map(ShardId).collect());
    Members {
        members: answer.members.into_iter().map(member).collect(),
        sealed: answer.sealed.into_iter().map(sealed).collect(),
    }
}

pub(in crate::route) fn read(answer: wire::ChangeResponse) -> Result<(Outcome, Revision), RouteError> {
    use wire::change_response::Outcome as Said;
    let unclear = |error: Unclear| RouteError::Away(error.to_string());
    let outcome = match answer.outcome {
        None | Some(Said::Done(_)) => Outcome::Done,
        Some(Said::Topic(topic)) => Outcome::Topic(Arc::new(topic_in(topic).map_err(unclear)?)),
        Some(Said::Group(group)) => Outcome::Group(Arc::new(group_in(group).map_err(unclear)?)),
        Some(Said::Registered(registered)) => {
            Outcome::Registered(ShardId(registered.shard), cluster_id(&registered.cluster).map_err(unclear)?)
        }
        Some(Said::Refusal(refusal)) => return Err(RouteError::Refused(refusal_in(refusal))),
    };
    Ok((outcome, Revision(answer.revision)))
}
