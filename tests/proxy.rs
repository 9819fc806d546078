//! The public port as a client meets it, with a whole broker behind it in this process.

#[path = "proxy/addresses.rs"]
mod addresses;
#[path = "proxy/drain.rs"]
mod drain;
#[path = "proxy/house.rs"]
mod house;
#[path = "proxy/lite.rs"]
mod lite;
#[path = "proxy/offsets.rs"]
mod offsets;
#[path = "proxy/telemetry.rs"]
mod telemetry;
#[path = "proxy/transactions.rs"]
mod transactions;

use std::time::Duration;

use bolide::broker::api::{GroupSpec, TopicSpec};
use bolide::model::name::TopicName;
use bolide::wire::rocketmq as v2;
use bolide::wire_receive::Content;
use house::{
    House, LIMIT, ack_request, code, code_of, collect, handle, message, messages, quick, receive, receive_request,
    request, resource, send_request,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[test]
fn what_is_sent_arrives_whole_and_is_gone_after_its_ack() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let body: Vec<u8> =
            (0..4 * 1024 * 1024).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sent = client.send_message(send_request(vec![message("t", "01aB", &body)])).await.unwrap().into_inner();
        assert_eq!(sent.status, Some(v2::Status { code: 20000, message: "OK".into() }));
        assert_eq!(sent.entries.len(), 1);
        assert_eq!((sent.entries[0].message_id.as_str(), sent.entries[0].transaction_id.as_str()), ("01aB", "01aB"));

        let elements = receive(&mut client, receive_request("t", "g")).await;
        assert!(matches!(
            elements.as_slice(),
            [Content::Status(_), Content::Message(_), Content::DeliveryTimestamp(_)]
        ));
        let got = &messages(&elements)[0];
        assert_eq!(got.body, body);
        assert_eq!(got.topic, Some(resource("t")));
        assert_eq!(got.user_properties["colour"], "blue");
        let system = got.system_properties.as_ref().unwrap();
        assert_eq!((system.message_id.as_str(), system.delivery_attempt), ("01aB", Some(1)));
        assert_eq!(system.body_encoding(), v2::Encoding::Identity);
        let digest = system.body_digest.as_ref().unwrap();
        assert_eq!(digest.r#type(), v2::DigestType::Sha1);
        assert!(digest.checksum.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()));
        assert!(system.store_timestamp.is_some() && system.born_timestamp.is_some() && !system.born_host.is_empty());

        let handles = [handle(got)];
        for _ in 0..2 {
            let acked = client.ack_message(ack_request("t", "g", &handles)).await.unwrap().into_inner();
            assert_eq!(acked.status, Some(v2::Status { code: 20000, message: "OK".into() }), "idempotent");
            assert_eq!(acked.entries[0].receipt_handle, handles[0]);
        }
        let elements = receive(&mut client, receive_request("t", "g")).await;
        assert_eq!(code_of(&elements), 40401);
        assert!(matches!(elements.as_slice(), [Content::Status(_), Content::DeliveryTimestamp(_)]));
    });
}

#[test]
fn a_batch_has_one_entry_each_and_a_bad_one_stores_nothing() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let bad = vec![message("t", "1", b"x"), message("t", "2", b"")];
        let refused = client.send_message(send_request(bad)).await.unwrap().into_inner();
        assert_eq!(code(refused.status.as_ref()), 41302);
        assert_eq!(refused.entries.len(), 2);
        assert!(refused.entries.iter().all(|entry| code(entry.status.as_ref()) == 41302));
        let good: Vec<_> = (0..3).map(|index| message("t", &index.to_string(), b"x")).collect();
        let sent = client.send_message(send_request(good)).await.unwrap().into_inner();
        assert_eq!(sent.entries.len(), 3);
        let got = messages(&receive(&mut client, receive_request("t", "g")).await);
        assert_eq!(got.len(), 3, "only the good batch");
    });
}

