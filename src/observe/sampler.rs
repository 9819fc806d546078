//! Values that are looked at only when someone scrapes: gauges, and totals that somebody else counts.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use parking_lot::{Mutex, RwLock};

use crate::observe::catalog::{self, MetricDef, MetricKind};
use crate::observe::series::OTHER;

/// Describes the gauges of one owner. Runs at each scrape on the scraping task: it must not block for long.
pub type Observer = Box<dyn Fn(&mut Sampler) + Send + Sync>;

type Values = BTreeMap<Vec<String>, f64>;

/// Takes the values of one scrape.
#[derive(Debug)]
pub struct Sampler {
    values: BTreeMap<&'static str, Values>,
    limit: usize,
}

impl Sampler {
    fn new(limit: usize) -> Self {
        Self { values: BTreeMap::new(), limit }
    }

    /// The value of a gauge or of a sampled counter; `labels` in the order of the definition. The same labels twice: the sum.
    /// Series past the bound are summed under `other`.
    pub fn gauge(&mut self, def: &'static MetricDef, labels: &[&str], value: f64) {
        debug_assert!(is_sampled(def), "{} is not sampled", def.name);
        debug_assert_eq!(def.labels.len(), labels.len(), "labels of {}", def.name);
        let series = self.values.entry(def.name).or_default();
        let mut key: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        if series.len() >= self.limit && !series.contains_key(&key) {
            key = vec![OTHER.to_owned(); labels.len()];
        }
        *series.entry(key).or_default() += value;
    }
}

/// The observers and what they said last.
#[derive(Default)]
pub(super) struct Board {
    observers: RwLock<Vec<Observer>>,
    latest: Mutex<BTreeMap<&'static str, Values>>,
    limit: usize,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("observers", &self.observers.read().len()).finish_non_exhaustive()
    }
}

impl Board {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, ..Self::default() })
    }

    pub(super) fn add(&self, observer: Observer) {
        self.observers.write().push(observer);
    }

    fn sample(&self) {
        let mut sampler = Sampler::new(self.limit);
        for observer in self.observers.read().iter() {
            observer(&mut sampler);
        }
        *self.latest.lock() = sampler.values;
    }

    /// Makes one observable instrument per sampled metric of the catalogue. Each reader runs the callbacks in the order of their
    /// registration, so the first of them samples for all.
    pub(super) fn register(self: &Arc<Self>, meter: &Meter) {
        let mut first = true;
        for def in catalog::ALL.iter().filter(|def| is_sampled(def)) {
            let board = self.clone();
            let samples = std::mem::take(&mut first);
            let tell = move |observe: &dyn AsyncInstrument<f64>| {
                if samples {
                    board.sample();
                }
                board.tell(def, observe);
            };
            if def.kind == MetricKind::Gauge {
                let gauge = meter.f64_observable_gauge(def.name).with_description(def.help).with_unit(def.unit);
                let _ = gauge.with_callback(tell).build();
            } else {
                let counter = meter.f64_observable_counter(def.name).with_description(def.help).with_unit(def.unit);
                let _ = counter.with_callback(tell).build();
            }
        }
    }

    fn tell(&self, def: &MetricDef, observe: &dyn AsyncInstrument<f64>) {
        let latest = self.latest.lock();
        for (labels, value) in latest.get(def.name).into_iter().flatten() {
            let pairs = def.labels.iter().zip(labels).map(|(&label, value)| KeyValue::new(label, value.clone()));
            observe.observe(*value, &pairs.collect::<Vec<_>>());
        }
    }
}

fn is_sampled(def: &MetricDef) -> bool {
    matches!(def.kind, MetricKind::Gauge | MetricKind::SampledCounter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_past_the_bound_are_summed_and_not_lost() {
        let mut sampler = Sampler::new(2);
        for (shard, bytes) in [("0", 1.0), ("1", 2.0), ("2", 4.0), ("3", 8.0), ("1", 16.0)] {
            sampler.gauge(&catalog::LOG_BYTES, &[shard], bytes);
        }
        let series = &sampler.values[catalog::LOG_BYTES.name];
        assert_eq!(series[&vec!["1".to_owned()]], 18.0);
        assert_eq!(series[&vec![OTHER.to_owned()]], 12.0);
    }
}
