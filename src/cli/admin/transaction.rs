//! `bolide admin transaction …`

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::CommonArgs;
use super::missing;
use super::output::show;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::wire::admin;

const END_HELP: &str = "\
The id is that of the message, as its sender got it. The same end once more succeeds; the other one is refused.
A transaction that was given up after its last check can be settled for 72 h (broker.transaction_discarded_kept).";

#[derive(Debug, Subcommand)]
pub(super) enum TransactionCommand {
    /// List transactions that have not ended
    List {
        /// Of this topic only; else of every topic of every namespace
        #[arg(long)]
        topic: Option<String>,
        /// pending: their producers are asked; discarded: given up after the last check; all
        #[arg(long, value_enum, default_value_t = State::Pending)]
        state: State,
        /// Most rows; more are announced and not shown
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Make the message of a transaction visible
    #[command(after_help = END_HELP)]
    Commit { topic: String, id: String },
    /// Drop the message of a transaction
    #[command(after_help = END_HELP)]
    Rollback { topic: String, id: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Pending,
    Discarded,
    All,
}

/// A transaction in the answer to a script.
#[derive(Debug, Serialize)]
struct TransactionView {
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
    namespace: String,
    topic: String,
    id: String,
    state: &'static str,
    stored_at: Option<String>,
    producer: String,
    body_bytes: u32,
    checks: u32,
    next_check: Option<String>,
    discarded_at: Option<String>,
}

impl TransactionView {
    fn new(wire: admin::OpenTransaction) -> Self {
        let instant = |at: Option<prost_types::Timestamp>| at.map(|at| at.to_string());
        Self {
            state: match wire.state() {
                admin::TransactionState::Discarded => "discarded",
                _ => "pending",
            },
            stored_at: instant(wire.stored_at),
            next_check: instant(wire.next_check),
            discarded_at: instant(wire.discarded_at),
            broker: wire.broker,
            namespace: wire.namespace,
            topic: wire.topic,
            id: wire.id,
            producer: wire.producer,
            body_bytes: wire.body_bytes,
            checks: wire.checks,
        }
    }
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: TransactionCommand) -> Result<(), Failure> {
    match command {
        TransactionCommand::List { topic, state, limit } => list(client, common, topic, state, limit).await,
        TransactionCommand::Commit { topic, id } => {
            end(client, common, topic, id, admin::TransactionEnd::Commit, "committed").await
        }
        TransactionCommand::Rollback { topic, id } => {
            end(client, common, topic, id, admin::TransactionEnd::Rollback, "rolled back").await
        }
    }
}

async fn end(
    client: &mut Client,
    common: &CommonArgs,
    topic: String,
    id: String,
    end: admin::TransactionEnd,
    word: &str,
) -> Result<(), Failure> {
    let request = admin::EndTransactionRequest {
        namespace: common.namespace.clone(),
        topic: topic.clone(),
        id: id.clone(),
        end: end.into(),
    };
    client.end_transaction(request).await?;
    let view = serde_json::json!({ "topic": topic, "id": id, "end": word });
    show(common.output, &view, |_| format!("transaction {id} of topic {topic} {word}"));
    Ok(())
}

async fn list(
    client: &mut Client,
    common: &CommonArgs,
    topic: Option<String>,
    state: State,
    limit: usize,
) -> Result<(), Failure> {
    let state = match state {
        State::Pending => admin::TransactionState::Pending,
        State::Discarded => admin::TransactionState::Discarded,
        State::All => admin::TransactionState::All,
    };
    let (mut views, mut lacking) = (Vec::new(), Vec::new());
    let mut page_token = String::new();
    loop {
        let left = u32::try_from((limit - views.len()).max(1)).unwrap_or(u32::MAX);
        let request = admin::ListTransactionsRequest {
            namespace: common.namespace.clone(),
            topic: topic.clone(),
            state: state.into(),
            page_size: left,
            page_token,
        };
        let page = client.list_transactions(request).await?.into_inner();
        lacking.extend(page.missing);
        views.extend(page.transactions.into_iter().map(TransactionView::new));
        page_token = page.next_page_token;
        if page_token.is_empty() || views.len() >= limit {
            break;
        }
    }
    missing::warn(&lacking);
    let cut = if page_token.is_empty() { "" } else { "\nthere are more; --limit shows them" };
    show(common.output, &views, |views| table(views) + cut);
    Ok(())
}

fn table(views: &[TransactionView]) -> String {
    let mut table = Table::new(&["BROKER", "TOPIC", "ID", "STATE", "STORED", "CHECKS", "NEXT CHECK", "PRODUCER"]);
    for view in views {
        let topic = match view.namespace.as_str() {
            "" => view.topic.clone(),
            namespace => format!("{namespace}%{}", view.topic),
        };
        table.row(vec![
            view.broker.clone(),
            topic,
            view.id.clone(),
            view.state.to_owned(),
            view.stored_at.clone().unwrap_or_default(),
            view.checks.to_string(),
            view.next_check.clone().unwrap_or_else(|| "-".to_owned()),
            view.producer.clone(),
        ]);
    }
    table.without_empty_first().text()
}
