//! Files in memory that behave as badly as a disk may.
//!
//! - A write that no returned sync covers may, after a power cut, be there, be absent, or be torn; each write by itself, so
//!   later ones can survive earlier ones. Tears fall at any 512-byte boundary, or at any byte of a prefix.
//! - What a returned sync covers is there, exactly. A name (new, renamed, removed) is durable once its directory was synced.
//! - A failed sync decides at that moment, at random, what of its writes reached the disk, and forgets the rest: a second sync
//!   that succeeds covers none of them, although the process still reads them.
//! - [`MemoryFiles::kill`] loses the process and nothing else; [`MemoryFiles::power_cut`] also loses what was not durable.
//!   Handles of an earlier life fail every call, locks vanish.
//!
//! All chance comes from the seed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::files::{File, Files, Held, LockError, OpenMode, Space, View};

mod disk;
mod fault;

pub use disk::Ending;
use disk::{Disk, Inode};
pub use fault::{Call, Effect, Fault, Gate};

/// A disk in memory. Clones are the same disk. Used as [`Files`], every call belongs to the life that is current then;
/// [`MemoryFiles::life`] gives a handle that dies with its process.
#[derive(Clone, Debug)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
}

/// The files as one process sees them, until it is killed.
#[derive(Clone, Debug)]
struct Life {
    disk: Arc<Mutex<Disk>>,
    number: u64,
}

impl MemoryFiles {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk::new(seed))) }
    }

    /// The files of the process that starts now.
    #[must_use]
    pub fn life(&self) -> Arc<dyn Files> {
        Arc::new(self.current())
    }

    /// The process ends at once; what it wrote stays, synced or not.
    pub fn kill(&self) {
        self.disk.lock().kill();
    }

    /// The machine loses power.
    pub fn power_cut(&self) {
        self.disk.lock().power_cut();
    }

    /// The process ends after so many more calls, with power or without: at that call, wherever the program is.
    pub fn end_after(&self, calls: u64, ending: Ending) {
        self.disk.lock().ending = Some((calls, ending));
    }

    /// How many processes have ended on this disk.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.disk.lock().life
    }

    /// Arms a fault. Armed faults survive kills and cuts until they have fired.
    pub fn plan(&self, fault: Fault) {
        self.disk.lock().faults.arm(fault);
    }

    /// Disarms all faults and a planned ending; answers how many faults had not fired.
    pub fn clear_faults(&self) -> usize {
        let mut disk = self.disk.lock();
        disk.ending = None;
        disk.faults.clear()
    }

    /// Limits the room on the disk: the whole, and what others use of it. Without this there is no limit.
    pub fn set_space(&self, total_bytes: u64, used_by_others_bytes: u64) {
        self.disk.lock().set_space(total_bytes, used_by_others_bytes);
    }

    /// The bytes of a file as a process sees them now; for tests.
    #[must_use]
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk.lock().file(path).map(|inode| inode.live())
    }

    /// Overwrites bytes behind everyone's back, durably; for tests of damage.
    pub fn damage(&self, path: &Path, offset: usize, bytes: &[u8]) {
        if let Some(inode) = self.disk.lock().file(path) {
            inode.damage(offset, bytes);
        }
    }

    /// Calls of a kind so far, faulty ones included.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.disk.lock().faults.calls(call)
    }

    fn current(&self) -> Life {
        let number = self.disk.lock().life;
        Life { disk: self.disk.clone(), number }
    }
}

fn gone() -> io::Error {
    io::Error::other("the process that held this file was killed")
}

fn input_output() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl Life {
    /// Passes the fault plan, then runs `action` under the lock.
    fn call<T>(&self, call: Call, path: &Path, action: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        match self.effect(call, path)? {
            None => {}
            Some(Effect::NoSpace) => return Err(no_space()),
            Some(_) => return Err(input_output()),
        }
        let mut disk = self.disk.lock();
        if disk.life != self.number {
            return Err(gone());
        }
        action(&mut disk)
    }

    /// What the plan says about this call; a stall has been waited for when this returns.
    fn effect(&self, call: Call, path: &Path) -> io::Result<Option<Effect>> {
        let effect = {
            let mut disk = self.disk.lock();
            disk.count_down();
            if disk.life != self.number {
                return Err(gone());
            }
            disk.faults.next(call, path)
        };
        if let Some(Effect::Stall(gate)) = &effect {
            gate.wait();
            return Ok(None);
        }
        Ok(effect)
    }
}

