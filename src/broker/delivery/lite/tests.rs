//! What the lite topics of one parent decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::broker::api::ClientId;
use crate::broker::delivery::tail::QueueTail;
use crate::broker::members::holder_of;
use crate::model::group::StartPosition;
use crate::model::position::{QueueId, QueueOffset};
use crate::model::time::Timestamp;

use super::lab::{GROUP, Lab, PARENT};

const LIMITS: LiteLimits = LiteLimits { per_client: 4, left: 6 };

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn add(lab: &mut Lab, client: &str, wanted: &[&str]) -> Vec<(String, String)> {
    lab.sync(client, LiteAction::Add, &names(wanted), None, None).unwrap()
}

fn complete(lab: &mut Lab, client: &str, wanted: &[&str]) -> Vec<(String, String)> {
    lab.sync(client, LiteAction::CompleteAdd, &names(wanted), None, None).unwrap()
}

fn got(lab: &mut Lab, client: &str, grant: u64) -> Vec<(u64, u32)> {
    lab.receive(client, 32, grant, 1_000).into_values().flatten().collect()
}

fn is_woken(notify: &Arc<Notify>) -> bool {
    use futures::FutureExt;
    notify.notified().now_or_never().is_some()
}

fn wait(lab: &mut Lab, client: &str) -> (crate::broker::delivery::wait_list::WaiterId, Arc<Notify>) {
    let (id, notify) = (lab.core.new_waiter(), Arc::new(Notify::new()));
    lab.core.wait_lite(PARENT, GROUP, id, holder_of(&ClientId(client.into())), &notify);
    (id, notify)
}

#[test]
fn a_lite_topic_is_one_lane_and_its_neighbours_flow() {
    let mut lab = Lab::new(false);
    add(&mut lab, "a", &["x", "y"]);
    let x = lab.send("x", 2);
    assert_eq!(got(&mut lab, "a", 1), [(0, 1), (1, 1)]);
    lab.send("x", 1);
    lab.send("y", 1);
    assert_eq!(lab.receive("a", 32, 2, 1_000).into_keys().collect::<Vec<_>>(), [QueueId(x.get() + 1)]);
    lab.ack(x, 0, 1);
    assert_eq!(got(&mut lab, "a", 3), []);
    lab.ack(x, 1, 1);
    assert_eq!(got(&mut lab, "a", 4), [(2, 1)]);
}

#[test]
fn only_a_subscriber_is_given_anything_and_an_empty_complete_set_is_an_answer() {
    let mut lab = Lab::new(false);
    lab.send("x", 1);
    assert_eq!(got(&mut lab, "a", 1), []);
    // One client sends the letters of a name one by one, and the right set half a minute later.
    add(&mut lab, "a", &["l", "t", "1"]);
    complete(&mut lab, "a", &["x"]);
    assert_eq!(lab.core.lite_subscriptions(), 1);
    assert_eq!(got(&mut lab, "a", 2), [(0, 1)]);
    complete(&mut lab, "a", &[]);
    assert_eq!(lab.core.lite_subscriptions(), 0);
    lab.pass(1_000, Duration::from_secs(180));
    assert_eq!(got(&mut lab, "a", 3), [], "it came back, but not to somebody who left");
    lab.check();
}

#[test]
fn a_new_group_begins_where_its_subscriber_says_and_a_position_that_exists_stays() {
    let starts = [
        (None, 0),
        (Some(LiteStart::Last), 0),
        (Some(LiteStart::First), 0),
        (Some(LiteStart::Latest), 5),
        (Some(LiteStart::Offset(QueueOffset(3))), 3),
        (Some(LiteStart::Offset(QueueOffset(99))), 5),
        (Some(LiteStart::Tail(2)), 3),
        (Some(LiteStart::Tail(99)), 0),
        (Some(LiteStart::At(Timestamp(1))), 0),
    ];
    for (start, expected) in starts {
        let mut lab = Lab::new(false);
        let queue = lab.send("x", 5);
        lab.sync("a", LiteAction::Add, &names(&["x"]), start, None).unwrap();
        let next =
            |lab: &Lab| lab.core.topic(PARENT).unwrap().subscriptions[&GROUP].queue(queue).unwrap().leases.next();
        assert_eq!(next(&lab).get(), expected, "{start:?}");
        lab.sync("b", LiteAction::Add, &names(&["x"]), Some(LiteStart::Latest), None).unwrap();
        assert_eq!(next(&lab).get(), expected, "{start:?}");
    }
    let (tail, queue) = (QueueTail::restored(QueueOffset(2), QueueOffset(9)), QueueId::FIRST_LITE);
    let by_time = BTreeMap::from([(queue, QueueOffset(7))]);
    let at = Some(LiteStart::At(Timestamp(50)));
    let begins = |start, group_start| LiteBegin { start, group_start, by_time: &by_time }.position(queue, &tail).get();
    assert_eq!(begins(at, StartPosition::Latest), 7);
    assert_eq!(begins(None, StartPosition::At(Timestamp(50))), 7);
    assert_eq!(begins(None, StartPosition::Latest), 9);
    assert_eq!(begins(Some(LiteStart::Offset(QueueOffset(0))), StartPosition::Latest), 2);
}

