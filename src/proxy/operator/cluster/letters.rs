//! Dead letters of all brokers. A letter stays on the broker it died on and is named by it and its offset; brokers come one after
//! the other, in the order of their shards.

use std::sync::Arc;

use tonic::{Code, Status};

use super::super::convert::invalid;
use super::merge::{Reply, missing, sorted, why};
use super::{Cluster, READ_LIMIT, WRITE_LIMIT};
use crate::broker::api::Remedy;
use crate::model::cluster::Shard;
use crate::wire::admin as wire;

impl Cluster {
    pub(in super::super) async fn list_dead_letters(
        &self,
        request: wire::ListDeadLettersRequest,
    ) -> Result<wire::ListDeadLettersResponse, Status> {
        let brokers = Self::everyone(&self.route.view());
        let at = begin(&brokers, "from_offset", &request.from_broker, Some(request.from_offset).filter(|&at| at != 0))?;
        let Some(at) = at else { return Ok(wire::ListDeadLettersResponse::default()) };
        let current = brokers[at].id;
        // The others are asked for how many they have.
        let replies = self.peers.ask(&brokers, READ_LIMIT, |mut broker, shard| {
            let (from_offset, limit) = if shard.id == current { (request.from_offset, request.limit) } else { (0, 1) };
            let from_broker = String::new();
            let request = wire::ListDeadLettersRequest { from_offset, limit, from_broker, ..request.clone() };
            async move { broker.list_dead_letters(request).await }
        });
        page(&brokers, at, replies.await)
    }

    pub(in super::super) async fn show_dead_letter(
        &self,
        request: wire::ShowDeadLetterRequest,
    ) -> Result<wire::ShowDeadLetterResponse, Status> {
        let brokers = Self::everyone(&self.route.view());
        let Some(at) = begin(&brokers, "offset", &request.broker, Some(request.offset))? else {
            return Err(Status::not_found("no broker is known"));
        };
        let shard = &brokers[at];
        let ask = wire::ShowDeadLetterRequest { broker: String::new(), ..request };
        let answer = self.peers.ask_one(shard, READ_LIMIT, async |mut broker| broker.show_dead_letter(ask).await).await;
        let mut answer = answer.map_err(|status| of_broker(&shard.name, &status))?;
        if let Some(letter) = &mut answer.letter {
            letter.broker = shard.name.to_string();
        }
        Ok(answer)
    }

    pub(in super::super) async fn redrive_dead_letters(
        &self,
        request: wire::SettleDeadLettersRequest,
    ) -> Result<wire::SettleDeadLettersResponse, Status> {
        self.settle_dead_letters(request, Remedy::Redrive).await
    }

    pub(in super::super) async fn purge_dead_letters(
        &self,
        request: wire::SettleDeadLettersRequest,
    ) -> Result<wire::SettleDeadLettersResponse, Status> {
        self.settle_dead_letters(request, Remedy::Purge).await
    }

    async fn settle_dead_letters(
        &self,
        request: wire::SettleDeadLettersRequest,
        remedy: Remedy,
    ) -> Result<wire::SettleDeadLettersResponse, Status> {
        let brokers = Self::everyone(&self.route.view());
        let (field, offset) = match (request.offsets.first(), request.from_offset) {
            (Some(first), _) => ("offsets", Some(*first)),
            (None, from) => ("from_offset", from.filter(|&from| from != 0 || request.until_offset.is_some())),
        };
        let Some(at) = begin(&brokers, field, &request.broker, offset)? else {
            return Ok(wire::SettleDeadLettersResponse::default());
        };
        let is_range = request.offsets.is_empty();
        let ask = wire::SettleDeadLettersRequest { broker: String::new(), ..request };
        let answer = self.peers.ask_one(&brokers[at], WRITE_LIMIT, async |mut broker| match remedy {
            Remedy::Redrive => broker.redrive_dead_letters(ask).await,
            Remedy::Purge => broker.purge_dead_letters(ask).await,
        });
        step(&brokers, at, is_range, answer.await)
    }
}

/// Which broker is meant; none when there are none. An offset without a broker names something only where there is one broker.
fn begin(brokers: &[Arc<Shard>], field: &str, broker: &str, offset: Option<i64>) -> Result<Option<usize>, Status> {
    if broker.is_empty() {
        return match (offset, brokers) {
            (Some(offset), [_, another, ..]) => {
                let example = format!("{}:{offset}", another.name);
                Err(invalid(field, &format!("says nothing without its broker, as in {example}: there are several")))
            }
            (_, []) => Ok(None),
            _ => Ok(Some(0)),
        };
    }
    match brokers.iter().position(|shard| *shard.name == *broker) {
        Some(at) => Ok(Some(at)),
        None => Err(Status::not_found(format!("broker {broker} does not exist"))),
    }
}

fn of_broker(broker: &str, status: &Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            Status::unavailable(format!("{broker} {}", why(status)))
        }
        code => Status::new(code, format!("{} ({broker})", status.message())),
    }
}

/// What the broker `at` gave of its own, and how many all have.
fn page(
    brokers: &[Arc<Shard>],
    at: usize,
    replies: Vec<Reply<wire::ListDeadLettersResponse>>,
) -> Result<wire::ListDeadLettersResponse, Status> {
    let current = &brokers[at].name;
    let replies = sorted(replies)?.somewhere()?;
    let mut merged = wire::ListDeadLettersResponse { missing: replies.missing, ..Default::default() };
    for (broker, answer) in replies.answers {
        merged.total += answer.total;
        if broker == *current {
            let named =
                answer.letters.into_iter().map(|letter| wire::DeadLetter { broker: broker.to_string(), ..letter });
            merged.letters = named.collect();
            merged.next_offset = answer.next_offset;
            merged.next_broker = answer.next_offset.map(|_| broker.to_string()).unwrap_or_default();
        }
    }
    if let (None, Some(following)) = (merged.next_offset, brokers.get(at + 1)) {
        merged.next_offset = Some(0);
        merged.next_broker = following.name.to_string();
    }
    Ok(merged)
}

