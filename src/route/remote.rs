//! The route service in another process: one stream that is kept up, and changes beside it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::model::cluster::{ClusterId, Lineage, Revision, View};
use crate::model::settings::CatalogError;
use crate::route::change::{Change, apply};
use crate::route::client::{Me, RemoteOptions, RouteError};
use crate::route::convert::{changes, cluster_bytes, cluster_id, hello_of, life_out, members_in, read, request};
use crate::route::members::Members;
use crate::route::state::{Command, Outcome};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::tasks::Tasks;
use crate::trust::Trust;
use crate::wire::route as wire;
use crate::wire::route::route_client::RouteClient as Client;

/// How a connection comes about.
pub type Connect = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Channel, String>> + Send>> + Send + Sync>;

/// How many connections of clients there are.
pub type Connections = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How often a lease is renewed; it lasts five times as long.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Shortest and longest pause before the next attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Longest time for a connection, and for the first answer on it.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Longest time of a change, repetitions included.
const CHANGE_LIMIT: Duration = Duration::from_secs(12);
/// Longest wait for an answer that changes nothing.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// Pause before a change is sent once more.
const CHANGE_PAUSE: Duration = Duration::from_millis(50);

/// Cheap handle; the stream ends with the last one.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
    /// Tells the task when nobody is left.
    _alive: Arc<watch::Sender<()>>,
}

struct Shared {
    me: Arc<Me>,
    known: Option<(ClusterId, Lineage)>,
    addresses: Vec<String>,
    connect: Connect,
    trust: Trust,
    clock: Clock,
    entropy: Entropy,
    view: ArcSwap<View>,
    changed: watch::Sender<Revision>,
    channel: Mutex<Option<Channel>>,
    connected: AtomicBool,
    /// Why there is no stream, as last seen.
    why: Mutex<String>,
    /// Why this broker's name is somebody else's, as last heard.
    held: watch::Sender<Option<String>>,
    leaving: Notify,
    left: watch::Sender<bool>,
    connections: Mutex<Option<Connections>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("me", &self.shared.me.name).finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn start(
        options: RemoteOptions,
        connect: Connect,
        trust: Trust,
        clock: Clock,
        tasks: Tasks,
        entropy: Entropy,
    ) -> Self {
        let shared = Arc::new(Shared {
            me: Arc::new(options.me),
            known: options.known,
            addresses: options.addresses,
            connect,
            trust,
            clock,
            entropy,
            view: ArcSwap::default(),
            changed: watch::Sender::new(Revision(0)),
            channel: Mutex::new(None),
            connected: AtomicBool::new(false),
            why: Mutex::new("no connection was tried yet".to_owned()),
            held: watch::Sender::new(None),
            leaving: Notify::new(),
            left: watch::Sender::new(false),
            connections: Mutex::new(None),
        });
        let (alive, mut last) = watch::channel(());
        let keeper = shared.clone();
        drop(tasks.spawn_background(async move {
            tokio::select! {
                biased;
                // Only ever an error: the last handle is gone.
                _ = last.changed() => {}
                () = keeper.keep() => {}
            }
            keeper.left.send_replace(true);
        }));
        Self { shared, _alive: Arc::new(alive) }
    }

