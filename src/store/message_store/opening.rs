//! Bringing log and fold together at the start.

use std::sync::Arc;
use std::time::Duration;

use crate::model::position::LogPosition;
use crate::runtime::clock::Clock;
use crate::store::checkpoint::{Checkpoints, remove_database};
use crate::store::data_dir::DataDir;
use crate::store::files::{Files, Held};
use crate::store::fold::{BATCH_BYTES_MAX, Fold, FoldBounds};
use crate::store::kv::{FoldEnv, OpenFoldError};
use crate::store::log::Log;
use crate::store::message_store::OpenStoreError;
use crate::store::options::StoreOptions;

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Opened {
    pub(super) dir: DataDir,
    pub(super) lock: Box<dyn Held>,
    pub(super) log: Log,
    pub(super) fold: Fold,
    pub(super) checkpoints: Checkpoints,
}

pub(super) fn open(
    options: &StoreOptions,
    files: &Arc<dyn Files>,
    env: &FoldEnv,
    clock: &Clock,
) -> Result<Opened, OpenStoreError> {
    let dir = DataDir::new(&options.log.dir, options.log.shard);
    let lock = dir.claim(files.as_ref())?;
    let parts = Parts {
        options,
        files,
        env,
        dir: &dir,
        checkpoints: Checkpoints::new(files.clone(), env.clone(), dir.checkpoints()),
    };
    let fold = parts.open_fold()?;
    let known = fold.position();
    let log = Log::open(options.log.clone(), files.clone(), clock, known, dir.clean_end(files.as_ref()))?;
    if log.end() < known {
        return Err(OpenStoreError::Ahead { fold: known, end: log.end() });
    }
    let fold = if known < log.start() { parts.close_gap(fold, log.start())? } else { fold };
    replay(&log, &fold, clock)?;
    // From here on frames follow, and the note would be about an end that is none.
    dir.forget_clean_end(files.as_ref())?;
    let checkpoints = parts.checkpoints;
    finish_trim(&log, &fold, &checkpoints);
    Ok(Opened { dir, lock, log, fold, checkpoints })
}

struct Parts<'a> {
    options: &'a StoreOptions,
    files: &'a Arc<dyn Files>,
    env: &'a FoldEnv,
    dir: &'a DataDir,
    checkpoints: Checkpoints,
}

impl Parts<'_> {
    fn fold_at_its_place(&self) -> Result<Fold, OpenFoldError> {
        let bounds = FoldBounds {
            flush_log_bytes: self.options.fold_flush_log_bytes,
            queue_bytes_max: self.options.fold_queue_bytes_max,
        };
        let fold = Fold::open(self.env, &self.dir.fold(), &self.options.kv, bounds)?;
        self.check_tables(&fold)?;
        Ok(fold)
    }

    /// The database opens only a few of its table files at once; that another is missing it would tell whoever reads it first,
    /// long after it could be repaired here.
    fn check_tables(&self, fold: &Fold) -> Result<(), OpenFoldError> {
        let path = self.dir.fold();
        let damaged = |cause| OpenFoldError::Damaged { path: path.clone(), cause };
        if matches!(self.env, FoldEnv::Memory(_)) {
            return Ok(());
        }
        let tables = fold.kv().table_files().map_err(|error| damaged(error.to_string()))?;
        match tables.into_iter().find(|name| !self.files.exists(&path.join(name))) {
            Some(missing) => Err(damaged(format!("table file {missing} is missing"))),
            None => Ok(()),
        }
    }

    /// The fold as it is, or when it is missing or damaged the newest checkpoint, or an empty one.
    fn open_fold(&self) -> Result<Fold, OpenStoreError> {
        let is_damaged = match self.fold_at_its_place() {
            // New, or its directory was removed: a checkpoint is better, if there is one.
            Ok(fold) if fold.position() > LogPosition(0) || self.checkpoints.complete()?.is_empty() => return Ok(fold),
            Ok(_) => false,
            Err(OpenFoldError::Damaged { cause, .. }) => {
                tracing::warn!(cause, "the fold is damaged and will be rebuilt");
                true
            }
            Err(other) => return Err(other.into()),
        };
        if let Some(fold) = self.restore_newest(LogPosition(0))? {
            return Ok(fold);
        }
        if is_damaged {
            remove_database(self.files.as_ref(), self.env, &self.dir.fold())?;
        }
        Ok(self.fold_at_its_place()?)
    }

    /// The newest checkpoint at or after `least` that can be restored, in the place of the fold.
    fn restore_newest(&self, least: LogPosition) -> Result<Option<Fold>, OpenStoreError> {
        for checkpoint in self.checkpoints.complete()?.iter().filter(|checkpoint| checkpoint.position >= least) {
            let restored = self.checkpoints.restore(checkpoint, &self.dir.fold());
            match restored.map(|()| self.fold_at_its_place()) {
                Ok(Ok(fold)) => {
                    tracing::warn!(position = %checkpoint.position, "the fold was restored from a checkpoint");
                    return Ok(Some(fold));
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, path = %checkpoint.path.display(), "a checkpoint is of no use")
                }
                Err(error) => tracing::warn!(%error, path = %checkpoint.path.display(), "a checkpoint is of no use"),
            }
        }
        Ok(None)
    }

    /// The log begins behind the fold: an older fold was put back, or an empty one was made.
    fn close_gap(&self, fold: Fold, start: LogPosition) -> Result<Fold, OpenStoreError> {
        let position = fold.position();
        drop(fold);
        self.restore_newest(start)?.ok_or(OpenStoreError::Gap { fold: position, start })
    }
}

/// Folds what the log holds from the position of the fold on.
fn replay(log: &Log, fold: &Fold, clock: &Clock) -> Result<(), OpenStoreError> {
    let (from, end) = (fold.position(), log.end());
    let began = clock.mark();
    let mut told = clock.mark();
    let mut frames = Vec::new();
    let mut bytes = 0;
    for frame in log.replay(from) {
        let frame = frame?;
        bytes += frame.payload.len();
        frames.push(frame);
        if bytes >= BATCH_BYTES_MAX {
            fold.fold(&frames)?;
            frames.clear();
            bytes = 0;
            if told.elapsed() >= PROGRESS_EVERY {
                told = clock.mark();
                let percent = fold.position().since(from) * 100 / end.since(from).max(1);
                tracing::info!(percent, position = %fold.position(), end = %end, "replaying the log");
            }
        }
    }
    fold.fold(&frames)?;
    if end > from {
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(bytes = end.since(from), milliseconds, "replayed the log");
    }
    Ok(())
}

/// A crash may have come between the record that moves the log's beginning and the removal of the segments.
fn finish_trim(log: &Log, fold: &Fold, checkpoints: &Checkpoints) {
    let start = fold.meta().log_start;
    if log.start() >= start {
        return;
    }
    let finished = fold.checkpoint(checkpoints).map_err(|error| error.to_string()).and_then(|kept| {
        log.drop_segments_before(start).map_err(|error| error.to_string())?;
        checkpoints.remove_others(&kept).map_err(|error| error.to_string())
    });
    if let Err(error) = finished {
        tracing::warn!(error, "segments out of retention could not be removed; the next trim tries again");
    }
}
