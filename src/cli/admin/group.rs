//! `bolide admin group …`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::CommonArgs;
use super::output::show;
use super::reset::{self, ResetArgs};
use super::{missing, wait, words};
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::config::units::parse_duration;
use crate::wire::admin;

const CREATE_HELP: &str = "\
Settings not given: ordered auto, 17 attempts, start earliest, consume timeout 3h, enabled, and pauses from 1s to 2h.";

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// Create a consumer group; one that exists with the same settings is fine
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
    /// List groups, of every namespace unless --namespace names one
    List,
    /// Show the settings of a group
    Show { name: String },
    /// Delete a group and its progress on every topic
    Delete { name: String },
    /// Show what a group still has to do
    Lag {
        name: String,
        /// On this topic only
        #[arg(long)]
        topic: Option<String>,
    },
    /// Move a group to another position on a topic, forwards or back
    #[command(after_help = reset::HELP)]
    Reset(ResetArgs),
}

#[derive(Args, Debug)]
pub(super) struct Settings {
    /// Deliver in order: true, false, or auto (ordered exactly on FIFO topics)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = words::ordered)]
    ordered: Option<Ordered>,
    /// Deliveries, the first included, before a message goes to the dead-letter queue
    #[arg(long)]
    max_attempts: Option<u32>,
    /// Where a topic is begun: earliest, latest, 2026-01-31T12:00:00Z or milliseconds since 1970
    #[arg(long, value_parser = words::start)]
    start: Option<admin::StartPosition>,
    /// Pauses between attempts: 1s,5s,30s (the last repeats), or exponential:1s,2h,2 (initial, longest, multiplier)
    #[arg(long, value_parser = words::backoff)]
    backoff: Option<words::Backoff>,
    /// Longest time a delivery stays with a live push consumer
    #[arg(long, value_parser = parse_duration)]
    consume_timeout: Option<Duration>,
    /// Whether its members may receive: true or false
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = words::flag)]
    enabled: Option<bool>,
    /// Whether a lite topic has one subscriber of the group at a time, the newest: true or false
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = words::flag)]
    lite_exclusive: Option<bool>,
}

type Ordered = Option<bool>;

/// A group in the answer to a script.
#[derive(Debug, Serialize)]
struct GroupView {
    namespace: String,
    name: String,
    /// Absent: decided by the topic.
    ordered: Option<bool>,
    start: String,
    max_attempts: u32,
    backoff: String,
    consume_timeout: Option<String>,
    enabled: bool,
    lite_exclusive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
}

impl GroupView {
    fn new(group: Option<admin::Group>) -> Result<Self, Failure> {
        let group = group.ok_or_else(|| Failure::Failed("the broker's answer holds no group".to_owned()))?;
        Ok(Self {
            ordered: group.ordered,
            start: words::start_name(group.start_position.as_ref()),
            max_attempts: group.retry_policy.as_ref().map_or(0, |policy| policy.max_attempts),
            backoff: words::backoff_name(group.retry_policy.as_ref()),
            consume_timeout: group.consume_timeout.as_ref().map(words::duration_name),
            enabled: group.enabled(),
            lite_exclusive: group.lite_exclusive,
            namespace: group.namespace,
            name: group.name,
            created: None,
        })
    }

    fn ordered(&self) -> &'static str {
        match self.ordered {
            None => "auto",
            Some(true) => "true",
            Some(false) => "false",
        }
    }

    fn details(&self) -> String {
        format!(
            "ordered {}, start {}, {} attempts, consume timeout {}, {}{}\n  backoff {}",
            self.ordered(),
            self.start,
            self.max_attempts,
            self.consume_timeout.as_deref().unwrap_or("default"),
            if self.enabled { "enabled" } else { "disabled" },
            if self.lite_exclusive { ", lite topics exclusive" } else { "" },
            self.backoff
        )
    }
}

