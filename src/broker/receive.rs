//! Receive: look, read ahead, wait. What is granted is held by a guard from the first moment, so that a receive which is
//! cancelled anywhere gives back what its client never saw.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::api::{Ask, ClientId, Delivered, LeaseWish, Origin, Receive, ReceiveError};
use crate::broker::delivery::core::Core;
use crate::broker::delivery::lease::{Grant, LeaseTerms};
use crate::broker::delivery::subscription::{Missing, Wish};
use crate::broker::delivery::verdicts::Judges;
use crate::broker::delivery::wait_list::WaiterId;
use crate::broker::judging::Case;
use crate::broker::members::{fnv64, holder_of};
use crate::broker::verbs::Broker;
use crate::model::filter::Filter;
use crate::model::group::Group;
use crate::model::name::TopicName;
use crate::model::position::{GroupId, QueueId, TopicId, UnitSeq};
use crate::model::receipt::Receipt;
use crate::model::topic::{Topic, TopicType};
use crate::runtime::watermark::ShardFailed;
use crate::store::AppendError;
use crate::store::record::{DeadLetterOrigin, MessageRecord, Unit};

/// Messages granted to a receive. What has not been taken when this is dropped returns at once, without a counted attempt.
#[derive(Debug)]
pub struct Delivery {
    broker: Broker,
    pub(super) topic: Arc<Topic>,
    pub(super) group: Arc<Group>,
    pub(super) held: VecDeque<(QueueId, Grant, Option<Box<MessageRecord>>)>,
    /// A repeated attempt may have reached its client the first time; it is not given back.
    repeated: bool,
    /// The last reset of a position that these grants have seen.
    after_reset: UnitSeq,
}

impl Delivery {
    /// Messages not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is nothing (more).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether its client may have got it before: such a delivery is never given back.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Takes the next message; from now on it is the client's.
    #[allow(clippy::should_implement_trait)] // taking has a consequence that an iterator's adapters would hide
    pub fn next(&mut self) -> Option<Delivered> {
        self.drop_reset();
        let (queue, grant, record) = self.held.pop_front()?;
        let record = *record?;
        let inner = &self.broker.inner;
        let receipt = Receipt {
            shard: inner.shard,
            group: self.group.id,
            topic: self.topic.id,
            queue,
            offset: grant.entry.offset,
            attempt: grant.attempt,
            grant: grant.terms.grant,
            lease_end: grant.terms.deadline,
            order_key: grant.entry.order_key,
        };
        let again = grant.attempt > 1;
        inner.metrics.messages_out(
            self.topic.name.name(),
            self.group.name.name(),
            again,
            1,
            u64::from(record.body_bytes),
        );
        Some(Delivered {
            handle: inner.handles.load().seal(&receipt, 0),
            attempt: grant.attempt,
            queue,
            offset: grant.entry.offset,
            invisible: grant.terms.deadline.since(inner.clock.now()),
            message_type: record.message_type,
            message_group: record.message_group,
            message: record.message,
            origin: origin_of(record.origin),
        })
    }

    /// Lets go of what a reset of the group's position took from this delivery: its handles would be refused.
    fn drop_reset(&mut self) {
        let inner = &self.broker.inner;
        if inner.last_reset() == self.after_reset {
            return;
        }
        let core = inner.core.lock();
        self.after_reset = inner.last_reset();
        self.held.retain(|(queue, grant, _)| core.holds(self.topic.id, self.group.id, *queue, grant));
    }
}

/// Where a dead letter came from, for its reader.
pub(super) fn origin_of(origin: Option<DeadLetterOrigin>) -> Option<Origin> {
    origin.map(|origin| Origin {
        topic: TopicName::trusted(&origin.namespace, &origin.topic),
        attempts: origin.attempts,
        reason: origin.reason,
    })
}

impl Delivery {
    /// What the order of a message is kept with, if it is.
    pub(super) fn lane(&self, queue: QueueId, grant: &Grant) -> Option<(QueueId, u64)> {
        let is_ordered = self.group.is_ordered(self.topic.topic_type);
        let is_whole = self.topic.topic_type == TopicType::Lite;
        let key = if is_whole { 0 } else { grant.entry.order_key };
        (is_whole || is_ordered && key != 0).then_some((queue, key))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.held.is_empty() || self.repeated {
            return;
        }
        let grants: Vec<(QueueId, Grant)> = self.held.drain(..).map(|(queue, grant, _)| (queue, grant)).collect();
        let inner = &self.broker.inner;
        let mut unit = Unit::state();
        let mut core = inner.core.lock();
        core.give_back(self.topic.id, self.group.id, &grants, &mut unit);
        if let Err(error) = inner.append_state(unit) {
            tracing::debug!(%error, "a delivery that was given back is not recorded; its lease ends by itself after a restart");
        }
    }
}

