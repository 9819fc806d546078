//! Lite topics within the delivery state: the part of [`Core`] that concerns them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::api::ClientId;
use crate::broker::delivery::core::{Core, Selection, TopicState};
use crate::broker::delivery::lite::group::LiteGroup;
use crate::broker::delivery::lite::sync::{LiteBegin, LiteLimits, LitePlan, LiteRefusal, LiteWish};
use crate::broker::delivery::lite::topics::LiteTopic;
use crate::broker::delivery::select::record_look;
use crate::broker::delivery::subscription::{QueueState, Subscription, Wish};
use crate::broker::delivery::tail::QueueTail;
use crate::broker::delivery::wait_list::WaiterId;
use crate::model::filter::Filter;
use crate::model::position::{GroupId, HolderId, QueueId, QueueOffset, RecordAt, TopicId};
use crate::model::receipt::Receipt;
use crate::model::time::Timestamp;
use crate::model::topic::TopicType;
use crate::store::QueueEntry;
use crate::store::record::{LeaseState, MessageHead, Record, Unit};

/// Lite topics looked at under one holding of the lock, where many must be.
const PAGE: usize = 2_048;

/// What a look for lite topics without activity found on one page.
#[derive(Debug, Default)]
pub struct IdlePage {
    /// May go now.
    pub removable: Vec<QueueId>,
    /// Nobody knows when something last happened there: the last message has to be looked up.
    pub unknown: Vec<(QueueId, QueueOffset)>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<QueueId>,
}

impl TopicState {
    /// The near end of a queue, of a lite topic or not.
    #[must_use]
    pub fn tail(&self, queue: QueueId) -> Option<&QueueTail> {
        if queue.is_lite() {
            self.lite.get(queue).map(|topic| &topic.tail)
        } else {
            self.tails.get(queue.get() as usize)
        }
    }

    /// The same, to be changed.
    pub fn tail_mut(&mut self, queue: QueueId) -> Option<&mut QueueTail> {
        if queue.is_lite() {
            self.lite.get_mut(queue).map(|topic| &mut topic.tail)
        } else {
            self.tails.get_mut(queue.get() as usize)
        }
    }

    /// Lite topics that hold messages.
    pub fn lite_queues_with_messages(&self) -> impl Iterator<Item = QueueId> + '_ {
        let full = |topic: &LiteTopic| topic.tail.first() < topic.tail.visible();
        self.lite.from(QueueId::FIRST_LITE).filter(move |(_, topic)| full(topic)).map(|(queue, _)| queue)
    }
}

impl Core {
    /// Lite topics of all parents.
    #[must_use]
    pub fn lite_topics(&self) -> usize {
        self.lite_topics
    }

    /// Lite subscriptions of all clients.
    #[must_use]
    pub fn lite_subscriptions(&self) -> usize {
        let groups = self.topics.values().flat_map(|state| state.subscriptions.values());
        groups.filter_map(|subscription| subscription.lite.as_ref()).map(|lite| lite.subscriptions()).sum()
    }

    /// Puts a lite topic in, as the folded state or its first message says.
    pub fn put_lite_topic(&mut self, topic: TopicId, queue: QueueId, lite: LiteTopic) {
        if let Some(state) = self.topics.get_mut(&topic) {
            self.lite_topics += 1;
            state.lite.insert(queue, lite);
        }
    }

    /// Lite queues up to this one were given out below a parent; parent 0: below parents that are gone, whose names others may
    /// have by now.
    pub fn lite_queues_given_out(&mut self, topic: TopicId, highest: QueueId) {
        if topic == TopicId(0) {
            self.lite_retired = self.lite_retired.max(highest);
            self.topics.values_mut().for_each(|state| state.lite.given_out(highest));
        } else if let Some(state) = self.topics.get_mut(&topic) {
            state.lite.given_out(highest);
        }
    }

