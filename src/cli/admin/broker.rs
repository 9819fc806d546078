//! `bolide admin broker …`

use clap::Subcommand;
use serde::Serialize;

use super::CommonArgs;
use super::cluster::{MemberView, ShardView, members, shards, state};
use super::moves::LOOK_EVERY;
use super::output::show;
use super::wait;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::config::units::size_rounded;
use crate::model::cluster::Revision;
use crate::wire::admin;

const DRAIN_HELP: &str = "\
New messages go to the other brokers, and topics move away with the order of their message groups kept. What lies on the broker is
read from there as before, so leave it running until the command ends; a group that nobody runs keeps it from ending (delete the
group, or move it: bolide admin group reset GROUP --topic TOPIC --to latest). Nothing is interrupted. After Ctrl-C the broker goes on
emptying itself; the same command shows the rest.

Dead letters stay where they are (bolide admin dlq list GROUP): redrive or purge them before the broker goes. `undrain`
gives the broker new messages again; topics come back with bolide admin topic rebalance --all.";

const FORGET_HELP: &str = "\
A broker's name belongs to the data directory in which its messages lie; another directory under that name is refused. When the
directory is lost for good, or was emptied on purpose, this gives its messages up: the next broker that starts under the name has its
place, with whatever is in its own directory. Should the old directory come back afterwards, it is refused.

A broker that does not follow a route service whose data were put back to an older copy keeps its messages, and follows it afterwards:
topics and groups that are not in the older copy are deleted there.

A broker that runs is not given up: stop it first, and wait until `bolide admin broker list` shows it as away.";

#[derive(Debug, Subcommand)]
pub(super) enum BrokerCommand {
    /// List the brokers of a cluster
    List,
    /// Empty a broker, so that it can go
    #[command(after_help = DRAIN_HELP)]
    Drain {
        name: String,
        /// Do not wait until it is empty
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a broker take new messages again
    Undrain { name: String },
    /// Give up what lay on a broker whose data directory is lost, so that another one can take its name
    #[command(after_help = FORGET_HELP)]
    Forget { name: String },
}

#[derive(Debug, Serialize)]
struct BrokerView {
    #[serde(flatten)]
    member: MemberView,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<ShardView>,
}

/// What lies on a broker, in the answer to a script.
#[derive(Debug, Serialize)]
struct DrainView {
    broker: String,
    draining: bool,
    /// Topics that still have to move away.
    topics: Vec<String>,
    /// Topics that moved away and left messages that some group has not read.
    leaving: Vec<String>,
    /// Dead-letter topics that may hold something there.
    dead_letters: Vec<String>,
}

/// A name that is free again, in the answer to a script.
#[derive(Debug, Serialize)]
struct ForgetView {
    broker: String,
    revision: u64,
}

impl DrainView {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.leaving.is_empty()
    }

    fn left(&self) -> String {
        let mut parts = Vec::new();
        let some = |names: &[String]| match names {
            [one] => one.clone(),
            [first, ..] => format!("{first} and {} more", names.len() - 1),
            [] => String::new(),
        };
        if !self.topics.is_empty() {
            parts.push(format!("{} topics to move away ({})", self.topics.len(), some(&self.topics)));
        }
        if !self.leaving.is_empty() {
            let of = some(&self.leaving);
            parts.push(format!("messages of {} topics not read by every group ({of})", self.leaving.len()));
        }
        parts.join(", ")
    }
}

pub(super) async fn run(client: &mut Client, common: &CommonArgs, command: BrokerCommand) -> Result<(), Failure> {
    match command {
        BrokerCommand::List => list(client, common).await,
        BrokerCommand::Drain { name, no_wait } => drain(client, common, name, no_wait).await,
        BrokerCommand::Undrain { name } => {
            let answer = client.drain_broker(admin::DrainBrokerRequest { broker: name.clone(), drain: false }).await?;
            let done = format!("{name} takes new messages again");
            wait::everywhere(client, Some(answer.into_inner().revision), &done).await?;
            let view = look(client, &name).await?;
            show(common.output, &view, |_| format!("{done}; topics come back with bolide admin topic rebalance --all"));
            Ok(())
        }
        BrokerCommand::Forget { name } => {
            let answer = client.forget_broker(admin::ForgetBrokerRequest { broker: name.clone() }).await?.into_inner();
            let view = ForgetView { broker: name, revision: answer.revision };
            show(common.output, &view, |view| {
                format!("what lay on {} is given up: the next broker of this name has its place", view.broker)
            });
            Ok(())
        }
    }
}

