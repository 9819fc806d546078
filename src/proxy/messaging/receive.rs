//! ReceiveMessage: checks, how long to wait, and the stream of answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_stream::Stream;
use tonic::Status;

use crate::broker::api::{Ask, LeaseWish, Receive};
use crate::link::Delivery;
use crate::model::limits::RECEIVE_BATCH_MAX;
use crate::proxy::call::{Answer, Call};
use crate::proxy::convert::delivery::DeliveryEncoder;
use crate::proxy::convert::{names, time};
use crate::proxy::options::ProxyOptions;
use crate::proxy::status::{Refusal, ok};
use crate::runtime::clock::Clock;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;
use crate::wire_receive::{Content, ReceiveMessageResponse};

/// Most of the client's time that is left for the way back of an answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// Waits for messages and gives the stream that carries them.
pub async fn receive(call: &Call, request: v2::ReceiveMessageRequest) -> ReceiveStream {
    let refused = |refusal: &Refusal| ReceiveStream::refused(call.caller.refused(refusal));
    let resource = request.message_queue.as_ref().and_then(|queue| queue.topic.clone()).unwrap_or_default();
    let wish = match wish(call, &request) {
        Ok(wish) => wish,
        Err(refusal) => return refused(&refusal),
    };
    if request.batch_size <= 0 {
        // Nothing is what was asked for; at once it would make a client that asks in a loop spin.
        wait_in_vain(call, wish.wait).await;
        return ReceiveStream::new(call, None, &resource);
    }
    match call.shared.brokers.receive(wish).await {
        Ok(delivery) if delivery.is_empty() => ReceiveStream::new(call, None, &resource),
        Ok(delivery) => ReceiveStream::new(call, Some(delivery), &resource),
        Err(error) => refused(&error.into()),
    }
}

async fn wait_in_vain(call: &Call, wait: Duration) {
    tokio::select! {
        biased;
        () = call.shared.brokers.shutdown().draining() => {}
        () = call.shared.clock.sleep(wait) => {}
    }
}

fn wish(call: &Call, request: &v2::ReceiveMessageRequest) -> Result<Receive, Refusal> {
    let client = call.caller.require_client()?;
    let topic = names::topic(&call.caller, request.message_queue.as_ref().and_then(|queue| queue.topic.as_ref()))?;
    let group = names::group(&call.caller, request.group.as_ref())?;
    call.about_topic(&topic);
    call.about_group(&group);
    let lease = lease(request, &call.shared.options)?;
    let filter = call.shared.filters.filter(request.filter_expression.as_ref())?;
    Ok(Receive {
        group,
        topic,
        filter,
        batch: usize::try_from(request.batch_size).unwrap_or(0).clamp(1, RECEIVE_BATCH_MAX),
        lease,
        wait: poll_time(call, request.long_polling_timeout.as_ref()),
        client: client.clone(),
        attempt_id: request.attempt_id.clone().filter(|id| !id.is_empty()),
        ask: Ask::Messages,
    })
}

fn lease(request: &v2::ReceiveMessageRequest, options: &ProxyOptions) -> Result<LeaseWish, Refusal> {
    if request.auto_renew {
        return Ok(LeaseWish::AutoRenew);
    }
    let wanted = match &request.invisible_duration {
        None => Some(Duration::ZERO),
        Some(wire) => time::duration(wire),
    };
    invisible(wanted, options.invisible_min, options.invisible_max).map(LeaseWish::Fixed)
}

/// An invisible duration within its bounds, or the words that clients' tests look for (rule C9).
pub fn invisible(wanted: Option<Duration>, shortest: Duration, longest: Duration) -> Result<Duration, Refusal> {
    let illegal = |text: String| Err(Refusal::new(Code::IllegalInvisibleTime, text));
    match wanted {
        Some(wanted) if wanted > longest => {
            illegal(format!("the invisibleTime is too large. max is {}", longest.as_millis()))
        }
        Some(wanted) if wanted >= shortest => Ok(wanted),
        Some(_) | None => illegal(format!("the invisibleTime is too small. min is {}", shortest.as_millis())),
    }
}

/// How long an empty answer is held back, with the wish that came with the request.
pub fn poll_time(call: &Call, wanted: Option<&prost_types::Duration>) -> Duration {
    let options = &call.shared.options;
    let wanted = wanted.and_then(time::duration);
    let request_timeout =
        || call.caller.client().map_or(Duration::ZERO, |client| call.shared.sessions.request_timeout(client));
    poll_time_of(wanted, call.caller.time_limit, request_timeout, options.long_poll_min, options.long_poll_max)
}

/// How long an empty receive waits (rule C7): as wished, else what the client's time limit leaves; within the bounds; and always
/// so that the answer is back in time.
fn poll_time_of(
    wanted: Option<Duration>,
    time_limit: Option<Duration>,
    request_timeout: impl FnOnce() -> Duration,
    shortest: Duration,
    longest: Duration,
) -> Duration {
    let wait = match (wanted, time_limit) {
        (Some(wanted), _) => wanted,
        (None, Some(limit)) => limit.saturating_sub(request_timeout() / 2),
        (None, None) => longest,
    };
    let wait = wait.clamp(shortest, longest.max(shortest));
    match time_limit {
        Some(limit) => wait.min(limit - ANSWER_MARGIN.min(limit / 2)),
        None => wait,
    }
}

