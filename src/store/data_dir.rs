//! The places inside a data directory, its lock, its format version, and the note that a clean end leaves.
//!
//! ```text
//! DIR/LOCK                                      held while a process uses the directory
//! DIR/format                                    text: version of this layout
//! DIR/shard-0/log/                              segments; in a cluster each broker has another number
//! DIR/shard-0/fold/                             RocksDB
//! DIR/shard-0/fold-checkpoints/POSITION/        copies of the fold, see `checkpoint`
//! DIR/shard-0/clean                             text: end of the log at a clean end; absent while the log is in use
//! ```

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::position::{LogPosition, ShardId};
use crate::store::files::{Files, Held, LockError, create_dir_durably, read_small, write_small_durably};

/// Version of the layout above.
pub const DATA_FORMAT: u32 = 1;
const FORMAT_WORDS: &str = "bolide data format";
const CLEAN_WORDS: &str = "clean end at log position";

/// A data directory could not be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Someone else has it, or the lock file is out of reach.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Written by a newer program, or no data directory of ours.
    #[error(
        "{path} says \"{found}\", this program knows data format {known}: the directory was written by a newer program or \
         is not a data directory of bolide"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its first words.
        found: String,
        /// What this program writes.
        known: u32,
    },
    /// Not there, or never used by this program.
    #[error("{0} is no data directory of bolide: there is no file `format` in it")]
    NotOurs(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The places of one shard.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    shard: PathBuf,
}

impl DataDir {
    /// Names only; nothing is touched.
    #[must_use]
    pub fn new(root: &Path, shard: ShardId) -> Self {
        Self { root: root.to_owned(), shard: root.join(format!("shard-{shard}")) }
    }

    /// Shards of which there is data in a directory, ascending.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn shards(files: &dyn Files, root: &Path) -> Result<Vec<ShardId>, DataDirError> {
        let names = files.list(root).map_err(|source| DataDirError::Io { path: root.to_owned(), source })?;
        let shard = |name: &String| name.strip_prefix("shard-")?.parse().ok().map(ShardId);
        let mut shards: Vec<ShardId> = names.iter().filter_map(shard).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    /// Directory of the log's segments.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.shard.join("log")
    }

    /// Directory of the folded state.
    #[must_use]
    pub fn fold(&self) -> PathBuf {
        self.shard.join("fold")
    }

    /// Directory of the copies of the folded state.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.shard.join("fold-checkpoints")
    }

    fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    fn clean(&self) -> PathBuf {
        self.shard.join("clean")
    }

    /// Creates what is missing, takes the lock and checks the format version.
    ///
    /// # Errors
    /// The directory is in use, of an unknown format, or out of reach.
    pub fn claim(&self, files: &dyn Files) -> Result<Box<dyn Held>, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        create_dir_durably(files, &self.root).map_err(io(&self.root))?;
        let lock = files.lock(&self.root.join("LOCK"), &format!("process {}", std::process::id()))?;
        let format = self.format();
        if files.exists(&format) {
            self.check_format(files)?;
        } else {
            let text = format!("{FORMAT_WORDS} {DATA_FORMAT}\n");
            write_small_durably(files, &format, text.as_bytes()).map_err(io(&format))?;
        }
        for dir in [self.log(), self.checkpoints()] {
            create_dir_durably(files, &dir).map_err(io(&dir))?;
        }
        Ok(lock)
    }

    /// Checks the format version.
    ///
    /// # Errors
    /// It is unknown, or cannot be read.
    pub fn check_format(&self, files: &dyn Files) -> Result<(), DataDirError> {
        let path = self.format();
        let text = read_small(files, &path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => DataDirError::NotOurs(self.root.clone()),
            _ => DataDirError::Io { path: path.clone(), source },
        })?;
        if number_after(FORMAT_WORDS, &text) == Some(u64::from(DATA_FORMAT)) {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&text[..text.len().min(80)]).trim().to_owned();
        Err(DataDirError::UnknownFormat { path, found, known: DATA_FORMAT })
    }

    /// End of the log as a clean end noted it. A note that cannot be read says nothing.
    #[must_use]
    pub fn clean_end(&self, files: &dyn Files) -> Option<LogPosition> {
        read_small(files, &self.clean()).ok().and_then(|text| number_after(CLEAN_WORDS, &text)).map(LogPosition)
    }

    /// Removes the note of a clean end: from now on a crash may happen.
    ///
    /// # Errors
    /// The note could not be removed.
    pub fn forget_clean_end(&self, files: &dyn Files) -> Result<(), DataDirError> {
        let path = self.clean();
        if !files.exists(&path) {
            return Ok(());
        }
        let io = |source| DataDirError::Io { path: path.clone(), source };
        files.remove(&path).map_err(io)?;
        files.sync_dir(&self.shard).map_err(io)
    }

    /// Notes a clean end.
    ///
    /// # Errors
    /// The note could not be written.
    pub fn note_clean_end(&self, files: &dyn Files, end: LogPosition) -> Result<(), DataDirError> {
        let path = self.clean();
        write_small_durably(files, &path, format!("{CLEAN_WORDS} {end}\n").as_bytes())
            .map_err(|source| DataDirError::Io { path, source })
    }
}

fn number_after(words: &str, text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.strip_prefix(words)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::memory::MemoryFiles;

    #[test]
    fn a_directory_of_a_newer_program_is_refused_with_words() {
        let files = MemoryFiles::new(1).life();
        let dir = DataDir::new(Path::new("data"), ShardId(0));
        drop(dir.claim(files.as_ref()).unwrap());
        write_small_durably(files.as_ref(), Path::new("data/format"), b"bolide data format 2\n").unwrap();
        let error = dir.claim(files.as_ref()).unwrap_err();
        assert!(matches!(error, DataDirError::UnknownFormat { .. }));
        assert!(error.to_string().contains("newer program"), "{error}");
    }

    #[test]
    fn the_shards_of_a_directory_are_found_whatever_else_lies_there() {
        let files = MemoryFiles::new(1).life();
        for shard in [7, 12] {
            drop(DataDir::new(Path::new("data"), ShardId(shard)).claim(files.as_ref()).unwrap());
        }
        create_dir_durably(files.as_ref(), Path::new("data/shard-x")).unwrap();
        let found = DataDir::shards(files.as_ref(), Path::new("data")).unwrap();
        assert_eq!(found, [ShardId(7), ShardId(12)]);
    }

    #[test]
    fn a_clean_end_is_known_until_it_is_forgotten() {
        let files = MemoryFiles::new(1).life();
        let dir = DataDir::new(Path::new("data"), ShardId(0));
        let _lock = dir.claim(files.as_ref()).unwrap();
        assert_eq!(dir.clean_end(files.as_ref()), None);
        dir.note_clean_end(files.as_ref(), LogPosition(77)).unwrap();
        assert_eq!(dir.clean_end(files.as_ref()), Some(LogPosition(77)));
        dir.forget_clean_end(files.as_ref()).unwrap();
        assert_eq!(dir.clean_end(files.as_ref()), None);
    }
}
