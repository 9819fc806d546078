//! What a link costs: publishes of 64 callers, directly and over loopback, in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bolide::broker::Broker;
use bolide::broker::api::{Publish, TopicSpec};
use bolide::broker::options::BrokerOptions;
use bolide::link::client::{Bounds, Dial, ShardClient, Way};
use bolide::link::hello::{Hello, Role};
use bolide::link::server::{BrokerServer, tuned};
use bolide::model::cluster::Revision;
use bolide::observe::meters::Meters;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::{Tasks, Threads};
use bolide::store::log::LogOptions;
use bolide::store::{FoldEnv, Store, StoreOptions, files};
use bolide::trust::Trust;
use tokio_stream::wrappers::TcpListenerStream;

use crate::world::{Caller, message, topic};

const CALLERS: usize = 64;
const EACH: usize = 400;

async fn figure(name: &str, caller: Caller, callers: usize, tasks: &Tasks) {
    let caller = Arc::new(caller);
    let cpu = rusage();
    let began = Instant::now();
    let running: Vec<_> = (0..callers)
        .map(|lane| {
            let caller = caller.clone();
            tasks.spawn_on_lane(lane, async move {
                let mut took = Vec::new();
                for _ in 0..EACH {
                    let began = Instant::now();
                    caller.publish(vec![message("m")]).await.unwrap();
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for one in running {
        took.extend(one.await.unwrap());
    }
    let elapsed = began.elapsed();
    let cpu = rusage().saturating_sub(cpu);
    took.sort_unstable();
    let count = took.len();
    println!(
        "{name}, {callers} callers: {:.0}/s, p50 {:?}, p99 {:?}, {:.1} us CPU a message",
        count as f64 / elapsed.as_secs_f64(),
        took[count / 2],
        took[count * 99 / 100],
        cpu.as_secs_f64() * 1e6 / count as f64
    );
}

/// CPU time of the process: fields 14 and 15 of its stat, in ticks of 10 ms.
fn rusage() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "a figure, not a check: cargo test --test link figures -- --ignored --nocapture"]
fn publishes_directly_and_over_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let threads = Threads::start(2).unwrap();
    let tasks = threads.tasks();
    threads.block_on(async {
        let clock = Clock::system();
        let entropy = Entropy::seeded(9);
        let log = LogOptions { dir: dir.path().to_owned(), ..LogOptions::default() };
        let options = StoreOptions { log, ..StoreOptions::default() };
        let store = Store::open(options, files::real(), FoldEnv::Disk, &clock, tasks.clone()).unwrap();
        let metrics = Arc::new(Meters::noop());
        let broker =
            Broker::open(BrokerOptions::default(), store, clock.clone(), tasks.clone(), entropy, metrics, [7; 32])
                .await
                .unwrap();
        broker.create_topic(topic(), TopicSpec::default()).await.unwrap();
        broker.publish(Publish { topic: topic(), messages: vec![message("first")] }).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
        let server = BrokerServer::new(broker.clone(), "b-0", Trust::none(), clock.clone(), tasks.clone());
        let serving = tuned(tonic::transport::Server::builder())
            .add_service(server.into_service())
            .serve_with_incoming(TcpListenerStream::new(listener));
        drop(tasks.spawn_background(async move { serving.await.unwrap() }));
        let (_moves, address) = tokio::sync::watch::channel(address);
        let dial = Dial {
            way: Way::Address(address),
            trust: Trust::none(),
            who: Hello::of(Role::Proxy, "p-0"),
            bounds: Bounds::default(),
        };
        let client = ShardClient::connect(dial, Arc::new(Revision::default), clock, &tasks);
        client.status().await.unwrap();
        for callers in [1, CALLERS] {
            for _ in 0..2 {
                figure("direct", Caller::Here(broker.clone()), callers, &tasks).await;
                figure("linked", Caller::Far(client.clone()), callers, &tasks).await;
            }
        }
        drop(client);
        broker.close().await;
    });
    threads.stop();
}
