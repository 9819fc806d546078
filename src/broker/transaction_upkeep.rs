//! What happens to transactions by itself: at the start they are read back; the undecided are given up after their last check;
//! traces go when they are old; and before retention cuts the log, what is still held is stored once more.

use std::time::Duration;

use crate::broker::delivery::core::Core;
use crate::broker::delivery::transactions::{Arrival, CheckPolicy, HalfKey, Known};
use crate::broker::options::TransactionOptions;
use crate::broker::upkeep::TrimError;
use crate::broker::verbs::Broker;
use crate::model::position::{LogPosition, TopicId, UnitSeq};
use crate::model::time::Timestamp;
use crate::store::kv::half::{HeldHalf, OldEnd};
use crate::store::record::{HalfOutcome, Record, Unit};
use crate::store::{FoldError, ReadError, Store};

/// How often the undecided are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two sweeps of old traces.
const SWEEP_EVERY_LOOKS: u32 = 60;
/// Ends written, or rows read, at once.
const AT_ONCE: usize = 1_024;
/// Ends that are read back at the start: a sender that repeats itself does so within seconds.
const ENDS_READ_BACK: Duration = Duration::from_secs(600);
/// Bytes of held messages that are moved on together.
const MOVED_TOGETHER_BYTES: usize = 8 * 1024 * 1024;

/// When producers are asked, by the options.
pub(super) fn check_policy(options: &TransactionOptions) -> CheckPolicy {
    CheckPolicy {
        pause: options.check_pause,
        pause_max: options.check_pause_max,
        times: options.checks_max,
        pending_max: options.pending_max,
        ..CheckPolicy::default()
    }
}

/// Reads back what is pending, and the latest ends.
pub(super) fn restore_transactions(store: &Store, core: &mut Core, now: Timestamp) -> Result<(), FoldError> {
    let mut after: Option<(TopicId, String)> = None;
    loop {
        let page = store.halves_after(after.as_ref().map(|(topic, id)| (*topic, id.as_str())), AT_ONCE)?;
        let Some(last) = page.last() else { break };
        after = Some((last.topic, last.id.clone()));
        for half in page {
            if half.discarded_at.is_some() || core.topic(half.topic).is_none() {
                continue;
            }
            let arrival = Arrival {
                stored_at: half.stored_at,
                first_check_after: half.first_check_after,
                producer: half.producer.into(),
                seq: UnitSeq(0),
            };
            let checks = half.checks.map(|checks| (checks.count, checks.next));
            core.transactions.restore(HalfKey::new(half.topic, &half.id), arrival, half.at, checks);
        }
    }
    let ends =
        store.old_half_ends(false, (now.minus(ENDS_READ_BACK), Timestamp::MAX), CheckPolicy::default().ends_max)?;
    for OldEnd { topic, id, .. } in ends {
        if let Some(trace) = store.half_trace(topic, &id)? {
            let key = HalfKey::new(topic, &id);
            if core.transactions.known(&key).is_none() {
                core.transactions.restore_end(key, trace.outcome);
            }
        }
    }
    Ok(())
}

/// Gives up and forgets, as time goes by.
pub(super) async fn keep_transactions(broker: Broker) {
    let mut looks = 0u32;
    let mut swept = Swept::default();
    loop {
        let clock = &broker.inner.clock;
        clock.sleep_until(clock.now().plus(LOOK_EVERY)).await;
        broker.give_up_overdue();
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(SWEEP_EVERY_LOOKS)
            && let Err(error) = broker.sweep_ends(&mut swept).await
        {
            tracing::warn!(%error, "old ends of transactions could not be forgotten; trying again");
        }
    }
}

/// How far the sweeps are; earlier rows are gone, and walking over their remains would cost time.
#[derive(Debug, Default)]
struct Swept {
    ends: Timestamp,
    discarded: Timestamp,
}

