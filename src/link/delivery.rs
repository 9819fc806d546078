//! Messages on their way to a client, wherever they come from.

use crate::broker;
use crate::broker::api::Delivered;
use crate::link::client::FarDelivery;

/// Messages granted to a receive. What has not been taken when this is dropped returns at once, without a counted attempt.
#[derive(Debug)]
pub struct Delivery {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Here(broker::Delivery),
    Far(FarDelivery),
    Nothing,
}

impl Delivery {
    /// From another process.
    #[must_use]
    pub(super) fn far(delivery: FarDelivery) -> Self {
        Self { source: Source::Far(delivery) }
    }

    /// Nothing.
    #[must_use]
    pub(super) fn none() -> Self {
        Self { source: Source::Nothing }
    }

    /// Messages not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.source {
            Source::Here(delivery) => delivery.len(),
            Source::Far(delivery) => delivery.len(),
            Source::Nothing => 0,
        }
    }

    /// Whether there is nothing (more).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next message; from now on it is the client's.
    #[allow(clippy::should_implement_trait)] // taking has a consequence that an iterator's adapters would hide
    pub fn next(&mut self) -> Option<Delivered> {
        match &mut self.source {
            Source::Here(delivery) => delivery.next(),
            Source::Far(delivery) => delivery.next(),
            Source::Nothing => None,
        }
    }
}

impl From<broker::Delivery> for Delivery {
    fn from(delivery: broker::Delivery) -> Self {
        Self { source: Source::Here(delivery) }
    }
}
