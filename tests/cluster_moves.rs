//! Topics that move between brokers, on real processes: what is feared is a message group whose later messages overtake earlier
//! ones because they are elsewhere now, or that waits for ever.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use bolide::wire_receive::Content;
use common::cluster::{Cluster, Member};
use tonic::transport::{Channel, Endpoint};

const OK: i32 = 20_000;
const GROUPS: usize = 24;
/// Longest time for everything to come.
const LIMIT: Duration = Duration::from_secs(60);

fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { name: name.to_owned(), ..Default::default() })
}

fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", "moves@1".parse().expect("ascii"));
    request.set_timeout(Duration::from_secs(10));
    request
}

fn expect_ok(status: Option<&v2::Status>) -> Result<()> {
    let status = status.context("no status")?;
    ensure!(status.code == OK, "{} {}", status.code, status.message);
    Ok(())
}

#[derive(Clone)]
struct Client(MessagingServiceClient<Channel>);

impl Client {
    fn of(cluster: &Cluster, proxy: usize) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{}", cluster.grpc(proxy)))?;
        Ok(Self(MessagingServiceClient::new(endpoint.connect_lazy())))
    }

    /// Until it is accepted, three times at most, as official clients do. A repeated one may be stored twice.
    async fn send(&mut self, group: usize, number: usize) -> Result<()> {
        let body = format!("{group}/{number}");
        let mut last = Ok(());
        for _ in 0..3 {
            let system = v2::SystemProperties {
                message_id: format!("m-{body}"),
                message_group: Some(format!("group-{group}")),
                message_type: v2::MessageType::Fifo as i32,
                ..Default::default()
            };
            let message = v2::Message {
                topic: resource("line"),
                system_properties: Some(system),
                body: body.clone().into_bytes().into(),
                ..Default::default()
            };
            let answer = self.0.send_message(request(v2::SendMessageRequest { messages: vec![message] })).await;
            last =
                answer.map_err(anyhow::Error::from).and_then(|answer| expect_ok(answer.into_inner().status.as_ref()));
            if last.is_ok() {
                return Ok(());
            }
        }
        last
    }

    async fn receive(&mut self) -> Result<Vec<(usize, usize, String)>> {
        let wish = v2::ReceiveMessageRequest {
            group: resource("readers"),
            message_queue: Some(v2::MessageQueue { topic: resource("line"), ..Default::default() }),
            batch_size: 8,
            invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
            long_polling_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..Default::default()
        };
        let mut stream = self.0.receive_message(request(wish)).await?.into_inner();
        let mut taken = Vec::new();
        while let Some(element) = stream.message().await? {
            match element.content {
                Some(Content::Message(message)) => {
                    let handle = message.system_properties.and_then(|system| system.receipt_handle);
                    let body = String::from_utf8(message.body.to_vec())?;
                    let (group, number) = body.split_once('/').context("a body of someone else")?;
                    taken.push((group.parse()?, number.parse()?, handle.context("no handle")?));
                }
                Some(Content::Status(status)) => {
                    let nothing = status.code == v2::Code::MessageNotFound as i32;
                    ensure!(status.code == OK || nothing, "{} {}", status.code, status.message);
                }
                _ => {}
            }
        }
        Ok(taken)
    }

    async fn ack(&mut self, handle: String) -> Result<()> {
        let entry = v2::AckMessageEntry { message_id: "m".into(), receipt_handle: handle, lite_topic: None };
        let acking =
            v2::AckMessageRequest { group: resource("readers"), topic: resource("line"), entries: vec![entry] };
        expect_ok(self.0.ack_message(request(acking)).await?.into_inner().status.as_ref())
    }
}

/// What readers have seen. Per message group, a number for the first time only after every smaller one.
#[derive(Default)]
struct Seen {
    next: BTreeMap<usize, usize>,
    handles: BTreeSet<String>,
}

impl Seen {
    fn note(&mut self, group: usize, number: usize, handle: &str) -> Result<()> {
        ensure!(self.handles.insert(handle.to_owned()), "{group}/{number} came twice with one handle");
        let next = self.next.entry(group).or_default();
        ensure!(number <= *next, "message group {group}: {number} came before {next}");
        *next = (*next).max(number + 1);
        Ok(())
    }

    fn all(&self, count: usize) -> bool {
        (0..GROUPS).all(|group| self.next.get(&group).is_some_and(|next| *next == count))
    }
}

async fn read_until(client: &mut Client, seen: &mut Seen, count: usize) -> Result<()> {
    let begin = Instant::now();
    while !seen.all(count) {
        ensure!(begin.elapsed() < LIMIT, "of {count} each message group has: {:?}", seen.next);
        for (group, number, handle) in client.receive().await? {
            seen.note(group, number, &handle)?;
            client.ack(handle).await?;
        }
    }
    Ok(())
}

async fn send_round(client: &mut Client, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        for group in 0..GROUPS {
            client.send(group, number).await.with_context(|| format!("{group}/{number}"))?;
        }
    }
    Ok(())
}

#[test]
fn message_groups_keep_their_order_when_a_broker_comes_and_another_one_goes() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut cluster = Cluster::start(1, 2)?;
    cluster.admin(&["topic", "create", "line", "--type", "fifo", "--queues", "3"])?;
    let (mut one, mut two) = {
        let _inside = runtime.enter();
        (Client::of(&cluster, 0)?, Client::of(&cluster, 1)?)
    };
    let mut seen = Seen::default();
    // Some are read before the move, many are not.
    runtime.block_on(send_round(&mut one, 0..10))?;
    runtime.block_on(async {
        for (group, number, handle) in two.receive().await? {
            seen.note(group, number, &handle)?;
            two.ack(handle).await?;
        }
        anyhow::Ok(())
    })?;
    let added = cluster.add_broker()?;
    cluster.start_member(added)?;
    cluster.wait_ready(added)?;
    // While messages go on coming.
    let sender = {
        let mut client = one.clone();
        runtime.spawn(async move { send_round(&mut client, 10..30).await })
    };
    cluster.admin(&["topic", "rebalance", "line", "--no-wait"])?;
    runtime.block_on(sender)??;
    let shown = cluster.admin(&["topic", "show", "line"])?;
    ensure!(shown.contains(&added.name()), "the topic lives on the new broker, too:\n{shown}");
    // What lies on the old broker is read first, however it is asked for.
    runtime.block_on(read_until(&mut two, &mut seen, 30))?;
    // The old broker is emptied while messages come, and a crash comes between.
    let sender = {
        let mut client = two.clone();
        runtime.spawn(async move { send_round(&mut client, 30..50).await })
    };
    cluster.admin(&["broker", "drain", "broker-0", "--no-wait"])?;
    cluster.kill9(Member::Broker(0))?;
    cluster.start_member(Member::Broker(0))?;
    cluster.wait_ready(Member::Broker(0))?;
    runtime.block_on(sender)??;
    runtime.block_on(read_until(&mut one, &mut seen, 50))?;
    // The last of it: nothing new goes to the one that leaves.
    cluster.admin(&["broker", "drain", "broker-0"])?;
    runtime.block_on(send_round(&mut one, 50..52))?;
    runtime.block_on(read_until(&mut two, &mut seen, 52))?;
    Ok(())
}
