//! `bolide admin dlq …`

use std::collections::BTreeMap;
use std::fmt;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::CommonArgs;
use super::missing::{self, MissingView};
use super::output::show;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::wire::admin;

/// Letters asked for at once.
const PAGE: u32 = 256;

const REDRIVE_HELP: &str = "\
Letters go back to the topics they came from, with their id, properties and body, and are delivered there as if they had just been
sent: to every group, behind what is there already, with attempts counted anew. A letter is in one place or the other, never in both
or neither. Done in steps, each of which is durable when it is reported: after Ctrl-C or a crash run it again, it goes on.

Exit code 4: some letters stay, for the reasons said; the others were sent back.";

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// List dead letters, oldest first
    List {
        group: String,
        /// Begin at this place: an offset, in a cluster with its broker, as broker-1:17
        #[arg(long, default_value = "0", value_parser = place)]
        from: Place,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Show a letter: where it came from, its properties, the first bytes of its body
    Show {
        group: String,
        /// Message id, or its place with its broker, as broker-1:17
        id: String,
    },
    /// Send letters back to the topics they came from
    #[command(after_help = REDRIVE_HELP)]
    Redrive {
        group: String,
        #[command(flatten)]
        which: Which,
    },
    /// Drop letters for good
    Purge {
        group: String,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Message id, or a place with its broker, as broker-1:17; may be given more than once
    #[arg(long)]
    id: Vec<String>,
    /// Every letter that is there now
    #[arg(long)]
    all: bool,
}

/// Where a letter lies. Without a broker: on the only one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    broker: String,
    offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.broker.as_str() {
            "" => self.offset.fmt(f),
            broker => write!(f, "{broker}:{}", self.offset),
        }
    }
}

/// `17` or `broker-1:17`.
fn place(text: &str) -> Result<Place, String> {
    let (broker, offset) = text.rsplit_once(':').unwrap_or(("", text));
    let offset = offset.parse().map_err(|_| format!("{text:?} is no place of a letter; 17, or broker-1:17"))?;
    Ok(Place { broker: broker.to_owned(), offset })
}

#[derive(Debug, Serialize)]
struct LetterView {
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
    offset: i64,
    id: String,
    topic: String,
    attempts: u32,
    reason: String,
    moved_at: String,
    body_bytes: u64,
    tag: String,
    message_group: String,
}

impl LetterView {
    fn new(wire: admin::DeadLetter) -> Self {
        Self {
            broker: wire.broker,
            offset: wire.offset,
            id: wire.message_id,
            topic: wire.topic,
            attempts: wire.attempts,
            reason: wire.reason,
            moved_at: wire.moved_at.map(|at| at.to_string()).unwrap_or_default(),
            body_bytes: wire.body_bytes,
            tag: wire.tag,
            message_group: wire.message_group,
        }
    }

    fn place(&self) -> Place {
        Place { broker: self.broker.clone(), offset: self.offset }
    }
}

#[derive(Debug, Serialize)]
struct ListView {
    letters: Vec<LetterView>,
    /// Letters that are there altogether.
    total: u64,
    /// Where to go on.
    next: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_broker: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingView>,
}

impl ListView {
    fn text(&self) -> String {
        let mut table = Table::new(&["OFFSET", "ID", "TOPIC", "ATTEMPTS", "MOVED AT", "BYTES", "REASON"]);
        for letter in &self.letters {
            table.row(vec![
                letter.place().to_string(),
                letter.id.clone(),
                letter.topic.clone(),
                letter.attempts.to_string(),
                letter.moved_at.clone(),
                letter.body_bytes.to_string(),
                letter.reason.clone(),
            ]);
        }
        let place = |offset| Place { broker: self.next_broker.clone(), offset };
        let more = self.next.map(|next| format!("; more: --from {}", place(next))).unwrap_or_default();
        format!("{}\n{} dead letters{more}", table.text(), self.total)
    }
}

#[derive(Debug, Serialize)]
struct ShowView {
    #[serde(flatten)]
    letter: LetterView,
    keys: Vec<String>,
    properties: BTreeMap<String, String>,
    /// As text, with replacement characters for what is none.
    body_head: String,
}

impl ShowView {
    fn text(&self) -> String {
        let letter = &self.letter;
        let mut lines = vec![
            format!("{} at offset {}, from topic {}", letter.id, letter.place(), letter.topic),
            format!("moved at {} after {} attempts: {}", letter.moved_at, letter.attempts, letter.reason),
        ];
        let named =
            [("tag", letter.tag.clone()), ("group", letter.message_group.clone()), ("keys", self.keys.join(" "))];
        lines.extend(named.iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("{name}: {text}")));
        lines.extend(self.properties.iter().map(|(name, text)| format!("property {name}: {text}")));
        lines.push(format!("body, {} bytes, begins: {}", letter.body_bytes, self.body_head.escape_debug()));
        lines.join("\n")
    }
}

