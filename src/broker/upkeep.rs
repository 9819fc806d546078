//! The broker's own tasks: leases that fall due, dead letters to move, clients that went silent, messages out of retention.
//! Each is one background task; none holds the lock across an await.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::api::SettleError;
use crate::broker::dead_letter::EXHAUSTED;
use crate::broker::delivery::core::TopicState;
use crate::broker::lite_upkeep;
use crate::broker::transaction_upkeep::keep_transactions;
use crate::broker::verbs::{Broker, Inner};
use crate::broker::{delay, holding, moves};
use crate::model::position::{HolderId, LogPosition, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::Topic;
use crate::runtime::clock::AdvanceError;
use crate::store::FoldError;
use crate::store::record::{Record, Unit};

/// How often silent clients are looked for.
const SESSION_SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Sweeps between two looks for holders that no session is known of.
const ADOPT_EVERY_SWEEPS: u32 = 30;
/// How often retention is looked at.
const RETENTION_EVERY: Duration = Duration::from_secs(10);
/// Pause after a dead letter could not be moved.
const MOVE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Starts the tasks; they end when the broker's shutdown says stop.
pub fn start(broker: &Broker) {
    let tasks = broker.inner.tasks.clone();
    drop(tasks.spawn_background(until_stopped(broker.clone(), fall_due(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), move_condemned(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), sweep_sessions(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), keep_retention(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), keep_transactions(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), delay::fire(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), delay::load(broker.clone()))));
    drop(tasks.spawn_background(until_stopped(broker.clone(), lite_upkeep::keep(broker.clone()))));
    if broker.inner.cluster.is_some() {
        drop(tasks.spawn_background(until_stopped(broker.clone(), moves::ask_peers(broker.clone()))));
    }
}

async fn until_stopped(broker: Broker, task: impl Future<Output = ()>) {
    let shutdown = broker.shutdown().clone();
    tokio::select! {
        biased;
        () = shutdown.stopping() => {}
        () = task => {}
    }
}

impl Broker {
    /// Moves a movable clock ahead. When this returns, leases and pauses that have come to their end are over, and everything
    /// else that waits for an instant has been woken.
    ///
    /// # Errors
    /// See [`AdvanceError`]; the clock was not moved.
    pub fn advance_clock(&self, by: Duration) -> Result<Timestamp, AdvanceError> {
        let now = self.inner.clock.advance(by)?;
        self.inner.core.lock().fall_due(now);
        Ok(now)
    }
}

async fn fall_due(broker: Broker) {
    let inner = &broker.inner;
    loop {
        let changed = inner.timer_changed.notified();
        let next = inner.core.lock().fall_due(inner.clock.now());
        tokio::select! {
            biased;
            () = changed => {}
            () = inner.clock.sleep_until(next.unwrap_or(Timestamp::MAX)) => {}
        }
    }
}

async fn move_condemned(broker: Broker) {
    let inner = &broker.inner;
    loop {
        let added = inner.condemned_added.notified();
        let next = inner.core.lock().pop_condemned();
        let Some(which) = next else {
            added.await;
            continue;
        };
        match broker.move_to_dead_letter(which, EXHAUSTED, None).await {
            Ok(()) => {}
            Err(SettleError::ShardFailed) if inner.store.marks().has_failed() => return,
            Err(error) => {
                tracing::warn!(%error, "a dead letter could not be moved; trying again after the others");
                inner.core.lock().condemn_later(which);
                inner.clock.sleep_until(inner.clock.now().plus(MOVE_RETRY_AFTER)).await;
            }
        }
    }
}

async fn sweep_sessions(broker: Broker) {
    let inner = &broker.inner;
    let mut sweeps = 0u32;
    loop {
        // Silence is measured in time that nobody moves.
        inner.clock.sleep(SESSION_SWEEP_EVERY).await;
        let now = inner.clock.steady();
        sweeps = sweeps.wrapping_add(1);
        if sweeps.is_multiple_of(ADOPT_EVERY_SWEEPS) {
            let holders = inner.core.lock().holders();
            inner.members.adopt(&holders, now);
        }
        let gone = inner.members.take_gone(now);
        if !gone.is_empty() {
            inner.release_holders(&gone);
        }
    }
}

impl Inner {
    /// Gives back what clients hold by auto-renewal.
    pub(super) fn release_holders(&self, gone: &[HolderId]) {
        let gone: BTreeSet<HolderId> = gone.iter().copied().collect();
        let mut unit = Unit::state();
        // On a log that has ended they stay where it has them: after the restart these clients are waited for anew.
        let Ok(mut core) = self.deciding() else { return };
        let released = core.release_holders(&gone, &mut unit);
        if let Err(error) = self.append_state(unit) {
            tracing::debug!(%error, "messages of a silent client are not recorded as returned");
        }
        drop(core);
        if released > 0 {
            tracing::info!(clients = gone.len(), released, "clients went silent; their messages return");
        }
    }
}

async fn keep_retention(broker: Broker) {
    let inner = &broker.inner;
    loop {
        inner.clock.sleep_until(inner.clock.now().plus(RETENTION_EVERY)).await;
        if let Err(error) = trim_topics(&broker).await {
            tracing::warn!(%error, "retention of topics could not be kept; trying again");
        }
        if let Err(error) = broker.forget_recalls().await {
            tracing::warn!(%error, "old recalls could not be forgotten; trying again");
        }
        let Some(start) = inner.store.retention_cut(inner.clock.now()) else { continue };
        if let Err(error) = trim_log(&broker, start).await {
            tracing::warn!(%error, "retention of the log could not be kept; trying again");
        }
    }
}

/// Messages older than their topic's own retention leave their queues; the log keeps the bytes until its segment goes.
async fn trim_topics(broker: &Broker) -> Result<(), TrimError> {
    let now = broker.inner.clock.now();
    let store = broker.inner.store.clone();
    let wanted: Vec<(TopicId, Vec<QueueId>, Timestamp)> = broker
        .topics()
        .iter()
        .filter_map(|topic| Some((topic.id, queues_of(broker, topic), now.minus(topic.retention?))))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let firsts = broker.inner.tasks.blocking(move || {
        let mut firsts = Vec::new();
        for (topic, queues, oldest) in wanted {
            for queue in queues {
                firsts.push((topic, queue, store.first_at_or_after(topic, queue, oldest)?));
            }
        }
        Ok::<_, FoldError>(firsts)
    });
    write_trims(broker, firsts.await?, None).await
}

/// The log begins at `start` from now on: what is held back is stored again, queues forget what lies before, then the segments
/// go.
async fn trim_log(broker: &Broker, start: LogPosition) -> Result<(), TrimError> {
    if !holding::store_again(broker, start).await? {
        return Ok(());
    }
    broker.move_halves(start).await?;
    let store = broker.inner.store.clone();
    let topics: Vec<(TopicId, Vec<QueueId>)> =
        broker.topics().iter().map(|topic| (topic.id, queues_of(broker, topic))).collect();
    let firsts = broker.inner.tasks.blocking(move || {
        let mut firsts = Vec::new();
        for (topic, queues) in topics {
            for queue in queues {
                firsts.push((topic, queue, store.first_in_log(topic, queue, start)?));
            }
        }
        Ok::<_, FoldError>(firsts)
    });
    write_trims(broker, firsts.await?, Some(start)).await?;
    let dropped = broker.inner.store.trim(start).await.map_err(|error| TrimError::Store(error.to_string()))?;
    tracing::info!(dropped, %start, "segments left the log");
    Ok(())
}

/// The queues of a topic, and of those of its lite topics the ones that hold messages.
fn queues_of(broker: &Broker, topic: &Topic) -> Vec<QueueId> {
    let core = broker.inner.core.lock();
    let lite = core.topic(topic.id).into_iter().flat_map(TopicState::lite_queues_with_messages);
    (0..topic.queues).map(QueueId).chain(lite).collect()
}

/// Why retention could not be kept this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrimError {
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the log does not take the record: {0}")]
    Log(String),
    #[error("{0}")]
    Store(String),
}

