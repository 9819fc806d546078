//! Kills the real server with SIGKILL at random moments, while clients of the public protocol send, receive, ack, nack,
//! extend, forward and forget, and holds what they saw against the promises.
//!
//! `BOLIDE_CRASH_ROUNDS` (50): kills. `BOLIDE_CRASH_SEED`: choices of the clients and moments of the kills. A real process
//! does not repeat exactly; the seed repeats the pressure. `BOLIDE_KEEP_DATA=1` keeps the data directory of a failure.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bolide::runtime::entropy::Entropy;
use bolide::wire::admin;
use bolide::wire::admin::admin_client::AdminClient;
use tonic::transport::Endpoint;

mod common;
mod history;

use common::{Server, ServerOptions, say};
use history::cast::{Cast, topics};
use history::check::check;
use history::mutants::MUTANTS;
use history::mutants_kinds::MUTANTS_OF_KINDS;
use history::workload::{Dial, Kind, Pace, Stage, drain};
use history::{Event, History, Recorder, Terms};

/// Kills between two checks; each check needs a drain.
const ROUNDS_PER_EPISODE: u64 = 5;
const MAX_ATTEMPTS: u32 = 4;
const LEASE_MAX: Duration = Duration::from_millis(1_200);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// Longest wait for clients to end after they were told to.
const CLIENTS_END_LIMIT: Duration = Duration::from_secs(30);

/// Time from a half message to the first check of it, by the broker's default.
const FIRST_CHECK_US: u64 = 6_000_000;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_crash_loses_or_repeats_what_was_acknowledged() -> Result<()> {
    let rounds = number("BOLIDE_CRASH_ROUNDS", 50);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = number("BOLIDE_CRASH_SEED", u64::from(since_1970.subsec_nanos()) ^ since_1970.as_secs());
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

/// The checker must see lies about this very history, or its silence above means nothing.
fn lies_are_seen(history: &History) -> Result<()> {
    let mut told = 0;
    for mutant in MUTANTS.iter().chain(&MUTANTS_OF_KINDS) {
        let mut lie = history.clone();
        if (mutant.apply)(&mut lie) {
            told += 1;
            ensure!(check(&lie).is_err(), "the checker does not see: {}", mutant.name);
        }
    }
    ensure!(told >= 5, "only {told} lies could be told about the first history");
    Ok(())
}

async fn run_episode(server: &mut Server, run: &str, kills: u64, entropy: &Entropy) -> Result<History> {
    let cast = Cast::new(&format!("{run}-"), false);
    let recorder = Recorder::new(terms(&cast)?);
    create_catalogue(server, &cast).await?;
    let address = format!("http://{}", server.addresses().grpc);
    let endpoint = Endpoint::from_shared(address)?.connect_timeout(Duration::from_millis(500));
    let dial: Dial = Arc::new(move || endpoint.connect_lazy());
    let pace = Pace {
        think: Duration::from_millis(40),
        lease: Duration::from_millis(150)..=LEASE_MAX,
        poll: Duration::from_millis(900),
        limit: Duration::from_secs(2),
        auto_renew: false,
        body_bytes: 1_500,
        delay: Duration::from_millis(2_500),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stage = Stage { dial, recorder: recorder.clone(), pace, run: run.to_owned(), stop: stop.clone() };
    let clients = cast.start(&stage, entropy);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(20 + entropy.below(1_200))).await;
        end_and_restart(server, &recorder, entropy)?;
    }
    tokio::time::sleep(Duration::from_millis(entropy.below(500))).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        tokio::time::timeout(CLIENTS_END_LIMIT, client)
            .await
            .context("a client does not end")?
            .context("a client panicked")?;
    }
    drain(&stage, &cast.members(), LEASE_MAX + BACKOFF_MAX + Duration::from_millis(300))
        .await
        .map_err(anyhow::Error::msg)?;
    Ok(recorder.snapshot())
}

fn terms(cast: &Cast) -> Result<Terms> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Terms {
        groups: cast.terms(MAX_ATTEMPTS),
        session_us: 10_000_000,
        wall_begin_ms: u64::try_from(since_1970.as_millis())?,
        first_check_us: FIRST_CHECK_US,
        ..Terms::default()
    })
}

fn topic_type(kind: Kind) -> admin::TopicType {
    match kind {
        Kind::Normal => admin::TopicType::Normal,
        Kind::Ordered => admin::TopicType::Fifo,
        Kind::Delayed => admin::TopicType::Delay,
        Kind::Transactional => admin::TopicType::Transaction,
        Kind::Priority => admin::TopicType::Priority,
        Kind::Lite => admin::TopicType::Lite,
        Kind::Mixed => admin::TopicType::Mixed,
    }
}

async fn create_catalogue(server: &Server, cast: &Cast) -> Result<()> {
    let address = format!("http://{}", server.addresses().internal);
    let mut client = AdminClient::connect(address).await.context("the admin service")?;
    for (topic, kind) in topics() {
        let r#type = topic_type(kind) as i32;
        let topic = admin::Topic { name: cast.name(topic), r#type, queues: 3, ..Default::default() };
        client.create_topic(admin::CreateTopicRequest { topic: Some(topic) }).await?;
    }
    for role in cast.roles() {
        let backoff = admin::ExponentialBackoff {
            initial: Some(history::client::duration(Duration::from_millis(20))),
            max: Some(history::client::duration(BACKOFF_MAX)),
            multiplier: 2.0,
        };
        let policy = admin::RetryPolicy {
            max_attempts: MAX_ATTEMPTS,
            backoff: Some(admin::retry_policy::Backoff::Exponential(backoff)),
        };
        let group = admin::Group {
            name: cast.name(role.group),
            ordered: role.ordered,
            retry_policy: Some(policy),
            ..Default::default()
        };
        client.create_group(admin::CreateGroupRequest { group: Some(group) }).await?;
    }
    Ok(())
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
