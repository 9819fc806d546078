//! Rows of ReceiveMessage, QueryRoute, QueryAssignment,.

use std::time::Duration;

use bolide::wire::rocketmq as v2;

use crate::harness::{Ask, Expect, Row, queue, refused, refused_saying, row};
use crate::history::client::{duration, resource};
use crate::send::{DELAY, LITE, MIXED, NORMAL, PRIORITY, SYSTEM_TOPICS, WRITE_ONLY, message, send};
use crate::transaction;

/// A topic without messages: an accepted receive answers 40401 from it.
pub const EMPTY: &str = "limits-empty";
pub const GROUP: &str = "limits-group";

const HOURS_12_MS: u64 = 12 * 60 * 60 * 1000;

fn body(topic: &str, group: &str) -> v2::ReceiveMessageRequest {
    v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(queue(topic)),
        filter_expression: Some(v2::FilterExpression {
            r#type: v2::FilterType::Tag as i32,
            expression: "*".to_owned(),
        }),
        batch_size: 1,
        invisible_duration: Some(duration(Duration::from_secs(60))),
        ..Default::default()
    }
}

fn receive(topic: &str, group: &str, change: impl FnOnce(&mut v2::ReceiveMessageRequest)) -> Ask {
    let mut request = body(topic, group);
    change(&mut request);
    Ask::Receive(request)
}

/// A receive of one message.
pub fn one_of(topic: &str) -> Ask {
    Ask::Receive(body(topic, GROUP))
}

/// A receive that finds nothing and waits.
pub fn waiting() -> Ask {
    Ask::Receive(body(EMPTY, GROUP))
}

pub fn rows() -> Vec<Row> {
    let mut rows = names();
    rows.extend(leases());
    rows.extend(filters());
    rows.extend(route_and_assignment());
    rows
}

fn names() -> Vec<Row> {
    let unknown = "CODE: 17  DESC: No topic route info in name server for the topic: limits-unknown";
    let plain = |topic: &str, group: &str| receive(topic, group, |_| {});
    let mut rows = vec![
        refused("receive 3: blank topic", plain(" ", GROUP), 40002),
        refused("receive 3: no queue", receive(EMPTY, GROUP, |request| request.message_queue = None), 40002),
        refused("receive 3: topic of 128 characters", plain(&"t".repeat(128), GROUP), 40002),
        refused("receive 3: system topic", plain("TBW102", GROUP), 40002),
        refused("receive 3: empty group", plain(EMPTY, ""), 40003),
        refused("receive 3: no group", receive(EMPTY, GROUP, |request| request.group = None), 40003),
        refused("receive 3: group of 121 characters", plain(EMPTY, &"g".repeat(121)), 40003),
        refused("receive 3: group with a space", plain(EMPTY, "a b"), 40003),
        refused("receive 3: reserved group", plain(EMPTY, "CID_RMQ_SYS_x"), 40003),
        refused("receive 3: the topic is judged before the group", plain("a b", "a b"), 40002),
        row("receive 3: group of 120 characters", plain(EMPTY, &"g".repeat(120)), Expect::Code(40401)),
        refused_saying("receive: unknown topic", plain("limits-unknown", GROUP), 40402, unknown),
        refused("receive 6: topic without read permission", plain(WRITE_ONLY, GROUP), 40300),
        refused("receive: disabled group", plain(EMPTY, "limits-disabled"), 40300),
    ];
    // A dead-letter topic is readable by name; here none exists.
    rows.push(refused("receive: dead letters of nobody", plain("%DLQ%limits-nobody", GROUP), 40402));
    rows
}

