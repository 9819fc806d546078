//! Messages as the rooms hand them to each other: already encoded slices plus the few facts that decide something.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::time::Timestamp;

/// Kind of a message, judged by its properties (rule C18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Nothing special.
    #[default]
    Normal,
    /// Has a message group.
    Fifo,
    /// Has a delivery time.
    Delay,
    /// Is a half message.
    Transaction,
    /// Has a priority.
    Priority,
    /// Belongs to a lite topic.
    Lite,
}

/// A message on its way in. `rest` and `system_static` are encoded protobuf fields of `apache.rocketmq.v2.Message`:
/// `rest` holds user properties and body (the topic is added at delivery, since a dead letter is delivered under
/// another one); `system_static` the fields of its system properties that never change after the send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// Kind.
    pub message_type: MessageType,
    /// The client's message id, returned unchanged everywhere.
    pub message_id: String,
    /// Tag, or empty.
    pub tag: String,
    /// Message group, or empty.
    pub message_group: String,
    /// Lite topic, or empty.
    pub lite_topic: String,
    /// When it may be delivered; `None`: at once.
    pub due: Option<Timestamp>,
    /// How long an undecided half message is left alone before its producer is asked; `None`: the server's own time.
    pub orphan_after: Option<Duration>,
    /// Client that sent a half message, to be asked first what became of its transaction. Empty for other kinds.
    pub producer: Arc<str>,
    /// Priority; more is delivered earlier.
    pub priority: Option<u32>,
    /// Encoded user properties and body.
    pub rest: Bytes,
    /// Encoded static system properties.
    pub system_static: Bytes,
    /// Bytes of the body, for metrics.
    pub body_bytes: u32,
}

/// A stored message, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// When the broker took it.
    pub stored_at: Timestamp,
    /// The client's message id.
    pub message_id: String,
    /// Tag, or empty.
    pub tag: String,
    /// Encoded user properties and body.
    pub rest: Bytes,
    /// Encoded static system properties.
    pub system_static: Bytes,
}