#[test]
fn a_lite_topic_that_begins_later_begins_at_its_first_message_for_those_who_wait_for_it() {
    let mut lab = Lab::new(false);
    lab.sync("a", LiteAction::Add, &names(&["later"]), Some(LiteStart::Latest), None).unwrap();
    lab.send("later", 1);
    lab.restart();
    lab.sync("a", LiteAction::CompleteAdd, &names(&["later"]), Some(LiteStart::Latest), None).unwrap();
    assert_eq!(got(&mut lab, "a", 1), [(0, 1)]);
}

#[test]
fn quotas_are_exact_and_what_is_refused_changes_nothing() {
    let mut lab = Lab::new(false);
    lab.limits = LIMITS;
    add(&mut lab, "a", &["1", "2", "3", "4"]);
    let refused = |lab: &mut Lab, client: &str, action, wanted: &[&str]| {
        let before = lab.core.lite_subscriptions();
        let refusal = lab.sync(client, action, &names(wanted), None, None).unwrap_err();
        assert_eq!(lab.core.lite_subscriptions(), before);
        lab.check();
        refusal
    };
    assert_eq!(refused(&mut lab, "a", LiteAction::Add, &["5"]), LiteRefusal::ClientQuota);
    assert_eq!(refused(&mut lab, "a", LiteAction::CompleteAdd, &["5", "6", "7", "8", "9"]), LiteRefusal::ClientQuota);
    complete(&mut lab, "a", &["5", "6", "7", "8"]);
    assert_eq!(refused(&mut lab, "b", LiteAction::Add, &["1", "2", "3"]), LiteRefusal::BrokerQuota);
    add(&mut lab, "b", &["1", "2"]);
    add(&mut lab, "b", &["1", "2"]);
    assert_eq!(lab.core.lite_subscriptions(), 6);
}

#[test]
fn the_newest_subscriber_takes_over_and_a_repeated_set_does_not_take_back() {
    let mut lab = Lab::new(true);
    lab.send("x", 1);
    complete(&mut lab, "a", &["x", "y"]);
    assert_eq!(add(&mut lab, "b", &["x"]), [("a".to_owned(), "x".to_owned())]);
    assert_eq!(complete(&mut lab, "a", &["x", "y"]), []);
    assert_eq!(got(&mut lab, "a", 1), []);
    assert_eq!(got(&mut lab, "b", 2), [(0, 1)]);
    // Asked for anew by its user, it is taken again; and when nobody has it, a repeated set may have it.
    assert_eq!(add(&mut lab, "a", &["x"]), [("b".to_owned(), "x".to_owned())]);
    complete(&mut lab, "b", &["x"]);
    lab.leave("a");
    assert_eq!(complete(&mut lab, "b", &["x"]), []);
    lab.pass(1_000, Duration::from_secs(180));
    assert_eq!(got(&mut lab, "b", 3), [(0, 2)]);
    lab.check();
}

#[test]
fn an_overtaken_wish_is_refused() {
    let mut lab = Lab::new(false);
    let mut sync = |version, wanted: &[&str]| lab.sync("a", LiteAction::CompleteAdd, &names(wanted), None, version);
    sync(Some(5), &["x"]).unwrap();
    assert_eq!(sync(Some(4), &["y"]), Err(LiteRefusal::Stale));
    sync(Some(5), &["x"]).unwrap();
    sync(None, &["x", "y"]).unwrap();
    assert_eq!(lab.core.lite_subscriptions(), 2);
}

#[test]
fn subscriptions_of_a_silent_client_end_and_a_receive_keeps_them() {
    let mut lab = Lab::new(false);
    add(&mut lab, "talks", &["x"]);
    add(&mut lab, "silent", &["x"]);
    let silence = Duration::from_secs(180);
    lab.pass(100_000, silence);
    got(&mut lab, "talks", 1);
    lab.pass(80_000, silence);
    assert_eq!(lab.core.lite_subscriptions(), 1);
    lab.pass(99_999, silence);
    assert_eq!(lab.core.lite_subscriptions(), 1);
    lab.pass(1, silence);
    assert_eq!(lab.core.lite_subscriptions(), 0);
    lab.check();
}

