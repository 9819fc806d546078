//! Which clients live. A client lives while it has an open stream or a waiting receive, or was heard of within its session
//! timeout. Auto-renewed messages of a client that does not are given to others. Every `now` here is the clock's steady time: a
//! clock that is moved must not make live clients seem silent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::broker::api::ClientId;
use crate::model::position::HolderId;
use crate::model::time::Timestamp;

#[derive(Debug)]
struct Member {
    seen: Timestamp,
    open: u32,
    slow: bool,
}

/// The clients. Clones share them.
#[derive(Clone, Debug)]
pub struct Members {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    members: Mutex<HashMap<HolderId, Member>>,
    most: usize,
    timeout: Duration,
    slow_timeout: Duration,
}

/// Keeps its client alive until dropped.
#[derive(Debug)]
pub struct LiveGuard {
    inner: Arc<Inner>,
    holder: HolderId,
}

/// The stored form of a client id: FNV-1a, 64 bits, the same in every process.
#[must_use]
pub fn holder_of(client: &ClientId) -> HolderId {
    HolderId(fnv64(client.0.as_bytes(), 0xcbf2_9ce4_8422_2325))
}

/// FNV-1a over `bytes`, going on from `hash`.
#[must_use]
pub fn fnv64(bytes: &[u8], mut hash: u64) -> u64 {
    for byte in bytes {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

impl Members {
    /// Nobody yet.
    #[must_use]
    pub fn new(most: usize, timeout: Duration, slow_timeout: Duration) -> Self {
        Self { inner: Arc::new(Inner { members: Mutex::new(HashMap::new()), most, timeout, slow_timeout }) }
    }

    /// A client was heard of.
    pub fn seen(&self, holder: HolderId, slow: bool, now: Timestamp) {
        let mut members = self.inner.members.lock();
        if let Some(member) = members.get_mut(&holder) {
            member.seen = member.seen.max(now);
            member.slow |= slow;
        } else if members.len() < self.inner.most {
            members.insert(holder, Member { seen: now, open: 0, slow });
        }
        // Beyond the bound a new client is simply not remembered: it works, but its auto-renewed messages are not kept for it.
    }

    /// A client opened something that keeps it alive.
    #[must_use]
    pub fn open(&self, holder: HolderId, now: Timestamp) -> LiveGuard {
        self.seen(holder, false, now);
        if let Some(member) = self.inner.members.lock().get_mut(&holder) {
            member.open += 1;
        }
        LiveGuard { inner: self.inner.clone(), holder }
    }

    /// A client said good-bye. While a call of its is still open it stays known, so that what that call is given comes back.
    pub fn terminated(&self, holder: HolderId) {
        let mut members = self.inner.members.lock();
        match members.get_mut(&holder) {
            Some(member) if member.open > 0 => member.seen = Timestamp(0),
            _ => drop(members.remove(&holder)),
        }
    }

    /// Clients that hold something and are not known begin a session now, so that it ends when they stay silent.
    pub fn adopt(&self, holders: &[HolderId], now: Timestamp) {
        for &holder in holders {
            let is_known = self.inner.members.lock().contains_key(&holder);
            if !is_known {
                self.seen(holder, false, now);
            }
        }
    }

    /// Takes out everyone whose session has ended; in a fixed order.
    pub fn take_gone(&self, now: Timestamp) -> Vec<HolderId> {
        let mut gone = Vec::new();
        self.inner.members.lock().retain(|holder, member| {
            let timeout = if member.slow { self.inner.slow_timeout } else { self.inner.timeout };
            let lives = member.open > 0 || now.since(member.seen) < timeout;
            if !lives {
                gone.push(*holder);
            }
            lives
        });
        gone.sort_unstable();
        gone
    }

    /// Whether a client is known and its session has not been seen to end.
    #[must_use]
    pub fn knows(&self, holder: HolderId) -> bool {
        self.inner.members.lock().contains_key(&holder)
    }

    /// Live clients.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.members.lock().len()
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        if let Some(member) = self.inner.members.lock().get_mut(&self.holder) {
            member.open = member.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        Members::new(2, Duration::from_secs(15), Duration::from_secs(65))
    }

    #[test]
    fn a_silent_client_goes_after_its_timeout_and_a_slow_one_later() {
        let members = members();
        members.seen(HolderId(1), false, Timestamp(0));
        members.seen(HolderId(2), true, Timestamp(0));
        assert_eq!(members.take_gone(Timestamp(14_999)), vec![]);
        assert_eq!(members.take_gone(Timestamp(15_000)), vec![HolderId(1)]);
        assert_eq!(members.take_gone(Timestamp(65_000)), vec![HolderId(2)]);
    }

    #[test]
    fn an_open_stream_keeps_its_client_alive_and_closing_it_starts_the_clock() {
        let members = members();
        let stream = members.open(HolderId(1), Timestamp(0));
        assert_eq!(members.take_gone(Timestamp(1_000_000)), vec![]);
        members.seen(HolderId(1), false, Timestamp(1_000_000));
        drop(stream);
        assert_eq!(members.take_gone(Timestamp(1_014_000)), vec![]);
        assert_eq!(members.take_gone(Timestamp(1_015_000)), vec![HolderId(1)]);
    }

    #[test]
    fn a_client_that_left_with_an_open_call_is_gone_when_the_call_ends() {
        let members = members();
        let call = members.open(HolderId(1), Timestamp(1_000));
        members.terminated(HolderId(1));
        assert_eq!(members.take_gone(Timestamp(20_000)), vec![]);
        drop(call);
        assert_eq!(members.take_gone(Timestamp(20_000)), vec![HolderId(1)]);
    }

    #[test]
    fn the_table_of_clients_is_bounded() {
        let members = members();
        for id in 0..10 {
            members.seen(HolderId(id), false, Timestamp(0));
        }
        assert_eq!(members.count(), 2);
    }
}