fn leases() -> Vec<Row> {
    let lasting = |millis: u64| {
        receive(EMPTY, GROUP, |request| request.invisible_duration = Some(duration(Duration::from_millis(millis))))
    };
    let small = "the invisibleTime is too small. min is 10000";
    let large = "the invisibleTime is too large. max is 43200000";
    let renewed = |millis: u64| {
        receive(EMPTY, GROUP, |request| {
            request.auto_renew = true;
            request.invisible_duration = Some(duration(Duration::from_millis(millis)));
        })
    };
    let negative = receive(EMPTY, GROUP, |request| {
        request.invisible_duration = Some(prost_types::Duration { seconds: -1, nanos: 0 })
    });
    vec![
        refused_saying("receive 4: 9999 ms", lasting(9_999), 40011, small),
        refused_saying("receive 4: 0 ms", lasting(0), 40011, small),
        refused_saying("receive 4: a negative duration", negative, 40011, small),
        refused("receive 4: no duration", receive(EMPTY, GROUP, |request| request.invisible_duration = None), 40011),
        row("receive 4: 10000 ms", lasting(10_000), Expect::Code(40401)),
        row("receive 4: 12 h", lasting(HOURS_12_MS), Expect::Code(40401)),
        refused_saying("receive 4: 12 h and 1 ms", lasting(HOURS_12_MS + 1), 40011, large),
        row("receive 4: auto-renew ignores the duration", renewed(1), Expect::Code(40401)),
        refused(
            "receive 3: names come before the duration",
            receive("a b", GROUP, |request| request.invisible_duration = None),
            40002,
        ),
        row("receive 7: batch of 33", receive(EMPTY, GROUP, |request| request.batch_size = 33), Expect::Code(40401)),
        row(
            "receive 7: batch of two thousand million",
            receive(EMPTY, GROUP, |request| request.batch_size = i32::MAX),
            Expect::Code(40401),
        ),
    ]
}

