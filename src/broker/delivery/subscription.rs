//! One group on one topic: its outstanding messages per queue, its waiting receives, the filters its members use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::delivery::fifo::{Fence, Gate, Ordering};
use crate::broker::delivery::lease::{Grant, LeaseTerms, Offered, QueueLeases};
use crate::broker::delivery::ordered::{Room, Want};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::wait_list::WaitList;
use crate::model::group::Group;
use crate::model::order::queue_of;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::tag::TagFilter;
use crate::model::time::Timestamp;
use crate::model::topic::Growth;
use crate::store::QueueEntry;

/// A filter that nobody used for this long no longer keeps messages for its users.
const FILTER_MEMORY: Duration = Duration::from_secs(120);
/// Most filters remembered per group and topic; the longest unused is forgotten first.
const FILTERS_MAX: usize = 64;
/// Entries considered per look, so that the lock is held for a bounded time.
pub const SCAN_MAX: usize = 4096;
/// The same once there is something to give: a member that is busy need not look far ahead for lanes that are free.
const SCAN_AHEAD_MAX: usize = 256;
/// Entries read ahead from disk per queue.
pub const READ_AHEAD: usize = 512;
/// Most messages set aside for other members per queue; beyond it the queue waits for them.
const SET_ASIDE_MAX: usize = 4096;
/// Attempt ids remembered per group and topic before finished ones are swept.
const ATTEMPTS_MAX: usize = 4096;

/// One queue of a subscription.
#[derive(Debug, Default)]
pub struct QueueState {
    /// Outstanding messages.
    pub leases: QueueLeases,
    /// Entries read ahead from disk; the first is the one at `leases.next()`, or they are stale and dropped.
    read_ahead: VecDeque<QueueEntry>,
    /// Due instant that the timer has been told for this queue.
    pub scheduled: Option<Timestamp>,
    /// `next` as the last record says it.
    pub recorded_next: QueueOffset,
}

/// One group on one topic.
#[derive(Debug)]
pub struct Subscription {
    /// The group.
    pub group: Arc<Group>,
    /// By queue id.
    pub queues: Vec<QueueState>,
    /// Waiting receives.
    pub waiters: WaitList,
    turn: usize,
    filters: Vec<(TagFilter, Timestamp)>,
    /// Until then members with filters that are not known any more may come back for what was set aside for them.
    unknown_filters_until: Timestamp,
    /// Until then those that messages were delivered to before may come back, and they are not known any more.
    unknown_owners_until: Timestamp,
    attempts_max: usize,
    attempts: HashMap<u64, Vec<(QueueId, QueueOffset, GrantId)>>,
}

/// What a receive asks of the state.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Topic.
    pub topic: TopicId,
    /// Group.
    pub group: GroupId,
    /// Which messages.
    pub filter: &'a TagFilter,
    /// Most messages.
    pub max: usize,
    /// Most outstanding messages per queue.
    pub outstanding_max: usize,
    /// The lease to give.
    pub terms: LeaseTerms,
}

/// What a look at one queue found.
#[derive(Debug, Default)]
pub struct Look {
    /// Messages granted, redeliveries first.
    pub grants: Vec<Grant>,
    /// Messages set aside for other members.
    pub set_aside: Vec<QueueOffset>,
    /// Messages set aside, or come back, that nobody wants any more.
    pub unwanted: Vec<QueueOffset>,
    /// Acknowledged before, and to be delivered again behind one that came back; with their attempts.
    pub unacked: Vec<(QueueOffset, u32)>,
    /// Lanes whose first passed-over message changed.
    pub moved_lanes: Vec<(u64, Option<QueueOffset>)>,
    /// Something waits for another member, which may not know.
    pub for_others: bool,
    /// What must be read from disk before this queue can go on.
    pub missing: Option<Missing>,
    /// Whether the look stopped at its bound with more to consider.
    pub more: bool,
}

/// What must be read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The queue from here on.
    Queue(QueueOffset),
    /// The messages of one lane from here on.
    Lane(u64, QueueOffset),
}

