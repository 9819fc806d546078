//! Networks between the roles that cut, delay and swallow: nothing acknowledged is lost, nothing acked comes back, and soon after the
//! network heals everything is as before.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

mod cluster_load;
mod common;
mod history;
#[path = "common/relay.rs"]
mod relay;

use cluster_load::{Caller, Load, Tally, lane_of_broker};
use common::cluster::{Cluster, ClusterOptions, Member};
use common::say;
use relay::{Mood, Relay};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What is allowed here beyond what is promised: debug builds on machines that do other things as well.
const SLACK: Duration = Duration::from_secs(3);
const RECOVERS_WITHIN: Duration = Duration::from_secs(2);
const DELAY: Duration = Duration::from_millis(200);
/// Longest time in which a peer that swallows counts as one that is there, by the beats of the link.
const UNNOTICED: Duration = Duration::from_secs(5);
/// A call that waits for no shard that is away.
const SWIFT: Duration = Duration::from_secs(1);

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Two brokers and two proxies with a relay before `member`.
fn cluster_behind_a_relay(member: Member) -> Result<(Cluster, Relay, Vec<SocketAddr>)> {
    let mut cluster = ClusterOptions::default().build(2, 2)?;
    let relay = Relay::before(cluster.ports(member).internal)?;
    cluster.reach_through(member, relay.address());
    for member in cluster.members() {
        cluster.start_member(member)?;
    }
    cluster.wait_all_ready()?;
    cluster.admin(&["topic", "create", "free"])?;
    cluster.admin(&["topic", "create", "keyed", "--type", "fifo"])?;
    let proxies = vec![cluster.grpc(0), cluster.grpc(1)];
    Ok((cluster, relay, proxies))
}

