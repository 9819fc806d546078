//! Bounds the bytes of requests that are still arriving: a client may open many requests and send much of each without ever
//! finishing one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::runtime::budget::{Budget, Share};

/// Bytes of a request that are not counted: most requests end within them. Few, as there may be many requests.
const FREE_BYTES: usize = 4 * 1024;
/// Bytes taken from the budget at a time, where the length is not known.
const STEP_BYTES: usize = 1024 * 1024;
/// Most bytes taken at once because the request says that it is so long; one that claims more pays as it goes.
const CLAIM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// In front of each gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

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

    /// Pays for `data`. What the first bytes announce is paid at once: otherwise many large requests would each pay for a part,
    /// and none could ever be finished.
    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        if self.seen == 0
            && let Some(length) = announced(data)
            && length > self.paid
        {
            self.pay(length - self.paid)?;
        }
        self.seen += data.len();
        while self.seen > self.paid {
            self.pay(STEP_BYTES)?;
        }
        Ok(())
    }

    fn pay(&mut self, bytes: usize) -> Result<(), Status> {
        let share = self.budget.try_take(bytes as u64);
        self.shares.push(share.ok_or_else(|| {
            // Refused before it is understood, so not inside an answer.
            Status::resource_exhausted("too many bytes of requests are arriving; try again later")
        })?);
        self.paid += bytes;
        Ok(())
    }
}

/// Length of the request whose first bytes these are, as far as it is believed.
fn announced(data: &[u8]) -> Option<usize> {
    let &[_, a, b, c, d, ..] = data else { return None };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (length <= CLAIM_BYTES_MAX).then_some(PREFIX_BYTES + length)
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.count(data)
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

    async fn read_all(body: Vec<u8>, budget: &Budget) -> Result<usize, Status> {
        let body = Body::new(Full::new(Bytes::from(body)));
        let whole = Metered::new(body, budget.clone()).collect().await?;
        Ok(whole.to_bytes().len())
    }

    /// A body that does not say how long it is.
    async fn read(bytes: usize, budget: &Budget) -> Result<usize, Status> {
        read_all(vec![0; bytes], budget).await
    }

    /// The first bytes of a request that says so.
    fn beginning(length: u32, bytes: usize) -> Vec<u8> {
        let mut body = vec![0];
        body.extend(length.to_be_bytes());
        body.resize(bytes, 1);
        body
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

    #[test]
    fn a_request_pays_at_its_first_bytes_for_all_that_it_announces_and_for_no_more() {
        let budget = Budget::new(1_000_000);
        let mut first = Metered::new(Body::empty(), budget.clone());
        first.count(&beginning(600_000, 100)).unwrap();
        assert_eq!(budget.used(), (PREFIX_BYTES + 600_000 - FREE_BYTES) as u64);
        let mut second = Metered::new(Body::empty(), budget.clone());
        assert!(second.count(&beginning(600_000, 100)).is_err(), "nothing of it is kept, however little has come");
        first.count(&vec![1; 600_000 - 95]).unwrap();
        assert_eq!(budget.used(), (PREFIX_BYTES + 600_000 - FREE_BYTES) as u64);
    }

    #[test]
    fn a_length_that_nobody_believes_costs_only_what_has_come() {
        let budget = Budget::new(2 * STEP_BYTES as u64);
        let mut request = Metered::new(Body::empty(), budget.clone());
        request.count(&beginning(u32::MAX, FREE_BYTES + 1)).unwrap();
        assert_eq!(budget.used(), STEP_BYTES as u64);
    }
}
