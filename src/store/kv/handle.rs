//! The RocksDB database that holds the fold, behind a handle that speaks of families and rows. The only file that names
//! RocksDB, so that a change of its version or options stays here.
//!
//! - Its write-ahead log is off. What memtables held when the process died comes back by replaying the shard's log.
//! - Flushes are atomic over all families, so that what is on disk is always the state at one log position.
//! - Closing never flushes by itself: whoever wants a clean end calls [`Kv::flush`]. A dropped handle is a crash.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, Env,
    ErrorKind, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::store::codec::RecordError;
use crate::store::kv::error::{FoldError, OpenFoldError};
use crate::store::kv::options::KvOptions;
use crate::store::kv::{Family, Rows, meta};

/// Bytes of a block of a table file, before compression.
const BLOCK_BYTES: usize = 16 * 1024;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Table files that stay open; each costs a file descriptor and a little memory.
const OPEN_FILES_MAX: i32 = 256;
const DIAGNOSTIC_LOG_BYTES_MAX: usize = 1024 * 1024;
/// Copies that a database in memory keeps of itself, for simulated power cuts.
const COPIES_MAX: usize = 3;

/// Where the database's files are.
#[derive(Clone, Debug)]
pub enum FoldEnv {
    /// In the file system.
    Disk,
    /// In memory, for simulations and tests. It outlives the handles: opening a path again finds what was flushed there.
    Memory(MemoryEnv),
}

/// File system of databases in memory. Clones share the files.
#[derive(Clone)]
pub struct MemoryEnv {
    env: Env,
    copies: Arc<Mutex<Copies>>,
}

#[derive(Debug, Default)]
struct Copies {
    /// Oldest first.
    kept: Vec<PathBuf>,
    made: u64,
}

impl fmt::Debug for MemoryEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryEnv({:?})", self.copies)
    }
}

/// What a simulated power cut leaves of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// What was last flushed.
    Flushed,
    /// An earlier flush; 0 is the latest copy. Without any copy, nothing.
    Copy(usize),
    /// Nothing.
    Nothing,
}

impl FoldEnv {
    /// An empty file system in memory.
    ///
    /// # Errors
    /// No memory.
    pub fn memory() -> Result<Self, FoldError> {
        let env = Env::mem_env().map_err(failed("making an environment in memory"))?;
        Ok(Self::Memory(MemoryEnv { env, copies: Arc::default() }))
    }

    /// Removes the database at `path`, if there is one. No handle of it may be open.
    ///
    /// # Errors
    /// The file system refused.
    pub fn destroy(&self, path: &Path) -> Result<(), FoldError> {
        DB::destroy(&self.options(), path).map_err(failed("removing the database"))
    }

    /// Makes `to` a copy of the database at `from`, of which no handle may be open. `to` must not exist.
    ///
    /// # Errors
    /// `from` does not open, or the copy could not be made; then `to` does not exist.
    pub fn copy(&self, from: &Path, to: &Path) -> Result<(), OpenFoldError> {
        let kv = Kv::open(self, from, &KvOptions::default())?;
        kv.checkpoint(to).map_err(|error| OpenFoldError::Unreachable { path: to.to_owned(), cause: error.to_string() })
    }

    /// Leaves of the database at `path` what a power cut might: for simulations. No handle of it may be open. On disk it does
    /// nothing.
    ///
    /// # Errors
    /// The copy could not be restored.
    pub fn power_cut(&self, path: &Path, remains: Remains) -> Result<(), OpenFoldError> {
        let Self::Memory(memory) = self else { return Ok(()) };
        let unreachable =
            |error: FoldError| OpenFoldError::Unreachable { path: path.to_owned(), cause: error.to_string() };
        let copy = match remains {
            Remains::Flushed => return Ok(()),
            Remains::Nothing => None,
            Remains::Copy(back) => memory.copies.lock().kept.iter().rev().nth(back).cloned(),
        };
        self.destroy(path).map_err(unreachable)?;
        copy.map_or(Ok(()), |copy| self.copy(&copy, path))
    }

