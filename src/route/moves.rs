//! Where topics live: first placements, moves between shards, shards that are emptied. Part of the state machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::cluster::{PAST_ORDERS_MAX, PastPlacement, Placement, Shard};
use crate::model::name::TopicName;
use crate::model::position::{ShardId, TopicId};
use crate::model::settings::CatalogError;
use crate::model::topic::{Topic, TopicType};
use crate::route::change::{Change, Placed};
use crate::route::state::State;

/// Topics that leave shards at the same time when a shard is emptied.
pub const MOVES_AT_ONCE: usize = 16;
/// Dead-letter topics whose placement changes in one step.
const LETTERS_AT_ONCE: usize = 256;

/// Whether order or urgency holds over what one shard knows, so that the topic lives on one.
const fn is_single(topic: &Topic) -> bool {
    matches!(topic.topic_type, TopicType::Priority | TopicType::Lite)
}

fn changed(placed: &Placed, change: impl FnOnce(&mut Placement)) -> Placed {
    let mut placement = Placement::clone(&placed.placement);
    change(&mut placement);
    Placed { placement: Arc::new(placement), sealed: BTreeSet::new(), drained: placed.drained.clone() }
}

fn moving_to(placed: &Placed, target: Option<Vec<ShardId>>) -> Placed {
    changed(placed, |placement| {
        placement.generation += 1;
        placement.moving = target;
    })
}

impl State {
    /// Shards for new topics: those that are there, or all when none is.
    fn active(&self) -> Vec<ShardId> {
        let open = || self.shards.values().filter(|shard| !shard.draining);
        let there: Vec<ShardId> = open().filter(|shard| shard.alive).map(|shard| shard.id).collect();
        if there.is_empty() { open().map(|shard| shard.id).collect() } else { there }
    }

    /// The active shard with the fewest topics that live on one shard.
    fn least_used(&self) -> Option<ShardId> {
        let singles = || self.by_id.values().filter(|topic| is_single(topic));
        let uses = |shard: ShardId| {
            let names = |topic: &Arc<Topic>| {
                let placement = &self.placements.get(&topic.id)?.placement;
                Some(placement.moving.as_ref().unwrap_or(&placement.shards).contains(&shard))
            };
            singles().filter(|topic| names(topic) == Some(true)).count()
        };
        self.active().into_iter().min_by_key(|&shard| (uses(shard), shard))
    }

    pub(super) fn first_placement(&self, topic: &Topic) -> Result<Placed, CatalogError> {
        let shards = if topic.name.is_dead_letter() {
            if is_single(topic) {
                return Err(CatalogError::Invalid(
                    "a dead-letter topic is neither of type priority nor lite".to_owned(),
                ));
            }
            self.shards.keys().copied().collect()
        } else if is_single(topic) {
            self.least_used().into_iter().collect()
        } else {
            self.active()
        };
        if shards.is_empty() && !topic.name.is_dead_letter() {
            return Err(CatalogError::Invalid(
                "there is no shard for it: no broker has registered yet, or all are being drained".to_owned(),
            ));
        }
        Ok(Placed { placement: Arc::new(Placement::first(shards)), ..Placed::default() })
    }

    fn is_dead_letter(&self, topic: TopicId) -> bool {
        self.by_id.get(&topic).is_some_and(|topic| topic.name.is_dead_letter())
    }

    /// Dead-letter topics exist everywhere; they have no order, so nothing is sealed for a shard more.
    pub(super) fn dead_letters_with(&self, shard: ShardId) -> Vec<Change> {
        let lacking = self
            .placements
            .iter()
            .filter(|(topic, placed)| self.is_dead_letter(**topic) && !placed.placement.shards.contains(&shard));
        let grown = lacking.map(|(&topic, placed)| {
            let grown = changed(placed, |placement| {
                placement.generation += 1;
                placement.shards.push(shard);
                placement.shards.sort_unstable();
            });
            Change::Placed(topic, Arc::new(grown))
        });
        grown.collect()
    }