/// Queues trimmed in one unit, so that the lock is held for a short time however many lite topics there are.
const TRIMS_AT_ONCE: usize = 4_096;

async fn write_trims(
    broker: &Broker,
    mut firsts: Vec<(TopicId, QueueId, QueueOffset)>,
    start: Option<LogPosition>,
) -> Result<(), TrimError> {
    while firsts.len() > TRIMS_AT_ONCE {
        let part = firsts.split_off(firsts.len() - TRIMS_AT_ONCE);
        write_some_trims(broker, part, None).await?;
    }
    // Last the record that says where the log begins: nothing may point below it then.
    write_some_trims(broker, firsts, start).await
}

async fn write_some_trims(
    broker: &Broker,
    firsts: Vec<(TopicId, QueueId, QueueOffset)>,
    start: Option<LogPosition>,
) -> Result<(), TrimError> {
    let inner = &broker.inner;
    let appended = {
        let mut unit = Unit::state();
        let mut core = inner.core.lock();
        for (topic, queue, first) in firsts {
            let known = core.topic(topic).and_then(|state| state.tail(queue)).map(|tail| tail.first());
            if known.is_some_and(|known| first > known) {
                unit.push(&Record::Trimmed { topic, queue, first });
                core.trim(topic, queue, first, &mut unit);
            }
        }
        if let Some(start) = start {
            unit.push(&Record::LogTrimmed { start });
        }
        inner.append_settlement(unit).map_err(|error| TrimError::Log(error.to_string()))?
    };
    if let Some(seq) = appended {
        inner.durable(seq).await.map_err(|error| TrimError::Log(error.to_string()))?;
    }
    Ok(())
}
