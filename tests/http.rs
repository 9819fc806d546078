//! What the process shows over HTTP, and how it ends and begins again.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::{Server, ServerOptions, Stop, binary};

/// Status and body of a GET.
fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let code = head.split_whitespace().nth(1).context("no status")?.parse()?;
    Ok((code, body.to_owned()))
}

/// Runs a benchmark against the server and returns its JSON.
fn bench(server: &Server, arguments: &[&str]) -> Result<serde_json::Value> {
    let addresses = server.addresses();
    let output = Command::new(binary())
        .arg("bench")
        .args(arguments)
        .args(["--endpoint", &addresses.grpc.to_string(), "--address", &addresses.internal.to_string()])
        .args(["--json", "--quiet"])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The sum of all series of a metric whose line has every one of `labels`.
fn metric(page: &str, name: &str, labels: &[&str]) -> f64 {
    page.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[test]
fn health_and_readiness_are_good_while_the_process_serves() -> Result<()> {
    let server = Server::start()?;
    let http = server.addresses().http;
    assert_eq!(get(http, "/healthz")?.0, 200);
    assert_eq!(get(http, "/readyz")?, (200, "ready\n".to_owned()));
    assert_eq!(get(http, "/nothing")?.0, 404);
    let health = Command::new(binary()).args(["health", "--http", &http.to_string()]).status()?;
    assert!(health.success());
    Ok(())
}

#[test]
fn a_silent_connection_is_closed() -> Result<()> {
    let server = Server::start()?;
    let mut silent = TcpStream::connect(server.addresses().http)?;
    // The server's limit is 5 s.
    silent.set_read_timeout(Some(Duration::from_secs(15)))?;
    silent.read_to_end(&mut Vec::new()).context("still open")?;
    Ok(())
}

#[test]
fn connections_beyond_the_bound_are_closed_and_the_places_come_back() -> Result<()> {
    const BOUND: usize = 256;
    let server = Server::start()?;
    let http = server.addresses().http;
    let held: Vec<TcpStream> = (0..BOUND).map(|_| TcpStream::connect(http)).collect::<std::io::Result<_>>()?;
    // Accepted in the order of arrival, so all places are taken when it is this one's turn.
    let mut beyond = TcpStream::connect(http)?;
    beyond.set_read_timeout(Some(Duration::from_secs(3)))?;
    assert_eq!(beyond.read(&mut [0]).context("the connection beyond the bound stays open")?, 0);
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(10);
    while get(http, "/healthz").map_or(0, |(code, _)| code) != 200 {
        ensure!(Instant::now() < deadline, "no place came back");
    }
    Ok(())
}

#[test]
fn a_full_disk_leaves_the_node_ready_and_says_that_sends_are_refused() -> Result<()> {
    // Any disk counts as full: used above 6 %, or less than 1 TiB free.
    let server = ServerOptions::default()
        .env("BOLIDE_STORAGE_DISK_LOW_WATERMARK", "0.05")
        .env("BOLIDE_STORAGE_DISK_HIGH_WATERMARK", "0.06")
        .env("BOLIDE_STORAGE_DISK_RESERVE", "1TiB")
        .start()?;
    let http = server.addresses().http;
    let deadline = Instant::now() + Duration::from_secs(15);
    let body = loop {
        let (code, body) = get(http, "/readyz")?;
        assert_eq!(code, 200, "{body}");
        if body != "ready\n" {
            break body;
        }
        ensure!(Instant::now() < deadline, "the full disk is not noticed");
    };
    assert!(body.starts_with("ready, but not accepting sends: "), "{body}");
    let said = server.admin(&["status"])?;
    assert!(said.contains("not accepting sends"), "{said}");
    Ok(())
}

#[test]
fn metrics_count_what_went_in_and_what_came_out() -> Result<()> {
    let server = Server::start()?;
    let http = server.addresses().http;
    let sent = bench(&server, &["send", "--messages", "200", "--warmup", "0", "--body-bytes", "100"])?;
    assert_eq!(sent["errors"], 0);
    let page = get(http, "/metrics")?.1;
    let bench_topic = r#"topic="bench""#;
    assert_eq!(
        metric(&page, "rocketmq_messages_in_total", &[bench_topic, r#"message_type="normal""#]),
        200.0,
        "{page}"
    );
    assert_eq!(metric(&page, "rocketmq_throughput_in_total", &[bench_topic]), 20_000.0);
    assert!(metric(&page, "rocketmq_rpc_latency_count", &[r#"request_code="SendMessage""#]) >= 200.0, "{page}");
    assert!(metric(&page, "bolide_log_sync_duration_seconds_count", &[]) > 0.0);
    assert!(metric(&page, "bolide_log_batch_units_sum", &[]) >= 200.0);
    assert!(metric(&page, "bolide_log_bytes", &[]) > 20_000.0);
    let received = bench(&server, &["receive", "--messages", "200", "--parallel", "2"])?;
    assert_eq!(received["messages"], 200);
    let page = get(http, "/metrics")?.1;
    let group = r#"consumer_group="bench""#;
    assert_eq!(metric(&page, "rocketmq_messages_out_total", &[bench_topic, group]), 200.0, "{page}");
    assert_eq!(metric(&page, "rocketmq_consumer_lag_messages", &[bench_topic, group]), 0.0, "{page}");
    assert_eq!(metric(&page, "rocketmq_topic_number", &[]), 1.0);
    assert!(page.contains("# TYPE bolide_process_cpu_seconds_total counter"), "{page}");
    assert!(metric(&page, "bolide_process_cpu_seconds_total", &[]) > 0.0, "{page}");
    assert_eq!(metric(&page, "rocketmq_consumer_group_number", &[]), 1.0);
    Ok(())
}

#[test]
fn every_series_carries_the_base_labels() -> Result<()> {
    let server = Server::start()?;
    let page = get(server.addresses().http, "/metrics")?.1;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        for label in ["cluster=\"", "node_type=\"standalone\"", "node_id=\""] {
            assert!(line.contains(label), "{line}");
        }
    }
    Ok(())
}

#[test]
fn a_second_start_continues_where_the_first_one_ended() -> Result<()> {
    let mut server = Server::start()?;
    bench(&server, &["send", "--messages", "100", "--warmup", "0", "--topic", "kept"])?;
    server.restart(Stop::Term)?;
    let shown = server.admin(&["topic", "show", "kept", "--output", "json"])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let held: u64 = shown["ranges"].as_array().unwrap().iter().filter_map(|range| range["messages"].as_u64()).sum();
    assert_eq!(held, 100);
    let received = bench(&server, &["receive", "--messages", "100", "--topic", "kept", "--parallel", "2"])?;
    assert_eq!(received["messages"], 100);
    Ok(())
}

#[test]
fn a_waiting_receive_does_not_hold_up_the_end() -> Result<()> {
    let mut server = Server::start()?;
    server.admin(&["topic", "create", "empty"])?;
    let addresses = server.addresses();
    let mut waiting = Command::new(binary())
        .args(["bench", "receive", "--quiet", "--topic", "empty", "--parallel", "1", "--connections", "1"])
        .args(["--endpoint", &addresses.grpc.to_string(), "--address", &addresses.internal.to_string()])
        .spawn()?;
    // Waits until the receive is parked, as the server itself says.
    let deadline = Instant::now() + Duration::from_secs(10);
    while metric(&get(addresses.http, "/metrics")?.1, "bolide_pollers", &[]) < 1.0 {
        ensure!(Instant::now() < deadline, "no receive waits");
    }
    let begin = Instant::now();
    let status = server.sigterm()?;
    assert!(status.success(), "{status}: {}", server.log_tail(20));
    // The poll would have waited 5 s, and open requests are given 5 s more.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let ended = common::wait_until_ended(&mut waiting, Duration::from_secs(10))?;
    assert!(ended.is_some_and(|status| status.success()), "the poll ended with an error");
    Ok(())
}