/// Who wants what, as far as filters are known.
struct Wanting<'a> {
    own: &'a TagFilter,
    filters: &'a [(TagFilter, Timestamp)],
    /// Others than the own one are in use, or may be.
    several: bool,
    unknown: bool,
    now: Timestamp,
}

impl Wanting<'_> {
    fn of(&self, tag_hash: u32) -> Want {
        if self.own.may_match(tag_hash) {
            Want::Here
        } else if self.several && (self.unknown || self.elsewhere(tag_hash)) {
            Want::Elsewhere
        } else {
            Want::Nobody
        }
    }

    fn elsewhere(&self, tag_hash: u32) -> bool {
        self.filters.iter().any(|(filter, seen)| {
            filter != self.own && self.now.since(*seen) < FILTER_MEMORY && filter.may_match(tag_hash)
        })
    }
}

impl Subscription {
    /// A subscription with the given queues.
    #[must_use]
    pub fn new(group: Arc<Group>, queues: Vec<QueueState>) -> Self {
        let mut attempts: HashMap<u64, Vec<_>> = HashMap::new();
        for (queue, state) in (0..).zip(&queues) {
            for (key, offset, grant) in state.leases.keyed_leases() {
                attempts.entry(key).or_default().push((QueueId(queue), offset, grant));
            }
        }
        Self {
            group,
            queues,
            waiters: WaitList::default(),
            turn: 0,
            filters: Vec::new(),
            unknown_filters_until: Timestamp(0),
            unknown_owners_until: Timestamp(0),
            attempts_max: ATTEMPTS_MAX,
            attempts,
        }
    }

    /// After a restart: what was set aside, and what was delivered in order and comes back, is kept for a while, although nobody
    /// knows any more for which filters.
    pub fn expect_unknown_filters(&mut self, now: Timestamp) {
        self.unknown_owners_until = now.plus(FILTER_MEMORY);
        if self.queues.iter().any(|queue| queue.leases.has_undelivered()) {
            self.unknown_filters_until = now.plus(FILTER_MEMORY);
        }
    }

    /// Changes what is delivered in order in all queues. Returns what is done by it, see [`QueueLeases::set_ordering`].
    pub fn set_ordering(&mut self, ordering: Ordering) -> Vec<(QueueId, QueueOffset)> {
        let mut settled = Vec::new();
        for (queue, state) in (0..).zip(&mut self.queues) {
            settled.extend(state.leases.set_ordering(ordering).into_iter().map(|offset| (QueueId(queue), offset)));
        }
        settled
    }

    /// The same after a restart: nothing is done by it, for there is no log yet to say so. What waits for a change to no order
    /// is done at the first look.
    pub fn restore_ordering(&mut self, ordering: Ordering) {
        let has_acked = self.queues.iter().any(|queue| queue.leases.has_acked());
        let ordering = if has_acked && ordering == Ordering::Free { Ordering::PerGroup } else { ordering };
        let settled = self.set_ordering(ordering);
        debug_assert!(settled.is_empty(), "an acknowledged message waited for nothing");
    }

    /// Queue ids in the order in which this receive should look, a different first one each time.
    pub fn order(&mut self) -> Vec<usize> {
        let count = self.queues.len();
        self.turn = self.turn.wrapping_add(1);
        (0..count).map(|step| (self.turn + step) % count).collect()
    }

    /// Remembers that a member uses this filter.
    pub fn note_filter(&mut self, filter: &TagFilter, now: Timestamp) {
        if let Some((_, seen)) = self.filters.iter_mut().find(|(known, _)| known == filter) {
            *seen = now;
            return;
        }
        self.filters.retain(|(_, seen)| now.since(*seen) < FILTER_MEMORY);
        if self.filters.len() >= FILTERS_MAX
            && let Some(oldest) = (0..self.filters.len()).min_by_key(|&index| self.filters[index].1)
        {
            self.filters.swap_remove(oldest);
        }
        self.filters.push((filter.clone(), now));
    }

