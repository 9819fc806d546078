//! Whose data a directory holds. A broker's shard and a route service's knowledge are no good to anybody else: a process that
//! finds another's refuses to start, with words.
//!
//! `DIR/cluster.id` says whose it is, in one line; the data of a server that stands alone has none. `DIR/receipt.keys` holds the
//! keys of receipt handles as a broker last heard of them, so that it can serve while the route service is away. `DIR/broker.id`
//! tells a broker's directory from any other, also from one under the same name. `DIR/route.known` says how far a broker has followed
//! the route service, which tells by it whether its own data are older than that.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::cluster::{ClusterId, HolderId, Lineage, ReceiptKey};
use crate::model::position::ShardId;
use crate::runtime::entropy::Entropy;
use crate::store::files::{Files, create_dir_durably, read_small, write_small_durably};

const OWNER_FILE: &str = "cluster.id";
const KEYS_FILE: &str = "receipt.keys";
const FOLLOWED_FILE: &str = "route.known";
const FOLLOWED_WORDS: &str = "bolide route service followed to start ";
const HOLDER_FILE: &str = "broker.id";
const HOLDER_WORDS: &str = "bolide broker directory ";
/// Every directory that was ever used has it.
const USED_FILE: &str = "format";
const ROUTE_WORDS: &str = "bolide route service";

/// Why a directory cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It is somebody else's.
    #[error("the data directory {dir} is {found}; {wanted} needs its own")]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        wanted: String,
    },
    /// The route service does not know the directory's broker as the directory does.
    #[error(
        "the data directory {dir} is {found}, but the route service calls {name} {told}: is this the directory of another \
         broker or cluster, or was the data of the route service lost?"
    )]
    Strange {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Name of this broker.
        name: String,
        /// What it should be.
        told: String,
    },
    /// A file holds something else.
    #[error("{0} was not written by this program, or by a newer one")]
    Malformed(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A broker's place in its cluster, given once and for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub cluster: ClusterId,
    pub shard: ShardId,
}

/// Whose data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Route,
    Broker { name: String, place: Place },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of cluster {}", self.shard, self.cluster)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route => f.write_str("a route service's"),
            Self::Broker { name, place } => write!(f, "that of broker {name}, {place}"),
        }
    }
}