impl Files for Life {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.call(Call::CreateDir, dir, |disk| disk.create_dir_all(dir))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call(Call::List, dir, |disk| disk.list(dir))
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.lock().exists(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inode = self.call(Call::Open, path, |disk| disk.open(path, mode))?;
        Ok(Arc::new(MemoryFile { life: self.clone(), path: path.to_owned(), inode, writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, from, |disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, path, |disk| disk.remove(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, path, |disk| disk.remove_dir_all(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.effect(Call::SyncDir, dir)?.is_some() {
            self.disk.lock().fail_sync_dir(dir);
            return Err(input_output());
        }
        let mut disk = self.disk.lock();
        if disk.life != self.number {
            return Err(gone());
        }
        disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Held>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        self.call(Call::Lock, path, |_| Ok(())).map_err(failed)?;
        let mut disk = self.disk.lock();
        if let Some(holder) = disk.locks.get(path) {
            return Err(LockError::Held { holder: holder.clone(), path: path.to_owned() });
        }
        disk.locks.insert(path.to_owned(), holder.to_owned());
        drop(disk);
        Ok(Box::new(MemoryLock { life: self.clone(), path: path.to_owned() }))
    }

    fn holder(&self, path: &Path) -> Option<String> {
        self.disk.lock().locks.get(path).cloned()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.call(Call::Space, dir, |disk| Ok(disk.space()))
    }
}

impl Files for MemoryFiles {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.current().create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.current().list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        self.current().exists(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.current().open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.current().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.current().remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.current().remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.current().sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Held>, LockError> {
        self.current().lock(path, holder)
    }

    fn holder(&self, path: &Path) -> Option<String> {
        self.current().holder(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.current().space(dir)
    }
}

#[derive(Debug)]
struct MemoryLock {
    life: Life,
    path: PathBuf,
}

impl Held for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.life.disk.lock();
        // A later life may hold the same lock; it is not ours to release.
        if disk.life == self.life.number {
            disk.locks.remove(&self.path);
        }
    }
}

#[derive(Clone, Debug)]
struct MemoryFile {
    life: Life,
    path: PathBuf,
    inode: Arc<Inode>,
    writable: bool,
}

impl MemoryFile {
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.life.call(Call::Read, &self.path, |_| self.inode.read(offset, length))
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        self.life.call(Call::Len, &self.path, |_| Ok(self.inode.len()))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let effect = self.life.effect(Call::Write, &self.path)?;
        let disk = self.life.disk.lock();
        if disk.life != self.life.number {
            return Err(gone());
        }
        let (kept, outcome) = match effect {
            Some(Effect::Short(kept)) => (kept.min(bytes.len()), Err(io::Error::from(io::ErrorKind::WriteZero))),
            Some(Effect::NoSpace) => (disk.chance(bytes.len()), Err(no_space())),
            Some(_) => (disk.chance(bytes.len()), Err(input_output())),
            None if disk.has_room(self.inode.growth(offset, bytes.len())) => (bytes.len(), Ok(())),
            None => (0, Err(no_space())),
        };
        self.inode.write(&bytes[..kept], offset);
        outcome
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.read(offset, length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.life.call(Call::SetLen, &self.path, |disk| {
            if disk.has_room(length.saturating_sub(self.inode.len())) {
                self.inode.set_len(length)
            } else {
                Err(no_space())
            }
        })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.life.call(Call::Len, &self.path, |_| Ok(self.inode.len()))? >= length {
            return Ok(());
        }
        self.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let effect = self.life.effect(Call::Sync, &self.path)?;
        let disk = self.life.disk.lock();
        if disk.life != self.life.number {
            return Err(gone());
        }
        if effect.is_some() {
            self.inode.settle(&disk.entropy);
            return Err(input_output());
        }
        self.inode.sync();
        Ok(())
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(MemoryView { file: self.clone(), length: self.len()? }))
    }
}

/// Shows the file as it is at each read; hands out copies.
#[derive(Debug)]
struct MemoryView {
    file: MemoryFile,
    length: u64,
}

impl View for MemoryView {
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.file.read(offset, length)
    }

    fn is_in_use(&self) -> bool {
        false
    }

    fn release(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &MemoryFiles, name: &str) -> Arc<dyn File> {
        let file = disk.open(Path::new(name), OpenMode::CreateNew).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        file
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_nothing_else_for_sure() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let disk = MemoryFiles::new(seed);
            let log = file(&disk, "log");
            log.write_all_at(&[1; 2048], 0).unwrap();
            log.sync_data().unwrap();
            log.write_all_at(&[2; 2048], 2048).unwrap();
            disk.power_cut();
            let found = disk.peek(Path::new("log")).unwrap();
            assert_eq!(found[..2048], [1; 2048]);
            match found[2048..].iter().filter(|&&byte| byte == 2).count() {
                0 => lost += 1,
                2048 => kept += 1,
                _ => torn += 1,
            }
            assert!(log.len().is_err(), "a handle of the life before the cut still works");
        }
        assert!(lost > 10 && kept > 10 && torn > 10, "one-sided chance: {lost} {kept} {torn}");
    }

    #[test]
    fn a_sync_after_a_failed_sync_proves_nothing() {
        let mut lost = 0;
        for seed in 0..100 {
            let disk = MemoryFiles::new(seed);
            let log = file(&disk, "log");
            log.write_all_at(&[7; 512], 0).unwrap();
            disk.plan(Fault::fail(Call::Sync));
            log.sync_data().unwrap_err();
            log.sync_data().unwrap();
            assert_eq!(log.read_at(0, 512).unwrap(), vec![7; 512], "the page cache still shows the write");
            disk.power_cut();
            lost += usize::from(disk.peek(Path::new("log")).unwrap() != vec![7; 512]);
        }
        assert!(lost > 10, "the model never loses what a failed sync covered");
    }

    #[test]
    fn names_are_durable_only_when_their_directory_was_synced() {
        let mut lost = 0;
        for seed in 0..100 {
            let disk = MemoryFiles::new(seed);
            let made = disk.open(Path::new("new"), OpenMode::CreateNew).unwrap();
            made.write_all_at(b"x", 0).unwrap();
            made.sync_data().unwrap();
            disk.power_cut();
            lost += usize::from(!disk.exists(Path::new("new")));
        }
        assert!(lost > 10 && lost < 90, "{lost}");
        let disk = MemoryFiles::new(1);
        file(&disk, "old").write_all_at(b"x", 0).unwrap();
        disk.rename(Path::new("old"), Path::new("renamed")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        disk.power_cut();
        assert!(disk.exists(Path::new("renamed")) && !disk.exists(Path::new("old")));
    }

    #[test]
    fn a_kill_keeps_what_was_written_and_frees_the_lock() {
        let disk = MemoryFiles::new(3);
        let first = disk.life();
        let held = first.lock(Path::new("LOCK"), "process 1").unwrap();
        let log = first.open(Path::new("log"), OpenMode::CreateNew).unwrap();
        log.write_all_at(b"unsynced", 0).unwrap();
        assert!(
            matches!(disk.lock(Path::new("LOCK"), "2"), Err(LockError::Held { holder, .. }) if holder == "process 1")
        );
        disk.kill();
        let second = disk.life();
        let again = second.lock(Path::new("LOCK"), "process 2").unwrap();
        drop(held);
        assert!(disk.lock(Path::new("LOCK"), "3").is_err(), "the dead process released the lock of the living one");
        drop(again);
        assert_eq!(disk.peek(Path::new("log")).unwrap(), b"unsynced");
        assert!(log.write_all_at(b"zombie", 0).is_err());
    }

    #[test]
    fn a_full_disk_refuses_growth_but_not_overwriting() {
        let disk = MemoryFiles::new(4);
        disk.set_space(10_000, 5_000);
        let log = file(&disk, "log");
        log.allocate(4_000).unwrap();
        assert_eq!(log.allocate(6_000).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(log.write_all_at(&[1; 2_000], 3_500).unwrap_err().kind(), io::ErrorKind::StorageFull);
        log.write_all_at(&[1; 4_000], 0).unwrap();
        assert_eq!(disk.space(Path::new("")).unwrap(), Space { total_bytes: 10_000, free_bytes: 1_000 });
    }
}
