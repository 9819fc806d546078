//! How a command ends when it does not succeed, and the exit code that says so to a script.

use thiserror::Error;
use tonic::Code;

/// Exit codes, as the help of `bolide admin` lists them.
#[derive(Debug, Error)]
pub enum Failure {
    /// Anything else; exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command line or a value on it is not valid; exit code 2, as for what clap refuses.
    #[error("{0}")]
    Usage(String),
    /// No such topic, group or broker; exit code 3.
    #[error("{0}")]
    NotFound(String),
    /// It exists with other settings, or the present state forbids it; exit code 4.
    #[error("{0}")]
    Conflict(String),
    /// No server answered; exit code 5.
    #[error("no answer from {address}: {reason}. Is the broker running? {hint}")]
    Unreachable {
        /// Where.
        address: String,
        /// In words.
        reason: String,
        /// Which option names the address.
        hint: &'static str,
    },
    /// A server answered that does not know the operators' service; exit code 5 too.
    #[error(
        "{address} answers, but as no internal address of a bolide server of this version does (its default is 127.0.0.1:8082): {reason}. {INTERNAL_HINT}"
    )]
    NotInternal {
        /// Where.
        address: String,
        /// In words.
        reason: String,
    },
}

/// How the address of the operators' service is given.
pub const INTERNAL_HINT: &str = "Its internal address goes into --address or BOLIDE_ADDRESS";

/// Stands for the address until [`Failure::at`] names it.
const SOMEWHERE: &str = "the broker";

impl Failure {
    /// For the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Conflict(_) => 4,
            Self::Unreachable { .. } | Self::NotInternal { .. } => 5,
        }
    }
}

impl Failure {
    /// Names the address in a failure to reach it.
    #[must_use]
    pub fn at(self, address: &str) -> Self {
        match self {
            Self::Unreachable { reason, hint, .. } => Self::Unreachable { address: address.to_owned(), reason, hint },
            Self::NotInternal { reason, .. } => Self::NotInternal { address: address.to_owned(), reason },
            other => other,
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Self::Usage(text),
            Code::NotFound => Self::NotFound(text),
            Code::AlreadyExists | Code::FailedPrecondition => Self::Conflict(text),
            // Said by a server that answers itself: whom it does not reach is in its words. A lost connection has a cause.
            Code::Unavailable if std::error::Error::source(&status).is_none() => Self::Failed(text),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unreachable { address: SOMEWHERE.to_owned(), reason: text, hint: INTERNAL_HINT }
            }
            // The broker itself answers neither; its public port and foreign servers do.
            Code::Unimplemented | Code::Unknown => {
                let reason = if text.is_empty() { "it has no such service".to_owned() } else { text };
                Self::NotInternal { address: SOMEWHERE.to_owned(), reason }
            }
            Code::Unauthenticated => {
                Self::Failed(format!("{text}; --secret-file or BOLIDE_CLUSTER_SECRET_FILE names the file with it"))
            }
            _ => Self::Failed(text),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_proxy_that_misses_the_route_service_is_not_told_as_a_proxy_that_is_away() {
        let said = tonic::Status::unavailable("the route service does not answer");
        let failure = Failure::from(said.clone());
        assert_eq!((failure.exit_code(), failure.to_string().as_str()), (1, "the route service does not answer"));
        let mut lost = said;
        lost.set_source(Arc::new(std::io::Error::other("connection refused")));
        assert_eq!(Failure::from(lost).at("a:1").exit_code(), 5);
    }
}
