//! The broker of one shard, as a process elsewhere calls it.

use std::fmt;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::broker::api::{
    AckOutcome, BrokerStatus, ChangeOutcome, Check, ClientId, LiteError, LiteEviction, LiteSync, OffsetError, Publish,
    PublishError, Published, Pull, Pulled, QueueBoundary, RecallError, Receive, ReceiveError, Resolution, SettleError,
    TransactionError,
};
use crate::link::client::calling::Manner;
use crate::link::client::delivery::FarDelivery;
use crate::link::client::dial::Dial;
use crate::link::client::failure::Failure;
use crate::link::client::pipe::{Pipe, Reply};
use crate::link::client::session::{Session, Standing};
use crate::link::convert::calls::{DueChecks, Request};
use crate::link::convert::outcomes;
use crate::link::convert::refusals::{Never, Refused};
use crate::model::cluster::Revision;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{QueueId, QueueOffset};
use crate::runtime::budget::Budget;
use crate::runtime::clock::Clock;
use crate::runtime::tasks::Tasks;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;

/// Streams to one broker.
const STREAMS: usize = 2;
/// How long the answer to a call may take that waits for the disk at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer than the wait that was asked for the answer may take.
const BEYOND_WAIT: Duration = Duration::from_secs(3);
/// How long a call that may be repeated waits for a broker that is away.
const CONNECTS_FOR: Duration = Duration::from_secs(3);
/// Evictions that a slow listener may be behind.
const NOTICES: usize = 1_024;

/// State of the catalogue that this process knows, asked for with each call.
pub type Revisions = Arc<dyn Fn() -> Revision + Send + Sync>;

/// Cheap handle. The connection ends with the last clone.
#[derive(Clone)]
pub struct ShardClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub pipes: Vec<Arc<Pipe>>,
    pub standings: Vec<watch::Receiver<Standing>>,
    pub clock: Clock,
    pub bytes: Budget,
    pub revisions: Revisions,
    notices: broadcast::Sender<LiteEviction>,
    _stop: DropGuard,
}

impl fmt::Debug for ShardClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardClient(connected: {})", self.is_connected())
    }
}

/// May be done twice, and broken off.
const QUESTION: Manner = Manner { patience: PATIENCE, connects_for: CONNECTS_FOR, repeats: true, may_cancel: true };
/// May be done twice, but not broken off: its caller may be gone and still want it.
const SETTLEMENT: Manner = Manner { may_cancel: false, ..QUESTION };
/// Done twice is not the same.
const ONCE: Manner = Manner { repeats: false, may_cancel: false, ..QUESTION };

fn done<T, E: Debug + Display>(reply: Reply, read: impl FnOnce(Outcome) -> Option<T>) -> Result<T, Failure<E>> {
    let outcome = match reply {
        Reply::Done(outcome) => Some(outcome),
        _ => None,
    };
    outcome.and_then(read).ok_or_else(|| {
        tracing::warn!("a broker answered in a form that this version does not know");
        Failure::Unknown
    })
}

impl ShardClient {
    /// Begins to connect, and stays connected as well as it can.
    #[must_use]
    pub fn connect(dial: Dial, revisions: Revisions, clock: Clock, tasks: &Tasks) -> Self {
        let stop = CancellationToken::new();
        let notices = broadcast::Sender::new(NOTICES);
        let (mut pipes, mut standings) = (Vec::new(), Vec::new());
        for stream in 0..STREAMS {
            let pipe = Pipe::new(dial.bounds.calls_max);
            let (standing, watched) = watch::channel(Standing::Trying);
            let session = Session {
                dial: dial.clone(),
                pipe: pipe.clone(),
                clock: clock.clone(),
                standing,
                notices: notices.clone(),
                stop: stop.clone(),
            };
            drop(tasks.spawn_on_lane(stream, session.run()));
            pipes.push(pipe);
            standings.push(watched);
        }
        let bytes = Budget::new(dial.bounds.bytes_max);
        let inner = Inner { pipes, standings, clock, bytes, revisions, notices, _stop: stop.drop_guard() };
        Self { inner: Arc::new(inner) }
    }

