//! A server of its own for each test, and a client that speaks the wire without a library in between.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bolide::wire::rocketmq as v2;
use bolide::wire_receive::Content;
use serde_json::Value;
use tonic::transport::Endpoint;

use crate::common::{Server, ServerOptions};
use crate::history::client::{Stub, duration, stub};

pub const OK: i32 = 20_000;
pub const NOTHING: i32 = 40_401;
/// Deadline of a receive that expects nothing: it is answered well before.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(20);

/// A server and a connection to it.
pub struct Wire {
    // Ends the process when dropped.
    pub server: Server,
    pub stub: Stub,
    pub client_id: String,
    /// The header `x-mq-namespace`; none when empty.
    pub header: String,
    /// What resources name as their namespace.
    pub field: String,
}

/// How to receive.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub batch: i32,
    /// `None`: renewed by the server.
    pub invisible: Option<Duration>,
    pub deadline: Duration,
}

impl Default for Wish {
    fn default() -> Self {
        Self { batch: 32, invisible: Some(Duration::from_secs(60)), deadline: RECEIVE_DEADLINE }
    }
}

pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

pub fn message(topic: &str, id: &str) -> v2::Message {
    v2::Message {
        topic: Some(v2::Resource { name: topic.to_owned(), ..Default::default() }),
        system_properties: Some(v2::SystemProperties { message_id: id.to_owned(), ..Default::default() }),
        body: format!("body of {id}").into_bytes().into(),
        ..Default::default()
    }
}

pub fn system(message: &mut v2::Message) -> &mut v2::SystemProperties {
    message.system_properties.get_or_insert_default()
}

pub fn id(message: &v2::Message) -> &str {
    message.system_properties.as_ref().map_or("", |system| &system.message_id)
}

pub fn ids(messages: &[v2::Message]) -> Vec<&str> {
    messages.iter().map(id).collect()
}

pub fn handle(message: &v2::Message) -> String {
    message.system_properties.as_ref().and_then(|system| system.receipt_handle.clone()).unwrap_or_default()
}

pub fn attempt(message: &v2::Message) -> i32 {
    message.system_properties.as_ref().and_then(|system| system.delivery_attempt).unwrap_or_default()
}

pub fn code(status: Option<&v2::Status>) -> i32 {
    status.map_or(0, |status| status.code)
}

impl Wire {
    pub async fn start(options: ServerOptions) -> Result<Self> {
        let server = options.start()?;
        let stub = Self::connect(&server).await?;
        Ok(Self { server, stub, client_id: "kinds@1".to_owned(), header: String::new(), field: String::new() })
    }

