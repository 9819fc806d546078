//! One group on the lite topics of one parent: which client subscribes to what, where the group is, what can be delivered now,
//! and whose receives wait.
//!
//! I-10: a lite topic is in the ready set of a client exactly when the client subscribes to it and something of it can be
//! delivered. So a receive looks at what it can take and at nothing else, and none waits beside something for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::broker::api::ClientId;
use crate::broker::delivery::fifo::Ordering;
use crate::broker::delivery::lease::Counts;
use crate::broker::delivery::lite::wants::LiteWants;
use crate::broker::delivery::subscription::QueueState;
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::wait_list::WaiterId;
use crate::model::position::{HolderId, QueueId};
use crate::model::time::Timestamp;

/// A client's subscriptions.
#[derive(Debug)]
pub(super) struct LiteClient {
    pub id: ClientId,
    /// Last sync or receive.
    pub seen: Timestamp,
    /// Highest version that came with a sync.
    pub version: Option<i64>,
    /// What it subscribes to, with its place in `ready`; 0: not there.
    pub topics: BTreeMap<Arc<str>, u64>,
    /// What it could be given now; what became deliverable first is first.
    pub ready: BTreeMap<u64, QueueId>,
    /// What a newer subscriber has taken from it: to be told from what it subscribes to anew.
    pub evicted: BTreeSet<Arc<str>>,
}

/// The group on one lite topic.
#[derive(Debug)]
struct LiteQueue {
    state: QueueState,
    /// As last added to the totals.
    counted: Counts,
    deliverable: bool,
}

#[derive(Debug)]
struct LiteWaiter {
    id: WaiterId,
    holder: HolderId,
    notify: Arc<Notify>,
    woken: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct LiteGroup {
    pub(super) clients: BTreeMap<HolderId, LiteClient>,
    pub(super) subscribers: HashMap<Arc<str>, Vec<HolderId>>,
    queues: BTreeMap<QueueId, LiteQueue>,
    /// Queues with something outstanding.
    busy: BTreeSet<QueueId>,
    waiters: VecDeque<LiteWaiter>,
    totals: Counts,
    last_ready: u64,
    pub(super) subscriptions: usize,
    /// What the group is to get from the first message on, as soon as it exists.
    pub(super) wants: LiteWants,
}

impl LiteGroup {
    /// The state of the group on a lite topic, if it has a position there.
    #[must_use]
    pub fn queue(&self, queue: QueueId) -> Option<&QueueState> {
        self.queues.get(&queue).map(|lite| &lite.state)
    }

    /// The same, to be changed; [`LiteGroup::changed`] must follow.
    pub fn queue_mut(&mut self, queue: QueueId) -> Option<&mut QueueState> {
        self.queues.get_mut(&queue).map(|lite| &mut lite.state)
    }

    /// Gives the group a position on a lite topic; [`LiteGroup::changed`] must follow.
    pub fn begin(&mut self, queue: QueueId, mut state: QueueState) {
        let settled = state.leases.set_ordering(Ordering::WholeQueue);
        debug_assert!(settled.is_empty(), "an acknowledged message waited for nothing");
        self.queues.insert(queue, LiteQueue { state, counted: Counts::default(), deliverable: false });
    }

    /// The lite topic is gone, and with it the group's position.
    pub fn forget(&mut self, queue: QueueId, name: &str) {
        self.set_ready(queue, name, false);
        if let Some(lite) = self.queues.remove(&queue) {
            subtract(&mut self.totals, lite.counted);
        }
        self.busy.remove(&queue);
    }

    /// Queues with something outstanding, in order.
    pub fn busy(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.busy.iter().copied()
    }

    /// What the group has to do on all lite topics together; `ready` counts what was never considered, too.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.totals
    }

    /// Subscriptions of all clients.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Clients that subscribe to a lite topic.
    #[must_use]
    pub fn subscribers_of(&self, name: &str) -> usize {
        self.subscribers.get(name).map_or(0, Vec::len)
    }