/// What a group still has to do in one queue, in the answer to a script.
#[derive(Debug, Serialize)]
struct LagView {
    topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    broker: String,
    queue: u32,
    min_offset: i64,
    max_offset: i64,
    next_offset: i64,
    lag: u64,
    ready: u64,
    in_flight: u64,
    waiting_retry: u64,
    oldest_age_ms: Option<u64>,
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: GroupCommand) -> Result<(), Failure> {
    let (namespace, output) = (common.namespace.clone(), common.output);
    match command {
        GroupCommand::Create { name, settings } => {
            let request = admin::CreateGroupRequest { group: Some(new_group(namespace, name, settings)?) };
            let answer = client.create_group(request).await?.into_inner();
            let mut view = GroupView::new(answer.group)?;
            view.created = Some(answer.created);
            let what = if answer.created { "created" } else { "exists already, with the same settings" };
            wait::everywhere(client, answer.revision, &format!("group {} {what}", view.name)).await?;
            show(output, &view, |view| format!("group {} {what} ({})", view.name, view.details()));
        }
        GroupCommand::Update { name, settings } => {
            let request = change(namespace, name, settings);
            let answer = client.update_group(request).await?.into_inner();
            let view = GroupView::new(answer.group)?;
            wait::everywhere(client, answer.revision, &format!("group {} changed", view.name)).await?;
            show(output, &view, |view| format!("group {} is now: {}", view.name, view.details()));
        }
        GroupCommand::List => {
            let request = admin::ListGroupsRequest { namespace: (!namespace.is_empty()).then_some(namespace) };
            let groups = client.list_groups(request).await?.into_inner().groups;
            let views = groups.into_iter().map(|group| GroupView::new(Some(group))).collect::<Result<Vec<_>, _>>()?;
            show(output, &views, list);
        }
        GroupCommand::Show { name } => {
            let answer = client.show_group(admin::ShowGroupRequest { namespace, name }).await?.into_inner();
            show(output, &GroupView::new(answer.group)?, |view| format!("{}: {}", view.name, view.details()));
        }
        GroupCommand::Delete { name } => {
            client.delete_group(admin::DeleteGroupRequest { namespace, name: name.clone() }).await?;
            show(output, &serde_json::json!({ "deleted": name }), |_| format!("group {name} deleted"));
        }
        GroupCommand::Lag { name, topic } => {
            let answer = client.group_lag(admin::GroupLagRequest { namespace, name, topic }).await?.into_inner();
            missing::warn(&answer.missing);
            show(output, &lags(answer), |lags| lag_table(lags));
        }
        GroupCommand::Reset(args) => reset::run(client, common, args).await?,
    }
    Ok(())
}

fn new_group(namespace: String, name: String, settings: Settings) -> Result<admin::Group, Failure> {
    use admin::retry_policy::Backoff as W;
    if settings.max_attempts == Some(0) {
        return Err(Failure::Usage("--max-attempts 0: a message is delivered at least once".to_owned()));
    }
    let backoff = settings.backoff.map(|backoff| match backoff {
        words::Backoff::Customized(wire) => W::Customized(wire),
        words::Backoff::Exponential(wire) => W::Exponential(wire),
    });
    Ok(admin::Group {
        namespace,
        name,
        ordered: settings.ordered.flatten(),
        start_position: settings.start,
        retry_policy: Some(admin::RetryPolicy { max_attempts: settings.max_attempts.unwrap_or_default(), backoff }),
        consume_timeout: settings.consume_timeout.map(words::to_wire),
        enabled: settings.enabled,
        lite_exclusive: settings.lite_exclusive.unwrap_or_default(),
    })
}

