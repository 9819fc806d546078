//! Clients of a cluster as official clients are: three attempts for a call, each at the next proxy. They count what failed for
//! good, what was acknowledged and came again, and for how long nothing worked.

// Each test binary compiles this module for itself and uses only a part of it.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bolide::broker::Handles;
use bolide::wire::rocketmq as v2;
use bolide::wire_receive::Content;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use crate::common::cluster::{Cluster, Member};
use crate::history::OK;
use crate::history::client::{Stub, duration, place, resource, stub, with_headers};

/// Attempts of a call, as official clients make them.
const ATTEMPTS: usize = 3;
/// What official clients give an attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait of a receive at the server.
const POLL: Duration = Duration::from_millis(1_500);
/// Longest wait for what was sent and has not come yet, leases of clients that are no more included.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// Failures that are kept in words.
const FAILURES_KEPT: usize = 10;
/// Pause of a producer between two messages, and of a consumer before it repeats an ack that failed.
const THINK: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(50);
const PRODUCERS: usize = 4;
const CONSUMERS: usize = 3;
/// Lease of a delivery of the load.
pub const LEASE: Duration = Duration::from_secs(10);

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub id: String,
    pub handle: String,
    pub shard: u32,
    /// Queue of which shard, and place in it.
    pub place: (i32, i64),
    pub attempt: i32,
}

/// A client with a connection to each proxy.
#[derive(Clone)]
pub struct Caller {
    name: String,
    stubs: Vec<Stub>,
    turn: Arc<AtomicU64>,
}

impl Caller {
    /// # Errors
    /// An address is none.
    pub fn new(name: &str, proxies: &[SocketAddr]) -> Result<Self> {
        let connect = |address: &SocketAddr| -> Result<Stub> {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            Ok(stub(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy()))
        };
        let stubs = proxies.iter().map(connect).collect::<Result<_>>()?;
        Ok(Self { name: name.to_owned(), stubs, turn: Arc::default() })
    }

    /// The same client that calls one proxy only, once a call.
    pub fn only(&self, proxy: usize) -> Self {
        Self { stubs: vec![self.stubs[proxy].clone()], ..self.clone() }
    }

