//! What the parts between gRPC and the disk cost per message, in nanoseconds, without either: encoding a unit, showing a
//! message, granting and acknowledging it. One thread; medians of several rounds. Run with `cargo bench`.
//!
//! Absolute numbers depend on the machine; compare two builds on one machine, in turns.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bolide::broker::delivery::core::Core;
use bolide::broker::delivery::lease::LeaseTerms;
use bolide::broker::delivery::subscription::{QueueState, Subscription, Wish};
use bolide::model::filter::Filter;
use bolide::model::group::Group;
use bolide::model::message::NewMessage;
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::{
    GrantId, GroupId, HolderId, LogPosition, QueueId, QueueOffset, RecordAt, ShardId, TopicId,
};
use bolide::model::receipt::Receipt;
use bolide::model::time::Timestamp;
use bolide::model::topic::{Permission, Promise, Topic, TopicType};
use bolide::store::record::{MessageHead, Unit};
use bytes::Bytes;
use tokio::sync::Notify;

const ROUNDS: usize = 9;
const MESSAGES: u64 = 100_000;
const BATCH: usize = 32;

fn main() {
    println!("{:<44} {:>10}", "per message, median of 9 rounds", "ns");
    report("encode a unit of one 1 KiB message", encode_unit);
    report("show in the queue, grant by 32, ack by 32", show_grant_ack);
}

fn report(name: &str, round: fn() -> f64) {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<44} {:>10.0}", rounds[ROUNDS / 2]);
}

fn per_message(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / MESSAGES as f64
}

fn encode_unit() -> f64 {
    let message = NewMessage {
        message_id: "01ABCDEF0123456789ABCDEF0123456789".to_owned(),
        tag: "A".to_owned(),
        rest: Bytes::from(vec![7; 1_100]),
        system_static: Bytes::from(vec![8; 150]),
        body_bytes: 1_024,
        ..NewMessage::default()
    };
    let began = Instant::now();
    for offset in 0..MESSAGES {
        let mut unit = Unit::send(1_500);
        let slot = unit.push_message(TopicId(1), Promise::Durable, 5, &message);
        unit.place(slot, QueueId(0), QueueOffset(offset), Timestamp(offset));
        black_box(unit);
    }
    per_message(began)
}

fn show_grant_ack() -> f64 {
    let mut core = Core::new(1_000_000, Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (topic, group) = (TopicId(1), GroupId(1));
    core.put_topic(
        Arc::new(Topic {
            id: topic,
            name: TopicName::trusted("", "t"),
            topic_type: TopicType::Normal,
            queues: 1,
            permission: Permission::default(),
            promise: Promise::Durable,
            retention: None,
            lite_ttl: None,
        }),
        None,
    );
    let settings = Arc::new(Group::with_defaults(group, GroupName::trusted("", "g")));
    core.put_subscription(topic, Subscription::new(settings, vec![QueueState::default()]));
    let began = Instant::now();
    for offset in 0..MESSAGES {
        let head = MessageHead {
            topic,
            queue: QueueId(0),
            offset: QueueOffset(offset),
            stored_at: Timestamp(offset),
            tag_hash: 0,
            body_bytes: 1_024,
            promise: Promise::Durable,
            order_key: 0,
        };
        core.show(&head, RecordAt { position: LogPosition(offset * 1_300), length: 1_300 });
    }
    for number in 0..MESSAGES / BATCH as u64 {
        let terms = LeaseTerms {
            deadline: Timestamp(1_000_000 + number),
            grant: GrantId(number),
            holder: HolderId(1),
            auto_renew: false,
            attempt_key: 0,
        };
        let wish = Wish {
            topic,
            group,
            filter: &Filter::ALL,
            max: BATCH,
            outstanding_max: 20_000,
            terms,
            steady: Timestamp(0),
        };
        let mut unit = Unit::state();
        let selection = core.select(&wish, Timestamp(0), &mut unit);
        let mut settled = Vec::new();
        for (queue, grant) in &selection.grants {
            let receipt = Receipt {
                shard: ShardId(0),
                group,
                topic,
                queue: *queue,
                offset: grant.entry.offset,
                attempt: grant.attempt,
                grant: grant.terms.grant,
                lease_end: grant.terms.deadline,
                order_key: 0,
            };
            black_box(core.ack(&receipt, Timestamp(0), &mut settled, &mut unit));
        }
        black_box((unit, settled));
    }
    per_message(began)
}
