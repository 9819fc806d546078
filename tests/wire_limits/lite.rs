//! Rows of SyncLiteSubscription and of receives on lite topics.

use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::LiteSubscriptionAction as Action;
use bolide::wire::rocketmq::offset_option::OffsetType;

use crate::harness::{Ask, Expect, OK, Row, queue, refused, row};
use crate::history::client::resource;
use crate::send::{LITE, MIXED, NORMAL, message, send};

pub const GROUP: &str = "limits-lite-group";
/// Lite topics that a server of these rows lets one client subscribe to, and keeps below one parent.
pub const FEW: usize = 3;

fn wish(topic: &str, group: &str, action: Action, names: &[&str]) -> v2::SyncLiteSubscriptionRequest {
    v2::SyncLiteSubscriptionRequest {
        action: action as i32,
        topic: Some(resource(topic)),
        group: Some(resource(group)),
        lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn add(names: &[&str]) -> Ask {
    Ask::SyncLite(wish(LITE, GROUP, Action::PartialAdd, names))
}

fn beginning(start: OffsetType) -> Ask {
    let offset_option = Some(v2::OffsetOption { offset_type: Some(start) });
    Ask::SyncLite(v2::SyncLiteSubscriptionRequest { offset_option, ..wish(LITE, GROUP, Action::PartialAdd, &["l"]) })
}

fn versioned(version: i64) -> Ask {
    let wish = wish(LITE, GROUP, Action::CompleteAdd, &["l"]);
    Ask::SyncLite(v2::SyncLiteSubscriptionRequest { version: Some(version), ..wish })
}

pub fn lite_send(topic: &str, name: &str) -> Ask {
    let mut one = message(topic);
    if let Some(system) = &mut one.system_properties {
        system.lite_topic = Some(name.to_owned());
    }
    send(vec![one])
}

fn receive(expression: &str) -> Ask {
    Ask::Receive(v2::ReceiveMessageRequest {
        group: Some(resource(GROUP)),
        message_queue: Some(queue(LITE)),
        batch_size: 1,
        invisible_duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        filter_expression: Some(v2::FilterExpression {
            r#type: v2::FilterType::Tag as i32,
            expression: expression.into(),
        }),
        ..Default::default()
    })
}

/// Lite topics and subscriptions that a server of [`quotas`] has room for over all clients and parents; [`FEW`] for one of them.
pub const FEW_IN_ALL: usize = 4;
/// A second parent.
pub const OTHER_PARENT: &str = "limits-lite-other";

/// Rows of the quotas that clients and parents share.
pub fn quotas() -> Vec<Row> {
    let sync = |client: &str, topic: &str, action, names: &[&str], expect: Expect| {
        let name = format!("lite quota: {client} {action:?} {names:?} on {topic}");
        let ask = Ask::SyncLite(wish(topic, GROUP, action, names));
        Row { client_id: client.to_owned(), ..row(name, ask, expect) }
    };
    // Not even its group comes into being.
    let newcomer = |names: &[&str]| {
        let ask = Ask::SyncLite(wish(OTHER_PARENT, "limits-lite-newcomers", Action::PartialAdd, names));
        refused("lite quota: a group that did not exist", ask, 42902)
    };
    let too_many = || Expect::Refused(42902, None);
    let ok = || Expect::Code(OK);
    vec![
        sync("a@1", LITE, Action::PartialAdd, &["1", "2", "3"], ok()),
        sync("b@1", LITE, Action::PartialAdd, &["1", "2"], too_many()),
        sync("b@1", OTHER_PARENT, Action::CompleteAdd, &["1", "2"], too_many()),
        newcomer(["1", "2"].as_slice()),
        sync("b@1", OTHER_PARENT, Action::PartialAdd, &["1"], ok()),
        sync("c@1", LITE, Action::PartialAdd, &["1"], too_many()),
        sync("b@1", OTHER_PARENT, Action::PartialAdd, &["1"], ok()),
        sync("a@1", LITE, Action::PartialRemove, &["3"], ok()),
        sync("c@1", LITE, Action::PartialAdd, &["1"], ok()),
        sync("a@1", LITE, Action::PartialAdd, &["3"], too_many()),
        row("lite quota: one below the first parent", lite_send(LITE, "1"), Expect::Stored(1)),
        row("lite quota: a second", lite_send(LITE, "2"), Expect::Stored(1)),
        row("lite quota: a third", lite_send(LITE, "3"), Expect::Stored(1)),
        refused("lite quota: one too many below this parent", lite_send(LITE, "4"), 42901),
        row("lite quota: one below the other parent", lite_send(OTHER_PARENT, "1"), Expect::Stored(1)),
        refused("lite quota: one too many below all parents", lite_send(OTHER_PARENT, "2"), 42901),
        row("lite quota: what exists goes on", lite_send(OTHER_PARENT, "1"), Expect::Stored(1)),
    ]
}

pub fn rows() -> Vec<Row> {
    let sync = |topic: &str, group: &str, action| Ask::SyncLite(wish(topic, group, action, &["l"]));
    let unknown_action = v2::SyncLiteSubscriptionRequest { action: 9, ..wish(LITE, GROUP, Action::PartialAdd, &["l"]) };
    let disabled_with_many = Ask::SyncLite(wish(LITE, "limits-disabled", Action::PartialAdd, &["1", "2", "3", "4"]));
    let long = "l".repeat(65);
    let longest = "l".repeat(64);
    let policy = |number| beginning(OffsetType::Policy(number));
    vec![
        refused("lite: unknown topic", sync("limits-unknown", GROUP, Action::PartialAdd), 40402),
        refused("lite: illegal topic", sync("a b", GROUP, Action::PartialAdd), 40002),
        refused("lite: illegal group", sync(LITE, "a b", Action::PartialAdd), 40003),
        refused("lite: a topic of another type", sync(NORMAL, GROUP, Action::PartialAdd), 40014),
        refused("lite: a disabled group", sync(LITE, "limits-disabled", Action::CompleteAdd), 40300),
        refused("lite: too many names, before the group is looked at", disabled_with_many, 42902),
        refused("lite: an action that nobody knows", Ask::SyncLite(unknown_action), 40000),
        refused("lite: an empty name", add(&[""]), 40020),
        refused("lite: a name with a space", add(&["ok", "a b"]), 40020),
        refused("lite: a name with a wildcard", add(&["a*"]), 40020),
        refused("lite: a name of 65", add(&[&long]), 40020),
        refused("lite: more names than a client may have", add(&["1", "2", "3", "4"]), 42902),
        refused("lite: a negative offset", beginning(OffsetType::Offset(-1)), 40019),
        refused("lite: a negative tail", beginning(OffsetType::TailN(-1)), 40019),
        refused("lite: a time before 1970", beginning(OffsetType::Timestamp(-1)), 40019),
        refused("lite: a policy that nobody knows", policy(7), 40019),
        row("lite: a name of 64", add(&[&longest]), Expect::Code(OK)),
        row("lite: one more beside it", add(&["2"]), Expect::Code(OK)),
        refused("lite: too many together", add(&["3", "4"]), 42902),
        row("lite: nothing is an answer", Ask::SyncLite(wish(LITE, GROUP, Action::CompleteAdd, &[])), Expect::Code(OK)),
        row("lite: on a mixed topic", sync(MIXED, GROUP, Action::PartialAdd), Expect::Code(OK)),
        row("lite: leaving what nobody knows", sync(LITE, "limits-nobody", Action::CompleteRemove), Expect::Code(OK)),
        row("lite: a version", versioned(5), Expect::Code(OK)),
        refused("lite: an older version", versioned(4), 42800),
        row("lite: an offset far away", beginning(OffsetType::Offset(i64::MAX)), Expect::Code(OK)),
        row("lite: the last policy", policy(2), Expect::Code(OK)),
        refused("lite: a receive with a filter", receive("TagA"), 40010),
        row("lite: a first message", lite_send(LITE, "1"), Expect::Stored(1)),
        row("lite: a second one", lite_send(LITE, "1"), Expect::Stored(1)),
        row("lite: of another lite topic", lite_send(LITE, "2"), Expect::Stored(1)),
        row("lite: of one more", lite_send(LITE, "3"), Expect::Stored(1)),
        refused("lite: of one too many", lite_send(LITE, "4"), 42901),
        refused("lite: a message with an illegal name", lite_send(LITE, "a%b"), 40020),
    ]
}
