//! The crash loop against a cluster: a route service, two brokers, two proxies. Any of them, at times two or all, ends at random
//! moments and also while it starts, and clients that are spread over both proxies are promised the same as by one server.
//!
//! `BOLIDE_CRASH_ROUNDS` (15): kills. `BOLIDE_CRASH_SEED`: choices of the clients and of who ends when. `BOLIDE_KEEP_DATA=1`
//! keeps the data directories of a failure.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bolide::runtime::entropy::Entropy;

mod common;
mod history;

use common::cluster::{Cluster, ClusterOptions, Member};
use common::say;
use history::cast::Cast;
use history::check::check;
use history::staging::{
    any_seed, create_catalogue, dial_in_turn, lies_are_seen, number, pace, recorder, stop_and_drain,
};
use history::workload::Stage;
use history::{Event, History, Recorder};

/// Kills between two checks; each check needs a drain.
const ROUNDS_PER_EPISODE: u64 = 5;
/// How long after everybody is ready something may still be held back: by a proxy that finds its way to a broker again.
const QUIET: Duration = Duration::from_secs(2);
const BROKERS: usize = 2;
const PROXIES: usize = 2;

#[test]
fn no_crash_of_a_member_loses_or_repeats_what_was_acknowledged() -> Result<()> {
    let rounds = number("BOLIDE_CRASH_ROUNDS", 15);
    let seed = number("BOLIDE_CRASH_SEED", any_seed()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut cluster = ClusterOptions::default().env("BOLIDE_LIMITS_MIN_INVISIBLE_MS", "100").start(BROKERS, PROXIES)?;
    let begin = Instant::now();
    let (mut done, mut episode) = (0, 0);
    while done < rounds {
        let kills = ROUNDS_PER_EPISODE.min(rounds - done);
        let seed = seed.wrapping_add(episode);
        let history = runtime
            .block_on(run_episode(&mut cluster, &format!("e{episode}"), kills, &Entropy::seeded(seed)))
            .with_context(|| repeat_with(seed))?;
        if let Err(violation) = check(&history) {
            if std::env::var_os("BOLIDE_KEEP_DATA").is_some() {
                say(&format!("KEPT {}", cluster.keep().display()));
            }
            bail!("{}\n{}", violation.report(&history), repeat_with(seed));
        }
        if episode == 0 {
            lies_are_seen(&history)?;
        }
        shards_are_seen(&history)?;
        done += kills;
        episode += 1;
        let calls = history.calls.len();
        let deliveries: usize = history.calls.iter().map(|call| call.deliveries().len()).sum();
        say(&format!(
            "cluster crash loop: {done}/{rounds} kills, {:.0} s, last five: {calls} calls, {deliveries} deliveries, every promise kept",
            begin.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

fn repeat_with(seed: u64) -> String {
    format!(
        "repeat with: BOLIDE_CRASH_SEED={seed} BOLIDE_CRASH_ROUNDS={ROUNDS_PER_EPISODE} cargo test --test cluster_crash"
    )
}

/// A history of one shard only would prove nothing about several.
fn shards_are_seen(history: &History) -> Result<()> {
    let deliveries = history.calls.iter().flat_map(|call| call.deliveries());
    let shards: std::collections::BTreeSet<_> =
        deliveries.filter_map(|got| bolide::broker::Handles::shard_of(&got.handle)).collect();
    ensure!(shards.len() == BROKERS, "deliveries came from {shards:?} only");
    Ok(())
}

async fn run_episode(cluster: &mut Cluster, run: &str, kills: u64, entropy: &Entropy) -> Result<History> {
    let cast = Cast::new(&format!("{run}-"), false);
    let recorder = recorder(&cast)?;
    create_catalogue(cluster.ports(Member::Proxy(0)).internal, &cast).await?;
    let dial = dial_in_turn((0..PROXIES).map(|proxy| cluster.grpc(proxy)).collect())?;
    let stop = Arc::new(AtomicBool::new(false));
    let stage = Stage { dial, recorder: recorder.clone(), pace: pace(), run: run.to_owned(), stop };
    let clients = cast.start(&stage, entropy);
    for round in 0..kills {
        tokio::time::sleep(Duration::from_millis(20 + entropy.below(1_200))).await;
        let victims = victims(cluster.members(), round, entropy);
        end_and_restart(cluster, &victims, &recorder, entropy)?;
    }
    tokio::time::sleep(Duration::from_millis(entropy.below(500))).await;
    stop_and_drain(&stage, &cast, clients, QUIET).await?;
    Ok(recorder.snapshot())
}

/// Each role in turn; one time in three, another member at the same time; one time in eight, everybody, in any order.
fn victims(all: Vec<Member>, round: u64, entropy: &Entropy) -> Vec<Member> {
    if entropy.below(8) == 0 {
        return in_any_order(all, entropy);
    }
    let one_of = |count: usize| usize::try_from(entropy.below(count as u64)).unwrap_or(0);
    let of_role = |role: u64| match role % 3 {
        0 => Member::Proxy(one_of(PROXIES)),
        1 => Member::Broker(one_of(BROKERS)),
        _ => Member::Route,
    };
    let first = of_role(round);
    let mut victims = vec![first];
    if entropy.below(3) == 0 {
        let second = of_role(entropy.below(3));
        victims.extend(Some(second).filter(|second| *second != first));
    }
    victims
}

fn in_any_order(mut members: Vec<Member>, entropy: &Entropy) -> Vec<Member> {
    let mut ordered = Vec::with_capacity(members.len());
    while !members.is_empty() {
        let place = usize::try_from(entropy.below(members.len() as u64)).unwrap_or(0);
        ordered.push(members.swap_remove(place));
    }
    ordered
}

/// Mostly SIGKILL, sometimes SIGTERM; now and then the next process is killed while it recovers. Blocks the thread of the
/// driver; the clients run on others.
fn end_and_restart(cluster: &mut Cluster, victims: &[Member], recorder: &Recorder, entropy: &Entropy) -> Result<()> {
    let since_us = recorder.now_us();
    for &member in victims {
        let is_kill = entropy.below(8) != 0;
        let how = if is_kill { "SIGKILL" } else { "SIGTERM" };
        recorder.event(Event::Note(format!("{how} of {}", member.name())));
        // Leases and attempts are a broker's. Others may end, and these are to stay as they are.
        let is_broker = matches!(member, Member::Broker(_));
        let note = |event: Event| recorder.event(if is_broker { event } else { Event::Note(format!("{event:?}")) });
        note(Event::Ending(how));
        if is_kill {
            cluster.kill9(member)?;
        } else {
            let status = cluster.sigterm(member)?;
            let log = || format!("{} ended with {status}: {}", member.name(), cluster.log_tail(member, 30));
            ensure!(status.success(), "after SIGTERM {}", log());
        }
        note(Event::Ended);
        while entropy.below(3) == 0 {
            kill_while_it_starts(cluster, member, Duration::from_millis(1 + entropy.below(150)))?;
            note(Event::Ended);
        }
    }
    for member in in_any_order(victims.to_vec(), entropy) {
        cluster.start_member(member)?;
    }
    cluster.wait_all_ready()?;
    recorder.event(Event::Started);
    recorder.event(Event::Away { since_us });
    Ok(())
}

fn kill_while_it_starts(cluster: &Cluster, member: Member, after: Duration) -> Result<()> {
    let mut command = cluster.command(member);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // The moment of the kill is the point here, not a condition.
    std::thread::sleep(after);
    child.kill()?;
    child.wait()?;
    Ok(())
}