    /// Looks at one queue for at most `max` messages.
    /// `growths`: how the topic got its queues.
    pub fn look(
        &mut self,
        queue: usize,
        tail: &QueueTail,
        growths: &[Growth],
        wish: &Wish<'_>,
        max: usize,
        now: Timestamp,
    ) -> Look {
        let Wish { filter, outstanding_max, terms, .. } = *wish;
        let unknown = now < self.unknown_filters_until;
        let several = unknown || self.filters.iter().any(|(known, _)| known != filter);
        let wanting = Wanting { own: filter, filters: &self.filters, several, unknown, now };
        let is_kept = now < self.unknown_owners_until;
        let want = |hash, was_delivered: bool| match wanting.of(hash) {
            Want::Nobody if was_delivered && is_kept => Want::Elsewhere,
            want => want,
        };
        // Taken out, so that the lanes of other queues can be asked meanwhile.
        let mut state = std::mem::take(&mut self.queues[queue]);
        let others = &self.queues;
        let is_passed = |gate: Gate| others.get(gate.queue).is_none_or(|other| other.leases.next() >= gate.fence);
        let fence_of = |key: u64| {
            let mut found = Fence::Open;
            for growth in growths {
                let before = queue_of(key, growth.before()).get() as usize;
                // A message group moves to higher queues only: what lies in one of those came later, and waits for this one.
                if before >= queue {
                    continue;
                }
                let gate = Gate { queue: before, fence: growth.fences.get(before).copied().unwrap_or_default() };
                if !is_passed(gate) {
                    return Fence::Until(gate);
                }
                if others.get(before).is_some_and(|other| other.leases.lanes().contains(key)) {
                    found = Fence::Behind;
                }
            }
            found
        };
        state.leases.release_lanes(is_passed);
        let next_before = state.leases.next();
        let mut found = Look::default();
        let mut out = Offered::default();
        if state.leases.lanes().has_deliverable() {
            state.leases.grant_lanes(&want, &fence_of, &Room { max, outstanding_max, terms }, &mut out);
        }
        if out.grants.len() < max {
            out.grants.append(&mut state.leases.grant_ready(filter, max - out.grants.len(), terms));
        }
        if out.grants.is_empty() && !unknown && state.leases.set_aside() > 0 {
            // Set aside for others. Their filters may be out of use by now; nothing may wait for them for ever.
            let in_use = |hash| {
                wanting.filters.iter().any(|(known, seen)| now.since(*seen) < FILTER_MEMORY && known.may_match(hash))
            };
            found.unwanted = state.leases.drop_unwanted(in_use);
        }
        found.missing = out.missing_lane.map(|(key, from)| Missing::Lane(key, from));
        if found.missing.is_none() {
            state.consider(
                tail,
                &|hash| want(hash, false),
                &fence_of,
                &Room { max, outstanding_max, terms },
                &mut out,
                &mut found,
            );
        }
        found.unwanted.append(&mut out.skipped);
        found.moved_lanes = state.leases.take_moved_lanes();
        // A lane of a later queue may have waited for this position, or for the end of a lane here.
        let (next, lanes) = (state.leases.next(), state.leases.lanes());
        let has_left = |(key, from): &(u64, Option<QueueOffset>)| from.is_none() && !lanes.contains(*key);
        let has_ended = !found.unwanted.is_empty() || found.moved_lanes.iter().any(has_left);
        let frees = |fence: &QueueOffset| has_ended || (next_before < *fence && *fence <= next);
        let frees = growths.iter().filter_map(|growth| growth.fences.get(queue)).any(frees);
        found.more |= frees;
        self.queues[queue] = state;
        found.for_others = out.parked_for_others || !out.set_aside.is_empty() || frees;
        found.grants = out.grants;
        found.set_aside = out.set_aside;
        found.unacked = out.unacked;
        found
    }

