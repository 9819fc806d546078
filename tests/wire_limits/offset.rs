//! Rows of PullMessage, UpdateOffset, GetOffset and QueryOffset.

use bolide::wire::rocketmq as v2;

use crate::harness::{Ask, Expect, Row, queue, refused, refused_saying, row};
use crate::history::client::resource;
use crate::receive::{EMPTY, GROUP};
use crate::send::{SYSTEM_TOPICS, WRITE_ONLY};

const UNKNOWN: &str = "CODE: 17  DESC: No topic route info in name server for the topic: limits-unknown";

fn of_queue(topic: &str, id: i32) -> Option<v2::MessageQueue> {
    Some(v2::MessageQueue { id, ..queue(topic) })
}

fn pull(topic: &str, group: &str, change: impl FnOnce(&mut v2::PullMessageRequest)) -> Ask {
    let mut request = v2::PullMessageRequest {
        group: Some(resource(group)),
        message_queue: of_queue(topic, 0),
        batch_size: 1,
        long_polling_timeout: Some(prost_types::Duration::default()),
        ..Default::default()
    };
    change(&mut request);
    Ask::Pull(request)
}

fn update(topic: &str, group: &str, id: i32, offset: i64) -> Ask {
    let message_queue = of_queue(topic, id);
    Ask::UpdateOffset(v2::UpdateOffsetRequest { group: Some(resource(group)), message_queue, offset })
}

fn get(topic: &str, group: &str, id: i32) -> Ask {
    Ask::GetOffset(v2::GetOffsetRequest { group: Some(resource(group)), message_queue: of_queue(topic, id) })
}

fn query(topic: &str, id: i32, policy: i32, at: Option<i64>) -> Ask {
    let timestamp = at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
    let message_queue = of_queue(topic, id);
    Ask::QueryOffset(v2::QueryOffsetRequest { message_queue, query_offset_policy: policy, timestamp })
}

/// One valid request of each.
pub fn one_of_each() -> Vec<(&'static str, Ask)> {
    vec![
        ("PullMessage", pull(EMPTY, GROUP, |_| {})),
        ("UpdateOffset", update(EMPTY, GROUP, 0, 0)),
        ("GetOffset", get(EMPTY, GROUP, 0)),
        ("QueryOffset", query(EMPTY, 0, 0, None)),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows = names();
    rows.extend(places());
    rows.extend(pulls());
    rows.extend(queries());
    rows.extend(good());
    rows
}

type Named = (&'static str, fn(&str, &str) -> Ask);

fn all() -> [Named; 4] {
    [
        ("pull", |topic, group| pull(topic, group, |_| {})),
        ("update offset", |topic, group| update(topic, group, 0, 0)),
        ("get offset", |topic, group| get(topic, group, 0)),
        ("query offset", |topic, _| query(topic, 0, 0, None)),
    ]
}

fn names() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, ask) in all() {
        for topic in [" ", "a b", SYSTEM_TOPICS[0]] {
            rows.push(refused(format!("{name}: topic {topic:?}"), ask(topic, GROUP), 40002));
        }
        rows.push(refused(format!("{name}: topic of 128 characters"), ask(&"t".repeat(128), GROUP), 40002));
        rows.push(refused_saying(format!("{name}: unknown topic"), ask("limits-unknown", GROUP), 40402, UNKNOWN));
        if name == "query offset" {
            continue;
        }
        for group in ["", "a b", "CID_RMQ_SYS_x"] {
            rows.push(refused(format!("{name}: group {group:?}"), ask(EMPTY, group), 40003));
        }
        rows.push(refused(format!("{name}: group of 121 characters"), ask(EMPTY, &"g".repeat(121)), 40003));
        rows.push(refused(format!("{name}: the topic is judged before the group"), ask("a b", "a b"), 40002));
    }
    rows.push(refused("pull: no queue", pull(EMPTY, GROUP, |request| request.message_queue = None), 40002));
    rows.push(refused("pull: no group", pull(EMPTY, GROUP, |request| request.group = None), 40003));
    rows
}

