//! Cases of the official Rust client; what each proves is in ../../README.md.

mod clients;
mod driver;
mod kinds;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rocketmq::Producer;
use rocketmq::model::message::MessageBuilder;
use tokio::task::JoinSet;
use tokio::time::sleep;

use clients::{Consumer, LONG_LEASE, message, producer, send, tagged};
use driver::{Driver, retry};

const INVALID_RECEIPT_HANDLE: &str = "INVALID_RECEIPT_HANDLE";
/// The shortest lease the server was configured to allow.
const SHORT_LEASE: Duration = Duration::from_secs(1);

async fn send_receive_ack(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("plain").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &driver.group("plain"), &name, "*").await?;
    let bodies = [vec![0], (0..=255).collect(), pseudo_random(1 << 20)];
    let mut sent = BTreeMap::new();
    for (number, body) in bodies.into_iter().enumerate() {
        let keys = vec![format!("key-{number}"), format!("other-{number}")];
        let properties =
            HashMap::from([("number".to_owned(), number.to_string()), ("text".to_owned(), "Grüße, 世界".to_owned())]);
        let built = MessageBuilder::builder()
            .set_topic(&name)
            .set_body(body.clone())
            .set_tag("tag-1")
            .set_keys(keys.clone())
            .set_properties(properties.clone())
            .build()?;
        let receipt = sender.send(built).await?;
        sent.insert(receipt.message_id().to_owned(), (body, keys, properties));
    }
    let wanted = sent.keys().cloned().collect();
    let found = consumer.receive_all(&wanted, SHORT_LEASE * 5).await?;
    ensure!(found.len() == sent.len(), "{} messages came", found.len());
    for (id, (body, keys, properties)) in &sent {
        let got = &found[id];
        ensure!(got.body() == body, "body of {} bytes differs, {} came", body.len(), got.body().len());
        ensure!(got.topic() == name && got.tag() == Some("tag-1"));
        ensure!(got.keys() == keys, "keys {:?}", got.keys());
        ensure!(got.properties() == properties, "properties {:?}", got.properties());
        ensure!(got.delivery_attempt() == 1);
        consumer.ack(got).await?;
    }
    // One poll is longer than the lease was: a lost ack would show.
    consumer.assert_nothing_left().await?;
    sender.shutdown().await?;
    consumer.shutdown().await
}

async fn two_topics_one_producer(driver: Arc<Driver>) -> Result<()> {
    let names = [driver.topic("two-a").await?, driver.topic("two-b").await?];
    let sender = producer(&driver, &[&names[0], &names[1]]).await?;
    for name in &names {
        let id = send(&sender, name, name.as_bytes()).await?;
        let group = driver.group(&format!("two-{}", &name[name.len() - 1..]));
        let consumer = Consumer::new(&driver, &group, name, "*").await?;
        let got = consumer.receive_one(&id, LONG_LEASE).await?;
        ensure!(got.topic() == name && got.body() == name.as_bytes());
        consumer.ack(&got).await?;
        consumer.shutdown().await?;
    }
    sender.shutdown().await?;
    Ok(())
}

async fn tag_filter(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("tags").await?;
    let sender = producer(&driver, &[&name]).await?;
    let some = Consumer::new(&driver, &driver.group("tags-some"), &name, "A || B").await?;
    let everything = Consumer::new(&driver, &driver.group("tags-all"), &name, "*").await?;
    let mut ids = BTreeMap::new();
    for tag in ["A", "B", "C", "AB"] {
        let receipt = sender.send(tagged(&name, tag.as_bytes(), tag)?).await?;
        ids.insert(Some(tag), receipt.message_id().to_owned());
    }
    ids.insert(None, send(&sender, &name, b"no tag").await?);
    let every = ids.values().cloned().collect();
    let found = everything.receive_all(&every, LONG_LEASE).await?;
    for (tag, id) in &ids {
        ensure!(found[id].tag() == *tag, "tag {:?}", found[id].tag());
    }
    let wanted = BTreeSet::from([ids[&Some("A")].clone(), ids[&Some("B")].clone()]);
    let found = some.receive_all(&wanted, LONG_LEASE).await?;
    ensure!(found.keys().eq(&wanted), "others came too");
    for got in found.values() {
        some.ack(got).await?;
    }
    some.assert_nothing_left().await
}

