//! Transactions as clients meet them: the codes of their ends, and the question that a producer gets.

use std::time::Duration;

use bolide::broker::api::TopicSpec;
use bolide::model::name::TopicName;
use bolide::model::topic::TopicType;
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::settings::PubSub;
use bolide::wire::rocketmq::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::house::{Client, House, LIMIT, code, message, messages, quick, receive, receive_request, resource};

const COMMIT: i32 = v2::TransactionResolution::Commit as i32;
const ROLLBACK: i32 = v2::TransactionResolution::Rollback as i32;

fn by<T>(client: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", client.parse().unwrap());
    request
}

async fn mixed(house: &House, name: &str) {
    let spec = TopicSpec { topic_type: Some(TopicType::Mixed), ..TopicSpec::default() };
    house.broker.create_topic(TopicName::trusted("", name), spec).await.unwrap();
}

/// Sends a half message that is asked about almost at once.
async fn send_half(client: &mut Client, who: &str, topic: &str, id: &str) {
    let mut half = message(topic, id, b"paid");
    let system = half.system_properties.as_mut().unwrap();
    system.message_type = v2::MessageType::Transaction as i32;
    system.tag = Some("red".into());
    system.keys = vec!["order-1".into()];
    system.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let sent =
        client.send_message(by(who, v2::SendMessageRequest { messages: vec![half] })).await.unwrap().into_inner();
    assert_eq!(code(sent.status.as_ref()), 20000, "{:?}", sent.status);
    let entry = &sent.entries[0];
    assert_eq!((entry.message_id.as_str(), entry.transaction_id.as_str()), (id, id));
}

async fn end(client: &mut Client, who: &str, topic: &str, id: &str, resolution: i32) -> i32 {
    let request = v2::EndTransactionRequest {
        topic: Some(resource(topic)),
        message_id: id.into(),
        transaction_id: id.into(),
        resolution,
        ..Default::default()
    };
    code(client.end_transaction(by(who, request)).await.unwrap().into_inner().status.as_ref())
}

struct Line {
    _commands: mpsc::Sender<v2::TelemetryCommand>,
    answers: Streaming<v2::TelemetryCommand>,
}

impl Line {
    async fn open(client: &mut Client, who: &str, pub_sub: PubSub) -> Self {
        let (commands, receiver) = mpsc::channel(8);
        let answers = client.telemetry(by(who, ReceiverStream::new(receiver))).await.unwrap().into_inner();
        let settings = v2::Settings { pub_sub: Some(pub_sub), ..Default::default() };
        let command = v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        commands.send(command).await.unwrap();
        let mut line = Self { _commands: commands, answers };
        assert!(matches!(line.next(LIMIT).await, Some(Command::Settings(_))));
        line
    }

    async fn producer(client: &mut Client, who: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|name| resource(name)).collect();
        Self::open(client, who, PubSub::Publishing(v2::Publishing { topics, ..Default::default() })).await
    }

    async fn consumer(client: &mut Client, who: &str) -> Self {
        let subscription = v2::Subscription { group: Some(resource("g")), ..Default::default() };
        Self::open(client, who, PubSub::Subscription(subscription)).await
    }

    async fn next(&mut self, within: Duration) -> Option<Command> {
        let next = tokio::time::timeout(within, self.answers.message()).await.ok()?;
        next.unwrap().and_then(|command| command.command)
    }

    async fn check(&mut self, within: Duration) -> Option<v2::RecoverOrphanedTransactionCommand> {
        match self.next(within).await? {
            Command::RecoverOrphanedTransactionCommand(check) => Some(check),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_sender_is_asked_with_the_complete_message_and_nobody_else_is() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        mixed(&house, "t").await;
        mixed(&house, "u").await;
        let mut client = house.plain().await;
        let mut before = Line::producer(&mut client, "another", &["t"]).await;
        let mut sender = Line::producer(&mut client, "sender", &[]).await;
        let mut elsewhere = Line::producer(&mut client, "elsewhere", &["u"]).await;
        let mut consumer = Line::consumer(&mut client, "consumer").await;
        send_half(&mut client, "sender", "t", "01AB").await;
        let check = sender.check(LIMIT).await.expect("asked");
        assert_eq!(check.transaction_id, "01AB");
        let asked = check.message.unwrap();
        assert_eq!((asked.body.as_ref(), asked.topic.as_ref()), (b"paid".as_slice(), Some(&resource("t"))));
        assert_eq!(asked.user_properties["colour"], "blue");
        assert_eq!(asked.user_properties["__transactionId__"], "01AB");
        let system = asked.system_properties.unwrap();
        assert_eq!((system.message_id.as_str(), system.tag(), system.keys.len()), ("01AB", "red", 1));
        assert_eq!(
            (system.message_type(), system.body_encoding()),
            (v2::MessageType::Transaction, v2::Encoding::Identity)
        );
        let digest = system.body_digest.as_ref().unwrap();
        assert_eq!((digest.r#type(), digest.checksum.len()), (v2::DigestType::Sha1, 40));
        assert!(system.born_timestamp.is_some() && system.store_timestamp.is_some());
        assert!(!system.born_host.is_empty() && !system.store_host.is_empty());
        assert_eq!(system.delivery_attempt, Some(1));
        for (name, line) in [("another", &mut before), ("elsewhere", &mut elsewhere), ("consumer", &mut consumer)] {
            assert_eq!(line.check(Duration::from_millis(700)).await, None, "{name}");
        }

        assert_eq!(code_of_receive(&mut client, "t").await, 40401, "not visible before its end");
        assert_eq!(end(&mut client, "elsewhere", "t", "01AB", COMMIT).await, 20000, "by whomever");
        let got = messages(&receive(&mut client, receive_request("t", "g")).await);
        assert_eq!((got.len(), got[0].body.as_ref()), (1, b"paid".as_slice()));
        assert_eq!(got[0].user_properties["__transactionId__"], "01AB");
        assert_eq!(got[0].system_properties.as_ref().unwrap().message_type(), v2::MessageType::Transaction);
    });
}

async fn code_of_receive(client: &mut Client, topic: &str) -> i32 {
    crate::house::code_of(&receive(client, receive_request(topic, "early")).await)
}

#[test]
fn without_a_live_sender_another_producer_is_asked_once_it_comes() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        mixed(&house, "t").await;
        let mut client = house.plain().await;
        let gone = Line::producer(&mut client, "sender", &["t"]).await;
        let mut consumer = Line::consumer(&mut client, "consumer").await;
        drop(gone);
        send_half(&mut client, "sender", "t", "01CD").await;
        assert_eq!(consumer.check(Duration::from_millis(1_200)).await, None);
        let mut later = Line::producer(&mut client, "later", &["t"]).await;
        let check = later.check(LIMIT).await.expect("asked");
        assert_eq!(check.transaction_id, "01CD");
        let attempt = check.message.unwrap().system_properties.unwrap().delivery_attempt;
        assert_eq!(attempt, Some(1), "the looks before it came did not count");
        assert_eq!(end(&mut client, "later", "t", "01CD", ROLLBACK).await, 20000);
        assert_eq!(code_of_receive(&mut client, "t").await, 40401);
    });
}

