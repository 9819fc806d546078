//! Telling everyone to stop, in two steps: `drain` (take no new work, end long polls) and `stop` (end).

use tokio_util::sync::CancellationToken;

/// Cheap handle; clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl Shutdown {
    /// Not yet draining.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No new work from now on; waiting polls end with a clean empty answer.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// End now.
    pub fn stop(&self) {
        self.draining.cancel();
        self.stopping.cancel();
    }

    /// Whether draining began.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Resolves when the end is ordered.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }
}
