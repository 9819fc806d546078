//! Settle: acknowledge, change the invisible duration, forward to the dead-letter topic. Every OK waits for `durable`.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::api::{AckOutcome, ChangeOutcome, SettleError};
use crate::broker::dead_letter::FORWARDED;
use crate::broker::delivery::core::{Condemned, Core};
use crate::broker::delivery::lease::{LeaseTerms, NOBODY, Standing};
use crate::broker::delivery::settlement::Acked;
use crate::broker::receive::Delivery;
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{GrantId, QueueId, QueueOffset};
use crate::model::receipt::Receipt;
use crate::model::topic::Topic;
use crate::store::AppendError;
use crate::store::record::{SettleReason, Unit};

/// How long a message that the disk did not give stays aside: longer than a wink, so that it does not take the turns of others,
/// and no lease, which may be renewed for hours.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);
/// Shortest time that a lite topic is suspended for: a client that asks for less must not make it spin.
const SUSPENDED_AT_LEAST: Duration = Duration::from_millis(50);

impl Broker {
    /// Acknowledges deliveries, one outcome each, in order. A repeated ack is done as long as its lease time has not passed.
    ///
    /// # Errors
    /// Nothing was acknowledged; after [`SettleError::ShardFailed`] alone that is unknown.
    pub async fn ack(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handles: &[String],
    ) -> Result<Vec<AckOutcome>, SettleError> {
        let Some((topic, group)) = self.place(group, topic)? else {
            return Ok(vec![AckOutcome::InvalidHandle; handles.len()]);
        };
        let inner = &self.inner;
        let receipts: Vec<Option<Receipt>> =
            handles.iter().map(|handle| self.open_handle(handle, &topic, &group)).collect();
        let mut settled = Vec::with_capacity(handles.len());
        let mut outcomes = Vec::with_capacity(handles.len());
        let mut repeated = false;
        let awaited = {
            let mut core = inner.deciding().map_err(|error| refused(&error))?;
            let now = inner.clock.now();
            let mut unit = Unit::state();
            for receipt in &receipts {
                let acked =
                    receipt.as_ref().map_or(Acked::Stale, |receipt| core.ack(receipt, now, &mut settled, &mut unit));
                repeated |= acked == Acked::Before;
                outcomes.push(if acked == Acked::Stale { AckOutcome::InvalidHandle } else { AckOutcome::Done });
            }
            core.wake_if_deliverable(topic.id, group.id);
            Core::record_settled(topic.id, group.id, SettleReason::Acked, settled, &mut unit);
            inner.append_settlement(unit).map_err(|error| refused(&error))?
        };
        if let Some(seq) = awaited {
            inner.durable(seq).await.map_err(|_| SettleError::ShardFailed)?;
        } else if repeated {
            // I-2: a repeated ack is news about an earlier record; it waits for the youngest of those.
            inner.settled_durably().await.map_err(|_| SettleError::ShardFailed)?;
        }
        Ok(outcomes)
    }

    /// Keeps a delivery with its client for `duration` from now, or puts it back at once with zero. A delivery that is renewed
    /// automatically is put back no earlier than the group's own back-off says (rule C27).
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn change_invisible(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
    ) -> Result<ChangeOutcome, SettleError> {
        self.change(group, topic, handle, duration, false).await
    }

