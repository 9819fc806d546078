//! Recall of a delayed message: OK only if nobody will ever get it. The race with its firing is decided under one lock.
//!
//! ```text
//! handle = sealed( shard u32 | topic u32 | due u64 | hold u64 | message id )       big-endian
//! ```

use std::time::Duration;

use crate::broker::api::RecallError;
use crate::broker::delivery::timers::Ending;
use crate::broker::upkeep::TrimError;
use crate::broker::verbs::Broker;
use crate::model::name::TopicName;
use crate::model::position::{HoldId, TopicId, UnitSeq};
use crate::model::time::Timestamp;
use crate::model::topic::TopicType;
use crate::store::FoldError;
use crate::store::record::{DelayOutcome, HoldKey, Record, Unit};

const FIXED_BYTES: usize = 24;
/// How long after its time a message's end can still be told.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Recalls are forgotten in lumps of so much time: each costs a record.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(10 * 60);

/// What the folded state says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Held,
    Recalled,
    Missing,
}

/// How a message ended, and the unit that must be durable before that is told; none when it is.
type Decided = (DelayOutcome, Option<UnitSeq>);

impl Broker {
    /// The text by which a message can be recalled.
    pub(super) fn recall_handle(&self, topic: TopicId, key: HoldKey, message_id: &str) -> String {
        let mut plain = Vec::with_capacity(FIXED_BYTES + message_id.len());
        plain.extend_from_slice(&self.inner.shard.get().to_be_bytes());
        plain.extend_from_slice(&topic.get().to_be_bytes());
        plain.extend_from_slice(&key.due.millis().to_be_bytes());
        plain.extend_from_slice(&key.hold.get().to_be_bytes());
        plain.extend_from_slice(message_id.as_bytes());
        self.inner.handles.load().seal_recall(&plain)
    }

    fn open_recall_handle(&self, text: &str) -> Option<(TopicId, HoldKey, String)> {
        let plain = self.inner.handles.load().open_recall(text)?;
        if plain.len() < FIXED_BYTES {
            return None;
        }
        let number =
            |from: usize, to: usize| plain[from..to].iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        let topic = TopicId(u32::try_from(number(4, 8)).ok()?);
        let key = HoldKey { due: Timestamp(number(8, 16)), hold: HoldId(number(16, 24)) };
        let message_id = String::from_utf8(plain[FIXED_BYTES..].to_vec()).ok()?;
        (number(0, 4) == u64::from(self.inner.shard.get())).then_some((topic, key, message_id))
    }

    /// Cancels a delayed message and hands back its id; that an earlier call did so is as good.
    ///
    /// # Errors
    /// It was not cancelled; after [`RecallError::ShardFailed`] alone that is unknown.
    pub async fn recall(&self, name: &TopicName, handle: &str) -> Result<String, RecallError> {
        let topic = self.topic(name).ok_or_else(|| RecallError::TopicNotFound(name.clone()))?;
        if !matches!(topic.topic_type, TopicType::Delay | TopicType::Mixed) {
            return Err(RecallError::WrongType(name.clone()));
        }
        if !topic.permission.writable {
            return Err(RecallError::NotWritable(name.clone()));
        }
        let (of, key, message_id) = self.open_recall_handle(handle).ok_or(RecallError::BadHandle)?;
        // A topic that was deleted and made anew has another id.
        if of != topic.id {
            return Err(RecallError::NotFound);
        }
        let decided = match self.decide_recall(topic.id, key, None)? {
            Some(decided) => decided,
            None => self.decide_recall_by_row(topic.id, key).await?,
        };
        if let (_, Some(seq)) = decided {
            self.inner.durable(seq).await.map_err(|_| RecallError::ShardFailed)?;
        }
        match decided.0 {
            DelayOutcome::Recalled => Ok(message_id),
            DelayOutcome::Fired => Err(RecallError::TooLate),
            DelayOutcome::Dropped | DelayOutcome::Forgotten => Err(RecallError::NotFound),
        }
    }

    /// A message that is not in memory: due later than what is, or long gone.
    async fn decide_recall_by_row(&self, topic: TopicId, key: HoldKey) -> Result<Decided, RecallError> {
        let (_reading, told) = {
            let core = self.inner.core.lock();
            (core.delays.reading(), core.delays.told())
        };
        if !self.inner.store.wait_folded(told).await {
            return Err(RecallError::ShardFailed);
        }
        let store = self.inner.store.clone();
        let row = self.inner.tasks.blocking(move || {
            Ok::<_, FoldError>(match (store.delayed(key)?, store.recalled(key)?) {
                (Some(_), _) => Row::Held,
                (None, Some(_)) => Row::Recalled,
                (None, None) => Row::Missing,
            })
        });
        let row = row.await.map_err(|error| {
            tracing::warn!(%error, "a recall could not be decided");
            RecallError::ShardFailed
        })?;
        self.decide_recall(topic, key, Some(row))?.ok_or(RecallError::NotFound)
    }

    /// Decides under the lock; `None`: the row must be read first.
    fn decide_recall(&self, topic: TopicId, key: HoldKey, row: Option<Row>) -> Result<Option<Decided>, RecallError> {
        let inner = &self.inner;
        let mut core = inner.deciding().map_err(|_| RecallError::ShardFailed)?;
        if let Some(ending) = core.delays.ending(key.hold) {
            return Ok(Some((ending.outcome, Some(ending.seq))));
        }
        let is_due = key.due <= inner.clock.now();
        // A row that is due and not in memory may be on its way there: only what is surely still held is cancelled.
        let is_held = core.delays.pending(key).is_some() || (row == Some(Row::Held) && !is_due);
        if is_held && core.topic(topic).is_some() {
            let mut unit = Unit::state();
            let outcome = DelayOutcome::Recalled;
            unit.push(&Record::DelayEnded { key, topic, outcome });
            let seq = inner.store.append(unit).map_err(|_| RecallError::ShardFailed)?;
            core.delays.end(key, Ending { outcome, seq });
            if core.delays.wants_load() {
                inner.delays_wanted.notify_one();
            }
            return Ok(Some((outcome, Some(seq))));
        }
        let is_remembered = inner.clock.now() < key.due.plus(REMEMBERED);
        match row {
            None => Ok(None),
            Some(Row::Recalled) => Ok(Some((DelayOutcome::Recalled, None))),
            Some(Row::Held | Row::Missing) if is_due && is_remembered => Err(RecallError::TooLate),
            Some(Row::Held | Row::Missing) => Err(RecallError::NotFound),
        }
    }

    /// Forgets recalls of messages that were due long ago.
    pub(super) async fn forget_recalls(&self) -> Result<(), TrimError> {
        let store = self.inner.store.clone();
        let first = self.inner.tasks.blocking(move || store.first_recalled()).await?;
        let bound = self.inner.clock.now().minus(REMEMBERED);
        if first.is_none_or(|first| first.plus(FORGOTTEN_EVERY) > bound) {
            return Ok(());
        }
        let mut unit = Unit::state();
        let key = HoldKey { due: Timestamp(bound.millis().saturating_sub(1)), hold: HoldId(u64::MAX) };
        unit.push(&Record::DelayEnded { key, topic: TopicId(0), outcome: DelayOutcome::Forgotten });
        self.inner.append_state(unit).map(|_| ()).map_err(|error| TrimError::Log(error.to_string()))
    }
}
