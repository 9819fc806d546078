//! The order of shards: what is taken, what waits, and that no two shards wait for each other.

use super::*;
use crate::model::cluster::PastPlacement;

const SHARDS: [ShardId; 3] = [ShardId(0), ShardId(1), ShardId(2)];

fn shards(ids: &[u32]) -> Vec<ShardId> {
    ids.iter().copied().map(ShardId).collect()
}

fn placement(generation: u32, now: &[u32], moving: Option<&[u32]>, past: &[(u32, &[u32])]) -> Arc<Placement> {
    let past = past.iter().map(|(generation, ids)| PastPlacement { generation: *generation, shards: shards(ids) });
    Arc::new(Placement { generation, shards: shards(now), moving: moving.map(shards), past: past.collect() })
}

/// A message group that belongs to these shards under these orders.
fn key_of(orders: &[(&[u32], u32)]) -> u64 {
    let fits = |key: &u64| orders.iter().all(|(ids, id)| owner(*key, &shards(ids)) == Some(ShardId(*id)));
    (1..100_000).find(fits).unwrap()
}

#[test]
fn a_message_group_is_taken_by_one_shard_at_a_time_whatever_each_of_them_knows() {
    let steps = [
        placement(0, &[0, 1], None, &[]),
        placement(1, &[0, 1], Some(&[0, 1, 2]), &[]),
        placement(1, &[0, 1, 2], None, &[(1, &[0, 1])]),
    ];
    // Everybody seals before the order changes, so nobody is two steps apart there.
    for behind in 0..2 {
        for key in 1..500 {
            for mask in 0..8u32 {
                let takers = SHARDS.iter().filter(|shard| {
                    let at = behind + usize::from(mask >> shard.get() & 1 == 1);
                    ShardOrder::new(**shard, steps[at].clone(), []).takes(key)
                });
                assert!(takers.count() <= 1, "{key} at {behind} with {mask:b}");
            }
        }
    }
    let order = |own, step: usize| ShardOrder::new(ShardId(own), steps[step].clone(), []);
    assert!(order(0, 0).takes(0) && !order(2, 0).takes(0), "without a message group wherever the topic is");
    assert!(order(2, 1).takes(0) && order(2, 2).takes(0));
    assert!(ShardOrder::default().takes(7), "alone");
}

#[test]
fn what_came_before_an_order_waits_for_nothing_of_it_and_what_came_after_does() {
    // Under 0 and 1, then 1 and 2, now 0 and 1: the message group was here, then on shard 2, and came back.
    let key = key_of(&[(&[0, 1], 0), (&[1, 2], 2)]);
    let first = ShardOrder::default();
    let moving = first.followed_by(ShardId(0), placement(1, &[0, 1], Some(&[1, 2]), &[]), &[QueueOffset(5)]);
    assert_eq!(moving.fences(1), Some(&[QueueOffset(5)][..]));
    let gone = moving.followed_by(ShardId(0), placement(1, &[1, 2], None, &[(1, &[0, 1])]), &[QueueOffset(9)]);
    assert_eq!(gone.fences(1), Some(&[QueueOffset(5)][..]), "sealed once");
    let back = placement(2, &[0, 1], None, &[(1, &[0, 1]), (2, &[1, 2])]);
    let back = gone.followed_by(ShardId(0), back, &[QueueOffset(9)]);
    assert_eq!(back.seals().len(), 1, "it was not in the order that ended last");
    let mut done = FarDone::default();
    let gate = Some(Gate::Shard { generation: 2, shard: ShardId(2) });
    assert_eq!(back.gate_of(key, 0, QueueOffset(4), &done), None);
    assert_eq!(back.gate_of(key, 0, QueueOffset(5), &done), gate);
    assert_eq!(back.gate_of(key, 1, QueueOffset(0), &done), gate, "a queue that came later holds what came later");
    done.add(2, key);
    assert_eq!(back.gate_of(key, 0, QueueOffset(5), &done), None);
    // Shard 2 waits for what was here, and not for itself.
    let other = ShardOrder::default().followed_by(ShardId(2), placement(1, &[1, 2], None, &[(1, &[0, 1])]), &[]);
    let gate = Some(Gate::Shard { generation: 1, shard: ShardId(0) });
    assert_eq!(other.gate_of(key, 0, QueueOffset(0), &FarDone::default()), gate);
}

#[test]
fn a_move_that_was_given_up_leaves_no_seal() {
    let moving =
        ShardOrder::default().followed_by(ShardId(0), placement(1, &[0, 1], Some(&[1]), &[]), &[QueueOffset(5)]);
    let given_up = moving.followed_by(ShardId(0), placement(2, &[0, 1], None, &[]), &[QueueOffset(6)]);
    assert!(given_up.seals().is_empty());
    let again = given_up.followed_by(ShardId(0), placement(3, &[0, 1], Some(&[1]), &[]), &[QueueOffset(7)]);
    assert_eq!(again.fences(3), Some(&[QueueOffset(7)][..]));
}

#[test]
fn what_is_known_of_other_shards_is_bounded_and_forgotten_with_its_order() {
    let mut done = FarDone::default();
    for key in 1..=DONE_MAX as u64 + 3 {
        done.add(1, key);
    }
    let has = |done: &FarDone, key| done.has(1, ShardId(0), key);
    assert!(!has(&done, 3) && has(&done, 4), "the oldest go");
    assert_eq!((done.lanes.len(), done.order.len()), (DONE_MAX, DONE_MAX));
    done.add_whole(1, ShardId(0));
    assert!(has(&done, 3));
    done.retain(&ShardOrder::new(ShardId(1), placement(1, &[1], None, &[(1, &[0])]), []));
    assert!(has(&done, 3));
    done.retain(&ShardOrder::new(ShardId(1), placement(1, &[1], None, &[]), []));
    assert!(!has(&done, 4) && done.order.is_empty());
}
