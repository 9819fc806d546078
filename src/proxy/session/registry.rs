//! What is remembered of clients between their calls: the request timeout they work with, and the one command that a Node client
//! must be sent again at its first heartbeat.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::Status;

use crate::broker::api::ClientId;
use crate::model::time::Timestamp;
use crate::wire::rocketmq as v2;

/// What clients use unless they say otherwise.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
/// How long a client without a stream is remembered once the bound is reached.
const KEPT_WITHOUT_STREAM: Duration = Duration::from_secs(300);

/// The sending half of a telemetry stream. Commands that do not fit are dropped: a client may never read.
pub type CommandSender = mpsc::Sender<Result<v2::TelemetryCommand, Status>>;

#[derive(Debug)]
struct Session {
    request_timeout: Duration,
    /// Whether its settings said that it consumes lite topics; another would not survive a command about them.
    lite: bool,
    seen: Timestamp,
    /// Number and sender of the newest stream; a client may have several.
    stream: Option<(u64, CommandSender)>,
    at_next_heartbeat: Option<v2::TelemetryCommand>,
}

/// The remembered clients, bounded.
#[derive(Debug)]
pub struct Sessions {
    sessions: Mutex<BTreeMap<ClientId, Session>>,
    most: usize,
}

/// What the settings of a client leave behind.
#[derive(Debug)]
pub struct Seen {
    /// As the client says.
    pub request_timeout: Option<Duration>,
    /// Whether it consumes lite topics.
    pub lite: bool,
    /// Number and sender of the stream that they came over.
    pub stream: (u64, CommandSender),
    /// To be sent again with the next heartbeat.
    pub at_next_heartbeat: Option<v2::TelemetryCommand>,
    /// Now, by the clock's steady time.
    pub now: Timestamp,
}

impl Sessions {
    /// Nobody yet; at most `most`.
    pub fn new(most: usize) -> Self {
        Self { sessions: Mutex::default(), most }
    }

    /// A client sent settings.
    pub fn settings_came(&self, client: &ClientId, seen: Seen) {
        let mut sessions = self.sessions.lock();
        if !sessions.contains_key(client) && sessions.len() >= self.most {
            sessions.retain(|_, session| session.stream.is_some() || session.seen.plus(KEPT_WITHOUT_STREAM) > seen.now);
            if sessions.len() >= self.most {
                // It works without being remembered.
                return;
            }
        }
        // Settings that come again before the first heartbeat must not take away what it would have brought.
        let pending = sessions.get_mut(client).and_then(|session| {
            let same = session.stream.as_ref().is_some_and(|(number, _)| *number == seen.stream.0);
            session.at_next_heartbeat.take().filter(|_| same)
        });
        let session = Session {
            request_timeout: seen.request_timeout.unwrap_or(REQUEST_TIMEOUT_DEFAULT),
            lite: seen.lite,
            seen: seen.now,
            stream: Some(seen.stream),
            at_next_heartbeat: seen.at_next_heartbeat.or(pending),
        };
        sessions.insert(client.clone(), session);
    }

    /// A stream ended. Settings outlive it.
    pub fn stream_closed(&self, client: &ClientId, stream: u64) {
        if let Some(session) = self.sessions.lock().get_mut(client)
            && session.stream.as_ref().is_some_and(|(number, _)| *number == stream)
        {
            session.stream = None;
            session.at_next_heartbeat = None;
        }
    }

    /// A heartbeat came: whoever waits for settings at that moment gets them.
    pub fn heartbeat(&self, client: &ClientId, now: Timestamp) {
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(client) else { return };
        session.seen = now;
        if let (Some(command), Some((_, sender))) = (session.at_next_heartbeat.take(), &session.stream) {
            let _ = sender.try_send(Ok(command));
        }
    }

    /// Sends a command about a lite topic to a client that consumes such and has a stream. False when it cannot be told now.
    pub fn tell_lite(&self, client: &ClientId, command: v2::TelemetryCommand) -> bool {
        let sessions = self.sessions.lock();
        let stream = sessions.get(client).filter(|session| session.lite).and_then(|session| session.stream.as_ref());
        stream.is_some_and(|(_, sender)| sender.try_send(Ok(command)).is_ok())
    }

    /// The timeout of ordinary calls that a client works with.
    pub fn request_timeout(&self, client: &ClientId) -> Duration {
        self.sessions.lock().get(client).map_or(REQUEST_TIMEOUT_DEFAULT, |session| session.request_timeout)
    }