#[test]
fn unknown_and_illegal_names_have_their_codes_on_every_rpc() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let mut client = house.plain().await;
        let text = "CODE: 17  DESC: No topic route info in name server for the topic: nowhere";
        for (topic, expected) in [("nowhere", 40402), ("a b", 40002), ("TBW102", 40002), ("", 40002)] {
            let route = v2::QueryRouteRequest { topic: Some(resource(topic)), endpoints: None };
            let status = client.query_route(request(route)).await.unwrap().into_inner().status.unwrap();
            assert_eq!(status.code, expected, "{topic:?}");
            if expected == 40402 {
                assert_eq!(status.message, text);
            }
            let sent = client.send_message(send_request(vec![message(topic, "1", b"x")])).await.unwrap().into_inner();
            assert_eq!(code(sent.status.as_ref()), expected, "{topic:?}");
            let elements = receive(&mut client, receive_request(topic, "g")).await;
            assert_eq!(code_of(&elements), expected, "{topic:?}");
            assert_eq!(elements.len(), 1, "an error is one element");
            let acked = client.ack_message(ack_request(topic, "g", &["h".into()])).await.unwrap().into_inner();
            assert_eq!(code(acked.status.as_ref()), expected, "{topic:?}");
            assert_eq!(acked.entries.len(), 1);
        }
        house.topic("t").await;
        let elements = receive(&mut client, receive_request("t", "CID_RMQ_SYS_g")).await;
        assert_eq!(code_of(&elements), 40003);
    });
}

#[test]
fn a_call_without_client_id_is_refused_except_the_heartbeat_that_one_client_sends_so() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let route = v2::QueryRouteRequest { topic: Some(resource("t")), endpoints: None };
        assert_eq!(code(client.query_route(route).await.unwrap().into_inner().status.as_ref()), 40017);
        let elements = {
            let mut stream = client.receive_message(receive_request("t", "g")).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap().content.unwrap()
        };
        assert_eq!(code_of(&[elements]), 40017);
        let beat = client.heartbeat(v2::HeartbeatRequest::default()).await.unwrap().into_inner();
        assert_eq!(code(beat.status.as_ref()), 20000);
        let mut blank = tonic::Request::new(v2::HeartbeatRequest::default());
        blank.metadata_mut().insert("x-mq-client-id", " ".parse().unwrap());
        assert_eq!(code(client.heartbeat(blank).await.unwrap().into_inner().status.as_ref()), 40017);
        let end = request(v2::NotifyClientTerminationRequest::default());
        assert_eq!(code(client.notify_client_termination(end).await.unwrap().into_inner().status.as_ref()), 20000);
    });
}

#[test]
fn handles_that_are_no_longer_good_say_so_in_every_entry() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        client.send_message(send_request(vec![message("t", "1", b"x")])).await.unwrap();
        let got = messages(&receive(&mut client, receive_request("t", "g")).await);
        let good = handle(&got[0]);
        let mixed = [good.clone(), "garbage".to_owned()];

        let change = |handle: &str, seconds| {
            request(v2::ChangeInvisibleDurationRequest {
                group: Some(resource("g")),
                topic: Some(resource("t")),
                receipt_handle: handle.to_owned(),
                invisible_duration: Some(prost_types::Duration { seconds, nanos: 0 }),
                ..Default::default()
            })
        };
        for (handle, seconds, expected) in
            [("garbage", 1, 40013), (&good, 43_201, 40011), (&good, -1, 40011), (&good, 60, 20000)]
        {
            let answer = client.change_invisible_duration(change(handle, seconds)).await.unwrap().into_inner();
            assert_eq!(code(answer.status.as_ref()), expected, "{seconds} s");
            assert!(!answer.receipt_handle.is_empty() && answer.receipt_handle != handle, "{seconds} s");
        }
        let acked = client.ack_message(ack_request("t", "g", &mixed)).await.unwrap().into_inner();
        assert_eq!(acked.status, Some(v2::Status { code: 30000, message: "MULTIPLE_RESULTS".into() }));
        let codes: Vec<i32> = acked.entries.iter().map(|entry| code(entry.status.as_ref())).collect();
        assert_eq!(codes, [20000, 40013]);
    });
}

#[test]
fn routes_name_the_address_that_the_caller_used() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let route = || request(v2::QueryRouteRequest { topic: Some(resource("t")), endpoints: None });
        let first = client.query_route(route()).await.unwrap().into_inner();
        assert_eq!(first.message_queues.len(), 8);
        for (index, queue) in first.message_queues.iter().enumerate() {
            assert_eq!(queue.id as usize, index);
            assert_eq!(queue.permission(), v2::Permission::ReadWrite);
            let endpoints = queue.broker.as_ref().unwrap().endpoints.as_ref().unwrap();
            assert_eq!(endpoints.scheme(), v2::AddressScheme::IPv4);
            assert_eq!(
                endpoints.addresses,
                [v2::Address { host: "127.0.0.1".into(), port: house.address.port().into() }]
            );
        }
        assert_eq!(client.query_route(route()).await.unwrap().into_inner(), first, "stable");
        let assigned = |group: &str| {
            request(v2::QueryAssignmentRequest {
                topic: Some(resource("t")),
                group: Some(resource(group)),
                endpoints: None,
            })
        };
        house.group("ordered", GroupSpec { ordered: Some(Some(true)), ..GroupSpec::default() }).await;
        let count = client.query_assignment(assigned("g")).await.unwrap().into_inner().assignments;
        assert_eq!(count.len(), 1);
        assert_eq!(count[0].message_queue.as_ref().unwrap().id, -1);
        assert_eq!(client.query_assignment(assigned("ordered")).await.unwrap().into_inner().assignments.len(), 8);
    });
}

