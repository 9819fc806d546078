//! Whether anything moves on a connection. One message, even one frame of it, may be under way for longer than a peer may be silent: so
//! what counts are bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::body::Body;
use tonic::transport::server::Connected;

/// What moved on one connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    arrived: AtomicU64,
    taken: AtomicU64,
}

impl Progress {
    /// Changes when something arrives.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.0.arrived.load(Ordering::Relaxed)
    }

    /// Changes when the transport takes something. That it arrives is not said.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// The same body, whose frames count as they arrive; for connections whose bytes are not counted.
    #[must_use]
    pub fn counted(&self, body: Body) -> Body {
        let progress = self.clone();
        Body::new(body.map_frame(move |frame| {
            progress.0.arrived.fetch_add(1, Ordering::Relaxed);
            frame
        }))
    }
}

/// A byte stream that counts.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    progress: Progress,
}

impl<S> Counted<S> {
    /// Counts what `stream` carries from now on.
    pub fn new(stream: S, progress: Progress) -> Self {
        Self { stream, progress }
    }

    fn took(&self, taken: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &taken {
            self.progress.0.taken.fetch_add(*count as u64, Ordering::Relaxed);
        }
        taken
    }
}

impl<S> Connected for Counted<S> {
    type ConnectInfo = Progress;

    fn connect_info(&self) -> Progress {
        self.progress.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buf);
        let count = buf.filled().len().saturating_sub(before) as u64;
        self.progress.0.arrived.fetch_add(count, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.took(taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.took(taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
