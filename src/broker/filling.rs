//! What is granted is read here: the messages of a delivery, and what becomes of those that nobody can be given.

use std::collections::BTreeSet;

use crate::broker::api::ReceiveError;
use crate::broker::receive::Delivery;
use crate::broker::verbs::Broker;
use crate::model::filter::Filter;
use crate::model::position::{QueueId, RecordAt};
use crate::store::record::{MessageRecord, SettleReason};
use crate::store::{QueueEntry, ReadError};

impl Broker {
    /// Reads the messages of a delivery; one whose tag only looked right by its hash is skipped.
    pub(super) async fn fill(&self, delivery: &mut Delivery, filter: &Filter) -> Result<(), ReceiveError> {
        if delivery.topic.name.is_dead_letter() {
            self.skip_left(delivery);
        }
        let places: Vec<RecordAt> = delivery.held.iter().map(|(_, grant, _)| grant.entry.at).collect();
        // The messages stay in the guard while they are read: dropped here, they return.
        let records = self.inner.store.read_messages(&places).await;
        let mut index = 0;
        let mut unreadable = None;
        let mut stuck = BTreeSet::new();
        for record in records {
            let Some((queue, grant, _)) = delivery.held.get(index) else { break };
            let lane = delivery.lane(*queue, grant);
            let (queue, entry, grant) = (*queue, grant.entry, grant.terms.grant);
            let offset = entry.offset;
            match record {
                // The one before it stays here: this one must not be seen first.
                _ if lane.is_some_and(|lane| stuck.contains(&lane)) => {
                    delivery.held.remove(index);
                    self.postpone(delivery, (queue, offset, grant));
                }
                Ok(record) if filter.confirms(&record.message.tag, &record.properties()) => {
                    delivery.held[index].2 = Some(Box::new(record));
                    index += 1;
                }
                Ok(record) => {
                    delivery.held.remove(index);
                    if self.is_wanted_by_another(delivery, queue, &entry, &record) {
                        self.postpone(delivery, (queue, offset, grant));
                    } else {
                        self.settle_silently(delivery, queue, offset, grant, SettleReason::Skipped);
                    }
                }
                Err(ReadError::Gone { .. }) => {
                    delivery.held.remove(index);
                    self.settle_silently(delivery, queue, offset, grant, SettleReason::Expired);
                }
                Err(error) => {
                    // Not back at once: one unreadable record must not hold up the others by coming first each time.
                    tracing::error!(%error, topic = %delivery.topic.name, %queue, %offset, "a message cannot be read");
                    delivery.held.remove(index);
                    self.postpone(delivery, (queue, offset, grant));
                    unreadable = Some(error);
                    stuck.extend(lane);
                }
            }
        }
        match unreadable {
            Some(error) if delivery.held.is_empty() => Err(ReceiveError::ShardFailed(error.to_string())),
            _ => Ok(()),
        }
    }

    /// Judges a message anew that did not match although its filter was said to want it.
    fn is_wanted_by_another(
        &self,
        delivery: &Delivery,
        queue: QueueId,
        entry: &QueueEntry,
        record: &MessageRecord,
    ) -> bool {
        let now = self.inner.clock.steady();
        let mut core = self.inner.core.lock();
        core.judge_again((delivery.topic.id, delivery.group.id, queue), entry, &record.properties(), now)
    }
}
