//! What a proxy got for a client and did not hand on comes back, as if it had never left.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::delivery::unseen::Granted;
use crate::broker::receive::Delivery;
use crate::broker::verbs::Broker;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::receipt::Receipt;
use crate::store::record::Unit;

/// How long a delivery still lasts of which nobody knows whether its client has it: enough for a client that has it to be done,
/// and little enough for one that waits for it.
const UNSEEN_LEASE: Duration = Duration::from_secs(30);

/// Which delivery of a group on a topic.
type Unseen = (QueueId, QueueOffset, GrantId);

impl Broker {
    /// Nobody may have these deliveries, as whoever carried them is gone: those that would last as long as their client lives end
    /// soon. Until then their handles stay good.
    pub fn end_early(&self, unseen: &[Granted]) {
        let deadline = self.inner.clock.now().plus(UNSEEN_LEASE);
        let mut unit = Unit::state();
        let mut core = self.inner.core.lock();
        for granted in unseen {
            core.end_early(granted, deadline, &mut unit);
        }
        if let Err(error) = self.inner.append_state(unit) {
            tracing::debug!(%error, "deliveries that nobody may have are not recorded; after a restart they last as long as before");
        }
    }

    /// A client was handed these messages after all: what [`Broker::end_early`] took from their leases they get back. What the
    /// texts name, as far as they are this broker's.
    pub fn keep(&self, handles: &[String]) -> Vec<Granted> {
        let ring = self.inner.handles.load();
        let now = self.inner.clock.now();
        let mut kept = Vec::with_capacity(handles.len());
        let mut unit = Unit::state();
        let mut core = self.inner.core.lock();
        for (receipt, _) in handles.iter().filter_map(|handle| ring.open(handle)) {
            if receipt.shard == self.inner.shard {
                let Receipt { topic, group, queue, offset, grant, lease_end, .. } = receipt;
                let granted = Granted { topic, group, queue, offset, grant };
                core.end_late(&granted, lease_end, now, &mut unit);
                kept.push(granted);
            }
        }
        if let Err(error) = self.inner.append_state(unit) {
            tracing::debug!(%error, "deliveries that reached their clients are not recorded; after a restart they end early");
        }
        kept
    }

    /// Takes back deliveries that their client never saw: no attempt is counted, their order stays, and whoever waits is woken.
    /// Texts that name no current delivery are ignored.
    pub fn give_back(&self, handles: &[String]) {
        let ring = self.inner.handles.load();
        let mut unseen: BTreeMap<(TopicId, GroupId), Vec<Unseen>> = BTreeMap::new();
        for (receipt, _) in handles.iter().filter_map(|handle| ring.open(handle)) {
            if receipt.shard == self.inner.shard {
                let of_group = unseen.entry((receipt.topic, receipt.group)).or_default();
                of_group.push((receipt.queue, receipt.offset, receipt.grant));
            }
        }
        if unseen.is_empty() {
            return;
        }
        let mut unit = Unit::state();
        let mut core = self.inner.core.lock();
        for ((topic, group), deliveries) in unseen {
            core.return_unseen(topic, group, &deliveries, &mut unit);
        }
        if let Err(error) = self.inner.append_state(unit) {
            tracing::debug!(%error, "deliveries that were given back are not recorded; after a restart their leases end by themselves");
        }
    }
}

impl Delivery {
    /// Those of the messages not taken yet whose leases last as long as their client lives.
    #[must_use]
    pub fn renewed(&self) -> Vec<Granted> {
        let renewed = self.held.iter().filter(|(_, grant, _)| grant.terms.auto_renew);
        let granted = renewed.map(|(queue, grant, _)| Granted {
            topic: self.topic.id,
            group: self.group.id,
            queue: *queue,
            offset: grant.entry.offset,
            grant: grant.terms.grant,
        });
        granted.collect()
    }

    /// Bytes of the messages not taken yet.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let records = self.held.iter().filter_map(|(_, _, record)| record.as_ref());
        records.map(|record| record.message.rest.len() + record.message.system_static.len()).sum()
    }
}
