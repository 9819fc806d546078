//! Transactions of all brokers: which are open, and settling one by hand.

use std::sync::Arc;

use tonic::{Code, Status};

use super::super::convert::{invalid, refused};
use super::super::topic;
use super::merge::{Reply, missing, why};
use super::{Cluster, READ_LIMIT, WRITE_LIMIT};
use crate::broker::api::CatalogError;
use crate::model::cluster::Shard;
use crate::model::position::ShardId;
use crate::wire::admin as wire;

impl Cluster {
    /// Brokers come one after the other; the token says at which, and how far it is.
    pub(in super::super) async fn list_transactions(
        &self,
        request: wire::ListTransactionsRequest,
    ) -> Result<wire::ListTransactionsResponse, Status> {
        let view = self.route.view();
        let asked = match &request.topic {
            None => Self::everyone(&view),
            Some(wanted) => {
                let name = topic::named(&request.namespace, wanted)?;
                let Some(found) = view.topics.get(&name) else {
                    return Err(refused(CatalogError::NotFound(format!("topic {name}"))));
                };
                Self::holders(&view, found.id)
            }
        };
        let (from, inner) = place(&request.page_token)?;
        let mut rest = asked.iter().filter(|shard| shard.id >= from);
        let Some(shard) = rest.next() else { return Ok(wire::ListTransactionsResponse::default()) };
        // A token of a broker that is none any more is of no use to the next.
        let inner = if shard.id == from { inner.to_owned() } else { String::new() };
        let ask = wire::ListTransactionsRequest { page_token: inner, ..request };
        let reply = self.peers.ask_one(shard, READ_LIMIT, async |mut broker| broker.list_transactions(ask).await).await;
        page(shard, rest.next(), reply)
    }

    /// One broker has it, and only it knows that. Ends are the same whoever is asked first.
    pub(in super::super) async fn end_transaction(
        &self,
        request: wire::EndTransactionRequest,
    ) -> Result<wire::EndTransactionResponse, Status> {
        let name = topic::named(&request.namespace, &request.topic)?;
        let view = self.route.view();
        let Some(found) = view.topics.get(&name) else {
            return Err(refused(CatalogError::NotFound(format!("topic {name}"))));
        };
        let (holders, peers) = (Self::holders(&view, found.id), self.peers.clone());
        let ended = self.tasks.spawn_background(async move {
            let replies = peers.ask(&holders, WRITE_LIMIT, |mut broker, _| {
                let request = request.clone();
                async move { broker.end_transaction(request).await }
            });
            ended(replies.await)
        });
        ended.await.map_err(|_| Status::internal("ended while it was under way"))?
    }
}

/// Shard and the broker's own token.
fn place(token: &str) -> Result<(ShardId, &str), Status> {
    if token.is_empty() {
        return Ok((ShardId(0), ""));
    }
    let parts = token.split_once(':').and_then(|(shard, inner)| Some((ShardId(shard.parse().ok()?), inner)));
    parts.ok_or_else(|| invalid("page_token", "is not one that this cluster gave"))
}

fn page(
    shard: &Arc<Shard>,
    following: Option<&Arc<Shard>>,
    reply: Result<wire::ListTransactionsResponse, Status>,
) -> Result<wire::ListTransactionsResponse, Status> {
    let next_broker = following.map(|next| format!("{}:", next.id.get())).unwrap_or_default();
    match reply {
        Ok(mut page) => {
            for transaction in &mut page.transactions {
                transaction.broker = shard.name.to_string();
            }
            page.next_page_token = match page.next_page_token.as_str() {
                "" => next_broker,
                inner => format!("{}:{inner}", shard.id.get()),
            };
            Ok(page)
        }
        Err(status) if status.code() == Code::InvalidArgument => Err(status),
        // A broker that has not heard of the topic yet has nothing of it.
        Err(status) if status.code() == Code::NotFound => {
            Ok(wire::ListTransactionsResponse { next_page_token: next_broker, ..Default::default() })
        }
        Err(status) => Ok(wire::ListTransactionsResponse {
            next_page_token: next_broker,
            missing: vec![missing(&shard.name, &status)],
            ..Default::default()
        }),
    }
}

/// Done when one did it. That nobody knows it is only sure when everybody answered.
fn ended(replies: Vec<Reply<wire::EndTransactionResponse>>) -> Result<wire::EndTransactionResponse, Status> {
    let mut unknown = Status::not_found("no broker has this topic");
    let mut silent = Vec::new();
    for Reply { broker, answer } in replies {
        match answer {
            Ok(done) => return Ok(done),
            Err(status) => match status.code() {
                Code::NotFound => unknown = status,
                Code::FailedPrecondition | Code::InvalidArgument => return Err(status),
                _ => silent.push(format!("{broker} {}", why(&status))),
            },
        }
    }
    if silent.is_empty() {
        return Err(unknown);
    }
    Err(Status::unavailable(format!("none of the brokers that answered has it, and {}", silent.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: u32) -> Arc<Shard> {
        Arc::new(Shard {
            id: ShardId(id),
            name: format!("broker-{id}").into(),
            address: "".into(),
            version: "".into(),
            alive: true,
            draining: false,
            holder: None,
        })
    }

    fn reply(name: &str, answer: Result<(), Status>) -> Reply<wire::EndTransactionResponse> {
        Reply { broker: name.into(), answer: answer.map(|()| wire::EndTransactionResponse {}) }
    }

    #[test]
    fn pages_go_through_every_broker_and_a_silent_one_does_not_end_them() {
        let some = wire::ListTransactionsResponse {
            transactions: vec![wire::OpenTransaction::default()],
            next_page_token: "17:x".to_owned(),
            missing: Vec::new(),
        };
        let first = page(&shard(0), Some(&shard(2)), Ok(some)).unwrap();
        assert_eq!(first.transactions[0].broker, "broker-0");
        assert_eq!(place(&first.next_page_token).unwrap(), (ShardId(0), "17:x"));
        let silent = page(&shard(0), Some(&shard(2)), Err(Status::unavailable("gone"))).unwrap();
        assert_eq!((silent.next_page_token.as_str(), silent.missing.len()), ("2:", 1));
        assert_eq!(page(&shard(2), None, Ok(wire::ListTransactionsResponse::default())).unwrap().next_page_token, "");
        assert!(place("x").is_err());
    }

    #[test]
    fn a_transaction_is_only_unknown_when_every_broker_said_so() {
        let lost = || Err(Status::not_found("no transaction"));
        let code = |replies| ended(replies).map_err(|status| status.code());
        assert_eq!(code(vec![reply("a", lost()), reply("b", lost())]), Err(Code::NotFound));
        assert!(code(vec![reply("a", lost()), reply("b", Ok(()))]).is_ok());
        let opposite = || Err(Status::failed_precondition("it was committed"));
        assert_eq!(code(vec![reply("a", lost()), reply("b", opposite())]), Err(Code::FailedPrecondition));
        let away = ended(vec![reply("a", lost()), reply("b", Err(Status::unavailable("gone")))]).unwrap_err();
        assert_eq!(away.code(), Code::Unavailable);
        assert!(away.message().contains("b does not answer"), "{}", away.message());
    }
}