async fn go_on(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Sends to one lane until a send works; how long that took.
async fn until_it_works(probe: &Caller, lane: &str, name: &str) -> Result<Duration> {
    let began = Instant::now();
    let mut tries = 0;
    while let Err(error) = probe.send("lanes", &format!("{name}-{tries}"), Some(lane)).await {
        tries += 1;
        ensure!(began.elapsed() < Duration::from_secs(30), "never back: {error}");
    }
    Ok(began.elapsed())
}

fn report(what: &str, recovered: Duration, tally: &Tally) {
    say(&format!(
        "FIGURE {what}: works again {} ms after the network healed; {} of {} calls failed after retries, slowest send {} ms",
        recovered.as_millis(),
        tally.failed,
        tally.calls,
        tally.slowest_send.as_millis()
    ));
}

#[test]
fn cut_connections_to_a_broker_lose_nothing() -> Result<()> {
    let _alone = alone();
    let (cluster, relay, proxies) = cluster_behind_a_relay(Member::Broker(0))?;
    runtime()?.block_on(async {
        let probe = Caller::new("probe", &proxies)?;
        let lane = lane_of_broker(&cluster, &probe).await?;
        let load = Load::start(&proxies, "free", "keyed")?;
        // Many short cuts, and a long one.
        for round in 0..5 {
            go_on(Duration::from_millis(150 * round)).await;
            relay.set(Mood::Cut);
            go_on(Duration::from_millis(50)).await;
            relay.set(Mood::Pass);
        }
        go_on(Duration::from_millis(300)).await;
        relay.set(Mood::Cut);
        go_on(Duration::from_secs(3)).await;
        relay.set(Mood::Pass);
        let recovered = until_it_works(&probe, &lane, "cut").await?;
        go_on(Duration::from_millis(500)).await;
        let tally = load.stop().await?;
        report("a broker is cut off", recovered, &tally);
        tally.nothing_is_lost_or_comes_back()?;
        ensure!(recovered <= RECOVERS_WITHIN + SLACK, "{recovered:?}");
        Ok(())
    })
}

#[test]
fn a_slow_network_to_a_broker_only_slows_down() -> Result<()> {
    let _alone = alone();
    let (cluster, relay, proxies) = cluster_behind_a_relay(Member::Broker(0))?;
    runtime()?.block_on(async {
        let probe = Caller::new("probe", &proxies)?;
        let lane = lane_of_broker(&cluster, &probe).await?;
        let load = Load::start(&proxies, "free", "keyed")?;
        go_on(Duration::from_millis(300)).await;
        relay.set(Mood::Delay(DELAY));
        let slow = until_it_works(&probe, &lane, "slow").await?;
        ensure!(slow >= DELAY, "the relay delays nothing: {slow:?}");
        go_on(Duration::from_secs(3)).await;
        relay.set(Mood::Pass);
        let recovered = until_it_works(&probe, &lane, "swift").await?;
        let tally = load.stop().await?;
        report(&format!("200 ms to a broker (a send took {} ms)", slow.as_millis()), recovered, &tally);
        tally.nothing_failed()?;
        tally.nothing_is_lost_or_comes_back()?;
        ensure!(recovered <= RECOVERS_WITHIN + SLACK, "{recovered:?}");
        Ok(())
    })
}

#[test]
fn a_broker_that_seems_to_be_there_and_is_not_holds_nobody_up_for_long() -> Result<()> {
    let _alone = alone();
    let (cluster, relay, proxies) = cluster_behind_a_relay(Member::Broker(0))?;
    cluster.admin(&["topic", "create", "other"])?;
    runtime()?.block_on(async {
        let probe = Caller::new("probe", &proxies)?;
        let lane = lane_of_broker(&cluster, &probe).await?;
        let load = Load::start(&proxies, "free", "keyed")?;
        go_on(Duration::from_millis(300)).await;
        relay.set(Mood::Swallow);
        let swallowed = Instant::now();
        // Messages without a group go to the other broker as soon as the silence is noticed, and come from there.
        let noticed = loop {
            let began = Instant::now();
            let mut all_swift = true;
            for number in 0..20 {
                let sent = probe.send("other", &format!("o-{}-{number}", swallowed.elapsed().as_millis()), None).await;
                all_swift &= sent.is_ok() && began.elapsed() < SWIFT;
                if !all_swift {
                    break;
                }
            }
            if all_swift {
                break swallowed.elapsed();
            }
            ensure!(swallowed.elapsed() < UNNOTICED + SLACK, "sends still wait for the broker that is away");
        };
        let mut came = 0;
        let until = Instant::now() + SLACK;
        while came < 20 {
            let taken = probe.receive("other", "others", Some(Duration::from_secs(60))).await;
            came += taken.map_err(anyhow::Error::msg).context("receive beside a broker that is away")?.len();
            ensure!(Instant::now() < until, "only {came} of 20 came from the other broker");
        }
        relay.set(Mood::Pass);
        let recovered = until_it_works(&probe, &lane, "back").await?;
        go_on(Duration::from_millis(500)).await;
        let tally = load.stop().await?;
        report(&format!("a broker is silent (noticed after {} ms)", noticed.as_millis()), recovered, &tally);
        tally.nothing_is_lost_or_comes_back()?;
        ensure!(recovered <= RECOVERS_WITHIN + SLACK, "{recovered:?}");
        Ok(())
    })
}

#[test]
fn a_bad_network_to_the_route_service_fails_no_call_and_changes_come_soon_after_it_heals() -> Result<()> {
    let _alone = alone();
    let (cluster, relay, proxies) = cluster_behind_a_relay(Member::Route)?;
    runtime()?.block_on(async {
        let load = Load::start(&proxies, "free", "keyed")?;
        let caller = Caller::new("caller", &proxies)?;
        let mut slowest = Duration::ZERO;
        let moods = [("cut", Mood::Cut), ("slow", Mood::Delay(DELAY)), ("silent", Mood::Swallow)];
        for (name, mood) in moods {
            relay.set(mood);
            // Longer than the silence that a member takes for the end of its peer.
            go_on(Duration::from_secs(4)).await;
            relay.set(Mood::Pass);
            let healed = Instant::now();
            let topic = format!("after-{name}");
            while let Err(error) = cluster.admin(&["topic", "create", &topic]) {
                ensure!(healed.elapsed() < Duration::from_secs(30), "after {name}: {error:#}");
                // A creation whose answer was lost is one.
                if format!("{error:#}").contains("exists") {
                    break;
                }
            }
            for proxy in [0, 1] {
                while let Err(error) = caller.only(proxy).send(&topic, &format!("{topic}-{proxy}"), None).await {
                    ensure!(healed.elapsed() < Duration::from_secs(30), "after {name}, proxy {proxy}: {error}");
                }
            }
            let recovered = healed.elapsed();
            say(&format!(
                "FIGURE the route service is {name}: a new topic works everywhere {} ms after the network healed",
                recovered.as_millis()
            ));
            slowest = slowest.max(recovered);
        }
        let tally = load.stop().await?;
        report("a bad network to the route service", slowest, &tally);
        tally.nothing_failed()?;
        tally.nothing_is_lost_or_comes_back()?;
        ensure!(slowest <= RECOVERS_WITHIN + SLACK, "{slowest:?}");
        Ok(())
    })
}
