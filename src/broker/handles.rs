//! The text form of a receipt handle: opaque, versioned, authenticated. Anyone can carry it; only a key of the ring makes one.
//!
//! ```text
//! base64url( version u8 | serial u8 | key u8 | shard u32 | group u32 | topic u32 | queue u32 | offset u64 | attempt u32
//!          | grant u64 | lease_end u64 | order_key u64 | MAC 12 bytes )                         big-endian; MAC = HMAC-SHA256, cut
//! ```
//! `serial` only makes one text differ from another for the same delivery (rule C11). `key` says which key of the ring made
//! it; texts of version 2 have no such byte, and are of key 0.
//!
//! The text of a recall names its shard as well:
//!
//! ```text
//! base64url( 'R' | key u8 | shard u32 | what the recall needs | MAC 12 bytes )                  'r' in place of 'R' and key: of key 0
//! ```

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::model::cluster::ReceiptKey;
use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, ShardId, TopicId};
use crate::model::receipt::Receipt;
use crate::model::time::Timestamp;

const VERSION: u8 = 3;
const VERSION_BEFORE_KEYS: u8 = 2;
/// Version, serial and key.
const HEAD_BYTES: usize = 3;
const RECEIPT_BYTES: usize = 52;
const PLAIN_BYTES: usize = HEAD_BYTES + RECEIPT_BYTES;
const MAC_BYTES: usize = 12;
/// First byte of a recall handle; a receipt has another.
const RECALL: u8 = b'R';
const RECALL_BEFORE_KEYS: u8 = b'r';
/// The key of a broker that stands alone.
const OWN_KEY: u8 = 0;

/// Seals and opens receipt handles. Cheap to clone.
#[derive(Clone)]
pub struct Handles {
    /// The first one seals.
    keys: Arc<[(u8, Hmac<Sha256>)]>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The keys must not reach a log.
        write!(f, "Handles({:?})", self.keys.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    }
}

impl Handles {
    /// With the key of a broker that stands alone.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self::ring(&[ReceiptKey { id: OWN_KEY, key: *key }])
    }

    /// With the keys of a cluster: the first makes handles, all open them. Without any, nothing is made and nothing opens.
    #[must_use]
    pub fn ring(keys: &[ReceiptKey]) -> Self {
        let keyed = |key: &ReceiptKey| {
            // HMAC takes keys of every length; the error cannot occur.
            let mac = Hmac::<Sha256>::new_from_slice(&key.key).unwrap_or_else(|_| unreachable!("hmac takes any key"));
            (key.id, mac)
        };
        Self { keys: keys.iter().map(keyed).collect() }
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The text of a recall: `plain` begins with the shard.
    #[must_use]
    pub fn seal_recall(&self, plain: &[u8]) -> String {
        let Some((id, mac)) = self.keys.first() else { return String::new() };
        let mut bytes = Vec::with_capacity(2 + plain.len() + MAC_BYTES);
        bytes.extend_from_slice(&[RECALL, *id]);
        bytes.extend_from_slice(plain);
        let mut mac = mac.clone();
        mac.update(&bytes);
        bytes.extend_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What [`Handles::seal_recall`] sealed; `None` for everything else.
    #[must_use]
    pub fn open_recall(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let end = bytes.len().checked_sub(MAC_BYTES)?;
        let (id, head) = recall_head(&bytes[..end])?;
        self.verify(id, &bytes[..end], &bytes[end..])?;
        bytes.truncate(end);
        bytes.drain(..head);
        Some(bytes)
    }

    /// The shard that a recall handle names. Unverified: whoever acts on it opens the handle.
    #[must_use]
    pub fn shard_of_recall(text: &str) -> Option<ShardId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (_, head) = recall_head(&bytes)?;
        shard_at(&bytes, head)
    }

    /// The text of a receipt.
    #[must_use]
    pub fn seal(&self, receipt: &Receipt, serial: u8) -> String {
        self.keys.first().map_or_else(String::new, |key| seal_with(key, receipt, serial))
    }

    /// The receipt and serial of a text that a key of the ring made; `None` for everything else.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<(Receipt, u8)> {
        let (bytes, length) = receipt_bytes(text)?;
        let (plain, tag) = bytes[..length].split_at(length - MAC_BYTES);
        let id = key_of(plain);
        self.verify(id, plain, tag)?;
        let serial = plain[1];
        let plain = &plain[plain.len() - RECEIPT_BYTES..];
        let u32_at = |at: usize| u32::from_be_bytes([plain[at], plain[at + 1], plain[at + 2], plain[at + 3]]);
        let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
        let receipt = Receipt {
            shard: ShardId(u32_at(0)),
            group: GroupId(u32_at(4)),
            topic: TopicId(u32_at(8)),
            queue: QueueId(u32_at(12)),
            offset: QueueOffset(u64_at(16)),
            attempt: u32_at(24),
            grant: GrantId(u64_at(28)),
            lease_end: Timestamp(u64_at(36)),
            order_key: u64_at(44),
        };
        Some((receipt, serial))
    }

    /// The shard that a receipt handle names. Unverified: whoever acts on it opens the handle.
    #[must_use]
    pub fn shard_of(text: &str) -> Option<ShardId> {
        let (bytes, length) = receipt_bytes(text)?;
        shard_at(&bytes, length - MAC_BYTES - RECEIPT_BYTES)
    }

    /// Whether a text has the shape of a receipt handle under a key that is not in the ring: it may be genuine.
    #[must_use]
    pub fn is_of_other_key(&self, text: &str) -> bool {
        let Some((bytes, _)) = receipt_bytes(text) else { return false };
        let id = key_of(&bytes);
        self.keys.iter().all(|(known, _)| *known != id)
    }

    /// A different, never empty text for a handle: the same delivery if it is one of ours. Under the same key: a proxy may know of
    /// a newer one before the broker that is to open the text does.
    #[must_use]
    pub fn another_text(&self, handle: &str) -> String {
        match self.open(handle) {
            Some((receipt, serial)) => {
                let made_by = receipt_bytes(handle).map(|(bytes, _)| key_of(&bytes));
                let key = self.keys.iter().find(|(id, _)| Some(*id) == made_by);
                key.map_or_else(String::new, |key| seal_with(key, &receipt, serial.wrapping_add(1)))
            }
            // Bounded, so that a client cannot make its own text grow by repeating this.
            None => format!("invalid-{}", handle.chars().take(64).collect::<String>()),
        }
    }

    fn verify(&self, id: u8, plain: &[u8], tag: &[u8]) -> Option<()> {
        let (_, mac) = self.keys.iter().find(|(known, _)| *known == id)?;
        let mut mac = mac.clone();
        mac.update(plain);
        mac.verify_truncated_left(tag).ok()
    }
}

