//! A line a second on stderr while a benchmark runs.

use std::time::Duration;

use parking_lot::Mutex;

/// Tells how far a run is.
#[derive(Debug)]
pub struct Progress {
    label: String,
    quiet: bool,
    last: Mutex<(Duration, u64)>,
}

impl Progress {
    /// Begins to tell about `label`, unless `quiet`.
    #[must_use]
    pub fn new(label: &str, quiet: bool) -> Self {
        Self { label: label.to_owned(), quiet, last: Mutex::new((Duration::ZERO, 0)) }
    }

    /// Called often; prints once a second. `p99_micros` is asked only then.
    pub fn tick(&self, elapsed: Duration, messages: u64, p99_micros: impl FnOnce() -> u64) {
        let mut last = self.last.lock();
        let since = elapsed.saturating_sub(last.0);
        if self.quiet || since < Duration::from_secs(1) {
            return;
        }
        let rate = messages.saturating_sub(last.1) as f64 / since.as_secs_f64();
        *last = (elapsed, messages);
        let p99_ms = p99_micros() as f64 / 1e3;
        eprintln!(
            "{:>12} {:>4} s {:>9} messages {rate:>8.0} msg/s  p99 {p99_ms:.2} ms",
            self.label,
            elapsed.as_secs(),
            messages
        );
    }
}
