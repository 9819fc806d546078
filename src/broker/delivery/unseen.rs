//! Deliveries of which nobody knows whether their client has them: whoever carried them died on the way. A lease that lasts as
//! long as its client lives would then last for hours, with a client that lives and knows nothing. It gets a near end, and its own
//! one again when somebody who handed it on says so.

use crate::broker::delivery::core::Core;
use crate::broker::delivery::lease::{LeaseTerms, NOBODY, QueueLeases, Slot, State};
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::store::record::{Record, Unit};

/// One message as it was given to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Granted {
    /// Topic.
    pub topic: TopicId,
    /// Group.
    pub group: GroupId,
    /// Queue.
    pub queue: QueueId,
    /// Message.
    pub offset: QueueOffset,
    /// The granting.
    pub grant: GrantId,
}

impl QueueLeases {
    /// Gives a current lease that depends on its client's life another end, if `wanted` says so of the present one. The client
    /// stays its holder. The attempts and the lease as it is now.
    fn end_at(
        &mut self,
        offset: QueueOffset,
        grant: GrantId,
        deadline: Timestamp,
        wanted: impl FnOnce(Timestamp) -> bool,
    ) -> Option<(u32, LeaseTerms)> {
        let State::Leased(terms) = self.slots.get(&offset)?.state else { return None };
        // What its client has put back for a while ends as it said.
        let depends = terms.grant == grant && terms.auto_renew && terms.holder != NOBODY;
        if !depends || !wanted(terms.deadline) {
            return None;
        }
        let slot = self.take(offset)?;
        let terms = LeaseTerms { deadline, ..terms };
        self.put(offset, Slot { state: State::Leased(terms), ..slot });
        Some((slot.attempt, terms))
    }
}

impl Core {
    /// Nobody may have this delivery: it ends at `deadline` at the latest.
    pub fn end_early(&mut self, granted: &Granted, deadline: Timestamp, unit: &mut Unit) {
        self.end_granted_at(granted, deadline, |present| deadline < present, unit);
    }

    /// Its client has this delivery after all: it ends at `deadline`, its own, unless it has ended.
    pub fn end_late(&mut self, granted: &Granted, deadline: Timestamp, now: Timestamp, unit: &mut Unit) {
        self.end_granted_at(granted, deadline, |present| now < present && present < deadline, unit);
    }

    fn end_granted_at(
        &mut self,
        granted: &Granted,
        deadline: Timestamp,
        wanted: impl FnOnce(Timestamp) -> bool,
        unit: &mut Unit,
    ) {
        let Granted { topic, group, queue, offset, grant } = *granted;
        let Some(state) = self.queue_mut(topic, group, queue) else { return };
        if let Some((attempt, terms)) = state.leases.end_at(offset, grant, deadline, wanted) {
            unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt, lease: terms.state() });
            self.schedule(topic, group, queue);
        }
    }
}

impl QueueLeases {
    /// A delivery that never reached its client: the attempt does not count. Attempts so far and tag hash, if it was current.
    pub fn give_back(&mut self, offset: QueueOffset, grant: GrantId) -> Option<(u32, u32)> {
        let slot = self.take_granted(offset, grant)?;
        let attempt = slot.attempt.saturating_sub(1);
        let slot = Slot { attempt, state: State::Ready { since: slot.entry.stored_at }, ..slot };
        self.put(offset, slot);
        Some((attempt, self.deliverable_hash(&slot).unwrap_or(slot.entry.tag_hash)))
    }

    /// A delivery that could not be read for its client stands aside until `visible_at`; the attempt does not count. Attempts
    /// so far, if it was current.
    pub fn postpone(&mut self, offset: QueueOffset, grant: GrantId, visible_at: Timestamp) -> Option<u32> {
        let slot = self.take_granted(offset, grant)?;
        let attempt = slot.attempt.saturating_sub(1);
        self.put(offset, Slot { attempt, state: State::Waiting { visible_at }, ..slot });
        Some(attempt)
    }

    fn take_granted(&mut self, offset: QueueOffset, grant: GrantId) -> Option<Slot> {
        match self.slots.get(&offset) {
            Some(Slot { state: State::Leased(terms), .. }) if terms.grant == grant => self.take(offset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::delivery::lease::Standing;
    use crate::broker::delivery::testing::{entry, terms};
    use crate::model::position::HolderId;

    const GRANT: GrantId = GrantId(7);
    const AT: QueueOffset = QueueOffset(0);

    fn leased(terms: LeaseTerms) -> QueueLeases {
        let mut leases = QueueLeases::starting_at(QueueOffset(1));
        leases.restore(entry(0), 2, terms.state());
        leases
    }

    fn renewed() -> LeaseTerms {
        LeaseTerms { auto_renew: true, ..terms(7, 10_000) }
    }

    #[test]
    fn a_lease_that_nobody_may_have_ends_soon_and_stays_good_until_then() {
        let mut leases = leased(renewed());
        let (attempt, now) = leases.end_at(AT, GRANT, Timestamp(500), |_| true).unwrap();
        assert_eq!((attempt, now.deadline, now.holder), (2, Timestamp(500), HolderId(1)));
        assert!(matches!(leases.standing(AT, GRANT, Timestamp(499)), Standing::Current { attempt: 2, .. }));
        assert!(leases.fall_due(Timestamp(499), 16).ready.is_empty());
        assert_eq!(leases.fall_due(Timestamp(500), 16).ready.len(), 1, "deliverable again, once");
        assert_eq!(leases.next_due(), None);
    }

    #[test]
    fn only_a_current_lease_that_depends_on_its_client_is_touched() {
        let others = [
            terms(7, 10_000),
            LeaseTerms { holder: NOBODY, ..renewed() },
            LeaseTerms { grant: GrantId(8), ..renewed() },
        ];
        for other in others {
            let mut leases = leased(other);
            assert_eq!(leases.end_at(AT, GRANT, Timestamp(500), |_| true), None);
            assert_eq!(leases.next_due(), Some(Timestamp(10_000)));
        }
        let mut leases = leased(renewed());
        assert_eq!(leases.end_at(AT, GRANT, Timestamp(500), |_| false), None);
        assert_eq!(leases.end_at(QueueOffset(1), GRANT, Timestamp(500), |_| true), None);
    }
}