    /// What the first attempt that works answers; else the words of all.
    async fn tried<T, F>(&self, call: impl Fn(Stub) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, String>>,
    {
        let first = usize::try_from(self.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        let attempts = if self.stubs.len() > 1 { ATTEMPTS } else { 1 };
        let mut failed = Vec::new();
        for attempt in 0..attempts {
            let stub = self.stubs[(first + attempt) % self.stubs.len()].clone();
            let began = Instant::now();
            match tokio::time::timeout(ATTEMPT_LIMIT + POLL, call(stub)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => failed.push(format!("{error} after {} ms", began.elapsed().as_millis())),
                Err(_) => failed.push("no answer".to_owned()),
            }
        }
        Err(failed.join("; then "))
    }

    fn request<T>(&self, message: T, limit: Duration) -> tonic::Request<T> {
        let mut request = with_headers(&self.name, message);
        request.set_timeout(limit);
        request
    }

    /// # Errors
    /// All attempts failed: their words.
    pub async fn send(&self, topic: &str, id: &str, message_group: Option<&str>) -> Result<(), String> {
        self.tried(move |mut stub: Stub| async move {
            let kind = if message_group.is_some() { v2::MessageType::Fifo } else { v2::MessageType::Normal };
            let system = v2::SystemProperties {
                message_id: id.to_owned(),
                message_group: message_group.map(str::to_owned),
                message_type: kind as i32,
                ..Default::default()
            };
            let message = v2::Message {
                topic: Some(resource(topic)),
                system_properties: Some(system),
                body: id.as_bytes().to_vec().into(),
                ..Default::default()
            };
            let sending = self.request(v2::SendMessageRequest { messages: vec![message] }, ATTEMPT_LIMIT);
            let answer = stub.send_message(sending).await.map_err(words)?.into_inner();
            expect_ok(answer.status)
        })
        .await
    }

    /// # Errors
    /// All attempts failed: their words.
    pub async fn receive(&self, topic: &str, group: &str, lease: Option<Duration>) -> Result<Vec<Taken>, String> {
        self.receive_up_to(topic, group, lease, 8).await
    }

    /// At most `batch` messages; no lease: renewed for as long as this client lives.
    ///
    /// # Errors
    /// All attempts failed: their words.
    pub async fn receive_up_to(
        &self,
        topic: &str,
        group: &str,
        lease: Option<Duration>,
        batch: i32,
    ) -> Result<Vec<Taken>, String> {
        self.tried(move |mut stub: Stub| async move {
            let wish = v2::ReceiveMessageRequest {
                group: Some(resource(group)),
                message_queue: Some(v2::MessageQueue { topic: Some(resource(topic)), ..Default::default() }),
                batch_size: batch,
                invisible_duration: lease.map(duration),
                auto_renew: lease.is_none(),
                long_polling_timeout: Some(duration(POLL)),
                ..Default::default()
            };
            let request = self.request(wish, POLL + ATTEMPT_LIMIT);
            let mut stream = stub.receive_message(request).await.map_err(words)?.into_inner();
            let mut taken = Vec::new();
            // An answer that breaks off after some messages is no failure of these.
            loop {
                match stream.message().await {
                    Ok(Some(element)) => match element.content {
                        Some(Content::Message(message)) => taken.push(as_taken(&message)),
                        Some(Content::Status(status)) if status.code == v2::Code::MessageNotFound as i32 => {}
                        Some(Content::Status(status)) => expect_ok(Some(status))?,
                        _ => {}
                    },
                    Ok(None) => return Ok(taken),
                    Err(_) if !taken.is_empty() => return Ok(taken),
                    Err(status) => return Err(words(status)),
                }
            }
        })
        .await
    }

    /// # Errors
    /// All attempts failed: their words.
    pub async fn ack(&self, topic: &str, group: &str, handle: &str) -> Result<(), String> {
        self.tried(move |mut stub: Stub| async move {
            let entry = v2::AckMessageEntry { receipt_handle: handle.to_owned(), ..Default::default() };
            let acking = v2::AckMessageRequest {
                group: Some(resource(group)),
                topic: Some(resource(topic)),
                entries: vec![entry],
            };
            let answer = stub.ack_message(self.request(acking, ATTEMPT_LIMIT)).await.map_err(words)?.into_inner();
            expect_ok(answer.status)
        })
        .await
    }
}

fn as_taken(message: &v2::Message) -> Taken {
    let system = message.system_properties.clone().unwrap_or_default();
    let handle = system.receipt_handle.unwrap_or_default();
    Taken {
        id: system.message_id,
        shard: Handles::shard_of(&handle).map_or(0, |shard| shard.get()),
        place: (place(system.queue_id, &handle), system.queue_offset.unwrap_or(-1)),
        attempt: system.delivery_attempt.unwrap_or(0),
        handle,
    }
}

fn words(status: tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn expect_ok(status: Option<v2::Status>) -> Result<(), String> {
    match status {
        Some(status) if status.code == OK => Ok(()),
        Some(status) => Err(format!("{} {}", status.code, status.message)),
        None => Err("no status".to_owned()),
    }
}

/// What the clients of a load saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    /// Acknowledged sends that have not been acked by a consumer yet.
    pub waiting: BTreeSet<String>,
    pub sent: u64,
    /// Calls whose attempts all failed.
    pub failed: u64,
    /// The first of them, in words.
    pub failures: Vec<String>,
    /// Where what was acked lies: topic, and queue and place.
    acked: BTreeMap<(String, (i32, i64)), String>,
    /// Deliveries of what had been acked.
    pub redelivered: Vec<String>,
    /// Deliveries whose ack did not work until the lease was over: in a message group, what follows comes again with them.
    pub lapsed: u64,
    /// Acknowledged sends by shard on which they were seen.
    pub by_shard: BTreeMap<u32, u64>,
    /// Longest time of a send that worked in the end.
    pub slowest_send: Duration,
}

impl Tally {
    fn fail(&mut self, what: &str, error: &str) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(format!("{what}: {error}"));
        }
    }

    /// # Errors
    /// Something acknowledged is missing, or came after it was acked.
    pub fn nothing_is_lost_or_comes_back(&self) -> Result<()> {
        ensure!(self.waiting.is_empty(), "{} of {} never came: {:?}", self.waiting.len(), self.sent, self.waiting);
        ensure!(self.redelivered.is_empty(), "acked and delivered again: {:?}", self.redelivered);
        ensure!(self.sent > 0, "nothing was sent");
        Ok(())
    }

    /// # Errors
    /// A call failed beyond its attempts.
    pub fn nothing_failed(&self) -> Result<()> {
        ensure!(self.failed == 0, "{} of {} calls failed: {:#?}", self.failed, self.calls, self.failures);
        Ok(())
    }
}

