//! Messages that arrived and are not yet any client's.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::api::Delivered;
use crate::link::client::pipe::Pipe;

/// Messages granted to a receive by a broker elsewhere. What has not been taken when this is dropped goes back to it, and no
/// attempt is counted.
#[derive(Debug)]
pub struct FarDelivery {
    messages: VecDeque<Delivered>,
    /// None: an attempt that came again may have reached its client before, and is not given back.
    back: Option<Arc<Pipe>>,
}

impl FarDelivery {
    pub(super) fn new(messages: Vec<Delivered>, repeated_attempt: bool, pipe: &Arc<Pipe>) -> Self {
        Self { messages: messages.into(), back: (!repeated_attempt).then(|| pipe.clone()) }
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
        self.back.is_none()
    }

    /// Takes the next message; from now on it is the client's.
    #[allow(clippy::should_implement_trait)] // taking has a consequence that an iterator's adapters would hide
    pub fn next(&mut self) -> Option<Delivered> {
        self.messages.pop_front()
    }
}

impl Drop for FarDelivery {
    fn drop(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        if let Some(pipe) = &self.back {
            pipe.give_back(self.messages.drain(..).map(|message| message.handle));
        }
    }
}
