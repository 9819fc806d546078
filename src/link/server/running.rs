//! What a broker does about a call.

use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::broker::Broker;
use crate::link::convert::calls::Request;
use crate::link::convert::outcomes;
use crate::link::convert::refusals::Refused;
use crate::link::server::outbox::Done;
use crate::model::cluster::Revision;
use crate::runtime::budget::Share;
use crate::wire::broker as wire;
use crate::wire::broker::answer::Outcome;

/// A refusal, and whether it says that something is not there.
type Refusal = (wire::Refusal, bool);

fn refused<E: Refused>(error: E) -> Refusal {
    let is_not_found = error.is_not_found();
    (error.out(), is_not_found)
}

#[expect(clippy::result_large_err, reason = "it becomes an answer at once")]
fn answered<T, E: Refused>(result: Result<T, E>, out: impl FnOnce(T) -> Outcome) -> Result<Done, Refusal> {
    result.map(|value| Done::Outcome(out(value))).map_err(refused)
}

/// Does what is asked. A caller that knows a later state of the catalogue than this broker hears "not found" only when the broker
/// has caught up, or could not in time.
///
/// What there is most of has futures of its own: one that can become anything is as large as the largest, and is moved for each call.
pub fn run(broker: Broker, request: Request, revision: Revision, share: Share) -> BoxFuture<'static, Done> {
    if broker.applied() < revision {
        return held(share, behind(broker, request, revision));
    }
    match request {
        Request::Publish(publish) => {
            held(share, async move { judged(answered(broker.publish(publish).await, outcomes::places_out)) })
        }
        Request::Receive(receive) => {
            held(share, async move { judged(broker.receive(receive).await.map(Done::Delivery).map_err(refused)) })
        }
        Request::Ack(group, topic, handles) => held(share, async move {
            judged(answered(broker.ack(&group, &topic, &handles).await, |acked| outcomes::acked_out(&acked)))
        }),
        request => held(share, async move { judged(execute(&broker, request).await) }),
    }
}

/// The call has its part of the bytes until it is done.
fn held(share: Share, work: impl Future<Output = Done> + Send + 'static) -> BoxFuture<'static, Done> {
    Box::pin(work.inspect(move |_| drop(share)))
}

fn judged(result: Result<Done, Refusal>) -> Done {
    result.unwrap_or_else(|(refusal, _)| Done::Outcome(Outcome::Refusal(refusal)))
}

async fn behind(broker: Broker, request: Request, revision: Revision) -> Done {
    let mut done = execute(&broker, request.clone()).await;
    if let Err((_, true)) = &done
        && broker.reached(revision).await
    {
        done = execute(&broker, request).await;
    }
    judged(done)
}

async fn execute(broker: &Broker, request: Request) -> Result<Done, Refusal> {
    match request {
        Request::Publish(publish) => answered(broker.publish(publish).await, outcomes::places_out),
        Request::Receive(receive) => broker.receive(receive).await.map(Done::Delivery).map_err(refused),
        Request::Ack(group, topic, handles) => {
            answered(broker.ack(&group, &topic, &handles).await, |acked| outcomes::acked_out(&acked))
        }
        Request::Change(group, topic, handle, duration) => {
            answered(broker.change_invisible(&group, &topic, &handle, duration).await, outcomes::changed_out)
        }
        Request::Suspend(group, topic, handle, duration) => {
            answered(broker.suspend(&group, &topic, &handle, duration).await, outcomes::changed_out)
        }
        Request::ToDeadLetter(group, topic, handle) => {
            answered(broker.to_dead_letter(&group, &topic, &handle).await, |moved| outcomes::acked_out(&[moved]))
        }
        Request::Recall(topic, handle) => answered(broker.recall(&topic, &handle).await, outcomes::recalled_out),
        Request::EndTransaction(topic, id, resolution) => {
            answered(broker.end_transaction(&topic, &id, resolution).await, |()| outcomes::done_out())
        }
        Request::LookAtTransaction(topic, id) => {
            answered(broker.look_at_transaction(&topic, &id).await, |()| outcomes::done_out())
        }
        Request::Pull(pull) => answered(broker.pull(pull).await, outcomes::pulled_out),
        Request::QueueBoundary(topic, queue, which) => {
            answered(broker.queue_boundary(&topic, queue, which).await, outcomes::offset_out)
        }
        Request::Offset(group, topic, queue) => {
            answered(broker.offset(&group, &topic, queue).await, outcomes::offset_out)
        }
        Request::UpdateOffset(group, topic, queue, offset) => {
            answered(broker.update_offset(&group, &topic, queue, offset).await, |()| outcomes::done_out())
        }
        Request::SyncLite(sync) => match broker.sync_lite(sync).await {
            Ok(evictions) => Ok(Done::Evicted(outcomes::evictions_out(&evictions), evictions)),
            Err(error) => Err(refused(error)),
        },
        Request::LanesDone(topic, group, generation, keys) => {
            // A broker that does not know of the end of that order yet cannot be done with it: it says no, and is asked again.
            Ok(Done::Outcome(outcomes::lanes_out(broker.lanes_done(&topic, &group, generation, &keys).await)))
        }
        Request::TopicsToCheck => {
            let topics = broker.topics_to_check();
            Ok(Done::Outcome(outcomes::topics_out(topics.iter().map(|due| (&due.topic.name, due.senders.clone())))))
        }
        Request::DueChecks(due) => {
            let producers = due.producers.into_iter().collect();
            let checks = broker.due_checks_of(&due.topic, &producers, due.max, due.bytes).await;
            Ok(Done::Outcome(outcomes::checks_out(checks)))
        }
        Request::ClaimCheck(check) => Ok(Done::Outcome(outcomes::claimed_out(broker.claim_check(&check)))),
        Request::UnclaimCheck(check) => {
            broker.unclaim_check(&check);
            Ok(Done::Outcome(outcomes::done_out()))
        }
        Request::ClientTerminated(client) => {
            broker.client_terminated(&client).await;
            Ok(Done::Outcome(outcomes::done_out()))
        }
        Request::Status => Ok(Done::Outcome(outcomes::status_out(broker.status()))),
    }
}
