//! News from the log: a frame reached a rung. Runs on the appender, so it is short: read the heads of the messages, take the
//! lock once, show them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::broker::verbs::Inner;
use crate::model::position::RecordAt;
use crate::model::topic::Promise;
use crate::runtime::watermark::Rung;
use crate::store::record::{MessageHead, message_head, walk};
use crate::store::{Frame, FrameListener};

#[derive(Debug)]
pub struct News {
    inner: Weak<Inner>,
    any_written: Arc<std::sync::atomic::AtomicBool>,
}

impl News {
    pub fn new(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::downgrade(inner), any_written: inner.any_written.clone() }
    }
}

impl FrameListener for News {
    fn reached(&self, rung: Rung, frame: &Frame) {
        let Some(inner) = self.inner.upgrade() else { return };
        let mut shown: Vec<(MessageHead, RecordAt)> = Vec::new();
        for record in walk(frame.payload.clone(), frame.payload_position) {
            // What this process wrote a moment ago can be read; if not, memory is broken and replay will say so.
            let Ok((at, record)) = record else { break };
            let Ok(Some(head)) = message_head(&record) else { continue };
            if rung == Rung::Durable || head.promise == Promise::Written {
                shown.push((head, at));
            }
        }
        let folded = inner.store.folded();
        let mut core = inner.core.lock();
        for (head, at) in &shown {
            core.show(head, *at);
        }
        core.forget_recent(folded);
    }

    fn wants_written(&self) -> bool {
        self.any_written.load(Ordering::Relaxed)
    }

    fn failed(&self, cause: &str) {
        tracing::error!(cause, "the log failed; this shard accepts nothing until the process is restarted");
    }

    fn observe_sync(&self, duration: Duration, units: usize, bytes: usize) {
        if let Some(inner) = self.inner.upgrade() {
            inner.metrics.sync(inner.shard.get(), duration, units, bytes);
        }
    }
}
