//! Where metrics and spans go: a Prometheus page that is always there, an OTLP collector when one is configured.

use std::collections::HashSet;
use std::sync::Arc;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Stream};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use prometheus::{Registry, TextEncoder};
use thiserror::Error;

use crate::observe::meters::Meters;
use crate::observe::options::ObserveOptions;

/// Why nothing can be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The Prometheus side did not start.
    #[error("cannot set up the metrics page: {0}")]
    Prometheus(String),
    /// The collector's address is not usable.
    #[error("cannot export to the OTLP collector {endpoint}: {reason}")]
    Collector {
        /// As configured.
        endpoint: String,
        /// In words.
        reason: String,
    },
    /// A value could not be written as text.
    #[error("cannot write the metrics page: {0}")]
    Render(#[from] prometheus::Error),
}

/// Providers and readers of this process.
#[derive(Debug)]
pub struct Exporters {
    registry: Registry,
    metrics: SdkMeterProvider,
    traces: Option<SdkTracerProvider>,
    meters: Arc<Meters>,
}

/// Set-up of the collector, done inside a tokio runtime because the connection belongs to it.
fn collector_error(endpoint: &str) -> impl Fn(opentelemetry_otlp::ExporterBuildError) -> ExportError {
    move |error| ExportError::Collector { endpoint: endpoint.to_owned(), reason: error.to_string() }
}

impl Exporters {
    /// Builds everything that the options ask for. Call it inside a tokio runtime when a collector is configured.
    ///
    /// # Errors
    /// The collector's address is malformed.
    pub fn start(options: &ObserveOptions) -> Result<Self, ExportError> {
        let labels = [
            KeyValue::new("cluster", options.cluster.clone()),
            KeyValue::new("node_type", options.node_type),
            KeyValue::new("node_id", options.node_id.clone()),
        ];
        let keys: HashSet<Key> = labels.iter().map(|label| label.key.clone()).collect();
        let resource = Resource::builder().with_service_name("bolide").with_attributes(labels).build();
        let registry = Registry::new();
        let page = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // The catalogue's names are final.
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .with_resource_selector(keys)
            .build()
            .map_err(|error| ExportError::Prometheus(error.to_string()))?;
        // The bounds of this room come first; the SDK's own default (2 000) would cut below them.
        let series_max = options.metric_series_max.saturating_mul(8).max(4_096);
        let mut metrics = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(page)
            .with_view(move |_: &_| Stream::builder().with_cardinality_limit(series_max).build().ok());
        let mut traces = None;
        if let Some(endpoint) = options.otlp_endpoint.as_deref() {
            let exporter = MetricExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(collector_error(endpoint))?;
            metrics =
                metrics.with_reader(PeriodicReader::builder(exporter).with_interval(options.otlp_interval).build());
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(collector_error(endpoint))?;
            let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.trace_ratio)));
            let provider = SdkTracerProvider::builder()
                .with_resource(resource)
                .with_sampler(sampler)
                .with_batch_exporter(exporter)
                .build();
            traces = Some(provider);
        }
        let metrics = metrics.build();
        let meters = Arc::new(Meters::new(&metrics, options.metric_series_max));
        Ok(Self { registry, metrics, traces, meters })
    }

    /// The instruments.
    #[must_use]
    pub fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    /// What spans are made with, when a collector is configured.
    #[must_use]
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|traces| traces.tracer("bolide"))
    }

    /// The metrics page in Prometheus' text format. Samples the gauges.
    ///
    /// # Errors
    /// A value could not be written as text.
    pub fn page(&self) -> Result<String, ExportError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// Sends what is left to the collector and ends. Blocks up to the exporters' own time limits.
    pub fn close(&self) {
        if let Some(traces) = &self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
        if let Err(error) = self.metrics.shutdown() {
            tracing::debug!(%error, "the last metrics were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::message::MessageType;
    use crate::observe::catalog;

    #[test]
    fn the_page_shows_each_value_under_its_catalogue_name_with_the_base_labels() {
        let exporters = Exporters::start(&ObserveOptions::default()).unwrap();
        let meters = exporters.meters();
        meters.messages_in("orders", MessageType::Fifo, 3, 300);
        meters.messages_out("orders", "billing", true, 2, 200);
        meters.rpc("SendMessage", 20_000, Duration::from_micros(400));
        meters.sync(0, Duration::from_micros(170), 5, 5_120);
        meters.connection_opened(true);
        meters.connection_opened(true);
        meters.connection_closed(true);
        meters.observe_with(Box::new(|sampler| sampler.gauge(&catalog::TOPIC_NUMBER, &[], 4.0)));
        let page = exporters.page().unwrap();
        let has = |start: &str, labels: &[&str], end: &str| {
            page.lines().any(|line| {
                line.starts_with(start) && line.ends_with(end) && labels.iter().all(|label| line.contains(label))
            })
        };
        let base = r#"cluster="DefaultCluster""#;
        let node = r#"node_type="standalone""#;
        let fifo = r#"message_type="fifo""#;
        assert!(has("rocketmq_messages_in_total{", &[base, node, fifo, r#"topic="orders""#], " 3"), "{page}");
        assert!(has("rocketmq_throughput_out_total{", &[r#"is_retry="true""#, r#"consumer_group="billing""#], " 200"));
        assert!(has("rocketmq_rpc_latency_bucket{", &[r#"le="0.5""#, r#"response_code="20000""#], " 1"), "{page}");
        assert!(has("bolide_log_sync_duration_seconds_bucket{", &[r#"le="0.0002""#], " 1"));
        assert!(has("bolide_connections{", &[r#"transport="tls""#], " 1"));
        assert!(has("rocketmq_topic_number{", &[base], " 4"));
        assert!(!page.contains("message_type=\"normal\""), "a series without values is shown");
    }

    #[test]
    fn topics_past_the_bound_are_counted_as_other() {
        let options = ObserveOptions { metric_series_max: 2, ..ObserveOptions::default() };
        let exporters = Exporters::start(&options).unwrap();
        for topic in ["a", "b", "c", "d"] {
            exporters.meters().messages_in(topic, MessageType::Normal, 1, 1);
        }
        let page = exporters.page().unwrap();
        let other = page.lines().find(|line| line.starts_with("rocketmq_messages_in_total{") && line.contains("other"));
        assert!(other.is_some_and(|line| line.ends_with(" 2")), "{page}");
    }
}
