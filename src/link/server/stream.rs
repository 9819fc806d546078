//! One stream of one peer: its task.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use tonic::{Status, Streaming};

use crate::broker::api::ClientId;
use crate::link::client::verb_bytes;
use crate::link::convert::calls::{Request, request_in};
use crate::link::convert::greeting::{hello_in, hello_out};
use crate::link::convert::refusals::{malformed, not_done, overloaded};
use crate::link::progress::Progress;
use crate::link::server::outbox::{Done, Outbox};
use crate::link::server::running::run;
use crate::link::server::service::{Known, Shared};
use crate::model::cluster::Revision;
use crate::model::time::Timestamp;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;

/// How often the peer hears of us, and calls whose time is up are ended.
const BEAT: Duration = Duration::from_millis(500);
/// After so much silence the peer is gone, whatever the connection says; also when it took nothing for so long while its answers
/// are more than may wait: messages that it was woken for must not wait with them.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Calls of one stream at once. Callers keep to fewer by themselves.
const CALLS_MAX: usize = 65_536;

/// A call that is not answered yet.
struct UnderWay {
    id: u64,
    work: Work,
}

enum Work {
    /// Done to its end, whoever waits.
    Kept(BoxFuture<'static, Done>),
    /// Can be broken off.
    Waits(Abortable<BoxFuture<'static, Done>>),
}

impl Future for UnderWay {
    type Output = (u64, Done);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        let done = match &mut self.work {
            Work::Kept(work) => work.as_mut().poll(context),
            Work::Waits(work) => Pin::new(work)
                .poll(context)
                .map(|done| done.unwrap_or_else(|_| Done::Outcome(Outcome::Refusal(not_done())))),
        };
        done.map(|done| (id, done))
    }
}

pub struct PeerStream {
    shared: Arc<Shared>,
    number: usize,
    outbox: Arc<Outbox>,
    running: FuturesUnordered<UnderWay>,
    /// Calls that can be broken off, and when their callers stop waiting, by steady time.
    waits: HashMap<u64, (AbortHandle, Timestamp)>,
}

/// Ends the peer's stream however its task ends.
struct Ends(Arc<Outbox>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end(None);
        self.0.unheard();
    }
}

impl PeerStream {
    pub fn new(shared: Arc<Shared>, number: usize, outbox: Arc<Outbox>) -> Self {
        Self { shared, number, outbox, running: FuturesUnordered::new(), waits: HashMap::new() }
    }

    /// Runs until the peer is gone, or this process ends.
    pub async fn serve(mut self, mut incoming: Streaming<wire::ToBroker>, progress: Progress) {
        let _ends = Ends(self.outbox.clone());
        let clock = self.shared.clock.clone();
        let shutdown = self.shared.broker.shutdown().clone();
        let known = tokio::select! {
            biased;
            known = greet(&self.shared, self.number, &self.outbox, &mut incoming) => known,
            () = clock.sleep(SILENCE_MAX) => Err("nobody said hello".to_owned()),
        };
        let known = match known {
            Ok(known) => known,
            Err(words) => {
                tracing::warn!(reason = %words, "a peer is refused");
                return self.outbox.end(Some(Status::failed_precondition(words)));
            }
        };
        let (mut heard, mut took) = (clock.mark(), clock.mark());
        let (mut arrived_so_far, mut taken_so_far) = (progress.arrived(), progress.taken());
        let outbox = self.outbox.clone();
        let mut tick = pin!(clock.sleep(BEAT));
        let mut stopping = pin!(shutdown.stopping());
        loop {
            let has_room = outbox.has_room();
            tokio::select! {
                biased;
                Some((id, done)) = self.running.next(), if has_room => self.finished(id, done, &known),
                arrived = incoming.message() => match arrived {
                    Ok(Some(batch)) => self.arrived(batch),
                    Ok(None) | Err(_) => return,
                },
                () = outbox.changed() => {
                    took = clock.mark();
                    if outbox.is_closed() {
                        return;
                    }
                }
                () = &mut tick => {
                    let (arrived, taken) = (progress.arrived(), progress.taken());
                    if std::mem::replace(&mut taken_so_far, taken) != taken || outbox.has_room() {
                        took = clock.mark();
                    }
                    if std::mem::replace(&mut arrived_so_far, arrived) != arrived {
                        heard = clock.mark();
                    }
                    if heard.elapsed() > SILENCE_MAX || took.elapsed() > SILENCE_MAX {
                        return;
                    }
                    self.end_late(clock.steady());
                    outbox.beat();
                    tick.set(clock.sleep(BEAT));
                }
                () = &mut stopping => return,
            }
        }
    }

