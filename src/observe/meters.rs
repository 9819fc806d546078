//! The instruments of the catalogue, with plain methods for those who count.
//!
//! Whoever counts often keeps the handle of its topic ([`Meters::topic`]) or of its group and topic ([`Meters::group_topic`])
//! and spares itself the look-up.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    BoundCounter, BoundHistogram, BoundUpDownCounter, Counter, Histogram, Meter, MeterProvider, NoopMeterProvider,
    UpDownCounter,
};
use parking_lot::RwLock;

use crate::model::message::MessageType;
use crate::observe::catalog::{self, MetricDef};
use crate::observe::sampler::{Board, Observer};
use crate::observe::series::{OTHER, PairSeries, Series};

/// Most pairs of method and code with a series of their own: 33 methods and the codes that really occur are far below it.
const RPC_SERIES_MAX: usize = 1_024;
/// No name is reserved for the system itself yet; the label is kept because dashboards of the reference select by it.
fn not_system() -> KeyValue {
    KeyValue::new("is_system", "false")
}

/// Every instrument of the process.
#[derive(Debug)]
pub struct Meters {
    instruments: Arc<Instruments>,
    topics: Series<TopicMeter>,
    pairs: PairSeries<GroupTopicMeter>,
    rpcs: RwLock<HashMap<(&'static str, u32), BoundHistogram<f64>>>,
    shards: RwLock<HashMap<u32, Arc<ShardMeter>>>,
    connections: [BoundUpDownCounter<i64>; 2],
    board: Arc<Board>,
}

#[derive(Debug)]
struct Instruments {
    messages_in: Counter<u64>,
    bytes_in: Counter<u64>,
    message_size: Histogram<u64>,
    messages_out: Counter<u64>,
    bytes_out: Counter<u64>,
    dead_letters: Counter<u64>,
    transactions: [Counter<u64>; 4],
    rpc_latency: Histogram<f64>,
    sync_duration: Histogram<f64>,
    batch_units: Histogram<u64>,
    batch_bytes: Histogram<u64>,
    connections: UpDownCounter<i64>,
    connections_refused: Counter<u64>,
    delay_lateness: Histogram<f64>,
}

/// What comes into one topic. Series come into being with their first value, so that a scrape shows no empty ones.
#[derive(Debug)]
pub struct TopicMeter {
    instruments: Arc<Instruments>,
    topic: Arc<str>,
    by_type: [OnceLock<InMeter>; 6],
    transactions: [OnceLock<BoundCounter<u64>>; 4],
}

#[derive(Debug)]
struct InMeter {
    messages: BoundCounter<u64>,
    bytes: BoundCounter<u64>,
    size: BoundHistogram<u64>,
}

/// What a group takes out of one topic.
#[derive(Debug)]
pub struct GroupTopicMeter {
    instruments: Arc<Instruments>,
    group: Arc<str>,
    topic: Arc<str>,
    first: OnceLock<OutMeter>,
    again: OnceLock<OutMeter>,
    dead_letters: OnceLock<BoundCounter<u64>>,
}

#[derive(Debug)]
struct OutMeter {
    messages: BoundCounter<u64>,
    bytes: BoundCounter<u64>,
}

#[derive(Debug)]
struct ShardMeter {
    sync_duration: BoundHistogram<f64>,
    batch_units: BoundHistogram<u64>,
    batch_bytes: BoundHistogram<u64>,
}

impl TopicMeter {
    /// `messages` messages with `bytes` body bytes together have been stored.
    pub fn stored(&self, message_type: MessageType, messages: u64, bytes: u64) {
        if messages == 0 {
            return;
        }
        let index = type_index(message_type);
        let meter = self.by_type[index].get_or_init(|| self.instruments.incoming(&self.topic, TYPE_LABELS[index]));
        meter.messages.add(messages);
        meter.bytes.add(bytes);
        for _ in 0..messages {
            meter.size.record(bytes / messages);
        }
    }
}

/// What happens to transactions; the number is the place of its counter.
#[derive(Clone, Copy, Debug)]
enum TransactionEvent {
    Committed = 0,
    RolledBack = 1,
    Checked = 2,
    Discarded = 3,
}

impl TopicMeter {
    fn transaction(&self, event: TransactionEvent) {
        let index = event as usize;
        let counter = &self.transactions[index];
        let bind = || self.instruments.transactions[index].bind(&[KeyValue::new("topic", self.topic.clone())]);
        counter.get_or_init(bind).add(1);
    }
}

impl GroupTopicMeter {
    /// `messages` messages with `bytes` body bytes together have been delivered; `again`: not for the first time.
    pub fn delivered(&self, again: bool, messages: u64, bytes: u64) {
        let cell = if again { &self.again } else { &self.first };
        let meter = cell.get_or_init(|| self.instruments.outgoing(&self.group, &self.topic, again));
        meter.messages.add(messages);
        meter.bytes.add(bytes);
    }

