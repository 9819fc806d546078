//! One connection of the public port, from its first byte: TLS or plaintext, and HTTP/2 or nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::observe::meters::Meters;
use crate::proxy::caller::PeerInfo;

/// First bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection never became one, in the words of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str);

#[derive(Debug)]
enum Transport<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

/// An HTTP/2 connection whose preface has arrived. `G` is given back when it closes.
#[derive(Debug)]
pub struct Connection<S, G> {
    transport: Transport<S>,
    /// Bytes of the preface that the HTTP/2 server has not been given yet.
    preface_left: usize,
    info: PeerInfo,
    meters: Arc<Meters>,
    _guard: G,
}

impl<S: AsyncRead + AsyncWrite + Unpin, G> Connection<S, G> {
    /// Waits until the client has said what it is; the caller bounds the time. `first` is the first byte of the stream, which is
    /// still in it.
    ///
    /// # Errors
    /// It is neither TLS nor HTTP/2, or it ended.
    pub async fn greet(
        mut stream: S,
        first: u8,
        info: PeerInfo,
        tls: &TlsAcceptor,
        meters: Arc<Meters>,
        guard: G,
    ) -> Result<Self, Refused> {
        let transport = if first == TLS_HANDSHAKE {
            let mut stream = tls.accept(stream).await.map_err(|_| Refused("tls"))?;
            read_preface(&mut stream).await?;
            Transport::Tls(Box::new(stream))
        } else {
            read_preface(&mut stream).await?;
            Transport::Plain(stream)
        };
        meters.connection_opened(matches!(transport, Transport::Tls(_)));
        Ok(Self { transport, preface_left: PREFACE.len(), info, meters, _guard: guard })
    }
}

impl<S, G> Drop for Connection<S, G> {
    fn drop(&mut self) {
        self.meters.connection_closed(matches!(self.transport, Transport::Tls(_)));
    }
}

/// Takes the preface off the stream. Stops at the first byte that does not belong there, so that garbage is not waited for.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Refused> {
    let mut seen = 0;
    let mut buffer = [0; PREFACE.len()];
    while seen < PREFACE.len() {
        // Not one byte further: what follows the preface is the HTTP/2 server's.
        let read = stream.read(&mut buffer[seen..]).await.map_err(|_| Refused("silent"))?;
        if read == 0 {
            return Err(Refused("silent"));
        }
        if buffer[seen..seen + read] != PREFACE[seen..seen + read] {
            return Err(Refused("garbage"));
        }
        seen += read;
    }
    Ok(())
}

impl<S, G> Connected for Connection<S, G> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncRead for Connection<S, G> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.preface_left > 0 {
            let from = PREFACE.len() - self.preface_left;
            let given = self.preface_left.min(buf.remaining());
            buf.put_slice(&PREFACE[from..from + given]);
            self.preface_left -= given;
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, G: Unpin> AsyncWrite for Connection<S, G> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn preface_of(bytes: &'static [u8]) -> Result<(), Refused> {
        let mut stream = bytes;
        read_preface(&mut stream).await
    }

    #[tokio::test]
    async fn only_the_whole_preface_passes() {
        assert_eq!(preface_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest").await, Ok(()));
        assert_eq!(preface_of(b"PRI * HTTP/2.0\r\n\r\nSM").await, Err(Refused("silent")));
        assert_eq!(preface_of(b"GET / HTTP/1.1\r\n").await, Err(Refused("garbage")));
        assert_eq!(preface_of(b"").await, Err(Refused("silent")));
    }

    #[tokio::test]
    async fn nothing_after_the_preface_is_swallowed() {
        let mut stream: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest";
        read_preface(&mut stream).await.unwrap();
        assert_eq!(stream, b"rest");
    }
}
