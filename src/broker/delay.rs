//! Delayed messages: held back until their time, then copied into a queue. The copy and the record that ends the hold are one
//! unit, so that no crash can leave both or neither. Two tasks: one fires what is due, one keeps the next timers in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::broker::delivery::core::Core;
use crate::broker::delivery::timers::Ending;
use crate::broker::placing::Placing;
use crate::broker::publish::queue_of_group;
use crate::broker::verbs::{Broker, Inner};
use crate::model::position::{QueueId, QueueOffset, RecordAt, UnitSeq};
use crate::model::time::Timestamp;
use crate::model::topic::Promise;
use crate::runtime::watermark::ShardFailed;
use crate::store::record::{DelayOutcome, HoldKey, MessageRecord, Record, Unit};
use crate::store::{AppendError, Held, ReadError};

/// Most messages of one unit: the lock is held while they are copied into it.
const BATCH: usize = 512;
/// Most bytes of one unit, unless a single message is larger.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of the record that ends a hold, rounded up.
const END_BYTES: usize = 40;
/// Units that are not durable yet; more wait. The log does not refuse them by itself before its own bound.
const UNDER_WAY_MAX: usize = 4;
/// Pause after the log was full of what waits to be written.
const FULL_RETRY: Duration = Duration::from_millis(5);
/// How often a body is read before its message waits for the next start.
const READ_TRIES: u32 = 10;
/// Pause after the disk was full, or the fold could not be read.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// The record by which a message is held back. To be put into a unit that is appended under the core's lock, with a key whose
/// number comes from [`Inner::next_hold`]; the timers hear of it when it is durable.
pub fn held_back(key: HoldKey, message: MessageRecord) -> Record {
    let message = MessageRecord { queue: QueueId(0), offset: QueueOffset(0), promise: Promise::Durable, ..message };
    Record::Delayed { key, message }
}

/// A unit of messages that fired, on its way to the disk.
struct UnderWay {
    seq: UnitSeq,
    due: Vec<Timestamp>,
}

/// Fires what is due, until the shard fails.
pub async fn fire(broker: Broker) {
    let inner = &broker.inner;
    let mut under_way = VecDeque::new();
    let mut count = BATCH;
    let mut unread = BTreeMap::new();
    loop {
        let changed = inner.delays_changed.notified();
        let (due, next) = {
            let core = inner.core.lock();
            (core.delays.due(inner.clock.now(), count, BATCH_BYTES), core.delays.next_due())
        };
        if due.is_empty() {
            tokio::select! {
                biased;
                () = changed => {}
                done = written(inner, &mut under_way), if !under_way.is_empty() => {
                    if done.is_err() {
                        return;
                    }
                }
                () = inner.clock.sleep_until(next.unwrap_or(Timestamp::MAX)) => {}
            }
            continue;
        }
        match broker.fire_batch(&due, &mut unread).await {
            Ok(fired) => {
                if fired.is_none() && !unread.is_empty() {
                    inner.clock.sleep(DISK_RETRY).await;
                }
                under_way.extend(fired);
                count = BATCH;
            }
            Err(AppendError::Full { .. }) => inner.clock.sleep(FULL_RETRY).await,
            Err(AppendError::DiskFull(_)) => inner.clock.sleep(DISK_RETRY).await,
            Err(AppendError::TooLarge { bytes, max }) if due.len() == 1 => {
                tracing::error!(bytes, max, "a delayed message is larger than a frame; it waits for a larger one");
                inner.core.lock().delays.set_aside(due[0].0);
            }
            Err(AppendError::TooLarge { .. }) => count = due.len() / 2,
            Err(AppendError::Failed(_) | AppendError::Closed) => return,
        }
        while under_way.len() > UNDER_WAY_MAX {
            if written(inner, &mut under_way).await.is_err() {
                return;
            }
        }
    }
}

/// Waits for the first unit. Cancelling it loses nothing: the unit is waited for again.
async fn written(inner: &Inner, under_way: &mut VecDeque<UnderWay>) -> Result<(), ShardFailed> {
    let Some(first) = under_way.front() else { return Ok(()) };
    inner.durable(first.seq).await?;
    if let Some(first) = under_way.pop_front() {
        let now = inner.clock.now();
        for due in first.due {
            inner.metrics.delay_fired(now.since(due));
        }
    }
    Ok(())
}