    pub(super) fn rebalance(&self, name: &TopicName) -> Result<Vec<Change>, CatalogError> {
        let topic = self.topic(name)?;
        if is_single(topic) {
            return Err(CatalogError::Invalid(format!(
                "{name} stays on one shard: what priorities and lite topics promise holds over what one shard knows; \
                 draining that shard moves it"
            )));
        }
        if name.is_dead_letter() {
            return Err(CatalogError::Invalid(format!("{name} is a dead-letter topic, which are on every shard")));
        }
        let Some(placed) = self.placements.get(&topic.id) else { return Ok(Vec::new()) };
        let now = &placed.placement;
        // A shard that is away keeps what it has: only draining takes topics from a shard.
        let stays = |shard: &Shard| !shard.draining && (shard.alive || now.shards.contains(&shard.id));
        let target: Vec<ShardId> = self.shards.values().filter(|shard| stays(shard)).map(|shard| shard.id).collect();
        if target.is_empty() {
            return Err(CatalogError::Invalid("every shard is being drained".to_owned()));
        }
        let next = match &now.moving {
            Some(pending) if *pending == target && !self.is_held_up(placed) => return Ok(Vec::new()),
            // Given up: by the wish for what is, or because a shard that must seal is away.
            Some(pending) if *pending == target || target == now.shards => None,
            None if target == now.shards => return Ok(Vec::new()),
            None if now.past.len() >= PAST_ORDERS_MAX => {
                return Err(CatalogError::Invalid(format!(
                    "{name} has had {PAST_ORDERS_MAX} orders of shards that groups are not done with yet; try again later"
                )));
            }
            Some(_) | None => Some(target),
        };
        Ok(vec![Change::Placed(topic.id, Arc::new(moving_to(placed, next)))])
    }

    fn is_held_up(&self, placed: &Placed) -> bool {
        let unsealed = placed.placement.shards.iter().filter(|shard| !placed.sealed.contains(shard));
        unsealed.into_iter().any(|shard| self.shards.get(shard).is_none_or(|shard| !shard.alive))
    }

    pub(super) fn sealed(&self, topic: TopicId, generation: u32, shard: ShardId) -> Result<Vec<Change>, CatalogError> {
        // A topic that is gone, or an order of before: nothing waits for it any more.
        let Some(placed) = self.placements.get(&topic) else { return Ok(Vec::new()) };
        let now = &placed.placement;
        if generation > now.generation {
            return Err(CatalogError::Invalid(format!(
                "topic {topic} is in generation {}, there is no generation {generation} to seal for",
                now.generation
            )));
        }
        let Some(target) = now.moving.clone().filter(|_| generation == now.generation) else { return Ok(Vec::new()) };
        if !now.shards.contains(&shard) {
            return Err(CatalogError::Invalid(format!("shard {shard} is not among those that seal topic {topic}")));
        }
        let mut next = Placed::clone(placed);
        if !next.sealed.insert(shard) {
            return Ok(Vec::new());
        }
        if now.shards.iter().all(|shard| next.sealed.contains(shard)) {
            next = changed(&next, |placement| {
                let shards = std::mem::replace(&mut placement.shards, target);
                placement.moving = None;
                placement.past.push(PastPlacement { generation, shards });
            });
        }
        Ok(vec![Change::Placed(topic, Arc::new(next))])
    }

    pub(super) fn drained(&self, topic: TopicId, generation: u32, shard: ShardId) -> Vec<Change> {
        let Some(placed) = self.placements.get(&topic) else { return Vec::new() };
        let past = placed.placement.past.iter().find(|past| past.generation == generation);
        let Some(past) = past.filter(|past| past.shards.contains(&shard)) else { return Vec::new() };
        let mut next = Placed::clone(placed);
        if !next.drained.insert((generation, shard)) {
            return Vec::new();
        }
        if past.shards.iter().all(|&shard| next.drained.contains(&(generation, shard))) {
            next.drained.retain(|(of, _)| *of != generation);
            let mut placement = Placement::clone(&next.placement);
            placement.past.retain(|past| past.generation != generation);
            next.placement = Arc::new(placement);
        }
        vec![Change::Placed(topic, Arc::new(next))]
    }

