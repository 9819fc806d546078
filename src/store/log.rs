//! One shard's commit log: segments of checksummed frames, one frame per group commit.
//!
//! - **L-1** A unit is durable, and is said to be, only after the sync that covers its frame returned without an error.
//! - **L-2** One frame is in flight at a time, so only the last frame of a log can be torn.
//! - **L-3** A failed write or sync ends the log for this process. Nothing is repeated, nothing is said to be durable after it.
//! - **L-4** What was said to be durable is there after every crash, or the log is not opened.
//! - **L-5** Bytes below the written end never change while their segment is in use.
//!
//! What records mean is not known here. Threads: one appender per log; reads and prepares run in the blocking pool.

mod appender;
mod cache;
mod chain;
pub mod error;
pub mod frame;
mod handle;
mod listener;
pub mod options;
mod prepare;
mod queue;
mod reader;
mod recovery;
mod scan;
mod segment;
mod shared;
mod space;
mod status;

pub use error::{AppendError, OpenLogError, ReadError};
pub use handle::Log;
pub use listener::{Frame, FrameListener, Room};
pub use options::LogOptions;
pub use reader::Replay;
pub use segment::SegmentInfo;
pub use status::{LogHealth, LogStats};