    /// Takes entries that were read from disk for a queue.
    pub fn read_ahead(&mut self, queue: usize, entries: Vec<QueueEntry>) {
        let Some(state) = self.queues.get_mut(queue) else { return };
        state.read_ahead.clear();
        state.read_ahead.extend(entries);
    }

    /// Whether anything can be delivered now, to anyone.
    #[must_use]
    pub fn has_deliverable(&self, tails: &[QueueTail]) -> bool {
        self.queues
            .iter()
            .zip(tails)
            .any(|(state, tail)| state.leases.has_ready() || state.leases.next() < tail.visible())
    }

    /// Remembers which messages an attempt id got.
    pub fn note_attempt(&mut self, key: u64, given: Vec<(QueueId, QueueOffset, GrantId)>, now: Timestamp) {
        if self.attempts.len() >= self.attempts_max {
            let queues = &self.queues;
            self.attempts.retain(|_, messages| {
                messages.iter().any(|(queue, offset, grant)| {
                    queues
                        .get(queue.get() as usize)
                        .is_some_and(|state| state.leases.repeat(*offset, *grant, now).is_some())
                })
            });
            // Swept again only when it has doubled, so that many live attempts do not make every receive look at all of them.
            self.attempts_max = ATTEMPTS_MAX.max(self.attempts.len() * 2);
        }
        self.attempts.insert(key, given);
    }

    /// The messages that an attempt id got and still holds; empty when it is new or all are settled.
    #[must_use]
    pub fn repeat_attempt(&self, key: u64, now: Timestamp) -> Vec<(QueueId, Grant)> {
        let Some(messages) = self.attempts.get(&key) else { return Vec::new() };
        messages
            .iter()
            .filter_map(|(queue, offset, grant)| {
                let state = self.queues.get(queue.get() as usize)?;
                Some((*queue, state.leases.repeat(*offset, *grant, now)?))
            })
            .collect()
    }
}

impl QueueState {
    /// A queue that begins at `next`, as the folded state or a new subscription says.
    #[must_use]
    pub fn starting_at(next: QueueOffset) -> Self {
        Self { leases: QueueLeases::starting_at(next), recorded_next: next, ..Self::default() }
    }

    /// Considers entries that were never considered, in order.
    fn consider(
        &mut self,
        tail: &QueueTail,
        want: &impl Fn(u32) -> Want,
        fence_of: &impl Fn(u64) -> Fence,
        room: &Room,
        out: &mut Offered,
        found: &mut Look,
    ) {
        // A queue that came later, or one that was trimmed before the group saw it, has no position of its own yet.
        self.leases.advance(tail.first());
        let mut considered = 0;
        while out.grants.len() < room.max {
            let next = self.leases.next();
            let is_full = self.leases.outstanding() >= room.outstanding_max
                || self.leases.lanes().count() >= room.outstanding_max
                || self.leases.set_aside() >= SET_ASIDE_MAX;
            if next >= tail.visible() || is_full {
                break;
            }
            if considered >= if out.grants.is_empty() { SCAN_MAX } else { SCAN_AHEAD_MAX } {
                found.more = true;
                break;
            }
            considered += 1;
            let Some(entry) = self.entry_at_next(tail) else {
                found.missing = Some(Missing::Queue(next));
                break;
            };
            if !self.leases.offer_behind(fence_of, entry, want(entry.tag_hash), room.terms, out) {
                // The queue waits for its one lane; the entry is kept for the next look.
                if tail.recent(next).is_none() {
                    self.read_ahead.push_front(entry);
                }
                break;
            }
        }
    }

    fn entry_at_next(&mut self, tail: &QueueTail) -> Option<QueueEntry> {
        let next = self.leases.next();
        if let Some(entry) = tail.recent(next) {
            return Some(entry);
        }
        while let Some(entry) = self.read_ahead.pop_front() {
            if entry.offset == next {
                return Some(entry);
            }
            if entry.offset > next {
                // Does not connect: read for an older position.
                self.read_ahead.clear();
                return None;
            }
        }
        None
    }
}
