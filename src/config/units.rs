//! Durations and sizes as people write them: `250ms`, `72h`, `1h30m`, `64MiB`.

use std::fmt::Write as _;
use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a duration: one or more of number and unit (`d`, `h`, `m`, `s`, `ms`), without blanks. `0` needs no unit.
///
/// # Errors
/// A sentence that shows the form.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("{text:?} is no duration; write 250ms, 15s, 5m, 72h or 7d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.trim();
    let mut millis = 0u64;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, behind) = behind.split_at(letters);
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let part = scaled(number, *factor).ok_or_else(malformed)?;
        millis = millis.checked_add(part).ok_or_else(malformed)?;
        rest = behind;
    }
    Ok(Duration::from_millis(millis))
}

/// Reads a size in bytes: a number and `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`, `MB`, `GB`, `TB` (powers of
/// 1000). A bare number is bytes.
///
/// # Errors
/// A sentence that shows the form.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let malformed = || format!("{text:?} is no size; write 512KiB, 64MiB or 1GiB");
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let factor = match unit {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(malformed)?,
    };
    scaled(number, factor).ok_or_else(malformed)
}

/// `number * factor`, whole. A fraction is fine as long as nothing is lost (`1.5GiB`).
fn scaled(number: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
}

/// Writes a duration so that [`parse_duration`] reads it back.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        // 72h is what people write, and not 3d.
        if unit == "d" && (!millis.is_multiple_of(factor) || millis < 7 * factor) {
            continue;
        }
        if millis >= factor {
            let _ = write!(text, "{}{unit}", millis / factor);
            millis %= factor;
        }
    }
    text
}

/// Writes a size so that [`parse_size`] reads it back.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    SIZE_UNITS[..4]
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// Writes a size for people, rounded: `1.4 GiB`.
#[must_use]
pub fn size_rounded(bytes: u64) -> String {
    SIZE_UNITS[..4]
        .iter()
        .find(|(_, factor)| bytes >= *factor)
        .map_or_else(|| format!("{bytes} B"), |(unit, factor)| format!("{:.1} {unit}", bytes as f64 / *factor as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["250ms", "15s", "72h", "1h30m", "7d", "0s", "1m1s1ms"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        for text in ["1B", "512KiB", "64MiB", "3GiB", "1000B"] {
            assert_eq!(size_text(parse_size(text).unwrap()), text);
        }
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_size("64 MB"), Ok(64_000_000));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn what_has_no_unit_or_too_much_of_it_is_refused() {
        for text in ["", "15", "s", "15 sec", "1y", "99999999999999999999s", "-1s", "0.0001ms"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["", "MiB", "64mib", "1..5MiB", "-1", "99999999999999999999"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
