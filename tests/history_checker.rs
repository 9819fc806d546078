//! The history checker sees what it must see, and nothing else: true histories of a small honest model pass, and every
//! deliberate lie about them is caught under the right name.

mod history;

#[path = "history_checker/model.rs"]
mod model;

use history::check::{broken, check};
use history::mutants::MUTANTS;
use history::mutants_kinds::MUTANTS_OF_KINDS;
use history::{Answer, History, Request};
use model::{LEASE_US, Model};

fn true_history(seed: u64) -> History {
    let mut model = Model::new(seed);
    model.subscribe();
    for _ in 0..600 {
        match model.entropy.below(28) {
            0..=3 => model.send(),
            4 => model.send_in_a_lane(),
            5 => model.send_lite(),
            6 => model.send_delayed(),
            7 => model.send_half(),
            8 | 9 => model.receive("all", 3),
            10 => model.receive("some", 3),
            11 | 12 => model.receive("line", 3),
            13 => model.receive("later", 3),
            14 => model.receive("deals", 3),
            15 => model.receive("fans", 3),
            16 => model.recall(),
            17 => model.resolve_one(),
            18 => model.ask_about_transactions(),
            19 => {
                model.pass(LEASE_US);
            }
            20 | 21 => model.send_urgent(),
            22 => model.receive("levels", 2),
            _ => model.settle(),
        }
    }
    model.drain();
    model.history
}

#[test]
fn an_honest_history_breaks_no_promise() {
    for seed in 0..40 {
        let history = true_history(seed);
        if let Err(violation) = check(&history) {
            panic!("seed {seed}: {}", violation.report(&history));
        }
    }
}

#[test]
fn every_deliberate_lie_is_seen_under_its_own_name() {
    let histories: Vec<History> = (0..40).map(true_history).collect();
    for mutant in MUTANTS.iter().chain(&MUTANTS_OF_KINDS) {
        let mut told = 0;
        for (seed, history) in histories.iter().enumerate() {
            let mut history = history.clone();
            if !(mutant.apply)(&mut history) {
                continue;
            }
            told += 1;
            let found: Vec<&str> = broken(&history).iter().map(|violation| violation.promise).collect();
            assert!(
                found.contains(&mutant.promise),
                "{}, seed {seed}: expected {:?}, found {found:?}",
                mutant.name,
                mutant.promise
            );
        }
        assert!(told >= 5, "{}: only {told} histories gave an occasion", mutant.name);
    }
}

#[test]
fn an_unknown_answer_accuses_nobody() {
    // A send without an answer may be delivered or not, and an ack without one may be followed by a redelivery or not.
    let mut model = Model::new(7);
    model.send();
    model.receive("all", 1);
    model.drain();
    let mut history = model.history;
    for call in &mut history.calls {
        if matches!(call.request, Request::Send { .. } | Request::Ack { .. }) {
            call.answer = Answer::Unknown;
            call.end_us = None;
        }
    }
    check(&history).expect("nothing is certain");
    for call in &mut history.calls {
        if let Answer::Received { messages, .. } = &mut call.answer {
            messages.clear();
        }
    }
    check(&history).expect("nothing is certain");
}
