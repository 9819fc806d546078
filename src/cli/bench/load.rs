//! Keeps a number of calls in flight over a number of connections, for a time or for a number of messages.
//!
//! Two threads at most, each with a single-threaded runtime and its share of the connections: the machine is usually shared
//! with the server under test.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::cli::bench::client::{Client, Target};
use crate::cli::bench::cpu;
use crate::cli::bench::progress::Progress;
use crate::cli::bench::report::{Measured, latencies, note};

/// Threads of the measuring side.
const THREADS_MAX: usize = 2;
/// Failures in a row, without one success, after which a run gives up.
const HOPELESS_AFTER: u64 = 256;

/// Shape of a load.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub target: Target,
    /// Connections.
    pub connections: usize,
    /// Calls in flight, over all connections.
    pub in_flight: usize,
    /// Messages per second; none: as fast as the answers come.
    pub rate: Option<f64>,
    /// Messages in one call.
    pub batch: u64,
    /// Time before the counting begins.
    pub warmup: Duration,
    /// Counted time.
    pub duration: Option<Duration>,
    /// Counted messages.
    pub messages: Option<u64>,
    /// Processes whose CPU is observed.
    pub cpu_of: Vec<u32>,
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    messages: AtomicU64,
    errors: AtomicU64,
    in_a_row: AtomicU64,
    tickets: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl Shared {
    fn failed(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.first_error.lock().get_or_insert_with(|| format!("{error:#}"));
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) >= HOPELESS_AFTER {
            self.phase.store(OVER, Ordering::Release);
        }
    }
}

/// Runs `call` over and over. It gets a connection and the number of its worker, and makes one call.
///
/// # Errors
/// A connection cannot be opened. Failed calls are counted instead.
pub fn run<F, Fut>(load: &Load, progress: &Progress, call: F) -> Result<Measured>
where
    F: Fn(Client, usize) -> Fut + Clone + Send + Sync,
    Fut: Future<Output = Result<()>>,
{
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(if load.warmup.is_zero() { COUNTING } else { WARMING }),
        messages: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        in_a_row: AtomicU64::new(0),
        tickets: AtomicU64::new(load.messages.map_or(u64::MAX, |messages| messages.div_ceil(load.batch))),
        first_error: Mutex::new(None),
    });
    let threads = load.connections.clamp(1, THREADS_MAX);
    std::thread::scope(|scope| {
        let mut recorders = Vec::new();
        let mut running = Vec::new();
        for thread in 0..threads {
            let recorder = Arc::new(Mutex::new(latencies()));
            recorders.push(recorder.clone());
            let (shared, call) = (shared.clone(), call.clone());
            running.push(scope.spawn(move || drive(load, thread, threads, &shared, &recorder, &call)));
        }
        let mut measured = observe(load, progress, &shared, &recorders, || running.iter().all(|one| one.is_finished()));
        for thread in running {
            thread.join().map_err(|_| anyhow!("a load thread panicked"))??;
        }
        for recorder in recorders {
            let _ = measured.latencies.add(&*recorder.lock());
        }
        measured.first_error = shared.first_error.lock().take();
        Ok(measured)
    })
}

/// Lets time pass, tells the progress, and marks the counted part.
fn observe(
    load: &Load,
    progress: &Progress,
    shared: &Shared,
    recorders: &[Arc<Mutex<Histogram<u64>>>],
    ended: impl Fn() -> bool,
) -> Measured {
    let tick = Duration::from_millis(20);
    let warm_until = Instant::now() + load.warmup;
    while Instant::now() < warm_until && !ended() {
        std::thread::sleep(tick.min(warm_until.saturating_duration_since(Instant::now())));
    }
    let cpu_before = cpu::used_by_all(&load.cpu_of);
    let begin = Instant::now();
    // A run that gave up while it warmed stays over.
    let _ = shared.phase.compare_exchange(WARMING, COUNTING, Ordering::AcqRel, Ordering::Acquire);
    while !ended() && load.duration.is_none_or(|duration| begin.elapsed() < duration) {
        let left = load.duration.map_or(tick, |duration| duration.saturating_sub(begin.elapsed()));
        std::thread::sleep(tick.min(left));
        progress.tick(begin.elapsed(), shared.messages.load(Ordering::Relaxed), || {
            recorders.first().map_or(0, |first| first.lock().value_at_quantile(0.99))
        });
    }
    let elapsed = begin.elapsed();
    let messages = shared.messages.load(Ordering::Acquire);
    shared.phase.store(OVER, Ordering::Release);
    let cpu_after = cpu::used_by_all(&load.cpu_of);
    Measured {
        messages,
        errors: shared.errors.load(Ordering::Relaxed),
        elapsed,
        cpu: cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before)),
        ..Measured::default()
    }
}

fn drive<F, Fut>(
    load: &Load,
    thread: usize,
    threads: usize,
    shared: &Arc<Shared>,
    recorder: &Arc<Mutex<Histogram<u64>>>,
    call: &F,
) -> Result<()>
where
    F: Fn(Client, usize) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in (thread..load.connections.max(1)).step_by(threads) {
            clients.push(load.target.connect().await.inspect_err(|_| shared.phase.store(OVER, Ordering::Release))?);
        }
        let begin = Instant::now();
        let mut workers = futures::stream::FuturesUnordered::new();
        for worker in (thread..load.in_flight.max(1)).step_by(threads) {
            let client = clients[(worker / threads) % clients.len()].clone();
            workers.push(work(load, worker, begin, client, shared, recorder, call));
        }
        while futures::StreamExt::next(&mut workers).await.is_some() {}
        Ok(())
    })
}

async fn work<F, Fut>(
    load: &Load,
    worker: usize,
    begin: Instant,
    client: Client,
    shared: &Shared,
    recorder: &Mutex<Histogram<u64>>,
    call: &F,
) where
    F: Fn(Client, usize) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let pause =
        load.rate.map(|rate| Duration::from_secs_f64((load.in_flight as f64 * load.batch as f64 / rate).min(3600.0)));
    let mut due = begin + pause.unwrap_or_default().mul_f64(worker as f64 / load.in_flight as f64);
    loop {
        let mut start = Instant::now();
        if let Some(pause) = pause {
            if due > start {
                tokio::time::sleep_until(due.into()).await;
                start = Instant::now();
            } else {
                // Late because the answer before was: the wait belongs to this call.
                start = due;
            }
            due += pause;
        }
        let phase = shared.phase.load(Ordering::Acquire);
        if phase == OVER || (phase == COUNTING && take_ticket(&shared.tickets).is_none()) {
            return;
        }
        let answer = call(client.clone(), worker).await;
        let counted = phase == COUNTING && shared.phase.load(Ordering::Acquire) == COUNTING;
        match answer {
            Ok(()) => {
                shared.in_a_row.store(0, Ordering::Relaxed);
                if counted {
                    note(&mut recorder.lock(), start.elapsed());
                    shared.messages.fetch_add(load.batch, Ordering::AcqRel);
                }
            }
            Err(error) => shared.failed(&error),
        }
    }
}

fn take_ticket(tickets: &AtomicU64) -> Option<u64> {
    tickets.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).ok()
}
