//! One seed: a machine, its clients, and everything that happens to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bolide::broker::api::{CatalogError, GroupSpec, TopicSpec};
use bolide::model::group::Backoff;
use bolide::model::name::{GroupName, TopicName};
use bolide::model::topic::Promise;
use bolide::runtime::entropy::Entropy;
use bolide::store::files::memory::{Call, Effect, Ending, Fault};
use tokio::task::JoinHandle;

use crate::history::check::check;
use crate::history::workload::{Membership, Pace, Stage, consumer, drain, producer};
use crate::history::{Event, GroupTerms, History, Recorder, Terms};
use crate::process::{End, Flavour, Machine, Process};

const LEASE_MAX: Duration = Duration::from_secs(6);
const BACKOFF_MAX: Duration = Duration::from_millis(1_500);
/// Silent clients lose their auto-renewed leases after this, by the broker's default.
const SESSION: Duration = Duration::from_secs(15);
/// The same less the coarseness of our clocks: until then they have certainly not.
const SESSION_CERTAIN_US: u64 = 14_000_000;
/// Longest time in which clients must come to an end once they are told to.
const CLIENTS_END_LIMIT: Duration = Duration::from_secs(120);
const MAX_ATTEMPTS_LEAST: u32 = 3;

/// Group, topic, tags, consumers.
const GROUPS: [(&str, &str, &[&str], usize); 3] =
    [("all", "one", &[], 2), ("some", "one", &["A", "B"], 1), ("two", "two", &[], 2)];
const TOPICS: [&str; 2] = ["one", "two"];
const PRODUCERS: usize = 2;

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
    let groups = GROUPS.iter().map(|(group, topic, tags, _)| {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        ((*group).to_owned(), GroupTerms { topic: (*topic).to_owned(), tags, max_attempts: MAX_ATTEMPTS_LEAST })
    });
    Terms { groups: groups.collect(), session_us: SESSION_CERTAIN_US, drained: false, forgets: false }
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
    };
    world.create_catalogue().await?;
    let net = world.machine.net.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stage = Stage {
        dial: Arc::new(move || net.channel()),
        recorder: recorder.clone(),
        pace: Pace {
            think: Duration::from_millis(800),
            lease: Duration::from_millis(200)..=LEASE_MAX,
            poll: Duration::from_millis(1_500),
            limit: Duration::from_secs(4),
            auto_renew: true,
            body_bytes: if world.machine.flavour == Flavour::Forgetful { 1_000 } else { 300 },
        },
        run: format!("s{seed}"),
        stop: stop.clone(),
    };
    let clients = start_clients(&stage, entropy);
    world.go_through_everything().await?;
    stop.store(true, Ordering::Relaxed);
    world.calm_down().await?;
    for client in clients {
        let ended = tokio::time::timeout(CLIENTS_END_LIMIT, client).await;
        ended
            .map_err(|_| format!("a client did not end in {CLIENTS_END_LIMIT:?}"))?
            .map_err(|error| format!("a client panicked: {error}"))?;
    }
    let groups: Vec<(String, String)> =
        GROUPS.iter().map(|(group, topic, ..)| ((*group).to_owned(), (*topic).to_owned())).collect();
    let lasting = LEASE_MAX + BACKOFF_MAX + SESSION + Duration::from_secs(2) + Duration::from_millis(world.lost_ms);
    drain(&stage, &groups, lasting).await?;
    world.finish().await
}

fn start_clients(stage: &Stage, entropy: &Entropy) -> Vec<JoinHandle<()>> {
    let own = || Entropy::seeded(entropy.next_u64());
    let topics: Vec<String> = TOPICS.iter().map(|&topic| topic.to_owned()).collect();
    let mut clients: Vec<_> = (0..PRODUCERS)
        .map(|number| tokio::spawn(producer(stage.clone(), format!("p{number}"), topics.clone(), own())))
        .collect();
    for (place, (group, topic, tags, consumers)) in GROUPS.iter().enumerate() {
        for number in 0..*consumers {
            let member = Membership {
                group: (*group).to_owned(),
                topic: (*topic).to_owned(),
                expression: if tags.is_empty() { "*".to_owned() } else { tags.join(" || ") },
                stranger: GROUPS[(place + 1) % GROUPS.len()].0.to_owned(),
            };
            clients.push(tokio::spawn(consumer(stage.clone(), format!("c.{group}.{number}"), member, own())));
        }
    }
    clients
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
}

impl World {
    async fn create_catalogue(&mut self) -> Result<(), String> {
        for topic in TOPICS {
            self.create_topic(topic).await?;
        }
        for (group, ..) in GROUPS {
            let broker = self.broker()?;
            let spec = GroupSpec {
                max_attempts: Some(MAX_ATTEMPTS_LEAST + u32::try_from(self.entropy.below(3)).unwrap_or(0)),
                backoff: Some(self.backoff()),
                ..GroupSpec::default()
            };
            let created = broker.create_group(GroupName::trusted("", group), spec).await;
            created.map_err(|error| format!("group {group}: {error}"))?;
        }
        Ok(())
    }

    async fn create_topic(&mut self, name: &str) -> Result<(), String> {
        let broker = self.broker()?;
        let name = TopicName::trusted("", name);
        let queues = 1 + u32::try_from(self.entropy.below(4)).unwrap_or(0);
        let written = self.machine.flavour == Flavour::KillsOnly && self.entropy.below(2) == 0;
        let promise = written.then_some(Promise::Written);
        let spec = TopicSpec { queues: Some(queues), promise, ..TopicSpec::default() };
        broker.create_topic(name.clone(), spec).await.map_err(|error| format!("topic {name}: {error}"))?;
        self.topics.push((name, queues));
        Ok(())
    }

    fn backoff(&self) -> Backoff {
        let initial = Duration::from_millis(1 + self.entropy.below(200));
        Backoff::Exponential { initial, max: BACKOFF_MAX, multiplier: 2.0 }
    }

    fn broker(&self) -> Result<bolide::broker::Broker, String> {
        self.process.as_ref().map(|process| process.broker.clone()).ok_or_else(|| "no process".to_owned())
    }

    fn note(&self, text: String) {
        self.recorder.event(Event::Note(text));
    }

    async fn go_through_everything(&mut self) -> Result<(), String> {
        for _ in 0..8 + self.entropy.below(12) {
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
        self.note(format!("disk: {fault:?}"));
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
                let place = usize::try_from(self.entropy.below(TOPICS.len() as u64)).unwrap_or(0);
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
                let group = GROUPS[usize::try_from(self.entropy.below(GROUPS.len() as u64)).unwrap_or(0)].0;
                let spec = GroupSpec {
                    max_attempts: Some(MAX_ATTEMPTS_LEAST + u32::try_from(self.entropy.below(3)).unwrap_or(0)),
                    backoff: Some(self.backoff()),
                    ..GroupSpec::default()
                };
                broker.update_group(&GroupName::trusted("", group), spec).await.map(drop)
            }
            _ => {
                let name = TopicName::trusted("", "short-lived");
                let created = broker.create_topic(name.clone(), TopicSpec::default()).await;
                match created {
                    Ok(_) => broker.delete_topic(&name).await,
                    Err(error) => Err(error),
                }
            }
        };
        match outcome {
            // A disk that breaks meanwhile is no administrator's fault.
            Ok(()) | Err(CatalogError::ShardFailed | CatalogError::Overloaded) => Ok(()),
            Err(error) => Err(format!("an administrator was refused: {error}")),
        }
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
        for (group, ..) in GROUPS.iter().filter(|(_, _, tags, _)| tags.is_empty()) {
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
