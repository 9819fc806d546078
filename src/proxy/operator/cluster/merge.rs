//! Answers of several brokers become one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Code, Status};

use crate::wire::admin as wire;

/// What a broker answered.
#[derive(Debug)]
pub(super) struct Reply<T> {
    pub(super) broker: Arc<str>,
    pub(super) answer: Result<T, Status>,
}

/// Answers, sorted out.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    pub(super) answers: Vec<(Arc<str>, T)>,
    /// Brokers that should have answered and did not.
    pub(super) missing: Vec<wire::Missing>,
    /// What those said that have nothing of the kind.
    absent: Option<Status>,
}

impl<T> Sorted<T> {
    /// Fails when nobody has it, and everybody was asked who could.
    pub(super) fn somewhere(self) -> Result<Self, Status> {
        match self.absent {
            Some(absent) if self.answers.is_empty() && self.missing.is_empty() => Err(absent),
            absent => Ok(Self { absent, ..self }),
        }
    }
}

/// What to say of a broker that did not answer as it should.
pub(super) fn why(status: &Status) -> String {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            format!("does not answer: {}", status.message())
        }
        Code::Unimplemented => "its version does not know this".to_owned(),
        _ => status.message().to_owned(),
    }
}

pub(super) fn missing(broker: &str, status: &Status) -> wire::Missing {
    wire::Missing { broker: broker.to_owned(), reason: why(status) }
}

/// Tells what is wrong with the request, which all of them would refuse, from what is wrong with a broker.
pub(super) fn sorted<T>(replies: Vec<Reply<T>>) -> Result<Sorted<T>, Status> {
    let mut sorted = Sorted { answers: Vec::new(), missing: Vec::new(), absent: None };
    for Reply { broker, answer } in replies {
        match answer {
            Ok(answer) => sorted.answers.push((broker, answer)),
            Err(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::AlreadyExists => {
                    return Err(status);
                }
                Code::NotFound => sorted.absent = Some(status),
                _ => sorted.missing.push(missing(&broker, &status)),
            },
        }
    }
    Ok(sorted)
}

/// Queues of a topic, broker by broker. Its settings are those of the catalogue.
pub(super) fn topic(topic: wire::Topic, replies: Sorted<wire::ShowTopicResponse>) -> wire::ShowTopicResponse {
    let mut merged = wire::ShowTopicResponse { topic: Some(topic), missing: replies.missing, ..Default::default() };
    let mut readers: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (broker, answer) in replies.answers {
        let named = answer.queues.into_iter().map(|queue| wire::QueueRange { broker: broker.to_string(), ..queue });
        merged.queues.extend(named);
        merged.lite_topics += answer.lite_topics;
        for reader in answer.readers {
            *readers.entry((reader.namespace, reader.group)).or_default() += reader.outstanding;
        }
    }
    let reader = |((namespace, group), outstanding)| wire::TopicReader { namespace, group, outstanding };
    merged.readers = readers.into_iter().map(reader).collect();
    merged
}

/// A page of lite topics. Each broker gave as many as the page may hold, so the first of all are among them; names that are on
/// several brokers are not torn apart, as the next page begins behind a name.
pub(super) fn lite(limit: usize, replies: Sorted<wire::ListLiteTopicsResponse>) -> wire::ListLiteTopicsResponse {
    let mut rows = Vec::new();
    let mut more = false;
    for (broker, answer) in replies.answers {
        more |= answer.more;
        rows.extend(answer.lite_topics.into_iter().map(|lite| wire::LiteTopic { broker: broker.to_string(), ..lite }));
    }
    rows.sort_by(|a, b| (&a.name, &a.broker).cmp(&(&b.name, &b.broker)));
    let mut end = limit.min(rows.len());
    while end > 0 && end < rows.len() && rows[end].name == rows[end - 1].name {
        end += 1;
    }
    more |= end < rows.len();
    rows.truncate(end);
    wire::ListLiteTopicsResponse { lite_topics: rows, more, missing: replies.missing }
}

/// Who is connected for a group, once each: a client is known to every broker.
pub(super) fn group(group: wire::Group, replies: Sorted<wire::ShowGroupResponse>) -> wire::ShowGroupResponse {
    let mut members: BTreeMap<String, wire::GroupMember> = BTreeMap::new();
    for (_, answer) in replies.answers {
        members.extend(answer.members.into_iter().map(|member| (member.client_id.clone(), member)));
    }
    wire::ShowGroupResponse { group: Some(group), members: members.into_values().collect(), missing: replies.missing }
}

/// What a group still has to do, by topic, then broker.
pub(super) fn lag(replies: Sorted<wire::GroupLagResponse>) -> wire::GroupLagResponse {
    let mut topics: BTreeMap<String, Vec<wire::QueueLag>> = BTreeMap::new();
    for (broker, answer) in replies.answers {
        for topic in answer.topics {
            let named = topic.queues.into_iter().map(|queue| wire::QueueLag { broker: broker.to_string(), ..queue });
            topics.entry(topic.topic).or_default().extend(named);
        }
    }
    let topics = topics.into_iter().map(|(topic, queues)| wire::TopicLag { topic, queues });
    wire::GroupLagResponse { topics: topics.collect(), missing: replies.missing }
}

/// What a reset did, broker by broker.
pub(super) fn reset(replies: Sorted<wire::ResetGroupResponse>) -> wire::ResetGroupResponse {
    let queues = replies.answers.into_iter().flat_map(|(broker, answer)| {
        answer.queues.into_iter().map(move |queue| wire::QueueReset { broker: broker.to_string(), ..queue })
    });
    wire::ResetGroupResponse { queues: queues.collect(), missing: replies.missing }
}

/// The logs of all brokers, and sums.
pub(super) fn status(own: wire::StatusResponse, replies: Sorted<wire::StatusResponse>) -> wire::StatusResponse {
    let mut merged = own;
    merged.missing = replies.missing;
    let mut free: Option<u64> = None;
    for (broker, answer) in replies.answers {
        merged.shards.extend(shards(&broker, &answer));
        merged.disk_used_bytes += answer.disk_used_bytes;
        free = Some(free.map_or(answer.disk_free_bytes, |free| free.min(answer.disk_free_bytes)));
        // Every proxy tells every broker of its clients.
        merged.clients = merged.clients.max(answer.clients);
    }
    merged.disk_free_bytes = free.unwrap_or(merged.disk_free_bytes);
    merged
}

/// The logs of a broker, under its name.
pub(super) fn shards(broker: &str, answer: &wire::StatusResponse) -> Vec<wire::ShardStatus> {
    let named = answer.shards.iter().map(|shard| wire::ShardStatus { broker: broker.to_owned(), ..shard.clone() });
    named.collect()
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
