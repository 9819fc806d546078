//! The promises, one function each, over what clients saw.

use std::fmt;

use super::{Call, Event, History};

mod dead_letters;
mod delays;
mod deliveries;
mod leases;
mod lite;
mod order;
mod priority;
mod sends;
mod settles;
mod transactions;
pub mod view;

use view::View;

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Name of the promise.
    pub promise: &'static str,
    /// What contradicts it.
    pub finding: String,
    /// A text that the calls concerned have in common: a message id or a handle.
    pub about: Vec<String>,
}

impl Violation {
    pub fn new(promise: &'static str, finding: String, about: &[&str]) -> Self {
        Self { promise, finding, about: about.iter().map(|&text| text.to_owned()).collect() }
    }

    /// The violation with the calls that mention what it is about, and what happened to the server.
    pub fn report(&self, history: &History) -> String {
        let mut lines = Vec::new();
        for call in &history.calls {
            if let Some(line) = slice_of(call, &self.about) {
                lines.push((call.begin_us, line));
            }
        }
        for (at, event) in &history.events {
            if !matches!(event, Event::Note(_)) {
                lines.push((*at, format!("-- {event:?}")));
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut text =
            format!("PROMISE BROKEN: {}\n{}\nthe calls concerned, times in ms:\n", self.promise, self.finding);
        for (at, line) in lines.iter().take(120) {
            text.push_str(&format!("{:>12.3} {line}\n", *at as f64 / 1000.0));
        }
        text
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.finding)
    }
}

/// One line for a call that mentions any of the texts; of a receive only the messages that do.
fn slice_of(call: &Call, about: &[String]) -> Option<String> {
    let mentions = |text: &str| about.iter().any(|wanted| text.contains(wanted.as_str()));
    let end = call.end_us.map_or_else(|| "?".to_owned(), |end| format!("{:.3}", end as f64 / 1000.0));
    if !call.deliveries().is_empty() {
        let shown: Vec<String> = call
            .deliveries()
            .iter()
            .filter(|delivery| mentions(&delivery.id) || mentions(&delivery.handle))
            .map(|delivery| format!("{delivery:?}"))
            .collect();
        return (!shown.is_empty())
            .then(|| format!("{} until {end} {:?} got {}", call.client, call.request, shown.join(", ")));
    }
    let text = format!("{} until {end} {:?} -> {:?}", call.client, call.request, call.answer);
    mentions(&text).then_some(text)
}

type Promise = for<'a> fn(&View<'a>) -> Result<(), Violation>;

/// Every promise, in the order in which they are checked: what explains other violations comes first.
pub const PROMISES: [Promise; 26] = [
    deliveries::every_delivered_message_was_sent_and_has_its_bytes,
    deliveries::a_refused_send_stored_nothing,
    deliveries::one_send_stores_one_copy,
    deliveries::a_group_gets_only_what_its_filter_takes,
    delays::no_message_comes_before_its_time,
    delays::a_recalled_message_is_delivered_to_nobody,
    delays::a_recall_tells_the_truth,
    transactions::nothing_is_visible_before_its_commit,
    transactions::a_rolled_back_message_is_delivered_to_nobody,
    transactions::a_transaction_has_one_end,
    transactions::a_resolved_transaction_is_not_asked_about,
    transactions::a_question_is_complete_and_in_time,
    lite::a_lite_message_goes_to_subscribers_only,
    sends::offsets_of_acknowledged_sends_are_unique,
    sends::a_later_send_has_the_larger_offset,
    order::no_message_overtakes_an_earlier_one_of_its_lane,
    priority::no_message_comes_before_one_of_a_higher_level,
    settles::an_acked_message_does_not_come_back,
    settles::an_expired_or_superseded_handle_is_refused,
    settles::a_foreign_handle_is_refused,
    leases::no_two_live_leases_of_one_message,
    leases::attempts_never_decrease_within_a_process_life,
    deliveries::an_empty_receive_means_that_nothing_was_deliverable,
    dead_letters::dead_letters_are_stored_once,
    dead_letters::dead_letters_come_after_the_last_attempt_or_a_forward,
    sends::no_acknowledged_send_is_missing,
];

/// Every broken promise, each with the first contradiction found.
pub fn broken(history: &History) -> Vec<Violation> {
    let view = View::of(history);
    PROMISES.iter().filter_map(|promise| promise(&view).err()).collect()
}

/// The first broken promise, if any.
pub fn check(history: &History) -> Result<(), Violation> {
    let view = View::of(history);
    PROMISES.iter().try_for_each(|promise| promise(&view))
}