/// A receive in the wait list; leaves it when dropped and passes an unused wake-up on.
struct Parked<'a> {
    broker: &'a Broker,
    topic: TopicId,
    group: GroupId,
    id: WaiterId,
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.broker.inner.core.lock().leave(self.topic, self.group, self.id);
    }
}

/// Even a receive that does not want to wait may look so long for something to deliver.
pub(super) const LOOKS_AT_LEAST: Duration = Duration::from_millis(500);

enum Step {
    /// Messages, the unit that records their granting, and others that are to be judged for the next look.
    Granted(Delivery, Option<UnitSeq>, Option<Case>),
    ReadAhead(QueueId, Missing, Judges),
    Judge(Case),
    LookAgain,
    Nothing,
}

impl Broker {
    /// Waits for messages up to `receive.wait`. An empty delivery means that nothing was deliverable all that time, or that the
    /// broker is shutting down.
    ///
    /// # Errors
    /// See [`ReceiveError`]; nothing was delivered.
    pub async fn receive(&self, receive: Receive) -> Result<Delivery, ReceiveError> {
        let holder = holder_of(&receive.client);
        let live = self.inner.members.open(holder, self.inner.clock.steady());
        let received = self.receive_while_alive(receive).await;
        drop(live);
        // The session of a client that did nothing but wait begins when the wait ends.
        self.inner.members.seen(holder, false, self.inner.clock.steady());
        received
    }

    async fn receive_while_alive(&self, receive: Receive) -> Result<Delivery, ReceiveError> {
        if self.inner.handles.load().is_empty() {
            return Err(ReceiveError::Overloaded);
        }
        if receive.ask == Ask::RepeatOnly {
            return self.receive_again(&receive).await;
        }
        let (topic, group) = self.check_receive(&receive).await?;
        if receive.filter != Filter::ALL
            && self.inner.core.lock().is_lite_receive(topic.id, group.id, holder_of(&receive.client))
        {
            return Err(ReceiveError::LiteFilter);
        }
        let _share = self.inner.pollers.try_take(1).ok_or(ReceiveError::Overloaded)?;
        self.subscribe(&topic, &group).await?;
        let attempt_key = attempt_key(&receive.client, receive.attempt_id.as_deref());
        if let Some(again) = self.repeat(&topic, &group, attempt_key).await? {
            return Ok(again);
        }
        let started = self.inner.clock.mark();
        let looks_for = receive.wait.max(LOOKS_AT_LEAST);
        let notify = Arc::new(Notify::new());
        let mut parked: Option<Parked<'_>> = None;
        loop {
            self.check_still_there(&topic, &group)?;
            // What was handed out now would be acknowledged when nobody is here to hear it.
            if self.inner.cluster.is_some() && self.inner.shutdown.is_draining() {
                return Ok(self.delivery(&topic, &group, Vec::new(), false));
            }
            match self.step(&receive, &topic, &group, attempt_key, &notify, &mut parked)? {
                Step::Granted(mut delivery, recorded, beside) => {
                    // Others may get something as well: they hear of it now, not when the disk has done its part.
                    parked = None;
                    if let Some(case) = beside {
                        self.judge(&topic, &group, case).await;
                    }
                    self.fill(&mut delivery, &receive.filter).await?;
                    delivery.drop_reset();
                    if !delivery.is_empty() {
                        self.redelivered_durably(&delivery, recorded).await?;
                        return Ok(delivery);
                    }
                }
                // A long way through messages that nobody here wants must not outlast the client's patience.
                Step::ReadAhead(..) | Step::Judge(_) | Step::LookAgain
                    if started.elapsed() > looks_for || self.inner.shutdown.is_draining() =>
                {
                    return Ok(self.delivery(&topic, &group, Vec::new(), false));
                }
                Step::Judge(case) => self.judge(&topic, &group, case).await,
                Step::ReadAhead(queue, ..) if queue.is_lite() => self.read_ahead_lite(&topic, &group, &receive).await?,
                Step::ReadAhead(queue, Missing::Queue(from), judges) => {
                    self.read_ahead(&topic, &group, (queue, from), judges).await?;
                }
                Step::ReadAhead(queue, Missing::Lane(key, from), _) => {
                    self.read_back(&topic, &group, queue, key, from).await?;
                }
                Step::LookAgain => tokio::task::yield_now().await,
                Step::Nothing => {
                    let left = receive.wait.saturating_sub(started.elapsed());
                    if !self.wait(left, &notify).await {
                        // Nothing shows up on a log that has ended; that is not the same as nothing being there.
                        self.inner.store.accepts().map_err(|error| refused(&error))?;
                        return Ok(self.delivery(&topic, &group, Vec::new(), false));
                    }
                }
            }
        }
    }

