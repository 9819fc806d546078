//! Receives that wait, in order of arrival. Someone who was woken and leaves without taking anything wakes the next.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::model::tag::TagFilter;

/// Names one waiting receive within the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterId(pub u64);

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    filter: TagFilter,
    notify: Arc<Notify>,
    woken: bool,
}

/// Waiting receives of one group and topic.
#[derive(Debug, Default)]
pub struct WaitList {
    waiters: VecDeque<Waiter>,
}

impl WaitList {
    /// Number of waiting receives.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Enters a receive, or marks one that was woken in vain as waiting again.
    pub fn enter(&mut self, id: WaiterId, filter: &TagFilter, notify: &Arc<Notify>) {
        if let Some(waiter) = self.waiters.iter_mut().find(|waiter| waiter.id == id) {
            waiter.woken = false;
            return;
        }
        self.waiters.push_back(Waiter { id, filter: filter.clone(), notify: notify.clone(), woken: false });
    }

    /// Takes a receive out. True if it had been woken: then what woke it may still be there for someone else.
    pub fn leave(&mut self, id: WaiterId) -> bool {
        let Some(index) = self.waiters.iter().position(|waiter| waiter.id == id) else {
            return false;
        };
        self.waiters.remove(index).is_some_and(|waiter| waiter.woken)
    }

    /// Wakes the longest-waiting receive that may want a message with this tag hash. True if there was one.
    pub fn wake_for(&mut self, tag_hash: u32) -> bool {
        self.wake_first(|filter| filter.may_match(tag_hash))
    }

    /// Wakes everyone who may want a message with this tag hash, for messages that each gets for itself.
    pub fn wake_every_for(&mut self, tag_hash: u32) {
        for waiter in self.waiters.iter_mut().filter(|waiter| !waiter.woken && waiter.filter.may_match(tag_hash)) {
            waiter.woken = true;
            waiter.notify.notify_one();
        }
    }

    /// Wakes the longest-waiting receive of every filter that nobody is awake for: what is there may be for any of them.
    pub fn wake_one_per_filter(&mut self) {
        let mut awake: Vec<TagFilter> = Vec::new();
        for waiter in &mut self.waiters {
            if awake.contains(&waiter.filter) {
                continue;
            }
            if !waiter.woken {
                waiter.woken = true;
                waiter.notify.notify_one();
            }
            awake.push(waiter.filter.clone());
        }
    }

    /// Wakes everyone, for a change that may concern all.
    pub fn wake_all(&mut self) {
        for waiter in &mut self.waiters {
            waiter.woken = true;
            waiter.notify.notify_one();
        }
    }

    fn wake_first(&mut self, wants: impl Fn(&TagFilter) -> bool) -> bool {
        match self.waiters.iter_mut().find(|waiter| !waiter.woken && wants(&waiter.filter)) {
            Some(waiter) => {
                waiter.woken = true;
                waiter.notify.notify_one();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(filters: &[&str]) -> WaitList {
        let mut list = WaitList::default();
        for (id, filter) in (0..).zip(filters) {
            list.enter(WaiterId(id), &TagFilter::parse(filter).unwrap(), &Arc::new(Notify::new()));
        }
        list
    }

    #[test]
    fn one_message_wakes_one_receive_that_wants_it() {
        let mut list = list(&["A", "B", "B"]);
        assert!(list.wake_for(crate::model::tag::tag_hash("B")));
        assert!(list.leave(WaiterId(1)));
        assert!(!list.leave(WaiterId(2)));
    }

    #[test]
    fn one_receive_of_every_filter_is_woken_when_it_is_unclear_who_wants_what() {
        let mut list = list(&["A", "A", "B"]);
        list.wake_one_per_filter();
        assert!(list.leave(WaiterId(0)) && !list.leave(WaiterId(1)) && list.leave(WaiterId(2)));
    }

    #[test]
    fn a_message_for_everyone_wakes_all_who_want_it_and_nobody_else() {
        let mut list = list(&["A", "B", "*"]);
        list.wake_every_for(crate::model::tag::tag_hash("A"));
        assert!(list.leave(WaiterId(0)) && !list.leave(WaiterId(1)) && list.leave(WaiterId(2)));
    }

    #[test]
    fn a_receive_woken_in_vain_can_be_woken_again() {
        let mut list = list(&["*"]);
        assert!(list.wake_for(7));
        assert!(!list.wake_for(7));
        list.enter(WaiterId(0), &TagFilter::All, &Arc::new(Notify::new()));
        assert!(list.wake_for(7));
    }
}