#[test]
fn a_sender_is_asked_also_when_it_sent_before_its_stream_and_names_no_topics() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        mixed(&house, "t").await;
        let mut client = house.plain().await;
        send_half(&mut client, "sender", "t", "01EF").await;
        let mut elsewhere = Line::producer(&mut client, "elsewhere", &[]).await;
        assert_eq!(elsewhere.check(Duration::from_millis(1_200)).await, None, "it has nothing to do with the topic");
        let mut sender = Line::producer(&mut client, "sender", &[]).await;
        assert_eq!(sender.check(LIMIT).await.expect("asked").transaction_id, "01EF");
    });
}

#[test]
fn a_sender_is_asked_over_the_proxy_of_its_stream_although_its_sends_met_another_one_and_is_asked_once() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        mixed(&house, "t").await;
        let mut near = house.plain().await;
        let (_other, mut far) = house.beside().await;
        let mut sender = Line::producer(&mut near, "sender", &[]).await;
        let mut idle = Line::producer(&mut far, "idle", &[]).await;
        for id in ["01", "02"] {
            send_half(&mut far, "sender", "t", id).await;
        }
        let mut asked = Vec::new();
        for _ in 0..2 {
            asked.push(sender.check(LIMIT).await.expect("asked").transaction_id);
        }
        asked.sort();
        assert_eq!(asked, ["01", "02"]);
        assert_eq!(sender.check(Duration::from_millis(1_200)).await, None, "asked twice");
        assert_eq!(idle.check(Duration::from_millis(1)).await, None);
        assert_eq!(end(&mut far, "sender", "t", "01", COMMIT).await, 20000);
    });
}

#[test]
fn many_checks_of_one_producer_all_come_within_a_minute_and_each_once() {
    const COUNT: usize = 300;
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        mixed(&house, "t").await;
        let mut client = house.plain().await;
        let mut sender = Line::producer(&mut client, "sender", &["t"]).await;
        for number in 0..COUNT {
            send_half(&mut client, "sender", "t", &format!("id-{number}")).await;
        }
        let mut asked = std::collections::BTreeSet::new();
        while asked.len() < COUNT {
            let check = sender.check(LIMIT).await.expect("the next one");
            assert!(asked.insert(check.transaction_id), "asked twice");
        }
    });
}

#[test]
fn every_end_has_its_code() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        mixed(&house, "t").await;
        mixed(&house, "u").await;
        let mut client = house.plain().await;
        send_half(&mut client, "sender", "t", "1").await;
        send_half(&mut client, "sender", "t", "2").await;
        let mut end = async |topic: &str, id: &str, resolution| end(&mut client, "sender", topic, id, resolution).await;
        assert_eq!(end("nowhere", "1", COMMIT).await, 40402);
        assert_eq!(end("a b", "1", COMMIT).await, 40002);
        assert_eq!(end("t", "", COMMIT).await, 40008);
        assert_eq!(end("t", " ", COMMIT).await, 40008);
        assert_eq!(end("t", "3", COMMIT).await, 40008);
        assert_eq!(end("t", "3", 0).await, 40008);
        assert_eq!(end("u", "1", COMMIT).await, 40008, "of another topic");
        assert_eq!(end("t", "1", 77).await, 40000);
        assert_eq!(end("t", "1", 0).await, 20000, "no decision yet, as two client libraries say it");
        for _ in 0..2 {
            assert_eq!(end("t", "1", COMMIT).await, 20000);
            assert_eq!(end("t", "2", ROLLBACK).await, 20000);
        }
        assert_eq!(end("t", "1", ROLLBACK).await, 42800);
        assert_eq!(end("t", "2", COMMIT).await, 42800);
        let got = messages(&receive(&mut client, receive_request("t", "g")).await);
        assert_eq!(got.len(), 1);
    });
}
