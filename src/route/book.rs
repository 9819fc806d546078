//! What members are told: recent steps from one revision to the next, and everything, each encoded once however many listen.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::cluster::{Revision, View};
use crate::route::change::{Change, facts};
use crate::route::convert::parts;

/// A step from one revision to a later one, in parts.
#[derive(Debug)]
pub struct Step {
    /// Of use to who knows exactly this; 0: to everyone, it begins from nothing.
    pub from: Revision,
    /// What is known after it.
    pub to: Revision,
    /// Encoded changes, at least one part.
    pub parts: Vec<Bytes>,
}

impl Step {
    fn bytes(&self) -> usize {
        // Empty steps need a place, too.
        64 + self.parts.iter().map(Bytes::len).sum::<usize>()
    }
}

/// The view that is published, and how to get there.
#[derive(Debug)]
pub struct Book {
    view: Arc<View>,
    steps: VecDeque<Arc<Step>>,
    bytes: usize,
    bytes_max: usize,
    whole: Option<Arc<Step>>,
}

impl Book {
    /// Begins with a view; remembers steps of so many bytes.
    #[must_use]
    pub fn new(view: Arc<View>, bytes_max: usize) -> Self {
        Self { view, steps: VecDeque::new(), bytes: 0, bytes_max, whole: None }
    }

    /// A later view, with the steps that lead there.
    pub fn publish(&mut self, view: Arc<View>, steps: &[(Revision, Vec<Change>)]) {
        let mut from = self.view.revision;
        for (to, changes) in steps {
            let step = Step { from, to: *to, parts: parts(changes) };
            from = *to;
            self.bytes += step.bytes();
            self.steps.push_back(Arc::new(step));
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.steps.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
        self.view = view;
        // What cannot be continued from is of no use to anybody.
        if self.whole.as_ref().is_some_and(|whole| self.after(whole.to).is_none()) {
            self.whole = None;
        }
    }

    fn after(&self, revision: Revision) -> Option<impl Iterator<Item = &Arc<Step>>> {
        let index = self.steps.partition_point(|step| step.from < revision);
        let follows = self.steps.get(index).is_some_and(|step| step.from == revision);
        (follows || revision == self.view.revision).then(|| self.steps.iter().skip(index))
    }

    /// What brings a member that knows `seen` up to the published view: steps, or everything and what came after.
    pub fn since(&mut self, seen: Option<Revision>) -> Vec<Arc<Step>> {
        if let Some(steps) = seen.and_then(|seen| self.after(seen)) {
            return steps.cloned().collect();
        }
        let whole = self.whole.take().unwrap_or_else(|| {
            let parts = parts(&facts(&self.view));
            Arc::new(Step { from: Revision(0), to: self.view.revision, parts })
        });
        let mut told = vec![whole.clone()];
        told.extend(self.after(whole.to).into_iter().flatten().cloned());
        self.whole = Some(whole);
        told
    }
}
