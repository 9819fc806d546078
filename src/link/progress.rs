//! Whether anything arrives on a stream. A large message may be under way for longer than a peer may be silent: so what counts are
//! the frames it comes in, not whole messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt;
use tonic::body::Body;

/// Counts the frames that arrived on one stream. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Frames(Arc<AtomicU64>);

impl Frames {
    /// So many so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The same body, counted.
    #[must_use]
    pub fn counted(&self, body: Body) -> Body {
        let frames = self.clone();
        Body::new(body.map_frame(move |frame| {
            frames.0.fetch_add(1, Ordering::Relaxed);
            frame
        }))
    }
}
