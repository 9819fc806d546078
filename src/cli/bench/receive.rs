//! `bench receive`: takes a backlog and acknowledges it, several receives at a time, and shows whether the rate stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use parking_lot::Mutex;

use crate::cli::bench::client::{Client, Target};
use crate::cli::bench::consume::Consumer;
use crate::cli::bench::cpu;
use crate::cli::bench::progress::Progress;
use crate::cli::bench::report::{Measured, Report, note};

const THREADS_MAX: usize = 2;
const SLICES: usize = 10;

/// What to drain, and how.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Where from.
    pub target: Target,
    /// As whom.
    pub consumer: Consumer,
    /// Connections.
    pub connections: usize,
    /// Receives in flight.
    pub parallel: usize,
    /// Ends after so many messages; none: when a receive comes back empty.
    pub messages: Option<u64>,
    /// Ends after so long.
    pub duration: Option<Duration>,
    /// Processes whose CPU is observed.
    pub cpu_of: Vec<u32>,
}

#[derive(Debug)]
struct Shared {
    begin: Instant,
    over: AtomicBool,
    acked: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// When each batch was acknowledged, and how large it was.
    batches: Mutex<Vec<(Duration, u64)>>,
    measured: Mutex<Measured>,
}

/// Runs it, and shows whether the rate stays flat.
///
/// # Errors
/// The server cannot be reached.
pub fn run(drain: &Drain, settings: String, quiet: bool) -> Result<Report> {
    let (measured, batches) = take_all(drain, &Progress::new("receive", quiet))?;
    let mut report = Report::new("receive", &drain.target.endpoint, settings, &measured);
    report.slices_per_second = slices(&batches);
    Ok(report)
}

/// Runs it as one side of a comparison.
///
/// # Errors
/// The server cannot be reached, or calls failed.
pub fn measure(drain: &Drain, progress: &Progress) -> Result<Measured> {
    let (measured, _) = take_all(drain, progress)?;
    match &measured.first_error {
        Some(error) => Err(anyhow!("{} receives or acks failed, the first with: {error}", measured.errors)),
        None => Ok(measured),
    }
}

fn take_all(drain: &Drain, progress: &Progress) -> Result<(Measured, Vec<(Duration, u64)>)> {
    let shared = Arc::new(Shared {
        begin: Instant::now(),
        over: AtomicBool::new(false),
        acked: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        first_error: Mutex::new(None),
        batches: Mutex::new(Vec::new()),
        measured: Mutex::new(Measured::default()),
    });
    let cpu_before = cpu::used_by_all(&drain.cpu_of);
    let threads = drain.connections.clamp(1, THREADS_MAX);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let shared = shared.clone();
                scope.spawn(move || drain_on_thread(drain, thread, threads, &shared))
            })
            .collect();
        while !running.iter().all(|one| one.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
            let elapsed = shared.begin.elapsed();
            progress.tick(elapsed, shared.acked.load(Ordering::Relaxed), || {
                shared.measured.lock().latencies.value_at_quantile(0.99)
            });
            if drain.duration.is_some_and(|limit| elapsed >= limit) {
                shared.over.store(true, Ordering::Release);
            }
        }
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a receive thread panicked"))?)
    })?;
    let cpu_after = cpu::used_by_all(&drain.cpu_of);
    let mut batches = std::mem::take(&mut *shared.batches.lock());
    batches.sort_unstable();
    let mut measured = std::mem::take(&mut *shared.measured.lock());
    measured.messages = shared.acked.load(Ordering::Acquire);
    measured.errors = shared.errors.load(Ordering::Acquire);
    measured.first_error = shared.first_error.lock().take();
    // The empty receives at the end waited for nothing; the work ended with the last ack.
    measured.elapsed = batches.last().map_or(Duration::ZERO, |&(at, _)| at);
    measured.cpu = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before));
    Ok((measured, batches))
}

fn drain_on_thread(drain: &Drain, thread: usize, threads: usize, shared: &Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in (thread..drain.connections.max(1)).step_by(threads) {
            clients.push(drain.target.connect().await.inspect_err(|_| shared.over.store(true, Ordering::Release))?);
        }
        let workers = (thread..drain.parallel.max(1)).step_by(threads).map(|worker| {
            let client = clients[(worker / threads) % clients.len()].clone();
            work(drain, client, shared)
        });
        futures::future::join_all(workers).await;
        Ok(())
    })
}

async fn work(drain: &Drain, mut client: Client, shared: &Shared) {
    while !shared.over.load(Ordering::Acquire) {
        let start = Instant::now();
        let result = async {
            let received = drain.consumer.receive(&mut client).await?;
            if !received.is_empty() {
                drain.consumer.ack(&mut client, &received).await?;
            }
            anyhow::Ok(received.len() as u64)
        };
        match result.await {
            Ok(0) => {
                if drain.messages.is_none() {
                    shared.over.store(true, Ordering::Release);
                }
            }
            Ok(count) => {
                shared.batches.lock().push((shared.begin.elapsed(), count));
                note(&mut shared.measured.lock().latencies, start.elapsed());
                let acked = shared.acked.fetch_add(count, Ordering::AcqRel) + count;
                if drain.messages.is_some_and(|wanted| acked >= wanted) {
                    shared.over.store(true, Ordering::Release);
                }
            }
            Err(error) => {
                shared.first_error.lock().get_or_insert_with(|| format!("{error:#}"));
                if shared.errors.fetch_add(1, Ordering::AcqRel) >= 64 {
                    shared.over.store(true, Ordering::Release);
                }
            }
        }
    }
}

/// Messages per second in ten parts of equal count.
fn slices(batches: &[(Duration, u64)]) -> Vec<f64> {
    let total: u64 = batches.iter().map(|(_, count)| count).sum();
    if total < SLICES as u64 {
        return Vec::new();
    }
    let mut rates = Vec::with_capacity(SLICES);
    let (mut seen, mut in_slice, mut slice_began) = (0, 0, Duration::ZERO);
    for &(at, count) in batches {
        seen += count;
        in_slice += count;
        if seen * SLICES as u64 >= total * (rates.len() as u64 + 1) {
            let seconds = at.saturating_sub(slice_began).as_secs_f64().max(1e-6);
            rates.push(in_slice as f64 / seconds);
            in_slice = 0;
            slice_began = at;
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_slows_down_shows_it_in_its_tenths() {
        let mut at = Duration::ZERO;
        let batches: Vec<_> = (0..1000u64)
            .map(|batch| {
                at += if batch < 500 { Duration::from_millis(1) } else { Duration::from_millis(2) };
                (at, 32)
            })
            .collect();
        let rates = slices(&batches);
        assert_eq!(rates.len(), SLICES);
        assert!((rates[0] - 32_000.0).abs() < 1.0, "{rates:?}");
        assert!((rates[9] - 16_000.0).abs() < 1.0, "{rates:?}");
    }
}
