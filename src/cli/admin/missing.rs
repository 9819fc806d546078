//! Brokers whose part is not in an answer. It is said on stderr: what was found stays alone on stdout.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::wire::admin;

/// A broker whose part is missing, in the answer to a script.
#[derive(Debug, Serialize)]
pub(super) struct MissingView {
    broker: String,
    reason: String,
}

pub(super) fn views(missing: Vec<admin::Missing>) -> Vec<MissingView> {
    missing.into_iter().map(|one| MissingView { broker: one.broker, reason: one.reason }).collect()
}

/// Each broker once, as `broker-1 (does not answer: …)`.
pub(super) fn words(missing: &[admin::Missing]) -> String {
    let mut told = BTreeSet::new();
    let first = missing.iter().filter(|one| told.insert(one.broker.as_str()));
    first.map(|one| format!("{} ({})", one.broker, one.reason)).collect::<Vec<_>>().join(", ")
}

pub(super) fn warn(missing: &[admin::Missing]) {
    if !missing.is_empty() {
        eprintln!("bolide: not in this answer: {}", words(missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_missing_on_every_page_is_named_once() {
        let one = |broker: &str| admin::Missing { broker: broker.to_owned(), reason: "does not answer".to_owned() };
        assert_eq!(words(&[one("b"), one("a"), one("b")]), "b (does not answer), a (does not answer)");
    }
}
