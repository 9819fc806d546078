//! Tables for people, JSON for scripts.

use serde::Serialize;

use super::Output;

/// Prints what was found, in the form that was asked for.
pub(super) fn show<T: Serialize>(output: Output, value: &T, table: impl FnOnce(&T) -> String) {
    match output {
        Output::Table => println!("{}", table(value)),
        Output::Json => println!("{}", serde_json::to_string_pretty(value).unwrap_or_default()),
    }
}
