//! Runs a row of the table: what the server holds before, the call, what it holds after.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bolide::wire::admin::admin_client::AdminClient;
use bolide::wire::{admin, rocketmq as v2};
use bolide::wire_receive::Content;
use tonic::transport::{Channel, Endpoint};

use crate::common::{Server, ServerOptions};
use crate::history::client::{Stub, resource, stub, with_headers};

pub const OK: i32 = 20_000;
/// Deadline of a receive: short, so that a row with nothing to deliver is soon answered.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(1);
/// Deadline of everything else.
const DEADLINE: Duration = Duration::from_secs(20);

/// Any call of the public service that has limits to keep.
#[derive(Clone, Debug)]
pub enum Ask {
    Route(v2::QueryRouteRequest),
    Assignment(v2::QueryAssignmentRequest),
    Heartbeat(v2::HeartbeatRequest),
    Send(v2::SendMessageRequest),
    Receive(v2::ReceiveMessageRequest),
    Ack(v2::AckMessageRequest),
    Change(v2::ChangeInvisibleDurationRequest),
    Forward(v2::ForwardMessageToDeadLetterQueueRequest),
    Terminate(v2::NotifyClientTerminationRequest),
    Pull(v2::PullMessageRequest),
    UpdateOffset(v2::UpdateOffsetRequest),
    GetOffset(v2::GetOffsetRequest),
    QueryOffset(v2::QueryOffsetRequest),
    EndTransaction(v2::EndTransactionRequest),
    Recall(v2::RecallMessageRequest),
    SyncLite(v2::SyncLiteSubscriptionRequest),
}

/// What came back, in-band.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub code: i32,
    pub text: String,
    /// Codes of the entries, where the answer has some.
    pub entries: Vec<i32>,
    /// Handle of a change.
    pub handle: String,
    /// By which the messages of a send can be recalled; empty for those that cannot.
    pub recall_handles: Vec<String>,
    pub messages: Vec<v2::Message>,
}

/// What must come back.
#[derive(Clone, Debug)]
pub enum Expect {
    /// This code, these words if given, and nothing has changed.
    Refused(i32, Option<String>),
    /// OK, and so many messages more than before.
    Stored(u64),
    /// OK, in no queue and yet recorded.
    HeldBack,
    /// This code; what it changes is another test's business.
    Code(i32),
}

#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub ask: Ask,
    pub expect: Expect,
    pub client_id: String,
    /// Delivery time of the messages, so many milliseconds from the moment of the call.
    pub due_in_ms: Option<i64>,
}

impl Row {
    pub fn due_in_ms(self, ahead: i64) -> Self {
        Self { due_in_ms: Some(ahead), ..self }
    }

    fn ask_now(&self) -> Ask {
        let mut ask = self.ask.clone();
        if let (Ask::Send(request), Some(ahead)) = (&mut ask, self.due_in_ms) {
            for system in request.messages.iter_mut().filter_map(|message| message.system_properties.as_mut()) {
                system.delivery_timestamp = Some(in_millis(ahead));
            }
        }
        ask
    }
}

/// An instant so many milliseconds from now.
pub fn in_millis(ahead: i64) -> prost_types::Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let at = i64::try_from(now.as_millis()).expect("before the year 292 million") + ahead;
    prost_types::Timestamp {
        seconds: at.div_euclid(1000),
        nanos: i32::try_from(at.rem_euclid(1000)).expect("below 1000") * 1_000_000,
    }
}

pub fn refused(name: impl Into<String>, ask: Ask, code: i32) -> Row {
    row(name, ask, Expect::Refused(code, None))
}

pub fn refused_saying(name: impl Into<String>, ask: Ask, code: i32, text: &str) -> Row {
    row(name, ask, Expect::Refused(code, Some(text.to_owned())))
}

pub fn row(name: impl Into<String>, ask: Ask, expect: Expect) -> Row {
    Row { name: name.into(), ask, expect, client_id: "limits@1".to_owned(), due_in_ms: None }
}

