//! Who is there: a lease for each shard, renewed by its broker. In memory only, and pure: it is told the time, which is steady.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::position::ShardId;
use crate::model::time::Timestamp;

#[derive(Clone, Copy, Debug)]
struct Lease {
    until: Timestamp,
    session: u64,
}

/// All leases.
#[derive(Debug)]
pub struct Leases {
    length: Duration,
    by_shard: BTreeMap<ShardId, Lease>,
    sessions: u64,
}

impl Leases {
    /// None yet; each will be so long.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self { length, by_shard: BTreeMap::new(), sessions: 0 }
    }

    /// A broker is there: its lease begins, and what an earlier process of its name says counts no more.
    pub fn open(&mut self, shard: ShardId, now: Timestamp) -> u64 {
        self.sessions += 1;
        let session = self.sessions;
        self.by_shard.insert(shard, Lease { until: now.plus(self.length), session });
        session
    }

    /// Lets a shard that has no lease count as there for the length of one.
    pub fn presume(&mut self, shard: ShardId, now: Timestamp) {
        self.by_shard.entry(shard).or_insert(Lease { until: now.plus(self.length), session: 0 });
    }

    /// Renews a lease, also one that has ended meanwhile; `false` when a later session has the shard.
    pub fn renew(&mut self, shard: ShardId, session: u64, now: Timestamp) -> bool {
        let lease = self.by_shard.entry(shard).or_insert(Lease { until: now, session });
        let is_ours = lease.session <= session;
        if is_ours {
            *lease = Lease { until: now.plus(self.length), session };
        }
        is_ours
    }

    /// Its broker said good-bye; `false` when a later session has the shard.
    pub fn end(&mut self, shard: ShardId, session: u64) -> bool {
        let is_ours = self.by_shard.get(&shard).is_some_and(|lease| lease.session == session);
        if is_ours {
            self.by_shard.remove(&shard);
        }
        is_ours
    }

    /// Takes the leases that have ended.
    pub fn expire(&mut self, now: Timestamp) -> Vec<ShardId> {
        let ended: Vec<ShardId> =
            self.by_shard.iter().filter(|(_, lease)| lease.until <= now).map(|(&shard, _)| shard).collect();
        for shard in &ended {
            self.by_shard.remove(shard);
        }
        ended
    }

    /// When the first of them ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Timestamp> {
        self.by_shard.values().map(|lease| lease.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: ShardId = ShardId(3);
    const LENGTH: Duration = Duration::from_secs(5);

    #[test]
    fn a_lease_ends_when_it_was_not_renewed_and_not_before() {
        let mut leases = Leases::new(LENGTH);
        let session = leases.open(S, Timestamp(0));
        assert!(leases.renew(S, session, Timestamp(1_000)));
        assert!(leases.expire(Timestamp(5_999)).is_empty());
        assert_eq!(leases.next_end(), Some(Timestamp(6_000)));
        assert_eq!(leases.expire(Timestamp(6_000)), [S]);
        assert!(leases.expire(Timestamp(9_000)).is_empty(), "told once");
        assert!(leases.renew(S, session, Timestamp(9_000)), "it came back");
        assert!(leases.expire(Timestamp(13_999)).is_empty());
    }

    #[test]
    fn an_earlier_process_neither_keeps_nor_ends_the_lease_of_a_later_one() {
        let mut leases = Leases::new(LENGTH);
        leases.presume(S, Timestamp(0));
        let old = leases.open(S, Timestamp(0));
        let new = leases.open(S, Timestamp(0));
        assert!(!leases.renew(S, old, Timestamp(4_000)));
        assert!(!leases.end(S, old));
        assert_eq!(leases.expire(Timestamp(5_000)), [S]);
        leases.renew(S, new, Timestamp(5_000));
        assert!(leases.end(S, new));
        assert_eq!(leases.next_end(), None);
    }
}
