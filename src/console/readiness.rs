//! Whether this process should be sent traffic, and why not.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Where the process is in its life. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    stage: Arc<ArcSwap<Stage>>,
}

/// Whether to send traffic to this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether to.
    pub ready: bool,
    /// Why not, or what is refused all the same; empty when all is well.
    pub reason: String,
}

/// Says how things are at the moment. It runs on the HTTP port's task and must not block.
pub type Judge = Box<dyn Fn() -> Verdict + Send + Sync>;

enum Stage {
    Starting(Cow<'static, str>),
    Running(Judge),
    Ending,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(doing) => f.debug_tuple("Starting").field(doing).finish(),
            Self::Running(_) => f.write_str("Running"),
            Self::Ending => f.write_str("Ending"),
        }
    }
}

impl Readiness {
    /// Not ready: `doing` says what is under way.
    #[must_use]
    pub fn starting(doing: impl Into<Cow<'static, str>>) -> Self {
        Self { stage: Arc::new(ArcSwap::from_pointee(Stage::Starting(doing.into()))) }
    }

    /// Something else is under way now.
    pub fn now_doing(&self, doing: impl Into<Cow<'static, str>>) {
        self.stage.store(Arc::new(Stage::Starting(doing.into())));
    }

    /// From now on `judge` decides.
    pub fn running(&self, judge: Judge) {
        self.stage.store(Arc::new(Stage::Running(judge)));
    }

    /// Nobody should come any more.
    pub fn ending(&self) {
        self.stage.store(Arc::new(Stage::Ending));
    }

    /// Whether to send traffic here, now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &**self.stage.load() {
            Stage::Starting(doing) => Verdict { ready: false, reason: format!("starting: {doing}") },
            Stage::Running(judge) => judge(),
            Stage::Ending => Verdict { ready: false, reason: "ending".to_owned() },
        }
    }
}
