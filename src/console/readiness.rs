//! Whether this process should be sent traffic, and why not.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::broker::Broker;

/// Where the process is in its life. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    stage: Arc<ArcSwap<Stage>>,
}

#[derive(Debug)]
enum Stage {
    Starting(&'static str),
    Running(Broker),
}

impl Readiness {
    /// Not ready: `doing` says what is under way.
    #[must_use]
    pub fn starting(doing: &'static str) -> Self {
        Self { stage: Arc::new(ArcSwap::from_pointee(Stage::Starting(doing))) }
    }

    /// Something else is under way now.
    pub fn now_doing(&self, doing: &'static str) {
        self.stage.store(Arc::new(Stage::Starting(doing)));
    }

    /// From now on the broker decides.
    pub fn running(&self, broker: Broker) {
        self.stage.store(Arc::new(Stage::Running(broker)));
    }

    /// Why the process is not ready, in words; `None` when it is.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        match &**self.stage.load() {
            Stage::Starting(doing) => Some(format!("starting: {doing}")),
            Stage::Running(broker) => {
                let status = broker.status();
                (!status.ready).then_some(status.reason)
            }
        }
    }
}
