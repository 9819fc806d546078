//! Asks producers what became of their transactions. One task looks twice a second which topics have something due; whoever
//! sent the message is asked first, then others who send half messages to its topic, then any producer of it. Brokers say who
//! the senders are: a client's sends may all have met another process than its stream.
//!
//! A client gets the next checks only when it has read all commands sent before: one that does not read holds at most one
//! batch, and writing never waits. As long as somebody takes what is due, the next look follows at once, so a hundred thousand
//! checks that fall due together reach one producer that reads within a minute.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use crate::broker::api::{Check, ClientId, TopicToCheck};
use crate::proxy::convert::properties::{SHARDING_KEY, TRANSACTION_ID};
use crate::proxy::convert::time::wire_timestamp;
use crate::proxy::session::producers::Producer;
use crate::proxy::session::telemetry::COMMANDS_MAX;
use crate::proxy::shared::Shared;
use crate::proxy::status::ok;
use crate::wire::rocketmq as v2;
use crate::wire::rocketmq::telemetry_command::Command;

/// How often it looks while nothing was sent.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same after a look at which something was sent: time for clients to read it, and for everybody else to get a turn.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Most checks of one client at one look. Its stream holds more, so that settings still find room.
const CHECKS_PER_CLIENT: usize = COMMANDS_MAX / 2;
/// Most bytes of messages for one client at one look, unless a single one is larger.
const BYTES_PER_CLIENT: usize = 4 * 1024 * 1024;
/// Most checks that are taken for a topic at one look, and most bytes of their messages, which are in memory together.
const CHECKS_PER_TOPIC: usize = 1_024;
const BYTES_PER_TOPIC: usize = 16 * 1024 * 1024;
/// Producers of a topic that brokers hear of: so that the one that sent a message is asked, wherever it is connected.
const CLIENTS_NAMED: usize = 1_024;
/// Checks of the same transaction that go to the same client before another one's turn comes.
const CHECKS_IN_A_ROW: u32 = 2;

/// What a client may still be sent at this look.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    checks: usize,
    bytes: usize,
}

/// Runs until the process drains.
pub async fn run(shared: Arc<Shared>) {
    let mut pause = LOOK_EVERY;
    loop {
        tokio::select! {
            biased;
            () = shared.brokers.shutdown().draining() => return,
            () = shared.clock.sleep_until(shared.clock.now().plus(pause)) => {}
        }
        let mut allowances = HashMap::new();
        let mut sent = 0;
        for due in shared.brokers.topics_to_check().await {
            sent += ask_about(&shared, &due, &mut allowances).await;
        }
        pause = if sent > 0 { LOOK_AGAIN } else { LOOK_EVERY };
    }
}

/// How many checks were sent.
async fn ask_about(shared: &Shared, due: &TopicToCheck, allowances: &mut HashMap<ClientId, Allowance>) -> usize {
    let topic = &due.topic.name;
    shared.producers.sent_halves(&due.senders, topic);
    let producers = shared.producers.of(topic);
    let (mut room, mut room_bytes, mut count) = (0, 0usize, 0);
    for producer in &producers {
        let allowance = allowances.entry(producer.client.clone()).or_insert_with(|| {
            let has_read_all = producer.sender.capacity() == producer.sender.max_capacity();
            Allowance { checks: if has_read_all { CHECKS_PER_CLIENT } else { 0 }, bytes: BYTES_PER_CLIENT }
        });
        if allowance.bytes > 0 && allowance.checks > 0 {
            room += allowance.checks;
            room_bytes = room_bytes.saturating_add(allowance.bytes);
        }
    }
    if room == 0 {
        // Without anybody to ask nothing is taken, and nothing counts: it stays due until somebody comes.
        return 0;
    }
    let clients = to_name(&producers, &due.senders);
    let bytes = room_bytes.min(BYTES_PER_TOPIC);
    let checks = shared.brokers.due_checks(topic, &clients, room.min(CHECKS_PER_TOPIC), bytes).await;
    for check in checks {
        let bytes = check.message.rest.len() + check.message.system_static.len();
        let chosen = turns(&producers, &check).find(|producer| {
            allowances.get(&producer.client).is_some_and(|allowance| allowance.checks > 0 && allowance.bytes > 0)
        });
        let Some(producer) = chosen else {
            // The bytes of the others used up what all may get at this look.
            shared.brokers.leave_check(&check).await;
            continue;
        };
        let command = match command(shared, &check) {
            Ok(command) => command,
            Err(error) => {
                tracing::warn!(%error, %topic, "the message of a transaction cannot be shown to its producer");
                continue;
            }
        };
        let sent = shared.brokers.hand_over_check(&check, || producer.sender.try_send(Ok(command)).is_ok()).await;
        if let Some(allowance) = allowances.get_mut(&producer.client).filter(|_| sent) {
            allowance.checks -= 1;
            allowance.bytes = allowance.bytes.saturating_sub(bytes);
            count += 1;
        }
    }
    count
}