#[test]
fn a_namespace_from_the_header_is_part_of_the_name() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let route = || {
            let mut route = request(v2::QueryRouteRequest { topic: Some(resource("t")), endpoints: None });
            route.metadata_mut().insert("x-mq-namespace", "ns1".parse().unwrap());
            route
        };
        assert_eq!(code(client.query_route(route()).await.unwrap().into_inner().status.as_ref()), 40402);
        house.broker.create_topic(TopicName::trusted("ns1", "t"), TopicSpec::default()).await.unwrap();
        let routed = client.query_route(route()).await.unwrap().into_inner();
        assert_eq!(routed.message_queues[0].topic, Some(resource("t")), "echoed as it was asked for");

        // One client names the namespace in the message when it sends and in the header when it receives.
        let mut sent = message("t", "1", b"x");
        sent.topic = Some(v2::Resource { resource_namespace: "ns1".into(), name: "t".into() });
        client.send_message(send_request(vec![sent])).await.unwrap();
        assert_eq!(code_of(&receive(&mut client, receive_request("t", "g")).await), 40401, "another topic");
        let mut wish = request(receive_request("t", "g"));
        wish.metadata_mut().insert("x-mq-namespace", "ns1".parse().unwrap());
        let got = collect(client.receive_message(wish).await.unwrap().into_inner()).await;
        assert_eq!(messages(&got).len(), 1);
    });
}

#[test]
fn a_dead_letter_is_read_under_its_own_topic_and_says_where_it_came_from() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        client.send_message(send_request(vec![message("t", "01aB", b"body")])).await.unwrap();
        let got = messages(&receive(&mut client, receive_request("t", "g")).await);
        let forward = v2::ForwardMessageToDeadLetterQueueRequest {
            group: Some(resource("g")),
            topic: Some(resource("t")),
            receipt_handle: handle(&got[0]),
            message_id: "01aB".into(),
            ..Default::default()
        };
        let moved = client.forward_message_to_dead_letter_queue(request(forward)).await.unwrap().into_inner();
        assert_eq!(code(moved.status.as_ref()), 20000);
        let dead = messages(&receive(&mut client, receive_request("%DLQ%g", "undertaker")).await);
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].topic, Some(resource("%DLQ%g")));
        assert_eq!(dead[0].body, got[0].body);
        assert_eq!(dead[0].user_properties["colour"], "blue");
        assert!(dead[0].user_properties.contains_key(bolide::proxy::DEAD_LETTER_REASON));
        assert!(dead[0].user_properties.contains_key(bolide::proxy::DEAD_LETTER_ATTEMPTS));
        let system = dead[0].system_properties.as_ref().unwrap();
        assert_eq!((system.message_id.as_str(), system.delivery_attempt), ("01aB", Some(1)));
        let origin = system.dead_letter_queue.as_ref().unwrap();
        assert_eq!((origin.topic.as_str(), origin.message_id.as_str()), ("t", "01aB"));
    });
}

#[test]
fn a_cancelled_stream_gives_back_what_it_never_wrote_at_no_attempt() {
    House::run(quick(), |house| async move {
        const SENT: usize = 8;
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        for index in 0..SENT {
            client.send_message(send_request(vec![message("t", &index.to_string(), &[7; 1 << 20])])).await.unwrap();
        }
        let mut taken = 0;
        let deadline = tokio::time::Instant::now() + LIMIT;
        while taken == 0 {
            assert!(tokio::time::Instant::now() < deadline, "nothing arrives");
            let mut stream = client.receive_message(request(receive_request("t", "g"))).await.unwrap().into_inner();
            // The status and one message; a few more are in the transport's buffers, the rest is beyond what the client lets
            // the server write ahead.
            assert!(stream.message().await.unwrap().is_some());
            taken += usize::from(matches!(stream.message().await.unwrap().unwrap().content, Some(Content::Message(_))));
        }
        let mut again = Vec::new();
        while again.len() < SENT / 2 {
            assert!(tokio::time::Instant::now() < deadline, "only {} came back", again.len());
            again.extend(messages(&receive(&mut client, receive_request("t", "g")).await));
        }
        let attempt = |message: &v2::Message| message.system_properties.as_ref().unwrap().delivery_attempt;
        assert!(again.iter().all(|message| attempt(message) == Some(1)));
    });
}