#[derive(Debug)]
enum Next {
    Status(v2::Status),
    Messages,
    Time,
    End,
}

/// Status, messages, time: in this order and nothing else (rule C23). Messages are taken from the delivery one by one as the
/// transport asks for them, so that a stream that is cancelled gives the rest back.
#[derive(Debug)]
pub struct ReceiveStream {
    code: i32,
    next: Next,
    messages: Option<(Delivery, DeliveryEncoder)>,
    clock: Option<Clock>,
}

impl ReceiveStream {
    fn new(call: &Call, delivery: Option<Delivery>, topic: &v2::Resource) -> Self {
        let status = match &delivery {
            Some(_) => ok(),
            None => call.caller.status(Code::MessageNotFound, "no new message"),
        };
        let messages = delivery.map(|delivery| {
            call.about_messages(delivery.len());
            let encoder = DeliveryEncoder::new(topic, call.shared.store_host(&call.caller), delivery.len());
            (delivery, encoder)
        });
        Self { code: status.code, next: Next::Status(status), messages, clock: Some(call.shared.clock.clone()) }
    }

    /// A refusal is one element.
    fn refused(status: v2::Status) -> Self {
        Self { code: status.code, next: Next::Status(status), messages: None, clock: None }
    }
}

impl Answer for ReceiveStream {
    fn code(&self) -> i32 {
        self.code
    }
}

impl Stream for ReceiveStream {
    type Item = Result<ReceiveMessageResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match std::mem::replace(&mut this.next, Next::End) {
                Next::Status(status) => {
                    this.next = if this.clock.is_some() { Next::Messages } else { Next::End };
                    return Poll::Ready(Some(Ok(ReceiveMessageResponse::new(Content::Status(status)))));
                }
                Next::Messages => {
                    let taken = this.messages.as_mut().and_then(|(delivery, encoder)| {
                        let delivered = delivery.next()?;
                        Some(encoder.element(delivered))
                    });
                    if let Some(element) = taken {
                        this.next = Next::Messages;
                        return Poll::Ready(Some(Ok(element)));
                    }
                    this.next = Next::Time;
                }
                Next::Time => {
                    let now = this.clock.as_ref().map(Clock::now).unwrap_or_default();
                    let content = Content::DeliveryTimestamp(time::wire_timestamp(now));
                    return Poll::Ready(Some(Ok(ReceiveMessageResponse::new(content))));
                }
                Next::End => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn an_empty_receive_waits_as_long_as_wished_and_answers_in_time() {
        // wished, time limit of the call, waits
        let cases = [
            (Some(20.0), Some(23.0), 20.0),
            (Some(30.0), Some(33.0), 20.0),
            (Some(40.0), Some(40.0), 20.0), // Rust: limit equals wish
            (Some(5.0), Some(8.0), 5.0),
            (Some(3.0), Some(6.0), 5.0),
            (Some(1.0), Some(4.0), 3.0),
            (Some(20.0), Some(10.0), 9.0),
            (Some(20.0), Some(1.0), 0.5),
            (Some(20.0), Some(0.0), 0.0),
            (Some(20.0), None, 20.0),
            (None, Some(13.0), 11.5), // C++ and Go send no wish
            (None, Some(60.0), 20.0),
            (None, Some(3.0), 2.0),
            (None, None, 20.0),
        ];
        for (wanted, limit, expected) in cases {
            let wait =
                poll_time_of(wanted.map(seconds), limit.map(seconds), || seconds(3.0), seconds(5.0), seconds(20.0));
            assert_eq!(wait, seconds(expected), "wished {wanted:?}, limit {limit:?}");
        }
    }

    #[test]
    fn invisible_durations_at_their_bounds() {
        let options = ProxyOptions::default();
        let of = |invisible_duration, auto_renew| {
            lease(&v2::ReceiveMessageRequest { invisible_duration, auto_renew, ..Default::default() }, &options)
        };
        let ms = |ms: i64| {
            Some(prost_types::Duration { seconds: ms / 1000, nanos: i32::try_from(ms % 1000).unwrap() * 1_000_000 })
        };
        let text = |outcome: Result<LeaseWish, Refusal>| outcome.unwrap_err().text.into_owned();
        assert_eq!(of(ms(10_000), false), Ok(LeaseWish::Fixed(seconds(10.0))));
        assert_eq!(of(ms(43_200_000), false), Ok(LeaseWish::Fixed(seconds(43_200.0))));
        assert_eq!(text(of(ms(9_999), false)), "the invisibleTime is too small. min is 10000");
        assert_eq!(text(of(None, false)), "the invisibleTime is too small. min is 10000");
        assert_eq!(text(of(ms(-1_000), false)), "the invisibleTime is too small. min is 10000");
        assert_eq!(text(of(ms(43_200_001), false)), "the invisibleTime is too large. max is 43200000");
        assert_eq!(of(ms(30_000), true), Ok(LeaseWish::AutoRenew), "C++ sends both");
    }
}
