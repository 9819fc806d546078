//! `observe.*`: logs, metrics, traces.

use super::{Key, seconds};
use crate::config::value::Access;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "observe.log_filter",
        help: "Which log lines are written, in the words of RUST_LOG, which is also obeyed.",
        access: Access::Text { at: |c| &mut c.observe.log_filter },
    },
    Key {
        name: "observe.log_format",
        help: "Form of the log lines on stderr.",
        access: Access::LogFormat { at: |c| &mut c.observe.log_format },
    },
    Key {
        name: "observe.otlp_endpoint",
        help: "OTLP collector (gRPC) for metrics and traces, as http://collector:4317. OTEL_EXPORTER_OTLP_ENDPOINT is also obeyed.",
        access: Access::OptionalText { at: |c| &mut c.observe.otlp_endpoint },
    },
    Key {
        name: "observe.otlp_interval",
        help: "How often metrics are sent to the collector.",
        access: Access::Duration { at: |c| &mut c.observe.otlp_interval, min: seconds(1), max: seconds(3600) },
    },
    Key {
        name: "observe.trace_ratio",
        help: "Share of the requests that are traced when the client has not decided.",
        access: Access::Ratio { at: |c| &mut c.observe.trace_ratio, min: 0.0, max: 1.0 },
    },
    Key {
        name: "observe.cluster",
        help: "Label `cluster` of every metric.",
        access: Access::Text { at: |c| &mut c.observe.cluster },
    },
    Key {
        name: "observe.node_id",
        help: "Label `node_id` of every metric.",
        access: Access::Text { at: |c| &mut c.observe.node_id },
    },
    Key {
        name: "observe.metric_series",
        help: "Topics, and pairs of group and topic, with series of their own; the rest is counted as `other`.",
        access: Access::CountUsize { at: |c| &mut c.observe.metric_series_max, min: 10, max: 100_000 },
    },
];
