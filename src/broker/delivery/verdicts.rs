//! What filters by expression said about messages. A message's properties are not in its queue entry, so they are looked at outside
//! the lock, before the entry is considered; the verdicts wait here until then. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::position::{QueueId, QueueOffset};
use crate::model::properties::Properties;
use crate::model::sql::Sql;

/// Verdicts kept per queue before those that are not needed any more are swept.
const VERDICTS_MAX: usize = 2048;

/// Number of a filter among those of its group and topic, as long as it is remembered.
pub type FilterIndex = usize;

/// Bit by bit: whether a filter has judged the message, and whether it wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Filters that have judged.
    pub known: u64,
    /// Filters among them that want it.
    pub wanted: u64,
}

/// What was said about the message in this place.
pub type Ruling = (QueueId, QueueOffset, Verdict);

/// Expressions to be asked, by their bits.
#[derive(Clone, Debug, Default)]
pub struct Judges(Vec<(FilterIndex, Arc<Sql>)>);

impl Judges {
    /// Of the given expressions.
    #[must_use]
    pub fn new(expressions: Vec<(FilterIndex, Arc<Sql>)>) -> Self {
        Self(expressions)
    }

    /// The expressions.
    #[must_use]
    pub fn expressions(&self) -> &[(FilterIndex, Arc<Sql>)] {
        &self.0
    }

    /// Whether there is nobody to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks everyone about one message.
    #[must_use]
    pub fn judge(&self, properties: &Properties<'_>) -> Verdict {
        let mut verdict = self.none();
        for (index, sql) in &self.0 {
            if sql.matches(properties.pairs(|name| sql.names(name))) {
                verdict.wanted |= 1 << index;
            }
        }
        verdict
    }

    /// Nobody wants it.
    #[must_use]
    pub fn none(&self) -> Verdict {
        Verdict { known: self.0.iter().fold(0, |bits, (index, _)| bits | 1 << index), wanted: 0 }
    }

    /// Everybody wants it.
    #[must_use]
    pub fn all(&self) -> Verdict {
        let known = self.none().known;
        Verdict { known, wanted: known }
    }
}

/// Verdicts on messages of one queue.
#[derive(Debug, Default)]
pub struct Verdicts {
    by_offset: BTreeMap<QueueOffset, Verdict>,
    sweep_at: usize,
}

impl Verdicts {
    /// Whether a filter wants a message; `None`: it has not been asked.
    #[must_use]
    pub fn of(&self, index: FilterIndex, offset: QueueOffset) -> Option<bool> {
        let verdict = self.by_offset.get(&offset)?;
        (verdict.known & (1 << index) != 0).then_some(verdict.wanted & (1 << index) != 0)
    }

    /// Adds what judges said, as far as it is `valid`.
    pub fn add(&mut self, offset: QueueOffset, verdict: Verdict, valid: u64) {
        let known = self.by_offset.entry(offset).or_default();
        known.known |= verdict.known & valid;
        known.wanted = (known.wanted & !(verdict.known & valid)) | (verdict.wanted & valid);
    }

    /// Forgets what the filter with this number said: it stands for another one now.
    pub fn forget(&mut self, index: FilterIndex) {
        for verdict in self.by_offset.values_mut() {
            verdict.known &= !(1 << index);
        }
    }

    /// Forgets messages that are not needed any more, once there are many verdicts; swept again only when they have doubled.
    pub fn sweep(&mut self, is_needed: impl Fn(QueueOffset) -> bool) {
        if self.by_offset.len() < self.sweep_at.max(VERDICTS_MAX) {
            return;
        }
        self.by_offset.retain(|offset, _| is_needed(*offset));
        self.sweep_at = self.by_offset.len() * 2;
    }
}
