//! News from the log: a frame reached a rung. Runs on the appender, so it is short: read the heads of the messages, take the
//! lock once, show them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::broker::delivery::transactions::HalfKey;
use crate::broker::verbs::Inner;
use crate::model::position::RecordAt;
use crate::model::topic::Promise;
use crate::runtime::watermark::Rung;
use crate::store::record::{DelayNews, DelayOutcome, HalfMark, MessageHead, delay_news, half_mark, message_head, walk};
use crate::store::{Frame, FrameListener, Held};

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
        let mut halves: Vec<(HalfKey, RecordAt, bool)> = Vec::new();
        let mut delays: Vec<(DelayNews, RecordAt)> = Vec::new();
        for record in walk(frame.payload.clone(), frame.payload_position) {
            // What this process wrote a moment ago can be read; if not, memory is broken and replay will say so.
            let Ok((at, record)) = record else { break };
            let Ok(head) = message_head(&record) else { continue };
            let Some(head) = head else {
                if rung != Rung::Durable {
                    continue;
                }
                if let Ok(Some(news)) = delay_news(&record) {
                    delays.push((news, at));
                } else if let Ok(Some(mark)) = half_mark(&record) {
                    halves.push(match mark {
                        HalfMark::Stored(topic, id) => (HalfKey::new(topic, id), at, true),
                        HalfMark::Ended(topic, id) => (HalfKey::new(topic, id), at, false),
                    });
                }
                continue;
            };
            if rung == Rung::Durable || head.promise == Promise::Written {
                shown.push((head, at));
            }
        }
        let folded = inner.store.folded();
        let mut core = inner.core.lock();
        for (head, at) in &shown {
            core.show(head, *at);
        }
        for (key, at, is_stored) in &halves {
            if *is_stored {
                core.transactions.placed(key, *at);
            } else {
                core.transactions.end_placed(key, at.position);
            }
        }
        core.forget_recent(folded);
        core.transactions.forget_ends(folded);
        if delays.is_empty() {
            return;
        }
        let before = core.delays.next_due();
        for (news, at) in delays {
            match news {
                DelayNews::Held { key, topic } => core.delays.held(key, Held { topic, at }, frame.end),
                DelayNews::Ended { outcome: DelayOutcome::Forgotten, .. } => {}
                DelayNews::Ended { key, .. } => core.delays.ended_durably(key, frame.end),
            }
        }
        core.delays.forget_ended(folded);
        if core.delays.next_due() != before {
            inner.delays_changed.notify_one();
        }
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
