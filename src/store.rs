//! Bytes that survive: the log, and the state folded from it.

pub mod catalog_codec;
pub mod checkpoint;
mod codec;
pub mod data_dir;
pub mod dispatch;
pub mod files;
pub mod fold;
pub mod inspect;
pub mod kv;
pub mod log;
pub mod message_store;
pub mod mmap;
pub mod options;
pub mod record;
pub mod retention;

pub use kv::delay::Held;
pub use kv::queue_entry::QueueEntry;
pub use kv::queue_tail::QueueBounds;
pub use kv::{FoldEnv, FoldError};
pub use log::{AppendError, Frame, FrameListener, LogHealth, ReadError};
pub use message_store::{LeaseRow, OpenStoreError, Store, StoredProperties};
pub use options::StoreOptions;