    /// Puts a delivery of a lite topic back for `duration`, because its client cannot go on with that lite topic now: no attempt
    /// is counted. Any other delivery is changed as [`Broker::change_invisible`] does.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn suspend(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
    ) -> Result<ChangeOutcome, SettleError> {
        self.change(group, topic, handle, duration, true).await
    }

    async fn change(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
        suspends: bool,
    ) -> Result<ChangeOutcome, SettleError> {
        let Some((topic, group)) = self.place(group, topic)? else { return Ok(ChangeOutcome::InvalidHandle) };
        let Some((receipt, serial)) = self.inner.handles.load().open(handle) else {
            return Ok(ChangeOutcome::InvalidHandle);
        };
        if !belongs(&receipt, &topic, &group) {
            return Ok(ChangeOutcome::InvalidHandle);
        }
        let inner = &self.inner;
        let (seq, lease_end) = {
            let mut core = inner.deciding().map_err(|error| refused(&error))?;
            let now = inner.clock.now();
            let Standing::Current { terms, attempt } = core.standing(&receipt, now) else {
                return Ok(ChangeOutcome::InvalidHandle);
            };
            let mut unit = Unit::state();
            let floor = if terms.auto_renew { group.backoff.after_attempt(attempt) } else { Duration::ZERO };
            let until = now.plus(duration.max(floor));
            let exhausted = terms.auto_renew && attempt >= group.max_attempts;
            if suspends && receipt.queue.is_lite() {
                core.suspend(&receipt, now.plus(duration.max(SUSPENDED_AT_LEAST)), &mut unit);
            } else if until <= now || exhausted {
                core.nack(&receipt, attempt, until, now, &mut unit);
            } else {
                // Its client's death must not shorten the back-off, nor a second nack: it stays a renewed delivery of nobody.
                let terms = LeaseTerms { holder: NOBODY, ..terms };
                core.extend(&receipt, attempt, terms, until, &mut unit);
            }
            (inner.append_state(unit).map_err(|error| refused(&error))?, until)
        };
        if let Some(seq) = seq {
            inner.durable(seq).await.map_err(|_| SettleError::ShardFailed)?;
        }
        let handle = inner.handles.load().seal(&Receipt { lease_end, ..receipt }, serial.wrapping_add(1));
        Ok(ChangeOutcome::Changed { handle })
    }

    /// Moves a delivery to the group's dead-letter topic. One that this very delivery has settled is left as it is, with
    /// success, as long as its lease time has not passed.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub async fn to_dead_letter(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
    ) -> Result<AckOutcome, SettleError> {
        let Some((topic, group)) = self.place(group, topic)? else { return Ok(AckOutcome::InvalidHandle) };
        let Some(receipt) = self.open_handle(handle, &topic, &group) else { return Ok(AckOutcome::InvalidHandle) };
        let which = Condemned { topic: topic.id, group: group.id, queue: receipt.queue, offset: receipt.offset };
        let repeated = {
            let mut core = self.inner.deciding().map_err(|error| refused(&error))?;
            let now = self.inner.clock.now();
            match core.standing(&receipt, now) {
                Standing::Current { .. } => {
                    core.condemn(which.topic, which.group, which.queue, which.offset);
                    false
                }
                Standing::Done if core.settled_by(&receipt, now) => true,
                Standing::Stale if core.condemned_entry(&which).is_some() => false,
                Standing::Done | Standing::Stale => return Ok(AckOutcome::InvalidHandle),
            }
        };
        if repeated {
            self.inner.settled_durably().await.map_err(|_| SettleError::ShardFailed)?;
            return Ok(AckOutcome::Done);
        }
        // On a task of its own: a client that goes away now must not leave the message condemned and unmoved.
        let mover = self.clone();
        let moved = self.inner.tasks.spawn_background(async move {
            let by = Some((receipt.grant, receipt.lease_end));
            let moved = mover.move_to_dead_letter(which, FORWARDED, by).await;
            if moved.is_err() {
                // Nobody else would come for it: it is condemned and has no deadline any more.
                mover.inner.core.lock().condemn_later(which);
            }
            moved
        });
        match moved.await {
            // A reset of the position may have come between: then nothing was moved, and the message comes back.
            Ok(Ok(())) if self.comes_back(&receipt) => Ok(AckOutcome::InvalidHandle),
            Ok(Ok(())) => Ok(AckOutcome::Done),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SettleError::ShardFailed),
        }
    }

    /// A different, never empty text for a handle: the same delivery if it is one of ours.
    #[must_use]
    pub fn another_text(&self, handle: &str) -> String {
        self.inner.handles.load().another_text(handle)
    }

    /// Topic and group of a settlement; `None` when the group does not exist but might: then no handle can be its.
    fn place(&self, group: &GroupName, topic: &TopicName) -> Result<Option<Place>, SettleError> {
        if self.inner.handles.load().is_empty() {
            // In a cluster whose keys are not known here yet: to call a good handle bad would be a lie.
            return Err(SettleError::Overloaded);
        }
        let found = self.topic(topic).ok_or_else(|| SettleError::TopicNotFound(topic.clone()))?;
        match self.group(group) {
            Some(group) => Ok(Some((found, group))),
            None if self.inner.options.auto_create_groups => Ok(None),
            None => Err(SettleError::GroupNotFound(group.clone())),
        }
    }

    fn comes_back(&self, receipt: &Receipt) -> bool {
        let core = self.inner.core.lock();
        core.position(receipt.topic, receipt.group, receipt.queue).is_some_and(|position| position <= receipt.offset)
            && !matches!(core.standing(receipt, self.inner.clock.now()), Standing::Done)
    }

    fn open_handle(&self, handle: &str, topic: &Topic, group: &Group) -> Option<Receipt> {
        let (receipt, _) = self.inner.handles.load().open(handle)?;
        belongs(&receipt, topic, group).then_some(receipt)
    }

    /// Settles one message of a delivery that its client never sees, unless somebody else has it by now.
    pub(super) fn settle_silently(
        &self,
        delivery: &Delivery,
        queue: QueueId,
        offset: QueueOffset,
        grant: GrantId,
        reason: SettleReason,
    ) {
        let (topic, group) = (delivery.topic.id, delivery.group.id);
        let mut unit = Unit::state();
        let mut core = self.inner.core.lock();
        // Only while it is ours: the lease may have ended while the disk was read.
        let settled = core.settle_granted(topic, group, queue, offset, grant);
        Core::record_settled(topic, group, reason, settled, &mut unit);
        // Its lane may go on now.
        core.wake_if_deliverable(topic, group);
        if let Err(error) = self.inner.append_settlement(unit) {
            tracing::debug!(%error, "a skipped message is not recorded; it is skipped again after a restart");
        }
    }

    /// Lets a message that could not be read be tried again after [`UNREADABLE_PAUSE`]. One that its client has seen before
    /// stays with it: its handle is good.
    pub(super) fn postpone(&self, delivery: &Delivery, which: (QueueId, QueueOffset, GrantId)) {
        if delivery.is_repeated() {
            return;
        }
        let mut unit = Unit::state();
        let mut core = self.inner.core.lock();
        let visible_at = self.inner.clock.now().plus(UNREADABLE_PAUSE);
        core.postpone(delivery.topic.id, delivery.group.id, which, visible_at, &mut unit);
        if let Err(error) = self.inner.append_settlement(unit) {
            tracing::debug!(%error, "a postponed message is not recorded; after a restart its lease ends as it was granted");
        }
    }
}

type Place = (Arc<Topic>, Arc<Group>);

fn belongs(receipt: &Receipt, topic: &Topic, group: &Group) -> bool {
    receipt.topic == topic.id && receipt.group == group.id
}

pub(super) fn refused(error: &AppendError) -> SettleError {
    match error {
        AppendError::Full { .. } | AppendError::DiskFull(_) | AppendError::TooLarge { .. } => SettleError::Overloaded,
        AppendError::Failed(_) | AppendError::Closed => SettleError::ShardFailed,
    }
}
