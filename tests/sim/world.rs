//! One seed: a machine, its clients, and everything that happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bolide::broker::Broker;
use bolide::broker::api::{CatalogError, GroupSpec, Publish, TopicSpec};
use bolide::model::group::Backoff;
use bolide::model::message::NewMessage;
use bolide::model::name::{GroupName, TopicName};
use bolide::model::topic::{Promise, TopicType};
use bolide::runtime::entropy::Entropy;
use bolide::store::files::memory::{Call, Effect, Ending, Fault};

use crate::history::cast::{Cast, Role, topics};
use crate::history::check::check;
use crate::history::workload::{Kind, Pace, Stage, drain};
use crate::history::{Event, History, Recorder, Terms, UNREAD};
use crate::process::{BEGIN_MS, End, Flavour, Machine, Process};

const LEASE_MAX: Duration = Duration::from_secs(6);
const BACKOFF_MAX: Duration = Duration::from_millis(1_500);
/// Silent clients lose their auto-renewed leases after this, by the broker's default.
const SESSION: Duration = Duration::from_secs(15);
/// The same less the coarseness of our clocks: until then they have certainly not.
const SESSION_CERTAIN_US: u64 = 14_000_000;
/// Longest time in which clients must come to an end once they are told to.
const CLIENTS_END_LIMIT: Duration = Duration::from_secs(120);
const MAX_ATTEMPTS_LEAST: u32 = 3;

const SHORT_LIVED: &str = "short-lived";
/// So long after a restart a lane waits for members that may want what those of now do not.
const RETURN_TIME: Duration = Duration::from_secs(31);
/// Time from a half message to the first check of it, by the broker's default.
const FIRST_CHECK_US: u64 = 6_000_000;

/// Note of a history whose log lost segments.
pub const TRIMMED: &str = "segments have left the log";

/// What a seed led to.
pub struct Outcome {
    pub history: History,
    /// A broken promise, or anything else that must not happen, in words.
    pub problem: Option<String>,
}

/// Runs one seed on a runtime of its own with time paused.
pub fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async {
        let entropy = Entropy::seeded(seed);
        let recorder = Recorder::new(terms());
        let lived = live(seed, &entropy, &recorder).await;
        let history = recorder.snapshot();
        let problem = match lived {
            Err(problem) => Some(problem),
            Ok(()) => check(&history).err().map(|violation| violation.report(&history)),
        };
        Outcome { history, problem }
    })
}

fn terms() -> Terms {
    Terms {
        groups: cast().terms(MAX_ATTEMPTS_LEAST),
        session_us: SESSION_CERTAIN_US,
        wall_begin_ms: BEGIN_MS,
        first_check_us: FIRST_CHECK_US,
        ..Terms::default()
    }
}

fn cast() -> Cast {
    Cast::new("", true)
}

fn topic_type(kind: Kind) -> TopicType {
    match kind {
        Kind::Normal => TopicType::Normal,
        Kind::Ordered => TopicType::Fifo,
        Kind::Delayed => TopicType::Delay,
        Kind::Transactional => TopicType::Transaction,
        Kind::Priority => TopicType::Priority,
        Kind::Lite => TopicType::Lite,
        Kind::Mixed => TopicType::Mixed,
    }
}

async fn live(seed: u64, entropy: &Entropy, recorder: &Recorder) -> Result<(), String> {
    let machine = Machine::new(seed, entropy)?;
    let process = machine.start().await?;
    recorder.event(Event::Started);
    recorder.update_terms(|terms| terms.forgets = machine.flavour == Flavour::Forgetful);
    let mut world = World {
        machine,
        process: Some(process),
        entropy: Entropy::seeded(entropy.next_u64()),
        recorder: recorder.clone(),
        topics: Vec::new(),
        lost_ms: 0,
        short_lived_is_gone: false,
    };
    world.create_catalogue().await?;
    let net = world.machine.net.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stage = Stage {
        dial: Arc::new(move || net.channel()),
        recorder: recorder.clone(),
        pace: Pace {
            think: Duration::from_millis(1_600),
            lease: Duration::from_millis(200)..=LEASE_MAX,
            poll: Duration::from_millis(1_500),
            limit: Duration::from_secs(4),
            auto_renew: true,
            delay: Duration::from_secs(8),
            body_bytes: if world.machine.flavour == Flavour::Forgetful { 1_000 } else { 300 },
        },
        run: format!("s{seed}"),
        stop: stop.clone(),
    };
    let clients = cast().start(&stage, entropy);
    world.go_through_everything().await?;
    stop.store(true, Ordering::Relaxed);
    world.calm_down().await?;
    for client in clients {
        let ended = tokio::time::timeout(CLIENTS_END_LIMIT, client).await;
        ended
            .map_err(|_| format!("a client did not end in {CLIENTS_END_LIMIT:?}"))?
            .map_err(|error| format!("a client panicked: {error}"))?;
    }
    let lasting = (LEASE_MAX + BACKOFF_MAX + SESSION + Duration::from_secs(2)).max(RETURN_TIME)
        + Duration::from_millis(world.lost_ms);
    drain(&stage, &cast().members(), lasting).await?;
    world.finish().await
}

