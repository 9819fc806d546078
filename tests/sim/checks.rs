//! A mass of transaction checks that fall due together, in virtual time: how soon a producer that reads hears of all of them, and
//! what one that does not read costs.

use std::collections::BTreeSet;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{Publish, TopicSpec};
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::TopicName;
use bolide::model::topic::TopicType;
use bolide::runtime::entropy::Entropy;
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use bolide::wire::rocketmq::settings::PubSub;
use bolide::wire::rocketmq::telemetry_command::Command;
use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::process::{End, Flavour, Machine};

/// Fits one frame of the small logs of this world.
const BATCH_BYTES: usize = 128 * 1024;
/// Commands that one who does not read may hold back: a full queue, and what its connection took before.
const HELD_MAX: usize = 64 + 8;
/// Pending transactions that there may be, and the time within which all must have been asked about.
const PENDING_MAX: usize = 100_000;
const ASKED_WITHIN: Duration = Duration::from_secs(60);

fn topic() -> TopicName {
    TopicName::trusted("", "t")
}

async fn send_halves(broker: &Broker, producer: &str, count: usize, body_bytes: usize) {
    let spec = TopicSpec { topic_type: Some(TopicType::Transaction), ..TopicSpec::default() };
    let _ = broker.create_topic(topic(), spec).await;
    let body = v2::Message { body: vec![1; body_bytes].into(), ..v2::Message::default() };
    let rest = Bytes::from(body.encode_to_vec());
    let half = |number: usize| NewMessage {
        message_type: MessageType::Transaction,
        message_id: format!("id-{number}"),
        producer: producer.into(),
        rest: rest.clone(),
        body_bytes: u32::try_from(body_bytes).unwrap(),
        ..NewMessage::default()
    };
    let numbers: Vec<usize> = (0..count).collect();
    let most = (BATCH_BYTES / (body_bytes + 128)).max(1);
    for batch in numbers.chunks(most) {
        let messages = batch.iter().map(|number| half(*number)).collect();
        broker.publish(Publish { topic: topic(), messages }).await.unwrap();
    }
}

struct Producer {
    _commands: mpsc::Sender<v2::TelemetryCommand>,
    answers: Streaming<v2::TelemetryCommand>,
}

impl Producer {
    async fn open(channel: Channel, client: &str) -> Self {
        let (commands, receiver) = mpsc::channel(8);
        let resource = v2::Resource { resource_namespace: String::new(), name: "t".to_owned() };
        let publishing = v2::Publishing { topics: vec![resource], ..Default::default() };
        let settings = v2::Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Default::default() };
        commands.send(v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }).await.unwrap();
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("x-mq-client-id", client.parse().unwrap());
        let mut stub = MessagingServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut answers = stub.telemetry(request).await.unwrap().into_inner();
        let first = answers.message().await.unwrap().unwrap();
        assert!(matches!(first.command, Some(Command::Settings(_))));
        Self { _commands: commands, answers }
    }

    /// The transaction that the next command asks about.
    async fn asked(&mut self) -> String {
        match self.answers.message().await.unwrap().unwrap().command {
            Some(Command::RecoverOrphanedTransactionCommand(check)) => check.transaction_id,
            other => panic!("{other:?}"),
        }
    }
}

fn in_a_calm_world(test: impl AsyncFnOnce(&Machine, &Broker)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut machine = Machine::new(1, &Entropy::seeded(1)).unwrap();
        machine.flavour = Flavour::Full;
        let process = machine.start().await.unwrap();
        let broker = process.broker.clone();
        test(&machine, &broker).await;
        drop(broker);
        machine.end(process, End::Kill).await.unwrap();
    });
}

#[test]
fn a_hundred_thousand_checks_that_fall_due_together_reach_a_producer_that_reads_within_a_minute() {
    in_a_calm_world(async |machine, broker| {
        send_halves(broker, "producer", PENDING_MAX, 100).await;
        let mut producer = Producer::open(machine.net.channel(), "producer").await;
        let mut asked = BTreeSet::from([producer.asked().await]);
        let begin = Instant::now();
        let mut again = 0;
        while asked.len() < PENDING_MAX {
            again += usize::from(!asked.insert(producer.asked().await));
        }
        assert!(begin.elapsed() <= ASKED_WITHIN, "{:?}", begin.elapsed());
        assert!(again <= begin.elapsed().as_secs() as usize / 30 * PENDING_MAX, "the second question comes after 30 s");
    });
}

#[test]
fn a_producer_that_does_not_read_takes_nothing_from_one_that_does() {
    const COUNT: usize = 400;
    const BODY: usize = 64 * 1024;
    in_a_calm_world(async |machine, broker| {
        // Asked first, by its name; its connection holds less than one batch of these.
        let deaf = Producer::open(machine.net.channel(), "deaf").await;
        let mut producer = Producer::open(machine.net.channel(), "producer").await;
        send_halves(broker, "gone", COUNT, BODY).await;
        let mut asked = BTreeSet::new();
        let begin = Instant::now();
        while asked.len() < COUNT - HELD_MAX {
            asked.insert(producer.asked().await);
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        while let Ok(one) = tokio::time::timeout(Duration::from_secs(2), producer.asked()).await {
            asked.insert(one);
        }
        assert!(asked.len() < COUNT, "the other one was never asked");
        drop(deaf);
    });
}
