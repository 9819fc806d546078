//! Every metric: name, kind, unit, labels, help. Where the reference system has a metric of the same meaning its name is kept,
//! so that dashboards carry over; our own begin with `bolide_`.
//!
//! Every series also carries `cluster`, `node_type` and `node_id`.

/// How a metric's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Counted up and down as things open and close.
    UpDownCounter,
    /// Distribution over the buckets of the definition.
    Histogram,
    /// Sampled at each scrape.
    Gauge,
    /// Sampled at each scrape, and only grows.
    SampledCounter,
}

/// Definition of one metric.
#[derive(Debug, PartialEq)]
pub struct MetricDef {
    /// As exported, suffixes included.
    pub name: &'static str,
    /// How its values behave.
    pub kind: MetricKind,
    /// UCUM unit; empty for plain counts.
    pub unit: &'static str,
    /// Labels beyond the base labels, in this order wherever values are given.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// Upper bounds of the buckets; empty unless a histogram.
    pub buckets: &'static [f64],
}

const TOPIC_TYPE: &[&str] = &["topic", "message_type", "is_system"];
const TOPIC: &[&str] = &["topic"];
const GROUP_TOPIC_RETRY: &[&str] = &["consumer_group", "topic", "is_retry", "is_system"];
const GROUP_TOPIC: &[&str] = &["consumer_group", "topic", "is_system"];

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricDef {
    MetricDef { name, kind: MetricKind::Counter, unit, labels, help, buckets: &[] }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricDef {
    MetricDef { name, kind: MetricKind::Gauge, unit, labels, help, buckets: &[] }
}

/// Messages stored.
pub const MESSAGES_IN: MetricDef =
    counter("rocketmq_messages_in_total", "", TOPIC_TYPE, "Messages stored, counted when their sender is told OK.");
/// Bytes stored.
pub const THROUGHPUT_IN: MetricDef =
    counter("rocketmq_throughput_in_total", "By", TOPIC_TYPE, "Body bytes of the messages stored.");
/// Sizes of what is stored.
pub const MESSAGE_SIZE: MetricDef = MetricDef {
    name: "rocketmq_message_size",
    kind: MetricKind::Histogram,
    unit: "By",
    labels: TOPIC_TYPE,
    help: "Body size of the messages stored; a request with several counts their mean for each.",
    buckets: &[1024.0, 4096.0, 524_288.0, 1_048_576.0, 2_097_152.0, 4_194_304.0],
};
/// Messages delivered.
pub const MESSAGES_OUT: MetricDef = counter(
    "rocketmq_messages_out_total",
    "",
    GROUP_TOPIC_RETRY,
    "Messages delivered; redeliveries are is_retry=\"true\".",
);
/// Bytes delivered.
pub const THROUGHPUT_OUT: MetricDef =
    counter("rocketmq_throughput_out_total", "By", GROUP_TOPIC_RETRY, "Body bytes of the messages delivered.");
/// Dead letters.
pub const SEND_TO_DLQ: MetricDef = counter(
    "rocketmq_send_to_dlq_messages_total",
    "",
    GROUP_TOPIC,
    "Messages moved to the dead-letter topic of their group.",
);
/// Half messages.
pub const HALF_MESSAGES: MetricDef =
    gauge("rocketmq_half_messages", "", TOPIC, "Messages whose transaction is neither committed nor rolled back.");
/// Commits.
pub const COMMIT_MESSAGES: MetricDef = counter("rocketmq_commit_messages_total", "", TOPIC, "Transactions committed.");
/// Rollbacks.
pub const ROLLBACK_MESSAGES: MetricDef =
    counter("rocketmq_rollback_messages_total", "", TOPIC, "Transactions rolled back.");
/// Latency of every RPC.
pub const RPC_LATENCY: MetricDef = MetricDef {
    name: "rocketmq_rpc_latency",
    kind: MetricKind::Histogram,
    unit: "ms",
    labels: &["protocol_type", "request_code", "response_code", "is_long_polling", "result"],
    help: "Time from the request to its last answer; long polls include their waiting.",
    buckets: &[
        0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 3000.0, 5000.0,
        10_000.0, 20_000.0,
    ],
};
/// Topics.
pub const TOPIC_NUMBER: MetricDef = gauge("rocketmq_topic_number", "", &[], "Topics, dead-letter topics included.");
/// Groups.
pub const CONSUMER_GROUP_NUMBER: MetricDef = gauge("rocketmq_consumer_group_number", "", &[], "Consumer groups.");
/// State of the cluster.
pub const VIEW_REVISION: MetricDef =
    gauge("bolide_view_revision", "", &[], "Revision of what is known of the cluster; grows with every change.");
/// Age of it.
pub const VIEW_AGE_SECONDS: MetricDef =
    gauge("bolide_view_age_seconds", "s", &[], "Time since that revision was seen for the first time.");
/// Route service.
pub const ROUTE_CONNECTED: MetricDef =
    gauge("bolide_route_connected", "", &[], "1 while the route service is heard of, 0 while it is not.");
/// Brokers.
pub const CLUSTER_SHARDS: MetricDef = gauge(
    "bolide_cluster_shards",
    "",
    &["state"],
    "Shards whose brokers are alive, are away, or drain; one that drains is alive or away as well.",
);
/// Links.
pub const LINK_CONNECTED: MetricDef =
    gauge("bolide_link_connected", "", &["shard"], "1 while the shard's broker can be reached, 0 while it cannot.");
/// Calls over links.
pub const LINK_IN_FLIGHT: MetricDef = gauge(
    "bolide_link_in_flight",
    "",
    &["shard"],
    "Calls to the shard's broker that are not answered yet, long polls among them.",
);
/// Lag.
pub const CONSUMER_LAG_MESSAGES: MetricDef = gauge(
    "rocketmq_consumer_lag_messages",
    "",
    GROUP_TOPIC_RETRY,
    "Messages that a group has not acknowledged: ready, in flight, or waiting for their next attempt.",
);
/// Age of the oldest message not done.
pub const CONSUMER_LAG_LATENCY: MetricDef = gauge(
    "rocketmq_consumer_lag_latency",
    "ms",
    GROUP_TOPIC_RETRY,
    "Age of the oldest message that a group has not acknowledged.",
);
/// With clients.
pub const CONSUMER_INFLIGHT_MESSAGES: MetricDef = gauge(
    "rocketmq_consumer_inflight_messages",
    "",
    GROUP_TOPIC_RETRY,
    "Messages delivered to a client of the group and neither acknowledged nor returned.",
);
/// Deliverable now.
pub const CONSUMER_READY_MESSAGES: MetricDef =
    gauge("rocketmq_consumer_ready_messages", "", GROUP_TOPIC_RETRY, "Messages that could be delivered now.");
/// Age of the oldest deliverable message.
pub const CONSUMER_QUEUEING_LATENCY: MetricDef = gauge(
    "rocketmq_consumer_queueing_latency",
    "ms",
    GROUP_TOPIC_RETRY,
    "Age of the oldest message that could be delivered now.",
);
/// Disk use of the data directory.
pub const STORAGE_SIZE: MetricDef = gauge(
    "rocketmq_storage_size",
    "By",
    &["storage_type", "storage_medium"],
    "Bytes that this node's own files occupy.",
);
/// Accepted but not durable.
pub const STORAGE_FLUSH_BEHIND: MetricDef = gauge(
    "rocketmq_storage_flush_behind_bytes",
    "By",
    &["storage_type", "storage_medium"],
    "Log bytes accepted but not yet on stable storage.",
);
/// Durable but not folded.
pub const STORAGE_DISPATCH_BEHIND: MetricDef = gauge(
    "rocketmq_storage_dispatch_behind_bytes",
    "By",
    &["storage_type", "storage_medium"],
    "Log bytes on stable storage but not yet folded into the key-value state.",
);
/// Age of the oldest retained message.
pub const STORAGE_MESSAGE_RESERVE_TIME: MetricDef = gauge(
    "rocketmq_storage_message_reserve_time",
    "ms",
    &["storage_type", "storage_medium"],
    "Age of the oldest retained log segment.",
);

/// Sync latency.
pub const LOG_SYNC_DURATION: MetricDef = MetricDef {
    name: "bolide_log_sync_duration_seconds",
    kind: MetricKind::Histogram,
    unit: "s",
    labels: &["shard"],
    help: "Time of one fdatasync of the log.",
    buckets: &[
        0.000_05, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5,
        1.0, 5.0,
    ],
};
/// Units per group commit.
pub const LOG_BATCH_UNITS: MetricDef = MetricDef {
    name: "bolide_log_batch_units",
    kind: MetricKind::Histogram,
    unit: "",
    labels: &["shard"],
    help: "Units (requests) that one group commit made durable.",
    buckets: &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0],
};
/// Bytes per group commit.
pub const LOG_BATCH_BYTES: MetricDef = MetricDef {
    name: "bolide_log_batch_bytes",
    kind: MetricKind::Histogram,
    unit: "By",
    labels: &["shard"],
    help: "Bytes that one group commit made durable.",
    buckets: &[
        512.0,
        1024.0,
        4096.0,
        16_384.0,
        65_536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
        67_108_864.0,
    ],
};
/// Size of the log.
pub const LOG_BYTES: MetricDef =
    gauge("bolide_log_bytes", "By", &["shard"], "Bytes that the log's segments occupy on disk.");