/// Keeps the next timers in memory.
pub async fn load(broker: Broker) {
    let inner = &broker.inner;
    loop {
        let wanted = inner.delays_wanted.notified();
        let load = inner.core.lock().delays.begin_load();
        let Some(load) = load else {
            wanted.await;
            continue;
        };
        if !inner.store.wait_folded(load.folded).await {
            return;
        }
        let store = inner.store.clone();
        match inner.tasks.blocking(move || store.delays_from(load.from, load.rows)).await {
            Ok(rows) => {
                let all = rows.len() < load.rows;
                inner.core.lock().delays.finish_load(rows, all);
                inner.delays_changed.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, "timers of delayed messages could not be read; trying again");
                inner.core.lock().delays.abandon_load();
                inner.clock.sleep(DISK_RETRY).await;
            }
        }
    }
}

impl Broker {
    /// Moves messages into their queues. Those that were recalled while their bodies were read are left out, and those whose
    /// bodies the disk did not give: `unread` counts how often, since one bad moment must not cost a message its time.
    async fn fire_batch(
        &self,
        due: &[(HoldKey, Held)],
        unread: &mut BTreeMap<HoldKey, u32>,
    ) -> Result<Option<UnderWay>, AppendError> {
        let inner = &self.inner;
        let places: Vec<RecordAt> = due.iter().map(|(_, held)| held.at).collect();
        let read = inner.store.read_messages(&places).await;
        let bytes: usize = places.iter().map(|at| at.length as usize + END_BYTES).sum();
        // As a producer's unit, which a full disk refuses: the reserve is for acks, and these messages are safe where they are.
        let mut unit = Unit::send(bytes);
        let mut placing = Placing::default();
        let mut ended: Vec<(HoldKey, DelayOutcome)> = Vec::with_capacity(due.len());
        let mut core = inner.deciding()?;
        let now = inner.clock.now();
        for ((key, held), read) in due.iter().zip(read) {
            let Some(known) = core.delays.pending(*key) else {
                unread.remove(key);
                continue;
            };
            let outcome = match read {
                Ok(message) => place(&mut core, &mut placing, message, now, &mut unit),
                // Stored again meanwhile; the next look reads it there.
                Err(_) if known.at != held.at => continue,
                Err(ReadError::Gone { .. }) => {
                    tracing::error!(at = %held.at.position, due = %key.due, "the body of a delayed message has left the log");
                    DelayOutcome::Dropped
                }
                Err(error) => {
                    let tries = unread.entry(*key).or_default();
                    *tries += 1;
                    if *tries >= READ_TRIES {
                        tracing::error!(%error, due = %key.due, "a delayed message cannot be read; the next start tries again");
                        core.delays.set_aside(*key);
                        unread.remove(key);
                    }
                    continue;
                }
            };
            unread.remove(key);
            unit.push(&Record::DelayEnded { key: *key, topic: held.topic, outcome });
            ended.push((*key, outcome));
        }
        let Some(seq) = inner.append_state(unit)? else { return Ok(None) };
        placing.accepted(&mut core);
        for (key, outcome) in &ended {
            core.delays.end(*key, Ending { outcome: *outcome, seq });
        }
        if core.delays.wants_load() {
            inner.delays_wanted.notify_one();
        }
        let fired = ended.iter().filter(|(_, outcome)| *outcome == DelayOutcome::Fired);
        Ok(Some(UnderWay { seq, due: fired.map(|(key, _)| key.due).collect() }))
    }
}

fn place(
    core: &mut Core,
    placing: &mut Placing,
    message: MessageRecord,
    now: Timestamp,
    unit: &mut Unit,
) -> DelayOutcome {
    let topic = message.topic;
    let Some(queues) = core.topic(topic).map(|state| state.topic.queues) else { return DelayOutcome::Dropped };
    let queue = match message.message_group.as_str() {
        "" => core.next_queue(topic),
        group => Some(queue_of_group(group, queues)),
    };
    match queue.and_then(|queue| placing.push_copy(core, message, (topic, queue), now, unit)) {
        Some(_) => DelayOutcome::Fired,
        None => DelayOutcome::Dropped,
    }
}