    pub(super) fn me(&self) -> Arc<Me> {
        self.shared.me.clone()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    pub(super) fn changed(&self) -> watch::Receiver<Revision> {
        self.shared.changed.subscribe()
    }

    pub(super) fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Acquire)
    }

    pub(super) async fn held(&self) -> String {
        let mut held = self.shared.held.subscribe();
        let words = held.wait_for(Option::is_some).await.ok().and_then(|words| words.clone());
        match words {
            Some(words) => words,
            // Nobody will hear anything any more.
            None => std::future::pending().await,
        }
    }

    pub(super) async fn goodbye(&self) {
        let mut left = self.shared.left.subscribe();
        self.shared.leaving.notify_one();
        tokio::select! {
            biased;
            _ = left.wait_for(|left| *left) => {}
            () = self.shared.clock.sleep(RENEW_EVERY) => {}
        }
    }

    pub(super) fn tell_connections(&self, connections: Connections) {
        *self.shared.connections.lock() = Some(connections);
    }

    pub(super) async fn members(&self) -> Result<Members, RouteError> {
        let shared = &self.shared;
        let channel = shared.channel.lock().clone();
        let channel = channel.ok_or_else(|| RouteError::Away("no connection".to_owned()))?;
        let mut asked = Request::new(wire::MembersRequest {});
        shared.trust.stamp(&mut asked);
        let mut client = Client::new(channel);
        let answer = tokio::select! {
            biased;
            answer = client.members(asked) => answer.map_err(|status| RouteError::Away(status.message().to_owned()))?,
            () = shared.clock.sleep(READ_LIMIT) => return Err(RouteError::Away(format!("no answer within {READ_LIMIT:?}"))),
        };
        Ok(members_in(answer.into_inner()))
    }

    pub(super) async fn change(&self, command: Command) -> Result<(Outcome, Revision), RouteError> {
        let shared = &self.shared;
        let repeatable = is_repeatable(&command);
        let request = request(command);
        let trying = async {
            loop {
                if let Some(words) = shared.held.borrow().clone() {
                    return Err(RouteError::Refused(CatalogError::Held(words)));
                }
                let channel = shared.channel.lock().clone();
                if let Some(channel) = channel {
                    let mut asked = Request::new(request.clone());
                    shared.trust.stamp(&mut asked);
                    match Client::new(channel).change(asked).await {
                        Ok(answer) => return read(answer.into_inner()),
                        // The connection broke, or will be seen to be broken: asked again on the next one.
                        Err(status) if repeatable && is_of_connection(&status) => {}
                        Err(status) => return Err(RouteError::Away(words(&status))),
                    }
                }
                shared.clock.sleep(CHANGE_PAUSE).await;
            }
        };
        let done = tokio::select! {
            biased;
            done = trying => Some(done),
            () = shared.clock.sleep(CHANGE_LIMIT) => None,
        };
        done.unwrap_or_else(|| Err(RouteError::Away(shared.why.lock().clone())))
    }
}

