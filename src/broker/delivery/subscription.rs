//! One group on one topic: its outstanding messages per queue, its waiting receives, the filters its members use.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::delivery::fences;
use crate::broker::delivery::fifo::{Fence, Lanes, Ordering};
use crate::broker::delivery::filters::{Asker, FILTER_MEMORY, Filters};
use crate::broker::delivery::lease::{Grant, LeaseTerms, Offered, QueueLeases};
use crate::broker::delivery::lite::LiteGroup;
use crate::broker::delivery::ordered::{Room, Want};
use crate::broker::delivery::shards::{FarDone, ShardOrder};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::verdicts::{FilterIndex, Judges, Ruling, Verdicts};
use crate::broker::delivery::wait_list::{WaitList, WaiterId};
use crate::model::filter::Filter;
use crate::model::group::Group;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::properties::Properties;
use crate::model::time::Timestamp;
use crate::model::topic::Growth;
use crate::store::QueueEntry;

/// Members come back within this time after a restart, and with them their filters.
const RETURN_TIME: Duration = Duration::from_secs(30);
/// Entries considered per look, so that the lock is held for a bounded time.
pub const SCAN_MAX: usize = 4096;
/// Entries read ahead from disk per queue.
pub const READ_AHEAD: usize = 512;
/// Messages of a queue that are judged by expressions at a time.
pub(super) const JUDGED_AHEAD: usize = READ_AHEAD;
/// Most messages set aside for other members per queue; beyond it the queue waits for them.
pub(super) const SET_ASIDE_MAX: usize = 4096;
/// Attempt ids remembered per group and topic before finished ones are swept.
const ATTEMPTS_MAX: usize = 4096;

/// One queue of a subscription.
#[derive(Debug, Default)]
pub struct QueueState {
    /// Outstanding messages.
    pub leases: QueueLeases,
    /// Entries read ahead from disk; the first is the one at `leases.next()`, or they are stale and dropped.
    pub(super) read_ahead: VecDeque<QueueEntry>,
    /// Due instant that the timer has been told for this queue.
    pub scheduled: Option<Timestamp>,
    /// `next` as the last record says it.
    pub recorded_next: QueueOffset,
    /// What expressions said about messages that are not done, or not considered yet.
    pub(super) verdicts: Verdicts,
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
    /// Lite topics, once they are used.
    pub lite: Option<Box<LiteGroup>>,
    /// What other shards said this group is done with.
    pub(super) far: FarDone,
    pub(super) turn: usize,
    pub(super) filters: Filters,
    /// Until then members with filters that are not known any more may come back for what was set aside for them.
    pub(super) unknown_filters_until: Timestamp,
    /// The same for what lanes hold. Shorter: it may be that nobody wants the front of a lane, and what lies behind it waits.
    unknown_in_lanes_until: Timestamp,
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
    /// Now, by the clock's steady time: filters are forgotten when their users are silent, not when the clock is moved.
    pub steady: Timestamp,
}

