//! What a record does to the folded state: records in, changed rows out. Pure towards [`Rows`]; what it must know of rows
//! that exist already it keeps in memory (bounds of queues, cursors), read once when the fold is opened.
//!
//! Several frames make one batch. Queue entries go into it at once; bounds, cursors and leases when it ends, so that a row
//! changed many times is written once, and a lease that came and went within the batch is not written at all.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::model::position::{GroupId, LogPosition, QueueId, QueueOffset, RecordAt, TopicId};
use crate::store::codec::RecordError;
use crate::store::kv::cursor::{self, Cursor};
use crate::store::kv::delay::{self, Held};
use crate::store::kv::half::Checks;
use crate::store::kv::lane::{self, LaneKey};
use crate::store::kv::lease::{self, LeaseKey, LeaseValue};
use crate::store::kv::meta::{self, Meta};
use crate::store::kv::queue_entry::{self, QueueEntry};
use crate::store::kv::queue_tail::{self, QueueBounds};
use crate::store::kv::{
    FoldError, Kv, Rows, delay_place, group, growth, half, lane_entry, lite_topic, lite_want, placement, recalled,
    route, topic,
};
use crate::store::record::{DelayOutcome, LeaseState, MessageHead, Record, decode, message_head, walk};

/// A durable frame holds something that cannot be folded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("log position {position}: {cause}")]
pub struct DispatchError {
    /// Frame payload in which it lies.
    pub position: LogPosition,
    /// What is wrong.
    pub cause: RecordError,
}

/// What is known of a group on a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    next: Option<QueueOffset>,
    /// Above every lease row that may exist in the database; a lease at or above it is new.
    rows_end: QueueOffset,
    /// No lease row exists below it.
    rows_begin: QueueOffset,
    changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct PendingLease {
    /// The database has no row of this key.
    fresh: bool,
    /// The row after this batch; `None`: removed.
    row: Option<LeaseValue>,
}

/// A message group with messages that were passed over.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// `None`: has caught up.
    from: Option<QueueOffset>,
    /// The database has a row of it.
    is_stored: bool,
}

type PlaceKey = (TopicId, QueueId, GroupId);

/// Most entries of a deleted queue that are removed one by one.
const ENTRIES_DELETED_SINGLY_MAX: u64 = 256;

/// Folds frames into rows.
#[derive(Debug)]
pub struct Dispatcher {
    meta: Meta,
    /// As last written.
    meta_before: Meta,
    tails: BTreeMap<(TopicId, QueueId), QueueBounds>,
    changed_tails: BTreeSet<(TopicId, QueueId)>,
    places: BTreeMap<PlaceKey, Place>,
    changed_places: Vec<PlaceKey>,
    leases: BTreeMap<LeaseKey, PendingLease>,
    lanes: BTreeMap<LaneKey, Lane>,
    changed_lanes: BTreeSet<LaneKey>,
    /// Highest queue of a lite topic so far, by parent; below parent 0: of all that were deleted.
    lite_highest: BTreeMap<TopicId, QueueId>,
    /// Who may have rows of what is waited for.
    lite_wanting: BTreeSet<(TopicId, GroupId)>,
    scratch: BytesMut,
}