/// The clients that brokers hear of. Senders of what is open come first: a check whose sender lives and is not named is left to
/// another process.
fn to_name(producers: &[Producer], senders: &[ClientId]) -> Vec<ClientId> {
    let senders: HashSet<&ClientId> = senders.iter().collect();
    let (first, others): (Vec<_>, Vec<_>) =
        producers.iter().map(|producer| &producer.client).partition(|client| senders.contains(client));
    first.into_iter().chain(others).take(CLIENTS_NAMED).cloned().collect()
}

/// Producers in the order in which they are asked about a transaction: its sender first, but not for ever, since it may be
/// unable to answer.
fn turns<'a>(producers: &'a [Producer], check: &Check) -> impl Iterator<Item = &'a Producer> {
    let is_sender = |producer: &&Producer| *producer.client.0 == *check.producer;
    let sender = producers.iter().position(|producer| is_sender(&producer));
    let others = (0..producers.len()).filter(move |index| Some(*index) != sender);
    let order: Vec<usize> = sender.into_iter().chain(others).collect();
    let skipped = (check.checks / CHECKS_IN_A_ROW) as usize % order.len().max(1);
    let count = order.len();
    order.into_iter().cycle().skip(skipped).take(count).map(|index| &producers[index])
}

/// The command, with a message as complete as a delivered one: clients read its fields without asking whether they are there.
fn command(shared: &Shared, check: &Check) -> Result<v2::TelemetryCommand, prost::DecodeError> {
    let mut message = v2::Message::decode(check.message.rest.clone())?;
    let mut system = v2::SystemProperties::decode(check.message.system_static.clone())?;
    system.store_timestamp = Some(wire_timestamp(check.message.stored_at));
    system.store_host = shared.own_store_host();
    system.delivery_attempt = Some(i32::try_from(check.checks.saturating_add(1)).unwrap_or(i32::MAX));
    if !check.message_group.is_empty() {
        message.user_properties.insert(SHARDING_KEY.to_owned(), check.message_group.clone());
    }
    message.user_properties.insert(TRANSACTION_ID.to_owned(), check.transaction_id.to_string());
    message.topic = Some(v2::Resource {
        resource_namespace: check.topic.namespace().to_owned(),
        name: check.topic.name().to_owned(),
    });
    message.system_properties = Some(system);
    let recover = v2::RecoverOrphanedTransactionCommand {
        message: Some(message),
        transaction_id: check.transaction_id.to_string(),
    };
    Ok(v2::TelemetryCommand { status: Some(ok()), command: Some(Command::RecoverOrphanedTransactionCommand(recover)) })
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn of_more_producers_than_are_named_the_senders_of_what_is_open_are_named() {
        let client = |number: usize| ClientId(format!("client-{number:05}").into());
        let (sender, _) = mpsc::channel(1);
        let producers: Vec<Producer> = (0..3 * CLIENTS_NAMED)
            .map(|number| Producer { client: client(number), sender: sender.clone(), sent_half: true })
            .collect();
        let last = client(3 * CLIENTS_NAMED - 1);
        let named = to_name(&producers, &[client(99_999), last.clone(), client(7)]);
        assert_eq!(named.len(), CLIENTS_NAMED);
        assert_eq!(named[..3], [client(7), last, client(0)]);
        assert_eq!(named.iter().collect::<HashSet<_>>().len(), CLIENTS_NAMED, "each once");
    }
}