struct World {
    machine: Machine,
    process: Option<Process>,
    entropy: Entropy,
    recorder: Recorder,
    /// Topics whose creation was acknowledged, with the number of queues.
    topics: Vec<(TopicName, u32)>,
    /// Milliseconds by which the server's clock was set back, together.
    lost_ms: u64,
    /// The deletion of the short-lived topic was acknowledged, and nothing was done with that name since.
    short_lived_is_gone: bool,
}

impl World {
    async fn create_catalogue(&mut self) -> Result<(), String> {
        for (topic, kind) in topics() {
            self.create_topic(topic, kind).await?;
        }
        for role in cast().roles() {
            let broker = self.broker()?;
            let spec = GroupSpec {
                max_attempts: Some(MAX_ATTEMPTS_LEAST + u32::try_from(self.entropy.below(3)).unwrap_or(0)),
                backoff: Some(self.backoff()),
                ordered: role.ordered.map(Some),
                ..GroupSpec::default()
            };
            let created = broker.create_group(GroupName::trusted("", role.group), spec).await;
            created.map_err(|error| format!("group {}: {error}", role.group))?;
        }
        Ok(())
    }

    async fn create_topic(&mut self, name: &str, kind: Kind) -> Result<(), String> {
        let broker = self.broker()?;
        let name = TopicName::trusted("", name);
        let queues = 1 + u32::try_from(self.entropy.below(4)).unwrap_or(0);
        let written = self.machine.flavour == Flavour::KillsOnly && self.entropy.below(2) == 0;
        let promise = written.then_some(Promise::Written);
        let spec =
            TopicSpec { topic_type: Some(topic_type(kind)), queues: Some(queues), promise, ..TopicSpec::default() };
        broker.create_topic(name.clone(), spec).await.map_err(|error| format!("topic {name}: {error}"))?;
        self.topics.push((name, queues));
        Ok(())
    }

    fn backoff(&self) -> Backoff {
        let initial = Duration::from_millis(1 + self.entropy.below(200));
        Backoff::Exponential { initial, max: BACKOFF_MAX, multiplier: 2.0 }
    }

    fn broker(&self) -> Result<Broker, String> {
        self.process.as_ref().map(|process| process.broker.clone()).ok_or_else(|| "no process".to_owned())
    }

    fn note(&self, text: String) {
        self.recorder.event(Event::Note(text));
    }

    async fn go_through_everything(&mut self) -> Result<(), String> {
        for _ in 0..5 + self.entropy.below(9) {
            let pause = if self.entropy.below(4) == 0 { 4_000 } else { 1_200 };
            tokio::time::sleep(Duration::from_millis(self.entropy.below(pause))).await;
            match self.entropy.below(20) {
                0..=3 => self.end_and_restart(End::Kill).await?,
                4..=6 => self.end_and_restart(self.power_cut()).await?,
                7 => self.end_and_restart(End::Term).await?,
                8..=10 => self.die_at_some_call().await?,
                11 | 12 => {
                    self.note("connections cut".to_owned());
                    self.machine.net.cut(40);
                }
                13 => {
                    self.note("connections silenced".to_owned());
                    self.machine.net.silence(30);
                }
                14 => {
                    self.machine.net.set_unreachable(true);
                    self.machine.net.cut(50);
                    tokio::time::sleep(Duration::from_millis(self.entropy.below(3_000))).await;
                    self.machine.net.set_unreachable(false);
                }
                15 | 16 => self.move_the_clock(),
                17 => self.break_the_disk().await?,
                _ => self.administer().await?,
            }
            self.restart_what_failed().await?;
        }
        Ok(())
    }

    /// A power cut, where the power may go.
    fn power_cut(&self) -> End {
        if self.machine.flavour == Flavour::KillsOnly { End::Kill } else { End::PowerCut }
    }

    /// Some end, not of the process's own will.
    fn some_end(&self) -> (End, Ending) {
        let how = if self.entropy.below(2) == 0 { End::Kill } else { self.power_cut() };
        (how, if how == End::Kill { Ending::Kill } else { Ending::PowerCut })
    }

