//! `bolide inspect`: reads a data directory offline, without changing anything.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::print;
use crate::cli::table::Table;
use crate::config::units::size_rounded;
use crate::model::name::{GroupName, TopicName};
use crate::model::position::{LogPosition, QueueId, QueueOffset, ShardId};
use crate::model::time::Timestamp;
use crate::store::inspect::{InspectError, Inspection, SegmentEnd, describe, describe_lease};

const HELP: &str = "\
Examples:
  bolide inspect log --data ./data          every segment, its frames counted and checked
  bolide inspect frame 1048640              the frame at a log position, with its records
  bolide inspect queue orders 3 --from 100  messages of queue 3 of topic orders
  bolide inspect group billing              where a group is, and what it holds
  bolide inspect log --shard 2              when the directory holds several shards

Nothing is changed, replayed or repaired. Queues and groups are shown as the folded state was last flushed; after a crash and
beside a running broker it is behind the log, which is said above the answer, and the next start replays the rest. Beside a running broker the picture may change while it is read.";

/// Arguments of `bolide inspect`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct InspectArgs {
    /// Data directory
    #[arg(long, global = true, env = "BOLIDE_SERVER_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// Which shard, when several are in the directory; in a cluster each broker has one of its own
    #[arg(long, global = true, value_name = "NUMBER")]
    shard: Option<u32>,
    /// Namespace of the topic or group
    #[arg(long, global = true, env = "BOLIDE_NAMESPACE", default_value = "", hide_default_value = true)]
    namespace: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check every segment of the log
    Log,
    /// Show the frame at a position of the log, with its records
    Frame { position: u64 },
    /// Show messages of a queue
    Queue {
        topic: String,
        queue: u32,
        /// First offset
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Most messages
        #[arg(long, default_value_t = 20)]
        max: usize,
    },
    /// Show where a consumer group is and what it holds
    Group { name: String },
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Unknown { .. }
            | InspectError::NoQueue { .. }
            | InspectError::NoFrame { .. }
            | InspectError::NoShard { .. }
            | InspectError::NoSegment(_) => Self::NotFound(error.to_string()),
            InspectError::Several { .. } => Self::Usage(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Prints what was asked for.
///
/// # Errors
/// It is no data directory, or what was asked for is not in it. A damaged segment is shown and makes `log` fail.
pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let inspection = Inspection::of_directory(&args.data, args.shard.map(ShardId))?;
    if let Some(holder) = inspection.holder() {
        eprintln!("note: {holder} uses {}; the picture may change while it is read", args.data.display());
    }
    match &args.what {
        What::Log => log(&inspection),
        What::Frame { position } => frame(&inspection, LogPosition(*position)),
        What::Queue { topic, queue, from, max } => {
            let topic = TopicName::trusted(&args.namespace, topic);
            of_folded(&inspection, || queue_rows(&inspection, &topic, QueueId(*queue), QueueOffset(*from), *max))
        }
        What::Group { name } => {
            let name = GroupName::trusted(&args.namespace, name);
            of_folded(&inspection, || group(&inspection, &name))
        }
    }
}

/// Shows something of the folded state, and says so when the log knows more. What is missing then may be there after all.
fn of_folded(inspection: &Inspection, show: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let unfolded = inspection.unfolded_bytes()?;
    if unfolded == 0 {
        return show();
    }
    let note = format!(
        "the log goes on {unfolded} bytes beyond the folded state, which are not shown; the next start replays them"
    );
    print::line(format_args!("note: {note}"));
    show().map_err(|failure| match failure {
        Failure::NotFound(text) => Failure::Failed(format!("{text}, but {note}")),
        other => other,
    })
}

fn time(at: Option<Timestamp>) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let seconds = i64::try_from(at.millis() / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(at.millis() % 1000).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds, nanos }.to_string()
}