impl Dispatcher {
    /// Continues from what the database holds.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn load(kv: &Kv) -> Result<Self, FoldError> {
        let mut dispatcher = Self::new(meta::read(kv)?);
        for (topic, queue, bounds) in queue_tail::all(kv, None)? {
            dispatcher.tails.insert((topic, queue), bounds);
        }
        for cursor in cursor::all(kv)? {
            dispatcher.places.entry((cursor.topic, cursor.queue, cursor.group)).or_default().next = Some(cursor.next);
        }
        for last in lease::last_of_each_place(kv)? {
            dispatcher.places.entry((last.topic, last.queue, last.group)).or_default().rows_end = last.offset.next();
        }
        for (key, from) in lane::all(kv)? {
            dispatcher.lanes.insert(key, Lane { from: Some(from), is_stored: true });
        }
        dispatcher.lite_highest.extend(lite_topic::highest(kv)?);
        dispatcher.lite_wanting.extend(lite_want::all(kv)?.into_iter().map(|(topic, group, _)| (topic, group)));
        Ok(dispatcher)
    }

    fn new(meta: Meta) -> Self {
        Self {
            meta,
            meta_before: meta,
            tails: BTreeMap::new(),
            changed_tails: BTreeSet::new(),
            places: BTreeMap::new(),
            changed_places: Vec::new(),
            leases: BTreeMap::new(),
            lanes: BTreeMap::new(),
            changed_lanes: BTreeSet::new(),
            lite_highest: BTreeMap::new(),
            lite_wanting: BTreeSet::new(),
            scratch: BytesMut::new(),
        }
    }

    /// The facts after everything that was applied.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Applies the records of a frame. `position` is the log position of the payload's first byte.
    ///
    /// # Errors
    /// A record cannot be understood; the batch must not be written.
    pub fn apply(&mut self, payload: &Bytes, position: LogPosition, rows: &mut impl Rows) -> Result<(), DispatchError> {
        for found in walk(payload.clone(), position) {
            let applied = found.and_then(|(at, bytes)| self.apply_record(at, &bytes, rows));
            applied.map_err(|cause| DispatchError { position, cause })?;
        }
        Ok(())
    }

    /// Ends the batch: the rows now reflect every frame before `position`.
    pub fn finish(&mut self, position: LogPosition, rows: &mut impl Rows) {
        for key in std::mem::take(&mut self.changed_tails) {
            if let Some(&bounds) = self.tails.get(&key) {
                queue_tail::put(rows, key.0, key.1, bounds);
            }
        }
        for key in std::mem::take(&mut self.changed_places) {
            let Some(place) = self.places.get_mut(&key) else { continue };
            if std::mem::take(&mut place.changed)
                && let Some(next) = place.next
            {
                cursor::put(rows, &Cursor { topic: key.0, queue: key.1, group: key.2, next });
            }
        }
        for (key, pending) in std::mem::take(&mut self.leases) {
            match pending.row {
                Some(value) => lease::put(rows, &key, &value, &mut self.scratch),
                None => lease::delete(rows, &key),
            }
        }
        self.finish_lanes(rows);
        self.meta.position = position;
        meta::put(rows, &self.meta, &self.meta_before);
        self.meta_before = self.meta;
    }

    fn apply_record(&mut self, at: RecordAt, bytes: &Bytes, rows: &mut impl Rows) -> Result<(), RecordError> {
        // Messages are by far the most frequent, and their body is of no interest here.
        if let Some(head) = message_head(bytes)? {
            self.message(&head, at, rows);
            return Ok(());
        }
        match decode(bytes)? {
            Record::Opened { term, .. } => self.meta.term = self.meta.term.max(term),
            Record::Message(_) => {}
            Record::Granted { group, topic, queue, next, lease, items } => {
                let key = (topic, queue, group);
                self.set_cursor(key, next);
                for (offset, attempt) in items {
                    self.put_lease(key, offset, attempt, lease);
                }
            }
            Record::LeaseChanged { group, topic, queue, offset, attempt, lease } => {
                self.put_lease((topic, queue, group), offset, attempt, lease);
            }
            Record::Settled { group, topic, queue, offsets, .. } => {
                for offset in offsets {
                    self.remove_lease(LeaseKey { topic, queue, group, offset });
                }
            }
            Record::Advanced { group, topic, queue, next } => self.set_cursor((topic, queue, group), next),
            Record::TopicPut(put) => {
                self.meta.next_topic = self.meta.next_topic.max(put.id.next());
                topic::put(rows, &put);
            }
            Record::TopicDeleted(id) => self.delete_topic(id, rows),
            Record::GroupPut(put) => {
                self.meta.next_group = self.meta.next_group.max(put.id.next());
                group::put(rows, &put);
            }
            Record::GroupDeleted(id) => self.delete_group(id, rows),
            Record::Trimmed { topic, queue, first } => self.trim(topic, queue, first, rows),
            Record::Half(stored) => half::put(rows, &stored, at),
            Record::HalfChecked { topic, id, checks, next_check } => {
                half::put_checks(rows, topic, &id, Checks { count: checks, next: next_check });
            }
            Record::HalfEnded { topic, id, outcome, at, was_checked } => {
                half::end(rows, topic, &id, outcome, at, was_checked);
            }
            Record::LogTrimmed { start } => {
                self.meta.log_start = self.meta.log_start.max(start);
                delay_place::delete_before(rows, start);
            }
            Record::Delayed { key, message } => {
                delay::put(rows, key, &Held { topic: message.topic, at });
                delay_place::put(rows, at.position, key);
            }
            Record::DelayEnded { key, topic, outcome } => match outcome {
                DelayOutcome::Fired | DelayOutcome::Dropped => delay::delete(rows, key),
                DelayOutcome::Recalled => {
                    delay::delete(rows, key);
                    recalled::put(rows, key, topic);
                }
                DelayOutcome::Forgotten => recalled::delete_up_to(rows, key),
            },
            Record::LaneParked { group, topic, queue, order_key, from } => {
                let key = LaneKey { topic, queue, group, order_key };
                self.lanes.entry(key).or_insert(Lane { from, is_stored: false }).from = from;
                self.changed_lanes.insert(key);
            }
            Record::QueuesAdded { topic, growth } => growth::put(rows, topic, &growth),
            Record::CatalogApplied { revision } => self.meta.applied = self.meta.applied.max(Some(revision)),
            Record::RoutePut { key, value } => route::put(rows, &key, &value),
            Record::RouteDeleted { key } => route::delete(rows, &key),
            Record::Placed { topic, placement, seals } => placement::put(rows, topic, &placement, &seals),
            Record::Reset { group, topic, queue, next } => self.reset((topic, queue, group), next, rows),
            Record::LiteTopicPut { topic, queue, name } => {
                lite_topic::put(rows, topic, queue, &name);
                self.raise_highest(topic, queue, rows);
            }
            Record::LiteTopicDeleted { topic, queue } => self.delete_queue(topic, queue, rows),
            Record::LiteWanted { topic, group, name, is_wanted: true } => {
                lite_want::put(rows, topic, group, &name);
                self.lite_wanting.insert((topic, group));
            }
            Record::LiteWanted { topic, group, name, .. } => lite_want::delete(rows, topic, group, &name),
        }
        Ok(())
    }

    fn raise_highest(&mut self, topic: TopicId, queue: QueueId, rows: &mut impl Rows) {
        let known = self.lite_highest.get(&topic);
        if known.is_none_or(|known| *known < queue) {
            self.lite_highest.insert(topic, queue);
            lite_topic::put_highest(rows, topic, queue);
        }
    }

    fn message(&mut self, head: &MessageHead, at: RecordAt, rows: &mut impl Rows) {
        let entry = QueueEntry::of(head, at);
        queue_entry::put(rows, head.topic, head.queue, &entry);
        if entry.order_key != 0 {
            lane_entry::put(rows, head.topic, head.queue, &entry);
        }
        let key = (head.topic, head.queue);
        // The first message that is seen of a queue is its first: what came before it is out of retention.
        let bounds = self.tails.entry(key).or_insert(QueueBounds { first: head.offset, next: head.offset });
        bounds.next = bounds.next.max(head.offset.next());
        self.changed_tails.insert(key);
    }

    /// Lanes are few, those of active message groups only: all are known here, so that a row which was never written is never
    /// removed.
    fn finish_lanes(&mut self, rows: &mut impl Rows) {
        for key in std::mem::take(&mut self.changed_lanes) {
            let Some(known) = self.lanes.get_mut(&key) else { continue };
            if let Some(from) = known.from {
                known.is_stored = true;
                lane::put(rows, &key, from);
            } else {
                if known.is_stored {
                    lane::delete(rows, &key);
                }
                self.lanes.remove(&key);
            }
        }
    }

    fn drop_lanes(&mut self, which: impl Fn(&LaneKey) -> bool, rows: &mut impl Rows) {
        self.lanes.retain(|key, lane| {
            let goes = which(key);
            if goes && lane.is_stored {
                lane::delete(rows, key);
            }
            !goes
        });
    }

    fn set_cursor(&mut self, key: PlaceKey, next: QueueOffset) {
        let place = self.places.entry(key).or_default();
        if place.next != Some(next) {
            place.next = Some(next);
            if !std::mem::replace(&mut place.changed, true) {
                self.changed_places.push(key);
            }
        }
    }

    fn put_lease(&mut self, place_key: PlaceKey, offset: QueueOffset, attempt: u32, lease: LeaseState) {
        let (topic, queue, group) = place_key;
        let place = self.places.entry(place_key).or_default();
        let is_new = offset >= place.rows_end;
        if is_new {
            place.rows_end = offset.next();
        }
        place.rows_begin = place.rows_begin.min(offset);
        let row = Some(LeaseValue { attempt, lease });
        self.leases
            .entry(LeaseKey { topic, queue, group, offset })
            .and_modify(|pending| pending.row = row)
            .or_insert(PendingLease { fresh: is_new, row });
    }

    fn remove_lease(&mut self, key: LeaseKey) {
        match self.leases.get_mut(&key) {
            Some(pending) if pending.fresh => {
                self.leases.remove(&key);
            }
            Some(pending) => pending.row = None,
            None => {
                self.leases.insert(key, PendingLease { fresh: false, row: None });
            }
        }
    }

    /// Unlike [`set_cursor`](Self::set_cursor) this may go back, so what lies above `next` must go too: a lease row there would
    /// be restored as a delivery that nobody holds.
    fn reset(&mut self, place_key: PlaceKey, next: QueueOffset, rows: &mut impl Rows) {
        let (topic, queue, group) = place_key;
        let place = self.places.entry(place_key).or_default();
        if place.rows_begin < place.rows_end {
            lease::delete_place(rows, topic, queue, group, None);
        }
        (place.rows_begin, place.rows_end) = (QueueOffset(0), QueueOffset(0));
        forget_pending(&mut self.leases, place_key, QueueOffset(u64::MAX));
        self.drop_lanes(|key| (key.topic, key.queue, key.group) == place_key, rows);
        self.set_cursor(place_key, next);
    }

    fn delete_topic(&mut self, id: TopicId, rows: &mut impl Rows) {
        topic::delete(rows, id);
        queue_entry::delete_topic(rows, id);
        queue_tail::delete_topic(rows, id);
        cursor::delete_topic(rows, id);
        lease::delete_topic(rows, id);
        lite_topic::delete_topic(rows, id);
        if let Some(highest) = self.lite_highest.remove(&id) {
            self.raise_highest(TopicId(0), highest, rows);
        }
        lite_want::delete_topic(rows, id);
        self.lite_wanting.retain(|(topic, _)| *topic != id);
        half::delete_topic(rows, id);
        lane_entry::delete_topic(rows, id);
        growth::delete_topic(rows, id);
        placement::delete(rows, id);
        self.drop_lanes(|key| key.topic == id, rows);
        self.tails.retain(|key, _| key.0 != id);
        self.places.retain(|key, _| key.0 != id);
        self.leases.retain(|key, _| key.topic != id);
    }

    /// A lite topic goes. Row by row where that is few: many ranges that were removed make every later scan slow.
    fn delete_queue(&mut self, topic: TopicId, queue: QueueId, rows: &mut impl Rows) {
        lite_topic::delete(rows, topic, queue);
        self.drop_lanes(|key| (key.topic, key.queue) == (topic, queue), rows);
        queue_tail::delete(rows, topic, queue);
        let bounds = self.tails.remove(&(topic, queue)).unwrap_or_default();
        self.changed_tails.remove(&(topic, queue));
        if bounds.next.get().saturating_sub(bounds.first.get()) <= ENTRIES_DELETED_SINGLY_MAX {
            for offset in bounds.first.get()..bounds.next.get() {
                queue_entry::delete(rows, topic, queue, QueueOffset(offset));
            }
        } else {
            queue_entry::delete_queue(rows, topic, queue);
        }
        lane_entry::delete_queue(rows, topic, queue);
        let groups = (topic, queue, GroupId(0))..=(topic, queue, GroupId(u32::MAX));
        let gone: Vec<(PlaceKey, Place)> = self.places.range(groups).map(|(&key, &place)| (key, place)).collect();
        for (key, place) in gone {
            cursor::delete(rows, topic, queue, key.2);
            if place.rows_begin < place.rows_end {
                lease::delete_place(rows, topic, queue, key.2, None);
            }
            self.places.remove(&key);
        }
        let at = |group, offset| LeaseKey { topic, queue, group: GroupId(group), offset: QueueOffset(offset) };
        let pending = self.leases.range(at(0, 0)..=at(u32::MAX, u64::MAX));
        for key in pending.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.leases.remove(&key);
        }
    }

    fn delete_group(&mut self, id: GroupId, rows: &mut impl Rows) {
        group::delete(rows, id);
        self.drop_lanes(|key| key.group == id, rows);
        for &(topic, queue, group) in self.places.keys().filter(|key| key.2 == id) {
            cursor::delete(rows, topic, queue, group);
            lease::delete_place(rows, topic, queue, group, None);
        }
        self.places.retain(|key, _| key.2 != id);
        self.leases.retain(|key, _| key.group != id);
        self.lite_wanting.retain(|&(topic, group)| {
            if group == id {
                lite_want::delete_group(rows, topic, group);
            }
            group != id
        });
    }

    fn trim(&mut self, topic: TopicId, queue: QueueId, first: QueueOffset, rows: &mut impl Rows) {
        let bounds = self.tails.entry((topic, queue)).or_default();
        if first > bounds.first {
            bounds.first = first;
            bounds.next = bounds.next.max(first);
            self.changed_tails.insert((topic, queue));
            queue_entry::delete_before(rows, topic, queue, first);
            lane_entry::delete_before(rows, topic, queue, first);
        }
        let groups = (topic, queue, GroupId(0))..=(topic, queue, GroupId(u32::MAX));
        for (&(_, _, group), place) in self.places.range_mut(groups) {
            if place.next.is_some_and(|next| next < first) {
                place.next = Some(first);
                if !std::mem::replace(&mut place.changed, true) {
                    self.changed_places.push((topic, queue, group));
                }
            }
            if place.rows_begin < first.min(place.rows_end) {
                lease::delete_place(rows, topic, queue, group, Some(first));
            }
            place.rows_begin = place.rows_begin.max(first);
            forget_pending(&mut self.leases, (topic, queue, group), first);
        }
    }
}

/// Leases of a place below `end` are not written by this batch any more.
fn forget_pending(leases: &mut BTreeMap<LeaseKey, PendingLease>, (topic, queue, group): PlaceKey, end: QueueOffset) {
    let at = |offset| LeaseKey { topic, queue, group, offset };
    let gone: Vec<_> = leases.range(at(QueueOffset(0))..at(end)).map(|(&key, _)| key).collect();
    for key in gone {
        leases.remove(&key);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
#[path = "dispatch/tests.rs"]
mod tests;
