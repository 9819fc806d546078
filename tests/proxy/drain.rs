//! How a proxy leaves: nobody's call fails, and clients go elsewhere by themselves.

use std::time::Duration;

use bolide::model::name::TopicName;
use bolide::proxy::options::ProxyOptions;
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::telemetry_command::Command;

use crate::house::{House, LIMIT, code, code_of, message, quick, receive, receive_request, send_request};
use crate::telemetry::{next, open, producer};

#[test]
fn only_clients_that_understand_it_are_told_to_reconnect_and_only_when_the_end_begins() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut streams = Vec::new();
        for language in [v2::Language::Java, v2::Language::NodeJs, v2::Language::Golang, v2::Language::Python] {
            let mut client = house.plain().await;
            let (commands, mut answers) = open(&mut client).await;
            commands.send(producer(language)).await.unwrap();
            assert!(next(&mut answers, LIMIT).await.is_some(), "{language:?} is not answered");
            streams.push((language, client, commands, answers));
        }
        house.broker.shutdown().leave();
        // Still served, new connections too: load balancers look away first.
        let mut client = house.plain().await;
        let sent = client.send_message(send_request(vec![message("t", "1", b"x")])).await.unwrap().into_inner();
        assert_eq!(code(sent.status.as_ref()), 20000);
        house.broker.shutdown().drain();
        for (language, _client, _commands, mut answers) in streams {
            let mut told = 0;
            while let Some(command) = tokio::time::timeout(LIMIT, answers.message()).await.expect("it ends").unwrap() {
                told += usize::from(matches!(command.command, Some(Command::ReconnectEndpointsCommand(_))));
            }
            let understands = matches!(language, v2::Language::Java | v2::Language::NodeJs);
            assert_eq!(told, usize::from(understands), "{language:?}");
        }
    });
}

#[test]
fn a_long_poll_ends_empty_and_no_call_fails_when_the_proxy_drains() {
    const SENDERS: usize = 4;
    let options = ProxyOptions { long_poll_min: Duration::from_secs(20), ..quick() };
    House::run(options, |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        house.topic("empty").await;
        let mut poller = house.plain().await;
        let poll = tokio::spawn(async move { receive(&mut poller, receive_request("empty", "g")).await });
        let mut senders = Vec::new();
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for number in 0..SENDERS {
            let (mut client, sent) = (house.plain().await, sent.clone());
            senders.push(tokio::spawn(async move {
                for round in 0.. {
                    let id = format!("{number}-{round}");
                    match client.send_message(send_request(vec![message("t", &id, b"x")])).await {
                        Ok(answer) => assert_eq!(code(answer.into_inner().status.as_ref()), 20000),
                        // The connection is gone: a client dials again, and meets another proxy. What was under way was answered.
                        Err(status) => return assert_never_began(&status),
                    }
                    sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }));
        }
        let deadline = tokio::time::Instant::now() + LIMIT;
        while house.broker.status().pollers == 0 || sent.load(std::sync::atomic::Ordering::Relaxed) < 50 {
            assert!(tokio::time::Instant::now() < deadline, "nothing is under way");
            tokio::task::yield_now().await;
        }
        house.broker.shutdown().drain();
        let polled = tokio::time::timeout(LIMIT, poll).await.expect("the poll ends early").unwrap();
        assert_eq!(code_of(&polled), v2::Code::MessageNotFound as i32, "{polled:?}");
        for sender in senders {
            tokio::time::timeout(LIMIT, sender).await.expect("the connection ends").unwrap();
        }
        assert_eq!(stored(&house), sent.load(std::sync::atomic::Ordering::Relaxed) as u64);
    });
}

/// Messages in topic `t`. One more than were answered: a call failed that was done.
fn stored(house: &House) -> u64 {
    let spans = house.broker.queue_spans(&TopicName::trusted("", "t")).unwrap();
    spans.iter().map(|span| span.next.0).sum()
}

/// A client may be told that its call did not begin, and then asks elsewhere. Anything else it cannot tell from a call that was done.
///
/// Nothing has to be let pass for connections that the kernel had in its queue when the port closed: on Linux handshakes are kept
/// from beginning before that. Elsewhere, and for a handshake of more than 100 ms, a connection may come about too late to be accepted,
/// and is reset.
fn assert_never_began(error: &(dyn std::error::Error + 'static)) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let refused = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if refused == Some(std::io::ErrorKind::ConnectionRefused) {
            return;
        }
        // Told to go while it took the call over from its caller: nothing of it was written, or nothing that the server looked at.
        let canceled = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        if canceled || format!("{error:?}").contains(r#"kind: GoAway(b"", NO_ERROR, Remote)"#) {
            return;
        }
        cause = error.source();
    }
    panic!("a call that had begun failed: {error:?}");
}

#[test]
fn a_connection_that_came_about_is_served_however_close_to_the_end() {
    const DIALLERS: usize = 16;
    House::run(quick(), |house| async move {
        let mut house = house.lock().await;
        house.topic("t").await;
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut diallers = Vec::new();
        for number in 0..DIALLERS {
            let (address, sent) = (house.address, sent.clone());
            diallers.push(tokio::spawn(async move {
                for round in 0.. {
                    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
                    let channel = match endpoint.connect().await {
                        Ok(channel) => channel,
                        Err(error) => return assert_never_began(&error),
                    };
                    let mut client =
                        bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient::new(channel);
                    let id = format!("{number}-{round}");
                    match client.send_message(send_request(vec![message("t", &id, b"x")])).await {
                        Ok(answer) => assert_eq!(code(answer.into_inner().status.as_ref()), 20000),
                        // It dials again.
                        Err(status) => {
                            assert_never_began(&status);
                            continue;
                        }
                    }
                    sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }));
        }
        let deadline = tokio::time::Instant::now() + LIMIT;
        while sent.load(std::sync::atomic::Ordering::Relaxed) < 100 {
            assert!(tokio::time::Instant::now() < deadline, "nothing is under way");
            tokio::task::yield_now().await;
        }
        house.broker.shutdown().drain();
        for dialler in diallers {
            tokio::time::timeout(LIMIT, dialler).await.expect("the port closes").unwrap();
        }
        tokio::time::timeout(LIMIT, house.listening.take().unwrap().closed()).await.expect("every connection ends");
        assert_eq!(stored(&house), sent.load(std::sync::atomic::Ordering::Relaxed) as u64);
    });
}