    /// Takes a lite topic out, with every group's position on it.
    pub fn remove_lite_topic(&mut self, topic: TopicId, queue: QueueId) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(gone) = state.lite.remove(queue) else { return };
        self.lite_topics -= 1;
        for subscription in state.subscriptions.values_mut() {
            if let Some(lite) = &mut subscription.lite {
                lite.forget(queue, &gone.name);
            }
        }
    }

    /// Groups that are to get a lite topic, which does not exist yet, from its first message on; and whether that is recorded.
    #[must_use]
    pub fn lite_groups_wanting(&self, topic: TopicId, name: &str) -> Vec<(GroupId, bool)> {
        let Some(state) = self.topics.get(&topic) else { return Vec::new() };
        let wanting = |(group, subscription): (&GroupId, &Subscription)| {
            let lite = subscription.lite.as_ref().filter(|lite| lite.waits_for(name))?;
            Some((*group, lite.wants.contains(name)))
        };
        state.subscriptions.iter().filter_map(wanting).collect()
    }

    /// Groups with a subscriber to a lite topic, for when it goes: they are to get the next one of its name from the first
    /// message on, whatever happens to their members until then.
    #[must_use]
    pub fn lite_groups_left_by(&self, topic: TopicId, queue: QueueId) -> Option<(Arc<str>, Vec<GroupId>)> {
        let state = self.topics.get(&topic)?;
        let name = &state.lite.get(queue)?.name;
        let has_subscriber =
            |subscription: &Subscription| subscription.lite.as_ref().is_some_and(|lite| lite.subscribers_of(name) > 0);
        let groups = state.subscriptions.iter().filter(|(_, subscription)| has_subscriber(subscription));
        Some((name.clone(), groups.map(|(group, _)| *group).collect()))
    }

    /// A group waits for a lite topic, as the folded state or a record says. `now` is steady time.
    pub fn put_lite_want(&mut self, topic: TopicId, group: GroupId, name: Arc<str>, now: Timestamp) {
        let Some(state) = self.topics.get_mut(&topic).filter(|state| state.lite.find(&name).is_none()) else { return };
        let Some(subscription) = state.subscriptions.get_mut(&group) else { return };
        let lite = subscription.lite.get_or_insert_default();
        let alone_since = (lite.subscribers_of(&name) == 0).then_some(now);
        lite.wants.add(name, alone_since);
    }

    /// A group waits for a lite topic no longer.
    pub fn end_lite_want(&mut self, topic: TopicId, group: GroupId, name: &str) {
        if let Some(lite) = self.subscription_mut(topic, group).and_then(|subscription| subscription.lite.as_mut()) {
            lite.wants.remove(name);
        }
    }

    /// Lite topics that groups wait for, counted for each group.
    #[must_use]
    pub fn lite_wants(&self) -> usize {
        let groups = self.topics.values().flat_map(|state| state.subscriptions.values());
        groups.filter_map(|subscription| subscription.lite.as_ref()).map(|lite| lite.wants.len()).sum()
    }

    /// At most `max` of what groups wait for although nobody has subscribed to it since `before` or longer.
    #[must_use]
    pub fn lite_wants_left_alone(&self, before: Timestamp, max: usize) -> Vec<(TopicId, GroupId, Arc<str>)> {
        let of_group = |topic: TopicId, (group, subscription): (&GroupId, &Subscription)| {
            let names = subscription.lite.iter().flat_map(|lite| lite.wants.alone_before(before, max));
            names.map(|name| (topic, *group, name.clone())).collect::<Vec<_>>()
        };
        let of_topic = |(topic, state): (&TopicId, &TopicState)| {
            state.subscriptions.iter().flat_map(|entry| of_group(*topic, entry)).take(max).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).take(max).collect()
    }

    /// Gives a group a position on a lite topic, as the folded state or a subscription says.
    pub fn put_lite_position(&mut self, topic: TopicId, group: GroupId, queue: QueueId, position: QueueState) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(subscription) = state.subscriptions.get_mut(&group) else { return };
        if state.lite.get(queue).is_none() {
            return;
        }
        subscription.lite.get_or_insert_default().begin(queue, position);
        self.schedule(topic, group, queue);
        self.lite_changed(topic, group, queue);
    }

    /// Must follow every change of what a group has outstanding in a queue; does nothing for one that is not of a lite topic.
    pub(in crate::broker::delivery) fn lite_changed(&mut self, topic: TopicId, group: GroupId, queue: QueueId) {
        if !queue.is_lite() {
            return;
        }
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(lite_topic) = state.lite.get(queue) else { return };
        if let Some(lite) = state.subscriptions.get_mut(&group).and_then(|subscription| subscription.lite.as_mut()) {
            lite.changed(queue, &lite_topic.name, &lite_topic.tail);
        }
    }

    /// Something happened on a lite topic that counts against its time to live.
    pub(in crate::broker::delivery) fn lite_active(&mut self, topic: TopicId, queue: QueueId, now: Timestamp) {
        if queue.is_lite()
            && let Some(lite) = self.topics.get_mut(&topic).and_then(|state| state.lite.get_mut(queue))
        {
            lite.active_at = lite.active_at.max(now);
        }
    }

    /// A message of a lite topic reached the rung that makes it visible.
    pub(in crate::broker::delivery) fn show_lite(&mut self, head: &MessageHead, at: RecordAt) {
        let Some(state) = self.topics.get_mut(&head.topic) else { return };
        let Some(lite_topic) = state.lite.get_mut(head.queue) else { return };
        if !lite_topic.tail.show(QueueEntry::of(head, at)) {
            return;
        }
        lite_topic.active_at = lite_topic.active_at.max(head.stored_at);
        self.recent_order.push_back((head.topic, head.queue));
        for subscription in state.subscriptions.values_mut() {
            if let Some(lite) = &mut subscription.lite {
                lite.changed(head.queue, &lite_topic.name, &lite_topic.tail);
            }
        }
    }

    /// Whether a client's receive is one for lite topics: every one on a parent of nothing else, and on a mixed topic those of
    /// clients that have subscribed to some.
    #[must_use]
    pub fn is_lite_receive(&self, topic: TopicId, group: GroupId, holder: HolderId) -> bool {
        let Some(state) = self.topics.get(&topic) else { return false };
        let subscribed = || {
            let subscription = state.subscriptions.get(&group);
            subscription.and_then(|subscription| subscription.lite.as_ref()).is_some_and(|lite| lite.is_client(holder))
        };
        match state.topic.topic_type {
            TopicType::Lite => true,
            TopicType::Mixed => subscribed(),
            _ => false,
        }
    }

    /// Looks for messages of the kind that the client receives: of lite topics, or of the others.
    pub fn select_for(&mut self, wish: &Wish<'_>, now: Timestamp, unit: &mut Unit) -> Selection {
        if self.is_lite_receive(wish.topic, wish.group, wish.terms.holder) {
            self.select_lite(wish, now, unit)
        } else {
            self.select(wish, now, unit)
        }
    }

    /// What has to be read from disk of the first `max` lite topics that a client could be given from now.
    #[must_use]
    pub fn lite_missing(
        &self,
        topic: TopicId,
        group: GroupId,
        holder: HolderId,
        max: usize,
    ) -> Vec<(QueueId, QueueOffset)> {
        let Some(state) = self.topics.get(&topic) else { return Vec::new() };
        let Some(lite) = state.subscriptions.get(&group).and_then(|subscription| subscription.lite.as_ref()) else {
            return Vec::new();
        };
        let missing = |queue: QueueId| Some((queue, lite.queue(queue)?.lane_missing(state.tail(queue)?)?));
        lite.ready_of(holder).take(max).filter_map(missing).collect()
    }

    /// Enters a receive into the wait list of that kind, or marks it as waiting again.
    pub fn wait_for(
        &mut self,
        (topic, group): (TopicId, GroupId),
        id: WaiterId,
        holder: HolderId,
        filter: &Filter,
        notify: &Arc<Notify>,
    ) {
        if self.is_lite_receive(topic, group, holder) {
            self.wait_lite(topic, group, id, holder, notify);
        } else {
            self.wait(topic, group, id, filter, notify);
        }
    }

    /// Looks for messages in the lite topics that the client subscribes to. Grants and positions go into `unit`.
    pub fn select_lite(&mut self, wish: &Wish<'_>, now: Timestamp, unit: &mut Unit) -> Selection {
        let mut selection = Selection::default();
        let holder = wish.terms.holder;
        let Some(state) = self.topics.get_mut(&wish.topic) else { return selection };
        let Some(subscription) = state.subscriptions.get_mut(&wish.group) else { return selection };
        let Some(lite) = &mut subscription.lite else { return selection };
        lite.seen(holder, wish.steady);
        let mut touched = Vec::new();
        let mut from = 0;
        while selection.grants.len() < wish.max
            && let Some((place, queue)) = lite.next_ready(holder, from)
        {
            from = place + 1;
            let (Some(lite_topic), Some(queue_state)) = (state.lite.get(queue), lite.queue_mut(queue)) else {
                continue;
            };
            let look = queue_state.look_lane(&lite_topic.tail, wish, wish.max - selection.grants.len());
            record_look(queue_state, (wish.group, wish.topic, queue), &look, wish.terms.state(), unit);
            if !look.grants.is_empty() {
                touched.push(queue);
            }
            selection.grants.extend(look.grants.into_iter().map(|grant| (queue, grant)));
            lite.changed(queue, &lite_topic.name, &lite_topic.tail);
            if let (true, Some(missing)) = (selection.grants.is_empty(), look.missing) {
                // Those behind it do not overtake: it would never be read while they have something to give.
                selection.missing = Some((queue, missing));
                break;
            }
        }
        if wish.terms.attempt_key != 0 && !selection.grants.is_empty() {
            let given = selection.grants.iter().map(|(queue, grant)| (*queue, grant.entry.offset, grant.terms.grant));
            subscription.note_attempt(wish.terms.attempt_key, given.collect(), now);
        }
        for queue in touched {
            self.schedule(wish.topic, wish.group, queue);
        }
        selection
    }

    /// A client cannot go on with a lite topic before `until`: the delivery is put back without a counted attempt.
    pub fn suspend(&mut self, receipt: &Receipt, until: Timestamp, unit: &mut Unit) {
        let Receipt { topic, group, queue, offset, .. } = *receipt;
        let Some(state) = self.queue_mut(topic, group, queue) else { return };
        if let Some(attempt) = state.leases.suspend(offset, until) {
            let lease = LeaseState::Waiting { visible_at: until };
            unit.push(&Record::LeaseChanged { group, topic, queue, offset, attempt, lease });
            self.schedule(topic, group, queue);
            self.lite_changed(topic, group, queue);
        }
    }

    /// Enters a receive for lite topics into the wait list, or marks it as waiting again.
    pub fn wait_lite(&mut self, topic: TopicId, group: GroupId, id: WaiterId, holder: HolderId, notify: &Arc<Notify>) {
        match self.subscription_mut(topic, group) {
            Some(subscription) => subscription.lite.get_or_insert_default().wait(id, holder, notify),
            // The topic or group went away between two looks; the receive must look again and find out.
            None => notify.notify_one(),
        }
    }

    /// What a client's wish would change of what it subscribes to. `group` may be one that is not here yet.
    ///
    /// # Errors
    /// See [`LiteRefusal`].
    pub fn weigh_lite(
        &self,
        topic: TopicId,
        group: Option<GroupId>,
        wish: &LiteWish<'_>,
        limits: LiteLimits,
    ) -> Result<LitePlan, LiteRefusal> {
        let state = self.topics.get(&topic).ok_or(LiteRefusal::Gone)?;
        let subscription = group.and_then(|group| state.subscriptions.get(&group));
        match subscription.and_then(|subscription| subscription.lite.as_ref()) {
            Some(lite) => lite.plan(wish, limits),
            None => LiteGroup::default().plan(wish, limits),
        }
    }

    /// What a client's wish would change. The positions that the group takes go into `unit`, and count when the log has taken it:
    /// then [`Core::apply_lite`].
    ///
    /// # Errors
    /// See [`LiteRefusal`].
    pub fn plan_lite(
        &self,
        topic: TopicId,
        group: GroupId,
        wish: &LiteWish<'_>,
        limits: LiteLimits,
        begins: &LiteBegin<'_>,
        unit: &mut Unit,
    ) -> Result<LitePlan, LiteRefusal> {
        let state = self.topics.get(&topic).ok_or(LiteRefusal::Gone)?;
        let subscription = state.subscriptions.get(&group).ok_or(LiteRefusal::Gone)?;
        let mut plan = self.weigh_lite(topic, Some(group), wish, limits)?;
        for name in &plan.unwant {
            unit.push(&Record::LiteWanted { topic, group, name: name.to_string(), is_wanted: false });
        }
        let waits = |name: &str| subscription.lite.as_ref().is_some_and(|lite| lite.wants.contains(name));
        for name in &plan.add {
            let Some(queue) = state.lite.find(name) else {
                if !begins.is_at_first() && !waits(name) {
                    unit.push(&Record::LiteWanted { topic, group, name: name.to_string(), is_wanted: true });
                    plan.want.push(name.clone());
                }
                continue;
            };
            let (None, Some(tail)) = (subscription.queue(queue), state.tail(queue)) else { continue };
            let next = begins.position(queue, tail);
            unit.push(&Record::Advanced { group, topic, queue, next });
            plan.begin.push((queue, next));
        }
        Ok(plan)
    }

    /// Does what a client's wish planned. Who lost what to this client.
    pub fn apply_lite(
        &mut self,
        topic: TopicId,
        group: GroupId,
        wish: &LiteWish<'_>,
        plan: &LitePlan,
        now: Timestamp,
    ) -> Vec<(ClientId, Arc<str>)> {
        for &(queue, next) in &plan.begin {
            self.put_lite_position(topic, group, queue, QueueState::starting_at(next));
        }
        let Some(state) = self.topics.get_mut(&topic) else { return Vec::new() };
        let Some(subscription) = state.subscriptions.get_mut(&group) else { return Vec::new() };
        subscription.lite.get_or_insert_default().apply(wish, plan, &state.lite, now)
    }

    /// Ends the subscriptions of clients that were silent for `timeout`. How many clients went.
    pub fn expire_lite(&mut self, timeout: Duration, now: Timestamp) -> usize {
        let groups = self.topics.values_mut().flat_map(|state| state.subscriptions.values_mut());
        groups.filter_map(|subscription| subscription.lite.as_mut()).map(|lite| lite.expire(timeout, now).len()).sum()
    }

    /// A client said good-bye: its subscriptions end.
    pub fn remove_lite_client(&mut self, holder: HolderId) {
        for subscription in self.topics.values_mut().flat_map(|state| state.subscriptions.values_mut()) {
            if let Some(lite) = &mut subscription.lite {
                lite.remove_client(holder);
            }
        }
    }

    /// Lite topics from `from` on that were without activity for `ttl` and are read to their end by every group that has a
    /// position there; one page.
    #[must_use]
    pub fn idle_lite_topics(&self, topic: TopicId, from: QueueId, ttl: Duration, now: Timestamp) -> IdlePage {
        let mut page = IdlePage::default();
        let Some(state) = self.topics.get(&topic) else { return page };
        for (seen, (queue, lite)) in state.lite.from(from).enumerate() {
            if seen == PAGE {
                page.next = Some(queue);
                break;
            }
            if now.since(lite.active_at) < ttl || !self.lite_is_read(topic, queue) {
                continue;
            }
            match lite.tail.visible() {
                QueueOffset(0) => {}
                next if lite.active_at == Timestamp(0) => page.unknown.push((queue, QueueOffset(next.get() - 1))),
                _ => page.removable.push(queue),
            }
        }
        page
    }

    /// Whether a lite topic may go: nothing is on its way into it, and no group with a position has something left to do there.
    #[must_use]
    pub fn lite_is_read(&self, topic: TopicId, queue: QueueId) -> bool {
        let Some(state) = self.topics.get(&topic) else { return false };
        let Some(lite) = state.lite.get(queue) else { return false };
        let end = lite.tail.visible();
        let has_read = |position: &QueueState| position.leases.outstanding() == 0 && position.leases.next() >= end;
        lite.tail.accepted() == end && state.subscriptions.values().filter_map(|group| group.queue(queue)).all(has_read)
    }

    /// When something last happened on a lite topic, as looked up.
    pub fn set_lite_active(&mut self, topic: TopicId, queue: QueueId, at: Timestamp) {
        self.lite_active(topic, queue, at);
    }
}
