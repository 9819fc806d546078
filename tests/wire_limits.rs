//! Every limit of the wire, over the wire, against the real process: the exact code at each boundary, and for whatever is
//! refused the proof that nothing was stored, no offset moved and no lease changed.

use std::time::Duration;

use anyhow::{Result, ensure};
use bolide::wire::admin;

mod common;
mod history;

#[path = "wire_limits/connections.rs"]
mod connections;
#[path = "wire_limits/harness.rs"]
mod harness;
#[path = "wire_limits/lite.rs"]
mod lite;
#[path = "wire_limits/offset.rs"]
mod offset;
#[path = "wire_limits/ordered.rs"]
mod ordered;
#[path = "wire_limits/recall.rs"]
mod recall;
#[path = "wire_limits/receive.rs"]
mod receive;
#[path = "wire_limits/send.rs"]
mod send;
#[path = "wire_limits/settle.rs"]
mod settle;
#[path = "wire_limits/transaction.rs"]
mod transaction;

use common::ServerOptions;
use harness::{OK, Row, Wire};

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn prepared() -> Result<Wire> {
    prepared_with(ServerOptions::default()).await
}

async fn prepared_with(options: ServerOptions) -> Result<Wire> {
    use admin::{Permission, TopicType};
    let wire = Wire::start(options).await?;
    let both = Permission::ReadWrite;
    let topics = [
        (send::NORMAL, TopicType::Normal, both),
        (send::FIFO, TopicType::Fifo, both),
        (send::DELAY, TopicType::Delay, both),
        (send::TRANSACTION, TopicType::Transaction, both),
        (send::PRIORITY, TopicType::Priority, both),
        (send::LITE, TopicType::Lite, both),
        (send::MIXED, TopicType::Mixed, both),
        (send::READ_ONLY, TopicType::Normal, Permission::Read),
        (send::WRITE_ONLY, TopicType::Normal, Permission::Write),
        (receive::EMPTY, TopicType::Normal, both),
        (settle::TOPIC, TopicType::Normal, both),
    ];
    for (name, kind, permission) in topics {
        wire.create_topic(name, kind, permission).await?;
    }
    let disabled = admin::Group { name: "limits-disabled".to_owned(), enabled: Some(false), ..Default::default() };
    wire.create_group(disabled).await?;
    Ok(wire)
}

