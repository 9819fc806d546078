//! The whole process under a seed: the real store, broker and proxy on a disk in memory and a virtual network, with random
//! clients, power cuts, kills, broken disks and moved clocks, in one thread and virtual time; the history of what the clients
//! saw is held against the promises.
//!
//! `BOLIDE_SIM_SEEDS` (200): how many seeds. `BOLIDE_SIM_FROM` (1): the first. `BOLIDE_SIM_SEED`: this one alone, with its
//! whole history. A seed repeats exactly; every twenty-fifth is run twice to prove it.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::Instant;

mod history;

#[path = "sim/checks.rs"]
mod checks;
#[path = "sim/direct.rs"]
mod direct;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/process.rs"]
mod process;
#[path = "sim/world.rs"]
mod world;

use history::Coverage;
use history::check::check;
use history::mutants::MUTANTS;
use history::mutants_kinds::MUTANTS_OF_KINDS;
use world::{Outcome, run};

/// Seeds whose run is repeated, to see that it repeats.
const REPEATED_EVERY: u64 = 25;
/// So many seeds must have come to everything.
const SEEDS_FOR_EVERYTHING: u64 = 100;
const EVERYTHING: [&str; 12] = [
    "commits",
    "rollbacks",
    "opposite ends",
    "questions",
    "recalls",
    "recalls too late",
    "delayed",
    "ordered",
    "lite",
    "dead letters",
    "preferred",
    "judged",
];
/// Problems after which no further seed is begun.
const PROBLEMS_SHOWN: usize = 3;

thread_local! {
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Past the capture of the test runner, which hides what a passing test prints.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// A panic in a task of the simulated process ends that task only; here it is a problem of its seed.
fn watch_for_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.with_borrow_mut(|panicked| {
                panicked.get_or_insert_with(|| info.to_string());
            });
            before(info);
        }));
    });
}

fn run_watched(seed: u64) -> Outcome {
    PANICKED.set(None);
    let mut outcome = run(seed);
    if let Some(panicked) = PANICKED.take() {
        let earlier = outcome.problem.take().unwrap_or_default();
        outcome.problem = Some(format!("something panicked: {panicked}\n{earlier}"));
    }
    outcome
}

/// Runs a seed; what is wrong with it, if anything.
fn problem_of(seed: u64, totals: &Totals) -> Option<String> {
    let outcome = run_watched(seed);
    totals.add(&outcome);
    if outcome.problem.is_some() {
        return outcome.problem;
    }
    if seed.is_multiple_of(REPEATED_EVERY) {
        let again = run_watched(seed);
        if again.history.trace_hash() != outcome.history.trace_hash() {
            return Some(first_difference(&outcome, &again));
        }
    }
    None
}

fn first_difference(one: &Outcome, other: &Outcome) -> String {
    let lines = |outcome: &Outcome| {
        let mut lines: Vec<String> = outcome.history.calls.iter().map(|call| format!("{call:?}")).collect();
        lines.extend(outcome.history.events.iter().map(|event| format!("{event:?}")));
        lines
    };
    let (one, other) = (lines(one), lines(other));
    let differing = one.iter().zip(&other).position(|(one, other)| one != other).unwrap_or(one.len().min(other.len()));
    let show = |lines: &[String]| lines.get(differing).cloned().unwrap_or_else(|| "nothing".to_owned());
    format!("the seed does not repeat; call {differing} of {}:\n{}\n{}", one.len(), show(&one), show(&other))
}

#[derive(Default)]
struct Totals {
    seeds: AtomicU64,
    calls: AtomicU64,
    deliveries: AtomicU64,
    ends: AtomicU64,
    trimmed: AtomicU64,
    coverage: Mutex<Coverage>,
}

impl Totals {
    fn add(&self, outcome: &Outcome) {
        let history = &outcome.history;
        let deliveries: usize = history.calls.iter().map(|call| call.deliveries().len()).sum();
        let ends = history.events.iter().filter(|(_, event)| matches!(event, history::Event::Ended)).count();
        self.seeds.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(history.calls.len() as u64, Ordering::Relaxed);
        self.deliveries.fetch_add(deliveries as u64, Ordering::Relaxed);
        self.ends.fetch_add(ends as u64, Ordering::Relaxed);
        let trimmed = history.events.iter().any(|(_, event)| *event == history::Event::Note(world::TRIMMED.to_owned()));
        self.trimmed.fetch_add(u64::from(trimmed), Ordering::Relaxed);
        if let Ok(mut coverage) = self.coverage.lock() {
            coverage.add(&history.coverage());
        }
    }

