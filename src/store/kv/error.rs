//! What can go wrong with the fold's database, in words for the operator.

use std::path::PathBuf;

use thiserror::Error;

use crate::store::codec::RecordError;

/// The fold could not be read or written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FoldError {
    /// A row is not what this program writes.
    #[error("fold family {family}: {cause}")]
    Row {
        /// Name of the family.
        family: &'static str,
        /// What is wrong with it.
        cause: RecordError,
    },
    /// There was no room on the disk. Worth trying again when there is.
    #[error("fold: {action} failed: there is no space left on the disk")]
    NoSpace {
        /// What was tried.
        action: &'static str,
    },
    /// The database refused.
    #[error("fold: {action} failed: {cause}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// In the database's words.
        cause: String,
    },
}

/// The fold could not be opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenFoldError {
    /// Written by a newer program.
    #[error(
        "the fold in {path} has format {found}, this program knows {known}: it was written by a newer program; start that \
         one, or delete the directory to have it rebuilt from the log"
    )]
    UnknownFormat {
        /// Where.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program writes.
        known: u32,
    },
    /// Its files are damaged or incomplete. It can be rebuilt.
    #[error("the fold in {path} is damaged: {cause}")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// In the database's words.
        cause: String,
    },
    /// It may be in order, but cannot be reached (permission, lock, disk).
    #[error("the fold in {path} cannot be opened: {cause}")]
    Unreachable {
        /// Where.
        path: PathBuf,
        /// In the database's words.
        cause: String,
    },
}
