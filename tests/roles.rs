//! A whole cluster as its users run it: one process a role.

mod common;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use bolide::wire::rocketmq::telemetry_command::Command;
use bolide::wire_receive::Content;
use common::cluster::{Cluster, ClusterOptions, Member, wait_for};
use common::{ServerOptions, binary};
use tonic::transport::{Channel, Endpoint};

const OK: i32 = 20_000;
/// Longest wait for what should come at once.
const SOON: Duration = Duration::from_secs(10);

struct Line {
    _commands: tokio::sync::mpsc::Sender<v2::TelemetryCommand>,
    answers: tonic::Streaming<v2::TelemetryCommand>,
}

struct Client {
    runtime: tokio::runtime::Runtime,
    stub: MessagingServiceClient<Channel>,
}

fn resource(name: &str) -> Option<v2::Resource> {
    Some(v2::Resource { name: name.to_owned(), ..Default::default() })
}

fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", "roles@1".parse().expect("ascii"));
    request.set_timeout(Duration::from_secs(10));
    request
}

fn expect_ok(status: Option<&v2::Status>) -> Result<()> {
    let status = status.context("no status")?;
    ensure!(status.code == OK, "{} {}", status.code, status.message);
    Ok(())
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = runtime.block_on(endpoint.connect())?;
        Ok(Self { runtime, stub: MessagingServiceClient::new(channel) })
    }

    fn send(&mut self, topic: &str, id: &str) -> Result<()> {
        let system = v2::SystemProperties { message_id: id.to_owned(), ..Default::default() };
        let message = v2::Message {
            topic: resource(topic),
            system_properties: Some(system),
            body: id.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let sending = self.stub.send_message(request(v2::SendMessageRequest { messages: vec![message] }));
        expect_ok(self.runtime.block_on(sending)?.into_inner().status.as_ref())
    }

    /// Opens the stream of a producer whose settings name `topics`.
    fn producer(&mut self, who: &str, topics: &[&str]) -> Result<Line> {
        let (commands, receiver) = tokio::sync::mpsc::channel(8);
        let topics = topics.iter().filter_map(|name| resource(name)).collect();
        let publishing = v2::settings::PubSub::Publishing(v2::Publishing { topics, ..Default::default() });
        let settings = v2::Settings { pub_sub: Some(publishing), ..Default::default() };
        let command = v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        self.runtime.block_on(async {
            let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
            request.metadata_mut().insert("x-mq-client-id", who.parse()?);
            commands.send(command).await?;
            let mut answers = self.stub.telemetry(request).await?.into_inner();
            let first = tokio::time::timeout(SOON, answers.message()).await??.and_then(|first| first.command);
            ensure!(matches!(first, Some(Command::Settings(_))), "{first:?}");
            Ok(Line { _commands: commands, answers })
        })
    }

    /// The transaction that a producer is asked about next, if there is one in time.
    fn check(&mut self, line: &mut Line, within: Duration) -> Result<Option<String>> {
        self.runtime.block_on(async {
            let Ok(next) = tokio::time::timeout(within, line.answers.message()).await else { return Ok(None) };
            match next?.and_then(|next| next.command) {
                Some(Command::RecoverOrphanedTransactionCommand(check)) => Ok(Some(check.transaction_id)),
                other => bail!("{other:?}"),
            }
        })
    }

    /// Sends a half message that is asked about almost at once.
    fn send_half(&mut self, who: &str, topic: &str, id: &str) -> Result<()> {
        let system = v2::SystemProperties {
            message_id: id.to_owned(),
            message_type: v2::MessageType::Transaction as i32,
            orphaned_transaction_recovery_duration: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
            ..Default::default()
        };
        let message = v2::Message {
            topic: resource(topic),
            system_properties: Some(system),
            body: id.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let mut request = request(v2::SendMessageRequest { messages: vec![message] });
        request.metadata_mut().insert("x-mq-client-id", who.parse()?);
        let answer = self.runtime.block_on(self.stub.send_message(request))?.into_inner();
        expect_ok(answer.status.as_ref())
    }

    fn commit(&mut self, who: &str, topic: &str, id: &str) -> Result<()> {
        let end = v2::EndTransactionRequest {
            topic: resource(topic),
            message_id: id.to_owned(),
            transaction_id: id.to_owned(),
            resolution: v2::TransactionResolution::Commit as i32,
            ..Default::default()
        };
        let mut request = request(end);
        request.metadata_mut().insert("x-mq-client-id", who.parse()?);
        let answer = self.runtime.block_on(self.stub.end_transaction(request))?.into_inner();
        expect_ok(answer.status.as_ref())
    }

    /// Bodies and handles of what there is.
    fn receive(&mut self, topic: &str) -> Result<Vec<(String, String)>> {
        let wish = v2::ReceiveMessageRequest {
            group: resource("g"),
            message_queue: Some(v2::MessageQueue { topic: resource(topic), ..Default::default() }),
            batch_size: 32,
            invisible_duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            long_polling_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..Default::default()
        };
        self.runtime.block_on(async {
            let mut stream = self.stub.receive_message(request(wish)).await?.into_inner();
            let mut taken = Vec::new();
            while let Some(element) = stream.message().await? {
                match element.content {
                    Some(Content::Message(message)) => {
                        let handle = message.system_properties.and_then(|system| system.receipt_handle);
                        let body = String::from_utf8(message.body.to_vec())?;
                        taken.push((body, handle.context("no handle")?));
                    }
                    Some(Content::Status(status)) => {
                        let nothing = status.code == v2::Code::MessageNotFound as i32;
                        ensure!(status.code == OK || nothing, "{} {}", status.code, status.message);
                    }
                    _ => {}
                }
            }
            Ok(taken)
        })
    }

    fn ack(&mut self, topic: &str, handle: &str) -> Result<()> {
        let entry = v2::AckMessageEntry { message_id: "m".into(), receipt_handle: handle.to_owned(), lite_topic: None };
        let acking = v2::AckMessageRequest { group: resource("g"), topic: resource(topic), entries: vec![entry] };
        let answer = self.runtime.block_on(self.stub.ack_message(request(acking)))?.into_inner();
        expect_ok(answer.status.as_ref())
    }

    /// Receives and acknowledges until all of `wanted` have come.
    fn take_all(&mut self, topic: &str, wanted: &[String]) -> Result<()> {
        let mut missing: std::collections::BTreeSet<&String> = wanted.iter().collect();
        wait_for("messages are missing", Duration::from_secs(30), || {
            for (body, handle) in self.receive(topic)? {
                self.ack(topic, &handle)?;
                missing.remove(&body);
            }
            if missing.is_empty() { Ok(Some(())) } else { bail!("{} of {}", missing.len(), wanted.len()) }
        })
    }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// Sends until it is accepted: while a cluster comes together, calls may be refused with a code that says so.
fn send_all(client: &mut Client, topic: &str, ids: &[String]) -> Result<()> {
    for id in ids {
        wait_for("a send is refused", SOON, || client.send(topic, id).map(Some))?;
    }
    Ok(())
}

/// Starts a member whose start is to fail, and returns what it said.
fn refused(cluster: &mut Cluster, member: Member) -> Result<String> {
    cluster.start_member(member)?;
    let status = cluster.wait_ended(member)?;
    ensure!(!status.success(), "{} ended well", member.name());
    Ok(cluster.log_tail(member, 5))
}

#[test]
fn what_one_proxy_takes_another_one_gives_and_settles_wherever_it_lies() -> Result<()> {
    let cluster = Cluster::start(2, 2)?;
    cluster.admin(&["topic", "create", "t"])?;
    let (mut a, mut b) = (Client::connect(cluster.grpc(0))?, Client::connect(cluster.grpc(1))?);
    let sent = ids("m", 40);
    send_all(&mut a, "t", &sent)?;
    b.take_all("t", &sent)?;
    // Both shards have had some.
    for broker in [Member::Broker(0), Member::Broker(1)] {
        let page = cluster.metrics(broker)?;
        let stored = page.lines().find(|line| line.starts_with("rocketmq_messages_in_total{")).context(page.clone())?;
        assert!(stored.contains("node_type=\"broker\"") && !stored.ends_with(" 0"), "{stored}");
    }
    assert_eq!(a.receive("t")?, [], "what was acknowledged came again");
    Ok(())
}

#[test]
fn a_producer_is_asked_over_its_stream_about_what_it_sent_through_another_proxy() -> Result<()> {
    const HALVES: usize = 12;
    let cluster = Cluster::start(2, 2)?;
    cluster.admin(&["topic", "create", "t", "--type", "transaction"])?;
    let (mut a, mut b) = (Client::connect(cluster.grpc(0))?, Client::connect(cluster.grpc(1))?);
    // Its settings name no topics, and nothing that it sends comes by here.
    let mut own = a.producer("sender", &[])?;
    // This one could answer as well, where the sends arrive; but the sender lives.
    let mut rival = b.producer("rival", &["t"])?;
    let sent = ids("half", HALVES);
    for id in &sent {
        b.send_half("sender", "t", id)?;
    }
    let mut asked = Vec::new();
    for _ in &sent {
        let Some(id) = a.check(&mut own, SOON)? else {
            let others = b.check(&mut rival, Duration::from_millis(1))?;
            bail!("only {asked:?} were asked about; another one was asked about {others:?}");
        };
        asked.push(id);
    }
    asked.sort();
    let mut sorted = sent.clone();
    sorted.sort();
    ensure!(asked == sorted, "each once: {asked:?}");
    for broker in [Member::Broker(0), Member::Broker(1)] {
        let page = cluster.metrics(broker)?;
        let stored = page.lines().find(|line| line.starts_with("rocketmq_messages_in_total{")).context(page.clone())?;
        ensure!(!stored.ends_with(" 0"), "only one broker had some: {stored}");
    }
    for id in &sent {
        b.commit("sender", "t", id)?;
    }
    a.take_all("t", &sent)?;
    let more = a.check(&mut own, Duration::from_secs(1))?;
    ensure!(more.is_none(), "asked again about {more:?}");
    let others = b.check(&mut rival, Duration::from_millis(1))?;
    ensure!(others.is_none(), "another one was asked about {others:?}");
    Ok(())
}

#[test]
fn a_restart_of_everything_in_any_order_comes_together_and_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::start(2, 1)?;
    cluster.admin(&["topic", "create", "t"])?;
    let (route, b0, b1, proxy) = (Member::Route, Member::Broker(0), Member::Broker(1), Member::Proxy(0));
    let mut sent = ids("before", 20);
    send_all(&mut Client::connect(cluster.grpc(0))?, "t", &sent)?;
    for order in [[proxy, b1, b0, route], [b0, route, proxy, b1], [route, proxy, b0, b1]] {
        for member in cluster.members() {
            cluster.kill9(member)?;
        }
        for member in order {
            cluster.start_member(member)?;
        }
        cluster.wait_all_ready()?;
        let more = ids(&format!("{order:?}"), 5);
        send_all(&mut Client::connect(cluster.grpc(0))?, "t", &more)?;
        sent.extend(more);
    }
    Client::connect(cluster.grpc(0))?.take_all("t", &sent)
}

#[test]
fn messages_flow_while_the_route_service_is_away_also_through_a_broker_that_was_restarted_meanwhile() -> Result<()> {
    let mut cluster = Cluster::start(2, 1)?;
    cluster.admin(&["topic", "create", "t"])?;
    let mut client = Client::connect(cluster.grpc(0))?;
    let first = ids("first", 20);
    send_all(&mut client, "t", &first)?;
    let taken = wait_for("nothing comes", SOON, || Ok(Some(client.receive("t")?).filter(|taken| !taken.is_empty())))?;
    cluster.kill9(Member::Route)?;
    for broker in [Member::Broker(0), Member::Broker(1)] {
        cluster.kill9(broker)?;
        cluster.start_member(broker)?;
        cluster.wait_ready(broker)?;
    }
    // Handles of before: the keys were kept.
    for (_, handle) in &taken {
        wait_for("a handle of before is refused", SOON, || client.ack("t", handle).map(Some))?;
    }
    let second = ids("second", 20);
    send_all(&mut client, "t", &second)?;
    let done: Vec<&String> = taken.iter().map(|(body, _)| body).collect();
    let left: Vec<String> = first.into_iter().chain(second).filter(|id| !done.contains(&id)).collect();
    client.take_all("t", &left)?;
    // A proxy knows nothing by itself, and says so instead of guessing.
    cluster.kill9(Member::Proxy(0))?;
    cluster.start_member(Member::Proxy(0))?;
    let said = wait_for("the proxy says nothing", SOON, || {
        let (code, said) = cluster.readyz(Member::Proxy(0))?;
        Ok(Some(said).filter(|_| code == 503))
    })?;
    assert!(said.contains("waiting for the route service at 127.0.0.1:"), "{said}");
    assert!(Client::connect(cluster.grpc(0)).is_err(), "clients are let in and would be told that no topic exists");
    cluster.start_member(Member::Route)?;
    cluster.wait_all_ready()
}

#[test]
fn a_broker_that_was_never_anywhere_waits_for_the_route_service_with_words() -> Result<()> {
    let mut cluster = ClusterOptions::default().build(1, 0)?;
    let broker = Member::Broker(0);
    cluster.start_member(broker)?;
    wait_for("the broker does not say what it waits for", SOON, || {
        let (code, said) = cluster.readyz(broker)?;
        let is_said = code == 503 && said.contains("waiting for the route service at 127.0.0.1:");
        if is_said { Ok(Some(())) } else { bail!("{code}: {said}") }
    })?;
    cluster.start_member(Member::Route)?;
    cluster.wait_all_ready()?;
    let health = std::process::Command::new(binary())
        .args(["health", "--http", &cluster.ports(broker).http.to_string()])
        .stdout(Stdio::null())
        .status()?;
    assert!(health.success());
    assert!(cluster.sigterm(broker)?.success(), "{}", cluster.log_tail(broker, 20));
    assert!(cluster.sigterm(Member::Route)?.success(), "{}", cluster.log_tail(Member::Route, 20));
    Ok(())
}

#[test]
fn a_data_directory_of_somebody_else_is_refused_with_words() -> Result<()> {
    let mut cluster = Cluster::start(2, 0)?;
    let (b0, b1) = (Member::Broker(0), Member::Broker(1));
    for member in cluster.members() {
        assert!(cluster.sigterm(member)?.success(), "{}", cluster.log_tail(member, 20));
    }
    let swap = |cluster: &Cluster, left: Member, right: Member| -> Result<()> {
        let (left, right) = (cluster.data_dir(left), cluster.data_dir(right));
        let aside = left.with_extension("aside");
        std::fs::rename(&left, &aside)?;
        std::fs::rename(&right, &left)?;
        std::fs::rename(&aside, &right)?;
        Ok(())
    };
    swap(&cluster, b0, b1)?;
    let said = refused(&mut cluster, b0)?;
    assert!(said.contains("broker-1") && said.contains("broker broker-0 needs its own"), "{said}");
    swap(&cluster, b0, b1)?;
    swap(&cluster, b0, Member::Route)?;
    let said = refused(&mut cluster, b0)?;
    assert!(said.contains("a route service's"), "{said}");
    let said = refused(&mut cluster, Member::Route)?;
    assert!(said.contains("broker-0") && said.contains("bolide route needs its own"), "{said}");
    // A server that stands alone must not take what is one of many.
    let output = std::process::Command::new(binary())
        .args(["standalone", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(cluster.data_dir(b1))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("bolide standalone needs its own"), "{said}");
    swap(&cluster, b0, Member::Route)?;
    // The route service was lost and another cluster founded: the brokers do not mix with it.
    std::fs::remove_dir_all(cluster.data_dir(Member::Route))?;
    cluster.start_member(Member::Route)?;
    let said = refused(&mut cluster, b0)?;
    assert!(said.contains("was the data of the route service lost?"), "{said}");
    // Nor does the data of a server that stands alone become a broker's.
    std::fs::remove_dir_all(cluster.data_dir(b1))?;
    let mut alone = ServerOptions::default().start()?;
    alone.sigterm()?;
    std::fs::rename(alone.data_dir(), cluster.data_dir(b1))?;
    let said = refused(&mut cluster, b1)?;
    assert!(said.contains("stands alone"), "{said}");
    Ok(())
}

/// Starts broker `name` on another data directory than the one it has, and returns what it said when it ended.
fn second_of_a_name(cluster: &Cluster, name: &str, data: &std::path::Path) -> Result<String> {
    let output = std::process::Command::new(binary())
        .args(["broker", "--name", name, "--internal", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--route", &cluster.ports(Member::Route).internal.to_string()])
        .arg("--data")
        .arg(data)
        .output()?;
    ensure!(!output.status.success(), "it ended well");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_second_data_directory_under_a_broker_s_name_is_refused_until_the_first_is_given_up() -> Result<()> {
    let mut cluster = Cluster::start(1, 1)?;
    cluster.admin(&["topic", "create", "t"])?;
    let mut client = Client::connect(cluster.grpc(0))?;
    let sent = ids("m", 10);
    send_all(&mut client, "t", &sent)?;
    let (broker, empty) = (Member::Broker(0), tempfile::tempdir()?);
    let other = empty.path().join("other");
    let said = second_of_a_name(&cluster, "broker-0", &other)?;
    assert!(said.contains("runs already") && said.contains("--name"), "{said}");
    let (code, _) = cluster.readyz(broker)?;
    assert_eq!(code, 200, "the first one was disturbed");
    let forgotten = cluster.admin_output_at(Member::Proxy(0), &["broker", "forget", "broker-0"])?;
    assert_eq!(forgotten.status.code(), Some(4), "{forgotten:?}");
    client.take_all("t", &sent)?;
    let sent = ids("acknowledged", 10);
    send_all(&mut client, "t", &sent)?;
    // Its directory is gone, and an empty one must not answer for what was acknowledged.
    cluster.kill9(broker)?;
    wait_for("the lease does not end", Duration::from_secs(20), || {
        let said = second_of_a_name(&cluster, "broker-0", &other)?;
        Ok(said.contains("bolide admin broker forget broker-0").then_some(()))
    })?;
    cluster.start_member(broker)?;
    cluster.wait_ready(broker)?;
    client.take_all("t", &sent)?;
    // Lost for good: the operator says so, and the name goes on without what lay there.
    cluster.kill9(broker)?;
    let aside = empty.path().join("aside");
    std::fs::rename(cluster.data_dir(broker), &aside)?;
    wait_for("the broker is not given up", Duration::from_secs(20), || {
        cluster.admin(&["broker", "forget", "broker-0"]).map(Some)
    })?;
    cluster.start_member(broker)?;
    cluster.wait_ready(broker)?;
    let more = ids("after", 5);
    send_all(&mut client, "t", &more)?;
    client.take_all("t", &more)?;
    // The old directory came back.
    let said = second_of_a_name(&cluster, "broker-0", &aside)?;
    assert!(said.contains("runs already"), "{said}");
    Ok(())
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn a_route_service_put_back_to_an_older_copy_deletes_nothing_on_a_broker_that_was_started_again() -> Result<()> {
    let mut cluster = Cluster::start(1, 1)?;
    cluster.admin(&["topic", "create", "before"])?;
    let (route, broker, proxy) = (Member::Route, Member::Broker(0), Member::Proxy(0));
    let aside = tempfile::tempdir()?;
    let (older, newest) = (aside.path().join("older"), aside.path().join("newest"));
    assert!(cluster.sigterm(route)?.success());
    copy_dir(&cluster.data_dir(route), &older)?;
    cluster.start_member(route)?;
    cluster.wait_ready(route)?;
    wait_for("no topic can be made", SOON, || cluster.admin(&["topic", "create", "t"]).map(Some))?;
    let mut client = Client::connect(cluster.grpc(0))?;
    let sent = ids("m", 10);
    send_all(&mut client, "t", &sent)?;
    for member in [proxy, broker, route] {
        cluster.sigterm(member)?;
    }
    // The older copy gives the number of `t` to another topic, which goes again: numbers and names tell nothing.
    std::fs::rename(cluster.data_dir(route), &newest)?;
    std::fs::rename(&older, cluster.data_dir(route))?;
    cluster.start_member(route)?;
    cluster.start_member(proxy)?;
    cluster.wait_ready(route)?;
    for what in [["topic", "create", "other"], ["topic", "delete", "other"]] {
        wait_for("a change is refused", SOON, || {
            let done = cluster.admin_output_at(route, &what)?;
            Ok(done.status.success().then_some(()))
        })?;
    }
    cluster.start_member(broker)?;
    cluster.wait_ready(broker)?;
    wait_for("the broker does not say why", SOON, || {
        let said = cluster.log_tail(broker, 40);
        Ok((said.contains("older copy") && said.contains("bolide admin broker forget broker-0")).then_some(()))
    })?;
    // With the newest copy everything is as it was.
    cluster.sigterm(route)?;
    std::fs::remove_dir_all(cluster.data_dir(route))?;
    std::fs::rename(&newest, cluster.data_dir(route))?;
    cluster.start_member(route)?;
    cluster.kill9(proxy)?;
    cluster.start_member(proxy)?;
    cluster.wait_all_ready()?;
    Client::connect(cluster.grpc(0))?.take_all("t", &sent)
}

#[test]
fn an_inspection_finds_the_shard_of_whichever_broker_had_the_directory() -> Result<()> {
    let mut cluster = Cluster::start(2, 1)?;
    cluster.admin(&["topic", "create", "t"])?;
    let mut client = Client::connect(cluster.grpc(0))?;
    send_all(&mut client, "t", &ids("m", 10))?;
    let shards = [Member::Broker(0), Member::Broker(1)].map(|broker| {
        cluster.sigterm(broker)?;
        let data = cluster.data_dir(broker);
        let name = if data.join("shard-0").exists() { "shard-0" } else { "shard-1" };
        Ok((data, name))
    });
    let [first, second]: [Result<_>; 2] = shards;
    let ((first, named), (second, other)) = (first?, second?);
    ensure!(named != other, "both have {named}");
    let inspect = |data: &std::path::Path, arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output =
            std::process::Command::new(binary()).arg("inspect").args(arguments).arg("--data").arg(data).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    for data in [&first, &second] {
        let (code, said) = inspect(data, &["queue", "t", "0"])?;
        assert!(code == Some(0) && said.contains("topic t"), "{said}");
        let (code, said) = inspect(data, &["log"])?;
        assert!(code == Some(0) && said.contains("folded up to"), "{said}");
    }
    // As when data of several brokers were put together.
    std::fs::rename(second.join(other), first.join(other))?;
    let (code, said) = inspect(&first, &["log"])?;
    assert!(code == Some(2) && said.contains("shards 0, 1") && said.contains("--shard"), "{said}");
    for shard in ["0", "1"] {
        let (code, said) = inspect(&first, &["queue", "t", "0", "--shard", shard])?;
        assert!(code == Some(0) && said.contains("topic t"), "{said}");
    }
    let (code, said) = inspect(&first, &["log", "--shard", "9"])?;
    assert!(code == Some(3) && said.contains("shard 9"), "{said}");
    Ok(())
}

#[test]
fn a_process_with_another_secret_is_kept_out_and_so_is_an_operator() -> Result<()> {
    let secrets = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = secrets.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let (right, wrong) = (write("right", "the-right-secret-1\n")?, write("wrong", "the-wrong-secret-1\n")?);
    let stranger = Member::Broker(1);
    let mut cluster = ClusterOptions::default()
        .env("BOLIDE_CLUSTER_SECRET_FILE", &right)
        .env_of(stranger, "BOLIDE_CLUSTER_SECRET_FILE", &wrong)
        .build(2, 1)?;
    for member in [Member::Route, Member::Broker(0), Member::Proxy(0)] {
        cluster.start_member(member)?;
    }
    cluster.wait_all_ready()?;
    cluster.start_member(stranger)?;
    wait_for("the stranger does not say why", SOON, || {
        Ok(cluster.log_tail(stranger, 20).contains("secret is missing or wrong").then_some(()))
    })?;
    assert_eq!(cluster.readyz(stranger)?.0, 503);
    cluster.admin(&["topic", "create", "t"])?;
    for member in [Member::Route, Member::Broker(0), Member::Proxy(0)] {
        let internal = cluster.ports(member).internal.to_string();
        for (secret, welcome) in [(&right, true), (&wrong, false)] {
            let output = std::process::Command::new(binary())
                .args(["admin", "--address", &internal, "--secret-file", secret, "status"])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), welcome, "{member:?}: {said}");
            assert!(welcome || said.contains("secret is missing or wrong"), "{member:?}: {said}");
        }
    }
    let mut client = Client::connect(cluster.grpc(0))?;
    let sent = ids("m", 5);
    send_all(&mut client, "t", &sent)?;
    client.take_all("t", &sent)
}

#[test]
fn an_internal_port_that_would_be_open_to_everyone_is_refused() -> Result<()> {
    for role in ["route", "broker", "proxy"] {
        let data = tempfile::tempdir()?;
        let output = std::process::Command::new(binary())
            .args([role, "--internal", "0.0.0.0:0", "--http", "127.0.0.1:0"])
            .env("BOLIDE_CLUSTER_ROUTE", "127.0.0.1:1")
            .env("BOLIDE_SERVER_DATA", data.path().join("data"))
            .env("BOLIDE_SERVER_LISTEN", "127.0.0.1:0")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("nobody would be asked who they are"), "{role}: {said}");
        assert!(!data.path().join("data").exists(), "{role} left something behind");
    }
    Ok(())
}

#[test]
fn a_role_that_does_not_know_where_the_route_service_is_says_how_to_tell_it() -> Result<()> {
    for role in ["broker", "proxy"] {
        let output = std::process::Command::new(binary())
            .args([role, "--http", "127.0.0.1:0", "--internal", "127.0.0.1:0"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("BOLIDE_CLUSTER_ROUTE"), "{role}: {said}");
    }
    Ok(())
}

mod certificates {
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Result<Self> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
        }

        /// Writes `ca.pem`, and a certificate for the loopback with its key.
        fn write(&self, dir: &Path) -> Result<()> {
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &self.0)?;
            std::fs::create_dir_all(dir)?;
            std::fs::write(dir.join("ca.pem"), self.0.pem())?;
            std::fs::write(dir.join("cert.pem"), certificate.pem())?;
            std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
            Ok(())
        }
    }

    fn with_certificates(options: ClusterOptions, dir: &Path) -> ClusterOptions {
        let file = |name: &str| dir.join(name).display().to_string();
        options
            .env("BOLIDE_CLUSTER_TLS_CA", &file("ca.pem"))
            .env("BOLIDE_CLUSTER_TLS_CERTIFICATE", &file("cert.pem"))
            .env("BOLIDE_CLUSTER_TLS_KEY", &file("key.pem"))
    }

    fn admin_with(cluster: &Cluster, dir: &Path, member: Member) -> Result<(bool, String)> {
        let file = |name: &str| dir.join(name).display().to_string();
        let output = std::process::Command::new(binary())
            .args(["admin", "--address", &cluster.ports(member).internal.to_string()])
            .args(["--tls-ca", &file("ca.pem"), "--tls-certificate", &file("cert.pem"), "--tls-key", &file("key.pem")])
            .arg("status")
            .output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    #[test]
    fn all_internal_connections_are_mutual_tls_and_renewed_certificates_are_taken_without_a_restart() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        let (authority, stranger) = (Authority::new()?, Authority::new()?);
        authority.write(&ours)?;
        stranger.write(&other)?;
        let mut cluster = with_certificates(ClusterOptions::default(), &ours).start(1, 1)?;
        cluster.admin(&["topic", "create", "t"])?;
        let mut client = Client::connect(cluster.grpc(0))?;
        let sent = ids("m", 5);
        send_all(&mut client, "t", &sent)?;
        client.take_all("t", &sent)?;
        for member in cluster.members() {
            assert!(admin_with(&cluster, &ours, member)?.0);
            assert!(!admin_with(&cluster, &other, member)?.0, "{member:?} believes a stranger");
            let plain = Endpoint::from_shared(format!("http://{}", cluster.ports(member).internal))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let answered = runtime.block_on(async {
                let mut admin = bolide::wire::admin::admin_client::AdminClient::new(plain.connect_lazy());
                admin.status(bolide::wire::admin::StatusRequest::default()).await.is_ok()
            });
            assert!(!answered, "{member:?} answers without TLS");
        }
        // Another authority altogether, as when a secret of Kubernetes is made anew.
        std::fs::rename(&ours, dir.path().join("old"))?;
        stranger.write(&ours)?;
        for member in cluster.members() {
            wait_for("new certificates are not used", Duration::from_secs(20), || {
                let (welcome, said) = admin_with(&cluster, &ours, member)?;
                if welcome { Ok(Some(())) } else { bail!("{member:?}: {said}") }
            })?;
        }
        // Connections made from now on trust each other, too.
        cluster.kill9(Member::Broker(0))?;
        cluster.start_member(Member::Broker(0))?;
        cluster.wait_all_ready()?;
        let sent = ids("after", 5);
        send_all(&mut client, "t", &sent)?;
        client.take_all("t", &sent)
    }
}