/// Number of segments.
pub const LOG_SEGMENTS: MetricDef = gauge("bolide_log_segments", "", &["shard"], "Segments of the log.");
/// The ladder.
pub const LOG_POSITION: MetricDef = gauge(
    "bolide_log_position_bytes",
    "By",
    &["shard", "rung"],
    "Byte position in the log that a rung has reached: accepted, written, durable, folded.",
);
/// Whether sends are accepted.
pub const SHARD_ACCEPTING: MetricDef =
    gauge("bolide_shard_accepting", "", &["shard"], "1 while the shard accepts sends, else 0.");
/// Free disk space.
pub const DISK_FREE_BYTES: MetricDef =
    gauge("bolide_disk_free_bytes", "By", &[], "Free bytes of the file system that holds the data directory.");
/// Delayed messages.
pub const DELAYED_MESSAGES: MetricDef =
    gauge("bolide_delayed_messages", "", &[], "About how many messages are held back until their delivery time.");
/// Timers in memory.
pub const DELAY_TIMERS: MetricDef =
    gauge("bolide_delay_timers", "", &[], "Timers of delayed messages in memory, the next ones.");
/// Lateness of delayed messages.
pub const DELAY_LATENESS: MetricDef = MetricDef {
    name: "bolide_delay_lateness",
    kind: MetricKind::Histogram,
    unit: "ms",
    labels: &[],
    help: "Time from the delivery time of a delayed message until it is durable in its queue.",
    buckets: &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0, 60_000.0],
};
/// Connections.
pub const CONNECTIONS: MetricDef = MetricDef {
    name: "bolide_connections",
    kind: MetricKind::UpDownCounter,
    unit: "",
    labels: &["transport"],
    help: "Open connections on the public port.",
    buckets: &[],
};
/// Connections turned away.
pub const CONNECTIONS_REFUSED: MetricDef = counter(
    "bolide_connections_refused_total",
    "",
    &["reason"],
    "Connections closed by the server before they carried a request.",
);
/// Checks of transactions.
pub const TRANSACTION_CHECKS: MetricDef = counter(
    "bolide_transaction_checks_total",
    "",
    TOPIC,
    "Times that a connected producer was asked what became of a transaction.",
);
/// Transactions given up.
pub const TRANSACTIONS_DISCARDED: MetricDef = counter(
    "bolide_transactions_discarded_total",
    "",
    TOPIC,
    "Transactions given up after their last check; an operator can still settle them.",
);
/// Receives that wait.
pub const POLLERS: MetricDef = gauge("bolide_pollers", "", &[], "Receives that wait for a message.");
/// Live clients.
pub const MEMBERS: MetricDef = gauge("bolide_members", "", &[], "Live clients, producers and consumers.");
/// Lite topics.
pub const LITE_TOPICS: MetricDef = gauge("bolide_lite_topics", "", &[], "Lite topics below all parents.");
/// Lite subscriptions.
pub const LITE_SUBSCRIPTIONS: MetricDef =
    gauge("bolide_lite_subscriptions", "", &[], "Lite topics that clients subscribe to, counted for each client.");
