//! `bolide admin dlq …`

use std::collections::BTreeMap;

use crate::cli::connect::Channel;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::CommonArgs;
use super::output::show;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::wire::admin;
use crate::wire::admin::admin_client::AdminClient;

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
        /// Begin at this offset
        #[arg(long, default_value_t = 0)]
        from: i64,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Show a letter: where it came from, its properties, the first bytes of its body
    Show {
        group: String,
        /// Message id
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
    /// Message id; may be given more than once
    #[arg(long)]
    id: Vec<String>,
    /// Every letter that is there now
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Serialize)]
struct LetterView {
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
}

#[derive(Debug, Serialize)]
struct ListView {
    letters: Vec<LetterView>,
    /// Letters that are there altogether.
    total: u64,
    /// Where to go on.
    next: Option<i64>,
}

impl ListView {
    fn text(&self) -> String {
        let mut table = Table::new(&["OFFSET", "ID", "TOPIC", "ATTEMPTS", "MOVED AT", "BYTES", "REASON"]);
        for letter in &self.letters {
            table.row(vec![
                letter.offset.to_string(),
                letter.id.clone(),
                letter.topic.clone(),
                letter.attempts.to_string(),
                letter.moved_at.clone(),
                letter.body_bytes.to_string(),
                letter.reason.clone(),
            ]);
        }
        let more = self.next.map(|next| format!("; more: --from {next}")).unwrap_or_default();
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
            format!("{} at offset {}, from topic {}", letter.id, letter.offset, letter.topic),
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
    client: &'a mut AdminClient<Channel>,
    common: &'a CommonArgs,
    group: &'a str,
    next: Option<i64>,
}

impl Pages<'_> {
    async fn next(&mut self, limit: u32) -> Result<Option<admin::ListDeadLettersResponse>, Failure> {
        let Some(from_offset) = self.next else { return Ok(None) };
        let (namespace, group) = (self.common.namespace.clone(), self.group.to_owned());
        let request = admin::ListDeadLettersRequest { namespace, group, from_offset, limit };
        let page = self.client.list_dead_letters(request).await?.into_inner();
        self.next = page.next_offset;
        Ok(Some(page))
    }
}

pub(super) async fn run(
    client: &mut AdminClient<Channel>,
    common: &CommonArgs,
    command: DlqCommand,
) -> Result<(), Failure> {
    match command {
        DlqCommand::List { group, from, limit } => list(client, common, &group, from, limit).await,
        DlqCommand::Show { group, id } => show_one(client, common, &group, &id).await,
        DlqCommand::Redrive { group, which } => settle(client, common, &group, which, Action::Redrive).await,
        DlqCommand::Purge { group, which } => settle(client, common, &group, which, Action::Purge).await,
    }
}

async fn list(
    client: &mut AdminClient<Channel>,
    common: &CommonArgs,
    group: &str,
    from: i64,
    limit: u64,
) -> Result<(), Failure> {
    let mut pages = Pages { client, common, group, next: Some(from) };
    let mut view = ListView { letters: Vec::new(), total: 0, next: Some(from) };
    while (view.letters.len() as u64) < limit {
        let left = limit - view.letters.len() as u64;
        let Some(page) = pages.next(u32::try_from(left).unwrap_or(PAGE).min(PAGE)).await? else { break };
        view.total = page.total;
        view.next = page.next_offset;
        view.letters.extend(page.letters.into_iter().map(LetterView::new));
    }
    show(common.output, &view, ListView::text);
    Ok(())
}

/// Offsets of the letters with these ids; an id may stand for several.
async fn find(
    client: &mut AdminClient<Channel>,
    common: &CommonArgs,
    group: &str,
    ids: &[String],
) -> Result<Vec<i64>, Failure> {
    let mut pages = Pages { client, common, group, next: Some(0) };
    let mut offsets = Vec::new();
    let mut missing: Vec<&String> = ids.iter().collect();
    while let Some(page) = pages.next(PAGE).await? {
        for letter in page.letters.iter().filter(|letter| ids.contains(&letter.message_id)) {
            offsets.push(letter.offset);
            missing.retain(|id| **id != letter.message_id);
        }
    }
    match missing.first() {
        Some(id) => Err(Failure::NotFound(format!("{group} has no dead letter {id}; nothing was done"))),
        None => Ok(offsets),
    }
}

async fn show_one(
    client: &mut AdminClient<Channel>,
    common: &CommonArgs,
    group: &str,
    id: &str,
) -> Result<(), Failure> {
    let mut views = Vec::new();
    for offset in find(client, common, group, &[id.to_owned()]).await? {
        let request =
            admin::ShowDeadLetterRequest { namespace: common.namespace.clone(), group: group.to_owned(), offset };
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
        client: &mut AdminClient<Channel>,
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
}

impl Tally {
    fn take(&mut self, outcomes: &[admin::DeadLetterOutcome]) {
        for outcome in outcomes {
            if outcome.done {
                self.done += 1;
            } else {
                let first = (0, format!("{} at offset {}", outcome.message_id, outcome.offset));
                self.staying.entry(outcome.reason.clone()).or_insert(first).0 += 1;
            }
        }
    }
}

async fn settle(
    client: &mut AdminClient<Channel>,
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
        let (mut next, mut until) = (Some(0), None);
        while let Some(from) = next {
            let request =
                admin::SettleDeadLettersRequest { from_offset: Some(from), until_offset: until, ..base.clone() };
            let answer = action.step(client, request).await?;
            tally.take(&answer.outcomes);
            next = answer.next_offset;
            // What dies again meanwhile is not chased.
            until = Some(answer.until_offset);
            if let Some(next) = next {
                eprintln!("{} {}, at offset {next} of {}", tally.done, action.done(), answer.until_offset);
            }
        }
    } else {
        let mut left = find(client, common, group, &which.id).await?;
        while !left.is_empty() {
            let offsets = left.iter().copied().take(PAGE as usize).collect();
            let answer = action.step(client, admin::SettleDeadLettersRequest { offsets, ..base.clone() }).await?;
            let before = left.len();
            left.retain(|offset| !answer.outcomes.iter().any(|outcome| outcome.offset == *offset));
            tally.take(&answer.outcomes);
            if left.len() == before {
                return Err(Failure::Failed("the broker's answer names none of the letters".to_owned()));
            }
        }
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
