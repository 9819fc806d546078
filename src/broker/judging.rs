//! Filters by expression are asked here, outside the core's lock: about the properties of each message, once, on behalf of all
//! expressions that the members of a group use.

use crate::broker::delivery::verdicts::{Judges, Verdict};
use crate::broker::verbs::Broker;
use crate::model::position::{QueueId, QueueOffset};
use crate::store::{QueueEntry, ReadError, Store};

/// Messages judged on a request lane at most, when none of them needs the disk.
const JUDGED_ON_LANE_MAX: usize = 64;

/// Messages that nobody can be given before they are judged.
#[derive(Debug)]
pub struct Case {
    /// Who judges.
    pub judges: Judges,
    /// The messages, with their queues.
    pub entries: Vec<(QueueId, QueueEntry)>,
}

/// What the judges said about a message.
pub type Ruling = (QueueId, QueueOffset, Verdict);

/// Judges messages of one queue. May block on the disk.
pub fn judge(store: &Store, judges: &Judges, queue: QueueId, entries: &[QueueEntry]) -> Vec<Ruling> {
    entries.iter().map(|entry| (queue, entry.offset, verdict(store, judges, entry))).collect()
}

fn judge_case(store: &Store, case: &Case) -> Vec<Ruling> {
    case.entries.iter().map(|(queue, entry)| (*queue, entry.offset, verdict(store, &case.judges, entry))).collect()
}

fn verdict(store: &Store, judges: &Judges, entry: &QueueEntry) -> Verdict {
    match store.with_properties(entry, |properties| judges.judge(properties)) {
        Ok(verdict) => verdict,
        Err(ReadError::Gone { .. }) => judges.none(),
        // Not to be skipped silently: whoever asks next is told, as of any message that cannot be read.
        Err(_) => judges.all(),
    }
}

impl Broker {
    /// Judges messages, on the blocking pool unless they are few and in memory.
    pub async fn judged(&self, case: Case) -> (Judges, Vec<Ruling>) {
        let store = &self.inner.store;
        let is_quick =
            case.entries.len() <= JUDGED_ON_LANE_MAX && case.entries.iter().all(|(_, entry)| store.is_cached(entry));
        if is_quick {
            let rulings = judge_case(store, &case);
            return (case.judges, rulings);
        }
        let store = store.clone();
        self.inner
            .tasks
            .blocking(move || {
                let rulings = judge_case(&store, &case);
                (case.judges, rulings)
            })
            .await
    }
}
