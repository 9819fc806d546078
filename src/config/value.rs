//! Reading and writing one value of a key, with its bounds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::config::units::{duration_text, parse_duration, parse_size, size_text};
use crate::observe::options::LogFormat;

/// Place of a value in the configuration.
pub(super) type At<T> = fn(&mut Config) -> &mut T;

/// Type of a key, where its value lies, and what it may be. Bounds are inclusive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Duration { at: At<Duration>, min: Duration, max: Duration },
    Size { at: At<u64>, min: u64, max: u64 },
    SizeUsize { at: At<usize>, min: u64, max: u64 },
    SizeU32 { at: At<u32>, min: u64, max: u64 },
    OptionalSize { at: At<Option<u64>>, min: u64, max: u64 },
    Count { at: At<u64>, min: u64, max: u64 },
    CountUsize { at: At<usize>, min: u64, max: u64 },
    CountU32 { at: At<u32>, min: u64, max: u64 },
    OptionalCount { at: At<Option<usize>>, min: u64, max: u64 },
    Ratio { at: At<f64>, min: f64, max: f64 },
    Flag { at: At<bool> },
    Text { at: At<String> },
    OptionalText { at: At<Option<String>> },
    Address { at: At<SocketAddr> },
    OptionalAddress { at: At<Option<SocketAddr>> },
    Path { at: At<PathBuf> },
    LogFormat { at: At<LogFormat> },
}

/// How an absent optional value is written.
const NONE: &str = "none";

fn within(value: u64, min: u64, max: u64, text: fn(u64) -> String) -> Result<u64, String> {
    if value < min {
        return Err(format!("{} is too small, at least {}", text(value), text(min)));
    }
    if value > max {
        return Err(format!("{} is too large, at most {}", text(value), text(max)));
    }
    Ok(value)
}

fn size(text: &str, min: u64, max: u64) -> Result<u64, String> {
    within(parse_size(text)?, min, max, size_text)
}

fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let value = text.parse().map_err(|_| format!("{text:?} is no whole number"))?;
    within(value, min, max, |value| value.to_string())
}

fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{value} is too large"))
}

fn optional<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() || text.eq_ignore_ascii_case(NONE) { Ok(None) } else { read(text).map(Some) }
}

