//! Producers that can be asked what became of a transaction: those with an open telemetry stream, by the topics that their
//! settings name or that they sent half messages to, through this process or, as brokers say, through another one. Forgotten with
//! the stream, so that nobody is asked who cannot hear.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::broker::api::ClientId;
use crate::model::name::TopicName;
use crate::proxy::session::registry::CommandSender;

/// Topics remembered of one client. One that names more is asked about these.
const TOPICS_MAX: usize = 1_024;

/// A producer of a topic.
#[derive(Clone, Debug)]
pub struct Producer {
    /// Who.
    pub client: ClientId,
    /// Its newest stream.
    pub sender: CommandSender,
    /// Whether it ever sent a half message to the topic.
    pub sent_half: bool,
}

#[derive(Debug)]
struct Live {
    stream: u64,
    sender: CommandSender,
    /// Whether it ever sent a half message there.
    topics: BTreeMap<TopicName, bool>,
}

#[derive(Debug, Default)]
struct Known {
    clients: BTreeMap<ClientId, Live>,
    by_topic: BTreeMap<TopicName, BTreeSet<ClientId>>,
}

/// The producers. Bounded by the number of telemetry streams, and of topics of each.
#[derive(Debug, Default)]
pub struct Producers {
    known: Mutex<Known>,
}

impl Producers {
    /// A producer's settings came over a stream.
    pub fn settings_came(
        &self,
        client: &ClientId,
        stream: u64,
        sender: &CommandSender,
        topics: impl Iterator<Item = TopicName>,
    ) {
        let mut known = self.known.lock();
        let before = known.remove(client).map(|live| live.topics).unwrap_or_default();
        let named = topics.take(TOPICS_MAX).map(|topic| (topic, false));
        // What it sent to is as good as what it names; some name their topics only as they use them.
        let sent = before.into_iter().filter(|(_, sent_half)| *sent_half);
        let topics: BTreeMap<TopicName, bool> = named.chain(sent).take(TOPICS_MAX).collect();
        for topic in topics.keys() {
            known.by_topic.entry(topic.clone()).or_default().insert(client.clone());
        }
        known.clients.insert(client.clone(), Live { stream, sender: sender.clone(), topics });
    }

    /// Clients sent half messages to a topic. Those that have no stream here are passed over.
    pub fn sent_halves(&self, clients: &[ClientId], topic: &TopicName) {
        let mut known = self.known.lock();
        for client in clients {
            known.sent_half(client, topic);
        }
    }

    /// A stream ended.
    pub fn closed(&self, client: &ClientId, stream: u64) {
        let mut known = self.known.lock();
        if known.clients.get(client).is_some_and(|live| live.stream == stream) {
            known.remove(client);
        }
    }

    /// A client said goodbye.
    pub fn forget(&self, client: &ClientId) {
        self.known.lock().remove(client);
    }

    /// Those who can be asked about a topic; who sent half messages to it first.
    pub fn of(&self, topic: &TopicName) -> Vec<Producer> {
        let known = self.known.lock();
        let Some(clients) = known.by_topic.get(topic) else { return Vec::new() };
        let producer = |client: &ClientId| {
            let live = known.clients.get(client)?;
            let sent_half = live.topics.get(topic).copied().unwrap_or(false);
            Some(Producer { client: client.clone(), sender: live.sender.clone(), sent_half })
        };
        let mut producers: Vec<Producer> = clients.iter().filter_map(producer).collect();
        producers.sort_by_key(|producer| !producer.sent_half);
        producers
    }
}

impl Known {
    fn sent_half(&mut self, client: &ClientId, topic: &TopicName) {
        let Some(live) = self.clients.get_mut(client) else { return };
        let is_full = live.topics.len() >= TOPICS_MAX;
        match live.topics.get_mut(topic) {
            Some(sent_half) => *sent_half = true,
            None if is_full => {}
            None => {
                live.topics.insert(topic.clone(), true);
                self.by_topic.entry(topic.clone()).or_default().insert(client.clone());
            }
        }
    }

    fn remove(&mut self, client: &ClientId) -> Option<Live> {
        let live = self.clients.remove(client)?;
        for topic in live.topics.keys() {
            if let Some(clients) = self.by_topic.get_mut(topic) {
                clients.remove(client);
                if clients.is_empty() {
                    self.by_topic.remove(topic);
                }
            }
        }
        Some(live)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn client(id: &str) -> ClientId {
        ClientId(id.into())
    }

    fn topic(name: &str) -> TopicName {
        TopicName::trusted("", name)
    }

    fn of(producers: &Producers, name: &str) -> Vec<String> {
        producers.of(&topic(name)).iter().map(|producer| producer.client.0.to_string()).collect()
    }

    fn came(producers: &Producers, id: &str, stream: u64, topics: &[&str]) {
        let (sender, _) = mpsc::channel(1);
        producers.settings_came(&client(id), stream, &sender, topics.iter().map(|name| topic(name)));
    }

    #[test]
    fn only_those_are_asked_who_named_the_topic_or_sent_half_messages_to_it() {
        let producers = Producers::default();
        came(&producers, "a", 1, &["t"]);
        came(&producers, "b", 2, &["u"]);
        assert_eq!(of(&producers, "t"), ["a"]);
        producers.sent_halves(&[client("c"), client("b")], &topic("t"));
        assert_eq!(of(&producers, "t"), ["b", "a"], "who sent half messages comes first");
        producers.sent_halves(&[client("nobody")], &topic("t"));
        assert_eq!(of(&producers, "t").len(), 2, "without a stream nobody can be asked");
    }

    #[test]
    fn settings_sent_again_replace_the_topics_and_keep_what_was_sent_to() {
        let producers = Producers::default();
        came(&producers, "a", 1, &["t", "u"]);
        producers.sent_halves(&[client("a")], &topic("v"));
        came(&producers, "a", 1, &["t"]);
        assert_eq!((of(&producers, "t"), of(&producers, "v")), (vec!["a".to_owned()], vec!["a".to_owned()]));
        assert!(of(&producers, "u").is_empty());
    }

    #[test]
    fn who_is_gone_is_not_asked_and_an_old_stream_does_not_take_a_new_one_along() {
        let producers = Producers::default();
        came(&producers, "a", 1, &["t"]);
        came(&producers, "a", 2, &["t"]);
        producers.closed(&client("a"), 1);
        assert_eq!(of(&producers, "t"), ["a"]);
        producers.closed(&client("a"), 2);
        assert!(of(&producers, "t").is_empty());
        came(&producers, "a", 3, &["t"]);
        producers.forget(&client("a"));
        assert!(of(&producers, "t").is_empty());
    }
}
