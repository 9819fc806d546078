//! One stream's calls: what waits to be written, and what was written and waits for its answer. Survives its connections: each
//! begins a new epoch, and what belonged to the one before ends with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::link::client::delivery::FarDelivery;
use crate::link::client::dial::BATCH_BYTES;
use crate::link::convert::outcomes::delivery_in;
use crate::model::cluster::Revision;
use crate::model::time::Timestamp;
use crate::runtime::budget::Share;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;
use crate::wire::broker::call::Verb;

/// Handles that wait to be given back while there is no connection; beyond, leases end by themselves.
const GIVE_BACK_MAX: usize = 16_384;
/// Handles of messages that clients were handed lately. Beyond, the oldest are forgotten: should this connection break, their
/// leases may end early.
const KEPT_MAX: usize = 65_536;
/// Handles in one message.
const KEPT_BATCH: usize = 4_096;
/// Looks at the time after which the broker has surely heard what was said, or the connection has ended: two look at silence for
/// at most 3 s each, and one look is made each 500 ms.
const HEARD_AFTER: u64 = 20;
/// Clients that wait to be reported.
const ALIVE_MAX: usize = 65_536;

/// How a call that was taken ended.
#[derive(Debug)]
pub enum Reply {
    /// The broker did what it was asked.
    Done(Outcome),
    /// Messages.
    Delivery(FarDelivery),
    /// The broker did not do it.
    Refused(wire::Refusal),
    /// The connection ended, or time was up, before the answer came.
    Lost {
        /// Whether the broker may have seen it.
        written: bool,
    },
}

/// Why a call was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// No connection.
    Closed,
    /// As many calls as there may be are under way.
    Full,
}

/// A call to be written.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub verb: Verb,
    /// State of the catalogue that the caller knows.
    pub revision: Revision,
    /// Until when the caller waits, by the clock's steady time.
    pub until: Timestamp,
    /// Whether the broker may be told that the caller is gone.
    pub may_cancel: bool,
    /// Its part of the bytes that may be under way.
    pub share: Option<Share>,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    until: Timestamp,
    may_cancel: bool,
    revision: Revision,
    /// To be written; none once it was.
    verb: Option<Verb>,
    /// None once the caller is gone.
    waiter: Option<oneshot::Sender<Reply>>,
    _share: Option<Share>,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    open: bool,
    hello: Option<wire::Hello>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    queue: VecDeque<u64>,
    serial: u32,
    cancels: Vec<u64>,
    give_back: Vec<String>,
    alive: Vec<wire::Client>,
    beat: bool,
    /// Calls whose messages are with their clients; to be said.
    handed_on: Vec<u64>,
    /// What was said of late, with the number of the look at the time.
    lately: VecDeque<(u64, Vec<String>)>,
    lately_count: usize,
    looks: u64,
    /// What an earlier connection may not have said; to be said.
    kept: VecDeque<String>,
}

/// See the file. Shared by callers, the writer of the present connection, and its reader.
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    writer: AtomicWaker,
    calls_max: usize,
}

/// A caller that waits. Dropped, its call is cancelled.
#[derive(Debug)]
pub struct Waiting {
    pipe: Arc<Pipe>,
    id: u64,
    reply: oneshot::Receiver<Reply>,
}

impl Waiting {
    /// The end of the call.
    pub async fn reply(mut self) -> Reply {
        (&mut self.reply).await.unwrap_or(Reply::Lost { written: true })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pipe.abandon(self.id);
    }
}

fn index_of(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

impl State {
    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        self.slots.get_mut(index_of(id))?.as_mut().filter(|slot| slot.id == id)
    }

    fn take(&mut self, id: u64) -> Option<Slot> {
        let slot = self.slots.get_mut(index_of(id))?.take_if(|slot| slot.id == id)?;
        self.free.push(id as u32);
        Some(slot)
    }

    fn remember(&mut self, handles: Vec<String>) {
        self.lately_count += handles.len();
        self.lately.push_back((self.looks, handles));
        while self.lately_count > KEPT_MAX
            && let Some((_, oldest)) = self.lately.pop_front()
        {
            self.lately_count -= oldest.len();
        }
    }

    fn keep(&mut self, handles: impl IntoIterator<Item = String>) {
        self.kept.extend(handles);
        let over = self.kept.len().saturating_sub(KEPT_MAX);
        self.kept.drain(..over);
    }
}

impl Pipe {
    /// Calls that are not answered yet.
    pub fn under_way(&self) -> usize {
        let state = self.state.lock();
        state.slots.len() - state.free.len()
    }

