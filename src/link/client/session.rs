//! Keeps one stream to a broker: connects, reads, notices silence, and begins again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};

use crate::broker::api::LiteEviction;
use crate::link::client::dial::{BACK_OFF, Dial, MESSAGE_BYTES_MAX};
use crate::link::client::pipe::Pipe;
use crate::link::client::writer::Writer;
use crate::link::convert::greeting::{hello_in, hello_out};
use crate::link::convert::outcomes::eviction_in;
use crate::link::progress::Progress;
use crate::runtime::clock::Clock;
use crate::wire::broker as wire;
use crate::wire::broker::broker_service_client::BrokerServiceClient;

/// How often the other end hears of us, and late callers are let go.
const BEAT: Duration = Duration::from_millis(500);
/// After so much silence the other end is gone, whatever the connection says.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// After so long without a whole message, while bytes arrive, a large one is under way: two signs of life have had to wait for it.
const BUSY_AFTER: Duration = Duration::from_secs(1);
/// Longest time for a connection to come about, greetings included.
const GREETING_MAX: Duration = Duration::from_secs(3);

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An attempt is being made, the first since the start or since the connection broke.
    Trying,
    /// Open.
    Open,
    /// The last attempt failed; others follow.
    Down,
}

/// One stream.
pub struct Session {
    pub dial: Dial,
    pub pipe: Arc<Pipe>,
    pub clock: Clock,
    pub standing: watch::Sender<Standing>,
    pub notices: broadcast::Sender<LiteEviction>,
    pub stop: CancellationToken,
}

impl Session {
    /// Runs until the client is dropped.
    pub async fn run(self) {
        let mut pause = BACK_OFF.0;
        let mut complained = false;
        loop {
            let address = self.dial.address();
            let ended = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                // Nothing is lost by that: a connection that is thrown away before it is open has carried nothing.
                () = self.dial.moved(&address) => Some(Ok(())),
                ended = self.connection(&address) => Some(ended),
            };
            let was_open = self.pipe.is_open();
            self.pipe.end();
            let Some(ended) = ended else { return };
            if was_open {
                pause = BACK_OFF.0;
                complained = false;
            }
            if let Err(words) = ended {
                if was_open || !complained {
                    tracing::warn!(%address, shard = ?self.dial.who.shard, reason = %words, "a broker cannot be reached");
                }
                complained = true;
            }
            self.standing.send_replace(if was_open { Standing::Trying } else { Standing::Down });
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.dial.moved(&address) => {}
                () = self.clock.sleep(pause) => {}
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    /// One connection, from its making to its end.
    async fn connection(&self, address: &str) -> Result<(), String> {
        let progress = Progress::default();
        let mut answers = tokio::select! {
            biased;
            greeted = self.greet(address, &progress) => greeted?,
            () = self.clock.sleep(GREETING_MAX) => return Err("no answer in time".to_owned()),
        };
        tracing::debug!(%address, shard = ?self.dial.who.shard, "connected to a broker");
        let (mut heard, mut arrived_so_far) = (self.clock.mark(), progress.arrived());
        let (mut whole, mut looked, mut taken_so_far) = (self.clock.mark(), self.clock.mark(), progress.taken());
        let mut tick = pin!(self.clock.sleep(BEAT));
        loop {
            tokio::select! {
                biased;
                arrived = answers.message() => match arrived {
                    Ok(Some(batch)) => {
                        whole = self.clock.mark();
                        self.arrived(batch);
                    }
                    Ok(None) => return Err("the broker ended the stream".to_owned()),
                    Err(status) => return Err(status.message().to_owned()),
                },
                () = &mut tick => {
                    let (arrived, taken) = (progress.arrived(), progress.taken());
                    let arrives = std::mem::replace(&mut arrived_so_far, arrived) != arrived;
                    let is_taken = std::mem::replace(&mut taken_so_far, taken) != taken;
                    if arrives {
                        heard = self.clock.mark();
                    }
                    if heard.elapsed() > SILENCE_MAX {
                        return Err("the broker fell silent".to_owned());
                    }
                    // An answer cannot overtake a large message, nor a call: while that moves, nobody waits in vain.
                    if arrives && whole.elapsed() >= BUSY_AFTER || is_taken && self.pipe.beat_waits() {
                        self.pipe.hold(looked.elapsed());
                    }
                    looked = self.clock.mark();
                    self.pipe.beat();
                    self.pipe.expire(self.clock.steady());
                    tick.set(self.clock.sleep(BEAT));
                }
            }
        }
    }

    async fn greet(&self, address: &str, progress: &Progress) -> Result<Streaming<wire::FromBroker>, String> {
        let channel = self.dial.connect(address, progress).await?;
        let mut client = BrokerServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let epoch = self.pipe.begin(hello_out(&self.dial.who));
        let writer = Writer { pipe: self.pipe.clone(), epoch, clock: self.clock.clone() };
        let mut request = Request::new(writer);
        self.dial.trust.stamp(&mut request);
        let said = |status: tonic::Status| status.message().to_owned();
        let mut answers = client.link(request).await.map_err(said)?.into_inner();
        let first = answers.message().await.map_err(said)?.ok_or("the broker ended the stream")?;
        let hello = first.hello.ok_or("the broker did not say who it is")?;
        let hello = hello_in(hello).map_err(|error| error.to_string())?;
        self.dial.who.speaks_with(&hello).map_err(|error| error.to_string())?;
        self.pipe.open(epoch);
        self.standing.send_replace(Standing::Open);
        Ok(answers)
    }

    fn arrived(&self, batch: wire::FromBroker) {
        for eviction in batch.evictions {
            // Nobody listens in a process without clients of lite topics.
            let _ = self.notices.send(eviction_in(eviction));
        }
        if !batch.answers.is_empty() {
            self.pipe.answered(batch.answers);
        }
    }
}