    /// Whether the group is to get a lite topic from its first message on, once it exists.
    #[must_use]
    pub fn waits_for(&self, name: &str) -> bool {
        self.subscribers_of(name) > 0 || self.wants.contains(name)
    }

    /// Whether a client has subscriptions here.
    #[must_use]
    pub fn is_client(&self, holder: HolderId) -> bool {
        self.clients.contains_key(&holder)
    }

    /// A client was heard of.
    pub fn seen(&mut self, holder: HolderId, now: Timestamp) {
        if let Some(client) = self.clients.get_mut(&holder) {
            client.seen = client.seen.max(now);
        }
    }

    /// The first thing that a client can be given at or behind place `from` of its ready set.
    #[must_use]
    pub fn next_ready(&self, holder: HolderId, from: u64) -> Option<(u64, QueueId)> {
        self.clients.get(&holder)?.ready.range(from..).next().map(|(place, queue)| (*place, *queue))
    }

    /// What a client can be given, in order.
    pub fn ready_of(&self, holder: HolderId) -> impl Iterator<Item = QueueId> + '_ {
        self.clients.get(&holder).into_iter().flat_map(|client| client.ready.values().copied())
    }

    /// What a lite topic holds, or what the group has outstanding there, changed: keeps the ready sets and totals true, and wakes
    /// one waiting receive when something became deliverable.
    pub fn changed(&mut self, queue: QueueId, name: &str, tail: &QueueTail) {
        let Some(lite) = self.queues.get_mut(&queue) else { return };
        let mut counts = lite.state.leases.counts();
        counts.ready += tail.visible().get().saturating_sub(lite.state.leases.next().max(tail.first()).get());
        subtract(&mut self.totals, lite.counted);
        self.totals.leased += counts.leased;
        self.totals.waiting += counts.waiting;
        self.totals.ready += counts.ready;
        lite.counted = counts;
        if lite.state.leases.outstanding() > 0 {
            self.busy.insert(queue);
        } else {
            self.busy.remove(&queue);
        }
        let deliverable = lite.state.lane_has_more(tail);
        if deliverable == lite.deliverable {
            return;
        }
        lite.deliverable = deliverable;
        self.set_ready(queue, name, deliverable);
        if deliverable {
            self.wake_subscriber(name);
        }
    }

    /// A client begins to be given what is in a lite topic.
    pub(super) fn attach(&mut self, holder: HolderId, name: &Arc<str>, queue: Option<QueueId>) {
        let Some(client) = self.clients.get_mut(&holder) else { return };
        if client.topics.contains_key(name) {
            return;
        }
        let ready = queue.filter(|queue| self.queues.get(queue).is_some_and(|lite| lite.deliverable));
        let place = ready.map_or(0, |queue| {
            self.last_ready += 1;
            client.ready.insert(self.last_ready, queue);
            self.last_ready
        });
        client.topics.insert(name.clone(), place);
        client.evicted.remove(name);
        self.subscribers.entry(name.clone()).or_default().push(holder);
        self.subscriptions += 1;
        self.wants.joined(name);
    }

    /// A client is no longer given what is in a lite topic. False when it was not before.
    pub(super) fn detach(&mut self, holder: HolderId, name: &str) -> bool {
        let Some(client) = self.clients.get_mut(&holder) else { return false };
        let Some((name, place)) = client.topics.remove_entry(name) else { return false };
        let seen = client.seen;
        client.ready.remove(&place);
        self.subscriptions -= 1;
        if let Some(others) = self.subscribers.get_mut(&name) {
            others.retain(|other| *other != holder);
            if others.is_empty() {
                self.subscribers.remove(&name);
                self.wants.left(&name, seen);
            }
        }
        true
    }

    fn set_ready(&mut self, queue: QueueId, name: &str, ready: bool) {
        let Some(subscribers) = self.subscribers.get(name) else { return };
        for holder in subscribers {
            let Some(client) = self.clients.get_mut(holder) else { continue };
            let Some(place) = client.topics.get_mut(name) else { continue };
            client.ready.remove(place);
            *place = 0;
            if ready {
                self.last_ready += 1;
                *place = self.last_ready;
                client.ready.insert(self.last_ready, queue);
            }
        }
    }

    // Waiting receives.

    /// Receives that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Enters a receive that found nothing, or marks one that was woken in vain as waiting again; then what woke it may be there
    /// for someone else.
    pub fn wait(&mut self, id: WaiterId, holder: HolderId, notify: &Arc<Notify>) {
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.id == id) {
            if std::mem::take(&mut waiter.woken) {
                self.pass_on();
            }
            return;
        }
        self.waiters.push_back(LiteWaiter { id, holder, notify: notify.clone(), woken: false });
    }

    /// Takes a receive out, if it waits here, and wakes another one if there is something for it.
    pub fn leave(&mut self, id: WaiterId) {
        if let Some(index) = self.waiters.iter().position(|waiter| waiter.id == id) {
            self.waiters.remove(index);
            self.pass_on();
        }
    }

    /// Wakes everyone, for a change that may concern all.
    pub fn wake_all(&mut self) {
        self.waiters.iter_mut().for_each(wake);
    }

    /// Wakes a receive of a client that has something ready.
    pub(super) fn wake_client(&mut self, holder: HolderId) {
        if self.clients.get(&holder).is_some_and(|client| !client.ready.is_empty())
            && let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.holder == holder && !waiter.woken)
        {
            wake(waiter);
        }
    }

    /// The longest-waiting receive of someone who subscribes to `name`.
    fn wake_subscriber(&mut self, name: &str) {
        let Some(subscribers) = self.subscribers.get(name) else { return };
        let mut waiting = self.waiters.iter_mut();
        if let Some(waiter) = waiting.find(|waiter| !waiter.woken && subscribers.contains(&waiter.holder)) {
            wake(waiter);
        }
    }

    fn pass_on(&mut self) {
        let clients = &self.clients;
        let has_something = |holder: &HolderId| clients.get(holder).is_some_and(|client| !client.ready.is_empty());
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| !waiter.woken && has_something(&waiter.holder)) {
            wake(waiter);
        }
    }

    /// I-10, and that the sums are the sums; for tests.
    #[cfg(test)]
    pub fn check(&self, topics: &super::LiteTopics) {
        let mut subscriptions = 0;
        for (holder, client) in &self.clients {
            subscriptions += client.topics.len();
            let mut places = 0;
            for (name, place) in &client.topics {
                assert!(self.subscribers[name].contains(holder), "{name} does not know {holder}");
                let queue =
                    topics.find(name).filter(|queue| self.queues.get(queue).is_some_and(|lite| lite.deliverable));
                assert_eq!(client.ready.get(place).copied(), queue, "{name} of {holder}");
                places += usize::from(*place != 0);
            }
            assert_eq!(client.ready.len(), places);
        }
        self.wants.check(|name| self.subscribers_of(name) > 0);
        assert_eq!(self.subscriptions, subscriptions);
        assert_eq!(self.subscribers.values().map(Vec::len).sum::<usize>(), subscriptions);
        let mut totals = Counts::default();
        for (queue, lite) in &self.queues {
            let tail = &topics.get(*queue).expect("a position is on a lite topic").tail;
            assert_eq!(lite.deliverable, lite.state.lane_has_more(tail));
            assert_eq!(self.busy.contains(queue), lite.state.leases.outstanding() > 0);
            totals.ready += lite.counted.ready;
            totals.leased += lite.counted.leased;
            totals.waiting += lite.counted.waiting;
        }
        assert_eq!(self.totals, totals);
        for waiter in self.waiters.iter().filter(|waiter| !waiter.woken) {
            let idle = self.clients.get(&waiter.holder).is_none_or(|client| client.ready.is_empty());
            let someone_awake = self.waiters.iter().any(|other| other.woken);
            assert!(idle || someone_awake, "a receive waits beside something for it");
        }
    }
}

fn wake(waiter: &mut LiteWaiter) {
    waiter.woken = true;
    waiter.notify.notify_one();
}

fn subtract(totals: &mut Counts, counts: Counts) {
    totals.leased -= counts.leased;
    totals.waiting -= counts.waiting;
    totals.ready -= counts.ready;
}
