//! What a client wishes to subscribe to, first weighed and then done: a wish that is refused changes nothing.
//!
//! In an exclusive group the newest subscriber takes a lite topic from the one before. Clients repeat their whole set every half
//! minute, and some never hear that they lost something; so a repeated set does not take back what another has taken since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::api::ClientId;
use crate::broker::delivery::lite::group::{LiteClient, LiteGroup};
use crate::broker::delivery::lite::topics::LiteTopics;
use crate::broker::delivery::tail::QueueTail;
use crate::model::group::StartPosition;
use crate::model::position::{HolderId, QueueId, QueueOffset};
use crate::model::time::Timestamp;

/// Most clients of one group that subscribe on one parent, those with an empty set included.
const CLIENTS_MAX: usize = 10_000;
/// Most lost lite topics remembered of one client.
const EVICTED_MAX: usize = 4_096;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteAction {
    /// These, too.
    Add,
    /// No longer these.
    Remove,
    /// Exactly these.
    CompleteAdd,
    /// Nothing any more.
    CompleteRemove,
}

/// Where a group begins on a lite topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteStart {
    /// Where it was; where the group's setting says if it never was.
    Last,
    /// At the first message.
    First,
    /// Behind the last message.
    Latest,
    /// At this place, or the nearest there is.
    Offset(QueueOffset),
    /// So many before the end.
    Tail(u64),
    /// At the first message stored at or after this instant.
    At(Timestamp),
}

/// What decides where a group begins on lite topics that it has no position on.
#[derive(Clone, Copy, Debug)]
pub struct LiteBegin<'a> {
    /// The client's wish.
    pub start: Option<LiteStart>,
    /// The group's own setting.
    pub group_start: StartPosition,
    /// What was looked up for an instant.
    pub by_time: &'a BTreeMap<QueueId, QueueOffset>,
}

impl LiteBegin<'_> {
    /// Whether the group begins at the first message anyway, of whatever it finds.
    #[must_use]
    pub fn is_at_first(&self) -> bool {
        let as_group = matches!(self.start, None | Some(LiteStart::Last));
        self.start == Some(LiteStart::First) || as_group && self.group_start == StartPosition::Earliest
    }

    /// The first message that the group is to see of a lite topic. What lies outside of it begins at its nearest end.
    #[must_use]
    pub fn position(&self, queue: QueueId, tail: &QueueTail) -> QueueOffset {
        let (first, end) = (tail.first(), tail.visible());
        // One that came into being since the lookup has nothing older than the instant that was asked for.
        let at_time = || self.by_time.get(&queue).copied().unwrap_or(first);
        let wished = match (self.start, self.group_start) {
            (Some(LiteStart::First), _) | (None | Some(LiteStart::Last), StartPosition::Earliest) => first,
            (Some(LiteStart::Latest), _) | (None | Some(LiteStart::Last), StartPosition::Latest) => end,
            (Some(LiteStart::Offset(offset)), _) => offset,
            (Some(LiteStart::Tail(count)), _) => QueueOffset(end.get().saturating_sub(count)),
            (Some(LiteStart::At(_)), _) | (None | Some(LiteStart::Last), StartPosition::At(_)) => at_time(),
        };
        wished.clamp(first, end.max(first))
    }
}

/// A client's wish.
#[derive(Clone, Copy, Debug)]
pub struct LiteWish<'a> {
    /// Who.
    pub client: &'a ClientId,
    /// The same, as leases name it.
    pub holder: HolderId,
    /// What.
    pub action: LiteAction,
    /// Which.
    pub names: &'a BTreeSet<String>,
    /// Grows with every wish of a client, if it is given at all.
    pub version: Option<i64>,
    /// Whether a lite topic has one subscriber at a time.
    pub exclusive: bool,
}

/// Bounds of subscriptions.
#[derive(Clone, Copy, Debug)]
pub struct LiteLimits {
    /// Most of one client in one group.
    pub per_client: usize,
    /// How many more may come into being over all.
    pub left: usize,
}

/// Why a wish is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteRefusal {
    /// More than one client may have.
    ClientQuota,
    /// More than there may be.
    BrokerQuota,
    /// A wish of the same client that was made later has been heard already.
    Stale,
    /// The topic or the group went away.
    Gone,
}

/// What a wish changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LitePlan {
    /// Subscriptions that begin.
    pub add: Vec<Arc<str>>,
    /// Subscriptions that end.
    pub remove: Vec<Arc<str>>,
    /// Positions that the group takes.
    pub begin: Vec<(QueueId, QueueOffset)>,
    /// What the group waits for from now on: it does not exist yet.
    pub want: Vec<Arc<str>>,
    /// What the group waits for no longer: its last subscriber said that it does not want it.
    pub unwant: Vec<Arc<str>>,
}

