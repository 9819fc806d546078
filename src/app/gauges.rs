//! What is sampled at each scrape: it belongs to no request.

use std::sync::Arc;

use crate::broker::Broker;
use crate::observe::catalog;
use crate::observe::meters::Meters;
use crate::observe::sampler::Sampler;
use crate::proxy::Proxy;
use crate::proxy::operator::ShardFacts;
use crate::runtime::clock::{Clock, Mark};
use crate::runtime::process;
use crate::store::{LogHealth, Store};

/// Values of the labels `storage_type` and `storage_medium`, as the reference system has them.
const LOCAL_DISK: &[&str] = &["local", "disk"];
const NOT_SYSTEM: &str = "false";

/// Every scrape shows the process itself.
pub(super) fn process(meters: &Meters, clock: &Clock) {
    let since = clock.mark();
    meters.observe_with(Box::new(move |sampler| process_state(sampler, since)));
}

/// Every scrape shows a broker and its store.
pub(super) fn broker(meters: &Meters, broker: &Broker, clock: &Clock, disk: &Arc<dyn Fn() -> Disk + Send + Sync>) {
    let (broker, clock, disk) = (broker.clone(), clock.clone(), disk.clone());
    meters.observe_with(Box::new(move |sampler| {
        broker_state(sampler, &broker, &clock);
        store_state(sampler, broker.store(), &clock, &disk());
    }));
}

/// Every scrape shows a store.
pub(super) fn store(meters: &Meters, store: &Store, clock: &Clock, disk: &Arc<dyn Fn() -> Disk + Send + Sync>) {
    let (store, clock, disk) = (store.clone(), clock.clone(), disk.clone());
    meters.observe_with(Box::new(move |sampler| store_state(sampler, &store, &clock, &disk())));
}

/// Every scrape shows what a proxy has in hand.
pub(super) fn proxy(meters: &Meters, proxy: &Proxy) {
    let proxy = proxy.clone();
    meters.observe_with(Box::new(move |sampler| {
        sampler.gauge(&catalog::IN_FLIGHT_BYTES, &[], proxy.send_bytes_in_flight() as f64);
    }));
}

/// The file system below the data directory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Disk {
    /// Bytes that may still be used.
    pub free_bytes: u64,
}

fn broker_state(sampler: &mut Sampler, broker: &Broker, clock: &Clock) {
    let status = broker.status();
    sampler.gauge(&catalog::TOPIC_NUMBER, &[], status.topics as f64);
    sampler.gauge(&catalog::CONSUMER_GROUP_NUMBER, &[], status.groups as f64);
    sampler.gauge(&catalog::POLLERS, &[], status.pollers as f64);
    sampler.gauge(&catalog::MEMBERS, &[], status.members as f64);
    sampler.gauge(&catalog::LITE_TOPICS, &[], status.lite_topics as f64);
    sampler.gauge(&catalog::LITE_SUBSCRIPTIONS, &[], status.lite_subscriptions as f64);
    sampler.gauge(&catalog::IN_FLIGHT, &[], status.in_flight as f64);
    for (topic, pending) in broker.pending_transactions() {
        sampler.gauge(&catalog::HALF_MESSAGES, &[&topic.to_string()], pending as f64);
    }
    let (delayed, timers) = broker.delays();
    sampler.gauge(&catalog::DELAYED_MESSAGES, &[], delayed as f64);
    sampler.gauge(&catalog::DELAY_TIMERS, &[], timers as f64);
    let now = clock.now();
    for counts in broker.group_counts() {
        let (group, topic) = (counts.group.to_string(), counts.topic.to_string());
        let labels: &[&str] = &[&group, &topic, "false", NOT_SYSTEM];
        let lag = counts.ready + counts.in_flight + counts.waiting;
        sampler.gauge(&catalog::CONSUMER_LAG_MESSAGES, labels, lag as f64);
        sampler.gauge(&catalog::CONSUMER_READY_MESSAGES, labels, counts.ready as f64);
        sampler.gauge(&catalog::CONSUMER_INFLIGHT_MESSAGES, labels, counts.in_flight as f64);
        let age_ms = counts.oldest.map_or(0.0, |stored| now.since(stored).as_secs_f64() * 1e3);
        sampler.gauge(&catalog::CONSUMER_LAG_LATENCY, labels, age_ms);
        let queueing_ms = if counts.ready > 0 { age_ms } else { 0.0 };
        sampler.gauge(&catalog::CONSUMER_QUEUEING_LATENCY, labels, queueing_ms);
    }
}