    /// One message went to the dead-letter topic.
    pub fn dead_lettered(&self) {
        self.dead_letters.get_or_init(|| self.instruments.dead_letters_of(&self.group, &self.topic)).add(1);
    }
}

impl Meters {
    /// The instruments of `provider`; at most `series_max` topics, and as many pairs of group and topic, are told apart.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider, series_max: usize) -> Self {
        let meter = provider.meter("bolide");
        let board = Board::new(series_max);
        board.register(&meter);
        let instruments = Arc::new(Instruments::new(&meter));
        let topics = Series::new(series_max, topic_meter(&instruments, OTHER));
        let pairs = PairSeries::new(series_max, group_topic_meter(&instruments, OTHER, OTHER));
        let connections =
            ["plain", "tls"].map(|transport| instruments.connections.bind(&[KeyValue::new("transport", transport)]));
        Self { instruments, topics, pairs, rpcs: RwLock::default(), shards: RwLock::default(), connections, board }
    }

    /// Instruments that lead nowhere, for tests.
    #[must_use]
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new(), 16)
    }

    /// The series of one topic, by its full name (namespace included).
    #[must_use]
    pub fn topic(&self, topic: &str) -> Arc<TopicMeter> {
        self.topics.get(topic, || topic_meter(&self.instruments, topic))
    }

    /// The series of one group on one topic, by their full names.
    #[must_use]
    pub fn group_topic(&self, group: &str, topic: &str) -> Arc<GroupTopicMeter> {
        self.pairs.get(group, topic, || group_topic_meter(&self.instruments, group, topic))
    }

    /// `messages` messages with `bytes` body bytes together have been stored.
    pub fn messages_in(&self, topic: &str, message_type: MessageType, messages: u64, bytes: u64) {
        self.topic(topic).stored(message_type, messages, bytes);
    }

    /// `messages` messages with `bytes` body bytes together have been delivered; `again`: not for the first time.
    pub fn messages_out(&self, topic: &str, group: &str, again: bool, messages: u64, bytes: u64) {
        self.group_topic(group, topic).delivered(again, messages, bytes);
    }

    /// One message of `topic` went to the dead-letter topic of `group`.
    pub fn dead_lettered(&self, topic: &str, group: &str) {
        self.group_topic(group, topic).dead_lettered();
    }

    /// A transaction of `topic` was committed or rolled back.
    pub fn transaction_ended(&self, topic: &str, committed: bool) {
        let event = if committed { TransactionEvent::Committed } else { TransactionEvent::RolledBack };
        self.topic(topic).transaction(event);
    }

    /// A producer was asked about a transaction of `topic`.
    pub fn transaction_checked(&self, topic: &str) {
        self.topic(topic).transaction(TransactionEvent::Checked);
    }

    /// A transaction of `topic` was given up.
    pub fn transaction_discarded(&self, topic: &str) {
        self.topic(topic).transaction(TransactionEvent::Discarded);
    }

    /// An RPC ended: `method` as in the protocol (`SendMessage`), `code` as in the answer's status (20000).
    pub fn rpc(&self, method: &'static str, code: u32, elapsed: Duration) {
        let millis = elapsed.as_secs_f64() * 1e3;
        let key = (method, code);
        if let Some(bound) = self.rpcs.read().get(&key) {
            bound.record(millis);
            return;
        }
        let mut rpcs = self.rpcs.write();
        if rpcs.len() < RPC_SERIES_MAX {
            let instruments = &self.instruments;
            rpcs.entry(key).or_insert_with(|| instruments.rpc(method, code)).record(millis);
        } else {
            self.instruments.rpc(method, 0).record(millis);
        }
    }

    /// The log of `shard` made `units` units with `bytes` bytes durable with one sync that took `elapsed`.
    pub fn sync(&self, shard: u32, elapsed: Duration, units: usize, bytes: usize) {
        let found = self.shards.read().get(&shard).cloned();
        let meter = found.unwrap_or_else(|| {
            let mut shards = self.shards.write();
            shards.entry(shard).or_insert_with(|| Arc::new(self.instruments.shard(shard))).clone()
        });
        meter.sync_duration.record(elapsed.as_secs_f64());
        meter.batch_units.record(units as u64);
        meter.batch_bytes.record(bytes as u64);
    }

    /// A delayed message became durable in its queue, so long after its time.
    pub fn delay_fired(&self, late: Duration) {
        self.instruments.delay_lateness.record(late.as_secs_f64() * 1e3, &[]);
    }

    /// A connection on the public port was told to be TLS or plaintext.
    pub fn connection_opened(&self, tls: bool) {
        self.connections[usize::from(tls)].add(1);
    }

    /// It closed.
    pub fn connection_closed(&self, tls: bool) {
        self.connections[usize::from(tls)].add(-1);
    }

    /// A connection was closed before it carried a request: `limit`, `silent`, `garbage`, `tls`.
    pub fn connection_refused(&self, reason: &'static str) {
        self.instruments.connections_refused.add(1, &[KeyValue::new("reason", reason)]);
    }

    /// Adds an observer of gauges; it stays as long as the process.
    pub fn observe_with(&self, observer: Observer) {
        self.board.add(observer);
    }
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let counter = |def: &'static MetricDef| {
            meter.u64_counter(def.name).with_description(def.help).with_unit(def.unit).build()
        };
        let histogram = |def: &'static MetricDef| {
            let builder = meter.u64_histogram(def.name).with_description(def.help).with_unit(def.unit);
            builder.with_boundaries(def.buckets.to_vec()).build()
        };
        let fine_histogram = |def: &'static MetricDef| {
            let builder = meter.f64_histogram(def.name).with_description(def.help).with_unit(def.unit);
            builder.with_boundaries(def.buckets.to_vec()).build()
        };
        let connections = &catalog::CONNECTIONS;
        Self {
            messages_in: counter(&catalog::MESSAGES_IN),
            bytes_in: counter(&catalog::THROUGHPUT_IN),
            message_size: histogram(&catalog::MESSAGE_SIZE),
            messages_out: counter(&catalog::MESSAGES_OUT),
            bytes_out: counter(&catalog::THROUGHPUT_OUT),
            dead_letters: counter(&catalog::SEND_TO_DLQ),
            transactions: [
                counter(&catalog::COMMIT_MESSAGES),
                counter(&catalog::ROLLBACK_MESSAGES),
                counter(&catalog::TRANSACTION_CHECKS),
                counter(&catalog::TRANSACTIONS_DISCARDED),
            ],
            rpc_latency: fine_histogram(&catalog::RPC_LATENCY),
            sync_duration: fine_histogram(&catalog::LOG_SYNC_DURATION),
            batch_units: histogram(&catalog::LOG_BATCH_UNITS),
            batch_bytes: histogram(&catalog::LOG_BATCH_BYTES),
            connections: meter
                .i64_up_down_counter(connections.name)
                .with_description(connections.help)
                .with_unit(connections.unit)
                .build(),
            connections_refused: counter(&catalog::CONNECTIONS_REFUSED),
            delay_lateness: fine_histogram(&catalog::DELAY_LATENESS),
        }
    }

    fn incoming(&self, topic: &Arc<str>, message_type: &'static str) -> InMeter {
        let labels = [KeyValue::new("topic", topic.clone()), KeyValue::new("message_type", message_type), not_system()];
        InMeter {
            messages: self.messages_in.bind(&labels),
            bytes: self.bytes_in.bind(&labels),
            size: self.message_size.bind(&labels),
        }
    }

    fn outgoing(&self, group: &Arc<str>, topic: &Arc<str>, again: bool) -> OutMeter {
        let labels = [
            KeyValue::new("consumer_group", group.clone()),
            KeyValue::new("topic", topic.clone()),
            KeyValue::new("is_retry", if again { "true" } else { "false" }),
            not_system(),
        ];
        OutMeter { messages: self.messages_out.bind(&labels), bytes: self.bytes_out.bind(&labels) }
    }

    fn dead_letters_of(&self, group: &Arc<str>, topic: &Arc<str>) -> BoundCounter<u64> {
        let names =
            [KeyValue::new("consumer_group", group.clone()), KeyValue::new("topic", topic.clone()), not_system()];
        self.dead_letters.bind(&names)
    }

    fn rpc(&self, method: &'static str, code: u32) -> BoundHistogram<f64> {
        let long_poll = if method == "ReceiveMessage" { "true" } else { "false" };
        // 2xxxx is OK, 30000 partly; 40401 and 40408 say that there was nothing, which is no failure either.
        let result = if matches!(code, 20_000..40_000 | 40_401) { "success" } else { "failure" };
        self.rpc_latency.bind(&[
            KeyValue::new("protocol_type", "grpc"),
            KeyValue::new("request_code", method),
            KeyValue::new("response_code", i64::from(code)),
            KeyValue::new("is_long_polling", long_poll),
            KeyValue::new("result", result),
        ])
    }

    fn shard(&self, shard: u32) -> ShardMeter {
        let labels = [KeyValue::new("shard", i64::from(shard))];
        ShardMeter {
            sync_duration: self.sync_duration.bind(&labels),
            batch_units: self.batch_units.bind(&labels),
            batch_bytes: self.batch_bytes.bind(&labels),
        }
    }
}

fn topic_meter(instruments: &Arc<Instruments>, topic: &str) -> TopicMeter {
    TopicMeter {
        instruments: instruments.clone(),
        topic: topic.into(),
        by_type: Default::default(),
        transactions: Default::default(),
    }
}

fn group_topic_meter(instruments: &Arc<Instruments>, group: &str, topic: &str) -> GroupTopicMeter {
    GroupTopicMeter {
        instruments: instruments.clone(),
        group: group.into(),
        topic: topic.into(),
        first: OnceLock::new(),
        again: OnceLock::new(),
        dead_letters: OnceLock::new(),
    }
}

const TYPE_LABELS: [&str; 6] = ["normal", "fifo", "delay", "transaction", "priority", "lite"];

const fn type_index(message_type: MessageType) -> usize {
    match message_type {
        MessageType::Normal => 0,
        MessageType::Fifo => 1,
        MessageType::Delay => 2,
        MessageType::Transaction => 3,
        MessageType::Priority => 4,
        MessageType::Lite => 5,
    }
}