    fn options(&self) -> Options {
        // The only option that has no setter of its own. An empty string of options cannot fail to parse; should the name
        // ever change, the test of crashes below fails.
        let mut options = Options::default();
        if let Ok(with_crashes) = options.get_options_from_string("avoid_flush_during_shutdown=true") {
            options = with_crashes;
        }
        if let Self::Memory(memory) = self {
            options.set_env(&memory.env);
        }
        options
    }

    fn database_options(&self, options: &KvOptions) -> Options {
        let mut database = self.options();
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_atomic_flush(true);
        database.set_max_background_jobs(2);
        database.set_max_open_files(OPEN_FILES_MAX);
        database.set_keep_log_file_num(2);
        database.set_max_log_file_size(DIAGNOSTIC_LOG_BYTES_MAX);
        database.set_log_level(LogLevel::Warn);
        // Nobody reads them, and they wake an idle process.
        database.set_stats_dump_period_sec(0);
        database.set_stats_persist_period_sec(0);
        // In memory only explicit flushes happen, so that what a simulated crash leaves does not depend on timing.
        if matches!(self, Self::Disk) {
            database.set_db_write_buffer_size(options.write_buffer_bytes);
        }
        database
    }

    fn families(&self, options: &KvOptions) -> [ColumnFamilyDescriptor; Family::ALL.len()] {
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), self.family_options(options, &cache)))
    }

    fn family_options(&self, options: &KvOptions, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_block_size(BLOCK_BYTES);
        table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        // Inside the cache they are part of its bound.
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut family = self.options();
        family.set_block_based_table_factory(&table);
        family.set_compression_type(DBCompressionType::Lz4);
        family.set_write_buffer_size(options.write_buffer_bytes);
        family.set_max_write_buffer_number(4);
        family
    }
}

fn failed(action: &'static str) -> impl Fn(rocksdb::Error) -> FoldError {
    move |error| {
        let cause = error.into_string();
        if cause.contains("No space left") {
            FoldError::NoSpace { action }
        } else {
            FoldError::Database { action, cause }
        }
    }
}

/// Handle of an open database.
pub struct Kv {
    // Dropped in this order: the handle before the environment it lives in.
    db: DB,
    env: FoldEnv,
    path: PathBuf,
}

impl fmt::Debug for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kv({})", self.path.display())
    }
}

impl Kv {
    /// Opens the database at `path`, making a new one when there is none.
    ///
    /// # Errors
    /// It is damaged, of an unknown format, or out of reach.
    pub fn open(env: &FoldEnv, path: &Path, options: &KvOptions) -> Result<Self, OpenFoldError> {
        let families = env.families(options);
        let db = DB::open_cf_descriptors(&env.database_options(options), path, families)
            .map_err(|error| opening_failed(path, &error))?;
        let kv = Self { db, env: env.clone(), path: path.to_owned() };
        if !kv.knows_format()? {
            let unreachable =
                |error: FoldError| OpenFoldError::Unreachable { path: path.to_owned(), cause: error.to_string() };
            let mut batch = kv.batch();
            meta::put_format(&mut batch);
            batch.write().map_err(unreachable)?;
        }
        Ok(kv)
    }

    /// Opens an existing database for looking at it; its files are not changed, and another process may have it open.
    ///
    /// # Errors
    /// It is not there, damaged, of an unknown format, or out of reach.
    pub fn open_read_only(env: &FoldEnv, path: &Path) -> Result<Self, OpenFoldError> {
        let options = KvOptions::default();
        let families = env.families(&options);
        let mut database = env.database_options(&options);
        database.create_if_missing(false);
        let db = DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map_err(|error| opening_failed(path, &error))?;
        let kv = Self { db, env: env.clone(), path: path.to_owned() };
        kv.knows_format()?;
        Ok(kv)
    }

    /// Names of the table files that hold rows now.
    ///
    /// # Errors
    /// The database does not say.
    pub fn table_files(&self) -> Result<Vec<String>, FoldError> {
        let files = self.db.live_files().map_err(failed("listing table files"))?;
        Ok(files.into_iter().map(|file| file.name.trim_start_matches('/').to_owned()).collect())
    }

