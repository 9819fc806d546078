//! Lite topics as verbs: subscribe, list, and give a first message its lite topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::api::{
    CatalogError, ClientId, LiteError, LiteEviction, LiteListing, LiteStart, LiteSync, LiteView, PublishError,
    ReceiveError,
};
use crate::broker::delivery::core::{Core, TopicState};
use crate::broker::delivery::lite::{LiteAction, LiteBegin, LiteLimits, LiteRefusal, LiteTopic, LiteWish};
use crate::broker::delivery::subscription::QueueState;
use crate::broker::delivery::tail::QueueTail;
use crate::broker::lite_upkeep;
use crate::broker::members::holder_of;
use crate::broker::options::BrokerOptions;
use crate::broker::placing::Placing;
use crate::broker::verbs::Broker;
use crate::model::group::{Group, StartPosition};
use crate::model::name::TopicName;
use crate::model::position::{GroupId, QueueId, QueueOffset, TopicId};
use crate::model::time::Timestamp;
use crate::model::topic::{Topic, TopicType};
use crate::store::record::{Record, Unit};
use crate::store::{AppendError, FoldError};

/// Most lite topics of one page of a listing.
const PAGE_MAX: usize = 1_000;

impl Broker {
    /// Changes which lite topics a client of a group subscribes to. A group that had no position on one of them begins where the
    /// wish says, else where the group begins; a lite topic that comes into being later begins at its first message. A position
    /// that exists stays. OK means that the positions are durable. Who lost a lite topic to this client is to be told.
    ///
    /// # Errors
    /// See [`LiteError`]; nothing changed.
    pub async fn sync_lite(&self, sync: LiteSync) -> Result<Vec<LiteEviction>, LiteError> {
        let topic = self.topic(&sync.topic).ok_or_else(|| LiteError::TopicNotFound(sync.topic.clone()))?;
        if !matches!(topic.topic_type, TopicType::Lite | TopicType::Mixed) {
            return Err(LiteError::NotLite(sync.topic));
        }
        if !topic.permission.readable {
            return Err(LiteError::NotReadable(sync.topic));
        }
        let takes_away = matches!(sync.action, LiteAction::Remove | LiteAction::CompleteRemove);
        let known = self.group(&sync.group);
        if !takes_away && known.as_ref().is_some_and(|group| !group.enabled) {
            return Err(LiteError::GroupDisabled(sync.group));
        }
        // Once more under the lock under which it is done; but what is refused must not make a group, or let one begin here.
        self.weigh(&topic, known.as_deref(), &sync)?;
        let group = match known {
            Some(group) => group,
            // Who takes away from nothing is done; no group comes into being for that.
            None if takes_away => return Ok(Vec::new()),
            None => self.group_at_first_use(&sync.group).await.map_err(LiteError::from)?,
        };
        self.subscribe(&topic, &group).await.map_err(LiteError::from)?;
        let by_time = self.lite_positions_by_time(&topic, &group, &sync).await?;
        let evicted = self.subscribe_lite(&topic, &group, &sync, &by_time)?;
        if !takes_away {
            // I-2: also what an earlier wish of the same words began must be durable before this one is OK.
            self.inner.settled_durably().await.map_err(|_| LiteError::ShardFailed)?;
        }
        Ok(evicted)
    }

    fn weigh(&self, topic: &Topic, group: Option<&Group>, sync: &LiteSync) -> Result<(), LiteError> {
        let core = self.inner.core.lock();
        let limits = self.lite_limits(&core);
        let wish = wish(sync, group.is_some_and(|group| group.lite_exclusive));
        let weighed = core.weigh_lite(topic.id, group.map(|group| group.id), &wish, limits);
        weighed.map(drop).map_err(|refusal| lite_error(refusal, limits, topic))
    }

    fn lite_limits(&self, core: &Core) -> LiteLimits {
        let options = &self.inner.options;
        let left = options.lite_subscriptions_max.saturating_sub(core.lite_subscriptions());
        LiteLimits { per_client: options.lite_subscriptions_per_client_max, left }
    }