/// How message groups came to be where they are.
#[derive(Clone, Copy, Debug)]
pub struct Moves<'a> {
    /// How the topic got its queues.
    pub growths: &'a [Growth],
    /// On which shards it lived.
    pub shards: &'a ShardOrder,
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
    /// Messages from the position on that expressions must be asked about before this queue can go on.
    pub unjudged: Vec<QueueEntry>,
    /// The same of messages that came back or were passed over. They are not asked for again as long as others have something
    /// to give, and so they must be judged even then.
    pub unjudged_back: Vec<QueueEntry>,
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
            lite: None,
            far: FarDone::default(),
            turn: 0,
            filters: Filters::default(),
            unknown_filters_until: Timestamp(0),
            unknown_in_lanes_until: Timestamp(0),
            attempts_max: ATTEMPTS_MAX,
            attempts,
        }
    }

    /// After a restart: what was set aside, and what was delivered in order and comes back, is kept for a while, although nobody
    /// knows any more for which filters.
    pub fn expect_unknown_filters(&mut self, now: Timestamp) {
        if self.queues.iter().any(|queue| queue.leases.has_undelivered()) {
            self.unknown_filters_until = now.plus(FILTER_MEMORY);
        }
        if self.queues.iter().any(|queue| queue.leases.lanes().count() > 0) {
            self.unknown_in_lanes_until = now.plus(RETURN_TIME);
        }
    }

    /// A queue, of a lite topic or not.
    #[must_use]
    pub fn queue(&self, queue: QueueId) -> Option<&QueueState> {
        if queue.is_lite() { self.lite.as_ref()?.queue(queue) } else { self.queues.get(queue.get() as usize) }
    }

    /// The same, to be changed. One of a lite topic must be told to its [`LiteGroup`] afterwards.
    pub fn queue_mut(&mut self, queue: QueueId) -> Option<&mut QueueState> {
        if queue.is_lite() { self.lite.as_mut()?.queue_mut(queue) } else { self.queues.get_mut(queue.get() as usize) }
    }

    /// Every queue that may have something outstanding.
    pub fn queues_in_use(&self) -> impl Iterator<Item = QueueId> + '_ {
        let lite = self.lite.iter().flat_map(|lite| lite.busy());
        (0..u32::try_from(self.queues.len()).unwrap_or(u32::MAX)).map(QueueId).chain(lite)
    }

    /// Receives that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len() + self.lite.as_ref().map_or(0, |lite| lite.waiting())
    }

    /// Takes a receive out of the wait list. True if it had been woken as one of the ordinary.
    pub fn leave(&mut self, id: WaiterId) -> bool {
        // Perhaps in both: on a mixed topic its client may have subscribed to lite topics meanwhile.
        if let Some(lite) = &mut self.lite {
            lite.leave(id);
        }
        self.waiters.leave(id)
    }

    /// Wakes every waiting receive.
    pub fn wake_all(&mut self) {
        self.waiters.wake_all();
        if let Some(lite) = &mut self.lite {
            lite.wake_all();
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

    /// Whether nothing is delivered in order, and nothing is left from a time when it was.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let is_free = |lanes: &Lanes| lanes.ordering() == Ordering::Free && lanes.count() == 0;
        self.queues.iter().all(|queue| is_free(queue.leases.lanes()))
    }

    /// Queue ids in the order in which this receive should look, a different first one each time.
    pub fn order(&mut self) -> Vec<usize> {
        let count = self.queues.len();
        self.turn = self.turn.wrapping_add(1);
        (0..count).map(|step| (self.turn + step) % count).collect()
    }

    /// Remembers that a member uses this filter. `now` is steady time, here and wherever filters are remembered or forgotten.
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

    /// Takes what expressions said about messages.
    pub fn judged(&mut self, judges: &Judges, rulings: &[Ruling]) {
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

    /// Judges a message anew, from the properties themselves. Whether any member may want it.
    pub fn judge_again(
        &mut self,
        queue: QueueId,
        entry: &QueueEntry,
        properties: &Properties<'_>,
        now: Timestamp,
    ) -> bool {
        let judges = self.judges(now);
        self.judged(&judges, &[(queue, entry.offset, judges.judge(properties))]);
        let state = self.queues.get(queue.get() as usize);
        state.is_some_and(|state| self.filters.may_be_wanted(entry, &state.verdicts, now))
    }

    /// Looks at one queue for at most `max` messages, on behalf of a member that uses the filter with number `own`.
    /// `moves`: how the topic got its queues, and its shards.
    pub fn look(
        &mut self,
        queue: usize,
        tail: &QueueTail,
        moves: Moves<'_>,
        wish: &Wish<'_>,
        (own, max): (FilterIndex, usize),
    ) -> Look {
        let Wish { outstanding_max, terms, steady: now, .. } = *wish;
        let asker = Asker { own, expects_unknown: now < self.unknown_filters_until, now };
        let filters = &self.filters;
        // Taken out, so that the lanes of other queues can be asked meanwhile.
        let mut state = std::mem::take(&mut self.queues[queue]);
        let others = &self.queues;
        let (growths, far) = (moves.growths, &self.far);
        let fence_of = |key: u64, offset: QueueOffset| match moves.shards.gate_of(key, queue, offset, far) {
            Some(gate) => Fence::Until(gate),
            None => fences::fence_of(key, queue, growths, others),
        };
        state.leases.release_lanes(|gate| fences::is_passed(gate, others));
        let verdicts = std::mem::take(&mut state.verdicts);
        let unjudged = RefCell::new(Vec::new());
        let note_unjudged = |entry: &QueueEntry| {
            let mut unjudged = unjudged.borrow_mut();
            if unjudged.len() < JUDGED_AHEAD {
                unjudged.push(*entry);
            }
        };
        let asker_back = Asker { expects_unknown: now < self.unknown_in_lanes_until || asker.expects_unknown, ..asker };
        let want_back = |entry: &QueueEntry| {
            let want = filters.want(&asker_back, entry, &verdicts);
            if want == Want::Unjudged {
                note_unjudged(entry);
            }
            want
        };
        let next_before = state.leases.next();
        let mut found = Look::default();
        let mut out = Offered::default();
        if state.leases.lanes().has_deliverable() {
            state.leases.grant_lanes(&want_back, &fence_of, &Room { max, outstanding_max, terms }, &mut out);
        }
        if out.grants.len() < max {
            let wants = |entry: &QueueEntry| {
                let wants = filters.wants(own, entry, &verdicts);
                if wants.is_none() {
                    note_unjudged(entry);
                }
                wants == Some(true)
            };
            out.grants.append(&mut state.leases.grant_ready(wants, max - out.grants.len(), terms));
        }
        if out.grants.is_empty() && !asker.expects_unknown && state.leases.set_aside() > 0 {
            // Set aside for others. Their filters may be out of use by now; nothing may wait for them for ever.
            found.unwanted = state.leases.drop_unwanted(|entry| filters.may_be_wanted(entry, &verdicts, now));
        }
        found.missing = out.missing_lane.map(|(key, from)| Missing::Lane(key, from));
        if found.missing.is_none() {
            let want = |entry: &QueueEntry| filters.want(&asker, entry, &verdicts);
            state.consider(tail, &want, &fence_of, &Room { max, outstanding_max, terms }, &mut out, &mut found);
        }
        found.unwanted.append(&mut out.skipped);
        found.moved_lanes = state.leases.take_moved_lanes();
        // A lane of a later queue may have waited for this position, or for the end of a lane here.
        let (next, lanes) = (state.leases.next(), state.leases.lanes());
        let has_left = |(key, from): &(u64, Option<QueueOffset>)| from.is_none() && !lanes.contains(*key);
        let has_ended = !found.unwanted.is_empty() || found.moved_lanes.iter().any(has_left);
        let frees = !growths.is_empty() && (has_ended || fences::passes(queue, growths, next_before, next));
        found.more |= frees;
        found.unjudged_back = unjudged.into_inner();
        state.verdicts = verdicts;
        self.queues[queue] = state;
        found.for_others = out.parked_for_others || !out.set_aside.is_empty() || frees;
        found.grants = out.grants;
        found.set_aside = out.set_aside;
        found.unacked = out.unacked;
        found
    }

    /// Takes entries that were read from disk for a queue.
    pub fn read_ahead(&mut self, queue: QueueId, entries: Vec<QueueEntry>) {
        let Some(state) = self.queue_mut(queue) else { return };
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
            let mut attempts = std::mem::take(&mut self.attempts);
            attempts.retain(|_, messages| {
                messages.iter().any(|(queue, offset, grant)| {
                    self.queue(*queue).is_some_and(|state| state.leases.repeat(*offset, *grant, now).is_some())
                })
            });
            self.attempts = attempts;
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
                let state = self.queue(*queue)?;
                Some((*queue, state.leases.repeat(*offset, *grant, now)?))
            })
            .collect()
    }
}
