//! CPU time of another process, for the cost of one message.

use std::time::Duration;

use anyhow::{Context, Result};

/// The kernel reports user and system time in these, on every Linux architecture.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time that the process has used since its start, all threads together.
///
/// # Errors
/// There is no such process, or its line cannot be read.
pub fn used_by(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let line = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&line).with_context(|| format!("{path} has an unknown form"))
}

/// What several processes have used together; `None` without any, or when one of them is gone.
#[must_use]
pub fn used_by_all(pids: &[u32]) -> Option<Duration> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|pid| used_by(*pid).ok()).sum()
}

/// The command name, in parentheses, may hold anything; fields are counted from behind it.
fn parse(line: &str) -> Option<Duration> {
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_blanks_and_parentheses_moves_no_field() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 5 0 1000 1 1";
        assert_eq!(parse(line), Some(Duration::from_secs(2)));
    }
}
