//! Whether this process should be sent traffic, and why not.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::broker::Broker;

/// Where the process is in its life. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    stage: Arc<ArcSwap<Stage>>,
}

/// Whether to send traffic to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether to.
    pub ready: bool,
    /// Why not, or what is refused all the same; empty when all is well.
    pub reason: String,
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

    /// Whether to send traffic here, now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &**self.stage.load() {
            Stage::Starting(doing) => Verdict { ready: false, reason: format!("starting: {doing}") },
            Stage::Running(broker) => {
                let status = broker.status();
                Verdict { ready: status.ready, reason: status.reason }
            }
        }
    }
}