    /// Refuses a database of an unknown format; `false` for a new one.
    fn knows_format(&self) -> Result<bool, OpenFoldError> {
        let path = self.path.clone();
        match meta::format(self) {
            Ok(None) => Ok(false),
            Ok(Some(meta::FOLD_FORMAT)) => Ok(true),
            Ok(Some(other)) => {
                Err(OpenFoldError::UnknownFormat { path, found: other.to_string(), known: meta::FOLD_FORMAT })
            }
            Err(error) => Err(OpenFoldError::Damaged { path, cause: error.to_string() }),
        }
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("every family was opened with the database")
    }

    /// Reads one row.
    ///
    /// # Errors
    /// The database failed, or `read` refused the value.
    pub fn get<T>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, RecordError>,
    ) -> Result<Option<T>, FoldError> {
        let row = self.db.get_pinned_cf(self.family(family), key).map_err(failed("reading a row"))?;
        row.map(|value| read(&value)).transpose().map_err(|cause| FoldError::Row { family: family.name(), cause })
    }

    /// Visits the rows from `from` on and below `end`, in order, while `visit` says so.
    ///
    /// # Errors
    /// The database failed, or `visit` refused a row.
    pub fn scan(
        &self,
        family: Family,
        from: &[u8],
        end: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, RecordError>,
    ) -> Result<(), FoldError> {
        let mut options = ReadOptions::default();
        if let Some(end) = end {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = self.db.raw_iterator_cf_opt(self.family(family), options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if !visit(key, value).map_err(|cause| FoldError::Row { family: family.name(), cause })? {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(failed("scanning rows"))
    }

    /// Reads the first row at or after `from`.
    ///
    /// # Errors
    /// The database failed, or `read` refused the row.
    pub fn first_from<T>(
        &self,
        family: Family,
        from: &[u8],
        read: impl FnOnce(&[u8], &[u8]) -> Result<T, RecordError>,
    ) -> Result<Option<T>, FoldError> {
        let mut rows = self.db.raw_iterator_cf(self.family(family));
        rows.seek(from);
        read_current(family, &rows, read)
    }

    /// Reads the last row before `end`.
    ///
    /// # Errors
    /// The database failed, or `read` refused the row.
    pub fn last_before<T>(
        &self,
        family: Family,
        end: &[u8],
        read: impl FnOnce(&[u8], &[u8]) -> Result<T, RecordError>,
    ) -> Result<Option<T>, FoldError> {
        let mut rows = self.db.raw_iterator_cf(self.family(family));
        rows.seek_for_prev(end);
        if rows.key() == Some(end) {
            rows.prev();
        }
        read_current(family, &rows, read)
    }

    /// An empty set of changes.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { families: Family::ALL.map(|family| self.family(family)), kv: self, batch: WriteBatch::default() }
    }

    /// Moves everything written so far into files, atomically over all families.
    ///
    /// # Errors
    /// The database failed.
    pub fn flush(&self, wait: FlushWait) -> Result<(), FoldError> {
        let mut options = FlushOptions::default();
        // In memory it always waits: what a simulated crash leaves must not depend on timing.
        options.set_wait(wait == FlushWait::UntilDone || matches!(self.env, FoldEnv::Memory(_)));
        let families = Family::ALL.map(|family| self.family(family));
        let families: Vec<_> = families.iter().collect();
        self.db.flush_cfs_opt(&families, &options).map_err(failed("flushing"))?;
        self.keep_copy()
    }

    /// A consistent copy of the database at `path`, which must not exist while its parent does. Flushes. Table files are
    /// hard links; the copy is whole and durable when this returns, or not there.
    ///
    /// # Errors
    /// The database failed.
    pub fn checkpoint(&self, path: &Path) -> Result<(), FoldError> {
        let maker = Checkpoint::new(&self.db).map_err(failed("preparing a checkpoint"))?;
        maker.create_checkpoint(path).map_err(failed("making a checkpoint"))
    }

    /// In memory, keeps a copy of what was just flushed for [`FoldEnv::power_cut`].
    fn keep_copy(&self) -> Result<(), FoldError> {
        let FoldEnv::Memory(memory) = &self.env else { return Ok(()) };
        let (path, dropped) = {
            let mut copies = memory.copies.lock();
            copies.made += 1;
            let path = self.path.with_extension(format!("copy-{}", copies.made));
            copies.kept.push(path.clone());
            let dropped = (copies.kept.len() > COPIES_MAX).then(|| copies.kept.remove(0));
            (path, dropped)
        };
        if let Some(dropped) = dropped {
            self.env.destroy(&dropped)?;
        }
        self.checkpoint(&path)
    }

    /// Bytes that memtables and table readers use at the moment.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.sum(&["rocksdb.cur-size-all-mem-tables", "rocksdb.estimate-table-readers-mem"])
    }

    /// Bytes of table files.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.sum(&["rocksdb.total-sst-files-size"])
    }

    /// About how many rows a family has; exact counts would cost a scan.
    #[must_use]
    pub fn rows_about(&self, family: Family) -> u64 {
        self.db.property_int_value_cf(self.family(family), "rocksdb.estimate-num-keys").ok().flatten().unwrap_or(0)
    }

    fn sum(&self, properties: &[&str]) -> u64 {
        let value = |family, property: &str| {
            self.db.property_int_value_cf(self.family(family), property).ok().flatten().unwrap_or(0)
        };
        Family::ALL.iter().flat_map(|&family| properties.iter().map(move |property| value(family, property))).sum()
    }
}

