//! Defects that seeds have found, each as a few plain steps.

use std::time::Duration;

use bolide::broker::api::{GroupSpec, TopicSpec};
use bolide::model::name::{GroupName, TopicName};
use bolide::model::topic::TopicType;
use bolide::runtime::entropy::Entropy;
use bolide::store::files::memory::{Call, Fault};

use crate::history::client::{Client, Draft, Received, SQL, Wish};
use crate::history::{Answer, Ask, Delivery, INVALID_RECEIPT_HANDLE, Lease, OK, Recorder, Terms};
use crate::process::{BEGIN_MS, End, Machine, Process};

const GROUP: &str = "group";
const TOPIC: &str = "topic";

struct Stage {
    machine: Machine,
    process: Process,
    client: Client,
    begin: tokio::time::Instant,
}

async fn stage() -> Stage {
    let begin = tokio::time::Instant::now();
    let machine = Machine::new(1, &Entropy::seeded(1)).expect("a machine");
    let process = machine.start().await.expect("an empty disk opens");
    process.broker.create_topic(TopicName::trusted("", TOPIC), TopicSpec::default()).await.expect("a topic");
    let recorder = Recorder::new(Terms::default());
    let client = Client::new("client", machine.net.channel(), &recorder, Duration::from_secs(10));
    Stage { machine, process, client, begin }
}

impl Stage {
    async fn send(&self, id: &str) {
        let draft = Draft { id: id.to_owned(), tag: String::new(), body: vec![1; 10], ..Draft::default() };
        let answer = self.client.send(TOPIC, &[draft]).await;
        assert!(matches!(&answer, Answer::Sent(results) if results[0].is_ok()), "{answer:?}");
    }

    async fn receive(&self) -> Option<Delivery> {
        match self.client.receive(&wish(None)).await {
            Received::Messages(messages) => messages.into_iter().next(),
            Received::Nothing => None,
            Received::Refused(code) => panic!("refused: {code}"),
            Received::Lost(_) => panic!("lost"),
        }
    }

    async fn ack(&self, delivery: &Delivery) -> Answer {
        self.client.ack(GROUP, TOPIC, std::slice::from_ref(&delivery.handle)).await
    }

    /// Gives the message back and receives it again.
    async fn redelivered(&self, delivery: &Delivery) -> Delivery {
        let answer = self.client.change(GROUP, TOPIC, delivery, Duration::ZERO).await;
        assert!(matches!(answer, Answer::Changed { code: OK, .. }), "{answer:?}");
        let again = self.receive().await.expect("it comes back");
        assert_eq!((again.offset, again.attempt), (delivery.offset, delivery.attempt + 1));
        again
    }
}

fn wish(attempt_id: Option<&str>) -> Wish {
    Wish {
        group: GROUP.to_owned(),
        topic: TOPIC.to_owned(),
        expression: "*".to_owned(),
        batch: 1,
        lease: Lease::Fixed { invisible_us: 60_000_000 },
        attempt_id: attempt_id.map(str::to_owned),
        deadline: Duration::from_secs(5),
    }
}

/// A normal topic.
async fn plain_topic(stage: &Stage) {
    let name = TopicName::trusted("", "plain");
    stage.process.broker.create_topic(name, TopicSpec::default()).await.expect("a topic");
}

/// What a receive got, however it ended.
fn got(received: Received) -> Vec<Delivery> {
    match received {
        Received::Messages(messages) | Received::Lost(messages) => messages,
        Received::Nothing | Received::Refused(_) => Vec::new(),
    }
}

fn in_a_simulation<F: Future>(steps: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(steps)
}

/// Seed 1 of the first simulation: the second round of a waiting receive locked the broker against itself.
#[test]
fn a_receive_that_was_woken_for_nothing_waits_on_and_holds_up_nobody() {
    in_a_simulation(async {
        let stage = stage().await;
        let both = async { tokio::join!(stage.receive(), stage.receive()) };
        let send = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stage.send("a").await;
        };
        let ((one, other), ()) = tokio::join!(both, send);
        assert_eq!(usize::from(one.is_some()) + usize::from(other.is_some()), 1);
        stage.send("b").await;
        assert!(stage.receive().await.is_some());
    });
}