    async fn end_and_restart(&mut self, how: End) -> Result<(), String> {
        let Some(process) = self.process.take() else { return Err("no process".to_owned()) };
        self.recorder.event(Event::Ending(match how {
            End::Kill => "kill",
            End::PowerCut => "power cut",
            End::Term => "SIGTERM",
        }));
        self.machine.end(process, how).await?;
        self.recorder.event(Event::Ended);
        tokio::time::sleep(Duration::from_millis(self.entropy.below(1_000))).await;
        self.start().await
    }

    /// Starts a process; the disk may end it while it recovers.
    async fn start(&mut self) -> Result<(), String> {
        self.machine.files.clear_faults();
        if self.entropy.below(4) == 0 {
            let (_, ending) = self.some_end();
            let life = self.machine.files.lives();
            self.machine.files.end_after(self.entropy.below(60), ending);
            let started = self.machine.start().await;
            let died = self.machine.files.lives() != life;
            match started {
                Ok(process) if !died => return self.started(process),
                Ok(process) => {
                    self.recorder.event(Event::Ending("died while it began"));
                    self.machine.end(process, End::Kill).await?;
                    self.recorder.event(Event::Ended);
                }
                Err(error) if died => {
                    self.note(format!("died while it recovered: {error}"));
                    // What was opened until then lets go before the next one comes.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error),
            }
            if ending == Ending::PowerCut {
                self.machine.roll_fold_back()?;
            }
            self.machine.files.clear_faults();
        }
        let process = self.machine.start().await?;
        self.started(process)
    }

    fn started(&mut self, process: Process) -> Result<(), String> {
        self.recorder.event(Event::Started);
        for (name, queues) in &self.topics {
            let kept = process.broker.topic(name).map(|topic| topic.queues);
            if kept.is_none_or(|kept| kept < *queues) {
                return Err(format!(
                    "topic {name} with {queues} queues was acknowledged; after a restart there are {kept:?}"
                ));
            }
        }
        if self.short_lived_is_gone && process.broker.topic(&TopicName::trusted("", SHORT_LIVED)).is_some() {
            return Err("a topic whose deletion was acknowledged is back".to_owned());
        }
        self.process = Some(process);
        Ok(())
    }

    /// The process ends in the middle of some call to the disk.
    async fn die_at_some_call(&mut self) -> Result<(), String> {
        let (how, ending) = self.some_end();
        self.machine.files.end_after(self.entropy.below(40), ending);
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.process.as_ref().is_some_and(|process| process.has_died(&self.machine)) {
                break;
            }
        }
        self.machine.files.clear_faults();
        self.end_and_restart(how).await
    }

    fn move_the_clock(&mut self) {
        let by = match self.entropy.below(6) {
            0 => -i64::try_from(self.entropy.below(1_500)).unwrap_or(0),
            1 => i64::try_from(self.entropy.below(60_000)).unwrap_or(0),
            _ => i64::try_from(self.entropy.below(3_000)).unwrap_or(0),
        };
        self.lost_ms += u64::try_from(-by).unwrap_or(0);
        self.machine.skew_ms += by;
        self.recorder.event(Event::ClockMoved(by));
        if let Some(process) = &self.process {
            process.skew_by(by);
        }
    }

    async fn break_the_disk(&mut self) -> Result<(), String> {
        if self.machine.flavour == Flavour::Forgetful && self.entropy.below(2) == 0 {
            return self.fill_the_disk().await;
        }
        let kinds = if self.machine.flavour == Flavour::KillsOnly { 1 } else { 5 };
        let fault = match self.entropy.below(kinds) {
            0 if kinds == 1 => Fault::fail(Call::Read),
            0 => Fault::fail(Call::Sync),
            1 => Fault::fail(Call::Write),
            2 => Fault::new(Call::Write, Effect::Short(usize::try_from(self.entropy.below(2_000)).unwrap_or(0))),
            3 => Fault::new(Call::Write, Effect::NoSpace),
            _ => Fault::fail(Call::Read),
        };
        self.note(if fault.call == Call::Read { UNREAD.to_owned() } else { format!("disk: {fault:?}") });
        self.machine.files.plan(fault.after(self.entropy.below(20)));
        tokio::time::sleep(Duration::from_millis(self.entropy.below(2_000))).await;
        self.machine.files.clear_faults();
        Ok(())
    }