/// The letters of a group, page by page.
struct Pages<'a> {
    client: &'a mut Client,
    common: &'a CommonArgs,
    group: &'a str,
    next: Option<Place>,
    missing: Vec<admin::Missing>,
}

impl Pages<'_> {
    async fn next(&mut self, limit: u32) -> Result<Option<admin::ListDeadLettersResponse>, Failure> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let (namespace, group) = (self.common.namespace.clone(), self.group.to_owned());
        let request = admin::ListDeadLettersRequest {
            namespace,
            group,
            from_offset: from.offset,
            limit,
            from_broker: from.broker,
        };
        let mut page = self.client.list_dead_letters(request).await?.into_inner();
        self.next = page.next_offset.map(|offset| Place { broker: page.next_broker.clone(), offset });
        self.missing.append(&mut page.missing);
        Ok(Some(page))
    }
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: DlqCommand) -> Result<(), Failure> {
    match command {
        DlqCommand::List { group, from, limit } => list(client, common, &group, from, limit).await,
        DlqCommand::Show { group, id } => show_one(client, common, &group, &id).await,
        DlqCommand::Redrive { group, which } => settle(client, common, &group, which, Action::Redrive).await,
        DlqCommand::Purge { group, which } => settle(client, common, &group, which, Action::Purge).await,
    }
}

async fn list(client: &mut Client, common: &CommonArgs, group: &str, from: Place, limit: u64) -> Result<(), Failure> {
    let mut view = ListView {
        letters: Vec::new(),
        total: 0,
        next: Some(from.offset),
        next_broker: from.broker.clone(),
        missing: Vec::new(),
    };
    let mut pages = Pages { client, common, group, next: Some(from), missing: Vec::new() };
    while (view.letters.len() as u64) < limit {
        let left = limit - view.letters.len() as u64;
        let Some(page) = pages.next(u32::try_from(left).unwrap_or(PAGE).min(PAGE)).await? else { break };
        view.total = page.total;
        view.next = page.next_offset;
        view.next_broker = page.next_broker;
        view.letters.extend(page.letters.into_iter().map(LetterView::new));
    }
    missing::warn(&pages.missing);
    view.missing = missing::views(pages.missing);
    show(common.output, &view, ListView::text);
    Ok(())
}

/// Places of the letters with these ids, in their order; an id may stand for several. A place with its broker names itself.
async fn find(client: &mut Client, common: &CommonArgs, group: &str, ids: &[String]) -> Result<Vec<Place>, Failure> {
    let mut pages = Pages { client, common, group, next: Some(Place::default()), missing: Vec::new() };
    let mut places = Vec::new();
    let mut unknown: Vec<&String> = ids.iter().collect();
    while let Some(page) = pages.next(PAGE).await? {
        for letter in page.letters {
            let place = Place { broker: letter.broker, offset: letter.offset };
            let shown = place.to_string();
            let is_named = |id: &String| *id == letter.message_id || (!place.broker.is_empty() && *id == shown);
            if ids.iter().any(is_named) {
                unknown.retain(|id| !is_named(id));
                places.push(place);
            }
        }
    }
    match (unknown.first(), pages.missing.as_slice()) {
        (Some(id), []) => Err(Failure::NotFound(format!("{group} has no dead letter {id}; nothing was done"))),
        (Some(id), missing) => Err(Failure::Failed(format!(
            "no broker that answered has dead letter {id} of {group}, and not asked was {}; nothing was done",
            missing::words(missing)
        ))),
        (None, _) => Ok(places),
    }
}

async fn show_one(client: &mut Client, common: &CommonArgs, group: &str, id: &str) -> Result<(), Failure> {
    let mut views = Vec::new();
    for Place { broker, offset } in find(client, common, group, &[id.to_owned()]).await? {
        let (namespace, group) = (common.namespace.clone(), group.to_owned());
        let request = admin::ShowDeadLetterRequest { namespace, group, offset, broker };
        let answer = client.show_dead_letter(request).await?.into_inner();
        views.push(ShowView {
            letter: LetterView::new(answer.letter.unwrap_or_default()),
            keys: answer.keys,
            properties: answer.properties.into_iter().collect(),
            body_head: String::from_utf8_lossy(&answer.body_head).into_owned(),
        });
    }
    show(common.output, &views, |views| views.iter().map(ShowView::text).collect::<Vec<_>>().join("\n\n"));
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Redrive,
    Purge,
}

