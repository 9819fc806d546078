//! What the crash loops have in common: the pace of their clients, the catalogue, the end of an episode, and the lies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bolide::wire::admin;
use bolide::wire::admin::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::{Endpoint, Uri};

use super::cast::{Cast, topics};
use super::check::check;
use super::client::duration;
use super::mutants::MUTANTS;
use super::mutants_kinds::MUTANTS_OF_KINDS;
use super::workload::{Dial, Kind, Pace, Stage, drain};
use super::{History, Recorder, Terms};

const MAX_ATTEMPTS: u32 = 4;
const LEASE_MAX: Duration = Duration::from_millis(1_200);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// Longest wait for clients to end after they were told to.
const CLIENTS_END_LIMIT: Duration = Duration::from_secs(30);
/// Time from a half message to the first check of it, by the broker's default.
const FIRST_CHECK_US: u64 = 6_000_000;
const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// A number from the environment.
pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A seed that is hardly ever the same.
pub fn any_seed() -> Result<u64> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::from(since_1970.subsec_nanos()) ^ since_1970.as_secs())
}

pub fn pace() -> Pace {
    Pace {
        think: Duration::from_millis(40),
        lease: Duration::from_millis(150)..=LEASE_MAX,
        poll: Duration::from_millis(900),
        limit: Duration::from_secs(2),
        auto_renew: false,
        body_bytes: 1_500,
        delay: Duration::from_millis(2_500),
    }
}

/// A recorder of what this cast does from now on.
pub fn recorder(cast: &Cast) -> Result<Recorder> {
    let recorder = Recorder::new(Terms {
        groups: cast.terms(MAX_ATTEMPTS),
        session_us: 10_000_000,
        first_check_us: FIRST_CHECK_US,
        ..Terms::default()
    });
    // The two clocks are looked at together: a pause between them would make each message of a busy machine early or late.
    for _ in 0..1_000 {
        let before_us = recorder.now_us();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let after_us = recorder.now_us();
        if after_us - before_us < 1_000 {
            let begin_us = u64::try_from(since_1970.as_micros())? - before_us;
            recorder.update_terms(|terms| terms.wall_begin_ms = begin_us / 1000);
            return Ok(recorder);
        }
    }
    bail!("a look at two clocks took more than a millisecond, a thousand times")
}

/// A way to several servers, as through a plain TCP load balancer: each new connection goes to the next of them, and to the
/// one after it when that one does not listen.
pub fn dial_in_turn(addresses: Vec<SocketAddr>) -> Result<Dial> {
    let endpoint = Endpoint::from_shared(format!("http://{}", addresses.first().context("no address")?))?
        .connect_timeout(CONNECT_LIMIT);
    let (addresses, turn) = (Arc::new(addresses), Arc::new(AtomicUsize::new(0)));
    let dial: Dial = Arc::new(move || {
        let (addresses, turn) = (addresses.clone(), turn.clone());
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (addresses, turn) = (addresses.clone(), turn.clone());
            async move {
                let first = turn.fetch_add(1, Ordering::Relaxed);
                let mut failed = None;
                for next in 0..addresses.len() {
                    match TcpStream::connect(addresses[(first + next) % addresses.len()]).await {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok::<_, std::io::Error>(TokioIo::new(stream));
                        }
                        Err(error) => failed = Some(error),
                    }
                }
                Err(failed.unwrap_or_else(|| std::io::Error::other("no address")))
            }
        }))
    });
    Ok(dial)
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

/// Creates the topics and groups of a cast through the operators' port at `internal`.
pub async fn create_catalogue(internal: SocketAddr, cast: &Cast) -> Result<()> {
    let mut client = AdminClient::connect(format!("http://{internal}")).await.context("the admin service")?;
    for (topic, kind) in topics() {
        let r#type = topic_type(kind) as i32;
        let topic = admin::Topic { name: cast.name(topic), r#type, queues: 3, ..Default::default() };
        client.create_topic(admin::CreateTopicRequest { topic: Some(topic) }).await?;
    }
    for role in cast.roles() {
        let backoff = admin::ExponentialBackoff {
            initial: Some(duration(Duration::from_millis(20))),
            max: Some(duration(BACKOFF_MAX)),
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

/// Ends the clients and takes what is left. `quiet`: how long something may be held back beyond every lease and back-off.
pub async fn stop_and_drain(stage: &Stage, cast: &Cast, clients: Vec<JoinHandle<()>>, quiet: Duration) -> Result<()> {
    stage.stop.store(true, Ordering::Relaxed);
    for client in clients {
        tokio::time::timeout(CLIENTS_END_LIMIT, client)
            .await
            .context("a client does not end")?
            .context("a client panicked")?;
    }
    drain(stage, &cast.members(), LEASE_MAX + BACKOFF_MAX + quiet).await.map_err(anyhow::Error::msg)
}

/// The checker must see lies about this very history, or its silence about the truth means nothing.
pub fn lies_are_seen(history: &History) -> Result<()> {
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
