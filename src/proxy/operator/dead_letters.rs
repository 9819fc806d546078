//! Dead letters: list, show, redrive, purge.

use prost::Message;
use tonic::Status;

use super::convert::{invalid, refused, timestamp_out};
use super::topic::signed;
use crate::broker::Broker;
use crate::broker::api::{CatalogError, Letter, LetterError, LetterFate, LetterOutcome, Remedy, Which};
use crate::model::name::GroupName;
use crate::model::position::QueueOffset;
use crate::wire::admin as wire;
use crate::wire::rocketmq as v2;

const LIST_DEFAULT: usize = 100;
const OFFSETS_MAX: usize = 256;
const BODY_HEAD_BYTES: usize = 256;

fn named(namespace: &str, name: &str) -> Result<GroupName, Status> {
    GroupName::new(namespace, name).map_err(|error| refused(CatalogError::Name(error)))
}

fn offset_in(field: &str, offset: i64) -> Result<QueueOffset, Status> {
    u64::try_from(offset).map(QueueOffset).map_err(|_| invalid(field, "is negative"))
}

fn failed(error: LetterError) -> Status {
    let text = error.to_string();
    match error {
        LetterError::NotFound(_) => Status::not_found(text),
        LetterError::TooMany(_) => Status::failed_precondition(text),
        LetterError::Overloaded => Status::resource_exhausted(text),
        LetterError::Unreadable(_) | LetterError::ShardFailed => Status::internal(text),
    }
}

fn letter_out(letter: &Letter) -> wire::DeadLetter {
    let origin = letter.origin.as_ref();
    wire::DeadLetter {
        offset: signed(letter.offset.get()),
        message_id: letter.message.message_id.clone(),
        topic_namespace: origin.map(|origin| origin.topic.namespace().to_owned()).unwrap_or_default(),
        topic: origin.map(|origin| origin.topic.name().to_owned()).unwrap_or_default(),
        attempts: origin.map_or(0, |origin| origin.attempts),
        reason: origin.map(|origin| origin.reason.clone()).unwrap_or_default(),
        moved_at: Some(timestamp_out(letter.moved_at)),
        body_bytes: u64::from(letter.body_bytes),
        tag: letter.message.tag.clone(),
        message_group: letter.message_group.clone(),
        broker: String::new(),
    }
}

pub(super) async fn list(
    broker: &Broker,
    request: &wire::ListDeadLettersRequest,
) -> Result<wire::ListDeadLettersResponse, Status> {
    let group = named(&request.namespace, &request.group)?;
    let from = offset_in("from_offset", request.from_offset)?;
    let limit = if request.limit == 0 { LIST_DEFAULT } else { request.limit as usize };
    let page = broker.dead_letters(&group, from, limit).await.map_err(failed)?;
    Ok(wire::ListDeadLettersResponse {
        letters: page.letters.iter().map(letter_out).collect(),
        next_offset: page.next.map(|next| signed(next.get())),
        total: page.waiting,
        ..Default::default()
    })
}

pub(super) async fn show(
    broker: &Broker,
    request: &wire::ShowDeadLetterRequest,
) -> Result<wire::ShowDeadLetterResponse, Status> {
    let group = named(&request.namespace, &request.group)?;
    let offset = offset_in("offset", request.offset)?;
    let page = broker.dead_letters(&group, offset, 1).await.map_err(failed)?;
    let letter = page.letters.into_iter().find(|letter| letter.offset == offset);
    let letter = letter.ok_or_else(|| Status::not_found(format!("dead letter {offset} of {group} does not exist")))?;
    let damaged = |_| Status::internal("the stored message cannot be decoded");
    let content = v2::Message::decode(letter.message.rest.clone()).map_err(damaged)?;
    let system = v2::SystemProperties::decode(letter.message.system_static.clone()).map_err(damaged)?;
    let head = content.body.slice(..content.body.len().min(BODY_HEAD_BYTES));
    Ok(wire::ShowDeadLetterResponse {
        letter: Some(letter_out(&letter)),
        properties: content.user_properties,
        keys: system.keys,
        body_head: head.to_vec(),
    })
}

pub(super) async fn settle(
    broker: &Broker,
    request: &wire::SettleDeadLettersRequest,
    remedy: Remedy,
) -> Result<wire::SettleDeadLettersResponse, Status> {
    let group = named(&request.namespace, &request.group)?;
    let which = match (request.from_offset, request.offsets.as_slice()) {
        (Some(_), [_, ..]) => return Err(invalid("from_offset", "cannot stand beside offsets")),
        (None, []) => return Err(invalid("offsets", "is missing, and so is from_offset")),
        (None, offsets) if offsets.len() > OFFSETS_MAX => return Err(invalid("offsets", "has more than 256 entries")),
        (None, offsets) => {
            let offsets = offsets.iter().map(|offset| offset_in("offsets", *offset));
            Which::These(offsets.collect::<Result<_, _>>()?)
        }
        (Some(from), []) => Which::Range {
            from: offset_in("from_offset", from)?,
            until: request.until_offset.map(|until| offset_in("until_offset", until)).transpose()?,
        },
    };
    let settled = broker.settle_dead_letters(&group, which, remedy).await.map_err(failed)?;
    Ok(wire::SettleDeadLettersResponse {
        outcomes: settled.outcomes.into_iter().map(outcome_out).collect(),
        next_offset: settled.next.map(|next| signed(next.get())),
        until_offset: signed(settled.until.get()),
        ..Default::default()
    })
}

fn outcome_out(outcome: LetterOutcome) -> wire::DeadLetterOutcome {
    let reason = match &outcome.fate {
        LetterFate::Done => String::new(),
        LetterFate::Gone => "it is not there any more".to_owned(),
        LetterFate::NoOrigin => {
            "a client sent it to the dead-letter topic itself: it came from nowhere else".to_owned()
        }
        LetterFate::OriginGone(topic) => format!("its topic {topic} does not exist"),
        LetterFate::LiteGone(topic) => format!("its lite topic below {topic} does not exist any more"),
        LetterFate::OtherKind(topic) => format!("its topic {topic} takes messages of another kind now"),
    };
    wire::DeadLetterOutcome {
        offset: signed(outcome.offset.get()),
        message_id: outcome.message_id,
        done: outcome.fate == LetterFate::Done,
        reason,
        broker: String::new(),
    }
}
