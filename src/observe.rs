//! What the process tells about itself: the metric catalogue, the instruments behind it, logs, spans and their exporters.
//!
//! This room decides nothing. Other rooms count through [`meters::Meters`] and describe gauges through a sampler that runs at
//! each scrape; nobody else names a metric.

pub mod catalog;
pub mod export;
pub mod meters;
pub mod options;
pub mod sampler;
pub mod series;
pub mod trace;