impl Access {
    /// Reads `text` into the configuration.
    pub(super) fn write(self, config: &mut Config, text: &str) -> Result<(), String> {
        let text = text.trim();
        match self {
            Self::Duration { at, min, max } => {
                let value = parse_duration(text)?;
                let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                within(millis(value), millis(min), millis(max), |value| duration_text(Duration::from_millis(value)))?;
                *at(config) = value;
            }
            Self::Size { at, min, max } => *at(config) = size(text, min, max)?,
            Self::SizeUsize { at, min, max } => *at(config) = narrow(size(text, min, max)?)?,
            Self::SizeU32 { at, min, max } => *at(config) = narrow(size(text, min, max)?)?,
            Self::OptionalSize { at, min, max } => *at(config) = optional(text, |text| size(text, min, max))?,
            Self::Count { at, min, max } => *at(config) = count(text, min, max)?,
            Self::CountUsize { at, min, max } => *at(config) = narrow(count(text, min, max)?)?,
            Self::CountU32 { at, min, max } => *at(config) = narrow(count(text, min, max)?)?,
            Self::OptionalCount { at, min, max } => {
                *at(config) = optional(text, |text| narrow(count(text, min, max)?))?;
            }
            Self::Ratio { at, min, max } => {
                let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
                if !(min..=max).contains(&value) {
                    return Err(format!("{value} is not between {min} and {max}"));
                }
                *at(config) = value;
            }
            Self::Flag { at } => {
                *at(config) = match text.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "on" | "1" => true,
                    "false" | "no" | "off" | "0" => false,
                    _ => return Err(format!("{text:?} is neither true nor false")),
                };
            }
            Self::Text { at } => {
                if text.is_empty() {
                    return Err("the value is empty".to_owned());
                }
                text.clone_into(at(config));
            }
            Self::OptionalText { at } => *at(config) = optional(text, |text| Ok(text.to_owned()))?,
            Self::Address { at } => *at(config) = address(text)?,
            Self::OptionalAddress { at } => *at(config) = optional(text, address)?,
            Self::Path { at } => {
                if text.is_empty() {
                    return Err("the path is empty".to_owned());
                }
                *at(config) = PathBuf::from(text);
            }
            Self::LogFormat { at } => {
                *at(config) = match text.to_ascii_lowercase().as_str() {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(format!("{text:?} is no log format; write text or json")),
                };
            }
        }
        Ok(())
    }

    /// The value as one would write it.
    pub(super) fn read(self, config: &mut Config) -> String {
        let none = || NONE.to_owned();
        match self {
            Self::Duration { at, .. } => duration_text(*at(config)),
            Self::Size { at, .. } => size_text(*at(config)),
            Self::SizeUsize { at, .. } => size_text(*at(config) as u64),
            Self::SizeU32 { at, .. } => size_text(u64::from(*at(config))),
            Self::OptionalSize { at, .. } => at(config).map_or_else(none, size_text),
            Self::Count { at, .. } => at(config).to_string(),
            Self::CountUsize { at, .. } => at(config).to_string(),
            Self::CountU32 { at, .. } => at(config).to_string(),
            Self::OptionalCount { at, .. } => at(config).map_or_else(none, |value| value.to_string()),
            Self::Ratio { at, .. } => at(config).to_string(),
            Self::Flag { at } => at(config).to_string(),
            Self::Text { at } => at(config).clone(),
            Self::OptionalText { at } => at(config).clone().unwrap_or_else(none),
            Self::Address { at } => at(config).to_string(),
            Self::OptionalAddress { at } => at(config).map_or_else(none, |address| address.to_string()),
            Self::Path { at } => at(config).display().to_string(),
            Self::LogFormat { at } => match at(config) {
                LogFormat::Text => "text".to_owned(),
                LogFormat::Json => "json".to_owned(),
            },
        }
    }

    /// Which values are allowed, for people.
    pub(super) fn bounds(self) -> String {
        match self {
            Self::Duration { min, max, .. } => format!("{} to {}", duration_text(min), duration_text(max)),
            Self::Size { min, max, .. } | Self::SizeUsize { min, max, .. } | Self::SizeU32 { min, max, .. } => {
                format!("{} to {}", size_text(min), size_text(max))
            }
            Self::OptionalSize { min, max, .. } => format!("none, or {} to {}", size_text(min), size_text(max)),
            Self::Count { min, max, .. } | Self::CountUsize { min, max, .. } | Self::CountU32 { min, max, .. } => {
                format!("{min} to {max}")
            }
            Self::OptionalCount { min, max, .. } => format!("none, or {min} to {max}"),
            Self::Ratio { min, max, .. } => format!("{min} to {max}"),
            Self::Flag { .. } => "true or false".to_owned(),
            Self::Text { .. } => "text".to_owned(),
            Self::OptionalText { .. } => "none, or text".to_owned(),
            Self::Address { .. } => "address:port; port 0 picks a free one".to_owned(),
            Self::OptionalAddress { .. } => "none, or address:port".to_owned(),
            Self::Path { .. } => "directory".to_owned(),
            Self::LogFormat { .. } => "text or json".to_owned(),
        }
    }

    /// A key may also be written with its unit at the end of its name and a bare number as its value: the suffix for that, and
    /// the unit that the value then lacks.
    pub(super) const fn unit_suffix(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Duration { .. } => Some(("_ms", "ms")),
            Self::Size { .. } | Self::SizeUsize { .. } | Self::SizeU32 { .. } | Self::OptionalSize { .. } => {
                Some(("_bytes", "B"))
            }
            _ => None,
        }
    }
}

/// `host:port` with a numeric host, `:port` for every address, or a bare port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else if text.parse::<u16>().is_ok() {
        format!("0.0.0.0:{text}")
    } else if let Some(port) = text.strip_prefix("localhost:") {
        format!("127.0.0.1:{port}")
    } else {
        text.to_owned()
    };
    full.parse().map_err(|_| format!("{text:?} is no address; write 127.0.0.1:8081 or [::]:8081"))
}
