//! Receiving and acknowledging, for the benchmarks that consume.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cli::bench::client::{Client, Identity, expect_ok, resource};
use crate::wire::rocketmq::{
    AckMessageEntry, AckMessageRequest, Broker, ChangeInvisibleDurationRequest, Code, FilterExpression, FilterType,
    Message, MessageQueue, Permission, ReceiveMessageRequest,
};
use crate::wire_receive::Content;

const INVISIBLE: Duration = Duration::from_secs(60);
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// One group on one topic.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Most messages of one receive.
    pub batch: i32,
    /// How long a receive waits for the first.
    pub wait: Duration,
    /// Who asks.
    pub identity: Identity,
    /// `*` for everything, else an SQL expression.
    pub filter: String,
}

/// A message as it came.
#[derive(Debug)]
pub struct Received {
    /// Names this delivery.
    pub handle: String,
    /// The sender's id.
    pub message_id: String,
    /// Body.
    pub body: bytes::Bytes,
}

fn duration(from: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: from.as_secs() as i64, nanos: from.subsec_nanos() as i32 }
}

impl Consumer {
    /// One receive. Empty: nothing came in time.
    ///
    /// # Errors
    /// The call failed, or its status is neither OK nor "nothing there".
    pub async fn receive(&self, client: &mut Client) -> Result<Vec<Received>> {
        let request = ReceiveMessageRequest {
            group: Some(resource(&self.group)),
            message_queue: Some(MessageQueue {
                topic: Some(resource(&self.topic)),
                id: -1,
                permission: Permission::ReadWrite.into(),
                broker: Some(Broker { name: "broker-0".to_owned(), id: 0, endpoints: None }),
                accept_message_types: Vec::new(),
            }),
            filter_expression: Some(FilterExpression {
                r#type: if self.filter == "*" { FilterType::Tag.into() } else { FilterType::Sql.into() },
                expression: self.filter.clone(),
            }),
            batch_size: self.batch,
            invisible_duration: Some(duration(INVISIBLE)),
            auto_renew: false,
            long_polling_timeout: Some(duration(self.wait)),
            attempt_id: None,
        };
        let request = self.identity.request(request, self.wait + CALL_DEADLINE);
        let mut stream = client.receive_message(request).await?.into_inner();
        let mut received = Vec::new();
        while let Some(element) = stream.message().await? {
            match element.content {
                Some(Content::Status(status)) if status.code == Code::MessageNotFound as i32 => {}
                Some(Content::Status(status)) => expect_ok(Some(&status))?,
                Some(Content::Message(message)) => received.push(take(message)?),
                _ => {}
            }
        }
        Ok(received)
    }

    /// Acknowledges all of them in one call.
    ///
    /// # Errors
    /// The call failed, or one of the entries is not OK.
    pub async fn ack(&self, client: &mut Client, received: &[Received]) -> Result<()> {
        let entries = received.iter().map(|one| AckMessageEntry {
            message_id: one.message_id.clone(),
            receipt_handle: one.handle.clone(),
            lite_topic: None,
        });
        let request = AckMessageRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            entries: entries.collect(),
        };
        let answer = client.ack_message(self.identity.request(request, CALL_DEADLINE)).await?.into_inner();
        expect_ok(answer.status.as_ref())
    }

    /// Gives one back at once.
    ///
    /// # Errors
    /// The call failed, or its status is not OK.
    pub async fn nack(&self, client: &mut Client, received: &Received) -> Result<()> {
        let request = ChangeInvisibleDurationRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            receipt_handle: received.handle.clone(),
            invisible_duration: Some(duration(Duration::ZERO)),
            message_id: received.message_id.clone(),
            ..ChangeInvisibleDurationRequest::default()
        };
        let answer =
            client.change_invisible_duration(self.identity.request(request, CALL_DEADLINE)).await?.into_inner();
        expect_ok(answer.status.as_ref())
    }
}

fn take(message: Message) -> Result<Received> {
    let Some(properties) = message.system_properties else { bail!("a message came without system properties") };
    let Some(handle) = properties.receipt_handle else { bail!("a message came without a receipt handle") };
    Ok(Received { handle, message_id: properties.message_id, body: message.body })
}
