//! Messages that arrived and are not yet any client's.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::api::Delivered;
use crate::link::client::pipe::Pipe;
use crate::link::convert::outcomes::Brought;

/// Messages granted to a receive by a broker elsewhere. What has not been taken when this is dropped goes back to it, and no
/// attempt is counted. What was taken is reported then, if the broker wants to know.
#[derive(Debug)]
pub struct FarDelivery {
    messages: VecDeque<Delivered>,
    /// An attempt that came again may have reached its client before, and is not given back.
    is_repeated: bool,
    report: Option<Report>,
    pipe: Arc<Pipe>,
}

/// What is said when a client has its messages.
#[derive(Debug)]
struct Report {
    epoch: u64,
    call: u64,
    taken: Vec<String>,
}

impl FarDelivery {
    /// Of the answer to `call`, on the connection that is number `epoch`.
    pub(super) fn new(brought: Brought, epoch: u64, call: u64, pipe: &Arc<Pipe>) -> Self {
        let Brought { messages, repeated_attempt, report } = brought;
        let report = report.then(|| Report { epoch, call, taken: Vec::with_capacity(messages.len()) });
        Self { messages: messages.into(), is_repeated: repeated_attempt, report, pipe: pipe.clone() }
    }

    /// Messages not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is nothing (more).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether these are the messages of an attempt that came again.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Takes the next message; from now on it is the client's.
    #[allow(clippy::should_implement_trait)] // taking has a consequence that an iterator's adapters would hide
    pub fn next(&mut self) -> Option<Delivered> {
        let message = self.messages.pop_front()?;
        if let Some(report) = &mut self.report {
            report.taken.push(message.handle.clone());
        }
        Some(message)
    }
}

impl Drop for FarDelivery {
    fn drop(&mut self) {
        let is_all = self.messages.is_empty();
        if !is_all && !self.is_repeated {
            self.pipe.give_back(self.messages.drain(..).map(|message| message.handle));
        }
        // Not before it is dropped: by then its stream has ended, and the transport has what was taken.
        if let Some(Report { epoch, call, taken }) = self.report.take() {
            // The rest of an attempt that came again is neither given back nor with the client.
            let whole = is_all || !self.is_repeated;
            self.pipe.handed_on(epoch, whole.then_some(call), taken);
        }
    }
}