/// Deliveries with clients.
pub const IN_FLIGHT: MetricDef = gauge("bolide_in_flight_deliveries", "", &[], "Deliveries that clients hold.");
/// Request bytes in flight.
pub const IN_FLIGHT_BYTES: MetricDef =
    gauge("bolide_in_flight_bytes", "By", &[], "Request bytes between their arrival and their answer.");
/// Resident memory.
pub const RESIDENT_BYTES: MetricDef =
    gauge("bolide_process_resident_bytes", "By", &[], "Resident memory of the process.");
/// CPU time.
pub const CPU_SECONDS: MetricDef = MetricDef {
    name: "bolide_process_cpu_seconds_total",
    kind: MetricKind::SampledCounter,
    unit: "s",
    labels: &[],
    help: "User and system time that the process has used.",
    buckets: &[],
};
/// Time since start.
pub const UPTIME_SECONDS: MetricDef = gauge("bolide_uptime_seconds", "s", &[], "Time since the process was ready.");
/// Version.
pub const BUILD_INFO: MetricDef = gauge("bolide_build_info", "", &["version"], "1; the label tells the version.");

/// Everything above, for the exporter and for the documentation.
pub const ALL: &[&MetricDef] = &[
    &MESSAGES_IN,
    &THROUGHPUT_IN,
    &MESSAGE_SIZE,
    &MESSAGES_OUT,
    &THROUGHPUT_OUT,
    &SEND_TO_DLQ,
    &HALF_MESSAGES,
    &COMMIT_MESSAGES,
    &ROLLBACK_MESSAGES,
    &RPC_LATENCY,
    &TOPIC_NUMBER,
    &CONSUMER_GROUP_NUMBER,
    &VIEW_REVISION,
    &VIEW_AGE_SECONDS,
    &ROUTE_CONNECTED,
    &CLUSTER_SHARDS,
    &LINK_CONNECTED,
    &LINK_IN_FLIGHT,
    &CONSUMER_LAG_MESSAGES,
    &CONSUMER_LAG_LATENCY,
    &CONSUMER_INFLIGHT_MESSAGES,
    &CONSUMER_READY_MESSAGES,
    &CONSUMER_QUEUEING_LATENCY,
    &STORAGE_SIZE,
    &STORAGE_FLUSH_BEHIND,
    &STORAGE_DISPATCH_BEHIND,
    &STORAGE_MESSAGE_RESERVE_TIME,
    &LOG_SYNC_DURATION,
    &LOG_BATCH_UNITS,
    &LOG_BATCH_BYTES,
    &LOG_BYTES,
    &LOG_SEGMENTS,
    &LOG_POSITION,
    &SHARD_ACCEPTING,
    &DISK_FREE_BYTES,
    &DELAYED_MESSAGES,
    &DELAY_TIMERS,
    &DELAY_LATENESS,
    &CONNECTIONS,
    &CONNECTIONS_REFUSED,
    &TRANSACTION_CHECKS,
    &TRANSACTIONS_DISCARDED,
    &POLLERS,
    &MEMBERS,
    &LITE_TOPICS,
    &LITE_SUBSCRIPTIONS,
    &IN_FLIGHT,
    &IN_FLIGHT_BYTES,
    &RESIDENT_BYTES,
    &CPU_SECONDS,
    &UPTIME_SECONDS,
    &BUILD_INFO,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_whose_they_are() {
        let mut names: Vec<&str> = ALL.iter().map(|def| def.name).collect();
        assert!(names.iter().all(|name| name.starts_with("rocketmq_") || name.starts_with("bolide_")));
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn only_histograms_have_buckets_and_theirs_rise() {
        for def in ALL {
            assert_eq!(def.kind == MetricKind::Histogram, !def.buckets.is_empty(), "{}", def.name);
            assert!(def.buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", def.name);
        }
    }
}
