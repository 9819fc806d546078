//! Filters by expression are asked here, outside the core's lock: about the properties of each message, once, on behalf of all
//! expressions that the members of a group use.

use crate::broker::delivery::verdicts::{Judges, Ruling, Verdict};
use crate::broker::verbs::Broker;
use crate::model::group::Group;
use crate::model::position::QueueId;
use crate::model::topic::Topic;
use crate::store::{QueueEntry, ReadError, Store, StoredProperties};

/// Answers of expressions that a request lane waits for itself, when no message needs the disk.
const ANSWERS_ON_LANE_MAX: usize = 64;

/// Messages that nobody can be given before they are judged.
#[derive(Debug)]
pub struct Case {
    /// Who judges.
    pub judges: Judges,
    /// The messages, with their queues.
    pub entries: Vec<(QueueId, QueueEntry)>,
}

/// Judges messages of one queue. May block on the disk.
pub fn judge(store: &Store, judges: &Judges, queue: QueueId, entries: &[QueueEntry]) -> Vec<Ruling> {
    entries.iter().map(|entry| (queue, entry.offset, verdict(judges, store.properties(entry)))).collect()
}

fn verdict(judges: &Judges, stored: Result<StoredProperties, ReadError>) -> Verdict {
    match stored.and_then(|stored| stored.read().map(|properties| judges.judge(&properties))) {
        Ok(verdict) => verdict,
        Err(ReadError::Gone { .. }) => judges.none(),
        // Not to be skipped silently: whoever asks next is told, as of any message that cannot be read.
        Err(_) => judges.all(),
    }
}

/// Judges messages if that is quickly done.
fn judge_at_once(store: &Store, case: &Case) -> Option<Vec<Ruling>> {
    if case.entries.len() * case.judges.expressions().len() > ANSWERS_ON_LANE_MAX {
        return None;
    }
    // All are taken hold of before the first is judged: they may leave the memory any time.
    let stored = |(queue, entry): &(QueueId, QueueEntry)| {
        store.cached_properties(entry).map(|stored| (*queue, entry.offset, stored))
    };
    let stored: Option<Vec<_>> = case.entries.iter().map(stored).collect();
    Some(
        stored?.into_iter().map(|(queue, offset, stored)| (queue, offset, verdict(&case.judges, Ok(stored)))).collect(),
    )
}

impl Broker {
    /// Judges messages, on the blocking pool unless it is quickly done, and tells the group's state.
    pub(super) async fn judge(&self, topic: &Topic, group: &Group, case: Case) {
        let (judges, rulings) = self.rulings(case).await;
        self.inner.core.lock().judged(topic.id, group.id, &judges, &rulings);
    }

    pub(super) async fn rulings(&self, case: Case) -> (Judges, Vec<Ruling>) {
        let store = &self.inner.store;
        if let Some(rulings) = judge_at_once(store, &case) {
            return (case.judges, rulings);
        }
        let store = store.clone();
        let job = move || {
            let ruling = |(queue, entry): &(QueueId, QueueEntry)| {
                (*queue, entry.offset, verdict(&case.judges, store.properties(entry)))
            };
            let rulings = case.entries.iter().map(ruling).collect();
            (case.judges, rulings)
        };
        self.inner.tasks.blocking(job).await
    }
}
