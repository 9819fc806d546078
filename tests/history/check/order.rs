//! Order inside a lane: one message group, or one lite topic, as an ordered group sees it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Delivery;
use super::Violation;
use super::view::{CopyKey, Delivered, Kind, Outcome, SendAttempt, View};

/// One stored message of a lane.
struct Link<'a> {
    id: &'a str,
    queue: i32,
    offset: i64,
    /// Begin of the first call that may have ended it for the group.
    done_us: Option<u64>,
    /// Latest instant from which the group was certainly given it (again).
    given_us: Option<u64>,
    /// Begin and end of its send, where it was sent once and stored at once.
    sent_us: Option<(u64, u64)>,
}

impl Link<'_> {
    /// Whether it comes before another one of its lane. A lane may change its queue when their number grows: then the order
    /// of the sends counts.
    fn is_before(&self, other: &Self) -> bool {
        if self.queue == other.queue {
            return self.offset < other.offset;
        }
        matches!((self.sent_us, other.sent_us), (Some((_, end)), Some((begin, _))) if end < begin)
    }
}

/// A message is handed out only when every earlier one of its lane is done, or is handed out before it in the same answer.
pub fn no_message_overtakes_an_earlier_one_of_its_lane(view: &View<'_>) -> Result<(), Violation> {
    const PROMISE: &str = "no message overtakes an earlier one of its lane";
    for (group, terms) in view.history.terms.groups.iter().filter(|(_, terms)| terms.ordered) {
        let lanes = lanes(view, group);
        let letters = view.dead_letters(group);
        for delivered in
            view.deliveries.iter().filter(|one| one.receive.group == *group && one.receive.topic == terms.topic)
        {
            let Some(links) = view.lane(delivered).and_then(|lane| lanes.get(lane)) else { continue };
            let place = |link: &Link<'_>| (link.queue, link.offset);
            let own = (delivered.got.queue, delivered.got.offset);
            let Some(this) = links.iter().find(|link| place(link) == own) else { continue };
            let mut with_it = BTreeSet::new();
            for got in delivered.call.deliveries() {
                if std::ptr::eq(got, delivered.got) {
                    break;
                }
                with_it.insert((got.queue, got.offset));
            }
            let latest_us = delivered.latest();
            let overtaken = links.iter().find(|earlier| {
                let undone = earlier.done_us.is_none_or(|done_us| done_us >= latest_us);
                // Where messages may leave, only one that came later had certainly not left.
                let was_there = !view.history.terms.forgets || earlier.given_us.is_some_and(|given| given > latest_us);
                earlier.is_before(this)
                    && undone
                    && was_there
                    && !with_it.contains(&place(earlier))
                    && !letters.contains_key(earlier.id)
            });
            if let Some(earlier) = overtaken {
                let id = this.id;
                let finding = format!(
                    "group {group} got {id} (queue {}, offset {}, attempt {}) at {} ms while {} (queue {}, offset {}) of the same lane was undone",
                    this.queue,
                    this.offset,
                    delivered.got.attempt,
                    latest_us / 1000,
                    earlier.id,
                    earlier.queue,
                    earlier.offset,
                );
                return Err(Violation::new(PROMISE, finding, &[id, earlier.id]));
            }
        }
    }
    Ok(())
}

/// The lanes of a group's topic, with every message that anybody has seen in them and that the group takes.
fn lanes<'a>(view: &View<'a>, group: &str) -> BTreeMap<&'a str, Vec<Link<'a>>> {
    let Some(terms) = view.group(group) else { return BTreeMap::new() };
    let mut links: BTreeMap<(i32, i64), (&'a str, Link<'a>)> = BTreeMap::new();
    for delivered in view.deliveries.iter().filter(|delivered| delivered.receive.topic == terms.topic) {
        let got = delivered.got;
        let Some(send) = view.sends_of(&got.id).next() else { continue };
        let Some(lane) = send.message.ask.lane().filter(|_| terms.takes(&got.tag)) else { continue };
        let (_, link) =
            links.entry((got.queue, got.offset)).or_insert_with(|| (lane, link(view, got.id.as_str(), got)));
        if delivered.receive.group == group {
            link.given_us = link.given_us.max(Some(delivered.earliest()));
            link.done_us = earlier_of(link.done_us, done_us(delivered, group));
        }
    }
    let mut lanes: BTreeMap<&str, Vec<Link<'_>>> = BTreeMap::new();
    for (lane, link) in links.into_values() {
        lanes.entry(lane).or_default().push(link);
    }
    lanes
}

