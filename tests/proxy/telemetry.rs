//! Telemetry streams: what makes clients hang or break when it goes wrong.

use std::time::Duration;

use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::settings::PubSub;
use bolide::wire::rocketmq::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::house::{Client, House, LIMIT, code, quick, request, resource};

pub fn producer(language: v2::Language) -> v2::TelemetryCommand {
    let publishing = v2::Publishing { topics: vec![resource("t")], ..Default::default() };
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::Producer as i32),
        pub_sub: Some(PubSub::Publishing(publishing)),
        user_agent: Some(v2::Ua { language: language as i32, ..Default::default() }),
        ..Default::default()
    };
    v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }
}

fn consumer(group: &str, expression: &str) -> v2::TelemetryCommand {
    let entry = v2::SubscriptionEntry {
        topic: Some(resource("t")),
        expression: Some(v2::FilterExpression { r#type: 1, expression: expression.into() }),
    };
    let subscription =
        v2::Subscription { group: Some(resource(group)), subscriptions: vec![entry], ..Default::default() };
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::PushConsumer as i32),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..Default::default()
    };
    v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }
}

pub type Commands = mpsc::Sender<v2::TelemetryCommand>;

pub async fn open(client: &mut Client) -> (Commands, Streaming<v2::TelemetryCommand>) {
    let (sender, receiver) = mpsc::channel(8);
    let answers = client.telemetry(request(ReceiverStream::new(receiver))).await.unwrap().into_inner();
    (sender, answers)
}

pub async fn next(answers: &mut Streaming<v2::TelemetryCommand>, within: Duration) -> Option<v2::TelemetryCommand> {
    tokio::time::timeout(within, answers.message()).await.ok()?.unwrap()
}

#[test]
fn every_settings_is_answered_with_ok_and_the_merged_settings_and_half_close_ends_the_stream() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let mut client = house.plain().await;
        let (commands, mut answers) = open(&mut client).await;
        // A filter or a name that is wrong is no reason to end the stream.
        let sent = [producer(v2::Language::Java), consumer("g", "||"), consumer("a b", "*"), consumer("g", "*")];
        for command in sent {
            commands.send(command).await.unwrap();
            let answer = next(&mut answers, Duration::from_secs(1)).await.expect("answered at once");
            assert_eq!(answer.status, Some(v2::Status { code: 20000, message: "OK".into() }));
            assert!(matches!(answer.command, Some(Command::Settings(_))));
        }
        drop(commands);
        let end = tokio::time::timeout(LIMIT, answers.message()).await.expect("the server's half stays open");
        assert_eq!(end.unwrap(), None, "ended with OK");
    });
}

#[test]
fn node_is_told_again_after_its_start_and_at_its_first_heartbeat_and_others_are_not() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let mut client = house.plain().await;
        let (commands, mut answers) = open(&mut client).await;
        commands.send(producer(v2::Language::NodeJs)).await.unwrap();
        let first = next(&mut answers, Duration::from_secs(1)).await.unwrap();
        assert_eq!(next(&mut answers, Duration::from_millis(900)).await, Some(first.clone()), "after half a second");
        let beat = request(v2::HeartbeatRequest::default());
        assert_eq!(code(client.heartbeat(beat).await.unwrap().into_inner().status.as_ref()), 20000);
        assert_eq!(next(&mut answers, Duration::from_millis(300)).await, Some(first), "with the heartbeat");
        drop(commands);

        let (commands, mut answers) = open(&mut client).await;
        commands.send(producer(v2::Language::Cpp)).await.unwrap();
        assert!(next(&mut answers, Duration::from_secs(1)).await.is_some());
        client.heartbeat(request(v2::HeartbeatRequest::default())).await.unwrap();
        assert_eq!(next(&mut answers, Duration::from_millis(1_300)).await, None, "C++ adds up what it gets");
    });
}

#[test]
fn a_client_that_never_reads_is_still_heard() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let mut client = house.plain().await;
        let (commands, answers) = open(&mut client).await;
        for _ in 0..500 {
            tokio::time::timeout(LIMIT, commands.send(producer(v2::Language::Python))).await.expect("blocked").unwrap();
        }
        let beat = client.heartbeat(request(v2::HeartbeatRequest::default())).await.unwrap().into_inner();
        assert_eq!(code(beat.status.as_ref()), 20000);
        drop(answers);
    });
}

#[test]
fn a_stream_without_client_id_is_told_why_and_ends() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let mut client = house.plain().await;
        let (commands, receiver) = mpsc::channel(1);
        let mut answers = client.telemetry(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let answer = next(&mut answers, LIMIT).await.unwrap();
        assert_eq!(code(answer.status.as_ref()), 40017);
        assert_eq!(next(&mut answers, LIMIT).await, None);
        drop(commands);
    });
}
