//! A broker over the real store, in memory and in virtual time, and two ways to call it: directly, and over a link whose wires can
//! be cut or fall silent.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bolide::broker::api::{
    AckOutcome, Ask, BrokerStatus, ChangeOutcome, Check, ClientId, Delivered, LeaseWish, LiteAction, LiteError,
    LiteEviction, LiteSync, OffsetError, Publish, PublishError, Published, Pull, Pulled, QueueBoundary, RecallError,
    Receive, ReceiveError, Resolution, SettleError, TopicSpec, TransactionError,
};
use bolide::broker::options::BrokerOptions;
use bolide::broker::{Broker, Delivery};
use bolide::link::client::{Bounds, Connector, Dial, Failure, FarDelivery, ShardClient, Way};
use bolide::link::hello::{Hello, Role};
use bolide::link::server::{BrokerServer, tuned};
use bolide::model::cluster::Revision;
use bolide::model::filter::Filter;
use bolide::model::message::{MessageType, NewMessage};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::position::{QueueId, QueueOffset};
use bolide::model::time::Timestamp;
use bolide::model::topic::TopicType;
use bolide::observe::meters::Meters;
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Tasks;
use bolide::store::files::memory::MemoryFiles;
use bolide::store::log::LogOptions;
use bolide::store::{FoldEnv, Store, StoreOptions};
use bolide::trust::Trust;
use bytes::Bytes;

use crate::net::Net;

pub const START: Timestamp = Timestamp(1_700_000_000_000);
pub const LEASE: Duration = Duration::from_secs(30);

/// One broker, and the network to it.
pub struct World {
    pub broker: Broker,
    pub net: Net,
    pub clock: Clock,
    pub tasks: Tasks,
    server: Option<tokio::task::JoinHandle<()>>,
    trust: Trust,
    who: Hello,
}

impl World {
    /// The broker's end of the link begins.
    pub fn serve(&mut self) {
        let incoming = self.net.listen();
        let server =
            BrokerServer::new(self.broker.clone(), "b-0", self.trust.clone(), self.clock.clone(), self.tasks.clone())
                .introduced_as(self.who.clone());
        let serving =
            tuned(tonic::transport::Server::builder()).add_service(server.into_service()).serve_with_incoming(incoming);
        self.server = Some(tokio::spawn(async move { serving.await.unwrap() }));
    }

    /// Its process is gone, as the network sees it.
    pub fn gone(&mut self) {
        self.net.server_gone();
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    pub fn dial(&self, name: &str) -> Dial {
        let net = self.net.clone();
        let connector = Connector::new(move || {
            let net = net.clone();
            async move { net.connect().await }
        });
        let who = Hello { instance: 1, ..Hello::of(Role::Proxy, name) };
        Dial { way: Way::Streams(connector), trust: self.trust.clone(), who, bounds: Bounds::default() }
    }

    pub fn client_with(&self, dial: Dial) -> ShardClient {
        ShardClient::connect(dial, Arc::new(Revision::default), self.clock.clone(), &self.tasks)
    }

    pub fn client(&self, name: &str) -> ShardClient {
        self.client_with(self.dial(name))
    }
}

/// Runs in virtual time with a broker that is served.
pub fn in_world(life: impl AsyncFnOnce(&mut World)) {
    in_world_with(Trust::none(), Hello::of(Role::Broker, "b-0"), life);
}

pub fn in_world_with(trust: Trust, who: Hello, life: impl AsyncFnOnce(&mut World)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let entropy = Entropy::seeded(1);
        let tasks = Tasks::simulated(tokio::runtime::Handle::current(), entropy.clone());
        let clock = Clock::anchored(START);
        let log = LogOptions::tiny(&Path::new("/data").to_string_lossy(), 256 * 1024);
        let options = StoreOptions { log, ..StoreOptions::default() };
        let files = MemoryFiles::new(1);
        let store = Store::open(options, files.life(), FoldEnv::memory().unwrap(), &clock, tasks.clone()).unwrap();
        let metrics = Arc::new(Meters::noop());
        let net = Net::new(entropy.clone());
        let options = BrokerOptions::default();
        let broker =
            Broker::open(options, store, clock.clone(), tasks.clone(), entropy, metrics, [7; 32]).await.unwrap();
        let mut world = World { broker, net, clock, tasks, server: None, trust, who };
        world.serve();
        life(&mut world).await;
        world.broker.shutdown().stop();
        world.broker.store().abandon().await;
    });
}

/// The same verbs, called here or from afar.
pub enum Caller {
    Here(Broker),
    Far(ShardClient),
}