/// Seed 1: the first ack failed with the log, the second was told OK because the first had been decided in memory.
#[test]
fn a_repeated_ack_on_a_failed_log_is_not_ok() {
    in_a_simulation(async {
        let stage = stage().await;
        stage.send("a").await;
        let delivery = stage.receive().await.expect("a message");
        stage.machine.files.plan(Fault::fail(Call::Sync));
        for _ in 0..3 {
            let answer = stage.ack(&delivery).await;
            let ok = matches!(&answer, Answer::Acked(codes) if codes.contains(&OK));
            assert!(!ok, "an ack that no disk holds: {answer:?}");
        }
        let answer = stage.client.forward(GROUP, TOPIC, &delivery).await;
        assert!(!matches!(answer, Answer::Forwarded(OK)), "{answer:?}");
    });
}

/// Seed 9013: the log refused the record of a grant, and the same attempt asked again and got it from memory.
#[test]
fn a_grant_that_a_failed_log_refused_is_not_handed_out_at_the_next_try() {
    in_a_simulation(async {
        let mut stage = stage().await;
        stage.send("a").await;
        let first = stage.receive().await.expect("a message");
        stage.machine.files.plan(Fault::fail(Call::Write));
        let answer = stage.client.change(GROUP, TOPIC, &first, Duration::ZERO).await;
        assert!(!matches!(answer, Answer::Changed { code: OK, .. }), "{answer:?}");
        for attempt_id in [Some("x"), Some("x"), None, Some("x")] {
            let delivered = got(stage.client.receive(&wish(attempt_id)).await);
            assert!(delivered.is_empty(), "a delivery that no log holds: {delivered:?}");
        }
        stage.machine.files.clear_faults();
        stage.machine.end(stage.process, End::Kill).await.expect("an end");
        stage.process = stage.machine.start().await.expect("a start");
        // Nobody got it anew, so its only handle is good.
        assert!(matches!(stage.ack(&first).await, Answer::Acked(codes) if codes == [OK]));
    });
}

/// The log fails under a message that was put back and taken by another: after a restart it may never have been put back, and
/// its first handle would work beside the second.
#[test]
fn a_message_that_was_put_back_is_not_delivered_before_the_log_holds_that() {
    for call in [Call::Write, Call::Sync] {
        in_a_simulation(async {
            let stage = stage().await;
            stage.send("a").await;
            let first = stage.receive().await.expect("a message");
            let again = wish(None);
            let waiting = stage.client.receive(&again);
            let put_back = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stage.machine.files.plan(Fault::fail(call));
                stage.client.change(GROUP, TOPIC, &first, Duration::ZERO).await
            };
            let (received, answer) = tokio::join!(waiting, put_back);
            assert!(!matches!(answer, Answer::Changed { code: OK, .. }), "{answer:?}");
            let delivered = got(received);
            assert!(delivered.is_empty(), "a failed {call:?}, and a delivery that no log holds: {delivered:?}");
        });
    }
}