fn log(inspection: &Inspection) -> Result<(), Failure> {
    let segments = inspection.segments()?;
    let mut table = Table::new(&["SEGMENT", "BASE", "SIZE", "FRAMES", "RECORDS", "FIRST", "LAST", "END", "STATE"]);
    let mut damaged = None;
    for (index, segment) in segments.iter().enumerate() {
        let state = match &segment.ending {
            SegmentEnd::Sealed => "sealed".to_owned(),
            SegmentEnd::Open => "open".to_owned(),
            SegmentEnd::Bad { reason, .. } => {
                // Behind the last frame of the last segment this is a torn write, which the next start cuts off.
                let last = index + 1 == segments.len();
                if !last {
                    damaged = damaged.or(Some(segment.path.display().to_string()));
                }
                format!("{}: {reason}", if last { "torn tail" } else { "DAMAGED" })
            }
        };
        table.row(vec![
            segment.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            segment.base.to_string(),
            size_rounded(segment.bytes),
            segment.frames.to_string(),
            segment.records.to_string(),
            time(segment.first_at),
            time(segment.last_at),
            segment.end.to_string(),
            state,
        ]);
    }
    print::line(table.text());
    match inspection.folded() {
        Ok(meta) => print::line(format_args!(
            "folded up to {}, last term {}, log begins at {}",
            meta.position, meta.term, meta.log_start
        )),
        Err(error) => print::line(format_args!(
            "the folded state cannot be read: {error}; the next start rebuilds it from the log"
        )),
    }
    match damaged {
        Some(path) => Err(Failure::Failed(format!("{path} is damaged; restore the data directory from a copy"))),
        None => Ok(()),
    }
}

fn frame(inspection: &Inspection, position: LogPosition) -> Result<(), Failure> {
    let report = inspection.frame(position)?;
    let header = &report.header;
    print::line(format_args!(
        "frame {} at {}: shard {}, term {}, {:?}, built {}, {} bytes of records",
        header.index,
        header.position,
        header.shard,
        header.term,
        header.kind,
        time(Some(header.stored_at)),
        header.payload_bytes
    ));
    for record in &report.records {
        match &record.record {
            Ok(known) => {
                print::line(format_args!("  {} +{}  {}", record.at.position, record.at.length, describe(known)))
            }
            Err(error) => {
                print::line(format_args!("  {} +{}  unreadable: {error}", record.at.position, record.at.length))
            }
        }
    }
    Ok(())
}

fn queue_rows(
    inspection: &Inspection,
    topic: &TopicName,
    queue: QueueId,
    from: QueueOffset,
    max: usize,
) -> Result<(), Failure> {
    let report = inspection.queue(topic, queue, from, max)?;
    print::line(format_args!(
        "topic {} ({} queues), queue {}: first offset {}, next {}",
        report.topic.name, report.topic.queues, report.queue, report.bounds.first, report.bounds.next
    ));
    let mut table = Table::new(&["OFFSET", "STORED", "BYTES", "TAG", "MESSAGE ID", "LOG POSITION"]);
    for row in &report.rows {
        let (tag, id) = match &row.message {
            Ok(message) => (message.message.tag.clone(), message.message.message_id.clone()),
            Err(error) => ("?".to_owned(), format!("unreadable: {error}")),
        };
        table.row(vec![
            row.entry.offset.to_string(),
            time(Some(row.entry.stored_at)),
            row.entry.body_bytes.to_string(),
            if tag.is_empty() { "-".to_owned() } else { tag },
            id,
            row.entry.at.position.to_string(),
        ]);
    }
    print::line(table.text());
    Ok(())
}

fn group(inspection: &Inspection, name: &GroupName) -> Result<(), Failure> {
    let report = inspection.group(name)?;
    print::line(format_args!(
        "group {}: {} attempts, outstanding messages by queue",
        report.group.name, report.group.max_attempts
    ));
    let mut table = Table::new(&["TOPIC", "QUEUE", "FIRST", "NEXT", "END", "OUTSTANDING"]);
    for place in &report.places {
        table.row(vec![
            place.topic.to_string(),
            place.queue.to_string(),
            place.bounds.first.to_string(),
            place.next.to_string(),
            place.bounds.next.to_string(),
            place.leases.len().to_string(),
        ]);
    }
    print::line(table.text());
    for place in &report.places {
        for (offset, held) in &place.leases {
            print::line(format_args!(
                "  {} {} offset {offset}, attempt {}: {}",
                place.topic,
                place.queue,
                held.attempt,
                describe_lease(&held.lease, |at| time(Some(at)))
            ));
        }
    }
    Ok(())
}
