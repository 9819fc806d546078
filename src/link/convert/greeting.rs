//! The first words of both ends.

use crate::link::convert::words::{Malformed, cluster_in, cluster_out};
use crate::link::hello::{Hello, Role};
use crate::model::position::ShardId;
use crate::wire::broker as wire;

/// Who speaks.
#[must_use]
pub fn hello_out(hello: &Hello) -> wire::Hello {
    let role = match hello.role {
        Role::Proxy => wire::Role::Proxy,
        Role::Broker => wire::Role::Broker,
    };
    wire::Hello {
        version: hello.version.to_string(),
        role: role.into(),
        name: hello.name.to_string(),
        cluster: cluster_out(hello.cluster),
        instance: hello.instance,
        shard: hello.shard.map(ShardId::get),
    }
}

/// Who speaks.
///
/// # Errors
/// A role of another version, or a cluster id that is none.
pub fn hello_in(hello: wire::Hello) -> Result<Hello, Malformed> {
    let role = match wire::Role::try_from(hello.role) {
        Ok(wire::Role::Proxy) => Role::Proxy,
        Ok(wire::Role::Broker) => Role::Broker,
        Ok(wire::Role::Unspecified) | Err(_) => return Err(Malformed(format!("role {}", hello.role))),
    };
    Ok(Hello {
        version: hello.version.into(),
        role,
        name: hello.name.into(),
        cluster: cluster_in(&hello.cluster)?,
        instance: hello.instance,
        shard: hello.shard.map(ShardId),
    })
}