/// Whether a flush is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushWait {
    /// It goes on in the background.
    No,
    /// Returns when the files are durable.
    UntilDone,
}

fn read_current<T>(
    family: Family,
    rows: &DBRawIterator<'_>,
    read: impl FnOnce(&[u8], &[u8]) -> Result<T, RecordError>,
) -> Result<Option<T>, FoldError> {
    match rows.item() {
        Some((key, value)) => {
            read(key, value).map(Some).map_err(|cause| FoldError::Row { family: family.name(), cause })
        }
        None => rows.status().map(|()| None).map_err(failed("seeking a row")),
    }
}

fn opening_failed(path: &Path, error: &rocksdb::Error) -> OpenFoldError {
    let (path, cause) = (path.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::InvalidArgument if cause.contains("olumn famil") => {
            let found = format!("of other families ({cause})");
            OpenFoldError::UnknownFormat { path, found, known: meta::FOLD_FORMAT }
        }
        ErrorKind::Corruption | ErrorKind::InvalidArgument => OpenFoldError::Damaged { path, cause },
        ErrorKind::IOError if cause.contains("No such file") => OpenFoldError::Damaged { path, cause },
        _ => OpenFoldError::Unreachable { path, cause },
    }
}

/// Changes that become visible together.
pub struct Batch<'a> {
    kv: &'a Kv,
    families: [&'a ColumnFamily; Family::ALL.len()],
    batch: WriteBatch,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("rows", &self.batch.len()).finish_non_exhaustive()
    }
}

impl Batch<'_> {
    /// Bytes of all changes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    /// Number of changes.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batch.len()
    }

    /// Writes all of them, atomically: readable when this returns, durable when next flushed.
    ///
    /// # Errors
    /// The database failed; nothing was written. The same batch may be tried again.
    pub fn write(&self) -> Result<(), FoldError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        // The library takes the batch; a copy of its few bytes is what allows a second try when the disk was full.
        let batch = WriteBatch::from_data(self.batch.data());
        self.kv.db.write_opt(batch, &options).map_err(failed("writing a batch"))
    }
}

impl Rows for Batch<'_> {
    fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(&self.families[family as usize], key, value);
    }

    fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(&self.families[family as usize], key);
    }

    fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        self.batch.delete_range_cf(&self.families[family as usize], from, to);
    }
}
