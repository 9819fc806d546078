//! Settings in the environment, and telling a mistyped one from one that is somebody else's.

use crate::config::keys::{self, Key};

/// Names under `BOLIDE_` that are no keys: arguments of clients and of the project's own tests.
const OTHERS: [&str; 7] = [
    "BOLIDE_CONFIG",
    "BOLIDE_ADDRESS",
    "BOLIDE_ENDPOINT",
    "BOLIDE_HTTP",
    "BOLIDE_NAMESPACE",
    "BOLIDE_BIN",
    "BOLIDE_CACHE",
];
/// Standard variables of others that set one of our keys, if ours says nothing.
const STANDARD: [(&str, &str); 2] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "observe.otlp_endpoint"), ("RUST_LOG", "observe.log_filter")];
/// Likeness from which on an unknown name is taken for a mistyped one.
const ALIKE: f64 = 0.85;

/// What a variable is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Sets a key: its name, possibly with a unit suffix.
    Sets(String),
    /// Sets a key unless another variable does.
    Suggests(&'static str),
    /// Meant to set a key, but there is none of that name.
    Unknown,
    /// Starts with `BOLIDE_` and is none of ours, as what Kubernetes adds for a service of that name.
    Foreign,
    /// Somebody else's.
    Unrelated,
}

/// What `variable` is.
pub(super) fn meaning(variable: &str) -> Meaning {
    if let Some((_, key)) = STANDARD.iter().find(|(name, _)| *name == variable) {
        return Meaning::Suggests(key);
    }
    if !variable.starts_with("BOLIDE_") || OTHERS.contains(&variable) {
        return Meaning::Unrelated;
    }
    let named = keys::all().find_map(|key| names(key).into_iter().find(|name| keys::variable(name) == variable));
    if let Some(name) = named {
        return Meaning::Sets(name);
    }
    if is_service_link(variable) {
        return Meaning::Foreign;
    }
    let in_a_section = keys::all().any(|key| variable.starts_with(&format!("{}_", keys::variable(key.section()))));
    let likeness =
        keys::all().map(|key| strsim::normalized_damerau_levenshtein(&key.variable(), variable)).fold(0.0, f64::max);
    if in_a_section || likeness >= ALIKE { Meaning::Unknown } else { Meaning::Foreign }
}

/// The variable of a key that is most like `variable`, which may name only the last part of the key: `BOLIDE_LISTEN` is most
/// like `BOLIDE_SERVER_LISTEN`.
pub(super) fn nearest(variable: &str) -> String {
    let short = variable.strip_prefix("BOLIDE_").unwrap_or(variable);
    let likeness = |name: &str| {
        let last = name.rsplit('.').next().unwrap_or(name).to_ascii_uppercase();
        strsim::jaro_winkler(variable, &keys::variable(name)).max(strsim::jaro_winkler(short, &last))
    };
    let scored = keys::all().flat_map(names).map(|name| (likeness(&name), name));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, name)| keys::variable(&name)).unwrap_or_default()
}

/// What Kubernetes puts into every pod about a service whose name begins with `bolide`.
fn is_service_link(variable: &str) -> bool {
    let port =
        |part: &str| variable.split_once(part).is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_PORT")
        || variable.contains("_SERVICE_PORT_")
        || port("_PORT_")
}

/// The names of a key: its own, and the one with its unit.
pub(super) fn names(key: &Key) -> Vec<String> {
    let mut names = vec![key.name.to_owned()];
    if let Some((suffix, _)) = key.access.unit_suffix() {
        names.push(format!("{}{suffix}", key.name));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_variable_is_found_by_the_last_part_of_its_key_too() {
        for (given, nearest_one) in [
            ("BOLIDE_LISTEN", "BOLIDE_SERVER_LISTEN"),
            ("BOLIDE_DATA", "BOLIDE_SERVER_DATA"),
            ("BOLIDE_RETENTION_AGE", "BOLIDE_STORAGE_RETENTION_AGE"),
            ("BOLIDE_STORAGE_RETENTION_AG", "BOLIDE_STORAGE_RETENTION_AGE"),
        ] {
            assert_eq!(nearest(given), nearest_one, "{given}");
        }
    }

    #[test]
    fn a_mistyped_variable_is_told_from_a_foreign_one() {
        assert_eq!(meaning("BOLIDE_LIMITS_MIN_INVISIBLE_MS"), Meaning::Sets("limits.min_invisible_ms".to_owned()));
        assert_eq!(meaning("BOLIDE_SERVER_LISTEN"), Meaning::Sets("server.listen".to_owned()));
        assert_eq!(meaning("BOLIDE_LIMITS_MIN_INVISBLE"), Meaning::Unknown);
        assert_eq!(meaning("BOLIDE_LIMIT_MIN_INVISIBLE"), Meaning::Unknown);
        // What Kubernetes sets in every pod beside a service called bolide.
        for foreign in ["BOLIDE_PORT", "BOLIDE_SERVER_PORT_8081_TCP_ADDR", "BOLIDE_SERVER_SERVICE_HOST", "BOLIDE_SDKS"]
        {
            assert_eq!(meaning(foreign), Meaning::Foreign, "{foreign}");
        }
        assert_eq!(meaning("BOLIDE_CONFIG"), Meaning::Unrelated);
        assert_eq!(meaning("PATH"), Meaning::Unrelated);
    }
}
