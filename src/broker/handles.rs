//! The text form of a receipt handle: opaque, versioned, authenticated. Anyone can carry it; only this broker's key makes one.
//!
//! ```text
//! base64url( version u8 | serial u8 | shard u32 | group u32 | topic u32 | queue u32 | offset u64 | attempt u32
//!          | grant u64 | lease_end u64 | order_key u64 | MAC 12 bytes )                         big-endian; MAC = HMAC-SHA256, cut
//! ```
//! `serial` only makes one text differ from another for the same delivery (rule C11).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::model::position::{GrantId, GroupId, QueueId, QueueOffset, ShardId, TopicId};
use crate::model::receipt::Receipt;
use crate::model::time::Timestamp;

const VERSION: u8 = 2;
const PLAIN_BYTES: usize = 54;
const MAC_BYTES: usize = 12;

/// Seals and opens receipt handles.
#[derive(Clone)]
pub struct Handles {
    keyed: Hmac<Sha256>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key must not reach a log.
        f.write_str("Handles")
    }
}

impl Handles {
    /// With the key of this cluster.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // HMAC takes keys of every length; the error cannot occur.
        let keyed = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("hmac takes any key"));
        Self { keyed }
    }

    /// An authenticated text of other bytes. Their first byte says what they are, and must not be that of a receipt.
    #[must_use]
    pub fn seal_bytes(&self, mut plain: Vec<u8>) -> String {
        let mut mac = self.keyed.clone();
        mac.update(&plain);
        plain.extend_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(plain)
    }

    /// What [`Handles::seal_bytes`] sealed; `None` for everything else.
    #[must_use]
    pub fn open_bytes(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = bytes.len().checked_sub(MAC_BYTES)?;
        let mut mac = self.keyed.clone();
        mac.update(&bytes[..plain]);
        mac.verify_truncated_left(&bytes[plain..]).ok()?;
        bytes.truncate(plain);
        Some(bytes)
    }

    /// The text of a receipt.
    #[must_use]
    pub fn seal(&self, receipt: &Receipt, serial: u8) -> String {
        let mut bytes = [0u8; PLAIN_BYTES + MAC_BYTES];
        bytes[0] = VERSION;
        bytes[1] = serial;
        bytes[2..6].copy_from_slice(&receipt.shard.get().to_be_bytes());
        bytes[6..10].copy_from_slice(&receipt.group.get().to_be_bytes());
        bytes[10..14].copy_from_slice(&receipt.topic.get().to_be_bytes());
        bytes[14..18].copy_from_slice(&receipt.queue.get().to_be_bytes());
        bytes[18..26].copy_from_slice(&receipt.offset.get().to_be_bytes());
        bytes[26..30].copy_from_slice(&receipt.attempt.to_be_bytes());
        bytes[30..38].copy_from_slice(&receipt.grant.get().to_be_bytes());
        bytes[38..46].copy_from_slice(&receipt.lease_end.millis().to_be_bytes());
        bytes[46..54].copy_from_slice(&receipt.order_key.to_be_bytes());
        let mut mac = self.keyed.clone();
        mac.update(&bytes[..PLAIN_BYTES]);
        bytes[PLAIN_BYTES..].copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The receipt and serial of a text that this key made; `None` for everything else.
    #[must_use]
    pub fn open(&self, text: &str) -> Option<(Receipt, u8)> {
        let mut bytes = [0u8; PLAIN_BYTES + MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if length != bytes.len() || bytes[0] != VERSION {
            return None;
        }
        let (plain, tag) = bytes.split_at(PLAIN_BYTES);
        let mut mac = self.keyed.clone();
        mac.update(plain);
        mac.verify_truncated_left(tag).ok()?;
        let u32_at = |at: usize| u32::from_be_bytes([plain[at], plain[at + 1], plain[at + 2], plain[at + 3]]);
        let u64_at = |at: usize| (u64::from(u32_at(at)) << 32) | u64::from(u32_at(at + 4));
        let receipt = Receipt {
            shard: ShardId(u32_at(2)),
            group: GroupId(u32_at(6)),
            topic: TopicId(u32_at(10)),
            queue: QueueId(u32_at(14)),
            offset: QueueOffset(u64_at(18)),
            attempt: u32_at(26),
            grant: GrantId(u64_at(30)),
            lease_end: Timestamp(u64_at(38)),
            order_key: u64_at(46),
        };
        Some((receipt, plain[1]))
    }
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
}
