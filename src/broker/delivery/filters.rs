//! The filters that the members of a group use on a topic, and what they say about a message together. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::delivery::ordered::Want;
use crate::broker::delivery::verdicts::{FilterIndex, Judges, Verdicts};
use crate::model::filter::Filter;
use crate::model::sql::Sql;
use crate::model::time::Timestamp;
use crate::store::QueueEntry;

/// A filter that nobody used for this long no longer keeps messages for its users.
pub const FILTER_MEMORY: Duration = Duration::from_secs(120);
/// Most filters remembered per group and topic; the longest unused is forgotten first. One bit of a verdict each.
const FILTERS_MAX: usize = 64;

/// The member that asks, and what the others are assumed to want.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Its filter.
    pub own: FilterIndex,
    /// Members whose filters are not known may want whatever this one does not.
    pub expects_unknown: bool,
    /// When.
    pub now: Timestamp,
}

#[derive(Debug)]
struct Known {
    filter: Filter,
    seen: Timestamp,
}

/// The filters that the members of a group use on a topic. A filter keeps its number until another takes its place.
#[derive(Debug, Default)]
pub struct Filters {
    known: Vec<Known>,
}

impl Filters {
    /// Remembers that a member uses this filter. Says its number, and whether another filter had that number until now: what that
    /// one said must be forgotten.
    pub fn note(&mut self, filter: &Filter, now: Timestamp) -> (FilterIndex, bool) {
        if let Some(index) = self.known.iter().position(|known| known.filter == *filter) {
            self.known[index].seen = now;
            return (index, false);
        }
        let new = Known { filter: filter.clone(), seen: now };
        let unused = self.known.iter().position(|known| now.since(known.seen) >= FILTER_MEMORY);
        let oldest = || (0..self.known.len()).min_by_key(|&index| self.known[index].seen);
        let place = unused.or_else(|| if self.known.len() < FILTERS_MAX { None } else { oldest() });
        match place {
            Some(index) => {
                self.known[index] = new;
                (index, true)
            }
            None => {
                self.known.push(new);
                (self.known.len() - 1, false)
            }
        }
    }

    fn in_use(&self, now: Timestamp) -> impl Iterator<Item = (FilterIndex, &Filter)> {
        let in_use = move |(_, known): &(usize, &Known)| now.since(known.seen) < FILTER_MEMORY;
        self.known.iter().enumerate().filter(in_use).map(|(index, known)| (index, &known.filter))
    }

    /// The expressions in use.
    #[must_use]
    pub fn judges(&self, now: Timestamp) -> Judges {
        Judges::new(self.in_use(now).filter_map(|(index, filter)| Some((index, filter.sql()?.clone()))).collect())
    }

    /// Of what judges said, the part that still counts: an expression may have lost its place while they looked.
    #[must_use]
    pub fn still_valid(&self, judges: &Judges) -> u64 {
        let is_there = |index: FilterIndex, sql: &Arc<Sql>| {
            let known = self.known.get(index).and_then(|known| known.filter.sql());
            known.is_some_and(|known| Arc::ptr_eq(known, sql) || known == sql)
        };
        let there = judges.expressions().iter().filter(|(index, sql)| is_there(*index, sql));
        there.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Whether a filter wants a message; `None`: it must be judged first.
    #[must_use]
    pub fn wants(&self, index: FilterIndex, entry: &QueueEntry, verdicts: &Verdicts) -> Option<bool> {
        match &self.known.get(index)?.filter {
            Filter::Tags(tags) => Some(tags.may_match(entry.tag_hash)),
            Filter::Sql(_) => verdicts.of(index, entry.offset),
        }
    }

    /// Whether any filter in use wants a message, or might once it has judged.
    #[must_use]
    pub fn may_be_wanted(&self, entry: &QueueEntry, verdicts: &Verdicts, now: Timestamp) -> bool {
        self.in_use(now).any(|(index, _)| self.wants(index, entry, verdicts) != Some(false))
    }

    /// Whether any filter in use but `own` wants a message; `None`: it must be judged first.
    fn others_want(&self, own: FilterIndex, entry: &QueueEntry, verdicts: &Verdicts, now: Timestamp) -> Option<bool> {
        let mut is_wanted = Some(false);
        for (index, _) in self.in_use(now).filter(|(index, _)| *index != own) {
            match self.wants(index, entry, verdicts) {
                Some(true) => return Some(true),
                None => is_wanted = None,
                Some(false) => {}
            }
        }
        is_wanted
    }

    /// Who wants a message. Of a tag the hash decides, and a member that gets a message for an equal hash does not keep it.
    #[must_use]
    pub fn want(&self, asker: &Asker, entry: &QueueEntry, verdicts: &Verdicts) -> Want {
        match self.wants(asker.own, entry, verdicts) {
            Some(true) => Want::Here,
            None => Want::Unjudged,
            Some(false) if asker.expects_unknown => Want::Elsewhere,
            Some(false) => match self.others_want(asker.own, entry, verdicts, asker.now) {
                Some(true) => Want::Elsewhere,
                Some(false) => Want::Nobody,
                None => Want::Unjudged,
            },
        }
    }
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
