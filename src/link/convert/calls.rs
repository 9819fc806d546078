//! What a broker is asked to do.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::broker::api::{
    Ask, Check, ClientId, LeaseWish, LiteAction, LiteStart, LiteSync, Publish, Pull, QueueBoundary, Receive, Resolution,
};
use crate::link::convert::messages::{check_ref_in, check_ref_out, new_message_in, new_message_out};
use crate::link::convert::words::{
    Malformed, count_out, filter_in, filter_out, group_in, group_out, millis, topic_in, topic_out, wanted,
};
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::time::Timestamp;
use crate::wire::broker as wire;
use crate::wire::broker::call::Verb;

/// One verb with all that belongs to it.
#[derive(Clone, Debug)]
pub enum Request {
    /// Store messages.
    Publish(Publish),
    /// Wait for messages.
    Receive(Receive),
    /// Acknowledge.
    Ack(GroupName, TopicName, Vec<String>),
    /// Keep a delivery longer, or put it back.
    Change(GroupName, TopicName, String, Duration),
    /// Put a delivery of a lite topic back.
    Suspend(GroupName, TopicName, String, Duration),
    /// Move a delivery to the dead letters.
    ToDeadLetter(GroupName, TopicName, String),
    /// Take a delayed message back.
    Recall(TopicName, String),
    /// End a transaction.
    EndTransaction(TopicName, String, Resolution),
    /// Whether a group is done with what message groups left under an order that was given up.
    LanesDone(TopicName, GroupName, u32, Vec<u64>),
    /// Whether a transaction is undecided.
    LookAtTransaction(TopicName, String),
    /// Read a queue.
    Pull(Pull),
    /// A place in a queue.
    QueueBoundary(TopicName, QueueId, QueueBoundary),
    /// Where a group stands.
    Offset(GroupName, TopicName, QueueId),
    /// Move a group.
    UpdateOffset(GroupName, TopicName, QueueId, QueueOffset),
    /// Change what a client subscribes to.
    SyncLite(LiteSync),
    /// Topics with transactions to ask about.
    TopicsToCheck,
    /// Transactions to ask about.
    DueChecks(DueChecks),
    /// Count a check as handed over.
    ClaimCheck(Check),
    /// It was not.
    UnclaimCheck(Check),
    /// A client said good-bye.
    ClientTerminated(ClientId),
    /// State in numbers.
    Status,
}

/// Which transactions to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueChecks {
    /// Topic.
    pub topic: TopicName,
    /// Clients that can be asked. Empty: any.
    pub producers: Vec<ClientId>,
    /// Most checks.
    pub max: usize,
    /// Most bytes, unless a single one is larger.
    pub bytes: usize,
}

fn names(group: &GroupName, topic: &TopicName) -> (Option<wire::Name>, Option<wire::Name>) {
    (Some(group_out(group)), Some(topic_out(topic)))
}

/// A verb on its way.
#[must_use]
pub fn request_out(request: Request) -> Verb {
    let nothing = wire::Nothing {};
    match request {
        Request::Publish(Publish { topic, messages }) => Verb::Publish(wire::Publish {
            topic: Some(topic_out(&topic)),
            messages: messages.into_iter().map(new_message_out).collect(),
        }),
        Request::Receive(receive) => Verb::Receive(receive_out(receive)),
        Request::Ack(group, topic, handles) => {
            let (group, topic) = names(&group, &topic);
            Verb::Ack(wire::Ack { group, topic, handles })
        }
        Request::Change(group, topic, handle, duration) => {
            let (group, topic) = names(&group, &topic);
            Verb::Change(wire::Change { group, topic, handle, duration_ms: millis(duration) })
        }
        Request::Suspend(group, topic, handle, duration) => {
            let (group, topic) = names(&group, &topic);
            Verb::Suspend(wire::Change { group, topic, handle, duration_ms: millis(duration) })
        }
        Request::ToDeadLetter(group, topic, handle) => {
            let (group, topic) = names(&group, &topic);
            Verb::ToDeadLetter(wire::Forward { group, topic, handle })
        }
        Request::Recall(topic, handle) => Verb::Recall(wire::Recall { topic: Some(topic_out(&topic)), handle }),
        Request::EndTransaction(topic, id, resolution) => Verb::EndTransaction(wire::EndTransaction {
            topic: Some(topic_out(&topic)),
            id,
            commit: resolution == Resolution::Commit,
        }),
        Request::LanesDone(topic, group, generation, keys) => Verb::LanesDone(wire::LanesDone {
            topic: Some(topic_out(&topic)),
            group: Some(group_out(&group)),
            generation,
            keys,
        }),
        Request::LookAtTransaction(topic, id) => {
            Verb::LookAtTransaction(wire::LookAtTransaction { topic: Some(topic_out(&topic)), id })
        }
        Request::Pull(pull) => Verb::Pull(wire::Pull {
            group: Some(group_out(&pull.group)),
            topic: Some(topic_out(&pull.topic)),
            queue: pull.queue.get(),
            offset: pull.offset.get(),
            filter: Some(filter_out(&pull.filter)),
            batch: count_out(pull.batch),
            wait_ms: millis(pull.wait),
            client: pull.client.0.to_string(),
        }),
        Request::QueueBoundary(topic, queue, which) => {
            let which = match which {
                QueueBoundary::Beginning => wire::queue_boundary::Which::Beginning(nothing),
                QueueBoundary::End => wire::queue_boundary::Which::End(nothing),
                QueueBoundary::At(at) => wire::queue_boundary::Which::AtMs(at.millis()),
            };
            let topic = Some(topic_out(&topic));
            Verb::QueueBoundary(wire::QueueBoundary { topic, queue: queue.get(), which: Some(which) })
        }
        Request::Offset(group, topic, queue) => {
            let (group, topic) = names(&group, &topic);
            Verb::Offset(wire::GetOffset { group, topic, queue: queue.get() })
        }
        Request::UpdateOffset(group, topic, queue, offset) => {
            let (group, topic) = names(&group, &topic);
            Verb::UpdateOffset(wire::UpdateOffset { group, topic, queue: queue.get(), offset: offset.get() })
        }
        Request::SyncLite(sync) => Verb::SyncLite(lite_sync_out(sync)),
        Request::TopicsToCheck => Verb::TopicsToCheck(nothing),
        Request::DueChecks(due) => Verb::DueChecks(wire::DueChecks {
            topic: Some(topic_out(&due.topic)),
            producers: due.producers.into_iter().map(|client| client.0.to_string()).collect(),
            max: count_out(due.max),
            bytes_max: due.bytes as u64,
        }),
        Request::ClaimCheck(check) => Verb::ClaimCheck(check_ref_out(&check)),
        Request::UnclaimCheck(check) => Verb::UnclaimCheck(check_ref_out(&check)),
        Request::ClientTerminated(client) => {
            Verb::ClientTerminated(wire::Client { id: client.0.to_string(), slow: false })
        }
        Request::Status => Verb::Status(nothing),
    }
}

