//! Dead letters: listed, shown, consumed by name, sent back and dropped, each in one place at a time whatever happens between.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bolide::wire::admin;
use bolide::wire::admin::admin_client::AdminClient;
use bolide::wire::rocketmq as v2;

use crate::common::{ServerOptions, Stop};
use crate::harness::{NOTHING, OK, Wire, Wish, attempt, id, ids, message, runtime, system};

fn movable() -> ServerOptions {
    ServerOptions::default().arg("--virtual-time")
}

fn rich(topic: &str, id: &str) -> v2::Message {
    let mut message = message(topic, id);
    message.user_properties.insert("colour".to_owned(), "blue".to_owned());
    system(&mut message).tag = Some("tag".to_owned());
    system(&mut message).keys = vec!["k1".to_owned(), "k2".to_owned()];
    message
}

/// Sends messages and has the group give up on every one.
async fn kill(wire: &Wire, topic: &str, group: &str, messages: Vec<v2::Message>) -> Result<()> {
    let count = messages.len();
    wire.sent(messages).await?;
    let got = wire.receive(topic, group).await?;
    ensure!(got.len() == count, "{:?}", ids(&got));
    for message in &got {
        ensure!(wire.forward(topic, group, message).await? == OK);
    }
    Ok(())
}

fn letters(wire: &Wire, group: &str) -> Result<Vec<String>> {
    let listed = wire.json(&["dlq", "list", group, "--limit", "10000", "--namespace", &wire.field])?;
    let letters = listed["letters"].as_array().context("letters")?;
    ensure!(listed["total"] == letters.len(), "{listed}");
    Ok(letters.iter().filter_map(|letter| letter["id"].as_str()).map(str::to_owned).collect())
}

#[test]
fn a_letter_is_shown_as_it_was_sent_back_as_it_was_and_gone_from_the_dead() -> Result<()> {
    runtime()?.block_on(async {
        let mut wire = Wire::start(movable()).await?;
        wire.admin(&["topic", "create", "t"])?;
        kill(&wire, "t", "g", vec![rich("t", "a"), rich("t", "b"), rich("t", "c")]).await?;
        let listed = wire.json(&["dlq", "list", "g"])?;
        ensure!(listed["letters"][1]["topic"] == "t" && listed["letters"][1]["attempts"] == 1, "{listed}");
        ensure!(listed["letters"][0]["reason"].as_str().is_some_and(|reason| reason.contains("consumer")), "{listed}");
        let all: BTreeSet<String> = letters(&wire, "g")?.into_iter().collect();
        ensure!(all == ["a", "b", "c"].map(str::to_owned).into());
        let shown = wire.json(&["dlq", "show", "g", "b"])?;
        ensure!(shown[0]["properties"]["colour"] == "blue" && shown[0]["body_head"] == "body of b", "{shown}");
        ensure!(shown[0]["keys"][1] == "k2" && shown[0]["tag"] == "tag" && shown[0]["body_bytes"] == 9, "{shown}");

        let said = wire.admin(&["dlq", "redrive", "g", "--id", "b"])?;
        ensure!(said.starts_with('1'), "{said}");
        let back = wire.receive("t", "g").await?;
        ensure!(ids(&back) == ["b"] && attempt(&back[0]) == 1, "{back:?}");
        let system = back[0].system_properties.clone().context("system properties")?;
        ensure!(back[0].body == b"body of b".as_slice() && system.keys == ["k1", "k2"] && system.tag() == "tag");
        ensure!(back[0].user_properties.len() == 1 && system.dead_letter_queue.is_none(), "{back:?}");
        ensure!(wire.ack("t", "g", &back).await? == OK);

        wire.server.restart(Stop::Kill)?;
        wire.stub = Wire::connect(&wire.server).await?;
        ensure!(letters(&wire, "g")?.len() == 2, "it is dead again");
        let (code, said) = wire.admin_code(&["dlq", "redrive", "g", "--id", "b"])?;
        ensure!(code == 3 && said.contains("no dead letter b"), "{code}: {said}");
        // Whoever consumes the dead letters by name gets those that are there.
        let dead = wire.receive("%DLQ%g", "undertaker").await?;
        let found: BTreeSet<&str> = ids(&dead).into_iter().collect();
        ensure!(found == ["a", "c"].into(), "{found:?}");
        let first = &dead[0];
        ensure!(first.user_properties["colour"] == "blue" && first.user_properties["__DEAD_LETTER_ATTEMPTS"] == "1");
        let origin = first.system_properties.as_ref().and_then(|system| system.dead_letter_queue.clone());
        ensure!(origin.is_some_and(|origin| origin.topic == "t" && origin.message_id == id(first)), "{first:?}");

        ensure!(wire.admin_code(&["dlq", "purge", "g", "--all"])?.0 == 0);
        ensure!(letters(&wire, "g")?.is_empty() && wire.stored("%DLQ%g")? == 0);
        ensure!(wire.receive_as("t", "g", Wish::default()).await?.0 == NOTHING, "what was dropped came back");
        Ok(())
    })
}