fn change(namespace: String, name: String, settings: Settings) -> admin::UpdateGroupRequest {
    use admin::update_group_request::Backoff as W;
    admin::UpdateGroupRequest {
        namespace,
        name,
        ordered: settings.ordered.flatten(),
        clear_ordered: settings.ordered == Some(None),
        start_position: settings.start,
        max_attempts: settings.max_attempts,
        consume_timeout: settings.consume_timeout.map(words::to_wire),
        enabled: settings.enabled,
        lite_exclusive: settings.lite_exclusive,
        backoff: settings.backoff.map(|backoff| match backoff {
            words::Backoff::Customized(wire) => W::Customized(wire),
            words::Backoff::Exponential(wire) => W::Exponential(wire),
        }),
    }
}

fn list(views: &Vec<GroupView>) -> String {
    let mut table = Table::new(&["NAMESPACE", "NAME", "ORDERED", "START", "ATTEMPTS", "CONSUME TIMEOUT", "ENABLED"]);
    for view in views {
        table.row(vec![
            if view.namespace.is_empty() { "-".to_owned() } else { view.namespace.clone() },
            view.name.clone(),
            view.ordered().to_owned(),
            view.start.clone(),
            view.max_attempts.to_string(),
            view.consume_timeout.clone().unwrap_or_else(|| "default".to_owned()),
            view.enabled.to_string(),
        ]);
    }
    table.text()
}

fn lags(answer: admin::GroupLagResponse) -> Vec<LagView> {
    let mut views = Vec::new();
    for topic in answer.topics {
        views.extend(topic.queues.iter().map(|queue| {
            LagView {
                topic: topic.topic.clone(),
                broker: queue.broker.clone(),
                queue: queue.queue_id,
                min_offset: queue.min_offset,
                max_offset: queue.max_offset,
                next_offset: queue.committed_offset,
                lag: queue.lag,
                ready: queue.ready,
                in_flight: queue.in_flight,
                waiting_retry: queue.waiting_retry,
                oldest_age_ms: queue
                    .oldest_unconsumed_age
                    .as_ref()
                    .map(|age| u64::try_from(words::from_wire(age).as_millis()).unwrap_or(u64::MAX)),
            }
        }));
    }
    views
}

/// Queue of the row that stands for all lite topics.
const LITE_ROW: u32 = 0x8000_0000;

fn lag_table(lags: &[LagView]) -> String {
    let headings = ["BROKER", "TOPIC", "QUEUE", "FIRST", "NEXT", "END", "LAG", "READY", "IN FLIGHT", "RETRY", "OLDEST"];
    let mut table = Table::new(&headings);
    for lag in lags {
        let oldest = lag.oldest_age_ms.map(|millis| {
            let age = Duration::from_millis(millis);
            // People do not care for milliseconds of an age.
            crate::config::units::duration_text(if millis < 1000 { age } else { Duration::from_secs(age.as_secs()) })
        });
        table.row(vec![
            lag.broker.clone(),
            lag.topic.clone(),
            if lag.queue >= LITE_ROW { "lite".to_owned() } else { lag.queue.to_string() },
            lag.min_offset.to_string(),
            lag.next_offset.to_string(),
            lag.max_offset.to_string(),
            lag.lag.to_string(),
            lag.ready.to_string(),
            lag.in_flight.to_string(),
            lag.waiting_retry.to_string(),
            oldest.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let total: u64 = lags.iter().map(|lag| lag.lag).sum();
    let mut brokers: Vec<(&str, u64)> = Vec::new();
    for lag in lags.iter().filter(|lag| !lag.broker.is_empty()) {
        match brokers.iter_mut().find(|(broker, _)| *broker == lag.broker) {
            Some((_, sum)) => *sum += lag.lag,
            None => brokers.push((&lag.broker, lag.lag)),
        }
    }
    brokers.sort_unstable();
    let sums = brokers.iter().map(|(broker, lag)| format!("{broker} {lag}")).collect::<Vec<_>>().join(", ");
    let sums = if brokers.len() > 1 { format!(" ({sums})") } else { String::new() };
    format!("{}\nlag {total}{sums}", table.without_empty_first().text())
}
