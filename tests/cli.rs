//! The commands as a user types them: what they print, and the exit codes that scripts rely on.

mod common;

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::messaging_service_client::MessagingServiceClient;
use common::{Server, ServerOptions, binary};
use serde_json::Value;
use tonic::transport::Endpoint;

fn bolide(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary()).args(arguments).envs(environment.iter().copied()).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs an admin command and returns its exit code with everything it printed.
fn admin(server: &Server, arguments: &[&str]) -> Result<(i32, String)> {
    let output = server.admin_output(arguments)?;
    Ok((output.status.code().context("ended by a signal")?, output.stdout + &output.stderr))
}

fn json(server: &Server, arguments: &[&str]) -> Result<Value> {
    let mut all = arguments.to_vec();
    all.extend(["--output", "json"]);
    Ok(serde_json::from_str(&server.admin(&all)?)?)
}

/// Sends so many messages, one a request: the queues of the topic take turns.
fn send(server: &Server, topic: &str, count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stub = MessagingServiceClient::new(
            Endpoint::from_shared(format!("http://{}", server.addresses().grpc))?.connect().await?,
        );
        for number in 0..count {
            let system = v2::SystemProperties { message_id: format!("m{number}"), ..Default::default() };
            let topic = Some(v2::Resource { name: topic.to_owned(), ..Default::default() });
            let body = b"body".to_vec().into();
            let message = v2::Message { topic, system_properties: Some(system), body, ..Default::default() };
            let mut request = tonic::Request::new(v2::SendMessageRequest { messages: vec![message] });
            request.metadata_mut().insert("x-mq-client-id", "cli@1".parse()?);
            let status = stub.send_message(request).await?.into_inner().status.context("no status")?;
            ensure!(status.code == 20_000, "{status:?}");
        }
        Ok(())
    })
}

#[test]
fn creating_a_topic_again_is_fine_and_with_other_settings_names_what_differs() -> Result<()> {
    let server = Server::start()?;
    let create = ["topic", "create", "orders", "--type", "FIFO", "--queues", "4", "--promise", "Written"];
    assert_eq!(admin(&server, &create)?.0, 0);
    let (code, said) = admin(&server, &create)?;
    assert_eq!(code, 0);
    assert!(said.contains("exists already"), "{said}");
    let (code, said) = admin(&server, &["topic", "create", "orders", "--type", "fifo", "--queues", "5"])?;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("queues") && said.contains("promise"), "{said}");
    let shown = json(&server, &["topic", "show", "orders"])?;
    assert_eq!(shown["type"], "fifo");
    assert_eq!(shown["queues"], 4);
    assert_eq!(shown["promise"], "written");
    assert_eq!(shown["ranges"].as_array().map(Vec::len), Some(4));
    Ok(())
}

#[test]
fn a_topic_is_changed_listed_and_deleted() -> Result<()> {
    let server = Server::start()?;
    server.admin(&["topic", "create", "a", "--retention", "24h"])?;
    server.admin(&["topic", "create", "b", "--namespace", "other"])?;
    server.admin(&["topic", "update", "a", "--queues", "16", "--permission", "r", "--retention", "default"])?;
    let listed = json(&server, &["topic", "list"])?;
    let names: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|topic| topic["name"].as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(listed[0]["queues"], 16);
    assert_eq!(listed[0]["permission"], "r");
    assert_eq!(listed[0]["retention"], Value::Null);
    assert_eq!(json(&server, &["topic", "list", "--namespace", "other"])?.as_array().map(Vec::len), Some(1));
    // Queues cannot shrink: messages would have no place.
    let (code, said) = admin(&server, &["topic", "update", "a", "--queues", "2"])?;
    assert!([2, 4].contains(&code), "{code}: {said}");
    server.admin(&["topic", "delete", "a"])?;
    assert_eq!(admin(&server, &["topic", "show", "a"])?.0, 3);
    assert_eq!(admin(&server, &["topic", "delete", "a"])?.0, 3);
    Ok(())
}