/// Queue bounds of every topic, what every group has to do in every queue, open transactions, and where the log ends: whatever is
/// durable is in it, also messages that are held back, their recalls and what a group waits for. Ages are left out: they pass by
/// themselves.
pub type Holdings = BTreeMap<String, Vec<i64>>;

/// The end of the log among the holdings.
const LOG: &str = "log";
/// So often a refused call is repeated when only the log has grown: something else may have written to it just then.
const REPEATS: usize = 3;

pub struct Wire {
    // Ends the process when dropped.
    pub server: Server,
    pub stub: Stub,
    admin: AdminClient<Channel>,
}

pub async fn channel(address: std::net::SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(Duration::from_secs(5)).connect().await?)
}

impl Wire {
    pub async fn start(options: ServerOptions) -> Result<Self> {
        let server = options.start()?;
        let addresses = server.addresses();
        let stub = stub(channel(addresses.grpc).await?);
        let admin = AdminClient::new(channel(addresses.internal).await?);
        Ok(Self { server, stub, admin })
    }

    pub async fn create_topic(&self, name: &str, kind: admin::TopicType, permission: admin::Permission) -> Result<()> {
        let topic = admin::Topic {
            name: name.to_owned(),
            r#type: kind as i32,
            queues: 2,
            permission: permission as i32,
            ..Default::default()
        };
        let request = admin::CreateTopicRequest { topic: Some(topic) };
        self.admin.clone().create_topic(request).await.with_context(|| format!("create topic {name}"))?;
        Ok(())
    }

    pub async fn create_group(&self, group: admin::Group) -> Result<()> {
        let request = admin::CreateGroupRequest { group: Some(group) };
        self.admin.clone().create_group(request).await.context("create group")?;
        Ok(())
    }