fn link<'a>(view: &View<'a>, id: &'a str, got: &Delivery) -> Link<'a> {
    let mut sends = view.sends_of(id);
    let sent_us = match (sends.next(), sends.next()) {
        (Some(send), None) if matches!(send.outcome, Outcome::Stored(_)) => {
            send.call.end_us.map(|end_us| (send.call.begin_us, end_us))
        }
        _ => None,
    };
    Link { id, queue: got.queue, offset: got.offset, done_us: None, given_us: None, sent_us }
}

/// Begin of the first call that may have settled a delivery for good.
fn done_us(delivered: &Delivered<'_>, group: &str) -> Option<u64> {
    let finals = delivered.settles.iter().filter(|settle| settle.maybe() && settle.group == group);
    finals.filter(|settle| !matches!(settle.kind, Kind::Change { .. })).map(|settle| settle.call.begin_us).min()
}

fn earlier_of(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whether a message whose ack was sent at an instant may be delivered anew: one before it in its lane has been since, or may
/// have been and then died.
pub fn may_have_returned(view: &View<'_>, again: &Delivered<'_>, acked_us: u64) -> bool {
    let Some(lane) = view.lane(again) else { return false };
    let group = again.receive.group.as_str();
    let letters = view.dead_letters(group);
    // Where segments leave the log, so may the letter.
    let may_have_died = |other: &Delivered<'_>| {
        letters.contains_key(other.got.id.as_str()) || (view.history.terms.forgets && !is_acked(view, group, other))
    };
    view.deliveries.iter().any(|other| {
        let got = other.got;
        other.receive.group == group
            && (got.queue != again.got.queue || got.offset < again.got.offset)
            && (may_have_died(other) || (acked_us..=again.got.at_us).contains(&got.at_us))
            && view.lane(other) == Some(lane)
    })
}

fn is_acked(view: &View<'_>, group: &str, delivered: &Delivered<'_>) -> bool {
    let deliveries = view.by_copy.get(&(group, delivered.copy())).into_iter().flatten();
    let mut settles = deliveries.flat_map(|&index| &view.deliveries[index].settles);
    settles.any(|settle| settle.ok() && settle.group == group && settle.kind == Kind::Ack)
}

/// Whether a message may have had to wait for an earlier one of its lane: one that was not certainly acked by then.
pub fn may_wait_for_another(view: &View<'_>, group: &str, send: &SendAttempt<'_>, at_us: u64) -> bool {
    let Some(lane) = send.message.ask.lane() else { return false };
    let acked = |id: &str| {
        let places: BTreeSet<CopyKey<'_>> =
            view.deliveries.iter().filter(|other| other.got.id == id).map(Delivered::copy).collect();
        let done = |copy: &CopyKey<'_>| {
            let settles = view.by_copy.get(&(group, *copy)).into_iter().flatten();
            let mut settles = settles.flat_map(|&index| &view.deliveries[index].settles);
            settles.any(|settle| {
                settle.ok() && settle.group == group && settle.kind == Kind::Ack && settle.call.end_us < Some(at_us)
            })
        };
        !places.is_empty() && places.iter().all(done)
    };
    view.sends.iter().any(|other| {
        other.topic == send.topic
            && other.message.ask.lane() == Some(lane)
            && other.message.id != send.message.id
            && other.outcome != Outcome::Refused
            && other.call.begin_us < at_us
            && !acked(&other.message.id)
    })
}