    fn arrived(&mut self, batch: wire::ToBroker) {
        let broker = &self.shared.broker;
        for client in batch.alive {
            broker.client_seen(&ClientId(client.id.into()), client.slow);
        }
        if !batch.give_back.is_empty() {
            broker.give_back(&batch.give_back);
        }
        if !batch.handed_on.is_empty() {
            self.outbox.handed_on(&batch.handed_on);
        }
        if !batch.kept.is_empty() {
            self.outbox.kept(&batch.kept);
        }
        for call in batch.calls {
            let id = call.id;
            if let Err(refusal) = self.begin(call) {
                self.outbox.push(id, Done::Outcome(Outcome::Refusal(refusal)));
            }
        }
        // After the calls: one may be cancelled in the same breath.
        for id in batch.cancels {
            match self.waits.get(&id) {
                Some((waits, _)) => waits.abort(),
                None => self.outbox.cancel(id),
            }
        }
    }

    #[expect(clippy::result_large_err, reason = "it becomes an answer at once")]
    fn begin(&mut self, call: wire::Call) -> Result<(), wire::Refusal> {
        let verb = call.verb.ok_or_else(|| malformed("a call of another version".to_owned()))?;
        if call.deadline_ms == 0 {
            return Err(not_done());
        }
        if self.running.len() >= CALLS_MAX {
            return Err(overloaded());
        }
        let share = self.shared.bytes.try_take(verb_bytes(&verb) as u64).ok_or_else(overloaded)?;
        let request = request_in(verb).map_err(|error| malformed(error.to_string()))?;
        let (id, revision) = (call.id, Revision(call.revision));
        let waits = matches!(request, Request::Receive(_) | Request::Pull(_));
        let work = run(self.shared.broker.clone(), request, revision, share);
        if waits {
            let (handle, registration) = AbortHandle::new_pair();
            let until = self.shared.clock.steady().plus(Duration::from_millis(call.deadline_ms.into()));
            self.waits.insert(id, (handle, until));
            self.running.push(UnderWay { id, work: Work::Waits(Abortable::new(work, registration)) });
        } else {
            self.running.push(UnderWay { id, work: Work::Kept(work) });
        }
        Ok(())
    }

    fn finished(&mut self, id: u64, done: Done, known: &Known) {
        self.waits.remove(&id);
        if let Done::Evicted(_, evictions) = &done {
            known.tell_others(evictions);
        }
        self.outbox.push(id, done);
    }

    /// Breaks off what nobody waits for any more.
    fn end_late(&self, now: Timestamp) {
        for (waits, until) in self.waits.values() {
            if *until <= now {
                waits.abort();
            }
        }
    }
}

/// The peer's first word, and ours.
async fn greet(
    shared: &Arc<Shared>,
    number: usize,
    outbox: &Arc<Outbox>,
    incoming: &mut Streaming<wire::ToBroker>,
) -> Result<Known, String> {
    let first = incoming.message().await.map_err(|status| status.message().to_owned())?;
    let hello = first.and_then(|first| first.hello).ok_or("the first word must be hello")?;
    let hello = hello_in(hello).map_err(|error| error.to_string())?;
    shared.who.speaks_with(&hello).map_err(|error| error.to_string())?;
    outbox.hello(hello_out(&shared.who));
    Ok(shared.know(number, &hello, outbox))
}