async fn expired_ack_refused(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("expired").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &driver.group("expired"), &name, "*").await?;
    let id = send(&sender, &name, b"late").await?;
    let first = consumer.receive_one(&id, SHORT_LEASE).await?;
    // The lease has to run out; nothing but time tells.
    sleep(SHORT_LEASE + Duration::from_millis(500)).await;
    let refusal = consumer.refusal(&first).await;
    ensure!(refusal.as_deref() == Some(INVALID_RECEIPT_HANDLE), "{refusal:?}");
    let second = consumer.receive_one(&id, LONG_LEASE).await?;
    ensure!(second.delivery_attempt() == 2);
    let refusal = consumer.refusal(&first).await;
    ensure!(refusal.as_deref() == Some(INVALID_RECEIPT_HANDLE), "{refusal:?}");
    consumer.ack(&second).await?;
    consumer.assert_nothing_left().await
}

async fn empty_receive(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("empty").await?;
    let consumer = Consumer::patient(&driver, &driver.group("empty"), &name).await?;
    let begun = Instant::now();
    let came = consumer.receive(LONG_LEASE).await?;
    ensure!(came.is_empty(), "{} messages came", came.len());
    let taken = begun.elapsed();
    ensure!(taken <= Duration::from_millis(20_500), "took {taken:?}");
    Ok(())
}

async fn double_ack(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("double").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &driver.group("double"), &name, "*").await?;
    let id = send(&sender, &name, b"once").await?;
    let got = consumer.receive_one(&id, LONG_LEASE).await?;
    consumer.ack(&got).await?;
    consumer.ack(&got).await?;
    Ok(())
}

async fn batch_send(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("batch").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &driver.group("batch"), &name, "*").await?;
    let bodies: [&[u8]; 3] = [b"one", b"two", b"three"];
    let batch = bodies.iter().map(|body| message(&name, body)).collect::<Result<Vec<_>>>()?;
    let receipts = sender.batch_send(batch).await?;
    ensure!(receipts.len() == 3, "{} results", receipts.len());
    let wanted: BTreeSet<String> = receipts.iter().map(|receipt| receipt.message_id().to_owned()).collect();
    ensure!(wanted.len() == 3, "ids are not distinct: {wanted:?}");
    let found = consumer.receive_all(&wanted, LONG_LEASE).await?;
    ensure!(found.len() == 3, "{} messages came", found.len());
    for (receipt, body) in receipts.iter().zip(bodies) {
        let got = &found[receipt.message_id()];
        ensure!(got.body() == body, "result and body do not belong together");
        consumer.ack(got).await?;
    }
    consumer.assert_nothing_left().await
}

async fn dead_letter(driver: Arc<Driver>) -> Result<()> {
    let name = driver.topic("doomed").await?;
    let doomed = driver.group_with("doomed", "--max-attempts 2").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &doomed, &name, "*").await?;
    let body = b"\x00dead\xff";
    let id = send(&sender, &name, body).await?;
    for attempt in 1..=2 {
        let got = consumer.receive_one(&id, SHORT_LEASE).await?;
        ensure!(got.delivery_attempt() == attempt);
    }
    // No third attempt; and this poll outlasts the second lease.
    consumer.assert_nothing_left().await?;
    let dead = format!("%DLQ%{doomed}");
    let deadline = Instant::now() + Duration::from_secs(60);
    let reader = loop {
        // The dead-letter topic is there from the first dead message on.
        match Consumer::new(&driver, &driver.group("doomed-reader"), &dead, "*").await {
            Ok(reader) => break reader,
            Err(error) => ensure!(Instant::now() < deadline, "{error:#}"),
        }
        sleep(Duration::from_millis(500)).await;
    };
    let got = reader.receive_one(&id, LONG_LEASE).await?;
    ensure!(got.body() == body);
    reader.ack(&got).await?;
    Ok(())
}

/// Client objects that live through every restart.
struct Restart {
    driver: Arc<Driver>,
    topic: String,
    sender: Producer,
    consumer: Consumer,
}