impl Action {
    const fn done(self) -> &'static str {
        match self {
            Self::Redrive => "sent back",
            Self::Purge => "dropped",
        }
    }

    async fn step(
        self,
        client: &mut Client,
        request: admin::SettleDeadLettersRequest,
    ) -> Result<admin::SettleDeadLettersResponse, Failure> {
        let answer = match self {
            Self::Redrive => client.redrive_dead_letters(request).await?,
            Self::Purge => client.purge_dead_letters(request).await?,
        };
        Ok(answer.into_inner())
    }
}

/// What was done so far.
#[derive(Debug, Default)]
struct Tally {
    done: u64,
    /// Reasons, with how many letters and the first of them.
    staying: BTreeMap<String, (u64, String)>,
    /// Brokers that were passed over.
    missing: Vec<admin::Missing>,
}

impl Tally {
    fn take(&mut self, outcomes: &[admin::DeadLetterOutcome]) {
        for outcome in outcomes {
            if outcome.done {
                self.done += 1;
            } else {
                let place = Place { broker: outcome.broker.clone(), offset: outcome.offset };
                let first = (0, format!("{} at offset {place}", outcome.message_id));
                self.staying.entry(outcome.reason.clone()).or_insert(first).0 += 1;
            }
        }
    }
}

/// Every letter that is there now, on one broker after the other.
async fn all_of(
    client: &mut Client,
    base: &admin::SettleDeadLettersRequest,
    action: Action,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (mut next, mut until) = (Some(Place::default()), None);
    while let Some(Place { broker, offset }) = next {
        let request = admin::SettleDeadLettersRequest {
            from_offset: Some(offset),
            until_offset: until,
            broker: broker.clone(),
            ..base.clone()
        };
        let answer = action.step(client, request).await?;
        tally.take(&answer.outcomes);
        tally.missing.extend(answer.missing);
        let following = answer.next_offset.map(|offset| Place { broker: answer.next_broker, offset });
        // What dies again meanwhile is not chased. The first answer names the broker that an empty name stood for.
        let is_same =
            following.as_ref().is_some_and(|next| next.broker == broker || (broker.is_empty() && next.offset > 0));
        until = is_same.then_some(answer.until_offset);
        if let Some(next) = following.as_ref().filter(|_| is_same) {
            eprintln!("{} {}, at offset {next} of {}", tally.done, action.done(), answer.until_offset);
        }
        next = following;
    }
    Ok(())
}

async fn settle(
    client: &mut Client,
    common: &CommonArgs,
    group: &str,
    which: Which,
    action: Action,
) -> Result<(), Failure> {
    let base = admin::SettleDeadLettersRequest {
        namespace: common.namespace.clone(),
        group: group.to_owned(),
        ..Default::default()
    };
    let mut tally = Tally::default();
    if which.all {
        all_of(client, &base, action, &mut tally).await?;
    } else {
        let mut left = find(client, common, group, &which.id).await?;
        while let Some(Place { broker, .. }) = left.first().cloned() {
            let there = left.iter().filter(|place| place.broker == broker).map(|place| place.offset);
            let offsets = there.take(PAGE as usize).collect();
            let request = admin::SettleDeadLettersRequest { offsets, broker: broker.clone(), ..base.clone() };
            let answer = action.step(client, request).await?;
            let before = left.len();
            let is_settled = |place: &Place| answer.outcomes.iter().any(|outcome| outcome.offset == place.offset);
            left.retain(|place| place.broker != broker || !is_settled(place));
            tally.take(&answer.outcomes);
            if left.len() == before {
                return Err(Failure::Failed("the broker's answer names none of the letters".to_owned()));
            }
        }
    }
    if !tally.missing.is_empty() {
        return Err(Failure::Failed(format!(
            "{} {}; nothing is known of {}. Run it again when they answer",
            tally.done,
            action.done(),
            missing::words(&tally.missing)
        )));
    }
    if tally.staying.is_empty() {
        let view = serde_json::json!({ "done": tally.done });
        show(common.output, &view, |_| format!("{} dead letters of {group} {}", tally.done, action.done()));
        return Ok(());
    }
    let staying: u64 = tally.staying.values().map(|(count, _)| count).sum();
    let reasons = tally.staying.iter().map(|(reason, (count, first))| match count {
        1 => format!("{first}: {reason}"),
        _ => format!("{first} and {} more: {reason}", count - 1),
    });
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    Err(Failure::Conflict(format!("{} {}, {staying} not: {reasons}", tally.done, action.done())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_its_offset_and_in_a_cluster_by_its_broker_too() {
        assert_eq!(place("17"), Ok(Place { broker: String::new(), offset: 17 }));
        assert_eq!(place("broker-1:17"), Ok(Place { broker: "broker-1".to_owned(), offset: 17 }));
        for text in ["17", "broker-1:17", "a:b:0"] {
            assert_eq!(place(text).map(|place| place.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "broker-1", "broker-1:", "broker-1:x"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