#[test]
fn a_letter_whose_topic_is_gone_or_has_changed_its_kind_stays_and_the_operator_is_told() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(ServerOptions::default()).await?;
        for topic in ["gone", "there"] {
            wire.admin(&["topic", "create", topic])?;
            kill(&wire, topic, "g", vec![message(topic, topic)]).await?;
        }
        wire.admin(&["topic", "delete", "gone"])?;
        let (code, said) = wire.admin_code(&["dlq", "redrive", "g", "--all"])?;
        ensure!(code == 4 && said.contains("1 sent back, 1 not") && said.contains("gone does not exist"), "{said}");
        ensure!(letters(&wire, "g")? == ["gone"]);
        wire.admin(&["topic", "create", "gone", "--type", "fifo"])?;
        let (code, said) = wire.admin_code(&["dlq", "redrive", "g", "--all"])?;
        ensure!(code == 4 && said.contains("another kind"), "{said}");
        wire.admin(&["topic", "delete", "gone"])?;
        wire.admin(&["topic", "create", "gone"])?;
        // The group's settings are not needed to look after its letters.
        wire.admin(&["group", "delete", "g"])?;
        ensure!(wire.admin_code(&["dlq", "redrive", "g", "--all"])?.0 == 0);
        ensure!(letters(&wire, "g")?.is_empty());
        ensure!(ids(&wire.receive("gone", "other").await?) == ["gone"]);
        let (code, said) = wire.admin_code(&["dlq", "list", "nobody"])?;
        ensure!(code == 3 && said.contains("nobody"), "{code}: {said}");
        ensure!(wire.admin_code(&["dlq", "redrive", "g"])?.0 == 2, "neither all nor one");
        Ok(())
    })
}

#[test]
fn a_kill_between_two_steps_of_a_long_redrive_neither_loses_nor_doubles_a_letter() -> Result<()> {
    const COUNT: usize = 640;
    runtime()?.block_on(async {
        let mut wire = Wire::start(movable()).await?;
        wire.admin(&["topic", "create", "t"])?;
        wire.admin(&["group", "create", "g", "--max-attempts", "1"])?;
        for batch in 0..COUNT / 64 {
            wire.sent((0..64).map(|index| message("t", &format!("m{}", batch * 64 + index))).collect()).await?;
        }
        let short = Wish { invisible: Some(Duration::from_secs(10)), ..Wish::default() };
        let mut held = 0;
        while held < COUNT {
            held += wire.receive_as("t", "g", short).await?.1.len();
        }
        wire.admin(&["clock", "advance", "11s"])?;
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        // While they die, a listing of several pages and its total are of different moments.
        while wire.json(&["dlq", "list", "g", "--limit", "1", "--namespace", &wire.field])?["total"] != COUNT {
            ensure!(std::time::Instant::now() < deadline, "not all of them died");
        }
        let address = format!("http://{}", wire.server.addresses().internal);
        let mut client = AdminClient::connect(address).await?;
        let range = |from| admin::SettleDeadLettersRequest {
            group: "g".to_owned(),
            from_offset: Some(from),
            ..Default::default()
        };
        let first = client.redrive_dead_letters(range(0)).await?.into_inner();
        let from = first.next_offset.context("one step does not do it all")?;
        // Out of order, so that the letters in between hold back those that left.
        let second = client.redrive_dead_letters(range(from + 100)).await?.into_inner();
        ensure!(second.outcomes.iter().all(|outcome| outcome.done));
        wire.server.restart(Stop::Kill)?;
        wire.stub = Wire::connect(&wire.server).await?;
        let done = first.outcomes.len() + second.outcomes.len();
        ensure!(letters(&wire, "g")?.len() == COUNT - done);
        ensure!(wire.admin_code(&["dlq", "redrive", "g", "--all"])?.0 == 0);
        ensure!(letters(&wire, "g")?.is_empty() && wire.stored("%DLQ%g")? == 0);
        ensure!(wire.stored("t")? == 2 * COUNT as u64, "each was sent once and sent back once");
        let mut back = BTreeSet::new();
        while back.len() < COUNT {
            let got = wire.receive("t", "other").await?;
            ensure!(!got.is_empty(), "{} of {COUNT} are left", back.len());
            back.extend(ids(&got).into_iter().map(str::to_owned));
        }
        Ok(())
    })
}

#[test]
fn attempts_and_pauses_are_those_that_the_operator_set() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(movable()).await?;
        let groups =
            [("table", "10s,1m", [(10, 1), (60, 1)]), ("growing", "exponential:20s,30s,3", [(20, 1), (30, 1)])];
        let renewed = Wish { invisible: None, batch: 1, ..Wish::default() };
        for (group, backoff, pauses) in groups {
            wire.admin(&["topic", "create", group])?;
            wire.admin(&["group", "create", group, "--max-attempts", "9"])?;
            wire.admin(&["group", "update", group, "--max-attempts", "3", "--backoff", backoff])?;
            wire.sent(vec![message(group, "a")]).await?;
            for (expected, (pause, step)) in (1..).zip(pauses) {
                let (_, got) = wire.receive_as(group, group, renewed).await?;
                ensure!(got.len() == 1 && attempt(&got[0]) == expected, "{group}: {got:?}");
                ensure!(wire.change(group, group, &got[0], Duration::ZERO).await? == OK);
                wire.admin(&["clock", "advance", &format!("{}s", pause - 3 * step)])?;
                let (code, early) = wire.receive_as(group, group, renewed).await?;
                ensure!(code == NOTHING, "{group}: attempt {} came early: {early:?}", expected + 1);
                wire.admin(&["clock", "advance", &format!("{}s", 3 * step)])?;
            }
            let (_, last) = wire.receive_as(group, group, renewed).await?;
            ensure!(last.len() == 1 && attempt(&last[0]) == 3, "{group}: {last:?}");
            ensure!(wire.change(group, group, &last[0], Duration::ZERO).await? == OK);
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            while letters(&wire, group)?.is_empty() {
                ensure!(std::time::Instant::now() < deadline, "{group}: it did not die");
            }
            let listed = wire.json(&["dlq", "list", group])?;
            ensure!(listed["letters"][0]["attempts"] == 3, "{listed}");
        }
        Ok(())
    })
}