#[test]
fn lite_topics_have_their_settings_and_a_list_of_their_own() -> Result<()> {
    let server = Server::start()?;
    server.admin(&["topic", "create", "sessions", "--type", "lite", "--lite-ttl", "24h"])?;
    let shown = json(&server, &["topic", "show", "sessions"])?;
    assert_eq!((&shown["lite_ttl"], &shown["lite_topics"]), (&Value::from("24h"), &Value::from(0)));
    server.admin(&["topic", "update", "sessions", "--lite-ttl", "never"])?;
    assert_eq!(json(&server, &["topic", "show", "sessions"])?["lite_ttl"], Value::Null);
    let (code, said) = admin(&server, &["topic", "update", "sessions", "--lite-ttl", "1s"])?;
    assert_eq!(code, 2, "{said}");
    server.admin(&["group", "create", "agents", "--lite-exclusive"])?;
    assert_eq!(json(&server, &["group", "show", "agents"])?["lite_exclusive"], true);
    let listed = json(&server, &["lite", "list", "sessions", "--prefix", "a"])?;
    assert_eq!((&listed["lite_topics"], &listed["more"]), (&Value::Array(Vec::new()), &Value::from(false)));
    assert_eq!(admin(&server, &["lite", "list", "nowhere"])?.0, 3);
    Ok(())
}

#[test]
fn a_group_keeps_every_setting_it_was_given() -> Result<()> {
    let server = Server::start()?;
    let created = json(
        &server,
        &[
            "group",
            "create",
            "billing",
            "--ordered",
            "--max-attempts",
            "3",
            "--start",
            "latest",
            "--backoff",
            "exponential:1s,1m,2",
            "--consume-timeout",
            "5m",
        ],
    )?;
    assert_eq!(created["created"], true);
    let shown = json(&server, &["group", "show", "billing"])?;
    assert_eq!(shown["ordered"], true);
    assert_eq!(shown["max_attempts"], 3);
    assert_eq!(shown["start"], "latest");
    assert_eq!(shown["backoff"], "exponential:1s,1m,2");
    assert_eq!(shown["consume_timeout"], "5m");
    server.admin(&["group", "update", "billing", "--ordered=false", "--backoff", "1s,10s"])?;
    let shown = json(&server, &["group", "show", "billing"])?;
    assert_eq!(shown["ordered"], false);
    assert_eq!(shown["backoff"], "1s,10s");
    assert_eq!(shown["max_attempts"], 3);
    let (code, said) = admin(&server, &["group", "create", "billing", "--max-attempts", "4"])?;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("attempts"), "{said}");
    let (code, said) = admin(&server, &["group", "create", "billing", "--ordered"])?;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("ordered is false, not true"), "{said}");
    server.admin(&["group", "create", "plain"])?;
    assert_eq!(json(&server, &["group", "show", "plain"])?["ordered"], Value::Null);
    assert_eq!(json(&server, &["group", "list"])?.as_array().map(Vec::len), Some(2));
    server.admin(&["group", "delete", "plain"])?;
    assert_eq!(admin(&server, &["group", "lag", "plain"])?.0, 3);
    Ok(())
}

