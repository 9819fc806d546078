//! What goes to one peer: answers, news, signs of life. Made into messages when the transport can take the next.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Status;

use crate::broker::api::LiteEviction;
use crate::broker::{Broker, Delivery};
use crate::link::convert::outcomes::{delivery_out, eviction_out};
use crate::link::convert::refusals::not_done;
use crate::link::server::unseen::Unseen;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;

/// Bytes that may wait for a peer; beyond, nothing more is finished for it.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of small answers in one message.
const BATCH_BYTES: usize = 1024 * 1024;
/// News that may wait for a peer; beyond, the oldest go.
const EVICTIONS_MAX: usize = 4_096;
/// What an answer costs beside its bodies, about.
const SMALL: usize = 128;

/// What a call came to.
#[derive(Debug)]
pub enum Done {
    /// An answer.
    Outcome(Outcome),
    /// Messages; they return by themselves if they are never written.
    Delivery(Delivery),
    /// Who lost a lite topic; others are to hear of it.
    Evicted(Outcome, Vec<LiteEviction>),
}

impl Done {
    fn bytes(&self) -> usize {
        let messages = |messages: &[wire::Delivered]| {
            let bodies = messages.iter().filter_map(|message| message.message.as_ref());
            bodies.map(|body| SMALL + body.rest.len() + body.system_static.len()).sum::<usize>()
        };
        SMALL
            + match self {
                Self::Delivery(delivery) => delivery.len() * SMALL + delivery.bytes(),
                Self::Outcome(Outcome::Pulled(pulled)) => messages(&pulled.messages),
                Self::Outcome(Outcome::Checks(checks)) => {
                    let bodies = checks.checks.iter().filter_map(|check| check.message.as_ref());
                    bodies.map(|body| SMALL + body.rest.len() + body.system_static.len()).sum()
                }
                Self::Outcome(_) | Self::Evicted(..) => 0,
            }
    }
}

#[derive(Debug, Default)]
struct State {
    hello: Option<wire::Hello>,
    answers: VecDeque<(u64, Done, usize)>,
    bytes: usize,
    evictions: VecDeque<wire::LiteEviction>,
    beat: bool,
    /// Why the stream ends, once it does.
    end: Option<Option<Status>>,
    /// The transport let go of the stream.
    is_closed: bool,
}

/// See the file.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    writer: AtomicWaker,
    /// There is room again, or the transport let go.
    changed: Notify,
    broker: Broker,
    /// Number of the stream.
    number: usize,
    unseen: Arc<Mutex<Unseen>>,
}

impl Outbox {
    /// Of the stream of this number.
    pub fn new(broker: Broker, number: usize, unseen: Arc<Mutex<Unseen>>) -> Self {
        Self { state: Mutex::default(), writer: AtomicWaker::new(), changed: Notify::new(), broker, number, unseen }
    }

    /// The peer reports that clients have what these calls brought.
    pub fn handed_on(&self, calls: &[u64]) {
        let mut unseen = self.unseen.lock();
        calls.iter().for_each(|&call| unseen.handed_on(self.number, call));
    }

    /// The peer reports that clients have what it was sent over an earlier stream, whose end may not have been noticed yet.
    pub fn kept(&self, handles: &[String]) {
        // Held all the time: between the end of that stream and what follows from it nothing may come.
        let mut unseen = self.unseen.lock();
        let kept = self.broker.keep(handles);
        unseen.kept(kept);
    }

    /// The peer reports nothing any more: what it was sent and has not reported must not stay with clients that may not have it.
    pub fn unheard(&self) {
        let mut unseen = self.unseen.lock();
        let lost = unseen.ended(self.number);
        if !lost.is_empty() {
            tracing::debug!(
                messages = lost.len(),
                "a peer went without saying whether clients have what it was sent for them"
            );
            self.broker.end_early(&lost);
        }
    }

    /// Who speaks.
    pub fn hello(&self, hello: wire::Hello) {
        self.state.lock().hello = Some(hello);
        self.writer.wake();
    }

