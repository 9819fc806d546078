//! The state of the disk: names and bytes, each as a process sees them and as they would be found after a power cut.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::fault::Faults;
use crate::runtime::entropy::Entropy;
use crate::store::files::{OpenMode, Space};

/// The unit that a disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Dir,
    File(Arc<Inode>),
}

/// A change of names that no sync of its directory has covered yet.
#[derive(Clone, Debug)]
enum NameChange {
    Put(PathBuf, Node),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf, Node),
}

impl NameChange {
    fn dir(&self) -> &Path {
        let (Self::Put(path, _) | Self::Gone(path) | Self::Moved(_, path, _)) = self;
        parent(path)
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Put(path, node) => drop(names.insert(path, node)),
            Self::Gone(path) => names.retain(|name, _| !name.starts_with(&path)),
            Self::Moved(from, to, node) => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Killed; the machine goes on.
    Kill,
    /// The machine loses power.
    PowerCut,
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) entropy: Entropy,
    pub(super) life: u64,
    pub(super) faults: Faults,
    pub(super) locks: BTreeMap<PathBuf, String>,
    /// Calls left until the process ends.
    pub(super) ending: Option<(u64, Ending)>,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
    total_bytes: u64,
    others_bytes: u64,
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/") || path == Path::new(".")
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entropy: Entropy::seeded(seed),
            life: 0,
            faults: Faults::none(),
            locks: BTreeMap::new(),
            ending: None,
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            total_bytes: 1 << 50,
            others_bytes: 0,
        }
    }

    pub(super) fn count_down(&mut self) {
        match &mut self.ending {
            None => {}
            Some((0, Ending::Kill)) => self.kill(),
            Some((0, Ending::PowerCut)) => self.power_cut(),
            Some((calls, _)) => *calls -= 1,
        }
    }

    pub(super) fn kill(&mut self) {
        self.ending = None;
        self.life += 1;
        self.locks.clear();
    }

    pub(super) fn power_cut(&mut self) {
        self.kill();
        let mut names = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if self.entropy.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        // A name is found only through directories that are themselves there.
        let reachable = |path: &Path| {
            path.ancestors().skip(1).all(|above| is_root(above) || matches!(names.get(above), Some(Node::Dir)))
        };
        let found: Vec<PathBuf> = names.keys().filter(|path| reachable(path)).cloned().collect();
        self.durable = found.into_iter().filter_map(|path| names.remove_entry(&path)).collect();
        for node in self.durable.values() {
            if let Node::File(inode) = node {
                inode.power_cut(&self.entropy);
            }
        }
        self.live = self.durable.clone();
    }

    /// A random number from 0 to `most`.
    pub(super) fn chance(&self, most: usize) -> usize {
        usize::try_from(self.entropy.below(most as u64 + 1)).unwrap_or(0)
    }

    pub(super) fn set_space(&mut self, total_bytes: u64, others_bytes: u64) {
        self.total_bytes = total_bytes;
        self.others_bytes = others_bytes;
    }

    pub(super) fn space(&self) -> Space {
        let own: u64 = self.live.values().map(|node| if let Node::File(inode) = node { inode.len() } else { 0 }).sum();
        Space { total_bytes: self.total_bytes, free_bytes: self.total_bytes.saturating_sub(own + self.others_bytes) }
    }

    pub(super) fn has_room(&self, growth: u64) -> bool {
        growth == 0 || self.space().free_bytes >= growth
    }

    pub(super) fn file(&self, path: &Path) -> Option<Arc<Inode>> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Some(inode.clone()),
            _ => None,
        }
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        is_root(path) || self.live.contains_key(path)
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = dir.ancestors().filter(|path| !self.exists(path)).collect();
        missing.reverse();
        for path in missing {
            self.change(NameChange::Put(path.to_owned(), Node::Dir));
        }
        match self.live.get(dir) {
            Some(Node::File(_)) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            _ => Ok(()),
        }
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !is_root(dir) && !matches!(self.live.get(dir), Some(Node::Dir)) {
            return Err(not_found());
        }
        let inside = self.live.keys().filter(|path| parent(path) == dir);
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<Arc<Inode>> {
        if mode != OpenMode::CreateNew {
            return self.file(path).ok_or_else(not_found);
        }
        if self.exists(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        if !is_root(parent(path)) && !matches!(self.live.get(parent(path)), Some(Node::Dir)) {
            return Err(not_found());
        }
        let inode = Arc::new(Inode::default());
        self.change(NameChange::Put(path.to_owned(), Node::File(inode.clone())));
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(node @ Node::File(_)) = self.live.get(from).cloned() else { return Err(not_found()) };
        self.change(NameChange::Moved(from.to_owned(), to.to_owned(), node));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path).ok_or_else(not_found)?;
        self.change(NameChange::Gone(path.to_owned()));
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if !matches!(self.live.get(path), Some(Node::Dir)) {
            return Err(not_found());
        }
        self.change(NameChange::Gone(path.to_owned()));
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.exists(dir) {
            return Err(not_found());
        }
        let (covered, rest) = std::mem::take(&mut self.pending).into_iter().partition(|change| change.dir() == dir);
        self.pending = rest;
        for change in covered {
            change.apply(&mut self.durable);
        }
        Ok(())
    }

    /// A sync of a directory that failed: some of its changes are on disk, the others never will be.
    pub(super) fn fail_sync_dir(&mut self, dir: &Path) {
        let (covered, rest): (Vec<_>, _) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.dir() == dir);
        self.pending = rest;
        for change in covered {
            if self.entropy.below(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
    }
}

