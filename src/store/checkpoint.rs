//! Copies of the fold kept beside the log, from which it can be rebuilt once the log no longer begins at its beginning.
//!
//! ```text
//! fold-checkpoints/<20-digit position>/            the copy: hard links to table files
//! fold-checkpoints/<20-digit position>.complete    a note, written when the copy is whole; without it the copy does not count
//! ```
//! The rule that makes it work: segments before `start` are dropped only while a complete checkpoint at or after `start`
//! exists. So the order is: make the new copy, note it, drop segments, remove older copies; a crash anywhere in between
//! leaves at worst a copy too many.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::model::position::LogPosition;
use crate::store::files::{Files, write_small_durably};
use crate::store::kv::{FoldEnv, FoldError, Kv, OpenFoldError};

const NOTE_SUFFIX: &str = ".complete";
const NOTE: &[u8] = b"bolide fold checkpoint 1\n";

/// A checkpoint could not be made, read or removed.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file could not be used.
    #[error("fold checkpoint {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database failed.
    #[error("fold checkpoint: {0}")]
    Fold(#[from] FoldError),
    /// It could not be restored.
    #[error("fold checkpoint cannot be restored: {0}")]
    Restore(#[from] OpenFoldError),
}

/// A complete copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldCheckpoint {
    /// It holds every frame before it.
    pub position: LogPosition,
    /// The copy.
    pub path: PathBuf,
}

/// The copies of one shard.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    files: Arc<dyn Files>,
    env: FoldEnv,
    dir: PathBuf,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { path, source }
}

/// Removes the database at `path`, whole or not. No handle of it may be open.
///
/// # Errors
/// The file system refused.
pub fn remove_database(files: &dyn Files, env: &FoldEnv, path: &Path) -> Result<(), CheckpointError> {
    match env {
        FoldEnv::Disk if files.exists(path) => files.remove_dir_all(path).map_err(at(path)),
        FoldEnv::Disk => Ok(()),
        FoldEnv::Memory(_) => Ok(env.destroy(path)?),
    }
}

impl Checkpoints {
    /// The copies in `dir`, which must exist.
    #[must_use]
    pub fn new(files: Arc<dyn Files>, env: FoldEnv, dir: PathBuf) -> Self {
        Self { files, env, dir }
    }

    fn path(&self, position: LogPosition) -> PathBuf {
        self.dir.join(format!("{:020}", position.get()))
    }

    fn note(&self, position: LogPosition) -> PathBuf {
        self.dir.join(format!("{:020}{NOTE_SUFFIX}", position.get()))
    }

