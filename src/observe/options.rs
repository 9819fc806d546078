//! Settings of logs, metrics and traces.

use std::time::Duration;

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// See each field. All apply at start.
#[derive(Clone, Debug)]
pub struct ObserveOptions {
    /// Which log lines are written, in the words of `RUST_LOG`. Default `info`.
    pub log_filter: String,
    /// Form of the log lines on stderr. Default text.
    pub log_format: LogFormat,
    /// Address of an OTLP collector (gRPC), for example `http://collector:4317`. None: nothing is exported and spans cost nothing.
    pub otlp_endpoint: Option<String>,
    /// How often metrics are sent to the collector. Default 15 s, at least 1 s.
    pub otlp_interval: Duration,
    /// Share of the RPCs that are traced when the client decided nothing, 0 to 1. Default 1.
    pub trace_ratio: f64,
    /// Label `cluster` of every metric. Default `DefaultCluster`, as the reference system calls it.
    pub cluster: String,
    /// Label `node_type` of every metric: what the process is, in the words of the reference system. Default `standalone`.
    pub node_type: &'static str,
    /// Label `node_id` of every metric. Default `standalone`.
    pub node_id: String,
    /// Most topics, and most pairs of group and topic, with series of their own; what comes later is counted as `other`.
    /// Default 1 000.
    pub metric_series_max: usize,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self {
            log_filter: "info".to_owned(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            otlp_interval: Duration::from_secs(15),
            trace_ratio: 1.0,
            cluster: "DefaultCluster".to_owned(),
            node_type: "standalone",
            node_id: "standalone".to_owned(),
            metric_series_max: 1_000,
        }
    }
}
