//! Lite topics that do not exist yet and that a group waits for. Each is recorded, so that the group gets their first message also
//! when its members are away at that instant, or the broker was started since and they have not said again what they subscribe to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::time::Timestamp;

/// What one group waits for below one parent. Instants are of steady time.
#[derive(Debug, Default)]
pub struct LiteWants {
    /// Since when nobody subscribes any more; `None`: somebody does.
    alone_since: BTreeMap<Arc<str>, Option<Timestamp>>,
    /// The same of those that nobody subscribes to, the longest forgotten first.
    alone: BTreeSet<(Timestamp, Arc<str>)>,
}

impl LiteWants {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alone_since.len()
    }

    /// Whether the group waits for a lite topic.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.alone_since.contains_key(name)
    }

    /// The group waits for it from now on; `alone_since` when nobody subscribes to it.
    pub fn add(&mut self, name: Arc<str>, alone_since: Option<Timestamp>) {
        self.remove(&name);
        if let Some(since) = alone_since {
            self.alone.insert((since, name.clone()));
        }
        self.alone_since.insert(name, alone_since);
    }

    /// It came into being, or is not wanted any more.
    pub fn remove(&mut self, name: &str) {
        if let Some((name, Some(since))) = self.alone_since.remove_entry(name) {
            self.alone.remove(&(since, name));
        }
    }

    /// Somebody subscribes to it.
    pub fn joined(&mut self, name: &str) {
        if let Some((name, since)) = self.alone_since.get_key_value(name).map(|(name, since)| (name.clone(), *since))
            && let Some(since) = since
        {
            self.alone.remove(&(since, name.clone()));
            self.alone_since.insert(name, None);
        }
    }

    /// The last who subscribed to it is gone.
    pub fn left(&mut self, name: &Arc<str>, now: Timestamp) {
        if let Some(since @ None) = self.alone_since.get_mut(name) {
            *since = Some(now);
            self.alone.insert((now, name.clone()));
        }
    }

    /// At most `max` of those to which nobody has subscribed since `before` or longer, the longest first.
    pub fn alone_before(&self, before: Timestamp, max: usize) -> impl Iterator<Item = &Arc<str>> {
        self.alone.iter().take_while(move |(since, _)| *since <= before).take(max).map(|(_, name)| name)
    }

    /// That both maps say the same, and who is alone; for tests.
    #[cfg(test)]
    pub fn check(&self, has_subscribers: impl Fn(&str) -> bool) {
        let alone: BTreeSet<_> =
            self.alone_since.iter().filter_map(|(name, since)| Some(((*since)?, name.clone()))).collect();
        assert_eq!(alone, self.alone);
        for (name, since) in &self.alone_since {
            assert_eq!(since.is_none(), has_subscribers(name), "{name}");
        }
    }
}
