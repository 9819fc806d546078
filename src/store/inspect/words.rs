//! Records in one line of words.

use crate::model::position::ShardId;
use crate::model::time::Timestamp;
use crate::store::record::{LeaseState, Record};

/// Where an outstanding message is; `time` writes an instant.
#[must_use]
pub fn describe_lease(state: &LeaseState, time: fn(Timestamp) -> String) -> String {
    match state {
        LeaseState::Leased { deadline, grant, holder, auto_renew, .. } => {
            let renewed = if *auto_renew { ", renewed while its client lives" } else { "" };
            format!(
                "with client {holder:x} until {deadline} by grant {grant}{renewed}",
                holder = holder.get(),
                deadline = time(*deadline)
            )
        }
        LeaseState::Acked { lease_end, .. } => {
            format!("acknowledged behind one that is not, lease until {}", time(*lease_end))
        }
        LeaseState::Waiting { visible_at } => format!("waiting, deliverable from {}", time(*visible_at)),
    }
}

/// What a record says; bodies are not shown.
#[must_use]
pub fn describe(record: &Record) -> String {
    match record {
        Record::Opened { shard, term, at } => format!("opened: shard {shard}, term {term}, at {at}"),
        Record::Message(message) => format!(
            "message: topic {}, queue {}, offset {}, id {}, tag {:?}, {} bytes{}",
            message.topic,
            message.queue,
            message.offset,
            message.message.message_id,
            message.message.tag,
            message.body_bytes,
            if message.origin.is_some() { ", a dead letter" } else { "" },
        ),
        Record::Granted { group, topic, queue, next, lease: state, items } => {
            let offsets: Vec<_> = items.iter().map(|(offset, attempt)| format!("{offset}#{attempt}")).collect();
            let offsets = offsets.join(" ");
            format!(
                "granted: group {group}, topic {topic}, queue {queue}, next {next}, [{offsets}] {}",
                describe_lease(state, |at| at.to_string())
            )
        }
        Record::LeaseChanged { group, topic, queue, offset, attempt, lease: state } => {
            let state = describe_lease(state, |at| at.to_string());
            format!("lease: group {group}, topic {topic}, queue {queue}, offset {offset}, attempt {attempt}, {state}")
        }
        Record::Settled { group, topic, queue, reason, offsets } => {
            let offsets: Vec<_> = offsets.iter().map(ToString::to_string).collect();
            let offsets = offsets.join(" ");
            format!("settled: group {group}, topic {topic}, queue {queue}, {reason:?} [{offsets}]")
        }
        Record::Advanced { group, topic, queue, next } => {
            format!("advanced: group {group}, topic {topic}, queue {queue}, next {next}")
        }
        Record::TopicPut(topic) => format!("topic {}: {} with {} queues", topic.id, topic.name, topic.queues),
        Record::TopicDeleted(id) => format!("topic {id} deleted"),
        Record::GroupPut(group) => format!("group {}: {}", group.id, group.name),
        Record::GroupDeleted(id) => format!("group {id} deleted"),
        Record::Trimmed { topic, queue, first } => format!("trimmed: topic {topic}, queue {queue}, first {first}"),
        Record::LogTrimmed { start } => format!("log begins at {start}"),
        Record::LiteTopicPut { topic, queue, name } => format!("lite topic {name}: topic {topic}, queue {queue}"),
        Record::LiteTopicDeleted { topic, queue } => format!("lite topic deleted: topic {topic}, queue {queue}"),
        Record::LiteWanted { topic, group, name, is_wanted } => {
            let what = if *is_wanted { "wanted" } else { "no longer wanted" };
            format!("lite topic {name} {what}: topic {topic}, group {group}")
        }
        Record::Half(half) => format!(
            "half message: topic {}, id {}, {} bytes, first check after {} s",
            half.message.topic,
            half.message.message.message_id,
            half.message.body_bytes,
            half.first_check_after.as_secs()
        ),
        Record::HalfChecked { topic, id, checks, next_check } => {
            format!("half message: topic {topic}, id {id}, checked {checks} times, next at {next_check}")
        }
        Record::HalfEnded { topic, id, outcome, at, .. } => {
            format!("half message: topic {topic}, id {id}, {outcome:?} at {at}")
        }
        Record::Delayed { key, message } => format!(
            "delayed: hold {:x} until {}, topic {}, id {}, {} bytes",
            key.hold.get(),
            key.due,
            message.topic,
            message.message.message_id,
            message.body_bytes
        ),
        Record::DelayEnded { key, topic, outcome } => {
            format!("delay ended: hold {:x} of {}, topic {topic}, {outcome:?}", key.hold.get(), key.due)
        }
        Record::Reset { group, topic, queue, next } => {
            format!("reset: group {group}, topic {topic}, queue {queue}, begins anew at {next}")
        }
        Record::QueuesAdded { topic, growth } => format!("topic {topic}: queues added to {}", growth.before()),
        Record::CatalogApplied { revision } => format!("catalogue of the cluster at revision {revision}"),
        // Values may hold keys of receipt handles, which must not be shown.
        Record::RoutePut { key, value } => format!("route: {} has {} bytes", key.escape_ascii(), value.len()),
        Record::RouteDeleted { key } => format!("route: {} is gone", key.escape_ascii()),
        Record::Placed { topic, placement, seals } => format!(
            "topic {topic}: generation {} on shards {:?}, to move to {:?}, {} orders before, {} sealed",
            placement.generation,
            placement.shards.iter().map(|shard| shard.get()).collect::<Vec<_>>(),
            placement.moving.iter().flatten().map(|shard| shard.get()).collect::<Vec<_>>(),
            placement.past.len(),
            seals.len()
        ),
        Record::LaneParked { group, topic, queue, order_key, from } => {
            let from = from.map_or_else(|| "caught up".to_owned(), |from| format!("passed over from {from}"));
            format!("lane: group {group}, topic {topic}, queue {queue}, message group {order_key:016x}, {from}")
        }
    }
}

/// Shards, as they are named to people.
pub(super) fn numbers(shards: &[ShardId]) -> String {
    match shards {
        [] => "none".to_owned(),
        some => some.iter().map(ShardId::to_string).collect::<Vec<_>>().join(", "),
    }
}