fn filters() -> Vec<Row> {
    let filter = |kind: v2::FilterType, text: &str| {
        let expression = v2::FilterExpression { r#type: kind as i32, expression: text.to_owned() };
        receive(EMPTY, GROUP, |request| request.filter_expression = Some(expression))
    };
    vec![
        row(
            "receive 5: no filter",
            receive(EMPTY, GROUP, |request| request.filter_expression = None),
            Expect::Code(40401),
        ),
        row("receive 5: empty expression", filter(v2::FilterType::Tag, ""), Expect::Code(40401)),
        row("receive 5: unspecified type means tags", filter(v2::FilterType::Unspecified, "A"), Expect::Code(40401)),
        row("receive 5: spaces and empty parts", filter(v2::FilterType::Tag, " A || B || "), Expect::Code(40401)),
        refused("receive 5: separators only", filter(v2::FilterType::Tag, "||"), 40010),
        row("receive 5: SQL", filter(v2::FilterType::Sql, "a = 1"), Expect::Code(40401)),
        refused("receive 5: SQL that ends too early", filter(v2::FilterType::Sql, "a ="), 40010),
        refused("receive 5: SQL and more behind it", filter(v2::FilterType::Sql, "a = 1 b"), 40010),
        refused("receive 5: SQL of the wrong kind", filter(v2::FilterType::Sql, "a > 'x'"), 40010),
        refused("receive 5: SQL that is no condition", filter(v2::FilterType::Sql, "1"), 40010),
        row("receive 5: SQL at its length", filter(v2::FilterType::Sql, &sql_of(8192)), Expect::Code(40401)),
        refused("receive 5: SQL too long", filter(v2::FilterType::Sql, &sql_of(8193)), 40010),
        row("receive 5: SQL at its depth", filter(v2::FilterType::Sql, &nested(64)), Expect::Code(40401)),
        refused("receive 5: SQL too deep", filter(v2::FilterType::Sql, &nested(65)), 40010),
        refused("receive 5: empty SQL", filter(v2::FilterType::Sql, " "), 40010),
        row("receive 5: SQL at its number of words", filter(v2::FilterType::Sql, &words(2_048)), Expect::Code(40401)),
        refused("receive 5: SQL of too many words", filter(v2::FilterType::Sql, &words(2_049)), 40010),
        row("receive 5: SQL list at its length", filter(v2::FilterType::Sql, &list(512)), Expect::Code(40401)),
        refused("receive 5: SQL list too long", filter(v2::FilterType::Sql, &list(513)), 40010),
        row("receive 5: SQL pattern at its length", filter(v2::FilterType::Sql, &like(&[256])), Expect::Code(40401)),
        refused("receive 5: SQL pattern too long", filter(v2::FilterType::Sql, &like(&[257])), 40010),
        row("receive 5: SQL patterns together", filter(v2::FilterType::Sql, &like(&[128, 128])), Expect::Code(40401)),
        refused("receive 5: SQL patterns too long together", filter(v2::FilterType::Sql, &like(&[128, 129])), 40010),
        row(
            "receive 5: the largest number",
            filter(v2::FilterType::Sql, &format!("a = {}", i64::MAX)),
            Expect::Code(40401),
        ),
        refused("receive 5: a number too large", filter(v2::FilterType::Sql, "a = 9223372036854775808"), 40010),
        at("a = ", 5, "a value is needed here, not the end"),
        at("a = 1 OR \"b\" = 'x'", 10, "a text stands in single quotes"),
        // Characters, as a person counts them, and not bytes.
        at("a = 'äöü' AND # = 1", 15, "'#' does not belong here"),
        at("a = 'x", 5, "the text that begins here does not end"),
        at(&list(513), 1_031, "a list has more than 512 values"),
    ]
}

/// A refused expression: where, and why.
fn at(expression: &str, place: usize, why: &str) -> Row {
    let filter = v2::FilterExpression { r#type: v2::FilterType::Sql as i32, expression: expression.to_owned() };
    let ask = receive(EMPTY, GROUP, |request| request.filter_expression = Some(filter));
    let text = format!("the SQL expression is not valid at character {place}: {why}");
    refused_saying(format!("receive 5: where and why {:.20}", expression), ask, 40010, &text)
}

/// A list of this many values.
fn list(values: usize) -> String {
    format!("a IN ({})", vec!["1"; values].join(","))
}

/// An expression of this many words and signs.
fn words(count: usize) -> String {
    // A list of n values has 2n + 3; 2 x 512 + 3 + 1 are left of what the second list and a NOT or two make.
    let left = count - (2 * 512 + 3) - 1 - 3;
    let nots = "NOT ".repeat(left % 2);
    format!("{nots}{} OR {}", list(512), list(left / 2))
}

/// LIKE patterns of these lengths.
fn like(lengths: &[usize]) -> String {
    let patterns: Vec<String> = lengths.iter().map(|chars| format!("a LIKE '{}'", "x".repeat(*chars))).collect();
    patterns.join(" OR ")
}

/// An expression of this many characters.
fn sql_of(chars: usize) -> String {
    format!("a = '{}'", "x".repeat(chars - "a = ''".len()))
}

/// An expression in this many parentheses.
fn nested(levels: usize) -> String {
    format!("{}a = 1{}", "(".repeat(levels), ")".repeat(levels))
}

fn route_and_assignment() -> Vec<Row> {
    let route = |topic: &str| Ask::Route(v2::QueryRouteRequest { topic: Some(resource(topic)), endpoints: None });
    let assign = |topic: &str, group: &str| {
        Ask::Assignment(v2::QueryAssignmentRequest {
            topic: Some(resource(topic)),
            group: Some(resource(group)),
            endpoints: None,
        })
    };
    let unknown = "CODE: 17  DESC: No topic route info in name server for the topic: limits-unknown";
    let mut rows = vec![
        row("route: known topic", route(NORMAL), Expect::Code(20000)),
        refused("route: blank topic", route(""), 40002),
        refused_saying("route: unknown topic", route("limits-unknown"), 40402, unknown),
        row("assignment: known topic, unknown group", assign(NORMAL, "limits-new-group"), Expect::Code(20000)),
        refused("assignment: blank topic", assign("", GROUP), 40002),
        refused("assignment: blank group", assign(NORMAL, ""), 40003),
        refused_saying("assignment: unknown topic", assign("limits-unknown", GROUP), 40402, unknown),
        refused("assignment: topic without read permission", assign(WRITE_ONLY, GROUP), 40300),
    ];
    for name in SYSTEM_TOPICS {
        rows.push(refused(format!("route: system topic {name}"), route(name), 40002));
    }
    rows
}

/// One call of each kind that would be accepted or answered; `client` changes the client id.
fn one_of_each() -> Vec<(&'static str, Ask)> {
    let group = Some(resource(GROUP));
    let topic = Some(resource(NORMAL));
    let handle = "handle".to_owned();
    vec![
        ("QueryRoute", Ask::Route(v2::QueryRouteRequest { topic: topic.clone(), endpoints: None })),
        (
            "QueryAssignment",
            Ask::Assignment(v2::QueryAssignmentRequest { topic: topic.clone(), group: group.clone(), endpoints: None }),
        ),
        (
            "Heartbeat",
            Ask::Heartbeat(v2::HeartbeatRequest {
                group: group.clone(),
                client_type: v2::ClientType::SimpleConsumer as i32,
            }),
        ),
        ("NotifyClientTermination", Ask::Terminate(v2::NotifyClientTerminationRequest { group: group.clone() })),
        ("SendMessage", send(vec![message(NORMAL)])),
        (
            "SyncLiteSubscription",
            Ask::SyncLite(v2::SyncLiteSubscriptionRequest {
                topic: Some(resource(LITE)),
                group: group.clone(),
                ..Default::default()
            }),
        ),
        ("ReceiveMessage", Ask::Receive(body(NORMAL, GROUP))),
        (
            "AckMessage",
            Ask::Ack(v2::AckMessageRequest {
                group: group.clone(),
                topic: topic.clone(),
                entries: vec![v2::AckMessageEntry { receipt_handle: handle.clone(), ..Default::default() }],
            }),
        ),
        (
            "ChangeInvisibleDuration",
            Ask::Change(v2::ChangeInvisibleDurationRequest {
                group: group.clone(),
                topic: topic.clone(),
                receipt_handle: handle.clone(),
                invisible_duration: Some(duration(Duration::ZERO)),
                ..Default::default()
            }),
        ),
        (
            "ForwardMessageToDeadLetterQueue",
            Ask::Forward(v2::ForwardMessageToDeadLetterQueueRequest {
                group,
                topic,
                receipt_handle: handle,
                ..Default::default()
            }),
        ),
    ]
}

fn recall(topic: &str) -> Ask {
    Ask::Recall(v2::RecallMessageRequest { topic: Some(resource(topic)), recall_handle: "handle".to_owned() })
}

/// What can be said of a recall without a message; the others are told by the broker's own tests.
fn recalls() -> Vec<Row> {
    vec![
        refused("RecallMessage: handle that nobody made", recall(DELAY), 40000),
        refused("RecallMessage: handle that nobody made, mixed topic", recall(MIXED), 40000),
        refused("RecallMessage: topic without delayed messages", recall(PRIORITY), 40014),
        refused("RecallMessage: unknown topic", recall("limits-unknown"), 40402),
        refused("RecallMessage: illegal topic", recall("no good"), 40002),
    ]
}

pub fn other_rpcs() -> Vec<Row> {
    let mut rows = recalls();
    let end = ("EndTransaction", transaction::end(NORMAL, "id", v2::TransactionResolution::Commit as i32));
    let others = [end, ("RecallMessage", recall(DELAY))];
    for (name, ask) in one_of_each().into_iter().chain(crate::offset::one_of_each()).chain(others) {
        for blank in ["", "  "] {
            let row = refused(format!("{name} by a client with the id {blank:?}"), ask.clone(), 40017);
            rows.push(Row { client_id: blank.to_owned(), ..row });
        }
    }
    rows
}
