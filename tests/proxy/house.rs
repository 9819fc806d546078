//! A whole broker in this process, behind a real port, and plain clients of it.

use std::sync::Arc;
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{GroupSpec, TopicSpec};
use bolide::broker::options::BrokerOptions;
use bolide::model::name::{GroupName, TopicName};
use bolide::observe::meters::Meters;
use bolide::proxy::options::ProxyOptions;
use bolide::proxy::{Listening, Proxy, tls};
use bolide::runtime::clock::Clock;
use bolide::runtime::entropy::Entropy;
use bolide::runtime::tasks::Threads;
use bolide::store::{FoldEnv, Store, StoreOptions, files};
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use bolide::wire_receive::{Content, ReceiveMessageResponse};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

pub type Client = MessagingServiceClient<Channel>;

/// Longest wait for something that must happen.
pub const LIMIT: Duration = Duration::from_secs(10);

pub struct House {
    pub broker: Broker,
    pub listening: Option<Listening>,
    pub address: std::net::SocketAddr,
    /// The port for clients outside, where there is one.
    pub external: Option<std::net::SocketAddr>,
    certificate: String,
    threads: Option<Threads>,
    _data: tempfile::TempDir,
}

/// Short waits, so that tests of them are quick.
pub fn quick() -> ProxyOptions {
    ProxyOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        long_poll_min: Duration::from_millis(300),
        invisible_min: Duration::from_millis(100),
        handshake_timeout: Duration::from_millis(400),
        ..ProxyOptions::default()
    }
}

impl House {
    pub fn start(options: ProxyOptions) -> Self {
        let data = tempfile::tempdir().unwrap();
        let threads = Threads::start(2).unwrap();
        let tasks = threads.tasks();
        let clock = Clock::system();
        let mut store_options = StoreOptions::default();
        store_options.log.dir = data.path().to_owned();
        store_options.log.segment_bytes = 64 * 1024 * 1024;
        let store = Store::open(store_options, files::real(), FoldEnv::Disk, &clock, tasks.clone()).unwrap();
        let meters = Arc::new(Meters::noop());
        let made = tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let config = tls::server_config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
        let (broker, listening) = threads.block_on(async {
            let broker = Broker::open(
                BrokerOptions::default(),
                store,
                clock.clone(),
                tasks.clone(),
                Entropy::system(),
                meters.clone(),
                [7; 32],
            )
            .await
            .unwrap();
            let proxy =
                Proxy::new(options, bolide::link::Brokers::here(broker.clone(), "broker-0"), clock, tasks, meters)
                    .unwrap();
            let listening = proxy.listen(config).unwrap();
            (broker, listening)
        });
        let (address, external) = (listening.local_address(), listening.external_address());
        Self {
            broker,
            listening: Some(listening),
            address,
            external,
            certificate: made.certificate,
            threads: Some(threads),
            _data: data,
        }
    }

    /// Runs a test against it.
    pub fn run<F: Future<Output = ()>>(options: ProxyOptions, test: impl FnOnce(Arc<tokio::sync::Mutex<Self>>) -> F) {
        let house = Arc::new(tokio::sync::Mutex::new(Self::start(options)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), test(house.clone())).await.expect("the test hangs");
        });
        drop(runtime);
        let mut house = house.blocking_lock();
        let threads = house.threads.take().unwrap();
        threads.block_on(house.broker.close());
        threads.stop();
    }

    /// Another proxy before the same broker, and a plain client of it.
    pub async fn beside(&self) -> (Listening, Client) {
        let made = tls::self_signed(&["localhost".to_owned()]).unwrap();
        let config = tls::server_config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
        let brokers = bolide::link::Brokers::here(self.broker.clone(), "broker-0");
        let proxy = Proxy::new(quick(), brokers, Clock::system(), self.tasks(), Arc::new(Meters::noop())).unwrap();
        let listening = proxy.listen(config).unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", listening.local_address())).unwrap();
        (listening, MessagingServiceClient::new(endpoint.connect().await.unwrap()))
    }

    /// Where its work is done.
    pub fn tasks(&self) -> bolide::runtime::tasks::Tasks {
        self.threads.as_ref().unwrap().tasks()
    }

    pub async fn topic(&self, name: &str) {
        self.broker.create_topic(TopicName::trusted("", name), TopicSpec::default()).await.unwrap();
    }

    pub async fn group(&self, name: &str, spec: GroupSpec) {
        self.broker.create_group(GroupName::trusted("", name), spec).await.unwrap();
    }

    pub async fn plain(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        MessagingServiceClient::new(endpoint.connect().await.unwrap()).max_decoding_message_size(64 << 20)
    }

    pub async fn encrypted(&self) -> Client {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.certificate)).domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap().tls_config(tls).unwrap();
        MessagingServiceClient::new(endpoint.connect().await.unwrap())
    }
}

pub fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.into() }
}

/// A request as a client named `client-1` makes it.
pub fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", "client-1".parse().unwrap());
    request
}

pub fn message(topic: &str, id: &str, body: &[u8]) -> v2::Message {
    v2::Message {
        topic: Some(resource(topic)),
        user_properties: [("colour".to_owned(), "blue".to_owned())].into(),
        system_properties: Some(v2::SystemProperties { message_id: id.into(), ..Default::default() }),
        body: body.to_vec().into(),
    }
}

pub fn send_request(messages: Vec<v2::Message>) -> tonic::Request<v2::SendMessageRequest> {
    request(v2::SendMessageRequest { messages })
}

pub fn receive_request(topic: &str, group: &str) -> v2::ReceiveMessageRequest {
    v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(v2::MessageQueue { topic: Some(resource(topic)), ..Default::default() }),
        batch_size: 32,
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        long_polling_timeout: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
        ..Default::default()
    }
}

/// Every element of a receive stream, in order.
pub async fn receive(client: &mut Client, wish: v2::ReceiveMessageRequest) -> Vec<Content> {
    collect(client.receive_message(request(wish)).await.unwrap().into_inner()).await
}

/// The rest of a receive stream.
pub async fn collect(mut stream: tonic::Streaming<ReceiveMessageResponse>) -> Vec<Content> {
    let mut elements = Vec::new();
    while let Some(element) = stream.message().await.unwrap() {
        elements.push(element.content.expect("an element without content kills one client"));
    }
    elements
}

pub fn messages(elements: &[Content]) -> Vec<v2::Message> {
    let message = |content: &Content| match content {
        Content::Message(message) => Some(message.clone()),
        _ => None,
    };
    elements.iter().filter_map(message).collect()
}

pub fn code_of(elements: &[Content]) -> i32 {
    match elements.first() {
        Some(Content::Status(status)) => status.code,
        other => panic!("a status comes first, not {other:?}"),
    }
}

pub fn handle(message: &v2::Message) -> String {
    message.system_properties.as_ref().unwrap().receipt_handle.clone().unwrap()
}

pub fn ack_request(topic: &str, group: &str, handles: &[String]) -> tonic::Request<v2::AckMessageRequest> {
    let entry = |handle: &String| v2::AckMessageEntry {
        message_id: "id".into(),
        receipt_handle: handle.clone(),
        lite_topic: None,
    };
    request(v2::AckMessageRequest {
        group: Some(resource(group)),
        topic: Some(resource(topic)),
        entries: handles.iter().map(entry).collect(),
    })
}

pub fn code(status: Option<&v2::Status>) -> i32 {
    status.expect("every answer has a status").code
}