    /// A client said goodbye.
    pub fn forget(&self, client: &ClientId) {
        self.sessions.lock().remove(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str) -> ClientId {
        ClientId(id.into())
    }

    fn seen(number: u64, now: u64) -> (Seen, mpsc::Receiver<Result<v2::TelemetryCommand, Status>>) {
        let (sender, receiver) = mpsc::channel(4);
        let seen = Seen {
            request_timeout: Some(Duration::from_secs(7)),
            lite: number.is_multiple_of(2),
            stream: (number, sender),
            at_next_heartbeat: Some(v2::TelemetryCommand::default()),
            now: Timestamp(now),
        };
        (seen, receiver)
    }

    #[test]
    fn the_first_heartbeat_brings_the_settings_again_and_the_second_does_not() {
        let sessions = Sessions::new(10);
        let (came, mut commands) = seen(1, 0);
        sessions.settings_came(&client("a"), came);
        sessions.heartbeat(&client("a"), Timestamp(1));
        assert!(commands.try_recv().is_ok());
        sessions.heartbeat(&client("a"), Timestamp(2));
        assert!(commands.try_recv().is_err());
        sessions.heartbeat(&client("unknown"), Timestamp(3));
    }

    #[test]
    fn settings_repeated_before_the_first_heartbeat_do_not_spoil_it() {
        let sessions = Sessions::new(10);
        let (came, mut commands) = seen(1, 0);
        let (sender, number) = (came.stream.1.clone(), came.stream.0);
        sessions.settings_came(&client("a"), came);
        let again = Seen { at_next_heartbeat: None, stream: (number, sender), ..seen(1, 5).0 };
        sessions.settings_came(&client("a"), again);
        sessions.heartbeat(&client("a"), Timestamp(6));
        assert!(commands.try_recv().is_ok());
    }

    #[test]
    fn only_a_client_of_lite_topics_with_a_stream_hears_of_them_and_a_full_stream_blocks_nobody() {
        let sessions = Sessions::new(10);
        let tell = |id: &str| sessions.tell_lite(&client(id), v2::TelemetryCommand::default());
        let (plain, mut plain_commands) = seen(1, 0);
        let (lite, mut lite_commands) = seen(2, 0);
        sessions.settings_came(&client("plain"), plain);
        sessions.settings_came(&client("lite"), lite);
        assert!(!tell("plain") && plain_commands.try_recv().is_err());
        assert!(!tell("unknown"));
        assert!(tell("lite") && lite_commands.try_recv().is_ok());
        for _ in 0..4 {
            assert!(tell("lite"));
        }
        assert!(!tell("lite"), "its stream is full");
        sessions.stream_closed(&client("lite"), 2);
        assert!(!tell("lite"));
    }

    #[test]
    fn settings_outlive_their_stream_and_an_old_stream_does_not_take_a_new_one_along() {
        let sessions = Sessions::new(10);
        sessions.settings_came(&client("a"), seen(1, 0).0);
        let (came, mut commands) = seen(2, 0);
        sessions.settings_came(&client("a"), came);
        sessions.stream_closed(&client("a"), 1);
        sessions.heartbeat(&client("a"), Timestamp(1));
        assert!(commands.try_recv().is_ok());
        sessions.stream_closed(&client("a"), 2);
        assert_eq!(sessions.request_timeout(&client("a")), Duration::from_secs(7));
        sessions.forget(&client("a"));
        assert_eq!(sessions.request_timeout(&client("a")), REQUEST_TIMEOUT_DEFAULT);
    }

    #[test]
    fn the_bound_holds_and_makes_room_by_forgetting_the_silent() {
        let sessions = Sessions::new(2);
        sessions.settings_came(&client("live"), seen(1, 0).0);
        sessions.settings_came(&client("silent"), seen(2, 0).0);
        sessions.stream_closed(&client("silent"), 2);
        sessions.settings_came(&client("early"), seen(3, 299_999).0);
        assert_eq!(sessions.request_timeout(&client("early")), REQUEST_TIMEOUT_DEFAULT, "no room yet");
        sessions.settings_came(&client("late"), seen(4, 300_000).0);
        assert_eq!(sessions.request_timeout(&client("late")), Duration::from_secs(7));
        assert_eq!(sessions.request_timeout(&client("silent")), REQUEST_TIMEOUT_DEFAULT);
        assert_eq!(sessions.request_timeout(&client("live")), Duration::from_secs(7));
    }
}