    pub fn new(calls_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), writer: AtomicWaker::new(), calls_max })
    }

    /// Puts a call into the queue of what is written next.
    pub fn submit(self: &Arc<Self>, order: Order) -> Result<Waiting, NotTaken> {
        let (waiter, reply) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.open {
            return Err(NotTaken::Closed);
        }
        let index = match state.free.pop() {
            Some(index) => index,
            None if state.slots.len() >= self.calls_max => return Err(NotTaken::Full),
            None => {
                state.slots.push(None);
                u32::try_from(state.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        state.serial = state.serial.wrapping_add(1);
        let id = (u64::from(state.serial) << 32) | u64::from(index);
        state.slots[index as usize] = Some(Slot {
            id,
            until: order.until,
            may_cancel: order.may_cancel,
            revision: order.revision,
            verb: Some(order.verb),
            waiter: Some(waiter),
            _share: order.share,
        });
        state.queue.push_back(id);
        drop(state);
        self.writer.wake();
        Ok(Waiting { pipe: self.clone(), id, reply })
    }

    /// The caller is gone.
    fn abandon(&self, id: u64) {
        let mut state = self.state.lock();
        let Some(slot) = state.slot(id) else { return };
        if slot.verb.is_some() {
            // Never written, so never done. Its place in the queue names nothing any more.
            drop(state.take(id));
            return;
        }
        let tell = slot.may_cancel && slot.waiter.take().is_some();
        if tell {
            state.cancels.push(id);
            drop(state);
            self.writer.wake();
        }
    }

    /// Messages that no client was handed.
    pub fn give_back(&self, handles: impl Iterator<Item = String>) {
        let mut state = self.state.lock();
        let room = GIVE_BACK_MAX.saturating_sub(state.give_back.len());
        state.give_back.extend(handles.take(room));
        drop(state);
        self.writer.wake();
    }

    /// Messages that a client was handed, and the call that brought them, if all of it is settled; it came over the connection
    /// number `epoch`.
    pub fn handed_on(&self, epoch: u64, call: Option<u64>, taken: Vec<String>) {
        let mut state = self.state.lock();
        match call {
            Some(call) if state.open && state.epoch == epoch => {
                state.handed_on.push(call);
                if !taken.is_empty() {
                    state.remember(taken);
                }
            }
            _ => state.keep(taken),
        }
        drop(state);
        self.writer.wake();
    }

    /// Number of the present connection, or of the time without one.
    pub fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// Clients that live; `false` without a connection.
    pub fn alive(&self, clients: impl Iterator<Item = wire::Client>) -> bool {
        let mut state = self.state.lock();
        if !state.open {
            return false;
        }
        let room = ALIVE_MAX.saturating_sub(state.alive.len());
        state.alive.extend(clients.take(room));
        drop(state);
        self.writer.wake();
        true
    }

    /// A sign of life is to be written.
    pub fn beat(&self) {
        self.state.lock().beat = true;
        self.writer.wake();
    }

    /// Whether the sign of life before has not been written yet: the transport takes nothing new.
    pub fn beat_waits(&self) -> bool {
        self.state.lock().beat
    }

    /// Gives callers whose calls were written so much more time.
    pub fn hold(&self, time: Duration) {
        let mut state = self.state.lock();
        for slot in state.slots.iter_mut().flatten().filter(|slot| slot.verb.is_none()) {
            slot.until = slot.until.plus(time);
        }
    }

    /// A connection begins, with these words. No call is written before [`Pipe::open`].
    pub fn begin(&self, hello: wire::Hello) -> u64 {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.hello = Some(hello);
        state.epoch
    }

    /// The other end said hello.
    pub fn open(&self, epoch: u64) {
        let mut state = self.state.lock();
        state.open = state.epoch == epoch;
        drop(state);
        self.writer.wake();
    }

    pub fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// The connection ended, and every call of it.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.open = false;
        state.hello = None;
        state.queue.clear();
        state.cancels.clear();
        state.alive.clear();
        state.free.clear();
        state.handed_on.clear();
        // The broker may have heard of these, or not.
        let lately = std::mem::take(&mut state.lately);
        state.lately_count = 0;
        state.keep(lately.into_iter().flat_map(|(_, handles)| handles));
        let slots = std::mem::take(&mut state.slots);
        drop(state);
        self.writer.wake();
        for slot in slots.into_iter().flatten() {
            if let Some(waiter) = slot.waiter {
                let _ = waiter.send(Reply::Lost { written: slot.verb.is_none() });
            }
        }
    }

    /// Lets go of callers whose time is up.
    pub fn expire(&self, now: Timestamp) {
        let mut late = Vec::new();
        let mut state = self.state.lock();
        state.looks += 1;
        while let Some((_, heard)) = {
            let looks = state.looks;
            state.lately.pop_front_if(|(said, _)| *said + HEARD_AFTER < looks)
        } {
            state.lately_count -= heard.len();
        }
        for slot in state.slots.iter_mut().flatten().filter(|slot| slot.until <= now) {
            if let Some(waiter) = slot.waiter.take() {
                late.push((slot.id, slot.verb.is_none(), slot.may_cancel, waiter));
            }
        }
        for (id, written, may_cancel, _) in &late {
            if !written {
                drop(state.take(*id));
            } else if *may_cancel {
                state.cancels.push(*id);
            }
        }
        drop(state);
        self.writer.wake();
        for (_, written, _, waiter) in late {
            let _ = waiter.send(Reply::Lost { written });
        }
    }

    /// Answers that arrived.
    pub fn answered(self: &Arc<Self>, answers: Vec<wire::Answer>) {
        let mut taken = Vec::with_capacity(answers.len());
        let mut state = self.state.lock();
        let epoch = state.epoch;
        for answer in answers {
            // One that nobody asked for is from a broken peer, and harmless.
            if let Some(slot) = state.take(answer.id) {
                taken.push((answer.id, slot.waiter, answer.outcome));
            }
        }
        drop(state);
        for (id, waiter, outcome) in taken {
            let reply = self.reply(epoch, id, outcome);
            // Dropped with its messages when nobody waits: they go back.
            if let Some(waiter) = waiter {
                let _ = waiter.send(reply);
            }
        }
    }

    fn reply(self: &Arc<Self>, epoch: u64, id: u64, outcome: Option<Outcome>) -> Reply {
        match outcome {
            Some(Outcome::Refusal(refusal)) => Reply::Refused(refusal),
            Some(outcome @ Outcome::Delivery(_)) => match delivery_in(outcome) {
                Some(brought) => Reply::Delivery(FarDelivery::new(brought, epoch, id, self)),
                None => Reply::Lost { written: true },
            },
            Some(outcome) => Reply::Done(outcome),
            // Of another version.
            None => Reply::Lost { written: true },
        }
    }

    /// What the writer of `epoch` sends next: `None` at the end of the epoch, an empty message never, except as a sign of life.
    pub fn next_batch(
        &self,
        epoch: u64,
        now: Timestamp,
        waker: &std::task::Waker,
    ) -> std::task::Poll<Option<wire::ToBroker>> {
        use std::task::Poll;
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return Poll::Ready(None);
        }
        // Under the lock, and only for the present connection: a writer of an earlier one that is looked at late would take the
        // place of the one that is to be woken.
        self.writer.register(waker);
        if let Some(hello) = state.hello.take() {
            return Poll::Ready(Some(wire::ToBroker { hello: Some(hello), ..wire::ToBroker::default() }));
        }
        if !state.open {
            return Poll::Pending;
        }
        let mut batch = wire::ToBroker {
            cancels: std::mem::take(&mut state.cancels),
            give_back: std::mem::take(&mut state.give_back),
            alive: std::mem::take(&mut state.alive),
            handed_on: std::mem::take(&mut state.handed_on),
            ..wire::ToBroker::default()
        };
        if !state.kept.is_empty() {
            let count = state.kept.len().min(KEPT_BATCH);
            batch.kept = state.kept.drain(..count).collect();
            // Until it has surely been heard.
            state.remember(batch.kept.clone());
        }
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let Some(id) = state.queue.pop_front() else { break };
            let Some(slot) = state.slot(id) else { continue };
            let Some(verb) = slot.verb.take() else { continue };
            bytes += verb_bytes(&verb);
            let left = slot.until.since(now).as_millis();
            let deadline_ms = u32::try_from(left).unwrap_or(u32::MAX);
            batch.calls.push(wire::Call { id, deadline_ms, revision: slot.revision.0, verb: Some(verb) });
        }
        let is_empty = batch.calls.is_empty()
            && batch.cancels.is_empty()
            && batch.give_back.is_empty()
            && batch.alive.is_empty()
            && batch.handed_on.is_empty()
            && batch.kept.is_empty();
        if is_empty && !state.beat {
            return Poll::Pending;
        }
        state.beat = false;
        Poll::Ready(Some(batch))
    }
}

/// About how large a call is.
pub fn verb_bytes(verb: &Verb) -> usize {
    const SMALL: usize = 128;
    match verb {
        Verb::Publish(publish) => {
            let message = |message: &wire::NewMessage| SMALL + message.rest.len() + message.system_static.len();
            publish.messages.iter().map(message).sum()
        }
        Verb::Ack(ack) => SMALL * ack.handles.len().max(1),
        Verb::SyncLite(sync) => SMALL + sync.names.iter().map(String::len).sum::<usize>(),
        _ => SMALL,
    }
}