fn seal_with((id, mac): &(u8, Hmac<Sha256>), receipt: &Receipt, serial: u8) -> String {
    let mut bytes = [0u8; PLAIN_BYTES + MAC_BYTES];
    bytes[..HEAD_BYTES].copy_from_slice(&[VERSION, serial, *id]);
    let plain = &mut bytes[HEAD_BYTES..];
    plain[0..4].copy_from_slice(&receipt.shard.get().to_be_bytes());
    plain[4..8].copy_from_slice(&receipt.group.get().to_be_bytes());
    plain[8..12].copy_from_slice(&receipt.topic.get().to_be_bytes());
    plain[12..16].copy_from_slice(&receipt.queue.get().to_be_bytes());
    plain[16..24].copy_from_slice(&receipt.offset.get().to_be_bytes());
    plain[24..28].copy_from_slice(&receipt.attempt.to_be_bytes());
    plain[28..36].copy_from_slice(&receipt.grant.get().to_be_bytes());
    plain[36..44].copy_from_slice(&receipt.lease_end.millis().to_be_bytes());
    plain[44..52].copy_from_slice(&receipt.order_key.to_be_bytes());
    let mut mac = mac.clone();
    mac.update(&bytes[..PLAIN_BYTES]);
    bytes[PLAIN_BYTES..].copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key that made a text, by what it says itself.
fn key_of(bytes: &[u8]) -> u8 {
    if bytes[0] == VERSION { bytes[2] } else { OWN_KEY }
}

/// The bytes of a receipt's text, if it has the shape of one, and how many they are.
fn receipt_bytes(text: &str) -> Option<([u8; PLAIN_BYTES + MAC_BYTES], usize)> {
    let mut bytes = [0u8; PLAIN_BYTES + MAC_BYTES];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    let expected = match bytes[0] {
        VERSION => PLAIN_BYTES + MAC_BYTES,
        VERSION_BEFORE_KEYS => PLAIN_BYTES - 1 + MAC_BYTES,
        _ => return None,
    };
    (length == expected).then_some((bytes, length))
}

/// The key of a recall's text, and where its content begins.
fn recall_head(bytes: &[u8]) -> Option<(u8, usize)> {
    match *bytes {
        [RECALL, id, ..] => Some((id, 2)),
        [RECALL_BEFORE_KEYS, ..] => Some((OWN_KEY, 1)),
        _ => None,
    }
}

fn shard_at(bytes: &[u8], at: usize) -> Option<ShardId> {
    let number = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(ShardId(u32::from_be_bytes(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            shard: ShardId(1),
            group: GroupId(2),
            topic: TopicId(3),
            queue: QueueId(4),
            offset: QueueOffset(u64::MAX - 5),
            attempt: 6,
            grant: GrantId(0x0102_0304_0506_0708),
            lease_end: Timestamp(1_700_000_000_000),
            order_key: 9,
        }
    }

    #[test]
    fn what_was_sealed_opens_and_two_serials_are_two_texts() {
        let handles = Handles::new(&[7; 32]);
        let first = handles.seal(&receipt(), 0);
        let second = handles.seal(&receipt(), 1);
        assert_ne!(first, second);
        assert_eq!(handles.open(&first), Some((receipt(), 0)));
        assert_eq!(handles.open(&second), Some((receipt(), 1)));
    }

    #[test]
    fn a_forged_or_foreign_or_malformed_text_does_not_open() {
        let handles = Handles::new(&[7; 32]);
        let text = handles.seal(&receipt(), 0);
        assert_eq!(Handles::new(&[8; 32]).open(&text), None);
        for index in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(handles.open(&forged), None, "changed at {index}");
        }
        for bad in ["", "x", "not base64 at all!", &text[1..], &format!("{text}A")] {
            assert_eq!(handles.open(bad), None);
        }
    }

    fn key(id: u8) -> ReceiptKey {
        ReceiptKey { id, key: [id; 32] }
    }

    #[test]
    fn handles_of_before_a_rotation_open_and_new_ones_are_made_with_the_new_key() {
        let (before, after) = (Handles::ring(&[key(1)]), Handles::ring(&[key(2), key(1)]));
        let old = before.seal(&receipt(), 0);
        assert_eq!(after.open(&old), Some((receipt(), 0)));
        let new = after.seal(&receipt(), 1);
        assert_eq!((after.open(&new), before.open(&new)), (Some((receipt(), 1)), None));
        let another = after.another_text(&old);
        assert_ne!(another, old);
        assert_eq!(before.open(&another), Some((receipt(), 1)), "its broker may not have heard of the new key");
        assert_eq!(Handles::ring(&[key(2)]).open(&old), None, "a key that was taken away opens nothing");
        assert!(before.is_of_other_key(&new) && !after.is_of_other_key(&new) && !before.is_of_other_key("x"));
        assert_eq!(Handles::ring(&[ReceiptKey { id: 1, key: [3; 32] }]).open(&old), None, "the id alone is not enough");
        let recall = before.seal_recall(&[0, 0, 0, 7, 9]);
        assert_eq!(after.open_recall(&recall), Some(vec![0, 0, 0, 7, 9]));
        assert_eq!(Handles::ring(&[key(2)]).open_recall(&recall), None);
        assert_eq!(Handles::ring(&[]).seal(&receipt(), 0), "");
        assert_eq!(Handles::ring(&[]).open(&old), None);
    }

    #[test]
    fn texts_from_before_there_were_rings_still_open() {
        let handles = Handles::new(&[7; 32]);
        let new = URL_SAFE_NO_PAD.decode(handles.seal(&receipt(), 5)).unwrap();
        let sealed = |plain: Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
            mac.update(&plain);
            let tag = mac.finalize().into_bytes();
            URL_SAFE_NO_PAD.encode([&plain, &tag[..MAC_BYTES]].concat())
        };
        let old = sealed([&[2, 5], &new[HEAD_BYTES..PLAIN_BYTES]].concat());
        assert_eq!(handles.open(&old), Some((receipt(), 5)));
        assert_eq!(Handles::shard_of(&old), Some(ShardId(1)));
        let recall = sealed(vec![b'r', 0, 0, 0, 7, 9]);
        assert_eq!(handles.open_recall(&recall), Some(vec![0, 0, 0, 7, 9]));
        assert_eq!(Handles::shard_of_recall(&recall), Some(ShardId(7)));
    }

    #[test]
    fn the_shard_of_any_text_is_read_or_there_is_none() {
        let handles = Handles::ring(&[key(9)]);
        let (text, recall) = (handles.seal(&receipt(), 0), handles.seal_recall(&[0, 0, 0, 7, 9]));
        assert_eq!((Handles::shard_of(&text), Handles::shard_of_recall(&recall)), (Some(ShardId(1)), Some(ShardId(7))));
        assert_eq!((Handles::shard_of(&recall), Handles::shard_of_recall(&text)), (None, None));
        for bad in ["", "x", "Ug", "UgkAAA", "not base64 at all!", &text[1..], &format!("{text}A")] {
            assert_eq!((Handles::shard_of(bad), Handles::shard_of_recall(bad)), (None, None), "{bad}");
            assert_eq!(handles.open_recall(bad), None);
            assert!(handles.another_text(bad).starts_with("invalid-"));
        }
    }
}
