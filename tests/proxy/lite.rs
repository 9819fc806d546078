//! Lite topics as a client meets them.

use bolide::broker::api::{GroupSpec, TopicSpec};
use bolide::model::name::TopicName;
use bolide::model::topic::TopicType;
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::LiteSubscriptionAction as Action;
use bolide::wire::rocketmq::settings::PubSub;
use bolide::wire::rocketmq::telemetry_command::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::house::{
    Client, House, LIMIT, ack_request, code, code_of, handle, message, messages, quick, receive_request, resource,
    send_request,
};

/// A request of a client with this id.
fn of<T>(client: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", client.parse().unwrap());
    request
}

fn lite(id: &str, name: &str) -> v2::Message {
    let mut message = message("parent", id, b"x");
    message.system_properties.as_mut().unwrap().lite_topic = Some(name.into());
    message
}

async fn sync(client: &mut Client, id: &str, action: Action, names: &[&str]) -> i32 {
    let wish = v2::SyncLiteSubscriptionRequest {
        action: action as i32,
        topic: Some(resource("parent")),
        group: Some(resource("g")),
        lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    };
    code(client.sync_lite_subscription(of(id, wish)).await.unwrap().into_inner().status.as_ref())
}

async fn received(client: &mut Client, id: &str) -> (i32, Vec<v2::Message>) {
    let stream = client.receive_message(of(id, receive_request("parent", "g"))).await.unwrap().into_inner();
    let elements = crate::house::collect(stream).await;
    (code_of(&elements), messages(&elements))
}

async fn parent(house: &House) {
    let spec = TopicSpec { topic_type: Some(TopicType::Lite), ..TopicSpec::default() };
    house.broker.create_topic(TopicName::trusted("", "parent"), spec).await.unwrap();
}

#[test]
fn a_subscriber_gets_its_lite_topics_in_order_with_their_names_and_the_others_nothing() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        parent(&house).await;
        let mut client = house.plain().await;
        let sent =
            client.send_message(send_request(vec![lite("1", "x"), lite("2", "x"), lite("3", "y")])).await.unwrap();
        assert_eq!(code(sent.into_inner().status.as_ref()), 20000);
        assert_eq!(received(&mut client, "stranger").await.0, 40401);
        assert_eq!(sync(&mut client, "a", Action::PartialAdd, &["x"]).await, 20000);
        let (_, got) = received(&mut client, "a").await;
        let seen = |message: &v2::Message| {
            let system = message.system_properties.as_ref().unwrap();
            (system.message_id.clone(), system.lite_topic.clone().unwrap(), system.queue_id, system.message_type())
        };
        let expected = |id: &str| (id.to_owned(), "x".to_owned(), 0, v2::MessageType::Lite);
        assert_eq!(got.iter().map(seen).collect::<Vec<_>>(), [expected("1"), expected("2")]);
        let handles: Vec<String> = got.iter().map(handle).collect();
        let mut acked = ack_request("parent", "g", &handles).into_inner();
        acked.entries.iter_mut().for_each(|entry| entry.lite_topic = Some("x".into()));
        assert_eq!(code(client.ack_message(of("a", acked)).await.unwrap().into_inner().status.as_ref()), 20000);
        assert_eq!(received(&mut client, "a").await.0, 40401, "y is not its own");
        assert_eq!(sync(&mut client, "a", Action::CompleteAdd, &["y"]).await, 20000);
        assert_eq!(received(&mut client, "a").await.1.len(), 1);
    });
}

#[test]
fn a_waiting_receive_is_answered_by_the_first_message_of_a_lite_topic() {
    House::run(bolide::proxy::options::ProxyOptions { long_poll_min: LIMIT, ..quick() }, |house| async move {
        let house = house.lock().await;
        parent(&house).await;
        let mut client = house.plain().await;
        assert_eq!(sync(&mut client, "a", Action::CompleteAdd, &["new"]).await, 20000);
        let mut other = house.plain().await;
        let began = tokio::time::Instant::now();
        let (got, sent) =
            tokio::join!(received(&mut client, "a"), other.send_message(send_request(vec![lite("1", "new")])));
        assert_eq!(code(sent.unwrap().into_inner().status.as_ref()), 20000);
        assert_eq!(got.1.len(), 1);
        assert!(began.elapsed() < LIMIT / 2, "not at the end of its wait");
    });
}

#[test]
fn who_loses_a_lite_topic_is_told_on_its_stream_and_others_are_not() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        parent(&house).await;
        house.group("g", GroupSpec { lite_exclusive: Some(true), ..GroupSpec::default() }).await;
        let mut client = house.plain().await;
        let mut streams = Vec::new();
        for (id, client_type) in [
            ("a", v2::ClientType::LitePushConsumer),
            ("b", v2::ClientType::LitePushConsumer),
            ("c", v2::ClientType::PushConsumer),
        ] {
            let subscription = v2::Subscription { group: Some(resource("g")), ..Default::default() };
            let settings = v2::Settings {
                client_type: Some(client_type as i32),
                pub_sub: Some(PubSub::Subscription(subscription)),
                ..Default::default()
            };
            let (commands, receiver) = mpsc::channel(4);
            let mut answers = client.telemetry(of(id, ReceiverStream::new(receiver))).await.unwrap().into_inner();
            commands
                .send(v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) })
                .await
                .unwrap();
            let merged = tokio::time::timeout(LIMIT, answers.message()).await.unwrap().unwrap().unwrap();
            let Some(Command::Settings(merged)) = merged.command else { panic!("{merged:?}") };
            let Some(PubSub::Subscription(merged)) = merged.pub_sub else { panic!("no subscription") };
            let is_lite = client_type == v2::ClientType::LitePushConsumer;
            assert_eq!((merged.fifo, merged.lite_subscription_quota), (Some(is_lite), is_lite.then_some(2_000)));
            streams.push((commands, answers));
        }
        for id in ["a", "c", "b"] {
            assert_eq!(sync(&mut client, id, Action::PartialAdd, &["x"]).await, 20000);
        }
        let told = tokio::time::timeout(LIMIT, streams[0].1.message()).await.unwrap().unwrap().unwrap();
        let expected = v2::NotifyUnsubscribeLiteCommand { lite_topic: "x".into() };
        assert_eq!(told.command, Some(Command::NotifyUnsubscribeLiteCommand(expected)));
        // The plain consumer, which lost it in between, would not survive such a command; the owner has nothing to hear.
        for (_, answers) in &mut streams[1..] {
            let silence = tokio::time::timeout(std::time::Duration::from_millis(200), answers.message()).await;
            assert!(silence.is_err(), "{silence:?}");
        }
    });
}
