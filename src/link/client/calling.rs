//! One call from its first attempt to its end: which stream, how long, and what may be asked twice.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select_all;

use crate::broker::api::{AckOutcome, ChangeOutcome};
use crate::link::client::failure::Failure;
use crate::link::client::pipe::{NotTaken, Order, Pipe, Reply, verb_bytes};
use crate::link::client::session::Standing;
use crate::link::client::shard::ShardClient;
use crate::link::convert::calls::{Request, request_out};
use crate::link::convert::outcomes;
use crate::link::convert::refusals::{Refused, is_not_done};
use crate::model::time::Timestamp;
use crate::runtime::tasks::current_lane;

/// Longest wait of a call that may not be repeated for a connection that is being made.
const CONNECTING_MAX: Duration = Duration::from_secs(2);

/// What a call may do.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How long its caller waits for the answer.
    pub patience: Duration,
    /// How long it may wait for a connection while the broker is away.
    pub connects_for: Duration,
    /// Whether being done twice is the same as once.
    pub repeats: bool,
    /// Whether it may be broken off at the broker.
    pub may_cancel: bool,
}

/// Whether a broker says that a handle is not valid.
fn denies(reply: &Reply) -> bool {
    let Reply::Done(outcome) = reply else { return false };
    outcomes::acked_in(outcome.clone()).is_some_and(|acked| acked.contains(&AckOutcome::InvalidHandle))
        || outcomes::changed_in(outcome.clone()) == Some(ChangeOutcome::InvalidHandle)
}

impl ShardClient {
    /// Asks, again if that does no harm, until there is an answer or time is up. `request` is told how much of the patience is
    /// left.
    pub(super) async fn ask<E: Refused + std::fmt::Debug + std::fmt::Display>(
        &self,
        request: Request,
        manner: Manner,
    ) -> Result<Reply, Failure<E>> {
        let clock = &self.inner.clock;
        let began = clock.steady();
        let until = began.plus(manner.patience);
        let mut may_be_done = false;
        let mut request = Some(request);
        loop {
            let Some(pipe) = self.connected(until, manner).await else {
                return Err(if may_be_done { Failure::Unknown } else { Failure::Away });
            };
            let this = if manner.repeats { request.clone() } else { request.take() };
            let Some(mut this) = this else { return Err(Failure::Away) };
            if let Request::Receive(receive) = &mut this {
                receive.wait = receive.wait.saturating_sub(clock.steady().since(began));
            }
            let verb = request_out(this);
            let bytes = verb_bytes(&verb) as u64;
            let Some(share) = self.inner.bytes.try_take(bytes) else {
                return Err(Failure::Refused(E::overloaded()));
            };
            let order = Order {
                verb,
                revision: (self.inner.revisions)(),
                until,
                may_cancel: manner.may_cancel,
                share: Some(share),
            };
            let reply = match pipe.submit(order) {
                Ok(waiting) => waiting.reply().await,
                Err(NotTaken::Full) => return Err(Failure::Refused(E::overloaded())),
                Err(NotTaken::Closed) => Reply::Lost { written: false },
            };
            match reply {
                Reply::Lost { written } => {
                    may_be_done |= written;
                    if !manner.repeats || clock.steady() >= until {
                        return Err(if may_be_done { Failure::Unknown } else { Failure::Away });
                    }
                }
                Reply::Refused(refusal) if is_not_done(&refusal) => {
                    return Err(if may_be_done { Failure::Unknown } else { Failure::Away });
                }
                Reply::Refused(refusal) => {
                    let text = refusal.text.clone();
                    return Err(match E::back(refusal) {
                        Some(error) => Failure::Refused(error),
                        None => {
                            tracing::warn!(%text, "a broker refused a call in words that this version does not know");
                            Failure::Unknown
                        }
                    });
                }
                // The first time may have done it, and so made the handle bad for the second.
                reply if may_be_done && denies(&reply) => return Err(Failure::Unknown),
                reply => return Ok(reply),
            }
        }
    }

    /// An open stream, by preference that of the caller's own lane.
    pub(super) fn open_pipe(&self) -> Option<&Arc<Pipe>> {
        let pipes = &self.inner.pipes;
        let own = current_lane() % pipes.len();
        let in_turn = (0..pipes.len()).map(|step| &pipes[(own + step) % pipes.len()]);
        in_turn.into_iter().find(|pipe| pipe.is_open())
    }

    /// An open stream, once there is one. The wait counts from here: what broke a call off may have taken its time.
    async fn connected(&self, until: Timestamp, manner: Manner) -> Option<&Arc<Pipe>> {
        let began = self.inner.clock.steady();
        loop {
            if let Some(pipe) = self.open_pipe() {
                return Some(pipe);
            }
            let tries = self.inner.standings.iter().any(|standing| *standing.borrow() == Standing::Trying);
            let most = match (tries, manner.repeats) {
                (true, _) => manner.connects_for.max(CONNECTING_MAX),
                (false, true) => manner.connects_for,
                (false, false) => Duration::ZERO,
            };
            let now = self.inner.clock.steady();
            let left = most.checked_sub(now.since(began))?.min(until.since(now));
            if left.is_zero() {
                return None;
            }
            let changes = self.inner.standings.iter().map(|standing| {
                let mut standing = standing.clone();
                // What came before the look is known already.
                standing.mark_unchanged();
                Box::pin(async move {
                    let _ = standing.changed().await;
                })
            });
            // A change between the look and here is seen by the next look at the latest when this slice of time is over.
            let slice = left.min(Duration::from_millis(20));
            tokio::select! {
                biased;
                _ = select_all(changes) => {}
                () = self.inner.clock.sleep(slice) => {}
            }
        }
    }
}
