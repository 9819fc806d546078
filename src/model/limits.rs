//! Limits of the protocol and of the house, each with its reason. Those a test server may lower live in the options of the room that obeys them.

/// Longest topic name, in characters.
pub const TOPIC_NAME_CHARS_MAX: usize = 127;
/// Longest consumer group name, in characters.
pub const GROUP_NAME_CHARS_MAX: usize = 120;
/// Longest namespace, in characters. The reference sets none; ours keeps keys short.
pub const NAMESPACE_CHARS_MAX: usize = 127;
/// Largest message body as sent, in bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most user properties of a message.
pub const USER_PROPERTIES_MAX: usize = 128;
/// Most UTF-8 bytes of property keys and values, tag and keys together.
pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// A message group must be shorter than this, in bytes.
pub const MESSAGE_GROUP_BYTES_LIMIT: usize = 64;
/// Longest lite topic name, in characters.
pub const LITE_TOPIC_CHARS_MAX: usize = 64;
/// Largest receive batch; larger wishes are clamped.
pub const RECEIVE_BATCH_MAX: usize = 32;
/// Most messages of one SendMessage request.
pub const SEND_BATCH_MAX: usize = 1024;
/// Most stored bytes of one SendMessage request, so that one unit always fits one frame.
pub const SEND_BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most queues of a topic.
pub const QUEUES_MAX: u32 = 1024;
/// Queues of a topic unless said otherwise.
pub const QUEUES_DEFAULT: u32 = 8;
/// Queues per level of a PRIORITY topic unless said otherwise.
pub const PRIORITY_QUEUES_DEFAULT: u32 = 1;
/// Most receipt handles in one AckMessage request.
pub const ACK_ENTRIES_MAX: usize = 1024;
/// Longest message id that we store, in bytes. The reference checks nothing; this bounds a key.
pub const MESSAGE_ID_BYTES_MAX: usize = 512;
