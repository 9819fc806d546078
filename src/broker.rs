//! What messaging means: publish, deliver, settle; topics, groups and members. Speaks in domain words, never in protobuf.

pub mod api;
pub mod options;
