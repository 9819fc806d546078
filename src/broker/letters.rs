//! What an operator does with dead letters: look at them, send them back where they came from, drop them.
//!
//! A letter that was sent back or dropped has left its dead-letter topic: nobody receives it there any more. It leaves by a mark in
//! the same unit as its copy in the origin topic, so that no crash can send it back twice or lose it. The marks are leases of a
//! group of their own, [`OPERATOR`]; they go with the letters when the topic is trimmed, and that is as soon as its first letters have
//! all left.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::api::{
    Letter, LetterError, LetterFate, LetterOutcome, LetterPage, LettersSettled, Origin, Remedy, Which,
};
use crate::broker::delivery::core::Core;
use crate::broker::placing::Placing;
use crate::broker::publish::{queue_of_group, takes};
use crate::broker::receive::Delivery;
use crate::broker::verbs::Broker;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId, UnitSeq};
use crate::model::priority::{level_of_queue, queue_of_level};
use crate::model::time::Timestamp;
use crate::model::topic::{Topic, TopicType};
use crate::store::record::{LeaseState, MessageRecord, Record, SettleReason, Unit};
use crate::store::{AppendError, QueueEntry, ReadError};

/// The group whose leases mark letters that have left. Groups are counted from below and never reach it.
pub const OPERATOR: GroupId = GroupId(u32::MAX);
/// Dead letters are put into the first queue.
const QUEUE: QueueId = QueueId(0);
/// Most letters of one page, and most of one unit.
pub const PAGE_MAX: usize = 256;
/// Bytes of bodies after which a page ends, so that what is read fits memory and what is written fits a frame.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;
/// Most letters that may have left a topic while an earlier one stays.
const MARKS_MAX: usize = 65_536;

impl Broker {
    /// Letters of a group from `from` on, at most `limit` and [`PAGE_MAX`].
    ///
    /// # Errors
    /// See [`LetterError`].
    pub async fn dead_letters(
        &self,
        group: &GroupName,
        from: QueueOffset,
        limit: usize,
    ) -> Result<LetterPage, LetterError> {
        let Some(topic) = self.letters_of(group)? else { return Ok(LetterPage::default()) };
        let (entries, next) = self.page(&topic, from, None, limit).await?;
        let (waiting, until) = {
            let core = self.inner.core.lock();
            let state = core.topic(topic.id);
            let tail = state.and_then(|state| state.tails.first());
            let left = state.map_or(0, |state| state.left.len() as u64);
            let until = tail.map_or(QueueOffset(0), |tail| tail.visible());
            (tail.map_or(0, |tail| tail.visible().get() - tail.first().get()).saturating_sub(left), until)
        };
        let mut letters = Vec::with_capacity(entries.len());
        for (entry, record) in self.read_letters(&entries).await? {
            if let Some(record) = record {
                letters.push(letter(&entry, record));
            }
        }
        Ok(LetterPage { letters, next: next.filter(|next| *next < until), waiting })
    }

    /// Sends letters back or drops them, one unit a call; call again from `next` on. What was answered is durable.
    ///
    /// # Errors
    /// See [`LetterError`]; nothing was done, after [`LetterError::ShardFailed`] alone that is unknown.
    pub async fn settle_dead_letters(
        &self,
        group: &GroupName,
        which: Which,
        remedy: Remedy,
    ) -> Result<LettersSettled, LetterError> {
        let Some(topic) = self.letters_of(group)? else { return Ok(LettersSettled::default()) };
        let mut settled = LettersSettled::default();
        let entries = match which {
            Which::These(offsets) => {
                let mut entries: Vec<QueueEntry> = Vec::new();
                let mut bytes = 0;
                for offset in offsets.into_iter().collect::<BTreeSet<_>>().into_iter().take(PAGE_MAX) {
                    if bytes >= PAGE_BYTES {
                        break;
                    }
                    let (found, _) = self.page(&topic, offset, Some(offset.next()), 1).await?;
                    if found.is_empty() {
                        settled.outcomes.push(LetterOutcome::gone(offset));
                    }
                    bytes += found.iter().map(|entry| u64::from(entry.body_bytes)).sum::<u64>();
                    entries.extend(found);
                }
                entries
            }
            Which::Range { from, until } => {
                let end = self.inner.core.lock().topic(topic.id).and_then(|state| Some(state.tails.first()?.visible()));
                settled.until = until.or(end).unwrap_or_default();
                let (entries, next) = self.page(&topic, from, Some(settled.until), PAGE_MAX).await?;
                settled.next = next.filter(|next| *next < settled.until);
                entries
            }
        };
        let found = match remedy {
            Remedy::Redrive => self.read_letters(&entries).await?,
            // What is dropped need not be read.
            Remedy::Purge => entries.into_iter().map(|entry| (entry, None)).collect(),
        };
        let seq = self.settle_found(&topic, found, remedy, &mut settled.outcomes)?;
        if let Some(seq) = seq {
            self.inner.durable(seq).await.map_err(|_| LetterError::ShardFailed)?;
        }
        Ok(settled)
    }