    /// Histories in which nothing is recalled prove nothing about recalls.
    fn assert_that_everything_happened(&self) {
        let coverage = self.coverage.lock().map_or_else(|_| Coverage::default(), |coverage| coverage.clone());
        for what in EVERYTHING {
            assert!(coverage.0.contains_key(what), "no {what} in all these histories: {coverage}");
        }
    }

    fn line(&self, seeds: u64, begin: Instant) -> String {
        let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
        format!(
            "sim: {}/{seeds} seeds, {:.0} s, {} calls, {} deliveries, {} ends of the process, {} trimmed logs; {}",
            of(&self.seeds),
            begin.elapsed().as_secs_f64(),
            of(&self.calls),
            of(&self.deliveries),
            of(&self.ends),
            of(&self.trimmed),
            self.coverage.lock().map_or_else(|_| String::new(), |coverage| coverage.to_string())
        )
    }
}

fn repeat_with(seed: u64) -> String {
    format!("repeat with: make sim SEED={seed}")
}

#[test]
fn no_seed_breaks_a_promise() {
    watch_for_panics();
    if let Some(seed) = number("BOLIDE_SIM_SEED") {
        return one_seed(seed);
    }
    let seeds = number("BOLIDE_SIM_SEEDS").unwrap_or(200);
    let first = number("BOLIDE_SIM_FROM").unwrap_or(1);
    let next = AtomicU64::new(first);
    let problems: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let totals = Totals::default();
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let found = problems.lock().map_or(usize::MAX, |problems| problems.len());
                    if seed >= first.saturating_add(seeds) || found >= PROBLEMS_SHOWN {
                        return;
                    }
                    if let Some(problem) = problem_of(seed, &totals) {
                        say(&format!("sim: seed {seed}: {}", problem.lines().next().unwrap_or_default()));
                        if let Ok(mut problems) = problems.lock() {
                            problems.push((seed, problem));
                        }
                    }
                    let done = totals.seeds.load(Ordering::Relaxed);
                    if done.is_multiple_of((seeds / 10).max(1)) {
                        say(&totals.line(seeds, begin));
                    }
                }
            });
        }
    });
    if seeds >= SEEDS_FOR_EVERYTHING {
        totals.assert_that_everything_happened();
    }
    let problems = problems.into_inner().unwrap_or_default();
    let report: Vec<String> =
        problems.iter().map(|(seed, problem)| format!("seed {seed}: {problem}\n{}", repeat_with(*seed))).collect();
    assert!(report.is_empty(), "{}", report.join("\n\n"));
}

fn one_seed(seed: u64) {
    let outcome = run_watched(seed);
    let again = run_watched(seed);
    let mut lines: Vec<(u64, String)> = Vec::new();
    for call in &outcome.history.calls {
        let end = call.end_us.map_or_else(|| "?".to_owned(), |end| format!("{:.3}", end as f64 / 1000.0));
        lines.push((call.begin_us, format!("{} until {end} {:?} -> {:?}", call.client, call.request, call.answer)));
    }
    lines.extend(outcome.history.events.iter().map(|(at, event)| (*at, format!("-- {event:?}"))));
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        say(&format!("{:>12.3} {line}", at as f64 / 1000.0));
    }
    say(&format!("trace hash {:016x}, again {:016x}", outcome.history.trace_hash(), again.history.trace_hash()));
    if again.history.trace_hash() != outcome.history.trace_hash() {
        say(&first_difference(&outcome, &again));
    }
    assert!(outcome.problem.is_none(), "{}\n{}", outcome.problem.unwrap_or_default(), repeat_with(seed));
}

#[test]
fn lies_about_real_histories_are_seen() {
    watch_for_panics();
    let mut told = std::collections::BTreeSet::new();
    for seed in 1_001..1_012 {
        let outcome = run_watched(seed);
        // A problem is the other test's business; and where messages may leave, some lies could be true.
        if outcome.problem.is_some() || outcome.history.terms.forgets {
            continue;
        }
        for mutant in MUTANTS.iter().chain(&MUTANTS_OF_KINDS) {
            let mut lie = outcome.history.clone();
            if (mutant.apply)(&mut lie) {
                assert!(check(&lie).is_err(), "seed {seed}: the checker does not see: {}", mutant.name);
                told.insert(mutant.name);
            }
        }
    }
    assert!(told.len() >= 8, "only these lies could be told: {told:?}");
}
