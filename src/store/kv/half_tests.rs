//! Rows of half messages, written and read back.

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::model::message::{MessageType, StoredMessage};
use crate::model::position::{QueueId, QueueOffset};
use crate::model::topic::Promise;
use crate::store::kv::KvOptions;
use crate::store::kv::handle::FoldEnv;
use crate::store::record::MessageRecord;

const TOPIC: TopicId = TopicId(3);

struct World {
    kv: Kv,
    position: u64,
}

impl World {
    fn new() -> Self {
        let env = FoldEnv::memory().unwrap();
        Self { kv: Kv::open(&env, Path::new("/fold"), &KvOptions::default()).unwrap(), position: 64 }
    }

    fn write(&self, change: impl FnOnce(&mut crate::store::kv::Batch<'_>)) {
        let mut batch = self.kv.batch();
        change(&mut batch);
        batch.write().unwrap();
    }

    fn put(&mut self, topic: TopicId, id: &str) -> HeldHalf {
        self.position += 1_000;
        let at = RecordAt { position: LogPosition(self.position), length: 900 };
        self.write(|rows| put(rows, &half(topic, id), at));
        held(&self.kv, topic, id).unwrap().unwrap()
    }

    fn end(&self, id: &str, outcome: HalfOutcome, at: u64) {
        self.write(|rows| end(rows, TOPIC, id, outcome, Timestamp(at), true));
    }

    fn ids(&self, after: Option<(TopicId, &str)>, max: usize) -> Vec<String> {
        held_after(&self.kv, after, max).unwrap().into_iter().map(|half| half.id).collect()
    }

    fn rows(&self) -> usize {
        let mut rows = 0;
        self.kv
            .scan(Family::Half, &[], None, |_, _| {
                rows += 1;
                Ok(true)
            })
            .unwrap();
        rows
    }
}

fn half(topic: TopicId, id: &str) -> HalfRecord {
    let message = StoredMessage {
        stored_at: Timestamp(1_000),
        message_id: id.to_owned(),
        tag: String::new(),
        rest: Bytes::from_static(b"rest"),
        system_static: Bytes::new(),
    };
    HalfRecord {
        message: MessageRecord {
            topic,
            queue: QueueId(0),
            offset: QueueOffset(0),
            promise: Promise::Durable,
            message_type: MessageType::Transaction,
            tag_hash: 0,
            body_bytes: 4,
            message_group: String::new(),
            message,
            origin: None,
        },
        first_check_after: Duration::from_secs(6),
        due: None,
        producer: "client".to_owned(),
    }
}

#[test]
fn a_held_half_reads_back_with_its_checks_and_that_it_was_given_up() {
    let mut world = World::new();
    let stored = world.put(TOPIC, "a");
    assert_eq!((stored.checks, stored.discarded_at, stored.body_bytes), (None, None, 4));
    assert_eq!((stored.first_check_after, stored.producer.as_str()), (Duration::from_secs(6), "client"));
    let checks = Checks { count: 2, next: Timestamp(77) };
    world.write(|rows| put_checks(rows, TOPIC, "a", checks));
    world.end("a", HalfOutcome::Discarded, 88);
    let read = held(&world.kv, TOPIC, "a").unwrap().unwrap();
    assert_eq!((read.checks, read.discarded_at, read.at), (Some(checks), Some(Timestamp(88)), stored.at));
    let moved = world.put(TOPIC, "a");
    assert!(moved.at.position > stored.at.position);
    assert_eq!(
        (moved.checks, moved.discarded_at),
        (Some(checks), Some(Timestamp(88))),
        "moving it on changes only its place"
    );
}

#[test]
fn an_end_leaves_a_trace_and_forgetting_leaves_nothing() {
    let mut world = World::new();
    for (id, outcome) in [("a", HalfOutcome::Committed), ("b", HalfOutcome::RolledBack)] {
        world.put(TOPIC, id);
        world.end(id, outcome, 500);
        assert_eq!(held(&world.kv, TOPIC, id).unwrap(), None);
        assert_eq!(trace(&world.kv, TOPIC, id).unwrap(), Some(Trace { outcome, at: Timestamp(500) }));
    }
    assert!(old_ends(&world.kv, false, (Timestamp(0), Timestamp(500)), 9).unwrap().is_empty(), "not old enough");
    let old = old_ends(&world.kv, false, (Timestamp(0), Timestamp(501)), 9).unwrap();
    assert_eq!(
        old.iter().map(|end| (end.id.as_str(), end.at)).collect::<Vec<_>>(),
        [("a", Timestamp(500)), ("b", Timestamp(500))]
    );
    for end in old {
        world.end(&end.id, HalfOutcome::Forgotten, end.at.millis());
    }
    assert_eq!(world.rows(), 0);
}

#[test]
fn one_that_was_given_up_expires_without_a_trace_and_can_be_settled_before() {
    let mut world = World::new();
    world.put(TOPIC, "a");
    world.write(|rows| put_checks(rows, TOPIC, "a", Checks { count: 15, next: Timestamp(1) }));
    world.end("a", HalfOutcome::Discarded, 600);
    let old = old_ends(&world.kv, true, (Timestamp(0), Timestamp(601)), 9).unwrap();
    assert_eq!((old.len(), old[0].at), (1, Timestamp(600)));
    world.end("a", HalfOutcome::Expired, 600);
    assert_eq!(world.rows(), 0);

    world.put(TOPIC, "b");
    world.end("b", HalfOutcome::Discarded, 700);
    world.end("b", HalfOutcome::Expired, 700);
    world.end("b", HalfOutcome::Committed, 800);
    assert!(old_ends(&world.kv, true, (Timestamp(0), Timestamp::MAX), 9).unwrap().is_empty());
    assert!(trace(&world.kv, TOPIC, "b").unwrap().is_some());
}

#[test]
fn pages_of_held_halves_neither_skip_nor_repeat_also_when_one_id_begins_with_another() {
    let mut world = World::new();
    let ids = ["a", "a\u{0}", "aa", "b", "\u{ff}"];
    for id in ids {
        world.put(TOPIC, id);
    }
    world.put(TopicId(4), "z");
    world.end("b", HalfOutcome::RolledBack, 1);
    let mut after: Option<(TopicId, String)> = None;
    let mut seen = Vec::new();
    loop {
        let page = held_after(&world.kv, after.as_ref().map(|(topic, id)| (*topic, id.as_str())), 2).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.topic, last.id.clone()));
        seen.extend(page.into_iter().map(|half| half.id));
    }
    assert_eq!(seen, ["a", "a\u{0}", "aa", "\u{ff}", "z"]);
    assert_eq!(world.ids(Some((TOPIC, "aa")), 1), ["\u{ff}"]);
}

#[test]
fn a_deleted_topic_takes_its_halves_along_and_no_others() {
    let mut world = World::new();
    world.put(TOPIC, "a");
    world.put(TOPIC, "b");
    world.end("b", HalfOutcome::Committed, 5);
    world.put(TopicId(4), "a");
    world.write(|rows| delete_topic(rows, TOPIC));
    assert_eq!(world.ids(None, 9), ["a"]);
    assert_eq!(trace(&world.kv, TOPIC, "b").unwrap(), None);
    // What is sorted by time goes when its time comes.
    world.end("b", HalfOutcome::Forgotten, 5);
    assert_eq!(world.rows(), 1);
}
