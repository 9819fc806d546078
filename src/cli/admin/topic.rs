//! `bolide admin topic …`

use clap::{Args, Subcommand};
use serde::Serialize;
use std::time::Duration;

use super::missing::{self, MissingView};
use super::output::show;
use super::{CommonArgs, Output};
use super::{moves, wait, words};
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::wire::admin;

const CREATE_HELP: &str =
"Settings not given: type normal, 8 queues (priority: 1), permission rw, promise durable, retention default.

In a cluster a topic has so many queues on each broker; one of type priority or lite lives on a single broker. The command ends when
the topic can be used through every proxy.";

#[derive(Debug, Subcommand)]
pub(super) enum TopicCommand {
    /// Create a topic; one that exists with the same settings is fine
    #[command(after_help = CREATE_HELP)]
    Create {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change the given settings; the others stay as they are
    Update {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List topics, of every namespace unless --namespace names one
    List {
        /// Dead-letter topics too
        #[arg(long)]
        internal: bool,
    },
    /// Show the settings of a topic and what its queues hold
    Show { name: String },
    /// Delete a topic with its messages and the progress of all groups on it
    Delete { name: String },
    /// Spread a topic over all brokers of a cluster that are not draining
    #[command(after_help = moves::REBALANCE_HELP)]
    Rebalance(moves::RebalanceArgs),
}

#[derive(Args, Debug)]
pub(super) struct Settings {
    /// Kind of messages: normal, fifo, delay, transaction, priority, lite, mixed
    #[arg(long = "type", value_parser = words::topic_type, value_name = "TYPE")]
    topic_type: Option<admin::TopicType>,
    /// Queues, 1 to 1024; they can grow later, not shrink. Of a priority topic so many for each of its ten levels
    #[arg(long)]
    queues: Option<u32>,
    /// What clients may do: rw, r, w, none
    #[arg(long, value_parser = words::permission)]
    permission: Option<admin::Permission>,
    /// What an OK means: durable (on disk) or written (in the page cache)
    #[arg(long, value_parser = words::promise)]
    promise: Option<admin::Promise>,
    /// How long messages stay, as 24h; at most the broker's storage.retention_age (72h by default); `default` for that one
    #[arg(long, value_parser = words::retention)]
    retention: Option<Retention>,
    /// How long a lite topic below this one may be without activity, as 24h; `never` for ever, which is the default
    #[arg(long, value_parser = words::lite_ttl)]
    lite_ttl: Option<Retention>,
}

type Retention = Option<Duration>;

/// A topic in the answer to a script.
#[derive(Debug, Serialize)]
struct TopicView {
    namespace: String,
    name: String,
    r#type: &'static str,
    queues: u32,
    permission: &'static str,
    promise: &'static str,
    retention: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topics: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranges: Option<Vec<RangeView>>,
    /// Groups that have something to do on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<Vec<ReaderView>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingView>,
}

#[derive(Debug, Serialize)]
struct ReaderView {
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    group: String,
    outstanding: u64,
}

#[derive(Debug, Serialize)]
struct RangeView {
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
    queue: u32,
    min_offset: i64,
    max_offset: i64,
    messages: u64,
}

impl TopicView {
    fn new(topic: Option<admin::Topic>) -> Result<Self, Failure> {
        let topic = topic.ok_or_else(|| Failure::Failed("the broker's answer holds no topic".to_owned()))?;
        Ok(Self {
            r#type: words::topic_type_name(topic.r#type()),
            permission: words::permission_name(topic.permission()),
            promise: words::promise_name(topic.promise()),
            retention: topic.retention.as_ref().map(words::duration_name),
            lite_ttl: topic.lite_ttl.as_ref().map(words::duration_name),
            lite_topics: None,
            queues: topic.queues,
            namespace: topic.namespace,
            name: topic.name,
            created: None,
            ranges: None,
            readers: None,
            missing: Vec::new(),
        })
    }

    fn settings(&self) -> String {
        let retention = self.retention.as_deref().unwrap_or("default");
        let lite = self.lite_ttl.as_ref().map(|ttl| format!(", lite ttl {ttl}")).unwrap_or_default();
        format!(
            "type {}, {} queues, permission {}, promise {}, retention {retention}{lite}",
            self.r#type, self.queues, self.permission, self.promise
        )
    }

    fn details(&self) -> String {
        let ranges = self.ranges.as_deref().unwrap_or_default();
        let mut table = Table::new(&["BROKER", "QUEUE", "FIRST", "NEXT", "MESSAGES"]);
        for range in ranges {
            let numbers = [range.min_offset, range.max_offset];
            let mut row = vec![range.broker.clone(), range.queue.to_string()];
            row.extend(numbers.iter().map(i64::to_string));
            row.push(range.messages.to_string());
            table.row(row);
        }
        let total: u64 = ranges.iter().map(|range| range.messages).sum();
        let lite = match self.lite_topics {
            None | Some(0) => String::new(),
            Some(count) => format!(", beside those of {count} lite topics (bolide admin lite list {})", self.name),
        };
        let table = table.without_empty_first().text();
        let readers = self.readers.iter().flatten();
        let readers: String =
            readers.map(|reader| format!("\ngroup {} has {} to do here", reader.group, reader.outstanding)).collect();
        format!("{}: {}\n{table}\n{total} messages{lite}{readers}", self.name, self.settings())
    }
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: TopicCommand) -> Result<(), Failure> {
    let (namespace, output) = (common.namespace.clone(), common.output);
    match command {
        TopicCommand::Create { name, settings } => {
            let topic = admin::Topic {
                namespace,
                name,
                r#type: settings.topic_type.unwrap_or_default().into(),
                queues: settings.queues.unwrap_or_default(),
                permission: settings.permission.unwrap_or_default().into(),
                promise: settings.promise.unwrap_or_default().into(),
                retention: settings.retention.flatten().map(words::to_wire),
                lite_ttl: settings.lite_ttl.flatten().map(words::to_wire),
            };
            if settings.queues == Some(0) {
                return Err(Failure::Usage("--queues 0: a topic has at least one queue".to_owned()));
            }
            let request = admin::CreateTopicRequest { topic: Some(topic) };
            let answer = client.create_topic(request).await?.into_inner();
            let mut view = TopicView::new(answer.topic)?;
            view.created = Some(answer.created);
            let what = if answer.created { "created" } else { "exists already, with the same settings" };
            wait::everywhere(client, answer.revision, &format!("topic {} {what}", view.name)).await?;
            show(output, &view, |view| format!("topic {} {what} ({})", view.name, view.settings()));
        }
        TopicCommand::Update { name, settings } => {
            let request = admin::UpdateTopicRequest {
                namespace,
                name,
                r#type: settings.topic_type.map(Into::into),
                queues: settings.queues,
                permission: settings.permission.map(Into::into),
                promise: settings.promise.map(Into::into),
                retention: settings.retention.flatten().map(words::to_wire),
                clear_retention: settings.retention == Some(None),
                lite_ttl: settings.lite_ttl.flatten().map(words::to_wire),
                clear_lite_ttl: settings.lite_ttl == Some(None),
            };
            let answer = client.update_topic(request).await?.into_inner();
            let view = TopicView::new(answer.topic)?;
            wait::everywhere(client, answer.revision, &format!("topic {} changed", view.name)).await?;
            show(output, &view, |view| format!("topic {} is now: {}", view.name, view.settings()));
        }
        TopicCommand::List { internal } => {
            let namespace = (!namespace.is_empty()).then_some(namespace);
            let request = admin::ListTopicsRequest { namespace, include_internal: internal };
            list(client.list_topics(request).await?.into_inner().topics, output)?;
        }
        TopicCommand::Show { name } => {
            let answer = client.show_topic(admin::ShowTopicRequest { namespace, name }).await?.into_inner();
            let mut view = TopicView::new(answer.topic)?;
            let ranges = answer.queues.iter().map(|range| RangeView {
                broker: range.broker.clone(),
                queue: range.queue_id,
                min_offset: range.min_offset,
                max_offset: range.max_offset,
                messages: range.messages,
            });
            view.ranges = Some(ranges.collect());
            view.lite_topics = Some(answer.lite_topics);
            let readers = answer.readers.into_iter().map(|reader| ReaderView {
                namespace: reader.namespace,
                group: reader.group,
                outstanding: reader.outstanding,
            });
            view.readers = Some(readers.collect());
            missing::warn(&answer.missing);
            view.missing = missing::views(answer.missing);
            show(output, &view, TopicView::details);
        }
        TopicCommand::Delete { name } => {
            client.delete_topic(admin::DeleteTopicRequest { namespace, name: name.clone() }).await?;
            show(output, &serde_json::json!({ "deleted": name }), |_| format!("topic {name} deleted"));
        }
        TopicCommand::Rebalance(args) => moves::rebalance(client, common, args).await?,
    }
    Ok(())
}

fn list(topics: Vec<admin::Topic>, output: Output) -> Result<(), Failure> {
    let views = topics.into_iter().map(|topic| TopicView::new(Some(topic))).collect::<Result<Vec<_>, _>>()?;
    show(output, &views, |views| {
        let mut table = Table::new(&["NAMESPACE", "NAME", "TYPE", "QUEUES", "PERMISSION", "PROMISE", "RETENTION"]);
        for view in views {
            table.row(vec![
                if view.namespace.is_empty() { "-".to_owned() } else { view.namespace.clone() },
                view.name.clone(),
                view.r#type.to_owned(),
                view.queues.to_string(),
                view.permission.to_owned(),
                view.promise.to_owned(),
                view.retention.clone().unwrap_or_else(|| "default".to_owned()),
            ]);
        }
        table.text()
    });
    Ok(())
}