    pub async fn connect(server: &Server) -> Result<Stub> {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.addresses().grpc))?;
        Ok(stub(endpoint.connect_timeout(Duration::from_secs(5)).connect().await?))
    }

    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        self.server.admin(arguments)
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        Ok(serde_json::from_str(&self.admin(&all)?)?)
    }

    /// Exit code and everything that was printed.
    pub fn admin_code(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = self.server.admin_output(arguments)?;
        Ok((output.status.code().context("ended by a signal")?, output.stdout + &output.stderr))
    }

    /// Messages that all queues of a topic hold.
    pub fn stored(&self, topic: &str) -> Result<u64> {
        let shown = self.json(&["topic", "show", topic, "--namespace", &self.field])?;
        let ranges = shown["ranges"].as_array().context("ranges")?;
        Ok(ranges.iter().filter_map(|range| range["messages"].as_u64()).sum())
    }

    pub fn resource(&self, name: &str) -> v2::Resource {
        v2::Resource { resource_namespace: self.field.clone(), name: name.to_owned() }
    }

    pub fn request<T>(&self, body: T) -> tonic::Request<T> {
        let mut request = crate::history::client::with_headers(&self.client_id, body);
        if let Ok(header) = self.header.parse()
            && !self.header.is_empty()
        {
            request.metadata_mut().insert("x-mq-namespace", header);
        }
        request.set_timeout(DEADLINE);
        request
    }

    pub async fn send(&self, mut messages: Vec<v2::Message>) -> Result<v2::SendMessageResponse> {
        for topic in messages.iter_mut().filter_map(|message| message.topic.as_mut()) {
            topic.resource_namespace.clone_from(&self.field);
        }
        let request = self.request(v2::SendMessageRequest { messages });
        Ok(self.stub.clone().send_message(request).await?.into_inner())
    }

    /// Sends and expects OK for all.
    pub async fn sent(&self, messages: Vec<v2::Message>) -> Result<Vec<v2::SendResultEntry>> {
        let count = messages.len();
        let response = self.send(messages).await?;
        ensure!(code(response.status.as_ref()) == OK, "not sent: {:?}", response.status);
        ensure!(response.entries.len() == count, "{} entries for {count} messages", response.entries.len());
        Ok(response.entries)
    }

    pub async fn receive_as(&self, topic: &str, group: &str, wish: Wish) -> Result<(i32, Vec<v2::Message>)> {
        let body = v2::ReceiveMessageRequest {
            group: Some(self.resource(group)),
            message_queue: Some(v2::MessageQueue { topic: Some(self.resource(topic)), ..Default::default() }),
            batch_size: wish.batch,
            invisible_duration: wish.invisible.map(duration),
            auto_renew: wish.invisible.is_none(),
            filter_expression: Some(v2::FilterExpression {
                r#type: v2::FilterType::Tag as i32,
                expression: "*".to_owned(),
            }),
            ..Default::default()
        };
        let mut request = self.request(body);
        request.set_timeout(wish.deadline);
        let mut stream = self.stub.clone().receive_message(request).await?.into_inner();
        let mut found = None;
        let mut messages = Vec::new();
        while let Some(item) = stream.message().await? {
            match item.content {
                Some(Content::Status(status)) => found = Some(status.code),
                Some(Content::Message(message)) => messages.push(message),
                Some(Content::DeliveryTimestamp(_)) => {}
                other => bail!("unexpected on the stream: {other:?}"),
            }
        }
        Ok((found.context("the stream had no status")?, messages))
    }

    pub async fn receive(&self, topic: &str, group: &str) -> Result<Vec<v2::Message>> {
        Ok(self.receive_as(topic, group, Wish::default()).await?.1)
    }

    pub async fn ack(&self, topic: &str, group: &str, messages: &[v2::Message]) -> Result<i32> {
        let entry = |message: &v2::Message| v2::AckMessageEntry {
            message_id: id(message).to_owned(),
            receipt_handle: handle(message),
            ..Default::default()
        };
        let body = v2::AckMessageRequest {
            group: Some(self.resource(group)),
            topic: Some(self.resource(topic)),
            entries: messages.iter().map(entry).collect(),
        };
        let answer = self.stub.clone().ack_message(self.request(body)).await?.into_inner();
        Ok(code(answer.status.as_ref()))
    }

    pub async fn change(&self, topic: &str, group: &str, message: &v2::Message, invisible: Duration) -> Result<i32> {
        let body = v2::ChangeInvisibleDurationRequest {
            group: Some(self.resource(group)),
            topic: Some(self.resource(topic)),
            receipt_handle: handle(message),
            invisible_duration: Some(duration(invisible)),
            message_id: id(message).to_owned(),
            ..Default::default()
        };
        let answer = self.stub.clone().change_invisible_duration(self.request(body)).await?.into_inner();
        Ok(code(answer.status.as_ref()))
    }

    /// Hands one delivery to the dead-letter topic.
    pub async fn forward(&self, topic: &str, group: &str, message: &v2::Message) -> Result<i32> {
        let body = v2::ForwardMessageToDeadLetterQueueRequest {
            group: Some(self.resource(group)),
            topic: Some(self.resource(topic)),
            receipt_handle: handle(message),
            message_id: id(message).to_owned(),
            delivery_attempt: attempt(message),
            max_delivery_attempts: 16,
            ..Default::default()
        };
        let answer = self.stub.clone().forward_message_to_dead_letter_queue(self.request(body)).await?.into_inner();
        Ok(code(answer.status.as_ref()))
    }
}
