//! Upkeep of lite topics: subscriptions of silent clients end, and lite topics without activity go. One task for all of them.

use std::time::Duration;

use crate::broker::verbs::Broker;
use crate::model::position::{QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::store::FoldError;
use crate::store::record::{Record, Unit};

/// How often both are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Keeps on until the broker stops.
pub async fn keep(broker: Broker) {
    let inner = &broker.inner;
    loop {
        inner.clock.sleep_until(inner.clock.now().plus(LOOK_EVERY)).await;
        let gone = inner.core.lock().expire_lite(inner.options.lite_subscription_timeout, inner.clock.steady());
        if gone > 0 {
            tracing::info!(clients = gone, "clients were silent too long; their lite subscriptions end");
        }
        for topic in broker.topics() {
            let Some(ttl) = topic.lite_ttl else { continue };
            if let Err(error) = remove_idle(&broker, topic.id, ttl).await {
                tracing::warn!(%error, topic = %topic.name, "lite topics without activity could not be removed; trying again");
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RemoveError {
    #[error(transparent)]
    Fold(#[from] FoldError),
    #[error("the log does not take the record: {0}")]
    Log(#[from] crate::store::AppendError),
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
    for &queue in &still_idle {
        unit.push(&Record::LiteTopicDeleted { topic, queue });
    }
    inner.append_state(unit)?;
    for &queue in &still_idle {
        core.remove_lite_topic(topic, queue);
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