/// The bytes of one file.
#[derive(Debug, Default)]
pub(super) struct Inode {
    state: Mutex<InodeState>,
}

#[derive(Debug, Default)]
struct InodeState {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.state.lock().live.len() as u64
    }

    pub(super) fn live(&self) -> Vec<u8> {
        self.state.lock().live.clone()
    }

    /// Bytes by which a write there would lengthen the file.
    pub(super) fn growth(&self, offset: u64, length: usize) -> u64 {
        offset.saturating_add(length as u64).saturating_sub(self.len())
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let state = self.state.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let range = start..start.saturating_add(length);
        state.live.get(range).map(Bytes::copy_from_slice).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX / 2);
        let mut state = self.state.lock();
        put(&mut state.live, offset, bytes);
        state.pending.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut state = self.state.lock();
        state.live.resize(length, 0);
        state.pending.push(Change::Length(length));
        Ok(())
    }

    pub(super) fn damage(&self, offset: usize, bytes: &[u8]) {
        let mut state = self.state.lock();
        put(&mut state.live, offset, bytes);
        put(&mut state.durable, offset, bytes);
    }

    pub(super) fn sync(&self) {
        let state = &mut *self.state.lock();
        for change in state.pending.drain(..) {
            match change {
                Change::Write(offset, bytes) => put(&mut state.durable, offset, &bytes),
                Change::Length(length) => state.durable.resize(length, 0),
            }
        }
    }

    /// Decides for each change that is not durable what of it reaches the disk, and forgets the rest.
    pub(super) fn settle(&self, entropy: &Entropy) {
        let state = &mut *self.state.lock();
        for change in state.pending.drain(..) {
            match change {
                Change::Write(offset, bytes) => put_torn(&mut state.durable, offset, &bytes, entropy),
                Change::Length(length) => {
                    if entropy.below(2) == 0 {
                        state.durable.resize(length, 0);
                    }
                }
            }
        }
    }

    pub(super) fn power_cut(&self, entropy: &Entropy) {
        self.settle(entropy);
        let mut state = self.state.lock();
        state.live = state.durable.clone();
    }
}

fn put(into: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[offset..end].copy_from_slice(bytes);
}

fn put_torn(into: &mut Vec<u8>, offset: usize, bytes: &[u8], entropy: &Entropy) {
    match entropy.below(5) {
        0 => {}
        1 => put(into, offset, bytes),
        // A prefix that ends at any byte.
        2 => {
            let kept = usize::try_from(entropy.below(bytes.len() as u64 + 1)).unwrap_or(0);
            put(into, offset, &bytes[..kept]);
        }
        // Any choice of sectors; in half of the cases all but one.
        kind => {
            let sectors = (offset + bytes.len()) / SECTOR_BYTES - offset / SECTOR_BYTES + 1;
            let missing = entropy.below(sectors as u64);
            let mut at = 0;
            let mut sector = 0;
            while at < bytes.len() {
                let until = bytes.len().min((offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset);
                let keep = if kind == 3 { sector != missing } else { entropy.below(2) == 0 };
                if keep {
                    put(into, offset + at, &bytes[at..until]);
                }
                at = until;
                sector += 1;
            }
        }
    }
}
