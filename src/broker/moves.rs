//! Message groups that move between brokers: asking the others whether a group is done with what they hold, answering them, and
//! saying what the route service waits for.

use std::time::Duration;

use futures::StreamExt;

use crate::broker::delivery::far::Question;
use crate::broker::verbs::Broker;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{TopicId, UnitSeq};
use crate::model::topic::{Topic, TopicType};
use crate::store::FoldError;
use crate::store::record::HoldKey;

/// Pause before other brokers are asked again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Questions under way at a time.
const QUESTIONS_MAX: usize = 8;
/// Held-back messages looked at in one visit to the disk.
const HELD_READ: usize = 4_096;

impl Broker {
    /// Whether a group is done with what message groups left here under the order of shards that ended as `generation`, one
    /// answer for each; 0 stands for everything. A yes is on stable storage, and final unless someone moves the group back.
    pub async fn lanes_done(&self, topic: &TopicName, group: &GroupName, generation: u32, keys: &[u64]) -> Vec<bool> {
        let no = || vec![false; keys.len()];
        let (Some(topic), Some(group)) = (self.topic(topic), self.group(group)) else { return no() };
        // Who asks reads this topic elsewhere, and will read here from its first position on: that is not done yet.
        if self.subscribe(&topic, &group).await.is_err() {
            return no();
        }
        let (done, accepted) = {
            let Ok(core) = self.inner.deciding() else { return no() };
            (core.lanes_done(topic.id, group.id, generation, keys), self.inner.store.accepted())
        };
        // A crash must not bring back what the other broker takes for done.
        if done.contains(&true) && !self.is_durable(accepted).await {
            return no();
        }
        done
    }

    /// Topics whose move this shard has sealed, with the generation, until the route service has all it waits for: to be
    /// reported to it, again and again.
    pub async fn sealed(&self) -> Vec<(TopicId, u32)> {
        let (sealed, accepted): (Vec<_>, _) = {
            let Ok(core) = self.inner.deciding() else { return Vec::new() };
            let sealed = core.topics().filter_map(|state| {
                let placement = state.shards.placement()?;
                let is_sealing = placement.moving.is_some() && placement.shards.contains(&self.inner.shard);
                is_sealing.then_some((state.topic.id, placement.generation))
            });
            (sealed.collect(), self.inner.store.accepted())
        };
        // What is sealed in memory alone is not sealed: a crash would take messages that belong elsewhere.
        if sealed.is_empty() || !self.is_durable(accepted).await { Vec::new() } else { sealed }
    }

    /// Topics and generations of past orders of shards in which this shard was and whose share here nobody needs any more: to
    /// be reported to the route service until it forgets them.
    pub async fn drained(&self) -> Vec<(TopicId, u32)> {
        let (mut found, accepted) = {
            let Ok(core) = self.inner.deciding() else { return Vec::new() };
            let with_past = core.topics().filter(|state| state.shards.has_past());
            let drained =
                with_past.map(|state| (state.topic.clone(), state.shards.is_here(), core.drained(state.topic.id)));
            let found: Vec<_> = drained.filter(|(.., generations)| !generations.is_empty()).collect();
            (found, self.inner.store.accepted())
        };
        if found.is_empty() || !self.is_durable(accepted).await {
            return Vec::new();
        }
        let mut reported = Vec::new();
        for (topic, is_here, generations) in found.drain(..) {
            // Nobody will look here for what fires later.
            if is_here || !self.holds_back(&topic).await {
                reported.extend(generations.into_iter().map(|generation| (topic.id, generation)));
            }
        }
        reported
    }

    /// Waits until a view was taken over that is newer than those so far; what there is to report may have changed. For ever
    /// outside of a cluster.
    pub async fn view_taken(&self) {
        match &self.inner.cluster {
            Some(cluster) => cluster.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    async fn is_durable(&self, seq: UnitSeq) -> bool {
        self.inner.durable(seq).await.is_ok()
    }

    /// Whether messages of a topic wait here for their time. True when that cannot be said.
    async fn holds_back(&self, topic: &Topic) -> bool {
        if !matches!(topic.topic_type, TopicType::Delay | TopicType::Mixed) {
            return false;
        }
        if !self.inner.store.wait_folded(self.inner.store.log_end()).await {
            return true;
        }
        let (store, id) = (self.inner.store.clone(), topic.id);
        let held = self.inner.tasks.blocking(move || {
            let mut from = HoldKey::default();
            loop {
                let rows = store.delays_from(from, HELD_READ)?;
                if rows.iter().any(|(_, held)| held.topic == id) {
                    return Ok::<_, FoldError>(true);
                }
                match rows.last().filter(|_| rows.len() == HELD_READ) {
                    Some((last, _)) => from = HoldKey { hold: last.hold.next(), ..*last },
                    None => return Ok(false),
                }
            }
        });
        held.await.unwrap_or(true)
    }
}

/// Asks the brokers whose message groups came here, as long as lanes wait for the answer.
pub(super) async fn ask_peers(broker: Broker) {
    let inner = &broker.inner;
    let Some(cluster) = &inner.cluster else { return };
    let wanted = inner.core.lock().far_wanted.clone();
    let mut pause = PAUSES.0;
    loop {
        let news = wanted.notified();
        let questions = inner.core.lock().questions();
        if questions.is_empty() {
            pause = PAUSES.0;
            news.await;
            continue;
        }
        let asked = questions.into_iter().filter_map(|question| {
            let (topic, group) = names(&broker, &question)?;
            let Question { shard, generation, .. } = question;
            let answer = cluster.setup.peers.lanes_done(shard, topic, group, generation, question.keys.clone());
            Some(async move { (question, answer.await) })
        });
        let asked: Vec<_> = asked.collect();
        let mut answers = futures::stream::iter(asked).buffer_unordered(QUESTIONS_MAX);
        let mut goes_on = false;
        while let Some((question, answer)) = answers.next().await {
            if let Some(done) = answer {
                goes_on |= inner.core.lock().answered(&question, &done);
            }
        }
        pause = if goes_on { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        inner.clock.sleep(PAUSES.0).await;
        tokio::select! {
            biased;
            () = news => {}
            () = inner.clock.sleep(pause) => {}
        }
    }
}

fn names(broker: &Broker, question: &Question) -> Option<(TopicName, GroupName)> {
    let core = broker.inner.core.lock();
    let state = core.topic(question.topic)?;
    let group = &state.subscriptions.get(&question.group)?.group;
    Some((state.topic.name.clone(), group.name.clone()))
}
