//! Transactions: which are open, and settling one by hand.

use tonic::Status;

use super::convert::{invalid, refused};
use crate::broker::Broker;
use crate::broker::api::{CatalogError, OpenTransaction, Resolution, TransactionError, TransactionFilter};
use crate::model::name::TopicName;
use crate::model::time::Timestamp;
use crate::wire::admin as wire;

fn named(namespace: &str, name: &str) -> Result<TopicName, Status> {
    TopicName::new(namespace, name).map_err(|error| refused(CatalogError::Name(error)))
}

pub(super) async fn list(
    broker: &Broker,
    request: wire::ListTransactionsRequest,
) -> Result<wire::ListTransactionsResponse, Status> {
    use wire::TransactionState as W;
    let topic = request.topic.as_ref().map(|name| named(&request.namespace, name)).transpose()?;
    let filter = match W::try_from(request.state) {
        Ok(W::Unspecified | W::Pending) => TransactionFilter::Pending,
        Ok(W::Discarded) => TransactionFilter::Discarded,
        Ok(W::All) => TransactionFilter::All,
        Err(_) => return Err(invalid("state", "is none of the known ones")),
    };
    let max = if request.page_size == 0 { usize::MAX } else { request.page_size as usize };
    let page = broker.open_transactions(topic.as_ref(), filter, &request.page_token, max).await;
    let page = page.map_err(|error| match error {
        TransactionError::Unknown => invalid("page_token", "is not one that this broker gave"),
        other => failed(&other),
    })?;
    Ok(wire::ListTransactionsResponse {
        transactions: page.transactions.into_iter().map(out).collect(),
        next_page_token: page.next,
        missing: Vec::new(),
    })
}

pub(super) async fn end(
    broker: &Broker,
    request: wire::EndTransactionRequest,
) -> Result<wire::EndTransactionResponse, Status> {
    let topic = named(&request.namespace, &request.topic)?;
    let resolution = match wire::TransactionEnd::try_from(request.end) {
        Ok(wire::TransactionEnd::Commit) => Resolution::Commit,
        Ok(wire::TransactionEnd::Rollback) => Resolution::Rollback,
        Ok(wire::TransactionEnd::Unspecified) | Err(_) => return Err(invalid("end", "is neither commit nor rollback")),
    };
    let ended = broker.end_transaction_by_hand(&topic, &request.id, resolution).await;
    ended.map_err(|error| failed(&error))?;
    Ok(wire::EndTransactionResponse {})
}

fn failed(error: &TransactionError) -> Status {
    let text = error.to_string();
    match error {
        TransactionError::TopicNotFound(_) | TransactionError::Unknown => Status::not_found(text),
        TransactionError::Opposite { .. } | TransactionError::Discarded => Status::failed_precondition(text),
        TransactionError::Overloaded => Status::resource_exhausted(text),
        TransactionError::Unavailable => Status::unavailable(text),
        TransactionError::ShardFailed => Status::internal(text),
    }
}

fn out(transaction: OpenTransaction) -> wire::OpenTransaction {
    use wire::TransactionState as W;
    let is_discarded = transaction.next_check.is_none();
    wire::OpenTransaction {
        namespace: transaction.topic.namespace().to_owned(),
        topic: transaction.topic.name().to_owned(),
        id: transaction.id,
        state: if is_discarded { W::Discarded } else { W::Pending }.into(),
        stored_at: Some(instant(transaction.stored_at)),
        producer: transaction.producer,
        body_bytes: transaction.body_bytes,
        checks: transaction.checks,
        next_check: transaction.next_check.map(instant),
        discarded_at: transaction.discarded_at.map(instant),
        broker: String::new(),
    }
}

fn instant(at: Timestamp) -> prost_types::Timestamp {
    crate::proxy::convert::time::wire_timestamp(at)
}
