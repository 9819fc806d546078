//! `bench e2e`: time from the begin of a send until a waiting receive has the message; and `bench nack`: time from giving a
//! message back until a waiting receive has it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cli::bench::client::{Client, Identity, Target};
use crate::cli::bench::consume::{Consumer, Received};
use crate::cli::bench::cpu;
use crate::cli::bench::progress::Progress;
use crate::cli::bench::report::{Measured, Report, note};
use crate::cli::bench::send::{Messages, send};

/// How long a message may take to arrive before the run calls it lost.
const LOST_AFTER: Duration = Duration::from_secs(15);
/// Run number and send time at the head of each body.
const STAMP_BYTES: usize = 16;
/// Pause before each message of an idle run: the receive of the round before has come back and waits again.
const IDLE_PAUSE: Duration = Duration::from_millis(50);

/// What to send through, and how.
#[derive(Clone, Debug)]
pub struct Through {
    /// Server.
    pub target: Target,
    /// As whom to receive.
    pub consumer: Consumer,
    /// Receives that wait at a time.
    pub receivers: usize,
    /// Messages per second; none: one at a time on an idle server.
    pub rate: Option<f64>,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Time before the counting begins.
    pub warmup: Duration,
    /// Counted time.
    pub duration: Duration,
    /// Most messages.
    pub messages: Option<u64>,
    /// Processes whose CPU is observed.
    pub cpu_of: Vec<u32>,
}

struct Run<'a> {
    through: &'a Through,
    messages: Messages,
    identity: Identity,
    /// Stamps count from here; a body with another run's number is an older message.
    begin: Instant,
    number: u64,
    counting: AtomicBool,
    over: AtomicBool,
    sent: AtomicU64,
    arrived: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    measured: Mutex<Measured>,
}

/// Runs it.
///
/// # Errors
/// The server cannot be reached.
pub fn run(through: &Through, settings: String, quiet: bool) -> Result<Report> {
    let run = Arc::new(Run {
        through,
        messages: Messages::new(&through.consumer.topic, STAMP_BYTES),
        identity: Identity::new(1),
        begin: Instant::now(),
        number: u64::from(std::process::id()) << 32 | u64::from(rand_word()),
        counting: AtomicBool::new(false),
        over: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        arrived: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        first_error: Mutex::new(None),
        measured: Mutex::new(Measured::default()),
    });
    let progress = Progress::new("e2e", quiet);
    std::thread::scope(|scope| {
        let receiving = {
            let run = run.clone();
            scope.spawn(move || run.receive_side())
        };
        let sent = run.send_side(&progress);
        run.over.store(true, Ordering::Release);
        let received = receiving.join().unwrap_or_else(|_| bail!("the receiving thread panicked"));
        sent.and(received)
    })?;
    let mut measured = std::mem::take(&mut *run.measured.lock());
    measured.errors = run.errors.load(Ordering::Acquire);
    measured.first_error = run.first_error.lock().take();
    Ok(Report::new(
        if through.rate.is_some() { "e2e" } else { "e2e idle" },
        &through.target.endpoint,
        settings,
        &measured,
    ))
}

fn rand_word() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