    /// Others take the room on the disk, and give it back.
    async fn fill_the_disk(&mut self) -> Result<(), String> {
        let total = 4 * 1024 * 1024;
        let others = total / 100 * (80 + self.entropy.below(20));
        self.note(format!("disk: {others} of {total} bytes are others'"));
        self.machine.files.set_space(total, others);
        tokio::time::sleep(Duration::from_millis(self.entropy.below(15_000))).await;
        self.machine.files.set_space(u64::MAX / 4, 0);
        Ok(())
    }

    /// An operator restarts a shard that failed.
    async fn restart_what_failed(&mut self) -> Result<(), String> {
        if self.process.as_ref().is_some_and(Process::has_failed) {
            self.end_and_restart(End::Kill).await?;
        }
        Ok(())
    }

    async fn administer(&mut self) -> Result<(), String> {
        let broker = self.broker()?;
        let outcome = match self.entropy.below(4) {
            0 => {
                let name = TopicName::trusted("", &format!("more-{}", self.topics.len()));
                let created =
                    broker.create_topic(name.clone(), TopicSpec { queues: Some(2), ..TopicSpec::default() }).await;
                if created.is_ok() {
                    self.topics.push((name, 2));
                }
                created.map(drop)
            }
            1 => {
                let place = usize::try_from(self.entropy.below(topics().len() as u64)).unwrap_or(0);
                let queues = self.topics[place].1 + 1;
                let name = self.topics[place].0.clone();
                let changed =
                    broker.update_topic(&name, TopicSpec { queues: Some(queues), ..TopicSpec::default() }).await;
                if changed.is_ok() {
                    self.topics[place].1 = queues;
                }
                changed.map(drop)
            }
            2 => {
                let roles = cast().roles();
                let group = roles[usize::try_from(self.entropy.below(roles.len() as u64)).unwrap_or(0)].group;
                let spec = GroupSpec {
                    max_attempts: Some(MAX_ATTEMPTS_LEAST + u32::try_from(self.entropy.below(3)).unwrap_or(0)),
                    backoff: Some(self.backoff()),
                    ..GroupSpec::default()
                };
                broker.update_group(&GroupName::trusted("", group), spec).await.map(drop)
            }
            _ => self.create_fill_and_delete(&broker).await?,
        };
        match outcome {
            // A disk that breaks meanwhile is no administrator's fault.
            Ok(()) | Err(CatalogError::ShardFailed | CatalogError::Overloaded) => Ok(()),
            Err(error) => Err(format!("an administrator was refused: {error}")),
        }
    }

    /// A topic of that name comes and goes; what an earlier one held never shows in a later one.
    async fn create_fill_and_delete(&mut self, broker: &Broker) -> Result<Result<(), CatalogError>, String> {
        let name = TopicName::trusted("", SHORT_LIVED);
        let is_new = broker.topic(&name).is_none();
        self.short_lived_is_gone = false;
        if let Err(error) = broker.create_topic(name.clone(), TopicSpec::default()).await {
            return Ok(Err(error));
        }
        let spans = broker.queue_spans(&name).unwrap_or_default();
        if is_new && spans.iter().any(|span| span.first != span.next) {
            return Err(format!("a new topic begins with what an earlier one held: {spans:?}"));
        }
        let message = NewMessage { message_id: "short".to_owned(), body_bytes: 1, ..NewMessage::default() };
        // Whether it is stored is not the question here.
        let _ = broker.publish(Publish { topic: name.clone(), messages: vec![message; 3] }).await;
        if self.entropy.below(3) == 0 {
            return Ok(Ok(()));
        }
        let deleted = broker.delete_topic(&name).await;
        self.short_lived_is_gone = deleted.is_ok();
        Ok(deleted)
    }

    async fn calm_down(&mut self) -> Result<(), String> {
        self.machine.files.clear_faults();
        self.machine.net.set_unreachable(false);
        self.restart_what_failed().await
    }

    /// A clean end and one more start, after which nothing may be left to do.
    async fn finish(&mut self) -> Result<(), String> {
        self.end_and_restart(End::Term).await?;
        // A group with a filter has not yet looked at the last messages that are none of its business.
        for Role { group, .. } in cast().roles().iter().filter(|role| role.tags.is_empty()) {
            let lags = self.broker()?.lag(&GroupName::trusted("", group)).await;
            let lags = lags.map_err(|error| format!("lag of {group}: {error}"))?;
            let left: u64 = lags.iter().map(bolide::broker::api::QueueLag::lag).sum();
            if left > 0 {
                return Err(format!(
                    "after the drain and a clean restart group {group} still has {left} messages: {lags:?}"
                ));
            }
        }
        let Some(process) = self.process.take() else { return Ok(()) };
        if process.log_start() > 0 {
            self.note(TRIMMED.to_owned());
        }
        self.machine.end(process, End::Kill).await
    }
}
