//! A puller over the wire: what it reads, what it commits, what it may ask.

use std::time::{Duration, Instant};

use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::pull_message_response::Content;

use crate::house::{Client, House, code, message, quick, request, resource, send_request};

fn queue(id: i32) -> Option<v2::MessageQueue> {
    Some(v2::MessageQueue { topic: Some(resource("t")), id, ..Default::default() })
}

fn wish(id: i32, offset: i64) -> v2::PullMessageRequest {
    v2::PullMessageRequest {
        group: Some(resource("g")),
        message_queue: queue(id),
        offset,
        batch_size: 32,
        long_polling_timeout: Some(prost_types::Duration::default()),
        ..Default::default()
    }
}

async fn pull(client: &mut Client, wish: tonic::Request<v2::PullMessageRequest>) -> Vec<Content> {
    let mut stream = client.pull_message(wish).await.unwrap().into_inner();
    let mut elements = Vec::new();
    while let Some(element) = stream.message().await.unwrap() {
        elements.push(element.content.unwrap());
    }
    elements
}

#[test]
fn a_puller_reads_in_order_commits_and_finds_its_place_again() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        // One request, one queue.
        let messages = ["a", "b", "c"].map(|id| message("t", id, id.as_bytes())).to_vec();
        let sent = client.send_message(send_request(messages)).await.unwrap().into_inner();
        assert_eq!(sent.entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [0, 1, 2]);
        let end = v2::QueryOffsetPolicy::End as i32;
        let mut id = -1;
        for queue_id in 0..8 {
            let ask =
                v2::QueryOffsetRequest { message_queue: queue(queue_id), query_offset_policy: end, timestamp: None };
            let answer = client.query_offset(request(ask)).await.unwrap().into_inner();
            assert_eq!(code(answer.status.as_ref()), 20000);
            if answer.offset == 3 {
                id = queue_id;
            }
        }

        let elements = pull(&mut client, request(wish(id, 1))).await;
        let [Content::Status(status), Content::Message(first), Content::Message(_), Content::NextOffset(3)] =
            elements.as_slice()
        else {
            panic!("{elements:?}")
        };
        assert_eq!(status, &v2::Status { code: 20000, message: "OK".into() });
        assert_eq!((first.body.as_ref(), first.topic.as_ref()), (&b"b"[..], Some(&resource("t"))));
        assert_eq!(first.user_properties["colour"], "blue");
        let system = first.system_properties.as_ref().unwrap();
        assert_eq!((system.message_id.as_str(), system.queue_id, system.queue_offset), ("b", id, Some(1)));
        assert_eq!((system.delivery_attempt, &system.receipt_handle), (Some(1), &None));
        assert!(system.body_digest.is_some() && system.body_encoding() == v2::Encoding::Identity);

        let get = || request(v2::GetOffsetRequest { group: Some(resource("g")), message_queue: queue(id) });
        assert_eq!(code(client.get_offset(get()).await.unwrap().into_inner().status.as_ref()), 40404);
        let update = v2::UpdateOffsetRequest { group: Some(resource("g")), message_queue: queue(id), offset: 2 };
        let updated = client.update_offset(request(update)).await.unwrap().into_inner();
        assert_eq!(updated.status, Some(v2::Status { code: 20000, message: "OK".into() }));
        let got = client.get_offset(get()).await.unwrap().into_inner();
        assert_eq!((code(got.status.as_ref()), got.offset), (20000, 2));
    });
}

#[test]
fn an_empty_pull_waits_as_long_as_it_may_and_says_where_to_go_on() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        let began = Instant::now();
        let mut patient = request(v2::PullMessageRequest { long_polling_timeout: None, ..wish(0, 0) });
        patient.set_timeout(Duration::from_secs(2));
        let elements = pull(&mut client, patient).await;
        assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(2));
        let [Content::Status(status), Content::NextOffset(0)] = elements.as_slice() else { panic!("{elements:?}") };
        assert_eq!(status.code, 40401);
    });
}

#[test]
fn a_refused_pull_is_one_element_in_a_code_that_its_client_survives() {
    House::run(quick(), |house| async move {
        let house = house.lock().await;
        house.topic("t").await;
        let mut client = house.plain().await;
        for (language, expected) in [("JAVA", 40019), ("RUST", 40000)] {
            let mut far = request(wish(0, 7));
            far.metadata_mut().insert("x-mq-language", language.parse().unwrap());
            let elements = pull(&mut client, far).await;
            let [Content::Status(status)] = elements.as_slice() else { panic!("{elements:?}") };
            assert_eq!(status.code, expected);
            assert!(status.message.contains("offset 7 lies outside of queue 0"), "{}", status.message);
        }
    });
}
