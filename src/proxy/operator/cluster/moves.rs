//! Topics on their way to other brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tonic::Status;

use super::super::topic;
use super::{Cluster, READ_LIMIT};
use crate::model::cluster::{Placement, Shard, View};
use crate::model::position::{ShardId, TopicId};
use crate::model::topic::Topic;
use crate::wire::admin as wire;

/// Topics of an answer whose readers are looked up: each costs a call to every former broker.
const READERS_LOOKED_UP: usize = 64;

/// Shards that have written down where the order changes, by topic; not known when the route service does not answer.
pub(super) type Sealed = BTreeMap<TopicId, Vec<ShardId>>;

impl Cluster {
    pub(in super::super) async fn list_moves(
        &self,
        request: wire::ListMovesRequest,
    ) -> Result<wire::ListMovesResponse, Status> {
        let wanted = request.topic.as_ref().map(|name| topic::named(&request.namespace, name)).transpose()?;
        let view = self.route.view();
        let sealed = self.route.members().await.map(|known| known.sealed).unwrap_or_default();
        let moves = self.moves(&view, &sealed, |topic| wanted.as_ref().is_none_or(|wanted| *wanted == topic.name));
        Ok(wire::ListMovesResponse { moves: moves.await })
    }

    /// Moves of the topics that `wanted` says, by name.
    pub(super) async fn moves(
        &self,
        view: &View,
        sealed: &Sealed,
        wanted: impl Fn(&Topic) -> bool,
    ) -> Vec<wire::TopicMove> {
        let mut found = Vec::new();
        for (topic, placement) in moving(view).into_iter().filter(|(topic, _)| wanted(topic)) {
            let mut one = told(view, topic, placement, sealed.get(&topic.id).map(Vec::as_slice));
            if found.len() < READERS_LOOKED_UP && !one.left_on.is_empty() {
                one.readers = self.readers(view, topic, placement).await;
            }
            found.push(one);
        }
        found
    }

    /// Groups that have something to do on the former brokers of a topic.
    async fn readers(&self, view: &View, topic: &Topic, placement: &Placement) -> Vec<String> {
        let former: Vec<Arc<Shard>> =
            former(placement).iter().filter_map(|shard| view.shards.get(shard).cloned()).collect();
        let request =
            wire::ShowTopicRequest { namespace: topic.name.namespace().to_owned(), name: topic.name.name().to_owned() };
        let replies = self.peers.ask(&former, READ_LIMIT, |mut broker, _| {
            let request = request.clone();
            async move { broker.show_topic(request).await }
        });
        let answers = replies.await.into_iter().filter_map(|reply| reply.answer.ok());
        let readers = answers.flat_map(|answer| answer.readers).map(|reader| match reader.namespace.as_str() {
            "" => reader.group,
            namespace => format!("{namespace}%{}", reader.group),
        });
        readers.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Topics that are on their way or have left something behind, by name.
pub(super) fn moving(view: &View) -> Vec<(&Topic, &Placement)> {
    let placed = view.topics.values().filter_map(|topic| Some((&**topic, &**view.placement(topic.id)?)));
    let mut moving: Vec<_> =
        placed.filter(|(_, placement)| placement.moving.is_some() || !placement.past.is_empty()).collect();
    moving.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    moving
}

/// Shards of earlier orders, ascending.
fn former(placement: &Placement) -> Vec<ShardId> {
    let shards: BTreeSet<ShardId> = placement.past.iter().flat_map(|past| &past.shards).copied().collect();
    shards.into_iter().collect()
}

/// The name of a shard's broker.
pub(super) fn name_of(view: &View, shard: ShardId) -> String {
    view.shards.get(&shard).map_or_else(|| format!("shard {}", shard.get()), |shard| shard.name.to_string())
}

/// A move in names. `sealed`: shards that are known to have written down where the order changes.
pub(super) fn told(view: &View, topic: &Topic, placement: &Placement, sealed: Option<&[ShardId]>) -> wire::TopicMove {
    let names = |shards: &[ShardId]| shards.iter().map(|shard| name_of(view, *shard)).collect::<Vec<_>>();
    let waiting_for: Vec<ShardId> = match (&placement.moving, sealed) {
        (Some(_), Some(sealed)) => placement.shards.iter().filter(|shard| !sealed.contains(shard)).copied().collect(),
        // Not known: any of them may be what is waited for.
        (Some(_), None) => placement.shards.clone(),
        (None, _) => Vec::new(),
    };
    wire::TopicMove {
        namespace: topic.name.namespace().to_owned(),
        topic: topic.name.name().to_owned(),
        generation: placement.generation,
        brokers: names(&placement.shards),
        moving_to: names(placement.moving.as_deref().unwrap_or_default()),
        waiting_for: names(&waiting_for),
        left_on: names(&former(placement)),
        readers: Vec::new(),
    }
}
