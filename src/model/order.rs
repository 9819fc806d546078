//! What a message group means: one number that stands for it, and the queue it lives in.

use crate::model::position::QueueId;

/// Begins FNV-1a over 64 bits.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The number that stands for a message group; 0 for none. Two groups that share a number share their order: stricter than
/// asked for, never weaker.
#[must_use]
pub fn order_key(message_group: &str) -> u64 {
    if message_group.is_empty() {
        return 0;
    }
    let hash = message_group.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    hash.max(1)
}

/// The queue of a message group, the same on every node. When the number of queues grows from `n` to `m`, only `(m - n) / m` of
/// the groups move, and only to the new queues (jump consistent hash).
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "below 2^32")]
pub fn queue_of(order_key: u64, queues: u32) -> QueueId {
    let mut state = mixed(order_key);
    let (mut chosen, mut jump) = (0u64, 0u64);
    while jump < u64::from(queues.max(1)) {
        chosen = jump;
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let part = ((state >> 33) + 1) as f64;
        jump = ((chosen + 1) as f64 * ((1u64 << 31) as f64 / part)) as u64;
    }
    QueueId(u32::try_from(chosen).unwrap_or(0))
}

/// FNV leaves groups that differ in their last character close together; the jump needs all bits.
fn mixed(mut key: u64) -> u64 {
    key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_no_order_and_a_group_is_never_taken_for_none() {
        assert_eq!(order_key(""), 0);
        assert_ne!(order_key("a"), 0);
        assert_ne!(order_key("a"), order_key("b"));
    }

    #[test]
    fn a_group_keeps_its_queue_or_moves_to_a_new_one_when_queues_are_added() {
        let mut moved = 0;
        for number in 0..10_000u32 {
            let key = order_key(&format!("order-{number}"));
            let (before, after) = (queue_of(key, 8), queue_of(key, 10));
            assert!(before.get() < 8);
            if before != after {
                assert!(after.get() >= 8, "{before} -> {after}");
                moved += 1;
            }
        }
        assert!((1_700..2_300).contains(&moved), "{moved}");
    }

    #[test]
    fn groups_spread_evenly_over_the_queues() {
        let mut counts = [0u32; 8];
        for number in 0..8_000u32 {
            counts[queue_of(order_key(&format!("g{number}")), 8).get() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(queue_of(7, 0), QueueId(0));
    }
}