    /// Whether calls can go out at once.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.open_pipe().is_some()
    }

    /// Calls that are not answered yet, long polls among them.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.inner.pipes.iter().map(|pipe| pipe.under_way()).sum()
    }

    /// Clients that lost a lite topic to a subscriber at another process, from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<LiteEviction> {
        self.inner.notices.subscribe()
    }

    async fn asked<T, E: Refused + Debug + Display>(
        &self,
        request: Request,
        manner: Manner,
        read: impl FnOnce(Outcome) -> Option<T>,
    ) -> Result<T, Failure<E>> {
        done(self.ask(request, manner).await?, read)
    }

    /// Stores messages of one topic.
    ///
    /// # Errors
    /// [`Failure::Away`]: surely not stored; [`Failure::Unknown`]: perhaps.
    pub async fn publish(&self, publish: Publish) -> Result<Vec<Published>, Failure<PublishError>> {
        self.asked(Request::Publish(publish), ONCE, outcomes::places_in).await
    }

    /// Waits for messages. When this is dropped, nothing stays delivered.
    ///
    /// # Errors
    /// Nothing was delivered; of [`Failure::Unknown`] what may have been comes again when its lease ends.
    pub async fn receive(&self, receive: Receive) -> Result<FarDelivery, Failure<ReceiveError>> {
        let patience = receive.wait.saturating_add(BEYOND_WAIT);
        let manner = Manner { patience, connects_for: receive.wait, ..QUESTION };
        match self.ask(Request::Receive(receive), manner).await? {
            Reply::Delivery(delivery) => Ok(delivery),
            _ => Err(Failure::Unknown),
        }
    }

    /// Acknowledges deliveries, one outcome each, in order.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ack(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handles: &[String],
    ) -> Result<Vec<AckOutcome>, Failure<SettleError>> {
        let request = Request::Ack(group.clone(), topic.clone(), handles.to_vec());
        let wanted = handles.len();
        let read = |outcome| outcomes::acked_in(outcome).filter(|outcomes| outcomes.len() == wanted);
        self.asked(request, SETTLEMENT, read).await
    }

    /// Keeps a delivery with its client for `duration` from now, or puts it back at once with zero.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn change_invisible(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
    ) -> Result<ChangeOutcome, Failure<SettleError>> {
        let request = Request::Change(group.clone(), topic.clone(), handle.to_owned(), duration);
        self.asked(request, SETTLEMENT, outcomes::changed_in).await
    }

    /// Puts a delivery of a lite topic back for `duration` without counting an attempt.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn suspend(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
        duration: Duration,
    ) -> Result<ChangeOutcome, Failure<SettleError>> {
        let request = Request::Suspend(group.clone(), topic.clone(), handle.to_owned(), duration);
        self.asked(request, SETTLEMENT, outcomes::changed_in).await
    }

    /// Moves a delivery to the group's dead-letter topic.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn to_dead_letter(
        &self,
        group: &GroupName,
        topic: &TopicName,
        handle: &str,
    ) -> Result<AckOutcome, Failure<SettleError>> {
        let request = Request::ToDeadLetter(group.clone(), topic.clone(), handle.to_owned());
        let read = |outcome| outcomes::acked_in(outcome)?.pop();
        self.asked(request, SETTLEMENT, read).await
    }

    /// Takes a delayed message back.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn recall(&self, topic: &TopicName, handle: &str) -> Result<String, Failure<RecallError>> {
        let request = Request::Recall(topic.clone(), handle.to_owned());
        self.asked(request, ONCE, outcomes::recalled_in).await
    }

    /// Ends a transaction.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn end_transaction(
        &self,
        topic: &TopicName,
        id: &str,
        resolution: Resolution,
    ) -> Result<(), Failure<TransactionError>> {
        let request = Request::EndTransaction(topic.clone(), id.to_owned(), resolution);
        self.asked(request, SETTLEMENT, outcomes::done_in).await
    }

    /// Whether a transaction is undecided.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn look_at_transaction(&self, topic: &TopicName, id: &str) -> Result<(), Failure<TransactionError>> {
        let request = Request::LookAtTransaction(topic.clone(), id.to_owned());
        self.asked(request, QUESTION, outcomes::done_in).await
    }

    /// Messages of one queue.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn pull(&self, pull: Pull) -> Result<Pulled, Failure<OffsetError>> {
        let patience = pull.wait.saturating_add(BEYOND_WAIT);
        self.asked(Request::Pull(pull), Manner { patience, ..QUESTION }, outcomes::pulled_in).await
    }

    /// A place in a queue.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn queue_boundary(
        &self,
        topic: &TopicName,
        queue: QueueId,
        which: QueueBoundary,
    ) -> Result<QueueOffset, Failure<OffsetError>> {
        self.asked(Request::QueueBoundary(topic.clone(), queue, which), QUESTION, outcomes::offset_in).await
    }

    /// Where a group stands in a queue.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn offset(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
    ) -> Result<QueueOffset, Failure<OffsetError>> {
        self.asked(Request::Offset(group.clone(), topic.clone(), queue), QUESTION, outcomes::offset_in).await
    }

    /// Moves a group in a queue.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn update_offset(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<(), Failure<OffsetError>> {
        let request = Request::UpdateOffset(group.clone(), topic.clone(), queue, offset);
        self.asked(request, SETTLEMENT, outcomes::done_in).await
    }

    /// Changes what a client subscribes to; who lost a lite topic by it is to be told by whoever is connected to it. Other
    /// processes that are linked to this broker hear of it as well.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn sync_lite(&self, sync: LiteSync) -> Result<Vec<LiteEviction>, Failure<LiteError>> {
        self.asked(Request::SyncLite(sync), SETTLEMENT, outcomes::evictions_in).await
    }

    /// Whether a group is done with what message groups left there under an order of shards that was given up; one for each key.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn lanes_done(
        &self,
        topic: TopicName,
        group: GroupName,
        generation: u32,
        keys: Vec<u64>,
    ) -> Result<Vec<bool>, Failure<Never>> {
        let manner = Manner { connects_for: Duration::from_secs(1), ..QUESTION };
        self.asked(Request::LanesDone(topic, group, generation, keys), manner, outcomes::lanes_in).await
    }

    /// Topics with transactions whose producers are to be asked now, and some of the clients that sent such ones.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn topics_to_check(&self) -> Result<Vec<(TopicName, Vec<ClientId>)>, Failure<Never>> {
        let manner = Manner { connects_for: Duration::ZERO, ..QUESTION };
        self.asked(Request::TopicsToCheck, manner, outcomes::topics_in).await
    }

    /// Some of what is to be asked now about a topic: at most `max` of together `bytes` bytes, one larger than that alone. Those
    /// that a live client sent which is not among `producers` are left to the process which that one is connected to; empty means
    /// that anyone can be asked. Each must be claimed, and handed over at once.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn due_checks(
        &self,
        topic: &TopicName,
        producers: &[ClientId],
        max: usize,
        bytes: usize,
    ) -> Result<Vec<Check>, Failure<Never>> {
        let due = DueChecks { topic: topic.clone(), producers: producers.to_vec(), max, bytes };
        let manner = Manner { connects_for: Duration::ZERO, may_cancel: false, ..ONCE };
        self.asked(Request::DueChecks(due), manner, outcomes::checks_in).await
    }

    /// Counts a check as handed over; false when there is no more to ask about, or the broker is away.
    pub async fn claim_check(&self, check: &Check) -> bool {
        let request = Request::ClaimCheck(check.clone());
        self.asked::<bool, Never>(request, ONCE, outcomes::claimed_in).await.unwrap_or(false)
    }

    /// A check that was claimed, or only taken, was not handed over.
    pub async fn unclaim_check(&self, check: &Check) {
        let request = Request::UnclaimCheck(check.clone());
        if let Err(error) = self.asked::<(), Never>(request, SETTLEMENT, outcomes::done_in).await {
            tracing::debug!(%error, "a check that reached nobody counts as one that did");
        }
    }

    /// Clients that are connected here or were heard of lately; the second says that one heartbeats every 30 s only. `false`: it
    /// was not sent. What was may be lost all the same, with its connection: see [`ShardClient::connections`].
    pub fn clients_alive(&self, clients: Vec<(ClientId, bool)>) -> bool {
        let clients = clients.into_iter().map(|(client, slow)| wire::Client { id: client.0.to_string(), slow });
        self.open_pipe().is_some_and(|pipe| pipe.alive(clients))
    }

    /// Changes whenever a connection begins or ends.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.inner.pipes.iter().map(|pipe| pipe.epoch()).sum()
    }

    /// A client said good-bye: what it holds by auto-renewal returns at once.
    ///
    /// # Errors
    /// See [`Failure`]; its session ends by itself.
    pub async fn client_terminated(&self, client: &ClientId) -> Result<(), Failure<Never>> {
        self.asked(Request::ClientTerminated(client.clone()), SETTLEMENT, outcomes::done_in).await
    }

    /// State in numbers.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status(&self) -> Result<BrokerStatus, Failure<Never>> {
        let manner = Manner { connects_for: Duration::ZERO, ..QUESTION };
        self.asked(Request::Status, manner, outcomes::status_in).await
    }
}
