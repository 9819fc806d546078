//! Bounds the bytes of requests that are still arriving: a client may open many requests and send much of each without ever
//! finishing one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::runtime::budget::{Budget, Share};

/// Bytes of a request that are not counted: almost every request ends within them.
const FREE_BYTES: usize = 64 * 1024;
/// Bytes taken from the budget at a time.
const STEP_BYTES: usize = 1024 * 1024;

/// A request body whose bytes count while it arrives.
pub struct Metered {
    body: Body,
    budget: Budget,
    shares: Vec<Share>,
    seen: usize,
    paid: usize,
}

impl Metered {
    /// Counts `body` against `budget`.
    pub fn new(body: Body, budget: Budget) -> Self {
        Self { body, budget, shares: Vec::new(), seen: 0, paid: FREE_BYTES }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Status> {
        self.seen += bytes;
        while self.seen > self.paid {
            let share = self.budget.try_take(STEP_BYTES as u64);
            self.shares.push(share.ok_or_else(|| {
                // Refused before it is understood, so not inside an answer.
                Status::resource_exhausted("too many bytes of requests are arriving; try again later")
            })?);
            self.paid += STEP_BYTES;
        }
        Ok(())
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.count(data.len())
        {
            return Poll::Ready(Some(Err(status)));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    async fn read(bytes: usize, budget: &Budget) -> Result<usize, Status> {
        let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
        let whole = Metered::new(body, budget.clone()).collect().await?;
        Ok(whole.to_bytes().len())
    }

    #[tokio::test]
    async fn small_bodies_cost_nothing_and_large_ones_give_back_what_they_took() {
        let budget = Budget::new(2 * STEP_BYTES as u64);
        let hog = budget.try_take(2 * STEP_BYTES as u64);
        assert_eq!(read(FREE_BYTES, &budget).await.unwrap(), FREE_BYTES);
        assert!(read(FREE_BYTES + 1, &budget).await.is_err());
        drop(hog);
        assert_eq!(read(FREE_BYTES + 2 * STEP_BYTES, &budget).await.unwrap(), FREE_BYTES + 2 * STEP_BYTES);
        assert!(read(FREE_BYTES + 2 * STEP_BYTES + 1, &budget).await.is_err());
        assert_eq!(budget.used(), 0);
    }
}