    pub async fn holdings(&self) -> Result<Holdings> {
        let mut admin = self.admin.clone();
        let mut holdings = Holdings::new();
        let request = admin::ListTopicsRequest { namespace: None, include_internal: true };
        for topic in admin.list_topics(request).await?.into_inner().topics {
            let request =
                admin::ListLiteTopicsRequest { topic: topic.name.clone(), limit: 1_000, ..Default::default() };
            for lite in admin.list_lite_topics(request).await?.into_inner().lite_topics {
                let key = format!("topic {} lite {}", topic.name, lite.name);
                holdings
                    .insert(key, vec![lite.min_offset, lite.max_offset, lite.groups.into(), lite.subscribers.into()]);
            }
            let request = admin::ShowTopicRequest { namespace: topic.namespace, name: topic.name.clone() };
            for queue in admin.show_topic(request).await?.into_inner().queues {
                let key = format!("topic {} queue {}", topic.name, queue.queue_id);
                holdings.insert(key, vec![queue.min_offset, queue.max_offset]);
            }
        }
        for group in admin.list_groups(admin::ListGroupsRequest { namespace: None }).await?.into_inner().groups {
            holdings.insert(format!("group {}", group.name), Vec::new());
            let request = admin::GroupLagRequest { namespace: group.namespace, name: group.name.clone(), topic: None };
            for topic in admin.group_lag(request).await?.into_inner().topics {
                for queue in topic.queues {
                    let key = format!("group {} topic {} queue {}", group.name, topic.topic, queue.queue_id);
                    let counts = [queue.ready, queue.in_flight, queue.waiting_retry, queue.lag];
                    let mut numbers = vec![queue.min_offset, queue.max_offset, queue.committed_offset];
                    numbers.extend(counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX)));
                    holdings.insert(key, numbers);
                }
            }
        }
        let request =
            admin::ListTransactionsRequest { state: admin::TransactionState::All as i32, ..Default::default() };
        for open in admin.list_transactions(request).await?.into_inner().transactions {
            holdings.insert(format!("transaction {} of {}", open.id, open.topic), vec![open.state.into()]);
        }
        let shards = admin.status(admin::StatusRequest {}).await?.into_inner().shards;
        let end = |shard: &admin::ShardStatus| i64::try_from(shard.accepted_position).unwrap_or(i64::MAX);
        holdings.insert(LOG.to_owned(), shards.iter().map(end).collect());
        Ok(holdings)
    }

    pub async fn update_topic(&self, request: admin::UpdateTopicRequest) -> Result<()> {
        self.admin.clone().update_topic(request).await.context("update topic")?;
        Ok(())
    }

    /// Moves the server's clock ahead.
    pub async fn advance(&self, by: Duration) -> Result<()> {
        let by = prost_types::Duration { seconds: i64::try_from(by.as_secs())?, nanos: 0 };
        self.admin.clone().advance_clock(admin::AdvanceClockRequest { by: Some(by) }).await.context("advance")?;
        Ok(())
    }

    /// Waits until the holdings are as wished.
    pub async fn until(&self, what: &str, holds: impl Fn(&Holdings) -> bool) -> Result<()> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let holdings = self.holdings().await?;
            if holds(&holdings) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("never came to be: {what}; {holdings:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Messages held by all topics together.
    pub fn stored(holdings: &Holdings) -> i64 {
        holdings.iter().filter(|(key, _)| key.starts_with("topic ")).map(|(_, span)| span[1] - span[0]).sum()
    }

    pub async fn ask(&self, client_id: &str, ask: Ask) -> Result<Verdict> {
        let mut stub = self.stub.clone();
        macro_rules! unary {
            ($method:ident, $body:expr) => {{
                let mut request = with_headers(client_id, $body);
                request.set_timeout(DEADLINE);
                stub.$method(request).await.context("not answered in-band")?.into_inner()
            }};
        }
        macro_rules! plain {
            ($method:ident, $body:expr) => {{ of_status(unary!($method, $body).status) }};
        }
        Ok(match ask {
            Ask::Route(body) => plain!(query_route, body),
            Ask::Assignment(body) => plain!(query_assignment, body),
            Ask::Heartbeat(body) => plain!(heartbeat, body),
            Ask::Terminate(body) => plain!(notify_client_termination, body),
            Ask::UpdateOffset(body) => plain!(update_offset, body),
            Ask::GetOffset(body) => plain!(get_offset, body),
            Ask::QueryOffset(body) => plain!(query_offset, body),
            Ask::EndTransaction(body) => plain!(end_transaction, body),
            Ask::Recall(body) => plain!(recall_message, body),
            Ask::SyncLite(body) => plain!(sync_lite_subscription, body),
            Ask::Forward(body) => plain!(forward_message_to_dead_letter_queue, body),
            Ask::Send(body) => {
                let response = unary!(send_message, body);
                let entries = response.entries.iter().map(|entry| code_of(entry.status.as_ref())).collect();
                let recall_handles = response.entries.into_iter().map(|entry| entry.recall_handle).collect();
                Verdict { entries, recall_handles, ..of_status(response.status) }
            }
            Ask::Ack(body) => {
                let response = unary!(ack_message, body);
                let entries = response.entries.iter().map(|entry| code_of(entry.status.as_ref())).collect();
                Verdict { entries, ..of_status(response.status) }
            }
            Ask::Change(body) => {
                let response = unary!(change_invisible_duration, body);
                Verdict { handle: response.receipt_handle, ..of_status(response.status) }
            }
            Ask::Receive(body) => self.receive(client_id, body).await?,
            Ask::Pull(body) => {
                let mut request = with_headers(client_id, body);
                request.set_timeout(DEADLINE);
                let mut stream = stub.pull_message(request).await?.into_inner();
                let first = stream.message().await?.context("an empty stream")?;
                match first.content {
                    Some(v2::pull_message_response::Content::Status(status)) => of_status(Some(status)),
                    other => bail!("the stream began with {other:?}"),
                }
            }
        })
    }

    async fn receive(&self, client_id: &str, body: v2::ReceiveMessageRequest) -> Result<Verdict> {
        let mut request = with_headers(client_id, body);
        request.set_timeout(RECEIVE_DEADLINE);
        let mut stream = self.stub.clone().receive_message(request).await.context("not answered in-band")?.into_inner();
        let mut verdict: Option<Verdict> = None;
        let mut ended = false;
        while let Some(item) = stream.message().await? {
            match (item.content, &mut verdict) {
                (Some(Content::Status(status)), None) => verdict = Some(of_status(Some(status))),
                (Some(Content::Message(message)), Some(verdict)) if !ended => verdict.messages.push(message),
                (Some(Content::DeliveryTimestamp(_)), Some(_)) => ended = true,
                (content, _) => bail!("out of order on the stream: {content:?}"),
            }
        }
        verdict.context("the stream had no status")
    }

    /// Runs a row and says what is wrong with the answer, if anything.
    pub async fn run(&self, row: &Row) -> Result<Option<String>> {
        let before = self.holdings().await?;
        let verdict = match self.ask(&row.client_id, row.ask_now()).await {
            Ok(verdict) => verdict,
            Err(error) => return Ok(Some(format!("{error:#}"))),
        };
        let mut after = self.holdings().await?;
        let mut before = before;
        for _ in 0..REPEATS {
            let only_log = before != after && without_log(&before) == without_log(&after);
            if !(only_log && matches!(row.expect, Expect::Refused(code, _) if code == verdict.code)) {
                break;
            }
            before = self.holdings().await?;
            self.ask(&row.client_id, row.ask_now()).await?;
            after = self.holdings().await?;
        }
        let wrong = match &row.expect {
            Expect::Refused(code, _) | Expect::Code(code) if verdict.code != *code => {
                Some(format!("expected {code}, got {} {:?}", verdict.code, verdict.text))
            }
            Expect::Refused(_, Some(text)) if verdict.text != *text => {
                Some(format!("expected the words {text:?}, got {:?}", verdict.text))
            }
            Expect::Refused(..) if before != after => {
                Some(format!("refused, and yet something changed: {}", difference(&before, &after)))
            }
            Expect::Refused(..) if verdict.text.trim().is_empty() => Some("refused without a word".to_owned()),
            Expect::Stored(_) if verdict.code != OK || verdict.text != "OK" => {
                Some(format!("expected OK, got {} {:?}", verdict.code, verdict.text))
            }
            Expect::HeldBack if verdict.code != OK => {
                Some(format!("expected OK, got {} {:?}", verdict.code, verdict.text))
            }
            Expect::HeldBack if Self::stored(&before) != Self::stored(&after) => Some("it is in a queue".to_owned()),
            Expect::HeldBack if before[LOG] == after[LOG] => Some("OK, and nothing was recorded".to_owned()),
            Expect::Stored(count) => {
                let more = Self::stored(&after) - Self::stored(&before);
                let wanted = i64::try_from(*count).unwrap_or(i64::MAX);
                let entries = verdict.entries.len() as u64;
                (more != wanted || entries != *count)
                    .then(|| format!("{more} messages stored and {entries} entries, expected {count}"))
            }
            _ => None,
        };
        Ok(wrong)
    }
}

fn without_log(holdings: &Holdings) -> Holdings {
    holdings.iter().filter(|(key, _)| *key != LOG).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn difference(before: &Holdings, after: &Holdings) -> String {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    changed.map(|key| format!("{key}: {:?} -> {:?}; ", before.get(key), after.get(key))).collect()
}

fn code_of(status: Option<&v2::Status>) -> i32 {
    status.map_or(0, |status| status.code)
}

fn of_status(status: Option<v2::Status>) -> Verdict {
    let status = status.unwrap_or_default();
    Verdict { code: status.code, text: status.message, ..Verdict::default() }
}

pub fn queue(topic: &str) -> v2::MessageQueue {
    v2::MessageQueue { topic: Some(resource(topic)), ..Default::default() }
}
