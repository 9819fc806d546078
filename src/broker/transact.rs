//! The end of a transaction. A commit puts the copy of the message into its queue and says that it ended, in one unit, so that
//! no crash can leave one without the other; every OK waits until that unit is durable, also when it only repeats an end.

use std::collections::{HashMap, HashSet};

use crate::broker::api::{Resolution, TransactionError};
use crate::broker::delay::held_back;
use crate::broker::delivery::transactions::{HalfKey, Known};
use crate::broker::placing::Placing;
use crate::broker::publish::{is_half, queue_of_group};
use crate::broker::verbs::Broker;
use crate::model::message::NewMessage;
use crate::model::name::TopicName;
use crate::model::position::{RecordAt, TopicId, UnitSeq};
use crate::model::time::Timestamp;
use crate::model::topic::Topic;
use crate::store::record::{HalfOutcome, HalfRecord, HoldKey, Record, Unit};
use crate::store::{AppendError, ReadError};

/// Looks at a half message that changes while it is looked at, before the caller is told to try again.
const LOOKS_MAX: usize = 8;

/// How a half message stands.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It can be committed or rolled back.
    Held { at: RecordAt, was_checked: bool, discarded_at: Option<Timestamp> },
    /// Its own unit is not durable yet.
    Arriving(UnitSeq),
    /// It ended in this unit.
    Ended(HalfOutcome, UnitSeq),
    /// It changed while it was looked at.
    Changed,
    /// Nobody knows it.
    Unknown,
}

impl Broker {
    /// Commits or rolls back. The same end once more is fine, the other one is not.
    ///
    /// # Errors
    /// See [`TransactionError`]; after [`TransactionError::ShardFailed`] alone it is unknown whether it ended.
    pub async fn end_transaction(
        &self,
        topic: &TopicName,
        id: &str,
        resolution: Resolution,
    ) -> Result<(), TransactionError> {
        self.settle_transaction(topic, id, resolution, false).await
    }

    /// The same by an operator, who may also settle what was given up.
    ///
    /// # Errors
    /// See [`Broker::end_transaction`].
    pub async fn end_transaction_by_hand(
        &self,
        topic: &TopicName,
        id: &str,
        resolution: Resolution,
    ) -> Result<(), TransactionError> {
        self.settle_transaction(topic, id, resolution, true).await
    }

    /// For a client that has not decided: fine as long as the transaction has not ended, and nothing changes.
    ///
    /// # Errors
    /// See [`TransactionError`].
    pub async fn look_at_transaction(&self, name: &TopicName, id: &str) -> Result<(), TransactionError> {
        let topic = self.topic(name).ok_or_else(|| TransactionError::TopicNotFound(name.clone()))?;
        match self.standing(&HalfKey::new(topic.id, id), false).await? {
            Standing::Unknown => Err(TransactionError::Unknown),
            _ => Ok(()),
        }
    }

    async fn settle_transaction(
        &self,
        name: &TopicName,
        id: &str,
        resolution: Resolution,
        by_hand: bool,
    ) -> Result<(), TransactionError> {
        let topic = self.topic(name).ok_or_else(|| TransactionError::TopicNotFound(name.clone()))?;
        let key = HalfKey::new(topic.id, id);
        for _ in 0..LOOKS_MAX {
            match self.standing(&key, by_hand).await? {
                Standing::Unknown => return Err(TransactionError::Unknown),
                Standing::Changed => {}
                Standing::Arriving(seq) => self.ended_durably(seq).await?,
                Standing::Ended(outcome, seq) => {
                    self.ended_durably(seq).await?;
                    return verdict(outcome, resolution);
                }
                Standing::Held { discarded_at: Some(_), .. } if !by_hand => return Err(TransactionError::Discarded),
                Standing::Held { at, was_checked, discarded_at } => {
                    let half = match resolution {
                        Resolution::Rollback => None,
                        Resolution::Commit => match self.inner.store.read_half(at).await {
                            Ok(half) => Some(half),
                            // Moved on before retention took this place; the next look finds the new one.
                            Err(ReadError::Gone { .. }) => continue,
                            Err(error) => {
                                tracing::warn!(%error, topic = %topic.name, "a half message cannot be read");
                                return Err(TransactionError::ShardFailed);
                            }
                        },
                    };
                    let ended = self.end_now(&topic, &key, half, (was_checked, discarded_at))?;
                    if let Some(seq) = ended {
                        self.ended_durably(seq).await?;
                        self.inner.metrics.transaction_ended(topic.name.name(), resolution == Resolution::Commit);
                        return Ok(());
                    }
                }
            }
        }
        Err(TransactionError::Overloaded)
    }

    /// Those of a request's half messages, by index, that are stored already or come twice; each with the unit to wait for.
    pub(super) fn known_halves(&self, topic: TopicId, messages: &[NewMessage]) -> HashMap<usize, UnitSeq> {
        let mut known = HashMap::new();
        if !messages.iter().any(is_half) {
            return known;
        }
        let mut seen = HashSet::new();
        let core = self.inner.core.lock();
        for (index, message) in messages.iter().enumerate().filter(|(_, message)| is_half(message)) {
            if !seen.insert(message.message_id.as_str()) {
                known.insert(index, UnitSeq(0));
                continue;
            }
            match core.transactions.known(&HalfKey::new(topic, &message.message_id)) {
                Some(Known::Pending { seq, .. } | Known::Ended { seq, .. }) => drop(known.insert(index, seq)),
                None => {}
            }
        }
        known
    }