/// Seeds 3 and 5: a forward with the handle of an earlier delivery was told OK once the message was acked.
#[test]
fn a_superseded_handle_is_refused_also_when_its_message_is_done() {
    in_a_simulation(async {
        let stage = stage().await;
        stage.send("a").await;
        let first = stage.receive().await.expect("a message");
        let second = stage.redelivered(&first).await;
        assert!(matches!(stage.ack(&second).await, Answer::Acked(codes) if codes == [OK]));
        let forwarded = stage.client.forward(GROUP, TOPIC, &first).await;
        assert!(matches!(forwarded, Answer::Forwarded(INVALID_RECEIPT_HANDLE)), "{forwarded:?}");
        assert!(matches!(stage.ack(&first).await, Answer::Acked(codes) if codes == [INVALID_RECEIPT_HANDLE]));

        stage.send("b").await;
        let first = stage.receive().await.expect("a message");
        let second = stage.redelivered(&first).await;
        assert!(matches!(stage.client.forward(GROUP, TOPIC, &second).await, Answer::Forwarded(OK)));
        assert!(matches!(stage.ack(&first).await, Answer::Acked(codes) if codes == [INVALID_RECEIPT_HANDLE]));
        // The delivery that did it may repeat its words: the client may have lost the answer.
        assert!(matches!(stage.client.forward(GROUP, TOPIC, &second).await, Answer::Forwarded(OK)));
    });
}

/// What a killed process had acknowledged is there for the next, and an ack is not forgotten.
#[test]
fn the_next_process_knows_what_the_killed_one_acknowledged() {
    in_a_simulation(async {
        let mut stage = stage().await;
        stage.send("a").await;
        stage.send("b").await;
        let acked = stage.receive().await.expect("a message");
        assert!(matches!(stage.ack(&acked).await, Answer::Acked(codes) if codes == [OK]));
        stage.machine.end(stage.process, End::PowerCut).await.expect("an end");
        stage.process = stage.machine.start().await.expect("a start");
        let left = stage.receive().await.expect("the other message");
        assert_ne!(left.id, acked.id);
        assert!(stage.receive().await.is_none());
    });
}

/// Seed 63 of ordered groups: the disk did not give the first message of a lane, and the second was delivered without it.
#[test]
fn a_message_is_not_delivered_without_the_unreadable_one_before_it() {
    in_a_simulation(async {
        let mut stage = stage().await;
        let name = GroupName::trusted("", GROUP);
        let ordered = GroupSpec { ordered: Some(Some(true)), ..GroupSpec::default() };
        stage.process.broker.create_group(name, ordered).await.expect("a group");
        let draft = |id: &str| Draft {
            id: id.to_owned(),
            body: vec![1; 10],
            ask: Ask { message_group: Some("lane".to_owned()), ..Ask::default() },
            ..Draft::default()
        };
        let fifo = TopicSpec { topic_type: Some(TopicType::Fifo), ..TopicSpec::default() };
        stage.process.broker.create_topic(TopicName::trusted("", "fifo"), fifo).await.expect("a topic");
        let sent = stage.client.send("fifo", &[draft("a"), draft("b")]).await;
        assert!(matches!(&sent, Answer::Sent(results) if results.iter().all(Result::is_ok)), "{sent:?}");
        // Nothing of it is in memory any more.
        stage.machine.end(stage.process, End::Kill).await.expect("an end");
        stage.process = stage.machine.start().await.expect("a start");
        stage.machine.files.plan(Fault::fail(Call::Read));
        let wish =
            Wish { topic: "fifo".to_owned(), batch: 2, lease: Lease::Fixed { invisible_us: 2_000_000 }, ..wish(None) };
        let first = got(stage.client.receive(&wish).await);
        assert!(first.first().is_none_or(|got| got.id == "a"), "{first:?}");
        stage.machine.files.clear_faults();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let ids: Vec<String> = got(stage.client.receive(&wish).await).into_iter().map(|got| got.id).collect();
        assert_eq!(ids, ["a", "b"]);
    });
}