fn client(id: String) -> ClientId {
    ClientId(id.into())
}

/// A verb that arrived.
///
/// # Errors
/// Something is missing, or of another version.
pub fn request_in(verb: Verb) -> Result<Request, Malformed> {
    Ok(match verb {
        Verb::Publish(publish) => Request::Publish(Publish {
            topic: topic_in(publish.topic)?,
            messages: publish.messages.into_iter().map(new_message_in).collect::<Result<_, _>>()?,
        }),
        Verb::Receive(receive) => Request::Receive(receive_in(receive)?),
        Verb::Ack(ack) => Request::Ack(group_in(ack.group)?, topic_in(ack.topic)?, ack.handles),
        Verb::Change(change) => Request::Change(
            group_in(change.group)?,
            topic_in(change.topic)?,
            change.handle,
            Duration::from_millis(change.duration_ms),
        ),
        Verb::Suspend(change) => Request::Suspend(
            group_in(change.group)?,
            topic_in(change.topic)?,
            change.handle,
            Duration::from_millis(change.duration_ms),
        ),
        Verb::ToDeadLetter(forward) => {
            Request::ToDeadLetter(group_in(forward.group)?, topic_in(forward.topic)?, forward.handle)
        }
        Verb::Recall(recall) => Request::Recall(topic_in(recall.topic)?, recall.handle),
        Verb::EndTransaction(end) => {
            let resolution = if end.commit { Resolution::Commit } else { Resolution::Rollback };
            Request::EndTransaction(topic_in(end.topic)?, end.id, resolution)
        }
        Verb::LanesDone(asked) => {
            Request::LanesDone(topic_in(asked.topic)?, group_in(asked.group)?, asked.generation, asked.keys)
        }
        Verb::LookAtTransaction(look) => Request::LookAtTransaction(topic_in(look.topic)?, look.id),
        Verb::Pull(pull) => Request::Pull(Pull {
            group: group_in(pull.group)?,
            topic: topic_in(pull.topic)?,
            queue: QueueId(pull.queue),
            offset: QueueOffset(pull.offset),
            filter: filter_in(pull.filter)?,
            batch: pull.batch as usize,
            wait: Duration::from_millis(pull.wait_ms),
            client: client(pull.client),
        }),
        Verb::QueueBoundary(boundary) => {
            let which = match wanted(boundary.which, "the place in the queue")? {
                wire::queue_boundary::Which::Beginning(_) => QueueBoundary::Beginning,
                wire::queue_boundary::Which::End(_) => QueueBoundary::End,
                wire::queue_boundary::Which::AtMs(at) => QueueBoundary::At(Timestamp(at)),
            };
            Request::QueueBoundary(topic_in(boundary.topic)?, QueueId(boundary.queue), which)
        }
        Verb::Offset(get) => Request::Offset(group_in(get.group)?, topic_in(get.topic)?, QueueId(get.queue)),
        Verb::UpdateOffset(update) => Request::UpdateOffset(
            group_in(update.group)?,
            topic_in(update.topic)?,
            QueueId(update.queue),
            QueueOffset(update.offset),
        ),
        Verb::SyncLite(sync) => Request::SyncLite(lite_sync_in(sync)?),
        Verb::TopicsToCheck(_) => Request::TopicsToCheck,
        Verb::DueChecks(due) => Request::DueChecks(DueChecks {
            topic: topic_in(due.topic)?,
            producers: due.producers.into_iter().map(client).collect(),
            max: due.max as usize,
            bytes: usize::try_from(due.bytes_max).unwrap_or(usize::MAX),
        }),
        Verb::ClaimCheck(place) => Request::ClaimCheck(check_ref_in(place)?),
        Verb::UnclaimCheck(place) => Request::UnclaimCheck(check_ref_in(place)?),
        Verb::ClientTerminated(gone) => Request::ClientTerminated(client(gone.id)),
        Verb::Status(_) => Request::Status,
    })
}

