//! Publish: each message to the shard it belongs to. What surely was not stored is sent again, elsewhere if it may go there; what
//! may have been stored is not: its client is told so, and decides.

use std::pin::pin;
use std::time::Duration;

use futures::future::join_all;

use crate::broker::api::{Publish, PublishError, Published};
use crate::broker::check_kinds;
use crate::link::client::Failure;
use crate::link::cluster::Cluster;
use crate::link::cluster::patience::Waiting;
use crate::link::cluster::plan::{Part, Place, parts, turns};
use crate::model::cluster::{Placement, Revision, View};
use crate::model::message::NewMessage;
use crate::model::name::TopicName;
use crate::model::position::ShardId;

/// Longest wait for a newer view after a shard said that a message group has moved.
const MOVED_WAIT: Duration = Duration::from_millis(250);

/// What became of a part.
#[derive(Debug)]
enum Sent {
    Stored(Vec<Published>),
    /// Surely not stored; it may work in a moment.
    Later(PublishError),
    /// Surely not stored; the shards are about to change.
    Moved,
    Failed(PublishError),
}

impl Cluster {
    /// See [`Brokers::publish`](crate::link::Brokers::publish). Messages of several shards are stored by each of them for itself:
    /// when one fails and others are stored, what became of the whole is unknown.
    pub async fn publish(&self, publish: Publish, patience: Duration) -> Result<Vec<Published>, PublishError> {
        let Publish { topic: name, messages } = publish;
        let mut waiting = Waiting::new(&self.inner.clock, patience);
        let mut published = vec![Published::default(); messages.len()];
        let mut pending: Vec<usize> = (0..messages.len()).collect();
        let turn = self.turn();
        let mut any_stored = false;
        loop {
            let view = self.view();
            let topic = view.topics.get(&name).ok_or_else(|| PublishError::TopicNotFound(name.clone()))?;
            if !topic.permission.writable {
                return Err(PublishError::NotWritable(name));
            }
            let placement = self.placement(&view, topic);
            let split = parts(topic, &placement, &messages, &pending).ok_or(PublishError::Unavailable)?;
            if split.len() > 1 {
                // A bad message must not leave the others of its request behind on other shards.
                check_kinds(topic, &messages)?;
            }
            let one = |part: Part| {
                let (view, placement, messages, waiting, name) = (&view, &placement, &messages, &waiting, &name);
                async move {
                    let chosen = part.indices.iter().map(|&index| messages[index].clone()).collect();
                    let sent = self.send(&part, name, chosen, (view, placement), turn, waiting).await;
                    (part, sent)
                }
            };
            // Most have one place to go to, and need no company of futures that are moved about.
            let sent = match <[Part; 1]>::try_from(split) {
                Ok([part]) => vec![one(part).await],
                Err(split) => join_all(split.into_iter().map(one)).await,
            };
            let (mut first_error, mut first_failure) = (None, None);
            let mut has_moved = false;
            pending.clear();
            for (part, sent) in sent {
                match sent {
                    Sent::Stored(places) => {
                        part.indices.iter().zip(places).for_each(|(&index, place)| published[index] = place);
                        any_stored = true;
                    }
                    Sent::Failed(error) => {
                        first_failure.get_or_insert(in_request(error, &part));
                    }
                    Sent::Moved => {
                        has_moved = true;
                        pending.extend(part.indices);
                    }
                    Sent::Later(error) => {
                        first_error.get_or_insert(error);
                        pending.extend(part.indices);
                    }
                }
            }
            if let Some(failure) = first_failure {
                return Err(of_whole(failure, any_stored));
            }
            if pending.is_empty() {
                return Ok(published);
            }
            pending.sort_unstable();
            if has_moved {
                let bound = waiting.left().min(MOVED_WAIT);
                self.inner.route.reached(Revision(view.revision.0 + 1), bound).await;
            }
            if !waiting.pause().await {
                return Err(of_whole(first_error.unwrap_or(PublishError::Unavailable), any_stored));
            }
        }
    }

    async fn send(
        &self,
        part: &Part,
        name: &TopicName,
        messages: Vec<NewMessage>,
        (view, placement): (&View, &Placement),
        turn: u64,
        waiting: &Waiting,
    ) -> Sent {
        let shards = match part.place {
            Place::Owner(owner) => vec![owner],
            Place::Any => turns(placement, view, turn, |shard| self.inner.pool.is_connected(shard)),
        };
        let is_free = part.place == Place::Any;
        let mut error = PublishError::Unavailable;
        let mut messages = messages;
        let last = shards.len().saturating_sub(1);
        for (index, shard) in shards.into_iter().enumerate() {
            let these = if index == last { std::mem::take(&mut messages) } else { messages.clone() };
            let publish = Publish { topic: name.clone(), messages: these };
            match self.send_to(shard, publish, waiting).await {
                Ok(places) => return Sent::Stored(places),
                Err(Failure::Away) => {}
                // Whoever waits a moment may find room again; who asks for his place in an order must be told to slow down.
                Err(Failure::Refused(full @ (PublishError::Overloaded | PublishError::DiskFull))) => error = full,
                Err(Failure::Refused(PublishError::Moved)) => return Sent::Moved,
                // The view has this topic: the shard has not heard of it yet.
                Err(Failure::Refused(PublishError::TopicNotFound(_))) => {}
                Err(Failure::Refused(refused)) => return Sent::Failed(refused),
                Err(Failure::Unknown) => return Sent::Failed(PublishError::ShardFailed),
            }
            if !is_free || waiting.left().is_zero() {
                break;
            }
        }
        match error {
            PublishError::Unavailable => Sent::Later(error),
            full => Sent::Failed(full),
        }
    }

    async fn send_to(
        &self,
        shard: ShardId,
        publish: Publish,
        waiting: &Waiting,
    ) -> Result<Vec<Published>, Failure<PublishError>> {
        let Some(client) = self.inner.pool.client(shard) else { return Err(Failure::Away) };
        let was_connected = client.is_connected();
        // Stays where it is: it is large, and would be moved on its way through.
        let publishing = pin!(client.publish(publish));
        match waiting.within(publishing).await {
            Some(answer) => answer,
            // It waited for a connection, and was never sent.
            None if !was_connected && !client.is_connected() => Err(Failure::Away),
            None => Err(Failure::Unknown),
        }
    }
}

/// What a client hears of a request of which some messages are stored and others surely not: a refusal would say that nothing is.
fn of_whole(failure: PublishError, any_stored: bool) -> PublishError {
    if any_stored { PublishError::ShardFailed } else { failure }
}

/// Names the place in the whole request.
fn in_request(error: PublishError, part: &Part) -> PublishError {
    match error {
        PublishError::TypeConflict { topic, expected, found, index } => {
            let index = part.indices.get(index).copied().unwrap_or(index);
            PublishError::TypeConflict { topic, expected, found, index }
        }
        other => other,
    }
}
