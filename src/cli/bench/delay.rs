//! `bench delay`: many messages that fall due within one second, and how late each is in a waiting consumer's hand.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;

use crate::cli::bench::client::{Identity, Target};
use crate::cli::bench::consume::Consumer;
use crate::cli::bench::progress::Progress;
use crate::cli::bench::report::{Measured, Report, note};
use crate::cli::bench::send::{Messages, delayed, send};

/// Messages in one request.
const SEND_BATCH: u64 = 64;
/// Run and due time at the head of each body.
const STAMP_BYTES: usize = 16;
/// How long after the last due time a message may arrive before the run calls it lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// What to send, and when it falls due.
#[derive(Clone, Debug)]
pub struct Delays {
    /// Server.
    pub target: Target,
    /// As whom to receive.
    pub consumer: Consumer,
    /// Receives that wait at a time.
    pub receivers: usize,
    /// Messages.
    pub messages: u64,
    /// Time from now until the first falls due; everything must be stored by then.
    pub lead: Duration,
    /// Time over which they fall due.
    pub spread: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
}

struct Run<'a> {
    delays: &'a Delays,
    number: u64,
    over: AtomicBool,
    arrived: AtomicU64,
    early: AtomicU64,
    measured: Mutex<Measured>,
}

/// Runs it. Arrivals before their time count as errors.
///
/// # Errors
/// The server cannot be reached, or sending took longer than the lead.
pub fn run(delays: &Delays, settings: String, quiet: bool) -> Result<Report> {
    let run = Run {
        delays,
        number: uuid::Uuid::new_v4().as_u64_pair().0,
        over: AtomicBool::new(false),
        arrived: AtomicU64::new(0),
        early: AtomicU64::new(0),
        measured: Mutex::new(Measured::default()),
    };
    let progress = Progress::new("delay", quiet);
    let begin = Instant::now();
    let sent = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| run.receive_side());
        let sent = run.send_and_wait(&progress);
        run.over.store(true, Ordering::Release);
        let received = receiving.join().unwrap_or_else(|_| bail!("the receiving thread panicked"));
        sent.and_then(|sent| received.map(|()| sent))
    })?;
    let mut measured = std::mem::take(&mut *run.measured.lock());
    measured.elapsed = begin.elapsed();
    measured.messages = run.arrived.load(Ordering::Acquire);
    let early = run.early.load(Ordering::Acquire);
    let lost = sent.saturating_sub(measured.messages);
    measured.errors += early + lost;
    if early + lost > 0 {
        measured.first_error.get_or_insert(format!("{early} messages came early, {lost} did not come"));
    }
    Ok(Report::new("delay", &delays.target.endpoint, format!("{settings}, {early} early"), &measured))
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl Run<'_> {
    fn send_and_wait(&self, progress: &Progress) -> Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let delays = self.delays;
            let mut client = delays.target.connect().await?;
            let (messages, identity) = (Messages::new(&delays.consumer.topic, STAMP_BYTES), Identity::new(1));
            let first = now() + delays.lead;
            let begin = Instant::now();
            let mut sent = 0;
            while sent < delays.messages {
                let count = SEND_BATCH.min(delays.messages - sent);
                let one = |number: u64| {
                    let due = first + delays.spread.mul_f64(number as f64 / delays.messages as f64);
                    // To the millisecond, as the server keeps it.
                    let due = Duration::from_millis(due.as_millis() as u64);
                    let mut body = BytesMut::with_capacity(delays.body_bytes.max(STAMP_BYTES));
                    body.put_u64(self.number);
                    body.put_u64(due.as_millis() as u64);
                    body.resize(delays.body_bytes.max(STAMP_BYTES), 0x5a);
                    delayed(messages.with_body(number, body.freeze()), due)
                };
                send(&mut client, &identity, (sent..sent + count).map(one).collect(), false).await?;
                sent += count;
                progress.tick(begin.elapsed(), sent, || 0);
            }
            if now() >= first {
                bail!("storing {sent} messages took longer than the lead of {:?}; give more", delays.lead);
            }
            let lost_at = first + delays.spread + LOST_AFTER;
            while self.arrived.load(Ordering::Acquire) < sent && now() < lost_at {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let arrived = self.arrived.load(Ordering::Relaxed);
                progress.tick(begin.elapsed(), arrived, || self.measured.lock().latencies.value_at_quantile(0.99));
            }
            Ok(sent)
        })
    }

    fn failed(&self, error: &anyhow::Error) {
        let mut measured = self.measured.lock();
        measured.errors += 1;
        measured.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    fn receive_side(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.delays.target.connect().await.context("for receiving")?;
            let receivers = (0..self.delays.receivers.max(1)).map(|_| {
                let mut client = client.clone();
                async move {
                    while !self.over.load(Ordering::Acquire) {
                        if let Err(error) = self.receive_once(&mut client).await {
                            self.failed(&error);
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            });
            let all = futures::future::join_all(receivers);
            let over = async {
                while !self.over.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                biased;
                () = over => {}
                _ = all => {}
            }
            Ok(())
        })
    }

    async fn receive_once(&self, client: &mut crate::cli::bench::client::Client) -> Result<()> {
        let received = self.delays.consumer.receive(client).await?;
        let at = now();
        let mut mine = 0;
        for one in &received {
            let mut body = &one.body[..];
            if body.len() < STAMP_BYTES || body.get_u64() != self.number {
                continue;
            }
            let due = Duration::from_millis(body.get_u64());
            if at < due {
                self.early.fetch_add(1, Ordering::Relaxed);
            }
            note(&mut self.measured.lock().latencies, at.saturating_sub(due));
            mine += 1;
        }
        if !received.is_empty() {
            self.delays.consumer.ack(client, &received).await?;
        }
        self.arrived.fetch_add(mine, Ordering::AcqRel);
        Ok(())
    }
}