#[test]
fn a_group_is_moved_to_a_position_and_the_command_says_what_that_means() -> Result<()> {
    let server = Server::start()?;
    server.admin(&["topic", "create", "t", "--queues", "2"])?;
    let reset = |arguments: &[&str]| admin(&server, &[&["group", "reset", "g", "--topic", "t"], arguments].concat());
    let (code, said) = reset(&["--to", "latest"])?;
    assert_eq!(code, 3, "nobody created it: {said}");
    server.admin(&["group", "create", "g", "--start", "latest"])?;
    send(&server, "t", 20)?;
    // A group that never read the topic stands where it would have started, here at the end.
    let view = json(&server, &["group", "reset", "g", "--topic", "t", "--to", "earliest", "--dry-run"])?;
    assert_eq!((view["rewound"].as_u64(), view["dry_run"].as_bool()), (Some(20), Some(true)), "{view}");
    assert_eq!(json(&server, &["group", "lag", "g"])?[0]["lag"], 0, "a look changes nothing");
    let (code, said) = reset(&["--to", "1h ago"])?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("REWOUND") && said.contains("0 messages skipped, 20 rewound"), "{said}");
    let lag = json(&server, &["group", "lag", "g"])?;
    let lags: u64 = lag.as_array().unwrap().iter().filter_map(|queue| queue["lag"].as_u64()).sum();
    assert_eq!(lags, 20);
    let view = json(&server, &["group", "reset", "g", "--topic", "t", "--queue", "1", "--to", "3", "--yes"])?;
    assert_eq!((view["skipped"].as_u64(), view["queues"][0]["to_offset"].as_i64()), (Some(3), Some(3)), "{view}");
    for (arguments, expected, word) in [
        (&["--to", "3"][..], 2, "queue"),
        (&["--to", "soon"], 2, "earliest"),
        (&["--to", "-3"], 2, "negative"),
        (&["--to", "latest", "--queue", "2"], 4, "0 to 1"),
        (&["--to", "1000", "--queue", "0"], 4, "outside"),
    ] {
        let (code, said) = reset(arguments)?;
        assert_eq!(code, expected, "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let (code, said) = admin(&server, &["group", "reset", "g", "--topic", "nowhere", "--to", "latest"])?;
    assert_eq!(code, 3, "{said}");
    Ok(())
}

#[test]
fn what_is_no_valid_value_is_a_usage_error_and_says_what_is() -> Result<()> {
    let server = Server::start()?;
    for (arguments, word) in [
        (&["topic", "create", "t", "--type", "ordered"][..], "fifo"),
        (&["topic", "create", "t", "--queues", "0"], "queue"),
        (&["topic", "create", "t", "--queues", "1025"], "1024"),
        (&["topic", "create", "a b"], "characters"),
        (&["topic", "create", "t", "--retention", "soon"], "72h"),
        (&["group", "create", "g", "--max-attempts", "0"], "attempt"),
        (&["group", "create", "g", "--start", "yesterday"], "earliest"),
    ] {
        let (code, said) = admin(&server, arguments)?;
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert_eq!(json(&server, &["topic", "list"])?.as_array().map(Vec::len), Some(0));
    Ok(())
}

#[test]
fn status_tells_the_log_positions_in_their_order() -> Result<()> {
    let server = Server::start()?;
    server.admin(&["topic", "create", "t"])?;
    let status = json(&server, &["status"])?;
    assert_eq!(status["ready"], true);
    assert_eq!(status["topics"], 1);
    let shard = &status["shards"][0];
    let position = |name: &str| shard[name].as_u64().unwrap();
    assert!(position("durable_position") > 0);
    assert!(position("accepted_position") >= position("written_position"));
    assert!(position("written_position") >= position("durable_position"));
    assert!(position("durable_position") >= position("folded_position"));
    assert_eq!(shard["accepting"], true);
    Ok(())
}

#[test]
fn nobody_there_is_told_from_a_refusal() {
    // Port 1 of the loopback: nothing listens there.
    let output = bolide(&["admin", "status", "--address", "127.0.0.1:1"], &[]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("127.0.0.1:1"), "{}", text(&output.stderr));
}

#[test]
fn a_port_that_is_not_the_internal_one_is_named_as_such() -> Result<()> {
    let server = Server::start()?;
    let addresses = server.addresses();
    for wrong in [addresses.grpc, addresses.http] {
        let output = bolide(&["admin", "--address", &wrong.to_string(), "topic", "list"], &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains(&wrong.to_string()) && said.contains("no internal address"), "{said}");
    }
    Ok(())
}

#[test]
fn what_is_no_host_and_port_is_a_usage_error() {
    for wrong in ["foo", "http://127.0.0.1:8082", "127.0.0.1:port", ":8082"] {
        let output = bolide(&["admin", "status", "--address", wrong], &[]);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", text(&output.stderr));
        let output = bolide(&["health", "--http", wrong], &[]);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", text(&output.stderr));
    }
    let output = bolide(&["health", "--http", "127.0.0.1:1"], &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("--http") && !said.contains("--address"), "{said}");
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() -> Result<()> {
    let mut child = Command::new(binary())
        .args(["config", "keys"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    // Closed before anything is read.
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    Ok(())
}

#[test]
fn the_help_of_an_update_shows_no_defaults() {
    for kind in ["topic", "group"] {
        let update = text(&bolide(&["admin", kind, "update", "--help"], &[]).stdout);
        for default in ["[default: normal]", "[default: 8]", "[default: 17]", "[default: auto]", "[default: 3h]"] {
            assert!(!update.contains(default), "{kind}: {update}");
        }
        let create = text(&bolide(&["admin", kind, "create", "--help"], &[]).stdout);
        assert!(create.contains("Settings not given"), "{kind}: {create}");
    }
}

#[test]
fn config_print_tells_where_each_value_comes_from() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bolide.yaml");
    std::fs::write(&file, "storage:\n  retention_age: 24h\nserver:\n  http: 127.0.0.1:1\n")?;
    let output = bolide(
        &["config", "print", "--output", "json", "--listen", "127.0.0.1:3"],
        &[("BOLIDE_CONFIG", file.to_str().unwrap()), ("BOLIDE_SERVER_HTTP", "127.0.0.1:2")],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let settings: Value = serde_json::from_slice(&output.stdout)?;
    let find = |key: &str| settings.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone();
    assert_eq!(find("storage.retention_age")["value"], "24h");
    assert!(find("storage.retention_age")["origin"].as_str().unwrap().starts_with("file "));
    assert_eq!(find("server.http")["value"], "127.0.0.1:2");
    assert_eq!(find("server.http")["origin"], "environment BOLIDE_SERVER_HTTP");
    assert_eq!(find("server.listen")["origin"], "flag --listen");
    assert_eq!(find("server.internal")["origin"], "default");
    Ok(())
}

#[test]
fn an_unknown_setting_stops_the_start_and_names_the_nearest_one() {
    let output = bolide(&["standalone", "--listen", "127.0.0.1:0"], &[("BOLIDE_STORAGE_RETENTION_AG", "1h")]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("BOLIDE_STORAGE_RETENTION_AG") && said.contains("BOLIDE_STORAGE_RETENTION_AGE"), "{said}");
}

#[test]
fn a_second_process_on_the_same_data_is_refused_and_told_who_has_it() -> Result<()> {
    let server = Server::start()?;
    let data = server.data_dir();
    let free = "127.0.0.1:0";
    let output = bolide(
        &["standalone", "--data", data.to_str().unwrap(), "--listen", free, "--internal", free, "--http", free],
        &[],
    );
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    let pid = server.pid().context("running")?.to_string();
    assert!(said.contains(&pid), "the holder {pid} is not named: {said}");
    Ok(())
}

#[test]
fn a_setting_from_the_environment_reaches_the_server() -> Result<()> {
    let server = ServerOptions::default().env("BOLIDE_LIMITS_MAX_TOPICS", "1").start()?;
    server.admin(&["topic", "create", "a"])?;
    let (code, said) = admin(&server, &["topic", "create", "b"])?;
    assert_eq!(code, 4, "{said}");
    Ok(())
}

#[test]
fn config_print_names_a_variable_that_is_not_obeyed() {
    let output = bolide(&["config", "print", "--changed"], &[("BOLIDE_LISTEN", "127.0.0.1:1")]);
    assert!(output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("BOLIDE_LISTEN") && said.contains("BOLIDE_SERVER_LISTEN"), "{said}");
}

#[test]
fn a_topic_cannot_keep_messages_longer_than_the_broker() -> Result<()> {
    let server = ServerOptions::default().env("BOLIDE_STORAGE_RETENTION_AGE", "1h").start()?;
    let (code, said) = admin(&server, &["topic", "create", "long", "--retention", "7d"])?;
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("storage.retention_age"), "{said}");
    server.admin(&["topic", "create", "short", "--retention", "1h"])?;
    let (code, said) = admin(&server, &["topic", "update", "short", "--retention", "2h"])?;
    assert_ne!(code, 0, "{said}");
    Ok(())
}

#[test]
fn inspect_changes_nothing_and_tells_what_it_cannot_know() -> Result<()> {
    let mut server = Server::start()?;
    server.admin(&["topic", "create", "orders", "--queues", "2"])?;
    let data = server.data_dir();
    let inspect = |arguments: &[&str]| {
        let output = bolide(&[&["inspect", "--data", data.to_str().unwrap()], arguments].concat(), &[]);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    server.kill9()?;
    let lock = std::fs::read(data.join("LOCK"))?;
    // Known to the log only: not there is not what may be said.
    let (code, _, said) = inspect(&["queue", "orders", "0"]);
    assert_eq!(code, Some(1), "{said}");
    let unfolded = said.split_once("goes on ").and_then(|(_, rest)| rest.split_once(" bytes beyond the folded state"));
    let unfolded: u64 = unfolded.context("no word of what is not folded")?.0.parse()?;
    assert!((1..100_000).contains(&unfolded), "segments made ready are counted: {said}");
    assert_eq!(std::fs::read(data.join("LOCK"))?, lock);

    server.start_again()?;
    server.sigterm()?;
    let (code, said, _) = inspect(&["queue", "orders", "0"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("beyond the folded state"), "{said}");
    let (code, _, said) = inspect(&["queue", "orders", "2"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("queues 0 to 1"), "{said}");
    let (code, _, said) = inspect(&["group", "nobody"]);
    assert_eq!(code, Some(3), "{said}");
    Ok(())
}

#[test]
fn inspect_says_when_a_directory_is_none_of_ours() -> Result<()> {
    let empty = tempfile::tempdir()?;
    let output = bolide(&["inspect", "log", "--data", empty.path().to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("no data directory of bolide"), "{said}");
    Ok(())
}

#[test]
fn transactions_are_listed_and_one_that_nobody_knows_is_not_found() -> Result<()> {
    let server = Server::start()?;
    server.admin(&["topic", "create", "orders", "--type", "transaction"])?;
    assert_eq!(json(&server, &["transaction", "list", "--topic", "orders", "--state", "all"])?, serde_json::json!([]));
    let (code, said) = admin(&server, &["transaction", "list"])?;
    assert!(code == 0 && said.contains("PRODUCER"), "{said}");
    assert_eq!(admin(&server, &["transaction", "list", "--topic", "nothing"])?.0, 3);
    assert_eq!(admin(&server, &["transaction", "list", "--state", "lost"])?.0, 2);
    for end in ["commit", "rollback"] {
        let (code, said) = admin(&server, &["transaction", end, "orders", "01AB"])?;
        assert!(code == 3 && said.contains("no transaction"), "{code}: {said}");
    }
    Ok(())
}

#[test]
fn what_only_a_cluster_has_is_refused_by_one_broker_with_words() -> Result<()> {
    let server = Server::start()?;
    server.admin(&["topic", "create", "t"])?;
    for command in [
        &["cluster", "status"][..],
        &["broker", "list"],
        &["broker", "drain", "broker-0"],
        &["topic", "rebalance", "t"],
        &["topic", "rebalance", "--all"],
        &["key", "rotate"],
    ] {
        let (code, said) = admin(&server, command)?;
        // Of several topics it is said which one failed.
        let expected = if command.contains(&"--all") { 1 } else { 4 };
        assert_eq!(code, expected, "{command:?}: {said}");
        assert!(said.contains("no part of a cluster"), "{command:?}: {said}");
    }
    assert_eq!(admin(&server, &["topic", "rebalance"])?.0, 2, "neither a name nor --all");
    assert_eq!(admin(&server, &["dlq", "list", "g", "--from", "broker-1:x"])?.0, 2);
    let shown = server.admin(&["topic", "show", "t"])?;
    assert!(shown.contains("QUEUE") && !shown.contains("BROKER"), "one broker needs no name: {shown}");
    Ok(())
}
