//! Time that a test moves: what waits for an instant follows, whoever is connected stays so.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::common::ServerOptions;
use crate::harness::{NOTHING, OK, Wire, Wish, attempt, id, ids, message, runtime};

fn movable() -> ServerOptions {
    ServerOptions::default().arg("--virtual-time")
}

#[test]
fn a_lease_ends_when_the_clock_is_moved_and_a_waiting_receive_hears_of_it() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(movable()).await?;
        wire.admin(&["topic", "create", "t"])?;
        wire.sent(vec![message("t", "a")]).await?;
        let quarter = Wish { invisible: Some(Duration::from_secs(15 * 60)), ..Wish::default() };
        let (_, held) = wire.receive_as("t", "g", quarter).await?;
        ensure!(ids(&held) == ["a"]);
        ensure!(wire.receive_as("t", "g", quarter).await?.0 == NOTHING);
        wire.admin(&["clock", "advance", "14m"])?;
        ensure!(wire.receive_as("t", "g", quarter).await?.0 == NOTHING, "a minute is left");
        let waiting = Wish { deadline: Duration::from_secs(18), ..quarter };
        let (again, moved) = tokio::join!(wire.receive_as("t", "g", waiting), async {
            // The poll may or may not be there already: either way it must find the message.
            wire.admin(&["clock", "advance", "1m"])
        });
        moved?;
        let (code, again) = again?;
        ensure!(code == OK && ids(&again) == ["a"] && attempt(&again[0]) == 2, "{code} {again:?}");
        ensure!(wire.ack("t", "g", &held).await? == 40_013, "the first delivery is over");
        ensure!(wire.ack("t", "g", &again).await? == OK);
        Ok(())
    })
}

#[test]
fn a_live_client_keeps_what_it_holds_by_renewal_however_far_the_clock_jumps() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(movable()).await?;
        wire.admin(&["topic", "create", "t"])?;
        wire.sent(vec![message("t", "a")]).await?;
        let renewed = Wish { invisible: None, ..Wish::default() };
        let (_, held) = wire.receive_as("t", "g", renewed).await?;
        ensure!(ids(&held) == ["a"]);
        for _ in 0..3 {
            wire.admin(&["clock", "advance", "50m"])?;
            ensure!(wire.receive_as("t", "g", renewed).await?.0 == NOTHING, "it was taken from a live client");
        }
        ensure!(wire.ack("t", "g", &held).await? == OK);
        Ok(())
    })
}

#[test]
fn a_day_of_retries_takes_a_second_and_ends_in_the_dead_letters() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(movable()).await?;
        wire.admin(&["topic", "create", "t"])?;
        wire.sent(vec![message("t", "a")]).await?;
        let renewed = Wish { invisible: None, ..Wish::default() };
        for expected in 1..=17 {
            let (code, got) = wire.receive_as("t", "g", renewed).await?;
            ensure!(code == OK && ids(&got) == ["a"] && attempt(&got[0]) == expected, "{expected}: {code} {got:?}");
            // A nack: the group's own back-off decides how long it stays away.
            ensure!(wire.change("t", "g", &got[0], Duration::ZERO).await? == OK);
            wire.admin(&["clock", "advance", "2h"])?;
        }
        ensure!(wire.receive_as("t", "g", renewed).await?.0 == NOTHING);
        let dead = Wish { deadline: Duration::from_secs(18), ..Wish::default() };
        let (code, dead) = wire.receive_as("%DLQ%g", "undertaker", dead).await?;
        ensure!(code == OK && id(&dead[0]) == "a", "{code} {dead:?}");
        ensure!(dead[0].user_properties["__DEAD_LETTER_ATTEMPTS"] == "17");
        Ok(())
    })
}

#[test]
fn retention_follows_the_clock() -> Result<()> {
    runtime()?.block_on(async {
        let wire = Wire::start(movable()).await?;
        wire.admin(&["topic", "create", "t", "--retention", "1h"])?;
        wire.sent(vec![message("t", "a"), message("t", "b")]).await?;
        ensure!(wire.stored("t")? == 2);
        wire.admin(&["clock", "advance", "61m"])?;
        let deadline = std::time::Instant::now() + Duration::from_secs(8);
        while wire.stored("t")? != 0 {
            ensure!(std::time::Instant::now() < deadline, "kept beyond its retention");
        }
        Ok(())
    })
}

#[test]
fn time_of_an_ordinary_server_cannot_be_moved_and_nobody_moves_it_back() -> Result<()> {
    runtime()?.block_on(async {
        let plain = Wire::start(ServerOptions::default()).await?;
        let (code, said) = plain.admin_code(&["clock", "advance", "15m"])?;
        ensure!(code == 4 && said.contains("--virtual-time"), "{code}: {said}");
        let shown = plain.json(&["clock", "show"])?;
        ensure!(shown["movable"] == false && shown["ahead"] == "0s", "{shown}");
        let wire = Wire::start(movable()).await?;
        let shown = wire.json(&["clock", "advance", "90m"])?;
        ensure!(shown["movable"] == true && shown["ahead"] == "1h30m", "{shown}");
        ensure!(wire.admin_code(&["clock", "advance", "-5m"])?.0 == 2);
        ensure!(wire.admin_code(&["clock", "advance", "1000000d"])?.0 == 2);
        ensure!(wire.json(&["clock", "show"])?["ahead"] == "1h30m");
        Ok(())
    })
}
