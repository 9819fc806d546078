//! Logs and spans.
//!
//! One span per RPC, and only when a collector is configured: a span that reaches the exporter's bridge costs 0.8 us even if it
//! is then not sampled, so without a collector none is made at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use thiserror::Error;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter};

use crate::observe::options::{LogFormat, ObserveOptions};

/// Target of the RPC spans; nothing else reaches the bridge.
const RPC: &str = "bolide::rpc";

/// Beginning of the targets of the exporters' own log lines.
const EXPORTERS: &str = "opentelemetry";

static SPANS: AtomicBool = AtomicBool::new(false);

/// Why logging did not start.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The filter is malformed.
    #[error("the log filter {filter:?} is malformed: {reason}")]
    Filter {
        /// As configured.
        filter: String,
        /// In words.
        reason: String,
    },
    /// Someone installed a subscriber before.
    #[error("logging is already set up: {0}")]
    Twice(String),
}

/// Sends log lines to stderr, and RPC spans to `tracer` when there is one. Once per process.
///
/// # Errors
/// The filter is malformed, or logging is set up already.
pub fn install(options: &ObserveOptions, tracer: Option<SdkTracer>) -> Result<(), InstallError> {
    let mut words = options.log_filter.clone();
    if !words.contains(EXPORTERS) {
        // Their everyday news (a provider was dropped) is nobody's; their troubles are.
        words.push_str(",opentelemetry=warn");
    }
    let filter = EnvFilter::try_new(words)
        .map_err(|error| InstallError::Filter { filter: options.log_filter.clone(), reason: error.to_string() })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match options.log_format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let spans = tracer.is_some();
    let bridge = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_filter(filter::filter_fn(|metadata| metadata.is_span() && metadata.target() == RPC))
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(bridge)
        .try_init()
        .map_err(|error| InstallError::Twice(error.to_string()))?;
    SPANS.store(spans, Ordering::Relaxed);
    Ok(())
}

/// The span of one RPC, or none when nobody collects spans. `trace_context` is the W3C `traceparent` that came with the
/// message; one that is absent or malformed begins a new trace.
#[must_use]
pub fn rpc_span(method: &'static str, trace_context: Option<&str>) -> Span {
    if !SPANS.load(Ordering::Relaxed) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: RPC,
        "rpc",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = "apache.rocketmq.v2.MessagingService",
        rpc.method = method,
        rocketmq.code = tracing::field::Empty,
        messaging.client.id = tracing::field::Empty,
        messaging.destination.name = tracing::field::Empty,
        messaging.consumer.group.name = tracing::field::Empty,
        messaging.batch.message_count = tracing::field::Empty,
    );
    if let Some(parent) = trace_context {
        let carrier = HashMap::from([("traceparent".to_owned(), parent.to_owned())]);
        // Refused only when the span has begun, and nobody has entered it yet.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
    span
}

/// Notes the code of the answer on a span of [`rpc_span`].
pub fn answered(span: &Span, code: u32) {
    span.record("rocketmq.code", code);
}
