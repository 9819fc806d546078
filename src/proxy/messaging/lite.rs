//! SyncLiteSubscription: which lite topics a client wants. Who loses one to a newer subscriber hears of it on its telemetry
//! stream, if it listens; if not, its next repetition of the whole set does not take the lite topic back.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::api::{LiteAction, LiteEviction, LiteStart, LiteSync};
use crate::model::position::QueueOffset;
use crate::model::time::Timestamp;
use crate::proxy::call::Call;
use crate::proxy::convert::{names, properties};
use crate::proxy::shared::Shared;
use crate::proxy::status::{Refusal, ok};
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::Code;
use crate::wire::rocketmq::offset_option::{OffsetType, Policy};
use crate::wire::rocketmq::telemetry_command::Command;

/// SyncLiteSubscription.
pub async fn sync(call: &Call, request: v2::SyncLiteSubscriptionRequest) -> v2::SyncLiteSubscriptionResponse {
    let outcome = match wish(call, request) {
        Ok(wish) => call.brokers().sync_lite(wish).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    let status = match outcome {
        Ok(evictions) => {
            evictions.into_iter().for_each(|eviction| tell(&call.shared, eviction));
            ok()
        }
        Err(refusal) => call.caller.refused(&refusal),
    };
    v2::SyncLiteSubscriptionResponse { status: Some(status) }
}

fn wish(call: &Call, request: v2::SyncLiteSubscriptionRequest) -> Result<LiteSync, Refusal> {
    let client = call.caller.require_client()?;
    let topic = names::topic(&call.caller, request.topic.as_ref())?;
    let group = names::group(&call.caller, request.group.as_ref())?;
    call.about_topic(&topic);
    call.about_group(&group);
    let action = action(request.action)?;
    let start = request.offset_option.as_ref().map(start).transpose()?.flatten();
    let quota = call.shared.brokers.lite_subscriptions_per_client_max();
    if matches!(action, LiteAction::Add | LiteAction::CompleteAdd) && request.lite_topic_set.len() > quota {
        // Before each is looked at: a request may hold millions.
        return Err(crate::broker::api::LiteError::ClientQuota(quota).into());
    }
    for name in &request.lite_topic_set {
        properties::check_lite_topic(name)?;
        if name.is_empty() {
            return Err(Refusal::new(Code::IllegalLiteTopic, "the name of a lite topic is empty"));
        }
    }
    Ok(LiteSync {
        client: client.clone(),
        group,
        topic,
        action,
        names: request.lite_topic_set.into_iter().collect::<BTreeSet<String>>(),
        version: request.version,
        start,
    })
}

fn action(wire: i32) -> Result<LiteAction, Refusal> {
    use v2::LiteSubscriptionAction as W;
    match W::try_from(wire) {
        Ok(W::PartialAdd) => Ok(LiteAction::Add),
        Ok(W::PartialRemove) => Ok(LiteAction::Remove),
        Ok(W::CompleteAdd) => Ok(LiteAction::CompleteAdd),
        Ok(W::CompleteRemove) => Ok(LiteAction::CompleteRemove),
        Err(_) => Err(Refusal::new(Code::BadRequest, format!("{wire} is no action on lite subscriptions"))),
    }
}

fn start(option: &v2::OffsetOption) -> Result<Option<LiteStart>, Refusal> {
    let count = |number: i64| {
        let illegal =
            || Refusal::new(Code::IllegalOffset, format!("{number}: a lite topic begins at 0, and so does time"));
        u64::try_from(number).map_err(|_| illegal())
    };
    Ok(match option.offset_type {
        None => None,
        Some(OffsetType::Policy(policy)) => Some(match Policy::try_from(policy) {
            Ok(Policy::Last) => LiteStart::Last,
            Ok(Policy::Min) => LiteStart::First,
            Ok(Policy::Max) => LiteStart::Latest,
            Err(_) => return Err(Refusal::new(Code::IllegalOffset, format!("{policy} is no policy of offsets"))),
        }),
        Some(OffsetType::Offset(offset)) => Some(LiteStart::Offset(QueueOffset(count(offset)?))),
        Some(OffsetType::TailN(messages)) => Some(LiteStart::Tail(count(messages)?)),
        Some(OffsetType::Timestamp(millis)) => Some(LiteStart::At(Timestamp(count(millis)?))),
    })
}

/// Tells clients that are connected here what they lost because of what another process was told; until this one drains.
pub async fn tell_others(shared: Arc<Shared>) {
    let mut evictions = shared.brokers.evictions();
    loop {
        tokio::select! {
            biased;
            () = shared.brokers.shutdown().draining() => return,
            eviction = evictions.next() => tell(&shared, eviction),
        }
    }
}

fn tell(shared: &Shared, eviction: LiteEviction) {
    let command = Command::NotifyUnsubscribeLiteCommand(v2::NotifyUnsubscribeLiteCommand {
        lite_topic: eviction.lite_topic.to_string(),
    });
    let command = v2::TelemetryCommand { status: Some(ok()), command: Some(command) };
    if !shared.sessions.tell_lite(&eviction.client, command) {
        tracing::debug!(
            client = &*eviction.client.0,
            lite_topic = &*eviction.lite_topic,
            "who lost a lite topic cannot be told"
        );
    }
}