    /// Complete copies, newest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn complete(&self) -> Result<Vec<FoldCheckpoint>, CheckpointError> {
        let names = self.files.list(&self.dir).map_err(at(&self.dir))?;
        let positions = names.iter().rev().filter_map(|name| name.strip_suffix(NOTE_SUFFIX)?.parse().ok());
        Ok(positions.map(LogPosition).map(|position| FoldCheckpoint { position, path: self.path(position) }).collect())
    }

    /// Copies the fold, which must reflect exactly the frames before `position` and not change meanwhile.
    ///
    /// # Errors
    /// The copy could not be made; then it does not count.
    pub fn make(&self, kv: &Kv, position: LogPosition) -> Result<FoldCheckpoint, CheckpointError> {
        let (path, note) = (self.path(position), self.note(position));
        if self.files.exists(&note) {
            return Ok(FoldCheckpoint { position, path });
        }
        // Left by a crash before its note was written.
        remove_database(self.files.as_ref(), &self.env, &path)?;
        kv.checkpoint(&path)?;
        write_small_durably(self.files.as_ref(), &note, NOTE).map_err(at(&note))?;
        Ok(FoldCheckpoint { position, path })
    }

    /// Removes every copy but `kept`, and what a crash left of others.
    ///
    /// # Errors
    /// The file system refused; what is left can be removed later.
    pub fn remove_others(&self, kept: &FoldCheckpoint) -> Result<(), CheckpointError> {
        for other in self.complete()?.iter().filter(|other| *other != kept) {
            // The note first: a copy that is being removed must not count.
            let note = self.note(other.position);
            self.files.remove(&note).map_err(at(&note))?;
            self.files.sync_dir(&self.dir).map_err(at(&self.dir))?;
            remove_database(self.files.as_ref(), &self.env, &other.path)?;
        }
        if matches!(self.env, FoldEnv::Disk) {
            for name in self.files.list(&self.dir).map_err(at(&self.dir))? {
                let path = self.dir.join(&name);
                if path != kept.path && path != self.note(kept.position) && !name.contains(NOTE_SUFFIX) {
                    remove_database(self.files.as_ref(), &self.env, &path)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a copy of `checkpoint` in the place of the fold at `fold`, of which no handle may be open.
    ///
    /// # Errors
    /// The checkpoint does not open, or could not be copied.
    pub fn restore(&self, checkpoint: &FoldCheckpoint, fold: &Path) -> Result<(), CheckpointError> {
        remove_database(self.files.as_ref(), &self.env, fold)?;
        Ok(self.env.copy(&checkpoint.path, fold)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::real;
    use crate::store::kv::{Family, KvOptions, Rows};

    fn value_at(env: &FoldEnv, path: &Path) -> Option<u8> {
        let kv = Kv::open(env, path, &KvOptions::default()).unwrap();
        kv.get(Family::Topic, b"key", |value| Ok(value[0])).unwrap()
    }

    fn put(kv: &Kv, value: u8) {
        let mut batch = kv.batch();
        batch.put(Family::Topic, b"key", &[value]);
        batch.write().unwrap();
    }

    fn checkpoints_count_only_when_complete_and_restore_what_they_held(env: FoldEnv, dir: &Path) {
        let files = real();
        let checkpoints = Checkpoints::new(files.clone(), env.clone(), dir.to_owned());
        let fold = dir.with_extension("fold");
        let kv = Kv::open(&env, &fold, &KvOptions::default()).unwrap();
        put(&kv, 1);
        let first = checkpoints.make(&kv, LogPosition(100)).unwrap();
        put(&kv, 2);
        // A crash between the copy and its note.
        kv.checkpoint(&checkpoints.path(LogPosition(200))).unwrap();
        assert_eq!(checkpoints.complete().unwrap(), vec![first.clone()]);
        put(&kv, 3);
        let second = checkpoints.make(&kv, LogPosition(200)).unwrap();
        assert_eq!(checkpoints.complete().unwrap(), vec![second.clone(), first.clone()]);
        put(&kv, 4);
        drop(kv);
        checkpoints.restore(&first, &fold).unwrap();
        assert_eq!(value_at(&env, &fold), Some(1));
        checkpoints.remove_others(&second).unwrap();
        assert_eq!(checkpoints.complete().unwrap(), vec![second.clone()]);
        checkpoints.restore(&second, &fold).unwrap();
        assert_eq!(value_at(&env, &fold), Some(3));
        assert_eq!(value_at(&env, &second.path), Some(3), "restoring leaves the checkpoint whole");
    }

    #[test]
    fn on_disk_checkpoints_count_only_when_complete_and_restore_what_they_held() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = dir.path().join("checkpoints");
        real().create_dir_all(&checkpoints).unwrap();
        checkpoints_count_only_when_complete_and_restore_what_they_held(FoldEnv::Disk, &checkpoints);
        assert_eq!(real().list(&checkpoints).unwrap().len(), 2, "one copy and its note");
    }

    #[test]
    fn in_memory_checkpoints_count_only_when_complete_and_restore_what_they_held() {
        let dir = tempfile::tempdir().unwrap();
        checkpoints_count_only_when_complete_and_restore_what_they_held(FoldEnv::memory().unwrap(), dir.path());
    }

    #[test]
    fn a_crash_in_memory_keeps_what_was_flushed_and_a_power_cut_may_keep_less() {
        use crate::store::kv::handle::{FlushWait, Remains};
        let env = FoldEnv::memory().unwrap();
        let fold = Path::new("/data/fold");
        for value in 1..=6 {
            let kv = Kv::open(&env, fold, &KvOptions::default()).unwrap();
            put(&kv, value);
            kv.flush(FlushWait::UntilDone).unwrap();
            put(&kv, 100);
        }
        assert_eq!(value_at(&env, fold), Some(6), "closing must not flush");
        env.power_cut(fold, Remains::Copy(1)).unwrap();
        assert_eq!(value_at(&env, fold), Some(5));
        env.power_cut(fold, Remains::Flushed).unwrap();
        assert_eq!(value_at(&env, fold), Some(5));
        env.power_cut(fold, Remains::Nothing).unwrap();
        assert_eq!(value_at(&env, fold), None);
    }
}