fn receive_out(receive: Receive) -> wire::Receive {
    wire::Receive {
        group: Some(group_out(&receive.group)),
        topic: Some(topic_out(&receive.topic)),
        filter: Some(filter_out(&receive.filter)),
        batch: count_out(receive.batch),
        lease_ms: match receive.lease {
            LeaseWish::Fixed(duration) => Some(millis(duration)),
            LeaseWish::AutoRenew => None,
        },
        wait_ms: millis(receive.wait),
        client: receive.client.0.to_string(),
        attempt_id: receive.attempt_id,
        repeat_only: receive.ask == Ask::RepeatOnly,
    }
}

fn receive_in(receive: wire::Receive) -> Result<Receive, Malformed> {
    let lease = receive.lease_ms.map(Duration::from_millis);
    Ok(Receive {
        group: group_in(receive.group)?,
        topic: topic_in(receive.topic)?,
        filter: filter_in(receive.filter)?,
        batch: receive.batch as usize,
        lease: lease.map_or(LeaseWish::AutoRenew, LeaseWish::Fixed),
        wait: Duration::from_millis(receive.wait_ms),
        client: client(receive.client),
        attempt_id: receive.attempt_id,
        ask: if receive.repeat_only { Ask::RepeatOnly } else { Ask::Messages },
    })
}

fn lite_sync_out(sync: LiteSync) -> wire::LiteSync {
    let nothing = wire::Nothing {};
    let action = match sync.action {
        LiteAction::Add => wire::LiteAction::Add,
        LiteAction::Remove => wire::LiteAction::Remove,
        LiteAction::CompleteAdd => wire::LiteAction::CompleteAdd,
        LiteAction::CompleteRemove => wire::LiteAction::CompleteRemove,
    };
    let place = sync.start.map(|start| match start {
        LiteStart::Last => wire::lite_start::Place::Last(nothing),
        LiteStart::First => wire::lite_start::Place::First(nothing),
        LiteStart::Latest => wire::lite_start::Place::Latest(nothing),
        LiteStart::Offset(offset) => wire::lite_start::Place::Offset(offset.get()),
        LiteStart::Tail(count) => wire::lite_start::Place::Tail(count),
        LiteStart::At(at) => wire::lite_start::Place::AtMs(at.millis()),
    });
    wire::LiteSync {
        client: sync.client.0.to_string(),
        group: Some(group_out(&sync.group)),
        topic: Some(topic_out(&sync.topic)),
        action: action.into(),
        names: sync.names.into_iter().collect(),
        version: sync.version,
        start: place.map(|place| wire::LiteStart { place: Some(place) }),
    }
}

fn lite_sync_in(sync: wire::LiteSync) -> Result<LiteSync, Malformed> {
    let action = match wire::LiteAction::try_from(sync.action) {
        Ok(wire::LiteAction::Add) => LiteAction::Add,
        Ok(wire::LiteAction::Remove) => LiteAction::Remove,
        Ok(wire::LiteAction::CompleteAdd) => LiteAction::CompleteAdd,
        Ok(wire::LiteAction::CompleteRemove) => LiteAction::CompleteRemove,
        Ok(wire::LiteAction::Unspecified) | Err(_) => {
            return Err(Malformed(format!("lite action {}", sync.action)));
        }
    };
    let start = match sync.start {
        None => None,
        Some(start) => Some(match wanted(start.place, "the place where a group begins")? {
            wire::lite_start::Place::Last(_) => LiteStart::Last,
            wire::lite_start::Place::First(_) => LiteStart::First,
            wire::lite_start::Place::Latest(_) => LiteStart::Latest,
            wire::lite_start::Place::Offset(offset) => LiteStart::Offset(QueueOffset(offset)),
            wire::lite_start::Place::Tail(count) => LiteStart::Tail(count),
            wire::lite_start::Place::AtMs(at) => LiteStart::At(Timestamp(at)),
        }),
    };
    Ok(LiteSync {
        client: client(sync.client),
        group: group_in(sync.group)?,
        topic: topic_in(sync.topic)?,
        action,
        names: sync.names.into_iter().collect::<BTreeSet<_>>(),
        version: sync.version,
        start,
    })
}