impl Shared {
    /// Keeps a stream up until good-bye is said.
    async fn keep(&self) {
        let mut pause = PAUSE.0;
        let mut told = String::new();
        loop {
            for address in &self.addresses {
                let was_at = *self.changed.borrow();
                let ended = self.session(address).await;
                self.connected.store(false, Ordering::Release);
                *self.channel.lock() = None;
                let Err(why) = ended else { return };
                if *self.changed.borrow() != was_at {
                    pause = PAUSE.0;
                }
                self.why.lock().clone_from(&why);
                // Once for each reason: an attempt is made every second.
                if why != told {
                    tracing::warn!(address, why, "the route service is away; what is known goes on");
                    told = why;
                }
            }
            // Not all members at once after a restart of the service.
            let jitter = Duration::from_micros(self.entropy.below(u64::try_from(pause.as_micros()).unwrap_or(0) / 2));
            tokio::select! {
                biased;
                () = self.leaving.notified() => return,
                () = self.clock.sleep(pause / 2 + jitter) => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One stream; `Ok` when good-bye was said on it.
    async fn session(&self, address: &str) -> Result<(), String> {
        let (say, said) = mpsc::channel(8);
        let opening = async {
            let channel = (self.connect)(address.to_owned()).await?;
            let mut hello = Request::new(ReceiverStream::new(said));
            self.trust.stamp(&mut hello);
            // A new queue takes it.
            let _ = say.try_send(self.hello());
            let events = Client::new(channel.clone()).watch(hello).await.map_err(|status| self.not_let_in(&status))?;
            Ok::<_, String>((channel, events.into_inner()))
        };
        let (channel, mut events) = tokio::select! {
            biased;
            opened = opening => opened?,
            () = self.clock.sleep(OPEN_LIMIT) => return Err(format!("no answer within {OPEN_LIMIT:?}")),
        };
        self.held.send_replace(None);
        *self.channel.lock() = Some(channel);
        self.connected.store(true, Ordering::Release);
        let mut story = Story::new(View::clone(&self.view.load()));
        loop {
            tokio::select! {
                biased;
                () = self.leaving.notified() => {
                    let _ = say.send(saying(wire::watch_request::Request::Goodbye(wire::Goodbye {}))).await;
                    drop(say);
                    // Until the service has heard it, or is gone, too.
                    self.drain_events(events).await;
                    return Ok(());
                }
                event = events.message() => {
                    self.follow(&mut story, event, &mut events)?;
                }
                () = self.clock.sleep(RENEW_EVERY), if !say.is_closed() => {}
            }
            // Also when events come all the time; a full queue holds a renewal already.
            let _ = say.try_send(saying(wire::watch_request::Request::Renew(self.renewal())));
        }
    }

    fn not_let_in(&self, status: &Status) -> String {
        if status.code() == Code::AlreadyExists {
            self.held.send_replace(Some(status.message().to_owned()));
        }
        words(status)
    }

    async fn drain_events(&self, mut events: Streaming<wire::WatchEvent>) {
        let rest = async { while let Ok(Some(_)) = events.message().await {} };
        tokio::select! {
            biased;
            () = rest => {}
            () = self.clock.sleep(RENEW_EVERY / 10) => {}
        }
    }

    /// Takes up an event and all that have arrived behind it, so that a view is made once for many changes.
    fn follow(
        &self,
        story: &mut Story,
        first: Result<Option<wire::WatchEvent>, Status>,
        events: &mut Streaming<wire::WatchEvent>,
    ) -> Result<(), String> {
        let before = story.view.revision;
        let mut next = Some(first);
        let mut ended = Ok(());
        while let Some(event) = next {
            ended = match event {
                Ok(Some(event)) => story.take(event),
                Ok(None) => Err("the service ended the stream".to_owned()),
                Err(status) => Err(words(&status)),
            };
            if ended.is_err() {
                break;
            }
            next = events.message().now_or_never();
        }
        // What came whole before the end counts.
        if story.view.revision != before {
            self.view.store(Arc::new(story.view.clone()));
            self.changed.send_replace(story.view.revision);
        }
        ended
    }

    fn renewal(&self) -> wire::Renew {
        let connections = self.connections.lock().clone();
        wire::Renew {
            revision: Some(self.changed.borrow().0),
            connections: connections.map(|connections| connections()),
        }
    }

    fn hello(&self) -> wire::WatchRequest {
        let view = self.view.load();
        let known = view.lineage.map(|lineage| (view.cluster, lineage)).or(self.known);
        saying(wire::watch_request::Request::Hello(wire::Hello {
            revision: view.revision.0,
            cluster: if view.revision == Revision(0) { Vec::new() } else { cluster_bytes(view.cluster) },
            known: known.map(|(_, lineage)| life_out(lineage)),
            known_cluster: known.map(|(cluster, _)| cluster_bytes(cluster)).unwrap_or_default(),
            ..hello_of(&self.me)
        }))
    }
}

fn saying(request: wire::watch_request::Request) -> wire::WatchRequest {
    wire::WatchRequest { request: Some(request) }
}

fn words(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) => format!("{}: {}", status.message(), crate::route::client::words(cause)),
        None => status.message().to_owned(),
    }
}

/// A view on its way to the next, part by part.
struct Story {
    view: View,
    waiting: Vec<Change>,
}

impl Story {
    fn new(view: View) -> Self {
        Self { view, waiting: Vec::new() }
    }

    fn take(&mut self, event: wire::WatchEvent) -> Result<(), String> {
        let (from, to) = (Revision(event.from), Revision(event.revision));
        if from != Revision(0) && from != self.view.revision {
            return Err(format!("a step from revision {from} came, and {} is known", self.view.revision));
        }
        self.waiting.extend(changes(&event.changes).map_err(|error| error.to_string())?);
        if !event.last {
            return Ok(());
        }
        let cluster: ClusterId = cluster_id(&event.cluster).map_err(|error| error.to_string())?;
        if from == Revision(0) {
            self.view = View::default();
        }
        apply(&mut self.view, &std::mem::take(&mut self.waiting));
        (self.view.cluster, self.view.revision) = (cluster, to);
        Ok(())
    }
}

/// Whether the words may be about the connection and not about what was asked.
fn is_of_connection(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Whether doing it twice does what doing it once does, and answers the same.
fn is_repeatable(command: &Command) -> bool {
    !matches!(
        command,
        Command::DeleteTopic(_)
            | Command::DeleteGroup(_)
            | Command::Rebalance(_)
            | Command::RotateKey(_)
            | Command::Forget(_)
    )
}