impl Broker {
    /// Gives up what was asked about often enough.
    fn give_up_overdue(&self) {
        let given_up = {
            let mut core = self.inner.core.lock();
            let now = self.inner.clock.now();
            let overdue = core.transactions.overdue(now, AT_ONCE);
            let mut unit = Unit::state();
            for key in &overdue {
                unit.push(&ended(key, HalfOutcome::Discarded, now));
            }
            match self.inner.append_state(unit) {
                Ok(Some(seq)) => {
                    for key in &overdue {
                        core.transactions.end(key.clone(), HalfOutcome::Discarded, seq);
                    }
                    overdue
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "undecided transactions are not given up yet");
                    return;
                }
            }
        };
        tracing::warn!(
            count = given_up.len(),
            first = given_up.first().map_or("", |key| &*key.id),
            "transactions were given up after their last check; `bolide admin transaction list --state discarded` shows them"
        );
        for key in given_up {
            let topic = self.inner.core.lock().topic(key.topic).map(|state| state.topic.clone());
            if let Some(topic) = topic {
                self.inner.metrics.transaction_discarded(topic.name.name());
            }
        }
    }

    async fn sweep_ends(&self, swept: &mut Swept) -> Result<(), TrimError> {
        let options = &self.inner.options.transactions;
        let now = self.inner.clock.now();
        let ends_before = now.minus(options.ends_kept);
        while let Some(last) = self.forget_some(false, (swept.ends, ends_before)).await? {
            swept.ends = last;
        }
        let discarded_before = now.minus(options.discarded_kept);
        while let Some(last) = self.forget_some(true, (swept.discarded, discarded_before)).await? {
            swept.discarded = last;
        }
        Ok(())
    }

    /// Forgets ends of a span of time; the time of the last one, or `None` when there is nothing left.
    async fn forget_some(&self, discarded: bool, span: (Timestamp, Timestamp)) -> Result<Option<Timestamp>, TrimError> {
        let store = self.inner.store.clone();
        let read = self.inner.tasks.blocking(move || {
            let ends = store.old_half_ends(discarded, span, AT_ONCE)?;
            let with_mark = |end: OldEnd| {
                // Settled by hand, or stored anew under the same id: then only what is sorted by time is old.
                let half = if discarded { store.half(end.topic, &end.id)? } else { None };
                let is_given_up = half.is_some_and(|half| half.discarded_at == Some(end.at));
                Ok((end, is_given_up))
            };
            ends.into_iter().map(with_mark).collect::<Result<Vec<_>, FoldError>>()
        });
        let ends = read.await?;
        let Some(last) = ends.last().map(|(end, _)| end.at) else { return Ok(None) };
        let appended = {
            let mut core = self.inner.core.lock();
            let mut unit = Unit::state();
            let mut expired = Vec::new();
            for (end, is_given_up) in ends {
                let key = HalfKey::new(end.topic, &end.id);
                let is_pending = matches!(core.transactions.known(&key), Some(Known::Pending { .. }));
                if is_given_up && !is_pending {
                    unit.push(&ended(&key, HalfOutcome::Expired, end.at));
                    expired.push(key);
                } else {
                    unit.push(&ended(&key, HalfOutcome::Forgotten, end.at));
                }
            }
            let appended = self.inner.append_state(unit).map_err(|error| TrimError::Log(error.to_string()))?;
            for key in expired {
                core.transactions.end(key, HalfOutcome::Expired, appended.unwrap_or_default());
            }
            appended
        };
        if let Some(seq) = appended {
            self.inner.durable(seq).await.map_err(|error| TrimError::Log(error.to_string()))?;
            // The next look must not find them again.
            self.inner.store.wait_folded(self.inner.store.log_end()).await;
        }
        Ok(Some(last))
    }

    /// Stores held messages once more that lie before `start`: the log is about to begin there.
    ///
    /// # Errors
    /// Something could not be moved; the log must not be cut.
    pub(super) async fn move_halves(&self, start: LogPosition) -> Result<(), TrimError> {
        let mut after: Option<(TopicId, String)> = None;
        loop {
            let page = self.held_page(after.clone()).await.map_err(|error| TrimError::Store(error.to_string()))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some((last.topic, last.id.clone()));
            let leaving: Vec<HeldHalf> = page.into_iter().filter(|half| half.at.position < start).collect();
            let mut rest = leaving.as_slice();
            while !rest.is_empty() {
                let mut bytes = 0;
                let mut count = 0;
                while count < rest.len()
                    && (count == 0 || bytes + rest[count].at.length as usize <= MOVED_TOGETHER_BYTES)
                {
                    bytes += rest[count].at.length as usize;
                    count += 1;
                }
                let (together, others) = rest.split_at(count);
                self.move_together(together).await?;
                rest = others;
            }
        }
    }

    async fn move_together(&self, halves: &[HeldHalf]) -> Result<(), TrimError> {
        let mut read = Vec::with_capacity(halves.len());
        for half in halves {
            match self.inner.store.read_half(half.at).await {
                Ok(record) => read.push((half, record)),
                // It ended, or was moved, since the folded state was read.
                Err(ReadError::Gone { .. }) => {}
                // Nothing can save it, and the log must not grow for ever because of it.
                Err(error @ ReadError::Damaged { .. }) => {
                    tracing::error!(%error, id = half.id, "a half message is damaged and leaves with its segment");
                }
                Err(error) => return Err(TrimError::Store(error.to_string())),
            }
        }
        let appended = {
            let core = self.inner.core.lock();
            let mut unit = Unit::state();
            for (half, record) in read {
                let is_held = match core.transactions.known(&HalfKey::new(half.topic, &half.id)) {
                    Some(Known::Pending { at, .. }) => at == Some(half.at),
                    Some(Known::Ended { outcome: HalfOutcome::Discarded, .. }) => true,
                    Some(Known::Ended { .. }) => false,
                    None => half.discarded_at.is_some(),
                };
                if is_held {
                    unit.push(&Record::Half(record));
                }
            }
            self.inner.append_state(unit).map_err(|error| TrimError::Log(error.to_string()))?
        };
        match appended {
            Some(seq) => self.inner.durable(seq).await.map_err(|error| TrimError::Log(error.to_string())),
            None => Ok(()),
        }
    }
}

fn ended(key: &HalfKey, outcome: HalfOutcome, at: Timestamp) -> Record {
    Record::HalfEnded { topic: key.topic, id: key.id.to_string(), outcome, at, was_checked: true }
}