pub enum AnyDelivery {
    Here(Delivery),
    Far(FarDelivery),
}

impl AnyDelivery {
    pub fn take(&mut self) -> Option<Delivered> {
        match self {
            Self::Here(delivery) => delivery.next(),
            Self::Far(delivery) => delivery.next(),
        }
    }

    pub fn all(mut self) -> Vec<Delivered> {
        std::iter::from_fn(|| self.take()).collect()
    }
}

fn own<T, E: std::fmt::Debug + std::fmt::Display>(result: Result<T, Failure<E>>) -> Result<T, E> {
    result.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        other => panic!("the link failed: {other:?}"),
    })
}

macro_rules! both {
    ($self:ident, $broker:ident => $here:expr, $client:ident => $far:expr) => {
        match $self {
            Self::Here($broker) => $here,
            Self::Far($client) => own($far),
        }
    };
}

impl Caller {
    pub async fn publish(&self, messages: Vec<NewMessage>) -> Result<Vec<Published>, PublishError> {
        self.publish_to(topic(), messages).await
    }

    pub async fn publish_to(
        &self,
        topic: TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Published>, PublishError> {
        let publish = Publish { topic, messages };
        both!(self, broker => broker.publish(publish).await, client => client.publish(publish).await)
    }

    pub async fn receive(&self, wish: Receive) -> Result<AnyDelivery, ReceiveError> {
        match self {
            Self::Here(broker) => broker.receive(wish).await.map(AnyDelivery::Here),
            Self::Far(client) => own(client.receive(wish).await).map(AnyDelivery::Far),
        }
    }

    pub async fn take(&self, batch: usize, wait: u64) -> Vec<Delivered> {
        self.receive(wish(batch, wait)).await.unwrap().all()
    }

    pub async fn ack(&self, handles: &[String]) -> Result<Vec<AckOutcome>, SettleError> {
        both!(self, broker => broker.ack(&group(), &topic(), handles).await,
              client => client.ack(&group(), &topic(), handles).await)
    }

    pub async fn change(&self, handle: &str, duration: Duration) -> Result<ChangeOutcome, SettleError> {
        both!(self, broker => broker.change_invisible(&group(), &topic(), handle, duration).await,
              client => client.change_invisible(&group(), &topic(), handle, duration).await)
    }

    pub async fn suspend(&self, topic: &TopicName, handle: &str, by: Duration) -> Result<ChangeOutcome, SettleError> {
        both!(self, broker => broker.suspend(&group(), topic, handle, by).await,
              client => client.suspend(&group(), topic, handle, by).await)
    }

    pub async fn to_dead_letter(&self, handle: &str) -> Result<AckOutcome, SettleError> {
        both!(self, broker => broker.to_dead_letter(&group(), &topic(), handle).await,
              client => client.to_dead_letter(&group(), &topic(), handle).await)
    }

    pub async fn recall(&self, topic: &TopicName, handle: &str) -> Result<String, RecallError> {
        both!(self, broker => broker.recall(topic, handle).await, client => client.recall(topic, handle).await)
    }

    pub async fn end(&self, topic: &TopicName, id: &str, resolution: Resolution) -> Result<(), TransactionError> {
        both!(self, broker => broker.end_transaction(topic, id, resolution).await,
              client => client.end_transaction(topic, id, resolution).await)
    }

    pub async fn look(&self, topic: &TopicName, id: &str) -> Result<(), TransactionError> {
        both!(self, broker => broker.look_at_transaction(topic, id).await,
              client => client.look_at_transaction(topic, id).await)
    }

    pub async fn pull(&self, queue: u32, offset: u64, wait: u64) -> Result<Pulled, OffsetError> {
        let pull = Pull {
            group: group(),
            topic: topic(),
            queue: QueueId(queue),
            offset: QueueOffset(offset),
            filter: Filter::ALL,
            batch: 10,
            wait: Duration::from_secs(wait),
            client: ClientId("client".into()),
        };
        both!(self, broker => broker.pull(pull).await, client => client.pull(pull).await)
    }

    pub async fn boundary(&self, queue: u32, which: QueueBoundary) -> Result<QueueOffset, OffsetError> {
        both!(self, broker => broker.queue_boundary(&topic(), QueueId(queue), which).await,
              client => client.queue_boundary(&topic(), QueueId(queue), which).await)
    }

    pub async fn offset(&self, queue: u32) -> Result<QueueOffset, OffsetError> {
        both!(self, broker => broker.offset(&group(), &topic(), QueueId(queue)).await,
              client => client.offset(&group(), &topic(), QueueId(queue)).await)
    }

    pub async fn move_to(&self, queue: u32, offset: u64) -> Result<(), OffsetError> {
        let (queue, offset) = (QueueId(queue), QueueOffset(offset));
        both!(self, broker => broker.update_offset(&group(), &topic(), queue, offset).await,
              client => client.update_offset(&group(), &topic(), queue, offset).await)
    }

    pub async fn sync_lite(&self, sync: LiteSync) -> Result<Vec<LiteEviction>, LiteError> {
        both!(self, broker => broker.sync_lite(sync).await, client => client.sync_lite(sync).await)
    }

    pub async fn topics_to_check(&self) -> Vec<(TopicName, BTreeSet<ClientId>)> {
        let due: Vec<(TopicName, Vec<ClientId>)> = match self {
            Self::Here(broker) => {
                broker.topics_to_check().into_iter().map(|due| (due.topic.name.clone(), due.senders)).collect()
            }
            Self::Far(client) => client.topics_to_check().await.unwrap(),
        };
        due.into_iter().map(|(topic, senders)| (topic, senders.into_iter().collect())).collect()
    }

    pub async fn due_checks(&self, topic: &TopicName, producers: &[&str], max: usize) -> Vec<Check> {
        let producers: Vec<ClientId> = producers.iter().map(|id| ClientId((*id).into())).collect();
        match self {
            Self::Here(broker) => {
                let producers = producers.into_iter().collect();
                broker.due_checks_of(topic, &producers, max, usize::MAX).await
            }
            Self::Far(client) => client.due_checks(topic, &producers, max, usize::MAX).await.unwrap(),
        }
    }

    pub async fn claim(&self, check: &Check) -> bool {
        match self {
            Self::Here(broker) => broker.claim_check(check),
            Self::Far(client) => client.claim_check(check).await,
        }
    }

    pub async fn unclaim(&self, check: &Check) {
        match self {
            Self::Here(broker) => broker.unclaim_check(check),
            Self::Far(client) => client.unclaim_check(check).await,
        }
    }

    pub async fn terminated(&self, client_id: &str) {
        let id = ClientId(client_id.into());
        match self {
            Self::Here(broker) => broker.client_terminated(&id).await,
            Self::Far(client) => client.client_terminated(&id).await.unwrap(),
        }
    }

    pub async fn status(&self) -> BrokerStatus {
        match self {
            Self::Here(broker) => broker.status(),
            Self::Far(client) => client.status().await.unwrap(),
        }
    }
}

/// The one contract, for both ways of calling.
pub fn both_ways(contract: impl AsyncFn(&Caller, &World)) {
    in_world(async |world| contract(&Caller::Here(world.broker.clone()), world).await);
    in_world(async |world| contract(&Caller::Far(world.client("p-0")), world).await);
}

pub fn topic() -> TopicName {
    TopicName::new("", "t").unwrap()
}

pub fn group() -> GroupName {
    GroupName::new("", "g").unwrap()
}

pub fn message(id: &str) -> NewMessage {
    NewMessage {
        message_id: id.to_owned(),
        rest: Bytes::from(format!("body of {id}")),
        system_static: Bytes::from_static(b"static"),
        body_bytes: 9,
        ..NewMessage::default()
    }
}

pub fn half(id: &str, producer: &str) -> NewMessage {
    NewMessage { message_type: MessageType::Transaction, producer: producer.into(), ..message(id) }
}

pub fn wish(batch: usize, wait: u64) -> Receive {
    Receive {
        group: group(),
        topic: topic(),
        filter: Filter::ALL,
        batch,
        lease: LeaseWish::Fixed(LEASE),
        wait: Duration::from_secs(wait),
        client: ClientId("client".into()),
        attempt_id: None,
        ask: Ask::Messages,
    }
}

pub fn subscribe(topic: &TopicName, client: &str, names: &[&str]) -> LiteSync {
    LiteSync {
        client: ClientId(client.into()),
        group: group(),
        topic: topic.clone(),
        action: LiteAction::CompleteAdd,
        names: names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
        version: None,
        start: None,
    }
}

pub async fn create(world: &World, name: TopicName, topic_type: TopicType) {
    let spec = TopicSpec { queues: Some(1), topic_type: Some(topic_type), ..TopicSpec::default() };
    world.broker.create_topic(name, spec).await.unwrap();
}

pub fn ids(delivered: &[Delivered]) -> Vec<&str> {
    let mut ids: Vec<&str> = delivered.iter().map(|one| one.message.message_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

/// Waits, in virtual time, until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
