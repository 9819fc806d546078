//! The messages of one connection, made when the transport can take the next: so a batch holds whatever has come by then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use crate::link::client::pipe::Pipe;
use crate::runtime::clock::Clock;
use crate::wire::broker as wire;

/// Ends with its epoch.
#[derive(Debug)]
pub struct Writer {
    pub pipe: Arc<Pipe>,
    pub epoch: u64,
    pub clock: Clock,
}

impl Stream for Writer {
    type Item = wire::ToBroker;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pipe.next_batch(self.epoch, self.clock.steady(), context.waker())
    }
}
