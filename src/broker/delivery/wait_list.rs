//! Receives that wait, in order of arrival. Someone who was woken and leaves without taking anything wakes the next.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::model::filter::Filter;

/// Names one waiting receive within the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterId(pub u64);

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    filter: Filter,
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
    pub fn enter(&mut self, id: WaiterId, filter: &Filter, notify: &Arc<Notify>) {
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

    /// Wakes the longest-waiting receive that wants a message with this tag hash, and of every expression before it one: it
    /// cannot be said here which of them want it. True if somebody was woken.
    pub fn wake_for(&mut self, tag_hash: u32) -> bool {
        let mut woken = false;
        let mut asked: Vec<Filter> = Vec::new();
        for waiter in &mut self.waiters {
            if !waiter.filter.may_match(tag_hash) || asked.contains(&waiter.filter) {
                continue;
            }
            let is_certain = waiter.filter.sql().is_none();
            if !is_certain {
                // Somebody who is awake for the same expression will look, and when he leaves wake the next.
                asked.push(waiter.filter.clone());
            }
            if !waiter.woken {
                waiter.woken = true;
                waiter.notify.notify_one();
                woken = true;
                if is_certain {
                    break;
                }
            }
        }
        woken
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
        let mut awake: Vec<Filter> = Vec::new();
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sql::Sql;
    use crate::model::tag::TagFilter;

    fn sql(text: &str) -> Filter {
        Filter::Sql(Arc::new(Sql::parse(text).unwrap()))
    }

    fn list(filters: &[&str]) -> WaitList {
        let mut list = WaitList::default();
        for (id, filter) in (0..).zip(filters) {
            list.enter(WaiterId(id), &TagFilter::parse(filter).unwrap().into(), &Arc::new(Notify::new()));
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
        list.enter(WaiterId(0), &Filter::ALL, &Arc::new(Notify::new()));
        assert!(list.wake_for(7));
    }

    #[test]
    fn a_message_wakes_one_receive_of_every_expression_in_front_of_the_one_that_gets_it() {
        let mut list = WaitList::default();
        let filters = [sql("a = 1"), sql("a = 1"), sql("b = 1"), Filter::ALL, sql("c = 1")];
        for (id, filter) in (0..).zip(&filters) {
            list.enter(WaiterId(id), filter, &Arc::new(Notify::new()));
        }
        assert!(list.wake_for(7));
        let woken: Vec<bool> = (0..5).map(|id| list.leave(WaiterId(id))).collect();
        assert_eq!(woken, [true, false, true, true, false]);
    }

    #[test]
    fn a_message_that_no_tag_wants_still_wakes_expressions_behind_them() {
        let mut list = WaitList::default();
        list.enter(WaiterId(0), &TagFilter::parse("A").unwrap().into(), &Arc::new(Notify::new()));
        list.enter(WaiterId(1), &sql("c = 1"), &Arc::new(Notify::new()));
        assert!(list.wake_for(7));
        assert!(!list.leave(WaiterId(0)) && list.leave(WaiterId(1)));
    }
}
