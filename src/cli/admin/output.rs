//! Tables for people, JSON for scripts.

use serde::Serialize;

use super::Output;
use crate::cli::print;

/// Prints what was found, in the form that was asked for.
pub(super) fn show<T: Serialize>(output: Output, value: &T, table: impl FnOnce(&T) -> String) {
    match output {
        Output::Table => print::line(table(value)),
        Output::Json => print::line(serde_json::to_string_pretty(value).unwrap_or_default()),
    }
}
