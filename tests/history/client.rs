//! A client of the public protocol that writes down what it asked and what came back.

use std::time::Duration;

use bolide::broker::Handles;
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use bolide::wire_receive::Content;
use tonic::transport::Channel;

use super::{
    Answer, Ask, Begun, Call, DEAD_LETTER_PREFIX, Delivery, Lease, OK, Receipt, ReceiveRequest, Recorder, Request,
    Sent, hash_bytes,
};

/// Largest message a client accepts: bodies of 4 MiB with their properties.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub type Stub = MessagingServiceClient<Channel>;

pub fn stub(channel: Channel) -> Stub {
    MessagingServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

pub fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// A request with the headers every official client sends.
pub fn with_headers<T>(client_id: &str, body: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(body);
    let headers = request.metadata_mut();
    if let Ok(id) = client_id.parse() {
        headers.insert("x-mq-client-id", id);
    }
    headers.insert("x-mq-language", tonic::metadata::MetadataValue::from_static("JAVA"));
    headers.insert("x-mq-client-version", tonic::metadata::MetadataValue::from_static("5.1.0"));
    request
}

/// A message as a producer makes it.
#[derive(Default)]
pub struct Draft {
    pub id: String,
    pub tag: String,
    pub body: Vec<u8>,
    pub ask: Ask,
}

/// The type that a client declares, found as official clients find it.
fn message_type(ask: &Ask) -> v2::MessageType {
    match ask {
        Ask { half: true, .. } => v2::MessageType::Transaction,
        Ask { due_ms: Some(_), .. } => v2::MessageType::Delay,
        Ask { message_group: Some(_), .. } => v2::MessageType::Fifo,
        Ask { priority: Some(_), .. } => v2::MessageType::Priority,
        Ask { lite_topic: Some(_), .. } => v2::MessageType::Lite,
        _ => v2::MessageType::Normal,
    }
}

impl Draft {
    fn sent(&self) -> Sent {
        Sent { id: self.id.clone(), tag: self.tag.clone(), body_hash: hash_bytes(&self.body), ask: self.ask.clone() }
    }

    fn message(&self, topic: &str) -> v2::Message {
        let system_properties = v2::SystemProperties {
            tag: (!self.tag.is_empty()).then(|| self.tag.clone()),
            keys: vec![format!("key-{}", self.id)],
            message_id: self.id.clone(),
            body_encoding: v2::Encoding::Identity as i32,
            message_type: message_type(&self.ask) as i32,
            born_timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            born_host: "test".to_owned(),
            delivery_timestamp: self.ask.due_ms.map(timestamp),
            message_group: self.ask.message_group.clone(),
            orphaned_transaction_recovery_duration: self
                .ask
                .orphan_us
                .map(|orphan_us| duration(Duration::from_micros(orphan_us))),
            lite_topic: self.ask.lite_topic.clone(),
            priority: self.ask.priority,
            ..Default::default()
        };
        v2::Message {
            topic: Some(resource(topic)),
            user_properties: [("n".to_owned(), self.id.clone())].into(),
            system_properties: Some(system_properties),
            body: self.body.clone().into(),
        }
    }
}

/// Begins a filter that is an expression, and not one of tags.
pub const SQL: &str = "sql:";

fn filter(text: &str) -> v2::FilterExpression {
    let (kind, expression) = match text.strip_prefix(SQL) {
        Some(expression) => (v2::FilterType::Sql, expression),
        None => (v2::FilterType::Tag, text),
    };
    v2::FilterExpression { r#type: kind as i32, expression: expression.to_owned() }
}

/// What a consumer wishes.
#[derive(Clone)]
pub struct Wish {
    pub group: String,
    pub topic: String,
    /// Filter: tags, or an expression behind [`SQL`].
    pub expression: String,
    pub batch: i32,
    pub lease: Lease,
    pub attempt_id: Option<String>,
    /// How long the client waits for the end of the stream; also sent as deadline.
    pub deadline: Duration,
}

/// How a receive ended for the client.
pub enum Received {
    Messages(Vec<Delivery>),
    Nothing,
    Refused(i32),
    /// The stream broke or ran out of time; some messages may have arrived before.
    Lost(Vec<Delivery>),
}

pub struct Client {
    pub name: String,
    pub(super) stub: Stub,
    pub recorder: Recorder,
    /// Longest wait for a unary answer.
    limit: Duration,
}

impl Client {
    pub fn new(name: &str, channel: Channel, recorder: &Recorder, limit: Duration) -> Self {
        Self { name: name.to_owned(), stub: stub(channel), recorder: recorder.clone(), limit }
    }

    /// The answer of a unary call; `None` is unknown.
    pub(super) async fn answered<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Option<T> {
        match tokio::time::timeout(self.limit, call).await {
            Ok(Ok(response)) => Some(response.into_inner()),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    pub async fn send(&self, topic: &str, drafts: &[Draft]) -> Answer {
        let messages = drafts.iter().map(Draft::sent).collect();
        let begun = self.recorder.begin(&self.name, Request::Send { topic: topic.to_owned(), messages });
        let body = v2::SendMessageRequest { messages: drafts.iter().map(|draft| draft.message(topic)).collect() };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.send_message(with_headers(&self.name, body))).await {
            Some(response) => send_answer(&response, drafts),
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    pub async fn receive(&self, wish: &Wish) -> Received {
        let request = ReceiveRequest {
            group: wish.group.clone(),
            topic: wish.topic.clone(),
            lease: wish.lease,
            attempt_id: wish.attempt_id.clone(),
        };
        let begun = self.recorder.begin(&self.name, Request::Receive(request));
        match tokio::time::timeout(wish.deadline + Duration::from_millis(500), self.receive_stream(begun, wish)).await {
            Ok(received) => received,
            Err(_) => {
                self.recorder.end_receive(begun, false);
                Received::Lost(self.so_far(begun))
            }
        }
    }

    async fn receive_stream(&self, begun: Begun, wish: &Wish) -> Received {
        let mut request = with_headers(&self.name, receive_body(wish));
        request.set_timeout(wish.deadline);
        let mut stub = self.stub.clone();
        let Ok(response) = stub.receive_message(request).await else {
            self.recorder.end_receive(begun, false);
            return Received::Lost(Vec::new());
        };
        let mut stream = response.into_inner();
        let mut status = None;
        loop {
            match stream.message().await {
                Ok(Some(item)) => match item.content {
                    Some(Content::Status(found)) => status = Some(found.code),
                    Some(Content::Message(message)) => {
                        let delivery = self.delivery(&message);
                        self.recorder.delivered(begun, delivery);
                    }
                    _ => {}
                },
                Ok(None) => break,
                Err(_) => {
                    self.recorder.end_receive(begun, false);
                    return Received::Lost(self.so_far(begun));
                }
            }
        }
        match status {
            Some(OK) => {
                self.recorder.end_receive(begun, true);
                Received::Messages(self.so_far(begun))
            }
            Some(code) if code == v2::Code::MessageNotFound as i32 => {
                self.recorder.end_receive(begun, true);
                Received::Nothing
            }
            Some(code) if Call::is_definite_refusal(code) => {
                self.recorder.end(begun, Answer::Refused(code));
                Received::Refused(code)
            }
            _ => {
                self.recorder.end_receive(begun, false);
                Received::Lost(self.so_far(begun))
            }
        }
    }

    fn so_far(&self, begun: Begun) -> Vec<Delivery> {
        self.recorder.deliveries_of(begun)
    }

    fn delivery(&self, message: &v2::Message) -> Delivery {
        let system = message.system_properties.clone().unwrap_or_default();
        let is_dead = message.topic.as_ref().is_some_and(|topic| topic.name.starts_with(DEAD_LETTER_PREFIX));
        // Offsets of a lite topic are its own; clients are not told of its queue.
        let lite_queue = system.lite_topic.as_ref().filter(|_| !is_dead).map(|lite_topic| {
            i32::try_from(hash_bytes(lite_topic.as_bytes()) >> 34).unwrap_or(0).saturating_add(1 << 30)
        });
        let handle = system.receipt_handle.unwrap_or_default();
        Delivery {
            at_us: self.recorder.now_us(),
            id: system.message_id,
            attempt: u32::try_from(system.delivery_attempt.unwrap_or(0)).unwrap_or(0),
            queue: lite_queue.unwrap_or_else(|| place(system.queue_id, &handle)),
            offset: system.queue_offset.unwrap_or(-1),
            tag: system.tag.unwrap_or_default(),
            body_hash: hash_bytes(&message.body),
            message_group: system.message_group,
            lite_topic: system.lite_topic,
            due_ms: system.delivery_timestamp.map(millis),
            handle,
        }
    }

    pub async fn ack(&self, group: &str, topic: &str, handles: &[String]) -> Answer {
        let texts: Vec<(String, Option<String>)> = handles.iter().map(|handle| (handle.clone(), None)).collect();
        self.ack_lite(group, topic, &texts).await
    }

    /// Acks handles, each with the lite topic it belongs to, if any.
    pub async fn ack_lite(&self, group: &str, topic: &str, texts: &[(String, Option<String>)]) -> Answer {
        let handles: Vec<String> = texts.iter().map(|(handle, _)| handle.clone()).collect();
        let request = Request::Ack { group: group.to_owned(), topic: topic.to_owned(), handles: handles.clone() };
        let begun = self.recorder.begin(&self.name, request);
        let entry = |(handle, lite_topic): &(String, Option<String>)| v2::AckMessageEntry {
            receipt_handle: handle.clone(),
            lite_topic: lite_topic.clone(),
            ..Default::default()
        };
        let body = v2::AckMessageRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            entries: texts.iter().map(entry).collect(),
        };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.ack_message(with_headers(&self.name, body))).await {
            Some(response) if response.entries.len() == handles.len() => {
                let code = |entry: &v2::AckMessageResultEntry| entry.status.as_ref().map_or(0, |status| status.code);
                Answer::Acked(response.entries.iter().map(code).collect())
            }
            Some(response) => refused(response.status.as_ref()),
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    pub async fn change(&self, group: &str, topic: &str, delivery: &Delivery, invisible: Duration) -> Answer {
        let handle = delivery.handle.as_str();
        let invisible_us = u64::try_from(invisible.as_micros()).unwrap_or(u64::MAX);
        let request = Request::Change {
            group: group.to_owned(),
            topic: topic.to_owned(),
            handle: handle.to_owned(),
            invisible_us,
        };
        let begun = self.recorder.begin(&self.name, request);
        let body = v2::ChangeInvisibleDurationRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            receipt_handle: handle.to_owned(),
            invisible_duration: Some(duration(invisible)),
            lite_topic: delivery.lite_topic.clone(),
            ..Default::default()
        };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.change_invisible_duration(with_headers(&self.name, body))).await {
            Some(response) => Answer::Changed {
                code: response.status.map_or(0, |status| status.code),
                handle: response.receipt_handle,
            },
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    pub async fn forward(&self, group: &str, topic: &str, delivery: &Delivery) -> Answer {
        let request =
            Request::Forward { group: group.to_owned(), topic: topic.to_owned(), handle: delivery.handle.clone() };
        let begun = self.recorder.begin(&self.name, request);
        let body = v2::ForwardMessageToDeadLetterQueueRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            receipt_handle: delivery.handle.clone(),
            message_id: delivery.id.clone(),
            lite_topic: delivery.lite_topic.clone(),
            ..Default::default()
        };
        let mut stub = self.stub.clone();
        let call = stub.forward_message_to_dead_letter_queue(with_headers(&self.name, body));
        let answer = match self.answered(call).await {
            Some(response) => Answer::Forwarded(response.status.map_or(0, |status| status.code)),
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    pub async fn terminate(&self, group: &str) -> Answer {
        let begun = self.recorder.begin(&self.name, Request::Terminate { group: group.to_owned() });
        let body = v2::NotifyClientTerminationRequest { group: Some(resource(group)) };
        let mut stub = self.stub.clone();
        let answer = match self.answered(stub.notify_client_termination(with_headers(&self.name, body))).await {
            Some(_) => Answer::Terminated,
            None => Answer::Unknown,
        };
        self.finish(begun, answer)
    }

    /// Tells the server that this client lives. Not part of the history.
    pub async fn heartbeat(&self, group: &str) {
        let body =
            v2::HeartbeatRequest { group: Some(resource(group)), client_type: v2::ClientType::PushConsumer as i32 };
        let mut stub = self.stub.clone();
        let _ = self.answered(stub.heartbeat(with_headers(&self.name, body))).await;
    }

    pub(super) fn finish(&self, begun: Begun, answer: Answer) -> Answer {
        self.recorder.end(begun, answer.clone());
        answer
    }
}

fn send_answer(response: &v2::SendMessageResponse, drafts: &[Draft]) -> Answer {
    if response.entries.len() != drafts.len() {
        return refused(response.status.as_ref());
    }
    let result = |entry: &v2::SendResultEntry| match entry.status.as_ref().map_or(0, |status| status.code) {
        OK => Ok(Receipt { offset: entry.offset, recall_handle: entry.recall_handle.clone() }),
        code => Err(code),
    };
    Answer::Sent(response.entries.iter().map(result).collect())
}

pub(super) fn refused(status: Option<&v2::Status>) -> Answer {
    match status.map(|status| status.code) {
        Some(code) if Call::is_definite_refusal(code) => Answer::Refused(code),
        _ => Answer::Unknown,
    }
}

pub fn receive_body(wish: &Wish) -> v2::ReceiveMessageRequest {
    let (invisible_duration, auto_renew) = match wish.lease {
        Lease::Fixed { invisible_us } => (Some(duration(Duration::from_micros(invisible_us))), false),
        Lease::AutoRenew => (None, true),
    };
    v2::ReceiveMessageRequest {
        group: Some(resource(&wish.group)),
        message_queue: Some(v2::MessageQueue { topic: Some(resource(&wish.topic)), ..Default::default() }),
        filter_expression: Some(filter(&wish.expression)),
        batch_size: wish.batch,
        invisible_duration,
        auto_renew,
        long_polling_timeout: None,
        attempt_id: wish.attempt_id.clone(),
    }
}

/// Queues per shard that [`place`] keeps apart.
const QUEUES_PER_SHARD: i32 = 1 << 14;

/// One number for a queue of a shard. Each shard counts its queues, and the places in them, from 0; which one a message came
/// from, its handle tells.
pub fn place(queue: i32, handle: &str) -> i32 {
    let shard = Handles::shard_of(handle).map_or(0, |shard| i32::try_from(shard.get()).unwrap_or(0));
    shard.saturating_mul(QUEUES_PER_SHARD).saturating_add(queue)
}

pub fn duration(from: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(from.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(from.subsec_nanos()).unwrap_or(0),
    }
}

pub fn timestamp(millis: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000 * 1_000_000).unwrap_or(0),
    }
}

fn millis(from: prost_types::Timestamp) -> u64 {
    let seconds = u64::try_from(from.seconds).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(u64::try_from(from.nanos).unwrap_or(0) / 1_000_000)
}
