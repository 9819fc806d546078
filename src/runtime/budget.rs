//! Bounds on what may be in flight. A budget that is used up refuses at once; nobody queues for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bounded amount of something (bytes, pollers, connections). Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    used: AtomicU64,
    limit: u64,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    amount: u64,
}

impl Budget {
    /// A budget of `limit`.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { inner: Arc::new(Inner { used: AtomicU64::new(0), limit }) }
    }

    /// Takes `amount`, or nothing when it does not fit. An amount above the whole budget fits while nothing else is in use, so
    /// that one large request is never refused for ever.
    #[must_use]
    pub fn try_take(&self, amount: u64) -> Option<Share> {
        let fits = |used: u64| used == 0 || used.saturating_add(amount) <= self.inner.limit;
        self.inner
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| fits(used).then(|| used.saturating_add(amount)))
            .ok()
            .map(|_| Share { budget: self.clone(), amount })
    }

    /// What is in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Acquire)
    }

    /// The bound.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.inner.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.inner.used.fetch_sub(self.amount, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_budget_refuses_and_gives_again_what_came_back() {
        let budget = Budget::new(10);
        let first = budget.try_take(6).unwrap();
        assert!(budget.try_take(5).is_none());
        drop(first);
        assert!(budget.try_take(5).is_some());
    }

    #[test]
    fn one_large_request_passes_when_nothing_else_is_in_use() {
        let budget = Budget::new(10);
        let large = budget.try_take(50).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(large);
        assert_eq!(budget.used(), 0);
    }
}
