//! What is held back outlives retention: before segments leave, messages in them that nobody could have seen yet are stored
//! again at the end of the log.

use crate::broker::delay::held_back;
use crate::broker::delivery::core::Core;
use crate::broker::delivery::timers::Ending;
use crate::broker::upkeep::TrimError;
use crate::broker::verbs::Broker;
use crate::model::position::{LogPosition, RecordAt, UnitSeq};
use crate::store::record::{DelayOutcome, HoldKey, MessageRecord, Record, Unit};
use crate::store::{AppendError, FoldError, ReadError, Store};

/// Places that are looked at in one go.
const LOOK: usize = 256;
/// Most bytes of one unit, unless a single message is larger.
const UNIT_BYTES: u64 = 1024 * 1024;

/// One kind of messages that are held back.
struct Family<K> {
    /// Those whose bodies lie in a part of the log, looking at so many places at most; and where to go on.
    between: Between<K>,
    /// The record that stores one again, or ends it; `None` when it ended meanwhile.
    again: fn(&Core, K, MessageRecord) -> Option<Record>,
    /// The log has taken that record.
    taken: fn(&mut Core, K, &Record, UnitSeq),
}

type Between<K> = fn(&Store, LogPosition, LogPosition, usize) -> Result<Part<K>, FoldError>;
type Part<K> = (Vec<(K, RecordAt)>, Option<LogPosition>);

const DELAYS: Family<HoldKey> = Family {
    between: |store, from, end, max| {
        let (found, next) = store.delays_between(from, end, max)?;
        Ok((found.into_iter().map(|(key, held)| (key, held.at)).collect(), next))
    },
    again: |core, key, message| {
        if core.delays.ending(key.hold).is_some() {
            return None;
        }
        if core.topic(message.topic).is_none() {
            return Some(Record::DelayEnded { key, topic: message.topic, outcome: DelayOutcome::Dropped });
        }
        Some(held_back(key, message))
    },
    taken: |core, key, record, seq| {
        if let Record::DelayEnded { outcome, .. } = record {
            core.delays.end(key, Ending { outcome: *outcome, seq });
        }
    },
};

/// Stores again what is held back and lies before `start`; durable when this returns. `false`: the log must stay as it is, since
/// so much of it is held back that letting it go would cost more than it frees.
pub(super) async fn store_again(broker: &Broker, start: LogPosition) -> Result<bool, TrimError> {
    if !is_by_age(broker, start) && held_bytes(broker, start, &DELAYS).await? > freed_bytes(broker, start) / 2 {
        tracing::warn!(%start, "segments stay although the log is larger than it should be: they hold messages not yet due");
        return Ok(false);
    }
    // One line for each kind of messages that are held back.
    move_bodies(broker, start, &DELAYS).await?;
    Ok(true)
}

/// Whether everything before `start` is old enough to leave. What is held back is then moved whatever it costs: that happens
/// once in a retention period.
fn is_by_age(broker: &Broker, start: LogPosition) -> bool {
    let (now, age) = (broker.inner.clock.now(), broker.inner.store.retention_age());
    let segments = broker.inner.store.segments();
    let mut leaving = segments.iter().filter(|segment| segment.base < start);
    leaving.all(|segment| segment.last_at.is_none_or(|at| at.plus(age) < now))
}

fn freed_bytes(broker: &Broker, start: LogPosition) -> u64 {
    broker.inner.store.segments().iter().filter(|segment| segment.base < start).map(|segment| segment.bytes).sum()
}

async fn look<K: Send + 'static>(
    broker: &Broker,
    (from, end): (LogPosition, LogPosition),
    family: &Family<K>,
) -> Result<Part<K>, TrimError> {
    let (store, between) = (broker.inner.store.clone(), family.between);
    Ok(broker.inner.tasks.blocking(move || between(&store, from, end, LOOK)).await?)
}

async fn held_bytes<K: Send + 'static>(
    broker: &Broker,
    start: LogPosition,
    family: &Family<K>,
) -> Result<u64, TrimError> {
    let (mut from, mut sum) = (Some(LogPosition(0)), 0);
    while let Some(position) = from {
        let (found, next) = look(broker, (position, start), family).await?;
        sum += found.iter().map(|(_, at)| u64::from(at.length)).sum::<u64>();
        from = next;
    }
    Ok(sum)
}

async fn move_bodies<K: Copy + Send + 'static>(
    broker: &Broker,
    start: LogPosition,
    family: &Family<K>,
) -> Result<(), TrimError> {
    let mut from = Some(LogPosition(0));
    let mut count = LOOK;
    while let Some(position) = from {
        // Until these rows have been judged: an end that the fold already has must not look like none.
        let _reading = broker.inner.core.lock().delays.reading();
        let (found, next) = look(broker, (position, start), family).await?;
        let mut rest = &found[..];
        while !rest.is_empty() {
            let some = first_bytes(&rest[..rest.len().min(count)]);
            match move_some(broker, some, family).await {
                Ok(()) => rest = &rest[some.len()..],
                Err(MoveError::Append(AppendError::TooLarge { .. })) if some.len() > 1 => count = some.len() / 2,
                Err(error) => return Err(TrimError::Log(error.to_string())),
            }
        }
        from = next;
    }
    Ok(())
}

/// As many as fit one unit, at least one.
fn first_bytes<K>(found: &[(K, RecordAt)]) -> &[(K, RecordAt)] {
    let mut sum = 0;
    let mut fits = |at: &RecordAt| {
        sum += u64::from(at.length);
        sum <= UNIT_BYTES
    };
    let count = found.iter().take_while(|(_, at)| fits(at)).count();
    &found[..count.max(1)]
}

#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error("the log does not take the record: {0}")]
    Append(#[from] AppendError),
    #[error("a message that is held back cannot be read: {0}")]
    Read(ReadError),
    #[error("the log of this shard failed")]
    ShardFailed,
}

async fn move_some<K: Copy>(broker: &Broker, some: &[(K, RecordAt)], family: &Family<K>) -> Result<(), MoveError> {
    let inner = &broker.inner;
    let places: Vec<RecordAt> = some.iter().map(|(_, at)| *at).collect();
    let read = inner.store.read_messages(&places).await;
    let appended = {
        // A state change, which a nearly full disk takes: it is what lets segments go.
        let mut unit = Unit::state();
        let mut records = Vec::with_capacity(some.len());
        let mut core = inner.deciding()?;
        for ((key, at), read) in some.iter().zip(read) {
            let message = match read {
                Ok(message) => message,
                Err(ReadError::Gone { .. }) => continue,
                Err(error @ ReadError::Damaged { .. }) => {
                    tracing::error!(%error, at = %at.position, "a message that is held back is damaged, and leaves with its segment");
                    continue;
                }
                Err(error) => return Err(MoveError::Read(error)),
            };
            if let Some(record) = (family.again)(&core, *key, message) {
                unit.push(&record);
                records.push((*key, record));
            }
        }
        let seq = inner.append_state(unit)?;
        if let Some(seq) = seq {
            for (key, record) in &records {
                (family.taken)(&mut core, *key, record, seq);
            }
        }
        seq
    };
    match appended {
        Some(seq) => inner.durable(seq).await.map_err(|_| MoveError::ShardFailed),
        None => Ok(()),
    }
}
