//! Namespaces: part of every name on every call, by field or by header, and echoed as they came.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bolide::wire::rocketmq as v2;
use bolide::wire::rocketmq::telemetry_command::Command;
use tokio_stream::wrappers::ReceiverStream;

use crate::common::{Server, ServerOptions};
use crate::harness::{NOTHING, OK, Wire, Wish, code, id, ids, message, runtime};

/// A client of `server` that names its namespace in these two places.
async fn client(server: Server, header: &str, field: &str) -> Result<Wire> {
    let stub = Wire::connect(&server).await?;
    Ok(Wire { server, stub, client_id: "kinds@1".to_owned(), header: header.to_owned(), field: field.to_owned() })
}

async fn route(wire: &Wire) -> Result<v2::QueryRouteResponse> {
    let request = v2::QueryRouteRequest { topic: Some(wire.resource("t")), endpoints: None };
    Ok(wire.stub.clone().query_route(wire.request(request)).await?.into_inner())
}

async fn assignment(wire: &Wire) -> Result<v2::QueryAssignmentResponse> {
    let (topic, group) = (Some(wire.resource("t")), Some(wire.resource("g")));
    let request = v2::QueryAssignmentRequest { topic, group, endpoints: None };
    Ok(wire.stub.clone().query_assignment(wire.request(request)).await?.into_inner())
}

async fn heartbeat(wire: &Wire) -> Result<i32> {
    let request =
        v2::HeartbeatRequest { group: Some(wire.resource("g")), client_type: v2::ClientType::SimpleConsumer as i32 };
    Ok(code(wire.stub.clone().heartbeat(wire.request(request)).await?.into_inner().status.as_ref()))
}

/// The settings that come back for a consumer's.
async fn settings(wire: &Wire) -> Result<v2::Settings> {
    let entry = v2::SubscriptionEntry {
        topic: Some(wire.resource("t")),
        expression: Some(v2::FilterExpression { r#type: v2::FilterType::Tag as i32, expression: "*".to_owned() }),
    };
    let subscription =
        v2::Subscription { group: Some(wire.resource("g")), subscriptions: vec![entry], ..Default::default() };
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::SimpleConsumer as i32),
        pub_sub: Some(v2::settings::PubSub::Subscription(subscription)),
        ..Default::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }).await?;
    let request = wire.request(ReceiverStream::new(receiver));
    let mut answers = wire.stub.clone().telemetry(request).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.command) {
        Some(Command::Settings(settings)) => Ok(settings),
        other => anyhow::bail!("no settings: {other:?}"),
    }
}

#[test]
fn equal_names_in_two_namespaces_never_meet_and_come_back_as_they_were_named() -> Result<()> {
    runtime()?.block_on(async {
        let mut wire = Wire::start(ServerOptions::default()).await?;
        for (namespace, queues) in [("red", "2"), ("blue", "3"), ("", "4")] {
            wire.admin(&["topic", "create", "t", "--namespace", namespace, "--queues", queues])?;
        }
        wire.admin(&["group", "create", "g", "--namespace", "red", "--ordered"])?;
        wire.admin(&["group", "update", "g", "--namespace", "red", "--ordered=false", "--max-attempts", "3"])?;
        // The field names red; the header names another, that the field outranks; then the header alone, then none of both.
        let places = [("blue", "red", "red", 2), ("blue", "", "blue", 3), ("", "", "", 4), ("", "blue", "blue", 3)];
        for (index, (header, field, namespace, queues)) in places.into_iter().enumerate() {
            wire = client(wire.server, header, field).await?;
            let routed = route(&wire).await?;
            ensure!(routed.message_queues.len() == queues, "{namespace}: {routed:?}");
            ensure!(routed.message_queues.iter().all(|queue| queue.topic == Some(wire.resource("t"))), "{routed:?}");
            let assigned = assignment(&wire).await?;
            let queue = assigned.assignments[0].message_queue.clone().context("no queue")?;
            ensure!(queue.topic == Some(wire.resource("t")), "{queue:?}");
            ensure!(heartbeat(&wire).await? == OK);
            let merged = settings(&wire).await?;
            let Some(v2::settings::PubSub::Subscription(subscription)) = &merged.pub_sub else {
                anyhow::bail!("no subscription: {merged:?}")
            };
            ensure!(subscription.group == Some(wire.resource("g")), "{subscription:?}");
            ensure!(subscription.subscriptions.iter().all(|entry| entry.topic == Some(wire.resource("t"))));
            let attempts = merged.backoff_policy.as_ref().map(|policy| policy.max_attempts);
            ensure!(attempts == Some(if namespace == "red" { 3 } else { 17 }), "{namespace}: {attempts:?}");
            let name = format!("m{index}");
            wire.sent(vec![message("t", &name)]).await?;
            let got = wire.receive("t", "g").await?;
            ensure!(ids(&got) == [name.as_str()], "{namespace}: {:?}", ids(&got));
            ensure!(got[0].topic == Some(wire.resource("t")), "{:?}", got[0].topic);
            // The same handle in another namespace is a stranger's.
            let (own_header, own_field) = (wire.header.clone(), wire.field.clone());
            wire = client(wire.server, "", if namespace == "red" { "blue" } else { "red" }).await?;
            ensure!(wire.ack("t", "g", &got).await? == 40_013);
            ensure!(wire.receive_as("t", "g", Wish::default()).await?.0 == NOTHING);
            wire = client(wire.server, &own_header, &own_field).await?;
            ensure!(wire.ack("t", "g", &got).await? == OK);
        }
        let listed = wire.json(&["topic", "list", "--namespace", "blue"])?;
        ensure!(listed.as_array().map(Vec::len) == Some(1) && listed[0]["queues"] == 3, "{listed}");
        wire.admin(&["topic", "delete", "t", "--namespace", "blue"])?;
        wire = client(wire.server, "blue", "").await?;
        ensure!(code(route(&wire).await?.status.as_ref()) == 40_402);
        wire = client(wire.server, "", "red").await?;
        ensure!(code(route(&wire).await?.status.as_ref()) == OK);
        Ok(())
    })
}

#[test]
fn a_dead_letter_and_its_way_back_stay_in_their_namespace() -> Result<()> {
    runtime()?.block_on(async {
        let mut wire = Wire::start(ServerOptions::default()).await?;
        for namespace in ["red", "blue"] {
            wire.admin(&["topic", "create", "t", "--namespace", namespace])?;
            wire = client(wire.server, namespace, "").await?;
            wire.sent(vec![message("t", namespace)]).await?;
            let got = wire.receive("t", "g").await?;
            ensure!(ids(&got) == [namespace]);
            ensure!(wire.forward("t", "g", &got[0]).await? == OK);
        }
        wire = client(wire.server, "", "red").await?;
        let wish = Wish { deadline: Duration::from_secs(5), ..Wish::default() };
        let (_, dead) = wire.receive_as("%DLQ%g", "undertaker", wish).await?;
        ensure!(ids(&dead) == ["red"] && dead[0].topic == Some(wire.resource("%DLQ%g")), "{dead:?}");
        ensure!(wire.admin_code(&["dlq", "list", "g"])?.0 == 3, "no namespace is a namespace of its own");
        wire.admin(&["dlq", "redrive", "g", "--all", "--namespace", "blue"])?;
        ensure!(wire.receive_as("t", "g", Wish::default()).await?.0 == NOTHING, "it came back in another namespace");
        wire = client(wire.server, "blue", "").await?;
        let back = wire.receive("t", "g").await?;
        ensure!(id(&back[0]) == "blue" && back[0].topic == Some(wire.resource("t")), "{back:?}");
        Ok(())
    })
}