impl Run<'_> {
    fn failed(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.first_error.lock().get_or_insert_with(|| format!("{error:#}"));
    }

    fn stamped(&self, number: u64) -> crate::wire::rocketmq::Message {
        let mut body = BytesMut::with_capacity(self.through.body_bytes.max(STAMP_BYTES));
        body.put_u64(self.number);
        body.put_u64(u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        body.resize(self.through.body_bytes.max(STAMP_BYTES), 0x5a);
        self.messages.with_body(number, body.freeze())
    }

    fn send_side(&self, progress: &Progress) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.through.target.connect().await?;
            // The receives must be waiting before the first message goes out.
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.send_for(client.clone(), self.through.warmup, None, progress).await;
            self.counting.store(true, Ordering::Release);
            let cpu_before = cpu::used_by_all(&self.through.cpu_of);
            let (begin, arrived) = (Instant::now(), self.arrived.load(Ordering::Acquire));
            self.send_for(client, self.through.duration, self.through.messages, progress).await;
            let elapsed = begin.elapsed();
            let cpu_after = cpu::used_by_all(&self.through.cpu_of);
            let lost_at = Instant::now() + LOST_AFTER;
            while self.arrived.load(Ordering::Acquire) < self.sent.load(Ordering::Acquire) && Instant::now() < lost_at {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let lost = self.sent.load(Ordering::Acquire).saturating_sub(self.arrived.load(Ordering::Acquire));
            if lost > 0 {
                self.failed(&anyhow::anyhow!("{lost} messages did not arrive in {LOST_AFTER:?}"));
            }
            let mut measured = self.measured.lock();
            measured.elapsed = elapsed;
            measured.messages = self.arrived.load(Ordering::Acquire) - arrived;
            measured.cpu = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
            Ok(())
        })
    }

    async fn send_for(&self, client: Client, duration: Duration, messages: Option<u64>, progress: &Progress) {
        let begin = Instant::now();
        let mut under_way = futures::stream::FuturesUnordered::new();
        let mut count = 0u64;
        while begin.elapsed() < duration && messages.is_none_or(|messages| count < messages) {
            let pause = self.through.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(0.001)));
            let due = match pause {
                Some(pause) => begin + pause.mul_f64(count as f64),
                None => Instant::now() + IDLE_PAUSE,
            };
            let mut timer = std::pin::pin!(tokio::time::sleep_until(due.into()));
            loop {
                tokio::select! {
                    biased;
                    Some(()) = futures::StreamExt::next(&mut under_way), if !under_way.is_empty() => {}
                    () = &mut timer => break,
                }
            }
            let number = self.sent.load(Ordering::Relaxed) + self.errors.load(Ordering::Relaxed);
            count += 1;
            let mut client = client.clone();
            under_way.push(async move {
                let message = self.stamped(number);
                // Counted before it can arrive.
                self.sent.fetch_add(1, Ordering::AcqRel);
                if let Err(error) = send(&mut client, &self.identity, vec![message], false).await {
                    self.sent.fetch_sub(1, Ordering::AcqRel);
                    self.failed(&error);
                }
            });
            progress.tick(begin.elapsed(), self.arrived.load(Ordering::Relaxed), || {
                self.measured.lock().latencies.value_at_quantile(0.99)
            });
        }
        while futures::StreamExt::next(&mut under_way).await.is_some() {}
    }

    fn receive_side(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.through.target.connect().await?;
            let receivers = (0..self.through.receivers.max(1)).map(|_| {
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
            // Receives that still wait are cancelled: nothing more is expected.
            tokio::select! {
                biased;
                () = over => {}
                _ = all => {}
            }
            Ok(())
        })
    }

    async fn receive_once(&self, client: &mut Client) -> Result<()> {
        let received = self.through.consumer.receive(client).await?;
        let at = self.begin.elapsed();
        let counting = self.counting.load(Ordering::Acquire);
        let mut mine = 0;
        for one in &received {
            let mut body = &one.body[..];
            if body.len() < STAMP_BYTES || body.get_u64() != self.number {
                continue;
            }
            let sent = Duration::from_nanos(body.get_u64());
            if counting {
                note(&mut self.measured.lock().latencies, at.saturating_sub(sent));
            }
            mine += 1;
        }
        self.arrived.fetch_add(mine, Ordering::AcqRel);
        if !received.is_empty() {
            self.through.consumer.ack(client, &received).await?;
        }
        Ok(())
    }
}

/// Gives `rounds` messages back, one at a time, and times their return to a receive that waits.
///
/// # Errors
/// The server cannot be reached, or a message does not come back.
pub fn run_nack(target: &Target, consumer: &Consumer, rounds: u64, settings: String, quiet: bool) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = target.connect().await?;
        let (arrivals, mut arrived) = mpsc::channel::<(Instant, Received)>(64);
        let receiving = {
            let (mut client, consumer) = (target.connect().await?, consumer.clone());
            tokio::spawn(async move {
                loop {
                    for one in consumer.receive(&mut client).await? {
                        if arrivals.send((Instant::now(), one)).await.is_err() {
                            return anyhow::Ok(());
                        }
                    }
                }
            })
        };
        let progress = Progress::new("nack", quiet);
        let (messages, identity) = (Messages::new(&consumer.topic, 1024), Identity::new(2));
        let mut measured = Measured::default();
        let begin = Instant::now();
        for round in 0..rounds {
            let message = messages.one(round);
            let id =
                message.system_properties.as_ref().map(|properties| properties.message_id.clone()).unwrap_or_default();
            send(&mut client, &identity, vec![message], false).await?;
            let (_, first) = next(&mut arrived, &id, consumer, &mut client).await?;
            // Long enough for the receive to wait again.
            tokio::time::sleep(IDLE_PAUSE).await;
            let start = Instant::now();
            consumer.nack(&mut client, &first).await?;
            let (back, again) = next(&mut arrived, &id, consumer, &mut client).await?;
            note(&mut measured.latencies, back.saturating_duration_since(start));
            measured.messages += 1;
            consumer.ack(&mut client, std::slice::from_ref(&again)).await?;
            progress.tick(begin.elapsed(), measured.messages, || measured.latencies.value_at_quantile(0.99));
        }
        receiving.abort();
        measured.elapsed = begin.elapsed();
        Ok(Report::new("nack", &target.endpoint, settings, &measured))
    })
}

/// The next arrival of one message; others, left from earlier runs, are acknowledged.
async fn next(
    arrived: &mut mpsc::Receiver<(Instant, Received)>,
    id: &str,
    consumer: &Consumer,
    client: &mut Client,
) -> Result<(Instant, Received)> {
    loop {
        match tokio::time::timeout(LOST_AFTER, arrived.recv()).await {
            Ok(Some((at, one))) if one.message_id == id => return Ok((at, one)),
            Ok(Some((_, other))) => consumer.ack(client, &[other]).await?,
            Ok(None) => bail!("receiving ended"),
            Err(_) => bail!("the message did not come back in {LOST_AFTER:?}"),
        }
    }
}
