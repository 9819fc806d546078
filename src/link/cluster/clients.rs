//! Live clients of this proxy, and what is to be reported of them: those with something open, and those heard of since the last
//! report. A shard then lets each session run as if it had heard of the client itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::broker::api::ClientId;
use crate::model::time::Timestamp;
use crate::runtime::clock::Clock;

/// Longest session of a silent client at a broker; who was silent for longer is not worth a report.
const REMEMBERED: Duration = Duration::from_secs(65);

#[derive(Debug)]
struct Client {
    seen: Timestamp,
    open: u32,
    slow: bool,
}

/// The clients. Bounded; beyond it a new client is not reported: it works, but its auto-renewed messages are not kept for it.
#[derive(Debug)]
pub struct Clients {
    clients: Mutex<HashMap<ClientId, Client>>,
    most: usize,
    clock: Clock,
}

/// Its client counts as live while this exists.
#[derive(Debug)]
pub struct ClientGuard {
    clients: Arc<Clients>,
    client: ClientId,
}

impl Clients {
    /// Nobody yet.
    #[must_use]
    pub fn new(most: usize, clock: Clock) -> Self {
        Self { clients: Mutex::default(), most, clock }
    }

    /// A client was heard of.
    pub fn seen(&self, client: &ClientId, slow: bool) {
        self.note(client, slow, 0);
    }

    fn note(&self, client: &ClientId, slow: bool, opens: u32) {
        let now = self.clock.steady();
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get_mut(client) {
            known.seen = now;
            known.slow |= slow;
            known.open += opens;
            return;
        }
        if clients.len() >= self.most {
            clients.retain(|_, known| known.open > 0 || now.since(known.seen) < REMEMBERED);
        }
        if clients.len() < self.most {
            clients.insert(client.clone(), Client { seen: now, open: opens, slow });
        }
    }

    /// A client opened something that keeps it alive.
    #[must_use]
    pub fn open(clients: &Arc<Self>, client: &ClientId) -> ClientGuard {
        clients.note(client, false, 1);
        ClientGuard { clients: clients.clone(), client: client.clone() }
    }

    /// A client said good-bye. One with a call under way stays known until that ends.
    pub fn forget(&self, client: &ClientId) {
        let mut clients = self.clients.lock();
        match clients.get_mut(client) {
            Some(known) if known.open > 0 => known.seen = Timestamp(0),
            _ => drop(clients.remove(client)),
        }
    }

    /// Who is open, or was heard of at or after `since`; with whether it heartbeats slowly, and the time of this report.
    #[must_use]
    pub fn heard_since(&self, since: Timestamp) -> (Vec<(ClientId, bool)>, Timestamp) {
        let now = self.clock.steady();
        let mut clients = self.clients.lock();
        clients.retain(|_, known| known.open > 0 || now.since(known.seen) < REMEMBERED);
        let heard = clients.iter().filter(|(_, known)| known.open > 0 || known.seen >= since);
        (heard.map(|(client, known)| (client.clone(), known.slow)).collect(), now)
    }

    /// Clients that are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients.lock().len()
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        let now = self.clients.clock.steady();
        if let Some(known) = self.clients.clients.lock().get_mut(&self.client) {
            known.open = known.open.saturating_sub(1);
            // Its session begins when what it had open ends, unless it said good-bye meanwhile.
            if known.seen != Timestamp(0) {
                known.seen = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn client(id: &str) -> ClientId {
        ClientId(id.into())
    }

    fn names(clients: &Clients, since: Timestamp) -> Vec<String> {
        let mut names: Vec<String> =
            clients.heard_since(since).0.into_iter().map(|(client, _)| client.0.to_string()).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_reported_once_and_one_with_a_stream_for_ever() {
        let clients = Arc::new(Clients::new(10, Clock::anchored(START)));
        clients.seen(&client("silent"), false);
        let stream = Clients::open(&clients, &client("stream"));
        let (_, reported) = clients.heard_since(Timestamp(0));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(names(&clients, Timestamp(reported.millis() + 1)), ["stream"]);
        tokio::time::advance(Duration::from_secs(100)).await;
        drop(stream);
        assert_eq!(names(&clients, Timestamp(0)), ["stream"], "its session begins now");
        tokio::time::advance(REMEMBERED).await;
        assert!(names(&clients, Timestamp(0)).is_empty());
        assert_eq!(clients.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_said_good_bye_is_not_reported_back_to_life() {
        let clients = Arc::new(Clients::new(10, Clock::anchored(START)));
        clients.seen(&client("a"), false);
        clients.forget(&client("a"));
        assert!(names(&clients, Timestamp(0)).is_empty());
        let call = Clients::open(&clients, &client("a"));
        clients.forget(&client("a"));
        drop(call);
        assert!(names(&clients, Timestamp(0)).is_empty(), "the end of its last call is no sign of life");
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_makes_room_by_forgetting_the_silent() {
        let clients = Clients::new(2, Clock::anchored(START));
        ["a", "b", "c"].iter().for_each(|id| clients.seen(&client(id), false));
        assert_eq!(clients.count(), 2);
        tokio::time::advance(REMEMBERED).await;
        clients.seen(&client("d"), true);
        assert_eq!(clients.heard_since(Timestamp(0)).0, [(client("d"), true)]);
    }
}