fn store_state(sampler: &mut Sampler, store: &Store, clock: &Clock, disk: &Disk) {
    let stats = store.stats();
    let facts = shard(store);
    let label = facts.shard.to_string();
    let shard: &[&str] = &[&label];
    sampler.gauge(&catalog::LOG_BYTES, shard, facts.log_bytes as f64);
    sampler.gauge(&catalog::LOG_SEGMENTS, shard, facts.segments as f64);
    sampler.gauge(&catalog::SHARD_ACCEPTING, shard, if facts.accepting { 1.0 } else { 0.0 });
    for (rung, position) in [
        ("accepted", facts.accepted_position),
        ("written", facts.written_position),
        ("durable", facts.durable_position),
        ("folded", facts.folded_position),
    ] {
        sampler.gauge(&catalog::LOG_POSITION, &[&label, rung], position as f64);
    }
    sampler.gauge(&catalog::STORAGE_SIZE, LOCAL_DISK, (facts.log_bytes + stats.fold_disk_bytes) as f64);
    let flush_behind = facts.accepted_position.saturating_sub(facts.durable_position);
    sampler.gauge(&catalog::STORAGE_FLUSH_BEHIND, LOCAL_DISK, flush_behind as f64);
    let fold_behind = facts.durable_position.saturating_sub(facts.folded_position);
    sampler.gauge(&catalog::STORAGE_DISPATCH_BEHIND, LOCAL_DISK, fold_behind as f64);
    let oldest = store.segments().iter().find_map(|segment| segment.first_at);
    let age_ms = oldest.map_or(0.0, |stored| clock.now().since(stored).as_secs_f64() * 1e3);
    sampler.gauge(&catalog::STORAGE_MESSAGE_RESERVE_TIME, LOCAL_DISK, age_ms);
    sampler.gauge(&catalog::DISK_FREE_BYTES, &[], disk.free_bytes as f64);
}

fn process_state(sampler: &mut Sampler, since: Mark) {
    if let Some(bytes) = process::resident_bytes() {
        sampler.gauge(&catalog::RESIDENT_BYTES, &[], bytes as f64);
    }
    if let Some(used) = process::cpu_time() {
        sampler.gauge(&catalog::CPU_SECONDS, &[], used.as_secs_f64());
    }
    sampler.gauge(&catalog::UPTIME_SECONDS, &[], since.elapsed().as_secs_f64());
    sampler.gauge(&catalog::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
}

/// The log of a store.
pub(super) fn shard(store: &Store) -> ShardFacts {
    let log = store.stats().log;
    let durable = log.durable_end.get();
    let reason = match store.health() {
        LogHealth::Ready => String::new(),
        LogHealth::DiskFull { text } | LogHealth::Failed { text } => text,
    };
    ShardFacts {
        shard: store.shard().get(),
        term: store.term().get(),
        // Units wait unframed: their bytes are as near as one can say.
        accepted_position: log.written_end.get().max(durable + log.queue_bytes as u64),
        written_position: log.written_end.get(),
        durable_position: durable,
        folded_position: store.folded().get(),
        log_bytes: store.segments().iter().map(|segment| segment.bytes).sum(),
        segments: store.segments().len() as u64,
        accepting: reason.is_empty(),
        reason,
    }
}