    async fn check_receive(&self, receive: &Receive) -> Result<(Arc<Topic>, Arc<Group>), ReceiveError> {
        let topic = self.topic(&receive.topic).ok_or_else(|| ReceiveError::TopicNotFound(receive.topic.clone()))?;
        if !topic.permission.readable {
            return Err(ReceiveError::NotReadable(receive.topic.clone()));
        }
        let group = match self.group(&receive.group) {
            Some(group) => group,
            None => self.group_at_first_use(&receive.group).await?,
        };
        if !group.enabled {
            return Err(ReceiveError::GroupDisabled(receive.group.clone()));
        }
        Ok((topic, group))
    }

    /// Topic and group may be deleted, and the group switched off, while a receive waits.
    pub(super) fn check_still_there(&self, topic: &Topic, group: &Group) -> Result<(), ReceiveError> {
        if self.topic(&topic.name).is_none_or(|current| current.id != topic.id) {
            return Err(ReceiveError::TopicNotFound(topic.name.clone()));
        }
        match self.group(&group.name) {
            Some(current) if current.id == group.id && current.enabled => Ok(()),
            Some(current) if current.id == group.id => Err(ReceiveError::GroupDisabled(group.name.clone())),
            _ => Err(ReceiveError::GroupNotFound(group.name.clone())),
        }
    }