    /// Memory knows every end that the folded state does not know yet (T-4), so it is asked first.
    async fn standing(&self, key: &HalfKey, by_hand: bool) -> Result<Standing, TransactionError> {
        let known = self.inner.core.lock().transactions.known(key);
        match known {
            Some(Known::Pending { at: Some(at), was_checked, .. }) => {
                return Ok(Standing::Held { at, was_checked, discarded_at: None });
            }
            Some(Known::Pending { at: None, seq, .. }) => return Ok(Standing::Arriving(seq)),
            // Where it lies is in the folded state only.
            Some(Known::Ended { outcome: HalfOutcome::Discarded, seq }) if by_hand => {
                self.ended_durably(seq).await?;
                self.inner.store.wait_folded(self.inner.store.log_end()).await;
            }
            Some(Known::Ended { outcome, seq }) => return Ok(Standing::Ended(outcome, seq)),
            None => {}
        }
        let (store, topic, id) = (self.inner.store.clone(), key.topic, key.id.clone());
        let read = self.inner.tasks.blocking(move || {
            Ok::<_, crate::store::FoldError>((store.half(topic, &id)?, store.half_trace(topic, &id)?))
        });
        let (half, trace) = read.await.map_err(|error| {
            tracing::warn!(%error, "what became of a transaction cannot be read");
            TransactionError::ShardFailed
        })?;
        Ok(match (half, trace) {
            (Some(half), _) if half.discarded_at.is_some() => {
                Standing::Held { at: half.at, was_checked: half.checks.is_some(), discarded_at: half.discarded_at }
            }
            (Some(_), _) => Standing::Changed,
            (None, Some(trace)) => Standing::Ended(trace.outcome, UnitSeq(0)),
            (None, None) => Standing::Unknown,
        })
    }

    /// Decides under the lock; `None` when it does not stand as it did any more. Without `half` it is rolled back.
    fn end_now(
        &self,
        topic: &Topic,
        key: &HalfKey,
        half: Option<HalfRecord>,
        (was_checked, discarded_at): (bool, Option<Timestamp>),
    ) -> Result<Option<UnitSeq>, TransactionError> {
        let mut core = self.inner.deciding().map_err(|error| refused(&error))?;
        let now = self.inner.clock.now();
        let is_as_it_was = matches!(
            (core.transactions.known(key), discarded_at),
            (Some(Known::Pending { .. }), None)
                | (None | Some(Known::Ended { outcome: HalfOutcome::Discarded, .. }), Some(_))
        );
        if !is_as_it_was {
            return Ok(None);
        }
        let end =
            |outcome, at| Record::HalfEnded { topic: key.topic, id: key.id.to_string(), outcome, at, was_checked };
        let mut unit = Unit::state();
        let mut placing = Placing::default();
        if let Some(discarded_at) = discarded_at {
            // Takes away what says that it was given up.
            unit.push(&end(HalfOutcome::Expired, discarded_at));
        }
        let outcome = if half.is_some() { HalfOutcome::Committed } else { HalfOutcome::RolledBack };
        if let Some(half) = half {
            let gone = || TransactionError::TopicNotFound(topic.name.clone());
            let HalfRecord { message, due, .. } = half;
            match due.filter(|due| *due > now) {
                // Its time has not come: from here on it is a delayed message, whoever sees it next.
                Some(due) => {
                    core.topic(topic.id).ok_or_else(gone)?;
                    let key = HoldKey { due, hold: self.inner.next_hold() };
                    let mut message = message;
                    message.message.stored_at = now;
                    unit.push(&held_back(key, message));
                }
                None => {
                    let queue = match message.message_group.as_str() {
                        "" => core.next_queue(topic.id).ok_or_else(gone)?,
                        // As the number of queues is under this lock: groups move when it grows.
                        group => {
                            let queues = core.topic(topic.id).ok_or_else(gone)?.topic.queues;
                            queue_of_group(group, queues)
                        }
                    };
                    placing.push_copy(&core, message, (topic.id, queue), now, &mut unit).ok_or_else(gone)?;
                }
            }
        }
        unit.push(&end(outcome, now));
        let seq = self.inner.store.append(unit).map_err(|error| refused(&error))?;
        placing.accepted(&mut core);
        core.transactions.end(key.clone(), outcome, seq);
        Ok(Some(seq))
    }

    async fn ended_durably(&self, seq: UnitSeq) -> Result<(), TransactionError> {
        self.inner.durable(seq).await.map_err(|_| TransactionError::ShardFailed)
    }
}

/// What a wish for an end is told that comes after one.
fn verdict(outcome: HalfOutcome, wish: Resolution) -> Result<(), TransactionError> {
    match (outcome, wish) {
        (HalfOutcome::Committed, Resolution::Commit) | (HalfOutcome::RolledBack, Resolution::Rollback) => Ok(()),
        (HalfOutcome::Committed, Resolution::Rollback) => Err(TransactionError::Opposite { committed: true }),
        (HalfOutcome::RolledBack, Resolution::Commit) => Err(TransactionError::Opposite { committed: false }),
        (HalfOutcome::Discarded, _) => Err(TransactionError::Discarded),
        (HalfOutcome::Forgotten | HalfOutcome::Expired, _) => Err(TransactionError::Unknown),
    }
}

fn refused(error: &AppendError) -> TransactionError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => {
            TransactionError::Overloaded
        }
        AppendError::Failed(_) | AppendError::Closed => TransactionError::ShardFailed,
    }
}