impl Restart {
    async fn new(driver: Arc<Driver>) -> Result<Restart> {
        let topic = driver.topic("restart").await?;
        Ok(Restart {
            sender: producer(&driver, &[&topic]).await?,
            consumer: Consumer::new(&driver, &driver.group("restart"), &topic, "*").await?,
            driver,
            topic,
        })
    }

    async fn send(&self, text: &str) -> Result<String> {
        let limit = Duration::from_secs(30);
        let body = text.as_bytes();
        let receipt = retry(limit, || async {
            let built = message(&self.topic, body).expect("topic and body are set");
            self.sender.send(built).await
        });
        Ok(receipt.await?.message_id().to_owned())
    }

    async fn survives(self: Arc<Self>, how: &'static str) -> Result<()> {
        let acked = self.send(&format!("{how} acked")).await?;
        let leased = self.send(&format!("{how} leased")).await?;
        let both = BTreeSet::from([acked.clone(), leased.clone()]);
        let found = self.consumer.receive_all(&both, Duration::from_secs(5)).await?;
        self.consumer.ack(&found[&acked]).await?;
        let waiting = self.send(&format!("{how} waiting")).await?;
        self.driver.request(&format!("restart {how}")).await?;
        let after = self.send(&format!("{how} after")).await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut arrived = BTreeMap::new();
        while ![&leased, &waiting, &after].iter().all(|id| arrived.contains_key(*id)) {
            ensure!(Instant::now() < deadline, "after the restart only {} of 3 came", arrived.len());
            let limit = Duration::from_secs(30);
            for got in retry(limit, || self.consumer.receive(LONG_LEASE)).await? {
                self.consumer.ack(&got).await?;
                arrived.insert(got.message_id().to_owned(), got.body().to_vec());
            }
        }
        ensure!(!arrived.contains_key(&acked), "acked before the restart, delivered after it");
        ensure!(arrived[&after] == format!("{how} after").as_bytes());
        self.consumer.assert_nothing_left().await
    }
}

/// The same bytes in every run, and no pattern that a lost or doubled block could hide in.
fn pseudo_random(length: usize) -> Vec<u8> {
    let mut state: u64 = 7;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.take(length).collect()
}

/// Runs a case as a task of its own: a panic inside the client is a failed case, not the end.
async fn outcome(case: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    match tokio::spawn(case).await {
        Ok(outcome) => outcome,
        Err(panic) => Err(anyhow!("panicked: {panic}")),
    }
}

/// Starts cases side by side; each reports its own outcome.
struct Starter<'a>(&'a mut JoinSet<()>, &'a Arc<Driver>);

impl Starter<'_> {
    fn case<F>(&mut self, name: &'static str, case: fn(Arc<Driver>) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let driver = self.1.clone();
        self.0.spawn(async move { driver.report(name, outcome(case(driver.clone())).await) });
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let driver = Arc::new(Driver::from_environment()?);
    let mut running = JoinSet::new();
    let mut start = Starter(&mut running, &driver);
    start.case("send_receive_ack", send_receive_ack);
    start.case("two_topics_one_producer", two_topics_one_producer);
    start.case("tag_filter", tag_filter);
    start.case("expired_ack_refused", expired_ack_refused);
    start.case("empty_receive", empty_receive);
    start.case("double_ack", double_ack);
    start.case("batch_send", batch_send);
    start.case("dead_letter", dead_letter);
    start.case("fifo_order", kinds::fifo_order);
    start.case("delayed", kinds::delayed);
    start.case("transaction_commit_rollback", kinds::transaction_commit_rollback);
    start.case("sql_filter", kinds::sql_filter);
    start.case("redrive", kinds::redrive);
    while running.join_next().await.is_some() {}

    match Restart::new(driver.clone()).await {
        Ok(shared) => {
            let shared = Arc::new(shared);
            let kill = outcome(shared.clone().survives("kill")).await;
            driver.report("restart_kill", kill);
            driver.report("restart_term", outcome(shared.survives("term")).await);
        }
        Err(error) => driver.report("restart_kill", Err(error)),
    }
    // The client's heartbeat tasks and the reader of stdin would hold an ordinary exit up.
    std::process::exit(driver.exit_code());
}
