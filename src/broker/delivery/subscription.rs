//! One group on one topic: its outstanding messages per queue, its waiting receives, the filters its members use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::delivery::lease::{Grant, LeaseTerms, Offered, QueueLeases};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::wait_list::WaitList;
use crate::model::group::Group;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::tag::TagFilter;
use crate::model::time::Timestamp;
use crate::store::QueueEntry;

/// A filter that nobody used for this long no longer keeps messages for its users.
const FILTER_MEMORY: Duration = Duration::from_secs(120);
/// Most filters remembered per group and topic; the longest unused is forgotten first.
const FILTERS_MAX: usize = 64;
/// Entries considered per look, so that the lock is held for a bounded time.
pub const SCAN_MAX: usize = 4096;
/// Entries read ahead from disk per queue.
pub const READ_AHEAD: usize = 512;
/// Most messages set aside for other members per queue; beyond it the queue waits for them.
pub(super) const SET_ASIDE_MAX: u64 = 4096;
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
    pub(super) turn: usize,
    filters: Vec<(TagFilter, Timestamp)>,
    /// Until then members with filters that are not known any more may come back for what was set aside for them.
    unknown_filters_until: Timestamp,
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
    /// Now, by the clock's steady time: filters are forgotten when their users are silent, not when the clock is moved.
    pub steady: Timestamp,
}

/// What a look at one queue found.
#[derive(Debug, Default)]
pub struct Look {
    /// Messages granted, redeliveries first.
    pub grants: Vec<Grant>,
    /// Messages set aside for other members.
    pub set_aside: Vec<QueueOffset>,
    /// Messages set aside before that nobody wants any more.
    pub unwanted: Vec<QueueOffset>,
    /// Entries from here on must be read from disk before this queue can go on.
    pub missing: Option<QueueOffset>,
    /// Whether the look stopped at its bound with more to consider.
    pub more: bool,
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
            attempts_max: ATTEMPTS_MAX,
            attempts,
        }
    }

    /// After a restart: what was set aside is kept for a while, although nobody knows any more for which filters.
    pub fn expect_unknown_filters(&mut self, now: Timestamp) {
        if self.queues.iter().any(|queue| queue.leases.has_undelivered()) {
            self.unknown_filters_until = now.plus(FILTER_MEMORY);
        }
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

    /// Whether a message with this tag hash is wanted by a member with another filter.
    #[must_use]
    pub fn wanted_elsewhere(&self, own: &TagFilter, tag_hash: u32, now: Timestamp) -> bool {
        now < self.unknown_filters_until
            || self
                .filters
                .iter()
                .any(|(filter, seen)| filter != own && now.since(*seen) < FILTER_MEMORY && filter.may_match(tag_hash))
    }

    /// Looks at one queue for at most `max` messages.
    pub fn look(&mut self, queue: usize, tail: &QueueTail, wish: &Wish<'_>, max: usize, now: Timestamp) -> Look {
        let Wish { filter, outstanding_max, terms, .. } = *wish;
        let mut found = Look { grants: self.queues[queue].leases.grant_ready(filter, max, terms), ..Look::default() };
        if found.grants.is_empty() {
            found.unwanted = self.drop_unwanted(queue, now);
        }
        let several_filters = self.has_several_filters(filter, now);
        // A queue that came later, or one that was trimmed before the group saw it, has no position of its own yet.
        self.queues[queue].leases.advance(tail.first());
        let mut offered = Offered::default();
        let mut considered = 0;
        while found.grants.len() + offered.grants.len() < max {
            let state = &mut self.queues[queue];
            let next = state.leases.next();
            let counts_ready = state.leases.counts().ready;
            if next >= tail.visible() || state.leases.outstanding() >= outstanding_max || counts_ready >= SET_ASIDE_MAX
            {
                break;
            }
            if considered == SCAN_MAX {
                found.more = true;
                break;
            }
            considered += 1;
            let Some(entry) = state.entry_at_next(tail) else {
                found.missing = Some(next);
                break;
            };
            let wanted_here = filter.may_match(entry.tag_hash);
            let wanted_elsewhere =
                !wanted_here && several_filters && self.wanted_elsewhere(filter, entry.tag_hash, now);
            self.queues[queue].leases.offer(entry, wanted_here, wanted_elsewhere, terms, &mut offered);
        }
        found.grants.append(&mut offered.grants);
        found.set_aside = offered.set_aside;
        found
    }

    /// What was set aside for others, whose filters may be out of use by now: nothing may wait for them for ever.
    pub(super) fn drop_unwanted(&mut self, queue: usize, now: Timestamp) -> Vec<QueueOffset> {
        if now < self.unknown_filters_until || !self.queues[queue].leases.has_ready() {
            return Vec::new();
        }
        let filters = &self.filters;
        let in_use =
            |hash| filters.iter().any(|(known, seen)| now.since(*seen) < FILTER_MEMORY && known.may_match(hash));
        self.queues[queue].leases.drop_unwanted(in_use)
    }

    pub(super) fn has_several_filters(&self, own: &TagFilter, now: Timestamp) -> bool {
        now < self.unknown_filters_until || self.filters.iter().any(|(known, _)| known != own)
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

    /// The entry at `next`, if it is in memory; it stays there until `next` moves on.
    pub(super) fn entry_at_next(&mut self, tail: &QueueTail) -> Option<QueueEntry> {
        let next = self.leases.next();
        if let Some(entry) = tail.recent(next) {
            return Some(entry);
        }
        while let Some(&entry) = self.read_ahead.front() {
            if entry.offset == next {
                return Some(entry);
            }
            if entry.offset > next {
                // Does not connect: read for an older position.
                self.read_ahead.clear();
                return None;
            }
            self.read_ahead.pop_front();
        }
        None
    }
}
