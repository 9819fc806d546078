//! Tests of putting answers together.

use super::*;

fn reply<T>(broker: &str, answer: Result<T, Status>) -> Reply<T> {
    Reply { broker: broker.into(), answer }
}

fn names(missing: &[wire::Missing]) -> Vec<(&str, &str)> {
    missing.iter().map(|missing| (missing.broker.as_str(), missing.reason.as_str())).collect()
}

#[test]
fn a_broker_that_cannot_answer_is_named_and_does_not_spoil_the_answer_of_the_others() {
    // (code, whether the whole answer fails, what is said of the broker)
    let table = [
        (Code::Unavailable, false, Some("does not answer: x")),
        (Code::DeadlineExceeded, false, Some("does not answer: x")),
        (Code::Cancelled, false, Some("does not answer: x")),
        (Code::Unknown, false, Some("does not answer: x")),
        (Code::Unimplemented, false, Some("its version does not know this")),
        (Code::Internal, false, Some("x")),
        (Code::Unauthenticated, false, Some("x")),
        (Code::ResourceExhausted, false, Some("x")),
        (Code::NotFound, false, None),
        (Code::InvalidArgument, true, None),
        (Code::FailedPrecondition, true, None),
        (Code::AlreadyExists, true, None),
    ];
    for (code, fails, said) in table {
        let found = sorted(vec![reply("a", Ok(1)), reply("b", Err(Status::new(code, "x")))]);
        assert_eq!(found.is_err(), fails, "{code:?}");
        let Ok(found) = found else { continue };
        assert_eq!(found.answers.len(), 1, "{code:?}");
        assert_eq!(names(&found.missing), said.map(|said| ("b", said)).into_iter().collect::<Vec<_>>(), "{code:?}");
    }
}

#[test]
fn what_nobody_has_does_not_exist_unless_somebody_did_not_answer() {
    let not_here = || reply::<u8>("a", Err(Status::not_found("no such group")));
    let nobody = sorted(vec![not_here(), not_here()]).unwrap().somewhere();
    assert_eq!(nobody.unwrap_err().code(), Code::NotFound);
    assert!(sorted(vec![not_here(), reply("b", Ok(1))]).unwrap().somewhere().is_ok());
    let silent = sorted(vec![not_here(), reply("b", Err(Status::unavailable("gone")))]).unwrap();
    assert_eq!(silent.somewhere().unwrap().missing.len(), 1);
    // No broker at all is an empty answer.
    assert!(sorted(Vec::<Reply<u8>>::new()).unwrap().somewhere().is_ok());
}

#[test]
fn queues_with_the_same_number_stay_apart_by_their_brokers() {
    let answer = |messages, outstanding| wire::ShowTopicResponse {
        queues: vec![wire::QueueRange { queue_id: 0, messages, ..Default::default() }],
        lite_topics: 2,
        readers: vec![wire::TopicReader { group: "g".to_owned(), outstanding, ..Default::default() }],
        ..Default::default()
    };
    let settings = wire::Topic { name: "orders".to_owned(), queues: 8, ..Default::default() };
    let replies = sorted(vec![reply("a", Ok(answer(3, 1))), reply("b", Ok(answer(4, 5)))]).unwrap();
    let merged = topic(settings.clone(), replies);
    let rows: Vec<_> = merged.queues.iter().map(|queue| (queue.broker.as_str(), queue.messages)).collect();
    assert_eq!(rows, [("a", 3), ("b", 4)]);
    assert_eq!((merged.topic, merged.lite_topics), (Some(settings), 4));
    assert_eq!((merged.readers.len(), merged.readers[0].outstanding), (1, 6));
}

#[test]
fn a_page_of_lite_topics_is_cut_behind_a_name_and_never_inside_one() {
    let answer = |names: &[&str], more| wire::ListLiteTopicsResponse {
        lite_topics: names
            .iter()
            .map(|&name| wire::LiteTopic { name: name.to_owned(), ..Default::default() })
            .collect(),
        more,
        missing: Vec::new(),
    };
    let page = |limit, a: &[&str], a_more, b: &[&str], b_more| {
        let replies = vec![reply("a", Ok(answer(a, a_more))), reply("b", Ok(answer(b, b_more)))];
        let page = lite(limit, sorted(replies).unwrap());
        (page.lite_topics.iter().map(|lite| format!("{}@{}", lite.name, lite.broker)).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(page(2, &["k", "m"], false, &["l", "n"], false), (vec!["k@a".to_owned(), "l@b".to_owned()], true));
    assert_eq!(page(2, &["k", "l"], false, &["l"], false).0, ["k@a", "l@a", "l@b"]);
    assert!(!page(2, &["k", "l"], false, &["l"], false).1);
    assert!(page(2, &["k", "l"], true, &[], false).1);
    assert_eq!(page(2, &[], false, &[], false), (Vec::new(), false));
}

#[test]
fn lag_is_told_by_topic_and_broker() {
    let answer = |topic: &str, lag| wire::GroupLagResponse {
        topics: vec![wire::TopicLag {
            topic: topic.to_owned(),
            queues: vec![wire::QueueLag { lag, ..Default::default() }],
        }],
        missing: Vec::new(),
    };
    let silent = reply("c", Err(Status::unavailable("gone")));
    let replies = vec![reply("a", Ok(answer("y", 1))), reply("b", Ok(answer("x", 2))), silent];
    let merged = lag(sorted(replies).unwrap());
    let rows = merged.topics.iter().flat_map(|topic| topic.queues.iter().map(|row| (topic.topic.as_str(), row)));
    let rows: Vec<_> = rows.map(|(topic, row)| (topic, row.broker.as_str(), row.lag)).collect();
    assert_eq!(rows, [("x", "b", 2), ("y", "a", 1)]);
    assert_eq!(names(&merged.missing), [("c", "does not answer: gone")]);
}

#[test]
fn a_client_that_every_broker_knows_is_listed_once() {
    let answer = |id: &str| wire::ShowGroupResponse {
        members: vec![wire::GroupMember { client_id: id.to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let replies = vec![reply("a", Ok(answer("c1"))), reply("b", Ok(answer("c1"))), reply("c", Ok(answer("c2")))];
    let merged = group(wire::Group::default(), sorted(replies).unwrap());
    let ids: Vec<_> = merged.members.iter().map(|member| member.client_id.as_str()).collect();
    assert_eq!(ids, ["c1", "c2"]);
}

#[test]
fn disks_are_summed_clients_are_not_and_the_fullest_disk_counts() {
    let answer = |used, free, clients| wire::StatusResponse {
        disk_used_bytes: used,
        disk_free_bytes: free,
        clients,
        shards: vec![wire::ShardStatus::default()],
        ..Default::default()
    };
    let own = wire::StatusResponse { version: "0.2.0".to_owned(), connections: 9, ..Default::default() };
    let replies = vec![reply("a", Ok(answer(10, 500, 3))), reply("b", Ok(answer(20, 400, 4)))];
    let merged = status(own, sorted(replies).unwrap());
    assert_eq!((merged.disk_used_bytes, merged.disk_free_bytes), (30, 400));
    assert_eq!((merged.clients, merged.connections, merged.version.as_str()), (4, 9, "0.2.0"));
    let brokers: Vec<_> = merged.shards.iter().map(|shard| shard.broker.as_str()).collect();
    assert_eq!(brokers, ["a", "b"]);
}
