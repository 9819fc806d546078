//! Telling everyone to stop, in three steps: `leave` (others should send nobody here any more; work goes on), `drain` (take no
//! new work, end long polls) and `stop` (end).

use tokio_util::sync::CancellationToken;

/// Cheap handle; clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    leaving: CancellationToken,
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl Shutdown {
    /// Not yet draining.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whoever asks is told to go elsewhere; everything else goes on.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether this process is about to drain, or does.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Resolves when leaving begins.
    pub async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// No new work from now on; waiting polls end with a clean empty answer.
    pub fn drain(&self) {
        self.leaving.cancel();
        self.draining.cancel();
    }

    /// End now.
    pub fn stop(&self) {
        self.leaving.cancel();
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
