//! `bolide admin topic rebalance`, and how topics on their way are told.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::CommonArgs;
use super::output::show;
use crate::cli::connect::Client;
use crate::cli::failure::Failure;
use crate::wire::admin;

/// Pause between two looks at how far it is.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(300);

pub(super) const REBALANCE_HELP: &str = "\
A broker that joins a cluster gets no queues of topics that exist already; this gives it some. Each broker that has the topic writes
down where the order changes (it seals), then new messages go to all brokers. What lies where it is stays there and is read from there; a
message group keeps its order, as its new broker waits until every group has read what the former one holds. Nothing is interrupted.

Topics of type priority and lite live on one broker and cannot be spread. The command ends when new messages go to their new places and
says which groups still read old ones; --no-wait ends when the moves have begun.";

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false).args(["name", "all"]))]
pub(super) struct RebalanceArgs {
    /// The topic
    name: Option<String>,
    /// Every topic that can be spread, of every namespace unless --namespace names one
    #[arg(long)]
    all: bool,
    /// Do not wait until new messages go to their new places
    #[arg(long)]
    no_wait: bool,
}

/// A topic on its way, in the answer to a script.
#[derive(Debug, Serialize)]
pub(super) struct MoveView {
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    topic: String,
    generation: u32,
    brokers: Vec<String>,
    moving_to: Vec<String>,
    waiting_for: Vec<String>,
    left_on: Vec<String>,
    readers: Vec<String>,
}

impl From<admin::TopicMove> for MoveView {
    fn from(wire: admin::TopicMove) -> Self {
        Self {
            namespace: wire.namespace,
            topic: wire.topic,
            generation: wire.generation,
            brokers: wire.brokers,
            moving_to: wire.moving_to,
            waiting_for: wire.waiting_for,
            left_on: wire.left_on,
            readers: wire.readers,
        }
    }
}

impl MoveView {
    /// How far it is, in words.
    pub(super) fn progress(&self) -> String {
        let mut parts = Vec::new();
        if !self.moving_to.is_empty() {
            let waits = match self.waiting_for.as_slice() {
                [] => "every broker has sealed".to_owned(),
                some => format!("waits for {} to seal", some.join(", ")),
            };
            parts.push(format!("moves to {}: {waits}", self.moving_to.join(", ")));
        }
        if !self.left_on.is_empty() {
            let readers = match self.readers.as_slice() {
                [] => String::new(),
                some => format!("; to be read by {}", some.join(", ")),
            };
            parts.push(format!("earlier messages lie on {}{readers}", self.left_on.join(", ")));
        }
        if parts.is_empty() { format!("on {}", self.brokers.join(", ")) } else { parts.join("; ") }
    }

    pub(super) fn name(&self) -> String {
        named(&self.namespace, &self.topic)
    }
}

fn named(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}%{name}") }
}

/// What became of it, in the answer to a script.
#[derive(Debug, Serialize)]
struct RebalanceView {
    /// Topics that were not where they belong.
    moved: Vec<String>,
    /// Topics that were.
    in_place: Vec<String>,
    /// Those of the moved ones that are not done.
    moves: Vec<MoveView>,
}

pub(super) async fn rebalance(client: &mut Client, common: &CommonArgs, args: RebalanceArgs) -> Result<(), Failure> {
    let topics = match args.name {
        Some(name) => vec![(common.namespace.clone(), name)],
        None => spreadable(client, common).await?,
    };
    let mut view = RebalanceView { moved: Vec::new(), in_place: Vec::new(), moves: Vec::new() };
    let count = topics.len();
    for (done, (namespace, name)) in topics.into_iter().enumerate() {
        let shown = named(&namespace, &name);
        let request = admin::RebalanceTopicRequest { namespace, name };
        match client.rebalance_topic(request).await {
            Ok(answer) if answer.get_ref().r#move.is_some() => view.moved.push(shown),
            Ok(_) => view.in_place.push(shown),
            // Deleted meanwhile: nothing is left to spread.
            Err(status) if args.all && status.code() == tonic::Code::NotFound => {}
            Err(status) if args.all => {
                let failure = Failure::from(status);
                return Err(Failure::Failed(format!("{done} of {count} topics are under way; {shown}: {failure}")));
            }
            Err(status) => return Err(status.into()),
        }
    }
    view.moves = if args.no_wait { moves(client, &view.moved).await? } else { settled(client, &view.moved).await? };
    show(common.output, &view, text);
    Ok(())
}