    /// Decides and appends under one lock: what has left meanwhile is told from what leaves now.
    fn settle_found(
        &self,
        topic: &Topic,
        found: Vec<(QueueEntry, Option<MessageRecord>)>,
        remedy: Remedy,
        outcomes: &mut Vec<LetterOutcome>,
    ) -> Result<Option<UnitSeq>, LetterError> {
        let mut unit = Unit::state();
        let mut placing = Placing::default();
        let mut leaving = BTreeSet::new();
        let mut core = self.inner.deciding().map_err(|error| refused(&error))?;
        let now = self.inner.clock.now();
        for (entry, record) in found {
            let message_id = record.as_ref().map(|record| record.message.message_id.clone()).unwrap_or_default();
            let fate = match (core.has_left(topic.id, entry.offset), remedy, record) {
                (true, ..) | (false, Remedy::Redrive, None) => LetterFate::Gone,
                (false, Remedy::Purge, _) => LetterFate::Done,
                (false, Remedy::Redrive, Some(record)) => self.send_back(&core, record, now, &mut placing, &mut unit),
            };
            if fate == LetterFate::Done {
                leaving.insert(entry.offset);
            }
            outcomes.push(LetterOutcome { offset: entry.offset, message_id, fate });
        }
        if leaving.is_empty() {
            return Ok(None);
        }
        let state = core.topic(topic.id).ok_or_else(|| LetterError::NotFound(format!("topic {}", topic.name)))?;
        let before = state.tails.first().map(|tail| tail.first()).unwrap_or_default();
        let mut first = before;
        while leaving.contains(&first) || state.left.contains(&first) {
            first = first.next();
        }
        if state.left.len() + leaving.range(first..).count() > MARKS_MAX {
            return Err(LetterError::TooMany(MARKS_MAX));
        }
        for &offset in &leaving {
            let lease = LeaseState::Waiting { visible_at: now };
            let (group, topic, queue) = (OPERATOR, topic.id, QUEUE);
            unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt: 0, lease });
        }
        let seq = self.inner.append_state(unit).map_err(|error| refused(&error))?;
        placing.accepted(&mut core);
        core.letters_left(topic.id, leaving);
        if first > before {
            // A unit of its own: memory is trimmed to know what goes into it, and a refusal must not take letters that stay. Here it
            // takes nothing: those before `first` have all left, as their marks say.
            let mut unit = Unit::state();
            unit.push(&Record::Trimmed { topic: topic.id, queue: QUEUE, first });
            core.trim(topic.id, QUEUE, first, &mut unit);
            if let Err(error) = self.inner.append_settlement(unit) {
                tracing::debug!(%error, "dead letters that have left keep their marks for now");
            }
        }
        Ok(seq)
    }

    /// Puts a copy into the topic that the letter came from, as if it had just been sent: attempts begin anew.
    fn send_back(
        &self,
        core: &Core,
        record: MessageRecord,
        now: Timestamp,
        placing: &mut Placing,
        unit: &mut Unit,
    ) -> LetterFate {
        let Some(origin) = record.origin.clone() else { return LetterFate::NoOrigin };
        let name = TopicName::trusted(&origin.namespace, &origin.topic);
        let Some(topic) = self.topic(&name) else { return LetterFate::OriginGone(name) };
        // One of the same name may have been made since.
        if !topic.name.is_dead_letter() && !takes(topic.topic_type, record.message_type) {
            return LetterFate::OtherKind(name);
        }
        // As it is under the lock: a topic that grows has its new queues from one message on.
        let Some(queues) = core.topic(topic.id).map(|state| state.topic.queues) else {
            return LetterFate::OriginGone(name);
        };
        let queue = match topic.topic_type {
            // A lite topic is named by its queue, and by no other once it is gone.
            _ if origin.queue.is_lite() && core.accepted(topic.id, origin.queue).is_some() => origin.queue,
            _ if origin.queue.is_lite() => return LetterFate::LiteGone(name),
            TopicType::Priority => queue_of_level(level_of_queue(origin.queue), origin.queue, queues),
            _ if !record.message_group.is_empty() => queue_of_group(&record.message_group, queues),
            _ => QueueId(origin.queue.get() % queues.max(1)),
        };
        let copy = MessageRecord { origin: None, ..record };
        match placing.push_copy(core, copy, (topic.id, queue), now, unit) {
            Some(_) => LetterFate::Done,
            None => LetterFate::OriginGone(name),
        }
    }

    /// The dead-letter topic of a group; `None` when the group has had no dead letter yet.
    fn letters_of(&self, group: &GroupName) -> Result<Option<Arc<Topic>>, LetterError> {
        match self.topic(&TopicName::dead_letter(group)) {
            Some(topic) => Ok(Some(topic)),
            None if self.group(group).is_some() => Ok(None),
            None => Err(LetterError::NotFound(format!("consumer group {group}"))),
        }
    }

    /// Letters that are there, from `from` on, before `until`; and where the next page begins.
    async fn page(
        &self,
        topic: &Topic,
        from: QueueOffset,
        until: Option<QueueOffset>,
        limit: usize,
    ) -> Result<(Vec<QueueEntry>, Option<QueueOffset>), LetterError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let (from, end, mut entries) = {
            let core = self.inner.core.lock();
            let tail = core.topic(topic.id).and_then(|state| state.tails.first());
            let tail = tail.ok_or_else(|| LetterError::NotFound(format!("topic {}", topic.name)))?;
            let from = from.max(tail.first());
            let end = until.unwrap_or(QueueOffset(u64::MAX)).min(tail.visible());
            let recent = (from.get()..end.get()).take(limit).map_while(|offset| tail.recent(QueueOffset(offset)));
            (from, end, recent.collect::<Vec<QueueEntry>>())
        };
        if entries.is_empty() && from < end {
            let (store, id) = (self.inner.store.clone(), topic.id);
            let read = self.inner.tasks.blocking(move || store.entries(id, QUEUE, from, limit)).await;
            entries = read.map_err(|error| LetterError::Unreadable(error.to_string()))?;
            entries.retain(|entry| entry.offset < end);
            if entries.is_empty() {
                return Err(LetterError::Unreadable(format!("entry {from} is missing from the folded state")));
            }
        }
        let mut bytes = 0;
        let fits = entries.iter().take_while(|entry| {
            let before = bytes;
            bytes += u64::from(entry.body_bytes);
            before == 0 || bytes <= PAGE_BYTES
        });
        let fits = fits.count();
        entries.truncate(fits);
        let next = entries.last().map(|entry| entry.offset.next()).filter(|next| *next < end);
        let core = self.inner.core.lock();
        entries.retain(|entry| !core.has_left(topic.id, entry.offset));
        Ok((entries, next))
    }

    async fn read_letters(
        &self,
        entries: &[QueueEntry],
    ) -> Result<Vec<(QueueEntry, Option<MessageRecord>)>, LetterError> {
        let places: Vec<_> = entries.iter().map(|entry| entry.at).collect();
        let records = self.inner.store.read_messages(&places).await;
        let read = entries.iter().zip(records).map(|(entry, record)| match record {
            Ok(record) => Ok((*entry, Some(record))),
            Err(ReadError::Gone { .. }) => Ok((*entry, None)),
            Err(error) => Err(LetterError::Unreadable(error.to_string())),
        });
        read.collect()
    }

    /// Letters that have left are not delivered to consumers of the dead-letter topic.
    pub(super) fn skip_left(&self, delivery: &mut Delivery) {
        let topic = delivery.topic.id;
        let left: Vec<_> = {
            let core = self.inner.core.lock();
            let held = delivery.held.iter().filter(|(queue, ..)| *queue == QUEUE);
            let left = held.filter(|(_, grant, _)| core.has_left(topic, grant.entry.offset));
            left.map(|(_, grant, _)| (grant.entry.offset, grant.terms.grant)).collect()
        };
        for (offset, grant) in left {
            delivery.held.retain(|(queue, held, _)| (*queue, held.entry.offset) != (QUEUE, offset));
            self.settle_silently(delivery, QUEUE, offset, grant, SettleReason::Skipped);
        }
    }
}

impl Core {
    /// Whether a dead letter was sent back or dropped, or is out of retention.
    #[must_use]
    pub fn has_left(&self, topic: TopicId, offset: QueueOffset) -> bool {
        self.topic(topic).is_none_or(|state| {
            state.left.contains(&offset) || state.tails.first().is_some_and(|tail| offset < tail.first())
        })
    }
}

fn letter(entry: &QueueEntry, record: MessageRecord) -> Letter {
    Letter {
        offset: entry.offset,
        moved_at: entry.stored_at,
        message_type: record.message_type,
        message_group: record.message_group,
        body_bytes: record.body_bytes,
        origin: record.origin.map(|origin| Origin {
            topic: TopicName::trusted(&origin.namespace, &origin.topic),
            attempts: origin.attempts,
            reason: origin.reason,
        }),
        message: record.message,
    }
}

fn refused(error: &AppendError) -> LetterError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => LetterError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => LetterError::ShardFailed,
    }
}
