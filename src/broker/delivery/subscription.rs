//! One group on one topic: its outstanding messages per queue, its waiting receives, the filters its members use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::broker::delivery::filters::{Asker, FILTER_MEMORY, Filters, Want};
use crate::broker::delivery::lease::{Grant, LeaseTerms, Offered, QueueLeases};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::verdicts::{FilterIndex, Judges, Verdict, Verdicts};
use crate::broker::delivery::wait_list::WaitList;
use crate::model::filter::Filter;
use crate::model::group::Group;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::store::QueueEntry;

/// Entries considered per look, so that the lock is held for a bounded time.
pub const SCAN_MAX: usize = 4096;
/// Entries read ahead from disk per queue.
pub const READ_AHEAD: usize = 512;
/// Messages of a queue that are judged by expressions at a time.
pub const JUDGED_AHEAD: usize = READ_AHEAD;
/// Most messages set aside for other members per queue; beyond it the queue waits for them.
const SET_ASIDE_MAX: u64 = 4096;
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
    /// What expressions said about messages that are not done, or not considered yet.
    verdicts: Verdicts,
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
    filters: Filters,
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
    pub filter: &'a Filter,
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
    /// Messages set aside before that nobody wants any more.
    pub unwanted: Vec<QueueOffset>,
    /// Entries from here on must be read from disk before this queue can go on.
    pub missing: Option<QueueOffset>,
    /// Messages that expressions must be asked about before this queue can go on, or before some that came back are given to
    /// anyone.
    pub unjudged: Vec<QueueEntry>,
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
            filters: Filters::default(),
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
    pub fn note_filter(&mut self, filter: &Filter, now: Timestamp) -> FilterIndex {
        let (index, replaced) = self.filters.note(filter, now);
        if replaced {
            for queue in &mut self.queues {
                queue.verdicts.forget(index);
            }
        }
        index
    }

    /// The expressions that members use.
    #[must_use]
    pub fn judges(&self, now: Timestamp) -> Judges {
        self.filters.judges(now)
    }

    /// Takes what expressions said about messages of a queue.
    pub fn judged(&mut self, judges: &Judges, rulings: &[(QueueId, QueueOffset, Verdict)]) {
        let valid = self.filters.still_valid(judges);
        for state in &mut self.queues {
            let leases = &state.leases;
            // Before the new ones come, which somebody waits for.
            state.verdicts.sweep(|offset| offset >= leases.next() || leases.is_outstanding(offset));
        }
        for (queue, offset, verdict) in rulings {
            if let Some(state) = self.queues.get_mut(queue.get() as usize) {
                state.verdicts.add(*offset, *verdict, valid);
            }
        }
    }

    /// Looks at one queue for at most `max` messages, on behalf of a member that uses the filter with number `own`.
    pub fn look(
        &mut self,
        queue: usize,
        tail: &QueueTail,
        wish: &Wish<'_>,
        (own, max): (FilterIndex, usize),
        now: Timestamp,
    ) -> Look {
        let Wish { outstanding_max, terms, .. } = *wish;
        let asker = Asker { own, expects_unknown: now < self.unknown_filters_until, now };
        let (filters, state) = (&self.filters, &mut self.queues[queue]);
        let mut found = Look::default();
        let verdicts = &state.verdicts;
        let wants = |entry: &QueueEntry| match filters.wants(own, entry, verdicts) {
            Some(wants) => wants,
            None => {
                if found.unjudged.len() < JUDGED_AHEAD {
                    found.unjudged.push(*entry);
                }
                false
            }
        };
        found.grants = state.leases.grant_ready(wants, max, terms);
        if found.grants.is_empty() && !asker.expects_unknown && state.leases.has_ready() {
            // Set aside for others. Their filters may be out of use by now; nothing may wait for them for ever.
            found.unwanted = state.leases.drop_unwanted(|entry| filters.may_be_wanted(entry, verdicts, now));
        }
        // A queue that came later, or one that was trimmed before the group saw it, has no position of its own yet.
        state.leases.advance(tail.first());
        let mut offered = Offered::default();
        let mut considered = 0;
        while found.grants.len() + offered.grants.len() < max {
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
            let want = filters.want(&asker, &entry, &state.verdicts);
            if want == Want::Unjudged {
                found
                    .unjudged
                    .append(&mut state.unjudged(tail, |entry, verdicts| filters.want(&asker, entry, verdicts)));
                break;
            }
            state.leases.offer(entry, want == Want::Here, want == Want::Elsewhere, terms, &mut offered);
        }
        found.grants.append(&mut offered.grants);
        found.set_aside = offered.set_aside;
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

    /// The entry at the position, and it stays: it may have to be judged before it is considered.
    fn entry_at_next(&mut self, tail: &QueueTail) -> Option<QueueEntry> {
        let next = self.leases.next();
        if let Some(entry) = tail.recent(next) {
            return Some(entry);
        }
        while let Some(entry) = self.read_ahead.front() {
            if entry.offset == next {
                return Some(*entry);
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

    /// Messages from the position on that must be judged, as far as their entries are in memory.
    fn unjudged(&self, tail: &QueueTail, want: impl Fn(&QueueEntry, &Verdicts) -> Want) -> Vec<QueueEntry> {
        let next = self.leases.next();
        let ahead = self.read_ahead.iter().copied().filter(|entry| entry.offset >= next);
        let first_recent = self.read_ahead.back().map_or(next, |entry| entry.offset.next().max(next));
        let recent = (first_recent.get()..tail.visible().get()).map_while(|offset| tail.recent(QueueOffset(offset)));
        let entries = ahead.chain(recent).take(JUDGED_AHEAD);
        entries.filter(|entry| want(entry, &self.verdicts) == Want::Unjudged).collect()
    }
}
