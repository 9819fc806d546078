//! How a call can end without its answer.

use std::fmt::{Debug, Display};

use thiserror::Error;

/// Why a call brought nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure<E: Debug + Display> {
    /// The broker refused, in the words of the verb; or it could not even be asked, as too much is in flight.
    #[error("{0}")]
    Refused(E),
    /// The broker cannot be reached, and surely did nothing.
    #[error("the broker of this shard cannot be reached")]
    Away,
    /// The call was sent, and its answer never came: it may have been done.
    #[error("the broker of this shard did not answer; the outcome is unknown")]
    Unknown,
}

impl<E: Debug + Display> Failure<E> {
    /// The broker's own words, if it had some.
    pub fn refused(self) -> Option<E> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Away | Self::Unknown => None,
        }
    }
}