/// One step of settling, on the broker `at`. A range passes over a broker that is away and says so; letters that were named do not.
fn step(
    brokers: &[Arc<Shard>],
    at: usize,
    is_range: bool,
    answer: Result<wire::SettleDeadLettersResponse, Status>,
) -> Result<wire::SettleDeadLettersResponse, Status> {
    let current = &brokers[at].name;
    let mut step = match answer {
        Ok(answer) => answer,
        Err(status) => match status.code() {
            // Dead letters came into being elsewhere only.
            Code::NotFound if is_range && brokers.len() > 1 => wire::SettleDeadLettersResponse::default(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown if is_range => {
                wire::SettleDeadLettersResponse { missing: vec![missing(current, &status)], ..Default::default() }
            }
            _ => return Err(of_broker(current, &status)),
        },
    };
    for outcome in &mut step.outcomes {
        outcome.broker = current.to_string();
    }
    if step.next_offset.is_some() {
        step.next_broker = current.to_string();
    } else if let (true, Some(following)) = (is_range, brokers.get(at + 1)) {
        step.next_offset = Some(0);
        step.next_broker = following.name.to_string();
    }
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::ShardId;

    fn brokers(count: u32) -> Vec<Arc<Shard>> {
        let shard = |id| Shard {
            id: ShardId(id),
            name: format!("broker-{id}").into(),
            address: "".into(),
            version: "".into(),
            alive: true,
            draining: false,
            holder: None,
        };
        (0..count).map(|id| Arc::new(shard(id))).collect()
    }

    fn letters(offsets: &[i64], next: Option<i64>, total: u64) -> wire::ListDeadLettersResponse {
        wire::ListDeadLettersResponse {
            letters: offsets.iter().map(|&offset| wire::DeadLetter { offset, ..Default::default() }).collect(),
            next_offset: next,
            total,
            ..Default::default()
        }
    }

    #[test]
    fn an_offset_alone_names_a_letter_only_where_there_is_one_broker() {
        assert_eq!(begin(&brokers(1), "offset", "", Some(17)).unwrap(), Some(0));
        let refused = begin(&brokers(2), "offset", "", Some(17)).unwrap_err();
        assert!(refused.message().contains("broker-1:17"), "{}", refused.message());
        assert_eq!(begin(&brokers(2), "offset", "broker-1", Some(17)).unwrap(), Some(1));
        assert_eq!(begin(&brokers(2), "offset", "", None).unwrap(), Some(0));
        assert_eq!(begin(&brokers(2), "offset", "broker-9", None).unwrap_err().code(), Code::NotFound);
        assert_eq!(begin(&[], "offset", "", None).unwrap(), None);
    }

    #[test]
    fn pages_go_from_broker_to_broker_and_a_silent_one_is_named_and_passed_over() {
        let reply = |name: &str, answer| Reply { broker: name.into(), answer };
        let both = brokers(2);
        let first = page(
            &both,
            0,
            vec![reply("broker-0", Ok(letters(&[3, 4], None, 2))), reply("broker-1", Ok(letters(&[9], Some(10), 7)))],
        )
        .unwrap();
        assert_eq!((first.total, first.letters.len(), first.letters[1].broker.as_str()), (9, 2, "broker-0"));
        assert_eq!((first.next_broker.as_str(), first.next_offset), ("broker-1", Some(0)));
        let away = || Err(Status::unavailable("refused"));
        let silent =
            page(&both, 0, vec![reply("broker-0", away()), reply("broker-1", Ok(letters(&[9], Some(10), 7)))]).unwrap();
        assert_eq!((silent.total, silent.letters.len(), silent.missing.len()), (7, 0, 1));
        assert_eq!(silent.next_broker, "broker-1");
        let last = page(&both, 1, vec![reply("broker-0", away()), reply("broker-1", Ok(letters(&[9], None, 7)))]);
        assert_eq!(last.unwrap().next_offset, None);
        let nobody = || Err(Status::not_found("no such group"));
        let refused = page(&both, 0, vec![reply("broker-0", nobody()), reply("broker-1", nobody())]).unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }

    #[test]
    fn a_range_is_settled_on_every_broker_and_named_letters_on_theirs_only() {
        let both = brokers(2);
        let done = |next_offset| {
            let outcomes = vec![wire::DeadLetterOutcome { done: true, ..Default::default() }];
            Ok(wire::SettleDeadLettersResponse { outcomes, next_offset, until_offset: 8, ..Default::default() })
        };
        let middle = step(&both, 0, true, done(Some(5))).unwrap();
        assert_eq!((middle.next_broker.as_str(), middle.next_offset), ("broker-0", Some(5)));
        assert_eq!(middle.outcomes[0].broker, "broker-0");
        let end = step(&both, 0, true, done(None)).unwrap();
        assert_eq!((end.next_broker.as_str(), end.next_offset), ("broker-1", Some(0)));
        assert_eq!(step(&both, 1, true, done(None)).unwrap().next_offset, None);
        assert_eq!(step(&both, 0, false, done(None)).unwrap().next_offset, None);
        let passed = step(&both, 0, true, Err(Status::unavailable("gone"))).unwrap();
        assert_eq!((passed.missing.len(), passed.next_broker.as_str()), (1, "broker-1"));
        let named = step(&both, 0, false, Err(Status::unavailable("gone"))).unwrap_err();
        assert_eq!(named.code(), Code::Unavailable);
    }
}