impl Owner {
    fn text(&self) -> String {
        match self {
            Self::Route => format!("{ROUTE_WORDS}\n"),
            Self::Broker { name, place } => format!("bolide broker {place}: {name}\n"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == ROUTE_WORDS {
            return Some(Self::Route);
        }
        let (shard, rest) = text.strip_prefix("bolide broker shard ")?.split_once(" of cluster ")?;
        let (cluster, name) = rest.split_once(": ")?;
        let cluster = ClusterId(u128::from_str_radix(cluster, 16).ok()?);
        Some(Self::Broker { name: name.to_owned(), place: Place { cluster, shard: ShardId(shard.parse().ok()?) } })
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { path, source }
}

fn owner(files: &dyn Files, dir: &Path) -> Result<Option<Owner>, IdentityError> {
    let path = dir.join(OWNER_FILE);
    if !files.exists(&path) {
        return Ok(None);
    }
    let text = read_small(files, &path).map_err(io_error(&path))?;
    let owner = std::str::from_utf8(&text).ok().and_then(Owner::parse);
    owner.map(Some).ok_or(IdentityError::Malformed(path))
}

fn claim(files: &dyn Files, dir: &Path, owner: &Owner) -> Result<(), IdentityError> {
    create_dir_durably(files, dir).map_err(io_error(dir))?;
    let path = dir.join(OWNER_FILE);
    write_small_durably(files, &path, owner.text().as_bytes()).map_err(io_error(&path))
}

fn not_ours(dir: &Path, found: &impl fmt::Display, wanted: &str) -> IdentityError {
    IdentityError::NotOurs { dir: dir.to_owned(), found: found.to_string(), wanted: wanted.to_owned() }
}

/// What is said of data that nobody put a name to.
const ALONE: &str = "that of a server that stands alone (bolide standalone)";

/// For a server that stands alone.
///
/// # Errors
/// The directory is a role's of a cluster.
pub(super) fn check_alone(files: &dyn Files, dir: &Path) -> Result<(), IdentityError> {
    match owner(files, dir)? {
        None => Ok(()),
        Some(found) => Err(not_ours(dir, &found, "bolide standalone")),
    }
}

/// Takes the directory for a route service, unless it is somebody else's.
///
/// # Errors
/// It is.
pub(super) fn claim_for_route(files: &dyn Files, dir: &Path) -> Result<(), IdentityError> {
    match owner(files, dir)? {
        Some(Owner::Route) => Ok(()),
        Some(found) => Err(not_ours(dir, &found, "bolide route")),
        None if files.exists(&dir.join(USED_FILE)) => Err(not_ours(dir, &ALONE, "bolide route")),
        None => claim(files, dir, &Owner::Route),
    }
}

/// The place of broker `name` as its directory knows it; `None`: it is new.
///
/// # Errors
/// The directory is somebody else's.
pub(super) fn place_of(files: &dyn Files, dir: &Path, name: &str) -> Result<Option<Place>, IdentityError> {
    let wanted = format!("broker {name}");
    match owner(files, dir)? {
        Some(Owner::Broker { name: theirs, place }) if theirs == name => Ok(Some(place)),
        Some(found) => Err(not_ours(dir, &found, &wanted)),
        None if files.exists(&dir.join(USED_FILE)) => Err(not_ours(dir, &ALONE, &wanted)),
        None => Ok(None),
    }
}

/// Compares what the route service says with what the directory knows, and writes it down the first time.
///
/// # Errors
/// They differ.
pub(super) fn settle(files: &dyn Files, dir: &Path, name: &str, told: &Place) -> Result<(), IdentityError> {
    match place_of(files, dir, name)? {
        Some(known) if known == *told => Ok(()),
        Some(known) => Err(IdentityError::Strange {
            dir: dir.to_owned(),
            found: Owner::Broker { name: name.to_owned(), place: known }.to_string(),
            name: name.to_owned(),
            told: told.to_string(),
        }),
        None => claim(files, dir, &Owner::Broker { name: name.to_owned(), place: told.clone() }),
    }
}

/// What tells this directory from any other; drawn, and on stable storage, before anybody hears of it.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub(super) fn holder(files: &dyn Files, dir: &Path, entropy: &Entropy) -> Result<HolderId, IdentityError> {
    let path = dir.join(HOLDER_FILE);
    if files.exists(&path) {
        let text = read_small(files, &path).map_err(io_error(&path))?;
        let digits = std::str::from_utf8(&text).ok().and_then(|text| text.trim().strip_prefix(HOLDER_WORDS));
        let id = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        return id.map(HolderId).ok_or(IdentityError::Malformed(path));
    }
    let mut id = [0; 16];
    entropy.fill(&mut id);
    let id = HolderId(u128::from_be_bytes(id));
    create_dir_durably(files, dir).map_err(io_error(dir))?;
    write_small_durably(files, &path, format!("{HOLDER_WORDS}{id}\n").as_bytes()).map_err(io_error(&path))?;
    Ok(id)
}

/// How far the route service was followed; `None`: nothing was heard yet of one that tells.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(super) fn followed(files: &dyn Files, dir: &Path) -> Result<Option<Lineage>, IdentityError> {
    let path = dir.join(FOLLOWED_FILE);
    if !files.exists(&path) {
        return Ok(None);
    }
    let text = read_small(files, &path).map_err(io_error(&path))?;
    let known = || {
        let rest = std::str::from_utf8(&text).ok()?.trim().strip_prefix(FOLLOWED_WORDS)?;
        let (start, rest) = rest.split_once(' ')?;
        let (life, changes) = rest.split_once(' ')?;
        let life = u64::from_str_radix(life, 16).ok()?;
        Some(Lineage { start: start.parse().ok()?, life, changes: changes.parse().ok()? })
    };
    known().map(Some).ok_or_else(|| IdentityError::Malformed(path.clone()))
}

/// Writes down how far the route service was followed.
///
/// # Errors
/// The file cannot be written.
pub(super) fn keep_followed(files: &dyn Files, dir: &Path, known: Lineage) -> Result<(), IdentityError> {
    let Lineage { start, life, changes } = known;
    let path = dir.join(FOLLOWED_FILE);
    let text = format!("{FOLLOWED_WORDS}{start} {life:016x} {changes}\n");
    write_small_durably(files, &path, text.as_bytes()).map_err(io_error(&path))
}

/// The keys of receipt handles as they were last heard of; none when nothing was heard yet.
///
/// # Errors
/// The file cannot be read.
pub(super) fn receipt_keys(files: &dyn Files, dir: &Path) -> Result<Vec<ReceiptKey>, IdentityError> {
    let path = dir.join(KEYS_FILE);
    if !files.exists(&path) {
        return Ok(Vec::new());
    }
    let text = read_small(files, &path).map_err(io_error(&path))?;
    let text = std::str::from_utf8(&text).map_err(|_| IdentityError::Malformed(path.clone()))?;
    let keys: Option<Vec<ReceiptKey>> = text.lines().map(key).collect();
    keys.ok_or(IdentityError::Malformed(path))
}

fn key(line: &str) -> Option<ReceiptKey> {
    let (id, digits) = line.split_once(' ')?;
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() || !digits.is_ascii() {
        return None;
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(ReceiptKey { id: id.parse().ok()?, key })
}

/// Writes the keys down.
///
/// # Errors
/// The file cannot be written.
pub(super) fn keep_receipt_keys(files: &dyn Files, dir: &Path, keys: &[ReceiptKey]) -> Result<(), IdentityError> {
    use fmt::Write as _;
    let mut text = String::new();
    for ReceiptKey { id, key } in keys {
        let _ = write!(text, "{id} ");
        for byte in key {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    let path = dir.join(KEYS_FILE);
    write_small_durably(files, &path, text.as_bytes()).map_err(io_error(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::memory::MemoryFiles;

    const DIR: &str = "data";

    fn place(shard: u32) -> Place {
        Place { cluster: ClusterId(0xabc << 100), shard: ShardId(shard) }
    }

    #[test]
    fn a_broker_finds_its_place_again_and_nobody_else_takes_its_data() {
        let files = MemoryFiles::new(1).life();
        let (files, dir) = (&*files, Path::new(DIR));
        assert_eq!(place_of(files, dir, "b: 1").unwrap(), None);
        settle(files, dir, "b: 1", &place(3)).unwrap();
        assert_eq!(place_of(files, dir, "b: 1").unwrap(), Some(place(3)));
        settle(files, dir, "b: 1", &place(3)).unwrap();
        let strange = settle(files, dir, "b: 1", &place(4)).unwrap_err().to_string();
        assert!(strange.contains("shard 3") && strange.contains("shard 4"), "{strange}");
        let other = place_of(files, dir, "b2").unwrap_err().to_string();
        assert!(other.contains("broker b: 1, shard 3"), "{other}");
        assert!(check_alone(files, dir).is_err());
        assert!(claim_for_route(files, dir).is_err());
    }

    #[test]
    fn data_of_a_server_that_stands_alone_is_no_role_s_and_the_route_service_s_only_its_own() {
        let files = MemoryFiles::new(1).life();
        let (files, dir) = (&*files, Path::new(DIR));
        create_dir_durably(files, dir).unwrap();
        write_small_durably(files, &dir.join(USED_FILE), b"bolide data format 1\n").unwrap();
        check_alone(files, dir).unwrap();
        assert!(claim_for_route(files, dir).unwrap_err().to_string().contains("stands alone"));
        assert!(place_of(files, dir, "b").unwrap_err().to_string().contains("stands alone"));
        let dir = Path::new("other");
        claim_for_route(files, dir).unwrap();
        claim_for_route(files, dir).unwrap();
        assert!(place_of(files, dir, "b").unwrap_err().to_string().contains("a route service's"));
        write_small_durably(files, &dir.join(OWNER_FILE), b"something else\n").unwrap();
        assert!(matches!(claim_for_route(files, dir), Err(IdentityError::Malformed(_))));
    }

    #[test]
    fn a_directory_keeps_what_tells_it_from_others_and_no_two_have_the_same() {
        let files = MemoryFiles::new(1).life();
        let (files, entropy) = (&*files, Entropy::seeded(1));
        let first = holder(files, Path::new("a"), &entropy).unwrap();
        assert_ne!(holder(files, Path::new("b"), &entropy).unwrap(), first);
        assert_eq!(holder(files, Path::new("a"), &Entropy::seeded(9)).unwrap(), first);
        assert_eq!(place_of(files, Path::new("a"), "b").unwrap(), None, "it has no place yet");
        write_small_durably(files, &Path::new("a").join(HOLDER_FILE), b"something else\n").unwrap();
        assert!(matches!(holder(files, Path::new("a"), &entropy), Err(IdentityError::Malformed(_))));
    }

    #[test]
    fn how_far_the_route_service_was_followed_is_found_again_and_a_damaged_file_is_refused() {
        let files = MemoryFiles::new(1).life();
        let (files, dir) = (&*files, Path::new(DIR));
        create_dir_durably(files, dir).unwrap();
        assert_eq!(followed(files, dir).unwrap(), None);
        let known = Lineage { start: 3, life: u64::MAX - 1, changes: 17 };
        keep_followed(files, dir, known).unwrap();
        assert_eq!(followed(files, dir).unwrap(), Some(known));
        write_small_durably(files, &dir.join(FOLLOWED_FILE), b"3 17\n").unwrap();
        assert!(matches!(followed(files, dir), Err(IdentityError::Malformed(_))));
    }

    #[test]
    fn keys_are_found_again_in_their_order_and_a_damaged_file_is_refused() {
        let files = MemoryFiles::new(1).life();
        let (files, dir) = (&*files, Path::new(DIR));
        create_dir_durably(files, dir).unwrap();
        assert_eq!(receipt_keys(files, dir).unwrap(), []);
        let keys = [ReceiptKey { id: 7, key: [0xfe; 32] }, ReceiptKey { id: 6, key: [1; 32] }];
        keep_receipt_keys(files, dir, &keys).unwrap();
        assert_eq!(receipt_keys(files, dir).unwrap(), keys);
        write_small_durably(files, &dir.join(KEYS_FILE), b"7 fe\n").unwrap();
        assert!(matches!(receipt_keys(files, dir), Err(IdentityError::Malformed(_))));
    }
}
