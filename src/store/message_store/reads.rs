//! Reads of the folded state. They may block on the disk: callers on a request thread go through `Tasks::blocking`.

use bytes::Bytes;

use crate::model::cluster::{Placement, Revision, Seal};
use crate::model::group::Group;
use crate::model::position::{GroupId, LogPosition, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::{Growth, Topic};
use crate::store::kv::delay::{self, Held};
use crate::store::kv::half::{HeldHalf, OldEnd, Trace};
use crate::store::kv::lane::LaneKey;
use crate::store::kv::lease::LeaseKey;
use crate::store::kv::queue_entry::QueueEntry;
use crate::store::kv::queue_tail::QueueBounds;
use crate::store::kv::{
    Family, FoldError, Kv, cursor, delay_place, group, growth, half, lane, lane_entry, lease, lite_topic, lite_want,
    placement, queue_entry, queue_tail, recalled, route, topic,
};
use crate::store::message_store::Store;
use crate::store::record::{HoldKey, LeaseState};

/// An outstanding message of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Group.
    pub group: GroupId,
    /// Topic.
    pub topic: TopicId,
    /// Queue.
    pub queue: QueueId,
    /// Message.
    pub offset: QueueOffset,
    /// Attempts so far; 0 for one that was set aside without a delivery.
    pub attempt: u32,
    /// With whom, or from when on deliverable.
    pub lease: LeaseState,
    /// Where it lies, if it is still in its queue.
    pub entry: Option<QueueEntry>,
}

/// Held-back messages, and where to go on for more.
pub type HeldPart = (Vec<(HoldKey, Held)>, Option<LogPosition>);

impl Store {
    fn kv(&self) -> &Kv {
        self.inner.fold.kv()
    }

    /// The rows themselves, for [`inspect`](crate::store::inspect).
    pub(in crate::store) fn fold_rows(&self) -> &Kv {
        self.kv()
    }

