//! What clients notice of a cluster when a part of it goes away: the promise is held, and the figure printed. They run one after
//! the other, because each measures.
//!
//! `BOLIDE_ROUTE_AWAY_SECONDS` (5): for how long the route service is away.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bolide::wire::admin;
use bolide::wire::admin::admin_client::AdminClient;

mod cluster_load;
mod common;
mod history;

use cluster_load::{Caller, Load, lane_of_broker};
use common::cluster::{Cluster, Member};
use common::say;
use history::staging::number;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Between what is measured and what is allowed here: debug builds on machines that do other things as well.
const SLACK: Duration = Duration::from_secs(3);

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Two brokers, two proxies, and the topics of a load.
fn cluster() -> Result<(Cluster, Vec<SocketAddr>)> {
    let cluster = Cluster::start(2, 2)?;
    cluster.admin(&["topic", "create", "free"])?;
    cluster.admin(&["topic", "create", "keyed", "--type", "fifo"])?;
    let proxies = vec![cluster.grpc(0), cluster.grpc(1)];
    Ok((cluster, proxies))
}

/// For so long the load goes on by itself.
async fn go_on(time: Duration) {
    tokio::time::sleep(time).await;
}

#[test]
fn a_killed_proxy_fails_no_call_loses_no_lease_and_brings_nothing_back() -> Result<()> {
    let _alone = alone();
    let (mut cluster, proxies) = cluster()?;
    cluster.admin(&["topic", "create", "held"])?;
    runtime()?.block_on(async {
        let load = Load::start(&proxies, "free", "keyed")?;
        let holder = Caller::new("holder", &proxies)?;
        for id in ["a", "b"] {
            holder.send("held", id, None).await.map_err(anyhow::Error::msg)?;
        }
        // One with a lease of its own, the other renewed for as long as its client lives: both through the proxy that dies.
        let fixed = take_one(&holder.only(0), Some(Duration::from_secs(25))).await?;
        let renewed = take_one(&holder.only(0), None).await?;
        go_on(Duration::from_secs(1)).await;
        cluster.kill9(Member::Proxy(0))?;
        // Longer than a client that is silent counts as alive. This one is not silent: it asks for more at the other proxy.
        let until = Instant::now() + Duration::from_secs(14);
        while Instant::now() < until {
            let more = holder.only(1).receive("held", "holders", None).await.map_err(anyhow::Error::msg)?;
            ensure!(more.is_empty(), "what a live client holds came again: {more:?}");
        }
        for held in [&fixed, &renewed] {
            holder.only(1).ack("held", "holders", &held.handle).await.map_err(anyhow::Error::msg).context("a lost lease")?;
        }
        cluster.start_member(Member::Proxy(0))?;
        cluster.wait_ready(Member::Proxy(0))?;
        go_on(Duration::from_secs(1)).await;
        let tally = load.stop().await?;
        say(&format!(
            "FIGURE kill -9 of one of two proxies: {} of {} calls failed after retries, {} acked came again, slowest send {} ms",
            tally.failed,
            tally.calls,
            tally.redelivered.len(),
            tally.slowest_send.as_millis()
        ));
        tally.nothing_is_lost_or_comes_back()?;
        tally.nothing_failed()?;
        let back = holder.receive("held", "holders", None).await.map_err(anyhow::Error::msg)?;
        ensure!(back.is_empty(), "acked through the other proxy and back: {back:?}");
        Ok(())
    })
}

async fn take_one(caller: &Caller, lease: Option<Duration>) -> Result<cluster_load::Taken> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut taken = caller.receive_up_to("held", "holders", lease, 1).await.map_err(anyhow::Error::msg)?;
        if let Some(one) = taken.pop() {
            return Ok(one);
        }
        ensure!(Instant::now() < deadline, "nothing comes");
    }
}

#[test]
fn a_killed_broker_is_back_for_clients_soon_after_its_restart_began() -> Result<()> {
    const PROMISE: Duration = Duration::from_secs(2);
    let _alone = alone();
    let (mut cluster, proxies) = cluster()?;
    runtime()?.block_on(async {
        let probe = Caller::new("probe", &proxies)?;
        let lane = lane_of_broker(&cluster, &probe).await?;
        let load = Load::start(&proxies, "free", "keyed")?;
        go_on(Duration::from_secs(1)).await;
        cluster.kill9(Member::Broker(0))?;
        go_on(Duration::from_millis(700)).await;
        let began = Instant::now();
        cluster.start_member(Member::Broker(0))?;
        let mut tries = 0;
        while let Err(error) = probe.send("lanes", &format!("probe-{tries}"), Some(&lane)).await {
            tries += 1;
            ensure!(began.elapsed() < Duration::from_secs(30), "never back: {error}");
        }
        let outage = began.elapsed();
        cluster.wait_ready(Member::Broker(0))?;
        let ready = began.elapsed();
        go_on(Duration::from_secs(1)).await;
        let tally = load.stop().await?;
        say(&format!(
            "FIGURE kill -9 of a broker: a send to it worked {} ms after its restart began (ready after {} ms), {} of {} calls failed after retries",
            outage.as_millis(),
            ready.as_millis(),
            tally.failed,
            tally.calls
        ));
        tally.nothing_is_lost_or_comes_back()?;
        ensure!(outage <= PROMISE + SLACK, "an outage of {outage:?}");
        Ok(())
    })
}