/// Queues that a topic does not have, and offsets that a queue does not hold. The topic is empty and has queues 0 and 1.
fn places() -> Vec<Row> {
    let mut rows = Vec::new();
    for id in [2, 1024, i32::MAX, -1, i32::MIN] {
        let at = |request: &mut v2::PullMessageRequest| request.message_queue = of_queue(EMPTY, id);
        rows.push(refused(format!("pull: queue {id}"), pull(EMPTY, "limits-nobody", at), 40000));
        rows.push(refused(format!("update offset: queue {id}"), update(EMPTY, "limits-nobody", id, 0), 40000));
        rows.push(refused(format!("get offset: queue {id}"), get(EMPTY, GROUP, id), 40000));
        rows.push(refused(format!("query offset: queue {id}"), query(EMPTY, id, 1, None), 40000));
    }
    for offset in [1, 1000, i64::MAX, -1, i64::MIN] {
        let at = |request: &mut v2::PullMessageRequest| request.offset = offset;
        rows.push(refused(format!("pull: offset {offset}"), pull(EMPTY, "limits-nobody", at), 40019));
        rows.push(refused(format!("update offset: {offset}"), update(EMPTY, "limits-nobody", 1, offset), 40019));
    }
    rows.push(refused("get offset: a group without a position", get(EMPTY, "limits-disabled", 0), 40404));
    rows.push(refused("get offset: a group that nobody created", get(EMPTY, "limits-nobody", 0), 40404));
    rows
}

fn pulls() -> Vec<Row> {
    let filtered = |kind: i32, expression: &str| {
        pull(EMPTY, "limits-nobody", |request| {
            let expression = expression.to_owned();
            request.filter_expression = Some(v2::FilterExpression { r#type: kind, expression });
        })
    };
    let mut rows = vec![
        refused("pull: topic without read permission", pull(WRITE_ONLY, "limits-nobody", |_| {}), 40300),
        refused("pull: disabled group", pull(EMPTY, "limits-disabled", |_| {}), 40300),
        refused("pull: separators and no tag", filtered(v2::FilterType::Tag as i32, "||"), 40010),
        refused("pull: empty SQL", filtered(v2::FilterType::Sql as i32, " "), 40010),
        refused("pull: unknown type of filter", filtered(9, "*"), 40010),
    ];
    for batch in [0, -1, i32::MIN] {
        let ask = pull(EMPTY, "limits-nobody", |request| request.batch_size = batch);
        rows.push(refused(format!("pull: batch of {batch}"), ask, 40000));
    }
    rows
}

fn queries() -> Vec<Row> {
    vec![
        refused("query offset: a time without a time", query(EMPTY, 0, 2, None), 40000),
        refused("query offset: unknown policy", query(EMPTY, 0, 3, None), 40000),
        refused("query offset: negative policy", query(EMPTY, 0, -1, None), 40000),
    ]
}

fn good() -> Vec<Row> {
    let code = |name: &str, ask: Ask, code: i32| row(name, ask, Expect::Code(code));
    let large = pull(EMPTY, GROUP, |request| request.batch_size = i32::MAX);
    let mut rows = vec![
        code("pull: batch of two thousand million", large, 40401),
        code("pull: the end is inside", pull(EMPTY, GROUP, |_| {}), 40401),
        code("update offset: the end is inside", update(EMPTY, GROUP, 1, 0), 20000),
        code("get offset: after that", get(EMPTY, GROUP, 1), 20000),
        code("update offset: the topic need not be readable", update(WRITE_ONLY, GROUP, 0, 0), 20000),
    ];
    for (name, at) in [("before 1970", i64::MIN), ("now", 1_800_000_000), ("never", i64::MAX)] {
        rows.push(code(&format!("query offset: {name}"), query(EMPTY, 0, 2, Some(at)), 20000));
    }
    rows
}