    /// Every fact of the route service, by key.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn route_facts(&self) -> Result<Vec<(Bytes, Bytes)>, FoldError> {
        route::all(self.kv())
    }

    /// Every topic, by id.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn topics(&self) -> Result<Vec<Topic>, FoldError> {
        topic::all(self.kv())
    }

    /// Every group, by id.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn groups(&self) -> Result<Vec<Group>, FoldError> {
        group::all(self.kv())
    }

    /// The next ids to give to a topic and a group, by what is folded.
    #[must_use]
    pub fn next_ids(&self) -> (TopicId, GroupId) {
        let meta = self.inner.fold.meta();
        (meta.next_topic, meta.next_group)
    }

    /// The revision of the cluster's catalogue that topics and groups are of, by what is folded; `None`: of no cluster.
    #[must_use]
    pub fn applied(&self) -> Option<Revision> {
        self.inner.fold.meta().applied
    }

    /// How topics live on shards, as far as that is known here, with what this shard held when it gave up orders.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn placements(&self) -> Result<Vec<(TopicId, Placement, Vec<Seal>)>, FoldError> {
        placement::all(self.kv())
    }

    /// The queues of a topic in order: those it was created with, also while they are empty, then those of its lite topics.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn queues(&self, topic: TopicId) -> Result<Vec<(QueueId, QueueBounds)>, FoldError> {
        let count = topic::get(self.kv(), topic)?.map_or(0, |topic| topic.queues);
        let mut queues: Vec<_> = (0..count).map(|queue| (QueueId(queue), QueueBounds::default())).collect();
        for (_, queue, bounds) in queue_tail::all(self.kv(), Some(topic))? {
            match queues.get_mut(queue.get() as usize) {
                Some(known) => known.1 = bounds,
                None => queues.push((queue, bounds)),
            }
        }
        Ok(queues)
    }

    /// Every lite topic with its parent and its queue there, in order.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn lite_topics(&self) -> Result<Vec<(TopicId, QueueId, String)>, FoldError> {
        lite_topic::all(self.kv())
    }

    /// The highest queue that a lite topic ever had, by parent; parent 0: below any that was deleted.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn highest_lite_queues(&self) -> Result<Vec<(TopicId, QueueId)>, FoldError> {
        lite_topic::highest(self.kv())
    }

    /// Lite topics that do not exist yet and that groups wait for.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn lite_wants(&self) -> Result<Vec<(TopicId, GroupId, String)>, FoldError> {
        lite_want::all(self.kv())
    }

    /// First and next offset of a queue.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn queue(&self, topic: TopicId, queue: QueueId) -> Result<QueueBounds, FoldError> {
        queue_tail::get(self.kv(), topic, queue)
    }

    /// At most `max` messages of a queue from `from` on, in order.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn entries(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        max: usize,
    ) -> Result<Vec<QueueEntry>, FoldError> {
        queue_entry::from(self.kv(), topic, queue, from, max)
    }

    /// At most `max` messages of one message group of a queue from `from` on, in order, and the offset up to which these are all.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn lane_entries(
        &self,
        topic: TopicId,
        queue: QueueId,
        order_key: u64,
        from: QueueOffset,
        max: usize,
    ) -> Result<(Vec<QueueEntry>, QueueOffset), FoldError> {
        // Read first: what is folded while the rows are read may be missed, and must not count as seen.
        let bounds = self.queue(topic, queue)?;
        let (from, folded) = (from.max(bounds.first), bounds.next);
        let entries = lane_entry::from(self.kv(), (topic, queue, order_key), from, folded, max)?;
        let complete = match entries.last() {
            Some(last) if entries.len() >= max => last.offset.next(),
            _ => folded,
        };
        Ok((entries, complete))
    }

    /// What the queues of a topic held whenever others were added, the oldest time first.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn growths(&self, topic: TopicId) -> Result<Vec<Growth>, FoldError> {
        growth::of_topic(self.kv(), topic)
    }

    /// Every message group with messages that a group has passed over, and the first of those.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn lanes(&self) -> Result<Vec<(LaneKey, QueueOffset)>, FoldError> {
        lane::all(self.kv())
    }

    /// One message of a queue.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn entry(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Result<Option<QueueEntry>, FoldError> {
        queue_entry::get(self.kv(), topic, queue, offset)
    }

    /// The first message stored at or after `instant`; the queue's next offset when there is none. Exact as long as the
    /// server's clock never went back while the queue was filled.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn first_at_or_after(
        &self,
        topic: TopicId,
        queue: QueueId,
        instant: Timestamp,
    ) -> Result<QueueOffset, FoldError> {
        self.first_that(topic, queue, |entry| entry.stored_at >= instant)
    }

    /// The first message whose record lies at or behind `start`; the queue's next offset when there is none.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn first_in_log(&self, topic: TopicId, queue: QueueId, start: LogPosition) -> Result<QueueOffset, FoldError> {
        self.first_that(topic, queue, |entry| entry.at.position >= start)
    }

    /// Binary search for the first message from which on `holds` is true.
    fn first_that(
        &self,
        topic: TopicId,
        queue: QueueId,
        holds: impl Fn(&QueueEntry) -> bool,
    ) -> Result<QueueOffset, FoldError> {
        let bounds = self.queue(topic, queue)?;
        let (mut low, mut high) = (bounds.first, bounds.next);
        while low < high {
            let middle = QueueOffset(low.get() + (high.get() - low.get()) / 2);
            // One that is gone by now was trimmed meanwhile, from the low end.
            if self.entry(topic, queue, middle)?.is_some_and(|entry| holds(&entry)) {
                high = middle;
            } else {
                low = middle.next();
            }
        }
        Ok(low)
    }

    /// Every cursor.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn cursors(&self) -> Result<Vec<(GroupId, TopicId, QueueId, QueueOffset)>, FoldError> {
        let cursors = cursor::all(self.kv())?;
        Ok(cursors.into_iter().map(|cursor| (cursor.group, cursor.topic, cursor.queue, cursor.next)).collect())
    }

    /// At most `max` held-back messages from `from` on, by their time.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn delays_from(&self, from: HoldKey, max: usize) -> Result<Vec<(HoldKey, Held)>, FoldError> {
        delay::from(self.kv(), from, max)
    }

    /// One message, while it is held back.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn delayed(&self, key: HoldKey) -> Result<Option<Held>, FoldError> {
        delay::get(self.kv(), key)
    }

    /// Held-back messages whose bodies lie at or behind `from` and before `end`: looks at `max` places, and says where to go on.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn delays_between(&self, from: LogPosition, end: LogPosition, max: usize) -> Result<HeldPart, FoldError> {
        let places = delay_place::between(self.kv(), from, end, max)?;
        let next = places.last().filter(|_| places.len() == max).map(|(position, _)| position.plus(1));
        let mut found = Vec::new();
        for (position, key) in places {
            // A place is only a hint: the message may have ended, or lie elsewhere by now.
            if let Some(held) = self.delayed(key)?.filter(|held| held.at.position == position) {
                found.push((key, held));
            }
        }
        Ok((found, next))
    }

    /// Topic of a message that was recalled, as long as that is remembered.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn recalled(&self, key: HoldKey) -> Result<Option<TopicId>, FoldError> {
        recalled::get(self.kv(), key)
    }

    /// When the first recalled message that is remembered would have been due.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn first_recalled(&self) -> Result<Option<Timestamp>, FoldError> {
        recalled::first_due(self.kv())
    }

    /// About how many messages are held back.
    #[must_use]
    pub fn delays_about(&self) -> u64 {
        self.kv().rows_about(Family::Delay)
    }

    /// Every outstanding message of every group.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn leases(&self) -> Result<Vec<LeaseRow>, FoldError> {
        let mut rows = Vec::new();
        for (LeaseKey { topic, queue, group, offset }, value) in lease::all(self.kv())? {
            let entry = self.entry(topic, queue, offset)?;
            rows.push(LeaseRow { group, topic, queue, offset, attempt: value.attempt, lease: value.lease, entry });
        }
        Ok(rows)
    }

    /// A half message that can still be committed or rolled back.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn half(&self, topic: TopicId, id: &str) -> Result<Option<HeldHalf>, FoldError> {
        half::held(self.kv(), topic, id)
    }

    /// How a half message ended, as long as that is remembered.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn half_trace(&self, topic: TopicId, id: &str) -> Result<Option<Trace>, FoldError> {
        half::trace(self.kv(), topic, id)
    }

    /// At most `max` held half messages behind `after`, by topic and id.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn halves_after(&self, after: Option<(TopicId, &str)>, max: usize) -> Result<Vec<HeldHalf>, FoldError> {
        half::held_after(self.kv(), after, max)
    }

    /// At most `max` ends of half messages in a span of time, oldest first. `discarded`: of those that were given up, instead of
    /// those that were committed or rolled back.
    ///
    /// # Errors
    /// The fold cannot be read.
    pub fn old_half_ends(
        &self,
        discarded: bool,
        span: (Timestamp, Timestamp),
        max: usize,
    ) -> Result<Vec<OldEnd>, FoldError> {
        half::old_ends(self.kv(), discarded, span, max)
    }
}