async fn spreadable(client: &mut Client, common: &CommonArgs) -> Result<Vec<(String, String)>, Failure> {
    let namespace = (!common.namespace.is_empty()).then(|| common.namespace.clone());
    let request = admin::ListTopicsRequest { namespace, include_internal: false };
    let topics = client.list_topics(request).await?.into_inner().topics;
    let fits = |topic: &admin::Topic| !matches!(topic.r#type(), admin::TopicType::Priority | admin::TopicType::Lite);
    Ok(topics.into_iter().filter(fits).map(|topic| (topic.namespace, topic.name)).collect())
}

async fn moves(client: &mut Client, topics: &[String]) -> Result<Vec<MoveView>, Failure> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let request = admin::ListMovesRequest::default();
    let found = client.list_moves(request).await?.into_inner().moves.into_iter().map(MoveView::from);
    Ok(found.filter(|one| topics.contains(&one.name())).collect())
}

/// Waits until new messages of all of them go to their new places; gives back what has been left behind.
async fn settled(client: &mut Client, topics: &[String]) -> Result<Vec<MoveView>, Failure> {
    let mut said = String::new();
    loop {
        let found = moves(client, topics).await?;
        let under_way: Vec<&MoveView> = found.iter().filter(|one| !one.moving_to.is_empty()).collect();
        let Some(first) = under_way.first() else { return Ok(found) };
        let done = topics.len() - under_way.len();
        let now = match topics.len() {
            1 => format!("{}: {}", first.name(), first.progress()),
            count => format!("{done} of {count} topics done; {}: {}", first.name(), first.progress()),
        };
        if now != said {
            eprintln!("{now}");
            said = now;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn text(view: &RebalanceView) -> String {
    let mut lines = Vec::new();
    match (view.moved.as_slice(), view.in_place.as_slice()) {
        ([], []) => lines.push("there is no topic to spread".to_owned()),
        ([], [one]) => lines.push(format!("topic {one} is on all its brokers already")),
        ([], all) => lines.push(format!("all {} topics are on all their brokers already", all.len())),
        ([one], []) => lines.push(format!("topic {one} is spread anew")),
        (moved, in_place) => {
            lines.push(format!("{} topics are spread anew, {} were in place", moved.len(), in_place.len()))
        }
    }
    lines.extend(view.moves.iter().map(|one| format!("{}: {}", one.name(), one.progress())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> admin::TopicMove {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        admin::TopicMove {
            topic: "orders".to_owned(),
            brokers: names(&["broker-0"]),
            moving_to: names(&["broker-0", "broker-1"]),
            waiting_for: names(&["broker-0"]),
            ..Default::default()
        }
    }

    #[test]
    fn a_move_says_whom_it_waits_for_and_who_still_reads_what_was_left() {
        assert_eq!(MoveView::from(wire()).progress(), "moves to broker-0, broker-1: waits for broker-0 to seal");
        let left = admin::TopicMove {
            moving_to: Vec::new(),
            left_on: vec!["broker-0".to_owned()],
            readers: vec!["billing".to_owned(), "n%audit".to_owned()],
            ..wire()
        };
        let told = MoveView::from(left).progress();
        assert_eq!(told, "earlier messages lie on broker-0; to be read by billing, n%audit");
    }

    #[test]
    fn what_is_in_place_is_told_from_what_moves() {
        let view = |moved: &[&str], in_place: &[&str]| RebalanceView {
            moved: moved.iter().map(|&name| name.to_owned()).collect(),
            in_place: in_place.iter().map(|&name| name.to_owned()).collect(),
            moves: Vec::new(),
        };
        assert_eq!(text(&view(&["a"], &[])), "topic a is spread anew");
        assert_eq!(text(&view(&[], &["a"])), "topic a is on all its brokers already");
        assert_eq!(text(&view(&["a", "b"], &["c"])), "2 topics are spread anew, 1 were in place");
    }
}