/// Seed 159: what the disk did not give to the judge of an expression was taken for wanted, and delivered once it could be read.
#[test]
fn a_message_whose_properties_could_not_be_read_is_judged_before_it_is_delivered() {
    in_a_simulation(async {
        let mut stage = stage().await;
        plain_topic(&stage).await;
        let draft = |id: &str, tag: &str| Draft {
            id: id.to_owned(),
            tag: tag.to_owned(),
            body: vec![1; 10],
            ..Draft::default()
        };
        let sent = stage.client.send("plain", &[draft("a", "other"), draft("b", "A")]).await;
        assert!(matches!(&sent, Answer::Sent(results) if results.iter().all(Result::is_ok)), "{sent:?}");
        // Nothing of it is in memory any more.
        stage.machine.end(stage.process, End::Kill).await.expect("an end");
        stage.process = stage.machine.start().await.expect("a start");
        let wish = Wish { topic: "plain".to_owned(), expression: format!("{SQL}TAGS = 'A'"), batch: 2, ..wish(None) };
        stage.machine.files.plan(Fault::fail(Call::Read));
        let mut ids: Vec<String> = got(stage.client.receive(&wish).await).into_iter().map(|got| got.id).collect();
        stage.machine.files.clear_faults();
        tokio::time::sleep(Duration::from_secs(2)).await;
        ids.extend(got(stage.client.receive(&wish).await).into_iter().map(|got| got.id));
        assert_eq!(ids, ["b"]);
    });
}

/// Seed 126: a message that the disk did not give once was away for its whole lease, of which its client knew nothing.
#[test]
fn a_message_that_could_not_be_read_comes_soon_and_not_when_a_lease_ends_that_nobody_holds() {
    in_a_simulation(async {
        let mut stage = stage().await;
        plain_topic(&stage).await;
        let draft = Draft { id: "a".to_owned(), body: vec![1; 10], ..Draft::default() };
        let sent = stage.client.send("plain", &[draft]).await;
        assert!(matches!(&sent, Answer::Sent(results) if results[0].is_ok()), "{sent:?}");
        // Its body is only on the disk any more.
        stage.machine.end(stage.process, End::Kill).await.expect("an end");
        stage.process = stage.machine.start().await.expect("a start");
        stage.machine.files.plan(Fault::fail(Call::Read));
        let lease = Lease::Fixed { invisible_us: 3_600_000_000 };
        let wish = Wish { topic: "plain".to_owned(), lease, ..wish(None) };
        let failed = stage.client.receive(&wish).await;
        assert!(got(failed).is_empty(), "the read did not fail");
        stage.machine.files.clear_faults();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let again = got(stage.client.receive(&wish).await);
        let seen: Vec<(&str, u32)> = again.iter().map(|got| (got.id.as_str(), got.attempt)).collect();
        assert_eq!(seen, [("a", 1)]);
    });
}

/// Seed 127 of all kinds: the disk did not give a body at the moment when its message fell due, and nobody asked again before
/// the next start; a recall was told that it was too late.
#[test]
fn a_delayed_message_comes_although_one_read_of_it_failed() {
    in_a_simulation(async {
        let mut stage = stage().await;
        let delayed = TopicSpec { topic_type: Some(TopicType::Delay), ..TopicSpec::default() };
        stage.process.broker.create_topic(TopicName::trusted("", "later"), delayed).await.expect("a topic");
        let due_ms = BEGIN_MS + u64::try_from(stage.begin.elapsed().as_millis()).expect("a short test") + 5_000;
        let ask = Ask { due_ms: Some(due_ms), ..Ask::default() };
        let draft = Draft { id: "a".to_owned(), body: vec![1; 10], ask, ..Draft::default() };
        let sent = stage.client.send("later", &[draft]).await;
        assert!(matches!(&sent, Answer::Sent(results) if results[0].is_ok()), "{sent:?}");
        // Its body is only on the disk any more.
        stage.machine.end(stage.process, End::Kill).await.expect("an end");
        stage.process = stage.machine.start().await.expect("a start");
        tokio::time::sleep(Duration::from_secs(4)).await;
        stage.machine.files.plan(Fault::fail(Call::Read));
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.machine.files.clear_faults();
        let wish = Wish { topic: "later".to_owned(), ..wish(None) };
        let ids: Vec<String> = got(stage.client.receive(&wish).await).into_iter().map(|got| got.id).collect();
        assert_eq!(ids, ["a"]);
    });
}