    pub(super) fn drain(&self, shard: ShardId, draining: bool) -> Result<Vec<Change>, CatalogError> {
        let known = self.shards.get(&shard).ok_or_else(|| CatalogError::NotFound(format!("shard {shard}")))?;
        if known.draining == draining {
            return Ok(Vec::new());
        }
        if draining && !self.shards.values().any(|other| other.id != shard && !other.draining) {
            return Err(CatalogError::Invalid(format!("shard {shard} is the last that takes messages")));
        }
        let mut made = vec![Change::ShardPut(Arc::new(Shard { draining, ..Shard::clone(known) }))];
        if !draining {
            let leaving = |placed: &Placed| {
                let (shards, moving) = (&placed.placement.shards, &placed.placement.moving);
                shards.contains(&shard) && moving.as_ref().is_some_and(|target| !target.contains(&shard))
            };
            let given_up = self.placements.iter().filter(|(_, placed)| leaving(placed));
            made.extend(given_up.map(|(&topic, placed)| Change::Placed(topic, Arc::new(moving_to(placed, None)))));
            made.extend(self.dead_letters_with(shard));
        }
        Ok(made)
    }

    /// What follows for shards that are being emptied: a bounded number of topics at once, and dead-letter topics when nothing
    /// is left on the shard that could die there.
    pub(super) fn next_moves(&self) -> Vec<Change> {
        let draining: BTreeSet<ShardId> =
            self.shards.values().filter(|shard| shard.draining).map(|shard| shard.id).collect();
        if draining.is_empty() {
            return Vec::new();
        }
        let under_way = self.placements.values().filter(|placed| placed.placement.moving.is_some()).count();
        let mut room = MOVES_AT_ONCE.saturating_sub(under_way);
        let (mut made, mut busy) = (Vec::new(), BTreeSet::new());
        for (&topic, placed) in &self.placements {
            let Some(known) = self.by_id.get(&topic).filter(|topic| !topic.name.is_dead_letter()) else { continue };
            let now = &placed.placement;
            busy.extend(now.holders());
            let leaves = now.shards.iter().any(|shard| draining.contains(shard));
            if room == 0 || !leaves || now.moving.is_some() || now.past.len() >= PAST_ORDERS_MAX {
                continue;
            }
            let mut target: Vec<ShardId> =
                now.shards.iter().copied().filter(|shard| !draining.contains(shard)).collect();
            if target.is_empty() {
                target = if is_single(known) { self.least_used().into_iter().collect() } else { self.active() };
            }
            if target.is_empty() {
                continue;
            }
            room -= 1;
            made.push(Change::Placed(topic, Arc::new(moving_to(placed, Some(target)))));
        }
        let empty: BTreeSet<ShardId> = draining.difference(&busy).copied().collect();
        let letters = self.placements.iter().filter(|(topic, placed)| {
            let on_empty = || placed.placement.shards.iter().any(|shard| empty.contains(shard));
            let has_room = placed.placement.past.len() < PAST_ORDERS_MAX;
            !empty.is_empty() && has_room && self.is_dead_letter(**topic) && on_empty()
        });
        made.extend(letters.take(LETTERS_AT_ONCE).map(|(&topic, placed)| {
            let shrunk = changed(placed, |placement| {
                let (left, stay) = placement.shards.iter().partition(|shard| empty.contains(shard));
                placement.generation += 1;
                placement.shards = stay;
                placement.past.push(PastPlacement { generation: placement.generation, shards: left });
            });
            Change::Placed(topic, Arc::new(shrunk))
        }));
        made
    }
}
