//! `bolide admin group reset`

use std::io::{BufRead, IsTerminal, Write};
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use super::CommonArgs;
use super::missing::{self, MissingView};
use super::output::show;
use super::words;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::config::units::parse_duration;
use crate::wire::admin;
use crate::wire::admin::reset_group_request::{Edge, To};

pub(super) const HELP: &str = "\
Messages below the new position are done; those from there on are delivered, whether they were before or not. What members
hold or have put back is dropped: an ack of something at or above the new position is refused, and it is delivered anew.
Without --yes, a terminal is asked first; a script is not.

Examples:
  bolide admin group reset billing --topic orders --to earliest
  bolide admin group reset billing --topic orders --to '15m ago' --dry-run
  bolide admin group reset billing --topic orders --queue 3 --to 1200";

#[derive(Args, Debug)]
pub(super) struct ResetArgs {
    /// The group
    name: String,
    /// On this topic
    #[arg(long)]
    topic: String,
    /// On this broker of a cluster only
    #[arg(long)]
    broker: Option<String>,
    /// In this queue only; in a cluster, in the queue of this number on each broker
    #[arg(long)]
    queue: Option<u32>,
    /// earliest, latest, 2026-01-31T12:00:00Z, '15m ago', or an offset (with --queue, unless the topic has one queue only, and with --broker, where there are several)
    #[arg(long, value_parser = target, value_name = "POSITION", allow_negative_numbers = true)]
    to: To,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
}

/// What happened in one queue, in the answer to a script.
#[derive(Debug, Serialize)]
struct QueueView {
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
    queue: u32,
    from_offset: i64,
    to_offset: i64,
    skipped: u64,
    rewound: u64,
    in_flight: u64,
}

/// The answer to a script.
#[derive(Debug, Serialize)]
struct ResetView {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingView>,
    group: String,
    topic: String,
    /// Whether nothing was changed.
    dry_run: bool,
    skipped: u64,
    rewound: u64,
    in_flight: u64,
    queues: Vec<QueueView>,
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, args: ResetArgs) -> Result<(), Failure> {
    let request = |dry_run| admin::ResetGroupRequest {
        namespace: common.namespace.clone(),
        name: args.name.clone(),
        topic: args.topic.clone(),
        queue_id: args.queue,
        to: Some(args.to),
        dry_run,
        broker: args.broker.clone().unwrap_or_default(),
    };
    let view = |dry_run, answer: admin::ResetGroupResponse| view(&args, dry_run, answer);
    if !args.dry_run && !args.yes && std::io::stdin().is_terminal() {
        let preview = view(true, client.reset_group(request(true)).await?.into_inner());
        if !agreed(&table(&preview))? {
            return Err(Failure::Failed("nothing was changed".to_owned()));
        }
    }
    let answer = client.reset_group(request(args.dry_run)).await?.into_inner();
    let lacking = answer.missing.clone();
    show(common.output, &view(args.dry_run, answer), table);
    if args.dry_run {
        missing::warn(&lacking);
        return Ok(());
    }
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(format!(
            "moved on the brokers shown; not known to be moved on {}. Run the same again when they answer",
            missing::words(&lacking)
        ))),
    }
}

/// Asks on stderr, so that an answer for a script stays alone on stdout.
fn agreed(preview: &str) -> Result<bool, Failure> {
    let mut err = std::io::stderr();
    write!(err, "{preview}\nDo it? [y/N] ")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn view(args: &ResetArgs, dry_run: bool, answer: admin::ResetGroupResponse) -> ResetView {
    let queues: Vec<QueueView> = answer
        .queues
        .iter()
        .map(|queue| QueueView {
            broker: queue.broker.clone(),
            queue: queue.queue_id,
            from_offset: queue.from_offset,
            to_offset: queue.to_offset,
            skipped: queue.skipped,
            rewound: queue.rewound,
            in_flight: queue.in_flight,
        })
        .collect();
    ResetView {
        missing: missing::views(answer.missing),
        group: args.name.clone(),
        topic: args.topic.clone(),
        dry_run,
        skipped: queues.iter().map(|queue| queue.skipped).sum(),
        rewound: queues.iter().map(|queue| queue.rewound).sum(),
        in_flight: queues.iter().map(|queue| queue.in_flight).sum(),
        queues,
    }
}

fn table(view: &ResetView) -> String {
    let mut table = Table::new(&["BROKER", "QUEUE", "FROM", "TO", "SKIPPED", "REWOUND", "IN FLIGHT"]);
    for queue in &view.queues {
        table.row(vec![
            queue.broker.clone(),
            queue.queue.to_string(),
            queue.from_offset.to_string(),
            queue.to_offset.to_string(),
            queue.skipped.to_string(),
            queue.rewound.to_string(),
            queue.in_flight.to_string(),
        ]);
    }
    let table = table.without_empty_first().text();
    let ResetView { group, topic, skipped, rewound, in_flight, .. } = view;
    let would = if view.dry_run { "would be" } else { "is" };
    format!(
        "{table}\ngroup {group} {would} moved on topic {topic}: {skipped} messages skipped, {rewound} rewound, {in_flight} taken from consumers"
    )
}

/// A word, an instant, a time ago, or an offset.
fn target(text: &str) -> Result<To, String> {
    if let Ok(offset) = text.parse::<i64>() {
        return if offset < 0 { Err(format!("offset {offset} is negative")) } else { Ok(To::Offset(offset)) };
    }
    if text.eq_ignore_ascii_case("earliest") {
        return Ok(To::Edge(Edge::Earliest.into()));
    }
    if text.eq_ignore_ascii_case("latest") {
        return Ok(To::Edge(Edge::Latest.into()));
    }
    if let Some(span) = text.strip_suffix("ago").map(str::trim_end) {
        return parse_duration(span).map(|span| To::Ago(words::to_wire(span)));
    }
    prost_types::Timestamp::from_str(text)
        .map(To::Timestamp)
        .map_err(|_| format!("{text:?} is no position; earliest, latest, 2026-01-31T12:00:00Z, '15m ago' or an offset"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_word_a_time_or_an_offset() {
        assert_eq!(target("Earliest"), Ok(To::Edge(Edge::Earliest.into())));
        assert_eq!(target("latest"), Ok(To::Edge(Edge::Latest.into())));
        assert_eq!(target("1200"), Ok(To::Offset(1200)));
        assert_eq!(target("15m ago"), Ok(To::Ago(prost_types::Duration { seconds: 900, nanos: 0 })));
        let at = prost_types::Timestamp { seconds: 1_769_860_800, nanos: 0 };
        assert_eq!(target("2026-01-31T12:00:00Z"), Ok(To::Timestamp(at)));
        for wrong in ["", "-1", "soon", "ago", "yesterday", "15m", "99999999999999999999"] {
            assert!(target(wrong).is_err(), "{wrong:?}");
        }
    }
}