#[test]
fn ipv6_clients_are_told_an_ipv6_address() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let options = bolide::proxy::options::ProxyOptions { listen: "[::1]:0".parse().unwrap(), ..quick() };
    House::run(options, |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let route = v2::QueryRouteRequest { topic: Some(resource("t")), endpoints: None };
        let routed = client.query_route(request(route)).await.unwrap().into_inner();
        let endpoints = routed.message_queues[0].broker.as_ref().unwrap().endpoints.as_ref().unwrap();
        assert_eq!(endpoints.scheme(), v2::AddressScheme::IPv6);
        assert_eq!(endpoints.addresses[0].host, "::1");
    });
}

#[test]
fn one_port_takes_tls_and_plaintext_and_closes_on_everything_else() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        for mut client in [house.plain().await, house.encrypted().await] {
            let sent = client.send_message(send_request(vec![message("t", "1", b"x")])).await.unwrap().into_inner();
            assert_eq!(code(sent.status.as_ref()), 20000);
        }
        let garbage = ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "PRI * HT", "\u{16}\u{3}\u{1}"];
        for bytes in garbage {
            let mut socket = TcpStream::connect(house.address).await.unwrap();
            socket.write_all(bytes.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(LIMIT, socket.read_to_end(&mut rest)).await;
            assert!(ended.is_ok(), "{bytes:?} is never closed");
        }
    });
}

#[test]
fn more_connections_than_allowed_are_closed_and_room_comes_back() {
    let options = bolide::proxy::options::ProxyOptions { connections_max: 1, ..quick() };
    House::run(options, |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let route = || request(v2::QueryRouteRequest { topic: Some(resource("t")), endpoints: None });
        let mut first = house.plain().await;
        assert!(first.query_route(route()).await.is_ok());
        let mut socket = TcpStream::connect(house.address).await.unwrap();
        let read = tokio::time::timeout(LIMIT, socket.read(&mut [0; 1])).await.expect("not closed");
        assert!(matches!(read, Ok(0) | Err(_)));
        drop(first);
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            if house.plain().await.query_route(route()).await.is_ok() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "the closed connection still counts");
        }
    });
}

#[test]
fn an_empty_receive_waits_its_time_and_answers_before_the_deadline() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let began = tokio::time::Instant::now();
        assert_eq!(code_of(&receive(&mut client, receive_request("t", "g")).await), 40401);
        assert!(began.elapsed() >= Duration::from_millis(300), "an empty receive is never early");
        let mut wish = receive_request("t", "g");
        wish.long_polling_timeout = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        let mut call = request(wish);
        call.set_timeout(Duration::from_millis(900));
        let mut stream = client.receive_message(call).await.expect("answered in time").into_inner();
        match stream.message().await.unwrap().unwrap().content.unwrap() {
            Content::Status(status) => assert_eq!(status.code, 40401),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn health_and_reflection_answer() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", house.address))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let ask = tonic_health::pb::HealthCheckRequest { service: String::new() };
        assert_eq!(health.check(ask).await.unwrap().into_inner().status, 1);
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list of services")
        };
        assert!(list.service.iter().any(|service| service.name == "apache.rocketmq.v2.MessagingService"));
        let mut admin = v2::admin_client::AdminClient::new(channel);
        let topic = v2::DescribeTopicStatusRequest::default();
        let answer = admin.describe_topic_status(topic).await.unwrap().into_inner();
        assert_eq!(code(answer.status.as_ref()), 50100);
    });
}

#[test]
fn draining_ends_long_polls_empty_and_closes_in_time() {
    House::run(quick(), |house| async move {
        let mut house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let mut wish = receive_request("t", "g");
        wish.long_polling_timeout = Some(prost_types::Duration { seconds: 20, nanos: 0 });
        let polling = tokio::spawn(async move { receive(&mut client, wish).await });
        let deadline = tokio::time::Instant::now() + LIMIT;
        while house.broker.status().pollers == 0 {
            assert!(tokio::time::Instant::now() < deadline, "the receive never waits");
            tokio::task::yield_now().await;
        }
        let began = tokio::time::Instant::now();
        house.broker.shutdown().drain();
        let elements = polling.await.unwrap();
        assert_eq!(code_of(&elements), 40401);
        house.listening.take().unwrap().closed().await;
        assert!(began.elapsed() < LIMIT);
        assert!(TcpStream::connect(house.address).await.is_err(), "the port is closed");
    });
}
