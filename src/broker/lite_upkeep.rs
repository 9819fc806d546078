//! Upkeep of lite topics: subscriptions of silent clients end, and lite topics without activity go. One task for all of them.

use std::time::Duration;

use crate::broker::delivery::core::Core;
use crate::broker::verbs::{Broker, Inner};
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::store::record::{Record, Unit};
use crate::store::{AppendError, FoldError};

/// How often both are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So long a group waits for a lite topic that does not come into being and that none of its members subscribes to.
const WANTED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Most of these that end in one unit.
const WANTS_PER_UNIT: usize = 1_024;

/// Keeps on until the broker stops.
pub async fn keep(broker: Broker) {
    let inner = &broker.inner;
    loop {
        inner.clock.sleep_until(inner.clock.now().plus(LOOK_EVERY)).await;
        let gone = inner.core.lock().expire_lite(inner.options.lite_subscription_timeout, inner.clock.steady());
        if gone > 0 {
            tracing::info!(clients = gone, "clients were silent too long; their lite subscriptions end");
        }
        if let Err(error) = end_old_wants(&broker) {
            tracing::warn!(%error, "lite topics that nobody waits for any more could not be forgotten; trying again");
        }
        for topic in broker.topics() {
            let Some(ttl) = topic.lite_ttl else { continue };
            if let Err(error) = remove_idle(&broker, topic.id, ttl).await {
                tracing::warn!(%error, topic = %topic.name, "lite topics without activity could not be removed; trying again");
            }
        }
    }
}

fn end_old_wants(broker: &Broker) -> Result<(), AppendError> {
    let inner = &broker.inner;
    let Some(before) = inner.clock.steady().millis().checked_sub(WANTED_FOR.as_millis() as u64) else { return Ok(()) };
    let mut core = inner.deciding()?;
    end_wants(inner, &mut core, Timestamp(before), WANTS_PER_UNIT)
}

/// Groups wait no longer for at most `max` lite topics of those that nobody has subscribed to since `before` or longer.
pub(super) fn end_wants(inner: &Inner, core: &mut Core, before: Timestamp, max: usize) -> Result<(), AppendError> {
    let ended = if max == 0 { Vec::new() } else { core.lite_wants_left_alone(before, max) };
    let mut unit = Unit::state();
    for (topic, group, name) in &ended {
        unit.push(&Record::LiteWanted { topic: *topic, group: *group, name: name.to_string(), is_wanted: false });
    }
    inner.append_state(unit)?;
    for (topic, group, name) in &ended {
        core.end_lite_want(*topic, *group, name);
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum RemoveError {
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the log does not take the record: {0}")]
    Log(#[from] AppendError),
}

/// Page by page, so that the lock is held for a short time however many there are.
async fn remove_idle(broker: &Broker, topic: TopicId, ttl: Duration) -> Result<(), RemoveError> {
    let inner = &broker.inner;
    let mut from = Some(QueueId::FIRST_LITE);
    while let Some(begin) = from {
        let page = inner.core.lock().idle_lite_topics(topic, begin, ttl, inner.clock.now());
        from = page.next;
        remove(broker, topic, &page.removable)?;
        look_up(broker, topic, page.unknown).await?;
    }
    Ok(())
}

/// Under one lock with a last look: a message may have come since.
fn remove(broker: &Broker, topic: TopicId, queues: &[QueueId]) -> Result<(), RemoveError> {
    let inner = &broker.inner;
    let mut core = inner.deciding()?;
    let still_idle: Vec<QueueId> = queues.iter().copied().filter(|queue| core.lite_is_read(topic, *queue)).collect();
    let mut unit = Unit::state();
    let mut wants = Vec::new();
    for &queue in &still_idle {
        unit.push(&Record::LiteTopicDeleted { topic, queue });
        let Some((name, groups)) = core.lite_groups_left_by(topic, queue) else { continue };
        for group in groups {
            unit.push(&Record::LiteWanted { topic, group, name: name.to_string(), is_wanted: true });
            wants.push((group, name.clone()));
        }
    }
    inner.append_state(unit)?;
    for &queue in &still_idle {
        core.remove_lite_topic(topic, queue);
    }
    for (group, name) in wants {
        core.put_lite_want(topic, group, name, inner.clock.steady());
    }
    drop(core);
    if !still_idle.is_empty() {
        tracing::info!(removed = still_idle.len(), %topic, "lite topics were without activity for their time to live");
    }
    Ok(())
}

/// After a restart the last message says when something last happened.
async fn look_up(broker: &Broker, topic: TopicId, unknown: Vec<(QueueId, QueueOffset)>) -> Result<(), RemoveError> {
    if unknown.is_empty() {
        return Ok(());
    }
    let store = broker.inner.store.clone();
    let found = broker.inner.tasks.blocking(move || {
        let last = |(queue, offset)| Ok((queue, store.entry(topic, queue, offset)?.map(|entry| entry.stored_at)));
        unknown.into_iter().map(last).collect::<Result<Vec<(QueueId, Option<Timestamp>)>, FoldError>>()
    });
    let found = found.await?;
    let mut core = broker.inner.core.lock();
    let now = broker.inner.clock.now();
    for (queue, stored_at) in found {
        // Out of retention: its time to live counts from now.
        core.set_lite_active(topic, queue, stored_at.unwrap_or(now));
    }
    Ok(())
}
