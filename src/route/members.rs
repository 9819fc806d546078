//! Who listens to the service now, and what each said of itself. In memory only: who listens again says it again.

use std::collections::BTreeMap;

use crate::model::cluster::Revision;
use crate::model::position::{ShardId, TopicId};
use crate::route::client::{Me, Role};
use crate::route::service::Route;

/// A broker or proxy that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub me: Me,
    /// What it has taken up; `None` when it does not tell.
    pub revision: Option<Revision>,
    /// Open connections of clients; `None` when it does not tell.
    pub connections: Option<u64>,
}

impl Member {
    /// Whether it serves clients.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        self.me.role == Role::Proxy
    }
}

/// What the service knows and nobody needs all the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who listens.
    pub members: Vec<Member>,
    /// Of each topic that moves, the shards that have sealed.
    pub sealed: BTreeMap<TopicId, Vec<ShardId>>,
}

/// The list of those who listen.
#[derive(Debug, Default)]
pub(super) struct Roll {
    next: u64,
    present: BTreeMap<u64, Member>,
}

impl Roll {
    fn enter(&mut self, member: Member) -> u64 {
        self.next += 1;
        self.present.insert(self.next, member);
        self.next
    }
}

/// A place on the list, until it is dropped.
#[derive(Debug)]
pub struct Listed {
    route: Route,
    number: u64,
}

impl Listed {
    /// What it says of itself now.
    pub fn tell(&self, revision: Option<Revision>, connections: Option<u64>) {
        if let Some(member) = self.route.inner.roll.lock().present.get_mut(&self.number) {
            (member.revision, member.connections) = (revision, connections);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.route.inner.roll.lock().present.remove(&self.number);
    }
}

impl Route {
    /// Puts a member on the list of those who listen.
    #[must_use]
    pub fn list(&self, me: Me, revision: Option<Revision>) -> Listed {
        let number = self.inner.roll.lock().enter(Member { me, revision, connections: None });
        Listed { route: self.clone(), number }
    }

    /// Who listens, in the order in which they came, and which shards have sealed.
    #[must_use]
    pub fn members(&self) -> Members {
        let members = self.inner.roll.lock().present.values().cloned().collect();
        let desk = self.inner.desk.lock();
        let moving = desk.state.placements.iter().filter(|(_, placed)| placed.placement.moving.is_some());
        let sealed = moving.map(|(&topic, placed)| (topic, placed.sealed.iter().copied().collect())).collect();
        Members { members, sealed }
    }
}