/// Runs all rows and reports all that fail: one broken rule must not hide another.
async fn run(wire: &Wire, rows: Vec<Row>) -> Result<()> {
    let count = rows.len();
    let mut wrong = Vec::new();
    for row in &rows {
        if let Some(finding) = wire.run(row).await? {
            wrong.push(format!("{}: {finding}", row.name));
        }
    }
    ensure!(wrong.is_empty(), "{} of {count} rows:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn every_send_limit_has_its_code_and_a_refused_send_stores_nothing() -> Result<()> {
    runtime()?.block_on(async { run(&prepared().await?, send::rows()).await })
}

#[test]
fn every_receive_and_route_limit_has_its_code_and_moves_nothing() -> Result<()> {
    runtime()?.block_on(async { run(&prepared().await?, receive::rows()).await })
}

#[test]
fn every_rpc_wants_a_client_id() -> Result<()> {
    runtime()?.block_on(async { run(&prepared().await?, receive::other_rpcs()).await })
}

#[test]
fn every_limit_of_pulls_and_offsets_has_its_code_and_moves_nothing() -> Result<()> {
    runtime()?.block_on(async { run(&prepared().await?, offset::rows()).await })
}

#[test]
fn every_lite_limit_has_its_code_and_a_refused_wish_changes_nothing() -> Result<()> {
    runtime()?.block_on(async {
        let few = lite::FEW.to_string();
        let options = ServerOptions::default()
            .env("BOLIDE_LIMITS_MAX_LITE_SUBSCRIPTIONS_PER_CLIENT", &few)
            .env("BOLIDE_LIMITS_MAX_LITE_TOPICS_PER_TOPIC", &few);
        run(&prepared_with(options).await?, lite::rows()).await
    })
}

#[test]
fn every_lite_quota_is_exact_over_all_clients_and_all_parents() -> Result<()> {
    runtime()?.block_on(async {
        let (few, all) = (lite::FEW.to_string(), lite::FEW_IN_ALL.to_string());
        let options = ServerOptions::default()
            .env("BOLIDE_LIMITS_MAX_LITE_SUBSCRIPTIONS", &all)
            .env("BOLIDE_LIMITS_MAX_LITE_TOPICS", &all)
            .env("BOLIDE_LIMITS_MAX_LITE_TOPICS_PER_TOPIC", &few);
        let wire = prepared_with(options).await?;
        wire.create_topic(lite::OTHER_PARENT, admin::TopicType::Lite, admin::Permission::ReadWrite).await?;
        run(&wire, lite::quotas()).await
    })
}

#[test]
fn every_recall_has_its_code_and_only_what_was_recalled_never_comes() -> Result<()> {
    runtime()?.block_on(async {
        let wire = prepared_with(ServerOptions::default().arg("--virtual-time")).await?;
        wire.create_topic(recall::CLOSING, admin::TopicType::Delay, admin::Permission::ReadWrite).await?;
        let rows = recall::rows(&wire).await?;
        run(&wire, rows).await?;
        recall::comes_as_told(&wire).await
    })
}

#[test]
fn more_undecided_transactions_than_there_may_be_are_told_to_come_later_and_change_nothing() -> Result<()> {
    const PENDING_MAX: usize = 3;
    runtime()?.block_on(async {
        let options = ServerOptions::default().env("BOLIDE_LIMITS_MAX_PENDING_TRANSACTIONS", &PENDING_MAX.to_string());
        run(&prepared_with(options).await?, transaction::at_most(PENDING_MAX)).await
    })
}

#[test]
fn a_transaction_that_was_given_up_is_ended_by_no_client() -> Result<()> {
    runtime()?.block_on(async {
        let options = ServerOptions::default().arg("--virtual-time").env("BOLIDE_BROKER_TRANSACTION_CHECKS", "1");
        let wire = prepared_with(options).await?;
        transaction::give_up(&wire, "01GIVENUP").await?;
        run(&wire, transaction::after_it_was_given_up("01GIVENUP")).await
    })
}

#[test]
fn every_settling_limit_has_its_code_and_harms_no_lease() -> Result<()> {
    let wrong = runtime()?.block_on(async { settle::check(&prepared().await?).await })?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn an_ordered_group_sees_nothing_overtake_and_no_stale_handle_is_answered_ok() -> Result<()> {
    runtime()?.block_on(async { ordered::check(&prepared().await?).await })
}

#[test]
fn every_end_of_a_transaction_has_its_code_and_a_refused_one_shows_nothing() -> Result<()> {
    runtime()?.block_on(async {
        let wire = prepared().await?;
        transaction::prepare(&wire).await?;
        run(&wire, transaction::rows()).await
    })
}

#[test]
fn silent_and_nonsensical_connections_are_closed_and_harm_nobody() -> Result<()> {
    runtime()?.block_on(async {
        let wire = prepared().await?;
        let address = wire.server.addresses().grpc;
        let visitors: Vec<_> = connections::NONSENSE
            .iter()
            .map(|(name, words)| (*name, std::thread::spawn(move || connections::visit(address, words))))
            .collect();
        let sent = wire.ask("limits@1", send::send(vec![send::message(send::NORMAL)])).await?;
        ensure!(sent.code == OK, "a send beside the visitors: {sent:?}");
        for (name, visitor) in visitors {
            let closed = visitor.join().map_err(|_| anyhow::anyhow!("the visitor panicked"))?;
            ensure!(closed.is_ok(), "{name}: {closed:?}");
        }
        let sent = wire.ask("limits@1", send::send(vec![send::message(send::NORMAL)])).await?;
        ensure!(sent.code == OK, "a send after the visitors: {sent:?}");
        Ok(())
    })
}

#[test]
fn too_many_waiting_receives_are_told_to_come_later_and_leave_room_again() -> Result<()> {
    const WAITING_MAX: usize = 4;
    runtime()?.block_on(async {
        let options = ServerOptions::default().env("BOLIDE_LIMITS_MAX_POLLERS_PER_GROUP", &WAITING_MAX.to_string());
        let wire = Wire::start(options).await?;
        wire.create_topic(receive::EMPTY, admin::TopicType::Normal, admin::Permission::ReadWrite).await?;
        let calls = (0..WAITING_MAX + 4).map(|_| wire.ask("limits@1", receive::waiting()));
        let mut codes = Vec::new();
        for verdict in futures::future::join_all(calls).await {
            codes.push(verdict?.code);
        }
        let refused = codes.iter().filter(|&&code| code == 42_900).count();
        let waited = codes.iter().filter(|&&code| code == 40_401).count();
        ensure!((waited, refused) == (WAITING_MAX, 4), "{codes:?}");
        let again = wire.ask("limits@1", receive::waiting()).await?;
        ensure!(again.code == 40_401, "after the others had ended: {again:?}");
        Ok(())
    })
}

#[test]
fn too_many_bytes_in_flight_are_told_to_come_later() -> Result<()> {
    runtime()?.block_on(async {
        let options = ServerOptions::default().env("BOLIDE_LIMITS_MAX_SEND_IN_FLIGHT", "1MiB");
        let wire = Wire::start(options).await?;
        wire.create_topic(send::NORMAL, admin::TopicType::Normal, admin::Permission::ReadWrite).await?;
        let large = || {
            send::send(vec![bolide::wire::rocketmq::Message {
                body: vec![1; 900_000].into(),
                ..send::message(send::NORMAL)
            }])
        };
        // One alone always fits; of many at once some must be refused, and those are not stored.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let before = Wire::stored(&wire.holdings().await?);
            let mut codes = Vec::new();
            for verdict in futures::future::join_all((0..16).map(|_| wire.ask("limits@1", large()))).await {
                codes.push(verdict?.code);
            }
            let stored = Wire::stored(&wire.holdings().await?) - before;
            let ok = codes.iter().filter(|&&code| code == OK).count();
            ensure!(codes.iter().all(|&code| code == OK || code == 42_900), "{codes:?}");
            ensure!(usize::try_from(stored)? == ok && ok > 0, "{ok} OK and {stored} stored");
            if ok < codes.len() {
                return Ok(());
            }
            ensure!(tokio::time::Instant::now() < deadline, "never refused");
        }
    })
}
