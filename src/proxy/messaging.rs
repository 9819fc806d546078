//! The RPCs of `MessagingService`, one file per family. Each handler gives an answer whatever happens: refusals travel inside it.

pub mod lifecycle;
pub mod lite;
pub mod offset;
pub mod recall;
pub mod receive;
pub mod route;
pub mod send;
pub mod settle;
pub mod transaction;