impl LiteGroup {
    /// What a wish would change.
    ///
    /// # Errors
    /// See [`LiteRefusal`].
    pub fn plan(&self, wish: &LiteWish<'_>, limits: LiteLimits) -> Result<LitePlan, LiteRefusal> {
        let client = self.clients.get(&wish.holder);
        if let (Some(version), Some(known)) = (wish.version, client.and_then(|client| client.version))
            && version < known
        {
            return Err(LiteRefusal::Stale);
        }
        let has = |name: &str| client.is_some_and(|client| client.topics.contains_key(name));
        let lost = |name: &str| {
            wish.exclusive
                && client.is_some_and(|client| client.evicted.contains(name))
                && self.subscribers.contains_key(name)
        };
        let mut plan = LitePlan::default();
        if matches!(wish.action, LiteAction::Add | LiteAction::CompleteAdd) {
            let complete = wish.action == LiteAction::CompleteAdd;
            let new = wish.names.iter().filter(|name| !(has(name) || complete && lost(name)));
            plan.add = new.map(|name| self.shared_name(name)).collect();
        }
        if let Some(client) = client {
            let goes = |name: &&Arc<str>| match wish.action {
                LiteAction::Add => false,
                LiteAction::Remove => wish.names.contains(&***name),
                LiteAction::CompleteAdd => !wish.names.contains(&***name),
                LiteAction::CompleteRemove => true,
            };
            plan.remove = client.topics.keys().filter(goes).cloned().collect();
        }
        plan.unwant = self.unwanted(wish, &plan.remove);
        let stays = client.map_or(0, |client| client.topics.len()) - plan.remove.len();
        let enters = client.is_none() && matches!(wish.action, LiteAction::Add | LiteAction::CompleteAdd);
        if enters && self.clients.len() >= CLIENTS_MAX {
            return Err(LiteRefusal::BrokerQuota);
        }
        if !plan.add.is_empty() && stays + plan.add.len() > limits.per_client {
            return Err(LiteRefusal::ClientQuota);
        }
        if plan.add.len() > limits.left + plan.remove.len() {
            return Err(LiteRefusal::BrokerQuota);
        }
        Ok(plan)
    }

    /// Of what the group waits for, what a client gives up and nobody else asks for. What a client says that it does not want
    /// counts also when it did not say before that it does: that may have been to an earlier process.
    fn unwanted(&self, wish: &LiteWish<'_>, removed: &[Arc<str>]) -> Vec<Arc<str>> {
        let others = |name: &str| {
            let subscribers = self.subscribers.get(name);
            subscribers.is_some_and(|subscribers| subscribers.iter().any(|holder| *holder != wish.holder))
        };
        let goes = |name: &str| self.wants.contains(name) && !others(name);
        if wish.action == LiteAction::Remove {
            return wish.names.iter().filter(|name| goes(name)).map(|name| name.as_str().into()).collect();
        }
        removed.iter().filter(|name| goes(name)).cloned().collect()
    }

    /// Does what was planned. Who lost what to this client is handed back: it is to be told.
    pub fn apply(
        &mut self,
        wish: &LiteWish<'_>,
        plan: &LitePlan,
        topics: &LiteTopics,
        now: Timestamp,
    ) -> Vec<(ClientId, Arc<str>)> {
        for name in &plan.remove {
            self.detach(wish.holder, name);
        }
        for name in &plan.unwant {
            self.wants.remove(name);
        }
        let leaves = match wish.action {
            LiteAction::CompleteRemove => true,
            LiteAction::Remove => self.clients.get(&wish.holder).is_none_or(|client| client.topics.is_empty()),
            LiteAction::Add | LiteAction::CompleteAdd => false,
        };
        if leaves {
            // Its version goes with it: a client that begins anew counts anew.
            self.clients.remove(&wish.holder);
            return Vec::new();
        }
        let client = self.clients.entry(wish.holder).or_insert_with(|| LiteClient {
            id: wish.client.clone(),
            seen: now,
            version: None,
            topics: Default::default(),
            ready: Default::default(),
            evicted: BTreeSet::new(),
        });
        client.seen = client.seen.max(now);
        client.version = client.version.max(wish.version);
        match wish.action {
            LiteAction::Remove => client.evicted.retain(|name| !wish.names.contains(&**name)),
            // What it does not name any more it may take again later.
            LiteAction::CompleteAdd => client.evicted.retain(|name| wish.names.contains(&**name)),
            LiteAction::Add | LiteAction::CompleteRemove => {}
        }
        let mut evicted = Vec::new();
        for name in &plan.add {
            if wish.exclusive {
                for holder in self.subscribers.get(name).cloned().unwrap_or_default() {
                    self.detach(holder, name);
                    if let Some(loser) = self.clients.get_mut(&holder) {
                        if loser.evicted.len() >= EVICTED_MAX {
                            loser.evicted.pop_first();
                        }
                        loser.evicted.insert(name.clone());
                        evicted.push((loser.id.clone(), name.clone()));
                    }
                }
            }
            self.attach(wish.holder, name, topics.find(name));
        }
        for name in &plan.want {
            self.wants.add(name.clone(), None);
        }
        self.wake_client(wish.holder);
        evicted
    }

    /// Ends the subscriptions of clients that neither synced nor received for `timeout`. Who went.
    pub fn expire(&mut self, timeout: Duration, now: Timestamp) -> Vec<ClientId> {
        let silent: Vec<HolderId> = self
            .clients
            .iter()
            .filter(|(_, client)| now.since(client.seen) >= timeout)
            .map(|(holder, _)| *holder)
            .collect();
        silent.into_iter().filter_map(|holder| self.remove_client(holder)).collect()
    }

    /// A client said good-bye.
    pub fn remove_client(&mut self, holder: HolderId) -> Option<ClientId> {
        let names: Vec<Arc<str>> = self.clients.get(&holder)?.topics.keys().cloned().collect();
        for name in names {
            self.detach(holder, &name);
        }
        self.clients.remove(&holder).map(|client| client.id)
    }

    /// One copy of a name for all who use it.
    fn shared_name(&self, name: &str) -> Arc<str> {
        self.subscribers.get_key_value(name).map_or_else(|| name.into(), |(known, _)| known.clone())
    }
}
