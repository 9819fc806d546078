//! Kills the real server with SIGKILL at random moments, while clients of the public protocol send, receive, ack, nack,
//! extend, forward and forget, and holds what they saw against the promises.
//!
//! `BOLIDE_CRASH_ROUNDS` (50): kills. `BOLIDE_CRASH_SEED`: choices of the clients and moments of the kills. A real process
//! does not repeat exactly; the seed repeats the pressure. `BOLIDE_KEEP_DATA=1` keeps the data directory of a failure.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bolide::runtime::entropy::Entropy;
use tonic::transport::Endpoint;

mod common;
mod history;

use common::{Server, ServerOptions, say};
use history::cast::Cast;
use history::check::check;
use history::staging::{any_seed, create_catalogue, lies_are_seen, number, pace, recorder, stop_and_drain};
use history::workload::{Dial, Stage};
use history::{Event, History, Recorder};

/// Kills between two checks; each check needs a drain.
const ROUNDS_PER_EPISODE: u64 = 5;
/// How long after the last kill something may still be held back that nobody has.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn no_crash_loses_or_repeats_what_was_acknowledged() -> Result<()> {
    let rounds = number("BOLIDE_CRASH_ROUNDS", 50);
    let seed = number("BOLIDE_CRASH_SEED", any_seed()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut server = ServerOptions::default().env("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "100").start()?;
    let begin = Instant::now();
    let mut done = 0;
    let mut episode = 0;
    while done < rounds {
        let kills = ROUNDS_PER_EPISODE.min(rounds - done);
        let entropy = Entropy::seeded(seed.wrapping_add(episode));
        let history = runtime
            .block_on(run_episode(&mut server, &format!("e{episode}"), kills, &entropy))
            .with_context(|| repeat_with(seed.wrapping_add(episode)))?;
        if let Err(violation) = check(&history) {
            bail!("{}\n{}", violation.report(&history), repeat_with(seed.wrapping_add(episode)));
        }
        if episode == 0 {
            lies_are_seen(&history)?;
        }
        done += kills;
        episode += 1;
        let calls = history.calls.len();
        let deliveries: usize = history.calls.iter().map(|call| call.deliveries().len()).sum();
        say(&format!(
            "crash loop: {done}/{rounds} kills, {:.0} s, last five: {calls} calls, {deliveries} deliveries, every promise kept",
            begin.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

fn repeat_with(seed: u64) -> String {
    format!(
        "repeat with: BOLIDE_CRASH_SEED={seed} BOLIDE_CRASH_ROUNDS={ROUNDS_PER_EPISODE} cargo test --test crash_loop"
    )
}

async fn run_episode(server: &mut Server, run: &str, kills: u64, entropy: &Entropy) -> Result<History> {
    let cast = Cast::new(&format!("{run}-"), false);
    let recorder = recorder(&cast)?;
    create_catalogue(server.addresses().internal, &cast).await?;
    let address = format!("http://{}", server.addresses().grpc);
    let endpoint = Endpoint::from_shared(address)?.connect_timeout(Duration::from_millis(500));
    let dial: Dial = Arc::new(move || endpoint.connect_lazy());
    let stop = Arc::new(AtomicBool::new(false));
    let stage = Stage { dial, recorder: recorder.clone(), pace: pace(), run: run.to_owned(), stop };
    let clients = cast.start(&stage, entropy);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(20 + entropy.below(1_200))).await;
        end_and_restart(server, &recorder, entropy)?;
    }
    tokio::time::sleep(Duration::from_millis(entropy.below(500))).await;
    stop_and_drain(&stage, &cast, clients, QUIET).await?;
    Ok(recorder.snapshot())
}

/// Mostly SIGKILL, sometimes SIGTERM; now and then the next process is killed while it recovers. Blocks the thread of the
/// driver; the clients run on others.
fn end_and_restart(server: &mut Server, recorder: &Recorder, entropy: &Entropy) -> Result<()> {
    if entropy.below(8) == 0 {
        recorder.event(Event::Ending("SIGTERM"));
        let status = server.sigterm()?;
        ensure!(status.success(), "after SIGTERM the server ended with {status}: {}", server.log_tail(30));
    } else {
        recorder.event(Event::Ending("SIGKILL"));
        server.kill9()?;
    }
    recorder.event(Event::Ended);
    while entropy.below(3) == 0 {
        kill_while_it_starts(server, Duration::from_millis(1 + entropy.below(150)))?;
        recorder.event(Event::Ended);
    }
    server.start_again()?;
    recorder.event(Event::Started);
    Ok(())
}

fn kill_while_it_starts(server: &Server, after: Duration) -> Result<()> {
    let addresses = server.addresses();
    let mut child = Command::new(common::binary())
        .arg("standalone")
        .arg("--data")
        .arg(server.data_dir())
        .args(["--listen", &addresses.grpc.to_string()])
        .args(["--internal", &addresses.internal.to_string()])
        .args(["--http", &addresses.http.to_string()])
        .env("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "100")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // The moment of the kill is the point here, not a condition.
    std::thread::sleep(after);
    child.kill()?;
    child.wait()?;
    Ok(())
}
