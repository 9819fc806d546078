//! `bolide admin lite …`

use clap::Subcommand;
use serde::Serialize;

use super::CommonArgs;
use super::missing::{self, MissingView};
use super::output::show;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::wire::admin;

#[derive(Debug, Subcommand)]
pub(super) enum LiteCommand {
    /// List the lite topics below a topic, by name, a page at a time
    List {
        topic: String,
        /// Only names that begin so
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: String,
        /// Only names behind this one: the last of the page before
        #[arg(long, default_value = "", hide_default_value = true)]
        after: String,
        /// Most names, 1 to 1000
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

/// A page in the answer to a script.
#[derive(Debug, Serialize)]
struct PageView {
    lite_topics: Vec<LiteView>,
    more: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingView>,
}

#[derive(Debug, Serialize)]
struct LiteView {
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
    name: String,
    min_offset: i64,
    max_offset: i64,
    messages: u64,
    groups: u32,
    subscribers: u32,
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: LiteCommand) -> Result<(), Failure> {
    let LiteCommand::List { topic, prefix, after, limit } = command;
    let namespace = common.namespace.clone();
    let request = admin::ListLiteTopicsRequest { namespace, topic, prefix, after, limit };
    let answer = client.list_lite_topics(request).await?.into_inner();
    let view = |lite: admin::LiteTopic| LiteView {
        broker: lite.broker,
        name: lite.name,
        min_offset: lite.min_offset,
        max_offset: lite.max_offset,
        messages: lite.messages,
        groups: lite.groups,
        subscribers: lite.subscribers,
    };
    missing::warn(&answer.missing);
    let page = PageView {
        lite_topics: answer.lite_topics.into_iter().map(view).collect(),
        more: answer.more,
        missing: missing::views(answer.missing),
    };
    show(common.output, &page, table);
    Ok(())
}

fn table(page: &PageView) -> String {
    let mut table = Table::new(&["BROKER", "LITE TOPIC", "FIRST", "NEXT", "MESSAGES", "GROUPS", "SUBSCRIBERS"]);
    for lite in &page.lite_topics {
        table.row(vec![
            lite.broker.clone(),
            lite.name.clone(),
            lite.min_offset.to_string(),
            lite.max_offset.to_string(),
            lite.messages.to_string(),
            lite.groups.to_string(),
            lite.subscribers.to_string(),
        ]);
    }
    let table = table.without_empty_first().text();
    match page.lite_topics.last() {
        Some(last) if page.more => format!("{table}\nmore with --after {}", last.name),
        _ => table,
    }
}