#[test]
fn an_arrival_wakes_one_receive_of_a_subscriber_and_one_that_leaves_passes_it_on() {
    let mut lab = Lab::new(false);
    add(&mut lab, "a", &["x"]);
    add(&mut lab, "b", &["x"]);
    add(&mut lab, "c", &["y"]);
    let ((stranger, strangers), (a, first), (_, second)) =
        (wait(&mut lab, "c"), wait(&mut lab, "a"), wait(&mut lab, "b"));
    lab.send("x", 1);
    assert!(is_woken(&first) && !is_woken(&second) && !is_woken(&strangers));
    lab.check();
    lab.core.leave(PARENT, GROUP, a);
    assert!(is_woken(&second) && !is_woken(&strangers));
    assert_eq!(got(&mut lab, "b", 1), [(0, 1)]);
    // Subscribing while waiting finds what is there.
    let queue = lab.core.topic(PARENT).unwrap().lite.find("x").unwrap();
    lab.nack(queue, 0, 1);
    add(&mut lab, "c", &["x"]);
    assert!(is_woken(&strangers));
    lab.core.leave(PARENT, GROUP, stranger);
    assert_eq!(lab.core.waiting(PARENT, GROUP), 1);
}

#[test]
fn a_receive_woken_in_vain_does_not_keep_the_news_from_others() {
    let mut lab = Lab::new(false);
    add(&mut lab, "a", &["x", "y"]);
    add(&mut lab, "b", &["y"]);
    let (a, first) = wait(&mut lab, "a");
    let (_, second) = wait(&mut lab, "b");
    lab.send("x", 1);
    assert!(is_woken(&first));
    // Somebody else of the same client was faster; meanwhile `y` arrives, and the next one in line is told.
    assert_eq!(got(&mut lab, "a", 1), [(0, 1)]);
    lab.send("y", 1);
    assert!(is_woken(&second));
    let holder = holder_of(&ClientId("a".into()));
    lab.core.wait_lite(PARENT, GROUP, a, holder, &first);
    lab.check();
}

#[test]
fn what_a_group_has_not_read_stays_and_what_is_read_goes_when_its_time_has_passed() {
    let ttl = Duration::from_secs(60);
    let idle = |lab: &Lab| lab.core.idle_lite_topics(PARENT, QueueId::FIRST_LITE, ttl, lab.now);
    let mut lab = Lab::new(false);
    lab.pass(1_000_000, Duration::from_secs(1));
    lab.send("unread", 1);
    let read = lab.send("read", 1);
    let unwanted = lab.send("unwanted", 1);
    add(&mut lab, "a", &["unread", "read"]);
    assert!(lab.receive("a", 1, 1, 1_000).contains_key(&read));
    lab.ack(read, 0, 1);
    lab.leave("a");
    lab.pass(59_000, Duration::from_secs(180));
    assert!(idle(&lab).removable.is_empty());
    lab.pass(1_000, Duration::from_secs(180));
    assert_eq!(idle(&lab).removable, [read, unwanted]);
    // After a restart nobody knows: it has to be looked up.
    lab.restart();
    let lite = lab.core.topic(PARENT).unwrap().lite.get(read).unwrap().active_at;
    assert_eq!(lite, lab.now, "these tests show messages anew at a restart");
    lab.remove(read);
    lab.remove(unwanted);
    assert_eq!(lab.core.lite_topics(), 1);
    lab.check();
    let again = lab.send("read", 1);
    assert!(again > unwanted, "a queue is never given out twice");
}

#[test]
fn a_listing_goes_by_name_and_prefix() {
    let mut lab = Lab::new(false);
    for name in ["b-2", "a-1", "b-1", "c", "b-10"] {
        lab.send(name, 1);
    }
    let lite = &lab.core.topic(PARENT).unwrap().lite;
    let list = |prefix, after| lite.by_name(prefix, after).map(|(_, lite)| lite.name.to_string()).collect::<Vec<_>>();
    assert_eq!(list("", ""), ["a-1", "b-1", "b-10", "b-2", "c"]);
    assert_eq!(list("b-", ""), ["b-1", "b-10", "b-2"]);
    assert_eq!(list("b-", "b-1"), ["b-10", "b-2"]);
    assert_eq!(list("b-", "c"), Vec::<String>::new());
    assert_eq!(list("b-1", "a-1"), ["b-1", "b-10"]);
    assert_eq!(list("", "b-2"), ["c"]);
}