    /// Decides and records under one lock; a position that the log refuses is not taken.
    fn subscribe_lite(
        &self,
        topic: &Topic,
        group: &Group,
        sync: &LiteSync,
        by_time: &BTreeMap<QueueId, QueueOffset>,
    ) -> Result<Vec<LiteEviction>, LiteError> {
        let inner = &self.inner;
        let mut core = inner.deciding().map_err(|error| refused(&error))?;
        let above = (core.lite_wants() + sync.names.len()).saturating_sub(inner.options.lite_subscriptions_max);
        // What nobody subscribes to makes room: those that somebody subscribes to are bounded by the subscriptions.
        lite_upkeep::end_wants(inner, &mut core, inner.clock.steady(), above).map_err(|error| refused(&error))?;
        let limits = self.lite_limits(&core);
        let wish = wish(sync, group.lite_exclusive);
        let mut unit = Unit::state();
        let begins = LiteBegin { start: sync.start, group_start: group.start, by_time };
        let decided = core.plan_lite(topic.id, group.id, &wish, limits, &begins, &mut unit);
        let decided = decided.map_err(|refusal| lite_error(refusal, limits, topic))?;
        inner.note_settled(inner.append_state(unit).map_err(|error| refused(&error))?);
        let evicted = core.apply_lite(topic.id, group.id, &wish, &decided, inner.clock.steady());
        Ok(evicted.into_iter().map(|(client, lite_topic)| LiteEviction { client, lite_topic }).collect())
    }

    /// What has to be looked up on disk: where a time lies in lite topics on which the group begins now.
    async fn lite_positions_by_time(
        &self,
        topic: &Topic,
        group: &Group,
        sync: &LiteSync,
    ) -> Result<BTreeMap<QueueId, QueueOffset>, LiteError> {
        let instant = match (sync.start.as_ref(), group.start) {
            (Some(LiteStart::At(instant)), _) => *instant,
            (None | Some(LiteStart::Last), StartPosition::At(instant)) => instant,
            _ => return Ok(BTreeMap::new()),
        };
        let queues: Vec<QueueId> = {
            let core = self.inner.core.lock();
            let Some(state) = core.topic(topic.id) else { return Ok(BTreeMap::new()) };
            let known = state.subscriptions.get(&group.id);
            let found = sync.names.iter().filter_map(|name| state.lite.find(name));
            found.filter(|queue| known.is_none_or(|known| known.queue(*queue).is_none())).collect()
        };
        let (store, id) = (self.inner.store.clone(), topic.id);
        let found = self.inner.tasks.blocking(move || {
            let place = |queue| Ok((queue, store.first_at_or_after(id, queue, instant)?));
            queues.into_iter().map(place).collect::<Result<_, FoldError>>()
        });
        found.await.map_err(|error| {
            tracing::warn!(%error, "the folded state cannot be read");
            LiteError::ShardFailed
        })
    }

    /// Lite topics one client may subscribe to in one group.
    #[must_use]
    pub fn lite_subscriptions_per_client_max(&self) -> usize {
        self.inner.options.lite_subscriptions_per_client_max
    }

    /// Number of lite topics below a topic.
    #[must_use]
    pub fn lite_topic_count(&self, name: &TopicName) -> usize {
        let Some(topic) = self.topic(name) else { return 0 };
        self.inner.core.lock().topic(topic.id).map_or(0, |state| state.lite.len())
    }

    /// A page of the lite topics below a topic, by name.
    ///
    /// # Errors
    /// No such topic.
    pub fn list_lite(&self, listing: &LiteListing) -> Result<(Vec<LiteView>, bool), CatalogError> {
        let not_found = || CatalogError::NotFound(format!("topic {}", listing.topic));
        let topic = self.topic(&listing.topic).ok_or_else(not_found)?;
        let core = self.inner.core.lock();
        let state = core.topic(topic.id).ok_or_else(not_found)?;
        let limit = listing.limit.clamp(1, PAGE_MAX);
        let view = |(queue, lite): (QueueId, &LiteTopic)| LiteView {
            name: lite.name.clone(),
            first: lite.tail.first(),
            next: lite.tail.visible(),
            groups: state.subscriptions.values().filter(|group| group.queue(queue).is_some()).count(),
            subscribers: state
                .subscriptions
                .values()
                .filter_map(|group| group.lite.as_ref())
                .map(|group| group.subscribers_of(&lite.name))
                .sum(),
        };
        let mut page: Vec<LiteView> =
            state.lite.by_name(&listing.prefix, &listing.after).take(limit + 1).map(view).collect();
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    /// A client's subscriptions end with it.
    pub(super) fn end_lite_client(&self, client: &ClientId) {
        self.inner.core.lock().remove_lite_client(holder_of(client));
    }
}

/// The queue of a new lite topic, and the groups that get a position on it; with each, whether it is recorded that it waited.
type NewLite = (QueueId, Vec<(GroupId, bool)>);

/// Lite topics that the messages of one unit bring into being. They exist only when the log has taken the unit.
#[derive(Debug, Default)]
pub(super) struct LitePlacing {
    new: BTreeMap<Arc<str>, NewLite>,
}

impl LitePlacing {
    /// The place of a message in its lite topic, under the lock of `core`. A new lite topic, and the positions of the groups that
    /// wait for it, go into `unit`.
    pub fn next(
        &mut self,
        core: &Core,
        placing: &mut Placing,
        options: &BrokerOptions,
        topic: &Topic,
        name: &str,
        unit: &mut Unit,
    ) -> Result<(QueueId, QueueOffset), PublishError> {
        let gone = || PublishError::TopicNotFound(topic.name.clone());
        let state = core.topic(topic.id).ok_or_else(gone)?;
        let queue = match (state.lite.find(name), self.new.get(name)) {
            (Some(queue), _) => queue,
            (None, Some((queue, _))) => *queue,
            (None, None) => self.begin(core, state, placing, options, topic, name, unit)?,
        };
        let offset = placing.next(core, topic.id, queue).ok_or_else(gone)?;
        Ok((queue, offset))
    }