async fn list(client: &mut Client, common: &CommonArgs) -> Result<(), Failure> {
    let answer = client.cluster_status(admin::ClusterStatusRequest {}).await?.into_inner();
    let newest = answer.revision;
    let mut logs = shards(answer.shards);
    let brokers = members(answer.members, newest).into_iter().filter(|member| member.role == "broker");
    let views: Vec<BrokerView> = brokers
        .map(|member| {
            let log = logs.iter().position(|log| log.broker == member.name).map(|at| logs.swap_remove(at));
            BrokerView { member, log }
        })
        .collect();
    show(common.output, &views, |views| table(views));
    Ok(())
}

fn table(views: &[BrokerView]) -> String {
    let headings = ["BROKER", "SHARD", "ADDRESS", "VERSION", "STATE", "REVISION", "LOG", "LAG", "DISK FREE"];
    let mut table = Table::new(&headings);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for BrokerView { member, log } in views {
        table.row(vec![
            member.name.clone(),
            or_dash(member.shard.map(|shard| shard.to_string())),
            member.address.clone(),
            member.version.clone(),
            state(member),
            or_dash(member.revision.map(|at| Revision(at).to_string())),
            or_dash(log.as_ref().map(|log| size_rounded(log.log_bytes))),
            or_dash(log.as_ref().and_then(|log| log.lag).map(|lag| lag.to_string())),
            or_dash(log.as_ref().and_then(|log| log.disk_free_bytes).map(size_rounded)),
        ]);
    }
    table.text()
}

async fn look(client: &mut Client, broker: &str) -> Result<DrainView, Failure> {
    let answer = client.show_broker(admin::ShowBrokerRequest { broker: broker.to_owned() }).await?.into_inner();
    Ok(DrainView {
        broker: broker.to_owned(),
        draining: answer.member.is_some_and(|member| member.draining),
        topics: answer.topics,
        leaving: answer.leaving,
        dead_letters: answer.dead_letters,
    })
}

async fn drain(client: &mut Client, common: &CommonArgs, name: String, no_wait: bool) -> Result<(), Failure> {
    client.drain_broker(admin::DrainBrokerRequest { broker: name.clone(), drain: true }).await?;
    let mut said = String::new();
    let view = loop {
        let view = look(client, &name).await?;
        if !view.draining {
            return Err(Failure::Conflict(format!("{name} is not draining any more: somebody took it back")));
        }
        if no_wait || view.is_empty() {
            break view;
        }
        let now = view.left();
        if now != said {
            eprintln!("{name}: {now}");
            said = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    show(common.output, &view, drained);
    Ok(())
}

fn drained(view: &DrainView) -> String {
    let name = &view.broker;
    if !view.is_empty() {
        return format!("{name} is draining: {}", view.left());
    }
    match view.dead_letters.as_slice() {
        [] => format!("{name} is empty: it can go"),
        some => format!("{name} is empty but for what {} may hold", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_empty_only_when_nothing_moves_and_everything_was_read() {
        let view = |topics: &[&str], leaving: &[&str], dead_letters: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let (topics, leaving, dead_letters) = (names(topics), names(leaving), names(dead_letters));
            DrainView { broker: "b".to_owned(), draining: true, topics, leaving, dead_letters }
        };
        let told = drained(&view(&["x", "y"], &["z"], &[]));
        assert_eq!(
            told,
            "b is draining: 2 topics to move away (x and 1 more), messages of 1 topics not read by every group (z)"
        );
        assert!(drained(&view(&[], &["z"], &[])).contains("is draining"));
        assert_eq!(drained(&view(&[], &[], &[])), "b is empty: it can go");
        assert_eq!(drained(&view(&[], &[], &["%DLQ%g"])), "b is empty but for what %DLQ%g may hold");
    }
}