#[test]
fn while_the_route_service_is_away_no_call_fails() -> Result<()> {
    let _alone = alone();
    let away = Duration::from_secs(number("BOLIDE_ROUTE_AWAY_SECONDS", 5));
    let (mut cluster, proxies) = cluster()?;
    runtime()?.block_on(async {
        let load = Load::start(&proxies, "free", "keyed")?;
        go_on(Duration::from_millis(500)).await;
        cluster.kill9(Member::Route)?;
        let before = load.so_far().sent;
        go_on(away).await;
        let meanwhile = load.so_far().sent - before;
        cluster.start_member(Member::Route)?;
        cluster.wait_all_ready()?;
        let tally = load.stop().await?;
        say(&format!(
            "FIGURE route service away for {} s: {} of {} calls failed after retries, {meanwhile} sends meanwhile, slowest send {} ms",
            away.as_secs(),
            tally.failed,
            tally.calls,
            tally.slowest_send.as_millis()
        ));
        ensure!(meanwhile > 0, "nothing was sent meanwhile");
        tally.nothing_failed()?;
        tally.nothing_is_lost_or_comes_back()
    })
}

#[test]
fn a_new_topic_is_usable_through_every_proxy_at_once() -> Result<()> {
    const PROMISE: Duration = Duration::from_millis(200);
    let _alone = alone();
    let (cluster, proxies) = cluster()?;
    runtime()?.block_on(async {
        let caller = Caller::new("impatient", &proxies)?;
        let internal = cluster.ports(Member::Proxy(0)).internal;
        let mut operator = AdminClient::connect(format!("http://{internal}")).await?;
        let mut times = Vec::new();
        for number in 0..20 {
            let name = format!("new-{number}");
            let r#type = admin::TopicType::Normal as i32;
            let topic = admin::Topic { name: name.clone(), r#type, queues: 4, ..Default::default() };
            let began = Instant::now();
            operator.create_topic(admin::CreateTopicRequest { topic: Some(topic) }).await?;
            for proxy in [1, 0] {
                while let Err(error) = caller.only(proxy).send(&name, &format!("{name}-{proxy}"), None).await {
                    ensure!(began.elapsed() < Duration::from_secs(10), "proxy {proxy}: {error}");
                }
            }
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        say(&format!(
            "FIGURE topic created to a message sent through every proxy: {} ms, worst of {} {} ms",
            median.as_millis(),
            times.len(),
            worst.as_millis()
        ));
        ensure!(median <= PROMISE, "{times:?}");
        ensure!(worst <= PROMISE + SLACK, "{times:?}");
        Ok(())
    })
}

#[test]
fn a_rolling_restart_of_every_role_fails_no_call() -> Result<()> {
    let _alone = alone();
    let (mut cluster, proxies) = cluster()?;
    runtime()?.block_on(async {
        let load = Load::start(&proxies, "free", "keyed")?;
        go_on(Duration::from_millis(500)).await;
        for member in cluster.members() {
            let failed = load.so_far().failed;
            let status = cluster.sigterm(member)?;
            ensure!(status.success(), "{} ended with {status}: {}", member.name(), cluster.log_tail(member, 20));
            cluster.start_member(member)?;
            cluster.wait_ready(member)?;
            // As Kubernetes waits: the next one only after this one serves.
            go_on(Duration::from_millis(500)).await;
            let failed = load.so_far().failed - failed;
            if failed > 0 {
                say(&format!("{failed} calls failed during the restart of {}", member.name()));
            }
        }
        let tally = load.stop().await?;
        say(&format!(
            "FIGURE rolling restart of all roles: {} of {} calls failed after retries, {} acked came again, slowest send {} ms",
            tally.failed,
            tally.calls,
            tally.redelivered.len(),
            tally.slowest_send.as_millis()
        ));
        tally.nothing_failed()?;
        tally.nothing_is_lost_or_comes_back()
    })
}
