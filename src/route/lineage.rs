//! Which of its own past the service remembers: each start, by a number drawn then, and how many changes were written down in it.
//! A member says how far it has followed; if that is not in this past, the data were put back to an older copy.

use std::sync::Arc;

use crate::model::cluster::Lineage;
use crate::route::change::{Change, Numbers};
use crate::route::state::State;

/// Starts that are remembered. Who knows only of an older one is believed.
const LIVES_MAX: usize = 32;

/// The past with another start behind it.
pub(super) fn begun(lives: &[Lineage], start: u64, life: u64) -> Arc<[Lineage]> {
    let kept = lives.len().saturating_sub(LIVES_MAX - 1);
    lives[kept..].iter().copied().chain([Lineage { start, life, changes: 0 }]).collect()
}

/// Counts a decision, if any of it goes to the disk.
pub(super) fn count(known: &Numbers, changes: &mut Vec<Change>) {
    let is_stored = changes.iter().any(|change| !matches!(change, Change::ShardAlive(_)));
    if !is_stored || known.lives.is_empty() {
        return;
    }
    if !changes.iter().any(|change| matches!(change, Change::Numbers(_))) {
        changes.push(Change::Numbers(known.clone()));
    }
    for change in changes {
        if let Change::Numbers(numbers) = change {
            let mut lives = numbers.lives.to_vec();
            if let Some(last) = lives.last_mut() {
                last.changes += 1;
            }
            numbers.lives = lives.into();
        }
    }
}

/// Whether somebody has followed a past that is not this one.
pub(super) fn strays(lives: &[Lineage], known: Lineage) -> bool {
    match lives.iter().find(|life| life.start == known.start) {
        Some(life) => life.life != known.life || life.changes < known.changes,
        // Older than what is remembered: nothing can be said against it.
        None => lives.first().is_some_and(|oldest| oldest.start < known.start),
    }
}

impl State {
    /// Whether a member has followed a past that is not this one.
    #[must_use]
    pub fn strays(&self, known: Lineage) -> bool {
        strays(&self.numbers.lives, known)
    }

    /// Why a broker must not follow this service; `None`: it may. Once an operator has given up what it holds, it may.
    #[must_use]
    pub fn forgot(&self, broker: &str, known: Lineage) -> Option<String> {
        if !self.strays(known) || self.shard_named(broker).is_some_and(|shard| shard.holder.is_none()) {
            return None;
        }
        Some(format!(
            "the data of the route service were put back to an older copy: it does not know what it told broker {broker} in \
             its start {}, change {}. Put the newest copy of its data directory back, and start it. Only if that is lost for \
             good: bolide admin broker forget {broker} lets the broker follow the older copy, and deletes there what is not \
             in it",
            known.start, known.changes
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u64, life: u64, changes: u64) -> Lineage {
        Lineage { start, life, changes }
    }

    #[test]
    fn only_who_followed_another_past_or_further_than_this_one_strays() {
        let lives = [at(4, 40, 7), at(6, 60, 0), at(7, 70, 3)];
        for (known, expected) in [
            (at(4, 40, 7), false),
            (at(4, 40, 6), false),
            (at(4, 40, 8), true),
            (at(6, 60, 0), false),
            (at(7, 70, 3), false),
            (at(7, 70, 4), true),
            (at(7, 71, 1), true),
            (at(5, 50, 0), true),
            (at(8, 80, 0), true),
            (at(3, 30, 9), false),
        ] {
            assert_eq!(strays(&lives, known), expected, "{known:?}");
        }
        assert!(!strays(&[], at(3, 30, 9)), "a service that remembers nothing believes");
    }

    #[test]
    fn the_past_is_bounded_and_its_newest_starts_are_kept() {
        let mut lives: Arc<[Lineage]> = Arc::new([]);
        for start in 1..=50 {
            lives = begun(&lives, start, start * 10);
        }
        assert_eq!((lives.len(), lives[0].start, lives[LIVES_MAX - 1].start), (LIVES_MAX, 19, 50));
    }
}
