//! What one member is told, at the pace at which it reads: never more is kept for it than what it is being sent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::model::cluster::{ClusterId, Revision};
use crate::route::book::Step;
use crate::route::service::Route;

/// A part of a step.
#[derive(Clone, Debug)]
pub struct Part {
    /// Of use to who knows exactly this; 0: to everyone.
    pub from: Revision,
    /// What is known after the last part.
    pub revision: Revision,
    /// No further part of the step follows.
    pub last: bool,
    /// Encoded changes.
    pub changes: Bytes,
    /// Of which cluster.
    pub cluster: ClusterId,
}

/// Parts, one after the other.
#[derive(Debug)]
pub struct Watching {
    route: Route,
    changed: watch::Receiver<Revision>,
    seen: Option<Revision>,
    steps: VecDeque<Arc<Step>>,
    part: usize,
}

impl Watching {
    /// From `seen` on, or from nothing.
    #[must_use]
    pub fn new(route: Route, seen: Option<Revision>) -> Self {
        Self { changed: route.changed(), route, seen, steps: VecDeque::new(), part: 0 }
    }

    /// The next part, when there is one; `None` when the service ends.
    pub async fn next(&mut self) -> Option<Part> {
        loop {
            if let Some(part) = self.take() {
                return Some(part);
            }
            self.changed.borrow_and_update();
            self.steps = self.route.inner.book.lock().since(self.seen).into();
            if self.steps.is_empty() {
                let shutdown = self.route.shutdown().clone();
                tokio::select! {
                    biased;
                    () = shutdown.stopping() => return None,
                    changed = self.changed.changed() => changed.ok()?,
                }
            }
        }
    }

    fn take(&mut self) -> Option<Part> {
        let step = self.steps.front()?.clone();
        let changes = step.parts.get(self.part).cloned().unwrap_or_default();
        let last = self.part + 1 >= step.parts.len();
        if last {
            self.steps.pop_front();
            self.part = 0;
            self.seen = Some(step.to);
        } else {
            self.part += 1;
        }
        let cluster = self.route.view().cluster;
        Some(Part { from: step.from, revision: step.to, last, changes, cluster })
    }
}
