//! See the parent.

use std::sync::Arc;

use super::*;
use crate::model::cluster::Shard;
use crate::model::name::TopicName;
use crate::model::position::TopicId;
use crate::model::settings::{TopicSpec, new_topic};

fn topic(topic_type: TopicType) -> Topic {
    let spec = TopicSpec { topic_type: Some(topic_type), ..TopicSpec::default() };
    new_topic(TopicId(1), TopicName::trusted("", "t"), &spec).unwrap()
}

fn message(id: &str, group: &str, message_type: MessageType) -> NewMessage {
    NewMessage { message_id: id.into(), message_group: group.into(), message_type, ..NewMessage::default() }
}

fn shards(ids: &[u32]) -> Vec<ShardId> {
    ids.iter().copied().map(ShardId).collect()
}

fn view(draining: &[u32]) -> View {
    let shard = |id: u32| Shard {
        id: ShardId(id),
        name: format!("b{id}").into(),
        address: "".into(),
        version: "".into(),
        alive: true,
        draining: draining.contains(&id),
        holder: None,
    };
    View { shards: (0..4).map(|id| (ShardId(id), Arc::new(shard(id)))).collect(), ..View::default() }
}

#[test]
fn a_message_group_and_a_transaction_have_one_place_and_other_messages_any() {
    let placement = Placement::first(shards(&[0, 1, 2]));
    let mixed = topic(TopicType::Mixed);
    let place_of = |message: NewMessage| place(&mixed, &placement, &message).unwrap();
    let mut used = BTreeSet::new();
    for number in 0..50 {
        let group = format!("g{number}");
        let first = place_of(message("a", &group, MessageType::Fifo));
        assert_eq!(first, place_of(message("b", &group, MessageType::Fifo)), "order would be lost");
        assert_eq!(first, Place::Owner(owner(order_key(&group), &placement.shards).unwrap()));
        used.insert(first);
        let half = place_of(message(&group, "", MessageType::Transaction));
        assert_eq!(half, Place::Owner(transaction_owner(&group, &placement).unwrap()));
    }
    assert_eq!(used.len(), 3);
    assert_eq!(place_of(message("a", "", MessageType::Normal)), Place::Any);
    let nowhere = Placement::default();
    assert_eq!(place(&mixed, &nowhere, &message("a", "", MessageType::Normal)), None);
}

#[test]
fn priority_and_lite_go_to_their_one_shard_whatever_the_message_says() {
    let placement = Placement::first(shards(&[2]));
    for kind in [TopicType::Priority, TopicType::Lite] {
        let any = message("a", "", MessageType::Normal);
        assert_eq!(place(&topic(kind), &placement, &any), Some(Place::Owner(ShardId(2))));
    }
}

#[test]
fn a_request_is_split_by_owner_and_each_message_is_in_exactly_one_part() {
    let placement = Placement::first(shards(&[0, 1, 2]));
    let messages: Vec<NewMessage> = (0..30)
        .map(|number| {
            let group = if number % 3 == 0 { String::new() } else { format!("g{number}") };
            message(&number.to_string(), &group, MessageType::Fifo)
        })
        .collect();
    let all: Vec<usize> = (0..30).collect();
    let split = parts(&topic(TopicType::Mixed), &placement, &messages, &all).unwrap();
    let mut seen: Vec<usize> = split.iter().flat_map(|part| part.indices.clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, all);
    assert_eq!(split.len(), 3, "what may go anywhere goes along: {split:?}");
    assert!(split.iter().all(|part| part.indices.is_sorted()));
    for part in &split {
        for &index in part.indices.iter().filter(|&&index| index % 3 != 0) {
            assert_eq!(place(&topic(TopicType::Mixed), &placement, &messages[index]), Some(part.place));
        }
    }
    let free = parts(&topic(TopicType::Mixed), &placement, &messages, &[0, 3]).unwrap();
    assert_eq!(free, vec![Part { place: Place::Any, indices: vec![0, 3] }]);
}

#[test]
fn messages_for_any_shard_take_turns_and_pass_by_who_drains_or_is_away() {
    let placement = Placement::first(shards(&[0, 1, 2, 3]));
    let all = |_: ShardId| true;
    let firsts: BTreeSet<ShardId> = (0..8).map(|turn| turns(&placement, &view(&[1]), turn, all)[0]).collect();
    assert_eq!(firsts, shards(&[0, 2, 3]).into_iter().collect());
    for turn in 0..8 {
        let order = turns(&placement, &view(&[1]), turn, |shard| shard != ShardId(2));
        assert_eq!(order.len(), 3);
        assert_eq!(order[2], ShardId(2), "who seems away comes last, but comes");
    }
    assert_eq!(turns(&placement, &view(&[0, 1, 2, 3]), 0, all).len(), 4, "to drain all of them stops no sender");
}

#[test]
fn one_look_suffices_while_every_shard_has_something() {
    let (ids, mut warmth) = (shards(&[0, 1, 2]), Warmth::default());
    ids.iter().for_each(|shard| warmth.found(*shard, true));
    let mut looked = BTreeSet::new();
    for _ in 0..30 {
        let looks = warmth.looks(&ids);
        assert_eq!(looks.len(), 1, "{looks:?}");
        looked.insert(looks[0]);
    }
    assert_eq!(looked.len(), 3);
}

#[test]
fn a_shard_that_had_nothing_once_is_not_starved_by_one_that_never_runs_dry() {
    let (ids, mut warmth) = (shards(&[0, 1, 2, 3, 4]), Warmth::default());
    warmth.found(ShardId(0), true);
    let mut first = BTreeSet::new();
    for _ in 0..20 * COLD_EVERY {
        let looks = warmth.looks(&ids);
        assert!(looks.contains(&ShardId(0)) && looks.len() <= 2);
        first.insert(looks[0]);
    }
    assert_eq!(first.len(), 5);
}

#[test]
fn shards_that_left_are_not_looked_at() {
    let mut warmth = Warmth::default();
    warmth.found(ShardId(9), true);
    for _ in 0..8 {
        assert!(!warmth.looks(&shards(&[0, 1])).contains(&ShardId(9)));
    }
    assert!(warmth.looks(&[]).is_empty());
}
