//! How the two ends of a link introduce themselves, and when they part at once.

use std::sync::Arc;

use thiserror::Error;

use crate::model::cluster::ClusterId;
use crate::model::position::ShardId;

/// What a process does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves clients.
    Proxy,
    /// Serves a shard.
    Broker,
}

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of the program: `major.minor`, or longer.
    pub version: Arc<str>,
    /// What it does.
    pub role: Role,
    /// Its name.
    pub name: Arc<str>,
    /// Its cluster, if it knows.
    pub cluster: Option<ClusterId>,
    /// A random number: two processes of one name are two.
    pub instance: u64,
    /// Of a caller: the shard it means to reach, if it knows. Of a broker: its own.
    pub shard: Option<ShardId>,
}

/// Why two ends do not speak with each other.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Apart {
    /// A version that is none.
    #[error("{0:?} is not a version")]
    NoVersion(String),
    /// Too far apart.
    #[error("version {own} does not speak with version {other}: they may be one minor version apart; update in steps")]
    Versions {
        /// Here.
        own: Arc<str>,
        /// There.
        other: Arc<str>,
    },
    /// Another cluster's process.
    #[error("{name} belongs to cluster {other}, not to {own}")]
    Clusters {
        /// Of the other end.
        name: Arc<str>,
        /// Here.
        own: ClusterId,
        /// There.
        other: ClusterId,
    },
    /// Another shard's broker, at an address that was that of the one that is meant.
    #[error("{name} is the broker of shard {found}, not of shard {wanted}")]
    Shards {
        /// Of the broker.
        name: Arc<str>,
        /// Its shard.
        found: ShardId,
        /// The one that is meant.
        wanted: ShardId,
    },
}

impl Hello {
    /// A process of this program.
    #[must_use]
    pub fn of(role: Role, name: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION").into();
        Self { version, role, name: name.into(), cluster: None, instance: 0, shard: None }
    }

    /// Whether this end speaks with the other.
    ///
    /// # Errors
    /// Why not, in words for the one who runs both.
    pub fn speaks_with(&self, other: &Self) -> Result<(), Apart> {
        let (own_version, other_version) = (version(&self.version)?, version(&other.version)?);
        if own_version.0 != other_version.0 || own_version.1.abs_diff(other_version.1) > 1 {
            return Err(Apart::Versions { own: self.version.clone(), other: other.version.clone() });
        }
        if let (Some(own), Some(theirs)) = (self.cluster, other.cluster)
            && own != theirs
        {
            return Err(Apart::Clusters { name: other.name.clone(), own, other: theirs });
        }
        if let (Some(own), Some(theirs)) = (self.shard, other.shard)
            && own != theirs
        {
            let (broker, found, wanted) =
                if self.role == Role::Broker { (self, own, theirs) } else { (other, theirs, own) };
            return Err(Apart::Shards { name: broker.name.clone(), found, wanted });
        }
        Ok(())
    }
}

fn version(text: &str) -> Result<(u32, u32), Apart> {
    let mut parts = text.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(Apart::NoVersion(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: &str) -> Hello {
        Hello { version: version.into(), ..Hello::of(Role::Proxy, "p") }
    }

    #[test]
    fn versions_one_minor_apart_speak_and_others_do_not() {
        assert_eq!(at("0.2").speaks_with(&at("0.3.9")), Ok(()));
        assert_eq!(at("0.3").speaks_with(&at("0.2.0-rc1")), Ok(()));
        assert!(matches!(at("0.2").speaks_with(&at("0.4")), Err(Apart::Versions { .. })));
        assert!(matches!(at("1.0").speaks_with(&at("0.1")), Err(Apart::Versions { .. })));
        for nothing in ["", "x", "1", "1.x", "-1.0"] {
            assert!(matches!(at("0.2").speaks_with(&at(nothing)), Err(Apart::NoVersion(_))), "{nothing}");
        }
    }

    #[test]
    fn processes_of_two_clusters_or_of_another_shard_part() {
        let proxy = Hello { cluster: Some(ClusterId(1)), shard: Some(ShardId(4)), ..at("0.2") };
        let broker = Hello { role: Role::Broker, shard: Some(ShardId(4)), ..proxy.clone() };
        assert_eq!(broker.speaks_with(&proxy), Ok(()));
        let other = Hello { cluster: Some(ClusterId(2)), ..broker.clone() };
        assert!(matches!(proxy.speaks_with(&other), Err(Apart::Clusters { .. })));
        let moved = Hello { shard: Some(ShardId(5)), ..broker };
        let words = proxy.speaks_with(&moved).unwrap_err().to_string();
        assert_eq!(words, "p is the broker of shard 5, not of shard 4");
        assert_eq!(moved.speaks_with(&proxy).unwrap_err().to_string(), words);
    }
}