/// Producers and consumers of one topic that run until told to stop. Half of the messages are in message groups.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    producing: Arc<AtomicBool>,
    consuming: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts in the current runtime. The topic is one of message groups, and one of messages without: `keyed`, `free`.
    ///
    /// # Errors
    /// An address is none.
    pub fn start(proxies: &[SocketAddr], free: &str, keyed: &str) -> Result<Self> {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let (producing, consuming) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let mut tasks = Vec::new();
        for number in 0..PRODUCERS {
            let caller = Caller::new(&format!("producer-{number}"), proxies)?;
            let topic = if number % 2 == 0 { free } else { keyed };
            let is_keyed = number % 2 == 1;
            tasks.push(tokio::spawn(produce(caller, topic.to_owned(), is_keyed, tally.clone(), producing.clone())));
        }
        for number in 0..CONSUMERS {
            for (topic, is_keyed) in [(free, false), (keyed, true)] {
                let caller = Caller::new(&format!("consumer-{topic}-{number}"), proxies)?;
                let (topic, tally, on) = (topic.to_owned(), tally.clone(), consuming.clone());
                tasks.push(tokio::spawn(consume(caller, topic, is_keyed, tally, on)));
            }
        }
        Ok(Self { tally, producing, consuming, tasks })
    }

    pub fn so_far(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Ends the producers, waits until everything has come, and ends the consumers.
    ///
    /// # Errors
    /// A client panicked or does not end.
    pub async fn stop(self) -> Result<Tally> {
        self.producing.store(false, Ordering::Relaxed);
        let deadline = Instant::now() + DRAIN_LIMIT;
        let mut tasks = self.tasks.into_iter();
        for producer in tasks.by_ref().take(PRODUCERS) {
            producer.await?;
        }
        while !lock(&self.tally).waiting.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // One more poll of each, in which something may come back.
        self.consuming.store(false, Ordering::Relaxed);
        for consumer in tasks {
            consumer.await?;
        }
        Ok(lock(&self.tally).clone())
    }
}

/// The group by which the load consumes a topic.
pub fn group_of(topic: &str) -> String {
    format!("readers-of-{topic}")
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn produce(caller: Caller, topic: String, keyed: bool, tally: Arc<Mutex<Tally>>, on: Arc<AtomicBool>) {
    let mut number = 0_u64;
    while on.load(Ordering::Relaxed) {
        number += 1;
        let id = format!("{}-{number}", caller.name);
        let group = keyed.then(|| format!("g{}", number % 16));
        let began = Instant::now();
        // It may be taken and acked before its answer is here.
        lock(&tally).waiting.insert(id.clone());
        let answer = caller.send(&topic, &id, group.as_deref()).await;
        {
            let mut tally = lock(&tally);
            tally.calls += 1;
            match answer {
                Ok(()) => {
                    tally.sent += 1;
                    tally.slowest_send = tally.slowest_send.max(began.elapsed());
                }
                Err(error) => {
                    tally.waiting.remove(&id);
                    tally.fail(&format!("send of {id}"), &error);
                }
            }
        }
        tokio::time::sleep(THINK).await;
    }
}

async fn consume(caller: Caller, topic: String, is_keyed: bool, tally: Arc<Mutex<Tally>>, on: Arc<AtomicBool>) {
    let mut last = false;
    let group = group_of(&topic);
    while !last {
        last = !on.load(Ordering::Relaxed);
        let received = caller.receive(&topic, &group, Some(LEASE)).await;
        let taken = {
            let mut tally = lock(&tally);
            tally.calls += 1;
            received.unwrap_or_else(|error| {
                tally.fail("receive", &error);
                Vec::new()
            })
        };
        for message in taken {
            settle(&caller, &topic, &group, message, is_keyed, &tally).await;
        }
    }
}

async fn settle(caller: &Caller, topic: &str, group: &str, message: Taken, is_keyed: bool, tally: &Mutex<Tally>) {
    let taken = Instant::now();
    let key = (topic.to_owned(), message.place);
    {
        let mut tally = lock(tally);
        let before = tally.acked.get(&key).cloned().filter(|_| !is_keyed || tally.lapsed == 0);
        if let Some(id) = before {
            let attempt = message.attempt;
            tally.redelivered.push(format!("{id} at {:?} of {topic}, attempt {attempt}", message.place));
        }
    }
    loop {
        let answer = caller.ack(topic, group, &message.handle).await;
        {
            let mut now = lock(tally);
            now.calls += 1;
            let Err(error) = answer else {
                now.waiting.remove(&message.id);
                *now.by_shard.entry(message.shard).or_default() += 1;
                now.acked.insert(key, message.id);
                return;
            };
            now.fail(&format!("ack of {}", message.id), &error);
            if taken.elapsed() > LEASE {
                now.lapsed += 1;
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A message group of the new topic `lanes` whose messages lie on the first broker: its metrics tell, while nobody else sends.
///
/// # Errors
/// There is none, or a call failed.
pub async fn lane_of_broker(cluster: &Cluster, probe: &Caller) -> Result<String> {
    cluster.admin(&["topic", "create", "lanes", "--type", "fifo"])?;
    let stored = || -> Result<String> {
        let page = cluster.metrics(Member::Broker(0))?;
        let lines = page.lines().filter(|line| line.starts_with("rocketmq_messages_in_total{"));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    };
    for number in 0..64 {
        let (before, lane) = (stored()?, format!("lane-{number}"));
        probe.send("lanes", &lane, Some(&lane)).await.map_err(anyhow::Error::msg)?;
        if stored()? != before {
            return Ok(lane);
        }
    }
    bail!("the first broker owns none of 64 message groups")
}
