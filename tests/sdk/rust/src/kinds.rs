//! Cases of everything beyond plain messages; what each proves is in ../../README.md.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{MessageBuilder, MessageView};
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use tokio::time::sleep;

use crate::clients::{Consumer, LONG_LEASE, message, producer, transaction_producer};
use crate::driver::Driver;

const GROUPS: [&str; 4] = ["g0", "g1", "g2", "g3"];
const STEPS: usize = 8;

fn text(message: &MessageView) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Receives until so many messages came; acks each.
async fn receive_until(consumer: &Consumer, count: usize) -> Result<Vec<MessageView>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut came = Vec::new();
    while came.len() < count {
        ensure!(Instant::now() < deadline, "{} of {count} came", came.len());
        for got in consumer.receive(LONG_LEASE).await? {
            consumer.ack(&got).await?;
            came.push(got);
        }
    }
    Ok(came)
}

pub async fn fifo_order(driver: Arc<Driver>) -> Result<()> {
    let name = driver.typed_topic("fifo", "fifo").await?;
    let sender = producer(&driver, &[&name]).await?;
    for step in 0..STEPS {
        for group in GROUPS {
            let body = format!("{group}-{step}").into_bytes();
            sender.send(MessageBuilder::fifo_message_builder(&name, body, group).build()?).await?;
        }
    }
    let expected: Vec<String> = (0..STEPS).map(|step| format!("g2-{step}")).collect();
    let consumer = Consumer::new(&driver, &driver.group("fifo"), &name, "*").await?;
    let mut by_group: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut given_up = false;
    let deadline = Instant::now() + Duration::from_secs(60);
    while by_group.values().map(Vec::len).sum::<usize>() < GROUPS.len() * STEPS {
        ensure!(Instant::now() < deadline, "{by_group:?}");
        // This client cannot give a message back; a short lease that runs out does the same.
        let lease = if given_up { LONG_LEASE } else { Duration::from_secs(1) };
        let mut giving_up = false;
        for got in consumer.receive(lease).await? {
            let group = got.message_group().unwrap_or_default().to_owned();
            if group == "g2" && text(&got) == "g2-2" && !given_up {
                (given_up, giving_up) = (true, true);
            }
            if group == "g2" && giving_up {
                continue;
            }
            consumer.ack(&got).await?;
            by_group.entry(group).or_default().push(text(&got));
        }
    }
    ensure!(given_up, "the head of g2 was never seen");
    ensure!(by_group["g2"] == expected, "{:?}", by_group["g2"]);
    for group in GROUPS {
        let expected: Vec<String> = (0..STEPS).map(|step| format!("{group}-{step}")).collect();
        ensure!(by_group[group] == expected, "{:?}", by_group[group]);
    }
    consumer.assert_nothing_left().await
}

pub async fn delayed(driver: Arc<Driver>) -> Result<()> {
    let name = driver.typed_topic("delayed", "delay").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &driver.group("delayed"), &name, "*").await?;
    let due = now_seconds() as i64 + 3;
    for (body, at) in [("past", due - 60), ("later", due)] {
        sender.send(MessageBuilder::delay_message_builder(&name, body.into(), at).build()?).await?;
    }
    let mut came = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while came.len() < 2 {
        ensure!(Instant::now() < deadline, "only {:?}", came.keys());
        for got in consumer.receive(LONG_LEASE).await? {
            consumer.ack(&got).await?;
            came.insert(text(&got), (now_seconds(), got));
        }
    }
    ensure!(came["past"].0 < due as f64, "the one of the past was held back");
    let (at, got) = &came["later"];
    ensure!(*at >= due as f64 - 0.05 && *at <= due as f64 + 1.5, "{:.3} s after its time", at - due as f64);
    ensure!(got.delivery_timestamp() == Some(due), "{:?}", got.delivery_timestamp());
    Ok(())
}

pub async fn transaction_commit_rollback(driver: Arc<Driver>) -> Result<()> {
    let name = driver.typed_topic("transaction", "transaction").await?;
    let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let noted = asked.clone();
    let sender = transaction_producer(&driver, &name, move |id, got| {
        noted.lock().expect("no panic").push((id, text(&got)));
        TransactionResolution::COMMIT
    });
    let sender = sender.await?;
    let consumer = Consumer::new(&driver, &driver.group("transaction"), &name, "*").await?;
    let half = |what: &str| MessageBuilder::transaction_message_builder(&name, what.into()).build();
    sender.send_transaction_message(half("committed")?).await?.commit().await?;
    sender.send_transaction_message(half("rolled back")?).await?.rollback().await?;
    let undecided = sender.send_transaction_message(half("undecided")?).await?;
    let came = receive_until(&consumer, 2).await?;
    let bodies: Vec<String> = came.iter().map(text).collect();
    ensure!(bodies == ["committed", "undecided"], "{bodies:?}");
    let asked = asked.lock().expect("no panic").clone();
    let expected = (undecided.transaction_id().to_owned(), "undecided".to_owned());
    ensure!(!asked.is_empty() && asked.iter().all(|one| *one == expected), "{asked:?}");
    consumer.assert_nothing_left().await
}

pub async fn sql_filter(driver: Arc<Driver>) -> Result<()> {
    let name = driver.typed_topic("sql", "normal").await?;
    let sender = producer(&driver, &[&name]).await?;
    for number in 0..6 {
        let built = MessageBuilder::builder()
            .set_topic(&name)
            .set_body(format!("n{number}").into_bytes())
            .set_tag(if number % 2 == 1 { "A" } else { "B" })
            .set_properties([("number", number.to_string())].into())
            .build()?;
        sender.send(built).await?;
    }
    let expression = FilterExpression::new(FilterType::Sql, "number BETWEEN 2 AND 4 AND NOT TAGS = 'A'");
    let consumer = Consumer::filtered(&driver, &driver.group("sql"), &name, expression).await?;
    let mut bodies: Vec<String> = receive_until(&consumer, 2).await?.iter().map(text).collect();
    bodies.sort();
    ensure!(bodies == ["n2", "n4"], "{bodies:?}");
    consumer.assert_nothing_left().await
}

pub async fn redrive(driver: Arc<Driver>) -> Result<()> {
    let name = driver.typed_topic("redrive", "normal").await?;
    let doomed = driver.group_with("redrive", "--max-attempts 1").await?;
    let sender = producer(&driver, &[&name]).await?;
    let consumer = Consumer::new(&driver, &doomed, &name, "*").await?;
    let id = sender.send(message(&name, b"again")?).await?.message_id().to_owned();
    let lease = Duration::from_secs(1);
    consumer.receive_one(&id, lease).await?;
    sleep(lease).await;
    let redrive = format!("admin dlq redrive {doomed} --id {id}");
    // The message dies when its lease ends; until then there is nothing to redrive.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = driver.request(&redrive).await {
        ensure!(Instant::now() < deadline, "{error:#}");
        sleep(Duration::from_millis(200)).await;
    }
    let came = receive_until(&consumer, 1).await?;
    ensure!(came[0].message_id() == id && text(&came[0]) == "again" && came[0].delivery_attempt() == 1);
    Ok(())
}