    /// What a call came to.
    pub fn push(&self, id: u64, done: Done) {
        let bytes = done.bytes();
        let mut state = self.state.lock();
        state.bytes += bytes;
        state.answers.push_back((id, done, bytes));
        drop(state);
        self.writer.wake();
    }

    /// The caller is gone: messages that were not written return.
    pub fn cancel(&self, id: u64) {
        let mut state = self.state.lock();
        let found = state.answers.iter_mut().find(|(other, done, _)| *other == id && matches!(done, Done::Delivery(_)));
        let returned = found.map(|(_, done, _)| std::mem::replace(done, Done::Outcome(Outcome::Refusal(not_done()))));
        drop(state);
        drop(returned);
    }

    /// News for clients of the peer.
    pub fn evicted(&self, evictions: &[LiteEviction]) {
        let mut state = self.state.lock();
        state.evictions.extend(evictions.iter().map(eviction_out));
        let over = state.evictions.len().saturating_sub(EVICTIONS_MAX);
        state.evictions.drain(..over);
        drop(state);
        self.writer.wake();
    }

    /// A sign of life is to be written.
    pub fn beat(&self) {
        self.state.lock().beat = true;
        self.writer.wake();
    }

    /// The stream ends when everything is written.
    pub fn end(&self, status: Option<Status>) {
        let mut state = self.state.lock();
        state.end.get_or_insert(status);
        drop(state);
        self.writer.wake();
    }

    pub fn has_room(&self) -> bool {
        self.state.lock().bytes < WAITING_BYTES_MAX
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Resolves when there may be room again, or the transport let go. To be asked again.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn next_message(&self, context: &Context<'_>) -> Poll<Option<Result<wire::FromBroker, Status>>> {
        // Before the look: what comes between the two must wake.
        self.writer.register(context.waker());
        let mut state = self.state.lock();
        if let Some(hello) = state.hello.take() {
            return Poll::Ready(Some(Ok(wire::FromBroker { hello: Some(hello), ..wire::FromBroker::default() })));
        }
        let mut batch = Vec::new();
        let had_room = state.bytes < WAITING_BYTES_MAX;
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let Some((id, done, size)) = state.answers.pop_front() else { break };
            bytes += size;
            batch.push((id, done));
        }
        state.bytes -= bytes;
        if !had_room && state.bytes < WAITING_BYTES_MAX {
            self.changed.notify_one();
        }
        let evictions: Vec<_> = state.evictions.drain(..).collect();
        if batch.is_empty() && evictions.is_empty() && !state.beat {
            return match state.end.take() {
                Some(status) => {
                    // Nothing comes after the end, however often it is asked for.
                    state.end = Some(None);
                    Poll::Ready(status.map(Err))
                }
                None => Poll::Pending,
            };
        }
        state.beat = false;
        drop(state);
        let answers =
            batch.into_iter().map(|(id, done)| wire::Answer { id, outcome: Some(self.written(id, done)) }).collect();
        Poll::Ready(Some(Ok(wire::FromBroker { hello: None, answers, evictions })))
    }

    /// From here on messages are the peer's.
    fn written(&self, id: u64, done: Done) -> Outcome {
        match done {
            Done::Outcome(outcome) | Done::Evicted(outcome, _) => outcome,
            Done::Delivery(mut delivery) => {
                let repeated_attempt = delivery.is_repeated();
                let renewed = delivery.renewed();
                let report = !renewed.is_empty();
                if report {
                    self.unseen.lock().sent(self.number, id, renewed, repeated_attempt);
                }
                delivery_out(std::iter::from_fn(|| delivery.next()), repeated_attempt, report)
            }
        }
    }
}

/// The messages of one stream, as the transport takes them.
#[derive(Debug)]
pub struct Writer(pub Arc<Outbox>);

impl Stream for Writer {
    type Item = Result<wire::FromBroker, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.next_message(context)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_closed = true;
        let answers = std::mem::take(&mut state.answers);
        state.bytes = 0;
        drop(state);
        self.0.changed.notify_one();
        // Their messages return.
        drop(answers);
        // Also what was written after the stream's task had ended.
        self.0.unheard();
    }
}
