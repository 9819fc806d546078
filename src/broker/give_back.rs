//! What a proxy got for a client and did not hand on comes back, as if it had never left.

use std::collections::BTreeMap;

use crate::broker::receive::Delivery;
use crate::broker::verbs::Broker;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::store::record::Unit;

/// Which delivery of a group on a topic.
type Unseen = (QueueId, QueueOffset, GrantId);

impl Broker {
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
    /// Bytes of the messages not taken yet.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let records = self.held.iter().filter_map(|(_, _, record)| record.as_ref());
        records.map(|record| record.message.rest.len() + record.message.system_static.len()).sum()
    }
}