    #[allow(clippy::too_many_arguments)] // the second half of the function above
    fn begin(
        &mut self,
        core: &Core,
        state: &TopicState,
        placing: &mut Placing,
        options: &BrokerOptions,
        topic: &Topic,
        name: &str,
        unit: &mut Unit,
    ) -> Result<QueueId, PublishError> {
        let quota = |most: usize| PublishError::LiteTopicQuota { topic: topic.name.clone(), most };
        if state.lite.len() + self.new.len() >= options.lite_topics_per_topic_max {
            return Err(quota(options.lite_topics_per_topic_max));
        }
        if core.lite_topics() + self.new.len() >= options.lite_topics_max {
            return Err(quota(options.lite_topics_max));
        }
        let queue = state.lite.queue_ahead(self.new.len()).ok_or_else(|| quota(options.lite_topics_per_topic_max))?;
        unit.push(&Record::LiteTopicPut { topic: topic.id, queue, name: name.to_owned() });
        let groups = core.lite_groups_wanting(topic.id, name);
        for &(group, is_recorded) in &groups {
            unit.push(&Record::Advanced { group, topic: topic.id, queue, next: QueueOffset(0) });
            if is_recorded {
                unit.push(&Record::LiteWanted { topic: topic.id, group, name: name.to_owned(), is_wanted: false });
            }
        }
        placing.begin(topic.id, queue);
        self.new.insert(name.into(), (queue, groups));
        Ok(queue)
    }

    /// The log has taken the unit: the lite topics exist. Before [`Placing::accepted`].
    pub fn accepted(self, core: &mut Core, topic: TopicId, now: Timestamp) {
        for (name, (queue, groups)) in self.new {
            let lite = LiteTopic { name: name.clone(), tail: QueueTail::default(), active_at: now };
            core.put_lite_topic(topic, queue, lite);
            for (group, _) in groups {
                core.put_lite_position(topic, group, queue, QueueState::default());
                core.end_lite_want(topic, group, &name);
            }
        }
    }
}

impl From<ReceiveError> for LiteError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::TopicNotFound(topic) => Self::TopicNotFound(topic),
            ReceiveError::GroupNotFound(group) => Self::GroupNotFound(group),
            ReceiveError::NotReadable(topic) => Self::NotReadable(topic),
            ReceiveError::GroupDisabled(group) => Self::GroupDisabled(group),
            ReceiveError::Overloaded => Self::Overloaded,
            ReceiveError::Unavailable => Self::Unavailable,
            ReceiveError::LiteFilter | ReceiveError::ShardFailed(_) => Self::ShardFailed,
        }
    }
}

fn wish(sync: &LiteSync, exclusive: bool) -> LiteWish<'_> {
    LiteWish {
        client: &sync.client,
        holder: holder_of(&sync.client),
        action: sync.action,
        names: &sync.names,
        version: sync.version,
        exclusive,
    }
}

fn lite_error(refusal: LiteRefusal, limits: LiteLimits, topic: &Topic) -> LiteError {
    match refusal {
        LiteRefusal::ClientQuota => LiteError::ClientQuota(limits.per_client),
        LiteRefusal::BrokerQuota => LiteError::BrokerQuota,
        LiteRefusal::Stale => LiteError::Stale,
        LiteRefusal::Gone => LiteError::TopicNotFound(topic.name.clone()),
    }
}

fn refused(error: &AppendError) -> LiteError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => LiteError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => LiteError::ShardFailed,
    }
}
