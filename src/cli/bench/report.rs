//! What a run says at its end: a few lines for people, one JSON object for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::print;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 120_000_000;

/// An empty histogram of microseconds with three digits.
#[must_use]
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).unwrap_or_else(|_| unreachable!("the bounds are in order"))
}

/// Notes one latency.
pub fn note(histogram: &mut Histogram<u64>, latency: Duration) {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min(LATENCY_MICROS_MAX);
    histogram.saturating_record(micros.max(1));
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean_ms: f64,
    /// Half are faster.
    pub p50_ms: f64,
    /// 90 of 100 are faster.
    pub p90_ms: f64,
    /// 99 of 100 are faster.
    pub p99_ms: f64,
    /// 999 of 1000 are faster.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            mean_ms: histogram.mean() / 1e3,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1e3,
        }
    }
}

/// Result of one run or of one side of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which benchmark.
    pub bench: &'static str,
    /// `host:port`.
    pub endpoint: String,
    /// Settings that matter for the figures.
    pub settings: String,
    /// Messages counted.
    pub messages: u64,
    /// Failed calls.
    pub errors: u64,
    /// Text of the first failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Time they took.
    pub seconds: f64,
    /// Messages per second.
    pub per_second: f64,
    /// Latency of whatever the benchmark times.
    pub latency: Latency,
    /// CPU of the observed process per message, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_message: Option<f64>,
    /// Cores that the observed process used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
    /// Messages per second in ten equal parts of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices_per_second: Vec<f64>,
    /// The empty echo server beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<Box<Report>>,
    /// Rate against the echo's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_echo: Option<f64>,
    /// The other side of a comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<Box<Report>>,
    /// Rate against the other side's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_other: Option<f64>,
}

impl Report {
    /// Takes what a run counted.
    #[must_use]
    pub fn new(bench: &'static str, endpoint: &str, settings: String, measured: &Measured) -> Self {
        let seconds = measured.elapsed.as_secs_f64().max(1e-9);
        let messages = measured.messages;
        let cpu = measured.cpu.map(|cpu| cpu.as_secs_f64());
        Self {
            bench,
            endpoint: endpoint.to_owned(),
            settings,
            messages,
            errors: measured.errors,
            first_error: measured.first_error.clone(),
            seconds,
            per_second: messages as f64 / seconds,
            latency: Latency::from(&measured.latencies),
            cpu_us_per_message: cpu.filter(|_| messages > 0).map(|cpu| cpu * 1e6 / messages as f64),
            cpu_cores: cpu.map(|cpu| cpu / seconds),
            slices_per_second: Vec::new(),
            echo: None,
            ratio_to_echo: None,
            other: None,
            ratio_to_other: None,
        }
    }

    /// Prints it, as JSON or as text.
    pub fn print(&self, json: bool) {
        if json {
            print::line(serde_json::to_string_pretty(self).unwrap_or_default());
        } else {
            print::text(self.text());
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} {} ({})\n", self.bench, self.endpoint, self.settings);
        let latency = &self.latency;
        let _ = writeln!(text, "  messages    {} in {:.2} s, {} errors", self.messages, self.seconds, self.errors);
        if let Some(error) = &self.first_error {
            let _ = writeln!(text, "  first error {error}");
        }
        let _ = writeln!(text, "  rate        {:.0} msg/s", self.per_second);
        let _ = writeln!(
            text,
            "  latency     p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms",
            latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
        );
        if let (Some(each), Some(cores)) = (self.cpu_us_per_message, self.cpu_cores) {
            let _ = writeln!(text, "  server CPU  {each:.1} us per message, {cores:.2} cores");
        }
        if !self.slices_per_second.is_empty() {
            let slices: Vec<String> = self.slices_per_second.iter().map(|rate| format!("{rate:.0}")).collect();
            let _ = writeln!(text, "  in tenths   {} msg/s", slices.join(" "));
        }
        if let (Some(echo), Some(ratio)) = (&self.echo, self.ratio_to_echo) {
            let cpu = echo.cpu_us_per_message.unwrap_or_default();
            let _ = writeln!(
                text,
                "  empty echo  {:.0} msg/s, p50 {:.2} ms, p99 {:.2} ms, {cpu:.1} us CPU per message\n  against it  {:.1} %",
                echo.per_second,
                echo.latency.p50_ms,
                echo.latency.p99_ms,
                ratio * 100.0
            );
        }
        if let (Some(other), Some(ratio)) = (&self.other, self.ratio_to_other) {
            let cpu = other.cpu_us_per_message.map(|cpu| format!(", {cpu:.1} us CPU per message")).unwrap_or_default();
            let _ = writeln!(
                text,
                "  {}: {:.0} msg/s, p50 {:.2} ms, p99 {:.2} ms{cpu}\n  against it  {:.1} %",
                other.bench,
                other.per_second,
                other.latency.p50_ms,
                other.latency.p99_ms,
                ratio * 100.0
            );
        }
        text
    }
}

/// What a run counted.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Messages in the measured time.
    pub messages: u64,
    /// Failed calls in it.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// The measured time.
    pub elapsed: Duration,
    /// One value per timed call.
    pub latencies: Histogram<u64>,
    /// CPU of the observed process in the measured time.
    pub cpu: Option<Duration>,
}

impl Default for Measured {
    fn default() -> Self {
        Self { messages: 0, errors: 0, first_error: None, elapsed: Duration::ZERO, latencies: latencies(), cpu: None }
    }
}

impl Measured {
    /// Adds another round of the same thing.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or_else(|| other.first_error.clone());
        self.elapsed += other.elapsed;
        // Both have the same bounds.
        let _ = self.latencies.add(&other.latencies);
        self.cpu = match (self.cpu, other.cpu) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up_and_cost_is_per_message() {
        let mut round = Measured { messages: 500, elapsed: Duration::from_secs(1), ..Measured::default() };
        round.cpu = Some(Duration::from_millis(10));
        for micros in 1..=100 {
            note(&mut round.latencies, Duration::from_micros(micros * 100));
        }
        let mut all = Measured::default();
        all.add(&round);
        all.add(&round);
        let report = Report::new("send", "x", String::new(), &all);
        assert_eq!(report.messages, 1_000);
        assert!((report.per_second - 500.0).abs() < 1e-6);
        assert!((report.cpu_us_per_message.unwrap() - 20.0).abs() < 1e-6);
        assert!((report.latency.p99_ms - 9.9).abs() < 0.02, "{:?}", report.latency);
    }
}