    /// One look under the lock. When nothing is there, the receive is in the wait list before the lock is released, so that no
    /// arrival can be missed.
    fn step<'a>(
        &'a self,
        receive: &Receive,
        topic: &Arc<Topic>,
        group: &Arc<Group>,
        attempt_key: u64,
        notify: &Arc<Notify>,
        parked: &mut Option<Parked<'a>>,
    ) -> Result<Step, ReceiveError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let (deadline, auto_renew) = match receive.lease {
            LeaseWish::Fixed(duration) => (now.plus(duration), false),
            LeaseWish::AutoRenew => (now.plus(group.consume_timeout), true),
        };
        let terms = LeaseTerms {
            deadline,
            grant: inner.next_grant(),
            holder: holder_of(&receive.client),
            auto_renew,
            attempt_key,
        };
        let wish = Wish {
            topic: topic.id,
            group: group.id,
            filter: &receive.filter,
            max: receive.batch.max(1),
            outstanding_max: inner.options.outstanding_per_queue_max,
            terms,
            steady: inner.clock.steady(),
        };
        let mut unit = Unit::state();
        let mut core = inner.deciding().map_err(|error| refused(&error))?;
        let selection = core.select_for(&wish, now, &mut unit);
        // A log that ends at this very moment leaves grants in memory that it does not have; nobody is told of them any more.
        let recorded = inner.append_state(unit).map_err(|error| refused(&error))?;
        let (judges, entries) = (selection.judges, selection.unjudged);
        let case = if entries.is_empty() { None } else { Some(Case { judges: judges.clone(), entries }) };
        if !selection.grants.is_empty() {
            // Made while the lock is held, so that it knows of exactly the resets that its grants have seen.
            let delivery = self.delivery(topic, group, selection.grants, false);
            drop(core);
            return Ok(Step::Granted(delivery, recorded, case));
        }
        if let Some(case) = case {
            return Ok(Step::Judge(case));
        }
        if let Some((queue, missing)) = selection.missing {
            return Ok(Step::ReadAhead(queue, missing, judges));
        }
        if selection.more {
            return Ok(Step::LookAgain);
        }
        self.park(&mut core, receive, topic, group, notify, parked)?;
        Ok(Step::Nothing)
    }

    fn park<'a>(
        &'a self,
        core: &mut Core,
        receive: &Receive,
        topic: &Topic,
        group: &Group,
        notify: &Arc<Notify>,
        parked: &mut Option<Parked<'a>>,
    ) -> Result<(), ReceiveError> {
        let id = match parked {
            Some(parked) => parked.id,
            None if core.waiting(topic.id, group.id) >= self.inner.options.pollers_per_group_max => {
                return Err(ReceiveError::Overloaded);
            }
            None => core.new_waiter(),
        };
        core.wait_for((topic.id, group.id), id, holder_of(&receive.client), &receive.filter, notify);
        // A second one would take the waiter out again when it is dropped, under the lock that is held here.
        if parked.is_none() {
            *parked = Some(Parked { broker: self, topic: topic.id, group: group.id, id });
        }
        Ok(())
    }

    /// True when there may be something now; false when time is up or the broker drains.
    pub(super) async fn wait(&self, left: Duration, notify: &Notify) -> bool {
        if left.is_zero() {
            return false;
        }
        tokio::select! {
            biased;
            () = notify.notified() => true,
            () = self.inner.shutdown.draining() => false,
            () = self.inner.clock.sleep(left) => false,
        }
    }

    fn delivery(
        &self,
        topic: &Arc<Topic>,
        group: &Arc<Group>,
        grants: Vec<(QueueId, Grant)>,
        repeated: bool,
    ) -> Delivery {
        Delivery {
            broker: self.clone(),
            topic: topic.clone(),
            group: group.clone(),
            held: grants.into_iter().map(|(queue, grant)| (queue, grant, None)).collect(),
            repeated,
            after_reset: self.inner.last_reset(),
        }
    }

    /// What an earlier receive with this attempt id got, or nothing, at once.
    async fn receive_again(&self, receive: &Receive) -> Result<Delivery, ReceiveError> {
        let topic = self.topic(&receive.topic).ok_or_else(|| ReceiveError::TopicNotFound(receive.topic.clone()))?;
        let group = self.group_or_default(&receive.group);
        let group = Arc::new(group.ok_or_else(|| ReceiveError::GroupNotFound(receive.group.clone()))?);
        let key = attempt_key(&receive.client, receive.attempt_id.as_deref());
        let again = self.repeat(&topic, &group, key).await?;
        Ok(again.unwrap_or_else(|| self.delivery(&topic, &group, Vec::new(), true)))
    }

    /// The messages that this attempt got before, if it still holds any.
    async fn repeat(&self, topic: &Arc<Topic>, group: &Arc<Group>, key: u64) -> Result<Option<Delivery>, ReceiveError> {
        if key == 0 {
            return Ok(None);
        }
        let (mut delivery, recorded) = {
            let mut core = self.inner.deciding().map_err(|error| refused(&error))?;
            let grants = core.repeat_attempt(topic.id, group.id, key, self.inner.clock.now());
            // Which unit holds them is not remembered; it is among those that were accepted so far.
            (self.delivery(topic, group, grants, true), self.inner.store.accepted())
        };
        if delivery.is_empty() {
            return Ok(None);
        }
        self.fill(&mut delivery, &Filter::ALL).await?;
        self.redelivered_durably(&delivery, Some(recorded)).await?;
        Ok(Some(delivery))
    }

    /// Waits, if a message was delivered before, until the log holds its new grant and so whatever ended the earlier delivery.
    /// Otherwise a crash could take back both, and the earlier handle would be good again beside the one given out here. A
    /// first delivery supersedes none: should its grant be lost, the message is only delivered once more.
    async fn redelivered_durably(&self, delivery: &Delivery, recorded: Option<UnitSeq>) -> Result<(), ReceiveError> {
        // After a reset even a first delivery may supersede an older one.
        let lost = |error: ShardFailed| ReceiveError::ShardFailed(error.to_string());
        self.inner.durable(delivery.after_reset).await.map_err(lost)?;
        let supersedes = delivery.held.iter().any(|(_, grant, _)| grant.attempt > 1);
        match recorded.filter(|_| supersedes) {
            Some(seq) => self.inner.durable(seq).await.map_err(lost),
            None => Ok(()),
        }
    }
}

pub(super) fn refused(error: &AppendError) -> ReceiveError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => ReceiveError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => ReceiveError::ShardFailed(error.to_string()),
    }
}

fn attempt_key(client: &ClientId, attempt_id: Option<&str>) -> u64 {
    match attempt_id {
        None | Some("") => 0,
        Some(id) => fnv64(id.as_bytes(), holder_of(client).get()).max(1),
    }
}
