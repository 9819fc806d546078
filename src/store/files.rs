//! The one way to files: a trait, its real form, and (in `memory`) a form that models crashes and power cuts.
//!
//! What callers may rely on, and no more: bytes are on stable storage once [`File::sync_data`] returned without an error; a
//! new, renamed or removed name once [`Files::sync_dir`] of its directory did. After a **failed** sync nothing that it should
//! have covered is certain, and a later sync that succeeds proves nothing about it: write the bytes again, or give up.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::store::mmap::Mapping;

pub mod memory;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; no writes.
    Read,
    /// Must exist.
    ReadWrite,
    /// Must not exist; read and write.
    CreateNew,
}

/// Room on the file system that holds a directory, for users without special rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Used plus free.
    pub total_bytes: u64,
    /// What may still be used.
    pub free_bytes: u64,
}

impl Space {
    /// Used part, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no exact bytes")]
    pub fn used_ratio(&self) -> f64 {
        if self.total_bytes == 0 {
            return 1.0;
        }
        1.0 - (self.free_bytes as f64 / self.total_bytes as f64)
    }
}

/// Why a directory could not be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the data directory is in use by {holder} (lock file {path})")]
    Held {
        /// What the holder wrote about itself.
        holder: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file could not be used.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A lock that is held; dropping it releases.
pub trait Held: Send + Sync + Debug {}

/// A file system. Paths are absolute or relative to the working directory.
#[expect(clippy::missing_errors_doc, reason = "every call fails as the operating system's call of that name does")]
pub trait Files: Send + Sync + Debug {
    /// Creates a directory and what is missing above it. Not durable: see [`create_dir_durably`].
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory of that name is there.
    fn exists(&self, path: &Path) -> bool;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks `path` for this process until the result is dropped or the process ends; `holder` is shown to others who try.
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Held>, LockError>;
    /// Who has locked `path`, by its own words. Writes nothing.
    fn holder(&self, path: &Path) -> Option<String>;
    /// Room on the file system of `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// An open file. Calls may come from several threads.
#[expect(clippy::missing_errors_doc, reason = "every call fails as the operating system's call of that name does")]
#[expect(clippy::len_without_is_empty, reason = "no caller asks")]
pub trait File: Send + Sync + Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Writes all of `bytes` at `offset`; after an error any part of them may be there.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads exactly `length` bytes; fewer are an error of kind `UnexpectedEof`.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;
    /// Sets the length. Never shorten a file that has a view.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Reserves room for `length` bytes and makes the file at least that long, so that later writes inside cannot run out of
    /// space (where the file system can do that).
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Makes written bytes durable, and the length as far as reading them needs it.
    fn sync_data(&self) -> io::Result<()>;
    /// A read-only window on the file at its present length.
    fn view(&self) -> io::Result<Arc<dyn View>>;
}

/// A read-only window on a file. Only ranges that nobody writes any more may be read through it.
pub trait View: Send + Sync + Debug {
    /// The bytes, without a copy where that is possible. May block on the disk.
    ///
    /// # Errors
    /// The range lies outside the window, or the disk could not be read.
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes>;
    /// Whether bytes handed out before are still in use somewhere.
    fn is_in_use(&self) -> bool;
    /// Lets go of memory that earlier reads keep resident; bytes handed out stay valid.
    fn release(&self);
}

/// The operating system's files.
#[must_use]
pub fn real() -> Arc<dyn Files> {
    Arc::new(RealFiles)
}

/// Creates a directory so that it survives a power cut, with all that is missing above it.
///
/// # Errors
/// As the calls it is made of.
pub fn create_dir_durably(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let mut created = Vec::new();
    let mut at = dir;
    while !at.as_os_str().is_empty() && !files.exists(at) {
        created.push(at);
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    files.create_dir_all(dir)?;
    // From the top down, so that no directory is durable before the one that names it.
    for new in created.iter().rev() {
        files.sync_dir(new.parent().unwrap_or(Path::new("")))?;
    }
    Ok(())
}

/// Reads a whole small file.
///
/// # Errors
/// As opening and reading.
pub fn read_small(files: &dyn Files, path: &Path) -> io::Result<Bytes> {
    let file = files.open(path, OpenMode::Read)?;
    let length = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    file.read_at(0, length)
}

/// Replaces a whole small file, so that after a power cut either the old or the new content is there.
///
/// # Errors
/// As the calls it is made of; then either content may be there.
pub fn write_small_durably(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    if files.exists(&temporary) {
        files.remove(&temporary)?;
    }
    let file = files.open(&temporary, OpenMode::CreateNew)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    files.rename(&temporary, path)?;
    files.sync_dir(path.parent().unwrap_or(Path::new("")))
}

#[derive(Debug)]
struct RealFiles;

#[derive(Debug)]
struct RealFile(fs::File);

/// The lock lives as long as the open file.
#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "held, not used")] fs::File);

impl Held for RealLock {}

/// What the holder of a lock file wrote about itself.
fn holder_named_in(file: fs::File) -> String {
    let mut text = String::new();
    let _ = file.take(1024).read_to_string(&mut text);
    if text.trim().is_empty() { "another process".to_owned() } else { text.trim().to_owned() }
}

/// The empty path means the working directory.
fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

impl Files for RealFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(or_here(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(or_here(dir))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::CreateNew);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(or_here(dir))?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Held>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        // Not truncated at opening: until the lock is ours, the text in it is the holder's.
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(LockError::Held { holder: holder_named_in(file), path: path.to_owned() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.write_all(holder.as_bytes()).map_err(failed)?;
        Ok(Box::new(RealLock(file)))
    }

    fn holder(&self, path: &Path) -> Option<String> {
        let file = fs::File::open(path).ok()?;
        // A shared lock, let go of at once: several that look do not see each other.
        matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)).then(|| holder_named_in(file))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(or_here(dir))?;
        // Blocks kept back for root count as neither used nor free, as `df` does it.
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Ok(Space {
            total_bytes: used.saturating_add(stat.f_bavail).saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(length);
        self.0.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.freeze())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => {
                if self.len()? < length {
                    self.0.set_len(length)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(RealView(Mapping::of(&self.0, self.len()?)?)))
    }
}

#[derive(Debug)]
struct RealView(Mapping);

impl View for RealView {
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.0.read(offset, length)
    }

    fn is_in_use(&self) -> bool {
        self.0.is_in_use()
    }

    fn release(&self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_on_a_directory_names_the_first_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let files = real();
        let held = files.lock(&path, "process 4711").unwrap();
        let refused = files.lock(&path, "process 4712").unwrap_err();
        assert!(matches!(&refused, LockError::Held { holder, .. } if holder == "process 4711"), "{refused}");
        drop(held);
        files.lock(&path, "process 4712").unwrap();
    }

    #[test]
    fn asking_for_the_holder_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let files = real();
        assert_eq!(files.holder(&path), None);
        assert!(!files.exists(&path));
        let held = files.lock(&path, "process 4711").unwrap();
        assert_eq!(files.holder(&path).as_deref(), Some("process 4711"));
        drop(held);
        assert_eq!(files.holder(&path), None);
        assert_eq!(read_small(files.as_ref(), &path).unwrap(), &b"process 4711"[..]);
    }

    #[test]
    fn a_view_shows_what_was_written_and_refuses_what_lies_outside() {
        let dir = tempfile::tempdir().unwrap();
        let files = real();
        let file = files.open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
        file.allocate(10_000).unwrap();
        let view = file.view().unwrap();
        file.write_all_at(b"hello", 5_000).unwrap();
        let bytes = view.read(5_000, 5).unwrap();
        assert_eq!(bytes, &b"hello"[..]);
        assert!(view.is_in_use());
        drop(bytes);
        assert!(!view.is_in_use());
        assert!(view.read(9_999, 2).is_err());
        assert!(view.read(u64::MAX, 2).is_err());
    }

    #[test]
    fn small_files_are_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let files = real();
        let nested = dir.path().join("a/b");
        create_dir_durably(files.as_ref(), &nested).unwrap();
        let path = nested.join("note");
        write_small_durably(files.as_ref(), &path, b"first, longer").unwrap();
        write_small_durably(files.as_ref(), &path, b"second").unwrap();
        assert_eq!(read_small(files.as_ref(), &path).unwrap(), &b"second"[..]);
        assert_eq!(files.list(&nested).unwrap(), vec!["note".to_owned()]);
        assert!(files.space(&nested).unwrap().used_ratio() < 1.0);
    }
}
