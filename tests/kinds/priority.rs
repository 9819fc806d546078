//! Priority: ten levels whatever the number of queues, kept by retries, and waiting makes up for a low one.

use std::time::Duration;

use anyhow::{Result, ensure};
use bolide::wire::rocketmq as v2;

use crate::common::{ServerOptions, Stop};
use crate::harness::{OK, Wire, Wish, attempt, code, ids, message, runtime, system};

fn urgent(topic: &str, id: &str, priority: i32) -> v2::Message {
    let mut message = message(topic, id);
    system(&mut message).priority = Some(priority);
    message
}

async fn route(wire: &Wire, topic: &str) -> Result<Vec<v2::MessageQueue>> {
    let request = v2::QueryRouteRequest { topic: Some(wire.resource(topic)), endpoints: None };
    let route = wire.stub.clone().query_route(wire.request(request)).await?.into_inner();
    ensure!(code(route.status.as_ref()) == OK, "{:?}", route.status);
    Ok(route.message_queues)
}

#[test]
fn the_urgent_overtake_whatever_the_number_of_queues_and_keep_their_level_over_a_kill() -> Result<()> {
    runtime()?.block_on(async {
        let mut wire = Wire::start(ServerOptions::default().arg("--virtual-time")).await?;
        for (topic, queues) in [("one", "1"), ("three", "3")] {
            wire.admin(&["topic", "create", topic, "--type", "priority", "--queues", queues])?;
            let again = wire.admin(&["topic", "create", topic, "--type", "priority", "--queues", queues])?;
            ensure!(again.contains("exists already"), "{again}");
            let queues = route(&wire, topic).await?;
            ensure!(queues[0].id == 0 && queues[0].accept_message_types == [v2::MessageType::Priority as i32]);
            for level in [0, 4, 9, 2, 100, 7] {
                wire.sent(vec![urgent(topic, &format!("p{level}"), level)]).await?;
            }
        }
        ensure!((route(&wire, "one").await?.len(), route(&wire, "three").await?.len()) == (10, 30));
        wire.server.restart(Stop::Kill)?;
        wire.stub = Wire::connect(&wire.server).await?;
        for topic in ["one", "three"] {
            let order: Vec<String> = {
                let wish = Wish { batch: 4, invisible: Some(Duration::from_secs(10)), ..Wish::default() };
                let (_, first) = wire.receive_as(topic, "g", wish).await?;
                let (_, rest) = wire.receive_as(topic, "g", wish).await?;
                ids(&first).into_iter().chain(ids(&rest)).map(str::to_owned).collect()
            };
            // 9 and 100 are one level, so their queue or the order of sending decides.
            let top: Vec<&str> = order[..2].iter().map(String::as_str).collect();
            ensure!(top.contains(&"p9") && top.contains(&"p100"), "{topic}: {order:?}");
            ensure!(order[2..] == ["p7", "p4", "p2", "p0"], "{topic}: {order:?}");
        }
        // All come back at once, and with their levels.
        wire.admin(&["clock", "advance", "11s"])?;
        let again = wire.receive("one", "g").await?;
        ensure!(ids(&again)[2..] == ["p7", "p4", "p2", "p0"], "{:?}", ids(&again));
        ensure!(again.iter().all(|message| attempt(message) == 2));
        ensure!(system(&mut again[2].clone()).priority == Some(7), "consumers see it");
        Ok(())
    })
}

#[test]
fn what_has_waited_long_enough_overtakes_the_urgent() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(ServerOptions::default().arg("--virtual-time")).await?;
        wire.admin(&["topic", "create", "t", "--type", "priority"])?;
        wire.sent(vec![urgent("t", "patient", 0)]).await?;
        wire.admin(&["clock", "advance", "80s"])?;
        wire.sent(vec![urgent("t", "urgent-1", 9)]).await?;
        let one = Wish { batch: 1, ..Wish::default() };
        ensure!(ids(&wire.receive_as("t", "g", one).await?.1) == ["urgent-1"]);
        wire.admin(&["clock", "advance", "20s"])?;
        wire.sent(vec![urgent("t", "urgent-2", 9)]).await?;
        ensure!(ids(&wire.receive("t", "g").await?) == ["patient", "urgent-2"]);
        Ok(())
    })
}

#[test]
fn a_topic_cannot_become_priority_nor_cease_to_be() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(ServerOptions::default()).await?;
        wire.admin(&["topic", "create", "plain"])?;
        wire.admin(&["topic", "create", "levels", "--type", "priority"])?;
        for (topic, kind) in [("plain", "priority"), ("levels", "normal")] {
            let (code, said) = wire.admin_code(&["topic", "update", topic, "--type", kind])?;
            ensure!(code == 2 && said.contains("priority"), "{code}: {said}");
        }
        ensure!(wire.admin_code(&["topic", "create", "wide", "--type", "priority", "--queues", "103"])?.0 == 2);
        // More queues keep every message and its level.
        wire.sent(vec![urgent("levels", "low", 1), urgent("levels", "high", 8)]).await?;
        wire.admin(&["topic", "update", "levels", "--queues", "4"])?;
        ensure!(wire.json(&["topic", "show", "levels"])?["queues"] == 4);
        ensure!(route(&wire, "levels").await?.len() == 40);
        wire.sent(vec![urgent("levels", "higher", 9)]).await?;
        ensure!(ids(&wire.receive("levels", "g").await?) == ["higher", "high", "low"]);
        Ok(())
    })
}
